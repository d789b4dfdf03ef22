//! How text files begin.

use std::io::{self, BufRead};

use skn_artifact::BYTE_ORDER_MARK;

/// Passes over a byte order mark, which Windows programs write.
pub(crate) fn skip_mark(input: &mut impl BufRead) -> io::Result<()> {
    if input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        input.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}
