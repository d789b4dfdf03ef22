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
        let (head, hint) = if self.is_decoder {
            ("head that names words", "use a checkpoint that has one (AutoModelForCausalLM in Python)")
        } else {
            (
                "masked-LM head",
                "use a checkpoint that has one, or put a new one on it, in Python \
                 AutoModelForMaskedLM.from_pretrained(MODEL).save_pretrained(NEW) and the same with AutoTokenizer, then tune the biases: \
                 `skn-train --model NEW --model_type RobertaBias`",
            )
        };
        ModelError::NoHead { file: self.file.clone(), tensor: self.tensor.clone(), head, hint }
    }
}
