use candle_core::{Device, Tensor};
use skn_artifact::names::kind;
use skn_artifact::{ArtifactError, TensorFile};
use skn_counts::Pool;
use skn_kernels::numbers_on;
use skn_stats::{MAX_ACTIVATION, MeanAccumulator, StatsError};

use crate::error::{ProbingError, Result};
use crate::range::Range;
use crate::watch::Dims;

/// What activations are compared with: an [`Average`](crate::Average)'s values as f32, and which neurons are dead there.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    pub(crate) pool: Pool,
    pub(crate) dims: Dims,
    pub(crate) values: Vec<f32>,
    pub(crate) dead: Option<Vec<bool>>,
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

    /// Which neurons are dead ([`Range::dead`](crate::Range::dead)), of the shape of [`Self::dims`]; nothing where nobody looked.
    pub fn dead(&self) -> Option<&[bool]> {
        self.dead.as_deref()
    }

    /// Those of a layer for a device, `[positions, width]`, whatever the widest layer has.
    pub(crate) fn on_device(&self, layer: usize, shape: [usize; 2], device: &Device) -> Result<Tensor> {
        Ok(numbers_on(self.dims.of_layer(&self.values, layer, shape), shape.to_vec(), device)?)
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
            None => {
                let dead = Range::read(file, dims.sizes())?.map(|range| range.dead());
                Ok(Self { pool, dims, values, dead })
            }
            Some(place) => {
                let found = format!("{} at element {place}", values[place]);
                Err(wrong_average(file, "finite numbers", found))
            }
        }
    }
}

/// Checks that averages are within what activations may be, and against the smallest and largest activations and the sums beside
/// them, where a file has those.
///
/// # Errors
/// If one is beyond that or no number, or they are not the quotients of the sums, or dead neurons are not those of the
/// activations.
pub fn check_averages(file: &TensorFile) -> Result<()> {
    check_range(file)?;
    if let Some(range) = Range::read(file, file.shape(kind::AVERAGE)?)? {
        range.check_averages(file)?;
    }
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

pub(crate) fn no_sums(file: &TensorFile, error: &StatsError) -> ProbingError {
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

pub(crate) fn wrong_average(
    file: &TensorFile,
    expected: impl ToString,
    found: impl ToString,
) -> ProbingError {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use skn_artifact::names::key;
    use skn_artifact::{Array, TensorBundle};

    use super::*;

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
