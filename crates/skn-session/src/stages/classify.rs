use serde::Serialize;
use skn_data::{Example, Task};
use skn_model::{Gradients, LanguageModel};
use skn_probing::evaluate;

use crate::base::Base;
use crate::error::{Result, SessionError};
use crate::options::Classify;
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
    /// Of each class, in class order; they add up to 1.
    pub probabilities: Vec<f64>,
}

/// A model that is ready to answer texts of one task.
pub struct Classifier<'s> {
    base: Base<'s>,
    model: LanguageModel,
    options: Classify,
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
        let base = Base::load(self, &options.subject, &options.tuned)?;
        let tuning = match options.tuned.load {
            // Whatever method it was tuned by.
            true => base.loaded_tuning(options.tuned.read_as())?,
            false => base.tuning(&options.tuned)?,
        };
        let model = base.roberta(&tuning, Gradients::Nothing)?;
        Ok(Classifier { base, model, options: options.clone() })
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

    /// Whether the task's texts are pairs.
    pub fn takes_pairs(&self) -> bool {
        self.columns().len() == 2
    }

    /// The answer to each text, in their order.
    ///
    /// # Errors
    /// If there are no texts, one has more or fewer than the task has columns, or the prompt leaves no room for text.
    pub fn answer(&self, texts: &[Text]) -> Result<Vec<Answer>> {
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
        let encoded = base.encode(texts.iter().map(example).collect::<Vec<_>>(), &self.model)?;
        let pass = base.session.pass(self.options.batch);
        let answers = evaluate(&self.model, &encoded, &base.verbalizer.ids, &pass)?;
        let rows = answers.logits.chunks_exact(answers.classes).zip(&answers.predicted);
        let answer = |(logits, &class): (&[f32], &usize)| {
            let word = base.verbalizer.words[class].trim().to_string();
            Answer { class, word, probabilities: softmax(logits) }
        };
        Ok(rows.map(answer).collect())
    }
}

impl std::fmt::Debug for Classifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").field("task", &self.base.task.name).finish_non_exhaustive()
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let terms: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - f64::from(highest)).exp()).collect();
    let sum: f64 = terms.iter().sum();
    terms.into_iter().map(|term| term / sum).collect()
}
