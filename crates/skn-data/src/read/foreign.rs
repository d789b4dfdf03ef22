//! Files that are something else than their names say.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use skn_artifact::{Foreign, Wanted, open_regular};

use super::folder::shown;
use super::row_decoder::RowDecoder;
use crate::error::{DataError, Result};
use crate::format::Format;

/// Refuses what is known to be another form than `format`, and says how to convert it.
pub(super) fn refuse(start: &[u8], format: Format, decoder: &RowDecoder<'_>) -> Result<()> {
    match Foreign::of(start) {
        Some(Foreign::Parquet) if format == Format::Parquet => Ok(()),
        Some(found) => {
            Err(decoder.malformed("byte 0", format!("expected {format}, found {}", found.told(Wanted::Data))))
        }
        None => Ok(()),
    }
}

/// How a file begins; it is then read from the beginning again.
pub(crate) fn start_of(file: &mut File) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    file.by_ref().take(Foreign::LOOKED_AT as u64).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start)
}

/// What a file is whose name says nothing, if it is known.
pub(super) fn of_file(path: &Path) -> Result<Option<Foreign>> {
    let start = open_regular(path).and_then(|mut file| start_of(&mut file));
    let start = start.map_err(|source| DataError::Io { file: shown(path), source })?;
    Ok(Foreign::of(&start))
}
