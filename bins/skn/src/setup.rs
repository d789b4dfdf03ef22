//! What every stage that computes begins with: the task, its data, the model and its tuning.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use skn_artifact::{ModelIdentity, PartRecord, SkillConfig, SplitRecord, VerbalizerRecord};
use skn_data::{
    DataError, Dataset, Encoded, Example, Join, PartIndex, SplitIndex, Splits, Task, TextEncoder, Verbalizer,
    bert_tokenizer, part_hash, split, split_with,
};
use skn_model::{Gradients, Isa, Method, ModelFolder, Precision, Roberta, Tuning, Weights};
use skn_probing::{Metadata, PassOptions, Progress, Workers};

use crate::cli::{Compat, Compute, ModelType, PROMPT_SIZE, Size, Subject, Tuned, thread_count};
use crate::exit::Failure;
use crate::fence;
use crate::run::{BEST, Sink, Source};
use crate::source::{self, DEFAULT_MODEL, DEMO, Model};

/// The task of a command line that names none and resumes from none.
const DEFAULT_TASK: &str = "sst2";

/// AdapterHub's reduction of the hidden size, as in the published implementation.
const ADAPTER_REDUCTION: usize = 16;

/// The division of the data, in a run's folder.
const SPLIT: &str = "split.json";

/// Folders of a run, whose names no task may have: its files would lie between theirs.
const FOLDERS: [&str; 7] = [BEST, "last", "info", "shards", "untuned", "prune", "prune-tuned"];

/// Files of tuned parameters, by the tools that write them.
const TUNED_FILES: [&str; 3] = ["adapter_model.safetensors", "adapter.safetensors", "bitfit.safetensors"];

/// A model with its tokenizer and its task, read and checked: all that answers a text.
pub(crate) struct Base {
    /// The task, with the words that answer it.
    pub(crate) task: Task,
    /// The model's tokenizer.
    pub(crate) encoder: TextEncoder,
    /// The token of each class; none of a model that has no masked-LM head.
    pub(crate) verbalizer: Verbalizer,
    /// The model as it was read.
    pub(crate) model: Model,
    /// Its identity in artifacts.
    pub(crate) identity: ModelIdentity,
    /// What is resumed from.
    pub(crate) source: Option<Source>,
    /// The threads.
    pub(crate) workers: Workers,
    /// Where the model lies.
    pub(crate) device: Device,
    /// What the products of frozen weights are made in.
    pub(crate) precision: Precision,
    /// Whether to do as the published implementation did.
    pub(crate) paper: bool,
    /// The seed of everything random.
    pub(crate) seed: u64,
    /// Whether the model lies in what is resumed from, as a pruned run's does.
    pub(crate) model_of_source: bool,
    /// Whether the folder of tuned parameters need not be one whole.
    pub(crate) may_be_torn: bool,
    /// Whether the tuned parameters of what is resumed from are used.
    loaded: bool,
    model_name: String,
    data: Option<PathBuf>,
    max_data: Size,
    task_file: Option<PathBuf>,
    max_length: Option<usize>,
}

/// Everything a stage computes with: a [`Base`] and the task's rows.
pub(crate) struct Setup {
    /// Model, tokenizer and task.
    pub(crate) base: Base,
    /// The rows.
    pub(crate) splits: Splits,
}

impl Setup {
    /// Reads and checks what the flags name. Data are read before the model: a mistyped path should not cost the time
    /// that weights take.
    ///
    /// # Errors
    /// If something is missing, damaged, or does not fit the rest.
    pub(crate) fn load(subject: &Subject, compute: &Compute, tuned: &Tuned) -> Result<Self> {
        let setup = Self::load_encoder(subject, compute, tuned)?;
        setup.base.model.weights.require_head()?;
        Ok(setup)
    }

    /// As [`Self::load`], of a model that may have no masked-LM head.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_encoder(subject: &Subject, compute: &Compute, tuned: &Tuned) -> Result<Self> {
        let named = Named::of(subject, tuned)?;
        let splits = named.splits(compute.seed)?;
        Ok(Self { base: named.read(subject, compute, tuned)?, splits })
    }

    /// What a file says of itself that was made by a tuned model from a part of the data.
    ///
    /// # Errors
    /// If the tuned parameters can't be read from the device.
    pub(crate) fn metadata(&self, split: &str, model: &Roberta) -> Result<Metadata> {
        let base = &self.base;
        let mut entries = Metadata::from(
            [
                ("skn.task", base.task.name.clone()),
                ("skn.model_sha256", base.identity.sha256.clone()),
                ("skn.tuning_sha256", model.tuning()?.sha256()?),
                ("skn.data_sha256", part_hash(self.part(split))),
                ("skn.split", split.to_string()),
                ("skn.seed", base.seed.to_string()),
            ]
            .map(|(key, value)| (key.to_string(), value)),
        );
        if base.precision != Precision::F32 {
            entries.insert("skn.dtype".into(), base.precision.name().into());
        }
        // Arrays are as wide as the widest layer: selecting must know where a pruned layer ends.
        let config = &base.model.config;
        if config.intermediate_sizes.iter().any(|&width| width != config.widest()) {
            let widths: Vec<String> = config.intermediate_sizes.iter().map(ToString::to_string).collect();
            entries.insert("skn.widths".into(), widths.join(","));
        }
        Ok(entries)
    }

    /// The rows of train, dev or test.
    pub(crate) fn part(&self, split: &str) -> &[Example] {
        match split {
            "train" => &self.splits.train,
            "dev" => &self.splits.dev,
            _ => &self.splits.test,
        }
    }

    /// The division of the data, for a record.
    pub(crate) fn split_record(&self) -> SplitRecord {
        let part = |part: &PartIndex| PartRecord { source: part.split.clone(), rows: part.rows.clone() };
        let SplitIndex { data_sha256, train, dev, test } = &self.splits.source;
        SplitRecord {
            task: self.base.task.name.clone(),
            seed: self.base.seed,
            data_sha256: data_sha256.clone(),
            train: part(train),
            dev: part(dev),
            test: part(test),
        }
    }

    /// Writes the division of the data. A run that has one keeps it, unless `replace` says that this stage decides.
    ///
    /// # Errors
    /// If the file can't be written.
    pub(crate) fn keep_split(&self, sink: &mut Sink, replace: bool) -> Result<()> {
        let (path, record) = (sink.folder().join(SPLIT), self.split_record());
        if !path.is_file() {
            return sink.json(SPLIT, &record);
        }
        match replace {
            false => Ok(()),
            // What is there may be the rows that other files of the run were made of.
            true if skn_artifact::read_json::<SplitRecord>(&path)? == record => sink.wrote(SPLIT),
            true => sink.json(SPLIT, &record),
        }
    }

    /// Notes in a stage's record what was read, so that later stages find it again.
    ///
    /// # Errors
    /// If a file can't be hashed.
    pub(crate) fn note(&self, sink: &mut Sink) -> Result<()> {
        self.base.note(sink)?;
        sink.read_as(format!("data of {}", self.base.task.name), &self.splits.source.data_sha256);
        Ok(())
    }
}

/// What the flags name, before anything large is read.
struct Named {
    source: Option<Source>,
    model: ModelName,
    task: Task,
    task_file: Option<PathBuf>,
    data: Option<PathBuf>,
    /// The record that names the data, where no flag does.
    data_said_by: Option<PathBuf>,
    max_data: Size,
}

impl Named {
    fn of(subject: &Subject, tuned: &Tuned) -> Result<Self> {
        let source = tuned.resume_from.as_deref().map(Source::open).transpose()?;
        if tuned.from_pretrained && source.is_none() {
            return Err(Failure::usage("-p loads tuned parameters: say from where, with --resume_from RUN"));
        }
        let model = ModelName::of(subject, source.as_ref());
        let (task, task_file) = find_task(subject, source.as_ref(), &model)?;
        let task = with_words(task, subject, tuned, source.as_ref())?;
        let earlier = || recorded(source.as_ref(), "max_data").and_then(|size| size.parse().ok());
        let max_data = subject.max_data.or_else(earlier).unwrap_or(Size::DATA);
        let same_task =
            |source: &&Source| source.config.as_ref().is_none_or(|config| config.task == task.name);
        let recorded = || recorded(source.as_ref().filter(same_task), "data").map(PathBuf::from);
        let data = subject.data.clone().or_else(recorded);
        let data_said_by = source.as_ref().and_then(Source::record_file).filter(|_| subject.data.is_none());
        if FOLDERS.contains(&task.name.as_str()) {
            return Err(Failure::usage(format!(
                "task {}: a folder of the run has this name; give the task another",
                task.name
            )));
        }
        Ok(Self { source, model, task, task_file, data, data_said_by, max_data })
    }

    fn splits(&self, seed: u64) -> Result<Splits> {
        let dataset = said_by(self.data_said_by.as_deref(), "the data are there", "--data", || {
            read_data(&self.task, self.data.as_deref(), self.max_data)
        })?;
        let splits = divide(dataset, &self.task, seed, self.source.as_ref());
        let splits = match &self.data {
            Some(data) => splits
                .with_context(|| format!("{} can't be divided into train, dev and test", data.display())),
            None => splits,
        }?;
        let (test, asked) = (&splits.source.test.split, self.task.splits.test.as_deref());
        if asked.is_some_and(|asked| asked != test) && self.task.splits.dev.is_some() {
            let asked = asked.unwrap_or_default();
            tracing::info!(
                "split {asked} has no labels: {test} is the test set, and a fifth of train is dev"
            );
        }
        for (split, rows) in &splits.unlabelled {
            tracing::info!("split {split}: {rows} rows without a label are left out");
        }
        Ok(splits)
    }

    fn read(self, subject: &Subject, compute: &Compute, tuned: &Tuned) -> Result<Base> {
        let Self { source, model: named, task, task_file, data, max_data, .. } = self;
        let device = source::device(compute.device)?;
        let workers = Workers::new(thread_count(compute.threads))?;
        let (model, encoder) = read_model(named.folder()?, &device)?;
        check_vocabulary(&model, &encoder)?;
        // Nothing answers without a head, so there the words need not differ in their tokens.
        let verbalizer = match model.weights.require_head() {
            Ok(()) => answers(&encoder, &task)?,
            Err(_) => Verbalizer::default(),
        };
        let identity =
            ModelIdentity { id: model.folder.id().to_string(), sha256: model.weights.sha256().to_string() };
        // Tuned parameters are for texts that were cut and joined as in their training.
        let earlier = |setting| recorded(source.as_ref().filter(|_| tuned.from_pretrained), setting);
        let paper = subject.compat == Some(Compat::Paper) || earlier("compat").as_deref() == Some("paper");
        let earlier_length = || earlier("max_length").and_then(|length| length.parse().ok());
        let max_length = subject.max_length.map(Into::into).or_else(earlier_length);
        let base = Base {
            precision: precision(compute, &device)?,
            paper,
            max_length,
            model_of_source: named.inside.is_some(),
            loaded: tuned.from_pretrained,
            may_be_torn: false,
            model_name: named.name,
            seed: compute.seed,
            task,
            encoder,
            verbalizer,
            model,
            identity,
            source,
            workers,
            device,
            data,
            max_data,
            task_file,
        };
        if tuned.from_pretrained {
            base.check_backbone()?;
        }
        Ok(base)
    }
}

/// The tokens that answer a task.
fn answers(encoder: &TextEncoder, task: &Task) -> Result<Verbalizer> {
    let verbalizer = encoder.verbalizer(&task.labels).map_err(|error| match error {
        DataError::SharedToken { .. } => {
            Failure::usage(format!("{error}; --verb gives other words, in class order"))
        }
        error => error.into(),
    })?;
    for (word, token) in verbalizer.cut_words() {
        tracing::warn!("label word `{word}` is several tokens; its first, `{token}`, answers for it");
    }
    Ok(verbalizer)
}

impl Base {
    /// Reads and checks what the flags name, but no data.
    ///
    /// # Errors
    /// If something is missing, damaged, or does not fit the rest.
    pub(crate) fn load(subject: &Subject, compute: &Compute, tuned: &Tuned) -> Result<Self> {
        let base = Named::of(subject, tuned)?.read(subject, compute, tuned)?;
        base.model.weights.require_head()?;
        Ok(base)
    }

    /// The tuning that the flags ask for: loaded with `-p`, else new.
    ///
    /// # Errors
    /// If it can't be read or does not fit.
    pub(crate) fn tuning(&self, tuned: &Tuned) -> Result<Tuning> {
        let config = &self.model.config;
        if tuned.model_type.method() != Method::Prompt && tuned.prompt_size.is_some() {
            let method = tuned.model_type.name();
            tracing::warn!(
                "--prompt_size: {method} has no prompt but the <mask> row; the flag changes nothing"
            );
        }
        if !tuned.from_pretrained {
            if tuned.resume_from.is_some() {
                tracing::warn!(
                    "--resume_from without -p: its tuned parameters are not loaded, this begins with new ones"
                );
            }
            if tuned.prompt_size.is_none() && self.model.weights.require_head().is_err() {
                tracing::info!(
                    "{}: an encoder without a masked-LM head; its texts are read as they are, without a prompt",
                    self.identity.id
                );
                return Ok(Tuning::plain_text());
            }
            let prompt_size = tuned.prompt_size.map_or(PROMPT_SIZE, Into::into);
            return Ok(match tuned.model_type.method() {
                Method::Prompt => Tuning::new_prompt(config, prompt_size, self.seed)?,
                Method::Bias => Tuning::new_bias(),
                Method::Adapter => Tuning::new_adapter(config, ADAPTER_REDUCTION, self.seed)?,
            });
        }
        let tuning = self.loaded_tuning(tuned.prepend_mask)?;
        check_method(&tuning, tuned.model_type)?;
        if tuned.model_type == ModelType::PrunePrompt && config.kept_neurons.is_none() {
            tracing::warn!(
                "--model_type {}: model {} is not pruned; it is a prompt like any other",
                tuned.model_type.name(),
                self.identity.id
            );
        }
        match tuned.prompt_size.map(usize::from) {
            Some(asked) if tuning.method() == Some(Method::Prompt) && asked != tuning.prompt_rows() => {
                let found = tuning.prompt_rows();
                Err(Failure::usage(format!(
                    "--prompt_size {asked}: the loaded prompt has {found} positions; leave the flag out"
                )))
            }
            _ => Ok(tuning),
        }
    }

    /// The tuned parameters of what is resumed from.
    ///
    /// # Errors
    /// If there are none, or they do not fit the model.
    pub(crate) fn loaded_tuning(&self, prepend_mask: bool) -> Result<Tuning> {
        let Some(source) = &self.source else {
            return Err(Failure::usage(
                "--resume_from RUN: expected a run with tuned parameters, found no flag",
            ));
        };
        if !self.may_be_torn {
            source.check_files()?;
        }
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
    pub(crate) fn roberta(&self, tuning: &Tuning, gradients: Gradients) -> Result<Roberta> {
        let Model { config, weights, .. } = &self.model;
        let model = Roberta::new(config, weights, tuning, self.encoder.mask_id(), gradients)?;
        let model = model.with_precision(self.precision);
        if gradients == Gradients::Nothing {
            model.pack(self.workers.threads())?;
        }
        Ok(model)
    }

    /// The texts of a part as tokens, cut to what the model takes beside its prompt. Rows that are not borrowed are let
    /// go of on the way.
    ///
    /// # Errors
    /// If the prompt leaves no room for text.
    pub(crate) fn encode<R>(&self, part: impl IntoIterator<Item = R>, model: &Roberta) -> Result<Vec<Encoded>>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let most = model.max_text();
        if most.min(self.max_length.unwrap_or(most)) < 3 && self.task.needs_data() {
            let (rows, all) = (model.prompt_rows(), model.config().max_sequence());
            return Err(Failure::usage(match self.max_length {
                Some(length) if length < 3 => {
                    format!("--max-length {length}: <s> and </s> leave no room for text; at least 3")
                }
                _ => format!(
                    "a prompt of {rows} positions leaves {most} of the model's {all} for <s>, text and </s>; at least 3"
                ),
            }));
        }
        self.encode_to(part, most)
    }

    /// The same, cut to a number of tokens.
    ///
    /// # Errors
    /// If that is too few for `<s>` and `</s>`.
    pub(crate) fn encode_to<R>(&self, part: impl IntoIterator<Item = R>, most: usize) -> Result<Vec<Encoded>>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let most = self.max_length.map_or(most, |limit| limit.min(most));
        let join = if self.paper { Join::Paper } else { Join::Separated };
        Ok(self.encoder.encode_all(part, most, join)?)
    }

    /// How a pass runs; `batch` is the most texts at once.
    pub(crate) fn pass<'a>(&'a self, batch: Option<usize>, progress: &'a dyn Progress) -> PassOptions<'a> {
        let options = PassOptions { progress, ..PassOptions::new(&self.workers) };
        PassOptions { max_sequences: batch.unwrap_or(options.max_sequences), ..options }
    }

    /// The words and tokens of the classes, for a record.
    pub(crate) fn verbalizer_record(&self) -> VerbalizerRecord {
        VerbalizerRecord { words: self.verbalizer.words.clone(), ids: self.verbalizer.ids.clone() }
    }

    /// Notes in a stage's record what was read, so that later stages find it again.
    ///
    /// # Errors
    /// If a file can't be hashed.
    pub(crate) fn note(&self, sink: &mut Sink) -> Result<()> {
        sink.set("model", absolute(&self.model_name));
        sink.set("task", &self.task.name);
        sink.set("seed", self.seed);
        if let Some(length) = self.max_length {
            sink.set("max_length", length);
        }
        if self.paper {
            sink.set("compat", "paper");
        }
        if self.max_data != Size::DATA {
            sink.set("max_data", self.max_data);
        }
        sink.set("threads", self.workers.threads());
        sink.set("dtype", self.precision.name());
        sink.set("device", if self.device.is_cpu() { "cpu" } else { "cuda" });
        if let Some(data) = &self.data {
            sink.set("data", absolute(&data.display().to_string()));
        }
        if let Some(file) = &self.task_file {
            sink.set("task_file", absolute(&file.display().to_string()));
            sink.read(file)?;
        }
        sink.read_as(format!("model {}", self.identity.id), &self.identity.sha256);
        if let Some(source) = self.source.as_ref().filter(|_| self.loaded) {
            TUNED_FILES.iter().try_for_each(|name| sink.read(&source.best.join(name)))?;
        }
        Ok(())
    }

    fn check_backbone(&self) -> Result<()> {
        let Some((source, config)) =
            self.source.as_ref().and_then(|source| Some((source, source.config.as_ref()?)))
        else {
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

/// The precision asked for, where it can be had.
fn precision(compute: &Compute, device: &Device) -> Result<Precision> {
    let precision = compute.dtype.precision();
    if precision == Precision::Bf16 {
        if !device.is_cpu() {
            return Err(Failure::usage("--dtype bf16: on the CPU alone; leave it out, or use --device cpu"));
        }
        if !Isa::best().multiplies_bf16() {
            tracing::warn!("--dtype bf16: this CPU has no AVX512-BF16, so it saves memory, but no time");
        }
    }
    Ok(precision)
}

/// Does something with what an earlier record names, and says in an error which record that was and what flag to use.
fn said_by<T>(
    record: Option<&Path>,
    what: &str,
    flag: &str,
    action: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let result = action();
    match record {
        Some(record) => {
            result.with_context(|| format!("{} says that {what}; {flag} says otherwise", record.display()))
        }
        None => result,
    }
}

/// Reads a model and its tokenizer, side by side: neither needs the other, and each takes its time.
fn read_model(folder: ModelFolder, device: &Device) -> Result<(Model, TextEncoder)> {
    let of_tokenizer = folder.clone();
    let (model, encoder) = std::thread::scope(|scope| {
        let encoder = scope.spawn(|| read_tokenizer(&of_tokenizer));
        let model = Model::read(folder, device);
        (model, encoder.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    Ok((model?, encoder?))
}

/// Reads a model folder's tokenizer.
///
/// # Errors
/// If there is none, or it is damaged.
pub(crate) fn read_tokenizer(folder: &ModelFolder) -> Result<TextEncoder> {
    let place = folder.place().display().to_string();
    // What lies in the program is not other people's.
    let check = |parts: &[&[u8]], file: &str| match folder.is_embedded() {
        true => Ok(()),
        false => fence::check_tokenizer(parts, file),
    };
    if let Some(bytes) = folder.file("tokenizer.json")? {
        let file = format!("{place}/tokenizer.json");
        check(&[&bytes], &file)?;
        return Ok(TextEncoder::from_json(&bytes, &file)?);
    }
    if let (Some(vocabulary), Some(merges)) = (folder.file("vocab.json")?, folder.file("merges.txt")?) {
        check(&[&vocabulary, &merges], &place)?;
        return Ok(TextEncoder::from_vocab_and_merges(&vocabulary, &merges, &place)?);
    }
    if let Some(vocabulary) = folder.file("vocab.txt")? {
        let settings = folder.file("tokenizer_config.json")?;
        let (bytes, file) =
            (bert_tokenizer(&vocabulary, settings.as_deref(), &place)?, format!("{place}/vocab.txt"));
        check(&[&bytes], &file)?;
        return Ok(TextEncoder::from_json(&bytes, &file)?);
    }
    for model in ["sentencepiece.bpe.model", "spiece.model"] {
        if folder.file(model)?.is_some() {
            return Err(Failure::input(format!(
                "{place}: no tokenizer.json, and {model} is not read; make one in Python: \
                 AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            )));
        }
    }
    Err(Failure::input(format!(
        "{place}: no tokenizer.json, nor vocab.json and merges.txt, nor vocab.txt beside it"
    )))
}

fn check_vocabulary(model: &Model, encoder: &TextEncoder) -> Result<()> {
    let (rows, tokens) = (model.config.vocab_size, encoder.vocabulary_size());
    if tokens <= rows {
        return Ok(());
    }
    let place = model.folder.place().display();
    Err(Failure::input(format!(
        "{place}: the tokenizer has {tokens} tokens, but the model has embeddings for {rows} (vocab_size)"
    )))
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
pub(crate) fn method_name(tuning: &Tuning, pruned: bool) -> &'static str {
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
    /// The record that names it, where no flag does.
    said_by: Option<PathBuf>,
}

impl ModelName {
    fn of(subject: &Subject, source: Option<&Source>) -> Self {
        let plain = |name: String| Self { name, inside: None, said_by: None };
        if let Some(name) = &subject.model {
            return plain(name.clone());
        }
        let Some(source) = source else { return plain(DEFAULT_MODEL.into()) };
        if source.holds_model() {
            let id = source.config.as_ref().map(|config| config.model.id.clone());
            let inside = Some((source.best.clone(), id));
            return Self { name: source.best.display().to_string(), inside, said_by: None };
        }
        let config_id = || source.config.as_ref().map(|config| config.model.id.clone());
        let of_record = recorded(Some(source), "model");
        let said_by = source.record_file().filter(|_| of_record.is_some());
        let name = of_record.or_else(config_id).or_else(|| source.base_model());
        Self { said_by, ..plain(name.unwrap_or_else(|| DEFAULT_MODEL.into())) }
    }

    fn folder(&self) -> Result<ModelFolder> {
        match &self.inside {
            None => {
                said_by(self.said_by.as_deref(), "the model is there", "--model", || source::find(&self.name))
            }
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
    // A stage's entry may say more than its name: `probe acc,pos`.
    ["train", "prune", "probe", "mask"].iter().find_map(|name| {
        let mut stages = record.stages.iter().filter(|(stage, _)| stage.split(' ').next() == Some(name));
        stages.find_map(|(_, stage)| stage.settings.get(setting).cloned())
    })
}

/// A path that means the same from any working folder; anything else as it is.
fn absolute(name: &str) -> String {
    if !Path::new(name).exists() || name == DEMO {
        return name.to_string();
    }
    std::path::absolute(name).map_or_else(|_| name.to_string(), |path| path.display().to_string())
}

fn find_task(
    subject: &Subject,
    source: Option<&Source>,
    model: &ModelName,
) -> Result<(Task, Option<PathBuf>)> {
    let recorded_file = || recorded(source, "task_file").map(PathBuf::from);
    let same_task = |config: &SkillConfig| subject.task.as_ref().is_none_or(|task| *task == config.task);
    let of_run = source.and_then(|source| source.config.as_ref()).filter(|config| same_task(config));
    if let Some(file) = subject.task_file.clone() {
        return Ok((Task::read(&file)?, Some(file)));
    }
    if let Some(file) = of_run.and_then(|_| recorded_file()) {
        let record = source.and_then(Source::record_file);
        let task = said_by(record.as_deref(), "the task is described there", "--task-file", || {
            Ok(Task::read(&file)?)
        })?;
        return Ok((task, Some(file)));
    }
    let default = if model.is_demo() { skn_demo::TASKS[0] } else { DEFAULT_TASK };
    let name = subject.task.as_deref().or(of_run.map(|config| config.task.as_str())).unwrap_or(default);
    Ok((named_task(name)?, None))
}

/// A task of the demo, or one that is built in.
///
/// # Errors
/// If there is none of this name.
pub(crate) fn named_task(name: &str) -> Result<Task> {
    if let Some(files) = skn_demo::task_files(name) {
        return Ok(Task::from_toml(files.description, &format!("(demo)/{name}.toml"))?);
    }
    match Task::builtin(name) {
        Err(error @ DataError::UnknownTask { .. }) => Err(Failure::usage(format!(
            "{error}; tasks of the demo: {}; or --task-file FILE.toml",
            skn_demo::TASKS.join(", ")
        ))),
        task => Ok(task?),
    }
}

/// The task with the words that answer it: those given, those of the tuned parameters that are loaded, or its own.
fn with_words(task: Task, subject: &Subject, tuned: &Tuned, source: Option<&Source>) -> Result<Task> {
    let loaded = source.and_then(|source| source.config.as_ref()).filter(|_| tuned.from_pretrained);
    let loaded =
        loaded.filter(|config| config.task == task.name).map(|config| config.verbalizer.words.clone());
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

/// The rows of a task: from `data`, or those that a task of the demo brings.
///
/// # Errors
/// If there are none, or the task can't use them.
pub(crate) fn read_data(task: &Task, data: Option<&Path>, most: Size) -> Result<Dataset> {
    if !task.needs_data() {
        return Ok(Dataset::empty_text());
    }
    if let Some(data) = data {
        return fence::read_dataset(&source::find_data(data)?, task, most.0);
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

/// The embedding of `<mask>`, which is row 0 of a prompt file.
///
/// # Errors
/// If the token is not in the vocabulary.
pub(crate) fn mask_embedding(weights: &Weights, encoder: &TextEncoder) -> Result<Vec<f32>> {
    Ok(weights.mask_embedding(encoder.mask_id())?)
}
