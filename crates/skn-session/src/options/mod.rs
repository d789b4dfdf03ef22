//! What each stage can be asked: one struct a stage, with its defaults. They are plain data, which a record keeps and which
//! tell whether two stages did the same.

mod chain;
mod classify;
mod compute;
mod experiment;
mod layers;
mod made;
mod merge;
mod perturb;
mod pretrain;
mod probe;
mod prune;
mod report;
mod select;
mod shard;
mod size;
mod stage;
mod subject;
mod text;
mod train;
mod tuned;
mod untuned;

pub use self::chain::Chain;
pub use self::classify::Classify;
pub use self::compute::{Compute, DeviceChoice};
pub use self::experiment::{Experiment, ExperimentName};
pub use self::layers::LayerRange;
pub use self::made::Made;
pub use self::merge::Merge;
pub use self::perturb::{EditChoice, NeuronNoise, Perturb};
pub use self::pretrain::PretrainDemo;
pub use self::probe::{NeuronChoice, Probe, Split};
pub use self::prune::{Fold, Prune};
pub use self::report::{CompareRuns, DrawReport};
pub use self::select::Select;
pub use self::shard::Shard;
pub use self::size::Size;
pub use self::stage::Stage;
pub use self::subject::{Subject, TaskChoice};
pub(crate) use self::train::Usual;
pub use self::train::{Train, Training};
pub use self::tuned::{Tuned, TunedMethod};
pub use self::untuned::Untuned;
