//! Tables of Arrow arrays, which both Arrow and Parquet files become: their columns, checked, and their rows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use serde::Deserialize;

use super::cell::{Cell, no_cells};
use super::row_decoder::RowDecoder;
use crate::error::{DataError, Result};

/// Runs a reader of one of the libraries, which panic on some damaged files: that becomes an error.
pub(super) fn guarded(
    decoder: &mut RowDecoder<'_>,
    read: impl FnOnce(&mut RowDecoder<'_>) -> Result<()>,
) -> Result<()> {
    match catch_unwind(AssertUnwindSafe(|| read(decoder))) {
        Ok(result) => result,
        Err(_) => {
            Err(decoder.malformed(decoder.next_row(), "the Arrow library failed on it; the file is damaged"))
        }
    }
}

/// Where the columns that the task needs stand in a file, ascending; their types are checked, and the decoder learns the
/// names of classes that Hugging Face datasets put beside the schema.
///
/// Other columns, however strange, need not even be decoded.
pub(super) fn columns(schema: &Schema, decoder: &mut RowDecoder<'_>) -> Result<Vec<usize>> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut positions = decoder.positions(&names)?;
    for (n, position) in positions.iter().enumerate() {
        check_type(decoder, n == decoder.task.text_columns().len(), schema.field(*position))?;
    }
    let names = class_names(schema, decoder)?;
    decoder.name_classes(names)?;
    positions.sort_unstable();
    Ok(positions)
}

/// What Hugging Face datasets say of the columns, as far as classes go.
#[derive(Deserialize)]
pub(super) struct Info {
    features: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Info {
    /// The names of the classes, if the label column is a `ClassLabel`.
    pub(super) fn class_names(&self, label: &str) -> Vec<String> {
        let names = self.features.as_ref().and_then(|features| features.get(label)?.get("names")?.as_array());
        names.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    }
}

/// The names of the classes in the metadata of a file's schema. What can't be read there names none, and is told.
fn class_names(schema: &Schema, decoder: &mut RowDecoder<'_>) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct HuggingFace {
        info: Info,
    }
    let Some(json) = schema.metadata().get("huggingface") else { return Ok(Vec::new()) };
    match serde_json::from_str(json) {
        Ok(HuggingFace { info }) => Ok(info.class_names(&decoder.task.label)),
        Err(error) => {
            let told = "what Hugging Face datasets wrote beside its schema can't be read, so its classes have no names";
            decoder.note(format!("{told}: {error}"))?;
            Ok(Vec::new())
        }
    }
}

/// What a column holds, of whatever a dictionary keeps once.
fn value_type(kind: &DataType) -> &DataType {
    match kind {
        DataType::Dictionary(_, value) => value,
        other => other,
    }
}

/// Whether a column holds strings.
pub(crate) fn is_text(kind: &DataType) -> bool {
    matches!(value_type(kind), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn check_type(decoder: &RowDecoder<'_>, is_label: bool, field: &Field) -> Result<(), DataError> {
    let kind = field.data_type();
    let value = value_type(kind);
    let is_class =
        value.is_integer() || value.is_floating() || matches!(value, DataType::Boolean | DataType::Null);
    if is_text(kind) || is_label && is_class {
        return Ok(());
    }
    let expected = if is_label { "numbers, booleans or strings" } else { "strings" };
    Err(decoder.malformed(format!("column {:?}", field.name()), format!("expected {expected}, found {kind}")))
}

/// Hands the rows of a batch to the decoder.
pub(super) fn take_rows(batch: &RecordBatch, decoder: &mut RowDecoder<'_>) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).map(Column::new);
    // Only that of the label, the last, may be missing.
    let wanted = decoder.wanted();
    let columns: Result<Vec<Column>, ArrowError> = wanted.iter().copied().filter_map(column).collect();
    let columns = columns.map_err(|error| decoder.malformed(decoder.next_row(), error))?;
    for row in 0..batch.num_rows() {
        let mut cells = no_cells(wanted.len());
        for (cell, column) in cells.iter_mut().zip(&columns) {
            *cell = column.cell(row);
        }
        decoder.push(decoder.next_row(), &cells)?;
    }
    Ok(())
}

/// A column of what labels and texts may be, whatever way Arrow keeps it.
enum Column {
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Integer(Int64Array),
    Float(Float64Array),
    Boolean(BooleanArray),
    /// As many nulls as there are rows.
    Null,
    /// Indexes into another.
    Dictionary(Int64Array, Box<Column>),
}

impl Column {
    fn new(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            // Its values are not written out for each row: a few bytes could become gigabytes.
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                Self::Dictionary(integers(dictionary.keys())?, Box::new(Self::new(dictionary.values())?))
            }
            DataType::Utf8 => Self::Text(array.as_string().clone()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string().clone()),
            DataType::Utf8View => Self::TextView(array.as_string_view().clone()),
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            DataType::Null => Self::Null,
            DataType::Float16 => Self::Float(array.as_primitive::<Float16Type>().unary(f64::from)),
            DataType::Float32 => Self::Float(array.as_primitive::<Float32Type>().unary(f64::from)),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>().clone()),
            _ => Self::Integer(integers(array)?),
        })
    }

    fn cell(&self, row: usize) -> Cell<'_> {
        match self {
            Self::Text(texts) if texts.is_valid(row) => Cell::Text(texts.value(row).into()),
            Self::LargeText(texts) if texts.is_valid(row) => Cell::Text(texts.value(row).into()),
            Self::TextView(texts) if texts.is_valid(row) => Cell::Text(texts.value(row).into()),
            Self::Integer(numbers) if numbers.is_valid(row) => Cell::Integer(numbers.value(row)),
            Self::Float(numbers) if numbers.is_valid(row) => Cell::Float(numbers.value(row)),
            Self::Boolean(values) if values.is_valid(row) => Cell::Boolean(values.value(row)),
            Self::Dictionary(keys, values) if keys.is_valid(row) => match usize::try_from(keys.value(row)) {
                Ok(key) if key < values.len() => values.cell(key),
                _ => Cell::Other("an index beyond the dictionary".into()),
            },
            _ => Cell::Null,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(texts) => texts.len(),
            Self::LargeText(texts) => texts.len(),
            Self::TextView(texts) => texts.len(),
            Self::Integer(numbers) => numbers.len(),
            Self::Float(numbers) => numbers.len(),
            Self::Boolean(values) => values.len(),
            Self::Null => 0,
            Self::Dictionary(keys, _) => keys.len(),
        }
    }
}

/// Whole numbers of any width.
///
/// (`arrow-cast` does this too, but is built without optimisation: fast, it takes three minutes of a processor to build.)
///
/// # Errors
///
/// A number that no `i64` holds, and an array of something else.
fn integers(array: &dyn Array) -> Result<Int64Array, ArrowError> {
    fn wide<T: ArrowPrimitiveType<Native: Into<i64>>>(array: &dyn Array) -> Int64Array {
        array.as_primitive::<T>().unary(Into::into)
    }
    Ok(match array.data_type() {
        DataType::Int8 => wide::<Int8Type>(array),
        DataType::Int16 => wide::<Int16Type>(array),
        DataType::Int32 => wide::<Int32Type>(array),
        DataType::Int64 => array.as_primitive::<Int64Type>().clone(),
        DataType::UInt8 => wide::<UInt8Type>(array),
        DataType::UInt16 => wide::<UInt16Type>(array),
        DataType::UInt32 => wide::<UInt32Type>(array),
        DataType::UInt64 => {
            let narrow = |number: u64| {
                i64::try_from(number)
                    .map_err(|_| ArrowError::CastError(format!("{number} is larger than any label")))
            };
            array.as_primitive::<UInt64Type>().try_unary(narrow)?
        }
        other => return Err(ArrowError::CastError(format!("expected whole numbers, found {other}"))),
    })
}
