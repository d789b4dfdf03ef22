//! What the content of a file ought to be.

use std::fmt;
use std::io::Read;
use std::path::Path;

use anyhow::Result;
use sha1::{Digest, Sha1};
use skn_artifact::{hash_file, open_regular};
use skn_program::Failure;

/// The hash by which the Hub and its cache name a content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hash {
    /// Git's name of a small file: SHA-1 over its length and its bytes
    Git(String),
    /// SHA-256 of a large one
    Sha256(String),
}

impl Hash {
    /// Reads 40 or 64 hexadecimal digits; nothing else is taken, since a hash becomes the name of a file.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            40 if hexadecimal => Some(Self::Git(text.to_string())),
            64 if hexadecimal => Some(Self::Sha256(text.to_string())),
            _ => None,
        }
    }

    /// Reads a header such as `"0123.."` or `W/"0123.."`.
    pub(crate) fn parse_etag(text: &str) -> Option<Self> {
        Self::parse(text.trim().trim_start_matches("W/").trim_matches('"'))
    }

    /// Its digits: the name of the blob.
    pub(crate) fn digits(&self) -> &str {
        match self {
            Self::Git(digits) | Self::Sha256(digits) => digits,
        }
    }

    /// The hash of the same sort that a file has.
    fn of(&self, path: &Path) -> Result<Self> {
        Ok(match self {
            Self::Git(_) => Self::Git(git_hash(path)?),
            Self::Sha256(_) => Self::Sha256(hash_file(path)?),
        })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(digits) => write!(f, "git SHA-1 {digits}"),
            Self::Sha256(digits) => write!(f, "SHA-256 {digits}"),
        }
    }
}

/// Length and hash that a content must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Bytes.
    pub(crate) size: u64,
    /// Hash.
    pub(crate) hash: Hash,
}

impl Expected {
    /// What of a file is not as it should be; nothing if all is.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn wrong_of(&self, path: &Path) -> Result<Option<String>> {
        let size = std::fs::metadata(path).map_err(unreadable(path))?.len();
        if size != self.size {
            return Ok(Some(format!("expected {} bytes, found {size}", self.size)));
        }
        let found = self.hash.of(path)?;
        Ok((found != self.hash).then(|| format!("expected {}, found {found}", self.hash)))
    }
}

/// SHA-1 of `blob LENGTH\0` and the content: what git calls a file.
fn git_hash(path: &Path) -> Result<String> {
    let mut file = open_regular(path).map_err(unreadable(path))?;
    let length = file.metadata().map_err(unreadable(path))?.len();
    let mut hash = Sha1::new();
    hash.update(format!("blob {length}\0"));
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(unreadable(path))? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> anyhow::Error + '_ {
    move |error| Failure::input(format!("{}: can't be read: {error}", path.display()))
}
