//! A file with tensors of a model, of whatever form.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use skn_artifact::{TensorDigest, TensorFile};

use crate::architecture::Names;
use crate::config::Config;
use crate::error::Result;
use crate::folder::ModelFolder;
use crate::gguf::GgufWeights;

/// A file with tensors of a model. Its own names of them are given to ask for one, and the model's shapes.
#[derive(Debug)]
pub(crate) enum Source {
    Safetensors(TensorFile),
    Gguf(GgufWeights),
}

impl Source {
    /// The files of a model of this configuration.
    ///
    /// # Errors
    /// If there are none, or one is damaged.
    pub(super) fn all(folder: &ModelFolder, config: &Config) -> Result<Vec<Arc<Self>>> {
        if let Some(file) = folder.gguf() {
            return Ok(vec![Arc::new(Self::Gguf(GgufWeights::new(Arc::clone(file), config)?))]);
        }
        let files = folder.weight_files()?.into_iter();
        Ok(files.map(|file| Arc::new(Self::Safetensors(file))).collect())
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Safetensors(file) => file.path(),
            Self::Gguf(file) => file.path(),
        }
    }

    /// The names of all tensors.
    pub(super) fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Self::Safetensors(file) => Box::new(file.names()),
            Self::Gguf(file) => Box::new(file.names()),
        }
    }

    /// The model's name of a tensor.
    pub(super) fn canonical(&self, stored: &str, names: &Names) -> String {
        match self {
            Self::Safetensors(_) => names.canonical(stored),
            Self::Gguf(file) => file.name_of(stored).unwrap_or(stored).to_owned(),
        }
    }

    /// The names of tensors that are stored under another one, with those.
    pub(super) fn twins(&self) -> &BTreeMap<String, String> {
        static NONE: LazyLock<BTreeMap<String, String>> = LazyLock::new(BTreeMap::new);
        match self {
            Self::Safetensors(file) => file.metadata(),
            Self::Gguf(_) => &NONE,
        }
    }

    /// The name of a tensor as the file has it, if there is one of this name.
    pub(super) fn stored_name(&self, name: &str) -> Option<&str> {
        match self {
            Self::Safetensors(file) => file.stored_name(name),
            Self::Gguf(_) => None,
        }
    }

    /// What the file calls a tensor of the model by a name of its own.
    pub(super) fn own_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        match self {
            Self::Safetensors(_) => Cow::Borrowed(name),
            Self::Gguf(file) => match file.stored_of(name) {
                Some(own) => Cow::Owned(own.to_owned()),
                None => Cow::Borrowed(name),
            },
        }
    }

    /// Checks that there are numbers of this shape, without reading them.
    ///
    /// # Errors
    /// If there are none, or of another shape or type.
    pub(super) fn expect_floats(&self, stored: &str, shape: &[usize]) -> Result<()> {
        match self {
            Self::Safetensors(file) => Ok(file.expect_floats(stored, shape)?),
            Self::Gguf(file) => file.expect(stored, shape),
        }
    }

    /// The hash of a tensor as it is stored.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn digest(&self, stored: &str) -> Result<TensorDigest> {
        match self {
            Self::Safetensors(file) => Ok(file.digest(stored)?),
            Self::Gguf(file) => file.digest(stored),
        }
    }

    /// Gives the numbers of a tensor to `each` in the order in which they are stored, and takes the tensor's hash.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn scan(
        &self,
        stored: &str,
        shape: &[usize],
        each: impl FnMut(&[f32]),
    ) -> Result<TensorDigest> {
        match self {
            Self::Safetensors(file) => Ok(file.scan_f32(stored, Some(shape), each)?),
            Self::Gguf(file) => file.scan(stored, each),
        }
    }

    /// The numbers that [`Self::scan`] gave, as the model has them.
    pub(super) fn arranged(&self, stored: &str, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
        match self {
            Self::Safetensors(_) => values,
            Self::Gguf(file) => file.arranged(stored, shape, values),
        }
    }

    /// Whether a matrix is stored as the transpose of the model's.
    pub(super) fn is_turned(&self, stored: &str) -> bool {
        match self {
            Self::Safetensors(_) => false,
            Self::Gguf(file) => file.is_turned(stored),
        }
    }

    /// Appends some rows of a matrix; of one that is stored as its transpose, rows of that.
    ///
    /// # Errors
    /// If there are no such rows, or they can't be read.
    pub(super) fn append_rows(
        &self,
        stored: &str,
        shape: [usize; 2],
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<()> {
        match self {
            Self::Safetensors(file) => Ok(file.append_f32_rows(stored, shape, rows, values)?),
            Self::Gguf(file) => file.append_rows(stored, rows, values),
        }
    }

    /// All numbers of a tensor.
    ///
    /// # Errors
    /// If they can't be read.
    pub(super) fn whole(&self, stored: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self {
            Self::Safetensors(file) => Ok(file.f32(stored, Some(shape))?.1),
            Self::Gguf(file) => file.whole(stored, shape),
        }
    }

    /// Whether a tensor that the model does not have may change what is computed, for all that is known of such files.
    pub(super) fn refuses_unneeded(&self, stored: &str) -> bool {
        match self {
            Self::Safetensors(_) => false,
            Self::Gguf(_) => !GgufWeights::is_unused(stored),
        }
    }

    /// Whether it is a GGUF file.
    pub(super) fn is_gguf(&self) -> bool {
        matches!(self, Self::Gguf(_))
    }
}
