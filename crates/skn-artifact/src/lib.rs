//! What the stages of skn exchange, and how it gets safely to disk and back.
//!
//! - [`TensorFile`] reads safetensors files and trusts nothing in them; [`TensorBundle`] makes them, the same bytes
//!   for the same content.
//! - [`GgufFile`] does the same with models of llama.cpp.
//! - [`write_file`] and [`write_json`] leave a whole file or none; [`Journal`] grows line by line; [`RunLock`] keeps
//!   a second program out of a run.
//! - [`SkillConfig`], [`SplitRecord`], [`Summary`] and the others are the JSON files of a run folder.
//!
//! This is the only library crate of the workspace that opens files for writing.
//!
//! ```
//! use skn_artifact::{Array, Overwrite, TensorBundle, TensorFile, write_file};
//!
//! # let folder = tempfile::tempdir()?;
//! # let run = folder.path();
//! let mut bundle = TensorBundle::new();
//! bundle.insert("score", Array::f32(vec![2], vec![0.25, 0.5])?);
//! let path = run.join("sst2").join("score.safetensors");
//! write_file(&path, Overwrite::Refuse, &bundle.to_bytes()?)?;
//! assert_eq!(TensorFile::read(&path)?.f32("score", Some(&[2]))?.1, [0.25, 0.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

mod array;
mod error;
mod file;
mod foreign;
mod hash;
mod journal;
mod kind;
mod link;
mod lock;
mod look;
pub mod names;
mod near;
mod records;
mod regular;
mod spool;
mod tensors;
mod text;
mod visible;

pub use crate::array::{Array, DType, Data, Pieces};
pub use crate::error::{ArtifactError, Result};
pub use crate::file::{
    Overwrite, ReadyFile, copy_file, json_reason, make_folder, parse_json, read_json, rename_file, resolve,
    write_file, write_json, write_together,
};
pub use crate::foreign::{BYTE_ORDER_MARK, Foreign, Wanted};
pub use crate::hash::{hash_file, sha256_hex};
pub use crate::journal::Journal;
pub use crate::kind::ErrorKind;
pub use crate::link::refuse_link;
pub use crate::lock::RunLock;
pub use crate::look::{is_absence, is_file, is_folder, is_link, is_there, real_path, within};
pub use crate::near::did_you_mean;
pub use crate::records::{
    Agreement, BestNeuron, BestOfText, ByClass, Calibration, ChanceRecord, ClassEvaluation,
    CorrelationRecord, DamageEvidence, EvaluationRecord, Evidence, FullAndPruned, InferencePerformance,
    InferenceTime, Likelihood, MetricRecord, ModelIdentity, NeuronRecord, PartRecord, PerturbationResult,
    PerturbationSetting, Points, RankingComparison, RankingDamage, RowNumbers, RunRecord, ShareDamage,
    SkillConfig, SplitRecord, StabilityRecord, StageRecord, Summary, TextsRecord, UntunedAnswers,
    UntunedSummary, VerbalizerRecord, Verification, VoteRecord, verify,
};
pub use crate::regular::{open_regular, read_regular};
pub use crate::spool::Spool;
pub use crate::tensors::{
    BlockType, GgufFile, TensorBundle, TensorDigest, TensorFile, file_hash, hash_of_digests, tensor_hash,
};
pub use crate::text::{NotText, not_utf8, text_of};
pub use crate::visible::{visible, visible_json};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
