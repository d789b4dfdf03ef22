mod encode;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skn_artifact::names::{file, input, setting};
use skn_artifact::{ArtifactError, ModelIdentity, TextsRecord, VerbalizerRecord, is_there};
use skn_data::{Task, TextEncoder, Verbalizer};
use skn_model::{Gradients, Isa, LanguageModel, Method, PromptPlace, ReadAs, Tuning};

use crate::answers::{Recorded, answers};
use crate::cache::real;
use crate::error::{Result, SessionError};
use crate::fits::{
    check_backbone, check_description, check_length, check_method, check_written, tell_idle, tell_no_prompt,
    tell_other_task, tell_tuned, template_sha256,
};
use crate::loaded::{LoadedModel, read_model};
use crate::named::Named;
use crate::options::{Size, Subject, Tuned, TunedMethod};
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::tuned_folder::TunedFolder;

/// AdapterHub's reduction of the hidden size, as in the published implementation.
const ADAPTER_REDUCTION: usize = 16;

/// A model with its tokenizer and its task, read and checked: all that answers a text.
pub(crate) struct Base<'s> {
    /// Where it is computed.
    pub(crate) session: &'s Session,
    /// The task, with the words that answer it.
    pub(crate) task: Task,
    /// The model's tokenizer.
    pub(crate) encoder: Arc<TextEncoder>,
    /// The token of each class; none of a model that has no masked-LM head.
    pub(crate) verbalizer: Verbalizer,
    /// The model as it was read.
    pub(crate) model: Arc<LoadedModel>,
    /// Its identity in artifacts.
    pub(crate) identity: ModelIdentity,
    /// What is resumed from.
    pub(crate) source: Option<TunedFolder>,
    /// Whether to do as the published implementation did.
    pub(crate) paper: bool,
    /// The seed of everything random.
    pub(crate) seed: u64,
    /// Whether the model lies in what is resumed from, as a pruned run's does.
    pub(crate) model_of_source: bool,
    /// Whether the model is that of the demo, or was pruned from it.
    pub(crate) is_demo: bool,
    /// Whether the tuned parameters of what is resumed from are used.
    loaded: bool,
    model_name: String,
    data: Option<PathBuf>,
    max_data: Size,
    task_file: Option<PathBuf>,
    max_length: Option<usize>,
    /// The task as a file said it, if one did.
    described: Option<Task>,
}

impl<'s> Base<'s> {
    /// Reads and checks what is named, but no data. The model must have a masked-LM head.
    ///
    /// # Errors
    /// If something is missing, damaged, or does not fit the rest.
    pub(crate) fn load(session: &'s Session, subject: &Subject, tuned: &Tuned) -> Result<Self> {
        let base = Self::read(session, Named::of(subject, tuned, None)?, subject, tuned)?;
        base.require_answers()?;
        Ok(base)
    }

    /// Reads what was named.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn read(session: &'s Session, named: Named, subject: &Subject, tuned: &Tuned) -> Result<Self> {
        let described = named.described();
        let Named { source, model: model_name, task, task_file, data, max_data, .. } = named;
        let folder = model_name.folder()?;
        if !model_name.is_of_source() {
            tell_tuned(&folder, tuned)?;
        }
        let places = folder.places().iter().map(|place| real(place)).collect::<Result<Vec<PathBuf>>>()?;
        let id = folder.id().to_owned();
        let (model, encoder) = session.cache.model(&places, &id, || {
            let (model, encoder) = read_model(folder, session.device(), session.progress())?;
            Ok((Arc::new(model), Arc::new(encoder)))
        })?;
        let identity = model.identity();
        check_length(subject, model.config.max_sequence(), &identity.id)?;
        if let Some(source) = source.as_ref().filter(|_| tuned.load) {
            check_backbone(source, &identity)?;
            tell_other_task(session, source, &task);
        }
        let words_of = source.as_ref().filter(|_| tuned.load && subject.words.is_none());
        let words_of = words_of.and_then(|source| Recorded::of(source, &task));
        // Nothing answers without a head, so there the words need not differ in their tokens.
        let verbalizer = match model.weights.require_head() {
            Ok(()) if task.labels.is_empty() => Verbalizer::default(),
            Ok(()) => {
                answers(&encoder, &model.folder.place().display().to_string(), &task, words_of.as_ref())?
            }
            Err(_) => Verbalizer::default(),
        };
        // Tuned parameters are for texts that were cut and joined as in their training.
        let earlier = |name| source.as_ref().filter(|_| tuned.load)?.recorded(name);
        let paper = subject.paper || earlier(setting::COMPAT).as_deref() == Some("paper");
        let earlier_length = || earlier(setting::MAX_LENGTH).and_then(|length| length.parse().ok());
        let max_length = subject.max_length.map(Into::into).or_else(earlier_length);
        let base = Self {
            session,
            paper,
            max_length,
            model_of_source: model_name.is_of_source(),
            is_demo: model_name.is_demo(),
            loaded: tuned.load,
            model_name: model_name.name,
            seed: subject.seed,
            task,
            encoder,
            verbalizer,
            model,
            identity,
            source,
            data,
            max_data,
            task_file,
            described,
        };
        base.require_same()?;
        Ok(base)
    }

    /// Refuses processes of a group that would not compute the same bits.
    fn require_same(&self) -> Result<()> {
        let text = |text: &str| text.to_owned();
        self.session.require_same(&[
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("instructions of products", text(Isa::best().name())),
            ("precision", text(self.session.compute().precision.name())),
            ("device", text(self.session.device_name())),
            ("model (SHA-256)", self.identity.sha256.clone()),
            ("tokenizer (SHA-256)", text(self.encoder.sha256())),
            ("task", self.task.name.clone()),
            ("seed", self.seed.to_string()),
        ])
    }

    /// Says that something answers here.
    ///
    /// # Errors
    /// If the model has no head, or the task no words.
    pub(crate) fn require_answers(&self) -> Result<()> {
        self.model.weights.require_head()?;
        if self.task.labels.is_empty() {
            return Err(SessionError::usage(format!(
                "task {}: no labels, the words that answer it; option `words` or its task file says them",
                self.task.name
            )));
        }
        Ok(())
    }

    /// The tuning that is asked for: loaded, or new.
    ///
    /// # Errors
    /// If it can't be read or does not fit.
    pub(crate) fn tuning(&self, tuned: &Tuned) -> Result<Tuning> {
        let asks_none =
            tuned.prompt_size.is_none() && tuned.prompt_place.is_none() && tuned.prompt_text.is_none();
        if !tuned.load && asks_none {
            let lacks_head = self.model.weights.require_head().is_err();
            let what = match (self.model.config.is_decoder(), lacks_head) {
                (true, _) => Some("a decoder that nothing is tuned for"),
                (false, true) => Some("an encoder without a masked-LM head"),
                (false, false) => None,
            };
            if let Some(what) = what {
                tell_idle(tuned);
                tracing::info!(
                    "{}: {what}; its texts are read as they are, without a prompt",
                    self.identity.id
                );
                return Ok(Tuning::plain_text());
            }
        }
        self.tuning_to_train(tuned)
    }

    /// As [`Self::tuning`], to be trained: without one to load a new one, whatever the model is.
    ///
    /// # Errors
    /// If it can't be read or does not fit.
    pub(crate) fn tuning_to_train(&self, tuned: &Tuned) -> Result<Tuning> {
        let config = &self.model.config;
        tell_idle(tuned);
        check_written(tuned)?;
        if !tuned.load {
            let prompt_size = tuned.prompt_size.map_or(Tuned::PROMPT_SIZE, Into::into);
            return Ok(match tuned.new_method().method() {
                Method::Prompt => {
                    self.check_place(tuned.prompt_place)?;
                    let tuning = match &tuned.prompt_text {
                        Some(text) => self.written_prompt(text)?,
                        None => Tuning::new_prompt_for(config, &self.model.weights, prompt_size, self.seed)?,
                    };
                    if config.is_decoder() {
                        tuning.with_place(tuned.prompt_place.unwrap_or_default())
                    } else {
                        tuning
                    }
                }
                Method::Bias => Tuning::new_bias_for(config),
                Method::Adapter => Tuning::new_adapter(config, ADAPTER_REDUCTION, self.seed)?,
            });
        }
        let tuning = self.loaded_tuning(tuned.read_as())?;
        if let Some(source) = &self.source {
            check_method(&source.tuned, &tuning, tuned.method)?;
        }
        self.check_loaded_place(&tuning, tuned.prompt_place)?;
        tell_no_prompt(tuned, tuning.method());
        if tuned.method == Some(TunedMethod::PrunePrompt) && config.kept_neurons.is_none() {
            tracing::warn!(
                "option `method` {}: model {} is not pruned; it is a prompt like any other",
                TunedMethod::PrunePrompt.name(),
                self.identity.id
            );
        }
        match tuned.prompt_size.map(usize::from) {
            Some(asked) if tuning.method() == Some(Method::Prompt) && asked != tuning.prompt_rows() => {
                let found = tuning.prompt_rows();
                let best = self.source.as_ref().map_or(Path::new(""), |source| &source.tuned).display();
                Err(SessionError::usage(format!(
                    "option `prompt_size` {asked}: the prompt in {best} has {found} positions; leave the option out"
                )))
            }
            _ => Ok(tuning),
        }
    }

    /// A prompt that somebody wrote.
    fn written_prompt(&self, text: &str) -> Result<Tuning> {
        let ids = self.encoder.ids_of_text(text)?;
        if ids.is_empty() {
            return Err(SessionError::usage(
                "option `prompt_text`: expected a text with a token at least, found none",
            ));
        }
        Ok(Tuning::written_prompt(&self.model.config, &self.model.weights, &ids)?)
    }

    /// An encoder's prompt stands in front.
    fn check_place(&self, asked: Option<PromptPlace>) -> Result<()> {
        match asked {
            Some(PromptPlace::After) if !self.model.config.is_decoder() => Err(SessionError::usage(format!(
                "option `prompt_place` after: model {} is an encoder, whose prompt stands in front of the text, where all rows see \
                 it; leave the option out",
                self.identity.id
            ))),
            _ => Ok(()),
        }
    }

    /// A loaded prompt stands where it was tuned.
    fn check_loaded_place(&self, tuning: &Tuning, asked: Option<PromptPlace>) -> Result<()> {
        self.check_place(asked)?;
        match (asked, tuning.place_in(&self.model.config)) {
            (Some(asked), Some(found)) if asked != found => Err(SessionError::usage(format!(
                "option `prompt_place` {asked}: the loaded prompt was tuned to stand {}; leave the option out",
                match found {
                    PromptPlace::Front => "in front of the text (front)",
                    PromptPlace::After => "behind the text (after)",
                }
            ))),
            _ => Ok(()),
        }
    }

    /// The tuned parameters of what is resumed from, whatever method they are of.
    ///
    /// # Errors
    /// If there are none, or they do not fit the model.
    pub(crate) fn loaded_tuning(&self, how: ReadAs) -> Result<Tuning> {
        let Some(source) = &self.source else {
            return Err(SessionError::usage(
                "option `resume_from` RUN: expected a run with tuned parameters, found none",
            ));
        };
        let mask = self.encoder.mask_id();
        let read = Tuning::read(&source.tuned, &self.model.config, &self.model.weights, mask, how)?;
        if !source.torn {
            check_description(source, &read.tuning, how)?;
        }
        if let Some(warning) = read.warning {
            tracing::warn!("{}: {warning}", source.tuned.display());
        }
        Ok(read.tuning)
    }

    /// The model with a tuning in it.
    ///
    /// # Errors
    /// If they do not fit.
    pub(crate) fn roberta(&self, tuning: &Tuning, gradients: Gradients) -> Result<LanguageModel> {
        let model = self.roberta_as_stored(tuning, gradients)?;
        if gradients == Gradients::Nothing {
            self.pack(&model)?;
        }
        Ok(model)
    }

    /// Packs the weights of a model that was made without: they are in memory from then on.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn pack(&self, model: &LanguageModel) -> Result<()> {
        Ok(model.pack(self.session.workers().threads())?)
    }

    /// As [`Self::roberta`], but that weights stay where they are until they are packed, or needed.
    ///
    /// # Errors
    /// As [`Self::roberta`].
    pub(crate) fn roberta_as_stored(&self, tuning: &Tuning, gradients: Gradients) -> Result<LanguageModel> {
        let LoadedModel { config, weights, .. } = &*self.model;
        let model = LanguageModel::new(config, weights, tuning, self.encoder.mask_id(), gradients)?;
        let model = model.with_precision(self.session.compute().precision);
        if self.session.group().size() > 1 {
            self.session.require_same(&[("tuned parameters (SHA-256)", model.tuning()?.sha256()?)])?;
        }
        Ok(model)
    }

    /// The hash of the task's template, if it has one.
    pub(crate) fn template_sha256(&self) -> Option<String> {
        template_sha256(&self.task)
    }

    /// The words and tokens of the classes, for a record.
    pub(crate) fn verbalizer_record(&self) -> VerbalizerRecord {
        VerbalizerRecord { words: self.verbalizer.words.clone(), ids: self.verbalizer.ids.clone() }
    }

    /// The model's name among a stage's inputs, and its hash.
    pub(crate) fn model_read(&self) -> (String, String) {
        (format!("{}{}", input::MODEL, self.identity.id), self.identity.sha256.clone())
    }

    /// How texts are cut and joined, by the names of these settings in a stage's record.
    pub(crate) fn cut_and_joined(&self) -> [(&'static str, Option<String>); 2] {
        let length = self.max_length.map(|length| length.to_string());
        [(setting::MAX_LENGTH, length), (setting::COMPAT, self.paper.then(|| "paper".into()))]
    }

    /// How the task's texts are read, cut and joined, for `skn.json`.
    ///
    /// # Errors
    /// None that a task gives.
    pub(crate) fn texts_record(&self) -> Result<TextsRecord> {
        let settings = self.cut_and_joined().into_iter();
        let settings = settings.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let task = self.described.as_ref().map(serde_json::to_value).transpose()?;
        Ok(TextsRecord { task, settings })
    }

    /// Notes in a stage's record what was read, so that later stages find it again.
    ///
    /// # Errors
    /// If a file can't be hashed.
    pub(crate) fn note(&self, writer: &mut RunWriter) -> Result<()> {
        writer.set("model", absolute(&self.model_name)?);
        writer.set("task", &self.task.name);
        writer.set("seed", self.seed);
        for (name, value) in self.cut_and_joined() {
            if let Some(value) = value {
                writer.set(name, value);
            }
        }
        if self.model.weights.require_head().is_err() {
            writer.set(setting::HEAD, setting::NO_HEAD);
        }
        if let Some(template) = &self.task.template {
            writer.set(setting::TEMPLATE, template);
        }
        if self.max_data != Size::DATA {
            writer.set("max_data", self.max_data);
        }
        writer.set("threads", self.session.workers().threads());
        writer.set("dtype", self.session.compute().precision.name());
        writer.set("device", self.session.device_name());
        if let Some(data) = &self.data {
            writer.set("data", absolute(&data.display().to_string())?);
        }
        if let Some(file) = &self.task_file {
            writer.set("task_file", absolute(&file.display().to_string())?);
            writer.read(file)?;
        }
        let (name, sha256) = self.model_read();
        writer.read_as(name, sha256);
        if let Some(source) = self.source.as_ref().filter(|_| self.loaded) {
            // Of a pruned run it says which model lies beside it.
            let tuned = file::TUNED.iter().map(|name| source.tuned.join(name));
            tuned.chain([source.best.join(file::SKILL_CONFIG)]).try_for_each(|file| writer.read(&file))?;
        }
        Ok(())
    }
}

/// A path that means the same from any working folder; anything else as it is.
///
/// # Errors
/// If the system can't say whether it is a path, or what the working folder is.
fn absolute(name: &str) -> Result<String> {
    let path = Path::new(name);
    if name == Subject::DEMO || !is_there(path)? {
        return Ok(name.to_string());
    }
    let wrong = |source| ArtifactError::Io { file: path.into(), operation: "look at", source };
    Ok(std::path::absolute(path).map_err(wrong)?.display().to_string())
}
