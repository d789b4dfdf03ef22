//! Blocks of a GGUF file as floats.

use std::borrow::Cow;

use candle_core::CpuStorage;
use candle_core::backend::BackendStorage;
use candle_core::quantized::GgmlDType;
use skn_artifact::BlockType;

use crate::error::{ModelError, Result};

/// The types that are read, as candle calls them. Q8_1 and Q8_K are of products, and no file has them; of the others that ggml knows
/// candle knows nothing.
const READ: [(&str, GgmlDType); 13] = [
    ("F32", GgmlDType::F32),
    ("F16", GgmlDType::F16),
    ("BF16", GgmlDType::BF16),
    ("Q4_0", GgmlDType::Q4_0),
    ("Q4_1", GgmlDType::Q4_1),
    ("Q5_0", GgmlDType::Q5_0),
    ("Q5_1", GgmlDType::Q5_1),
    ("Q8_0", GgmlDType::Q8_0),
    ("Q2_K", GgmlDType::Q2K),
    ("Q3_K", GgmlDType::Q3K),
    ("Q4_K", GgmlDType::Q4K),
    ("Q5_K", GgmlDType::Q5K),
    ("Q6_K", GgmlDType::Q6K),
];

/// Whether blocks of this type are read.
pub(super) fn is_read(kind: BlockType) -> bool {
    dtype(kind).is_some()
}

/// The names of the types that are read.
pub(super) fn names() -> String {
    READ.map(|(name, _)| name).join(", ")
}

/// Appends the numbers of some whole blocks, which begin at a multiple of 8 bytes in memory.
pub(super) fn append(kind: BlockType, bytes: &[u8], values: &mut Vec<f32>) -> Result<()> {
    let Some(dtype) = dtype(kind) else {
        return Err(ModelError::input("blocks", format!("one of {}", names()), kind.name()));
    };
    let numbers = bytes.len() / kind.bytes() * kind.numbers();
    match dtype.from_data(Cow::Borrowed(bytes)).dequantize(numbers)? {
        CpuStorage::F32(found) => values.extend_from_slice(&found),
        other => {
            return Err(ModelError::input("blocks", "floats of 32 bits", format!("{:?}", other.dtype())));
        }
    }
    Ok(())
}

fn dtype(kind: BlockType) -> Option<GgmlDType> {
    let found = READ.iter().find(|(name, _)| *name == kind.name()).map(|(_, dtype)| *dtype)?;
    // What candle takes a block for must be as large.
    (found.block_size() == kind.numbers() && found.type_size() == kind.bytes()).then_some(found)
}
