use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use crate::cpu::{expect_f32, slice, with_slices};
use crate::packing::RowSelection;
use crate::simd::{Isa, multiversioned};

/// Rotary positions (Su et al., 2021) of queries and keys: in each head the pair `(i, i + rotated / 2)` is turned by the angle
/// position * inverse frequency `i`; what is behind the rotated numbers of a head passes through.
///
/// The position is that of the row in its sequence. Angles are computed in f64, and their cosines and sines rounded once.
/// Clones share the table of them, which grows to the longest sequence that comes by.
#[derive(Clone, Debug)]
pub struct Rotary {
    inverse_frequencies: Arc<[f64]>,
    head_width: usize,
    factor: f64,
    table: Arc<Mutex<Arc<Table>>>,
}

/// For each position the cosines of its angles, then their sines.
#[derive(Debug)]
struct Table {
    /// Angles of a position.
    angles: usize,
    values: Vec<f32>,
}

impl Table {
    fn empty(angles: usize) -> Arc<Mutex<Arc<Self>>> {
        Arc::new(Mutex::new(Arc::new(Self { angles, values: vec![] })))
    }

    fn positions(&self) -> usize {
        self.values.len() / (2 * self.angles).max(1)
    }

    /// Cosines and sines of a position.
    fn of(&self, position: u32) -> (&[f32], &[f32]) {
        let row = &self.values[position as usize * 2 * self.angles..][..2 * self.angles];
        row.split_at(self.angles)
    }
}

impl Rotary {
    /// Turns the first `2 * inverse_frequencies.len()` numbers of heads of `head_width`.
    ///
    /// # Errors
    /// If heads have no numbers, fewer than are to be turned, or an inverse frequency is not finite.
    pub fn new(inverse_frequencies: &[f64], head_width: usize) -> Result<Self> {
        if head_width == 0 || inverse_frequencies.len() > head_width / 2 {
            bail!(
                "rotary: expected at most {} inverse frequencies for heads of {head_width}, found {}",
                head_width / 2,
                inverse_frequencies.len()
            );
        }
        if let Some(found) = inverse_frequencies.iter().find(|frequency| !frequency.is_finite()) {
            bail!("rotary: expected finite inverse frequencies, found {found}");
        }
        Ok(Self {
            inverse_frequencies: inverse_frequencies.into(),
            head_width,
            factor: 1.0,
            table: Table::empty(inverse_frequencies.len()),
        })
    }

    /// The same, cosines and sines multiplied with a factor, as some ways to lengthen a model's context ask for.
    ///
    /// # Errors
    /// If the factor is not finite.
    pub fn with_factor(mut self, factor: f64) -> Result<Self> {
        if !factor.is_finite() {
            bail!("rotary: expected a finite factor, found {factor}");
        }
        self.factor = factor;
        self.table = Table::empty(self.inverse_frequencies.len());
        Ok(self)
    }

    /// Numbers of the heads that it turns.
    pub fn head_width(&self) -> usize {
        self.head_width
    }

    /// `x` `[rows, heads * head width]`, of which row `i` stands at the position of `rows[i]`, with each head turned.
    ///
    /// # Errors
    /// If there are not as many `rows` as `x` has, its width is no multiple of the head width, or it is not f32.
    pub fn apply(&self, x: &Tensor, rows: &RowSelection) -> Result<Tensor> {
        let turned = self.turned(x, rows)?;
        if !x.device().is_cpu() {
            return turned.composed(x);
        }
        x.contiguous()?.apply_op1(turned)
    }

    /// The rotation of these rows.
    pub(crate) fn turned(&self, x: &Tensor, rows: &RowSelection) -> Result<Turned> {
        match x.dims() {
            [count, width] if *count == rows.len() && width % self.head_width == 0 => {}
            found => {
                bail!("rotary: expected [{}, a multiple of {}], found {found:?}", rows.len(), self.head_width)
            }
        }
        expect_f32("rotary", x)?;
        let positions = rows.position().iter().max().map_or(0, |&position| position as usize + 1);
        Ok(Turned {
            table: self.table(positions),
            position: Arc::clone(rows.position_shared()),
            head_width: self.head_width,
        })
    }

    /// The table, of at least so many positions.
    fn table(&self, positions: usize) -> Arc<Table> {
        // It is replaced as a whole or not at all.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.positions() < positions && !self.inverse_frequencies.is_empty() {
            let mut values = table.values.clone();
            for position in table.positions()..positions.next_power_of_two() {
                let angles = self.inverse_frequencies.iter().map(|frequency| position as f64 * frequency);
                values.extend(angles.clone().map(|angle| (self.factor * angle.cos()) as f32));
                values.extend(angles.map(|angle| (self.factor * angle.sin()) as f32));
            }
            *table = Arc::new(Table { angles: table.angles, values });
        }
        Arc::clone(&table)
    }
}

/// A rotation of certain rows.
pub(crate) struct Turned {
    table: Arc<Table>,
    /// For each row its position.
    position: Arc<[u32]>,
    head_width: usize,
}

impl Turned {
    /// What [`crate::composed::rotary`] is.
    pub(crate) fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let (head_width, angles) = (self.head_width, self.table.angles);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for &position in self.position.iter() {
            let of_row = self.table.of(position);
            cos.extend_from_slice(of_row.0);
            sin.extend_from_slice(of_row.1);
        }
        let cos = Tensor::from_vec(cos, (rows, 1, angles), x.device())?;
        let sin = Tensor::from_vec(sin, (rows, 1, angles), x.device())?;
        let heads = x.reshape((rows, width / head_width, head_width))?;
        let (a, b) = (heads.narrow(2, 0, angles)?, heads.narrow(2, angles, angles)?);
        let turned = [
            (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?,
            (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?,
            heads.narrow(2, 2 * angles, head_width - 2 * angles)?,
        ];
        Tensor::cat(&turned, 2)?.reshape((rows, width))
    }

    fn turn(&self, values: &mut [f32], back: bool) {
        if self.table.angles == 0 || self.position.is_empty() {
            return;
        }
        let width = values.len() / self.position.len();
        for (row, &position) in values.chunks_exact_mut(width.max(1)).zip(self.position.iter()) {
            let (cos, sin) = self.table.of(position);
            let sign = if back { -1.0 } else { 1.0 };
            turn_heads(Isa::best(), row, self.head_width, cos, sin, sign);
        }
    }
}

impl CustomOp1 for Turned {
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

    #[test]
    fn the_table_grows_and_keeps_its_numbers() {
        let rotary = Rotary::new(&[1.0, 0.01], 4).unwrap();
        let (short, clone) = (rotary.table(3), rotary.clone());
        let long = clone.table(1000);
        assert!(short.positions() >= 3 && long.positions() >= 1000);
        assert!(Arc::ptr_eq(&long, &rotary.table(5)), "clones share it, and it never shrinks");
        for position in [0, 1, 2] {
            assert_eq!(short.of(position), long.of(position));
        }
        let angle = 999.0 * 0.01f64;
        assert_eq!((long.of(999).0[1], long.of(999).1[1]), (angle.cos() as f32, angle.sin() as f32));
        let doubled = rotary.with_factor(2.0).unwrap().table(1000);
        assert_eq!(doubled.of(999).0[1], (2.0 * angle.cos()) as f32);
    }
}
