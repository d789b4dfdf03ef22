use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::{Result, TuneError};

/// Whose gradients the norm that is clipped counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClipScope {
    /// Those of the parameters that train.
    #[default]
    Tuned,
    /// Those of the frozen backbone as well, as the published implementation does (`--compat paper`). The model must
    /// be made with [`Gradients::All`](skn_model::Gradients::All).
    Backbone,
}

impl ClipScope {
    /// The name in messages and checkpoints.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tuned => "tuned",
            Self::Backbone => "backbone",
        }
    }
}

/// What gradients of norm `norm` are multiplied by: `min(1, max_norm / (norm + 1e-6))`, PyTorch's formula.
///
/// ```
/// assert_eq!(skn_tune::clip_factor(0.5, 1.0), 1.0);
/// assert!((skn_tune::clip_factor(4.0, 1.0) - 0.25).abs() < 1e-6);
/// ```
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}

/// The Euclidean norm of all gradients together, summed in f64 in the order of names.
///
/// # Errors
/// If a gradient is NaN or infinite; names the parameter and `step`.
pub fn gradient_norm(step: u64, gradients: &BTreeMap<String, Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for (name, gradient) in gradients {
        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
        check_finite(step, || format!("gradient of `{name}`"), &values)?;
        sum += values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    }
    Ok(sum.sqrt())
}

/// Names the first number of `values` that is NaN or infinite.
pub(crate) fn check_finite(step: u64, what: impl FnOnce() -> String, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(&value) => Err(TuneError::NotFinite { step, what: what(), found: value.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn gradients(a: &[f32], b: &[f32]) -> BTreeMap<String, Tensor> {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        BTreeMap::from([("a".to_string(), tensor(a)), ("b".to_string(), tensor(b))])
    }

    #[test]
    fn the_norm_is_over_all_parameters() {
        assert_eq!(gradient_norm(0, &gradients(&[2.0, 3.0], &[6.0])).unwrap(), 7.0);
        // Squares that f32 can't hold.
        assert_eq!(gradient_norm(0, &gradients(&[3e30], &[4e30])).unwrap() as f32, 5e30);
    }

    #[test]
    fn a_small_gradient_is_left_alone() {
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
        assert_eq!(clip_factor(0.999_999, 1.0), 1.0);
        assert_eq!(clip_factor(1.0, 1.0), 1.0 / 1.000001);
        assert!((clip_factor(10.0, 2.0) - 0.2).abs() < 1e-7);
    }

    #[test]
    fn a_gradient_that_is_no_number_is_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let message = gradient_norm(7, &gradients(&[1.0], &[0.0, bad])).unwrap_err().to_string();
            assert!(message.contains("step 7") && message.contains("`b`"), "{message}");
        }
    }
}
