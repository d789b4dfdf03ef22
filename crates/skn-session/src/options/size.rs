use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes, written with K, M or G for powers of 1024.
///
/// ```
/// use skn_session::options::Size;
///
/// assert_eq!("16G".parse(), Ok(Size(16 << 30)));
/// assert_eq!(Size(3 << 20).to_string(), "3M");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl Size {
    /// What a data set may have unless the user says otherwise.
    pub const DATA: Self = Self(4 << 30);
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
            Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
            Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.filter(|bytes| *bytes > 0).map(Self).ok_or_else(|| "expected bytes, as 500M or 16G".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "G"), (20, "M"), (10, "K"), (0, "")];
        let (shift, unit) =
            units.into_iter().find(|(shift, _)| self.0.is_multiple_of(1 << shift)).unwrap_or_default();
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for (text, size) in
            [("4G", Size::DATA), ("3M", Size(3 << 20)), ("1K", Size(1024)), ("5000", Size(5000))]
        {
            assert_eq!((text.parse(), size.to_string()), (Ok(size), text.into()));
        }
        for wrong in ["", "G", "0", "-1", "1T", "99999999999G"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
