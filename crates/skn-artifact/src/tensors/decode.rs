use half::{bf16, f16};

use crate::array::DType;

/// Appends floats of any type as f32.
pub(super) fn decode_floats(dtype: DType, bytes: &[u8], values: &mut Vec<f32>) {
    fn each<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, from: impl Fn([u8; N]) -> f32) {
        values.extend(bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)));
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is rounded")]
    let rounded = |bytes| f64::from_le_bytes(bytes) as f32;
    match dtype {
        DType::F64 => each(bytes, values, rounded),
        DType::F16 => each(bytes, values, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DType::BF16 => each(bytes, values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => each(bytes, values, f32::from_le_bytes),
    }
}

pub(super) fn decode<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

/// Numbers whose bytes were read as they lie in a file.
pub(super) fn to_native(values: &mut [f32]) {
    if cfg!(target_endian = "big") {
        values.iter_mut().for_each(|value| *value = f32::from_bits(value.to_bits().swap_bytes()));
    }
}
