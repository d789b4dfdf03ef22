use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::Device;
use skn_artifact::{TensorDigest, hash_of_digests};
use skn_kernels::{Backend, not_finite, numbers_on};

use super::places::Places;
use super::processors::on_all_processors;
use super::source::Source;
use super::unneeded::Unneeded;
use super::{NoHead, Stored, Weight, Weights};
use crate::architecture::Form;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::finite::infinite;
use crate::folder::ModelFolder;
use crate::shapes::{first_of_head, has_head, tensors as tensors_of};

impl Weights {
    /// Whether a model's files have the head that `config` asks for. No value is read.
    ///
    /// # Errors
    /// If there are no weights, or their names can't be read.
    pub fn have_head(folder: &ModelFolder, config: &Config) -> Result<bool> {
        let files = Source::all(folder, config)?;
        let places = Places::new(folder, &files, config);
        Ok(has_head(config, |name| places.has(name)))
    }

    /// Reads the weights that `config` asks for, each checked against its shape before it is made, and each value
    /// checked to be finite.
    ///
    /// Old names (`gamma`, `beta`), those of an encoder saved alone (no `roberta.` or `bert.`) and those of a tied decoder that
    /// was saved in place of its twin are accepted. What a masked language model does not need is passed over: that which
    /// every model may have (`pooler`, `position_ids`, a copy of the tied decoder) without a word, a classifier or layers
    /// that `config` does not count with one. All of the masked-LM head may be missing: [`Self::require_head`] is for those
    /// who need it.
    ///
    /// # Errors
    /// Names the file and the tensor that is missing, has another shape, holds NaN or infinity, or changes what the library
    /// computes that wrote it (adapters, LoRA).
    pub fn read(folder: &ModelFolder, config: &Config, device: &Device) -> Result<Self> {
        let files = Source::all(folder, config)?;
        let places = Places::new(folder, &files, config);
        let no_head = (!has_head(config, |name| places.has(name))).then(|| NoHead {
            file: places.file.clone(),
            tensor: first_of_head(config),
            is_decoder: config.is_decoder(),
        });
        let tensors = tensors_of(config, no_head.is_none()).map(|(module, name, shape)| Needed {
            name,
            shape,
            is_table: matches!(module.form, Form::Table { .. }),
        });
        let tensors: Vec<Needed> = tensors.collect();
        let names: BTreeSet<&str> = tensors.iter().map(|needed| needed.name.as_str()).collect();
        let unneeded = Unneeded::of(&places, config, |name| names.contains(name))?;
        let mut needed = BTreeMap::<_, Vec<_>>::new();
        for tensor in tensors {
            let (file, stored) = places.need(&tensor.name)?;
            file.expect_floats(stored, &tensor.shape)?;
            needed.entry((file.path(), stored)).or_default().push(tensor);
        }
        let all = files.iter().flat_map(|file| file.names().map(move |name| (file, name)));
        let jobs = all.map(|(file, stored)| Job {
            file,
            stored,
            needed: needed.remove(&(file.path(), stored)).unwrap_or_default(),
        });
        let mut tensors = BTreeMap::new();
        let mut digests = Vec::new();
        for looked_at in on_all_processors(jobs.collect(), Job::size, |job| job.look_at(device)) {
            let (digest, weights) = looked_at?;
            digests.push(digest);
            tensors.extend(weights);
        }
        if no_head.is_none() {
            check_twins(&places, config, &digests)?;
        }
        unneeded.tell(&places, config);
        let sha256 = hash_of_digests(digests);
        Ok(Self { tensors, device: device.clone(), sha256, names: config.family.names(), no_head })
    }
}

/// A tensor that the model needs.
struct Needed {
    /// What the model calls it.
    name: String,
    /// The shape that it must have.
    shape: Vec<usize>,
    /// Whether its rows are looked up, and not multiplied with.
    is_table: bool,
}

impl Needed {
    /// The shape of a tensor that stays in its file: a matrix, but for a table that is small, or that texts are looked up in on a
    /// card.
    fn left_in_file(&self, backend: Backend) -> Option<[usize; 2]> {
        match *self.shape {
            [rows, columns] if !self.is_table && backend.defers_weights() => Some([rows, columns]),
            [rows, columns] if backend == Backend::Cpu && rows * columns > LARGE_TABLE => {
                Some([rows, columns])
            }
            _ => None,
        }
    }
}

/// A tensor of a model's files, and what it is to the model, if it needs it. One that is tied is needed under several names.
struct Job<'a> {
    file: &'a Arc<Source>,
    stored: &'a str,
    needed: Vec<Needed>,
}

impl Job<'_> {
    /// How many numbers it has; what nobody needs may have as many as anything.
    fn size(&self) -> usize {
        self.needed.first().map_or(usize::MAX, |needed| needed.shape.iter().product())
    }

    /// Reads the tensor once: its hash is taken, it is checked to be finite, and kept unless it is read again later.
    fn look_at(self, device: &Device) -> Result<(TensorDigest, Vec<(String, Weight)>)> {
        let Some(Needed { shape, .. }) = self.needed.first() else {
            return Ok((self.file.digest(self.stored)?, Vec::new()));
        };
        let to_store = |needed: &Needed| needed.left_in_file(Backend::of(device));
        let keeps = self.needed.iter().any(|needed| to_store(needed).is_none());
        let kept = if keeps { shape.iter().product() } else { 0 };
        let (mut values, mut seen, mut wrong) = (Vec::with_capacity(kept), 0, None);
        let digest = self.file.scan(self.stored, shape, |piece| {
            if wrong.is_none() {
                wrong = not_finite(piece).map(|(place, value)| (seen + place, value));
            }
            seen += piece.len();
            if keeps {
                values.extend_from_slice(piece);
            }
        })?;
        if let Some((place, value)) = wrong {
            return Err(infinite(self.file.path(), self.stored, place, value));
        }
        let values = || self.file.arranged(self.stored, shape, values);
        let tensor = keeps.then(|| numbers_on(values(), shape.as_slice(), device)).transpose()?;
        // On a GPU each thread has a stream of its own, and what others queue does not wait for it.
        device.synchronize()?;
        let weight = |needed: &Needed| match to_store(needed) {
            Some(shape) => {
                let file = Arc::clone(self.file);
                Some(Weight::Stored(Stored { file, name: self.stored.into(), shape }))
            }
            None => tensor.clone().map(Weight::Tensor),
        };
        let weights = self.needed.iter().filter_map(|needed| Some((needed.name.clone(), weight(needed)?)));
        Ok((digest, weights.collect()))
    }
}

/// A decoder that was stored beside its twin must hold the same: else transformers 5 takes the one, and 4 the other.
fn check_twins(places: &Places<'_>, config: &Config, digests: &[TensorDigest]) -> Result<()> {
    let digest = |name: &str| {
        let (_, stored) = places.all().find(|(known, _)| *known == name)?.1;
        digests.iter().find(|digest| digest.name() == stored)
    };
    for (twin, name) in config.twins() {
        if let (Some(found), Some(known)) = (digest(twin), digest(name))
            && !found.same_data(known)
        {
            let known = known.name();
            let expected =
                format!("the numbers of `{known}`, to which config.json ties it (tie_word_embeddings)");
            let other = "others; leave out the one that is not meant";
            return Err(ModelError::weight(&places.file, found.name(), expected, other));
        }
    }
    Ok(())
}

/// The most numbers of a table that is kept in memory (64 MB as f32). Rows of a larger one are read from its file, which lies in the
/// system's cache, when they are needed: next to what a model of that size computes for a row, reading it takes no time.
const LARGE_TABLE: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gradients, LanguageModel, NoHook, Pass, Scored, Sequences, Tuning};

    #[test]
    fn a_table_in_its_file_gives_the_same_bits() {
        let folder = ModelFolder::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/model")).unwrap();
        let config = folder.config().unwrap();
        let in_memory = Weights::read(&folder, &config, &Device::Cpu).unwrap();
        let name = in_memory.words();
        assert!(in_memory.stored(&name).is_none(), "a small table is in memory");

        let mut in_file = in_memory.clone();
        let [file] = <[_; 1]>::try_from(folder.weight_files().unwrap()).unwrap();
        let shape = [config.vocab_size, config.hidden_size];
        let file = Arc::new(Source::Safetensors(file));
        let stored = Stored { file, name: name.clone(), shape };
        in_file.tensors.insert(name.clone(), Weight::Stored(stored));
        assert_eq!(in_file.mask_embedding(4).unwrap(), in_memory.mask_embedding(4).unwrap());
        assert!(in_file.mask_embedding(config.vocab_size as u32).is_err());

        let logits = |weights: &Weights| {
            let model = LanguageModel::new(&config, weights, &Tuning::none(), 4, Gradients::Nothing).unwrap();
            let batch =
                Sequences { ids: &[0, 9, 5, 2, 0, 2], starts: &[0, 4, 6], samples: &[0, 1], seconds: &[] };
            let mut seen = Vec::new();
            // The whole table is read in between.
            for scored in [Scored::Tokens(&[7, 3]), Scored::All, Scored::Tokens(&[7, 3])] {
                let answers = model.forward(batch, &Pass::default(), &mut NoHook).unwrap();
                let logits = model.logits(&answers, scored).unwrap();
                seen.push(logits.flatten_all().unwrap().to_vec1::<f32>().unwrap());
            }
            seen
        };
        assert_eq!(logits(&in_file), logits(&in_memory));
    }

    #[test]
    fn matrices_and_large_tables_are_left_in_their_file() {
        let left_by = |backend, is_table, shape: &[usize]| {
            Needed { name: String::new(), shape: shape.to_vec(), is_table }.left_in_file(backend)
        };
        let left = |is_table, shape| left_by(Backend::Cpu, is_table, shape);
        assert_eq!(left(true, &[50265, 768]), Some([50265, 768]));
        assert_eq!(left(true, &[1 << 14, 1 << 10]), None);
        assert_eq!(left(false, &[2, 3]), Some([2, 3]));
        assert_eq!(left(false, &[50265]), None);
        // A card looks words up in its own memory, and no other device reads anything later.
        assert_eq!(left_by(Backend::Cuda, true, &[50265, 768]), None);
        assert_eq!(left_by(Backend::Cuda, false, &[2, 3]), Some([2, 3]));
        assert_eq!(left_by(Backend::Composed, false, &[2, 3]), None);
    }
}
