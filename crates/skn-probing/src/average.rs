use std::collections::BTreeMap;

use skn_artifact::names::{key, kind};
use skn_artifact::{Array, ArtifactError, TensorBundle, TensorFile};
use skn_counts::Pool;
use skn_data::{Batch, Encoded};
use skn_model::{LanguageModel, Output};
use skn_stats::{MAX_ACTIVATION, MeanAccumulator, StatsError};

use crate::error::{ProbingError, Result};
use crate::pass::{PassOptions, Texts, check_text_rows, forward};
use crate::probe::ProbeType;
use crate::watch::{Dims, Place, Reduction, Watch};

/// What a file says of itself beside its kind: task, model, data, split, seed, shard.
pub type Metadata = BTreeMap<String, String>;

/// The average of every neuron's activation over the texts of train: exact sums, which merge to the same bits in any
/// order.
#[derive(Clone, Debug)]
pub struct Average {
    pool: Pool,
    dims: Dims,
    sums: MeanAccumulator,
}

/// What activations are compared with: an [`Average`]'s values as f32.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    pool: Pool,
    pub(crate) dims: Dims,
    pub(crate) values: Vec<f32>,
}

impl Average {
    fn new(model: &LanguageModel, pool: Pool) -> Result<Self> {
        let dims = Dims::of(model, pool)?;
        Ok(Self { pool, sums: MeanAccumulator::new(dims.elements()), dims })
    }

    /// What was taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// `[L, P, F]` for [`Pool::Position`], else `[L, F]`.
    pub fn dims(&self) -> &[usize] {
        self.dims.sizes()
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

    /// The averages as thresholds of the rule `activation > average => label 1`.
    ///
    /// # Errors
    /// If there are no texts.
    pub fn threshold(&self) -> Result<Threshold> {
        Ok(Threshold { pool: self.pool, dims: self.dims.clone(), values: self.values()? })
    }

    /// Adds the sums of another shard.
    ///
    /// # Errors
    /// If it is of another pool or shape.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(self.pool, &self.dims, other.pool, &other.dims)?;
        Ok(self.sums.merge(&other.sums)?)
    }

    /// The file `train_avg` (or `train_mean_avg`, `train_max_avg`): `train_avg`, `sum_high`, `sum_low`, `count`.
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
        Ok(Self { pool, dims, sums })
    }
}

impl Threshold {
    /// What was taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// `[L, P, F]` for [`Pool::Position`], else `[L, F]`.
    pub fn dims(&self) -> &[usize] {
        self.dims.sizes()
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Reads the `train_avg` of a file of averages, with or without the sums behind it.
    ///
    /// # Errors
    /// If the file is of another kind or shape, or a value is not finite.
    pub fn read(file: &TensorFile, pool: Pool) -> Result<Self> {
        file.expect_kind(pool.average_file())?;
        check_averages(file)?;
        let (sizes, values) = file.f32(kind::AVERAGE, None)?;
        let dims = dims_of_file(file, pool, sizes)?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self { pool, dims, values }),
            Some(place) => {
                let found = format!("{} at element {place}", values[place]);
                Err(wrong_average(file, "finite numbers", found))
            }
        }
    }
}

/// Checks that averages are within what activations may be, and against the sums beside them, where a file has those.
///
/// # Errors
/// If one is beyond that or no number, or they are not the quotients of the sums.
pub fn check_averages(file: &TensorFile) -> Result<()> {
    check_range(file)?;
    if !file.contains("sum_high") {
        return Ok(());
    }
    let (shape, values) = file.f32(kind::AVERAGE, None)?;
    let (_, high) = file.i64("sum_high", Some(&shape))?;
    let (_, low) = file.i64("sum_low", Some(&shape))?;
    let (_, count) = file.i64("count", Some(&[1]))?;
    let sums = MeanAccumulator::from_parts(&high, &low, count[0]);
    let means = sums.and_then(|sums| sums.mean()).map_err(|error| no_sums(file, &error))?;
    // NaN is equal to nothing, so it is found too.
    match means.iter().zip(&values).position(|(mean, value)| mean != value) {
        None => Ok(()),
        Some(place) => Err(wrong_average(
            file,
            format!("{} at element {place}, as its sum and count give", means[place]),
            values[place],
        )),
    }
}

fn no_sums(file: &TensorFile, error: &StatsError) -> ProbingError {
    let (file, tensor) = (file.path().into(), "sum_high".into());
    let expected = "sums, with `sum_low`, of as many texts as `count` says".into();
    ArtifactError::Tensor { file, tensor, expected, found: error.to_string() }.into()
}

/// No activation is beyond [`MAX_ACTIVATION`], so no average is: folded into a bias, larger ones would leave f32.
fn check_range(file: &TensorFile) -> Result<()> {
    let (_, values) = file.f32(kind::AVERAGE, None)?;
    match values.iter().position(|value| !matches!(value.abs(), 0.0..=MAX_ACTIVATION)) {
        None => Ok(()),
        Some(place) => {
            let expected =
                format!("finite numbers from -{MAX_ACTIVATION} to {MAX_ACTIVATION}, as activations are");
            Err(wrong_average(file, expected, format!("{} at element {place}", values[place])))
        }
    }
}

fn wrong_average(file: &TensorFile, expected: impl ToString, found: impl ToString) -> ProbingError {
    let (file, tensor) = (file.path().into(), kind::AVERAGE.into());
    ArtifactError::Tensor { file, tensor, expected: expected.to_string(), found: found.to_string() }.into()
}

/// A shape read from a file, if it is one that the pool has.
pub(crate) fn dims_of_file(file: &TensorFile, pool: Pool, sizes: Vec<usize>) -> Result<Dims> {
    let expected = if pool == Pool::Position { 3 } else { 2 };
    if sizes.len() == expected && !sizes.contains(&0) {
        return Dims::new(sizes);
    }
    Err(wrong_average(file, format!("{expected} dimensions, none 0"), format!("shape {sizes:?}")))
}

pub(crate) fn check_same(pool: Pool, dims: &Dims, other_pool: Pool, other: &Dims) -> Result<()> {
    if pool == other_pool && dims == other {
        return Ok(());
    }
    let describe = |pool: Pool, dims: &Dims| format!("{pool:?} {:?}", dims.sizes());
    Err(ProbingError::mismatch("shard to merge", describe(pool, dims), describe(other_pool, other)))
}

/// A bundle that says what it is.
pub(crate) fn described(kind: &str, metadata: &Metadata) -> TensorBundle {
    let mut bundle = TensorBundle::new();
    for (key, value) in metadata {
        bundle.describe(key, value);
    }
    bundle.describe(key::KIND, kind);
    bundle
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
    let empty = || -> Result<Sums> {
        let pools = types.iter().filter_map(|probe| probe.pool());
        Ok(Sums(pools.map(|pool| Ok((pool, Average::new(model, pool)?))).collect::<Result<_>>()?))
    };
    let mut whole = empty()?.0;
    if whole.is_empty() {
        return Ok(whole);
    }
    let map = |batch: &Batch| {
        let mut watch = Watch::new(batch, options.site, empty()?);
        forward(model, batch, Output::Nothing, &mut watch)?;
        let mut sums = watch.into_reduction().0;
        for average in sums.values_mut() {
            average.sums.add_rows(batch.len() as u64)?;
        }
        Ok(sums)
    };
    check_text_rows(texts, whole.keys())?;
    let pass = Texts::new("averaging", model, texts, usize::MAX, options)?;
    pass.run(map, |_, part| part.iter().try_for_each(|(pool, part)| merge_into(&mut whole, *pool, part)))?;
    Ok(whole)
}

fn merge_into(whole: &mut BTreeMap<Pool, Average>, pool: Pool, part: &Average) -> Result<()> {
    whole.get_mut(&pool).map_or(Ok(()), |whole| whole.merge(part))
}

/// The sums of a batch.
struct Sums(BTreeMap<Pool, Average>);

impl Reduction for Sums {
    fn wants(&self, pool: Pool, _: usize) -> bool {
        self.0.contains_key(&pool)
    }

    fn take(&mut self, place: Place, values: &[f32]) -> Result<()> {
        let Some(average) = self.0.get_mut(&place.pool) else { return Ok(()) };
        Ok(average.sums.add_row_at(average.dims.offset(place), values)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Averages of somebody's own are within what activations may be: folded into a bias, others would leave f32.
    #[test]
    fn averages_beyond_all_activations_are_refused() {
        for wrong in [f32::NAN, f32::NEG_INFINITY, 3e38, -1_048_577.0] {
            let mut bundle = TensorBundle::new();
            bundle.describe(key::KIND, kind::AVERAGE);
            bundle.insert(kind::AVERAGE, Array::f32(vec![1, 1, 3], vec![0.5, wrong, 0.5]).unwrap());
            let bytes = bundle.to_bytes().unwrap();
            let file = TensorFile::from_bytes(Path::new("own.safetensors"), bytes).unwrap();
            let errors =
                [check_averages(&file).unwrap_err(), Threshold::read(&file, Pool::Position).unwrap_err()];
            for message in errors.map(|error| error.to_string()) {
                for part in ["own.safetensors", "train_avg", "-1048576 to 1048576", "at element 1"] {
                    assert!(message.contains(part), "{message}");
                }
            }
        }
    }
}
