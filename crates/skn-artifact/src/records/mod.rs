//! The JSON files of a run folder, one file here for each.

mod calibration;
mod damage;
mod evaluation;
mod evidence;
mod inference;
mod metric;
mod perturbation;
mod rankings;
mod row_numbers;
mod run_record;
mod skill_config;
mod split;
mod summary;
mod verification;

pub use calibration::{Calibration, Likelihood};
pub use damage::{ByClass, DamageEvidence};
pub use evaluation::{ClassEvaluation, EvaluationRecord};
pub use evidence::{ChanceRecord, CorrelationRecord, Evidence, NeuronRecord, StabilityRecord, VoteRecord};
pub use inference::{InferencePerformance, InferenceTime};
pub use metric::MetricRecord;
pub use perturbation::PerturbationResult;
pub use rankings::{Agreement, RankingComparison, RankingDamage, ShareDamage};
pub use row_numbers::RowNumbers;
pub use run_record::{RunRecord, StageRecord};
pub use skill_config::{ModelIdentity, SkillConfig, TextsRecord, VerbalizerRecord};
pub use split::{PartRecord, SplitRecord};
pub use summary::{
    BestNeuron, BestOfText, FullAndPruned, PerturbationSetting, Points, Summary, UntunedAnswers,
    UntunedSummary,
};
pub use verification::{Verification, verify};
