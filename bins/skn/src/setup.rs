//! What every stage that computes begins with: the task, its data, the model and its tuning.

use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use skn_artifact::{ModelIdentity, PartRecord, SkillConfig, SplitRecord, VerbalizerRecord};
use skn_data::{
    DataError, Dataset, Encoded, Example, Join, PartIndex, SplitIndex, Splits, Task, TextEncoder, Verbalizer,
    part_hash, read_dataset, split, split_with,
};
use skn_model::{Gradients, Method, ModelFolder, Roberta, Tuning, Weights};
use skn_probing::{Metadata, PassOptions, Progress, Workers};

use crate::cli::{Compat, Compute, ModelType, PROMPT_SIZE, Subject, Tuned};
use crate::exit::Failure;
use crate::run::{Sink, Source};
use crate::source::{self, DEFAULT_MODEL, DEMO, Model};

/// The task of a command line that names none and resumes from none.
const DEFAULT_TASK: &str = "sst2";

/// AdapterHub's reduction of the hidden size, as in the published implementation.
const ADAPTER_REDUCTION: usize = 16;

/// Everything a stage computes with, read and checked.
pub struct Setup {
    /// The task, with the words that answer it.
    pub task: Task,
    /// Its rows.
    pub splits: Splits,
    /// The model's tokenizer.
    pub encoder: TextEncoder,
    /// The token of each class.
    pub verbalizer: Verbalizer,
    /// The model as it was read.
    pub model: Model,
    /// Its identity in artifacts.
    pub identity: ModelIdentity,
    /// What is resumed from.
    pub source: Option<Source>,
    /// The threads.
    pub workers: Workers,
    /// Where the model lies.
    pub device: Device,
    model_name: String,
    data: Option<PathBuf>,
    task_file: Option<PathBuf>,
    seed: u64,
    join: Join,
    max_length: Option<usize>,
}

impl Setup {
    /// Reads and checks what the flags name.
    ///
    /// # Errors
    /// If something is missing, damaged, or does not fit the rest.
    pub fn load(subject: &Subject, compute: &Compute, tuned: &Tuned) -> Result<Self> {
        let source = tuned.resume_from.as_deref().map(Source::open).transpose()?;
        if tuned.from_pretrained && source.is_none() {
            return Err(Failure::usage("-p loads tuned parameters: say from where, with --resume_from RUN"));
        }
        let named = ModelName::of(subject, source.as_ref());
        let (task, task_file) = find_task(subject, source.as_ref(), &named)?;
        let task = with_words(task, subject, tuned, source.as_ref())?;
        let device = source::device(compute.device)?;
        let workers = Workers::new(compute.thread_count())?;
        let data = subject.data.clone().or_else(|| recorded(source.as_ref(), "data").map(PathBuf::from));
        // Data are read before the model: a mistyped path should not cost the time that weights take.
        let dataset = read_data(&task, data.as_deref())?;
        let splits = divide(dataset, &task, compute.seed, source.as_ref())?;
        report_unlabelled(&splits);
        let model = Model::read(named.folder()?, &device)?;
        let encoder = read_tokenizer(&model.folder)?;
        check_vocabulary(&model, &encoder)?;
        let verbalizer = encoder.verbalizer(&task.labels)?;
        for (word, token) in verbalizer.cut_words() {
            tracing::warn!("label word `{word}` is several tokens; its first, `{token}`, answers for it");
        }
        let identity = ModelIdentity { id: model.folder.id().to_string(), sha256: model.weights.sha256().to_string() };
        let setup = Self {
            join: if subject.compat == Some(Compat::Paper) { Join::Paper } else { Join::Separated },
            max_length: subject.max_length.map(Into::into),
            model_name: named.name,
            seed: compute.seed,
            task,
            splits,
            encoder,
            verbalizer,
            model,
            identity,
            source,
            workers,
            device,
            data,
            task_file,
        };
        if tuned.from_pretrained {
            setup.check_backbone()?;
        }
        Ok(setup)
    }

    /// The tuning that the flags ask for: loaded with `-p`, else new.
    ///
    /// # Errors
    /// If it can't be read or does not fit.
    pub fn tuning(&self, tuned: &Tuned) -> Result<Tuning> {
        let config = &self.model.config;
        if !tuned.from_pretrained {
            let prompt_size = tuned.prompt_size.map_or(PROMPT_SIZE, Into::into);
            return Ok(match tuned.model_type.method() {
                Method::Prompt => Tuning::new_prompt(config, prompt_size, self.seed)?,
                Method::Bias => Tuning::new_bias(),
                Method::Adapter => Tuning::new_adapter(config, ADAPTER_REDUCTION, self.seed)?,
            });
        }
        let tuning = self.loaded_tuning(tuned.prepend_mask)?;
        check_method(&tuning, tuned.model_type)?;
        match tuned.prompt_size.map(usize::from) {
            Some(asked) if tuning.method() == Some(Method::Prompt) && asked != tuning.prompt_rows() => {
                let found = tuning.prompt_rows();
                Err(Failure::usage(format!("--prompt_size {asked}: the loaded prompt has {found} positions; leave the flag out")))
            }
            _ => Ok(tuning),
        }
    }

    /// The tuned parameters of what is resumed from.
    ///
    /// # Errors
    /// If there are none, or they do not fit the model.
    pub fn loaded_tuning(&self, prepend_mask: bool) -> Result<Tuning> {
        let Some(source) = &self.source else {
            return Err(Failure::usage("--resume_from RUN: expected a run with tuned parameters, found no flag"));
        };
        source.check_files()?;
        let mask = self.encoder.mask_id();
        let read = Tuning::read(&source.best, &self.model.config, &self.model.weights, mask, prepend_mask)?;
        if let Some(warning) = read.warning {
            tracing::warn!("{}: {warning}", source.best.display());
        }
        Ok(read.tuning)
    }

    /// The model with a tuning in it.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn roberta(&self, tuning: &Tuning, gradients: Gradients) -> Result<Roberta> {
        let Model { config, weights, .. } = &self.model;
        Ok(Roberta::new(config, weights, tuning, self.encoder.mask_id(), gradients)?)
    }

    /// The texts of a part as tokens, cut to what the model takes beside its prompt.
    ///
    /// # Errors
    /// If the prompt leaves no room for text.
    pub fn encode(&self, part: &[Example], model: &Roberta) -> Result<Vec<Encoded>> {
        let most = self.max_length.map_or(model.max_text(), |limit| limit.min(model.max_text()));
        Ok(self.encoder.encode_all(part, most, self.join)?)
    }

    /// How a pass runs; `batch` is the most texts at once.
    pub fn pass<'a>(&'a self, batch: Option<usize>, progress: &'a dyn Progress) -> PassOptions<'a> {
        let options = PassOptions { progress, ..PassOptions::new(&self.workers) };
        PassOptions { max_sequences: batch.unwrap_or(options.max_sequences), ..options }
    }

    /// What a file made from a part of the data says of itself.
    pub fn metadata(&self, split: &str, part: &[Example]) -> Metadata {
        let entries = [
            ("skn.task", self.task.name.clone()),
            ("skn.model_sha256", self.identity.sha256.clone()),
            ("skn.data_sha256", part_hash(part)),
            ("skn.split", split.to_string()),
            ("skn.seed", self.seed.to_string()),
        ];
        entries.map(|(key, value)| (key.to_string(), value)).into()
    }

    /// The words and tokens of the classes, for a record.
    pub fn verbalizer_record(&self) -> VerbalizerRecord {
        VerbalizerRecord { words: self.verbalizer.words.clone(), ids: self.verbalizer.ids.clone() }
    }

    /// The division of the data, for a record.
    pub fn split_record(&self) -> SplitRecord {
        let part = |part: &PartIndex| PartRecord { source: part.split.clone(), rows: part.rows.clone() };
        let SplitIndex { data_sha256, train, dev, test } = &self.splits.source;
        SplitRecord {
            task: self.task.name.clone(),
            seed: self.seed,
            data_sha256: data_sha256.clone(),
            train: part(train),
            dev: part(dev),
            test: part(test),
        }
    }

    /// Notes in a stage's record what was read, so that later stages find it again.
    ///
    /// # Errors
    /// If a file can't be hashed.
    pub fn note(&self, sink: &mut Sink) -> Result<()> {
        sink.set("model", absolute(&self.model_name));
        sink.set("task", &self.task.name);
        sink.set("seed", self.seed);
        sink.set("threads", self.workers.threads());
        sink.set("device", if self.device.is_cpu() { "cpu" } else { "cuda" });
        if let Some(data) = &self.data {
            sink.set("data", absolute(&data.display().to_string()));
        }
        if let Some(file) = &self.task_file {
            sink.set("task_file", absolute(&file.display().to_string()));
            sink.read(file)?;
        }
        sink.read_as(format!("model {}", self.identity.id), &self.identity.sha256);
        sink.read_as(format!("data of {}", self.task.name), &self.splits.source.data_sha256);
        Ok(())
    }

    fn check_backbone(&self) -> Result<()> {
        let Some((source, config)) = self.source.as_ref().and_then(|source| Some((source, source.config.as_ref()?))) else {
            return Ok(());
        };
        if config.model.sha256 == self.identity.sha256 {
            return Ok(());
        }
        Err(Failure::input(format!(
            "{}: tuned on model {} (SHA-256 {}), but --model gives {} ({})",
            source.best.join("skn.json").display(),
            config.model.id,
            config.model.sha256,
            self.identity.id,
            self.identity.sha256
        )))
    }
}

/// Reads a model folder's tokenizer.
///
/// # Errors
/// If there is none, or it is damaged.
pub fn read_tokenizer(folder: &ModelFolder) -> Result<TextEncoder> {
    let place = folder.place().display().to_string();
    if let Some(bytes) = folder.file("tokenizer.json")? {
        return Ok(TextEncoder::from_json(&bytes, &format!("{place}/tokenizer.json"))?);
    }
    match (folder.file("vocab.json")?, folder.file("merges.txt")?) {
        (Some(vocabulary), Some(merges)) => Ok(TextEncoder::from_vocab_and_merges(&vocabulary, &merges, &place)?),
        _ => Err(Failure::input(format!("{place}: no tokenizer.json, nor vocab.json and merges.txt beside it"))),
    }
}

fn check_vocabulary(model: &Model, encoder: &TextEncoder) -> Result<()> {
    let (rows, tokens) = (model.config.vocab_size, encoder.vocabulary_size());
    if tokens <= rows {
        return Ok(());
    }
    let place = model.folder.place().display();
    Err(Failure::input(format!("{place}: the tokenizer has {tokens} tokens, but the model has embeddings for {rows} (vocab_size)")))
}

fn check_method(tuning: &Tuning, asked: ModelType) -> Result<()> {
    if tuning.method() == Some(asked.method()) {
        return Ok(());
    }
    let found = match tuning.method() {
        Some(Method::Prompt) => "a prompt (RobertaPrompt)",
        Some(Method::Bias) => "biases (RobertaBias)",
        Some(Method::Adapter) => "adapters (RobertaAdapter)",
        None => "nothing",
    };
    Err(Failure::usage(format!("--model_type {}: the tuned parameters to load are {found}", asked.name())))
}

/// The method of tuned parameters, by the original's name.
pub fn method_name(tuning: &Tuning, pruned: bool) -> &'static str {
    match tuning.method() {
        Some(Method::Bias) => ModelType::Bias.name(),
        Some(Method::Adapter) => ModelType::Adapter.name(),
        _ if pruned => ModelType::PrunePrompt.name(),
        _ => ModelType::Prompt.name(),
    }
}

/// A model by name, and where it was named.
struct ModelName {
    name: String,
    /// A pruned run's folder is the model, and keeps the name of what it was pruned from.
    inside: Option<(PathBuf, Option<String>)>,
}

impl ModelName {
    fn of(subject: &Subject, source: Option<&Source>) -> Self {
        let plain = |name: String| Self { name, inside: None };
        if let Some(name) = &subject.model {
            return plain(name.clone());
        }
        let Some(source) = source else { return plain(DEFAULT_MODEL.into()) };
        if source.holds_model() {
            let id = source.config.as_ref().map(|config| config.model.id.clone());
            return Self { name: source.best.display().to_string(), inside: Some((source.best.clone(), id)) };
        }
        let config_id = || source.config.as_ref().map(|config| config.model.id.clone());
        let name = recorded(Some(source), "model").or_else(config_id).or_else(|| source.base_model());
        plain(name.unwrap_or_else(|| DEFAULT_MODEL.into()))
    }

    fn folder(&self) -> Result<ModelFolder> {
        match &self.inside {
            None => source::find(&self.name),
            Some((folder, None)) => Ok(ModelFolder::open(folder)?),
            Some((folder, Some(id))) => Ok(ModelFolder::open(folder)?.with_id(id)),
        }
    }

    fn is_demo(&self) -> bool {
        self.name == DEMO || matches!(&self.inside, Some((_, Some(id))) if id == DEMO)
    }
}

/// A setting of an earlier stage of the run that is resumed from.
fn recorded(source: Option<&Source>, setting: &str) -> Option<String> {
    let record = source?.record()?;
    ["train", "prune", "probe"].iter().find_map(|stage| record.stages.get(*stage)?.settings.get(setting).cloned())
}

/// A path that means the same from any working folder; anything else as it is.
fn absolute(name: &str) -> String {
    if !Path::new(name).exists() || name == DEMO {
        return name.to_string();
    }
    std::path::absolute(name).map_or_else(|_| name.to_string(), |path| path.display().to_string())
}

fn find_task(subject: &Subject, source: Option<&Source>, model: &ModelName) -> Result<(Task, Option<PathBuf>)> {
    let recorded_file = || recorded(source, "task_file").map(PathBuf::from);
    let same_task = |config: &SkillConfig| subject.task.as_ref().is_none_or(|task| *task == config.task);
    let of_run = source.and_then(|source| source.config.as_ref()).filter(|config| same_task(config));
    let file = subject.task_file.clone().or_else(|| of_run.and_then(|_| recorded_file()));
    if let Some(file) = file {
        return Ok((Task::read(&file)?, Some(file)));
    }
    let default = if model.is_demo() { skn_demo::TASKS[0] } else { DEFAULT_TASK };
    let name = subject.task.as_deref().or(of_run.map(|config| config.task.as_str())).unwrap_or(default);
    if let Some(files) = skn_demo::task_files(name) {
        return Ok((Task::from_toml(files.description, &format!("(demo)/{name}.toml"))?, None));
    }
    match Task::builtin(name) {
        Ok(task) => Ok((task, None)),
        Err(error @ DataError::UnknownTask { .. }) => {
            Err(Failure::usage(format!("{error}; tasks of the demo: {}; or --task-file FILE.toml", skn_demo::TASKS.join(", "))))
        }
        Err(error) => Err(error.into()),
    }
}

/// The task with the words that answer it: those given, those of the tuned parameters that are loaded, or its own.
fn with_words(task: Task, subject: &Subject, tuned: &Tuned, source: Option<&Source>) -> Result<Task> {
    let loaded = source.and_then(|source| source.config.as_ref()).filter(|_| tuned.from_pretrained);
    let loaded = loaded.filter(|config| config.task == task.name).map(|config| config.verbalizer.words.clone());
    let words = match (&subject.verb, loaded) {
        (Some(given), Some(loaded)) if *given != loaded => {
            let (given, loaded) = (given.join(","), loaded.join(","));
            tracing::warn!("--verb {given}: the tuned parameters were trained to answer {loaded}");
            subject.verb.clone()
        }
        (Some(given), _) => Some(given.clone()),
        (None, Some(loaded)) => Some(loaded),
        (None, None) => (subject.compat == Some(Compat::Paper)).then(|| task.paper_words()),
    };
    Ok(match words {
        Some(words) => task.with_words(words)?,
        None => task,
    })
}

fn read_data(task: &Task, data: Option<&Path>) -> Result<Dataset> {
    if !task.needs_data() {
        return Ok(Dataset::empty_text());
    }
    if let Some(data) = data {
        return Ok(read_dataset(data, task)?);
    }
    match skn_demo::task_files(&task.name) {
        Some(files) => Ok(Dataset::from_jsonl(&files.splits, task)?),
        None => Err(Failure::usage(format!(
            "task {}: expected --data PATH (a folder or a file with its rows), found none; \
             the tasks {} of the demo bring theirs",
            task.name,
            skn_demo::TASKS.join(", ")
        ))),
    }
}

/// Divides the data as the run that is resumed from did, if it did; else by the seed.
fn divide(dataset: Dataset, task: &Task, seed: u64, source: Option<&Source>) -> Result<Splits> {
    let record = source.map(Source::split).transpose()?.flatten().filter(|record| record.task == task.name);
    let Some(record) = record else { return Ok(split(dataset, task, seed)?) };
    let part = |part: PartRecord| PartIndex { split: part.source, rows: part.rows };
    let SplitRecord { data_sha256, train, dev, test, .. } = record;
    let index = SplitIndex { data_sha256, train: part(train), dev: part(dev), test: part(test) };
    Ok(split_with(dataset, &index)?)
}

fn report_unlabelled(splits: &Splits) {
    for (split, rows) in &splits.unlabelled {
        tracing::info!("split {split}: {rows} rows without a label are left out");
    }
}

/// The embedding of `<mask>`, which is row 0 of a prompt file.
///
/// # Errors
/// If the token is not in the vocabulary.
pub fn mask_embedding(weights: &Weights, encoder: &TextEncoder) -> Result<Vec<f32>> {
    Ok(weights.mask_embedding(encoder.mask_id())?)
}
