//! How text files begin, and what they are if they are not UTF-8.

use std::io::{self, BufRead};

use skn_artifact::BYTE_ORDER_MARK;

/// Passes over a byte order mark, which Windows programs write.
pub(super) fn skip_mark(input: &mut impl BufRead) -> io::Result<()> {
    if input.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        input.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}

/// What is said of bytes that are not UTF-8; nothing if they are.
pub(super) fn not_utf8(bytes: &[u8]) -> Option<String> {
    let start = std::str::from_utf8(bytes).err()?.valid_up_to();
    let wrong = bytes.get(start..).unwrap_or_default();
    // Western words have an accent here and there, others have letters of this kind alone.
    let run = wrong.iter().take_while(|byte| !byte.is_ascii()).count();
    let (guess, name) = match run {
        ..3 => ("it is probably in Windows-1252 (Latin-1)", "WINDOWS-1252"),
        _ => ("it is in another encoding, such as GB18030 or WINDOWS-1251", "ENCODING"),
    };
    let byte = wrong.first().copied().unwrap_or_default();
    Some(format!("not UTF-8 (byte 0x{byte:02X}); {guess}: convert it with `iconv -f {name} -t UTF-8`"))
}
