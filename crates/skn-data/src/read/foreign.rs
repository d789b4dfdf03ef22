//! Files that are something else than their names say.

use skn_artifact::{Foreign, Wanted};

use super::row_decoder::RowDecoder;
use crate::error::Result;
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
