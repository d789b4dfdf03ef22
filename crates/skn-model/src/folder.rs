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

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use skn_artifact::names::file;
use skn_artifact::{
    ArtifactError, Foreign, GgufFile, Overwrite, TensorFile, Wanted, copy_file, is_file, is_folder, is_there,
    parse_json, read_regular, real_path, sha256_hex, write_file,
};
use skn_hub::Snapshot;

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::gguf::{Beside, config_json};

/// The file that makes the others beside a GGUF file belong to its model.
const TOKENIZER: &str = "tokenizer.json";

/// What the model in the program itself is called.
const EMBEDDED: &str = "demo";

/// A configuration, a vocabulary or whatever lies beside the weights is not larger.
const MOST_BESIDE: u64 = 1 << 28;

/// A model in Hugging Face form: a folder on disk, or files embedded in the program.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    id: String,
    place: PathBuf,
    embedded: Option<&'static [(&'static str, &'static [u8])]>,
    gguf: Option<Arc<GgufFile>>,
}

impl ModelFolder {
    /// A folder on disk. Its id is its last component, and `./demo` where that is `demo`, as the embedded model is called. Links
    /// in it are followed wherever they lead; in a snapshot of the Hugging Face cache they stay inside its repository's folder.
    ///
    /// # Errors
    /// If there is no such folder, or it has no `config.json`.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let place: PathBuf = folder.into();
        let name = real_path(&place)?.unwrap_or_else(|| place.clone());
        let id = name.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        let folder = Self { id: apart(id), place, embedded: None, gguf: None };
        match folder.path(file::CONFIG)? {
            Some(path) if is_file(&path)? => Ok(folder),
            _ if is_folder(&folder.place)? => {
                let usual = || folder.lacks(file::CONFIG, "a model folder in Hugging Face form has one");
                Err(folder.lacks_but_gguf(file::CONFIG).unwrap_or_else(usual))
            }
            _ => Err(folder.missing(file::CONFIG, "there is no such folder")),
        }
    }

    /// A GGUF file: a model in one file, as llama.cpp has it. Its id is the file's name without `.gguf`, as of a folder. What it says
    /// of the model stands for `config.json`; one beside it may say more. A `tokenizer.json` beside it, and what belongs to that, is a file of
    /// the folder too.
    ///
    /// # Errors
    /// If it can't be read, or its header contradicts itself.
    pub fn open_gguf(file: impl Into<PathBuf>) -> Result<Self> {
        let place: PathBuf = file.into();
        skn_hub::follow(&place, &place)?;
        let gguf = GgufFile::open(&place)?;
        let id = place.file_stem().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        Ok(Self { id: apart(id), place, embedded: None, gguf: Some(Arc::new(gguf)) })
    }

    /// The file, if the model is in a GGUF file.
    pub fn gguf(&self) -> Option<&Arc<GgufFile>> {
        self.gguf.as_ref()
    }

    /// Files that lie in the program itself.
    pub fn embedded(id: &str, files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self { id: id.into(), place: PathBuf::from(format!("({id})")), embedded: Some(files), gguf: None }
    }

    /// Where its files are: the folder, or a GGUF file and those that may stand beside it. Nowhere if they lie in the program itself.
    pub fn places(&self) -> Vec<PathBuf> {
        match (&self.embedded, &self.gguf) {
            (Some(_), _) => Vec::new(),
            (None, None) => vec![self.place.clone()],
            (None, Some(_)) => {
                let beside = file::MODEL.iter().map(|name| self.root().join(name));
                std::iter::once(self.place.clone()).chain(beside).collect()
            }
        }
    }

    /// Whether its files lie in the program itself.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// The same folder under another id, such as `owner/name` for one in a cache.
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// What artifacts call this model: `owner/name`, or the folder's last component. Never where it lies.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the folder is, or the GGUF file, for messages; in brackets if it is embedded.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The bytes of a file, or `None` if the folder has none of that name.
    ///
    /// # Errors
    /// If the name leads out of the folder, the file is a link to nothing, or it can't be read.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        if let Some(files) = self.embedded {
            let found = files.iter().find(|(file, _)| *file == name);
            return Ok(found.map(|(_, bytes)| Cow::Borrowed(*bytes)));
        }
        if let Some(gguf) = &self.gguf {
            if name == file::CONFIG {
                return self.config_of(gguf).map(|json| Some(Cow::Owned(json)));
            }
            if self.path(TOKENIZER)?.is_none() {
                return Ok(None);
            }
        }
        self.file_on_disk(name)
    }

    fn file_on_disk(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        let Some(path) = self.path(name)? else { return Ok(None) };
        match read_regular(&path, MOST_BESIDE) {
            Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.missing(name, &error.to_string())),
        }
    }

    /// Copies a file of the folder, of any size, to a place where another may be. Its SHA-256, or `None` if the folder has none of
    /// that name.
    ///
    /// # Errors
    /// As [`Self::file`], or that it can't be written.
    pub fn copy(&self, name: &str, to: &Path) -> Result<Option<String>> {
        if self.embedded.is_some() {
            let Some(bytes) = self.file(name)? else { return Ok(None) };
            write_file(to, Overwrite::Replace, &bytes)?;
            return Ok(Some(sha256_hex(&bytes)));
        }
        match self.path(name)? {
            Some(path) if is_file(&path)? => Ok(Some(copy_file(&path, to, Overwrite::Replace)?)),
            _ => Ok(None),
        }
    }

    /// The checked `config.json`.
    ///
    /// # Errors
    /// If it is missing, or not the configuration of a model that this crate computes.
    pub fn config(&self) -> Result<Config> {
        let bytes =
            self.file(file::CONFIG)?.ok_or_else(|| self.lacks(file::CONFIG, "every model needs it"))?;
        let said_by = if self.gguf.is_some() { self.place.clone() } else { self.place.join(file::CONFIG) };
        Config::from_json(&bytes, &said_by)
    }

    /// What a GGUF file, and a `config.json` beside it, say of the model.
    fn config_of(&self, gguf: &GgufFile) -> Result<Vec<u8>> {
        let bytes = self.file_on_disk(file::CONFIG)?;
        let path = self.root().join(file::CONFIG);
        config_json(gguf, bytes.as_deref().map(|bytes| Beside { path, bytes }))
    }

    /// The folder that files lie in.
    fn root(&self) -> &Path {
        match (&self.gguf, self.place.parent()) {
            (Some(_), Some(parent)) => parent,
            _ => &self.place,
        }
    }

    /// The weights' files: one `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    pub(crate) fn weight_files(&self) -> Result<Vec<TensorFile>> {
        if let Some(file) = self.tensor_file(file::WEIGHTS)? {
            return Ok(vec![file]);
        }
        let index = "model.safetensors.index.json";
        let Some(bytes) = self.file(index)? else { return Err(self.no_weights()) };
        let expected = "an object whose weight_map says for each tensor the file's name";
        let index: ShardIndex = parse_json(&self.place.join(index), &bytes, expected)?;
        let shards: BTreeSet<&String> = index.weight_map.values().collect();
        let open = |shard: &String| {
            self.tensor_file(shard)?.ok_or_else(|| self.lacks(shard, "the shard index names it"))
        };
        shards.into_iter().map(open).collect()
    }

    /// A file of tensors, which are read when they are asked for, or `None` if the folder has none of that name.
    fn tensor_file(&self, name: &str) -> Result<Option<TensorFile>> {
        if self.embedded.is_some() {
            let (path, bytes) = (self.place.join(name), self.file(name)?);
            return Ok(bytes.map(|bytes| TensorFile::from_bytes(&path, bytes)).transpose()?);
        }
        let Some(path) = self.path(name)? else { return Ok(None) };
        match TensorFile::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(ArtifactError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The path of a file on disk, which may be a link; nothing if there is none.
    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.contains('\0') {
            return Err(self.missing(name, "a file name must stay inside the folder"));
        }
        let root = self.root();
        let path = root.join(name);
        let named = if root == Path::new("") { Path::new(".") } else { root };
        Ok(skn_hub::follow(named, &path)?.map(|_| path))
    }

    fn no_weights(&self) -> ModelError {
        let pickled = self.place.join("pytorch_model.bin");
        let expected = "model.safetensors or model.safetensors.index.json";
        if let Some(error) = self.lacks_but_gguf(expected) {
            return error;
        }
        // For a hint, which may be another.
        if !is_there(&pickled).unwrap_or(false) {
            return self.lacks(expected, "save the model with safe_serialization=True");
        }
        if let Some(pointer @ Foreign::LfsPointer) = Foreign::of_file(&pickled) {
            let told = pointer.told(Wanted::Tensors);
            return self
                .missing(expected, &format!("pytorch_model.bin is {told}; a model.safetensors is read"));
        }
        let hint = "pytorch_model.bin is a pickle, which may run code and is not read; convert it in Python: \
                    AutoModelForMaskedLM.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)";
        self.missing(expected, hint)
    }

    /// The error for what is not in the folder. `hint` says what to do about it, unless the folder is a snapshot of the
    /// Hugging Face cache: of that a part may not have been fetched.
    pub fn lacks(&self, expected: &str, hint: &str) -> ModelError {
        let snapshot = self.place.canonicalize().ok().and_then(|place| Snapshot::around(&place));
        match snapshot {
            Some(snapshot) => self.missing(expected, &snapshot.remedy()),
            None => self.missing(expected, hint),
        }
    }

    /// The error for what is not in the folder, if there are GGUF files in it.
    fn lacks_but_gguf(&self, expected: &str) -> Option<ModelError> {
        let is_gguf = |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
        let entries = self.place.read_dir().ok()?.flatten().map(|entry| entry.path());
        let mut found: Vec<String> = entries
            .filter(|path| is_gguf(path))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        found.sort();
        let first = found.first()?;
        let what =
            if found.len() == 1 { "which is a model" } else { "among others, each of which is a model" };
        let path = self.place.join(first);
        let hint = format!("there is {first}, {what} by itself: name the file, {}", path.display());
        Some(self.missing(expected, &hint))
    }

    fn missing(&self, expected: &str, hint: &str) -> ModelError {
        ModelError::MissingFile { folder: self.place.clone(), expected: expected.into(), hint: hint.into() }
    }
}

/// The id of a model on disk, which is never taken for that of the embedded one.
fn apart(id: String) -> String {
    if id == EMBEDDED { format!("./{id}") } else { id }
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is pruned from it is known by its id alone.
    #[test]
    fn a_folder_is_never_called_as_the_embedded_model() {
        let place = tempfile::tempdir().unwrap();
        for (name, id) in [("demo", "./demo"), ("demos", "demos")] {
            let folder = place.path().join(name);
            write_file(&folder.join(file::CONFIG), Overwrite::Refuse, b"{}").unwrap();
            assert_eq!(ModelFolder::open(&folder).unwrap().id(), id);
        }
        assert_eq!(ModelFolder::embedded("demo", &[]).id(), "demo");
    }
}
