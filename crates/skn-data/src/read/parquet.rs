use arrow_schema::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::row::Sink;
use super::table;
use crate::error::Result;

/// A Parquet file: its columns that the task needs, batch by batch.
///
/// The library's panics are caught.
pub(crate) fn read(bytes: Bytes, sink: &mut Sink<'_>) -> Result<()> {
    table::guarded(sink, |sink| read_batches(bytes, sink))
}

fn read_batches(bytes: Bytes, sink: &mut Sink<'_>) -> Result<()> {
    let damaged = |sink: &Sink<'_>, error: ParquetError| sink.malformed("footer", error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| damaged(sink, error))?;
    let columns = table::columns(builder.schema(), sink)?;
    let told = builder.metadata().file_metadata().num_rows();
    let wanted = ProjectionMask::roots(builder.parquet_schema(), columns);
    let reader = builder.with_projection(wanted).build().map_err(|error| damaged(sink, error))?;
    let before = sink.rows.len();
    for batch in reader {
        let batch = batch.map_err(|error: ArrowError| sink.malformed(sink.next_row(), error))?;
        table::take_rows(&batch, sink)?;
    }
    let found = sink.rows.len() - before;
    if usize::try_from(told) != Ok(found) {
        return Err(sink.malformed("footer", format!("expected {told} rows, as it says, found {found}")));
    }
    Ok(())
}
