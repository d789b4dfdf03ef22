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
use crate::tensors::header::{Entry, StoredType, check_layout, check_schema, entry_of, header_of};
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

    /// The name of a tensor as the file has it, if there is one of this name.
    pub fn stored_name(&self, name: &str) -> Option<&str> {
        self.entries.get_key_value(name).map(|(name, _)| name.as_str())
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
        let (entry, dtype) = self.floats(name, shape)?;
        let mut values = Vec::new();
        if dtype == DType::F32 {
            self.read_f32(entry, &mut values)?;
        } else {
            decode_floats(dtype, &self.bytes(entry)?, &mut values);
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
        let (entry, dtype) = self.floats(name, shape)?;
        let mut values = Vec::new();
        self.digested(name, entry, |bytes| match bytemuck::try_cast_slice(bytes) {
            Ok(numbers) if dtype == DType::F32 && cfg!(target_endian = "little") => each(numbers),
            _ => {
                values.clear();
                decode_floats(dtype, bytes, &mut values);
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
        let (entry, dtype) = self.floats(name, Some(&shape))?;
        let [count, width] = shape;
        if rows.start > rows.end || rows.end > count {
            let expected = format!("rows below {count}");
            return Err(ArtifactError::tensor(&self.path, name, expected, format!("{rows:?}")));
        }
        let [start, end] =
            [rows.start, rows.end].map(|row| self.data + entry.start + row * width * dtype.size());
        match &self.storage {
            Storage::File(file) if dtype == DType::F32 => {
                let before = values.len();
                values.resize(before + rows.len() * width, 0.0);
                let (_, values) = values.split_at_mut(before);
                read_at(file, &self.path, start, bytemuck::cast_slice_mut(values))?;
                to_native(values);
            }
            storage => {
                let bytes = storage.bytes(&self.path, start..end)?;
                decode_floats(dtype, &bytes, values);
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

    /// The entry of a floating-point tensor, and which floats they are.
    fn floats(&self, name: &str, shape: Option<&[usize]>) -> Result<(&Entry, DType)> {
        let entry = self.checked(name, shape)?;
        match entry.dtype {
            StoredType::Known(dtype @ (DType::F32 | DType::F64 | DType::F16 | DType::BF16)) => {
                Ok((entry, dtype))
            }
            ref other => Err(self.wrong_type(name, "F32, F64, F16 or BF16", other)),
        }
    }

    /// The values of an F32 tensor: out of a file without a copy between.
    fn read_f32(&self, entry: &Entry, values: &mut Vec<f32>) -> Result<()> {
        let Storage::File(file) = &self.storage else {
            decode_floats(DType::F32, &self.bytes(entry)?, values);
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

    /// Some bytes of a U8 tensor, counted from its start; the others are not read.
    ///
    /// # Errors
    /// As [`Self::f32`], or if the tensor has no such bytes.
    pub fn u8_range(
        &self,
        name: &str,
        shape: Option<&[usize]>,
        range: Range<usize>,
    ) -> Result<Cow<'_, [u8]>> {
        let entry = self.checked(name, shape)?;
        if entry.dtype != StoredType::Known(DType::U8) {
            return Err(self.wrong_type(name, DType::U8.name(), &entry.dtype));
        }
        let size = entry.end - entry.start;
        if range.start > range.end || range.end > size {
            let expected = format!("bytes below {size}");
            return Err(ArtifactError::tensor(&self.path, name, expected, format!("{range:?}")));
        }
        let start = self.data + entry.start;
        self.storage.bytes(&self.path, start + range.start..start + range.end)
    }

    /// The shape of a tensor, without reading it.
    ///
    /// # Errors
    /// If it is missing.
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(&self.checked(name, None)?.shape)
    }

    fn typed<T, const N: usize>(
        &self,
        name: &str,
        shape: Option<&[usize]>,
        dtype: DType,
        from: impl Fn([u8; N]) -> T,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let entry = self.checked(name, shape)?;
        if entry.dtype != StoredType::Known(dtype) {
            return Err(self.wrong_type(name, dtype.name(), &entry.dtype));
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
        // Of whole numbers, so that what is read can be taken for them.
        let mut read = Vec::<f64>::new();
        for start in all.clone().step_by(PIECE) {
            let range = start..all.end.min(start + PIECE);
            match &self.storage {
                Storage::Memory(_) => {
                    let bytes = self.storage.bytes(&self.path, range)?;
                    hash.update(&bytes);
                    each(&bytes);
                }
                Storage::File(file) => {
                    read.resize(range.len().div_ceil(size_of::<f64>()), 0.0);
                    let (bytes, _) = bytemuck::cast_slice_mut(&mut read).split_at_mut(range.len());
                    read_at(file, &self.path, range.start, bytes)?;
                    hash.update(&*bytes);
                    each(bytes);
                }
            }
        }
        let (dtype, shape, sha256) = (entry.dtype.clone(), entry.shape.clone(), hash.finalize().into());
        Ok(TensorDigest { name: name.into(), dtype, shape, sha256 })
    }

    fn wrong_type(&self, name: &str, expected: &str, found: &StoredType) -> ArtifactError {
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
mod tests;
