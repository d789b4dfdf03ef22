//! GGUF files: what a model says of itself, and its numbers in blocks.

mod blocks;
mod cursor;
mod says;
mod value;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use blocks::BlockType;
use cursor::Cursor;
use value::Value;

use crate::error::{ArtifactError, Result};
use crate::file::open;
use crate::foreign::{Foreign, Wanted};
use crate::tensors::digest::TensorDigest;
use crate::tensors::header::StoredType;
use crate::tensors::storage::{Storage, read_at};

/// A GGUF file, checked: every tensor lies in it, no two share a byte, and nothing lies between them but what fills up to their
/// alignment. Numbers stay in the file until they are asked for; while the value lives, it must not be written to.
///
/// Shapes are given with the index that runs fastest last, as everywhere else here; a GGUF header has it first.
#[derive(Clone, Debug)]
pub struct GgufFile {
    path: PathBuf,
    storage: Storage,
    /// The bytes before the data, in which texts and lists lie.
    header: Arc<[u8]>,
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Entry>,
}

/// A tensor as the header tells it.
#[derive(Clone, Debug)]
struct Entry {
    kind: BlockType,
    shape: Vec<usize>,
    /// Where it begins in the file.
    start: usize,
    /// Bytes.
    size: usize,
}

/// Versions whose form is this one.
const VERSIONS: [u32; 2] = [2, 3];

/// Where nothing is said tensors begin at multiples of this.
const ALIGNMENT: usize = 32;
const MAX_ALIGNMENT: usize = 1 << 16;

/// The most dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;

/// The most bytes that a name is read of.
const MAX_NAME: usize = 1 << 16;

impl GgufFile {
    /// Reads a file's header.
    ///
    /// # Errors
    /// If it can't be read, is not a GGUF file of version 2 or 3, or its header contradicts itself or the file's length.
    pub fn open(path: &Path) -> Result<Self> {
        Self::new(path, Storage::File(Arc::new(open(path)?)))
    }

    /// Checks bytes that the caller has read; `path` is named in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        Self::new(path, Storage::Memory(bytes.into()))
    }

    fn new(path: &Path, storage: Storage) -> Result<Self> {
        let length = storage.len(path)?;
        let mut cursor = Cursor::new(path, &storage, length);
        check_start(&mut cursor, length)?;
        // A name, its shape of one dimension, a type and a place take 32 bytes; a key and a value 13.
        let tensors = cursor.count(32, &|| "header, number of tensors".into())?;
        let keys = cursor.count(13, &|| "header, number of keys".into())?;
        let mut values = BTreeMap::new();
        for number in 0..keys {
            let key = name(&mut cursor, &|| format!("header, key {number}"))?;
            let value = Value::read(&mut cursor, &|| format!("key `{key}`"))?;
            if values.insert(key.clone(), value).is_some() {
                return Err(cursor.wrong(format!("key `{key}`"), "each key once", "it twice"));
            }
        }
        let mut entries = BTreeMap::new();
        for number in 0..tensors {
            let (name, entry) = entry(&mut cursor, number)?;
            if entries.insert(name.clone(), entry).is_some() {
                return Err(ArtifactError::tensor(path, &name, "each tensor once", "it twice"));
            }
        }
        let alignment = alignment(&cursor, &values)?;
        let data = cursor.place.next_multiple_of(alignment);
        let mut header = cursor.bytes;
        header.truncate(cursor.place);
        place_tensors(path, &mut entries, data, alignment, length)?;
        Ok(Self { path: path.into(), header: header.into(), storage, values, tensors: entries })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor and how its numbers are stored, if it is there.
    pub fn tensor(&self, name: &str) -> Option<(&[usize], BlockType)> {
        self.tensors.get(name).map(|entry| (entry.shape.as_slice(), entry.kind))
    }

    /// Gives the blocks of a tensor to `each`, some whole ones after the other, each time beginning at a multiple of 8 bytes in
    /// memory, and takes their hash on the way.
    ///
    /// # Errors
    /// If it is missing, or can't be read.
    pub fn scan(&self, name: &str, mut each: impl FnMut(&[u8])) -> Result<TensorDigest> {
        /// Numbers that stay in a processor's own cache, also when they have become floats.
        const PIECE: usize = 1 << 16;
        let entry = self.entry(name)?;
        let step = (PIECE / entry.kind.numbers()).max(1) * entry.kind.bytes();
        let (mut hash, mut read) = (Sha256::new(), Vec::new());
        let end = entry.start + entry.size;
        for start in (entry.start..end).step_by(step) {
            let bytes = self.aligned(start..end.min(start + step), &mut read)?;
            hash.update(bytes);
            each(bytes);
        }
        let dtype = StoredType::of(entry.kind.name());
        Ok(TensorDigest {
            name: name.into(),
            dtype,
            shape: entry.shape.clone(),
            sha256: hash.finalize().into(),
        })
    }

    /// Gives the blocks of some rows of a tensor to `with`, beginning at a multiple of 8 bytes in memory; the others are not read. A
    /// row is all that a tensor has behind its first index.
    ///
    /// # Errors
    /// If the tensor is missing, has no such rows, or its rows are not made of whole blocks, or it can't be read.
    pub fn rows<T>(&self, name: &str, rows: Range<usize>, with: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let entry = self.entry(name)?;
        let [count, behind @ ..] = entry.shape.as_slice() else { return Err(self.missing(name)) };
        let whole =
            |found: String| ArtifactError::tensor(&self.path, name, format!("rows below {count}"), found);
        if rows.start > rows.end || rows.end > *count {
            return Err(whole(format!("{rows:?}")));
        }
        let row = entry.kind.size(behind.iter().product());
        let row = row.ok_or_else(|| whole("rows that are no whole blocks".into()))?;
        let mut read = Vec::new();
        Ok(with(self.aligned(entry.start + rows.start * row..entry.start + rows.end * row, &mut read)?))
    }

    /// Some bytes of the file, in numbers of 8 bytes so that blocks of any type may lie there.
    fn aligned<'r>(&self, range: Range<usize>, read: &'r mut Vec<f64>) -> Result<&'r [u8]> {
        read.resize(range.len().div_ceil(size_of::<f64>()), 0.0);
        let (bytes, _) = bytemuck::cast_slice_mut(read).split_at_mut(range.len());
        match &self.storage {
            Storage::File(file) => read_at(file, &self.path, range.start, bytes)?,
            Storage::Memory(_) => bytes.copy_from_slice(&self.storage.bytes(&self.path, range)?),
        }
        Ok(bytes)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.tensors.get(name).ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> ArtifactError {
        ArtifactError::tensor(&self.path, name, "a tensor", "nothing")
    }
}

/// The mark and the version.
fn check_start(cursor: &mut Cursor<'_>, length: usize) -> Result<()> {
    let what = || "start of the file".to_owned();
    let mark = cursor.take(4.min(length), &what)?;
    if cursor.bytes.get(mark) != Some(b"GGUF") {
        let start = cursor.bytes.get(..Foreign::LOOKED_AT.min(cursor.bytes.len())).unwrap_or_default();
        let found = Foreign::of(start)
            .map_or_else(|| format!("{length} bytes of something else"), |found| found.told(Wanted::Tensors));
        return Err(cursor.wrong(what(), "a GGUF header", found));
    }
    let version = cursor.u32(&what)?;
    if VERSIONS.contains(&version) {
        return Ok(());
    }
    let found = if VERSIONS.contains(&version.swap_bytes()) {
        "one for big-endian machines; convert it with gguf_convert_endian.py of the Python package gguf"
            .to_owned()
    } else {
        version.to_string()
    };
    Err(cursor.wrong("header, version", "2 or 3", found))
}

/// The name of a key or of a tensor.
fn name(cursor: &mut Cursor<'_>, what: &dyn Fn() -> String) -> Result<String> {
    let name = cursor.text(what)?;
    if name.len() > MAX_NAME {
        return Err(cursor.wrong(what(), format!("a name of at most {MAX_NAME} bytes"), name.len()));
    }
    Ok(name)
}

/// The next tensor's entry, whose place is counted from where the data begins.
fn entry(cursor: &mut Cursor<'_>, number: usize) -> Result<(String, Entry)> {
    let name = name(cursor, &|| format!("header, tensor {number}"))?;
    let what = || format!("tensor `{name}`");
    let dimensions = cursor.u32(&what)?;
    if dimensions == 0 || dimensions > MAX_DIMENSIONS {
        return Err(cursor.wrong(what(), format!("1 to {MAX_DIMENSIONS} dimensions"), dimensions));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        let size = cursor.u64(&what)?;
        let size = usize::try_from(size).ok().filter(|size| *size > 0);
        shape.push(
            size.ok_or_else(|| cursor.wrong(what(), "sizes above 0 that memory could have", "another"))?,
        );
    }
    let kind = cursor.u32(&what)?;
    let kind = BlockType::numbered(kind).ok_or_else(|| {
        cursor.wrong(what(), "a type of stored numbers that is known", format!("type {kind}"))
    })?;
    let start = cursor.u64(&what)?;
    let row = shape.first().copied().unwrap_or_default();
    let numbers = shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
    let size = numbers.filter(|_| kind.size(row).is_some()).and_then(|numbers| kind.size(numbers));
    let fits = size.zip(usize::try_from(start).ok());
    let (size, start) = fits.ok_or_else(|| {
        let expected =
            format!("rows of whole blocks of {} numbers ({}), within the file", kind.numbers(), kind.name());
        cursor.wrong(what(), expected, format!("shape {shape:?} at {start}"))
    })?;
    shape.reverse();
    Ok((name, Entry { kind, shape, start, size }))
}

/// What tensors' places are multiples of.
fn alignment(cursor: &Cursor<'_>, values: &BTreeMap<String, Value>) -> Result<usize> {
    let key = "general.alignment";
    let found = match values.get(key) {
        None => return Ok(ALIGNMENT),
        Some(Value::Integer(found)) => *found,
        Some(_) => 0,
    };
    let found = usize::try_from(found).unwrap_or_default();
    if found.is_power_of_two() && found <= MAX_ALIGNMENT {
        return Ok(found);
    }
    Err(cursor.wrong(
        format!("key `{key}`"),
        format!("a power of two up to {MAX_ALIGNMENT}"),
        "another value",
    ))
}

/// Makes places in the data places in the file. No overlaps, nothing between tensors but what fills up, nothing left over.
fn place_tensors(
    path: &Path,
    entries: &mut BTreeMap<String, Entry>,
    data: usize,
    alignment: usize,
    length: usize,
) -> Result<()> {
    let mut order: Vec<(&String, &mut Entry)> = entries.iter_mut().collect();
    order.sort_by_key(|(_, entry)| (entry.start, entry.size));
    let mut place = 0usize;
    for (name, entry) in order {
        let expected = place.next_multiple_of(alignment);
        if entry.start != expected {
            let expected = format!("data that begins at {expected}, behind what is before");
            return Err(ArtifactError::tensor(path, name, expected, entry.start));
        }
        let end = entry
            .start
            .checked_add(entry.size)
            .filter(|end| data.checked_add(*end).is_some_and(|end| end <= length));
        let Some(end) = end else {
            let found = format!("a file of {length} bytes, whose data begin at {data}");
            return Err(ArtifactError::tensor(
                path,
                name,
                format!("{} bytes from {} on", entry.size, entry.start),
                found,
            ));
        };
        entry.start += data;
        place = end;
    }
    let all = data + place;
    if entries.is_empty() || length <= all.next_multiple_of(alignment) {
        return Ok(());
    }
    Err(ArtifactError::format(
        path,
        "data",
        format!("{all} bytes, as the header says"),
        format!("{length} bytes"),
    ))
}

#[cfg(test)]
mod tests;
