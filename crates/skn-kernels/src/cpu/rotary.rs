//! Rotary positions.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use crate::cpu::simd::{Isa, multiversioned};
use crate::cpu::slices::{slice, with_slices};
use crate::rotary::Turned;

/// See [`Rotary::apply`](crate::Rotary::apply).
pub(super) fn forward(turned: Turned, x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Turn(turned))
}

struct Turn(Turned);

impl Turn {
    fn turn(&self, values: &mut [f32], back: bool) {
        if self.0.table.angles == 0 || self.0.rows.is_empty() {
            return;
        }
        let width = values.len() / self.0.rows.len();
        for (row, &position) in values.chunks_exact_mut(width.max(1)).zip(self.0.rows.position()) {
            let (cos, sin) = self.0.table.of(position);
            let sign = if back { -1.0 } else { 1.0 };
            turn_heads(Isa::best(), row, self.0.head_width, cos, sin, sign);
        }
    }
}

impl CustomOp1 for Turn {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut values = slice(x, layout)?.to_vec();
        self.turn(&mut values, false);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    /// The transpose of a rotation is the rotation back.
    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let mut values = with_slices([gradient], |[gradient]| Ok(gradient.to_vec()))?;
        self.turn(&mut values, true);
        Ok(Some(Tensor::from_vec(values, x.shape(), x.device())?))
    }
}

/// Turns each head of a row; a negative sign turns back.
#[inline(always)]
fn turn_heads_body<const FUSED: bool>(
    row: &mut [f32],
    head_width: usize,
    cos: &[f32],
    sin: &[f32],
    sign: f32,
) {
    for head in row.chunks_exact_mut(head_width) {
        let (first, rest) = head.split_at_mut(cos.len());
        for (((a, b), cos), sin) in first.iter_mut().zip(rest).zip(cos).zip(sin) {
            let (x, y, sin) = (*a, *b, sign * sin);
            *a = x * cos - y * sin;
            *b = y * cos + x * sin;
        }
    }
}

multiversioned!(
    turn_heads =
        turn_heads_body(row: &mut [f32], head_width: usize, cos: &[f32], sin: &[f32], sign: f32)
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_by_hand_on_every_instruction_set() {
        for isa in Isa::available() {
            // A quarter turn of the first pair, nothing of the second, and a number that passes through.
            let mut row = [1f32, 2.0, 3.0, 4.0, 9.0, 5.0, 6.0, 7.0, 8.0, 9.0];
            turn_heads(isa, &mut row, 5, &[0.0, 1.0], &[1.0, 0.0], 1.0);
            assert_eq!(row, [-3.0, 2.0, 1.0, 4.0, 9.0, -7.0, 6.0, 5.0, 8.0, 9.0], "{isa:?}");
            turn_heads(isa, &mut row, 5, &[0.0, 1.0], &[1.0, 0.0], -1.0);
            assert_eq!(row, [1.0, 2.0, 3.0, 4.0, 9.0, 5.0, 6.0, 7.0, 8.0, 9.0], "{isa:?}");
        }
    }

    #[test]
    fn instruction_sets_agree_in_every_bit() {
        let x: Vec<f32> = (0..3 * 70).map(|i| ((i * 37 % 101) as f32).sin()).collect();
        let run = |isa| {
            let mut row = x.clone();
            turn_heads(isa, &mut row, 70, &x[..33], &x[33..66], 1.0);
            row
        };
        for isa in Isa::available() {
            assert_eq!(run(isa), run(Isa::Portable), "{isa:?}");
        }
    }
}
