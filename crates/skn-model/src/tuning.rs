use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde_json::{Map, Value, json};
use skn_artifact::{Array, TensorBundle, TensorFile};
use skn_random::{Key, Purpose};

use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::finite::check_finite;
use crate::hash::hash_of_values;
use crate::shapes::shapes;
use crate::weights::Weights;

/// The tensor of a soft prompt, in memory and in a PEFT file.
pub(crate) const PROMPT_NAME: &str = "prompt_embeddings";
/// The name of our adapters inside an AdapterHub file.
pub(crate) const ADAPTER_NAME: &str = "skn";

const PEFT_TENSORS: &str = "adapter_model.safetensors";
const ADAPTER_TENSORS: &str = "adapter.safetensors";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const BIAS_TENSORS: &str = "bitfit.safetensors";

/// How far row 0 of a prompt file may be from the embedding of `<mask>` and still be it.
const MASK_TOLERANCE: f32 = 1e-5;

/// A way to adapt a frozen model to a task. They differ in which parameters train, what goes in before the text, and
/// what is inserted into the layers; the forward pass is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// A soft prompt (Lester et al., 2021): rows before the text.
    Prompt,
    /// BitFit (Ben Zaken et al., 2022): every bias.
    Bias,
    /// Bottleneck adapters after the FFN (Pfeiffer et al., 2021).
    Adapter,
}

impl Method {
    /// Whether a parameter of this name trains.
    pub fn trains(self, name: &str) -> bool {
        match self {
            Self::Prompt => name == PROMPT_NAME,
            Self::Bias => name.ends_with(".bias"),
            Self::Adapter => name.contains(".adapters."),
        }
    }
}

/// A [`Method`] with the values of its parameters, or the bare model.
#[derive(Clone, Debug)]
pub struct Tuning {
    method: Option<Method>,
    mask_row: bool,
    tensors: BTreeMap<String, Tensor>,
}

/// What [`Tuning::read`] found.
#[derive(Debug)]
pub struct ReadTuning {
    /// The tuning itself.
    pub tuning: Tuning,
    /// Something the user should know about it.
    pub warning: Option<String>,
}

impl Tuning {
    /// The model as it is: the `<mask>` row, then the text.
    pub fn none() -> Self {
        Self { method: None, mask_row: true, tensors: BTreeMap::new() }
    }

    /// The model as it is with nothing before the text, for masked language modelling.
    pub fn plain_text() -> Self {
        Self { mask_row: false, ..Self::none() }
    }

    /// A new prompt of `size` positions, the `<mask>` row counted, of N(0, 1) / 30.
    ///
    /// # Errors
    /// If `size` is 0.
    pub fn new_prompt(config: &Config, size: usize, seed: u64) -> Result<Self> {
        let rows = size.checked_sub(1).ok_or_else(|| ModelError::input("prompt size", "at least 1", size))?;
        if size >= config.max_sequence() {
            let expected = format!("less than the model's {} positions", config.max_sequence());
            return Err(ModelError::input("prompt size", expected, size));
        }
        let mut rng = Key::new(seed, Purpose::PromptInit).rng();
        let values: Vec<f32> = (0..rows * config.hidden_size).map(|_| (rng.normal() / 30.0) as f32).collect();
        Self::prompt(Tensor::from_vec(values, (rows, config.hidden_size), &Device::Cpu)?, true)
    }

    /// A prompt of the given rows `[n, hidden]`, after a `<mask>` row or (`mask_row` false) in its place.
    ///
    /// # Errors
    /// If `rows` is not a matrix, or is empty with nothing else to read the answer at.
    pub fn prompt(rows: Tensor, mask_row: bool) -> Result<Self> {
        let (count, _) = rows.dims2()?;
        if count == 0 && !mask_row {
            return Err(ModelError::input("prompt", "at least one row", "none"));
        }
        let tensors = BTreeMap::from([(PROMPT_NAME.to_string(), rows)]);
        Ok(Self { method: Some(Method::Prompt), mask_row, tensors })
    }

    /// BitFit that starts from the model's own biases.
    pub fn new_bias() -> Self {
        Self { method: Some(Method::Bias), ..Self::none() }
    }

    /// New adapters whose bottleneck is `hidden / reduction` wide: weights of N(0, 0.02), biases 0.
    ///
    /// # Errors
    /// If the bottleneck would have no width.
    pub fn new_adapter(config: &Config, reduction: usize, seed: u64) -> Result<Self> {
        let width = config.hidden_size.checked_div(reduction).unwrap_or(0);
        if width == 0 {
            let expected = format!("1 to hidden_size {}", config.hidden_size);
            return Err(ModelError::input("adapter reduction", expected, reduction));
        }
        let mut tensors = BTreeMap::new();
        for (name, shape) in adapter_shapes(config, width) {
            let mut values = vec![0f32; shape.iter().product()];
            if name.ends_with(".weight") {
                let key = Key::new(seed, Purpose::AdapterInit).layer(tensors.len() as u32);
                let mut rng = key.rng();
                values.fill_with(|| (rng.normal() * 0.02) as f32);
            }
            tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Self { method: Some(Method::Adapter), mask_row: true, tensors })
    }

    /// The method, or `None` for the bare model.
    pub fn method(&self) -> Option<Method> {
        self.method
    }

    /// Whether the `<mask>` row stands before everything else.
    pub fn has_mask_row(&self) -> bool {
        self.mask_row
    }

    /// P: the rows before `<s>`, the `<mask>` row included.
    pub fn prompt_rows(&self) -> usize {
        let prompt = match self.method {
            Some(Method::Prompt) => self.tensors.get(PROMPT_NAME).map_or(0, |rows| rows.dims()[0]),
            _ => 0,
        };
        prompt + usize::from(self.mask_row)
    }

    /// Whether a parameter of this name trains.
    pub fn trains(&self, name: &str) -> bool {
        self.method.is_some_and(|method| method.trains(name))
    }

    /// `skn.tuning_sha256`: the hash of what this tuning brings, which tells two prompts of one size apart. That of the
    /// bare model, and of biases that are still the model's own, is the hash of nothing.
    ///
    /// # Errors
    /// If the values can't be read from the device.
    pub fn sha256(&self) -> Result<String> {
        hash_of_values(self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)))
    }

    /// The parameters that this tuning brings, by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// This tuning with other values.
    pub fn with_tensors(&self, tensors: BTreeMap<String, Tensor>) -> Self {
        Self { tensors, ..self.clone() }
    }

    /// Checks that every tensor fits a model.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        if self.prompt_rows() >= config.max_sequence() {
            let expected = format!("less than the model's {} positions", config.max_sequence());
            return Err(ModelError::input("prompt size", expected, self.prompt_rows()));
        }
        let expected = self.expected_shapes(config)?;
        for (name, tensor) in &self.tensors {
            let Some(shape) = expected.get(name) else {
                return Err(ModelError::input(name, "a parameter of the tuning method", "an unknown name"));
            };
            if tensor.dims() != shape {
                return Err(ModelError::input(name, format!("{shape:?}"), format!("{:?}", tensor.dims())));
            }
        }
        match self.method {
            Some(Method::Adapter) => self.check_complete(&expected),
            _ => Ok(()),
        }
    }

    fn check_complete(&self, expected: &BTreeMap<String, Vec<usize>>) -> Result<()> {
        match expected.keys().find(|name| !self.tensors.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(ModelError::input(name, "a tensor for every layer", "nothing")),
        }
    }

    fn expected_shapes(&self, config: &Config) -> Result<BTreeMap<String, Vec<usize>>> {
        Ok(match self.method {
            None => BTreeMap::new(),
            Some(Method::Prompt) => {
                let rows = self.prompt_rows() - usize::from(self.mask_row);
                BTreeMap::from([(PROMPT_NAME.to_string(), vec![rows, config.hidden_size])])
            }
            Some(Method::Bias) => shapes(config).into_iter().filter(|(name, _)| self.trains(name)).collect(),
            Some(Method::Adapter) => {
                let down = self.tensors.iter().find(|(name, _)| name.ends_with("adapter_down.0.bias"));
                let width = down.map_or(0, |(_, bias)| bias.elem_count());
                adapter_shapes(config, width).into_iter().collect()
            }
        })
    }

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

    /// The files of a folder that [`Self::read`], PEFT, `adapters` and `load_state_dict` read, as (name, bytes).
    ///
    /// `model` is the id of the backbone; `mask_embedding` is row 0 of a prompt file.
    ///
    /// # Errors
    /// If a tensor can't be copied to the CPU, or there is no tuning to save.
    pub fn files(
        &self,
        config: &Config,
        model: &str,
        mask_embedding: &[f32],
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let tensors = match self.method {
            None => return Err(ModelError::input("tuning", "a tuned model", "the bare model")),
            Some(Method::Prompt) => {
                let rows = self.prompt_file_rows(mask_embedding)?;
                return Ok(vec![
                    (ADAPTER_CONFIG.into(), json_bytes(&peft_config(config, model, self.prompt_rows()))),
                    (PEFT_TENSORS.into(), bundle_bytes([(PROMPT_NAME.to_string(), rows)])?),
                ]);
            }
            Some(_) => self.tensors.iter().map(|(name, tensor)| Ok((name.clone(), to_array(tensor)?))),
        };
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        if self.method == Some(Method::Bias) {
            return Ok(vec![(BIAS_TENSORS.into(), bundle_bytes(tensors)?)]);
        }
        let width = self.tensors.iter().find(|(name, _)| name.ends_with("adapter_down.0.bias"));
        let width = width.map_or(1, |(_, bias)| bias.elem_count().max(1));
        Ok(vec![
            (ADAPTER_CONFIG.into(), json_bytes(&adapter_config(config, model, width))),
            (ADAPTER_TENSORS.into(), bundle_bytes(tensors)?),
        ])
    }

    fn prompt_file_rows(&self, mask_embedding: &[f32]) -> Result<Array> {
        let mut values = if self.mask_row { mask_embedding.to_vec() } else { Vec::new() };
        let rows = self
            .tensors
            .get(PROMPT_NAME)
            .ok_or_else(|| ModelError::input("prompt", "a tensor", "nothing"))?;
        values.extend(rows.flatten_all()?.to_vec1::<f32>()?);
        Ok(Array::f32(vec![self.prompt_rows(), rows.dim(1)?], values)?)
    }
}

impl From<Tuning> for ReadTuning {
    fn from(tuning: Tuning) -> Self {
        Self { tuning, warning: None }
    }
}

fn adapter_shapes(config: &Config, width: usize) -> Vec<(String, Vec<usize>)> {
    let hidden = config.hidden_size;
    (0..config.layers())
        .flat_map(|layer| {
            let name = format!("{}.output.adapters.{ADAPTER_NAME}", config.family.layer(layer));
            [
                (format!("{name}.adapter_down.0.weight"), vec![width, hidden]),
                (format!("{name}.adapter_down.0.bias"), vec![width]),
                (format!("{name}.adapter_up.weight"), vec![hidden, width]),
                (format!("{name}.adapter_up.bias"), vec![hidden]),
            ]
        })
        .collect()
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
    let where_answered =
        if prepend_mask { "the <mask> row put before it" } else { "its first row (see --prepend-mask)" };
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

fn to_array(tensor: &Tensor) -> Result<Array> {
    Ok(Array::f32(tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1::<f32>()?)?)
}

fn bundle_bytes(tensors: impl IntoIterator<Item = (String, Array)>) -> Result<Vec<u8>> {
    let mut bundle = TensorBundle::new();
    for (name, array) in tensors {
        bundle.insert(name, array);
    }
    Ok(bundle.to_bytes()?)
}

fn json_bytes(value: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn peft_config(config: &Config, model: &str, rows: usize) -> Value {
    json!({
        "auto_mapping": null, "base_model_name_or_path": model, "inference_mode": true, "modules_to_save": null,
        "num_attention_heads": config.num_attention_heads, "num_layers": config.layers(),
        "num_transformer_submodules": 1, "num_virtual_tokens": rows, "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": null, "revision": null,
        "task_type": "FEATURE_EXTRACTION", "token_dim": config.hidden_size, "tokenizer_kwargs": null,
        "tokenizer_name_or_path": null,
    })
}

/// AdapterHub's reduction factor `r` for a bottleneck of `width`, which it takes to be `floor(hidden / r)`.
fn reduction_factor(hidden: usize, width: usize) -> Value {
    match hidden.checked_div(hidden / width) {
        Some(found) if found == width => json!(hidden / width),
        _ => json!(hidden as f64 / (width as f64 + 0.5)),
    }
}

fn adapter_config(config: &Config, model: &str, width: usize) -> Value {
    json!({
        "config": {
            "adapter_residual_before_ln": false, "cross_adapter": false, "dropout": 0.0, "init_weights": "bert",
            "inv_adapter": null, "inv_adapter_reduction_factor": null, "is_parallel": false, "leave_out": [],
            "ln_after": false, "ln_before": false, "mh_adapter": false, "non_linearity": "relu",
            "original_ln_after": true, "original_ln_before": true, "output_adapter": true, "phm_layer": false,
            "reduction_factor": reduction_factor(config.hidden_size, width), "residual_before_ln": true,
            "scaling": 1.0, "use_gating": false,
        },
        "hidden_size": config.hidden_size, "model_class": config.model_class(), "model_name": model,
        "model_type": config.model_type(), "name": ADAPTER_NAME, "version": "adapters.1.3.0",
    })
}
