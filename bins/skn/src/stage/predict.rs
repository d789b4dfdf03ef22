//! `skn-predict`: classify texts with a tuned model, pruned or not, or with one as it is.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_artifact::text_of;
use skn_program::{Console, Failure};
use skn_session::options::{Classify, Tuned};
use skn_session::{Answer as Found, Text};

use crate::cli::{AtOnce, Common, Compute, ModelAndTask};
use crate::input::read_all;
use crate::program::{Call, Stage};

/// Classify texts, one a line: prints the class's word, its probability and the text, with tabs between.
///
/// A task of two texts (premise and hypothesis) takes them with a tab between, one with a template the texts of its columns, in
/// the order in which it names them. Without --resume_from the model answers as it is, untuned.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-predict", version)]
pub struct Predict {
    #[command(flatten)]
    subject: ModelAndTask,

    /// Run or folder with tuned parameters
    #[arg(long = "resume_from", value_name = "RUN")]
    resume_from: Option<PathBuf>,

    /// Load tuned parameters from --resume_from, which --resume_from alone does too
    #[arg(short = 'p', long = "from_pretrained")]
    from_pretrained: bool,

    /// Put the <mask> row before a loaded prompt that does not start with it
    #[arg(long)]
    prepend_mask: bool,

    /// Answer with the label words although a classifier was saved with the tuned parameters
    #[arg(long)]
    verbalizer: bool,

    /// Prompt positions of an untuned model, the <mask> row counted [default: 16]
    #[arg(long = "prompt_size", value_name = "P")]
    prompt_size: Option<NonZeroUsize>,

    /// Seed of an untuned model's prompt [default: 0]
    #[arg(long = "seed", visible_alias = "random_seed", value_name = "N")]
    seed: Option<u64>,

    /// File of texts, - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,

    #[command(flatten)]
    at_once: AtOnce,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    common: Common,
}

/// The answers.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Predictions {
    answers: Vec<Answer>,
}

/// The answer to one text.
#[derive(Clone, Debug, Serialize)]
struct Answer {
    text: String,
    #[serde(flatten)]
    found: Found,
}

impl fmt::Display for Predictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Answer { text, found }) in self.answers.iter().enumerate() {
            let end = if place + 1 == self.answers.len() { "" } else { "\n" };
            write!(f, "{}\t{:.4}\t{text}{end}", found.word, found.probabilities[found.class])?;
        }
        Ok(())
    }
}

impl Stage for Predict {
    const PROGRAM: &'static str = "skn-predict";
    type Output = Predictions;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call) -> Result<Predictions> {
        let session = call.session(self.compute.options())?;
        let classifier = session.classifier(&self.options())?;
        let lines = self.lines(&call.console)?;
        let columns = classifier.columns();
        let text = |(row, line): (usize, &String)| self.text(row, line, columns);
        let texts = lines.iter().enumerate().map(text).collect::<Result<Vec<_>>>()?;
        let answers = classifier.answer(&texts)?.into_iter().zip(lines);
        Ok(Predictions { answers: answers.map(|(found, text)| Answer { text, found }).collect() })
    }
}

impl Predict {
    /// What the flags ask for. Flags that have nothing to act on are told.
    fn options(&self) -> Classify {
        let tuned = self.resume_from.is_some();
        let idle = [
            (self.prompt_size.is_some() && tuned, "prompt_size", "an untuned model"),
            (self.seed.is_some() && tuned, "seed", "an untuned model"),
            (self.prepend_mask && !tuned, "prepend-mask", "--resume_from"),
            (self.verbalizer && !tuned, "verbalizer", "--resume_from"),
        ];
        for (_, flag, of) in idle.into_iter().filter(|(idle, _, _)| *idle) {
            tracing::warn!("--{flag}: goes with {of}; it changes nothing");
        }
        let mut options = Classify::default();
        options.subject = self.subject.options(self.seed.unwrap_or(0));
        options.tuned = self.resume_from.as_ref().map(Tuned::of).unwrap_or_default();
        options.tuned.load |= self.from_pretrained;
        (options.tuned.prepend_mask, options.tuned.verbalizer) = (self.prepend_mask, self.verbalizer);
        options.tuned.prompt_size = self.prompt_size.filter(|_| !tuned);
        options.batch = self.at_once.batch;
        options
    }

    fn lines(&self, console: &Console) -> Result<Vec<String>> {
        let name = self.name();
        let bytes = read_all(&self.input, console)?;
        let text = text_of(&bytes).map_err(|wrong| Failure::input(format!("{name}: {wrong}")))?;
        if text.is_empty() {
            return Err(Failure::input(format!("{name}: expected a text a line, found nothing")));
        }
        Ok(text.lines().map(str::to_string).collect())
    }

    /// What messages call the input.
    fn name(&self) -> String {
        if self.input.as_os_str() == "-" { "standard input".into() } else { self.input.display().to_string() }
    }

    /// The texts of a line, one for each column; the last may have tabs in it.
    fn text(&self, row: usize, line: &str, columns: &[String]) -> Result<Text> {
        let texts: Vec<&str> = line.splitn(columns.len().max(1), '\t').collect();
        if texts.len() >= columns.len() {
            return Ok(Text::of_columns(texts).unwrap_or_else(|| line.into()));
        }
        let (name, line) = (self.name(), row + 1);
        let found = if texts.len() == 1 { "one".to_owned() } else { texts.len().to_string() };
        let expected = match columns.len() {
            2 => "two texts with a tab between".to_owned(),
            many => format!("{many} texts with tabs between ({})", columns.join(", ")),
        };
        Err(Failure::input(format!("{name}: line {line}: expected {expected}, found {found}")))
    }
}
