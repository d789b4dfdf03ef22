//! Texts as token ids: the tokenizer, what it is made of, and the sequences that it makes of rows.

mod encoded;
mod part;
mod sequence;
mod special_tokens;
mod text_encoder;
mod tokenizer_json;

pub use encoded::Encoded;
pub use sequence::Join;
pub use text_encoder::TextEncoder;
pub use tokenizer_json::bert_tokenizer;
