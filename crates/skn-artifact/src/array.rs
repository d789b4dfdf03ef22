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
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
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
            Data::I32(_) => DType::I32,
            Data::I64(_) => DType::I64,
            Data::F32(_) => DType::F32,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match &self.data {
            Data::Bool(values) => values.iter().map(|&value| u8::from(value)).collect(),
            Data::I32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Data::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// The product of a shape, unless it overflows.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))
}
