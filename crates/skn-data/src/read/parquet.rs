use arrow_schema::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;

use super::row_decoder::RowDecoder;
use super::table;
use crate::error::Result;

/// A batch has as many rows as make about this many bytes, by what the footer says.
const BATCH_BYTES: u64 = 4 << 20;
/// And at most as many.
const BATCH_ROWS: u64 = 8192;

/// A Parquet file: its columns that the task needs, batch by batch.
///
/// The library's panics are caught.
pub(crate) fn read(input: impl ChunkReader + 'static, decoder: &mut RowDecoder<'_>) -> Result<()> {
    table::guarded(decoder, |decoder| read_batches(input, decoder))
}

fn read_batches(input: impl ChunkReader + 'static, decoder: &mut RowDecoder<'_>) -> Result<()> {
    let damaged = |decoder: &RowDecoder<'_>, error: ParquetError| decoder.malformed("footer", error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(input).map_err(|error| damaged(decoder, error))?;
    let columns = table::columns(builder.schema(), decoder)?;
    let told = builder.metadata().file_metadata().num_rows();
    let bytes = unpacked(builder.metadata(), &columns);
    decoder.unpacked(bytes)?;
    let rows = BATCH_BYTES / (bytes / told.max(1).unsigned_abs()).max(1);
    let wanted = ProjectionMask::roots(builder.parquet_schema(), columns);
    let builder = builder.with_projection(wanted).with_batch_size(rows.clamp(1, BATCH_ROWS) as usize);
    let reader = builder.build().map_err(|error| damaged(decoder, error))?;
    let before = decoder.rows();
    for batch in reader {
        let batch = batch.map_err(|error: ArrowError| decoder.malformed(decoder.next_row(), error))?;
        table::take_rows(&batch, decoder)?;
    }
    let found = decoder.rows() - before;
    if u64::try_from(told) != Ok(found) {
        return Err(decoder.malformed("footer", format!("expected {told} rows, as it says, found {found}")));
    }
    Ok(())
}

/// The bytes of the wanted columns before they were packed, as the footer says. A column that has several columns
/// within it can't be wanted.
fn unpacked(footer: &ParquetMetaData, wanted: &[usize]) -> u64 {
    let schema = footer.file_metadata().schema_descr();
    let is_wanted = |leaf: &usize| wanted.contains(&schema.get_column_root_idx(*leaf));
    let chunks = footer.row_groups().iter().flat_map(|group| {
        let columns = group.columns().iter().enumerate();
        columns.filter(|(leaf, _)| *leaf < schema.num_columns() && is_wanted(leaf)).map(|(_, chunk)| chunk)
    });
    chunks.fold(0, |sum: u64, chunk| {
        sum.saturating_add(u64::try_from(chunk.uncompressed_size()).unwrap_or_default())
    })
}
