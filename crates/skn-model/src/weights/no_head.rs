use std::path::PathBuf;

use crate::error::ModelError;

/// Where a masked-LM head was looked for.
#[derive(Clone, Debug)]
pub(crate) struct NoHead {
    pub(super) file: PathBuf,
    pub(super) tensor: String,
}

impl NoHead {
    /// What those are told who need a head.
    pub(crate) fn error(&self) -> ModelError {
        let hint = "nothing: the model has no masked-LM head, so it gives no logits to tune or to answer by; \
                    use a checkpoint that has one (AutoModelForMaskedLM in Python), or probe it with acc_mean and acc_max";
        ModelError::weight(&self.file, &self.tensor, "a tensor", hint)
    }
}
