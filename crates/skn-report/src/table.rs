//! What a figure shows, as numbers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The data of a figure, tidy: a row is an observation, a column a variable. What is not known is null. As JSON it is
/// `{"columns": [..], "data": [[..], ..]}`, which are the arguments of pandas' `DataFrame`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows, each with as many cells as there are columns.
    pub data: Vec<Vec<Value>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self { columns: columns.map(String::from).to_vec(), data: Vec::new() }
    }

    /// The same with another row.
    pub(crate) fn push<const N: usize>(&mut self, row: [Value; N]) {
        debug_assert_eq!(self.columns.len(), N, "{:?}", self.columns);
        self.data.push(row.to_vec());
    }

    /// A table of these columns and rows.
    ///
    /// # Panics
    /// If a row has another number of cells than there are columns.
    pub fn from_rows(columns: &[&str], data: Vec<Vec<Value>>) -> Self {
        assert!(data.iter().all(|row| row.len() == columns.len()), "rows of a table of {columns:?}");
        Self { columns: columns.iter().map(|&column| column.into()).collect(), data }
    }

    /// A table of rows.
    pub(crate) fn of<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [Value; N]>) -> Self {
        let mut table = Self::new(columns);
        rows.into_iter().for_each(|row| table.push(row));
        table
    }

    /// The table as CSV (RFC 4180): a header, lines that end in a newline, unknown cells empty.
    pub fn csv(&self) -> String {
        let mut text = String::new();
        let header: Vec<String> = self.columns.iter().map(|column| quoted(column)).collect();
        text.push_str(&(header.join(",") + "\n"));
        for row in &self.data {
            let cells: Vec<String> = row.iter().map(cell).collect();
            text.push_str(&(cells.join(",") + "\n"));
        }
        text
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => quoted(text),
        other => quoted(&other.to_string()),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn csv_by_hand() {
        let rows =
            [[json!("a,b"), json!(1.5)], [json!("say \"no\""), Value::Null], [json!(3), json!(f64::NAN)]];
        let table = Table::of(["what", "how much"], rows);
        assert_eq!(table.csv(), "what,how much\n\"a,b\",1.5\n\"say \"\"no\"\"\",\n3,\n");
        let json = serde_json::to_string(&table).unwrap();
        assert!(json.starts_with("{\"columns\":[\"what\",\"how much\"],\"data\":[[\"a,b\",1.5],"), "{json}");
    }
}
