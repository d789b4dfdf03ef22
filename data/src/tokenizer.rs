//! The demo's own byte-level BPE.

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, TokenizerBuilder};

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
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(added.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer =
        TokenizerBuilder::<BPE, tokenizers::NormalizerWrapper, ByteLevel, RobertaProcessing, ByteLevel>::new(
        )
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)))
        .with_post_processor(Some(
            RobertaProcessing::new(("</s>".into(), 2), ("<s>".into(), 0)).add_prefix_space(false),
        ))
        .with_decoder(Some(ByteLevel::default()))
        .build()?;
    let lines = (0..DOCUMENTS).flat_map(|sample| {
        let document = document(seed, u64::MAX, sample, Stage::last());
        let lines = document.opening.into_iter().map(|line| line.text + "\n");
        lines.chain([document.text]).chain(document.second).collect::<Vec<_>>()
    });
    tokenizer.train(&mut trainer, lines)?;
    tokenizer.to_string(true)
}
