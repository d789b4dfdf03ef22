use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use skn_artifact::{TensorDigest, TensorFile, hash_of_digests};

use super::places::Places;
use super::processors::on_all_processors;
use super::unneeded::Unneeded;
use super::{NoHead, Stored, Weight, Weights};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::finite::{infinite, not_finite};
use crate::folder::ModelFolder;
use crate::shapes::{has_head, head_tensor, needed_shapes};

impl Weights {
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
        let files: Vec<_> = folder.weight_files()?.into_iter().map(Arc::new).collect();
        let places = Places::new(folder, &files, config.family);
        let no_head = (!has_head(config, |name| places.has(name)))
            .then(|| NoHead { file: places.file.clone(), tensor: head_tensor(config) });
        let shapes: Vec<_> = needed_shapes(config, no_head.is_none()).collect();
        let names: BTreeSet<&str> = shapes.iter().map(|(name, _)| name.as_str()).collect();
        let unneeded = Unneeded::of(&places, config, |name| names.contains(name))?;
        let mut needed = BTreeMap::<_, Vec<_>>::new();
        for (name, shape) in shapes {
            let (file, stored) = places.need(&name)?;
            file.expect_floats(stored, &shape)?;
            needed.entry((file.path(), stored)).or_default().push((name, shape));
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
            check_twins(&places, config.family, &digests)?;
        }
        unneeded.tell(&places, config);
        let sha256 = hash_of_digests(digests);
        Ok(Self { tensors, device: device.clone(), sha256, family: config.family, no_head })
    }
}

/// A tensor of a model's files, and what the model calls it, if it needs it, with the shape it must have. One that is tied is
/// needed under several names.
struct Job<'a> {
    file: &'a Arc<TensorFile>,
    stored: &'a str,
    needed: Vec<(String, Vec<usize>)>,
}

impl Job<'_> {
    /// How many numbers it has; what nobody needs may have as many as anything.
    fn size(&self) -> usize {
        self.needed.first().map_or(usize::MAX, |(_, shape)| shape.iter().product())
    }

    /// Reads the tensor once: its hash is taken, it is checked to be finite, and kept unless it is read again later.
    fn look_at(self, device: &Device) -> Result<(TensorDigest, Vec<(String, Weight)>)> {
        let Some((_, shape)) = self.needed.first() else {
            return Ok((self.file.digest(self.stored)?, Vec::new()));
        };
        let to_store = |name: &str| if device.is_cpu() { left_in_file(name, shape) } else { None };
        let keeps = self.needed.iter().any(|(name, _)| to_store(name).is_none());
        let kept = if keeps { shape.iter().product() } else { 0 };
        let (mut values, mut seen, mut wrong) = (Vec::with_capacity(kept), 0, None);
        let digest = self.file.scan_f32(self.stored, Some(shape), |piece| {
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
        let tensor = keeps.then(|| Tensor::from_vec(values, shape.as_slice(), device)).transpose()?;
        let weight = |name: &str| match to_store(name) {
            Some(shape) => {
                let file = Arc::clone(self.file);
                Some(Weight::Stored(Stored { file, name: self.stored.into(), shape }))
            }
            None => tensor.clone().map(Weight::Tensor),
        };
        let weights = self.needed.iter().filter_map(|(name, _)| Some((name.clone(), weight(name)?)));
        Ok((digest, weights.collect()))
    }
}

/// A decoder that was stored beside its twin must hold the same: else transformers 5 takes the one, and 4 the other.
fn check_twins(places: &Places<'_>, family: Family, digests: &[TensorDigest]) -> Result<()> {
    let digest = |name: &str| {
        let (_, stored) = places.all().find(|(known, _)| *known == name)?.1;
        digests.iter().find(|digest| digest.name() == stored)
    };
    for (twin, name) in family.twins() {
        if let (Some(found), Some(known)) = (digest(twin), digest(&name))
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

/// The shape of a tensor that stays in its file: a matrix, but for a table that is small.
fn left_in_file(name: &str, shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [rows, columns] if !is_table(name) || rows * columns > LARGE_TABLE => Some([rows, columns]),
        _ => None,
    }
}

/// Whether it is a table of embeddings, and not a matrix that a layer multiplies with.
fn is_table(name: &str) -> bool {
    name.contains(".embeddings.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gradients, NoHook, Pass, Roberta, Scored, Sequences, Tuning};

    #[test]
    fn a_table_in_its_file_gives_the_same_bits() {
        let folder = ModelFolder::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/model")).unwrap();
        let config = folder.config().unwrap();
        let in_memory = Weights::read(&folder, &config, &Device::Cpu).unwrap();
        let name = config.family.embeddings("word_embeddings.weight");
        assert!(in_memory.stored(&name).is_none(), "a small table is in memory");

        let mut in_file = in_memory.clone();
        let [file] = <[_; 1]>::try_from(folder.weight_files().unwrap()).unwrap();
        let shape = [config.vocab_size, config.hidden_size];
        let stored = Stored { file: Arc::new(file), name: name.clone(), shape };
        in_file.tensors.insert(name.clone(), Weight::Stored(stored));
        assert_eq!(in_file.mask_embedding(4).unwrap(), in_memory.mask_embedding(4).unwrap());
        assert!(in_file.mask_embedding(config.vocab_size as u32).is_err());

        let logits = |weights: &Weights| {
            let model = Roberta::new(&config, weights, &Tuning::none(), 4, Gradients::Nothing).unwrap();
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
        let (words, dense) = ("roberta.embeddings.word_embeddings.weight", "lm_head.dense.weight");
        assert_eq!(left_in_file(words, &[50265, 768]), Some([50265, 768]));
        assert_eq!(left_in_file(words, &[1 << 14, 1 << 10]), None);
        assert_eq!(left_in_file(dense, &[2, 3]), Some([2, 3]));
        assert_eq!(left_in_file("lm_head.bias", &[50265]), None);
    }
}
