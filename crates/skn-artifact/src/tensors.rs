use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::array::{Array, DType, elements};
use crate::error::{ArtifactError, Result};
use crate::file::open;
use crate::hash::to_hex;

/// A header above this size is not of this world.
const MAX_HEADER: usize = 100_000_000;

/// A safetensors file, checked: every byte of its data belongs to exactly one tensor.
#[derive(Clone, Debug)]
pub struct TensorFile {
    path: PathBuf,
    source: Source,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    data: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    dtype: DType,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// Where a file's bytes are.
#[derive(Clone, Debug)]
enum Source {
    Memory(Cow<'static, [u8]>),
    File(Arc<File>),
}

impl Source {
    fn len(&self, path: &Path) -> Result<usize> {
        match self {
            Self::Memory(bytes) => Ok(bytes.len()),
            Self::File(file) => {
                let length = file.metadata().map_err(ArtifactError::io(path, "read"))?.len();
                usize::try_from(length).map_err(|_| {
                    ArtifactError::format(path, "size", format!("at most {} bytes", usize::MAX), length)
                })
            }
        }
    }

    fn bytes(&self, path: &Path, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        match self {
            Self::Memory(bytes) => Ok(Cow::Borrowed(&bytes[range])),
            Self::File(file) => {
                let mut bytes = vec![0; range.len()];
                read_at(file, path, range.start, &mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// Fills `bytes` with what lies at `place` of the file. Several threads may do it at once.
#[cfg(unix)]
fn read_at(file: &File, path: &Path, place: usize, bytes: &mut [u8]) -> Result<()> {
    let read = std::os::unix::fs::FileExt::read_exact_at(file, bytes, place as u64);
    read.map_err(ArtifactError::io(path, "read"))
}

/// Elsewhere threads would share the place in an open file, so each reading opens it anew.
#[cfg(not(unix))]
fn read_at(_: &File, path: &Path, place: usize, bytes: &mut [u8]) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = open(path)?;
    let sought = file.seek(SeekFrom::Start(place as u64));
    sought.and_then(|_| file.read_exact(bytes)).map_err(ArtifactError::io(path, "read"))
}

impl TensorFile {
    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read, or is not a safetensors file. Pickles, zip and GGUF files are recognised and the message
    /// says how to convert them.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_bytes(path, crate::file::read(path)?)
    }

    /// Reads a file's header. Each tensor is read when it is asked for, straight to where it is to be: for large files.
    /// While the value lives, the file must not be written to.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, Source::File(Arc::new(open(path)?)))
    }

    /// Checks bytes that the caller has read; `path` is named in errors.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn from_bytes(path: &Path, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self> {
        Self::new(path, Source::Memory(bytes.into()))
    }

    fn new(path: &Path, source: Source) -> Result<Self> {
        let length = source.len(path)?;
        let (header, data) = header_of(path, &source, length)?;
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
        Ok(Self { path: path.into(), source, entries, metadata, data })
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
        match &self.source {
            Source::File(file) if entry.dtype == DType::F32 => {
                let before = values.len();
                values.resize(before + rows.len() * width, 0.0);
                let values = &mut values[before..];
                read_at(file, &self.path, bytes[0], bytemuck::cast_slice_mut(values))?;
                to_native(values);
            }
            source => {
                let bytes = source.bytes(&self.path, bytes[0]..bytes[1])?;
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
        let Source::File(file) = &self.source else {
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
        match self.metadata.get("skn.kind") {
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
        self.source.bytes(&self.path, self.data + entry.start..self.data + entry.end)
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
        let to_read = if matches!(self.source, Source::File(_)) { PIECE.min(all.len()) } else { 0 };
        let mut read = vec![0f64; to_read.div_ceil(size_of::<f64>())];
        for start in all.clone().step_by(PIECE) {
            let range = start..all.end.min(start + PIECE);
            let bytes = match &self.source {
                Source::Memory(bytes) => &bytes[range],
                Source::File(file) => {
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

/// Numbers whose bytes were read as they lie in a file.
fn to_native(values: &mut [f32]) {
    if cfg!(target_endian = "big") {
        values.iter_mut().for_each(|value| *value = f32::from_bits(value.to_bits().swap_bytes()));
    }
}

/// Appends floats of any type as f32.
fn decode_floats(dtype: DType, bytes: &[u8], values: &mut Vec<f32>) {
    fn each<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, from: impl Fn([u8; N]) -> f32) {
        values.extend(bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)));
    }
    match dtype {
        DType::F64 => each(bytes, values, |bytes| f64::from_le_bytes(bytes) as f32),
        DType::F16 => each(bytes, values, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DType::BF16 => each(bytes, values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => each(bytes, values, f32::from_le_bytes),
    }
}

fn decode<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

/// The parsed header and where the data begins, of a file of so many bytes.
fn header_of(path: &Path, source: &Source, length: usize) -> Result<(Header, usize)> {
    let start = source.bytes(path, 0..length.min(8))?;
    let not_safetensors = |found: String| {
        ArtifactError::format(path, "start of the file", "a safetensors header", found + other_format(&start))
    };
    let Some(size) = start.first_chunk::<8>() else {
        return Err(not_safetensors(format!("{length} bytes")));
    };
    let size = u64::from_le_bytes(*size);
    let available = (length - 8).min(MAX_HEADER) as u64;
    if size > available {
        return Err(not_safetensors(format!("a header of {size} bytes where {available} are possible")));
    }
    let data = 8 + size as usize;
    let header = source.bytes(path, 8..data)?;
    let header = serde_json::from_slice(&header).map_err(|error| not_safetensors(error.to_string()))?;
    Ok((header, data))
}

/// What to do about files of other formats that models come in.
fn other_format(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x80, 2..=5, ..] => {
            " (a Python pickle, which may run code: load it in Python and save it as safetensors)"
        }
        [b'P', b'K', 3, 4, ..] => {
            " (a zip file, as torch.save writes: load it in Python and save it as safetensors)"
        }
        [b'G', b'G', b'U', b'F', ..] => " (a GGUF file: use the model's safetensors file instead)",
        _ => "",
    }
}

fn entry_of(path: &Path, name: &str, value: &Value) -> Result<Entry> {
    let wrong = |expected: &str| ArtifactError::tensor(path, name, expected, value);
    let fields: &Map<String, Value> = value.as_object().ok_or_else(|| wrong("an object in the header"))?;
    let numbers = |field: &str| -> Option<Vec<usize>> {
        let items = fields.get(field)?.as_array()?;
        items.iter().map(|item| item.as_u64().and_then(|item| usize::try_from(item).ok())).collect()
    };
    let dtype = fields.get("dtype").and_then(Value::as_str).and_then(DType::from_name);
    let dtype = dtype.ok_or_else(|| wrong("a known dtype"))?;
    let shape = numbers("shape").ok_or_else(|| wrong("a shape of integers"))?;
    let offsets = numbers("data_offsets").ok_or_else(|| wrong("two data_offsets"))?;
    let [start, end] = offsets[..] else { return Err(wrong("two data_offsets")) };
    let bytes = elements(&shape).and_then(|count| count.checked_mul(dtype.size()));
    if start > end || bytes != Some(end - start) {
        return Err(wrong("data_offsets that fit dtype and shape"));
    }
    Ok(Entry { dtype, shape, start, end })
}

/// No gaps, no overlaps, nothing left over.
fn check_layout(path: &Path, entries: &BTreeMap<String, Entry>, length: usize) -> Result<()> {
    let mut spans: Vec<(usize, usize, &str)> =
        entries.iter().map(|(name, entry)| (entry.start, entry.end, name.as_str())).collect();
    spans.sort_unstable();
    let mut place = 0;
    for (start, end, name) in spans {
        if start != place {
            let expected = format!("data that begins at {place}");
            return Err(ArtifactError::tensor(path, name, expected, start));
        }
        place = end;
    }
    if place == length {
        return Ok(());
    }
    Err(ArtifactError::format(
        path,
        "data",
        format!("{place} bytes, as the header says"),
        format!("{length} bytes"),
    ))
}

/// The header in file order; a name that occurs twice is an error.
struct Header(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut names = std::collections::HashSet::new();
                let mut entries = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("tensor `{name}` twice")));
                    }
                    entries.push((name, value));
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorBundle {
    tensors: BTreeMap<String, Array>,
    metadata: BTreeMap<String, String>,
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
        let data: Vec<Vec<u8>> = self.tensors.values().map(Array::to_bytes).collect();
        let mut header = self.header(&data).to_string().into_bytes();
        // The header is padded with spaces so that the data begins at a multiple of 8.
        header.resize(header.len().next_multiple_of(8), b' ');
        let total = 8 + header.len() + data.iter().map(Vec::len).sum::<usize>();
        let mut bytes = Vec::with_capacity(total);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        data.iter().for_each(|tensor| bytes.extend(tensor));
        Ok(bytes)
    }

    fn header(&self, data: &[Vec<u8>]) -> Value {
        let mut metadata = self.metadata.clone();
        metadata.insert("format".into(), "pt".into());
        metadata.insert("skn.schema".into(), "1".into());
        metadata.insert("skn.version".into(), env!("CARGO_PKG_VERSION").into());
        let mut header = Map::new();
        header.insert("__metadata__".into(), serde_json::json!(metadata));
        let mut place = 0;
        for ((name, array), bytes) in self.tensors.iter().zip(data) {
            let offsets = [place, place + bytes.len()];
            place += bytes.len();
            let entry = serde_json::json!({
                "dtype": array.dtype().name(), "shape": array.shape(), "data_offsets": offsets,
            });
            header.insert(name.clone(), entry);
        }
        Value::Object(header)
    }
}

/// The hash of a set of tensors, the same for one file and for shards (`skn.model_sha256`): SHA-256 over, for each
/// tensor in the order of names, the length of the name (u64, little-endian), the name, the length of the dtype's
/// name, the dtype's name, the number of dimensions, each dimension (u64), and the 32 bytes of the data's SHA-256.
pub fn tensor_hash<'a>(tensors: impl IntoIterator<Item = (&'a str, DType, &'a [usize], &'a [u8])>) -> String {
    let digest = |(name, dtype, shape, data): (&str, _, &[usize], &[u8])| TensorDigest {
        name: name.into(),
        dtype,
        shape: shape.into(),
        sha256: Sha256::digest(data).into(),
    };
    hash_of_digests(tensors.into_iter().map(digest).collect())
}

/// The [`tensor_hash`] of all tensors of some files.
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

/// SHA-256 of a tensor's data, with what else [`tensor_hash`] takes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDigest {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    sha256: [u8; 32],
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
    use proptest::prelude::*;

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
    fn the_safetensors_crate_reads_what_is_written() {
        let bytes = sample().to_bytes().unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.tensor("b").unwrap().shape(), [2, 2]);
        assert_eq!(file.tensor("a").unwrap().data(), (-7i64).to_le_bytes());
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

    #[test]
    fn the_hash_does_not_depend_on_the_order() {
        let (a, b) =
            (("a", DType::U8, &[1usize][..], &[1u8][..]), ("b", DType::U8, &[2usize][..], &[2u8, 3][..]));
        assert_eq!(tensor_hash([a, b]), tensor_hash([b, a]));
        assert_ne!(tensor_hash([a]), tensor_hash([b]));
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
