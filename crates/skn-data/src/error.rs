use std::{fmt, io};

use skn_artifact::{ArtifactError, ErrorKind};
use skn_hub::HubError;

/// What can be wrong with tasks, data and tokenizers. Each message names the file, the place in it, what was
/// expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("{file}: {}", unread(source))]
    Io {
        /// The file or folder.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },

    /// No data where they should be.
    #[error("{place}: expected {expected}, found {found}")]
    NotFound {
        /// The folder or file that was given.
        place: String,
        /// What was looked for there.
        expected: String,
        /// What is there instead.
        found: String,
    },

    /// A link leads to nothing, or out of a repository of the Hugging Face cache.
    #[error(transparent)]
    Link(#[from] HubError),

    /// A name in a file leads out of the folder that the user gave.
    #[error("{file}: {name:?} leads out of the folder; only files inside it are read")]
    Outside {
        /// The file that holds the name.
        file: String,
        /// The offending name.
        name: String,
    },

    /// No task of this name is built in.
    #[error("unknown task {name:?}; {hint}")]
    UnknownTask {
        /// The name that was asked for.
        name: String,
        /// Names that look alike, or all names.
        hint: String,
    },

    /// A task has no negative, neutral and positive class to make tasks of two classes of.
    #[error(
        "task {task}: expected three or four classes, among them \"negative\", \"neutral\" and \"positive\", found \
         {words}"
    )]
    NotThreeSided {
        /// The task.
        task: String,
        /// The words of its classes.
        words: String,
    },

    /// A task file says something that cannot be.
    #[error("{file}: {field}: expected {expected}, found {found}")]
    TaskFile {
        /// The task file, or the name of a built-in task.
        file: String,
        /// The key, or the line.
        field: String,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A file is not what its format demands.
    #[error("{file}, {place}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// Where in it: a row, a line or a field.
        place: String,
        /// What is wrong.
        reason: String,
    },

    /// A split lacks a column that the task names.
    #[error("{file}, split {split}: expected a column {column:?}, found {found}")]
    MissingColumn {
        /// The file.
        file: String,
        /// The split that it belongs to.
        split: String,
        /// The column that the task names.
        column: String,
        /// The columns of the file.
        found: String,
    },

    /// One cell of a table is not what the task needs.
    #[error("{place}, column {column:?}: expected {expected}, found {found}")]
    Cell {
        /// The row.
        place: Box<RowPlace>,
        /// The column.
        column: String,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },

    /// A label is not one of the task's classes.
    #[error(
        "{place}: label {label} is not a class: the task has {classes} (0 .. {})",
        .classes.saturating_sub(1)
    )]
    LabelOutOfRange {
        /// The row.
        place: Box<RowPlace>,
        /// The label.
        label: i64,
        /// Number of classes of the task.
        classes: usize,
    },

    /// A part that is needed has no rows, or not enough.
    #[error("split {split}: {reason}")]
    EmptySplit {
        /// The split.
        split: String,
        /// How many rows there are and how many are needed.
        reason: String,
    },

    /// A saved split does not fit the data.
    #[error("the saved split does not fit the data: {field}: expected {expected}, found {found}")]
    SplitMismatch {
        /// What differs.
        field: String,
        /// The saved value.
        expected: String,
        /// The value of the data.
        found: String,
    },

    /// What a GGUF file says under a key is something else than it should be; or a file of our own can't be written or read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),

    /// A tokenizer file is damaged, or lacks a token.
    #[error("{file}: {reason}")]
    Tokenizer {
        /// The tokenizer's file.
        file: String,
        /// What is wrong.
        reason: String,
    },

    /// The number of verbalizer words is not the number of classes.
    #[error("expected one word for each of the {expected} classes of task {task}, found {found}: {words}")]
    WordCount {
        /// The task.
        task: String,
        /// Classes of the task.
        expected: usize,
        /// Words given.
        found: usize,
        /// The words.
        words: String,
    },

    /// A verbalizer word has no token.
    #[error("verbalizer word {word:?} of class {class} has no token")]
    WordWithoutToken {
        /// The class.
        class: usize,
        /// Its word.
        word: String,
    },

    /// Two classes would be told apart by one token.
    #[error(
        "verbalizer words {first:?} (class {first_class}) and {second:?} (class {second_class}) both begin with \
         the token {token:?}, so their classes have the same logit"
    )]
    SharedToken {
        /// The token's id.
        id: u32,
        /// Word of the first class.
        first: String,
        /// The first class.
        first_class: usize,
        /// Word of the second class.
        second: String,
        /// The second class.
        second_class: usize,
        /// The token of both.
        token: String,
    },

    /// No room is left for a text.
    #[error("texts may take {max_tokens} tokens, but {needed} are needed for the special ones alone")]
    NoRoom {
        /// Tokens a text may take.
        max_tokens: usize,
        /// Special tokens of a text.
        needed: usize,
    },

    /// A template leaves no room for the texts in it.
    #[error(
        "texts may take {max_tokens} tokens, but {needed} are needed for the task's template, and special ones such as <s>, alone"
    )]
    LongTemplate {
        /// Tokens a text may take.
        max_tokens: usize,
        /// Those of the template, and special ones.
        needed: usize,
    },

    /// A row that is not labelled was to be encoded, or a batch was asked for a row that does not exist.
    #[error("row {row}: {reason}")]
    Row {
        /// The row, from 0.
        row: u64,
        /// What is wrong.
        reason: String,
    },

    /// A shard that does not exist.
    #[error("shard {index} of {count} does not exist: shards are numbered from 0")]
    Shard {
        /// The shard asked for.
        index: usize,
        /// Number of shards.
        count: usize,
    },
}

impl DataError {
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownTask { .. } | Self::WordCount { .. } | Self::NoRoom { .. } => ErrorKind::Usage,
            Self::LongTemplate { .. } => ErrorKind::Usage,
            Self::Shard { .. } | Self::WordWithoutToken { .. } => ErrorKind::Usage,
            Self::SharedToken { .. } | Self::NotThreeSided { .. } => ErrorKind::Usage,
            Self::Link(error) => error.kind(),
            Self::Artifact(error) => error.kind(),
            _ => ErrorKind::Input,
        }
    }
}

/// A row of a data set, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RowPlace {
    /// The file.
    pub file: String,
    /// The split that it belongs to.
    pub split: String,
    /// `row 3` (from 0, over all files of the split) or `line 4` (from 1, in the file).
    pub row: String,
}

impl fmt::Display for RowPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, split {}, {}", self.file, self.split, self.row)
    }
}

/// A result of this crate.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

/// Names for an error, not all of them if there are many.
pub(crate) fn names(all: &[&str]) -> String {
    match all {
        [] => "none".to_owned(),
        _ if all.len() > 20 => format!("{} and {} more", all[..20].join(", "), all.len() - 20),
        _ => all.join(", "),
    }
}

/// Why a file was not read. The system has several words for one that is not there.
fn unread(source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        _ => format!("cannot be read: {source}"),
    }
}
