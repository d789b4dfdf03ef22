use std::collections::BTreeMap;

use candle_core::{D, DType, Tensor, Var};
use skn_counts::Pool;
use skn_data::{Batch, TextList};
use skn_model::{Hook, LanguageModel, ModelError, NeuronSite, Output, Reads, Rows, Scored, Site};

use crate::error::{ProbingError, Result};
use crate::pass::{PassOptions, Texts, check_text_rows, forward};
use crate::statistic::{BatchTexts, Row, Slope, Statistic};
use crate::watch::pools_read;

/// Passes once over `texts`, forward and back, and gives each statistic its activations with their gradients
/// ([`Row::slopes`]). `verbalizer` has the token that answers for each class. Neurons are read as the second matrix takes them, at prompt
/// positions or at the text's last row.
///
/// A gradient is that of the whole model behind a neuron: later neurons follow it. With `steps` the pass is done so often, neurons held at k /
/// `steps` of what they are for k = 1 .. `steps`, each alone: what later ones are does not follow then, and the slopes are means over k
/// (integrated gradients, Sundararajan et al. 2017).
///
/// # Errors
/// As [`collect`](crate::collect), or if a statistic reads means or maxima of a text, a logit or a gradient is not finite.
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
    let nothing = BatchTexts { labels: &[], rows: &[], places: &[] };
    let blank: Vec<_> =
        statistics.iter().map(|statistic| statistic.of_batch(&nothing)).collect::<Result<_>>()?;
    let pools = pools_read(&blank, model.config().layers());
    if let Some(pool) = pools.iter().find(|pool| matches!(pool, Pool::Mean | Pool::Max)) {
        let expected = "activations of one row: of a prompt position, or of a text's last token";
        return Err(ProbingError::mismatch("gradients", expected, pool.name()));
    }
    let texts = texts.into();
    check_text_rows(texts, pools.iter())?;
    // What a pass keeps for the way back is many times what it keeps on the way up.
    let options = PassOptions { token_budget: options.token_budget.min(MOST_ROWS), ..*options };
    let pass = Texts::new("gradients", model, texts, verbalizer.len(), &options)?;
    let map = |_, batch: &Batch| {
        let places: Vec<usize> = pass.places(batch).collect();
        let of = BatchTexts { labels: &batch.labels, rows: &batch.rows, places: &places };
        let mut parts: Vec<_> = blank.iter().map(|of_all| of_all.of_batch(&of)).collect::<Result<_>>()?;
        let way = Way { model, batch, verbalizer, pools: &pools };
        let (taps, slopes) = match steps {
            None => way.once()?,
            Some(steps) => way.integrated(steps)?,
        };
        way.give(&taps, &slopes, &mut parts)?;
        Ok(parts)
    };
    pass.run(map, |_, parts: Vec<Box<dyn Statistic>>| {
        statistics.iter_mut().zip(parts).try_for_each(|(whole, part)| whole.absorb(part))
    })?;
    Ok(statistics)
}

/// The most rows of a batch whose gradients are taken.
const MOST_ROWS: usize = 512;

/// The slopes of each layer's rows, `[rows, width]`: of the loss, then of each class's probability.
type Slopes = BTreeMap<usize, Vec<Vec<f32>>>;

/// A batch, forward and back.
struct Way<'a> {
    model: &'a LanguageModel,
    batch: &'a Batch,
    verbalizer: &'a [u32],
    pools: &'a [Pool],
}

impl Way<'_> {
    fn once(&self) -> Result<(Taps<'_>, Slopes)> {
        let mut taps = Taps::new(self.pools, None);
        let targets = self.targets(&mut taps)?;
        let slopes = self.back(&taps, &targets)?;
        Ok((taps, slopes))
    }

    fn integrated(&self, steps: usize) -> Result<(Taps<'_>, Slopes)> {
        let mut whole = Taps::new(self.pools, None);
        self.targets(&mut whole)?;
        let mut sums = Slopes::new();
        for step in 1..=steps {
            let share = step as f64 / steps as f64;
            let mut taps = Taps::new(self.pools, Some((share, &whole)));
            let targets = self.targets(&mut taps)?;
            for (layer, slopes) in self.back(&taps, &targets)? {
                let sums = sums
                    .entry(layer)
                    .or_insert_with(|| slopes.iter().map(|of| vec![0.0; of.len()]).collect());
                for (sums, slopes) in sums.iter_mut().zip(slopes) {
                    sums.iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += slope / steps as f32);
                }
            }
        }
        Ok((whole, sums))
    }

    /// The sum over texts of the loss of the answer, then of each class's probability.
    fn targets(&self, taps: &mut Taps<'_>) -> Result<Vec<Tensor>> {
        let answers = forward(self.model, self.batch, Output::Answer, taps)?;
        let logits = self.model.logits(&answers, Scored::Tokens(self.verbalizer))?;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        if let Some(place) = values.iter().position(|value| !value.is_finite()) {
            let (text, class) = (place / self.verbalizer.len(), place % self.verbalizer.len());
            return Err(ProbingError::Logit { row: self.batch.rows[text], class, found: values[place] });
        }
        let highest = logits.max_keepdim(D::Minus1)?.detach();
        let shifted = logits.broadcast_sub(&highest)?;
        let sum = shifted.exp()?.sum_keepdim(D::Minus1)?;
        let logarithms = shifted.broadcast_sub(&sum.log()?)?;
        let labels: Vec<u32> = self.batch.labels.iter().map(|&label| label as u32).collect();
        let labels = Tensor::new(labels, logits.device())?.unsqueeze(1)?;
        let mut targets = vec![logarithms.gather(&labels, 1)?.sum_all()?.neg()?];
        let probabilities = shifted.exp()?.broadcast_div(&sum)?;
        for class in 0..self.verbalizer.len() {
            targets.push(probabilities.narrow(1, class, 1)?.sum_all()?);
        }
        Ok(targets)
    }

    fn back(&self, taps: &Taps<'_>, targets: &[Tensor]) -> Result<Slopes> {
        let mut slopes = Slopes::new();
        for target in targets {
            let gradients = target.backward()?;
            for tap in &taps.found {
                // The answer does not depend on rows that nobody behind them reads.
                let found = match gradients.get(&tap.added) {
                    Some(found) => found.flatten_all()?.to_vec1::<f32>()?,
                    None => vec![0.0; tap.added.elem_count()],
                };
                slopes.entry(tap.layer).or_default().push(found);
            }
        }
        Ok(slopes)
    }

    fn give(&self, taps: &Taps<'_>, slopes: &Slopes, parts: &mut [Box<dyn Statistic>]) -> Result<()> {
        for tap in &taps.found {
            let (layer, width) = (tap.layer, tap.values.dim(1)?);
            let values = tap.values.flatten_all()?.to_vec1::<f32>()?;
            let of_layer = slopes.get(&layer).map_or(&[][..], Vec::as_slice);
            for (index, &(pool, text, position)) in
                tap.rows.iter().enumerate().filter_map(|(at, row)| Some((at, row.as_ref()?)))
            {
                let span = index * width..(index + 1) * width;
                let of_row: Vec<&[f32]> = of_layer.iter().map(|all| &all[span.clone()]).collect();
                if let Some(neuron) = (0..width).find(|&at| {
                    of_row.iter().any(|of| !of[at].is_finite()) || !values[span.start + at].is_finite()
                }) {
                    let row = self.batch.rows[text];
                    return Err(ProbingError::Activation { row, layer, position, neuron, found: f32::NAN });
                }
                let (loss, classes) =
                    of_row.split_first().map_or((&[][..], &[][..]), |(loss, rest)| (*loss, rest));
                let slopes = Some(Slope { loss, classes });
                let label = self.batch.labels[text];
                let row = Row {
                    pool,
                    layer,
                    position,
                    text,
                    label,
                    values: &values[span],
                    output_norm: None,
                    slopes,
                };
                for part in parts.iter_mut().filter(|part| part.reads(pool, layer)) {
                    part.take(&row)?;
                }
            }
        }
        Ok(())
    }
}

/// The neurons of each layer, and the zeros that were added to them, whose gradients are theirs.
struct Taps<'a> {
    pools: &'a [Pool],
    /// What share of what they were neurons are held at.
    held: Option<(f64, &'a Taps<'a>)>,
    found: Vec<Tap>,
}

struct Tap {
    layer: usize,
    values: Tensor,
    added: Var,
    /// For each row what is taken of it: pool, text and position.
    rows: Vec<Option<(Pool, usize, usize)>>,
}

impl<'a> Taps<'a> {
    fn new(pools: &'a [Pool], held: Option<(f64, &'a Taps<'a>)>) -> Self {
        Self { pools, held, found: Vec::new() }
    }

    fn tap(&mut self, layer: usize, rows: &Rows<'_>, x: &Tensor) -> Result<Tensor> {
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
        self.found.push(Tap { layer, values: x.detach(), added, rows: taken });
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
