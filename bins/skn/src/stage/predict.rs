//! `skn-predict`: classify texts with a tuned model, pruned or not, or with one as it is.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use skn_program::{Spelling, print_lines};
use skn_session::options::{self, Classify, Tuned};
use skn_session::{
    Answer as Found, AnswerFormat, AnswerWriter, Classifier, DryRun, Predicted, RecordFormat, Records,
};

use crate::cli::{AtOnce, Common, Compute, Dry, ModelAndTask};
use crate::input::records;
use crate::program::{Call, Stage};

/// Bytes of answers that are printed together, where they are not wanted at once.
const TOGETHER: usize = 1 << 16;

/// Classify texts, one a line, or the rows of CSV, JSON Lines or Parquet: prints the class's word, its probability and the text,
/// with tabs between; or the rows with the answers beside them.
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

    /// Form of the input [default: by the file's name: .csv, .tsv, .jsonl, .ndjson, .json, .parquet; else a text a line]
    #[arg(long, visible_alias = "format-in", value_name = "FORM")]
    input_format: Option<InputForm>,

    /// Columns of the texts, comma-separated, in the order of the task's [default: the task's own]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    column: Vec<String>,

    /// What delimits CSV, tab for a tab [default: what the task or the file says: sep=, or what divides its first line into the
    /// columns]
    #[arg(long, value_name = "SIGN", value_parser = delimiter)]
    delimiter: Option<char>,

    /// How answers are printed [default: text]
    #[arg(long, value_name = "FORM", conflicts_with = "json")]
    format: Option<OutputForm>,

    /// With --format jsonl and csv the probabilities of all classes too
    #[arg(long)]
    probabilities: bool,

    /// With --format jsonl and csv the logits of all classes too
    #[arg(long)]
    logits: bool,

    /// Of two classes the probability of class 1 from which the answer is class 1; of more, that of an answer below which it is
    /// unsure [default: the most probable class]
    #[arg(long, value_name = "PROBABILITY")]
    threshold: Option<f64>,

    /// Probabilities of the temperature that skn-evaluate --calibrate has fitted for the run
    #[arg(long)]
    calibrated: bool,

    /// What happens at a line that can't be answered: fail, or skip, which says which lines those are, in their places in the
    /// output too
    #[arg(long, value_name = "WHAT", default_value = "fail")]
    on_error: OnError,

    /// Print answers as soon as no further line comes for a moment, instead of many at once
    #[arg(long)]
    flush: bool,

    /// Replay passes over few tokens as CUDA graphs where texts of the same lengths come again, which spares launches; the same
    /// answers. On NVIDIA's GPUs alone, and never tried on a real one
    #[arg(long)]
    cuda_graphs: bool,

    #[command(flatten)]
    at_once: AtOnce,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    dry: Dry,
    #[command(flatten)]
    common: Common,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum InputForm {
    /// A text a line
    Text,
    /// A JSON object a line
    Jsonl,
    /// Delimited values under the names of their columns
    Csv,
    /// Parquet, from a file
    Parquet,
}

impl From<InputForm> for RecordFormat {
    fn from(form: InputForm) -> Self {
        match form {
            InputForm::Text => Self::Text,
            InputForm::Jsonl => Self::Jsonl,
            InputForm::Csv => Self::Csv,
            InputForm::Parquet => Self::Parquet,
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum OutputForm {
    /// Word, probability and text, with tabs between
    Text,
    /// A JSON object a line: what the input has, and the answer
    Jsonl,
    /// What the input has, and the answer, with commas between
    Csv,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum OnError {
    Skip,
    Fail,
}

fn delimiter(text: &str) -> Result<char, String> {
    let mut letters = text.chars();
    match (text, letters.next(), letters.next()) {
        ("tab" | "\\t", ..) => Ok('\t'),
        (_, Some(letter), None) => Ok(letter),
        _ => Err("expected one sign, or tab".to_owned()),
    }
}

/// The answers, of `--json`; others were printed as they came.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Predictions {
    answers: Vec<Answer>,
}

/// The answer to one text, or what is wrong with it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Found {
        text: String,
        #[serde(flatten)]
        found: Found,
    },
    Wrong {
        line: u64,
        error: String,
    },
}

impl From<&Predicted> for Answer {
    fn from(row: &Predicted) -> Self {
        match &row.answer {
            Ok(found) => Self::Found { text: row.texts.join("\t"), found: found.clone() },
            Err(error) => Self::Wrong { line: row.line, error: error.clone() },
        }
    }
}

impl fmt::Display for Predictions {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

impl Stage for Predict {
    const PROGRAM: &'static str = "skn-predict";
    const IN_GROUP: bool = true;
    type Output = Predictions;

    fn common(&self) -> &Common {
        &self.common
    }

    fn dry_run(&self, call: &Call) -> Result<Option<DryRun>> {
        self.dry.of(|| {
            let session = call.session(self.compute.options())?;
            let mut told = session.dry_predict(&self.options(), &self.how(), records(&self.input)?)?;
            let form = if self.common.json { "all of them, as JSON" } else { "each as it is found" };
            told.notes.push(format!("answers would be printed to standard output, {form}"));
            Ok(told)
        })
    }

    fn run(&self, call: &Call) -> Result<Predictions> {
        let session = call.session(self.compute.options())?;
        let classifier = session.classifier(&self.options())?;
        let options = self.how();
        if call.group.rank() > 0 {
            // Rank 0 reads the records, and prints what is answered.
            classifier.predict(&options, Records::File(PathBuf::new()), &mut |_| Ok(()))?;
            return Ok(Predictions::default());
        }
        let records = records(&self.input)?;
        if self.common.json {
            let mut answers = Vec::new();
            classifier.predict(&options, records, &mut |rows| {
                answers.extend(rows.iter().map(Answer::from));
                Ok(())
            })?;
            return Ok(Predictions { answers });
        }
        self.print(&classifier, &options, records)?;
        Ok(Predictions::default())
    }
}

impl Predict {
    /// What the flags ask for. Flags that have nothing to act on are told.
    fn options(&self) -> Classify {
        let tuned = self.resume_from.is_some();
        let is_text = matches!(self.format, None | Some(OutputForm::Text)) && !self.common.json;
        let idle = [
            (self.prompt_size.is_some() && tuned, "prompt_size", "an untuned model"),
            (self.seed.is_some() && tuned, "seed", "an untuned model"),
            (self.prepend_mask && !tuned, "prepend-mask", "--resume_from"),
            (self.verbalizer && !tuned, "verbalizer", "--resume_from"),
            (self.probabilities && is_text, "probabilities", "--format jsonl or csv"),
            (self.logits && is_text, "logits", "--format jsonl or csv"),
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
        (options.calibrated, options.threshold) = (self.calibrated, self.threshold);
        (options.batch, options.cuda_graphs) = (self.at_once.batch, self.cuda_graphs);
        options
    }

    /// How the input is read.
    fn how(&self) -> options::Predict {
        let mut how = options::Predict::default();
        how.input_format = self.input_format.map(Into::into);
        (how.columns, how.delimiter) = (self.column.clone(), self.delimiter);
        (how.skip_errors, how.flush) = (self.on_error == OnError::Skip, self.flush);
        how
    }

    /// Prints answers as they come, whole lines at a time, whatever ends it.
    fn print(&self, classifier: &Classifier<'_>, options: &options::Predict, records: Records) -> Result<()> {
        let (format, spelling) = match self.format {
            None | Some(OutputForm::Text) => (AnswerFormat::Text, Spelling::Text),
            Some(OutputForm::Jsonl) => (AnswerFormat::Jsonl, Spelling::Json),
            Some(OutputForm::Csv) => (AnswerFormat::Csv, Spelling::Table),
        };
        let writer = AnswerWriter::new(format, classifier).with_all(self.probabilities, self.logits);
        let mut writer = writer.with_errors(options.skip_errors);
        let (mut lines, mut refused) = (String::new(), None);
        let found = classifier.predict(options, records, &mut |rows| {
            match writer.lines(rows) {
                Ok(more) => lines += &more,
                Err(error) => {
                    refused = Some(error);
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            if options.flush || lines.len() >= TOGETHER {
                print_lines(&std::mem::take(&mut lines), spelling)?;
            }
            Ok(())
        });
        if let Some(error) = refused {
            return Err(error.into());
        }
        if found.is_ok() {
            lines += &writer.finish()?;
        }
        let printed = match print_lines(&lines, spelling) {
            // Whoever has gone away has what was wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed,
        };
        found?;
        Ok(printed?)
    }
}
