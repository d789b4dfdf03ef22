//! What a user hands in: a file, or standard input.

use std::path::{Path, PathBuf};

use anyhow::Result;
use skn_artifact::open_regular;
use skn_program::Failure;
use skn_session::Records;

/// What messages call standard input.
const STANDARD: &str = "standard input";

/// The records of a file; of standard input, if that is `-`. Of files only regular ones are read: others may have no end.
///
/// # Errors
/// If it can't be opened.
pub(crate) fn records(path: &Path) -> Result<Records> {
    if path.as_os_str() == "-" {
        return Ok(Records::Stream(STANDARD.to_owned(), Box::new(std::io::stdin())));
    }
    match open_regular(path) {
        Ok(_) => Ok(Records::File(PathBuf::from(path))),
        Err(error) => Err(Failure::input(format!(
            "{}: {error}; expected a file of texts, or - for standard input",
            path.display()
        ))),
    }
}
