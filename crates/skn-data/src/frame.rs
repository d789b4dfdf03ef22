//! Some rows as bytes: for each row its label (i64) and for each column the length of its text (u32), little-endian; then the texts.

// What others sent is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use std::sync::Arc;

use crate::dataset::{Example, UNLABELLED};
use crate::text::Text;

/// Rows that follow each other.
pub(crate) struct Frame {
    heads: Vec<u8>,
    texts: Arc<Box<str>>,
    columns: usize,
}

/// One of them.
pub(crate) struct FrameRow<'f> {
    pub(crate) label: i64,
    /// The lengths of its texts.
    lengths: &'f [[u8; 4]],
    /// Where the first of them begins.
    start: usize,
    frame: &'f Frame,
}

impl Frame {
    /// The bytes that stand before texts, of so many rows with texts of so many columns.
    pub(crate) fn head_bytes(rows: usize, columns: usize) -> usize {
        rows * (8 + 4 * columns)
    }

    /// Rows of so many columns, at least one, whose labels are of `classes` classes.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes.
    pub(crate) fn new(
        heads: Vec<u8>,
        texts: Vec<u8>,
        columns: usize,
        classes: usize,
    ) -> Result<Self, &'static str> {
        let texts = String::from_utf8(texts).map_err(|_| "a text that is not UTF-8")?;
        let frame = Self { heads, texts: Arc::new(texts.into_boxed_str()), columns };
        let mut end = 0;
        for row in frame.rows() {
            let is_class = usize::try_from(row.label).is_ok_and(|class| class < classes);
            if row.label != UNLABELLED && !is_class {
                return Err("a label that is not a class");
            }
            for (start, text_end) in row.places() {
                frame.texts.get(start..text_end).ok_or("a text of wrong length")?;
                end = text_end;
            }
        }
        if end == frame.texts.len() { Ok(frame) } else { Err("texts of nobody") }
    }

    /// What stands before the texts, and the texts.
    pub(crate) fn bytes(&self) -> [&[u8]; 2] {
        [&self.heads, self.texts.as_bytes()]
    }

    /// The rows, in their order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = FrameRow<'_>> {
        let mut start = 0;
        self.heads.chunks_exact(Self::head_bytes(1, self.columns)).filter_map(move |head| {
            let (label, lengths) = head.split_first_chunk()?;
            let row = FrameRow {
                label: i64::from_le_bytes(*label),
                lengths: lengths.as_chunks().0,
                start,
                frame: self,
            };
            start = row.places().last().map_or(start, |(_, end)| end);
            Some(row)
        })
    }

    /// Each row, which shares its texts with the others.
    pub(crate) fn examples(&self) -> impl Iterator<Item = Example> {
        self.rows().map(|row| {
            let text = |(start, end)| Text::within(&self.texts, start, end).unwrap_or_default();
            let mut texts = row.places().map(text);
            Example {
                text: texts.next().unwrap_or_default(),
                pair: texts.next(),
                more: texts.collect(),
                label: row.label,
            }
        })
    }
}

impl<'f> FrameRow<'f> {
    /// Where its texts begin and end.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + Clone + use<'f> {
        let mut start = self.start;
        self.lengths.iter().map(move |length| {
            let end = start.saturating_add(u32::from_le_bytes(*length) as usize);
            (std::mem::replace(&mut start, end), end)
        })
    }

    /// Its texts, in the order of the task's columns.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &'f str> + Clone + use<'f> {
        let texts: &'f str = &self.frame.texts;
        self.places().map(move |(start, end)| texts.get(start..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(rows: &[(i64, &[u32])]) -> Vec<u8> {
        let lengths = |of: &[u32]| of.iter().flat_map(|length| length.to_le_bytes()).collect::<Vec<u8>>();
        rows.iter().flat_map(|(label, of)| [&label.to_le_bytes()[..], &lengths(of)].concat()).collect()
    }

    #[test]
    fn rows_have_their_texts() {
        let heads = heads(&[(1, &[2, 0, 1]), (-1, &[0, 2, 0])]);
        let frame = Frame::new(heads.clone(), "abcé".into(), 3, 2).unwrap();
        assert_eq!(frame.bytes(), [&heads, "abcé".as_bytes()]);
        let rows: Vec<(i64, Vec<&str>)> =
            frame.rows().map(|row| (row.label, row.texts().collect())).collect();
        assert_eq!(rows, [(1, vec!["ab", "", "c"]), (-1, vec!["", "é", ""])]);
        let [first, second] = <[Example; 2]>::try_from(frame.examples().collect::<Vec<_>>()).unwrap();
        assert_eq!(
            (&*first.text, first.pair.as_deref(), &*first.more[0], first.label),
            ("ab", Some(""), "c", 1)
        );
        assert_eq!((&*second.text, second.pair.as_deref(), second.more.len()), ("", Some("é"), 1));
        let alone = Frame::new(self::heads(&[(0, &[1])]), "a".into(), 1, 1).unwrap();
        assert_eq!(alone.examples().map(|row| row.pair).collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let told = |rows: &[(i64, &[u32])], texts: &[u8]| Frame::new(heads(rows), texts.into(), 2, 2).err();
        assert_eq!(told(&[(1, &[1, 1])], b"ab"), None);
        assert_eq!(told(&[(2, &[1, 1])], b"ab"), Some("a label that is not a class"));
        assert_eq!(told(&[(-2, &[1, 1])], b"ab"), Some("a label that is not a class"));
        assert_eq!(told(&[(1, &[1, 1])], b"abc"), Some("texts of nobody"));
        assert_eq!(told(&[(1, &[1, 2])], b"ab"), Some("a text of wrong length"));
        assert_eq!(
            told(&[(1, &[1, 1])], "é".as_bytes()),
            Some("a text of wrong length"),
            "within a character"
        );
        assert_eq!(told(&[(1, &[1, 1])], b"a\xff"), Some("a text that is not UTF-8"));
        assert_eq!(told(&[], b""), None);
    }
}
