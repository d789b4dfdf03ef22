use crate::error::{PerturbError, Result};
use crate::finite::check_finite;

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
    fn averages_of_both_shapes() {
        assert_eq!(mean_over_positions(&[1.0, 2.0, 3.0, 4.0], &[2, 2]).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        assert_eq!(mean_over_positions(&[1.0, 2.0, 3.0, 4.0], &[2, 2, 1]).unwrap(), [[1.5], [3.5]]);
        assert!(matches!(mean_over_positions(&[1.0], &[1]), Err(PerturbError::Shape { .. })));
        assert!(matches!(mean_over_positions(&[], &[1, 0, 1]), Err(PerturbError::Shape { .. })));
        assert!(matches!(mean_over_positions(&[1.0], &[usize::MAX, 4]), Err(PerturbError::Length { .. })));
        assert!(matches!(mean_over_positions(&[f32::NAN], &[1, 1]), Err(PerturbError::Value { .. })));
    }
}
