//! Small files beside the data: tasks, and what says where the data are and what is in them.

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use std::path::Path;

use skn_artifact::{BYTE_ORDER_MARK, Foreign, NotText, Wanted, read_regular, text_of};

use crate::error::{DataError, Result};

/// A JSON or TOML file that says how data lie is not longer.
const MOST_BESIDE: u64 = 64 << 20;

/// The bytes of a file that says how data lie, without the mark that programs on Windows put before text.
pub(crate) fn read_bytes(path: &Path, file: &str) -> Result<Vec<u8>> {
    let mut bytes =
        read_regular(path, MOST_BESIDE).map_err(|source| DataError::Io { file: file.to_owned(), source })?;
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
    match text_of(&bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(NotText { place, reason }) => Err(DataError::Malformed { file: file.to_owned(), place, reason }),
    }
}

/// Whether `name` is the name of one file or folder, and no way to another place.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control)
}
