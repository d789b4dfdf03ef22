use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, LargeStringArray, RecordBatch};
use arrow_cast::cast;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::root_as_message;
use arrow_schema::{ArrowError, DataType};

use super::row::{Cell, Sink};
use crate::error::{DataError, Result};

/// What stands before each message of a stream since Arrow 0.15.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// An Arrow IPC stream.
///
/// The lengths in it are checked first, because the library asks for as much memory as a damaged file claims to
/// need; its panics are caught.
pub(crate) fn read(bytes: &[u8], sink: &mut Sink<'_>) -> Result<()> {
    check_frames(bytes).map_err(|(byte, reason)| sink.malformed(format!("byte {byte}"), reason))?;
    match catch_unwind(AssertUnwindSafe(|| read_batches(bytes, sink))) {
        Ok(result) => result,
        Err(_) => Err(sink.malformed(sink.next_row(), "the Arrow library failed on it; the file is damaged")),
    }
}

/// Walks over the messages of a stream, and checks that they lie within the file and end with its end.
fn check_frames(bytes: &[u8]) -> Result<(), (usize, String)> {
    let mut offset = 0;
    loop {
        let wrong = |reason: &str| (offset, reason.to_owned());
        let mut prefix = bytes[offset..].get(..4).ok_or_else(|| wrong(CUT))?;
        let mut start = offset + 4;
        if prefix == CONTINUATION {
            prefix = bytes[start..].get(..4).ok_or_else(|| wrong(CUT))?;
            start += 4;
        }
        let length = prefix.iter().rev().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
        if length == 0 {
            return if start == bytes.len() {
                Ok(())
            } else {
                Err(wrong("expected the end, found more bytes"))
            };
        }
        let header = bytes[start..].get(..length).ok_or_else(|| wrong(CUT))?;
        let message =
            root_as_message(header).map_err(|error| wrong(&format!("not an Arrow stream: {error}")))?;
        let body =
            usize::try_from(message.bodyLength()).map_err(|_| wrong("a message of negative length"))?;
        let left = bytes.len() - start - length;
        if body > left {
            return Err(wrong(&format!("expected a body of {body} bytes, found {left}; {CUT}")));
        }
        offset = start + length + body;
    }
}

const CUT: &str = "the file ends within the stream: it is cut short, or not an Arrow stream";

fn read_batches(bytes: &[u8], sink: &mut Sink<'_>) -> Result<()> {
    let damaged = |sink: &Sink<'_>, error: ArrowError| sink.malformed(sink.next_row(), error);
    let schema = StreamReader::try_new(bytes, None).map_err(|error| damaged(sink, error))?.schema();
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let positions = sink.positions(&columns)?;
    for (n, position) in positions.iter().enumerate() {
        check_type(sink, n + 1 == positions.len(), schema.field(*position))?;
    }
    // Other columns, however strange, are not even decoded.
    let mut projection = positions.clone();
    projection.sort_unstable();
    let reader = StreamReader::try_new(bytes, Some(projection)).map_err(|error| damaged(sink, error))?;
    for batch in reader {
        let batch = batch.map_err(|error| damaged(sink, error))?;
        take_rows(&batch, sink)?;
    }
    Ok(())
}

fn check_type(sink: &Sink<'_>, is_label: bool, field: &arrow_schema::Field) -> Result<(), DataError> {
    let kind = field.data_type();
    let value = match kind {
        DataType::Dictionary(_, value) => value,
        other => other,
    };
    let is_text = matches!(value, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let is_class = is_label && (kind.is_integer() || *kind == DataType::Boolean);
    if is_text || is_class {
        return Ok(());
    }
    let expected = if is_label { "integers, booleans or strings" } else { "strings" };
    Err(sink.malformed(format!("column {:?}", field.name()), format!("expected {expected}, found {kind}")))
}

fn take_rows(batch: &RecordBatch, sink: &mut Sink<'_>) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).map(Column::new);
    let columns: Option<Vec<Result<Column, ArrowError>>> = sink.wanted().into_iter().map(column).collect();
    let columns: Result<Vec<Column>, ArrowError> = columns.into_iter().flatten().collect();
    let columns = columns.map_err(|error| sink.malformed(sink.next_row(), error))?;
    for row in 0..batch.num_rows() {
        let cells = columns.iter().map(|column| column.cell(row)).collect();
        sink.push(sink.next_row(), cells)?;
    }
    Ok(())
}

/// A column of strings or of integers, whatever way Arrow keeps it.
enum Column {
    Text(LargeStringArray),
    /// Indexes into strings.
    Dictionary(Int64Array, LargeStringArray),
    Integer(Int64Array),
}

impl Column {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        match array.data_type() {
            // Not cast as a whole: a few bytes could become gigabytes.
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                Ok(Self::Dictionary(integers(dictionary.keys())?, strings(dictionary.values())?))
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(Self::Text(strings(array)?)),
            _ => Ok(Self::Integer(integers(array)?)),
        }
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Text(texts) => text(texts, row),
            Self::Dictionary(keys, _) if keys.is_null(row) => null(),
            Self::Dictionary(keys, texts) => match usize::try_from(keys.value(row)) {
                Ok(key) if key < texts.len() => text(texts, key),
                _ => Cell::Other("an index beyond the dictionary".into()),
            },
            Self::Integer(numbers) if numbers.is_null(row) => null(),
            Self::Integer(numbers) => Cell::Integer(numbers.value(row)),
        }
    }
}

fn strings(array: &dyn Array) -> Result<LargeStringArray, ArrowError> {
    Ok(cast(array, &DataType::LargeUtf8)?.as_string::<i64>().clone())
}

fn integers(array: &dyn Array) -> Result<Int64Array, ArrowError> {
    Ok(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn text(texts: &LargeStringArray, row: usize) -> Cell<'_> {
    if texts.is_null(row) { null() } else { Cell::Text(texts.value(row).into()) }
}

fn null() -> Cell<'static> {
    Cell::Other("a null".into())
}
