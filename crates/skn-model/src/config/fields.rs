use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};
use skn_kernels::Activation;

use crate::error::{ModelError, Result};
use crate::family::Family;
use crate::neutral::{Neutral, is_empty, is_false, is_true};

/// Fields by which transformers computes something else.
const NEUTRAL: [Neutral; 4] = [
    Neutral { field: "add_cross_attention", expected: "false", accepts: is_false },
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

/// Those of RoBERTa and BERT.
const OF_BERT: [Neutral; 3] = [
    Neutral {
        field: "position_embedding_type",
        expected: "\"absolute\"",
        accepts: |value| value == "absolute",
    },
    Neutral { field: "is_decoder", expected: "false", accepts: is_false },
    TIED,
];

const TIED: Neutral = Neutral { field: "tie_word_embeddings", expected: "true", accepts: is_true };
const OF_MODERN_BERT: [Neutral; 1] = [TIED];
const OF_LLAMA: [Neutral; 1] =
    [Neutral { field: "pretraining_tp", expected: "1", accepts: |value| value == 1 || value.is_null() }];
const OF_QWEN: [Neutral; 1] = [Neutral {
    field: "use_sliding_window",
    expected: "false: windows of attention in some layers are not computed here",
    accepts: is_false,
}];
const OF_GEMMA: [Neutral; 1] = [Neutral {
    field: "use_bidirectional_attention",
    expected: "false: a Gemma that sees what comes behind is not computed here",
    accepts: is_false,
}];
const OF_GPT2: [Neutral; 2] = [
    Neutral { field: "scale_attn_weights", expected: "true", accepts: is_true },
    Neutral { field: "scale_attn_by_inverse_layer_idx", expected: "false", accepts: is_false },
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

    /// Whether a field says something.
    pub(super) fn has(&self, field: &str) -> bool {
        self.present(field).is_some()
    }

    /// Whether a field is there and null.
    pub(super) fn is_null(&self, field: &str) -> bool {
        self.raw.get(field).is_some_and(Value::is_null)
    }

    /// An object in a field.
    pub(super) fn object(&self, field: &str) -> Option<&Map<String, Value>> {
        self.present(field)?.as_object()
    }

    /// A truth value.
    pub(super) fn flag(&self, field: &str, usual: bool) -> Result<bool> {
        let Some(value) = self.present(field) else { return Ok(usual) };
        value.as_bool().ok_or_else(|| self.error(field, "true or false", value))
    }

    /// A number of an object within the file.
    pub(super) fn number_in(
        &self,
        object: &Map<String, Value>,
        place: &str,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>> {
        let Some(value) = object.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let number = value.as_f64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| self.error(&format!("{place}.{name}"), expected(), value))
    }

    /// Which layers have a window of attention: as `layer_types` says, or else as `usual` does.
    pub(super) fn sliding_layers(&self, layers: usize, usual: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
        let field = "layer_types";
        let Some(value) = self.present(field) else { return Ok((0..layers).map(usual).collect()) };
        let kind = |value: &Value| match value.as_str() {
            Some("sliding_attention") => Some(true),
            Some("full_attention") => Some(false),
            _ => None,
        };
        let kinds = value.as_array().map(|kinds| kinds.iter().map(kind).collect::<Option<Vec<_>>>());
        let kinds = kinds.flatten().filter(|kinds| kinds.len() == layers);
        let expected = || format!("{layers} times sliding_attention or full_attention");
        kinds.ok_or_else(|| self.error(field, expected(), value))
    }

    /// Says that a dropout is not done, if there is any.
    pub(super) fn tell_dropout(&self, field: &str) -> Result<()> {
        let dropout = self.number_or(field, 0.0..=1.0, 0.0)?;
        if dropout > 0.0 {
            tracing::info!("{}: `{field}` {dropout} is not done in training", self.file.display());
        }
        Ok(())
    }

    /// Says that a dropout is not done as told, if it is another than one that is done in its place.
    pub(super) fn tell_dropout_unlike(&self, field: &str, done: &str, usual: f64) -> Result<()> {
        let [asked, done_is] = [field, done].map(|field| self.number_or(field, 0.0..=1.0, usual));
        let (asked, done_is) = (asked?, done_is?);
        if asked != done_is {
            let file = self.file.display();
            tracing::info!(
                "{file}: `{field}` {asked} is not done in training, but {done_is} (`{done}`) there too"
            );
        }
        Ok(())
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

    /// transformers' names of what is computed here; `gelu` and `gelu_python` are the exact one.
    pub(super) fn activation(&self, field: &str, usual: Activation) -> Result<Activation> {
        let names = [
            ("gelu", Activation::Gelu),
            ("gelu_python", Activation::Gelu),
            ("gelu_new", Activation::GeluTanh),
            ("gelu_pytorch_tanh", Activation::GeluTanh),
            ("relu", Activation::Relu),
            ("silu", Activation::Silu),
            ("swish", Activation::Silu),
        ];
        let Some(value) = self.present(field) else { return Ok(usual) };
        let found = names.iter().find(|(name, _)| value.as_str() == Some(name));
        let expected = || format!("one of {}", names.map(|(name, _)| name).join(", "));
        found.map(|(_, activation)| *activation).ok_or_else(|| self.error(field, expected(), value))
    }

    /// Refuses what would change the formula and is not computed here.
    pub(super) fn supported(&self, family: Family) -> Result<()> {
        let own = match family {
            Family::Roberta | Family::Bert => &OF_BERT[..],
            Family::ModernBert => &OF_MODERN_BERT,
            Family::Llama => &OF_LLAMA,
            Family::Qwen2 | Family::Qwen3 => &OF_QWEN,
            Family::Gemma2 | Family::Gemma3 => &OF_GEMMA,
            Family::Gpt2 => &OF_GPT2,
            Family::Mistral | Family::Olmo2 | Family::GptNeox => &[],
        };
        NEUTRAL.iter().chain(own).try_for_each(|neutral| neutral.check(self.raw, self.file))?;
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
