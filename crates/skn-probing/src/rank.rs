//! Rankings that others use, on the same activations in the same pass.

mod file;
mod histogram;
mod lasso;
mod on_device;
mod ranking;
mod record;
mod score;
mod tally;

use std::collections::btree_map::Entry;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use skn_artifact::names::rank;
use skn_counts::Pool;
use skn_kernels::{Misfit, RowGroups, RowNumbers, row_norms, with_values};
use skn_model::{LanguageModel, NeuronSite};

pub use lasso::l1;
pub use ranking::Ranking;
pub use record::{RankRecord, Ranked};

use crate::average::Average;
use crate::error::{ProbingError, Result};
use crate::record::Record;
use crate::shared::{Shared, Spare};
use crate::statistic::{BatchTexts, Block, Row, SlopeOf, Statistic, TakeBlocks, part};
use crate::watch::Dims;
use histogram::{Ends, SharedHistogram};
use on_device::{For, OnDevice, is_reduced};
use tally::{Compared, Tally};

/// Takes what a [`Ranking`] needs of dev: the statistic of [`RankRecord`].
#[derive(Clone, Debug)]
pub struct Rank {
    given: Arc<Given>,
    /// Texts of each class.
    texts: Vec<u64>,
    tally: Tally,
    /// What [`Ranking::Auc`] counts in the course of a pass: its tally then is nothing.
    areas: Option<SharedHistogram>,
    spare: Spare<Tally>,
    /// Of a batch of which no row was taken on the host yet: what its tally is made of then.
    blank: Option<Blank>,
    on_device: Shared<OnDevice>,
    /// Texts of each class that a device has taken.
    taken_there: Vec<u32>,
    /// The numbers of some texts of a batch, as a device was given them.
    numbers: Option<(Vec<usize>, RowNumbers)>,
    /// Rows of a batch, and for each class the same rows in one class where they are of it, in another where not.
    against: Option<(RowGroups, Vec<RowGroups>)>,
}

/// The texts of a batch.
#[derive(Clone, Debug)]
struct Blank {
    labels: Vec<usize>,
    /// What activations are multiplied with; none where they aren't.
    numbers: Vec<f32>,
}

/// What does not change while texts are taken.
#[derive(Clone, Debug)]
struct Given {
    ranking: Ranking,
    site: Option<NeuronSite>,
    pool: Pool,
    dims: Dims,
    widths: Vec<usize>,
    classes: usize,
    dead: Vec<bool>,
    deviation: Option<Vec<f32>>,
    compared: Compared,
    seed: u64,
    as_published: bool,
    numbers: Option<Numbers>,
}

/// What activations are correlated with, instead of with classes.
#[derive(Clone, Debug)]
struct Numbers {
    /// What they are called.
    column: String,
    /// Of each row of the part of the data.
    of_rows: Arc<Vec<f32>>,
}

impl Numbers {
    /// Those of some rows.
    fn of(&self, rows: &[u64]) -> Result<Vec<f32>> {
        let of_row = |&row: &u64| {
            let number = usize::try_from(row).ok().and_then(|row| self.of_rows.get(row)).copied();
            number.ok_or_else(|| {
                ProbingError::mismatch("numbers of texts", format!("one of row {row}"), self.of_rows.len())
            })
        };
        rows.iter().map(of_row).collect()
    }
}

impl Rank {
    /// For the neurons of a model, with the averages over train of the same pool; `seed` is that of [`Ranking::Random`].
    ///
    /// # Errors
    /// If the averages are of another shape than the model, an older version wrote them, or they lack the variance that
    /// [`Ranking::MeanDifference`] divides by.
    pub fn new(
        ranking: Ranking,
        model: &LanguageModel,
        average: &Average,
        classes: usize,
        seed: u64,
    ) -> Result<Self> {
        if ranking == Ranking::L1 {
            return Err(ProbingError::mismatch("ranking of a pass", "one that streams", ranking));
        }
        let (pool, config) = (average.pool(), model.config());
        let dims = Dims::of(model, pool)?;
        if average.dims() != dims.sizes() {
            let what = format!("averages {}", pool.average_file());
            let (expected, found) = (format!("{:?}", dims.sizes()), format!("{:?}", average.dims()));
            return Err(ProbingError::mismatch(what, expected, found));
        }
        let lacks = |what: &str| {
            let averages = pool.average_file();
            let expected = format!("{what} beside the averages {averages}: probe train again");
            ProbingError::mismatch(format!("ranking {ranking}"), expected, "none")
        };
        let range = average.range().ok_or_else(|| lacks("`minimum`, `maximum` and `dead`"))?;
        let deviation = average.variance()?.map(|all| all.into_iter().map(f32::sqrt).collect());
        if ranking == Ranking::MeanDifference && deviation.is_none() {
            return Err(lacks("`variance`"));
        }
        let mut compared = Compared { width: config.widest(), ..Compared::default() };
        match ranking {
            Ranking::Predictivity => compared.threshold = average.values()?,
            Ranking::Lape => compared.threshold = vec![0.0; dims.elements()],
            Ranking::Auc => {
                compared.ends = Ends::new(range.minimum(), average.values()?, range.maximum());
            }
            Ranking::Cett if pool != Pool::Mean && pool != Pool::Max => compared.columns = columns(model)?,
            Ranking::Cett => {
                let expected = "activations of one row, by probe_type acc or acc_last";
                return Err(ProbingError::mismatch("ranking cett", expected, pool.name()));
            }
            _ => {}
        }
        let given = Given {
            ranking,
            site: if config.is_gated() { ranking.site() } else { None },
            pool,
            widths: config.intermediate_sizes.clone(),
            classes,
            dead: range.dead(),
            deviation,
            compared,
            seed,
            dims,
            as_published: false,
            numbers: None,
        };
        let tally = Tally::new(ranking, given.dims.elements(), classes);
        Ok(Self::of(Arc::new(given), tally))
    }

    fn of(given: Arc<Given>, tally: Tally) -> Self {
        let (texts, taken_there) = (vec![0; given.classes], vec![0; given.classes]);
        let (on_device, spare) = (Shared::default(), Spare::default());
        let (tally, areas) = match tally {
            Tally::Histogram(histogram) => (Tally::Nothing, Some(SharedHistogram::new(histogram))),
            tally => (tally, None),
        };
        Self {
            given,
            texts,
            tally,
            areas,
            spare,
            blank: None,
            on_device,
            taken_there,
            numbers: None,
            against: None,
        }
    }

    /// Makes the tally of a batch, whose first row comes.
    fn begin(&mut self) -> Result<()> {
        let Some(Blank { labels, numbers }) = self.blank.take() else { return Ok(()) };
        let Given { ranking, dims, classes, .. } = &*self.given;
        let used = self.spare.take();
        self.tally = match (&self.given.numbers, &self.areas) {
            (Some(_), _) => Tally::moments_of_batch(used, dims.elements(), numbers),
            (None, Some(areas)) => {
                let of_layers = [dims.sizes()[0], dims.place(1, 0)];
                Tally::bins_of_batch(used, &labels, of_layers, areas.share())
            }
            (None, None) => Tally::of_batch(used, *ranking, dims.elements(), *classes),
        };
        self.count(labels.len())
    }

    /// Makes what was counted in a pass its tally.
    fn end_pass(&mut self) {
        if let Some(areas) = self.areas.take() {
            self.tally = Tally::Histogram(areas.into_histogram());
        }
    }

    /// Counts texts, where the tally does.
    fn count(&mut self, texts: usize) -> Result<()> {
        match &mut self.tally {
            Tally::Weighted(sums) => Ok(sums.add_rows(texts as u64)?),
            _ => Ok(()),
        }
    }

    /// Makes [`Ranking::Correlation`] one with a number of each text, instead of with its class: `numbers` are those of all rows of the part of
    /// the data, also where the texts are a shard's, and have mean 0 and variance 1 over it. Other rankings stay as they are.
    #[must_use]
    pub fn with_numbers(mut self, column: &str, numbers: Arc<Vec<f32>>) -> Self {
        let given = Arc::make_mut(&mut self.given);
        if given.ranking == Ranking::Correlation {
            self.tally = Tally::moments(given.dims.elements());
            given.numbers = Some(Numbers { column: column.to_owned(), of_rows: numbers });
        }
        self
    }

    /// Whether [`Ranking::Predictivity`] of two classes is scored as published, by accuracy whatever their shares.
    #[must_use]
    pub fn as_published(mut self, as_published: bool) -> Self {
        Arc::make_mut(&mut self.given).as_published = as_published;
        self
    }
}

/// The norms of the columns of each layer's second FFN matrix, `[L, F]`: what a neuron of 1 adds to the FFN's output.
fn columns(model: &LanguageModel) -> Result<Vec<f32>> {
    /// So many neurons are 1, each in a row of its own, at once.
    const ROWS: usize = 256;
    let config = model.config();
    let mut norms = Vec::with_capacity(config.layers() * config.widest());
    for (layer, &width) in config.intermediate_sizes.iter().enumerate() {
        let none = Tensor::zeros((1, width), DType::F32, model.device())?;
        // What the bias adds is nobody's.
        let bias = model.ffn_output(layer, &none)?;
        for first in (0..width).step_by(ROWS) {
            let rows = ROWS.min(width - first);
            let mut ones = vec![0f32; rows * width];
            (0..rows).for_each(|row| ones[row * width + first + row] = 1.0);
            let ones = Tensor::from_vec(ones, (rows, width), model.device())?;
            let columns = model.ffn_output(layer, &ones)?.broadcast_sub(&bias)?;
            with_values(&row_norms(&columns)?, |of_rows: &[f32]| norms.extend_from_slice(of_rows))?;
        }
        norms.resize((layer + 1) * config.widest(), 0.0);
    }
    Ok(norms)
}

impl Statistic for Rank {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == self.given.pool && self.given.ranking != Ranking::Random
    }

    fn site(&self) -> Option<NeuronSite> {
        self.given.site
    }

    fn needs_output_norm(&self) -> bool {
        self.given.ranking == Ranking::Cett
    }

    fn slopes(&self) -> &[SlopeOf] {
        self.given.ranking.slopes()
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let numbers = self.given.numbers.as_ref().map(|numbers| numbers.of(texts.rows)).transpose()?;
        let blank = Blank { labels: texts.labels.to_vec(), numbers: numbers.unwrap_or_default() };
        let mut of_batch = Self::of(self.given.clone(), Tally::Nothing);
        for &label in texts.labels {
            of_batch.texts[label] += 1;
        }
        let (on_device, spare) = (self.on_device.share(), self.spare.share());
        let areas = self.areas.as_ref().map(SharedHistogram::share);
        Ok(Box::new(Self { blank: Some(blank), on_device, spare, areas, ..of_batch }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        self.begin()?;
        let Given { ranking, dims, compared, .. } = &*self.given;
        self.tally.take(*ranking, row, dims.offset(row), dims.elements(), compared)
    }

    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        is_reduced(self.given.ranking).then_some(self as &mut dyn TakeBlocks)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let Self { texts, mut tally, blank, .. } = part(of_batch)?;
        match blank {
            None => {
                match &mut tally {
                    Tally::Bins(bins) => bins.end(),
                    tally => self.tally.merge(tally)?,
                }
                self.spare.keep(tally);
            }
            // No row was taken here.
            Some(Blank { labels, .. }) => {
                self.count(labels.len())?;
                labels.into_iter().for_each(|label| self.taken_there[label] += 1);
            }
        }
        self.texts.iter_mut().zip(texts).for_each(|(whole, part)| *whole += part);
        Ok(())
    }

    fn file(&self, split: &str) -> String {
        match self.given.ranking {
            Ranking::Auc => rank::areas(split),
            ranking => rank::file(ranking.name()),
        }
    }

    fn into_record(mut self: Box<Self>) -> Result<Box<dyn Record>> {
        self.end_pass();
        let Given { ranking, pool, dims, widths, dead, deviation, seed, as_published, numbers, .. } =
            &*self.given;
        Ok(Box::new(RankRecord {
            ranking: *ranking,
            pool: *pool,
            dims: dims.clone(),
            widths: widths.clone(),
            texts: self.texts,
            dead: dead.clone(),
            deviation: deviation.clone(),
            seed: *seed,
            as_published: *as_published,
            column: numbers.as_ref().map(|numbers| numbers.column.clone()),
            tally: self.tally,
        }))
    }
}

impl TakeBlocks for Rank {
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()> {
        let Given { ranking, dims, classes, compared, numbers, .. } = &*self.given;
        let numbers = match (numbers, &self.blank) {
            (Some(_), Some(Blank { numbers, .. })) => {
                // The same for all layers whose texts stand in one order.
                if self.numbers.as_ref().is_none_or(|(texts, _)| texts != block.texts) {
                    let of_texts = block.texts.iter().map(|&text| numbers[text]).collect();
                    self.numbers = Some((block.texts.to_vec(), RowNumbers::new(of_texts)));
                }
                self.numbers.as_ref().map(|(_, numbers)| numbers)
            }
            _ => None,
        };
        let against = match self.given.ranking {
            Ranking::Gradient => {
                // The same for all layers that have these rows.
                if self.against.as_ref().is_none_or(|(rows, _)| rows != block.rows) {
                    let of_classes = (0..*classes).map(|class| block.rows.one_against_others(class as u32));
                    self.against = Some((block.rows.clone(), of_classes.collect()));
                }
                self.against.as_ref().map_or(&[][..], |(_, of_classes)| of_classes)
            }
            _ => &[],
        };
        let mut layers = self.on_device.lock();
        let of_layer = match layers.entry(block.layer) {
            Entry::Occupied(of_layer) => of_layer.into_mut(),
            Entry::Vacant(place) => {
                let (classes, with_numbers) = (*classes, numbers.is_some());
                let of = For { ranking: *ranking, dims, classes, compared, with_numbers };
                place.insert(OnDevice::new(&of, block)?)
            }
        };
        of_layer.take(block, numbers, against, misfit)
    }

    fn finish(&mut self) -> Result<()> {
        self.end_pass();
        let texts = std::mem::replace(&mut self.taken_there, vec![0; self.given.classes]);
        for (layer, of_layer) in self.on_device.take() {
            of_layer.add_to(&mut self.tally, (layer, &texts), &self.given.dims)?;
        }
        if let Tally::Histogram(histogram) = &mut self.tally {
            let Given { dims, widths, compared, .. } = &*self.given;
            let positions = match dims.sizes() {
                [_, positions, _] => *positions,
                _ => 1,
            };
            for (layer, width) in widths.iter().enumerate() {
                for position in 0..positions {
                    let first = dims.place(layer, position);
                    histogram.add_without_neurons(first + width..first + compared.width, &texts)?;
                }
            }
        }
        Ok(())
    }
}
