use std::any::Any;
use std::collections::BTreeMap;

use skn_artifact::names::key;
use skn_artifact::{ArtifactError, TensorBundle, TensorFile};
use skn_counts::Performance;

use crate::error::{ProbingError, Result};

/// What a file says of itself beside its kind: task, model, data, split, seed, shard.
pub type Metadata = BTreeMap<String, String>;

/// What a file of a statistic holds: what a [`Statistic`](crate::Statistic) comes to, read back by the file's `skn.kind`
/// ([`Kinds`](crate::Kinds)), and put together with those of other shards.
pub trait Record: Any + Send + Sync {
    /// Adds that of another shard, whose texts stand behind those here.
    ///
    /// # Errors
    /// If it is of another type ([`other`]), shape or pool.
    fn merge(&mut self, other: &dyn Record) -> Result<()>;

    /// The file, which says its kind and this metadata ([`described`]).
    ///
    /// # Errors
    /// If it was made of nothing, or of more than a file can hold.
    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle>;
}

/// Another record as the type that it is merged into.
///
/// # Errors
/// If it is of another type.
pub fn other<R: Record>(other: &dyn Record) -> Result<&R> {
    let other: &dyn Any = other;
    other.downcast_ref().ok_or_else(|| ProbingError::wrong_type::<R>("shard to merge"))
}

/// A bundle that says what it is.
pub fn described(kind: &str, metadata: &Metadata) -> TensorBundle {
    let mut bundle = TensorBundle::new();
    for (key, value) in metadata {
        bundle.describe(key, value);
    }
    bundle.describe(key::KIND, kind);
    bundle
}

pub(crate) fn wrong_metadata(file: &TensorFile, key: &str, expected: String, found: &str) -> ProbingError {
    let place = format!("metadata {key}");
    ArtifactError::Format { file: file.path().into(), place, expected, found: found.into() }.into()
}

impl Record for Performance {
    fn merge(&mut self, part: &dyn Record) -> Result<()> {
        Ok(self.merge(other::<Self>(part)?)?)
    }

    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        Ok(self.to_bundle(metadata)?)
    }
}
