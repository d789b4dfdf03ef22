use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::error::{ArtifactError, Result};
#[cfg(not(unix))]
use crate::file::open;

/// Where a file's bytes are.
#[derive(Clone, Debug)]
pub(super) enum Storage {
    Memory(Cow<'static, [u8]>),
    File(Arc<File>),
}

impl Storage {
    pub(super) fn len(&self, path: &Path) -> Result<usize> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len()),
            Self::File(file) => {
                let length = file.metadata().map_err(ArtifactError::io(path, "read"))?.len();
                usize::try_from(length).map_err(|_| {
                    ArtifactError::format(path, "size", format!("at most {} bytes", usize::MAX), length)
                })
            }
        }
    }

    pub(super) fn bytes(&self, path: &Path, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Memory(bytes) => match bytes.get(range.clone()) {
                Some(bytes) => Ok(Cow::Borrowed(bytes)),
                None => Err(ArtifactError::format(
                    path,
                    "size",
                    format!("at least {} bytes", range.end),
                    bytes.len(),
                )),
            },
            Self::File(file) => {
                let mut bytes = vec![0; range.len()];
                read_at(file, path, range.start, &mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// Fills `bytes` with what lies at `place` of the file. Several threads may do it at once.
#[cfg(unix)]
pub(super) fn read_at(file: &File, path: &Path, place: usize, bytes: &mut [u8]) -> Result<()> {
    let read = std::os::unix::fs::FileExt::read_exact_at(file, bytes, place as u64);
    read.map_err(ArtifactError::io(path, "read"))
}

/// Elsewhere threads would share the place in an open file, so each reading opens it anew.
#[cfg(not(unix))]
pub(super) fn read_at(_: &File, path: &Path, place: usize, bytes: &mut [u8]) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = open(path)?;
    let sought = file.seek(SeekFrom::Start(place as u64));
    sought.and_then(|_| file.read_exact(bytes)).map_err(ArtifactError::io(path, "read"))
}
