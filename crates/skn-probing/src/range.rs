use skn_artifact::names::{key, kind, schema};
use skn_artifact::{Array, ArtifactError, TensorBundle, TensorFile};
use skn_stats::{Loop, vectorised};

use crate::error::{ProbingError, Result};

/// The smallest and the largest activation of every neuron over the texts of train, at each position where there are several: how
/// far it varies, exact in any order of the texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    minimum: Vec<f32>,
    maximum: Vec<f32>,
}

/// How many such errors a dead neuron varies by at most.
const DEAD_UNITS: f64 = 16.0;

/// The largest error of rounding to an f32 near 1: half a unit in its last place.
const UNIT: f64 = 1.0 / (1u32 << 24) as f64;

impl Range {
    /// Of no activation yet.
    pub(crate) fn new(values: usize) -> Self {
        Self { minimum: vec![f32::INFINITY; values], maximum: vec![f32::NEG_INFINITY; values] }
    }

    /// Makes it one of no activation, in the same memory.
    pub(crate) fn clear(&mut self) {
        self.minimum.fill(f32::INFINITY);
        self.maximum.fill(f32::NEG_INFINITY);
    }

    pub(crate) fn add(&mut self, offset: usize, values: &[f32]) {
        self.widen(offset, [values, values]);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.widen(0, [&other.minimum, &other.maximum]);
    }

    pub(crate) fn widen(&mut self, offset: usize, [least, most]: [&[f32]; 2]) {
        let (minimum, maximum) =
            (&mut self.minimum[offset..][..least.len()], &mut self.maximum[offset..][..most.len()]);
        vectorised(Widen, ([minimum, maximum], [least, most]));
    }

    /// The smallest activations, row-major; 0 where a pruned layer has no neuron.
    pub fn minimum(&self) -> Vec<f32> {
        self.minimum.iter().map(|&value| taken(value)).collect()
    }

    /// The largest activations, likewise.
    pub fn maximum(&self) -> Vec<f32> {
        self.maximum.iter().map(|&value| taken(value)).collect()
    }

    /// Which neurons are dead: their activation varies over train by no more than 16 * 2^-24 times its largest magnitude, or times 1
    /// where that is less. So little is rounding, and a rule about it tells nothing.
    pub fn dead(&self) -> Vec<bool> {
        let ends = self.minimum.iter().zip(&self.maximum);
        ends.map(|(&least, &most)| is_dead(taken(least), taken(most))).collect()
    }

    pub(crate) fn insert(&self, bundle: &mut TensorBundle, dims: &[usize]) -> Result<()> {
        bundle.insert("minimum", Array::f32(dims.to_vec(), self.minimum())?);
        bundle.insert("maximum", Array::f32(dims.to_vec(), self.maximum())?);
        bundle.insert("dead", Array::bool(dims.to_vec(), self.dead())?);
        bundle.in_schema(schema::AVERAGES_WITH_RANGE);
        Ok(())
    }

    /// What a file of averages has of it; nothing if an older version wrote it.
    pub(crate) fn read(file: &TensorFile, dims: &[usize]) -> Result<Option<Self>> {
        let promised = schema::AVERAGES_WITH_RANGE.to_string();
        let any = ["minimum", "maximum", "dead"].iter().any(|name| file.contains(name));
        if !any && file.metadata().get(key::SCHEMA) != Some(&promised) {
            return Ok(None);
        }
        let (_, minimum) = file.f32("minimum", Some(dims))?;
        let (_, maximum) = file.f32("maximum", Some(dims))?;
        let range = Self { minimum, maximum };
        for (place, (least, most)) in range.minimum.iter().zip(&range.maximum).enumerate() {
            if !(least.is_finite() && most.is_finite() && least <= most) {
                let expected = format!("finite numbers from `minimum` on, {least} at element {place}");
                return Err(wrong(file, "maximum", expected, most));
            }
        }
        let (_, dead) = file.bool("dead", Some(dims))?;
        match range.dead().iter().zip(&dead).position(|(expected, found)| expected != found) {
            None => Ok(Some(range)),
            Some(place) => {
                let expected = format!("{} at element {place}, as `minimum` and `maximum` say", !dead[place]);
                Err(wrong(file, "dead", expected, dead[place]))
            }
        }
    }

    /// Averages lie between the smallest and the largest activation, but for the fixed point that they are added in.
    pub(crate) fn check_averages(&self, file: &TensorFile) -> Result<()> {
        const STEP: f64 = 1.0 / (1u64 << 40) as f64;
        let (_, values) = file.f32(kind::AVERAGE, Some(file.shape("minimum")?))?;
        let ends = self.minimum.iter().zip(&self.maximum);
        for (place, (&value, (&least, &most))) in values.iter().zip(ends).enumerate() {
            let [value, low, high] = [value, least, most].map(f64::from);
            // A rounded average is no further from an end than the sum's last step.
            if !(low - STEP..=high + STEP).contains(&value) {
                let expected = format!("{least} to {most} at element {place}, as the activations are");
                return Err(wrong(file, kind::AVERAGE, expected, value));
            }
        }
        Ok(())
    }
}

/// Lets ranges reach as far as other ones. Of 0 and -0 that stays which was there first; neither is told from the other ([`taken`]).
struct Widen;

impl Loop<([&mut [f32]; 2], [&[f32]; 2])> for Widen {
    type Output = ();

    #[inline(always)]
    fn run(([minimum, maximum], [least, most]): ([&mut [f32]; 2], [&[f32]; 2])) {
        for (least, &value) in minimum.iter_mut().zip(least) {
            *least = if value < *least { value } else { *least };
        }
        for (most, &value) in maximum.iter_mut().zip(most) {
            *most = if value > *most { value } else { *most };
        }
    }
}

/// What was never taken is infinite. 0 has no sign: which one came first depends on the order of texts.
fn taken(value: f32) -> f32 {
    if value.is_finite() { value + 0.0 } else { 0.0 }
}

fn is_dead(least: f32, most: f32) -> bool {
    let [least, most] = [least, most].map(f64::from);
    most - least <= DEAD_UNITS * UNIT * least.abs().max(most.abs()).max(1.0)
}

fn wrong(file: &TensorFile, tensor: &str, expected: impl ToString, found: impl ToString) -> ProbingError {
    let (file, tensor) = (file.path().into(), tensor.into());
    ArtifactError::Tensor { file, tensor, expected: expected.to_string(), found: found.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[[f32; 3]]) -> Range {
        let mut range = Range::new(4);
        rows.iter().for_each(|row| range.add(0, row));
        range
    }

    #[test]
    fn dead_is_what_varies_by_rounding() {
        let unit = f32::EPSILON / 2.0;
        let range = of(&[[0.5, 100.0, 0.25], [0.5 + 16.0 * unit, 100.0, 0.25], [0.5, 100.0001, 0.2501]]);
        assert_eq!(range.dead(), [true, false, false, true], "the last was never taken");
        // 16 units of 128 and of 100 are more than those of 1.
        assert!(is_dead(100.0, 100.0 + 12.0 * f32::EPSILON * 64.0) == (12.0 * 64.0 * 2.0 <= 16.0 * 100.0));
        assert!(!is_dead(0.0, 17.0 * unit) && is_dead(-8.0 * unit, 8.0 * unit));
        assert_eq!(
            (range.minimum(), range.maximum()),
            (vec![0.5, 100.0, 0.25, 0.0], vec![0.5 + 16.0 * unit, 100.0001, 0.2501, 0.0])
        );
    }

    #[test]
    fn zeros_have_no_sign() {
        let range = of(&[[0.0, -0.0, -0.0], [-0.0, 0.0, -0.0]]);
        let bits = |of: Vec<f32>| of.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!((bits(range.minimum()), bits(range.maximum())), (vec![0; 4], vec![0; 4]));
    }

    #[test]
    fn shards_merge_in_any_order() {
        let rows = [[1.0, -2.0, 0.0], [3.0, -5.0, 0.0], [2.0, 7.0, 0.0]];
        for cut in 0..=3 {
            let mut second = of(&rows[cut..]);
            second.merge(&of(&rows[..cut]));
            let mut first = of(&rows[..cut]);
            first.merge(&of(&rows[cut..]));
            assert_eq!((&first, &second), (&of(&rows), &of(&rows)), "{cut}");
        }
    }
}
