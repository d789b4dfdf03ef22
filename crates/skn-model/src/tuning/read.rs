use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use skn_artifact::is_file;
use skn_artifact::names::file::{ADAPTER_TENSORS, BIAS_TENSORS, PEFT_TENSORS, PROMPT_TENSORS};

use super::absent::no_tuning;
use super::adapter_hub::read_adapter;
use super::peft::{read_front_prompt, read_prompt};
use super::source::{ReadAs, Source, is_classifier, read_tensor};
use super::{PROMPT_NAME, ReadTuning, Tuning};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::weights::Weights;

impl Tuning {
    /// Reads the tuned parameters of a folder: a PEFT prompt, AdapterHub adapters or `bitfit.safetensors`, ours or
    /// anybody's.
    ///
    /// A prompt whose row 0 is the embedding of `<mask>` is read as such. Another stands for the `<mask>` row too:
    /// the answer is read at its first row, unless [`ReadAs::prepend_mask`] puts the `<mask>` row before it. A decoder's PEFT prompt
    /// stands before the text, one of ours (`prompt.safetensors`) behind it. A classifier that was
    /// saved with the parameters is an error, unless [`ReadAs::verbalizer`] says that the label words answer.
    ///
    /// # Errors
    /// If the folder holds none of these, more than one, one that does not fit the model, or something that changes what the
    /// library computes that wrote it and is not computed here.
    pub fn read(
        folder: &Path,
        config: &Config,
        weights: &Weights,
        mask: impl Into<Option<u32>>,
        how: ReadAs,
    ) -> Result<ReadTuning> {
        let source = Source { folder, names: config.family.names(), how };
        let mut found = Vec::new();
        for name in [PEFT_TENSORS, ADAPTER_TENSORS, BIAS_TENSORS, PROMPT_TENSORS] {
            if is_file(&folder.join(name))? {
                found.push(name);
            }
        }
        let read = match found.as_slice() {
            [PEFT_TENSORS] if config.is_decoder() => read_front_prompt(&source, config.hidden_size)?.into(),
            [PROMPT_TENSORS] if !config.is_decoder() => {
                let expected = "tuned parameters of an encoder";
                let found = "a prompt that stands behind the text, of a decoder";
                return Err(ModelError::weight(&source.file(PROMPT_TENSORS), PROMPT_NAME, expected, found));
            }
            [PROMPT_TENSORS] => {
                let file = source.tensors(PROMPT_TENSORS)?;
                Tuning::prompt(read_tensor(&file, PROMPT_NAME)?, false)?.into()
            }
            [PEFT_TENSORS] => read_prompt(&source, weights, mask.into())?,
            [ADAPTER_TENSORS] => read_adapter(&source, config)?.into(),
            [BIAS_TENSORS] => read_bias(&source, config)?.into(),
            [] => return Err(no_tuning(folder)),
            several => {
                let hint = format!("it holds {}: keep one tuning a folder", several.join(" and "));
                let expected = "a single set of tuned parameters".into();
                return Err(ModelError::MissingFile { folder: folder.into(), expected, hint });
            }
        };
        let file = found.first().copied().unwrap_or_default();
        read.tuning.check(config).map_err(|error| at_file(error, &folder.join(file)))?;
        Ok(read)
    }
}

/// Biases by the names that a model's file may give them; those of a pooler change nothing.
fn read_bias(source: &Source<'_>, config: &Config) -> Result<Tuning> {
    let file = source.tensors(BIAS_TENSORS)?;
    let (classifiers, others): (Vec<_>, Vec<_>) = file.names().partition(|name| is_classifier(name));
    source.pass_over(&file, &classifiers)?;
    let mut tensors = BTreeMap::new();
    for stored in others {
        let name = source.names.canonical(stored);
        if !source.names.is_unused(&name) {
            let twin = source.names.twins.iter().find(|(twin, _)| *twin == name);
            let name = twin.map_or(name, |(_, own)| (*own).to_owned());
            let tensor = read_tensor(&file, stored)?;
            if let Some(other) = tensors.insert(name.clone(), tensor.clone())
                && !same(&other, &tensor)?
            {
                let expected = format!("the numbers of `{name}`, which is the same parameter");
                return Err(ModelError::weight(file.path(), stored, expected, "others"));
            }
        }
    }
    Ok(Tuning::new_bias_for(config).with_tensors(tensors))
}

fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    Ok(a.dims() == b.dims() && values(a)? == values(b)?)
}

/// Names the file in an error about the tensors that were read from it.
fn at_file(error: ModelError, file: &Path) -> ModelError {
    match error {
        ModelError::Input { what, expected, found } => ModelError::weight(file, &what, expected, found),
        other => other,
    }
}
