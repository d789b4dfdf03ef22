//! Which rows of a batch there are, as kernels read it, and rows that are picked.

use std::ops::Range;

use candle_core::{Device, Result, Tensor, bail};

use super::launch::Made;
use super::node::of_one;
use super::run::nothing;
use crate::on_device::{DeviceRows, OnDevice};
use crate::packing::RowSelection;
use crate::upload::{upload, upload_slice};

/// Rows of a tile.
const SIZES: [usize; 2] = [16, 32];

impl DeviceRows {
    fn new(rows: &RowSelection, device: &Device) -> Result<Self> {
        let (packing, sequences) = (rows.packing(), rows.sequences());
        let starts = (0..sequences).map(|sequence| packing.range(sequence).end as u32);
        let asked = (0..sequences).map(|sequence| rows.of_sequence(sequence).end as u32);
        let [starts, asked] =
            [starts.collect(), asked.collect()].map(|ends: Vec<u32>| [vec![0], ends].concat());
        let parts = [rows.sequence(), rows.position(), rows.number(), &starts, &asked];
        // One upload for all of them: there is a first row's start at least.
        let all = parts.concat();
        let (all, mut next) = (upload(all, parts.iter().map(|part| part.len()).sum::<usize>(), device)?, 0);
        let mut part = |length: usize| {
            next += length;
            all.narrow(0, next - length, length)
        };
        Ok(Self {
            sequence: part(rows.len())?,
            position: part(rows.len())?,
            number: part(rows.len())?,
            starts: part(sequences + 1)?,
            asked: part(sequences + 1)?,
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
    made.or_make(device, || {
        let of_sequence =
            |sequence| of(sequence).step_by(size).flat_map(move |first| [sequence as u32, first as u32]);
        let pairs: Vec<u32> = (0..sequences).flat_map(of_sequence).collect();
        let count = pairs.len() / 2;
        upload(pairs, (count, 2), device)
    })
}

/// The rows on a device.
pub(super) fn rows_on<'a>(rows: &'a RowSelection, device: &Device) -> Result<&'a DeviceRows> {
    rows.on_device().or_make(device, || DeviceRows::new(rows, device))
}

/// See [`select_rows`](crate::select_rows).
pub(crate) fn of_selection(x: &Tensor, rows: &RowSelection) -> Result<Tensor> {
    picked(x, rows.len(), || Ok(rows_on(rows, x.device())?.number.clone()))
}

/// See [`rows_at_positions`](crate::rows_at_positions).
pub(crate) fn at_positions(table: &Tensor, rows: &RowSelection) -> Result<Tensor> {
    picked(table, rows.len(), || Ok(rows_on(rows, table.device())?.position.clone()))
}

/// See [`rows_of`](crate::rows_of).
pub(crate) fn of_numbers(table: &Tensor, numbers: &[u32]) -> Result<Tensor> {
    picked(table, numbers.len(), || upload_slice(numbers, numbers.len(), table.device()))
}

/// So many rows by their numbers. A card uploads, and launches, nothing for no elements.
fn picked(x: &Tensor, count: usize, numbers: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    let mut shape = x.dims().to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows = count;
    }
    if shape.contains(&0) {
        return of_one("rows", x, Made::nothing(shape, x.device())?, |inputs, _, _| nothing(inputs));
    }
    x.index_select(&numbers()?, 0)
}
