use crate::foreign::{BYTE_ORDER_MARK, Foreign, Wanted};

/// Bytes that are no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct NotText {
    /// Where in them: a byte from 0, or a line from 1.
    pub place: String,
    /// What they are, and what to do about it.
    pub reason: String,
}

/// The text of a file, without the mark that programs on Windows put before it.
///
/// # Errors
/// If it is a file of another kind, or in another encoding than UTF-8.
pub fn text_of(bytes: &[u8]) -> Result<&str, NotText> {
    if let Some(found) = Foreign::of(bytes) {
        let reason = format!("expected text, found {}", found.told(Wanted::Text));
        return Err(NotText { place: "byte 0".into(), reason });
    }
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        NotText { place: format!("line {line}"), reason: not_utf8(bytes).unwrap_or_default() }
    })
}

/// What is said of bytes that are not UTF-8; nothing if they are.
pub fn not_utf8(bytes: &[u8]) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_or_what_it_is_instead() {
        assert_eq!(text_of(b"\xef\xbb\xbfa\xc3\xa9\n"), Ok("aé\n"));
        let refused = |bytes: &[u8]| text_of(bytes).unwrap_err().to_string();
        assert!(
            refused(b"a\0b\0c\0d\0").starts_with("byte 0: expected text, found text in UTF-16; convert it")
        );
        assert_eq!(
            refused(b"one\ncaf\xe9 au lait\n"),
            "line 2: not UTF-8 (byte 0xE9); it is probably in Windows-1252 (Latin-1): convert it with `iconv -f WINDOWS-1252 -t \
             UTF-8`"
        );
        // Two letters in a row may be Western, three are a word of another script.
        let guess = |bytes: &[u8]| not_utf8(bytes).unwrap().contains("WINDOWS-1252");
        assert!(guess(b"na\xef\xe9 x") && !guess(b"\xef\xf0\xe8\xe2\xe5\xf2 x"));
        assert!(!guess(b"x \xef\xf0\xe8"));
        assert_eq!(not_utf8("é".as_bytes()), None);
    }
}
