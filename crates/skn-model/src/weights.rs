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

use std::collections::BTreeMap;
use std::sync::OnceLock;

use candle_core::{Device, Tensor};
use skn_artifact::{Array, TensorBundle};

use crate::architecture::{Names, Part};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::hash::hash_of_values;
use crate::shapes::{first_of_head, has_head, tensors as tensors_of};

mod columns;
mod lost;
mod no_head;
mod places;
mod processors;
mod read;
mod source;
mod stored;
mod table;
mod unneeded;

pub(crate) use columns::Columns;
pub(crate) use no_head::NoHead;
pub(crate) use stored::Stored;
pub(crate) use table::Table;

/// The weights of a model on a device, by their Hugging Face names, as f32.
///
/// On the CPU and on NVIDIA's GPUs the matrices of dense layers stay in their files until they are asked for: a
/// [`LanguageModel`](crate::LanguageModel) keeps them in another form, or in another precision. On the CPU a large table of word
/// embeddings stays there too, and its rows are read when texts have them, until logits of the whole vocabulary are asked for. While the weights or a model made of them live, their files must not be
/// written to (to be replaced does them no harm).
///
/// A model may come without its masked-LM head: as an encoder it has neurons to look at, but no logits.
///
/// Cloning is cheap: tensors are shared.
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: BTreeMap<String, Weight>,
    device: Device,
    sha256: String,
    names: &'static Names,
    no_head: Option<NoHead>,
}

/// One of them.
#[derive(Clone, Debug)]
enum Weight {
    Tensor(Tensor),
    Stored(Stored),
}

impl Weight {
    fn tensor(&self, device: &Device) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Stored(stored) => stored.read_to(device),
        }
    }
}

impl Weights {
    /// Weights made by the caller, with or without the masked-LM head.
    ///
    /// # Errors
    /// If a tensor of `config` is missing or has another shape.
    pub fn from_tensors(config: &Config, mut tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut kept = BTreeMap::new();
        let no_head = (!has_head(config, |name| tensors.contains_key(name))).then(|| NoHead {
            file: "(in memory)".into(),
            tensor: first_of_head(config),
            is_decoder: config.is_decoder(),
        });
        for (_, name, shape) in tensors_of(config, no_head.is_none()) {
            let tensor =
                tensors.remove(&name).ok_or_else(|| ModelError::input(&name, "a tensor", "nothing"))?;
            if tensor.dims() != shape {
                return Err(ModelError::input(&name, format!("{shape:?}"), format!("{:?}", tensor.dims())));
            }
            kept.insert(name, tensor);
        }
        let device = kept.values().next().map_or(Device::Cpu, |tensor| tensor.device().clone());
        let sha256 = hash_of_values(kept.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
        let tensors = kept.into_iter().map(|(name, tensor)| (name, Weight::Tensor(tensor))).collect();
        Ok(Self { tensors, device, sha256, names: config.family.names(), no_head })
    }

    /// The tensor of a name; read anew if it stayed in its file.
    ///
    /// # Errors
    /// If the model has none of that name, or it can't be read.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        self.weight(name)?.tensor(&self.device)
    }

    fn weight(&self, name: &str) -> Result<&Weight> {
        self.tensors.get(name).ok_or_else(|| ModelError::input(name, "a tensor of the model", "nothing"))
    }

    /// A tensor that is still in its file.
    pub(crate) fn stored(&self, name: &str) -> Option<&Stored> {
        match self.tensors.get(name)? {
            Weight::Stored(stored) => Some(stored),
            Weight::Tensor(_) => None,
        }
    }

    /// A matrix whose rows are looked up.
    pub(crate) fn table(&self, name: &str) -> Result<Table> {
        Ok(match self.stored(name) {
            Some(stored) => Table::Stored(stored.clone(), OnceLock::new()),
            None => Table::Tensor(self.get(name)?),
        })
    }

    /// Nothing, if there is a masked-LM head.
    ///
    /// # Errors
    /// Names the file and a tensor that is missing, and what can be done without a head.
    pub fn require_head(&self) -> Result<()> {
        self.no_head.as_ref().map_or(Ok(()), |no_head| Err(no_head.error()))
    }

    pub(crate) fn no_head(&self) -> Option<&NoHead> {
        self.no_head.as_ref()
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All tensors by name, in memory.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn to_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.tensors.iter().map(|(name, weight)| Ok((name.clone(), weight.tensor(&self.device)?))).collect()
    }

    /// Bytes of memory that these take on their device: nothing for what stayed in its file.
    pub fn bytes(&self) -> usize {
        let size = |weight: &Weight| match weight {
            Weight::Tensor(tensor) => tensor.elem_count() * tensor.dtype().size_in_bytes(),
            Weight::Stored(_) => 0,
        };
        self.tensors.values().map(size).sum()
    }

    /// `skn.model_sha256` of the files the weights came from: the same for one file and for shards.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The device that the weights are for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The word embedding of the `<mask>` token, `hidden` numbers; none of a model without that token.
    ///
    /// # Errors
    /// If the token is not in the vocabulary.
    pub fn mask_embedding(&self, mask: impl Into<Option<u32>>) -> Result<Vec<f32>> {
        let Some(mask) = mask.into() else { return Ok(Vec::new()) };
        let words = self.table(&self.words())?;
        let vocabulary = words.len()?;
        if mask as usize >= vocabulary {
            let expected = format!("less than vocab_size {vocabulary}");
            return Err(ModelError::input("id of the <mask> token", expected, mask));
        }
        Ok(words.row(mask)?.flatten_all()?.to_vec1()?)
    }

    /// The embeddings of tokens as they are stored, `[tokens, hidden]`.
    ///
    /// # Errors
    /// If a token is not in the vocabulary.
    pub(crate) fn token_embeddings(&self, ids: &[u32]) -> Result<Tensor> {
        let words = self.table(&self.words())?;
        let vocabulary = words.len()?;
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(ModelError::input("id of a token", format!("less than vocab_size {vocabulary}"), id));
        }
        words.rows(ids)
    }

    /// The root mean square of the words' embeddings, as they are stored.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn word_size(&self) -> Result<f64> {
        /// Rows that are looked at together.
        const ROUND: usize = 4096;
        let words = self.table(&self.words())?;
        let (count, mut sum, mut numbers) = (words.len()?, 0f64, 0usize);
        let rows: Vec<u32> = (0u32..).take(count).collect();
        for rows in rows.chunks(ROUND) {
            let values = words.rows(rows)?.flatten_all()?.to_vec1::<f32>()?;
            numbers += values.len();
            sum += values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
        }
        Ok((sum / numbers.max(1) as f64).sqrt())
    }

    /// The name of the table of words.
    pub(crate) fn words(&self) -> String {
        self.names.of(Part::Words).map_or_else(String::new, |name| format!("{name}.weight"))
    }

    /// The bytes of a `model.safetensors` with these weights.
    ///
    /// # Errors
    /// If a tensor can't be copied to the CPU.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bundle = TensorBundle::new();
        for (name, tensor) in self.to_tensors()? {
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            bundle.insert(name, Array::f32(tensor.dims().to_vec(), values)?);
        }
        Ok(bundle.to_bytes()?)
    }
}
