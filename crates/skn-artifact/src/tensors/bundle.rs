use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::array::{Array, Data};
use crate::error::Result;
use crate::hash::to_hex;
use crate::names::{key, schema};

/// Tensors on their way into a file, with what the file says of itself. The same content always gives the same bytes.
///
/// ```
/// use skn_artifact::{Array, TensorBundle, TensorFile};
///
/// let mut bundle = TensorBundle::new();
/// bundle.insert("mask", Array::bool(vec![1, 3], vec![true, false, true])?);
/// bundle.describe("skn.kind", "mask");
/// let file = TensorFile::from_bytes("mask.safetensors".as_ref(), bundle.to_bytes()?)?;
/// assert_eq!(file.bool("mask", Some(&[1, 3]))?.1, [true, false, true]);
/// # Ok::<(), skn_artifact::ArtifactError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TensorBundle {
    tensors: BTreeMap<String, Array>,
    metadata: BTreeMap<String, String>,
    schema: u32,
}

impl Default for TensorBundle {
    fn default() -> Self {
        Self { tensors: BTreeMap::new(), metadata: BTreeMap::new(), schema: schema::FIRST }
    }
}

impl TensorBundle {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor; one of the same name is replaced.
    pub fn insert(&mut self, name: impl Into<String>, array: Array) -> &mut Self {
        self.tensors.insert(name.into(), array);
        self
    }

    /// Adds a line to what the file says of itself.
    pub fn describe(&mut self, key: impl Into<String>, value: impl ToString) -> &mut Self {
        self.metadata.insert(key.into(), value.to_string());
        self
    }

    /// Says which version of its form the file has, where that is not the first. What is copied from another file's metadata
    /// does not change it.
    pub fn in_schema(&mut self, schema: u32) -> &mut Self {
        self.schema = schema;
        self
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Array> {
        &self.tensors
    }

    /// The bytes of the safetensors file: metadata and tensors in the order of their names, data aligned to 8 bytes.
    /// `format`, `skn.schema` and `skn.version` are added to the metadata.
    ///
    /// # Errors
    /// If the header can't be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.tensors.values().map(Array::size).sum());
        self.write(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Hands on the same bytes piece by piece: for a file that is larger than memory should be.
    ///
    /// # Errors
    /// Those of `write`, and of a tensor whose bytes can't be made or are not as many as its shape says.
    pub fn write(&self, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut header = self.header().to_string().into_bytes();
        // The header is padded with spaces so that the data begins at a multiple of 8.
        header.resize(header.len().next_multiple_of(8), b' ');
        write(&(header.len() as u64).to_le_bytes())?;
        write(&header)?;
        self.tensors.values().try_for_each(|tensor| tensor.write(write))
    }

    /// The SHA-256 of the same bytes.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn sha256(&self) -> Result<String> {
        let mut hash = Sha256::new();
        self.write(&mut |piece| {
            hash.update(piece);
            Ok(())
        })?;
        Ok(to_hex(&hash.finalize()))
    }

    /// Whether a tensor's bytes are made while they are written, so that the file should not be made in memory.
    pub fn is_made_in_pieces(&self) -> bool {
        self.tensors.values().any(|tensor| matches!(tensor.data(), Data::Pieces(_)))
    }

    fn header(&self) -> Value {
        let mut metadata = self.metadata.clone();
        metadata.insert("format".into(), "pt".into());
        metadata.insert(key::SCHEMA.into(), self.schema.to_string());
        metadata.insert(key::VERSION.into(), env!("CARGO_PKG_VERSION").into());
        let mut header = Map::new();
        header.insert("__metadata__".into(), serde_json::json!(metadata));
        let mut place = 0;
        for (name, array) in &self.tensors {
            let offsets = [place, place + array.size()];
            place += array.size();
            let entry = serde_json::json!({
                "dtype": array.dtype().name(), "shape": array.shape(), "data_offsets": offsets,
            });
            header.insert(name.clone(), entry);
        }
        Value::Object(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_not_copied_with_metadata() {
        let mut bundle = TensorBundle::new();
        bundle.describe("skn.schema", 7);
        let schema = |bundle: &TensorBundle| {
            let file = crate::TensorFile::from_bytes("a".as_ref(), bundle.to_bytes().unwrap()).unwrap();
            file.metadata()["skn.schema"].clone()
        };
        assert_eq!(schema(&bundle), "1");
        assert_eq!(schema(bundle.in_schema(2)), "2");
    }

    #[test]
    fn tensors_made_in_pieces_are_those_in_memory() {
        let of = |array: Array| {
            let mut bundle = TensorBundle::new();
            bundle.insert("bits", array).insert("label", Array::i64(vec![1], vec![3]).unwrap());
            bundle
        };
        let whole = of(Array::u8(vec![5, 3], (0..15).collect()).unwrap());
        let in_pieces = |until: u8| {
            let pieces = move |write: &mut dyn FnMut(&[u8]) -> Result<()>| {
                (0..until).collect::<Vec<u8>>().chunks(4).try_for_each(write)
            };
            of(Array::u8_pieces(vec![5, 3], pieces).unwrap())
        };
        let pieces = in_pieces(15);
        assert_eq!(pieces.to_bytes().unwrap(), whole.to_bytes().unwrap());
        assert_eq!(pieces.sha256().unwrap(), crate::sha256_hex(&whole.to_bytes().unwrap()));
        assert!(pieces.is_made_in_pieces() && !whole.is_made_in_pieces());
        for (until, found) in [(12, "found 12"), (17, "found 16")] {
            let message = in_pieces(until).to_bytes().unwrap_err().to_string();
            assert!(message.contains("expected 15") && message.contains(found), "{message}");
        }
    }

    #[test]
    fn the_safetensors_crate_reads_what_is_written() {
        let mut bundle = TensorBundle::new();
        bundle.insert("b", Array::f32(vec![2, 2], vec![1.0, -2.5, f32::MAX, 0.0]).unwrap());
        bundle.insert("a", Array::i64(vec![1], vec![-7]).unwrap());
        bundle.describe("skn.kind", "sample");
        let bytes = bundle.to_bytes().unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("b").unwrap().shape(), [2, 2]);
        assert_eq!(file.tensor("a").unwrap().data(), (-7i64).to_le_bytes());
    }
}
