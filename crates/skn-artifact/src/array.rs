use std::fmt;
use std::sync::Arc;

use crate::error::{ArtifactError, Result};

/// The type of a tensor's elements, as safetensors names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
#[non_exhaustive]
pub enum DType {
    Bool,
    U8,
    I8,
    I16,
    I32,
    I64,
    F16,
    BF16,
    F32,
    F64,
}

impl DType {
    const ALL: [(Self, &'static str, usize); 10] = [
        (Self::Bool, "BOOL", 1),
        (Self::U8, "U8", 1),
        (Self::I8, "I8", 1),
        (Self::I16, "I16", 2),
        (Self::I32, "I32", 4),
        (Self::I64, "I64", 8),
        (Self::F16, "F16", 2),
        (Self::BF16, "BF16", 2),
        (Self::F32, "F32", 4),
        (Self::F64, "F64", 8),
    ];

    /// The name in a file's header.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|entry| entry.0 == self).map_or("?", |entry| entry.1)
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        Self::ALL.iter().find(|entry| entry.0 == self).map_or(1, |entry| entry.2)
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|entry| entry.1 == name).map(|entry| entry.0)
    }
}

/// The values of an [`Array`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it
#[non_exhaustive]
pub enum Data {
    Bool(Vec<bool>),
    U8(Vec<u8>),
    /// Bytes that are made while the file is written.
    Pieces(Pieces),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
}

/// Makes bytes and hands them on, a piece after the other.
type Make = dyn Fn(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + Send + Sync;

/// The elements of a tensor that is larger than memory should be: they are made each time that they are written.
#[derive(Clone)]
pub struct Pieces(Arc<Make>);

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pieces")
    }
}

impl PartialEq for Pieces {
    /// Whether they are made by the same function.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Numbers with a shape, in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    data: Data,
}

impl Array {
    /// 32-bit floats.
    ///
    /// # Errors
    /// If there are not as many values as the shape says.
    pub fn f32(shape: Vec<usize>, values: Vec<f32>) -> Result<Self> {
        Self::new(shape, values.len(), Data::F32(values))
    }

    /// 64-bit integers.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn i64(shape: Vec<usize>, values: Vec<i64>) -> Result<Self> {
        Self::new(shape, values.len(), Data::I64(values))
    }

    /// 32-bit integers.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn i32(shape: Vec<usize>, values: Vec<i32>) -> Result<Self> {
        Self::new(shape, values.len(), Data::I32(values))
    }

    /// Truth values.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn bool(shape: Vec<usize>, values: Vec<bool>) -> Result<Self> {
        Self::new(shape, values.len(), Data::Bool(values))
    }

    /// Bytes.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn u8(shape: Vec<usize>, values: Vec<u8>) -> Result<Self> {
        Self::new(shape, values.len(), Data::U8(values))
    }

    /// Bytes that `make` hands on in pieces, whenever they are written: the same ones each time, as many as the shape says.
    ///
    /// # Errors
    /// If the shape has no countable number of elements.
    pub fn u8_pieces(
        shape: Vec<usize>,
        make: impl Fn(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let found = elements(&shape).unwrap_or(0);
        Self::new(shape, found, Data::Pieces(Pieces(Arc::new(make))))
    }

    fn new(shape: Vec<usize>, found: usize, data: Data) -> Result<Self> {
        match elements(&shape) {
            Some(expected) if expected == found => Ok(Self { shape, data }),
            expected => {
                let expected = expected.map_or("a countable number of".into(), |count| count.to_string());
                Err(ArtifactError::Shape { shape, expected, found })
            }
        }
    }

    /// The shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match &self.data {
            Data::Bool(_) => DType::Bool,
            Data::U8(_) | Data::Pieces(_) => DType::U8,
            Data::I32(_) => DType::I32,
            Data::I64(_) => DType::I64,
            Data::F32(_) => DType::F32,
        }
    }

    /// The bytes of all elements.
    pub(crate) fn size(&self) -> usize {
        elements(&self.shape).unwrap_or(0) * self.dtype().size()
    }

    /// Hands on the bytes of all elements, in one piece or in several.
    pub(crate) fn write(&self, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        match &self.data {
            Data::Bool(values) => write(&values.iter().map(|&value| u8::from(value)).collect::<Vec<_>>()),
            Data::U8(values) => write(values),
            Data::I32(values) => {
                write(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
            }
            Data::I64(values) => {
                write(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
            }
            Data::F32(values) => {
                write(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
            }
            Data::Pieces(pieces) => self.write_pieces(pieces, write),
        }
    }

    /// A file must have as many bytes as its header says.
    fn write_pieces(&self, pieces: &Pieces, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (expected, mut found) = (self.size(), 0usize);
        let wrong = |found: usize| {
            Err(ArtifactError::Shape { shape: self.shape.clone(), expected: expected.to_string(), found })
        };
        pieces.0(&mut |piece| {
            found = found.saturating_add(piece.len());
            if found > expected { wrong(found) } else { write(piece) }
        })?;
        if found == expected { Ok(()) } else { wrong(found) }
    }
}

/// The product of a shape, unless it overflows.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}
