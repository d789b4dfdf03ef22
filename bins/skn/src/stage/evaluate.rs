//! `skn-evaluate`: how well does a model answer?

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use comfy_table::{Table, presets};
use serde::Serialize;
use skn_session::options::{self, Split};
use skn_session::{Calibration, ClassEvaluation, DryRun, Evaluated as Found, Likelihood};

use crate::cli::{AtOnce, Common, Compute, Dry, Subject, Tuned};
use crate::number::with_interval;
use crate::program::{Call, Stage};

/// Score a tuned model, pruned or not, or one as it is: the task's metric, a confusion matrix, each class, and how true its
/// probabilities are.
///
/// On the test set, another part, or other data with --data: a file of those is evaluated as a whole. --calibrate fits a temperature
/// on dev, which the run keeps, and which --calibrated uses.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-evaluate", version)]
pub struct Evaluate {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    tuned: Tuned,

    /// Part of the data: train, dev or test
    #[arg(long, value_name = "PART", default_value = "test")]
    split: Part,

    /// Fit a temperature on dev and keep it in the run: calibration.json
    #[arg(long)]
    calibrate: bool,

    /// Probabilities of the temperature that the run keeps
    #[arg(long, conflicts_with = "calibrate")]
    calibrated: bool,

    #[command(flatten)]
    at_once: AtOnce,
    #[command(flatten)]
    pub(crate) compute: Compute,

    /// Run to write the result into: RUN/<task>/<part>_evaluation.json [default: it is printed alone]
    #[arg(long = "out", visible_alias = "save_to", value_name = "RUN")]
    out: Option<PathBuf>,

    /// Replace files of this evaluation that exist
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Train,
    Dev,
    Test,
}

impl From<Part> for Split {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Self::Train,
            Part::Dev => Self::Dev,
            Part::Test => Self::Test,
        }
    }
}

impl Evaluate {
    /// What the flags ask for.
    pub(crate) fn options(&self) -> options::Evaluate {
        let mut evaluate = options::Evaluate::default();
        (evaluate.subject, evaluate.tuned) = (self.subject.options(), self.tuned.options());
        // As in skn-predict, --resume_from alone loads what is there.
        evaluate.tuned.load |= evaluate.tuned.resume_from.is_some();
        evaluate.split = self.split.into();
        (evaluate.calibrate, evaluate.calibrated) = (self.calibrate, self.calibrated);
        evaluate.batch = self.at_once.batch;
        (evaluate.out, evaluate.overwrite) = (self.out.clone(), self.force);
        evaluate
    }
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Evaluated(Found);

impl fmt::Display for Evaluated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { evaluation, calibration, calibrated, files, .. } = &self.0;
        let score = with_interval(evaluation.score, evaluation.interval);
        write!(
            f,
            "{}: {} {score} on {} rows of {}",
            evaluation.task, evaluation.metric, evaluation.rows, evaluation.part
        )?;
        write!(f, "\n{}", table(&evaluation.classes, &evaluation.confusion))?;
        let how = match evaluation.temperature {
            Some(temperature) => format!(" (temperature {temperature:.4})"),
            None => String::new(),
        };
        write!(
            f,
            "\nprobabilities{how}: calibration error {:.4} over {} bins, Brier {:.4}, NLL {:.4}",
            evaluation.calibration_error, evaluation.bins, evaluation.brier, evaluation.nll
        )?;
        write!(
            f,
            "\ntexts cut to {} tokens: {} of {}",
            evaluation.max_tokens, evaluation.cut, evaluation.rows
        )?;
        if let Some(Calibration { temperature, rows, before, after, .. }) = calibration {
            write!(
                f,
                "\ntemperature {temperature:.4}, fitted on {rows} rows of dev: {}",
                change(*before, *after)
            )?;
            if let Some(after) = calibrated {
                let before =
                    Likelihood { nll: evaluation.nll, calibration_error: evaluation.calibration_error };
                write!(f, "; on {}: {}", evaluation.part, change(before, *after))?;
            }
        }
        for file in files {
            write!(f, "\nwritten: {}", file.display())?;
        }
        Ok(())
    }
}

/// What a temperature does.
fn change(before: Likelihood, after: Likelihood) -> String {
    format!(
        "calibration error {:.4} -> {:.4}, NLL {:.4} -> {:.4}",
        before.calibration_error, after.calibration_error, before.nll, after.nll
    )
}

/// A line for each class: how it is found, and what its rows are answered with.
fn table(classes: &[ClassEvaluation], confusion: &[Vec<u64>]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let name = |class: &ClassEvaluation| match &class.label {
        Some(label) if *label != class.word => format!("{} ({label})", class.word),
        _ => class.word.clone(),
    };
    let fixed = ["class", "precision", "recall", "F1", "rows"].map(str::to_owned);
    table.set_header(fixed.into_iter().chain(classes.iter().map(|class| format!("as {}", class.word))));
    for (class, answers) in classes.iter().zip(confusion) {
        let shares = [class.precision, class.recall, class.f1].map(|share| format!("{share:.4}"));
        let counts = std::iter::once(class.support).chain(answers.iter().copied());
        let counts = counts.map(|count| count.to_string());
        table.add_row([name(class)].into_iter().chain(shares).chain(counts));
    }
    table
}

impl Stage for Evaluate {
    const PROGRAM: &'static str = "skn-evaluate";
    const IN_GROUP: bool = true;
    type Output = Evaluated;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        call.dry_run(self.dry, self.compute.options(), || Ok(self.options().into()))
    }

    fn run(&self, call: &Call) -> Result<Evaluated> {
        let session = call.session(self.compute.options())?;
        Ok(Evaluated(session.evaluate(&self.options())?))
    }
}
