use candle_core::Tensor;
use serde_json::{Value, json};
use skn_artifact::names::file::{
    ADAPTER_CONFIG, ADAPTER_TENSORS, BIAS_TENSORS, PEFT_TENSORS, PROMPT_TENSORS,
};
use skn_artifact::{Array, TensorBundle};

use super::adapter_shapes::adapter_width;
use super::names::{ADAPTER_NAME, PROMPT_NAME};
use super::peft::CAUSAL;
use super::{Method, PromptPlace, Tuning};
use crate::config::Config;
use crate::error::{ModelError, Result};

impl Tuning {
    /// The files of a folder that [`Self::read`], PEFT, `adapters` and `load_state_dict` read, as (name, bytes).
    ///
    /// `model` is the id of the backbone; `mask_embedding` is row 0 of an encoder's prompt file. For a decoder's prompt behind
    /// the text PEFT has no form, so it has a file of its own.
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
            Some(Method::Prompt) if config.is_decoder() && self.place == PromptPlace::After => {
                let rows = self.prompt_file_rows(&[])?;
                return Ok(vec![(PROMPT_TENSORS.into(), bundle_bytes([(PROMPT_NAME.to_string(), rows)])?)]);
            }
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
        let width = |layer| adapter_width(&self.tensors, config, layer).map(|width| width.max(1));
        let widths: Vec<_> = (0..config.layers()).map(width).collect();
        Ok(vec![
            (ADAPTER_CONFIG.into(), json_bytes(&adapter_config(config, model, &widths))),
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
    let task = if config.is_decoder() { CAUSAL } else { "FEATURE_EXTRACTION" };
    json!({
        "auto_mapping": null, "base_model_name_or_path": model, "inference_mode": true, "modules_to_save": null,
        "num_attention_heads": config.num_attention_heads, "num_layers": config.layers(),
        "num_transformer_submodules": 1, "num_virtual_tokens": rows, "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM", "prompt_tuning_init_text": null, "revision": null,
        "task_type": task, "token_dim": config.hidden_size, "tokenizer_kwargs": null,
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

/// The same of all layers: one number, or where they differ one for each that has an adapter.
fn reduction_factors(hidden: usize, widths: &[Option<usize>]) -> Value {
    let mut all = widths.iter().flatten();
    let first = all.next().copied().unwrap_or(1);
    if all.all(|&width| width == first) {
        return reduction_factor(hidden, first);
    }
    let each = widths.iter().enumerate();
    let each =
        each.filter_map(|(layer, width)| Some((layer.to_string(), reduction_factor(hidden, (*width)?))));
    Value::Object(each.collect())
}

fn adapter_config(config: &Config, model: &str, widths: &[Option<usize>]) -> Value {
    let left_out: Vec<usize> =
        widths.iter().enumerate().filter(|(_, width)| width.is_none()).map(|(layer, _)| layer).collect();
    json!({
        "config": {
            "adapter_residual_before_ln": false, "cross_adapter": false, "dropout": 0.0, "init_weights": "bert",
            "inv_adapter": null, "inv_adapter_reduction_factor": null, "is_parallel": false, "leave_out": left_out,
            "ln_after": false, "ln_before": false, "mh_adapter": false, "non_linearity": "relu",
            "original_ln_after": true, "original_ln_before": true, "output_adapter": true, "phm_layer": false,
            "reduction_factor": reduction_factors(config.hidden_size, widths), "residual_before_ln": true,
            "scaling": 1.0, "use_gating": false,
        },
        "hidden_size": config.hidden_size, "model_class": config.model_class(), "model_name": model,
        "model_type": config.model_type(), "name": ADAPTER_NAME, "version": "adapters.1.3.0",
    })
}
