use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::array::DType;
use crate::error::{ArtifactError, Result};
use crate::file::open;
use crate::names::key;
use crate::tensors::decode::{decode, decode_floats, to_native};
use crate::tensors::digest::{TensorDigest, hash_of_digests};
use crate::tensors::header::{Entry, check_layout, check_schema, entry_of, header_of};
use crate::tensors::storage::{Storage, read_at};

/// A safetensors file, checked: every byte of its data belongs to exactly one tensor.
#[derive(Clone, Debug)]
pub struct TensorFile {
    path: PathBuf,
    storage: Storage,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    data: usize,
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read, is not a safetensors file, or says that it has a newer form than this version knows. Pickles, zip
    /// and GGUF files are recognised and the message says how to convert them.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(path, crate::file::read(path)?)
    }

    /// Reads a file's header. Each tensor is read when it is asked for, straight to where it is to be: for large files.
    /// While the value lives, the file must not be written to.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, Storage::File(Arc::new(open(path)?)))
    }

    /// Checks bytes that the caller has read; `path` is named in errors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_bytes(path: &Path, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::new(path, Storage::Memory(bytes.into()))
    }

    fn new(path: &Path, storage: Storage) -> Result<Self> {
        let length = storage.len(path)?;
        let (header, data) = header_of(path, &storage, length)?;
        let mut entries = BTreeMap::new();
        let mut metadata = BTreeMap::new();
        for (name, value) in header.0 {
            if name == "__metadata__" {
                metadata = serde_json::from_value(value)
                    .map_err(|error| ArtifactError::format(path, "header, __metadata__", "strings", error))?;
            } else {
                entries.insert(name.clone(), entry_of(path, &name, &value)?);
            }
        }
        check_layout(path, &entries, length - data)?;
        check_schema(path, &metadata)?;
        Ok(Self { path: path.into(), storage, entries, metadata, data })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says of itself.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape and values of a floating-point tensor; F16, BF16 and F64 are converted.
    ///
    /// # Errors
    /// If it is missing, has another shape than `shape`, or does not hold floats.
    pub fn f32(&self, name: &str, shape: Option<&[usize]>) -> Result<(Vec<usize>, Vec<f32>)> {
        let entry = self.floats(name, shape)?;
        let mut values = Vec::new();
        if entry.dtype == DType::F32 {
            self.read_f32(entry, &mut values)?;
        } else {
            decode_floats(entry.dtype, &self.bytes(entry)?, &mut values);
        }
        Ok((entry.shape.clone(), values))
    }

    /// Gives the values of a floating-point tensor to `each`, a piece after the other, and takes their hash on the way: for
    /// who has to look at large tensors once, and does not keep them.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn scan_f32(
        &self,
        name: &str,
        shape: Option<&[usize]>,
        mut each: impl FnMut(&[f32]),
    ) -> Result<TensorDigest> {
        let entry = self.floats(name, shape)?;
        let mut values = Vec::new();
        self.digested(name, entry, |bytes| match bytemuck::try_cast_slice(bytes) {
            Ok(numbers) if entry.dtype == DType::F32 && cfg!(target_endian = "little") => each(numbers),
            _ => {
                values.clear();
                decode_floats(entry.dtype, bytes, &mut values);
                each(&values);
            }
        })
    }

    /// Appends some rows of a floating-point matrix of a shape `[rows, columns]` to `values`, each `columns` numbers; the others are
    /// not read.
    ///
    /// # Errors
    /// As [`Self::f32`], or if the matrix has no such rows. What was appended then is of no use.
    pub fn append_f32_rows(
        &self,
        name: &str,
        shape: [usize; 2],
        rows: Range<usize>,
        values: &mut Vec<f32>,
    ) -> Result<()> {
        let entry = self.floats(name, Some(&shape))?;
        let [count, width] = shape;
        if rows.start > rows.end || rows.end > count {
            let expected = format!("rows below {count}");
            return Err(ArtifactError::tensor(&self.path, name, expected, format!("{rows:?}")));
        }
        let bytes =
            [rows.start, rows.end].map(|row| self.data + entry.start + row * width * entry.dtype.size());
        match &self.storage {
            Storage::File(file) if entry.dtype == DType::F32 => {
                let before = values.len();
                values.resize(before + rows.len() * width, 0.0);
                let values = &mut values[before..];
                read_at(file, &self.path, bytes[0], bytemuck::cast_slice_mut(values))?;
                to_native(values);
            }
            storage => {
                let bytes = storage.bytes(&self.path, bytes[0]..bytes[1])?;
                decode_floats(entry.dtype, &bytes, values);
            }
        }
        Ok(())
    }

    /// Checks that there is a floating-point tensor of this shape, without reading it.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn expect_floats(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.floats(name, Some(shape)).map(drop)
    }

    /// The entry of a floating-point tensor.
    fn floats(&self, name: &str, shape: Option<&[usize]>) -> Result<&Entry> {
        let entry = self.checked(name, shape)?;
        match entry.dtype {
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Ok(entry),
            other => Err(self.wrong_type(name, "F32, F64, F16 or BF16", other)),
        }
    }

    /// The values of an F32 tensor: out of a file without a copy between.
    fn read_f32(&self, entry: &Entry, values: &mut Vec<f32>) -> Result<()> {
        let Storage::File(file) = &self.storage else {
            decode_floats(entry.dtype, &self.bytes(entry)?, values);
            return Ok(());
        };
        // Fresh memory is zero without anybody's writing it.
        *values = vec![0.0; (entry.end - entry.start) / size_of::<f32>()];
        read_at(file, &self.path, self.data + entry.start, bytemuck::cast_slice_mut(values))?;
        to_native(values);
        Ok(())
    }

    /// Shape and values of an I64 tensor.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn i64(&self, name: &str, shape: Option<&[usize]>) -> Result<(Vec<usize>, Vec<i64>)> {
        self.typed(name, shape, DType::I64, i64::from_le_bytes)
    }

    /// Shape and values of an I32 tensor.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn i32(&self, name: &str, shape: Option<&[usize]>) -> Result<(Vec<usize>, Vec<i32>)> {
        self.typed(name, shape, DType::I32, i32::from_le_bytes)
    }

    /// Shape and values of a BOOL tensor.
    ///
    /// # Errors
    /// As [`Self::f32`].
    pub fn bool(&self, name: &str, shape: Option<&[usize]>) -> Result<(Vec<usize>, Vec<bool>)> {
        self.typed(name, shape, DType::Bool, |[byte]: [u8; 1]| byte != 0)
    }

    fn typed<T, const N: usize>(
        &self,
        name: &str,
        shape: Option<&[usize]>,
        dtype: DType,
        from: impl Fn([u8; N]) -> T,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let entry = self.checked(name, shape)?;
        if entry.dtype != dtype {
            return Err(self.wrong_type(name, dtype.name(), entry.dtype));
        }
        Ok((entry.shape.clone(), decode(&self.bytes(entry)?, from)))
    }

    /// Checks that the file says it is of a kind (`skn.kind`). A file that says nothing, such as one made by hand in
    /// Python, passes.
    ///
    /// # Errors
    /// If it is of another kind.
    pub fn expect_kind(&self, kind: &str) -> Result<()> {
        match self.metadata.get(key::KIND) {
            Some(found) if found != kind => {
                Err(ArtifactError::format(&self.path, "metadata skn.kind", kind, found))
            }
            _ => Ok(()),
        }
    }

    fn checked(&self, name: &str, shape: Option<&[usize]>) -> Result<&Entry> {
        let entry = self.entries.get(name).ok_or_else(|| {
            let mut known: Vec<&str> = self.names().take(8).collect();
            known.extend((self.entries.len() > 8).then_some("..."));
            ArtifactError::tensor(&self.path, name, "a tensor", format!("only {}", known.join(", ")))
        })?;
        match shape {
            Some(shape) if shape != entry.shape => {
                let (expected, found) = (format!("shape {shape:?}"), format!("shape {:?}", entry.shape));
                Err(ArtifactError::tensor(&self.path, name, expected, found))
            }
            _ => Ok(entry),
        }
    }

    fn bytes(&self, entry: &Entry) -> Result<Cow<'_, [u8]>> {
        self.storage.bytes(&self.path, self.data + entry.start..self.data + entry.end)
    }

    /// The hash of a tensor's data.
    ///
    /// # Errors
    /// If it is missing, or can't be read.
    pub fn digest(&self, name: &str) -> Result<TensorDigest> {
        self.digested(name, self.checked(name, None)?, |_| {})
    }

    /// Gives a tensor's bytes to `each`, a piece of whole elements after the other, and takes their hash.
    fn digested(&self, name: &str, entry: &Entry, mut each: impl FnMut(&[u8])) -> Result<TensorDigest> {
        /// Stays in a processor's own cache from the reading to the last who looks at it.
        const PIECE: usize = 1 << 18;
        let all = self.data + entry.start..self.data + entry.end;
        let mut hash = Sha256::new();
        let to_read = if matches!(self.storage, Storage::File(_)) { PIECE.min(all.len()) } else { 0 };
        let mut read = vec![0f64; to_read.div_ceil(size_of::<f64>())];
        for start in all.clone().step_by(PIECE) {
            let range = start..all.end.min(start + PIECE);
            let bytes = match &self.storage {
                Storage::Memory(bytes) => &bytes[range],
                Storage::File(file) => {
                    let bytes = &mut bytemuck::cast_slice_mut(&mut read)[..range.len()];
                    read_at(file, &self.path, range.start, bytes)?;
                    bytes
                }
            };
            hash.update(bytes);
            each(bytes);
        }
        let (dtype, shape, sha256) = (entry.dtype, entry.shape.clone(), hash.finalize().into());
        Ok(TensorDigest { name: name.into(), dtype, shape, sha256 })
    }

    fn wrong_type(&self, name: &str, expected: &str, found: DType) -> ArtifactError {
        ArtifactError::tensor(&self.path, name, expected, found.name())
    }
}

/// The [`tensor_hash`](crate::tensor_hash) of all tensors of some files.
///
/// # Errors
/// If a file can't be read.
pub fn file_hash<'a>(files: impl IntoIterator<Item = &'a TensorFile>) -> Result<String> {
    let mut tensors = Vec::new();
    for file in files {
        for name in file.names() {
            tensors.push(file.digest(name)?);
        }
    }
    Ok(hash_of_digests(tensors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use proptest::prelude::*;

    use crate::{Array, TensorBundle, tensor_hash};

    fn sample() -> TensorBundle {
        let mut bundle = TensorBundle::new();
        bundle.insert("b", Array::f32(vec![2, 2], vec![1.0, -2.5, f32::MAX, 0.0]).unwrap());
        bundle.insert("a", Array::i64(vec![1], vec![-7]).unwrap());
        bundle.insert("mask", Array::bool(vec![3], vec![true, false, true]).unwrap());
        bundle.insert("empty", Array::i32(vec![0, 4], vec![]).unwrap());
        bundle.describe("skn.kind", "sample");
        bundle
    }

    fn parse(bytes: Vec<u8>) -> Result<TensorFile> {
        TensorFile::from_bytes(Path::new("sample.safetensors"), bytes)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let file = parse(sample().to_bytes().unwrap()).unwrap();
        assert_eq!(file.f32("b", Some(&[2, 2])).unwrap().1, [1.0, -2.5, f32::MAX, 0.0]);
        assert_eq!(file.i64("a", None).unwrap(), (vec![1], vec![-7]));
        assert_eq!(file.bool("mask", None).unwrap().1, [true, false, true]);
        assert_eq!(file.i32("empty", None).unwrap(), (vec![0, 4], vec![]));
        assert_eq!(file.metadata()["skn.kind"], "sample");
        assert!(file.expect_kind("sample").is_ok() && file.expect_kind("other").is_err());
    }

    #[test]
    fn a_newer_form_is_refused_by_its_number() {
        let of = |schema| parse(sample().in_schema(schema).to_bytes().unwrap());
        assert!(of(1).is_ok() && of(2).is_ok());
        for schema in [0, 3] {
            let message = of(schema).unwrap_err().to_string();
            let found =
                format!("sample.safetensors: metadata skn.schema: expected 1 to 2, found \"{schema}\"");
            assert!(message.starts_with(&found) && message.contains("a newer version"), "{message}");
        }
        // What another program writes there is no number, or comes without a version.
        let data = [0; 4];
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &data).unwrap();
        let metadata = [("skn.schema".to_owned(), "two".to_owned())].into();
        let message = parse(safetensors::serialize([("x", view)], Some(metadata)).unwrap()).unwrap_err();
        assert!(message.to_string().ends_with("expected 1 to 2, found \"two\""), "{message}");
    }

    #[test]
    fn what_the_safetensors_crate_writes_is_read() {
        let data: Vec<u8> = [1.5f32, 2.5].iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).unwrap();
        let bytes = safetensors::serialize([("x", view)], None).unwrap();
        assert_eq!(parse(bytes).unwrap().f32("x", Some(&[2])).unwrap().1, [1.5, 2.5]);
    }

    #[test]
    fn errors_name_file_and_tensor() {
        let file = parse(sample().to_bytes().unwrap()).unwrap();
        for (error, part) in [
            (file.f32("c", None).unwrap_err(), "`c`"),
            (file.f32("b", Some(&[4])).unwrap_err(), "[2, 2]"),
            (file.i64("b", None).unwrap_err(), "F32"),
        ] {
            let message = error.to_string();
            assert!(message.contains("sample.safetensors") && message.contains(part), "{message}");
        }
    }

    #[test]
    fn broken_headers_are_refused() {
        let file = |header: &str, data: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(vec![0; data]);
            parse(bytes).map(|_| ())
        };
        let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        assert!(file(one, 8).is_ok());
        assert!(file(one, 9).is_err(), "trailing bytes");
        assert!(file(one, 7).is_err(), "cut off");
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        assert!(file(twice, 1).unwrap_err().to_string().contains("twice"));
        let overlap = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
        assert!(file(overlap, 2).is_err());
        let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#;
        assert!(file(huge, 0).is_err(), "the product overflows");
    }

    #[test]
    fn other_formats_are_recognised() {
        for (bytes, word) in [
            (&b"\x80\x02}q\x00X\x01\x00\x00"[..], "pickle"),
            (b"PK\x03\x04aaaaaaaa", "zip"),
            (b"GGUFaaaaaaaa", "GGUF"),
        ] {
            let message = parse(bytes.to_vec()).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn half_precision_is_converted() {
        let header = r#"{"h":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},"k":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([1.5, 3.0].map(|number| f16::from_f32(number).to_le_bytes()).concat());
        bytes.extend([-2.0, 0.25].map(|number| bf16::from_f32(number).to_le_bytes()).concat());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.safetensors");
        std::fs::write(&path, &bytes).unwrap();
        for file in [parse(bytes).unwrap(), TensorFile::open(&path).unwrap()] {
            for (name, expected) in [("h", [1.5, 3.0]), ("k", [-2.0, 0.25])] {
                assert_eq!(file.f32(name, None).unwrap(), (vec![2, 1], expected.to_vec()));
                let (mut seen, mut row) = (Vec::new(), Vec::new());
                file.scan_f32(name, None, |values| seen.extend_from_slice(values)).unwrap();
                file.append_f32_rows(name, [2, 1], 1..2, &mut row).unwrap();
                assert_eq!((seen, row), (expected.to_vec(), vec![expected[1]]));
            }
        }
    }

    #[test]
    fn a_file_is_the_same_read_as_a_whole_and_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.safetensors");
        let mut bundle = sample();
        // More than one piece of a hash.
        let many: Vec<f32> = (0..200_001).map(|n| n as f32).collect();
        bundle.insert("many", Array::f32(vec![200_001], many.clone()).unwrap());
        let bytes = bundle.to_bytes().unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let (open, read) = (TensorFile::open(&path).unwrap(), TensorFile::read(&path).unwrap());
        assert_eq!(open.metadata(), read.metadata());
        for file in [&open, &read] {
            assert_eq!(file.f32("many", None).unwrap().1, many);
            assert_eq!(file.f32("b", Some(&[2, 2])).unwrap().1, [1.0, -2.5, f32::MAX, 0.0]);
            assert_eq!(file.i64("a", None).unwrap(), (vec![1], vec![-7]));
            assert_eq!(file.bool("mask", None).unwrap().1, [true, false, true]);
            assert_eq!(file.i32("empty", None).unwrap(), (vec![0, 4], vec![]));
        }
        let stored: Vec<(&String, Vec<u8>)> =
            bundle.tensors().iter().map(|(name, array)| (name, array.to_bytes())).collect();
        let expected = tensor_hash(stored.iter().map(|(name, bytes)| {
            let array = &bundle.tensors()[*name];
            (name.as_str(), array.dtype(), array.shape(), bytes.as_slice())
        }));
        assert_eq!([&open, &read].map(|file| file_hash([file]).unwrap()), [expected.clone(), expected]);
        // Who looks at the values on the way gets them all, and the same hash.
        for file in [&open, &read] {
            let mut seen = Vec::new();
            let digest = file.scan_f32("b", Some(&[2, 2]), |values| seen.extend_from_slice(values)).unwrap();
            assert_eq!((seen, digest), (file.f32("b", None).unwrap().1, file.digest("b").unwrap()));
            assert!(file.scan_f32("mask", None, |_| {}).is_err());
            let mut seen = Vec::new();
            file.scan_f32("many", None, |values| seen.extend_from_slice(values)).unwrap();
            assert!(seen == many, "several pieces");
            let mut rows = vec![9.0];
            file.append_f32_rows("b", [2, 2], 1..2, &mut rows).unwrap();
            file.append_f32_rows("b", [2, 2], 0..2, &mut rows).unwrap();
            assert_eq!(rows, [9.0, f32::MAX, 0.0, 1.0, -2.5, f32::MAX, 0.0]);
            let outside = file.append_f32_rows("b", [2, 2], 1..3, &mut rows).unwrap_err().to_string();
            assert!(outside.contains("rows below 2") && outside.contains("1..3"), "{outside}");
            assert!(file.append_f32_rows("b", [4, 1], 0..1, &mut rows).is_err());
        }
        // What has become shorter meanwhile is an error, and so is what is no such file.
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(open.f32("mask", None).is_err() && open.bool("mask", None).is_err());
        assert!(TensorFile::open(&path).is_err());
        std::fs::write(&path, b"GGUF").unwrap();
        assert!(TensorFile::open(&path).unwrap_err().to_string().contains("GGUF"));
        let missing = TensorFile::open(&folder.path().join("none.safetensors")).unwrap_err();
        assert!(matches!(missing, ArtifactError::Missing { .. }), "{missing}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn damaged_files_never_panic(place in 0usize..600, value: u8, cut in 0usize..600) {
            let mut bytes = sample().to_bytes().unwrap();
            let place = place % bytes.len();
            bytes[place] = value;
            bytes.truncate(bytes.len() - cut % bytes.len());
            if let Ok(file) = parse(bytes) {
                prop_assert!(file_hash([&file]).is_ok());
            }
        }
    }
}
