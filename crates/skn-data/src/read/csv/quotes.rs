//! Quotes and lines of a CSV file, followed beside the library that reads it.

use std::collections::VecDeque;
use std::io::{self, Read};

/// Hands on a CSV file, and follows its quotes as the csv library does: where records begin, counted in lines as an editor
/// counts them, and quotes that can't be meant.
pub(crate) struct Quotes<R> {
    input: R,
    delimiter: u8,
    state: State,
    /// The line that the next byte is on.
    line: u64,
    /// The line on which the last quoted field began.
    opened: u64,
    /// The byte before.
    before: u8,
    /// Whether a backslash stands before the last closing quote.
    escaped: bool,
    /// The lines on which the records began that nobody has asked for.
    starts: VecDeque<u64>,
    fault: Option<Fault>,
}

/// What can't be meant, and the line that shows it.
pub(crate) struct Fault {
    pub(crate) line: u64,
    pub(crate) reason: String,
}

/// What stands before the next byte.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing, or the end of a record.
    Record,
    /// A delimiter.
    Field,
    /// A field that did not begin with a quote.
    Bare,
    /// A field that did.
    Quoted,
    /// A quote within it, which ends it or is the first of two.
    Closed,
}

impl<R: Read> Quotes<R> {
    /// Follows `input`, which begins with line `line` of its file.
    pub(crate) fn new(input: R, delimiter: u8, line: u64) -> Self {
        let (state, starts) = (State::Record, VecDeque::new());
        Self { input, delimiter, state, line, opened: line, before: 0, escaped: false, starts, fault: None }
    }

    /// The line on which the next record begins that the library gives.
    pub(crate) fn next_start(&mut self) -> Option<u64> {
        self.starts.pop_front()
    }

    /// Why reading ended with an error, if that is the file's fault.
    pub(crate) fn fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    fn step(&mut self, byte: u8) -> Result<(), Fault> {
        let ends_line = matches!(byte, b'\r' | b'\n');
        if self.state == State::Record && !ends_line {
            self.starts.push_back(self.line);
            self.state = State::Field;
        }
        self.state = match (self.state, byte) {
            (State::Record, _) => State::Record,
            (State::Field, b'"') => {
                self.opened = self.line;
                State::Quoted
            }
            (State::Closed, b'"') => State::Quoted,
            (State::Quoted, b'"') => {
                self.escaped = self.before == b'\\';
                State::Closed
            }
            (State::Quoted, _) => State::Quoted,
            (_, byte) if byte == self.delimiter => State::Field,
            _ if ends_line => State::Record,
            (State::Closed, _) => self.beyond()?,
            _ => State::Bare,
        };
        // A line may end with \r alone, but in a text it is a character as others.
        let alone = byte == b'\n' && (self.before != b'\r' || self.state == State::Quoted);
        self.line += u64::from(alone || (byte == b'\r' && self.state != State::Quoted));
        self.before = byte;
        Ok(())
    }

    /// Text behind a closing quote: on one line it is taken with the field, as others do.
    fn beyond(&mut self) -> Result<State, Fault> {
        let Self { opened, line, .. } = *self;
        if self.escaped {
            let reason = "a backslash stands before a quote within quotes, as Spark and MySQL write it, where CSV has two \
                          quotes; in Spark, write with option(\"escape\", \"\\\"\")";
            return Err(Fault { line, reason: reason.to_owned() });
        }
        if opened == line {
            return Ok(State::Bare);
        }
        let reason = format!(
            "a quoted field begins here and ends on line {line}, where more text stands behind its closing quote; a quote \
             is missing or too many on one of these lines (within quotes, a quote is written twice)"
        );
        Err(Fault { line: opened, reason })
    }

    /// The file has ended.
    fn end(&mut self) -> Result<(), Fault> {
        if self.state != State::Quoted {
            return Ok(());
        }
        let reason = "a quote opens a field here and never closes (within quotes, a quote is written twice)";
        Err(Fault { line: self.opened, reason: reason.to_owned() })
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.fault.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.input.read(out)?;
        let mut fault = if read == 0 && !out.is_empty() { self.end().err() } else { None };
        let mut whole = 0;
        for byte in out.iter().take(read) {
            fault = self.step(*byte).err();
            if fault.is_some() {
                break;
            }
            whole += 1;
        }
        if fault.is_none() {
            return Ok(read);
        }
        self.fault = fault;
        // What stands before it is handed on first: it may say more.
        if whole > 0 { Ok(whole) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

#[cfg(test)]
mod tests;
