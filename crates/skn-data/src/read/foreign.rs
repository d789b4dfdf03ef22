//! Files that are something else than their names say.

use super::row_decoder::RowDecoder;
use crate::error::Result;
use crate::format::Format;

/// Bytes at the start of a file that tell what it is.
pub(super) const LOOKED_AT: u64 = 16;

/// Refuses what is known to be another form than `format`, and says how to convert it.
pub(super) fn refuse(start: &[u8], format: Format, decoder: &RowDecoder<'_>) -> Result<()> {
    let pandas = "load it in Python, if you trust it, and write it with DataFrame.to_parquet";
    let (what, how) = match start {
        // Protocol 2 and later; every other form of ours begins with a printable character, a blank or 0xff.
        [0x80, 2..=5, ..] => ("a Python pickle, which may run code", pandas),
        [b'P', b'K', 3, 4, ..] => ("a zip file", "unpack it, and give the folder or file inside"),
        [b'G', b'G', b'U', b'F', ..] => {
            ("a GGUF model", "data are Arrow, Parquet, CSV, JSON or JSON Lines files")
        }
        [0x1f, 0x8b, ..] => ("a gzip file", "unpack it with gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("a zstd file", "unpack it with unzstd"),
        [b'A', b'R', b'R', b'O', b'W', b'1', 0, 0, ..] => (
            "an Arrow file with a footer (Feather)",
            "streams are read: write it with pyarrow.ipc.new_stream, or with pyarrow.parquet",
        ),
        [b'P', b'A', b'R', b'1', ..] if format != Format::Parquet => {
            ("a Parquet file", "give it the extension .parquet")
        }
        _ => return Ok(()),
    };
    Err(decoder.malformed("byte 0", format!("expected {format}, found {what}; {how}")))
}
