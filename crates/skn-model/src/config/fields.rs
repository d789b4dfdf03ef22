use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use skn_kernels::Activation;

use crate::error::{ModelError, Result};
use crate::family::Family;

/// Typed access to the fields of a JSON object, with errors that name file and field.
pub(super) struct Fields<'a> {
    pub(super) raw: &'a Map<String, Value>,
    pub(super) file: &'a Path,
}

impl Fields<'_> {
    pub(super) fn error(&self, field: &str, expected: impl ToString, found: impl ToString) -> ModelError {
        ModelError::Config {
            file: PathBuf::from(self.file),
            field: field.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn present(&self, field: &str) -> Option<&Value> {
        self.raw.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn integer(&self, field: &str, range: RangeInclusive<u64>) -> Result<usize> {
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        let value = self.present(field).ok_or_else(|| self.error(field, expected(), "nothing"))?;
        let number = value.as_u64().filter(|number| range.contains(number));
        number.map(|number| number as usize).ok_or_else(|| self.error(field, expected(), value))
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

    /// What would change the formula and is not computed here.
    pub(super) fn supported(&self) -> Result<()> {
        let accepted = [
            ("position_embedding_type", json!("absolute")),
            ("is_decoder", json!(false)),
            ("tie_word_embeddings", json!(true)),
        ];
        for (field, expected) in accepted {
            if let Some(value) = self.present(field)
                && *value != expected
            {
                return Err(self.error(field, expected, value));
            }
        }
        Ok(())
    }

    pub(super) fn widths(&self, layers: usize, width: usize) -> Result<Vec<usize>> {
        let field = "skn_intermediate_sizes";
        let Some(value) = self.present(field) else { return Ok(vec![width; layers]) };
        let widths: Option<Vec<usize>> = value.as_array().and_then(|items| {
            let widths = items.iter().map(|item| item.as_u64().filter(|&item| item <= width as u64));
            widths.map(|width| width.map(|width| width as usize)).collect()
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
