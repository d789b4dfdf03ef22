//! What each stage does and what it finds: one call of [`Session`](crate::Session) each.

mod averages;
mod best;
mod classify;
mod compare;
mod damage;
mod evidence;
mod mask_file;
mod merge;
mod perturb;
mod pretrain;
mod probe;
mod probe_checks;
mod prune;
mod report;
mod select;
mod select_made;
mod selected;
mod train;
mod train_rehearsal;

pub use self::best::BestPredictor;
pub use self::classify::{Answer, Classifier, Text};
pub use self::merge::Merged;
pub use self::perturb::Perturbed;
pub use self::pretrain::Pretrained;
pub use self::probe::Probed;
pub use self::prune::Pruned;
pub use self::report::Reported;
pub use self::selected::Selected;
pub use self::train::Trained;
