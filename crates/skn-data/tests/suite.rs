//! Files of others. One program, since each is linked anew.

mod gguf;
mod tokenizers;
