use std::ops::Range;

use skn_kernels::{Packing, RowSelection};

use crate::error::Result;

/// What a row is in its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPlace {
    /// Its place in the prompt, that of the `<mask>` row being 0; nothing for a row of text.
    pub in_prompt: Option<usize>,
    /// Whether it is the last row of the text, special tokens included.
    pub is_last_of_text: bool,
    /// Whether the answer is read there.
    pub is_answer: bool,
}

/// Where the rows of a prompt stand, and at which row the answer is read: what a row is for.
///
/// A row has a place in the prompt or one in the text, and one row of each sequence is the answer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Rows of the prompt before the text.
    front: usize,
    /// Rows of the prompt behind the text.
    behind: usize,
    /// Whether the answer is read at the last row, and not at the first.
    answers_last: bool,
}

impl Layout {
    /// The prompt stands before the text, and the answer is read at its first row: an encoder.
    pub(crate) fn front(rows: usize) -> Self {
        Self { front: rows, behind: 0, answers_last: false }
    }

    /// The prompt stands behind the text, and the answer is read at its last row: a decoder, in which no row sees what comes
    /// behind it.
    pub(crate) fn behind(rows: usize) -> Self {
        Self { front: 0, behind: rows, answers_last: true }
    }

    /// The prompt stands before the text, and the answer is read at its last row: a decoder as PEFT prompts it.
    pub(crate) fn blind(rows: usize) -> Self {
        Self { front: rows, behind: 0, answers_last: true }
    }

    /// Whether there are rows of a prompt that see nothing of the text: those before it, in a decoder.
    pub fn has_blind_prompt(self) -> bool {
        self.answers_last && self.front > 0
    }

    /// P: the rows of the prompt.
    pub fn prompt_rows(self) -> usize {
        self.front + self.behind
    }

    /// The rows of the prompt that stand before the text.
    pub(crate) fn rows_in_front(self) -> usize {
        self.front
    }

    /// What the row at `position` of a sequence of so many rows is.
    pub(crate) fn place(self, position: usize, rows: usize) -> RowPlace {
        let in_prompt = self.prompt_place(position, rows);
        RowPlace {
            in_prompt,
            is_last_of_text: in_prompt.is_none() && position + 1 == self.text(rows).end,
            is_answer: position == if self.answers_last { rows.saturating_sub(1) } else { 0 },
        }
    }

    /// The place in the prompt of the row at `position` of a sequence of so many rows; nothing for a row of text.
    pub fn prompt_place(self, position: usize, rows: usize) -> Option<usize> {
        let text = self.text(rows);
        if position < text.start {
            return Some(position);
        }
        position.checked_sub(text.end).map(|place| text.start + place)
    }

    /// The rows of text in a sequence of so many rows.
    pub fn text(self, rows: usize) -> Range<usize> {
        let end = rows.saturating_sub(self.behind);
        self.front.min(end)..end
    }

    /// The rows of a batch where the answers are read.
    pub(crate) fn answers(self, packing: &Packing) -> RowSelection {
        if self.answers_last { packing.last_rows(1) } else { packing.first_rows(1) }
    }

    /// The rows of a batch that are prompt; the answers' where there is none.
    pub(crate) fn prompt(self, packing: &Packing) -> Result<RowSelection> {
        if self.prompt_rows() == 0 {
            return Ok(self.answers(packing));
        }
        if self.behind == 0 {
            return Ok(packing.first_rows(self.front));
        }
        let rows = (0..packing.len()).flat_map(|sequence| {
            let all = packing.range(sequence);
            let text = self.text(all.len());
            (all.start..all.start + text.start).chain(all.start + text.end..all.end)
        });
        Ok(packing.select(&rows.map(|row| row as u32).collect::<Vec<u32>>())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_in_front() {
        let layout = Layout::front(2);
        let places: Vec<_> = (0..5).map(|position| layout.prompt_place(position, 5)).collect();
        assert_eq!(places, [Some(0), Some(1), None, None, None]);
        let packing = Packing::from_starts(&[0, 5, 8]).unwrap();
        assert_eq!(layout.answers(&packing).number(), [0, 5]);
        assert_eq!(layout.prompt(&packing).unwrap().number(), [0, 1, 5, 6]);
        assert_eq!((layout.prompt_rows(), layout.text(5)), (2, 2..5));
    }

    #[test]
    fn a_blind_prompt() {
        let layout = Layout::blind(2);
        let places: Vec<_> = (0..4).map(|position| layout.place(position, 4)).collect();
        assert_eq!(
            places.iter().map(|place| place.in_prompt).collect::<Vec<_>>(),
            [Some(0), Some(1), None, None]
        );
        assert!(places[3].is_last_of_text && places[3].is_answer && !places[2].is_answer);
        let packing = Packing::from_starts(&[0, 5, 8]).unwrap();
        assert_eq!(layout.answers(&packing).number(), [4, 7]);
        let blind =
            [layout, Layout::blind(0), Layout::front(2), Layout::behind(2)].map(Layout::has_blind_prompt);
        assert_eq!(blind, [true, false, false, false]);
    }

    #[test]
    fn a_prompt_behind() {
        let layout = Layout { front: 1, behind: 2, answers_last: true };
        let places: Vec<_> = (0..5).map(|position| layout.prompt_place(position, 5)).collect();
        assert_eq!(places, [Some(0), None, None, Some(1), Some(2)]);
        let packing = Packing::from_starts(&[0, 5, 5, 8]).unwrap();
        assert_eq!(layout.answers(&packing).number(), [4, 7]);
        assert_eq!(layout.prompt(&packing).unwrap().number(), [0, 3, 4, 5, 6, 7]);
        assert_eq!((layout.prompt_rows(), layout.text(3)), (3, 1..1));
    }

    #[test]
    fn without_a_prompt_the_answers_row_is_looked_at() {
        let packing = Packing::from_starts(&[0, 5, 8]).unwrap();
        let (first, last) = (Layout::front(0), Layout { front: 0, behind: 0, answers_last: true });
        assert_eq!(first.prompt(&packing).unwrap().number(), [0, 5]);
        assert_eq!(last.prompt(&packing).unwrap().number(), [4, 7]);
        assert_eq!((first.prompt_place(0, 5), last.prompt_place(4, 5)), (None, None));
    }
}
