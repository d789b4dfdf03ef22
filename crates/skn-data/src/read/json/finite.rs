//! Numbers that JSON does not have and Python's `json` writes nonetheless.

use std::io::{self, BufRead, Read};

const WORDS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// Hands on JSON with `null` for each `NaN`, `Infinity` and `-Infinity` outside of strings. Lines stay where they are.
pub(super) struct Finite<R> {
    input: R,
    follower: Follower,
    ready: Vec<u8>,
    taken: usize,
}

impl<R: BufRead> Finite<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, follower: Follower::default(), ready: Vec::new(), taken: 0 }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.taken = 0;
        self.ready.clear();
        // A word that is not complete yet gives nothing.
        while self.ready.is_empty() {
            let bytes = self.input.fill_buf()?;
            let length = bytes.len();
            if length == 0 {
                self.follower.end(&mut self.ready);
                break;
            }
            bytes.iter().for_each(|byte| self.follower.take(*byte, &mut self.ready));
            self.input.consume(length);
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Finite<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.ready.len() {
            self.fill()?;
        }
        let read = self.ready.get(self.taken..).unwrap_or_default().read(out)?;
        self.taken += read;
        Ok(read)
    }
}

/// The same for a piece of JSON in memory; nothing if there is no such number in it.
pub(crate) fn finite(json: &[u8]) -> Option<Vec<u8>> {
    let (mut follower, mut ready) = (Follower::default(), Vec::with_capacity(json.len()));
    json.iter().for_each(|byte| follower.take(*byte, &mut ready));
    follower.end(&mut ready);
    follower.found.then_some(ready)
}

/// Follows JSON byte by byte.
#[derive(Default)]
struct Follower {
    place: Place,
    found: bool,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Default)]
enum Place {
    #[default]
    Outside,
    Text,
    /// What stands behind a backslash in a text.
    Escape,
    /// One of the words, of which so many bytes were there.
    Word(&'static [u8], usize),
}

impl Follower {
    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        if let Place::Word(word, length) = self.place {
            if word.get(length) == Some(&byte) {
                self.lengthen(word, length + 1, out);
                return;
            }
            self.end(out);
        }
        self.place = match (self.place, byte) {
            (Place::Text, b'\\') => Place::Escape,
            (Place::Text, b'"') => Place::Outside,
            (Place::Text | Place::Escape, _) | (_, b'"') => Place::Text,
            _ => match WORDS.into_iter().find(|word| word.first() == Some(&byte)) {
                Some(word) => Place::Word(word, 1),
                None => Place::Outside,
            },
        };
        if !matches!(self.place, Place::Word(..)) {
            out.push(byte);
        }
    }

    fn lengthen(&mut self, word: &'static [u8], length: usize, out: &mut Vec<u8>) {
        self.place = Place::Word(word, length);
        if length == word.len() {
            out.extend_from_slice(b"null");
            out.extend(std::iter::repeat_n(b' ', length.saturating_sub(4)));
            (self.place, self.found) = (Place::Outside, true);
        }
    }

    /// What began like a word is none.
    fn end(&mut self, out: &mut Vec<u8>) {
        if let Place::Word(word, length) = self.place {
            out.extend_from_slice(word.get(..length).unwrap_or_default());
            self.place = Place::Outside;
        }
    }
}
