use std::path::Path;
use std::sync::Arc;

use skn_artifact::Spool;
use skn_counts::Pool;
use skn_data::Encoded;
use skn_model::LanguageModel;
use skn_stats::{Labelled, Logistic};

use super::ranking::Ranking;
use super::record::RankRecord;
use super::tally::Tally;
use crate::average::Average;
use crate::collect::collect;
use crate::error::{ProbingError, Result};
use crate::pass::PassOptions;
use crate::record::Record;
use crate::statistic::{BatchTexts, Row, Statistic, part};

/// How often the strength is halved, from the one at which all weights are 0.
const HALVINGS: i32 = 8;

/// The ranking `l1`: for each layer a logistic regression on all its neurons at one row of each text, the answer's where there is a prompt,
/// with L1-regularisation ([`Logistic`]; Tibshirani 1996). Neurons are divided by their deviation over train. Of the strengths s/2, s/4, ..
/// s/256, s the one at which all weights are 0, the one counts that is right for most texts of `dev`, of equals the strongest. A neuron's score
/// is the magnitude of its weight; of more than two classes, the largest of those of each class against the rest.
///
/// Activations of `train` and `dev` go to files without a name in `folder` (4 bytes for each neuron and text), and come back a layer
/// at a time.
///
/// # Errors
/// As [`collect`], if averages lack variances, are of a text's mean or maximum, or texts of a class are missing in `train`.
pub fn l1(
    model: &LanguageModel,
    [train, dev]: [&[Encoded]; 2],
    average: &Average,
    classes: usize,
    folder: &Path,
    options: &PassOptions<'_>,
) -> Result<RankRecord> {
    let pool = average.pool();
    let position = match pool {
        Pool::Position if model.config().is_decoder() => model.prompt_rows().saturating_sub(1),
        Pool::Position => 0,
        Pool::Last => 0,
        Pool::Mean | Pool::Max => {
            let expected = "activations of one row, by probe_type acc or acc_last";
            return Err(ProbingError::mismatch("ranking l1", expected, pool.name()));
        }
    };
    let config = model.config();
    let widest = config.widest();
    let (range, variance) = (average.range(), average.variance()?);
    let (Some(range), Some(variance)) = (range, variance) else {
        return Err(ProbingError::mismatch("ranking l1", "`variance` beside the averages", "none"));
    };
    let take = |of: &str, texts: &[Encoded]| -> Result<Table> {
        let pass = PassOptions { part: of, ..*options };
        let table = Table::new(model, pool, position, texts, Spool::new(folder)?);
        let taken = collect("reading activations", model, texts, classes, vec![Box::new(table)], &pass)?;
        taken.into_iter().next().map_or_else(|| Err(ProbingError::NoTexts { what: "l1" }), part)
    };
    let (train, dev) = (take("train", train)?, take("dev", dev)?);
    let (dead, means) = (range.dead(), average.values()?);
    let layers: Vec<usize> = (0..config.layers()).collect();
    let mut scores = Vec::new();
    let positions = if pool == Pool::Position { model.prompt_rows() } else { 1 };
    let fit = |_: usize, &layer: &usize| -> Result<Vec<f32>> {
        let first = (layer * positions + position) * widest;
        let places = first..first + widest;
        let scale = |(&variance, &dead): (&f32, &bool)| match dead || variance <= 0.0 {
            true => 0.0,
            false => 1.0 / variance.sqrt(),
        };
        let scale: Vec<f32> = variance[places.clone()].iter().zip(&dead[places.clone()]).map(scale).collect();
        let x = train.layer(layer, &means[places.clone()], &scale)?;
        let dev_x = dev.layer(layer, &means[places], &scale)?;
        of_layer_scores((&x, &train.labels), (&dev_x, &dev.labels), widest, classes)
    };
    let keep = |_: usize, found: Vec<f32>| {
        scores.extend(found);
        Ok(())
    };
    options.workers.fold(&layers, fit, keep, options.progress)?;
    let texts = |class| train.labels.iter().filter(|&&label| label == class).count() as u64;
    Ok(RankRecord {
        ranking: Ranking::L1,
        pool,
        dims: average.dims_of(),
        widths: config.intermediate_sizes.clone(),
        texts: (0..classes).map(texts).collect(),
        dead,
        deviation: None,
        seed: 0,
        as_published: false,
        column: None,
        tally: Tally::Given { scores, position },
    })
}

/// The scores of a layer's neurons.
fn of_layer_scores(
    (train, train_labels): (&[f32], &[usize]),
    (dev, dev_labels): (&[f32], &[usize]),
    columns: usize,
    classes: usize,
) -> Result<Vec<f32>> {
    let mut scores = vec![0f32; columns];
    let ruled = if classes == 2 { 1..2 } else { 0..classes };
    for class in ruled {
        let [positive, dev_positive] = [train_labels, dev_labels]
            .map(|labels| labels.iter().map(|&label| label == class).collect::<Vec<_>>());
        let of = Labelled { x: train, columns, positive: &positive };
        let of_dev = Labelled { x: dev, columns, positive: &dev_positive };
        let mut fit = Logistic::nothing(of)?;
        let most = fit.least_strength_of_nothing(of);
        let (mut best, mut best_right) = (fit.clone(), None);
        for halvings in 1..=HALVINGS {
            fit = fit.fit(of, most * 0.5f64.powi(halvings));
            let found = fit.scores(of_dev);
            let right = found
                .iter()
                .zip(&dev_positive)
                .filter(|(score, positive)| (**score > 0.0) == **positive)
                .count();
            if best_right.is_none_or(|best| right > best) {
                (best, best_right) = (fit.clone(), Some(right));
            }
        }
        scores
            .iter_mut()
            .zip(&best.weights)
            .for_each(|(score, weight)| *score = score.max(weight.abs() as f32));
    }
    Ok(scores)
}

/// The activations of all neurons at one row of each text, in a file.
struct Table {
    pool: Pool,
    position: usize,
    /// L and F.
    shape: [usize; 2],
    labels: Vec<usize>,
    spool: Arc<Spool>,
    /// Of a batch: where its texts stand, and `[texts, L, F]`.
    places: Vec<usize>,
    values: Vec<f32>,
}

impl Table {
    fn new(model: &LanguageModel, pool: Pool, position: usize, texts: &[Encoded], spool: Spool) -> Self {
        let shape = [model.config().layers(), model.config().widest()];
        let labels = texts.iter().map(|text| text.label).collect();
        Self { pool, position, shape, labels, spool: Arc::new(spool), places: Vec::new(), values: Vec::new() }
    }

    fn of_text(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// A layer's activations `[texts, F]`, less their means and times a number for each neuron.
    fn layer(&self, layer: usize, means: &[f32], scale: &[f32]) -> Result<Vec<f32>> {
        let width = self.shape[1];
        let mut table = Vec::with_capacity(self.labels.len() * width);
        let mut bytes = vec![0u8; width * size_of::<f32>()];
        for text in 0..self.labels.len() {
            let place = (text * self.of_text() + layer * width) * size_of::<f32>();
            self.spool.read(place as u64, &mut bytes)?;
            let values =
                bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            table.extend(
                values.zip(means.iter().zip(scale)).map(|(value, (mean, scale))| (value - mean) * scale),
            );
        }
        Ok(table)
    }
}

impl Statistic for Table {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == self.pool
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let values = vec![0.0; texts.places.len() * self.of_text()];
        let (pool, position, shape) = (self.pool, self.position, self.shape);
        let (labels, spool, places) = (Vec::new(), self.spool.clone(), texts.places.to_vec());
        Ok(Box::new(Self { pool, position, shape, labels, spool, places, values }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        if row.position == self.position {
            let at = row.text * self.of_text() + row.layer * self.shape[1];
            self.values[at..][..row.values.len()].copy_from_slice(row.values);
        }
        Ok(())
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let of_text = self.of_text();
        let Self { places, values, .. } = part(of_batch)?;
        for (place, values) in places.into_iter().zip(values.chunks_exact(of_text.max(1))) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.spool.write((place * bytes.len()) as u64, &bytes)?;
        }
        Ok(())
    }

    fn file(&self, split: &str) -> String {
        split.into()
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        Err(ProbingError::mismatch("activations of a regression", "no file", "one"))
    }
}
