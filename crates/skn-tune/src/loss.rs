use candle_core::{D, Result, Tensor};

/// Cross-entropy `log(sum_j exp(x_j)) - x_target` of each row of `logits` `[rows, classes]`: `[rows]`.
///
/// Composed of operations that have a backward pass (candle's fused softmax has none, and cuts the graph without a
/// word). The largest logit is taken off first, so that `exp` can't overflow.
///
/// # Errors
/// If there are not as many targets as rows, or a target is not a class.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, classes) = logits.dims2()?;
    if targets.len() != rows || targets.iter().any(|&target| target as usize >= classes) {
        candle_core::bail!("cross-entropy: expected {rows} targets below {classes}, found {targets:?}");
    }
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let target = Tensor::from_slice(targets, (rows, 1), logits.device())?;
    (log_sum - shifted.gather(&target, 1)?)?.squeeze(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn losses_by_hand() {
        let logits = Tensor::new(&[[0f32, 0.0], [3f32.ln(), 0.0], [1000.0, 0.0]], &Device::Cpu).unwrap();
        let losses = cross_entropy(&logits, &[1, 0, 1]).unwrap().to_vec1::<f32>().unwrap();
        for (loss, expected) in losses.iter().zip([2f32.ln(), (4f32 / 3.0).ln(), 1000.0]) {
            assert!((loss - expected).abs() < 1e-6, "{loss} is not {expected}");
        }
    }

    #[test]
    fn the_gradient_is_softmax_minus_one_hot() {
        let logits = Var::new(&[[3f32.ln(), 0.0]], &Device::Cpu).unwrap();
        let gradients = cross_entropy(&logits, &[1]).unwrap().sum_all().unwrap().backward().unwrap();
        let gradient = gradients.get(&logits).unwrap().to_vec2::<f32>().unwrap();
        assert!((gradient[0][0] - 0.75).abs() < 1e-6 && (gradient[0][1] + 0.75).abs() < 1e-6, "{gradient:?}");
    }

    #[test]
    fn wrong_targets_are_refused() {
        let logits = Tensor::new(&[[0f32, 0.0]], &Device::Cpu).unwrap();
        assert!(cross_entropy(&logits, &[2]).is_err() && cross_entropy(&logits, &[0, 1]).is_err());
    }
}
