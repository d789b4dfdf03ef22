//! How a text, or a pair of texts, becomes one sequence of token ids.

use super::text_encoder::TextEncoder;
use crate::dataset::Example;
use crate::error::{DataError, Result};

/// How the two texts of a pair become one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Join {
    /// As the tokenizer's post-processor says: `<s> a </s></s> b </s>`, as RoBERTa was pre-trained; `[CLS] a [SEP] b [SEP]`,
    /// as BERT was.
    #[default]
    Separated,
    /// The texts written one after another without anything between, as the published implementation does
    /// (`--compat paper`).
    Paper,
}

impl TextEncoder {
    /// The ids of an example: `<s> text </s>`, or what else the tokenizer puts around a text, or for a pair what `join` says, cut to `max_tokens`; and where in them the
    /// second text begins, which is at their end if there is none.
    ///
    /// Special tokens count, and are kept. A pair is cut as by Hugging Face's `longest_first`: the longer text
    /// first, then both to the same length. Texts lose their ends, or their beginnings if the tokenizer says so.
    ///
    /// # Errors
    ///
    /// [`DataError::NoRoom`] if the special tokens alone need more than `max_tokens`; a pair that can't be put together as the
    /// tokenizer's file says; or see
    /// [`TextEncoder::ids_of_text`].
    pub fn encode(&self, example: &Example, max_tokens: usize, join: Join) -> Result<(Vec<u32>, usize)> {
        let ids = match (&example.pair, join) {
            (None, _) => self.encode_one(&example.text, max_tokens)?,
            (Some(pair), Join::Paper) => self.encode_one(&format!("{}{pair}", example.text), max_tokens)?,
            (Some(pair), Join::Separated) => return self.encode_pair(&example.text, pair, max_tokens),
        };
        let end = ids.len();
        Ok((ids, end))
    }

    fn encode_one(&self, text: &str, max_tokens: usize) -> Result<Vec<u32>> {
        let around = &self.template().single;
        let special = around.before.len() + around.after.len();
        let room = room(max_tokens, special)?;
        let text = self.ids_of_text(text)?;
        let text = self.cut(&text, room);
        let mut ids = Vec::with_capacity(text.len() + special);
        for part in [&around.before, text, &around.after] {
            ids.extend_from_slice(part);
        }
        Ok(ids)
    }

    fn encode_pair(&self, first: &str, second: &str, max_tokens: usize) -> Result<(Vec<u32>, usize)> {
        let around = self.template().pair.as_ref().map_err(|reason| self.unusable(reason.clone()))?;
        let special = around.before.len() + around.between.len() + around.after.len();
        let room = room(max_tokens, special)?;
        let (first, second) = (self.ids_of_text(first)?, self.ids_of_text(second)?);
        let (of_first, of_second) = longest_first(first.len(), second.len(), room);
        let mut ids = Vec::with_capacity(of_first + of_second + special);
        for part in [&around.before, self.cut(&first, of_first), &around.between] {
            ids.extend_from_slice(part);
        }
        let place = ids.len();
        for part in [self.cut(&second, of_second), &around.after] {
            ids.extend_from_slice(part);
        }
        Ok((ids, place))
    }

    /// The part of a text that is kept.
    fn cut<'t>(&self, text: &'t [u32], room: usize) -> &'t [u32] {
        let kept = text.len().min(room);
        if self.cuts_left() { text.split_at(text.len() - kept).1 } else { text.split_at(kept).0 }
    }
}

/// Tokens left for texts beside `special` ones.
fn room(max_tokens: usize, special: usize) -> Result<usize> {
    max_tokens.checked_sub(special).ok_or(DataError::NoRoom { max_tokens, needed: special })
}

/// How many tokens of two texts are kept. Hugging Face tokenizers' `truncate_encodings` with `LongestFirst`: if the
/// shorter text fits into half of the room it is kept whole; else both get half, the longer one what is over.
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first.saturating_add(second) <= room {
        return (first, second);
    }
    let shorter = first.min(second);
    let short = shorter.min(room / 2);
    let long = room - short;
    // On a tie the second text counts as the longer one.
    if first > second { (long, short) } else { (short, long) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::golden;

    fn example(text: &str, pair: Option<&str>) -> Example {
        Example { text: text.into(), pair: pair.map(Into::into), label: 0 }
    }

    #[test]
    fn one_text_stands_between_start_and_end() {
        let encoder = golden::encoder();
        let plain = encoder.ids_of_text("the play").unwrap();
        let ids = encoder.encode(&example("the play", None), 99, Join::Separated).unwrap().0;
        assert_eq!(ids, [&[0][..], &plain, &[2]].concat());
        assert_eq!(encoder.encode(&example("", None), 2, Join::Separated).unwrap(), (vec![0, 2], 2));
    }

    #[test]
    fn pairs_are_separated_or_glued() {
        let encoder = golden::encoder();
        let pair = example("the play", Some("a song"));
        let (first, second) =
            (encoder.ids_of_text("the play").unwrap(), encoder.ids_of_text("a song").unwrap());
        let (separated, place) = encoder.encode(&pair, 99, Join::Separated).unwrap();
        assert_eq!((separated[place - 1], &separated[place..place + second.len()]), (2, &second[..]));
        assert_eq!(separated, [&[0][..], &first, &[2, 2], &second, &[2]].concat());
        let glued = encoder.encode(&pair, 99, Join::Paper).unwrap();
        assert_eq!(glued, encoder.encode(&example("the playa song", None), 99, Join::Paper).unwrap());
    }

    #[test]
    fn longest_first_by_hand() {
        assert_eq!(longest_first(3, 4, 7), (3, 4));
        assert_eq!(longest_first(2, 9, 7), (2, 5));
        assert_eq!(longest_first(9, 2, 7), (5, 2));
        assert_eq!(longest_first(9, 8, 7), (4, 3));
        assert_eq!(longest_first(8, 9, 7), (3, 4));
        assert_eq!(longest_first(8, 8, 7), (3, 4));
        assert_eq!(longest_first(4, 4, 1), (0, 1));
        assert_eq!(longest_first(4, 4, 0), (0, 0));
        assert_eq!(longest_first(usize::MAX, usize::MAX, 8), (4, 4));
    }

    #[test]
    fn cutting_keeps_the_special_tokens() {
        let encoder = golden::encoder();
        let pair = example("the play is dull and long", Some("a song"));
        for max_tokens in 4..12 {
            let (ids, _) = encoder.encode(&pair, max_tokens, Join::Separated).unwrap();
            assert!(ids.len() <= max_tokens);
            assert_eq!(ids.iter().filter(|id| **id == 2).count(), 3);
        }
        let refused = |example: Example, max_tokens| {
            encoder.encode(&example, max_tokens, Join::Separated).unwrap_err().to_string()
        };
        assert!(refused(pair, 3).contains("may take 3 tokens, but 4 are needed"));
        assert!(refused(example("a", None), 1).contains("may take 1 tokens, but 2 are needed"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_text_survives_its_tokens(text in "\\PC{0,60}", max_tokens in 2usize..40) {
            let encoder = golden::encoder();
            let (ids, _) = encoder.encode(&example(&text, None), max_tokens, Join::Separated).unwrap();
            prop_assert!(ids.len() <= max_tokens);
            prop_assert_eq!((ids[0], ids[ids.len() - 1]), (0, 2));
        }
    }
}
