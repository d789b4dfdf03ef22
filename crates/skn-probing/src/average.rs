use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use skn_artifact::names::kind;
use skn_artifact::{Array, ArtifactError, TensorBundle, TensorFile};
use skn_counts::Pool;
use skn_data::Encoded;
use skn_kernels::{ColumnSums, ColumnTotals, Misfit};
use skn_model::LanguageModel;
use skn_stats::{MeanAccumulator, SquareAccumulator, variance};

use crate::collect::collect;
use crate::error::{ProbingError, Result};
use crate::pass::PassOptions;
use crate::probe::ProbeType;
use crate::range::Range;
use crate::record::{Metadata, Record, described, other};
use crate::shared::{Shared, Spare};
use crate::statistic::{BatchTexts, Block, Row, Statistic, TakeBlocks, part};
use crate::threshold::{Threshold, no_sums};
use crate::watch::Dims;

/// The average of every neuron's activation over the texts of train: exact sums, which merge to the same bits in any
/// order.
#[derive(Clone, Debug)]
pub struct Average {
    pool: Pool,
    dims: Dims,
    sums: MeanAccumulator,
    /// Files of older versions do not have it.
    range: Option<Range>,
    squares: Option<SquareAccumulator>,
    on_device: Shared<ColumnSums>,
    spare: Spare<Taken>,
}

/// What rows are taken into.
type Taken = (MeanAccumulator, Option<Range>, Option<SquareAccumulator>);

impl Average {
    /// Of nothing yet, for the neurons of a model.
    ///
    /// # Errors
    /// If prompt positions are asked of a model without prompt rows.
    pub fn new(model: &LanguageModel, pool: Pool) -> Result<Self> {
        let dims = Dims::of(model, pool)?;
        let (sums, range) = (MeanAccumulator::new(dims.elements()), Some(Range::new(dims.elements())));
        let (on_device, spare) = (Shared::default(), Spare::default());
        Ok(Self { pool, sums, range, squares: None, dims, on_device, spare })
    }

    /// Adds up squares too, for variances.
    #[must_use]
    pub fn with_variance(self) -> Self {
        Self { squares: Some(SquareAccumulator::new(self.dims.elements())), ..self }
    }

    /// The same of nothing yet, with room for so many neurons at all positions; what lies on a device is shared.
    fn of_nothing(&self, elements: usize) -> Self {
        Self {
            pool: self.pool,
            dims: self.dims.clone(),
            sums: MeanAccumulator::new(elements),
            range: self.range.as_ref().map(|_| Range::new(elements)),
            squares: self.squares.as_ref().map(|_| SquareAccumulator::new(elements)),
            on_device: self.on_device.share(),
            spare: self.spare.share(),
        }
    }

    /// What was taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// `[L, P, F]` for [`Pool::Position`], else `[L, F]`.
    pub fn dims(&self) -> &[usize] {
        self.dims.sizes()
    }

    pub(crate) fn dims_of(&self) -> Dims {
        self.dims.clone()
    }

    /// The number of texts.
    pub fn count(&self) -> u64 {
        self.sums.rows()
    }

    /// The averages, row-major: quotients in f64, rounded to f32. 0 where a pruned layer has no neuron.
    ///
    /// # Errors
    /// If there are no texts.
    pub fn values(&self) -> Result<Vec<f32>> {
        Ok(self.sums.mean()?)
    }

    /// The smallest and largest activations; nothing of a file that an older version wrote.
    pub fn range(&self) -> Option<&Range> {
        self.range.as_ref()
    }

    /// The variance of every neuron's activation over the texts (their number is the divisor), row-major, rounded to f32; nothing
    /// unless squares were added up ([`Self::with_variance`]).
    ///
    /// # Errors
    /// If there are no texts.
    pub fn variance(&self) -> Result<Option<Vec<f32>>> {
        let Some(squares) = &self.squares else { return Ok(None) };
        let rows = self.sums.rows();
        if rows == 0 {
            return Err(ProbingError::mismatch("texts of a variance", "at least 1", 0));
        }
        let of = |place| variance(self.sums.sum(place), squares.sum(place), rows) as f32;
        Ok(Some((0..self.sums.len()).map(of).collect()))
    }

    /// The averages as thresholds of the rule `activation > average => label 1`.
    ///
    /// # Errors
    /// If there are no texts.
    pub fn threshold(&self) -> Result<Threshold> {
        let dead = self.range.as_ref().map(Range::dead);
        Ok(Threshold { pool: self.pool, dims: self.dims.clone(), values: self.values()?, dead })
    }

    /// Adds the sums of another shard.
    ///
    /// # Errors
    /// If it is of another pool or shape, or only one of the two has ranges, or squares.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(self.pool, &self.dims, other.pool, &other.dims)?;
        let parts = |of: &Self| (of.range.is_some(), of.squares.is_some());
        if parts(self) != parts(other) {
            let said = |(range, squares)| format!("minimum and maximum {range}, squares {squares}");
            return Err(ProbingError::mismatch("shard to merge", said(parts(self)), said(parts(other))));
        }
        self.sums.merge(&other.sums)?;
        if let (Some(range), Some(part)) = (&mut self.range, &other.range) {
            range.merge(part);
        }
        match (&mut self.squares, &other.squares) {
            (Some(squares), Some(part)) => Ok(squares.merge(part)?),
            _ => Ok(()),
        }
    }

    /// The file `train_avg` (or `train_mean_avg`, `train_max_avg`, `train_last_avg`): `train_avg` F32, `sum_high`, `sum_low` I64, `count` I64
    /// `[1]`, `minimum`, `maximum` F32 and `dead` BOOL ([`Range`]), all but `count` of the shape of [`Self::dims`]. Where
    /// squares were added up ([`Self::with_variance`]) it has `variance` F32, `square_high` and `square_low` I64 of that shape too.
    ///
    /// # Errors
    /// If there are no texts.
    pub fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        let dims = || self.dims().to_vec();
        let (high, low, count) = self.sums.parts()?;
        let mut bundle = described(self.pool.average_file(), metadata);
        bundle.insert(kind::AVERAGE, Array::f32(dims(), self.values()?)?);
        bundle.insert("sum_high", Array::i64(dims(), high)?);
        bundle.insert("sum_low", Array::i64(dims(), low)?);
        bundle.insert("count", Array::i64(vec![1], vec![count])?);
        if let Some(range) = &self.range {
            range.insert(&mut bundle, self.dims())?;
        }
        if let (Some(squares), Some(variance)) = (&self.squares, self.variance()?) {
            let (high, low) = squares.parts()?;
            bundle.insert(VARIANCE, Array::f32(dims(), variance)?);
            bundle.insert("square_high", Array::i64(dims(), high)?);
            bundle.insert("square_low", Array::i64(dims(), low)?);
        }
        Ok(bundle)
    }

    /// Reads what [`Self::to_bundle`] made.
    ///
    /// # Errors
    /// If the file is of another kind or shape, or its averages are not those of its sums.
    pub fn read(file: &TensorFile, pool: Pool) -> Result<Self> {
        // Which checks the averages against the sums.
        let Threshold { dims, .. } = Threshold::read(file, pool)?;
        let (_, high) = file.i64("sum_high", Some(dims.sizes()))?;
        let (_, low) = file.i64("sum_low", Some(dims.sizes()))?;
        let (_, count) = file.i64("count", Some(&[1]))?;
        let sums =
            MeanAccumulator::from_parts(&high, &low, count[0]).map_err(|error| no_sums(file, &error))?;
        let range = Range::read(file, dims.sizes())?;
        let squares = read_squares(file, dims.sizes(), count[0])?;
        let read =
            Self { pool, dims, sums, range, squares, on_device: Shared::default(), spare: Spare::default() };
        read.check_variance(file)?;
        Ok(read)
    }

    /// Variances are those of the sums.
    fn check_variance(&self, file: &TensorFile) -> Result<()> {
        let Some(expected) = self.variance()? else { return Ok(()) };
        let (_, found) = file.f32(VARIANCE, Some(self.dims()))?;
        match expected.iter().zip(&found).position(|(expected, found)| expected != found) {
            None => Ok(()),
            Some(place) => {
                let expected = format!("{} at element {place}, as its sums give", expected[place]);
                Err(wrong(file, VARIANCE, expected, found[place]))
            }
        }
    }
}

/// The variances in a file of averages, where it has them.
const VARIANCE: &str = "variance";

fn read_squares(file: &TensorFile, dims: &[usize], count: i64) -> Result<Option<SquareAccumulator>> {
    if !file.contains(VARIANCE) {
        return Ok(None);
    }
    let (_, high) = file.i64("square_high", Some(dims))?;
    let (_, low) = file.i64("square_low", Some(dims))?;
    let squares = SquareAccumulator::from_parts(&high, &low, count);
    let expected = "sums of squares, with `square_low`, of as many texts as `count` says";
    squares.map(Some).map_err(|error| wrong(file, "square_high", expected, error))
}

fn wrong(file: &TensorFile, tensor: &str, expected: impl ToString, found: impl ToString) -> ProbingError {
    let (file, tensor) = (file.path().into(), tensor.into());
    ArtifactError::Tensor { file, tensor, expected: expected.to_string(), found: found.to_string() }.into()
}

pub(crate) fn check_same(pool: Pool, dims: &Dims, other_pool: Pool, other: &Dims) -> Result<()> {
    if pool == other_pool && dims == other {
        return Ok(());
    }
    let describe = |pool: Pool, dims: &Dims| format!("{pool:?} {:?}", dims.sizes());
    Err(ProbingError::mismatch("shard to merge", describe(pool, dims), describe(other_pool, other)))
}

/// Averages over `texts` for every probe of `types` that needs them, all from one pass.
///
/// # Errors
/// If there are no texts, one does not fit into the model, an activation is not finite or is too large to be added up
/// exactly, or `acc` is asked of a model without prompt rows.
pub fn averages(
    model: &LanguageModel,
    texts: &[Encoded],
    types: &[ProbeType],
    options: &PassOptions<'_>,
) -> Result<BTreeMap<Pool, Average>> {
    let pools: BTreeSet<Pool> = types.iter().filter_map(|probe| probe.pool()).collect();
    let statistics =
        pools.iter().map(|&pool| -> Result<Box<dyn Statistic>> { Ok(Box::new(Average::new(model, pool)?)) });
    let taken = collect("averaging", model, texts, usize::MAX, statistics.collect::<Result<_>>()?, options)?;
    pools.into_iter().zip(taken).map(|(pool, average)| Ok((pool, part(average)?))).collect()
}

impl Statistic for Average {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == self.pool
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let mut part = self.of_nothing(0);
        part.sums.add_rows(texts.rows.len() as u64)?;
        Ok(Box::new(part))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        if self.sums.is_empty() {
            // The first row of a part.
            let texts = self.sums.rows();
            match self.spare.take() {
                Some(used) => {
                    (self.sums, self.range, self.squares) = used;
                    self.sums.clear();
                    self.range.iter_mut().for_each(Range::clear);
                    self.squares.iter_mut().for_each(SquareAccumulator::clear);
                }
                None => *self = self.of_nothing(self.dims.elements()),
            }
            self.sums.add_rows(texts)?;
        }
        let offset = self.dims.offset(row);
        self.sums.add_row_at(offset, row.values)?;
        if let Some(range) = &mut self.range {
            range.add(offset, row.values);
        }
        match &mut self.squares {
            Some(squares) => Ok(squares.add_row_at(offset, row.values)?),
            None => Ok(()),
        }
    }

    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        Some(self)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let part: Self = part(of_batch)?;
        match part.sums.is_empty() {
            // No row was taken here.
            true => Ok(self.sums.add_rows(part.sums.rows())?),
            false => {
                self.merge(&part)?;
                self.spare.keep((part.sums, part.range, part.squares));
                Ok(())
            }
        }
    }

    fn file(&self, _: &str) -> String {
        self.pool.average_file().into()
    }

    fn into_record(mut self: Box<Self>) -> Result<Box<dyn Record>> {
        self.finish()?;
        Ok(self)
    }
}

impl TakeBlocks for Average {
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()> {
        let mut layers = self.on_device.lock();
        let sums = match layers.entry(block.layer) {
            Entry::Occupied(sums) => sums.into_mut(),
            Entry::Vacant(place) => {
                let shape = [block.rows.groups(), block.values.dim(1)?];
                let (squares, range) = (self.squares.is_some(), self.range.is_some());
                place.insert(ColumnSums::new(shape, squares, range, block.values.device())?)
            }
        };
        Ok(sums.add(block.values, block.rows, misfit)?)
    }

    fn finish(&mut self) -> Result<()> {
        for (layer, sums) in self.on_device.take() {
            let [positions, width] = sums.shape();
            let ColumnTotals { sums, squares, range, .. } = sums.totals()?;
            for position in 0..positions {
                let (offset, own) =
                    (self.dims.place(layer, position), position * width..(position + 1) * width);
                self.sums.add_sums_at(offset, &sums[own.clone()])?;
                if let (Some(all), Some(squares)) = (&mut self.squares, &squares) {
                    all.add_sums_at(offset, &squares[own.clone()])?;
                }
                if let (Some(all), Some(range)) = (&mut self.range, &range) {
                    all.widen(offset, range.each_ref().map(|end| &end[own.clone()]));
                }
            }
        }
        Ok(())
    }
}

impl Record for Average {
    fn merge(&mut self, part: &dyn Record) -> Result<()> {
        self.merge(other::<Self>(part)?)
    }

    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        self.to_bundle(metadata)
    }
}
