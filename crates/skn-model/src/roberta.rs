use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use skn_kernels::{
    Activation, Dropout, LayerNorm, Linear, Packing, Precision, SelfAttention, dropout, select_rows,
};
use skn_random::{Key, Purpose};

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::hook::{Hook, Reads, Rows};
use crate::roberta::trunk::{Trunk, first_read};
use crate::site::Site;
use crate::tuning::{ADAPTER_NAME, Method, PROMPT_NAME, Tuning};
use crate::weights::{NoHead, Table, Weights};

mod trunk;

/// Token ids of a batch of texts, one after another, without padding and without prompt.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    /// `<s> text </s>` of every text, concatenated.
    pub ids: &'a [u32],
    /// Where each text starts in `ids`, and the end: n + 1 ascending numbers.
    pub starts: &'a [usize],
    /// The number of each text in the data; random decisions are keyed by it.
    pub samples: &'a [u64],
    /// For each text where in `ids` the second of a pair begins, or where the text ends if it is one; empty if no text
    /// is a pair. Only a BERT can tell ([`Config::segments`]).
    pub seconds: &'a [usize],
}

/// Which hidden states a pass returns.
#[derive(Clone, Debug, Default)]
pub enum Output {
    /// None: the pass ends with the last layer that a hook reads.
    Nothing,
    /// Row 0 of each sequence, where the answer is read: `[sequences, hidden]`.
    #[default]
    Answer,
    /// The given rows, as ascending numbers of the packed batch: `[rows, hidden]`.
    Rows(Arc<[u32]>),
}

/// Dropout while training: the same masks for the same seed, step and text, whatever the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingDropout {
    /// Probability for hidden states.
    pub hidden: f32,
    /// Probability for attention weights.
    pub attention: f32,
    /// The run's seed.
    pub seed: u64,
    /// The training step.
    pub step: u64,
}

/// What to compute in a forward pass.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// The hidden states to return.
    pub output: Output,
    /// Dropout, while training.
    pub dropout: Option<TrainingDropout>,
}

/// The vocabulary rows that logits are computed for.
#[derive(Clone, Copy, Debug)]
pub enum Scored<'a> {
    /// The whole vocabulary.
    All,
    /// These token ids, in this order: a verbalizer.
    Tokens(&'a [u32]),
}

/// Which parameters get gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradients {
    /// None: for inference.
    Nothing,
    /// Those of the tuning method.
    Tuned,
    /// Those of the tuning method and the whole backbone's.
    All,
}

/// A RoBERTa masked language model, or one of its relatives ([`Family`](crate::Family)), with a [`Tuning`] in it.
///
/// One type serves training, probing, perturbing, pruning and prediction: layers have their own FFN widths, and what
/// a [`Hook`] returns takes the place of what it was given. Frozen weights are plain tensors, so no gradient for
/// them exists.
pub struct Roberta {
    config: Config,
    device: Device,
    words: Table,
    positions: Tensor,
    token_types: Tensor,
    prefix: Vec<Tensor>,
    prompt_rows: usize,
    embedding_norm: LayerNorm,
    layers: Vec<Layer>,
    head: std::result::Result<Head, NoHead>,
    parameters: BTreeMap<String, Var>,
    backbone: BTreeMap<String, Var>,
    tuning: Tuning,
    precision: Precision,
}

struct Layer {
    activation: Activation,
    attention: SelfAttention,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    adapter: Option<Adapter>,
}

impl Layer {
    fn pack(&self, answers_only: bool) -> Result<()> {
        self.attention.pack(answers_only)?;
        [&self.attention_output, &self.intermediate, &self.output].into_iter().try_for_each(Linear::pack)?;
        Ok(())
    }

    fn set_precision(&mut self, precision: Precision) {
        self.attention.set_precision(precision);
        let adapter = self.adapter.as_mut().map(|adapter| [&mut adapter.down, &mut adapter.up]);
        let linears = [&mut self.attention_output, &mut self.intermediate, &mut self.output];
        linears
            .into_iter()
            .chain(adapter.into_iter().flatten())
            .for_each(|linear| linear.set_precision(precision));
    }
}

/// Pfeiffer's bottleneck (Pfeiffer et al., 2021) after the FFN.
struct Adapter {
    down: Linear,
    up: Linear,
}

struct Head {
    dense: Linear,
    activation: Activation,
    norm: LayerNorm,
    bias: Tensor,
}

/// What every layer of a pass needs to know.
#[derive(Clone)]
struct Batch<'a> {
    packing: Packing,
    samples: &'a [u64],
    dropout: Option<TrainingDropout>,
}

/// Where dropout falls; together with the layer, part of the key of its mask.
#[derive(Clone, Copy)]
enum DropoutSite {
    Attention = 0,
    AttentionOutput = 1,
    Output = 2,
    Embeddings = 3,
}

impl Roberta {
    /// Puts `tuning` into the backbone `weights`. `mask` is the id of the `<mask>` token.
    ///
    /// # Errors
    /// If a tensor of the tuning does not fit the model, or the mask is not in the vocabulary.
    pub fn new(
        config: &Config,
        weights: &Weights,
        tuning: &Tuning,
        mask: u32,
        gradients: Gradients,
    ) -> Result<Self> {
        tuning.check(config)?;
        let mut source =
            Source { weights, tuning, gradients, parameters: BTreeMap::new(), backbone: BTreeMap::new() };
        let (family, eps) = (config.family, config.layer_norm_eps);
        let words = source.table(&family.embeddings("word_embeddings.weight"))?;
        let layers = (0..config.layers())
            .map(|layer| Layer::new(&mut source, layer, config))
            .collect::<Result<_>>()?;
        let head = match weights.no_head() {
            Some(no_head) => Err(no_head.clone()),
            None => Ok(Head::new(&mut source, config)?),
        };
        let prefix = prefix(&mut source, &words, mask, config)?;
        let prompt_rows = prefix.iter().map(|rows| rows.dim(0)).sum::<candle_core::Result<usize>>()?;
        Ok(Self {
            device: weights.device().clone(),
            positions: source.get(&family.embeddings("position_embeddings.weight"))?,
            token_types: source.get(&family.embeddings("token_type_embeddings.weight"))?,
            embedding_norm: source.norm(&family.embeddings("LayerNorm"), eps)?,
            config: config.clone(),
            words,
            prefix,
            prompt_rows,
            layers,
            head,
            parameters: source.parameters,
            backbone: source.backbone,
            tuning: tuning.clone(),
            precision: Precision::default(),
        })
    }

    /// The same model, the products of its layers' frozen weights made in another precision: in bf16 packed weights take half
    /// the memory, and products about half the time on a CPU that has it ([`skn_kernels::Precision`]). Embeddings, attention, normalisation, sums and the label
    /// words' logits stay f32. On other devices than the CPU nothing changes.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self.layers.iter_mut().for_each(|layer| layer.set_precision(precision));
        if let Ok(head) = &mut self.head {
            head.dense.set_precision(precision);
        }
        self
    }

    /// Packs the frozen weights for answering texts, on so many threads. Without this each is packed at its first use, by
    /// every thread that comes to it first.
    ///
    /// # Errors
    /// If a weight can't be read.
    pub fn pack(&self, threads: usize) -> Result<()> {
        let last = self.layers.len().saturating_sub(1);
        let threads = threads.clamp(1, self.layers.len().max(1));
        let share = |thread: usize| {
            let mut layers = self.layers.iter().enumerate().skip(thread).step_by(threads);
            layers.try_for_each(|(index, layer)| layer.pack(index == last))
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || share(thread))).collect();
            let own = share(0);
            let join = |other: std::thread::ScopedJoinHandle<'_, _>| {
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            others.into_iter().map(join).fold(own, Result::and)
        })
    }

    /// What the products of frozen weights are made in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The device that the model lies on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// P: the rows before `<s>`, the `<mask>` row included.
    pub fn prompt_rows(&self) -> usize {
        self.prompt_rows
    }

    /// The most tokens a text may have, `<s>` and `</s>` included.
    pub fn max_text(&self) -> usize {
        self.config.max_sequence().saturating_sub(self.prompt_rows)
    }

    /// What trains, by name, in sorted order.
    pub fn parameters(&self) -> &BTreeMap<String, Var> {
        &self.parameters
    }

    /// With [`Gradients::All`]: the other parameters that get a gradient, by name.
    pub fn backbone(&self) -> &BTreeMap<String, Var> {
        &self.backbone
    }

    /// The tuning with the values that its parameters have now.
    ///
    /// # Errors
    /// If a tensor can't be copied.
    pub fn tuning(&self) -> Result<Tuning> {
        let mut tensors = BTreeMap::new();
        for (name, var) in &self.parameters {
            tensors.insert(name.clone(), var.as_tensor().copy()?.detach());
        }
        Ok(if tensors.is_empty() { self.tuning.clone() } else { self.tuning.with_tensors(tensors) })
    }

    /// Runs the encoder over a packed batch and returns the hidden states that `pass` asks for, `[rows, hidden]`.
    ///
    /// Only what somebody reads is computed: in the last layer that matters, only the rows of `pass.output` and of
    /// `hook`. With [`Output::Nothing`] the result has no rows.
    ///
    /// # Errors
    /// If a token is not in the vocabulary, a sequence has more rows than positions, the numbers of `batch` do not
    /// fit together, or the hook fails.
    pub fn forward(&self, batch: Sequences<'_>, pass: &Pass, hook: &mut dyn Hook) -> Result<Tensor> {
        let trunk = Trunk::new(self, batch, pass)?;
        let plan = trunk.plan(hook)?;
        trunk.finish(&plan, hook)
    }

    /// As [`Self::forward`] with each of `hooks`, to the bit, but what they have in common is computed once: a pass
    /// without a hook goes up through the layers, and each hook's own pass begins at the first [`Site`] that it reads.
    /// So a hook that is first called at the neurons of layer 9 costs the second matrix of that layer and the layers
    /// above, and one that reads nothing costs nothing beside the pass that all share. The last layer is only shared
    /// if all hooks have the same rows of it computed.
    ///
    /// `each` is given the place of a hook in `hooks` and its hidden states `[rows, hidden]`, in the order of their first
    /// sites. At most two passes are held at a time, the common one and that of one hook.
    ///
    /// ```
    /// use skn_model::{Hook, ModelError, NoHook, Pass, Result, Roberta, Sequences};
    ///
    /// /// How far each hook moves the answers, as the greatest difference.
    /// fn moved(model: &Roberta, batch: Sequences<'_>, hook: &mut dyn Hook) -> Result<f32> {
    ///     let mut answers = Vec::new();
    ///     model.forward_each(batch, &Pass::default(), &mut [&mut NoHook, hook], |place, hidden| {
    ///         answers.push((place, hidden));
    ///         Ok::<_, ModelError>(())
    ///     })?;
    ///     let difference = (&answers[0].1 - &answers[1].1)?.abs()?;
    ///     Ok(difference.max_all()?.to_scalar()?)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Self::forward`], and the first one of `each`; what comes after it is not computed.
    pub fn forward_each<E: From<ModelError>>(
        &self,
        batch: Sequences<'_>,
        pass: &Pass,
        hooks: &mut [&mut dyn Hook],
        mut each: impl FnMut(usize, Tensor) -> Result<(), E>,
    ) -> Result<(), E> {
        let first_reads = hooks.iter().map(|hook| first_read(self.layers.len(), *hook));
        let mut order: Vec<(usize, usize)> = first_reads.zip(0..).collect();
        order.sort_unstable();
        let mut trunk = Trunk::new(self, batch, pass)?;
        let plans = hooks.iter().map(|hook| trunk.plan(*hook)).collect::<Result<Vec<_>>>()?;
        let common = trunk.common(&plans);
        let Some((_, last)) = order.pop() else { return Ok(()) };
        for (first, place) in order {
            trunk.grow(first, &common)?;
            each(place, trunk.clone().finish(&plans[place], &mut *hooks[place])?)?;
        }
        // Nobody needs the common pass any more, so its tensors may go as they are used.
        each(last, trunk.finish(&plans[last], &mut *hooks[last])?)
    }

    /// Logits `[rows, scored]` of hidden states `[rows, hidden]`, through the masked-LM head.
    ///
    /// # Errors
    /// If the model has no such head, or a token is not in the vocabulary.
    pub fn logits(&self, hidden: &Tensor, scored: Scored<'_>) -> Result<Tensor> {
        let head = self.head.as_ref().map_err(NoHead::error)?;
        let transformed = head.dense.forward(hidden, head.activation)?;
        let transformed = head.norm.forward(&transformed)?;
        let (weight, bias) = match scored {
            Scored::All => (self.words.tensor()?, head.bias.clone()),
            Scored::Tokens(ids) => {
                self.check_tokens(ids)?;
                (self.words.rows(ids)?, head.bias.index_select(&Tensor::new(ids, &self.device)?, 0)?)
            }
        };
        Ok(Linear::new(weight, Some(bias))?.forward(&transformed, Activation::Identity)?)
    }

    fn check_tokens(&self, ids: &[u32]) -> Result<()> {
        let vocabulary = self.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            None => Ok(()),
            Some(id) => Err(ModelError::input("token id", format!("less than vocab_size {vocabulary}"), id)),
        }
    }

    fn check(&self, batch: Sequences<'_>) -> Result<()> {
        self.check_tokens(batch.ids)?;
        let sequences = batch.starts.len().saturating_sub(1);
        if batch.samples.len() != sequences || batch.starts.last() != Some(&batch.ids.len()) {
            let expected = "starts from 0 to the number of ids, and one sample for each sequence";
            let found = format!(
                "starts {:?}, {} ids, {} samples",
                batch.starts,
                batch.ids.len(),
                batch.samples.len()
            );
            return Err(ModelError::input("sequences", expected, found));
        }
        self.check_seconds(batch)?;
        let limit = self.config.max_sequence();
        for (sequence, ends) in batch.starts.windows(2).enumerate() {
            let rows = ends[1].saturating_sub(ends[0]) + self.prompt_rows;
            if rows > limit {
                let found = format!("{rows} ({} of them prompt)", self.prompt_rows);
                return Err(ModelError::input(
                    format!("rows of sequence {sequence}"),
                    format!("at most {limit}"),
                    found,
                ));
            }
        }
        Ok(())
    }

    fn check_seconds(&self, batch: Sequences<'_>) -> Result<()> {
        let mut ends = batch.starts.windows(2).zip(batch.seconds);
        let inside = ends.all(|(ends, second)| (ends[0]..=ends[1]).contains(second));
        if batch.seconds.is_empty() || (inside && batch.seconds.len() == batch.samples.len()) {
            return Ok(());
        }
        let expected = "a place in each text, or none at all";
        let found = format!("starts {:?}, seconds {:?}", batch.starts, batch.seconds);
        Err(ModelError::input("second texts", expected, found))
    }

    /// For each row 1 if it belongs to the second text of a pair, else 0; nothing if no row does, or the model can't tell.
    fn row_types(&self, batch: Sequences<'_>, rows: &skn_kernels::RowSelection) -> Option<Vec<u32>> {
        let ends = batch.starts.iter().skip(1);
        if !self.config.segments()
            || batch.seconds.iter().zip(ends.clone()).all(|(second, end)| second == end)
        {
            return None;
        }
        let first_rows: Vec<usize> = batch
            .starts
            .iter()
            .zip(batch.seconds)
            .map(|(start, second)| self.prompt_rows + second - start)
            .collect();
        let each = rows.sequence().iter().zip(rows.position());
        Some(
            each.map(|(&text, &position)| u32::from(position as usize >= first_rows[text as usize]))
                .collect(),
        )
    }

    /// Embeddings `[rows, hidden]`: prompt rows and words, plus position and token type, then LayerNorm and dropout.
    fn embed(&self, batch: Sequences<'_>, info: &Batch<'_>) -> Result<Tensor> {
        let texts = self.words.rows(batch.ids)?;
        let rows = info.packing.all_rows();
        let embedded = if self.prefix.is_empty() {
            texts
        } else {
            let mut sources = self.prefix.clone();
            sources.push(texts);
            Tensor::cat(&sources, 0)?.index_select(&Tensor::new(self.places(&rows), &self.device)?, 0)?
        };
        let positions: Vec<u32> =
            rows.position().iter().map(|p| p + self.config.first_position as u32).collect();
        let positions = self.positions.index_select(&Tensor::new(positions, &self.device)?, 0)?;
        let embedded = (embedded + positions)?;
        let embedded = match self.row_types(batch, &rows) {
            None => embedded.broadcast_add(&self.token_types.narrow(0, 0, 1)?)?,
            Some(types) => {
                (embedded + self.token_types.index_select(&Tensor::new(types, &self.device)?, 0)?)?
            }
        };
        let normalised = self.embedding_norm.forward(&embedded)?;
        Ok(match info.hidden_mask(0, DropoutSite::Embeddings)? {
            Some(mask) => dropout(&normalised, &rows, &mask)?,
            None => normalised,
        })
    }

    /// For each row of the packed batch its place in `[prompt rows; text rows]`.
    fn places(&self, rows: &skn_kernels::RowSelection) -> Vec<u32> {
        let prompt = self.prompt_rows as u32;
        let each = rows.sequence().iter().zip(rows.position()).zip(rows.number());
        each.map(|((sequence, &position), number)| {
            // A text row's number counts the prompts of its own and all earlier sequences; only one is there.
            if position < prompt { position } else { number - sequence * prompt }
        })
        .collect()
    }
}

/// `wanted` of the computed `rows`.
fn narrow_to(
    x: &Tensor,
    rows: &skn_kernels::RowSelection,
    wanted: &skn_kernels::RowSelection,
    device: &Device,
) -> Result<Tensor> {
    if rows.len() == wanted.len() {
        return Ok(x.clone());
    }
    let mut computed = rows.number().iter().enumerate();
    let mut places = Vec::with_capacity(wanted.len());
    for number in wanted.number() {
        places.extend(computed.find(|(_, computed)| *computed == number).map(|(place, _)| place as u32));
    }
    Ok(x.index_select(&Tensor::new(places, device)?, 0)?)
}

impl Batch<'_> {
    fn mask(&self, probability: f32, layer: usize, site: DropoutSite) -> Result<Option<Dropout>> {
        let Some(training) = self.dropout.filter(|_| probability > 0.0) else { return Ok(None) };
        let key = Key::new(training.seed, Purpose::Dropout)
            .step(training.step)
            .layer((layer * 4) as u32 + site as u32);
        let keys = self.samples.iter().map(|&sample| key.sample(sample).bytes()).collect();
        Ok(Some(Dropout::new(probability, keys)?))
    }

    fn hidden_mask(&self, layer: usize, site: DropoutSite) -> Result<Option<Dropout>> {
        self.mask(self.dropout.map_or(0.0, |training| training.hidden), layer, site)
    }
}

impl Layer {
    fn new(source: &mut Source<'_>, layer: usize, config: &Config) -> Result<Self> {
        let (name, eps) = (config.family.layer(layer), config.layer_norm_eps);
        let query = source.linear(&format!("{name}.attention.self.query"))?;
        let key = source.linear(&format!("{name}.attention.self.key"))?;
        let value = source.linear(&format!("{name}.attention.self.value"))?;
        Ok(Self {
            activation: config.activation(),
            attention: SelfAttention::new(query, key, value, config.num_attention_heads)?,
            attention_output: source.linear(&format!("{name}.attention.output.dense"))?,
            attention_norm: source.norm(&format!("{name}.attention.output.LayerNorm"), eps)?,
            intermediate: source.linear(&format!("{name}.intermediate.dense"))?,
            output: source.linear(&format!("{name}.output.dense"))?,
            output_norm: source.norm(&format!("{name}.output.LayerNorm"), eps)?,
            adapter: source.adapter(&format!("{name}.output.adapters.{ADAPTER_NAME}"))?,
        })
    }

    /// The first part of the layer, computed for `rows` of its input `x` `[all rows, hidden]`: what the FFN is added to,
    /// `[rows, hidden]`, and the FFN's neurons, `[rows, width]`.
    fn neurons(
        &self,
        index: usize,
        x: Tensor,
        rows: &skn_kernels::RowSelection,
        batch: &Batch<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let residual = select_rows(&x, rows)?;
        let attended = self.attend(index, &x, &residual, rows, batch)?;
        drop(x);
        let mask = batch.hidden_mask(index, DropoutSite::AttentionOutput)?;
        let dropped = mask.as_ref().map(|mask| (rows, mask));
        let middle = self.attention_norm.forward_residual(&attended, &residual, dropped)?;
        let neurons = self.intermediate.forward(&middle, self.activation)?;
        Ok((middle, neurons))
    }

    /// The rest of the layer, from what [`Self::neurons`] gave to its output `[rows, hidden]`.
    fn output(
        &self,
        index: usize,
        neurons: Tensor,
        middle: &Tensor,
        rows: &skn_kernels::RowSelection,
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        let output = self.output.forward(&neurons, Activation::Identity)?;
        drop(neurons);
        let mask = batch.hidden_mask(index, DropoutSite::Output)?;
        let dropped = mask.as_ref().map(|mask| (rows, mask));
        match (&self.adapter, dropped) {
            (None, dropped) => Ok(self.output_norm.forward_residual(&output, middle, dropped)?),
            (Some(adapter), None) => adapter.forward(&output, middle, &self.output_norm),
            (Some(adapter), Some((rows, mask))) => {
                adapter.forward(&dropout(&output, rows, mask)?, middle, &self.output_norm)
            }
        }
    }

    fn attend(
        &self,
        index: usize,
        x: &Tensor,
        residual: &Tensor,
        rows: &skn_kernels::RowSelection,
        batch: &Batch<'_>,
    ) -> Result<Tensor> {
        let probability = batch.dropout.map_or(0.0, |training| training.attention);
        let mask = batch.mask(probability, index, DropoutSite::Attention)?;
        let mixed = self.attention.forward(x, residual, rows, mask.as_ref())?;
        Ok(self.attention_output.forward(&mixed, Activation::Identity)?)
    }
}

impl Head {
    fn new(source: &mut Source<'_>, config: &Config) -> Result<Self> {
        let family = config.family;
        Ok(Self {
            dense: source.linear(family.head_dense())?,
            activation: config.head_activation(),
            norm: source.norm(family.head_norm(), config.layer_norm_eps)?,
            bias: source.get(family.head_bias())?,
        })
    }
}

impl Adapter {
    /// `LN(up(relu(down(LN(x + residual)))) + x + residual)`, both times with the layer's own LayerNorm.
    fn forward(&self, x: &Tensor, residual: &Tensor, norm: &LayerNorm) -> Result<Tensor> {
        let sum = (x + residual)?;
        let down = self.down.forward(&norm.forward(&sum)?, Activation::Relu)?;
        Ok(norm.forward_residual(&self.up.forward(&down, Activation::Identity)?, &sum, None)?)
    }
}

fn visit(hook: &mut dyn Hook, site: Site, rows: &Rows<'_>, x: Tensor) -> Result<Tensor> {
    if hook.reads(site) == Reads::Nothing {
        return Ok(x);
    }
    let shape = x.shape().clone();
    let y = hook.on(site, rows, x)?;
    if y.shape() == &shape {
        return Ok(y);
    }
    Err(ModelError::input(format!("hook at {site}"), format!("{shape:?} back"), format!("{:?}", y.shape())))
}

/// The rows before `<s>`: nothing for pre-training, else the `<mask>` row (unless a foreign prompt stands for it) and
/// the prompt.
fn prefix(source: &mut Source<'_>, words: &Table, mask: u32, config: &Config) -> Result<Vec<Tensor>> {
    if mask as usize >= config.vocab_size {
        let expected = format!("less than vocab_size {}", config.vocab_size);
        return Err(ModelError::input("id of the <mask> token", expected, mask));
    }
    let mut rows = Vec::new();
    if source.tuning.has_mask_row() {
        rows.push(words.row(mask)?);
    }
    if source.tuning.method() == Some(Method::Prompt) {
        rows.push(source.get(PROMPT_NAME)?);
    }
    Ok(rows)
}

/// Gives out the tensors of a model: a trainable one as the tensor of a `Var`, which is kept.
struct Source<'a> {
    weights: &'a Weights,
    tuning: &'a Tuning,
    gradients: Gradients,
    parameters: BTreeMap<String, Var>,
    backbone: BTreeMap<String, Var>,
}

impl Source<'_> {
    fn get(&mut self, name: &str) -> Result<Tensor> {
        let known = self.parameters.get(name).or_else(|| self.backbone.get(name));
        if let Some(var) = known {
            return Ok(var.as_tensor().clone());
        }
        let tensor = match self.tuning.tensor(name) {
            Some(tensor) => tensor.to_device(self.weights.device())?,
            None => self.weights.get(name)?,
        };
        if self.is_frozen(name) {
            return Ok(tensor);
        }
        let trains = self.tuning.trains(name);
        let var = Var::from_tensor(&tensor.copy()?)?;
        let tensor = var.as_tensor().clone();
        let owner = if trains { &mut self.parameters } else { &mut self.backbone };
        owner.insert(name.into(), var);
        Ok(tensor)
    }

    /// A matrix whose rows are looked up.
    fn table(&mut self, name: &str) -> Result<Table> {
        if self.is_frozen(name) && self.tuning.tensor(name).is_none() {
            return self.weights.table(name);
        }
        Ok(Table::Tensor(self.get(name)?))
    }

    fn is_frozen(&self, name: &str) -> bool {
        let trains = self.gradients != Gradients::Nothing && self.tuning.trains(name);
        !trains && self.gradients != Gradients::All
    }

    fn linear(&mut self, name: &str) -> Result<Linear> {
        let weight = format!("{name}.weight");
        let bias = self.get(&format!("{name}.bias"))?;
        match self.weights.stored(&weight) {
            Some(stored) if self.is_frozen(&weight) && self.tuning.tensor(&weight).is_none() => {
                let (shape, stored) = (stored.shape(), stored.clone());
                let read = move |rows, values: &mut Vec<f32>| {
                    stored.read_rows(rows, values).map_err(candle_core::Error::wrap)
                };
                Ok(Linear::deferred(shape, bias, read)?)
            }
            _ => Ok(Linear::new(self.get(&weight)?, Some(bias))?),
        }
    }

    fn norm(&mut self, name: &str, eps: f64) -> Result<LayerNorm> {
        let weight = self.get(&format!("{name}.weight"))?;
        let bias = self.get(&format!("{name}.bias"))?;
        Ok(LayerNorm::new(weight, bias, eps)?)
    }

    fn adapter(&mut self, name: &str) -> Result<Option<Adapter>> {
        if self.tuning.method() != Some(Method::Adapter) {
            return Ok(None);
        }
        let down = self.linear(&format!("{name}.adapter_down.0"))?;
        Ok(Some(Adapter { down, up: self.linear(&format!("{name}.adapter_up"))? }))
    }
}
