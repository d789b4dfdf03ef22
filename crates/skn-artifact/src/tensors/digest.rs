use sha2::{Digest, Sha256};

use crate::array::DType;
use crate::hash::to_hex;
use crate::tensors::header::StoredType;

/// SHA-256 of a tensor's data, with what else [`tensor_hash`] takes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDigest {
    pub(super) name: String,
    pub(super) dtype: StoredType,
    pub(super) shape: Vec<usize>,
    pub(super) sha256: [u8; 32],
}

impl TensorDigest {
    /// The tensor's name in its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether another tensor has the same type, shape and data.
    pub fn same_data(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.sha256 == other.sha256
    }
}

/// The hash of a set of tensors, the same for one file and for shards (`skn.model_sha256`): SHA-256 over, for each
/// tensor in the order of names, the length of the name (u64, little-endian), the name, the length of the dtype's
/// name, the dtype's name, the number of dimensions, each dimension (u64), and the 32 bytes of the data's SHA-256.
pub fn tensor_hash<'a>(tensors: impl IntoIterator<Item = (&'a str, DType, &'a [usize], &'a [u8])>) -> String {
    let digest = |(name, dtype, shape, data): (&str, _, &[usize], &[u8])| TensorDigest {
        name: name.into(),
        dtype: StoredType::Known(dtype),
        shape: shape.into(),
        sha256: Sha256::digest(data).into(),
    };
    hash_of_digests(tensors.into_iter().map(digest).collect())
}

/// The [`tensor_hash`] of tensors whose data were looked at before, in any order.
pub fn hash_of_digests(mut tensors: Vec<TensorDigest>) -> String {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hash = Sha256::new();
    for TensorDigest { name, dtype, shape, sha256 } in tensors {
        for text in [name.as_str(), dtype.name()] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        }
        hash.update((shape.len() as u64).to_le_bytes());
        shape.iter().for_each(|&size| hash.update((size as u64).to_le_bytes()));
        hash.update(sha256);
    }
    to_hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_does_not_depend_on_the_order() {
        let (a, b) =
            (("a", DType::U8, &[1usize][..], &[1u8][..]), ("b", DType::U8, &[2usize][..], &[2u8, 3][..]));
        assert_eq!(tensor_hash([a, b]), tensor_hash([b, a]));
        assert_ne!(tensor_hash([a]), tensor_hash([b]));
    }
}
