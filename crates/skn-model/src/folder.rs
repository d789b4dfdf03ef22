use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::Deserialize;
use skn_artifact::{ArtifactError, DType, TensorFile, file_hash, tensor_hash};

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::family::Family;

/// A model in Hugging Face form: a folder on disk, or files embedded in the program.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    id: String,
    place: PathBuf,
    embedded: Option<&'static [(&'static str, &'static [u8])]>,
}

impl ModelFolder {
    /// A folder on disk. Its id is its last component.
    ///
    /// # Errors
    /// If there is no such folder, or it has no `config.json`.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let place: PathBuf = folder.into();
        let name = place.canonicalize().unwrap_or_else(|_| place.clone());
        let id = name.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
        let folder = Self { id, place, embedded: None };
        if folder.place.join("config.json").is_file() {
            return Ok(folder);
        }
        let hint = if folder.place.is_dir() {
            "a model folder in Hugging Face form has one"
        } else {
            "there is no such folder"
        };
        Err(folder.missing("config.json", hint))
    }

    /// Files that lie in the program itself.
    pub fn embedded(id: &str, files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self { id: id.into(), place: PathBuf::from(format!("({id})")), embedded: Some(files) }
    }

    /// Whether its files lie in the program itself.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// The same folder under another id, such as `owner/name` for one in a cache.
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// What artifacts call this model: `owner/name`, or the folder's last component. Never a path.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the folder is, for messages; in brackets if it is embedded.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The bytes of a file, or `None` if the folder has none of that name.
    ///
    /// # Errors
    /// If the name leads out of the folder, or the file can't be read.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        if let Some(files) = self.embedded {
            let found = files.iter().find(|(file, _)| *file == name);
            return Ok(found.map(|(_, bytes)| Cow::Borrowed(*bytes)));
        }
        self.check_name(name)?;
        let path = self.place.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.missing(name, &error.to_string())),
        }
    }

    /// The checked `config.json`.
    ///
    /// # Errors
    /// If it is missing, or not the configuration of a model that this crate computes.
    pub fn config(&self) -> Result<Config> {
        let bytes =
            self.file("config.json")?.ok_or_else(|| self.missing("config.json", "every model needs it"))?;
        Config::from_json(&bytes, &self.place.join("config.json"))
    }

    /// The weights' files: one `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    fn weight_files(&self) -> Result<Vec<TensorFile>> {
        if let Some(file) = self.tensor_file("model.safetensors")? {
            return Ok(vec![file]);
        }
        let index = "model.safetensors.index.json";
        let Some(bytes) = self.file(index)? else { return Err(self.no_weights()) };
        let index: ShardIndex = serde_json::from_slice(&bytes).map_err(|error| ModelError::Config {
            file: self.place.join(index),
            field: "weight_map".into(),
            expected: "an object from tensor names to file names".into(),
            found: error.to_string(),
        })?;
        let shards: std::collections::BTreeSet<&String> = index.weight_map.values().collect();
        let open = |shard: &String| {
            self.tensor_file(shard)?.ok_or_else(|| self.missing(shard, "the shard index names it"))
        };
        shards.into_iter().map(open).collect()
    }

    /// A file of tensors, which are read when they are asked for, or `None` if the folder has none of that name.
    fn tensor_file(&self, name: &str) -> Result<Option<TensorFile>> {
        let path = self.place.join(name);
        if self.embedded.is_some() {
            let bytes = self.file(name)?;
            return Ok(bytes.map(|bytes| TensorFile::from_bytes(&path, bytes)).transpose()?);
        }
        self.check_name(name)?;
        match TensorFile::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(ArtifactError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn check_name(&self, name: &str) -> Result<()> {
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if plain && !name.contains('\0') {
            return Ok(());
        }
        Err(self.missing(name, "a file name must stay inside the folder"))
    }

    fn no_weights(&self) -> ModelError {
        let pickled = self.place.join("pytorch_model.bin");
        let hint = if pickled.exists() {
            "pytorch_model.bin is a pickle, which may run code and is not read; convert it in Python: \
             AutoModelForMaskedLM.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)"
        } else {
            "save the model with safe_serialization=True"
        };
        self.missing("model.safetensors or model.safetensors.index.json", hint)
    }

    fn missing(&self, expected: &str, hint: &str) -> ModelError {
        ModelError::MissingFile { folder: self.place.clone(), expected: expected.into(), hint: hint.into() }
    }
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The weights of a model on a device, by their Hugging Face names, as f32.
///
/// On the CPU the matrices of dense layers stay in their files until they are asked for: a [`Roberta`](crate::Roberta) keeps
/// them in another form. While the weights live, their files must not be written to (to be replaced does them no harm).
///
/// A model may come without its masked-LM head: as an encoder it has neurons to look at, but no logits.
///
/// Cloning is cheap: tensors are shared.
#[derive(Clone, Debug)]
pub struct Weights {
    tensors: BTreeMap<String, Weight>,
    device: Device,
    sha256: String,
    family: Family,
    no_head: Option<NoHead>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    Tensor(Tensor),
    Stored(Stored),
}

/// A tensor in a file, for the CPU. It has been read once, so shape and values are known to be right.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    file: Arc<TensorFile>,
    name: String,
    shape: [usize; 2],
}

impl Stored {
    pub(crate) fn shape(&self) -> [usize; 2] {
        self.shape
    }

    pub(crate) fn read(&self) -> Result<Tensor> {
        let (shape, values) = self.file.f32(&self.name, Some(&self.shape))?;
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}

impl Weight {
    fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Stored(stored) => stored.read(),
        }
    }
}

/// Where a masked-LM head was looked for.
#[derive(Clone, Debug)]
pub(crate) struct NoHead {
    file: PathBuf,
    tensor: String,
}

impl NoHead {
    pub(crate) fn error(&self) -> ModelError {
        let hint = "nothing: the model has no masked-LM head, so it gives no logits to tune or to answer by; \
                    use a checkpoint that has one (AutoModelForMaskedLM in Python), or probe it with acc_mean and acc_max";
        ModelError::Weight {
            file: self.file.clone(),
            tensor: self.tensor.clone(),
            expected: "a tensor".into(),
            found: hint.into(),
        }
    }
}

impl Weights {
    /// Reads the weights that `config` asks for, each checked against its shape before it is made, and each value
    /// checked to be finite.
    ///
    /// Old names (`gamma`, `beta`) and those of an encoder saved alone (no `roberta.` or `bert.`) are accepted; what a
    /// masked language model does not need (`pooler`, `position_ids`, a copy of the tied decoder) is passed over. All of
    /// the masked-LM head may be missing: [`Self::require_head`] is for those who need it.
    ///
    /// # Errors
    /// Names the file and the tensor that is missing, has another shape, or holds NaN or infinity.
    pub fn read(folder: &ModelFolder, config: &Config, device: &Device) -> Result<Self> {
        let files: Vec<_> = folder.weight_files()?.into_iter().map(Arc::new).collect();
        // Hashing takes as long as all the rest, and nothing here waits for it.
        let (sha256, read) = std::thread::scope(|scope| {
            let sha256 = scope.spawn(|| file_hash(files.iter().map(Arc::as_ref)));
            let read = Self::read_tensors(folder, &files, config, device);
            (sha256.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), read)
        });
        let (tensors, no_head) = read?;
        let sha256 = sha256?;
        Ok(Self { tensors, device: device.clone(), sha256, family: config.family, no_head })
    }

    fn read_tensors(
        folder: &ModelFolder,
        files: &[Arc<TensorFile>],
        config: &Config,
        device: &Device,
    ) -> Result<(BTreeMap<String, Weight>, Option<NoHead>)> {
        let places = places(files, config.family);
        let no_head = (!has_head(config, |name| places.contains_key(name)))
            .then(|| NoHead { file: file_of(folder, files), tensor: head_shapes(config)[0].0.clone() });
        let mut tensors = BTreeMap::new();
        let mut scratch = Vec::new();
        for (name, shape) in needed_shapes(config, no_head.is_none()) {
            let Some((file, stored)) = places.get(name.as_str()) else {
                return Err(missing_tensor(file_of(folder, files), &name));
            };
            let read = |values: &mut Vec<f32>| {
                file.f32_into(stored, Some(&shape), values)?;
                check_finite(file.path(), stored, values)
            };
            let weight = match shape[..] {
                [outputs, inputs] if device.is_cpu() && !is_table(&name) => {
                    read(&mut scratch)?;
                    let (file, name) = (Arc::clone(file), (*stored).to_owned());
                    Weight::Stored(Stored { file, name, shape: [outputs, inputs] })
                }
                _ => {
                    let mut values = Vec::new();
                    read(&mut values)?;
                    Weight::Tensor(Tensor::from_vec(values, shape, device)?)
                }
            };
            tensors.insert(name, weight);
        }
        Ok((tensors, no_head))
    }

    /// Weights made by the caller, with or without the masked-LM head.
    ///
    /// # Errors
    /// If a tensor of `config` is missing or has another shape.
    pub fn from_tensors(config: &Config, mut tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let mut kept = BTreeMap::new();
        let no_head = (!has_head(config, |name| tensors.contains_key(name)))
            .then(|| NoHead { file: "(in memory)".into(), tensor: head_shapes(config)[0].0.clone() });
        for (name, shape) in needed_shapes(config, no_head.is_none()) {
            let tensor =
                tensors.remove(&name).ok_or_else(|| ModelError::input(&name, "a tensor", "nothing"))?;
            if tensor.dims() != shape {
                return Err(ModelError::input(&name, format!("{shape:?}"), format!("{:?}", tensor.dims())));
            }
            kept.insert(name, tensor);
        }
        let family = config.family;
        let words = kept.get(&family.embeddings("word_embeddings.weight"));
        let device = words.map_or(Device::Cpu, |words| words.device().clone());
        let sha256 = hash_of_values(kept.iter().map(|(name, tensor)| (name.as_str(), tensor)))?;
        let tensors = kept.into_iter().map(|(name, tensor)| (name, Weight::Tensor(tensor))).collect();
        Ok(Self { tensors, device, sha256, family, no_head })
    }

    /// The tensor of a name; read anew if it stayed in its file.
    ///
    /// # Errors
    /// If the model has none of that name, or it can't be read.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        self.weight(name)?.tensor()
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
        self.tensors.iter().map(|(name, weight)| Ok((name.clone(), weight.tensor()?))).collect()
    }

    /// `skn.model_sha256` of the files the weights came from: the same for one file and for shards.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

/// The [`tensor_hash`] of tensors of 32-bit floats.
pub(crate) fn hash_of_values<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<String> {
    let mut stored = Vec::new();
    for (name, tensor) in tensors {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        stored.push((name, tensor.dims(), bytes));
    }
    Ok(tensor_hash(stored.iter().map(|(name, shape, bytes)| (*name, DType::F32, *shape, bytes.as_slice()))))
}

/// Every tensor of a masked language model of this configuration, with its shape.
pub fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    needed_shapes(config, true).collect()
}

/// Those of the encoder, and of the head if it is there.
fn needed_shapes(config: &Config, head: bool) -> impl Iterator<Item = (String, Vec<usize>)> {
    let head = if head { head_shapes(config) } else { Vec::new() };
    encoder_shapes(config).into_iter().chain(head)
}

/// Whether there is any tensor of the head: if there is, all must be.
fn has_head(config: &Config, has: impl Fn(&str) -> bool) -> bool {
    head_shapes(config).iter().any(|(name, _)| has(name))
}

fn encoder_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, family) = (config.hidden_size, config.family);
    let table = |part: &str, rows: usize| (family.embeddings(&format!("{part}.weight")), vec![rows, hidden]);
    let mut all = vec![
        table("word_embeddings", config.vocab_size),
        table("position_embeddings", config.max_position_embeddings),
        table("token_type_embeddings", config.type_vocab_size),
    ];
    push_norm(&mut all, &family.embeddings("LayerNorm"), hidden);
    for (index, &width) in config.intermediate_sizes.iter().enumerate() {
        let layer = family.layer(index);
        for projection in ["self.query", "self.key", "self.value", "output.dense"] {
            push_dense(&mut all, &format!("{layer}.attention.{projection}"), [hidden, hidden]);
        }
        push_norm(&mut all, &format!("{layer}.attention.output.LayerNorm"), hidden);
        push_dense(&mut all, &format!("{layer}.intermediate.dense"), [width, hidden]);
        push_dense(&mut all, &format!("{layer}.output.dense"), [hidden, width]);
        push_norm(&mut all, &format!("{layer}.output.LayerNorm"), hidden);
    }
    all
}

fn head_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, family) = (config.hidden_size, config.family);
    let mut all = Vec::new();
    push_dense(&mut all, family.head_dense(), [hidden, hidden]);
    push_norm(&mut all, family.head_norm(), hidden);
    all.push((family.head_bias().into(), vec![config.vocab_size]));
    all
}

fn push_norm(all: &mut Vec<(String, Vec<usize>)>, name: &str, width: usize) {
    all.push((format!("{name}.weight"), vec![width]));
    all.push((format!("{name}.bias"), vec![width]));
}

fn push_dense(all: &mut Vec<(String, Vec<usize>)>, name: &str, [outputs, inputs]: [usize; 2]) {
    all.push((format!("{name}.weight"), vec![outputs, inputs]));
    all.push((format!("{name}.bias"), vec![outputs]));
}

/// The name under which this crate knows a stored tensor.
fn canonical(stored: &str, family: Family) -> String {
    let name = stored.replace(".gamma", ".weight").replace(".beta", ".bias");
    let bare = ["embeddings.", "encoder."].iter().any(|prefix| name.starts_with(prefix));
    if bare { format!("{}.{name}", family.prefix()) } else { name }
}

/// Whether it is a table of embeddings, and not a matrix that a layer multiplies with.
fn is_table(name: &str) -> bool {
    name.contains(".embeddings.")
}

fn places(files: &[Arc<TensorFile>], family: Family) -> BTreeMap<String, (&Arc<TensorFile>, &str)> {
    let all =
        files.iter().flat_map(|file| file.names().map(move |name| (canonical(name, family), (file, name))));
    all.collect()
}

/// The file whose lack of a tensor is to be told.
fn file_of(folder: &ModelFolder, files: &[Arc<TensorFile>]) -> PathBuf {
    match files {
        [only] => only.path().to_path_buf(),
        _ => folder.place().join("model.safetensors.index.json"),
    }
}

fn missing_tensor(file: PathBuf, name: &str) -> ModelError {
    ModelError::Weight { file, tensor: name.into(), expected: "a tensor".into(), found: "nothing".into() }
}

pub(crate) fn check_finite(file: &Path, tensor: &str, values: &[f32]) -> Result<()> {
    // A sum of `0 x` is 0 or NaN, and unlike a search it is computed sixteen values at a time.
    let mut lanes = [0f32; 16];
    for chunk in values.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * 0.0;
        }
    }
    if lanes.iter().all(|lane| *lane == 0.0) {
        return Ok(());
    }
    let place = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
    Err(ModelError::Weight {
        file: file.into(),
        tensor: tensor.into(),
        expected: "finite numbers".into(),
        found: format!("{} at element {place}", values.get(place).copied().unwrap_or(f32::NAN)),
    })
}

impl Weights {
    /// The device that the weights are for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The word embedding of the `<mask>` token, `hidden` numbers.
    ///
    /// # Errors
    /// If the token is not in the vocabulary.
    pub fn mask_embedding(&self, mask: u32) -> Result<Vec<f32>> {
        let words = self.get(&self.family.embeddings("word_embeddings.weight"))?;
        let vocabulary = words.dim(0)?;
        if mask as usize >= vocabulary {
            let expected = format!("less than vocab_size {vocabulary}");
            return Err(ModelError::input("id of the <mask> token", expected, mask));
        }
        Ok(words.get(mask as usize)?.to_vec1()?)
    }
}
