use crate::error::{PerturbError, Result};
use crate::finite::check_finite;
use crate::kind::EditKind;
use crate::noise_table::NoiseTable;

/// What happens to the activations of the chosen neurons, at every row.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Edit {
    /// They become 0.
    Zero,
    /// They become the given values.
    Mean {
        /// For each layer a value for each neuron, finite. A layer may have more values than neurons (the padding of a
        /// rectangular file); these are not used.
        values: Vec<Vec<f32>>,
    },
    /// `alpha` times a standard normal number is added. The number depends on the seed, the repeat, the text, the
    /// layer and the neuron, not on which other neurons are edited or how texts are batched.
    Gaussian {
        /// The standard deviation.
        alpha: f64,
        /// The seed.
        seed: u64,
        /// Whether each position of a text has noise of its own; else all positions have the same.
        per_token: bool,
    },
    /// As [`Self::Gaussian`], the same at every position, with numbers that are given.
    GivenNoise {
        /// What the numbers are multiplied by.
        alpha: f64,
        /// The numbers.
        noise: NoiseTable,
    },
}

impl Edit {
    /// Its name.
    pub fn kind(&self) -> EditKind {
        match self {
            Self::Zero => EditKind::Zero,
            Self::Mean { .. } => EditKind::Mean,
            Self::Gaussian { .. } | Self::GivenNoise { .. } => EditKind::Gaussian,
        }
    }

    /// Checks its numbers, and that there are enough for layers of these widths.
    pub(crate) fn check(&self, widths: &[usize]) -> Result<()> {
        match self {
            Self::Zero => Ok(()),
            Self::Mean { values } => check_values(values, widths),
            Self::Gaussian { alpha, .. } => check_alpha(*alpha),
            Self::GivenNoise { alpha, noise } => {
                check_alpha(*alpha)?;
                noise.check(widths)
            }
        }
    }
}

fn check_alpha(alpha: f64) -> Result<()> {
    if alpha.is_finite() && alpha >= 0.0 {
        return Ok(());
    }
    Err(PerturbError::Value { what: "alpha".into(), expected: "a number not below 0", found: alpha })
}

fn check_values(values: &[Vec<f32>], widths: &[usize]) -> Result<()> {
    if values.len() != widths.len() {
        return Err(PerturbError::Layers { what: "means", expected: widths.len(), found: values.len() });
    }
    for (layer, (values, &width)) in values.iter().zip(widths).enumerate() {
        if values.len() < width {
            let what = format!("means of layer {layer}");
            return Err(PerturbError::Length {
                what,
                expected: format!("at least {width}"),
                found: values.len(),
            });
        }
        check_finite(values, |neuron| format!("mean of layer {layer}, neuron {neuron}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perturbation::Perturbation;

    #[test]
    fn values_are_checked() {
        let mean = |values: Vec<Vec<f32>>| Perturbation::new(Edit::Mean { values }, vec![vec![0]], &[2]);
        assert!(mean(vec![vec![1.0, 2.0]]).is_ok());
        assert!(mean(vec![vec![1.0, 2.0, 0.0]]).is_ok(), "padding");
        assert!(matches!(mean(vec![vec![1.0]]), Err(PerturbError::Length { found: 1, .. })));
        assert!(matches!(mean(vec![]), Err(PerturbError::Layers { .. })));
        let error = mean(vec![vec![1.0, f32::NAN]]).unwrap_err();
        assert_eq!(error.to_string(), "mean of layer 0, neuron 1: expected a finite number, found NaN");
    }

    #[test]
    fn alpha_is_checked() {
        for alpha in [-0.1, f64::NAN, f64::INFINITY] {
            let edit = Edit::Gaussian { alpha, seed: 0, per_token: false };
            assert!(matches!(Perturbation::new(edit, vec![vec![0]], &[2]), Err(PerturbError::Value { .. })));
        }
    }
}
