use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{Device, Tensor};
use serde::Deserialize;
use skn_artifact::{ArtifactError, DType, TensorDigest, TensorFile, hash_of_digests, tensor_hash};

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
/// them in another form. A large table of word embeddings stays there too, and its rows are read when texts have them, until
/// logits of the whole vocabulary are asked for. While the weights or a model made of them live, their files must not be written to (to be replaced does them no harm).
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

    /// Appends some of its rows.
    pub(crate) fn read_rows(&self, rows: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        Ok(self.file.append_f32_rows(&self.name, self.shape, rows, values)?)
    }

    /// Some of its rows, `[rows, width]`.
    fn rows(&self, rows: &[u32]) -> Result<Tensor> {
        let mut values = Vec::with_capacity(rows.len() * self.shape[1]);
        rows.iter().map(|&row| row as usize).try_for_each(|row| self.read_rows(row..row + 1, &mut values))?;
        Ok(Tensor::from_vec(values, (rows.len(), self.shape[1]), &Device::Cpu)?)
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

/// A matrix whose rows are looked up: in memory, or in its file until all of it is asked for.
pub(crate) enum Table {
    Tensor(Tensor),
    Stored(Stored, OnceLock<Tensor>),
}

impl Table {
    pub(crate) fn of(weights: &Weights, name: &str) -> Result<Self> {
        Ok(match weights.stored(name) {
            Some(stored) => Self::Stored(stored.clone(), OnceLock::new()),
            None => Self::Tensor(weights.get(name)?),
        })
    }

    /// The number of rows.
    pub(crate) fn len(&self) -> Result<usize> {
        Ok(match self {
            Self::Tensor(tensor) => tensor.dim(0)?,
            Self::Stored(stored, _) => stored.shape[0],
        })
    }

    /// Some rows, `[rows, width]`.
    pub(crate) fn rows(&self, rows: &[u32]) -> Result<Tensor> {
        let tensor = match self {
            Self::Tensor(tensor) => tensor,
            Self::Stored(stored, read) => match read.get() {
                Some(tensor) => tensor,
                None => return stored.rows(rows),
            },
        };
        Ok(tensor.index_select(&Tensor::new(rows, tensor.device())?, 0)?)
    }

    /// One row, `[1, width]`, which goes on being that of a table that trains.
    pub(crate) fn row(&self, row: u32) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.narrow(0, row as usize, 1)?),
            Self::Stored(..) => self.rows(&[row]),
        }
    }

    /// All rows, which stay in memory from then on.
    pub(crate) fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.clone()),
            Self::Stored(stored, read) => match read.get() {
                Some(tensor) => Ok(tensor.clone()),
                None => {
                    let tensor = stored.read()?;
                    Ok(read.get_or_init(|| tensor).clone())
                }
            },
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
        let places = places(&files, config.family);
        let no_head = (!has_head(config, |name| places.contains_key(name)))
            .then(|| NoHead { file: file_of(folder, &files), tensor: head_shapes(config)[0].0.clone() });
        let mut needed = BTreeMap::new();
        for (name, shape) in needed_shapes(config, no_head.is_none()) {
            let Some((file, stored)) = places.get(name.as_str()) else {
                return Err(missing_tensor(file_of(folder, &files), &name));
            };
            file.expect_floats(stored, &shape)?;
            needed.insert((file.path(), *stored), (name, shape));
        }
        let all = files.iter().flat_map(|file| file.names().map(move |name| (file, name)));
        let jobs =
            all.map(|(file, stored)| Job { file, stored, needed: needed.remove(&(file.path(), stored)) });
        let mut tensors = BTreeMap::new();
        let mut digests = Vec::new();
        for looked_at in on_all_processors(jobs.collect(), |job| job.look_at(device)) {
            let (digest, weight) = looked_at?;
            digests.push(digest);
            tensors.extend(weight);
        }
        let sha256 = hash_of_digests(digests);
        Ok(Self { tensors, device: device.clone(), sha256, family: config.family, no_head })
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

/// A tensor of a model's files, and what the model calls it, if it needs it, with the shape it must have.
struct Job<'a> {
    file: &'a Arc<TensorFile>,
    stored: &'a str,
    needed: Option<(String, Vec<usize>)>,
}

impl Job<'_> {
    /// Reads the tensor once: its hash is taken, it is checked to be finite, and kept unless it is read again later.
    fn look_at(self, device: &Device) -> Result<(TensorDigest, Option<(String, Weight)>)> {
        let Some((name, shape)) = self.needed else { return Ok((self.file.digest(self.stored)?, None)) };
        let to_store = if device.is_cpu() { left_in_file(&name, &shape) } else { None };
        let kept = if to_store.is_none() { shape.iter().product() } else { 0 };
        let (mut values, mut seen, mut wrong) = (Vec::with_capacity(kept), 0, None);
        let digest = self.file.scan_f32(self.stored, Some(&shape), |piece| {
            if wrong.is_none() {
                wrong = not_finite(piece).map(|place| (seen + place, piece[place]));
            }
            seen += piece.len();
            if to_store.is_none() {
                values.extend_from_slice(piece);
            }
        })?;
        if let Some((place, value)) = wrong {
            return Err(infinite(self.file.path(), self.stored, place, value));
        }
        let weight = match to_store {
            Some(shape) => {
                Weight::Stored(Stored { file: Arc::clone(self.file), name: self.stored.into(), shape })
            }
            None => Weight::Tensor(Tensor::from_vec(values, shape, device)?),
        };
        Ok((digest, Some((name, weight))))
    }
}

/// What `work` gives for each job, in order; up to eight processors take the largest of those that are left, one after another. What
/// nobody needs may be as large as anything.
fn on_all_processors<T: Send>(jobs: Vec<Job<'_>>, work: impl Fn(Job<'_>) -> T + Sync) -> Vec<T> {
    let mut numbered: Vec<_> = jobs.into_iter().enumerate().collect();
    let size = |job: &Job<'_>| job.needed.as_ref().map_or(usize::MAX, |(_, shape)| shape.iter().product());
    numbered.sort_by_key(|(_, job)| size(job));
    let threads =
        std::thread::available_parallelism().map_or(1, |count| count.get().min(8).min(numbered.len()));
    let (left, done) = (Mutex::new(numbered), Mutex::new(Vec::new()));
    let share = || {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((number, job)) = next else { return };
            let result = work(job);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
    };
    std::thread::scope(|scope| {
        // Where the system gives no thread, the others do its share.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, share).ok();
        let others: Vec<_> = (1..threads).filter_map(spawn).collect();
        share();
        others.into_iter().for_each(|other| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
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
    not_finite(values).map_or(Ok(()), |place| Err(infinite(file, tensor, place, values[place])))
}

/// The place of the first number that is NaN or infinite.
fn not_finite(values: &[f32]) -> Option<usize> {
    // A sum of `0 x` is 0 or NaN, and unlike a search it is computed sixteen values at a time.
    let mut lanes = [0f32; 16];
    for chunk in values.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * 0.0;
        }
    }
    let finite = lanes.iter().all(|lane| *lane == 0.0);
    if finite { None } else { values.iter().position(|value| !value.is_finite()) }
}

fn infinite(file: &Path, tensor: &str, place: usize, value: f32) -> ModelError {
    ModelError::Weight {
        file: file.into(),
        tensor: tensor.into(),
        expected: "finite numbers".into(),
        found: format!("{value} at element {place}"),
    }
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
        let words = Table::of(self, &self.family.embeddings("word_embeddings.weight"))?;
        let vocabulary = words.len()?;
        if mask as usize >= vocabulary {
            let expected = format!("less than vocab_size {vocabulary}");
            return Err(ModelError::input("id of the <mask> token", expected, mask));
        }
        Ok(words.row(mask)?.flatten_all()?.to_vec1()?)
    }
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

    #[test]
    fn jobs_are_done_once_and_results_are_in_order() {
        let folder = ModelFolder::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/model")).unwrap();
        let file = Arc::new(folder.weight_files().unwrap().remove(0));
        let job = |stored| Job { file: &file, stored, needed: None };
        let names = on_all_processors(file.names().map(job).collect(), |job| job.stored.to_owned());
        assert_eq!(names, file.names().collect::<Vec<_>>());
        assert!(on_all_processors(Vec::new(), |_| ()).is_empty());
    }
}
