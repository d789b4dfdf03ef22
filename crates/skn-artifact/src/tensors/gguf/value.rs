use std::ops::Range;

use super::cursor::Cursor;
use crate::error::Result;

/// A longer list is not of this world: the largest vocabularies have 256,000 tokens and twice as many merges.
const MAX_LIST: usize = 1 << 22;

/// What a file says under a key. Texts and lists stay where they are in the header.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Integer(i128),
    /// One of 32 bits is the number that its shortest decimal means.
    Number(f64),
    Flag(bool),
    Text(Range<usize>),
    List(List),
}

/// Values of one kind, one after another in the header.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) kind: Kind,
    pub(super) count: usize,
    pub(super) bytes: Range<usize>,
}

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Flag,
    Text,
    List,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Flag,
        Self::Text,
        Self::List,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn read(cursor: &mut Cursor<'_>, what: &dyn Fn() -> String) -> Result<Self> {
        let number = cursor.u32(what)?;
        let found = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number).copied());
        found.ok_or_else(|| cursor.wrong(what(), "a kind of value from 0 to 12", number))
    }

    /// Bytes of a value that has always as many.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Flag => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::List => None,
        }
    }
}

impl Value {
    /// The next value. `what` names its key in an error.
    pub(super) fn read(cursor: &mut Cursor<'_>, what: &dyn Fn() -> String) -> Result<Self> {
        Ok(match Kind::read(cursor, what)? {
            Kind::Text => Self::Text(cursor.string(what)?),
            Kind::List => Self::List(List::read(cursor, what)?),
            kind => {
                let range = cursor.take(kind.size().unwrap_or_default(), what)?;
                let bytes = cursor.bytes.get(range).unwrap_or_default();
                Self::of(kind, bytes).ok_or_else(|| cursor.wrong(what(), "0 or 1", format!("{bytes:?}")))?
            }
        })
    }

    /// A value by its bytes; nothing for a flag that is neither 0 nor 1.
    pub(super) fn of(kind: Kind, bytes: &[u8]) -> Option<Self> {
        fn part<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
            bytes.first_chunk().copied()
        }
        Some(match kind {
            Kind::U8 => Self::Integer(u8::from_le_bytes(part(bytes)?).into()),
            Kind::I8 => Self::Integer(i8::from_le_bytes(part(bytes)?).into()),
            Kind::U16 => Self::Integer(u16::from_le_bytes(part(bytes)?).into()),
            Kind::I16 => Self::Integer(i16::from_le_bytes(part(bytes)?).into()),
            Kind::U32 => Self::Integer(u32::from_le_bytes(part(bytes)?).into()),
            Kind::I32 => Self::Integer(i32::from_le_bytes(part(bytes)?).into()),
            Kind::U64 => Self::Integer(u64::from_le_bytes(part(bytes)?).into()),
            Kind::I64 => Self::Integer(i64::from_le_bytes(part(bytes)?).into()),
            Kind::F32 => Self::Number(decimal(f32::from_le_bytes(part(bytes)?))),
            Kind::F64 => Self::Number(f64::from_le_bytes(part(bytes)?)),
            Kind::Flag => match bytes {
                [0] => Self::Flag(false),
                [1] => Self::Flag(true),
                _ => return None,
            },
            Kind::Text | Kind::List => return None,
        })
    }
}

/// What was written as 0.00001 in a file of text is 0.00001 again.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

impl List {
    fn read(cursor: &mut Cursor<'_>, what: &dyn Fn() -> String) -> Result<Self> {
        let kind = Kind::read(cursor, what)?;
        if kind == Kind::List {
            return Err(cursor.wrong(what(), "a list of numbers or texts", "a list of lists"));
        }
        // A text takes eight bytes for its length.
        let count = cursor.count(kind.size().unwrap_or(8), what)?;
        if count > MAX_LIST {
            return Err(cursor.wrong(what(), format!("a list of at most {MAX_LIST} values"), count));
        }
        let start = cursor.place;
        match kind.size() {
            Some(size) => {
                cursor.take(count * size, what)?;
            }
            None => {
                for _ in 0..count {
                    cursor.string(what)?;
                }
            }
        }
        Ok(Self { kind, count, bytes: start..cursor.place })
    }
}
