use candle_core::{DType, Tensor};
use skn_kernels::{Packing, RowSelection, rows_of, zeros_on};

use super::batch::Batch;
use super::encoder::Encoder;
use super::layer::{LookAtFactors, LookAtOutput};
use crate::error::{ModelError, Result};
use crate::hook::{Hook, NoHook, Reads, Rows, sees};
use crate::layout::Layout;
use crate::pass::{Output, Pass};
use crate::sequences::Sequences;
use crate::site::Site;

/// A forward pass on its way up through the layers. Cloned, it goes on twice from where it is: tensors are shared, not
/// copied.
#[derive(Clone)]
pub(super) struct Trunk<'a> {
    encoder: &'a Encoder,
    batch: Sequences<'a>,
    info: Batch<'a>,
    output: Option<RowSelection>,
    /// The layer that the pass is at, or how many there were.
    layer: usize,
    at: At,
}

/// How far a pass goes: through so many layers, the last of which computes only these rows.
#[derive(Clone, PartialEq)]
pub(super) struct Plan {
    depth: usize,
    last_rows: RowSelection,
}

/// What is known in or before a layer.
#[derive(Clone)]
enum At {
    /// Nothing yet; the layer is 0.
    Texts,
    /// Its input, `[rows, hidden]`.
    Input(Tensor),
    /// What its FFN is added to, `[rows, hidden]`, and its neurons, `[rows, width]`, which no hook has seen yet.
    Neurons { middle: Tensor, neurons: Tensor },
    /// Its output, `[rows, hidden]`, which no hook has seen yet.
    Output(Tensor),
}

impl<'a> Trunk<'a> {
    /// A pass that has computed nothing yet.
    pub(super) fn new(encoder: &'a Encoder, batch: Sequences<'a>, pass: &Pass) -> Result<Self> {
        let (layout, starts) = (encoder.layout(), batch.starts.iter().enumerate());
        batch.check(&encoder.config, layout.prompt_rows())?;
        let starts: Vec<usize> = starts.map(|(n, start)| start + n * layout.prompt_rows()).collect();
        let packing = Packing::from_starts(&starts)?;
        let output = match &pass.output {
            Output::Nothing => None,
            Output::Answer => Some(layout.answers(&packing)),
            Output::Rows(rows) => Some(packing.select(rows)?),
        };
        let info = Batch { packing, samples: batch.samples, dropout: pass.dropout };
        Ok(Self { encoder, batch, info, output, layer: 0, at: At::Texts })
    }

    /// How far the pass goes with `hook`: as far as somebody reads.
    pub(super) fn plan(&self, hook: &dyn Hook) -> Result<Plan> {
        let layers = self.encoder.layers.len();
        let depth = if self.output.is_some() { layers } else { depth(layers, hook) };
        let last_rows =
            last_rows(depth, self.output.as_ref(), &self.info.packing, self.encoder.layout(), hook)?;
        Ok(Plan { depth, last_rows })
    }

    /// What passes with these plans have in common. A row may come out with other bits where fewer rows are computed
    /// ([`skn_kernels::SelfAttention`]), so each computes its own in its last layer, unless all compute the same.
    pub(super) fn common(&self, plans: &[Plan]) -> Plan {
        match plans {
            [first, others @ ..] if others.iter().all(|plan| plan == first) => first.clone(),
            _ => {
                let least = plans.iter().map(|plan| plan.depth).min().unwrap_or(0);
                Plan { depth: least.saturating_sub(1), last_rows: self.info.packing.all_rows() }
            }
        }
    }

    /// Goes on by itself, as far as the plan goes and a hook may that is first called at this site ([`first_read`]).
    pub(super) fn grow(&mut self, first: usize, plan: &Plan) -> Result<()> {
        while self.layer < plan.depth && self.calls().is_none_or(|site| site < first) {
            // Whoever goes on from here may see what the last step makes.
            let is_last = self.calls().is_some_and(|site| site + 1 >= first);
            self.step(plan, &mut NoHook, is_last)?;
        }
        Ok(())
    }

    /// Goes on with `hook` to the end, and returns the hidden states that are asked for, `[rows, hidden]`.
    pub(super) fn finish(mut self, plan: &Plan, hook: &mut dyn Hook) -> Result<Tensor> {
        while self.layer < plan.depth {
            self.step(plan, hook, false)?;
        }
        match (self.output, self.at) {
            (Some(wanted), At::Input(hidden)) => {
                let hidden = narrow_to(&hidden, &plan.last_rows, &wanted)?;
                match &self.encoder.final_norm {
                    Some(norm) => norm.forward(&hidden),
                    None => Ok(hidden),
                }
            }
            _ => Ok(zeros_on((0, self.encoder.config.hidden_size), self.encoder.device())?),
        }
    }

    /// The number of the last site that the next step calls a hook at, if it does.
    fn calls(&self) -> Option<usize> {
        match self.at {
            At::Texts => None,
            // Of the gate and what it lets through, the later one.
            At::Input(_) => Some(4 * self.layer + 1),
            At::Neurons { .. } => Some(4 * self.layer + 2),
            At::Output(_) => Some(4 * self.layer + 3),
        }
    }

    /// One transformer layer is three of these steps, and they are the only ones. What a step was given is
    /// dropped by it, unless another clone has it. After an error the pass is of no use.
    /// What it makes may be seen `by_others` than the hook.
    fn step(&mut self, plan: &Plan, hook: &mut dyn Hook, by_others: bool) -> Result<()> {
        let (encoder, info, index) = (self.encoder, &self.info, self.layer);
        let all = index + 1 < plan.depth;
        let rows = if all { info.packing.all_rows() } else { plan.last_rows.clone() };
        let seen = Rows { rows: &rows, samples: info.samples, layout: encoder.layout() };
        self.at = match std::mem::replace(&mut self.at, At::Texts) {
            At::Texts => At::Input(encoder.embeddings.embed(self.batch, info)?),
            At::Input(x) => {
                let [gate, up, neurons, _] = Site::of_layer(index);
                let looked_at = by_others || hook.reads(neurons) != Reads::Nothing;
                let parts = [gate, up].into_iter().any(|site| hook.reads(site) != Reads::Nothing);
                let mut visit = |site: Site, x: Tensor| visit(hook, site, &seen, x);
                let look: Option<LookAtFactors<'_>> = if parts { Some(&mut visit) } else { None };
                let layer = &encoder.layers[index];
                let (middle, neurons) = layer.neurons(index, x, &rows, info, look, looked_at)?;
                At::Neurons { middle, neurons }
            }
            At::Neurons { middle, neurons } => {
                let neurons = visit(hook, Site::FfnAct { layer: index }, &seen, neurons)?;
                let is_seen = sees(hook, index);
                let mut see = |ffn: &Tensor| hook.see_ffn_output(index, &seen, ffn);
                let look: Option<LookAtOutput<'_>> = if is_seen { Some(&mut see) } else { None };
                At::Output(encoder.layers[index].output(index, neurons, &middle, &rows, info, look)?)
            }
            At::Output(x) => {
                self.layer += 1;
                At::Input(visit(hook, Site::LayerOut { layer: index }, &seen, x)?)
            }
        };
        Ok(())
    }
}

/// How many sites of a model of so many layers a pass goes by before `hook` is called: what is computed until then is
/// the same with it and without.
pub(super) fn first_read(layers: usize, hook: &dyn Hook) -> usize {
    (0..layers).flat_map(Site::of_layer).take_while(|&site| hook.reads(site) == Reads::Nothing).count()
}

/// Whether a hook is called nowhere in a model of so many layers.
pub(super) fn reads_nothing(layers: usize, hook: &dyn Hook) -> bool {
    depth(layers, hook) == 0
}

/// How many of the layers somebody needs if nobody asks for hidden states.
fn depth(layers: usize, hook: &dyn Hook) -> usize {
    let read =
        |layer: usize| Site::of_layer(layer).into_iter().any(|site| hook.reads(site) != Reads::Nothing);
    (0..layers).rev().find(|&layer| read(layer)).map_or(0, |layer| layer + 1)
}

/// The rows that the last layer of a pass through `depth` layers computes.
fn last_rows(
    depth: usize,
    output: Option<&RowSelection>,
    packing: &Packing,
    layout: Layout,
    hook: &dyn Hook,
) -> Result<RowSelection> {
    let last = depth.checked_sub(1).map(Site::of_layer);
    let reads = last.into_iter().flatten().map(|site| hook.reads(site)).max();
    let read = match reads.unwrap_or(Reads::Nothing) {
        Reads::All => return Ok(packing.all_rows()),
        Reads::Nothing => packing.first_rows(0),
        Reads::Answer => layout.answers(packing),
        Reads::Prompt => layout.prompt(packing)?,
    };
    let Some(output) = output else { return Ok(read) };
    let union: std::collections::BTreeSet<u32> =
        read.number().iter().chain(output.number()).copied().collect();
    if union.len() == output.len() {
        // Not chosen anew: one row each is computed in a way of its own ([`skn_kernels::SelfAttention`]).
        return Ok(output.clone());
    }
    Ok(packing.select(&union.into_iter().collect::<Vec<u32>>())?)
}

/// `wanted` of the computed `rows`.
fn narrow_to(x: &Tensor, rows: &RowSelection, wanted: &RowSelection) -> Result<Tensor> {
    if rows.len() == wanted.len() {
        return Ok(x.clone());
    }
    let mut computed = rows.number().iter().enumerate();
    let mut places = Vec::with_capacity(wanted.len());
    for number in wanted.number() {
        places.extend(computed.find(|(_, computed)| *computed == number).map(|(place, _)| place as u32));
    }
    Ok(rows_of(x, &places)?)
}

fn visit(hook: &mut dyn Hook, site: Site, rows: &Rows<'_>, x: Tensor) -> Result<Tensor> {
    if hook.reads(site) == Reads::Nothing {
        return Ok(x);
    }
    if x.dtype() != DType::F32 {
        // Nobody read it when it was made.
        let expected = "to read the same throughout a pass";
        return Err(ModelError::input(
            format!("hook at {site}"),
            expected,
            "that it reads this site after all",
        ));
    }
    let shape = x.shape().clone();
    let y = hook.on(site, rows, x)?;
    if y.shape() == &shape {
        return Ok(y);
    }
    Err(ModelError::input(format!("hook at {site}"), format!("{shape:?} back"), format!("{:?}", y.shape())))
}
