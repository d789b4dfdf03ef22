use std::collections::HashMap;

use super::cell::Cell;

/// More different labels are no classes that come again and again.
const MOST: usize = 4096;

/// The classes of labels that came before.
#[derive(Default)]
pub(crate) struct Known {
    texts: HashMap<String, i64>,
    others: HashMap<Other, i64>,
}

/// A label that is no text. Floats go by their bits.
#[derive(PartialEq, Eq, Hash)]
enum Other {
    Integer(i64),
    Float(u64),
    Boolean(bool),
}

impl Other {
    fn of(cell: &Cell<'_>) -> Option<Self> {
        Some(match cell {
            Cell::Integer(number) => Self::Integer(*number),
            Cell::Float(number) => Self::Float(number.to_bits()),
            Cell::Boolean(value) => Self::Boolean(*value),
            _ => return None,
        })
    }
}

impl Known {
    /// The class of a label, if the same came before.
    pub(crate) fn class(&self, cell: &Cell<'_>) -> Option<i64> {
        match cell {
            Cell::Text(text) => self.texts.get(text.as_ref()).copied(),
            cell => self.others.get(&Other::of(cell)?).copied(),
        }
    }

    /// Notes the class of a label.
    pub(crate) fn note(&mut self, cell: &Cell<'_>, class: i64) {
        if self.texts.len() + self.others.len() >= MOST {
            return;
        }
        if let Cell::Text(text) = cell {
            self.texts.insert(text.clone().into_owned(), class);
        } else if let Some(other) = Other::of(cell) {
            self.others.insert(other, class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_each_kind_are_known_again() {
        let cells =
            || [Cell::Text("1".into()), Cell::Integer(1), Cell::Float(1.0), Cell::Boolean(true), Cell::Null];
        let mut known = Known::default();
        for (class, cell) in (0..).zip(cells()) {
            assert_eq!(known.class(&cell), None);
            known.note(&cell, class);
        }
        let found = cells().map(|cell| known.class(&cell));
        assert_eq!(found, [Some(0), Some(1), Some(2), Some(3), None]);
        (0..2 * MOST as i64).for_each(|number| known.note(&Cell::Integer(number + 2), 0));
        assert_eq!(known.texts.len() + known.others.len(), MOST);
    }
}
