//! The token ids of a part (train, dev or test): all its rows, in parallel.

use std::borrow::Borrow;

use rayon::prelude::*;

use super::encoded::Encoded;
use super::sequence::Join;
use super::text_encoder::TextEncoder;
use crate::dataset::Example;
use crate::error::{DataError, Result};
use crate::token_ids::TokenIds;

/// Texts that share a store, which one thread makes.
const TOGETHER: usize = 64;

/// Rows that are tokenised before the next ones are looked at: each thread is to have several stores to make, so that none waits long for
/// the others. More threads than 64 have less than that, as rows and tokens of a round are in memory.
fn round() -> usize {
    const MOST: usize = 1 << 14;
    (4 * TOGETHER * rayon::current_num_threads()).min(MOST)
}

impl TextEncoder {
    /// All rows of a part, in parallel; the order is kept.
    ///
    /// Give it the rows themselves, and each is let go of as soon as it is encoded; or borrow them to it.
    ///
    /// ```
    /// # use skn_data::{Dataset, Join, Task, TextEncoder};
    /// # let vocabulary = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nplay\nis\nsuperb\n";
    /// # let json = skn_data::bert_tokenizer(vocabulary, None, "model")?;
    /// # let encoder = TextEncoder::from_json(&json, "model/tokenizer.json")?;
    /// let lines = br#"{"sentence": "the play is superb", "label": 1}"#;
    /// let mut data = Dataset::from_jsonl(&[("train", lines)], &Task::builtin("sst2")?)?;
    /// let rows = data.splits.remove("train").unwrap_or_default();
    /// let borrowed = encoder.encode_all(&rows, 122, Join::Separated)?;
    /// assert_eq!(borrowed, encoder.encode_all(rows, 122, Join::Separated)?);
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`TextEncoder::encode`], or a row without a label.
    pub fn encode_all<R>(
        &self,
        part: impl IntoIterator<Item = R>,
        max_tokens: usize,
        join: Join<'_>,
    ) -> Result<Vec<Encoded>>
    where
        R: Borrow<Example> + Send + Sync,
    {
        Ok(self.encode_all_noting_cuts(part, max_tokens, join)?.0)
    }

    /// The same, and the rows whose texts were longer and were cut, ascending.
    ///
    /// # Errors
    ///
    /// As for [`TextEncoder::encode_all`].
    pub fn encode_all_noting_cuts<R>(
        &self,
        part: impl IntoIterator<Item = R>,
        max_tokens: usize,
        join: Join<'_>,
    ) -> Result<(Vec<Encoded>, Vec<u64>)>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let rows = part.into_iter();
        let (mut all, mut cut) = (Vec::with_capacity(rows.size_hint().0), Vec::new());
        self.encode_one_after_another(rows, max_tokens, join, |texts, of_texts| {
            all.extend(texts);
            cut.extend(of_texts);
            Ok::<_, DataError>(())
        })?;
        Ok((all, cut))
    }

    /// The same, but that texts are given to `take` as they are made, some at a time and in their order, with the rows of them that were
    /// cut: for a part whose tokens memory should not hold together ([`TextStore`](crate::TextStore)).
    ///
    /// # Errors
    ///
    /// As for [`TextEncoder::encode_all`], and those of `take`.
    pub fn encode_one_after_another<R, E>(
        &self,
        part: impl IntoIterator<Item = R>,
        max_tokens: usize,
        join: Join<'_>,
        mut take: impl FnMut(Vec<Encoded>, Vec<u64>) -> Result<(), E>,
    ) -> Result<(), E>
    where
        R: Borrow<Example> + Send + Sync,
        E: From<DataError>,
    {
        let (mut rows, mut first, most) = (part.into_iter(), 0, round());
        // In rounds, so that beside what is taken there is little, and rows can go.
        loop {
            let round: Vec<R> = rows.by_ref().take(most).collect();
            if round.is_empty() {
                return Ok(());
            }
            // Not collected as a `Result`: of several errors that would give any one.
            let encoded: Vec<Result<(Vec<Encoded>, Vec<u64>)>> = round
                .par_chunks(TOGETHER)
                .enumerate()
                .map(|(place, rows)| self.encode_together(rows, first + place * TOGETHER, max_tokens, join))
                .collect();
            for texts in encoded {
                let (texts, of_texts) = texts?;
                first += texts.len();
                take(texts, of_texts)?;
            }
        }
    }

    /// Encodes rows that follow each other, of which `first` is the first, and shares one store between them.
    fn encode_together<R: Borrow<Example>>(
        &self,
        rows: &[R],
        first: usize,
        max_tokens: usize,
        join: Join<'_>,
    ) -> Result<(Vec<Encoded>, Vec<u64>)> {
        let (mut all, mut texts, mut cut) = (Vec::new(), Vec::with_capacity(rows.len()), Vec::new());
        for (row, example) in (first as u64..).zip(rows) {
            let example = example.borrow();
            let label = usize::try_from(example.label)
                .map_err(|_| DataError::Row { row, reason: "has no label".to_owned() })?;
            let made = self.encode_sequence(example, max_tokens, join).map_err(|error| match error {
                DataError::LongTemplate { .. } => DataError::Row { row, reason: error.to_string() },
                error => error,
            })?;
            all.extend_from_slice(&made.ids);
            texts.push((made.ids.len(), made.second, label, row));
            cut.extend(made.cut.then_some(row));
        }
        let ids = TokenIds::divide(all, texts.iter().map(|(length, ..)| *length));
        let encoded = |((_, second, label, row), ids)| Encoded { ids, second, label, row };
        Ok((texts.into_iter().zip(ids).map(encoded).collect(), cut))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::golden;

    fn example(text: &str) -> Example {
        Example { text: text.into(), pair: None, more: Box::default(), label: 0 }
    }

    #[test]
    fn golden_ids_and_lengths() {
        let (ids, lengths) = (golden::numbers("test_ids"), golden::numbers("test_lens"));
        let width = ids.len() / lengths.len();
        let test = &golden::dataset("jsonl").splits["test"];
        let encoded = golden::encoder().encode_all(test, 122, Join::Separated).unwrap();
        assert_eq!(encoded.len(), lengths.len());
        assert_eq!(lengths.iter().max(), Some(&122), "one text is cut");
        let (_, cut) = golden::encoder().encode_all_noting_cuts(test, 122, Join::Separated).unwrap();
        assert!(cut.iter().all(|row| lengths[*row as usize] == 122) && cut.len() == 1, "{cut:?}");
        for (row, text) in encoded.iter().enumerate() {
            let expected = &ids[row * width..][..lengths[row] as usize];
            assert!(text.ids.iter().map(|id| i64::from(*id)).eq(expected.iter().copied()), "row {row}");
            assert_eq!((text.row, text.label), (row as u64, test[row].label as usize));
        }
    }

    #[test]
    fn unlabelled_rows_are_not_encoded() {
        let rows = [example("a"), Example { label: -1, ..example("b") }];
        let error = golden::encoder().encode_all(&rows, 9, Join::Separated).unwrap_err();
        assert_eq!(error.to_string(), "row 1: has no label");
    }

    /// A row that says when it goes.
    struct Counted<'c>(Example, &'c AtomicUsize);

    impl Borrow<Example> for Counted<'_> {
        fn borrow(&self) -> &Example {
            &self.0
        }
    }

    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.1.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn rows_are_let_go_of_on_the_way() {
        let many = round();
        let (there, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let rows = (0..2 * many + 5).map(|row| {
            most.fetch_max(there.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            Counted(Example { label: row as i64 % 2, ..example(&format!("{row}")) }, &there)
        });
        let encoder = golden::encoder();
        let texts = encoder.encode_all(rows, 9, Join::Separated).unwrap();
        assert_eq!((there.into_inner(), most.into_inner()), (0, many));
        for row in [0, many - 1, many, 2 * many, 2 * many + 4] {
            let text = &texts[row];
            let (ids, second) = encoder.encode(&example(&format!("{row}")), 9, Join::Separated).unwrap();
            assert_eq!(
                (&text.ids[..], text.second, text.label, text.row),
                (&ids[..], second, row % 2, row as u64)
            );
        }
    }
}
