//! How far two results are apart.

use std::fmt;

use candle_core::Tensor;

use crate::operations::Measured;

/// The most that results may differ by, next to one plus what was expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) values: f32,
    pub(crate) gradients: f32,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {:.0e}, gradients {:.0e}", self.values, self.gradients)
    }
}

/// The largest differences, next to one plus what was expected, and where the larger was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Difference {
    pub(crate) values: f32,
    pub(crate) gradients: f32,
    place: String,
}

impl Difference {
    pub(crate) fn within(&self, allowed: Allowed) -> bool {
        self.values <= allowed.values && self.gradients <= allowed.gradients
    }

    /// Takes another case into account.
    pub(crate) fn take(&mut self, case: &str, found: &Measured, expected: &Measured) {
        let values = relative(&found.values, &expected.values);
        let both = found.gradients.iter().zip(&expected.gradients);
        let gradients = both.map(|pair| match pair {
            (Some(found), Some(expected)) => relative(found, expected),
            (None, None) => 0.0,
            // Of nothing at all there may be a gradient or none.
            (Some(one), None) | (None, Some(one)) if one.elem_count() == 0 => 0.0,
            _ => f32::INFINITY,
        });
        let gradients = gradients.fold(0.0, f32::max);
        if values > self.values || gradients > self.gradients {
            self.place = case.to_owned();
        }
        self.values = self.values.max(values);
        self.gradients = self.gradients.max(gradients);
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1e}, gradients {:.1e}", self.values, self.gradients)?;
        if self.place.is_empty() { Ok(()) } else { write!(f, " ({})", self.place.replace('|', " ")) }
    }
}

/// Infinite for other shapes, and for what is NaN in one of them alone.
fn relative(found: &Tensor, expected: &Tensor) -> f32 {
    let numbers = |tensor: &Tensor| tensor.flatten_all().and_then(|all| all.to_vec1::<f32>());
    match (numbers(found), numbers(expected)) {
        (Ok(a), Ok(b)) if found.dims() == expected.dims() => {
            largest(&a, &b, |found, expected| (found - expected).abs() / (1.0 + expected.abs()))
        }
        _ => f32::INFINITY,
    }
}

/// The largest of `difference` of numbers that stand in the same place; infinite where it is none.
pub(crate) fn largest(found: &[f32], expected: &[f32], difference: impl Fn(f32, f32) -> f32) -> f32 {
    if found.len() != expected.len() {
        return f32::INFINITY;
    }
    let each = found.iter().zip(expected).map(|(found, expected)| difference(*found, *expected));
    each.map(|difference| if difference.is_nan() { f32::INFINITY } else { difference }).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_is_infinitely_far() {
        let apart = |a: f32, b: f32| (a - b).abs();
        assert_eq!(largest(&[1.0, 2.5], &[1.0, 2.0], apart), 0.5);
        assert_eq!(largest(&[1.0, f32::NAN, 3.0], &[1.0, 2.0, 3.0], apart), f32::INFINITY);
        assert_eq!(largest(&[1.0], &[1.0, 2.0], apart), f32::INFINITY);
    }

    #[test]
    fn a_missing_gradient_is_no_small_one() {
        let tensor = Tensor::new(&[0f32, 1.0], &candle_core::Device::Cpu).unwrap();
        let with = |gradients| Measured { values: tensor.clone(), gradients };
        let mut found = Difference::default();
        found.take("both", &with(vec![Some(tensor.clone())]), &with(vec![Some(tensor.clone())]));
        assert_eq!((found.values, found.gradients), (0.0, 0.0));
        found.take("one", &with(vec![None]), &with(vec![Some(tensor.clone())]));
        assert_eq!(found.gradients, f32::INFINITY);
    }
}
