//! `skn-predict`: classify texts with a tuned model, pruned or not.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use serde::Serialize;
use skn_data::Example;
use skn_model::Gradients;
use skn_probing::evaluate;

use crate::cli::{AtOnce, Common, Compute, ModelType, Subject, Tuned};
use crate::exit::Failure;
use crate::program::{Call, Stage};
use crate::setup::Base;

/// Classify texts, one a line: prints the class's word, its probability and the text, with tabs between.
///
/// A task of two texts (premise and hypothesis) takes them with a tab between.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-predict", version)]
pub struct Predict {
    #[command(flatten)]
    subject: Subject,

    /// Run or folder with tuned parameters
    #[arg(long = "resume_from", value_name = "RUN", required = true)]
    resume_from: PathBuf,

    /// Put the <mask> row before a loaded prompt that does not start with it
    #[arg(long)]
    prepend_mask: bool,

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
    class: usize,
    word: String,
    /// Of each class, in class order.
    probabilities: Vec<f64>,
}

impl fmt::Display for Predictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Answer { text, class, word, probabilities }) in self.answers.iter().enumerate() {
            let end = if place + 1 == self.answers.len() { "" } else { "\n" };
            write!(f, "{word}\t{:.4}\t{text}{end}", probabilities[*class])?;
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

    fn run(&self, call: &Call<'_>) -> Result<Predictions> {
        let tuned = Tuned {
            model_type: ModelType::Prompt,
            prompt_size: None,
            from_pretrained: true,
            resume_from: Some(self.resume_from.clone()),
            prepend_mask: self.prepend_mask,
        };
        let base = Base::load(&self.subject, &self.compute, &tuned)?;
        let lines = self.lines()?;
        let pair = base.task.text.len() == 2;
        let examples = lines
            .iter()
            .enumerate()
            .map(|(row, line)| self.example(row, line, pair))
            .collect::<Result<Vec<_>>>()?;
        let model = base.roberta(&base.loaded_tuning(self.prepend_mask)?, Gradients::Nothing)?;
        let texts = base.encode(&examples, &model)?;
        let options = base.pass(self.at_once.texts(), call.console);
        let answers = evaluate(&model, &texts, &base.verbalizer.ids, &options)?;
        let rows = lines.into_iter().zip(answers.logits.chunks_exact(answers.classes)).zip(answers.predicted);
        let answer = |((text, logits), class): ((String, &[f32]), usize)| {
            let word = base.verbalizer.words[class].trim().to_string();
            Answer { text, class, word, probabilities: softmax(logits) }
        };
        Ok(Predictions { answers: rows.map(answer).collect() })
    }
}

impl Predict {
    fn lines(&self) -> Result<Vec<String>> {
        let name = self.name();
        let mut bytes = Vec::new();
        let read = match self.input.as_os_str() == "-" {
            true => std::io::stdin().read_to_end(&mut bytes),
            false => std::fs::File::open(&self.input).and_then(|mut file| file.read_to_end(&mut bytes)),
        };
        read.map_err(|error| Failure::input(format!("{name}: {error}; expected a file of texts")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
            Failure::input(format!("{name}: line {line}: expected UTF-8, found other bytes"))
        })?;
        if text.is_empty() {
            return Err(Failure::input(format!("{name}: expected a text a line, found nothing")));
        }
        Ok(text.lines().map(str::to_string).collect())
    }

    /// What messages call the input.
    fn name(&self) -> String {
        if self.input.as_os_str() == "-" { "standard input".into() } else { self.input.display().to_string() }
    }

    fn example(&self, row: usize, line: &str, pair: bool) -> Result<Example> {
        let (text, second) = match line.split_once('\t') {
            Some((text, second)) if pair => (text, Some(second.into())),
            None if pair => {
                let (name, line) = (self.name(), row + 1);
                return Err(Failure::input(format!(
                    "{name}: line {line}: expected two texts with a tab between, found one"
                )));
            }
            _ => (line, None),
        };
        Ok(Example { text: text.into(), pair: second, label: 0 })
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let terms: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - f64::from(highest)).exp()).collect();
    let sum: f64 = terms.iter().sum();
    terms.into_iter().map(|term| term / sum).collect()
}
