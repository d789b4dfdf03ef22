use candle_core::Tensor;
use skn_artifact::{DType, tensor_hash};

use crate::error::Result;

/// The [`tensor_hash`] of tensors of 32-bit floats.
pub(crate) fn hash_of_values<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<String> {
    let mut stored = Vec::new();
    for (name, tensor) in tensors {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        stored.push((name, tensor.dims(), bytes));
    }
    Ok(tensor_hash(stored.iter().map(|(name, shape, bytes)| (*name, DType::F32, *shape, bytes.as_slice()))))
}
