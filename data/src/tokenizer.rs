//! The demo's own byte-level BPE.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{
    AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, TokenizerBuilder,
};

use crate::corpus::{Stage, document};

/// Entries of the vocabulary at most, special tokens and single bytes included.
const VOCABULARY: usize = 800;

/// Documents that merges are counted on.
const DOCUMENTS: u64 = 20_000;

/// `tokenizer.json` in RoBERTa's form, learned from the corpus of `seed`.
///
/// # Errors
/// If the tokenizer library refuses.
pub fn train_tokenizer(seed: u64) -> tokenizers::Result<String> {
    let special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
    let added = special.map(|token| AddedToken::from(token, true).lstrip(token == "<mask>"));
    let trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(added.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let byte_level = ByteLevel::default().add_prefix_space(false);
    let mut model = BPE::default();
    let words = words(&byte_level, seed)?.into_iter().map(|(word, count)| (word.into(), count));
    let special = trainer.do_train(&words.collect(), &mut model)?;
    let mut tokenizer =
        TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, ByteLevel, RobertaProcessing, ByteLevel>::new(
        )
        .with_model(model)
        .with_normalizer(None)
        .with_pre_tokenizer(Some(byte_level))
        .with_post_processor(Some(
            RobertaProcessing::new(("</s>".into(), 2), ("<s>".into(), 0)).add_prefix_space(false),
        ))
        .with_decoder(Some(ByteLevel::default()))
        .build()?;
    tokenizer.add_special_tokens(special)?;
    tokenizer.to_string(true)
}

/// How often the corpus of `seed` has each word, as the tokenizer cuts it.
fn words(byte_level: &ByteLevel, seed: u64) -> tokenizers::Result<HashMap<String, u64>> {
    // The language has few words: each part of a text is cut once, however often it comes.
    let mut all = HashMap::<String, u64>::new();
    for sample in 0..DOCUMENTS {
        let document = document(seed, u64::MAX, sample, Stage::last());
        let lines = document.opening.into_iter().map(|line| line.text + "\n");
        for text in lines.chain([document.text]).chain(document.second) {
            for part in parts(&text) {
                match all.get_mut(part) {
                    Some(count) => *count += 1,
                    None => drop(all.insert(part.to_owned(), 1)),
                }
            }
        }
    }
    let mut words = HashMap::new();
    for (part, count) in all {
        for word in cut(byte_level, &part)? {
            *words.entry(word).or_default() += count;
        }
    }
    Ok(words)
}

/// The words of a text, as the tokenizer cuts it.
fn cut(byte_level: &ByteLevel, text: &str) -> tokenizers::Result<Vec<String>> {
    let mut text = PreTokenizedString::from(text);
    byte_level.pre_tokenize(&mut text)?;
    let words = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
    Ok(words.into_iter().map(|(word, ..)| word.to_owned()).collect())
}

/// Parts of a text that are cut into the same words alone as together: no word reaches over a single space, which begins the next one.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let is_said = |letter: Option<char>| letter.is_some_and(|letter| !letter.is_whitespace());
    let spaces = text.match_indices(' ').map(|(place, _)| place);
    let single = spaces.filter(move |&place| {
        is_said(text[..place].chars().next_back()) && is_said(text[place + 1..].chars().next())
    });
    let mut begin = 0;
    single.chain([text.len()]).map(move |end| &text[std::mem::replace(&mut begin, end)..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_as_the_whole_is() {
        let byte_level = ByteLevel::default().add_prefix_space(false);
        let mut texts: Vec<String> = [
            "",
            " ",
            "a",
            " a",
            "a ",
            "a b",
            "a  b",
            "a   b  ",
            "a\nb",
            "a\n b",
            "a \nb",
            "a\n",
            "it's we 'll",
            "it 's",
            "a1 2b , .",
            "!? ..",
            "\u{a0}a \u{a0} b",
            "\u{2003} a",
            "é ü",
            "a\t b",
            "one two\n  three",
        ]
        .map(str::to_owned)
        .to_vec();
        // Every text of five of these.
        let letters = [' ', 'a', '\'', 's', '\n', '1', '.'];
        for number in 0..letters.len().pow(5) {
            texts.push(
                (0..5).map(|place| letters[number / letters.len().pow(place) % letters.len()]).collect(),
            );
        }
        let mut several = 0;
        for text in &texts {
            let each: Vec<String> = parts(text).flat_map(|part| cut(&byte_level, part).unwrap()).collect();
            assert_eq!(each, cut(&byte_level, text).unwrap(), "{text:?}");
            several += usize::from(parts(text).count() > 1);
        }
        assert!(several > 1000, "{several}");
    }
}
