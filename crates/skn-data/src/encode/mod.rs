//! Texts as token ids: the tokenizer, what it is made of, and the sequences that it makes of rows.

// What others wrote is read here: no byte of it may end the program, or become another number.
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

mod adapt;
mod class;
mod encoded;
mod files;
mod filled;
mod gguf;
mod part;
mod sequence;
mod settings;
mod special_tokens;
mod template;
mod text_encoder;
mod tokenizer_json;

pub use encoded::Encoded;
pub use files::TokenizerFiles;
pub use sequence::Join;
pub use text_encoder::TextEncoder;
pub use tokenizer_json::bert_tokenizer;
