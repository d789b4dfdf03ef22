use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{ArtifactError, Result};
use crate::regular::open_regular;

/// SHA-256 of bytes, as 64 hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, as 64 hexadecimal digits.
///
/// # Errors
/// If it can't be read.
pub fn hash_file(path: &Path) -> Result<String> {
    read_hashed(path, &mut |_| Ok(()))
}

/// Reads a file a piece at a time, hands each on, and gives the SHA-256 of all.
pub(crate) fn read_hashed(path: &Path, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<String> {
    let mut file = open_regular(path).map_err(ArtifactError::io(path, "open"))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(ArtifactError::io(path, "read"))? {
            0 => return Ok(to_hex(&hash.finalize())),
            #[expect(clippy::indexing_slicing, reason = "no more is read than there is room for")]
            count => {
                hash.update(&buffer[..count]);
                each(&buffer[..count])?;
            }
        }
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
