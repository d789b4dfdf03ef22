//! Files that are something else than their place or their name says.

use std::io::Read;
use std::path::Path;

use crate::regular::open_regular;

/// The mark that programs on Windows put before text in UTF-8: U+FEFF, no part of the text.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file turns out to be by how it begins, where another form was expected.
///
/// ```
/// use skn_artifact::{Foreign, Wanted};
///
/// let start = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a..";
/// let found = Foreign::of(start).unwrap();
/// assert_eq!(found, Foreign::LfsPointer);
/// assert!(found.told(Wanted::Tensors).contains("git lfs pull"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// The text that git keeps in place of a large file.
    LfsPointer,
    /// A Python pickle, which `torch.save` wrote until 2020 and `pandas.to_pickle` writes.
    Pickle,
    /// A zip file of `torch.save`.
    TorchSave,
    /// An Excel workbook.
    Workbook,
    /// An `.npz` of numpy.
    NumpyZip,
    /// Any other zip file.
    Zip,
    /// A tar archive, which `torch.save` wrote in its first year.
    Tar,
    /// A `.npy` of numpy.
    Numpy,
    /// An HDF5 file, as Keras writes.
    Hdf5,
    /// A GGUF model.
    Gguf,
    /// Compressed by gzip.
    Gzip,
    /// Compressed by zstd.
    Zstd,
    /// Compressed by bzip2.
    Bzip2,
    /// Compressed by xz.
    Xz,
    /// Compressed by lz4.
    Lz4,
    /// An Arrow IPC file with a footer.
    Feather,
    /// A Parquet file.
    Parquet,
    /// A safetensors file.
    Safetensors,
    /// Text in UTF-16.
    Utf16,
    /// Text in UTF-32.
    Utf32,
    /// A web page, such as a download leaves that needed a login.
    Html,
}

/// What was to be read, which decides how a foreign file becomes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// Rows of a data set.
    Data,
    /// Tensors in safetensors form.
    Tensors,
    /// JSON, TOML or a vocabulary.
    Text,
}

impl Foreign {
    /// Bytes at the start of a file that are enough to tell.
    pub const LOOKED_AT: usize = 512;

    /// What a file is that begins so; nothing for what is none of these.
    pub fn of(start: &[u8]) -> Option<Self> {
        let zip = || {
            let holds = |name: &[u8]| start.windows(name.len()).any(|part| part == name);
            match () {
                () if holds(b"/data.pkl") || holds(b"/.format_version") => Self::TorchSave,
                () if holds(b"[Content_Types].xml") || holds(b"xl/") => Self::Workbook,
                () if holds(b".npy") => Self::NumpyZip,
                () => Self::Zip,
            }
        };
        Some(match start {
            // Protocol 2 and later; what is read here begins with a printable character, a blank or 0xff.
            [0x80, 2..=5, ..] => Self::Pickle,
            [b'P', b'K', 3, 4, ..] => zip(),
            // One without files, or in several volumes.
            [b'P', b'K', 5, 6, ..] | [b'P', b'K', 7, 8, ..] => Self::Zip,
            // What Excel saved until 2003.
            [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] => Self::Workbook,
            // Behind the name and the numbers of its first file. A text about mustard has no zero behind it.
            _ if [&b"ustar\0"[..], b"ustar  \0"]
                .iter()
                .any(|mark| start.get(257..).is_some_and(|behind| behind.starts_with(mark))) =>
            {
                Self::Tar
            }
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Self::Numpy,
            [0x89, b'H', b'D', b'F', ..] => Self::Hdf5,
            [b'G', b'G', b'U', b'F', ..] => Self::Gguf,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            [b'A', b'R', b'R', b'O', b'W', b'1', 0, 0, ..] => Self::Feather,
            [b'P', b'A', b'R', b'1', ..] => Self::Parquet,
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Self::Utf32,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Self::Utf16,
            // Without a mark: letters of ASCII beside zeros.
            [1..=0x7f, 0, 1..=0x7f, 0, 1..=0x7f, 0, ..] | [0, 1..=0x7f, 0, 1..=0x7f, 0, 1..=0x7f, ..] => {
                Self::Utf16
            }
            _ if start.starts_with(b"version https://git-lfs") => Self::LfsPointer,
            _ if is_safetensors(start) => Self::Safetensors,
            _ if is_html(start) => Self::Html,
            _ => return None,
        })
    }

    /// What a file is by its first bytes; nothing for what is none of these, or can't be read.
    pub fn of_file(path: &Path) -> Option<Self> {
        let mut start = Vec::new();
        let file = open_regular(path).ok()?;
        file.take(Self::LOOKED_AT as u64).read_to_end(&mut start).ok()?;
        Self::of(&start)
    }

    /// What it is, in words: `a Git LFS pointer`.
    pub fn what(self) -> &'static str {
        match self {
            Self::LfsPointer => "a Git LFS pointer, which stands for a file that was not fetched",
            Self::Pickle => "a Python pickle, which may run code",
            Self::TorchSave => "a file of torch.save, which is a pickle and may run code",
            Self::Workbook => "an Excel workbook",
            Self::NumpyZip => "an .npz file of numpy",
            Self::Zip => "a zip file",
            Self::Tar => "a tar archive",
            Self::Numpy => "an .npy file of numpy",
            Self::Hdf5 => "an HDF5 file",
            Self::Gguf => "a GGUF model",
            Self::Gzip => "a gzip file",
            Self::Zstd => "a zstd file",
            Self::Bzip2 => "a bzip2 file",
            Self::Xz => "an xz file",
            Self::Lz4 => "an lz4 file",
            Self::Feather => "an Arrow file with a footer (Feather)",
            Self::Parquet => "a Parquet file",
            Self::Safetensors => "a safetensors file",
            Self::Utf16 => "text in UTF-16",
            Self::Utf32 => "text in UTF-32",
            Self::Html => "a web page",
        }
    }

    /// What to do about it.
    pub fn remedy(self, wanted: Wanted) -> &'static str {
        let tensors = "load it in Python, if you trust it, and write it with safetensors.torch.save_file";
        match (self, wanted) {
            (Self::LfsPointer, _) => "run `git lfs pull` in its repository, or fetch the file itself",
            (Self::Pickle, Wanted::Data) => {
                "load it in Python, if you trust it, and write it with DataFrame.to_parquet"
            }
            (Self::Pickle | Self::TorchSave, Wanted::Tensors) => tensors,
            (Self::Pickle | Self::TorchSave, _) => {
                "load it in Python, if you trust it, and write it in another form"
            }
            (Self::Hdf5 | Self::Numpy | Self::NumpyZip, Wanted::Tensors) => {
                "load it in Python and write it with safetensors"
            }
            (Self::Workbook, _) => "save it as `CSV UTF-8` in Excel",
            (Self::Zip | Self::NumpyZip, _) => "unpack it, and give the folder or file inside",
            (Self::Tar, _) => "unpack it with `tar -xf`, and give the folder or file inside",
            (Self::Gguf, Wanted::Tensors) => "use the model's safetensors file instead",
            (Self::Gzip, _) => "unpack it with gunzip",
            (Self::Zstd, _) => "unpack it with unzstd",
            (Self::Bzip2, _) => "unpack it with bunzip2",
            (Self::Xz, _) => "unpack it with unxz",
            (Self::Lz4, _) => "unpack it with unlz4",
            (Self::Feather, Wanted::Data) => {
                "streams are read: write it with pyarrow.ipc.new_stream, or with pyarrow.parquet"
            }
            (Self::Parquet, Wanted::Data) => "give it the extension .parquet",
            (Self::Utf16, _) => "convert it with `iconv -f UTF-16 -t UTF-8`, or save it as UTF-8",
            (Self::Utf32, _) => "convert it with `iconv -f UTF-32 -t UTF-8`, or save it as UTF-8",
            (Self::Html, _) => "the download may have needed a login: fetch the file again",
            (_, Wanted::Data) => "data are Arrow, Parquet, CSV, JSON or JSON Lines files",
            (_, Wanted::Tensors) => "tensors are read from safetensors files",
            (_, Wanted::Text) => "it must be a text file in UTF-8",
        }
    }

    /// Both, for an error: what it is, and what to do about it.
    pub fn told(self, wanted: Wanted) -> String {
        format!("{}; {}", self.what(), self.remedy(wanted))
    }
}

/// The length of a header of JSON, and the header's beginning.
fn is_safetensors(start: &[u8]) -> bool {
    let length = start.first_chunk().map(|length| u64::from_le_bytes(*length));
    length.is_some_and(|length| (2..1 << 32).contains(&length))
        && start.get(8..).is_some_and(|header| header.starts_with(b"{\""))
}

fn is_html(start: &[u8]) -> bool {
    let text = start.trim_ascii_start();
    let begins = |tag: &[u8]| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    begins(b"<!doctype html") || begins(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_how_they_begin() {
        // As the libraries write them (first bytes of torch.save, np.save, DataFrame.to_pickle, to_excel, h5py, gzip ..).
        let mut tar = b"weights.pt".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar  \0");
        let cases: [(&[u8], Foreign); 31] = [
            (&tar, Foreign::Tar),
            (b"PK\x03\x04\x14\0\0\0\0\0\x13\0\0\0model/.format_version1", Foreign::TorchSave),
            (b"PK\x03\x04\x14\0\0\0\x08\0xl/workbook.xml", Foreign::Workbook),
            (b"PK\x07\x08\0\0\0\0", Foreign::Zip),
            (b"\x28\xb5\x2f\xfd\x04", Foreign::Zstd),
            (b"\xfd7zXZ\0\0\x04", Foreign::Xz),
            (b"\x04\x22\x4d\x18\x64", Foreign::Lz4),
            (b"PAR1\x15\x04", Foreign::Parquet),
            (b"\0\0\xfe\xff\0\0\0t", Foreign::Utf32),
            (b"\xfe\xff\0t", Foreign::Utf16),
            (b"\0t\0e\0x\0t", Foreign::Utf16),
            (b"PK\x05\x06\0\0\0\0", Foreign::Zip),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", Foreign::Workbook),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", Foreign::LfsPointer),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", Foreign::Pickle),
            (b"\x80\x05\x95\x1c\x02", Foreign::Pickle),
            (b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\x0f\0\x13\0prompts/data.pkl", Foreign::TorchSave),
            (b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\x13\0[Content_Types].xml", Foreign::Workbook),
            (b"PK\x03\x04\x14\0\0\0\0\0\x0b\0\x14\0prompts.npy", Foreign::NumpyZip),
            (b"PK\x03\x04\x14\0\0\0\x08\0train.csv", Foreign::Zip),
            (b"\x93NUMPY\x01\0v\0{'descr': '<f4'", Foreign::Numpy),
            (b"\x89HDF\r\n\x1a\n\0", Foreign::Hdf5),
            (b"GGUF\x03\0\0\0", Foreign::Gguf),
            (b"\x1f\x8b\x08\0", Foreign::Gzip),
            (b"BZh91AY&SY", Foreign::Bzip2),
            (b"ARROW1\0\0\xff\xff\xff\xff", Foreign::Feather),
            (b"\xff\xfet\0e\0x\0t\0", Foreign::Utf16),
            (b"t\0e\0x\0t\0", Foreign::Utf16),
            (b"\xff\xfe\0\0t\0\0\0", Foreign::Utf32),
            (b"@\0\0\0\0\0\0\0{\"a\":{\"dtype\"", Foreign::Safetensors),
            (b"\n<!DOCTYPE html>\n<html>", Foreign::Html),
        ];
        for (start, expected) in cases {
            assert_eq!(Foreign::of(start), Some(expected));
            for wanted in [Wanted::Data, Wanted::Tensors, Wanted::Text] {
                assert!(!expected.told(wanted).ends_with("; "));
            }
        }
    }

    #[test]
    fn what_to_do_is_told_for_what_was_wanted() {
        // For data, for tensors, and for text.
        let cases = [
            (Foreign::LfsPointer, ["git lfs pull"; 3]),
            (Foreign::Pickle, ["DataFrame.to_parquet", "safetensors.torch.save_file", "in another form"]),
            (Foreign::TorchSave, ["in another form", "safetensors.torch.save_file", "in another form"]),
            (Foreign::Workbook, ["CSV UTF-8"; 3]),
            (Foreign::NumpyZip, ["unpack it, and", "write it with safetensors", "unpack it, and"]),
            (Foreign::Zip, ["unpack it, and"; 3]),
            (Foreign::Tar, ["tar -xf"; 3]),
            (Foreign::Numpy, ["data are Arrow", "write it with safetensors", "a text file"]),
            (Foreign::Hdf5, ["data are Arrow", "write it with safetensors", "a text file"]),
            (Foreign::Gguf, ["data are Arrow", "the model's safetensors file", "a text file"]),
            (Foreign::Gzip, ["gunzip"; 3]),
            (Foreign::Zstd, ["unzstd"; 3]),
            (Foreign::Bzip2, ["bunzip2"; 3]),
            (Foreign::Xz, ["unxz"; 3]),
            (Foreign::Lz4, ["unlz4"; 3]),
            (Foreign::Feather, ["streams are read", "read from safetensors", "a text file"]),
            (Foreign::Parquet, ["extension .parquet", "read from safetensors", "a text file"]),
            (Foreign::Safetensors, ["data are Arrow", "read from safetensors", "a text file"]),
            (Foreign::Utf16, ["iconv -f UTF-16"; 3]),
            (Foreign::Utf32, ["iconv -f UTF-32"; 3]),
            (Foreign::Html, ["needed a login"; 3]),
        ];
        let mut names: Vec<&str> = cases.iter().map(|(found, _)| found.what()).collect();
        for (found, parts) in cases {
            for (wanted, part) in [Wanted::Data, Wanted::Tensors, Wanted::Text].into_iter().zip(parts) {
                let told = found.told(wanted);
                assert!(
                    told.starts_with(found.what()) && told.contains(part),
                    "{wanted:?}: {told} has no {part}"
                );
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 21, "each is called something else");
    }

    #[test]
    fn a_file_is_known_by_its_beginning_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        for (bytes, expected) in [(&b"GGUF\x03\0\0\0"[..], Some(Foreign::Gguf)), (b"text", None)] {
            std::fs::write(&path, [bytes, &[b' '; 1000]].concat()).unwrap();
            assert_eq!(Foreign::of_file(&path), expected);
        }
        assert_eq!(Foreign::of_file(&folder.path().join("none")), None);
    }

    #[test]
    fn what_is_read_is_not_foreign() {
        let ours: [&[u8]; 10] = [
            b"",
            b"\x01\0\0\0\0\0\0\0{\"",
            b"\0\0\0\0\x01\0\0\0{\"",
            b"@\0\0\0\0\0\0\0[1]",
            b"text,label\ngood,1\n",
            b"{\"text\": \"a\"}",
            b"\xef\xbb\xbftext",
            b"\xff\xff\xff\xff\x10\x01\0\0",
            b"#version: 0.2\n",
            b"Pack my box",
        ];
        for start in ours {
            assert_eq!(Foreign::of(start), None, "{start:?}");
        }
        let mustard = format!("text,label\n{}mustard,1\n", "a ".repeat(122) + "m");
        assert_eq!(&mustard[257..262], "ustar");
        assert_eq!(Foreign::of(mustard.as_bytes()), None);
    }
}
