//! Only regular files are read: a FIFO waits for a writer that may never come, and a device may have no end.

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Opens a file to be read.
///
/// # Errors
/// What the system says, or that it is a folder, a FIFO, a socket or a device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // Before it is opened, which a FIFO would not come back from.
    refuse_special(fs::metadata(path)?.file_type())?;
    let file = File::open(path)?;
    // Something else may have come to its place.
    refuse_special(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a whole file of at most `most` bytes.
///
/// # Errors
/// As [`open_regular`], or that it is larger.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let length = file.metadata()?.len();
    let too_large = |length: u64| {
        io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it has {length} bytes; of files of its kind at most {most} are read"),
        )
    };
    if length > most {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // It may grow meanwhile.
    match file.take(most.saturating_add(1)).read_to_end(&mut bytes)? as u64 {
        read if read > most => Err(too_large(read)),
        _ => Ok(bytes),
    }
}

fn refuse_special(kind: FileType) -> io::Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    let what = special(kind);
    Err(io::Error::new(ErrorKind::InvalidInput, format!("it is {what}, and only regular files are read")))
}

#[cfg(unix)]
fn special(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn special(kind: FileType) -> &'static str {
    if kind.is_dir() { "a folder" } else { "something else" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_files_are_read_up_to_their_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("merges.txt");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_regular(&path, 5).unwrap(), b"12345");
        let error = read_regular(&path, 4).unwrap_err();
        assert_eq!(error.to_string(), "it has 5 bytes; of files of its kind at most 4 are read");
        assert_eq!(open_regular(&folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
        let error = open_regular(folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "it is a folder, and only regular files are read");
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_sockets_are_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("tokenizer.json");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [&link, Path::new("/dev/null")] {
            let error = read_regular(path, 10).unwrap_err();
            assert_eq!(error.to_string(), "it is a device, and only regular files are read");
        }
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(open_regular(&socket).unwrap_err().to_string().starts_with("it is a socket"));
        let fifo = folder.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(open_regular(&fifo).unwrap_err().to_string().starts_with("it is a FIFO"));
    }
}
