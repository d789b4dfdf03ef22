//! How a text, or a pair of texts, becomes one sequence of token ids.

use super::filled::Kept;
use super::text_encoder::TextEncoder;
use crate::dataset::Example;
use crate::error::{DataError, Result};
use crate::text_template::TextTemplate;

/// How the texts of a row become one sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Join<'t> {
    /// As the tokenizer's post-processor says: `<s> a </s></s> b </s>`, as RoBERTa was pre-trained; `[CLS] a [SEP] b [SEP]`,
    /// as BERT was.
    #[default]
    Separated,
    /// The texts written one after another without anything between, as the published implementation does
    /// (`--compat paper`).
    Paper,
    /// Filled into a template, whose columns they are in its order. It is one text.
    Template(&'t TextTemplate),
}

/// A row's texts as one sequence.
pub(super) struct Sequence {
    /// Its token ids.
    pub(super) ids: Vec<u32>,
    /// Where the second text begins in them; their end if there is none.
    pub(super) second: usize,
    /// Whether texts were longer than there was room for.
    pub(super) cut: bool,
}

impl TextEncoder {
    /// The ids of an example: `<s> text </s>`, or what else the tokenizer puts around a text, or for a pair what `join` says, cut to `max_tokens`; and where in them the
    /// second text begins, which is at their end if there is none.
    ///
    /// Special tokens count, and are kept. A pair is cut as by Hugging Face's `longest_first`: the longer text
    /// first, then both to the same length. Texts lose their ends, or their beginnings if the tokenizer says so.
    ///
    /// A filled template is tokenised once. If it is too long, the column that has the most tokens loses one after another, of
    /// equals the later one; tokens with something of the template in them stay.
    ///
    /// # Errors
    ///
    /// [`DataError::NoRoom`] if the special tokens alone need more than `max_tokens`; [`DataError::LongTemplate`] if they do with
    /// the template's; a pair that can't be put together as the
    /// tokenizer's file says; or see
    /// [`TextEncoder::ids_of_text`].
    pub fn encode(&self, example: &Example, max_tokens: usize, join: Join<'_>) -> Result<(Vec<u32>, usize)> {
        let Sequence { ids, second, .. } = self.encode_sequence(example, max_tokens, join)?;
        Ok((ids, second))
    }

    /// The same, with whether something was cut.
    ///
    /// # Errors
    ///
    /// As for [`TextEncoder::encode`].
    pub(super) fn encode_sequence(
        &self,
        example: &Example,
        max_tokens: usize,
        join: Join<'_>,
    ) -> Result<Sequence> {
        let (ids, cut) = match (&example.pair, join) {
            (_, Join::Template(template)) => self.encode_filled(example, template, max_tokens)?,
            (None, _) => self.encode_one(&example.text, max_tokens)?,
            (Some(pair), Join::Paper) => self.encode_one(&format!("{}{pair}", example.text), max_tokens)?,
            (Some(pair), Join::Separated) => return self.encode_pair(&example.text, pair, max_tokens),
        };
        Ok(Sequence { second: ids.len(), ids, cut })
    }

    fn encode_one(&self, text: &str, max_tokens: usize) -> Result<(Vec<u32>, bool)> {
        let around = &self.template().single;
        let special = around.before.len() + around.after.len();
        let room = room(max_tokens, special)?;
        let whole = self.ids_of_text(text)?;
        let text = self.cut(&whole, room);
        let mut ids = Vec::with_capacity(text.len() + special);
        for part in [&around.before, text, &around.after] {
            ids.extend_from_slice(part);
        }
        Ok((ids, text.len() < whole.len()))
    }

    fn encode_filled(
        &self,
        example: &Example,
        template: &TextTemplate,
        max_tokens: usize,
    ) -> Result<(Vec<u32>, bool)> {
        let around = &self.template().single;
        let special = around.before.len() + around.after.len();
        let texts: Vec<&str> = example.texts().map(AsRef::as_ref).collect();
        let filled = template.fill(&texts);
        let (ids, places): (Vec<u32>, Vec<_>) = self.ids_and_places(&filled.text)?.into_iter().unzip();
        let mut kept = Kept::new(&places, &filled.columns, self.cuts_left());
        if !kept.cut(room(max_tokens, special)?) {
            return Err(DataError::LongTemplate { max_tokens, needed: kept.count() + special });
        }
        let mut all = Vec::with_capacity(kept.count() + special);
        all.extend_from_slice(&around.before);
        all.extend(ids.iter().zip(kept.kept()).filter(|(_, kept)| *kept).map(|(id, _)| *id));
        all.extend_from_slice(&around.after);
        Ok((all, kept.count() < ids.len()))
    }

    fn encode_pair(&self, first: &str, second: &str, max_tokens: usize) -> Result<Sequence> {
        let around = self.template().pair.as_ref().map_err(|reason| self.unusable(reason.clone()))?;
        let special = around.before.len() + around.between.len() + around.after.len();
        let room = room(max_tokens, special)?;
        let (first, second) = (self.ids_of_text(first)?, self.ids_of_text(second)?);
        let (of_first, of_second) = longest_first(first.len(), second.len(), room);
        let cut = of_first < first.len() || of_second < second.len();
        let mut ids = Vec::with_capacity(of_first + of_second + special);
        for part in [&around.before, self.cut(&first, of_first), &around.between] {
            ids.extend_from_slice(part);
        }
        let place = ids.len();
        for part in [self.cut(&second, of_second), &around.after] {
            ids.extend_from_slice(part);
        }
        Ok(Sequence { ids, second: place, cut })
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
        Example { text: text.into(), pair: pair.map(Into::into), more: Box::default(), label: 0 }
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
    fn a_template_is_one_text_of_which_columns_are_cut() {
        let encoder = golden::encoder();
        let template: TextTemplate = "the play: {a} and a song: {b} is dull".parse().unwrap();
        let row = example("superb superb superb superb", Some("graceful graceful"));
        let encode =
            |row: &Example, most| encoder.encode(row, most, Join::Template(&template)).map(|(ids, _)| ids);
        let whole = "the play: superb superb superb superb and a song: graceful graceful is dull";
        let one = encoder.encode(&example(whole, None), 99, Join::Separated).unwrap();
        assert_eq!(encode(&row, 99).unwrap(), one.0);
        // Token by token from the longest column's end, of equals the later one's; a blank of the template stays with its token.
        let least = encode(&example("", Some("")), 99).unwrap().len();
        let mut before = one.0;
        for most in (2..before.len()).rev() {
            let Ok(cut) = encode(&row, most) else { break };
            assert_eq!(cut.len(), most);
            let lost = before.iter().zip(&cut).take_while(|(a, b)| a == b).count();
            let rest = [&before[..lost], &before[lost + 1..]].concat();
            assert_eq!(cut, rest, "one token less at {lost} of {most}");
            before = cut;
        }
        assert!(before.len() <= least + 2, "{before:?} {least}");
        let error = encode(&row, 5).unwrap_err().to_string();
        assert!(error.contains("template") && error.contains("may take 5 tokens"), "{error}");
        // What a tokenizer takes for special is that in a column too, as in any text.
        let special = encode(&example("</s>", Some("")), 99).unwrap();
        assert!(special.iter().filter(|id| **id == 2).count() == 2, "{special:?}");
    }

    #[test]
    fn what_is_cut_is_known() {
        let encoder = golden::encoder();
        let template: TextTemplate = "the play: {a} and a song: {b} is dull".parse().unwrap();
        let pair = example("the play is dull and long", Some("a song"));
        for (row, join) in [
            (example("the play is dull", None), Join::Separated),
            (pair.clone(), Join::Separated),
            (pair.clone(), Join::Paper),
            (pair, Join::Template(&template)),
        ] {
            let whole = encoder.encode_sequence(&row, 99, join).unwrap();
            assert!(!whole.cut, "{join:?}");
            let of = |most| encoder.encode_sequence(&row, most, join).unwrap().cut;
            assert!(!of(whole.ids.len()) && of(whole.ids.len() - 1), "{join:?}");
        }
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
