use crate::error::{PerturbError, Result};
use crate::finite::check_finite;

/// Noise for every text, layer and neuron, `[texts, layers, neurons]`.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseTable {
    values: Vec<f32>,
    layers: usize,
    neurons: usize,
}

impl NoiseTable {
    /// `values` of the shape `[texts, layers, neurons]`, row-major; text `n` is the one whose sample number is `n`.
    ///
    /// # Errors
    /// If there are not as many values as the shape says, or one is not finite.
    pub fn new(values: Vec<f32>, [texts, layers, neurons]: [usize; 3]) -> Result<Self> {
        let expected = texts.checked_mul(layers).and_then(|product| product.checked_mul(neurons));
        if expected != Some(values.len()) {
            let expected =
                expected.map_or_else(|| "a countable number of".to_owned(), |count| count.to_string());
            return Err(PerturbError::Length { what: "given noise".into(), expected, found: values.len() });
        }
        check_finite(&values, |place| format!("given noise at {place}"))?;
        Ok(Self { values, layers, neurons })
    }

    /// Checks that there is noise for every neuron of layers of these widths.
    pub(crate) fn check(&self, widths: &[usize]) -> Result<()> {
        if self.layers != widths.len() {
            return Err(PerturbError::Layers {
                what: "given noise",
                expected: widths.len(),
                found: self.layers,
            });
        }
        match widths.iter().find(|&&width| width > self.neurons) {
            None => Ok(()),
            Some(width) => Err(PerturbError::Length {
                what: "given noise of a layer".into(),
                expected: format!("at least {width}"),
                found: self.neurons,
            }),
        }
    }

    /// The noise of a text at a layer.
    pub(crate) fn of(&self, sample: u64, layer: usize) -> Result<&[f32]> {
        let start = usize::try_from(sample).ok().and_then(|sample| {
            sample.checked_mul(self.layers)?.checked_add(layer)?.checked_mul(self.neurons)
        });
        let values = start.and_then(|start| self.values.get(start..start.checked_add(self.neurons)?));
        values.ok_or_else(|| {
            let texts = self.values.len() / (self.layers * self.neurons).max(1);
            PerturbError::NoNoise { sample, texts }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Edit;
    use crate::perturbation::Perturbation;

    #[test]
    fn noise_tables_are_checked() {
        let table = NoiseTable::new(vec![1.0, 2.0, 3.0, 4.0], [2, 1, 2]).unwrap();
        assert_eq!(table.of(1, 0), Ok(&[3.0, 4.0][..]));
        assert_eq!(table.of(2, 0), Err(PerturbError::NoNoise { sample: 2, texts: 2 }));
        assert!(table.of(u64::MAX, 0).is_err());
        assert!(NoiseTable::new(vec![1.0], [1, 1, 2]).is_err());
        assert!(NoiseTable::new(vec![], [usize::MAX, 2, 2]).is_err());
        assert!(NoiseTable::new(vec![f32::NAN], [1, 1, 1]).is_err());
        let wide = Edit::GivenNoise { alpha: 1.0, noise: table };
        assert!(Perturbation::new(wide, vec![vec![]], &[3]).is_err());
    }
}
