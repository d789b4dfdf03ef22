//! Texts as token ids: the tokenizer, what it is made of, and the sequences that it makes of rows.

mod adapt;
mod class;
mod encoded;
mod files;
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
