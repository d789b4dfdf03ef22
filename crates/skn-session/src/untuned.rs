//! A model as it is: what its neurons tell, and how well its own words answer.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, stage};
use skn_artifact::{
    BestOfText, InferencePerformance, InferenceTime, RunRecord, TensorFile, UntunedAnswers, UntunedSummary,
    read_json,
};
use skn_counts::Performance;
use skn_model::Weights;
use skn_probing::{Pool, ProbeType};

use crate::done::Now;
use crate::error::{Result, SessionError};
use crate::named::Named;
use crate::options::{DrawReport, Probe, Select, Split, Stage, Tuned, Untuned};
use crate::place::find_model;
use crate::provenance;
use crate::run_writer::RunWriter;
use crate::score::LEVEL;
use crate::session::Session;
use crate::steps::{Again, ChainEvent, Step, entries, remove_others};

impl Session {
    /// Probes a model that nothing is tuned for at the last token of each text, scores its own answers, if it has a head that gives any,
    /// ranks its neurons, and leaves a summary and a report in the run. The best neuron is chosen on dev; test, which had no say, tells how good it is.
    /// `told` hears of each step, and may end it by an error of its own.
    ///
    /// # Errors
    /// If an option does not fit, a stage fails, or a run that is resumed was begun with other options.
    pub fn untuned<E: From<SessionError>>(
        &self,
        options: &Untuned,
        mut told: impl FnMut(&Step, ChainEvent<'_>) -> Result<(), E>,
    ) -> Result<UntunedSummary, E> {
        self.require_alone("a chain")?;
        let plan = Plan::new(options)?;
        // From the first stage to the report: another run must not begin between two of them.
        let whole = self.hold(&plan.out, stage::RUN)?;
        let how = Again { overwrite: options.overwrite, resume: options.resume };
        how.check_free(&plan.out)?;
        RunRecord::read(&plan.out).map_err(SessionError::from)?;
        let (steps, mut found) = (plan.steps(), None);
        let own = entries(&steps, &plan.task);
        let now = options.resume.then(|| Now::read(self, &options.whole_subject())).transpose()?;
        for step in steps {
            if matches!(step.stage, Stage::Report(_)) {
                if options.overwrite {
                    remove_others(&plan.out, &own)?;
                }
                found = Some(self.write_untuned(options, &plan)?);
            }
            self.step(how, now.as_ref(), step, &plan.task, &mut told)?;
        }
        drop(whole);
        found.ok_or_else(|| SessionError::failed("a run without a report").into())
    }

    fn write_untuned(&self, options: &Untuned, plan: &Plan<'_>) -> Result<UntunedSummary> {
        let summary = plan.summary()?;
        let mut writer = RunWriter::open(self, options.clone(), &plan.out, stage::RUN, true)?;
        writer.json(file::SUMMARY, &summary)?;
        plan.summarised().iter().try_for_each(|path| writer.read(path))?;
        writer.finish()?;
        Ok(summary)
    }
}

struct Plan<'a> {
    options: &'a Untuned,
    out: PathBuf,
    task: String,
    is_decoder: bool,
    /// Whether the model has a head, by which it answers.
    answers: bool,
}

impl<'a> Plan<'a> {
    fn new(options: &'a Untuned) -> Result<Self> {
        if options.overwrite && options.resume {
            return Err(SessionError::usage(
                "option `overwrite` begins anew, option `resume` goes on: expected one of them",
            ));
        }
        let model = find_model(options.model())?;
        let config = model.config()?;
        let (is_decoder, answers) = (config.is_decoder(), Weights::have_head(&model, &config)?);
        let task = Named::of(&options.whole_subject(), &Tuned::default(), None)?.task.name;
        Ok(Self { out: options.folder(), task, is_decoder, answers, options })
    }

    fn steps(&self) -> Vec<Step> {
        let stages = [
            self.probe().into(),
            self.probe_top().into(),
            self.select().into(),
            DrawReport::new(self.out.clone()).into(),
        ];
        let count = stages.len();
        stages.into_iter().zip(1..).map(|(stage, number)| Step { number, count, stage }).collect()
    }

    fn probe(&self) -> Probe {
        // An encoder answers at its <mask> row, which then stands alone before the text.
        let prompt_size = (!self.is_decoder && self.answers).then_some(NonZeroUsize::MIN);
        let mut probe_type = vec![ProbeType::AccLast, ProbeType::AccMean, ProbeType::AccMax];
        if self.answers {
            probe_type.push(ProbeType::Speed);
        }
        Probe {
            subject: self.options.whole_subject(),
            tuned: Tuned { prompt_size, ..Tuned::default() },
            probe_type,
            fire_bits: true,
            variance: true,
            repeats: NonZeroUsize::MIN,
            out: self.out.clone(),
            ..Probe::default()
        }
    }

    /// The texts that excite the best neurons most, which the first probe finds.
    fn probe_top(&self) -> Probe {
        let splits = vec![Split::Dev];
        let (fire_bits, variance) = (false, false);
        Probe { probe_type: vec![ProbeType::Top], splits, fire_bits, variance, ..self.probe() }
    }

    fn select(&self) -> Select {
        let counts = self.of_task(&file::tensors(&Pool::Last.performance_file("dev")));
        Select { paper: self.options.subject.paper, ..Select::new(counts, self.out.clone()) }
    }

    fn of_task(&self, name: &str) -> PathBuf {
        self.out.join(&self.task).join(name)
    }

    /// The files that the summary is made of.
    fn summarised(&self) -> Vec<PathBuf> {
        let of_answers = [file::INFERENCE_PERFORMANCE, file::INFERENCE_TIME].map(String::from);
        let counts = ["dev", "test"].map(|split| file::tensors(&Pool::Last.performance_file(split)));
        let names = of_answers.into_iter().filter(|_| self.answers).chain(counts);
        names.map(|name| self.of_task(&name)).collect()
    }

    /// What the model answers, if it does.
    fn answers(&self) -> Result<Option<UntunedAnswers>> {
        if !self.answers {
            return Ok(None);
        }
        let performance: InferencePerformance = read_json(&self.of_task(file::INFERENCE_PERFORMANCE))?;
        let time: InferenceTime = read_json(&self.of_task(file::INFERENCE_TIME))?;
        Ok(Some(UntunedAnswers {
            metric: performance.metric,
            accuracy: performance.test_score,
            interval: performance.interval,
            parameters: performance.parameters,
            ms_per_text: time.ms_per_text,
        }))
    }

    /// The summary, from the files that the steps left.
    fn summary(&self) -> Result<UntunedSummary> {
        let [dev, test] = ["dev", "test"]
            .map(|split| counts(&self.of_task(&file::tensors(&Pool::Last.performance_file(split)))));
        let (dev, test) = (dev?, test?);
        let score = dev.score_of(self.options.subject.paper);
        let rule = dev.best_rule(score)?;
        if !test.tells(rule.class.unwrap_or(0), score) {
            let file = test.file().display();
            return Err(SessionError::input(format!(
                "{file}: can't tell the best neuron's class: no text of it"
            )));
        }
        Ok(UntunedSummary {
            task: self.task.clone(),
            model: self.model_id()?,
            test_rows: test.total().unsigned_abs(),
            answers: self.answers()?,
            majority: majority(&test),
            best_neuron: BestOfText {
                layer: rule.layer,
                index: rule.index,
                class: rule.class,
                score: Some(score.name().into()),
                dev: dev.accuracy_of(&rule, score)?,
                test: test.accuracy_of(&rule, score)?,
                interval: test.interval_of(&rule, score, LEVEL)?,
            },
        })
    }

    fn model_id(&self) -> Result<String> {
        Ok(find_model(self.options.model())?.id().to_owned())
    }
}

fn counts(path: &Path) -> Result<Performance> {
    provenance::check(path)?;
    Ok(Performance::read(&TensorFile::read(path)?)?)
}

/// The share of the most frequent class.
fn majority(counts: &Performance) -> f64 {
    let total = counts.total();
    let positives = counts.by_class().map_or(&[][..], |counted| &counted.positives);
    let most = match positives {
        // Of two classes class 1 alone is counted.
        [positives] => (*positives).max(total - positives),
        several => several.iter().copied().max().unwrap_or(0),
    };
    most as f64 / total.max(1) as f64
}
