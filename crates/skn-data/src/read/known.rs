use std::collections::HashMap;

use super::cell::Cell;

/// More different labels are no classes that come again and again.
const MOST: usize = 4096;

/// The classes of labels that came before.
#[derive(Default)]
pub(crate) struct Known {
    texts: HashMap<String, i64>,
    numbers: HashMap<i64, i64>,
}

impl Known {
    pub(crate) fn class(&self, cell: &Cell<'_>) -> Option<i64> {
        match cell {
            Cell::Text(text) => self.texts.get(text.as_ref()).copied(),
            Cell::Integer(number) => self.numbers.get(number).copied(),
            _ => None,
        }
    }

    pub(crate) fn note(&mut self, cell: &Cell<'_>, class: i64) {
        if self.texts.len() + self.numbers.len() >= MOST {
            return;
        }
        match cell {
            Cell::Text(text) => drop(self.texts.insert(text.clone().into_owned(), class)),
            Cell::Integer(number) => drop(self.numbers.insert(*number, class)),
            _ => {}
        }
    }
}
