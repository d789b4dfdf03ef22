use std::ops::Range;
use std::path::Path;

use crate::error::{ArtifactError, Result};
use crate::tensors::storage::Storage;

/// A header above this size is not of this world: a vocabulary of 256,000 tokens takes some 10 MB.
const MAX_HEADER: usize = 1 << 27;

/// Bytes that are read at least when more of the header is needed.
const PIECE: usize = 1 << 20;

/// The header of a file, as far as it has been read.
pub(super) struct Cursor<'s> {
    path: &'s Path,
    storage: &'s Storage,
    /// Bytes of the whole file.
    length: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) place: usize,
}

impl<'s> Cursor<'s> {
    pub(super) fn new(path: &'s Path, storage: &'s Storage, length: usize) -> Self {
        Self { path, storage, length, bytes: Vec::new(), place: 0 }
    }

    /// How many bytes a header can go on for.
    pub(super) fn left(&self) -> usize {
        self.length.min(MAX_HEADER).saturating_sub(self.place)
    }

    /// The place of the next bytes, which are `what` for an error, and goes behind them.
    pub(super) fn take(&mut self, count: usize, what: &dyn Fn() -> String) -> Result<Range<usize>> {
        if count > self.left() {
            let end = match self.length <= MAX_HEADER {
                true => "the end of the GGUF file".to_owned(),
                false => format!("the {MAX_HEADER} that the header of a GGUF file may have"),
            };
            let found = format!("{} up to {end}", self.left());
            return Err(self.wrong(what(), format!("{count} bytes"), found));
        }
        let range = self.place..self.place + count;
        if range.end > self.bytes.len() {
            let end = range.end.max(self.bytes.len() + PIECE).min(self.length);
            let more = self.storage.bytes(self.path, self.bytes.len()..end)?;
            self.bytes.extend_from_slice(&more);
        }
        self.place = range.end;
        Ok(range)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &dyn Fn() -> String) -> Result<[u8; N]> {
        let range = self.take(N, what)?;
        Ok(self.bytes.get(range).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N]))
    }

    pub(super) fn u32(&mut self, what: &dyn Fn() -> String) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &dyn Fn() -> String) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A count of things of which each takes at least so many bytes.
    pub(super) fn count(&mut self, least: usize, what: &dyn Fn() -> String) -> Result<usize> {
        let count = self.u64(what)?;
        let most = self.left() / least;
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| {
            self.wrong(what(), format!("a count of at most {most}, for which the GGUF file has bytes"), count)
        })
    }

    /// The place of a string: its length, then its bytes.
    pub(super) fn string(&mut self, what: &dyn Fn() -> String) -> Result<Range<usize>> {
        let length = self.count(1, what)?;
        self.take(length, what)
    }

    /// A string that is text.
    pub(super) fn text(&mut self, what: &dyn Fn() -> String) -> Result<String> {
        let range = self.string(what)?;
        let bytes = self.bytes.get(range).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => {
                Err(self.wrong(what(), "text in UTF-8", format!("{:?}", String::from_utf8_lossy(bytes))))
            }
        }
    }

    pub(super) fn wrong(
        &self,
        place: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
    ) -> ArtifactError {
        ArtifactError::format(self.path, place, expected, found)
    }
}
