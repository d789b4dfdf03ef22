use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};
use skn_artifact::TensorFile;
use skn_artifact::names::file::{ADAPTER_CONFIG, ADAPTER_TENSORS, BIAS_TENSORS, PEFT_TENSORS};

use super::names::{ADAPTER_NAME, PROMPT_NAME};
use super::{Method, Tuning};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::finite::check_finite;
use crate::weights::Weights;

/// How far row 0 of a prompt file may be from the embedding of `<mask>` and still be it.
const MASK_TOLERANCE: f32 = 1e-5;

/// What [`Tuning::read`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReadTuning {
    /// The tuning itself.
    pub tuning: Tuning,
    /// Something the user should know about it.
    pub warning: Option<String>,
}

impl From<Tuning> for ReadTuning {
    fn from(tuning: Tuning) -> Self {
        Self { tuning, warning: None }
    }
}

impl Tuning {
    /// Reads the tuned parameters of a folder: a PEFT prompt, AdapterHub adapters or `bitfit.safetensors`, ours or
    /// anybody's.
    ///
    /// A prompt whose row 0 is the embedding of `<mask>` is read as such. Another stands for the `<mask>` row too:
    /// the answer is read at its first row, unless `prepend_mask` puts the `<mask>` row before it.
    ///
    /// # Errors
    /// If the folder holds none of these, more than one, or one that does not fit the model.
    pub fn read(
        folder: &Path,
        config: &Config,
        weights: &Weights,
        mask: u32,
        prepend_mask: bool,
    ) -> Result<ReadTuning> {
        let found: Vec<&str> = [PEFT_TENSORS, ADAPTER_TENSORS, BIAS_TENSORS]
            .into_iter()
            .filter(|name| folder.join(name).is_file())
            .collect();
        let read = match found.as_slice() {
            [PEFT_TENSORS] => read_prompt(folder, weights, mask, prepend_mask)?,
            [ADAPTER_TENSORS] => read_adapter(folder)?.into(),
            [BIAS_TENSORS] => read_bias(folder)?.into(),
            [] => return Err(no_tuning(folder)),
            several => {
                let hint = format!("it holds {}: keep one tuning a folder", several.join(" and "));
                return Err(missing(folder, "a single set of tuned parameters", &hint));
            }
        };
        read.tuning.check(config).map_err(|error| at_file(error, &folder.join(found[0])))?;
        Ok(read)
    }
}

fn read_prompt(folder: &Path, weights: &Weights, mask: u32, prepend_mask: bool) -> Result<ReadTuning> {
    let config = read_json(&folder.join(ADAPTER_CONFIG))?;
    expect(folder, &config, "peft_type", &json!("PROMPT_TUNING"))?;
    let path = folder.join(PEFT_TENSORS);
    let (shape, values) = TensorFile::read(&path)?.f32(PROMPT_NAME, None)?;
    check_finite(&path, PROMPT_NAME, &values)?;
    let [rows, hidden] = shape[..] else {
        return Err(bad_tensor(&path, PROMPT_NAME, "a matrix", format!("{shape:?}")));
    };
    let embedding = weights.mask_embedding(mask)?;
    if hidden != embedding.len() || rows == 0 {
        let expected = format!("[1 or more, {}]", embedding.len());
        return Err(bad_tensor(&path, PROMPT_NAME, expected, format!("{shape:?}")));
    }
    let starts_with_mask =
        values.iter().zip(&embedding).all(|(value, mask)| (value - mask).abs() <= MASK_TOLERANCE);
    let prompt = |values: &[f32], mask_row| {
        let rows = Tensor::from_slice(values, (values.len() / hidden, hidden), &Device::Cpu)?;
        Tuning::prompt(rows, mask_row)
    };
    if starts_with_mask {
        return Ok(prompt(&values[hidden..], true)?.into());
    }
    let where_answered = if prepend_mask {
        "the <mask> row put before it"
    } else {
        "its first row (with `prepend_mask` the <mask> row is put before it)"
    };
    let warning = format!(
        "{}: row 0 is not the embedding of <mask>; the answer is read at {where_answered}",
        path.display()
    );
    Ok(ReadTuning { tuning: prompt(&values, prepend_mask)?, warning: Some(warning) })
}

fn read_adapter(folder: &Path) -> Result<Tuning> {
    let config = read_json(&folder.join(ADAPTER_CONFIG))?;
    let details = config.get("config").and_then(Value::as_object).unwrap_or(&config);
    // Every field that changes the formula; what is absent has the value of Pfeiffer's configuration.
    let formula = [
        ("mh_adapter", json!(false)),
        ("output_adapter", json!(true)),
        ("is_parallel", json!(false)),
        ("original_ln_before", json!(true)),
        ("original_ln_after", json!(true)),
        ("residual_before_ln", json!(true)),
        ("adapter_residual_before_ln", json!(false)),
        ("ln_before", json!(false)),
        ("ln_after", json!(false)),
        ("non_linearity", json!("relu")),
        ("phm_layer", json!(false)),
        ("use_gating", json!(false)),
        ("scaling", json!(1.0)),
        ("inv_adapter", json!(null)),
    ];
    for (field, value) in formula {
        if details.contains_key(field) {
            expect(folder, details, field, &value)?;
        }
    }
    let path = folder.join(ADAPTER_TENSORS);
    let file = TensorFile::read(&path)?;
    let mut tensors = BTreeMap::new();
    for stored in file.names() {
        let Some(name) = canonical_adapter(stored) else { continue };
        tensors.insert(name, read_tensor(&file, stored)?);
    }
    Ok(Tuning { method: Some(Method::Adapter), mask_row: true, tensors })
}

/// `....adapters.<anything>.adapter_up.bias` under our own adapter's name; `None` for other tensors.
fn canonical_adapter(stored: &str) -> Option<String> {
    let (before, after) = stored.split_once(".adapters.")?;
    let (_, part) = after.split_once('.')?;
    Some(format!("{before}.adapters.{ADAPTER_NAME}.{part}"))
}

fn read_bias(folder: &Path) -> Result<Tuning> {
    let file = TensorFile::read(&folder.join(BIAS_TENSORS))?;
    let mut tensors = BTreeMap::new();
    for name in file.names() {
        tensors.insert(name.to_string(), read_tensor(&file, name)?);
    }
    Ok(Tuning::new_bias().with_tensors(tensors))
}

fn read_tensor(file: &TensorFile, name: &str) -> Result<Tensor> {
    let (shape, values) = file.f32(name, None)?;
    check_finite(file.path(), name, &values)?;
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn read_json(path: &Path) -> Result<Map<String, Value>> {
    Ok(skn_artifact::read_json(path)?)
}

fn expect(folder: &Path, config: &Map<String, Value>, field: &str, value: &Value) -> Result<()> {
    match config.get(field) {
        Some(found) if found == value => Ok(()),
        found => Err(ModelError::Config {
            file: folder.join(ADAPTER_CONFIG),
            field: field.into(),
            expected: value.to_string(),
            found: found.map_or("nothing".into(), Value::to_string),
        }),
    }
}

fn no_tuning(folder: &Path) -> ModelError {
    let expected = format!("{PEFT_TENSORS}, {ADAPTER_TENSORS} or {BIAS_TENSORS}");
    let pickled = ["adapter_model.bin", "pytorch_adapter.bin"].iter().any(|name| folder.join(name).is_file());
    let hint = match (pickled, folder.is_dir()) {
        (true, _) => "its .bin file is a pickle, which may run code: save again with safe_serialization=True",
        (_, false) => "there is no such folder",
        _ => "tuned parameters are written there by skn-train, PEFT or adapters",
    };
    missing(folder, &expected, hint)
}

fn missing(folder: &Path, expected: &str, hint: &str) -> ModelError {
    ModelError::MissingFile { folder: folder.into(), expected: expected.into(), hint: hint.into() }
}

fn bad_tensor(file: &Path, tensor: &str, expected: impl Into<String>, found: String) -> ModelError {
    ModelError::Weight { file: file.into(), tensor: tensor.into(), expected: expected.into(), found }
}

/// Names the file in an error about the tensors that were read from it.
fn at_file(error: ModelError, file: &Path) -> ModelError {
    match error {
        ModelError::Input { what, expected, found } => bad_tensor(file, &what, expected, found),
        other => other,
    }
}
