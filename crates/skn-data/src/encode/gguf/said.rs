use skn_artifact::GgufFile;

use crate::error::DataError;

/// The key that says what kind of tokenizer it is.
pub(super) const KIND: &str = "tokenizer.ggml.model";

/// What to do where no tokenizer is made of a file.
pub(super) const REMEDY: &str = "put the model's tokenizer.json beside the file";

/// A file that says something of a tokenizer.
pub(super) struct Said<'f> {
    pub(super) file: &'f GgufFile,
}

impl Said<'_> {
    pub(super) fn wrong(&self, key: &str, expected: &str, found: String) -> DataError {
        let file = self.file.path().display().to_string();
        DataError::Tokenizer { file, reason: format!("key `{key}`: expected {expected}, found {found}") }
    }
}
