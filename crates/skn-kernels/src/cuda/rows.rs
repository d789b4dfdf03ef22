//! Which rows of a batch there are, as kernels read it.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Result, Tensor, bail};

use crate::packing::RowSelection;

/// Rows of a batch on the device that computes with them. All layers read the same, so it is made once a batch.
pub(crate) struct DeviceRows {
    /// `[rows]`
    pub(super) sequence: Tensor,
    /// `[rows]`
    pub(super) position: Tensor,
    /// The first row of keys of each sequence, and of what is behind the last `[sequences + 1]`.
    pub(super) starts: Tensor,
    /// The same of the rows here `[sequences + 1]`.
    pub(super) asked: Tensor,
    /// By the size of a tile.
    query_tiles: [OnDevice<Tensor>; 2],
    key_tiles: [OnDevice<Tensor>; 2],
}

/// Rows of a tile.
const SIZES: [usize; 2] = [16, 32];

impl DeviceRows {
    fn new(rows: &RowSelection, device: &Device) -> Result<Self> {
        let packing = rows.packing();
        let (mut starts, mut asked) = (vec![0u32], vec![0u32]);
        for sequence in 0..packing.len() {
            starts.push(packing.range(sequence).end as u32);
            asked.push(rows.of_sequence(sequence).end as u32);
        }
        Ok(Self {
            sequence: Tensor::new(rows.sequence(), device)?,
            position: Tensor::new(rows.position(), device)?,
            starts: Tensor::new(starts, device)?,
            asked: Tensor::new(asked, device)?,
            query_tiles: Default::default(),
            key_tiles: Default::default(),
        })
    }

    /// Sequence and first row of each tile of these rows, `[tiles, 2]`.
    pub(super) fn query_tiles(&self, rows: &RowSelection, size: usize, device: &Device) -> Result<&Tensor> {
        let of = |sequence| rows.of_sequence(sequence);
        tiles(&self.query_tiles, rows.sequences(), of, size, device)
    }

    /// Sequence and first key, counted in its sequence, of each tile of the keys `[tiles, 2]`.
    pub(super) fn key_tiles(&self, rows: &RowSelection, size: usize, device: &Device) -> Result<&Tensor> {
        let of = |sequence| 0..rows.packing().range(sequence).len();
        tiles(&self.key_tiles, rows.sequences(), of, size, device)
    }
}

fn tiles<'a>(
    made: &'a [OnDevice<Tensor>; 2],
    sequences: usize,
    of: impl Fn(usize) -> Range<usize>,
    size: usize,
    device: &Device,
) -> Result<&'a Tensor> {
    let place = SIZES.iter().position(|known| *known == size);
    let Some(made) = place.and_then(|place| made.get(place)) else {
        bail!("tiles: expected one of the sizes {SIZES:?}, found {size}");
    };
    made.or_make(|| {
        let of_sequence =
            |sequence| of(sequence).step_by(size).flat_map(move |first| [sequence as u32, first as u32]);
        let pairs: Vec<u32> = (0..sequences).flat_map(of_sequence).collect();
        let count = pairs.len() / 2;
        Tensor::from_vec(pairs, (count, 2), device)
    })
}

/// A place for what is made on a device when it is first needed. It is no part of what its owner is: two owners are equal
/// whether it has been made or not.
pub(crate) struct OnDevice<T>(Arc<OnceLock<T>>);

impl<T> OnDevice<T> {
    /// What was made, or is made now. Two threads may both make it: it is the same.
    pub(crate) fn or_make(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(made) = self.0.get() {
            return Ok(made);
        }
        let made = make()?;
        Ok(self.0.get_or_init(|| made))
    }
}

impl<T> Default for OnDevice<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for OnDevice<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for OnDevice<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for OnDevice<T> {}

impl<T> std::fmt::Debug for OnDevice<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "OnDevice" } else { "OnDevice, to be made" })
    }
}

/// The rows on a device.
pub(super) fn rows_on<'a>(rows: &'a RowSelection, device: &Device) -> Result<&'a DeviceRows> {
    rows.on_device().or_make(|| DeviceRows::new(rows, device))
}
