//! Which rows of a batch there are, as kernels read it.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};

use crate::on_device::{DeviceRows, OnDevice};
use crate::packing::RowSelection;

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

/// The rows on a device.
pub(super) fn rows_on<'a>(rows: &'a RowSelection, device: &Device) -> Result<&'a DeviceRows> {
    rows.on_device().or_make(|| DeviceRows::new(rows, device))
}
