//! All columns of a Parquet file, as what is to be answered keeps them.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::timezone::Tz;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{ArrowError, DataType, FieldRef, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use skn_artifact::{Foreign, Wanted, open_regular};

use super::record::{Field, is_twice, two_columns};
use crate::error::{DataError, Result};
use crate::read::foreign::start_of;
use crate::read::table::is_text;

/// Rows that are made at once.
const BATCH_ROWS: usize = 1024;

/// Takes a table as it is read.
pub trait TableReceiver {
    /// The names of the columns, once, before the first row; `bytes` is what the columns unpack to, in all.
    ///
    /// # Errors
    /// If the table is not wanted.
    fn columns(&mut self, names: Vec<String>, bytes: u64) -> Result<()>;

    /// A row, with a value for each column.
    ///
    /// # Errors
    /// If no more rows are wanted.
    fn row(&mut self, fields: Vec<Field>) -> Result<()>;
}

/// Reads all columns of a Parquet file. Texts, numbers and truth values are what they are; anything else is written out as text,
/// times of zones that have names in UTC. What was written out is no text that somebody wrote, so the columns `texts`, where they
/// are there, must hold strings.
///
/// # Errors
///
/// A file that is missing, damaged or something else, or that has other things in a column of texts; the library's panics on
/// damaged files are caught. See [`read_dataset`](crate::read_dataset) on what it may do besides.
pub fn read_parquet_table(path: &Path, texts: &[String], receiver: &mut dyn TableReceiver) -> Result<()> {
    let name = path.display().to_string();
    let io = |source| DataError::Io { file: name.clone(), source };
    let mut file = open_regular(path).map_err(io)?;
    let start = start_of(&mut file).map_err(io)?;
    match Foreign::of(&start) {
        Some(Foreign::Parquet) | None => {}
        Some(found) => {
            let reason = format!("expected parquet, found {}", found.told(Wanted::Data));
            return Err(malformed(&name, "byte 0", reason));
        }
    }
    let guarded = AssertUnwindSafe(|| read(file, &name, texts, receiver));
    catch_unwind(guarded).unwrap_or_else(|_| {
        Err(malformed(&name, "rows", "the Arrow library failed on it; the file is damaged"))
    })
}

fn malformed(file: &str, place: &str, reason: impl ToString) -> DataError {
    DataError::Malformed { file: file.to_owned(), place: place.to_owned(), reason: reason.to_string() }
}

fn read(file: File, name: &str, texts: &[String], receiver: &mut dyn TableReceiver) -> Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| {
        let message = error.to_string();
        malformed(name, "footer", message.strip_prefix("Parquet error: ").unwrap_or(&message))
    })?;
    check_texts(builder.schema(), name, texts)?;
    let groups = builder.metadata().row_groups().iter();
    let sizes = groups.map(|group| u64::try_from(group.total_byte_size()).unwrap_or_default());
    let bytes = sizes.fold(0, u64::saturating_add);
    let columns: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    receiver.columns(columns, bytes)?;
    let reader =
        builder.with_batch_size(BATCH_ROWS).build().map_err(|error| malformed(name, "footer", error))?;
    let mut rows = 0u64;
    for batch in reader {
        let wrong = |error: ArrowError| malformed(name, &format!("row {}", rows + 1), error);
        let batch = batch.map_err(wrong)?;
        for row in rows_of(&batch).map_err(wrong)? {
            receiver.row(row)?;
            rows += 1;
        }
    }
    Ok(())
}

/// Refuses columns of texts that hold something else, or have one name.
fn check_texts(schema: &Schema, name: &str, texts: &[String]) -> Result<()> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if let Some(twice) = texts.iter().find(|text| is_twice(&names, text)) {
        return Err(malformed(name, "header", two_columns(twice)));
    }
    for field in schema.fields().iter().filter(|field| texts.contains(field.name())) {
        let kind = field.data_type();
        if !is_text(kind) {
            let place = format!("column {:?}", field.name());
            return Err(malformed(name, &place, format!("expected strings, found {kind}")));
        }
    }
    Ok(())
}

/// The rows of a batch.
fn rows_of(batch: &RecordBatch) -> Result<Vec<Vec<Field>>, ArrowError> {
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for array in batch.columns() {
        for (row, field) in rows.iter_mut().zip(column(array)?) {
            row.push(field);
        }
    }
    Ok(rows)
}

fn column(array: &ArrayRef) -> Result<Vec<Field>, ArrowError> {
    let rows = 0..array.len();
    let value = match array.data_type() {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    let plain = |kind: &DataType| {
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(array, kind, &options)
    };
    let given = |field: &dyn Fn(usize) -> Field, array: &dyn Array| -> Vec<Field> {
        rows.clone().map(|row| if array.is_null(row) { Field::Null } else { field(row) }).collect()
    };
    match value {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let texts = plain(&DataType::LargeUtf8)?;
            let values = texts.as_string::<i64>();
            Ok(given(&|row| Field::Text(values.value(row).to_owned()), values))
        }
        DataType::Boolean => {
            let values = plain(&DataType::Boolean)?;
            let values = values.as_boolean();
            Ok(given(&|row| Field::Json(values.value(row).to_string()), values))
        }
        kind if kind.is_integer() && *kind != DataType::UInt64 => {
            let values = plain(&DataType::Int64)?;
            let values = values.as_primitive::<Int64Type>();
            Ok(given(&|row| Field::Json(values.value(row).to_string()), values))
        }
        kind if kind.is_floating() => {
            let values = plain(&DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            let float = |row| match (values.value(row), serde_json::Number::from_f64(values.value(row))) {
                (_, Some(number)) => Field::Json(number.to_string()),
                (number, None) if number.is_nan() => Field::Null,
                // JSON has no such number, but nothing is another thing.
                (number, None) if number > 0.0 => Field::Text("Infinity".to_owned()),
                (_, None) => Field::Text("-Infinity".to_owned()),
            };
            Ok(given(&float, values))
        }
        kind => {
            let is_number = *kind == DataType::UInt64;
            let (options, written) = (FormatOptions::default(), in_utc(array.data_type()));
            let changed = if written == *array.data_type() { None } else { Some(plain(&written)?) };
            let shown = ArrayFormatter::try_new(changed.as_ref().unwrap_or(array), &options)?;
            let show = |row| {
                let text = shown.value(row).try_to_string()?;
                Ok(match array.is_null(row) || *kind == DataType::Null {
                    true => Field::Null,
                    false if is_number => Field::Json(text),
                    false => Field::Text(text),
                })
            };
            rows.map(show).collect()
        }
    }
}

/// The same type, with times of zones that have names (`UTC`, `Europe/Berlin`) in UTC: Arrow keeps them so, and what their offset
/// was at a time it does not know.
fn in_utc(kind: &DataType) -> DataType {
    let of_field = |field: &FieldRef| -> FieldRef {
        Arc::new(field.as_ref().clone().with_data_type(in_utc(field.data_type())))
    };
    match kind {
        DataType::Timestamp(unit, Some(zone)) if zone.parse::<Tz>().is_err() => {
            DataType::Timestamp(*unit, Some("+00:00".into()))
        }
        DataType::Dictionary(_, value) if in_utc(value) != **value => in_utc(value),
        DataType::List(field) => DataType::List(of_field(field)),
        DataType::LargeList(field) => DataType::LargeList(of_field(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(of_field(field), *length),
        DataType::Map(field, is_sorted) => DataType::Map(of_field(field), *is_sorted),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(of_field).collect()),
        other => other.clone(),
    }
}
