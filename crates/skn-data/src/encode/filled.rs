//! Which tokens of a filled template are kept where it is too long.

use std::ops::Range;

/// The tokens of a filled template, of which those of columns alone can go.
pub(super) struct Kept {
    kept: Vec<bool>,
    count: usize,
    /// For each column that the template names, each time: the tokens within it that are there still, the next to go last.
    columns: Vec<Vec<usize>>,
}

impl Kept {
    /// All tokens. They stand at `places` in the text, in bytes, and columns at `columns`; `left` says that a column loses its
    /// beginning.
    pub(super) fn new(places: &[(usize, usize)], columns: &[Range<usize>], left: bool) -> Self {
        let tokens_of = |column: &Range<usize>| {
            // With a byte of the template in it a token is the template's.
            let within =
                |(start, end): (usize, usize)| column.start <= start && start < end && end <= column.end;
            let all = places.iter().enumerate().filter(|(_, place)| within(**place)).map(|(token, _)| token);
            let mut tokens: Vec<usize> = all.collect();
            if left {
                tokens.reverse();
            }
            tokens
        };
        Self {
            kept: vec![true; places.len()],
            count: places.len(),
            columns: columns.iter().map(tokens_of).collect(),
        }
    }

    /// Lets tokens go until there are at most `room`: each time one of the column that has the most, of equals the later one.
    /// Whether that was possible.
    pub(super) fn cut(&mut self, room: usize) -> bool {
        while self.count > room {
            let longest = self.columns.iter_mut().max_by_key(|tokens| tokens.len());
            let Some(token) = longest.and_then(Vec::pop) else { return false };
            if let Some(kept) = self.kept.get_mut(token) {
                *kept = false;
            }
            self.count -= 1;
        }
        true
    }

    /// How many are kept.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Of each token whether it is kept.
    pub(super) fn kept(&self) -> impl Iterator<Item = bool> + '_ {
        self.kept.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ab cd|ef` with a template around: a token a letter, and one with a letter of both.
    const PLACES: [(usize, usize); 8] = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 7), (7, 8), (8, 9)];

    fn left_of(columns: &[Range<usize>], room: usize, left: bool) -> Option<Vec<usize>> {
        let mut kept = Kept::new(&PLACES, columns, left);
        let done = kept.cut(room);
        let places = kept.kept().enumerate().filter(|(_, kept)| *kept).map(|(place, _)| place);
        let places: Vec<usize> = places.collect();
        assert_eq!(places.len(), kept.count());
        done.then_some(places)
    }

    #[test]
    fn the_longest_column_loses_its_end_and_the_template_nothing() {
        let columns = [1..5, 5..8];
        assert_eq!(left_of(&columns, 8, false).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        // Three of the first are within it, and two of the second: 4 is half the template's.
        assert_eq!(left_of(&columns, 7, false).unwrap(), [0, 1, 2, 4, 5, 6, 7]);
        assert_eq!(left_of(&columns, 6, false).unwrap(), [0, 1, 2, 4, 5, 7]);
        assert_eq!(left_of(&columns, 5, false).unwrap(), [0, 1, 4, 5, 7]);
        assert_eq!(left_of(&columns, 3, false).unwrap(), [0, 4, 7]);
        assert_eq!(left_of(&columns, 2, false), None);
        assert_eq!(left_of(&columns, 6, true).unwrap(), [0, 2, 3, 4, 6, 7]);
    }

    #[test]
    fn tokens_of_nothing_stay() {
        assert!(!Kept::new(&[(1, 1)], &[0..2, 0..1], false).cut(0));
    }
}
