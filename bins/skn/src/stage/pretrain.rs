//! Pre-trains the demo model on the demo's own language, and writes everything that `data/` embeds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use clap::Args;
use skn_artifact::{Overwrite, write_file};
use skn_data::TextEncoder;
use skn_demo::{Claim, Document, Stage, document};
use skn_model::{Config, Gradients, NoHook, Output, Pass, Roberta, Scored, Sequences, Tuning, Weights, shapes};
use skn_probing::{Progress, Workers};
use skn_random::{Key, Purpose, Rng};
use skn_tune::{Adam, AdamSettings, MaskedBatch, PretrainStep, Schedule, clip_factor, gradient_norm, pretrain_step};

/// How to pre-train. The defaults are the recipe of the embedded model.
#[derive(Args, Clone, Debug)]
pub struct Recipe {
    /// Folder that gets model/ and tasks/
    #[arg(long = "out", value_name = "FOLDER")]
    pub out: PathBuf,

    /// Seed of text, weights and masks
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Steps of training
    #[arg(long, value_name = "N", default_value_t = 6000)]
    pub steps: u64,

    /// Documents a step
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: u64,

    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 2e-3)]
    pub lr: f64,

    /// Hidden size, attention heads, FFN width, layers
    #[arg(long, value_name = "H,A,F,L", value_delimiter = ',', num_args = 4, default_values_t = [96, 4, 384, 4])]
    pub shape: Vec<usize>,

    /// Steps between reports of how well label words are named
    #[arg(long, value_name = "N", default_value_t = 250)]
    pub report_every: u64,

    /// Write the tokenizer and the tasks only
    #[arg(long)]
    pub without_model: bool,
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

/// Pre-trains and writes, telling `progress`, and `say` how well label words are named.
///
/// # Errors
/// If a number of the recipe makes no sense, the loss is not finite, or a file can't be written.
pub fn pretrain(recipe: &Recipe, workers: &Workers, progress: &dyn Progress, say: &dyn Fn(&str)) -> Result<()> {
    let write = |name: &str, bytes: &[u8]| write_file(&recipe.out.join(name), Overwrite::Replace, bytes);
    for (name, content) in skn_demo::make_tasks(recipe.seed) {
        write(&format!("tasks/{name}"), content.as_bytes())?;
    }
    let tokenizer = skn_demo::train_tokenizer(recipe.seed).map_err(|error| anyhow::anyhow!("tokenizer: {error}"))?;
    write("model/tokenizer.json", tokenizer.as_bytes())?;
    let encoder = TextEncoder::from_json(tokenizer.as_bytes(), "model/tokenizer.json")?;
    say(&format!("tokenizer: {} entries", encoder.vocabulary_size()));
    check_label_words(&encoder)?;
    if recipe.without_model {
        return Ok(());
    }
    let shape = <[usize; 4]>::try_from(recipe.shape.as_slice()).context("--shape: expected four numbers")?;
    let config = Config::new(encoder.vocabulary_size(), shape, POSITIONS + 2)?;
    let weights = Weights::from_tensors(&config, initial_weights(&config, recipe.seed)?)?;
    let mask = encoder.mask_id();
    let model = Roberta::new(&config, &weights, &Tuning::plain_text(), mask, Gradients::All)?;
    let settings = AdamSettings { beta2: 0.98, ..AdamSettings::default() };
    let (mut adam, schedule) = (Adam::new(settings), Schedule::new(recipe.steps, 0.05)?);
    progress.begin("pre-training", recipe.steps);
    for step in 0..recipe.steps {
        if step % recipe.report_every == 0 && step > 0 {
            say(&format!("step {step}: {}", Watch::new(&encoder, recipe.seed, Stage::at(step, recipe.steps))?.report(&model, workers)?));
        }
        if progress.cancelled() {
            anyhow::bail!("stopped at step {step}; nothing of the model is written");
        }
        let batches = masked_batches(&encoder, recipe, step)?;
        let found = pretrain_step(&model, &PretrainStep { number: step, batches: &batches, dropout: None }, workers)?;
        let scale = clip_factor(gradient_norm(step, &found.gradients)?, 1.0);
        adam.update(model.backbone(), &found.gradients, scale, recipe.lr * schedule.factor(step))?;
        if step % recipe.report_every == 0 {
            say(&format!("step {step}: loss {:.3}", found.loss));
        }
        progress.advance(1);
    }
    say(&format!("step {}: {}", recipe.steps, Watch::new(&encoder, recipe.seed, Stage::last())?.report(&model, workers)?));
    let tensors = model.backbone().iter().map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?)));
    let trained = Weights::from_tensors(&config, tensors.collect::<Result<_>>()?)?;
    write("model/model.safetensors", &trained.to_bytes()?)?;
    write("model/config.json", &config.to_json())?;
    Ok(())
}

/// The words that answer the demo's tasks must be tokens of their own.
fn check_label_words(encoder: &TextEncoder) -> Result<()> {
    for name in skn_demo::TASKS {
        let words = demo_task(name)?.labels;
        let verbalizer = encoder.verbalizer(&words)?;
        if let Some((word, token)) = verbalizer.cut_words().next() {
            anyhow::bail!("task {name}: label word `{word}`: expected one token, found several, the first `{token}`");
        }
    }
    Ok(())
}

fn demo_task(name: &str) -> Result<skn_data::Task> {
    let files = skn_demo::task_files(name).with_context(|| format!("demo task {name}"))?;
    Ok(skn_data::Task::from_toml(files.description, &format!("demo/{name}.toml"))?)
}

/// Weights of standard deviation 1/sqrt(hidden size), LayerNorm scales of 1, biases of 0. (With BERT's 0.02 a model this
/// small stays for thousands of steps where it ignores the context.)
fn initial_weights(config: &Config, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    let deviation = 1.0 / (config.hidden_size as f64).sqrt();
    let tensor = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let count = shape.iter().product();
        let mut rng = Key::new(seed, Purpose::WeightInit).layer(index as u32).rng();
        let deviation = if name.contains("position_embeddings") { 0.02 } else { deviation };
        let values: Vec<f32> = if name.ends_with("bias") {
            vec![0.0; count]
        } else if shape.len() == 1 {
            vec![1.0; count]
        } else {
            (0..count).map(|_| (rng.normal() * deviation) as f32).collect()
        };
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    shapes(config).into_iter().enumerate().map(tensor).collect()
}

/// A document as tokens, and where its label words stand.
struct Tokens {
    ids: Vec<u32>,
    labels: Vec<usize>,
}

impl Tokens {
    /// Lines, `<s>`, text, `</s>`; or `<s>` first. A label word begins its line, so it has no space before it.
    fn of(encoder: &TextEncoder, document: &Document, start_first: bool) -> Result<Self> {
        let (start, end) = (encoder.start_id(), encoder.end_id());
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

fn masked_batches(encoder: &TextEncoder, recipe: &Recipe, step: u64) -> Result<Vec<MaskedBatch>> {
    let stage = Stage::at(step, recipe.steps);
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
        hide(encoder, &mut rng, &tokens, &mut batch);
        batch.starts.push(batch.ids.len());
        batch.samples.push(sample);
    }
    batches.push(batch);
    batches.retain(|batch| !batch.rows.is_empty());
    Ok(batches)
}

/// Appends `ids` to `batch`, some hidden: 80 % behind `<mask>`, 10 % behind any token, 10 % as they are (Devlin et al.
/// 2019). A label word is hidden often, and always behind `<mask>`.
fn hide(encoder: &TextEncoder, rng: &mut Rng, tokens: &Tokens, batch: &mut MaskedBatch) {
    let special = [encoder.start_id(), encoder.end_id()];
    for (place, &id) in tokens.ids.iter().enumerate() {
        let is_label = tokens.labels.contains(&place);
        let chance = if is_label { LABEL_MASKED } else { MASKED };
        let hidden = !special.contains(&id) && rng.uniform() < chance;
        let shown = match (hidden, is_label) {
            (false, _) => id,
            (true, true) => encoder.mask_id(),
            (true, false) => match rng.below(10) {
                0 => id,
                1 => rng.below(encoder.vocabulary_size()) as u32,
                _ => encoder.mask_id(),
            },
        };
        if hidden {
            batch.rows.push(batch.ids.len() as u32);
            batch.targets.push(id);
        }
        batch.ids.push(shown);
    }
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
    fn new(encoder: &TextEncoder, seed: u64, stage: Stage) -> Result<Self> {
        let mut groups = Vec::new();
        for task in skn_demo::TASKS {
            let words = encoder.verbalizer(&demo_task(task)?.labels)?.ids;
            for (claim, claim_name) in [(Claim::Right, "right"), (Claim::Wrong, "wrong")] {
                let mut texts = Vec::new();
                for sample in 0..REPORT_DOCUMENTS {
                    let document = document(seed, REPORT_STEP, sample, stage);
                    if let [line] = document.opening.as_slice()
                        && (line.claim, line.task) == (claim, task)
                    {
                        let mut ids = Tokens::of(encoder, &document, false)?.ids;
                        let target = std::mem::replace(&mut ids[0], encoder.mask_id());
                        texts.push((ids, target));
                    }
                }
                groups.push(Group { name: format!("{task} {claim_name}"), words: words.clone(), texts });
            }
        }
        Ok(Self { groups })
    }

    /// The share of documents, by task and claim, whose label word is the likeliest of its task's.
    fn report(&self, model: &Roberta, _workers: &Workers) -> Result<String> {
        let mut parts = Vec::new();
        for group in &self.groups {
            let right = group.right(model)?;
            parts.push(format!("{} {:.2}", group.name, right as f64 / group.texts.len().max(1) as f64));
        }
        Ok(parts.join(", "))
    }
}

impl Group {
    fn right(&self, model: &Roberta) -> Result<usize> {
        let mut starts = vec![0];
        let mut ids = Vec::new();
        for (text, _) in &self.texts {
            ids.extend(text);
            starts.push(ids.len());
        }
        let rows: Vec<u32> = starts[..self.texts.len()].iter().map(|&start| start as u32).collect();
        let samples = vec![0; self.texts.len()];
        let pass = Pass { output: Output::Rows(Arc::from(rows)), dropout: None };
        let hidden = model.forward(Sequences { ids: &ids, starts: &starts, samples: &samples }, &pass, &mut NoHook)?;
        let logits = model.logits(&hidden.detach(), Scored::Tokens(&self.words))?.to_vec2::<f32>()?;
        let likeliest = |logits: &Vec<f32>| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        let right = logits.iter().zip(&self.texts).filter(|(logits, (_, target))| {
            likeliest(logits).is_some_and(|class| self.words[class] == *target)
        });
        Ok(right.count())
    }
}

/// Where the embedded files lie in a checkout.
pub fn default_folder() -> &'static Path {
    Path::new("data")
}
