use std::io::Read;

use proptest::prelude::*;

use super::Quotes;

proptest! {
    /// What follows the quotes must see the records that the library sees.
    #[test]
    fn quotes_are_followed_as_the_library_follows_them(bytes in "[\",\\n\\r ab]{0,40}") {
        let expected: Vec<u64> = records_by_hand(bytes.as_bytes());
        let mut quotes = Quotes::new(bytes.as_bytes(), b',', 1);
        let mut handed_on = String::new();
        let whole = quotes.read_to_string(&mut handed_on).is_ok();
        let starts: Vec<u64> = std::iter::from_fn(|| quotes.next_start()).collect();
        if whole {
            prop_assert_eq!(&handed_on, &bytes);
            prop_assert_eq!(starts, expected);
        } else {
            prop_assert!(quotes.fault().is_some());
        }
    }
}

/// The line of each record, by where the library says that it ends and what blank lines come before it.
fn records_by_hand(bytes: &[u8]) -> Vec<u64> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut starts = Vec::new();
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).unwrap() {
        let from = record.position().unwrap().byte() as usize;
        let blanks = bytes[from..].iter().take_while(|byte| b"\r\n".contains(byte)).count();
        starts.push(line_at(bytes, from + blanks));
    }
    starts
}

/// The line of a byte outside of quotes.
fn line_at(bytes: &[u8], place: usize) -> u64 {
    let (mut line, mut quoted, mut at) = (1, false, 0);
    let mut field = true;
    while at < place {
        let byte = bytes[at];
        let next = bytes.get(at + 1).copied();
        match byte {
            b'"' if quoted && next == Some(b'"') => at += 1,
            b'"' if quoted => quoted = false,
            b'"' if field => quoted = true,
            b'\n' => line += 1,
            b'\r' if !quoted && next != Some(b'\n') => line += 1,
            _ => {}
        }
        field = !quoted && b",\r\n".contains(&byte);
        at += 1;
    }
    line
}
