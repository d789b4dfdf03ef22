//! The softmax of scores, their soft cap, and the gradients. What a row doesn't see becomes 0. Only whole vectors with
//! something that it sees are computed, so that its sums don't depend on what else there is.

use std::ops::Range;

use crate::cpu::simd::{
    Isa, LANES, exp, for_each_chunk, lane_max, lane_sum, lane_sum_pairs, multiply_add, multiversioned,
};

/// The whole vectors of a row with something in `seen`, and where that is in them; the rest of the row becomes 0.
#[inline(always)]
fn vectors<'a>(row: &'a mut [f32], seen: &Range<usize>) -> (&'a mut [f32], Range<usize>) {
    let (start, end) = (seen.start / LANES * LANES, seen.end.next_multiple_of(LANES));
    row[..start].fill(0.0);
    row[end..].fill(0.0);
    (&mut row[start..end], seen.start - start..seen.end - start)
}

/// The softmax of `scale` times what is seen of each row of `stride` numbers. What isn't is masked in whole vectors: were it
/// written over by itself first, reading the vector would wait for that.
#[inline(always)]
fn softmax_body<const FUSED: bool>(scores: &mut [f32], stride: usize, seen: &[Range<usize>], scale: f32) {
    for (row, seen) in scores.chunks_exact_mut(stride).zip(seen) {
        let (row, seen) = vectors(row, seen);
        let vectors = row.as_chunks_mut::<LANES>().0;
        let (start, count) = (seen.start as u32, seen.len() as u32);
        // Only the first vector and the last one have something that isn't seen.
        let whole = seen.start.div_ceil(LANES)..seen.end / LANES;
        let is_seen =
            |vector: usize, lane: usize| ((vector * LANES + lane) as u32).wrapping_sub(start) < count;
        let mut highest = [f32::NEG_INFINITY; LANES];
        for (vector, scores) in vectors.iter().enumerate() {
            let mut scores = *scores;
            if !whole.contains(&vector) {
                for (lane, score) in scores.iter_mut().enumerate() {
                    *score = if is_seen(vector, lane) { *score } else { f32::NEG_INFINITY };
                }
            }
            for (highest, score) in highest.iter_mut().zip(scores) {
                *highest = if score > *highest { score } else { *highest };
            }
        }
        let highest = lane_max(&highest);
        for (vector, scores) in vectors.iter_mut().enumerate() {
            let mut values = *scores;
            for value in &mut values {
                *value = exp::<FUSED>((*value - highest) * scale);
            }
            if !whole.contains(&vector) {
                for (lane, value) in values.iter_mut().enumerate() {
                    *value = if is_seen(vector, lane) { *value } else { 0.0 };
                }
            }
            *scores = values;
        }
        let share = 1.0 / lane_sum(row, |value| value);
        row.iter_mut().for_each(|value| *value *= share);
    }
}

/// Turns gradients of probabilities into gradients of scores, `p` being the probabilities and `dropped` the same
/// after dropout.
#[inline(always)]
fn softmax_gradient_body<const FUSED: bool>(
    gradient: &mut [f32],
    [p, dropped]: [&[f32]; 2],
    stride: usize,
    seen: &[Range<usize>],
    scale: f32,
) {
    let rows =
        gradient.chunks_exact_mut(stride).zip(p.chunks_exact(stride).zip(dropped.chunks_exact(stride)));
    for ((row, (p, dropped)), seen) in rows.zip(seen) {
        let (start, end) = (seen.start / LANES * LANES, seen.end.next_multiple_of(LANES));
        let (p, dropped) = (&p[start..end], &dropped[start..end]);
        let (row, _) = vectors(row, seen);
        let mean = lane_sum_pairs(row, dropped, |gradient, p| gradient * p);
        for ((value, p), dropped) in row.iter_mut().zip(p).zip(dropped) {
            *value = scale * (*value * dropped - p * mean);
        }
    }
}

/// Turns what is seen of each row, `s`, into `cap * tanh(scale / cap * s)`.
#[inline(always)]
fn cap_body<const FUSED: bool>(
    scores: &mut [f32],
    stride: usize,
    seen: &[Range<usize>],
    scale: f32,
    cap: f32,
) {
    let share = scale / cap;
    for (row, seen) in scores.chunks_exact_mut(stride).zip(seen) {
        for_each_chunk(vectors(row, seen).0, |chunk| {
            for score in chunk {
                *score = cap * tanh::<FUSED>(*score * share);
            }
        });
    }
}

/// Multiplies gradients of capped scores with `scale * (1 - tanh^2)`, `capped` being these scores.
#[inline(always)]
fn cap_gradient_body<const FUSED: bool>(gradient: &mut [f32], capped: &[f32], scale: f32, cap: f32) {
    let share = 1.0 / cap;
    for (gradient, capped) in gradient.iter_mut().zip(capped) {
        let tanh = capped * share;
        *gradient *= scale * (1.0 - tanh * tanh);
    }
}

/// The hyperbolic tangent: a polynomial near 0, else by e^(2 |x|) (Cephes' tanhf), relative error below 3e-7.
#[inline(always)]
fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let square = x * x;
    let mut polynomial = -5.704_988_7e-3f32;
    for coefficient in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        polynomial = multiply_add::<FUSED>(polynomial, square, coefficient);
    }
    let near = multiply_add::<FUSED>(polynomial * square, x, x);
    let far = (1.0 - 2.0 / (exp::<FUSED>(2.0 * x.abs()) + 1.0)).copysign(x);
    // What is no number is near, where it stays so.
    if x.abs() > 0.625 { far } else { near }
}

multiversioned!(
    pub(super) softmax = softmax_body(scores: &mut [f32], stride: usize, seen: &[Range<usize>], scale: f32)
);
multiversioned!(
    pub(super) softmax_gradient = softmax_gradient_body(
        gradient: &mut [f32],
        probabilities: [&[f32]; 2],
        stride: usize,
        seen: &[Range<usize>],
        scale: f32
    )
);
multiversioned!(
    pub(super) cap_scores =
        cap_body(scores: &mut [f32], stride: usize, seen: &[Range<usize>], scale: f32, cap: f32)
);
multiversioned!(
    pub(super) cap_gradient =
        cap_gradient_body(gradient: &mut [f32], capped: &[f32], scale: f32, cap: f32)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_by_hand_on_every_instruction_set() {
        for isa in Isa::available() {
            for start in [0, 3, 16, 21, 29] {
                // What isn't seen may be anything.
                let mut scores = vec![9f32; 3 * LANES];
                let seen = start..start + 3;
                scores[seen.clone()].copy_from_slice(&[0.0, 2.0 * 2f32.ln(), 2.0 * 5f32.ln()]);
                softmax(isa, &mut scores, 3 * LANES, std::slice::from_ref(&seen), 0.5);
                for (found, expected) in scores[seen.clone()].iter().zip([0.125, 0.25, 0.625]) {
                    assert!((found - expected).abs() < 1e-6, "{isa:?}: {found} and {expected}");
                }
                let others = scores.iter().enumerate().filter(|(place, _)| !seen.contains(place));
                assert!(others.map(|(_, value)| *value).all(|value| value == 0.0), "{isa:?}");
            }
        }
    }

    #[test]
    fn scores_out_of_range_stay_right() {
        let seen = std::slice::from_ref(&(0..3));
        for isa in Isa::available() {
            let mut scores = vec![0f32; LANES];
            scores[..3].copy_from_slice(&[-1e30, 1e30, -3e38]);
            softmax(isa, &mut scores, LANES, seen, 1.0);
            assert!((scores[1] - 1.0).abs() < 1e-6 && scores[0] < 1e-30 && scores[2] < 1e-30, "{isa:?}");
            scores[..3].copy_from_slice(&[0.0, f32::NAN, 1.0]);
            softmax(isa, &mut scores, LANES, seen, 1.0);
            assert!(scores[0].is_nan(), "{isa:?}");
            scores[..3].copy_from_slice(&[-1e30, f32::NAN, 1e30]);
            cap_scores(isa, &mut scores, LANES, seen, 1.0, 50.0);
            assert!(scores[0] == -50.0 && scores[1].is_nan() && scores[2] == 50.0, "{isa:?}: {scores:?}");
        }
    }

    #[test]
    fn tanh_and_its_derivative_are_exact() {
        for isa in Isa::available() {
            let xs: Vec<f32> = (-2000..2000).map(|i| i as f32 / 100.0).collect();
            let (cap, scale) = (3.0, 0.75);
            let mut capped = xs.clone();
            cap_scores(isa, &mut capped, xs.len(), std::slice::from_ref(&(0..xs.len())), scale, cap);
            let mut slopes = vec![1f32; xs.len()];
            cap_gradient(isa, &mut slopes, &capped, scale, cap);
            for ((&x, &capped), &slope) in xs.iter().zip(&capped).zip(&slopes) {
                let tanh = (f64::from(x) * 0.25).tanh();
                assert!(
                    (f64::from(capped) - 3.0 * tanh).abs() <= 3.0 * 4e-7 * tanh.abs(),
                    "{isa:?} {x}: {capped}"
                );
                assert!((f64::from(slope) - 0.75 * (1.0 - tanh * tanh)).abs() < 1e-6, "{isa:?} {x}: {slope}");
            }
        }
    }
}
