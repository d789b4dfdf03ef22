use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use skn_kernels::Precision;

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::hook::{Hook, NoHook};
use crate::language_model::encoder::Encoder;
use crate::language_model::graphs::Graphs;
use crate::language_model::head::Head;
use crate::language_model::supply::TensorSupply;
use crate::language_model::trunk::{Trunk, first_read, reads_nothing};
use crate::layout::Layout;
use crate::pass::Pass;
use crate::sequences::Sequences;
use crate::tuning::{PromptPlace, Tuning};
use crate::weights::{NoHead, Weights};

mod adapter;
mod batch;
mod embeddings;
mod encoder;
mod graphs;
mod head;
mod layer;
mod norm;
mod supply;
mod trunk;

pub use head::Scored;
pub use supply::Gradients;

/// An encoder or a decoder of one of the [families](crate::Family), with a [`Tuning`] in it.
///
/// One type serves training, probing, perturbing, pruning and prediction: layers have their own FFN widths, and what
/// a [`Hook`] returns takes the place of what it was given. Frozen weights are plain tensors, so no gradient for
/// them exists.
pub struct LanguageModel {
    // The first that goes: graphs that still run read the weights.
    graphs: Option<Graphs>,
    encoder: Encoder,
    head: std::result::Result<Head, NoHead>,
    parameters: BTreeMap<String, Var>,
    backbone: BTreeMap<String, Var>,
    tuning: Tuning,
    precision: Precision,
}

impl LanguageModel {
    /// Puts `tuning` into the backbone `weights`. `mask` is the id of the `<mask>` token, which a decoder has not.
    ///
    /// # Errors
    /// If a tensor of the tuning does not fit the model, or the mask is not in the vocabulary.
    pub fn new(
        config: &Config,
        weights: &Weights,
        tuning: &Tuning,
        mask: impl Into<Option<u32>>,
        gradients: Gradients,
    ) -> Result<Self> {
        tuning.check(config)?;
        let mut supply = TensorSupply::new(config, weights, tuning, gradients);
        let encoder = Encoder::new(&mut supply, config, mask.into())?;
        let head = match weights.no_head() {
            Some(no_head) => Err(no_head.clone()),
            None => Ok(Head::new(&mut supply, config)?),
        };
        Ok(Self {
            encoder,
            head,
            parameters: supply.parameters,
            backbone: supply.backbone,
            tuning: tuning.clone(),
            precision: Precision::default(),
            graphs: None,
        })
    }

    /// The same model, whose passes over few rows are captured as CUDA graphs when batches of their lengths come again, and replayed
    /// from then on, made to have the bits of plain ones. Not those with gradients, dropout or a hook that reads anything. One thread that
    /// stays asks it, since what was captured is the thread's, and nobody opens the card anew or lets it go meanwhile. A pass that can't
    /// be captured is a plain one ([`Self::graphs_refusal`]), as is every pass on devices that replay nothing
    /// ([`skn_kernels::Backend::replays`]). It never ran on a real card.
    #[must_use]
    pub fn with_graphs(mut self) -> Self {
        self.graphs = Some(Graphs::new());
        self
    }

    /// Why a pass could not be captured ([`Self::with_graphs`]): the first that could not. Nothing as long as all could.
    pub fn graphs_refusal(&self) -> Option<String> {
        self.graphs.as_ref().and_then(Graphs::refusal)
    }

    /// The same model, the products of its layers' frozen weights made in another precision, on devices that have it
    /// ([`skn_kernels::Backend::multiplies_in`]): in bf16 these weights take half the memory, and products about half the time on a
    /// CPU that has it ([`skn_kernels::Precision`]). Embeddings, attention, normalisation, sums and the label words' logits
    /// stay f32.
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        // What was captured multiplies as before.
        self.graphs = self.graphs.map(|_| Graphs::new());
        self.precision = precision;
        self.encoder.set_precision(precision);
        if let Ok(head) = &mut self.head {
            head.set_precision(precision);
        }
        self
    }

    /// Packs the frozen weights for answering texts, on so many threads. Without this each is packed at its first use, by
    /// every thread that comes to it first.
    ///
    /// # Errors
    /// If a weight can't be read.
    pub fn pack(&self, threads: usize) -> Result<()> {
        self.encoder.pack(threads)
    }

    /// Bytes of memory that the matrices of its layers take now on its device: nothing for one that was not needed yet.
    pub fn weight_bytes(&self) -> usize {
        self.encoder.weight_bytes() + self.head.as_ref().map_or(0, Head::weight_bytes)
    }

    /// What the products of frozen weights are made in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.encoder.config
    }

    /// The device that the model lies on.
    pub fn device(&self) -> &Device {
        self.encoder.device()
    }

    /// Where the prompt stands, and where the answer is read.
    pub fn layout(&self) -> Layout {
        self.encoder.layout()
    }

    /// Where a decoder's prompt stands, if it has one.
    pub fn prompt_place(&self) -> Option<PromptPlace> {
        self.tuning.place_in(self.config())
    }

    /// P: the rows of the prompt, the `<mask>` row included.
    pub fn prompt_rows(&self) -> usize {
        self.layout().prompt_rows()
    }

    /// The most tokens a text may have, `<s>` and `</s>` included.
    pub fn max_text(&self) -> usize {
        self.config().max_sequence().saturating_sub(self.prompt_rows())
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
    /// `hook`. With [`Output::Nothing`](crate::Output::Nothing) the result has no rows.
    ///
    /// # Errors
    /// If a token is not in the vocabulary, a sequence has more rows than positions, the numbers of `batch` do not
    /// fit together, or the hook fails.
    pub fn forward(&self, batch: Sequences<'_>, pass: &Pass, hook: &mut dyn Hook) -> Result<Tensor> {
        match self.graphs_for(hook) {
            Some(graphs) => {
                graphs.run(&self.encoder, batch, pass, None, || self.plain(batch, pass, &mut NoHook))
            }
            None => self.plain(batch, pass, hook),
        }
    }

    /// Logits `[rows, scored]` of the hidden states that `pass` asks for: those of [`Self::logits`] behind [`Self::forward`], to the bit.
    /// A model with graphs ([`Self::with_graphs`]) captures both as one for [`Scored::Tokens`]. A replay launches nothing beside, if these
    /// are the tokens that the model has scored first: it keeps the layer of those.
    ///
    /// # Errors
    /// As both.
    pub fn forward_logits(
        &self,
        batch: Sequences<'_>,
        pass: &Pass,
        scored: Scored<'_>,
        hook: &mut dyn Hook,
    ) -> Result<Tensor> {
        let head = self.head()?;
        let (Some(graphs), Scored::Tokens(ids)) = (self.graphs_for(hook), scored) else {
            return self.logits(&self.forward(batch, pass, hook)?, scored);
        };
        // What is captured reads them, and does not make them.
        let words = head.words(&self.encoder, scored)?;
        graphs.run(&self.encoder, batch, pass, Some(ids), || {
            head.logits(&self.plain(batch, pass, &mut NoHook)?, &words)
        })
    }

    /// The pass itself.
    fn plain(&self, batch: Sequences<'_>, pass: &Pass, hook: &mut dyn Hook) -> Result<Tensor> {
        let trunk = Trunk::new(&self.encoder, batch, pass)?;
        let plan = trunk.plan(hook)?;
        trunk.finish(&plan, hook)
    }

    /// The graphs of passes with a hook, if it has those: where nothing gets a gradient, so that nothing changes, and the hook reads
    /// nothing.
    fn graphs_for(&self, hook: &dyn Hook) -> Option<&Graphs> {
        let is_fixed = self.parameters.is_empty() && self.backbone.is_empty();
        self.graphs.as_ref().filter(|_| is_fixed && reads_nothing(self.encoder.layers.len(), hook))
    }

    fn head(&self) -> Result<&Head> {
        self.head.as_ref().map_err(NoHead::error)
    }

    /// As [`Self::forward`] with each of `hooks`, to the bit, but what they have in common is computed once: a pass
    /// without a hook goes up through the layers, and each hook's own pass begins at the first [`Site`](crate::Site) that it
    /// reads. So a hook that is first called at the neurons of layer 9 costs the second matrix of that layer and the layers
    /// above, and one that reads nothing costs nothing beside the pass that all share. The last layer is only shared
    /// if all hooks have the same rows of it computed.
    ///
    /// `each` is given the place of a hook in `hooks` and its hidden states `[rows, hidden]`, in the order of their first
    /// sites. At most two passes are held at a time, the common one and that of one hook.
    ///
    /// ```
    /// use skn_model::{Hook, ModelError, NoHook, Pass, Result, LanguageModel, Sequences};
    ///
    /// /// How far each hook moves the answers, as the greatest difference.
    /// fn moved(model: &LanguageModel, batch: Sequences<'_>, hook: &mut dyn Hook) -> Result<f32> {
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
        if let [hook] = hooks {
            return each(0, self.forward(batch, pass, *hook)?);
        }
        let first_reads = hooks.iter().map(|hook| first_read(self.encoder.layers.len(), *hook));
        let mut order: Vec<(usize, usize)> = first_reads.zip(0..).collect();
        order.sort_unstable();
        let mut trunk = Trunk::new(&self.encoder, batch, pass)?;
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

    /// What a layer's FFN makes of its neurons `[rows, width(layer)]`: its second matrix and bias, `[rows, hidden]`, before the norm or the
    /// sum behind it.
    ///
    /// # Errors
    /// If the model has no such layer, or it has another width.
    pub fn ffn_output(&self, layer: usize, neurons: &Tensor) -> Result<Tensor> {
        let layers = &self.encoder.layers;
        let wrong = || ModelError::input("layer", format!("below {}", layers.len()), layer);
        layers.get(layer).ok_or_else(wrong)?.ffn_output(neurons)
    }

    /// Logits `[rows, scored]` of hidden states `[rows, hidden]`, through the masked-LM head.
    ///
    /// # Errors
    /// If the model has no such head, or a token is not in the vocabulary.
    pub fn logits(&self, hidden: &Tensor, scored: Scored<'_>) -> Result<Tensor> {
        let head = self.head()?;
        head.logits(hidden, &head.words(&self.encoder, scored)?)
    }
}
