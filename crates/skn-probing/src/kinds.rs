use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use skn_artifact::TensorFile;
use skn_artifact::names::{fire, key, kind, rank, top};
use skn_counts::{Performance, Pool, TopTexts};

use crate::average::Average;
use crate::error::Result;
use crate::fire::FireRecord;
use crate::positions::Positions;
use crate::rank::RankRecord;
use crate::record::{Record, wrong_metadata};

type Read = dyn Fn(&TensorFile) -> Result<Box<dyn Record>> + Send + Sync;

/// How each kind of file is read, by what it says it is (`skn.kind`): who merges or checks files of statistics finds them here.
///
/// ```
/// use skn_probing::{Kinds, Positions};
///
/// let kinds = Kinds::default();
/// assert!(kinds.names().any(|kind| kind == "train_avg"));
/// // Another's own statistic, read by its type.
/// let kinds = kinds.with("own", |file| Ok(Box::new(Positions::read(file)?)));
/// assert!(kinds.names().any(|kind| kind == "own"));
/// ```
#[derive(Clone)]
pub struct Kinds(BTreeMap<String, Arc<Read>>);

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Default for Kinds {
    /// Those of this crate.
    fn default() -> Self {
        let mut kinds = Self(BTreeMap::new());
        for pool in Pool::ALL {
            kinds = kinds
                .with(pool.average_file(), move |file| Ok(Box::new(Average::read(file, pool)?)))
                .with(pool.performance_kind(), |file| Ok(Box::new(Performance::read(file)?)))
                .with(fire::kind(pool.name()), move |file| Ok(Box::new(FireRecord::read(file, pool)?)))
                .with(top::kind(pool.name()), move |file| Ok(Box::new(TopTexts::read(file, pool)?)));
        }
        kinds = kinds.with(rank::KIND, |file| Ok(Box::new(RankRecord::read(file)?)));
        kinds.with(kind::POSITIONS, |file| Ok(Box::new(Positions::read(file)?)))
    }
}

impl Kinds {
    /// With another kind, or another way to read one.
    pub fn with(
        mut self,
        kind: impl Into<String>,
        read: impl Fn(&TensorFile) -> Result<Box<dyn Record>> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(kind.into(), Arc::new(read));
        self
    }

    /// The kinds that are known, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What a file holds, by its kind. One that does not say it is taken for activations of a neuron (`pos`), the only form that
    /// others make.
    ///
    /// # Errors
    /// If the kind is not known, or the file is not what its kind promises.
    pub fn read(&self, file: &TensorFile) -> Result<Box<dyn Record>> {
        let found = file.metadata().get(key::KIND).map_or(kind::POSITIONS, String::as_str);
        match self.0.get(found) {
            Some(read) => read(file),
            None => {
                let expected = format!("one of {}", self.names().collect::<Vec<_>>().join(", "));
                Err(wrong_metadata(file, key::KIND, expected, found))
            }
        }
    }
}
