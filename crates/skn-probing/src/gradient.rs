use candle_core::{D, DType, Tensor, Var};
use skn_counts::Pool;
use skn_data::{Batch, TextList};
use skn_kernels::with_values;
use skn_model::{Hook, LanguageModel, ModelError, NeuronSite, Output, Reads, Rows, Scored, Site};

use crate::blocks::{Blocks, ListsOf, OfLayer};
use crate::collect::{Parts, take_each};
use crate::error::{ProbingError, Result};
use crate::evaluate::finite;
use crate::pass::{PassOptions, Texts, check_text_rows, forward};
use crate::statistic::{Row, SlopeOf, Slopes, Statistic};
use crate::watch::pools_read;

/// Passes once over `texts`, forward and back, and gives each statistic its activations with the gradients that it reads
/// ([`Statistic::slopes`], [`Row::slopes`]). `verbalizer` has the token that answers for each class. Neurons are read as the second matrix takes them, at prompt
/// positions or at the text's last row.
///
/// A gradient is that of the whole model behind a neuron: later neurons follow it. With `steps` the pass is done so often, neurons held at k /
/// `steps` of what they are for k = 1 .. `steps`, each alone: what later ones are does not follow then, and the slopes are means over k
/// (integrated gradients, Sundararajan et al. 2017).
///
/// # Errors
/// As [`collect`](crate::collect), or if a statistic reads means or maxima of a text, none reads gradients, or a logit or a gradient is
/// not finite, or there are no steps.
pub fn collect_gradients<'t>(
    model: &LanguageModel,
    texts: impl Into<TextList<'t>>,
    verbalizer: &[u32],
    mut statistics: Vec<Box<dyn Statistic>>,
    steps: Option<usize>,
    options: &PassOptions<'_>,
) -> Result<Vec<Box<dyn Statistic>>> {
    if statistics.is_empty() {
        return Ok(statistics);
    }
    let pools = pools_read(&statistics, model.config().layers());
    if let Some(pool) = pools.iter().find(|pool| matches!(pool, Pool::Mean | Pool::Max)) {
        let expected = "activations of one row: of a prompt position, or of a text's last token";
        return Err(ProbingError::mismatch("gradients", expected, pool.name()));
    }
    let mut of: Vec<SlopeOf> = statistics.iter().flat_map(|statistic| statistic.slopes()).copied().collect();
    of.sort_unstable();
    of.dedup();
    if of.is_empty() {
        let expected = "a statistic that reads them";
        return Err(ProbingError::mismatch("gradients", expected, "none"));
    }
    if steps == Some(0) {
        return Err(ProbingError::mismatch("steps of integrated gradients", "at least 1", 0));
    }
    let texts = texts.into();
    check_text_rows(texts, pools.iter())?;
    let each = |of: &SlopeOf| if *of == SlopeOf::EachClass { verbalizer.len() } else { 1 };
    let neurons = model.config().intermediate_sizes.iter().sum::<usize>();
    let slopes_of_row = neurons * of.iter().map(each).sum::<usize>();
    // What a pass keeps for the way back is many times what it keeps on the way up, and all slopes of a batch are there at once.
    let most = MOST_ROWS.min(MOST_SLOPES / slopes_of_row.max(1)).max(1);
    let options = PassOptions { token_budget: options.token_budget.min(most), ..*options };
    let pass = Texts::new("gradients", model, texts, verbalizer.len(), &options)?;
    let take = |batch: &Batch, mut parts: Parts, blocks: Option<Blocks<'_>>| {
        let way = Way { model, batch, verbalizer, pools: &pools, of: &of };
        let (mut taps, slopes) = match steps {
            None => way.once(blocks)?,
            Some(steps) => way.integrated(steps, blocks)?,
        };
        give(batch, &mut taps, &slopes, &mut parts)?;
        Ok(parts)
    };
    take_each(&pass, model.device(), &mut statistics, take)?;
    Ok(statistics)
}

/// The most rows of a batch whose gradients are taken.
const MOST_ROWS: usize = 512;

/// The most gradients of a batch, where a text alone does not have more.
const MOST_SLOPES: usize = 1 << 28;

/// A batch, forward and back.
struct Way<'a> {
    model: &'a LanguageModel,
    batch: &'a Batch,
    verbalizer: &'a [u32],
    pools: &'a [Pool],
    /// What somebody reads the gradients of.
    of: &'a [SlopeOf],
}

impl<'a> Way<'a> {
    fn once(&self, blocks: Option<Blocks<'a>>) -> Result<(Taps<'a>, Vec<Slopes<Tensor>>)> {
        let mut taps = Taps::new(self.pools, None, blocks);
        let targets = self.targets(&mut taps)?;
        let slopes = back(&taps, &targets)?;
        Ok((taps, slopes))
    }

    fn integrated(
        &self,
        steps: usize,
        blocks: Option<Blocks<'a>>,
    ) -> Result<(Taps<'a>, Vec<Slopes<Tensor>>)> {
        let mut whole = Taps::new(self.pools, None, blocks);
        self.targets(&mut whole)?;
        let all = Tensor::new(steps as f32, self.model.device())?;
        let mut means: Option<Vec<Slopes<Tensor>>> = None;
        for step in 1..=steps {
            let share = step as f64 / steps as f64;
            let mut taps = Taps::new(self.pools, Some((share, &whole)), None);
            let targets = self.targets(&mut taps)?;
            let found = back(&taps, &targets)?;
            let parts = found.iter().map(|slopes| slopes.map(|of| Ok(of.broadcast_div(&all)?)));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            means = Some(match means {
                None => parts,
                Some(means) => {
                    let both = means.iter().zip(&parts);
                    both.map(|(mean, part)| mean.with(part, |mean, part| Ok((mean + part)?)))
                        .collect::<Result<_>>()?
                }
            });
        }
        Ok((whole, means.unwrap_or_default()))
    }

    /// The sums over texts of what gradients are of.
    fn targets(&self, taps: &mut Taps<'_>) -> Result<Slopes<Tensor>> {
        let answers = forward(self.model, self.batch, Output::Answer, taps)?;
        let logits = self.model.logits(&answers, Scored::Tokens(self.verbalizer))?;
        // Here a device is waited for: gradients of others may all be finite.
        finite(self.batch, self.verbalizer.len(), &logits)?;
        let highest = logits.max_keepdim(D::Minus1)?.detach();
        let shifted = logits.broadcast_sub(&highest)?;
        let sum = shifted.exp()?.sum_keepdim(D::Minus1)?;
        let logarithms = shifted.broadcast_sub(&sum.log()?)?;
        let labels: Vec<u32> = self.batch.labels.iter().map(|&label| label as u32).collect();
        let labels = Tensor::new(labels, logits.device())?.unsqueeze(1)?;
        let probabilities = shifted.exp()?.broadcast_div(&sum)?;
        let reads = |of| self.of.contains(&of);
        let loss = || Ok::<_, ProbingError>(logarithms.gather(&labels, 1)?.sum_all()?.neg()?);
        let own = || Ok::<_, ProbingError>(probabilities.gather(&labels, 1)?.sum_all()?);
        let classes = if reads(SlopeOf::EachClass) { self.verbalizer.len() } else { 0 };
        Ok(Slopes {
            loss: reads(SlopeOf::Loss).then(loss).transpose()?,
            own: reads(SlopeOf::OwnClass).then(own).transpose()?,
            classes: (0..classes)
                .map(|class| Ok(probabilities.narrow(1, class, 1)?.sum_all()?))
                .collect::<Result<_>>()?,
        })
    }
}

/// The gradients of the targets to each tap's neurons.
fn back(taps: &Taps<'_>, targets: &Slopes<Tensor>) -> Result<Vec<Slopes<Tensor>>> {
    let of_targets = targets.map(|target| {
        let gradients = target.backward()?;
        let of_tap = |tap: &Tap| match gradients.get(&tap.added) {
            Some(found) => Ok(found.contiguous()?),
            // The answer does not depend on rows that nobody behind them reads.
            None => Ok(tap.values.zeros_like()?),
        };
        taps.found.iter().map(of_tap).collect::<Result<Vec<Tensor>>>()
    })?;
    (0..taps.found.len()).map(|tap| of_targets.map(|of| Ok(of[tap].clone()))).collect()
}

/// Gives the rows of all layers to the parts, with their slopes.
fn give(batch: &Batch, taps: &mut Taps<'_>, slopes: &[Slopes<Tensor>], parts: &mut Parts) -> Result<()> {
    let Taps { found, blocks, .. } = taps;
    let by_block: Vec<bool> =
        parts.iter_mut().map(|part| blocks.is_some() && part.blocks().is_some()).collect();
    for (tap, slopes) in found.iter().zip(slopes) {
        let layer = tap.layer;
        if let (Some(blocks), Some(lists)) = (blocks.as_mut(), tap.lists) {
            let takers = Pool::ALL.map(|pool| {
                let all = parts.iter().zip(&by_block);
                all.map(|(part, by_block)| *by_block && part.reads(pool, layer)).collect()
            });
            let of_layer = OfLayer { values: &tap.values, output_norms: None, slopes: Some(slopes) };
            blocks.give(layer, lists, of_layer, parts, &takers)?;
        }
        let others = parts.iter_mut().zip(&by_block).filter(|(_, by_block)| !**by_block);
        let mut others: Vec<_> = others.map(|(part, _)| part).collect();
        if !others.is_empty() {
            give_rows(batch, tap, slopes, &mut others)?;
        }
    }
    Ok(())
}

/// Gives the rows of a layer that somebody reads, on the host.
fn give_rows(
    batch: &Batch,
    tap: &Tap,
    slopes: &Slopes<Tensor>,
    parts: &mut [&mut Box<dyn Statistic>],
) -> Result<()> {
    let numbers = |of: &Tensor| Ok(with_values(of, <[f32]>::to_vec)?);
    let (layer, width) = (tap.layer, tap.values.dim(1)?);
    let (all, slopes) = (numbers(&tap.values)?, slopes.map(numbers)?);
    let of_rows = tap.rows.iter().enumerate();
    for (index, &(pool, text, position)) in of_rows.filter_map(|(at, row)| Some((at, row.as_ref()?))) {
        let span = index * width..(index + 1) * width;
        let (values, slopes) = (&all[span.clone()], slopes.map(|all| Ok(&all[span.clone()]))?);
        let is_finite = |at: usize| values[at].is_finite() && slopes.each().all(|of| of[at].is_finite());
        if let Some(neuron) = (0..width).find(|&at| !is_finite(at)) {
            let row = batch.rows[text];
            return Err(ProbingError::Activation { row, layer, position, neuron, found: f32::NAN });
        }
        let (label, slopes) = (batch.labels[text], Some(&slopes));
        let row = Row { pool, layer, position, text, label, values, output_norm: None, slopes };
        for part in parts.iter_mut().filter(|part| part.reads(pool, layer)) {
            part.take(&row)?;
        }
    }
    Ok(())
}

/// The neurons of each layer, and the zeros that were added to them, whose gradients are theirs.
struct Taps<'a> {
    pools: &'a [Pool],
    /// What share of what they were neurons are held at.
    held: Option<(f64, &'a Taps<'a>)>,
    blocks: Option<Blocks<'a>>,
    found: Vec<Tap>,
}

struct Tap {
    layer: usize,
    values: Tensor,
    added: Var,
    /// For each row what is taken of it: pool, text and position.
    rows: Vec<Option<(Pool, usize, usize)>>,
    /// What the rows are, where they are given in blocks.
    lists: Option<ListsOf>,
}

impl<'a> Taps<'a> {
    fn new(pools: &'a [Pool], held: Option<(f64, &'a Taps<'a>)>, blocks: Option<Blocks<'a>>) -> Self {
        Self { pools, held, blocks, found: Vec::new() }
    }

    fn tap(&mut self, layer: usize, rows: &Rows<'_>, x: &Tensor) -> Result<Tensor> {
        if x.elem_count() == 0 {
            // A layer without neurons, or without rows.
            return Ok(x.clone());
        }
        let added = Var::zeros(x.shape(), DType::F32, x.device())?;
        let places = rows.sequence().iter().zip(rows.place());
        let taken = places.map(|(&text, place)| match place.in_prompt {
            Some(position) => {
                self.pools.contains(&Pool::Position).then_some((Pool::Position, text as usize, position))
            }
            None => (place.is_last_of_text && self.pools.contains(&Pool::Last)).then_some((
                Pool::Last,
                text as usize,
                0,
            )),
        });
        let taken: Vec<_> = taken.collect();
        let goes_on = match self.held {
            None => (x + added.as_tensor())?,
            Some((share, whole)) => {
                let before = whole.found.iter().find(|tap| tap.layer == layer);
                let before =
                    before.ok_or_else(|| ProbingError::mismatch("layers", "the same each time", layer))?;
                // Rows of the text are as they come; those that are read are held.
                let mask: Vec<f32> = taken.iter().map(|row| f32::from(u8::from(row.is_some()))).collect();
                let mask = Tensor::from_vec(mask, (taken.len(), 1), x.device())?;
                let held = (before.values.affine(share, 0.0)? + added.as_tensor())?.broadcast_mul(&mask)?;
                (x.broadcast_mul(&mask.affine(-1.0, 1.0)?)? + held)?
            }
        };
        let lists = self.blocks.as_mut().map(|blocks| blocks.lists(rows)).transpose()?;
        self.found.push(Tap { layer, values: x.detach(), added, rows: taken, lists });
        Ok(goes_on)
    }
}

impl Hook for Taps<'_> {
    fn reads(&self, site: Site) -> Reads {
        match site == NeuronSite::Product.at(site.layer()) {
            false => Reads::Nothing,
            true if self.pools.contains(&Pool::Last) => Reads::All,
            true => Reads::Prompt,
        }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
        self.tap(site.layer(), rows, &x).map_err(|error| ModelError::hook(site, error))
    }
}
