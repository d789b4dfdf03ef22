//! Find the skill neurons of a language model from a Rust program: the stages of the method as typed calls.
//!
//! A [`Session`] is where stages are done. Each takes its [`options`] and gives what it found: tune
//! ([`Session::train`]), probe every neuron ([`Session::probe`]), select the skill neurons ([`Session::select`]), perturb
//! them ([`Session::perturb`]), prune the others away ([`Session::prune`]), answer texts ([`Session::classifier`]) and score the answers
//! ([`Session::evaluate`]); or all
//! at once ([`Session::chain`]). Results go into a run's folder, the files that the programs write.
//!
//! ```
//! use skn_session::Session;
//! use skn_session::options::{Classify, Compute, Subject};
//!
//! // The embedded demo as it is, untuned.
//! let mut options = Classify::default();
//! options.subject = Subject::demo("sentiment");
//! let session = Session::new(Compute::default())?;
//! let classifier = session.classifier(&options)?;
//! let answers = classifier.answer(&["the food was not bad .".into()])?;
//! assert!(["positive", "negative"].contains(&answers[0].word.as_str()));
//! # Ok::<(), skn_session::SessionError>(())
//! ```
//!
//! Files that others made can crash their readers, or ask for all memory: see [`fence`].

mod alpha;
mod answers;
mod base;
mod cache;
mod chain;
mod division;
mod done;
mod dry_run;
mod error;
mod experiments;
pub mod fence;
mod fits;
mod initial;
mod layers;
mod loaded;
mod named;
pub mod options;
mod outcome;
mod place;
mod provenance;
mod rehearsal;
mod run_writer;
mod score;
mod session;
mod setup;
mod spread;
mod stages;
mod steps;
mod tuned_folder;
mod untuned;
mod walk;

pub use crate::dry_run::{DryRun, PlannedFile, PlannedRead, PlannedWork};
pub use crate::error::{Result, SessionError};
pub use crate::experiments::{ExperimentFound, Experimented};
pub use crate::named::{named_task, read_rows};
pub use crate::outcome::Outcome;
pub use crate::session::Session;
pub use crate::stages::{
    Answer, AnswerFormat, AnswerWriter, BestPredictor, Classifier, Evaluated, Merged, Perturbed, Predicted,
    PredictionCount, Pretrained, Probed, Pruned, Records, Reported, Selected, Text, Trained,
};
pub use crate::steps::{ChainEvent, Step};
pub use skn_artifact::{
    BestNeuron, BestOfText, Calibration, ClassEvaluation, ErrorKind, EvaluationRecord, FullAndPruned,
    InferencePerformance, InferenceTime, Likelihood, PerturbationResult, PerturbationSetting, Points,
    Summary, UntunedAnswers, UntunedSummary,
};
pub use skn_data::{Dataset, Field, Record, RecordFormat, Task};
pub use skn_model::{
    Isa, NeuronSite, Precision, PromptPlace, TellingAllocator, keep_candle_on_calling_thread,
    keep_freed_memory, tell_of_memory,
};
pub use skn_perturb::EditKind;
pub use skn_probing::{Alone, Group, ProbeType, ProbingError, Progress, Ranking, Silent, Workers};
pub use skn_select::{Aggregate, ScoreRule, Share};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
