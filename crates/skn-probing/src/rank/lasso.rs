use std::path::Path;
use std::sync::Arc;

use skn_artifact::Spool;
use skn_counts::Pool;
use skn_data::Encoded;
use skn_kernels::{ColumnNumbers, Misfit, RowGroups, pick_columns, with_values};
use skn_model::LanguageModel;
use skn_stats::{LEAST_VARIANCE, Labelled, Logistic};

use super::ranking::Ranking;
use super::record::RankRecord;
use super::tally::Tally;
use crate::average::Average;
use crate::collect::collect;
use crate::error::{ProbingError, Result};
use crate::pass::PassOptions;
use crate::record::Record;
use crate::statistic::{BatchTexts, Block, Row, Statistic, TakeBlocks, part};

/// How often the strength is halved, from the one at which all weights are 0.
const HALVINGS: i32 = 8;

/// The ranking `l1`: for each layer a logistic regression on all its neurons at one row of each text, the answer's where there is a prompt,
/// with L1-regularisation ([`Logistic`]; Tibshirani 1996). Neurons are divided by their deviation over train. Of the strengths s/2, s/4, ..
/// s/256, s the one at which all weights are 0, the one counts that is right for most texts of `dev`, of equals the strongest. A neuron's score
/// is the magnitude of its weight; of more than two classes, the largest of those of each class against the rest. Where a regression
/// has not come near enough in its steps, the record says so of its layer ([`RankRecord::unsettled`]).
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
    let (mut scores, mut unsettled) = (Vec::new(), Vec::new());
    let positions = if pool == Pool::Position { model.prompt_rows() } else { 1 };
    let fit = |_: usize, &layer: &usize| -> Result<(Vec<f32>, f64)> {
        let first = (layer * positions + position) * widest;
        let places = first..first + widest;
        let scale = |(&variance, &dead): (&f32, &bool)| match dead || f64::from(variance) < LEAST_VARIANCE {
            true => 0.0,
            false => 1.0 / variance.sqrt(),
        };
        let scale: Vec<f32> = variance[places.clone()].iter().zip(&dead[places.clone()]).map(scale).collect();
        let x = train.layer(layer, &means[places.clone()], &scale)?;
        let dev_x = dev.layer(layer, &means[places], &scale)?;
        of_layer_scores((&x, &train.labels), (&dev_x, &dev.labels), widest, classes)
    };
    let keep = |layer: usize, (found, gap): (Vec<f32>, f64)| {
        scores.extend(found);
        if gap > MOST_GAP {
            unsettled.push(layer);
        }
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
        tally: Tally::Given { scores, position, unsettled },
    })
}

/// How far a regression may be from the one that is sought, as a part of its strength ([`Logistic::gap`]).
const MOST_GAP: f64 = 0.01;

/// The scores of a layer's neurons, and how far the regressions that gave them are from those that are sought, at most.
fn of_layer_scores(
    (train, train_labels): (&[f32], &[usize]),
    (dev, dev_labels): (&[f32], &[usize]),
    columns: usize,
    classes: usize,
) -> Result<(Vec<f32>, f64)> {
    let (mut scores, mut gap) = (vec![0f32; columns], 0f64);
    let ruled = if classes == 2 { 1..2 } else { 0..classes };
    for class in ruled {
        let [positive, dev_positive] = [train_labels, dev_labels]
            .map(|labels| labels.iter().map(|&label| label == class).collect::<Vec<_>>());
        let of = Labelled { x: train, columns, positive: &positive };
        let of_dev = Labelled { x: dev, columns, positive: &dev_positive };
        let mut fit = Logistic::nothing(of)?;
        let most = fit.least_strength_of_nothing(of);
        let (mut best, mut best_right) = ((fit.clone(), most), None);
        for halvings in 1..=HALVINGS {
            let strength = most * 0.5f64.powi(halvings);
            fit = fit.fit(of, strength);
            let found = fit.scores(of_dev);
            let right = found
                .iter()
                .zip(&dev_positive)
                .filter(|(score, positive)| (**score > 0.0) == **positive)
                .count();
            if best_right.is_none_or(|best| right > best) {
                (best, best_right) = ((fit.clone(), strength), Some(right));
            }
        }
        let (best, strength) = best;
        gap = gap.max(best.gap(of, strength));
        scores
            .iter_mut()
            .zip(&best.weights)
            .for_each(|(score, weight)| *score = score.max(weight.abs() as f32));
    }
    Ok((scores, gap))
}

/// The activations of all neurons at one row of each text, in a file.
struct Table {
    pool: Pool,
    position: usize,
    /// L and F.
    shape: [usize; 2],
    labels: Vec<usize>,
    /// All neurons of each layer, as a device picks them.
    columns: Arc<[ColumnNumbers]>,
    /// The first one alone.
    first: ColumnNumbers,
    spool: Arc<Spool>,
    /// Of a batch: where its texts stand, and `[texts, L, F]`.
    places: Vec<usize>,
    values: Vec<f32>,
    /// Rows of a block, and those of the position alone.
    rows: Option<(RowGroups, RowGroups)>,
}

impl Table {
    fn new(model: &LanguageModel, pool: Pool, position: usize, texts: &[Encoded], spool: Spool) -> Self {
        let shape = [model.config().layers(), model.config().widest()];
        let labels = texts.iter().map(|text| text.label).collect();
        let widths = model.config().intermediate_sizes.iter();
        let columns = widths.map(|&width| ColumnNumbers::new((0..width as u32).collect())).collect();
        let (spool, places, values) = (Arc::new(spool), Vec::new(), Vec::new());
        let (first, rows) = (ColumnNumbers::new(vec![0]), None);
        Self { pool, position, shape, labels, columns, first, spool, places, values, rows }
    }

    fn of_text(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Takes the activations of a layer's neurons for a text of the batch.
    fn keep(&mut self, text: usize, layer: usize, values: &[f32]) {
        let at = text * self.of_text() + layer * self.shape[1];
        self.values[at..][..values.len()].copy_from_slice(values);
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
        let (labels, columns, first) = (Vec::new(), self.columns.clone(), self.first.clone());
        let (spool, places, rows) = (self.spool.clone(), texts.places.to_vec(), None);
        Ok(Box::new(Self { pool, position, shape, labels, columns, first, spool, places, values, rows }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        if row.position == self.position {
            self.keep(row.text, row.layer, row.values);
        }
        Ok(())
    }

    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        Some(self)
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

impl TakeBlocks for Table {
    /// The regression is made on the host, of one row of each text: no other comes there.
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()> {
        let width = block.values.dim(1)?;
        let of_position = match self.rows.take() {
            // The same for all layers that have these rows.
            Some((rows, of_position)) if rows == *block.rows => of_position,
            _ => block.rows.group(self.position)?,
        };
        let picked = pick_columns(block.values, &of_position, &self.columns[block.layer], misfit)?;
        // The rows of other positions are looked at as on the host.
        pick_columns(block.values, block.rows, &self.first, misfit)?;
        self.rows = Some((block.rows.clone(), of_position));
        Ok(with_values(&picked, |values: &[f32]| {
            for (values, &text) in values.chunks_exact(width.max(1)).zip(block.texts) {
                self.keep(text, block.layer, values);
            }
        })?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use skn_artifact::TensorFile;
    use skn_artifact::names::rank;

    use super::*;
    use crate::record::Metadata;
    use crate::watch::Dims;

    /// Rows of a block and rows of the host fill the same places.
    #[test]
    fn a_block_gives_the_rows_of_one_position() {
        let table = || Table {
            pool: Pool::Position,
            position: 1,
            shape: [2, 3],
            labels: Vec::new(),
            columns: [2, 3].map(|width| ColumnNumbers::new((0..width).collect())).into(),
            first: ColumnNumbers::new(vec![0]),
            spool: Arc::new(Spool::new(&std::env::temp_dir()).unwrap()),
            places: vec![0; 3],
            values: vec![0.0; 3 * 2 * 3],
            rows: None,
        };
        let (mut by_block, mut by_row) = (table(), table());
        let (device, mut misfit) = (Device::Cpu, Misfit::new(&Device::Cpu).unwrap());
        // Two positions of three texts, who stand in another order, in a matrix of seven rows.
        let (numbers, texts) = (vec![6, 0, 2, 5, 1, 3], [2, 0, 1]);
        let rows = RowGroups::new(2, numbers.clone(), vec![0, 0, 1]).unwrap();
        for (layer, width) in [(0, 2), (1, 3)] {
            let values: Vec<f32> = (0..7 * width).map(|value| value as f32 + 0.5).collect();
            let x = Tensor::from_slice(&values, (7, width), &device).unwrap();
            let (pool, output_norms, slopes) = (Pool::Position, None, None);
            let block = Block { pool, layer, values: &x, rows: &rows, texts: &texts, output_norms, slopes };
            by_block.take_block(&block, &mut misfit).unwrap();
            for (place, &number) in numbers.iter().enumerate() {
                let (position, text) = (place / 3, texts[place % 3]);
                let values = &values[number as usize * width..][..width];
                let (label, output_norm, slopes) = (0, None, None);
                by_row
                    .take(&Row { pool, layer, position, text, label, values, output_norm, slopes })
                    .unwrap();
            }
        }
        assert_eq!(by_block.values, by_row.values);
        // Of text 2, layer 0: row 5 of the matrix; the place behind is padding.
        assert_eq!(by_block.values[2 * 6..][..3], [10.5, 11.5, 0.0]);
        assert_eq!(misfit.found().unwrap(), None);
        // On the host all rows are looked at, so here too: this one is of the other position.
        let x = Tensor::new(&[[0f32, 1.0], [2.0, f32::INFINITY]], &device).unwrap();
        let rows = RowGroups::new(2, vec![1, 0], vec![0]).unwrap();
        let (pool, texts, output_norms, slopes) = (Pool::Position, &[0][..], None, None);
        let block = Block { pool, layer: 0, values: &x, rows: &rows, texts, output_norms, slopes };
        by_block.take_block(&block, &mut misfit).unwrap();
        assert_eq!(misfit.found().unwrap(), Some(0));
    }

    /// A file says which layers are rough, and nothing where none is.
    #[test]
    fn layers_that_are_rough_are_in_the_file() {
        for (unsettled, said) in [(vec![0, 2], Some("0,2")), (Vec::new(), None)] {
            let record = RankRecord {
                ranking: Ranking::L1,
                pool: Pool::Last,
                dims: Dims::new(vec![3, 2]).unwrap(),
                widths: vec![2; 3],
                texts: vec![4, 4],
                dead: vec![false; 6],
                deviation: None,
                seed: 0,
                as_published: false,
                column: None,
                tally: Tally::Given { scores: vec![0.5; 6], position: 0, unsettled: unsettled.clone() },
            };
            assert_eq!(record.unsettled(), unsettled);
            let bundle = record.to_bundle(&Metadata::new()).unwrap();
            let file = TensorFile::from_bytes("l1".as_ref(), bundle.to_bytes().unwrap()).unwrap();
            assert_eq!(file.metadata().get(rank::UNSETTLED).map(String::as_str), said);
        }
    }
}
