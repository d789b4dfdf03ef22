use std::path::PathBuf;

use serde::Serialize;
use skn_data::{Example, Task};
use skn_model::{Gradients, LanguageModel};
use skn_probing::{PassOptions, Progress, evaluate};
use skn_stats::softmax;

use super::calibration;
use crate::base::Base;
use crate::error::{Result, SessionError};
use crate::options::{Classify, Tuned};
use crate::run_writer::RunWriter;
use crate::session::Session;

/// What is to be answered: a text, the two of a task of pairs (premise and hypothesis), or those of the columns that a task's
/// template names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
    /// Further texts.
    pub more: Vec<String>,
}

impl Text {
    /// The texts of a row, in the order of [`Classifier::columns`]; none where there are none.
    pub fn of_columns<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Option<Self> {
        let mut texts = texts.into_iter().map(Into::into);
        Some(Self { text: texts.next()?, pair: texts.next(), more: texts.collect() })
    }

    fn count(&self) -> usize {
        1 + usize::from(self.pair.is_some()) + self.more.len()
    }
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Self {
        Self { text: text.into(), pair: None, more: Vec::new() }
    }
}

/// The answer to one text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Answer {
    /// The class, from 0.
    pub class: usize,
    /// The word that stands for it, without spaces around it.
    pub word: String,
    /// What the user calls the class, where the task says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Of each class, in class order; they add up to 1.
    pub probabilities: Vec<f64>,
    /// Of each class, in class order, as the model gives them.
    pub logits: Vec<f32>,
    /// Whether the class is below the threshold that was asked for, of more than two classes: there is no answer then.
    #[serde(skip_serializing_if = "is_false")]
    pub unsure: bool,
    /// Whether the text was longer than the model takes and was cut.
    #[serde(skip_serializing_if = "is_false")]
    pub cut: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A model that is ready to answer texts of one task.
pub struct Classifier<'s> {
    base: Base<'s>,
    model: LanguageModel,
    options: Classify,
    temperature: f64,
    /// The file that has the temperature.
    calibration: Option<PathBuf>,
}

impl Session {
    /// Makes a model ready to answer: one that a run has tuned, pruned or not, or one as it is.
    ///
    /// ```no_run
    /// use skn_session::Session;
    /// use skn_session::options::{Classify, Compute};
    ///
    /// let session = Session::new(Compute::default())?;
    /// let classifier = session.classifier(&Classify::by("runs/demo-sentiment"))?;
    /// for answer in classifier.answer(&["the food was not bad .".into()])? {
    ///     println!("{} {:.2}", answer.word, answer.probabilities[answer.class]);
    /// }
    /// # Ok::<(), skn_session::SessionError>(())
    /// ```
    ///
    /// # Errors
    /// If something named is missing, damaged or does not fit.
    pub fn classifier(&self, options: &Classify) -> Result<Classifier<'_>> {
        if let Some(threshold) = options.threshold.filter(|threshold| !(0.0..=1.0).contains(threshold)) {
            return Err(SessionError::usage(format!(
                "option `threshold` {threshold}: expected a probability, from 0 to 1"
            )));
        }
        if options.cuda_graphs {
            self.require_graphs()?;
        }
        let base = Base::load(self, &options.subject, &options.tuned)?;
        check_task(&base, &options.tuned)?;
        let tuning = base.tuning(&options.tuned)?;
        let model = base.roberta(&tuning, Gradients::Nothing)?;
        let model = if options.cuda_graphs { model.with_graphs() } else { model };
        let kept = options.calibrated.then(|| calibration::read(&base, &model)).transpose()?;
        let (temperature, calibration) =
            kept.map_or((1.0, None), |kept| (kept.found.temperature, Some(kept.path)));
        Ok(Classifier { base, model, options: options.clone(), temperature, calibration })
    }
}

/// Parameters that were tuned for one task don't answer another.
pub(crate) fn check_task(base: &Base<'_>, tuned: &Tuned) -> Result<()> {
    let source = base.source.as_ref().filter(|_| tuned.load);
    match source.and_then(|source| source.config.as_ref().zip(Some(source))) {
        Some((config, source)) if config.task != base.task.name => Err(SessionError::usage(format!(
            "option `task` {}: {} was tuned for task {}; leave the option out",
            base.task.name,
            source.run.as_ref().unwrap_or(&source.best).display(),
            config.task
        ))),
        _ => Ok(()),
    }
}

impl Classifier<'_> {
    /// The task whose texts it answers.
    pub fn task(&self) -> &Task {
        &self.base.task
    }

    /// The columns whose texts it is given: of the task's text, or those that its template names, in their order.
    pub fn columns(&self) -> &[String] {
        self.base.task.text_columns()
    }

    /// The most tokens of a text, those around it included: what is longer is cut.
    pub fn max_tokens(&self) -> usize {
        self.base.most_tokens(&self.model)
    }

    /// The temperature that logits are divided by: 1, or the run's own where probabilities are calibrated.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Its session.
    pub(crate) fn session(&self) -> &Session {
        self.base.session
    }

    /// Notes what was read to answer.
    ///
    /// # Errors
    /// If a file can't be hashed.
    pub(super) fn note(&self, writer: &mut RunWriter) -> Result<()> {
        self.calibration.iter().try_for_each(|file| writer.read(file))?;
        self.base.note(writer)
    }

    /// Tells how many texts were cut.
    pub(crate) fn tell_cut(&self, cut: u64, texts: u64) {
        self.base.tell_cut(cut, texts, "", &self.model);
    }

    /// Tells that passes can't be captured, once.
    fn tell_refusal(&self) {
        let Some(why) = self.model.graphs_refusal() else { return };
        // A backtrace, where one is asked for, comes on lines of its own.
        let why = why.lines().next().unwrap_or_default();
        let told = format!(
            "option `cuda_graphs`: some passes can't be captured and are done without it, with the same answers: {why}"
        );
        if self.base.session.is_new(&told) {
            tracing::warn!("{told}");
        }
    }

    /// Whether the task's texts are pairs.
    pub fn takes_pairs(&self) -> bool {
        self.columns().len() == 2
    }

    /// The answer to each text, in their order. In a group of processes each is asked for the same texts, does its share, and has all
    /// answers.
    ///
    /// # Errors
    /// If there are no texts, one has more or fewer than the task has columns, or the prompt leaves no room for text.
    pub fn answer(&self, texts: &[Text]) -> Result<Vec<Answer>> {
        self.answer_with(texts, self.base.session.progress())
    }

    /// The same, with another progress than the session's.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(crate) fn answer_with(&self, texts: &[Text], progress: &dyn Progress) -> Result<Vec<Answer>> {
        let columns = self.columns().len().max(1);
        let wrong = texts.iter().enumerate().find(|(_, text)| text.count() != columns);
        if let Some((place, text)) = wrong {
            let (task, found) = (&self.base.task.name, text.count());
            let said = match columns {
                1 => "one text".to_owned(),
                2 => "two texts".to_owned(),
                many => format!("{many} texts"),
            };
            let found = if found == 1 { "one".to_owned() } else { found.to_string() };
            return Err(SessionError::usage(format!(
                "text {place}: task {task}: expected {said}, found {found}"
            )));
        }
        let example = |text: &Text| Example {
            text: text.text.as_str().into(),
            pair: text.pair.as_deref().map(Into::into),
            more: text.more.iter().map(|text| text.as_str().into()).collect(),
            label: 0,
        };
        let base = &self.base;
        let examples: Vec<Example> = texts.iter().map(example).collect();
        let (encoded, cut) = base.encode_own_noting_cuts("", &examples, &self.model)?;
        let pass = PassOptions { progress, ..base.session.pass(self.options.batch) };
        let found = evaluate(&self.model, &encoded, &base.verbalizer.ids, &pass)?;
        self.tell_refusal();
        let rows = found.logits.chunks_exact(found.classes).zip(&found.predicted);
        let mut answers: Vec<Answer> = rows.map(|(logits, class)| self.answer_of(logits, *class)).collect();
        for row in cut {
            if let Some(answer) = usize::try_from(row).ok().and_then(|row| answers.get_mut(row)) {
                answer.cut = true;
            }
        }
        Ok(answers)
    }

    /// The answer that logits give; `best` is the class of the highest.
    fn answer_of(&self, logits: &[f32], best: usize) -> Answer {
        let base = &self.base;
        let probabilities = softmax(logits, self.temperature);
        let (class, unsure) = match (self.options.threshold, probabilities.as_slice()) {
            (Some(threshold), [_, of_one]) => (usize::from(*of_one >= threshold), false),
            (Some(threshold), all) => (best, all[best] < threshold),
            (None, _) => (best, false),
        };
        Answer {
            class,
            word: base.verbalizer.words[class].trim().to_string(),
            label: base.task.label_name(class).map(str::to_owned),
            probabilities,
            logits: logits.to_vec(),
            unsure,
            cut: false,
        }
    }
}

impl std::fmt::Debug for Classifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").field("task", &self.base.task.name).finish_non_exhaustive()
    }
}
