//! What a repository of the Hub is called.

use std::path::Path;

/// The revision of a name that says none.
pub const MAIN: &str = "main";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model
    Model,
    /// A data set
    Dataset,
}

impl Kind {
    fn folder_prefix(self) -> &'static str {
        match self {
            Self::Model => "models--",
            Self::Dataset => "datasets--",
        }
    }

    /// As messages call it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        }
    }
}

/// A repository of the Hub at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// What it holds.
    pub kind: Kind,
    /// `owner/name`; old ones have no owner.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl Repository {
    /// Reads `owner/name[@revision]`; nothing if that can't be the name of a repository.
    pub fn parse(kind: Kind, text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let fits = |text: &str, parts: usize| text.split('/').count() <= parts && is_plain(text);
        (fits(name, 2) && fits(revision, usize::MAX)).then(|| Self {
            kind,
            name: name.to_string(),
            revision: revision.to_string(),
        })
    }

    /// The repository whose snapshot of a commit a folder is, by its path `<cache>/models--owner--name/snapshots/<commit>`.
    pub(crate) fn of_snapshot(folder: &Path) -> Option<Self> {
        let commit = folder.file_name()?.to_str().filter(|name| is_commit(name))?;
        let snapshots = folder.parent().filter(|folder| folder.ends_with("snapshots"))?;
        let name = snapshots.parent()?.file_name()?.to_str()?;
        let of = |kind: Kind| {
            let name = name.strip_prefix(kind.folder_prefix())?.replacen("--", "/", 1);
            Self::parse(kind, &format!("{name}@{commit}"))
        };
        of(Kind::Model).or_else(|| of(Kind::Dataset))
    }

    /// The name of its folder in the cache.
    pub fn folder_name(&self) -> String {
        format!("{}{}", self.kind.folder_prefix(), self.name.replace('/', "--"))
    }

    /// The command line that fetches it.
    pub fn fetch_command(&self) -> String {
        let kind = if self.kind == Kind::Dataset { "--dataset " } else { "" };
        let revision =
            if self.revision == MAIN { String::new() } else { format!(" --revision {}", self.revision) };
        format!("skn-fetch {kind}{}{revision}", self.name)
    }
}

/// Whether a name with slashes stays below where it begins, in a file system and in a URL.
fn is_plain(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
    };
    text.split('/').all(plain)
}

/// Whether a text can be a commit, or the beginning of one: hexadecimal digits, and so no path that leads elsewhere.
pub fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
