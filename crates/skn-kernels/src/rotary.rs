use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Result, Tensor, bail};

use crate::check::expect_f32;
use crate::on_device::OnDevice;
use crate::packing::RowSelection;
use crate::upload::upload;

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
pub(crate) struct Table {
    /// Angles of a position.
    pub(crate) angles: usize,
    /// `[positions, 2 * angles]`.
    pub(crate) values: Vec<f32>,
    on_device: OnDevice<Tensor>,
}

impl Table {
    fn empty(angles: usize) -> Arc<Mutex<Arc<Self>>> {
        Arc::new(Mutex::new(Arc::new(Self { angles, values: vec![], on_device: OnDevice::default() })))
    }

    fn positions(&self) -> usize {
        self.values.len() / (2 * self.angles).max(1)
    }

    /// The table on a device.
    pub(crate) fn on(&self, device: &Device) -> Result<&Tensor> {
        let shape = (self.positions(), 2 * self.angles);
        self.on_device.or_make(device, || upload(self.values.clone(), shape, device))
    }

    /// Cosines and sines of a position.
    pub(crate) fn of(&self, position: u32) -> (&[f32], &[f32]) {
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
        Ok(Turned { table: self.table(positions), rows: rows.clone(), head_width: self.head_width })
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
            *table = Arc::new(Table { angles: table.angles, values, on_device: OnDevice::default() });
        }
        Arc::clone(&table)
    }
}

/// A rotation of certain rows.
pub(crate) struct Turned {
    pub(crate) table: Arc<Table>,
    pub(crate) rows: RowSelection,
    pub(crate) head_width: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

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
