//! A soft prompt as PEFT saves it.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Map, Value};
use skn_artifact::names::file::PEFT_TENSORS;

use super::names::PROMPT_NAME;
use super::source::{CLASSIFIER, Source, is_classifier, tell_unknown};
use super::{PromptPlace, ReadTuning, Tuning};
use crate::error::{ModelError, Result};
use crate::finite::check_finite;
use crate::neutral::Neutral;
use crate::weights::Weights;

/// How far row 0 of a prompt file may be from the embedding of `<mask>` and still be it.
const MASK_TOLERANCE: f32 = 1e-5;

/// Fields that change nothing, or are looked at.
const KNOWN: [&str; 18] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "modules_to_save",
    "num_attention_heads",
    "num_layers",
    "num_transformer_submodules",
    "num_virtual_tokens",
    "peft_type",
    "peft_version",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "revision",
    "task_type",
    "token_dim",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
    "prompt_tuning_init_state_dict_path",
];

/// PEFT's kind of a model that is a decoder.
pub(super) const CAUSAL: &str = "CAUSAL_LM";

/// Reads a decoder's prompt, which PEFT puts before everything.
pub(super) fn read_front_prompt(source: &Source<'_>, hidden: usize) -> Result<Tuning> {
    let config = source.config()?;
    let task = config.get("task_type").unwrap_or(&Value::Null);
    if task != CAUSAL {
        let expected = format!("\"{CAUSAL}\", of whose models the prompt stands before the text");
        return Err(ModelError::field(&source.config_file(), "task_type", expected, task));
    }
    let (values, _) = read_rows(source, &config, hidden)?;
    let rows = Tensor::from_slice(&values, (values.len() / hidden, hidden), &Device::Cpu)?;
    Ok(Tuning::prompt(rows, false)?.with_place(PromptPlace::Front))
}

/// The rows of a prompt, `hidden` numbers each, and the file that they are in.
fn read_rows(source: &Source<'_>, config: &Map<String, Value>, hidden: usize) -> Result<(Vec<f32>, PathBuf)> {
    check_config(source, config)?;
    let file = source.tensors(PEFT_TENSORS)?;
    let path = file.path();
    let (shape, values) = file.f32(PROMPT_NAME, None)?;
    let others: Vec<&str> = file.names().filter(|name| *name != PROMPT_NAME).collect();
    source.pass_over(&file, &others)?;
    check_finite(path, PROMPT_NAME, &values)?;
    let [rows, width] = shape[..] else {
        return Err(ModelError::weight(path, PROMPT_NAME, "a matrix", format!("{shape:?}")));
    };
    if width != hidden || rows == 0 {
        let expected = format!("[1 or more, {hidden}]");
        return Err(ModelError::weight(path, PROMPT_NAME, expected, format!("{shape:?}")));
    }
    Ok((values, path.to_path_buf()))
}

/// Reads an encoder's prompt. `mask` is the id of the `<mask>` token.
pub(super) fn read_prompt(source: &Source<'_>, weights: &Weights, mask: Option<u32>) -> Result<ReadTuning> {
    let embedding = weights.mask_embedding(mask)?;
    let hidden = embedding.len();
    let (values, path) = read_rows(source, &source.config()?, hidden)?;
    let prompt = |values: &[f32], mask_row| {
        let rows = Tensor::from_slice(values, (values.len() / hidden, hidden), &Device::Cpu)?;
        Tuning::prompt(rows, mask_row)
    };
    let (first, others) = values.split_at(hidden);
    if is_mask_row(first, &embedding) {
        return Ok(prompt(others, true)?.into());
    }
    let prepend_mask = source.how.prepend_mask;
    let where_answered = if prepend_mask {
        "the <mask> row put before it"
    } else {
        "its first row (with option `prepend_mask` the <mask> row is put before it)"
    };
    let warning = format!(
        "{}: row 0 is not the embedding of <mask>; the answer is read at {where_answered}",
        path.display()
    );
    Ok(ReadTuning { tuning: prompt(&values, prepend_mask)?, warning: Some(warning) })
}

/// Whether a row is the embedding of `<mask>`, as exactly as the row's own numbers can be: one that was trained or saved in
/// bfloat16 or float16 is rounded to that, whatever it is stored as.
fn is_mask_row(row: &[f32], mask: &[f32]) -> bool {
    // The bits of a number that bfloat16 and float16 do not have, and the greatest error of one that was rounded or cut.
    let coarser = [(0xffff, 1.0 / 128.0), (0x1fff, 1.0 / 1024.0)];
    let lacks = |bits: u32| row.iter().all(|value| value.to_bits() & bits == 0);
    let relative = coarser.into_iter().find(|(bits, _)| lacks(*bits)).map_or(0.0, |(_, error)| error);
    let is = |(value, mask): (&f32, &f32)| (value - mask).abs() <= MASK_TOLERANCE.max(mask.abs() * relative);
    !mask.is_empty() && row.iter().zip(mask).all(is)
}

/// Refuses what is no soft prompt alone.
fn check_config(source: &Source<'_>, config: &Map<String, Value>) -> Result<()> {
    let file = source.config_file();
    check_kind(&file, config)?;
    let submodules = Neutral {
        field: "num_transformer_submodules",
        expected: "1: a model of this kind has one part that a prompt goes into",
        accepts: |value| *value == 1,
    };
    submodules.check(config, &file)?;
    check_modules(source, config, &file)?;
    tell_unknown(&file, config.keys(), &KNOWN);
    Ok(())
}

/// Only a soft prompt is rows before the text; PEFT's other kinds change the layers, or make the rows anew.
fn check_kind(file: &Path, config: &Map<String, Value>) -> Result<()> {
    let found = config.get("peft_type").unwrap_or(&Value::Null);
    if found == "PROMPT_TUNING" {
        return Ok(());
    }
    let remedy = match found.as_str() {
        None => "",
        Some("P_TUNING") => {
            "; save_pretrained stores the rows that its encoder made, so \"PROMPT_TUNING\" in its place is the same prompt"
        }
        Some("PREFIX_TUNING" | "CARTRIDGE") => {
            ", which puts keys and values into every layer; only a prompt before the text is read"
        }
        Some("MULTITASK_PROMPT_TUNING" | "CPT" | "ADAPTION_PROMPT") => {
            ", which makes its rows from more than prompt_embeddings; only a plain prompt is read"
        }
        Some(_) => {
            ", which changes the model's layers; merge it in Python, if it can be: \
             model.merge_and_unload().save_pretrained(DIR), and use DIR as option `model`"
        }
    };
    let nothing = Value::Null == *found;
    let found = if nothing { "nothing".into() } else { format!("{found}{remedy}") };
    Err(ModelError::field(file, "peft_type", "\"PROMPT_TUNING\"", found))
}

/// What was trained and saved beside the prompt: a classifier answers in the label words' place.
fn check_modules(source: &Source<'_>, config: &Map<String, Value>, file: &Path) -> Result<()> {
    let modules = config.get("modules_to_save").unwrap_or(&Value::Null);
    let names: Vec<&str> =
        modules.as_array().map_or(Vec::new(), |names| names.iter().filter_map(Value::as_str).collect());
    let error = |expected: &str, found: &str| {
        ModelError::field(file, "modules_to_save", expected, format!("{modules}: {found}"))
    };
    match names.iter().all(|name| is_classifier(name)) {
        _ if names.is_empty() => Ok(()),
        false => Err(error("nothing but the prompt", "modules of the model were trained with it")),
        true if source.how.verbalizer => Ok(()),
        true => Err(error("no classifier", CLASSIFIER)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounded by hand: bfloat16 keeps 8 bits of a number, float16 11.
    #[test]
    fn the_mask_row_is_known_in_every_precision() {
        let mask = [0.123_456_79f32, -0.011_111_111, 1.765_432_1, 3.0e-6];
        let cut = |bits: u32| mask.map(|value| f32::from_bits(value.to_bits() & !bits));
        assert!(is_mask_row(&mask, &mask));
        assert!(is_mask_row(&cut(0xffff), &mask), "bfloat16");
        assert!(is_mask_row(&cut(0x1fff), &mask), "float16");
        let mut near = mask;
        near[2] += 1e-3;
        assert!(!is_mask_row(&near, &mask), "32 bits are not rounded to 8");
        let mut other = cut(0xffff);
        other[2] = 1.75 * 1.03125;
        assert!(!is_mask_row(&other, &mask));
        assert!(!is_mask_row(&[0.0; 4], &mask));
    }
}
