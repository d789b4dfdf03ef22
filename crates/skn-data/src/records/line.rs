//! Lines as they come.

use std::io::BufRead;

use super::record::BadRecord;

/// The longest line that is read, in bytes, and the longest record of delimited values.
pub(super) const LONGEST: usize = 64 << 20;

/// A line without its end.
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
}

impl Line {
    /// Whether there are blanks in it alone.
    pub(super) fn is_blank(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }
}

/// The lines of an input. An input that can't be read ends with an error.
pub(super) struct Lines<R> {
    input: R,
    number: u64,
    done: bool,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0, done: false }
    }

    /// Reads up to the end of a line. Of one that is too long nothing is kept, and its length is given.
    fn read(&mut self) -> std::io::Result<Option<Result<Vec<u8>, usize>>> {
        let (mut line, mut length) = (Vec::new(), 0usize);
        loop {
            let bytes = match self.input.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            if bytes.is_empty() {
                return Ok(match length {
                    0 => None,
                    length if length > LONGEST => Some(Err(length)),
                    _ => Some(Ok(line)),
                });
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |end| end + 1);
            length = length.saturating_add(taken);
            match length > LONGEST {
                true => line = Vec::new(),
                false => line.extend_from_slice(bytes.get(..taken).unwrap_or_default()),
            }
            self.input.consume(taken);
            if end.is_some() {
                return Ok(Some(if length > LONGEST { Err(length) } else { Ok(line) }));
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<Line, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let read = self.read();
        self.number += 1;
        match read {
            Ok(None) => {
                self.done = true;
                None
            }
            Ok(Some(Ok(mut bytes))) => {
                for end in [b'\n', b'\r'] {
                    if bytes.last() == Some(&end) {
                        bytes.pop();
                    }
                }
                Some(Ok(Line { number: self.number, bytes }))
            }
            Ok(Some(Err(length))) => {
                let reason = format!("expected a line of at most {LONGEST} bytes, found {length}");
                Some(Err(BadRecord::new(self.number, reason)))
            }
            Err(error) => {
                self.done = true;
                Some(Err(BadRecord::ending(self.number, error.to_string())))
            }
        }
    }
}
