//! Damage to a file's bytes, decided by a number.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::ops::Range;

use skn_random::{Key, Purpose, Rng};

/// A damaged copy. The same number gives the same damage.
pub fn mutant(whole: &[u8], number: u64) -> Vec<u8> {
    let mut dice = Dice::of(number);
    let mut bytes = whole.to_vec();
    for _ in 0..=dice.below(3) {
        if bytes.is_empty() {
            break;
        }
        damage(&mut bytes, &mut dice);
    }
    bytes
}

/// Choices that a number decides.
pub struct Dice(Rng);

impl Dice {
    /// The same number gives the same choices.
    pub fn of(number: u64) -> Self {
        Self(Key::new(number, Purpose::Corpus).rng())
    }

    /// A number below `most`; 0 if that is 0.
    pub fn below(&mut self, most: usize) -> usize {
        self.0.below(most.max(1))
    }

    /// A piece of something of this length: short, or up to all that follows.
    pub fn range(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length);
        let longest = if self.below(4) == 0 { length - start } else { 16.min(length - start) };
        start..start + self.below(longest + 1)
    }

    /// One of them.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// One damage.
pub fn damage(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let place = dice.below(bytes.len());
    match dice.below(9) {
        0 | 1 => bytes[place] ^= 1 << dice.below(8),
        2 => bytes[place] = dice.one_of(&[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'\n', b',']),
        3 => bytes.truncate(place),
        4 => drop(bytes.drain(dice.range(bytes.len()))),
        5 => {
            let piece = bytes[dice.range(bytes.len())].to_vec();
            bytes.splice(place..place, piece);
        }
        6 => {
            let piece = bytes[dice.range(bytes.len())].to_vec();
            let end = bytes.len().min(place + piece.len());
            bytes.splice(place..end, piece);
        }
        7 => swap_number(bytes, place, dice),
        _ => edit_length(bytes, dice),
    }
}

/// Another number in the place of the next one that is written in digits.
fn swap_number(bytes: &mut Vec<u8>, from: usize, dice: &mut Dice) {
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|start| from + start) else {
        return;
    };
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let other = dice.one_of(&[
        "0",
        "-1",
        "1",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "1e308",
        "1e999",
        "\"12\"",
        "null",
        "[]",
        "0.5",
        "100000000",
    ]);
    bytes.splice(start..start + length, other.bytes());
}

/// A number of 2, 4 or 8 bytes, as lengths and offsets are kept, at the beginning, at the end or anywhere.
fn edit_length(bytes: &mut [u8], dice: &mut Dice) {
    let size = dice.one_of(&[2, 4, 8]);
    let Some(last) = bytes.len().checked_sub(size) else { return };
    let near = last.min(256);
    let place = match dice.below(3) {
        0 => dice.below(near + 1),
        1 => last - dice.below(near + 1),
        _ => dice.below(last + 1),
    };
    let place = if dice.below(2) == 0 { place & !(size - 1) } else { place };
    let number = dice.one_of(&[
        0,
        1,
        0x7f,
        0xff,
        0x7fff,
        0xffff,
        0x7fff_ffff,
        0xffff_ffff,
        1 << 30,
        i64::MAX as u64,
        u64::MAX,
        1 << 40,
    ]);
    bytes[place..place + size].copy_from_slice(&number.to_le_bytes()[..size]);
}
