//! The Hub's list of a repository's files.

use serde::Deserialize;

use crate::content::{Expected, Hash};

/// What a repository has at a revision.
pub(crate) struct Listing {
    /// The commit of the revision.
    pub(crate) commit: String,
    /// The files.
    pub(crate) files: Vec<Listed>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its name, with slashes.
    pub(crate) name: String,
    /// Its length and hash, if the Hub lists them.
    pub(crate) expected: Option<Expected>,
}

/// The Hub's description of a repository, as `?blobs=true` asks for it.
#[derive(Deserialize)]
pub(crate) struct Info {
    pub(crate) sha: String,
    pub(crate) siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Sibling {
    /// Checked; a name that would lead out of the folder is the error.
    pub(crate) fn listed(self) -> Result<Listed, String> {
        let Self { rfilename: name, size, blob_id, lfs } = self;
        let part = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !name.split('/').all(part) || name.contains(['\\', ':']) || name.contains(char::is_control) {
            return Err(name);
        }
        let (size, hash) = match lfs {
            Some(Large { sha256, size }) => (Some(size), Hash::parse(&sha256)),
            None => (size, blob_id.as_deref().and_then(Hash::parse)),
        };
        Ok(Listed { name, expected: size.zip(hash).map(|(size, hash)| Expected { size, hash }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_that_lead_elsewhere_are_refused() {
        let listed = |name: &str| {
            Sibling { rfilename: name.into(), size: None, blob_id: None, lfs: None }.listed().is_ok()
        };
        assert!(listed("a/b c.json") && listed("..a"));
        for wrong in ["", "/a", "a//b", "../a", "a/..", "a\\b", "c:x", "a\0"] {
            assert!(!listed(wrong), "{wrong:?}");
        }
    }
}
