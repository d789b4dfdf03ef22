use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::lost::missing;
use super::source::Source;
use crate::architecture::Names;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::folder::ModelFolder;

/// A tensor of a model's files, by its name there.
pub(super) type Place<'a> = (&'a Arc<Source>, &'a str);

/// Where the tensors of a model are, by the names that this crate gives them.
pub(super) struct Places<'a> {
    names: &'static Names,
    files: &'a [Arc<Source>],
    of: BTreeMap<String, Vec<Place<'a>>>,
    /// The file whose lack of a tensor is to be told.
    pub(super) file: PathBuf,
}

impl<'a> Places<'a> {
    pub(super) fn new(folder: &ModelFolder, files: &'a [Arc<Source>], config: &Config) -> Self {
        let names = config.family.names();
        let mut of = BTreeMap::<_, Vec<_>>::new();
        for file in files {
            for stored in file.names() {
                of.entry(file.canonical(stored, names)).or_default().push((file, stored));
            }
        }
        let file = match files {
            [only] => only.path().to_path_buf(),
            _ => folder.place().join("model.safetensors.index.json"),
        };
        let mut places = Self { names, files, of, file };
        places.find_twins(config);
        places
    }

    /// One tensor under two names is often stored once. Which name stays is up to who saved it: `safetensors.torch.save_model`
    /// keeps the first in the alphabet, and notes under each other name whose twin it is. transformers knows its ties anyway.
    fn find_twins(&mut self, config: &Config) {
        for file in self.files {
            for (twin, kept) in file.twins() {
                if let Some(kept) = file.stored_name(kept) {
                    self.of.entry(self.names.canonical(twin)).or_insert_with(|| vec![(file, kept)]);
                }
            }
        }
        for (twin, name) in config.twins() {
            if let (Some(place), false) = (self.of.get(*twin).cloned(), self.has(name)) {
                self.of.insert((*name).to_owned(), place);
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.of.contains_key(name)
    }

    /// Every name with the place of its tensor.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Place<'a>)> {
        self.of.iter().flat_map(|(name, places)| places.iter().map(move |&place| (name.as_str(), place)))
    }

    /// The place of a tensor that the model needs.
    ///
    /// # Errors
    /// If it is nowhere, or there are two that could be it.
    pub(super) fn need(&self, name: &str) -> Result<Place<'a>> {
        match self.of.get(name).map_or(&[][..], Vec::as_slice) {
            [place] => Ok(*place),
            [] => Err(missing(&self.file, name, self.files, self.names)),
            [(_, stored), (file, other), ..] => {
                let found =
                    format!("`{other}` in {} too, which is the same parameter", file.path().display());
                Err(ModelError::weight(&self.file, stored, "one tensor of this name", found))
            }
        }
    }
}
