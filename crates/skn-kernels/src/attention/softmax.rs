//! The softmax of scores, and its gradient.

use crate::simd::{Isa, exp, for_each_chunk, lane_max, lane_sum, lane_sum_pairs, multiversioned};

/// The softmax of `scale` times the first `keys` numbers of every `stride`; the others become 0.
#[inline(always)]
fn softmax_body<const FUSED: bool>(scores: &mut [f32], stride: usize, keys: usize, scale: f32) {
    for row in scores.chunks_exact_mut(stride) {
        row[keys..].fill(f32::NEG_INFINITY);
        let highest = lane_max(row);
        for_each_chunk(row, |chunk| {
            for score in chunk {
                *score = exp::<FUSED>((*score - highest) * scale);
            }
        });
        row[keys..].fill(0.0);
        let share = 1.0 / lane_sum(row, |value| value);
        row.iter_mut().for_each(|value| *value *= share);
    }
}

/// Turns gradients of probabilities into gradients of scores, `p` being the probabilities and `dropped` the same
/// after dropout.
#[inline(always)]
fn softmax_gradient_body<const FUSED: bool>(
    gradient: &mut [f32],
    p: &[f32],
    dropped: &[f32],
    stride: usize,
    scale: f32,
) {
    let rows =
        gradient.chunks_exact_mut(stride).zip(p.chunks_exact(stride).zip(dropped.chunks_exact(stride)));
    for (row, (p, dropped)) in rows {
        let mean = lane_sum_pairs(row, dropped, |gradient, p| gradient * p);
        for ((value, p), dropped) in row.iter_mut().zip(p).zip(dropped) {
            *value = scale * (*value * dropped - p * mean);
        }
    }
}

multiversioned!(pub(super) softmax = softmax_body(scores: &mut [f32], stride: usize, keys: usize, scale: f32));
multiversioned!(
    pub(super) softmax_gradient =
        softmax_gradient_body(gradient: &mut [f32], p: &[f32], dropped: &[f32], stride: usize, scale: f32)
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::LANES;

    #[test]
    fn softmax_by_hand_on_every_instruction_set() {
        for isa in Isa::available() {
            let mut scores = vec![9f32; LANES];
            scores[..3].copy_from_slice(&[0.0, 2.0 * 2f32.ln(), 2.0 * 5f32.ln()]);
            softmax(isa, &mut scores, LANES, 3, 0.5);
            for (found, expected) in scores.iter().zip([0.125, 0.25, 0.625]) {
                assert!((found - expected).abs() < 1e-6, "{isa:?}: {found} and {expected}");
            }
            assert!(scores[3..].iter().all(|&value| value == 0.0), "{isa:?}");
        }
    }

    #[test]
    fn scores_out_of_range_stay_right() {
        for isa in Isa::available() {
            let mut scores = vec![0f32; LANES];
            scores[..3].copy_from_slice(&[-1e30, 1e30, -3e38]);
            softmax(isa, &mut scores, LANES, 3, 1.0);
            assert!((scores[1] - 1.0).abs() < 1e-6 && scores[0] < 1e-30 && scores[2] < 1e-30, "{isa:?}");
            scores[..3].copy_from_slice(&[0.0, f32::NAN, 1.0]);
            softmax(isa, &mut scores, LANES, 3, 1.0);
            assert!(scores[0].is_nan(), "{isa:?}");
        }
    }
}
