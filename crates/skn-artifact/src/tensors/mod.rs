//! Safetensors files: read and checked, made, and hashed. GGUF files: read and checked.

mod bundle;
mod decode;
mod digest;
mod gguf;
mod header;
mod storage;
mod tensor_file;

pub use bundle::TensorBundle;
pub use digest::{TensorDigest, hash_of_digests, tensor_hash};
pub use gguf::{BlockType, GgufFile};
pub use tensor_file::{TensorFile, file_hash};
