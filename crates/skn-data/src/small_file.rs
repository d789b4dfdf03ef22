//! Small files beside the data: tasks, and what says where the data are and what is in them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use skn_artifact::{BYTE_ORDER_MARK, Foreign, Wanted};

use crate::error::{DataError, Result};

/// A JSON or TOML file that says how data lie is not longer.
const MOST_BESIDE: u64 = 64 << 20;

/// The bytes of a file that says how data lie, without the mark that programs on Windows put before text.
pub(crate) fn read_bytes(path: &Path, file: &str) -> Result<Vec<u8>> {
    let wrong = |source| DataError::Io { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(wrong)?.take(MOST_BESIDE + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > MOST_BESIDE {
        return Err(DataError::Malformed {
            file: file.to_owned(),
            place: format!("byte {MOST_BESIDE}"),
            reason: "expected the end of the file; no file of this kind is longer".to_owned(),
        });
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(bytes)
}

/// Says what a file is that can't be text.
pub(crate) fn refuse_foreign(bytes: &[u8], file: &str) -> Result<()> {
    match Foreign::of(bytes) {
        None => Ok(()),
        Some(found) => Err(DataError::Malformed {
            file: file.to_owned(),
            place: "byte 0".to_owned(),
            reason: format!("expected text, found {}", found.told(Wanted::Text)),
        }),
    }
}

/// The text of a file; errors call it `file`.
pub(crate) fn read_text(path: &Path, file: &str) -> Result<String> {
    let bytes = read_bytes(path, file)?;
    refuse_foreign(&bytes, file)?;
    String::from_utf8(bytes).map_err(|error| DataError::Malformed {
        file: file.to_owned(),
        place: format!("byte {}", error.utf8_error().valid_up_to()),
        reason: "not UTF-8".to_owned(),
    })
}

/// Whether `name` is the name of one file or folder, and no way to another place.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control)
}
