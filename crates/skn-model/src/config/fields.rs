use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};
use skn_kernels::Activation;

use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::neutral::{Neutral, is_empty, is_false, is_true};

/// Fields by which transformers computes something else.
const NEUTRAL: [Neutral; 7] = [
    Neutral {
        field: "position_embedding_type",
        expected: "\"absolute\"",
        accepts: |value| value == "absolute",
    },
    Neutral { field: "is_decoder", expected: "false", accepts: is_false },
    Neutral { field: "add_cross_attention", expected: "false", accepts: is_false },
    Neutral { field: "tie_word_embeddings", expected: "true", accepts: is_true },
    Neutral {
        field: "pruned_heads",
        expected: "{}: attention heads that were cut away are not known here",
        accepts: is_empty,
    },
    Neutral {
        field: "quantization_config",
        expected: "nothing: quantised weights are not read; model.dequantize().save_pretrained(DIR) in Python writes plain ones",
        accepts: is_empty,
    },
    Neutral {
        field: "adapters",
        expected: "no adapters: save the model without them, and them by model.save_adapter(DIR, NAME), \
                   which option `resume_from` reads",
        accepts: |value| is_empty(value) || value.get("adapters").is_some_and(is_empty),
    },
];

/// Whether there is code in place of a model's class, and not only of its configuration or tokenizer.
fn names_model_code(auto_map: &Value) -> bool {
    auto_map.as_object().is_some_and(|classes| classes.keys().any(|class| class.starts_with("AutoModel")))
}

/// Typed access to the fields of a JSON object, with errors that name file and field.
pub(super) struct Fields<'a> {
    pub(super) raw: &'a Map<String, Value>,
    pub(super) file: &'a Path,
}

impl Fields<'_> {
    pub(super) fn error(&self, field: &str, expected: impl ToString, found: impl ToString) -> ModelError {
        ModelError::field(self.file, field, expected, found)
    }

    fn present(&self, field: &str) -> Option<&Value> {
        self.raw.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn integer(&self, field: &str, range: RangeInclusive<u64>) -> Result<usize> {
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        let value = self.present(field).ok_or_else(|| self.error(field, expected(), "nothing"))?;
        let number = value.as_u64().filter(|number| range.contains(number));
        number
            .and_then(|number| usize::try_from(number).ok())
            .ok_or_else(|| self.error(field, expected(), value))
    }

    pub(super) fn integer_or(
        &self,
        field: &str,
        range: RangeInclusive<u64>,
        default: usize,
    ) -> Result<usize> {
        if self.present(field).is_none() { Ok(default) } else { self.integer(field, range) }
    }

    pub(super) fn number_or(&self, field: &str, range: RangeInclusive<f64>, default: f64) -> Result<f64> {
        let Some(value) = self.present(field) else { return Ok(default) };
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        value
            .as_f64()
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.error(field, expected(), value))
    }

    /// A share of something, below 1.
    #[expect(clippy::cast_possible_truncation, reason = "it is rounded")]
    pub(super) fn share_or(&self, field: &str, default: f64) -> Result<f32> {
        Ok(self.number_or(field, 0.0..=0.999, default)? as f32)
    }

    /// `model_type`; without it nothing tells a RoBERTa's positions from a BERT's.
    pub(super) fn family(&self) -> Result<Family> {
        let field = "model_type";
        let expected = || format!("one of {}", Family::MODEL_TYPES.map(|(name, ..)| name).join(", "));
        let value = self.present(field).ok_or_else(|| self.error(field, expected(), "nothing"))?;
        value.as_str().and_then(Family::of).ok_or_else(|| self.error(field, expected(), value))
    }

    /// transformers' names of what is computed here; both `gelu`s are the exact one.
    pub(super) fn activation(&self) -> Result<Activation> {
        let names = [
            ("gelu", Activation::Gelu),
            ("gelu_python", Activation::Gelu),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("relu", Activation::Relu),
        ];
        let Some(value) = self.present("hidden_act") else { return Ok(Activation::Gelu) };
        let found = names.iter().find(|(name, _)| value.as_str() == Some(name));
        let expected = || format!("one of {}", names.map(|(name, _)| name).join(", "));
        found.map(|(_, activation)| *activation).ok_or_else(|| self.error("hidden_act", expected(), value))
    }

    /// Refuses what would change the formula and is not computed here.
    pub(super) fn supported(&self) -> Result<()> {
        NEUTRAL.iter().try_for_each(|neutral| neutral.check(self.raw, self.file))?;
        if self.present("auto_map").is_some_and(names_model_code) {
            let (file, plain) =
                (self.file.display(), self.present("model_type").map_or(String::new(), Value::to_string));
            tracing::warn!(
                "{file}: auto_map names code of the model's own, which is not run; what is computed is a plain {plain}"
            );
        }
        Ok(())
    }

    pub(super) fn widths(&self, layers: usize, width: usize) -> Result<Vec<usize>> {
        let field = "skn_intermediate_sizes";
        let Some(value) = self.present(field) else { return Ok(vec![width; layers]) };
        let widths: Option<Vec<usize>> = value.as_array().and_then(|items| {
            let number = |item: &Value| usize::try_from(item.as_u64()?).ok();
            items.iter().map(|item| number(item).filter(|&item| item <= width)).collect()
        });
        let expected = format!("{layers} integers from 0 to {width}");
        widths.filter(|widths| widths.len() == layers).ok_or_else(|| self.error(field, expected, value))
    }

    pub(super) fn kept_neurons(&self) -> Result<Option<Vec<Option<Vec<u32>>>>> {
        let field = "skn_kept_neurons";
        let Some(value) = self.present(field) else { return Ok(None) };
        let expected = "a list with null or a list of indexes for each layer";
        serde_json::from_value(value.clone()).map(Some).map_err(|error| self.error(field, expected, error))
    }
}
