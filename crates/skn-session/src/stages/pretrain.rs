use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use skn_artifact::Overwrite;
use skn_artifact::names::file;
use skn_data::TextEncoder;
use skn_demo::{Claim, Document, Stage as Curriculum, document};
use skn_model::{Config, Gradients, LanguageModel, NoHook, Output, Pass, Scored, Sequences, Tuning, Weights};
use skn_probing::Work;
use skn_random::{Key, Purpose, Rng};
use skn_tune::{
    Adam, AdamSettings, MaskedBatch, PretrainStep, Schedule, clip_factor, gradient_norm, pretrain_step,
};

use super::pretrain_rehearsal::{rehearse, stopped};
use crate::error::{Result, SessionError};
use crate::initial::initial_weights;
use crate::named::named_task;
use crate::options::PretrainDemo;
use crate::session::Session;

/// What was made.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Pretrained {
    /// The folder of tasks and model.
    pub folder: PathBuf,
    /// The share of held-out documents whose label word is named, by task and kind of line.
    pub named: BTreeMap<String, f64>,
}

impl Session {
    /// Makes the embedded demo: its tokenizer, its tasks, and a RoBERTa pre-trained with masked language modelling. Text is
    /// generated, so nothing is read. Tasks and tokenizer come out byte for byte; weights are the same bytes for the same
    /// program on the same instruction set, for any number of threads.
    ///
    /// # Errors
    /// If a file is there and may not be replaced, or can't be written; if the progress says to stop.
    pub fn pretrain_demo(&self, recipe: &PretrainDemo) -> Result<Pretrained> {
        self.require_alone("a pre-training")?;
        if recipe.out.as_os_str().is_empty() {
            return Err(SessionError::usage("option `out`: expected a folder, found none"));
        }
        check(recipe)?;
        let named = Making { recipe, session: self }.everything()?;
        if self.rehearsal().is_some() {
            return Err(SessionError::Rehearsed);
        }
        Ok(Pretrained { folder: recipe.out.clone(), named })
    }
}

/// Refuses what training would refuse when tasks and tokenizer are written.
fn check(recipe: &PretrainDemo) -> Result<()> {
    for (name, value) in [("batch", recipe.batch), ("report_every", recipe.report_every)] {
        if value == 0 {
            return Err(SessionError::usage(format!("option `{name}`: expected at least 1, found 0")));
        }
    }
    let rate = recipe.learning_rate;
    if rate.is_finite() && rate >= 0.0 {
        return Ok(());
    }
    Err(SessionError::usage(format!(
        "option `learning_rate`: expected a finite number of at least 0, found {rate}"
    )))
}

/// Rows of the position table: texts and prompts of up to 126 rows.
const POSITIONS: usize = 128;
/// Rows of a micro-batch.
const TOKEN_BUDGET: usize = 512;
/// The chance that a token is to be guessed ..
const MASKED: f64 = 0.12;
/// .. and that a label word is.
const LABEL_MASKED: f64 = 0.8;
/// The documents that reports are made of.
const REPORT_STEP: u64 = u64::MAX - 2;
const REPORT_DOCUMENTS: u64 = 1200;

/// The demo in the making.
struct Making<'a> {
    recipe: &'a PretrainDemo,
    session: &'a Session,
}

impl Making<'_> {
    /// Writes tasks and tokenizer, then the model, and says how well it names label words.
    fn everything(&self) -> Result<BTreeMap<String, f64>> {
        let tokenizer = skn_demo::train_tokenizer(self.recipe.seed)
            .map_err(|error| SessionError::failed(format!("tokenizer: {error}")))?;
        let encoder = TextEncoder::from_json(tokenizer.as_bytes(), "model/tokenizer.json")?;
        tracing::info!("tokenizer of {} entries", encoder.vocabulary_size());
        check_label_words(&encoder)?;
        // A shape that can't be had ends it before anything is written.
        let start = self.recipe.model.then(|| Start::new(&encoder, self.recipe)).transpose()?;
        for (name, content) in skn_demo::make_tasks(self.recipe.seed) {
            self.write(&format!("tasks/{name}"), content.as_bytes())?;
        }
        self.write("model/tokenizer.json", tokenizer.as_bytes())?;
        start.map_or_else(|| Ok(BTreeMap::new()), |start| self.model(&encoder, &start))
    }

    fn model(&self, encoder: &TextEncoder, start: &Start) -> Result<BTreeMap<String, f64>> {
        let Start { config, model } = start;
        let mut training = Training::new(self, encoder, model)?;
        let last = || Watch::new(encoder, self.recipe.seed, Curriculum::last())?.named(model);
        let named = match self.session.rehearsal() {
            None => {
                training.all()?;
                last()?
            }
            Some(rehearsal) => {
                let progress = self.session.progress();
                rehearse(rehearsal, progress, self.recipe, &mut |step| training.step(step).map(drop), last)?
            }
        };
        let tensors = model.backbone().iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?)));
        let trained = Weights::from_tensors(config, tensors.collect::<Result<_>>()?)?;
        self.write(&format!("model/{}", file::WEIGHTS), &trained.to_bytes()?)?;
        self.write(&format!("model/{}", file::CONFIG), &config.to_json())?;
        Ok(named)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let overwrite = if self.recipe.overwrite { Overwrite::Replace } else { Overwrite::Refuse };
        self.session.write_beside(&self.recipe.out.join(name), overwrite, bytes)
    }
}

/// The model in training.
struct Training<'a> {
    recipe: &'a PretrainDemo,
    session: &'a Session,
    encoder: &'a TextEncoder,
    model: &'a LanguageModel,
    adam: Adam,
    schedule: Schedule,
}

impl<'a> Training<'a> {
    fn new(
        Making { recipe, session }: &Making<'a>,
        encoder: &'a TextEncoder,
        model: &'a LanguageModel,
    ) -> Result<Self> {
        let settings = AdamSettings { beta2: 0.98, ..AdamSettings::default() };
        let (adam, schedule) = (Adam::new(settings), Schedule::new(recipe.steps, 0.05)?);
        Ok(Self { recipe, session, encoder, model, adam, schedule })
    }

    /// Does all steps.
    fn all(&mut self) -> Result<()> {
        let PretrainDemo { seed, steps, report_every, .. } = *self.recipe;
        let progress = self.session.progress();
        progress.begin(Work::of("pre-training", steps));
        for step in 0..steps {
            if progress.cancelled() {
                return Err(stopped(step, steps));
            }
            let loss = self.step(step)?;
            if step.is_multiple_of(report_every.max(1)) {
                let watch = Watch::new(self.encoder, seed, Curriculum::at(step, steps))?;
                let named: Vec<String> = watch
                    .named(self.model)?
                    .iter()
                    .map(|(name, share)| format!("{name} {share:.2}"))
                    .collect();
                tracing::info!("step {step}: loss {loss:.3}; {}", named.join(", "));
            }
            progress.advance(1);
        }
        Ok(())
    }

    /// Does a step; its loss.
    fn step(&mut self, step: u64) -> Result<f64> {
        let batches = masked_batches(self.encoder, self.recipe, step)?;
        let parts = PretrainStep { number: step, batches: &batches, dropout: None };
        let found = pretrain_step(self.model, &parts, self.session.workers())?;
        let scale = clip_factor(gradient_norm(step, &found.gradients)?, 1.0);
        let rate = self.recipe.learning_rate * self.schedule.factor(step);
        self.adam.update(self.model.backbone(), &found.gradients, scale, rate)?;
        Ok(found.loss)
    }
}

/// The model before its first step.
struct Start {
    config: Config,
    model: LanguageModel,
}

impl Start {
    fn new(encoder: &TextEncoder, recipe: &PretrainDemo) -> Result<Self> {
        let config = Config::new(encoder.vocabulary_size(), recipe.shape, POSITIONS + 2)?;
        let weights = Weights::from_tensors(&config, initial_weights(&config, recipe.seed)?)?;
        let tuning = Tuning::plain_text();
        let model = LanguageModel::new(&config, &weights, &tuning, encoder.mask_id(), Gradients::All)?;
        Ok(Self { config, model })
    }
}

/// The words that answer the demo's tasks must be tokens of their own.
fn check_label_words(encoder: &TextEncoder) -> Result<()> {
    for name in skn_demo::TASKS {
        let words = named_task(name)?.labels;
        let verbalizer = encoder.verbalizer(&words)?;
        if let Some((word, token)) = verbalizer.cut_words().next() {
            return Err(SessionError::failed(format!(
                "task {name}: label word `{word}`: expected one token, found several, the first `{token}`"
            )));
        }
    }
    Ok(())
}

/// A document as tokens, and where its label words stand.
struct Tokens {
    ids: Vec<u32>,
    labels: Vec<usize>,
}

impl Tokens {
    /// Lines, `<s>`, text, `</s>`; or `<s>` first. A label word begins its line, so it has no space before it.
    fn of(encoder: &TextEncoder, document: &Document, start_first: bool) -> Result<Self> {
        let (start, end) = (known(encoder.start_id())?, known(encoder.end_id())?);
        let mut ids = if start_first { vec![start] } else { Vec::new() };
        let mut labels = Vec::new();
        for (number, line) in document.opening.iter().enumerate() {
            if number > 0 {
                ids.extend(encoder.ids_of_text("\n")?);
            }
            labels.push(ids.len());
            ids.extend(encoder.ids_of_text(&line.text)?);
        }
        ids.push(if start_first { encoder.ids_of_text("\n")?[0] } else { start });
        ids.extend(encoder.ids_of_text(&document.text)?);
        ids.push(end);
        if let Some(second) = &document.second {
            ids.push(end);
            ids.extend(encoder.ids_of_text(second)?);
            ids.push(end);
        }
        ids.truncate(POSITIONS);
        Ok(Self { ids, labels })
    }
}

fn masked_batches(encoder: &TextEncoder, recipe: &PretrainDemo, step: u64) -> Result<Vec<MaskedBatch>> {
    let (stage, mask) = (Curriculum::at(step, recipe.steps), known(encoder.mask_id())?);
    let empty = || MaskedBatch { starts: vec![0], ..MaskedBatch::default() };
    let (mut batches, mut batch) = (Vec::new(), empty());
    for sample in 0..recipe.batch {
        let mut document = document(recipe.seed, step, sample, stage);
        let mut rng = Key::new(recipe.seed, Purpose::Masking).step(step).sample(sample).rng();
        // Sometimes a text is just a text, and sometimes the lines belong to it.
        let form = rng.below(12);
        if form == 0 {
            document.opening.clear();
        }
        let tokens = Tokens::of(encoder, &document, form < 2)?;
        if batch.ids.len() + tokens.ids.len() > TOKEN_BUDGET && !batch.samples.is_empty() {
            batches.push(std::mem::replace(&mut batch, empty()));
        }
        hide(encoder, mask, &mut rng, &tokens, &mut batch);
        batch.starts.push(batch.ids.len());
        batch.samples.push(sample);
    }
    batches.push(batch);
    batches.retain(|batch| !batch.rows.is_empty());
    Ok(batches)
}

/// Appends `ids` to `batch`, some hidden: 80 % behind `<mask>`, 10 % behind any token, 10 % as they are (Devlin et al.
/// 2019). A label word is hidden often, and always behind `<mask>`.
fn hide(encoder: &TextEncoder, mask: u32, rng: &mut Rng, tokens: &Tokens, batch: &mut MaskedBatch) {
    let special = [encoder.start_id(), encoder.end_id()];
    for (place, &id) in tokens.ids.iter().enumerate() {
        let is_label = tokens.labels.contains(&place);
        let chance = if is_label { LABEL_MASKED } else { MASKED };
        let hidden = !special.contains(&Some(id)) && rng.uniform() < chance;
        let shown = match (hidden, is_label) {
            (false, _) => id,
            (true, true) => mask,
            (true, false) => match rng.below(10) {
                0 => id,
                1 => rng.below(encoder.vocabulary_size()) as u32,
                _ => mask,
            },
        };
        if hidden {
            batch.rows.push(batch.ids.len() as u32);
            batch.targets.push(id);
        }
        batch.ids.push(shown);
    }
}

/// A token that the demo's tokenizer has.
fn known(id: Option<u32>) -> Result<u32> {
    id.ok_or_else(|| SessionError::failed("tokenizer: expected <s>, </s> and <mask>, found one without"))
}

/// Documents of the whole language whose label words the model is asked for.
struct Watch {
    groups: Vec<Group>,
}

struct Group {
    name: String,
    words: Vec<u32>,
    texts: Vec<(Vec<u32>, u32)>,
}

impl Watch {
    fn new(encoder: &TextEncoder, seed: u64, stage: Curriculum) -> Result<Self> {
        let documents: Vec<Document> =
            (0..REPORT_DOCUMENTS).map(|sample| document(seed, REPORT_STEP, sample, stage)).collect();
        let mut groups = Vec::new();
        for task in skn_demo::TASKS {
            let words = encoder.verbalizer(&named_task(task)?.labels)?.ids;
            for (claim, claim_name) in [(Claim::Right, "right"), (Claim::Wrong, "wrong")] {
                let mut texts = Vec::new();
                for document in &documents {
                    if let [line] = document.opening.as_slice()
                        && (line.claim, line.task) == (claim, task)
                    {
                        let mut ids = Tokens::of(encoder, document, false)?.ids;
                        let target = std::mem::replace(&mut ids[0], known(encoder.mask_id())?);
                        texts.push((ids, target));
                    }
                }
                groups.push(Group { name: format!("{task} {claim_name}"), words: words.clone(), texts });
            }
        }
        Ok(Self { groups })
    }

    /// The share of documents, by task and claim, whose label word is the likeliest of its task's.
    fn named(&self, model: &LanguageModel) -> Result<BTreeMap<String, f64>> {
        let share = |group: &Group| {
            Ok((group.name.clone(), group.right(model)? as f64 / group.texts.len().max(1) as f64))
        };
        self.groups.iter().map(share).collect()
    }
}

impl Group {
    fn right(&self, model: &LanguageModel) -> Result<usize> {
        let mut starts = vec![0];
        let mut ids = Vec::new();
        for (text, _) in &self.texts {
            ids.extend(text);
            starts.push(ids.len());
        }
        let rows: Vec<u32> = starts[..self.texts.len()].iter().map(|&start| start as u32).collect();
        let samples = vec![0; self.texts.len()];
        let pass = Pass { output: Output::Rows(Arc::from(rows)), dropout: None };
        let hidden = model.forward(
            Sequences { ids: &ids, starts: &starts, samples: &samples, seconds: &[] },
            &pass,
            &mut NoHook,
        )?;
        let logits = model.logits(&hidden.detach(), Scored::Tokens(&self.words))?.to_vec2::<f32>()?;
        let likeliest =
            |logits: &Vec<f32>| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let right = logits.iter().zip(&self.texts).filter(|(logits, (_, target))| {
            likeliest(logits).is_some_and(|class| self.words[class] == *target)
        });
        Ok(right.count())
    }
}
