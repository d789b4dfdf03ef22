use std::path::PathBuf;

use crate::error::ModelError;

/// Where a masked-LM head was looked for.
#[derive(Clone, Debug)]
pub(crate) struct NoHead {
    pub(super) file: PathBuf,
    pub(super) tensor: String,
    pub(super) is_decoder: bool,
}

impl NoHead {
    /// What those are told who need a head.
    pub(crate) fn error(&self) -> ModelError {
        let (head, class) = if self.is_decoder {
            ("head that names words", "AutoModelForCausalLM")
        } else {
            ("masked-LM head", "AutoModelForMaskedLM")
        };
        let hint = format!(
            "nothing: the model has no {head}, so it gives no logits to tune or to answer by; use a checkpoint that has one ({class} in \
             Python), or probe it alone: skn-probe with option `probe_type` acc_mean,acc_max,acc_last"
        );
        ModelError::weight(&self.file, &self.tensor, "a tensor", hint)
    }
}
