use std::borrow::Cow;

/// A value of a table, as far as tasks care.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'c> {
    Text(Cow<'c, str>),
    Integer(i64),
    Boolean(bool),
    Float(f64),
    /// There is a column, and nothing in it.
    Null,
    /// There is no such column in this row.
    Missing,
    /// Anything else, in words: `a list`.
    Other(Cow<'static, str>),
}

/// The cells of a row's wanted columns: its texts, then the label.
pub(crate) type Cells<'c> = Vec<Cell<'c>>;

/// The cells of a row of so many wanted columns in which nothing was found yet.
pub(crate) fn no_cells<'c>(wanted: usize) -> Cells<'c> {
    vec![Cell::Missing; wanted]
}

/// A cell as errors show it; of a text its beginning.
pub(crate) fn describe(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Text(text) => {
            let mut start: String = text.chars().take(40).collect();
            if start.len() < text.len() {
                start.push_str("..");
            }
            format!("the text {start:?}")
        }
        Cell::Integer(number) => format!("the number {number}"),
        Cell::Boolean(value) => value.to_string(),
        Cell::Float(number) => format!("the number {number:?}"),
        Cell::Null => "a null".to_owned(),
        Cell::Missing => "nothing".to_owned(),
        Cell::Other(what) => what.to_string(),
    }
}
