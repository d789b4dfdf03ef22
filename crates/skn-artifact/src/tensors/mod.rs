//! Safetensors files: read and checked, made, and hashed.

mod bundle;
mod decode;
mod digest;
mod header;
mod storage;
mod tensor_file;

pub use bundle::TensorBundle;
pub use digest::{TensorDigest, hash_of_digests, tensor_hash};
pub use tensor_file::{TensorFile, file_hash};
