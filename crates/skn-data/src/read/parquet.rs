use std::sync::Arc;

use arrow_schema::{ArrowError, DataType, Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
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
    let damaged = |decoder: &RowDecoder<'_>, error: ParquetError| {
        // It begins every message with its own name.
        let message = error.to_string();
        decoder.malformed("footer", message.strip_prefix("Parquet error: ").unwrap_or(&message))
    };
    let footer = footer(&input).map_err(|error| damaged(decoder, error))?;
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input, footer);
    let columns = table::columns(builder.schema(), decoder)?;
    let told = builder.metadata().file_metadata().num_rows();
    let chunks = || chunks(builder.metadata(), &columns);
    chunks().try_for_each(|chunk| check_codec(chunk, decoder))?;
    let bytes = chunks().map(|chunk| u64::try_from(chunk.uncompressed_size()).unwrap_or_default());
    let bytes = bytes.fold(0, u64::saturating_add);
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

/// The footer of a file. Columns that were dictionaries of other than strings, as pandas writes categories, are read as what they
/// hold: the library can't make such dictionaries of all types.
fn footer(input: &impl ChunkReader) -> Result<ArrowReaderMetadata, ParquetError> {
    let footer = ArrowReaderMetadata::load(input, ArrowReaderOptions::new())?;
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, value) if !value.is_string() => {
            Arc::new(field.as_ref().clone().with_data_type(value.as_ref().clone()))
        }
        _ => Arc::clone(field),
    };
    let fields: Vec<Arc<Field>> = footer.schema().fields().iter().map(plain).collect();
    if footer.schema().fields().iter().eq(fields.iter()) {
        return Ok(footer);
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, footer.schema().metadata().clone()));
    ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), ArrowReaderOptions::new().with_schema(schema))
}

/// The pieces of the wanted columns. A column that has several columns within it can't be wanted.
fn chunks<'f>(
    footer: &'f ParquetMetaData,
    wanted: &'f [usize],
) -> impl Iterator<Item = &'f ColumnChunkMetaData> {
    let schema = footer.file_metadata().schema_descr();
    let is_wanted =
        |leaf: usize| leaf < schema.num_columns() && wanted.contains(&schema.get_column_root_idx(leaf));
    footer.row_groups().iter().flat_map(move |group| {
        let columns = group.columns().iter().enumerate();
        columns.filter(move |(leaf, _)| is_wanted(*leaf)).map(|(_, chunk)| chunk)
    })
}

/// Of what Parquet can be compressed with, brotli is not built in, and nobody writes LZO any more.
fn check_codec(chunk: &ColumnChunkMetaData, decoder: &RowDecoder<'_>) -> Result<()> {
    let codec = match chunk.compression() {
        Compression::BROTLI(_) => "brotli",
        Compression::LZO => "LZO",
        _ => return Ok(()),
    };
    let column = format!("column \"{}\"", chunk.column_path().string());
    let reason = format!(
        "compressed with {codec}, which is not read; write the file anew with zstd, snappy or gzip, in pandas with \
         to_parquet(path, compression=\"zstd\")"
    );
    Err(decoder.malformed(column, reason))
}
