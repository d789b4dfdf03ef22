use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use crate::error::{ArtifactError, Result};
use crate::foreign::{BYTE_ORDER_MARK, Foreign, Wanted};
use crate::hash::read_hashed;
use crate::look::{is_file, is_folder, is_there};
use crate::regular::{open_regular, read_regular};

/// A JSON record above this size is not of this world.
pub(crate) const MAX_JSON: u64 = 1 << 30;

/// What to do where a file of the same name exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overwrite {
    /// It stays, and writing is an error.
    Refuse,
    /// It is replaced.
    Replace,
}

/// Writes a file so that it is there as a whole or not at all, and still there after a power cut: a temporary file in
/// the same folder, synced, renamed, the folder synced. Missing folders are made.
///
/// # Errors
/// If the file exists and may not be replaced, or the system refuses; the old file is untouched then.
pub fn write_file(path: &Path, overwrite: Overwrite, bytes: &[u8]) -> Result<()> {
    write_parts(path, overwrite, |write| write(bytes))
}

/// Copies a file of any size a piece at a time, as [`write_file`] writes one, and gives its SHA-256.
///
/// # Errors
/// As [`write_file`], or that `from` can't be read.
pub fn copy_file(from: &Path, to: &Path, overwrite: Overwrite) -> Result<String> {
    let mut hash = String::new();
    write_parts(to, overwrite, |write| {
        hash = read_hashed(from, write)?;
        Ok(())
    })?;
    Ok(hash)
}

/// Writes as [`write_file`] does what `parts` hands on piece by piece.
fn write_parts(
    path: &Path,
    overwrite: Overwrite,
    parts: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    ReadyFile::write(path, overwrite, parts)?.publish(overwrite)
}

/// A file that is written as a whole beside its place, which [`Self::publish`] gives it. Dropped without, it goes.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
    file: NamedTempFile,
}

impl ReadyFile {
    /// Writes what `parts` hands on piece by piece, and syncs it. Missing folders are made.
    ///
    /// # Errors
    /// If there is a file of this name that may not be replaced, `parts` fails, or the system refuses.
    pub fn write(
        path: &Path,
        overwrite: Overwrite,
        parts: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<Self> {
        let folder = folder_of(path);
        make_folder(folder)?;
        if overwrite == Overwrite::Refuse && is_there(path)? {
            return Err(ArtifactError::Exists { file: path.into() });
        }
        let mut file =
            temporary(folder).map_err(ArtifactError::io(path, "create a temporary file beside"))?;
        parts(&mut |bytes| file.write_all(bytes).map_err(ArtifactError::io(path, "write")))?;
        file.as_file().sync_all().map_err(ArtifactError::io(path, "sync"))?;
        Ok(Self { path: path.into(), file })
    }

    /// The SHA-256 of what was written.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn sha256(&self) -> Result<String> {
        crate::hash::hash_file(self.file.path())
    }

    /// Gives it its name; that survives a power cut.
    ///
    /// # Errors
    /// If there is a file of this name that may not be replaced, or the system refuses.
    pub fn publish(self, overwrite: Overwrite) -> Result<()> {
        rename(self.file, &self.path, overwrite)?;
        sync_folder(folder_of(&self.path))
    }
}

fn rename(file: NamedTempFile, path: &Path, overwrite: Overwrite) -> Result<()> {
    let renamed = match overwrite {
        Overwrite::Replace => file.persist(path),
        Overwrite::Refuse => file.persist_noclobber(path),
    };
    match renamed {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            Err(ArtifactError::Exists { file: path.into() })
        }
        Err(error) => Err(ArtifactError::io(path, "rename the temporary file to")(error.error)),
    }
}

/// Writes files of a folder that belong together, in their order. All of them are written beside their places before the first
/// takes its own, so that an error while they are leaves the old ones. Whoever is killed behind that leaves some of each: the last
/// file should know the others' hashes.
///
/// # Errors
/// If a file exists and may not be replaced, or the system refuses.
pub fn write_together(folder: &Path, overwrite: Overwrite, files: &[(String, Vec<u8>)]) -> Result<()> {
    let mut ready = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        let folder = folder_of(&path);
        make_folder(folder)?;
        if overwrite == Overwrite::Refuse && is_there(&path)? {
            return Err(ArtifactError::Exists { file: path });
        }
        let mut file =
            temporary(folder).map_err(ArtifactError::io(&path, "create a temporary file beside"))?;
        file.write_all(bytes).map_err(ArtifactError::io(&path, "write"))?;
        file.as_file().sync_all().map_err(ArtifactError::io(&path, "sync"))?;
        ready.push((path, file));
    }
    for (path, file) in ready {
        rename(file, &path, overwrite)?;
        sync_folder(folder_of(&path))?;
    }
    Ok(())
}

const PREFIX: &str = ".skn-";
const SUFFIX: &str = ".tmp";

/// Whether a file is, by its name, one that a program was writing.
pub(crate) fn is_temporary(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// A temporary file with the permissions that the user's umask gives to any file, not those of a secret.
fn temporary(folder: &Path) -> std::io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // tempfile applies the umask to these.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Gives a file another name in the same folder, in the place of what has it; that survives a power cut too.
///
/// # Errors
/// If the system refuses; then both files are as they were.
pub fn rename_file(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(ArtifactError::io(from, "rename"))?;
    sync_folder(folder_of(to))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a folder and those above it, so that they are still there after a power cut.
///
/// # Errors
/// If the system refuses, or something else has the name.
pub fn make_folder(folder: &Path) -> Result<()> {
    // Else one that can't be looked at would be told as one that exists.
    if is_folder(folder)? {
        return Ok(());
    }
    if is_file(folder)? {
        return Err(ArtifactError::format(folder, "its place", "a folder", "a file"));
    }
    let mut missing = Vec::new();
    for place in folder.ancestors().filter(|place| !place.as_os_str().is_empty()) {
        if is_there(place)? {
            break;
        }
        missing.push(place);
    }
    fs::create_dir_all(folder).map_err(ArtifactError::io(folder, "make the folder"))?;
    // Else a power cut could take back the folder of a file that was reported saved.
    for parent in missing.into_iter().rev().filter_map(Path::parent) {
        sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    Ok(())
}

/// Without this a power cut can take back a rename that was reported done.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        let handle = File::open(folder).map_err(ArtifactError::io(folder, "open the folder"))?;
        handle.sync_all().map_err(ArtifactError::io(folder, "sync the folder"))?;
    }
    Ok(())
}

/// Reads a whole file.
///
/// # Errors
/// If it is not there or can't be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    read_regular(path, u64::MAX).map_err(missing_or(path, "read"))
}

pub(crate) fn open(path: &Path) -> Result<File> {
    open_regular(path).map_err(missing_or(path, "open"))
}

fn missing_or(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> ArtifactError {
    move |error| match error.kind() {
        ErrorKind::NotFound => ArtifactError::Missing { file: path.into(), hint: String::new() },
        _ => ArtifactError::io(path, operation)(error),
    }
}

/// Writes a value as indented JSON with a newline at the end, as [`write_file`] does.
///
/// # Errors
/// As [`write_file`].
pub fn write_json(path: &Path, overwrite: Overwrite, value: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| ArtifactError::format(path, "value", "something that JSON can say", error))?;
    bytes.push(b'\n');
    write_file(path, overwrite, &bytes)
}

/// Reads a JSON file into a value.
///
/// # Errors
/// If it can't be read, or is not what the type says; the message names line and column.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let size = fs::metadata(path).map_err(missing_or(path, "read"))?.len();
    if size > MAX_JSON {
        return Err(ArtifactError::format(path, "size", format!("at most {MAX_JSON} bytes"), size));
    }
    parse_json(path, &read(path)?, "the documented JSON")
}

/// The value of a JSON file's bytes; `path` and what is `expected` there are named in errors. A byte order mark, which editors
/// on Windows put before the text, is no part of it.
///
/// # Errors
/// If the text is something else; the message names line and column, or what the file is instead of JSON.
pub fn parse_json<T: DeserializeOwned>(path: &Path, bytes: &[u8], expected: &str) -> Result<T> {
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    serde_json::from_slice(text).map_err(|error| match Foreign::of(bytes) {
        Some(found) => ArtifactError::format(path, "start of the file", expected, found.told(Wanted::Text)),
        None => {
            let place = format!("line {}, column {}", error.line(), error.column());
            ArtifactError::format(path, place, expected, json_reason(&error))
        }
    })
}

/// What is wrong with JSON, in words for who wrote it, without the place.
pub fn json_reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason);
    match reason.strip_prefix("EOF while parsing ") {
        Some(what) => format!("the end of the text within {what}"),
        None => reason.replace("missing field", "no field"),
    }
}

/// The file that a user means by a path with or without its extension: `RUN/sst2/dev_perf` finds
/// `dev_perf.safetensors`, and `info/sst2/0.1` finds `0.1.safetensors`.
///
/// # Errors
/// If neither exists, or the system can't say.
pub fn resolve(path: &Path, extension: &str) -> Result<PathBuf> {
    // What is there and can't be read is said by who reads it.
    let is_no_folder = |path: &Path| Ok::<_, ArtifactError>(is_there(path)? && !is_folder(path)?);
    if is_no_folder(path)? {
        return Ok(path.into());
    }
    let mut extended = path.as_os_str().to_os_string();
    extended.push(".");
    extended.push(extension);
    let extended = PathBuf::from(extended);
    if is_no_folder(&extended)? {
        return Ok(extended);
    }
    let folder = if is_folder(path)? { "; it is a folder, of which one file is expected" } else { "" };
    Err(ArtifactError::Missing { file: path.into(), hint: format!("; nor {}{folder}", extended.display()) })
}

#[cfg(test)]
mod together {
    use super::*;

    fn files(text: &str) -> Vec<(String, Vec<u8>)> {
        ["a/rows", "a/key", "b/rows", "key"].map(|name| (name.into(), text.into())).into()
    }

    #[test]
    fn all_of_them_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let write = |overwrite, text| write_together(folder.path(), overwrite, &files(text));
        write(Overwrite::Refuse, "old").unwrap();
        assert!(matches!(write(Overwrite::Refuse, "new").unwrap_err(), ArtifactError::Exists { .. }));
        let all = |text: &str| {
            let read = |(name, _): (String, Vec<u8>)| fs::read_to_string(folder.path().join(name)).unwrap();
            files("").into_iter().map(read).all(|found| found == text)
        };
        assert!(all("old"));
        write(Overwrite::Replace, "new").unwrap();
        assert!(all("new"));
        // One that can't be written beside its place leaves all as they were.
        let mut more = files("newer");
        more.push(("a/rows/below".into(), Vec::new()));
        write_together(folder.path(), Overwrite::Replace, &more).unwrap_err();
        assert!(all("new"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_replaced_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("b.txt");
        write_file(&path, Overwrite::Refuse, b"one").unwrap();
        assert!(matches!(write_file(&path, Overwrite::Refuse, b"two"), Err(ArtifactError::Exists { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_file(&path, Overwrite::Replace, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_their_hash() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "sub/to"].map(|name| folder.path().join(name));
        // More than a piece, and not a multiple of one.
        let bytes: Vec<u8> = (0..200_001u32).map(|number| (number % 251) as u8).collect();
        fs::write(&from, &bytes).unwrap();
        assert_eq!(copy_file(&from, &to, Overwrite::Refuse).unwrap(), crate::sha256_hex(&bytes));
        assert!(fs::read(&to).unwrap() == bytes);
        assert!(matches!(copy_file(&from, &to, Overwrite::Refuse), Err(ArtifactError::Exists { .. })));
        fs::write(&from, b"other").unwrap();
        copy_file(&from, &to, Overwrite::Replace).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"other");
        // What can't be read leaves what is there, and nothing beside it.
        fs::remove_file(&from).unwrap();
        assert!(copy_file(&from, &to, Overwrite::Replace).unwrap_err().to_string().contains("from"));
        assert_eq!(fs::read(&to).unwrap(), b"other");
        assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_renamed_file_takes_the_place_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        write_file(&from, Overwrite::Refuse, b"new").unwrap();
        write_file(&to, Overwrite::Refuse, b"old").unwrap();
        rename_file(&from, &to).unwrap();
        assert_eq!((fs::read(&to).unwrap(), from.exists()), (b"new".to_vec(), false));
        let error = rename_file(&from, &to).unwrap_err();
        assert!(error.to_string().contains("from: can't rename"), "{error}");
        assert!(to.exists());
    }

    #[cfg(unix)]
    #[test]
    fn the_umask_decides_the_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        write_file(&folder.path().join("ours"), Overwrite::Refuse, b"").unwrap();
        fs::write(folder.path().join("theirs"), b"").unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("ours"), mode("theirs"));
    }

    #[test]
    fn a_path_without_extension_is_found() {
        let folder = tempfile::tempdir().unwrap();
        write_file(&folder.path().join("0.1.safetensors"), Overwrite::Refuse, b"").unwrap();
        let found = resolve(&folder.path().join("0.1"), "safetensors").unwrap();
        assert!(found.ends_with("0.1.safetensors"));
        assert_eq!(resolve(&found, "safetensors").unwrap(), found);
        let message = resolve(&folder.path().join("0.2"), "safetensors").unwrap_err().to_string();
        assert!(message.contains("0.2") && message.contains("0.2.safetensors"), "{message}");
        let message = resolve(folder.path(), "safetensors").unwrap_err().to_string();
        assert!(message.ends_with("; it is a folder, of which one file is expected"), "{message}");
    }

    #[test]
    fn a_json_error_names_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        write_file(&path, Overwrite::Refuse, b"{\n  \"a\": }").unwrap();
        let message = read_json::<serde_json::Value>(&path).unwrap_err().to_string();
        assert!(message.contains("x.json") && message.contains("line 2"), "{message}");
    }

    #[test]
    fn what_is_no_json_is_named() {
        let path = Path::new("x.json");
        let read = |bytes: &[u8]| parse_json::<serde_json::Value>(path, bytes, "a list");
        assert_eq!(read(b"\xef\xbb\xbf[1]").unwrap(), serde_json::json!([1]), "saved by Notepad");
        for (bytes, part) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"[..], "git lfs pull"),
            (b"\xff\xfe[\x001\x00]\x00", "UTF-16"),
            (b"\x1f\x8b\x08\0", "gunzip"),
            (b"<!DOCTYPE html><html>", "web page"),
        ] {
            let message = read(bytes).unwrap_err().to_string();
            assert!(message.contains("x.json") && message.contains("a list"), "{message}");
            assert!(message.contains(part), "{message}");
        }
    }
}
