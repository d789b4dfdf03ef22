use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::error::{PerturbError, Result};
use crate::hook::PerturbHook;

/// The name of an edit, as it stands on a command line and in a result file.
///
/// ```
/// use skn_perturb::EditKind;
///
/// assert_eq!("zero".parse(), Ok(EditKind::Zero));
/// assert_eq!(EditKind::Gaussian.to_string(), "gaussian");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EditKind {
    /// `gaussian`: noise is added.
    #[default]
    Gaussian,
    /// `zero`: activations become 0.
    Zero,
    /// `mean`: activations become their mean.
    Mean,
}

impl EditKind {
    /// Every edit.
    pub const ALL: [Self; 3] = [Self::Gaussian, Self::Zero, Self::Mean];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Zero => "zero",
            Self::Mean => "mean",
        }
    }
}

impl fmt::Display for EditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EditKind {
    type Err = PerturbError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| PerturbError::UnknownEdit {
            expected: Self::ALL.map(Self::name).join(", "),
            found: name.to_owned(),
        })
    }
}

/// What happens to the activations of the chosen neurons, at every row.
#[derive(Clone, Debug, PartialEq)]
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

    fn check(&self, widths: &[usize]) -> Result<()> {
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

fn check_finite(values: &[f32], what: impl Fn(usize) -> String) -> Result<()> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(place) => {
            let found = f64::from(values[place]);
            Err(PerturbError::Value { what: what(place), expected: "a finite number", found })
        }
    }
}

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

    fn check(&self, widths: &[usize]) -> Result<()> {
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

/// An [`Edit`] and the neurons that it is done to, checked against the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Perturbation {
    edit: Edit,
    neurons: Vec<Vec<u32>>,
    widths: Vec<usize>,
    repeat: u64,
}

impl Perturbation {
    /// Edits `neurons` of each layer (none in a layer that is to be left alone). `widths` are the model's FFN widths,
    /// [`Config::intermediate_sizes`](skn_model::Config::intermediate_sizes). The repeat is 0.
    ///
    /// # Errors
    /// If a neuron is not in the model, values are missing or not finite, or alpha is below 0.
    pub fn new(edit: Edit, mut neurons: Vec<Vec<u32>>, widths: &[usize]) -> Result<Self> {
        if neurons.len() != widths.len() {
            return Err(PerturbError::Layers {
                what: "neurons",
                expected: widths.len(),
                found: neurons.len(),
            });
        }
        for (layer, (neurons, &width)) in neurons.iter_mut().zip(widths).enumerate() {
            neurons.sort_unstable();
            neurons.dedup();
            if let Some(&neuron) = neurons.last().filter(|&&last| last as usize >= width) {
                return Err(PerturbError::Neuron { layer, neuron, width });
            }
        }
        edit.check(widths)?;
        Ok(Self { edit, neurons, widths: widths.to_vec(), repeat: 0 })
    }

    /// What changes nothing: the model as it is, to stand beside perturbations of it.
    pub fn nothing(widths: &[usize]) -> Self {
        Self { edit: Edit::Zero, neurons: vec![Vec::new(); widths.len()], widths: widths.to_vec(), repeat: 0 }
    }

    /// The same edit with the noise of another repeat.
    pub fn repeat(self, repeat: u64) -> Self {
        Self { repeat, ..self }
    }

    /// The same edit in these layers only.
    pub fn within(mut self, layers: Range<usize>) -> Self {
        for (layer, neurons) in self.neurons.iter_mut().enumerate() {
            if !layers.contains(&layer) {
                neurons.clear();
            }
        }
        self
    }

    /// What is done.
    pub fn edit(&self) -> &Edit {
        &self.edit
    }

    /// The neurons of each layer that it is done to, ascending.
    pub fn neurons(&self) -> &[Vec<u32>] {
        &self.neurons
    }

    /// The repeat that the noise is drawn for.
    pub fn repeat_number(&self) -> u64 {
        self.repeat
    }

    /// `found`, if that is the width the layer was said to have: values for another width are values for another model.
    pub(crate) fn check_width(&self, layer: usize, found: usize) -> Result<usize> {
        match self.widths.get(layer) {
            Some(&width) if width == found => Ok(found),
            width => {
                let what = format!("activations of layer {layer}");
                let expected = width.map_or_else(|| "no".to_owned(), ToString::to_string);
                Err(PerturbError::Length { what, expected, found })
            }
        }
    }

    /// The hook that does it; it keeps nothing from batch to batch.
    pub fn hook(&self) -> PerturbHook<'_> {
        PerturbHook::new(self)
    }
}

/// What neurons are held at: the averages `train_avg` as they are (`[L, F]`), or their mean over prompt positions
/// (`[L, P, F]`; METHOD: the published method uses one value for prompt and text positions). One list a layer.
///
/// # Errors
/// If `shape` is neither, does not fit the values, or a value is not finite.
///
/// ```
/// use skn_perturb::mean_over_positions;
///
/// // 1 layer, 2 positions, 3 neurons
/// let means = mean_over_positions(&[1.0, 2.0, 3.0, 3.0, 4.0, 5.0], &[1, 2, 3])?;
/// assert_eq!(means, [[2.0, 3.0, 4.0]]);
/// # Ok::<(), skn_perturb::PerturbError>(())
/// ```
pub fn mean_over_positions(averages: &[f32], shape: &[usize]) -> Result<Vec<Vec<f32>>> {
    let (layers, positions, neurons) = match *shape {
        [layers, neurons] => (layers, 1, neurons),
        [layers, positions, neurons] if positions > 0 => (layers, positions, neurons),
        _ => return Err(PerturbError::Shape { found: shape.to_vec() }),
    };
    let of_layer = positions.checked_mul(neurons);
    if of_layer.and_then(|count| count.checked_mul(layers)) != Some(averages.len()) {
        let expected = format!("as many as in {shape:?}");
        return Err(PerturbError::Length { what: "averages".into(), expected, found: averages.len() });
    }
    check_finite(averages, |place| format!("average at {place}"))?;
    let of_layer = positions * neurons;
    let layer = |layer: usize| mean_of_rows(&averages[layer * of_layer..][..of_layer], positions, neurons);
    Ok((0..layers).map(layer).collect())
}

/// The mean of `positions` rows, summed in f64 in their order.
fn mean_of_rows(rows: &[f32], positions: usize, neurons: usize) -> Vec<f32> {
    let sum = |neuron: usize| (0..positions).map(|row| f64::from(rows[row * neurons + neuron])).sum::<f64>();
    (0..neurons).map(|neuron| (sum(neuron) / positions as f64) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in EditKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "Zero".parse::<EditKind>().unwrap_err();
        assert_eq!(error.to_string(), "edit `Zero`: expected one of gaussian, zero, mean");
    }

    #[test]
    fn neurons_are_checked_and_sorted() {
        let new = |neurons: Vec<Vec<u32>>| Perturbation::new(Edit::Zero, neurons, &[4, 3]);
        assert_eq!(new(vec![vec![2, 0, 2], vec![]]).unwrap().neurons(), [vec![0, 2], vec![]]);
        let error = new(vec![vec![3], vec![3]]).unwrap_err();
        assert_eq!(error, PerturbError::Neuron { layer: 1, neuron: 3, width: 3 });
        assert!(matches!(new(vec![vec![]]), Err(PerturbError::Layers { expected: 2, found: 1, .. })));
    }

    #[test]
    fn layers_outside_the_range_are_left_alone() {
        let all = vec![vec![0], vec![1], vec![2]];
        let perturbation = Perturbation::new(Edit::Zero, all, &[3, 3, 3]).unwrap().within(1..2);
        assert_eq!(perturbation.neurons(), [vec![], vec![1], vec![]]);
    }

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

    #[test]
    fn averages_of_both_shapes() {
        assert_eq!(mean_over_positions(&[1.0, 2.0, 3.0, 4.0], &[2, 2]).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(mean_over_positions(&[1.0, 2.0, 3.0, 4.0], &[2, 2, 1]).unwrap(), [[1.5], [3.5]]);
        assert!(matches!(mean_over_positions(&[1.0], &[1]), Err(PerturbError::Shape { .. })));
        assert!(matches!(mean_over_positions(&[], &[1, 0, 1]), Err(PerturbError::Shape { .. })));
        assert!(matches!(mean_over_positions(&[1.0], &[usize::MAX, 4]), Err(PerturbError::Length { .. })));
        assert!(matches!(mean_over_positions(&[f32::NAN], &[1, 1]), Err(PerturbError::Value { .. })));
    }
}
