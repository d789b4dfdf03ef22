//! Tensors that a masked language model does not need: what each means for the result.

use std::collections::BTreeSet;

use super::places::Places;
use crate::config::Config;
use crate::error::{ModelError, Result};

/// Parts of names by which a library computes something else than the plain model, and what to do about them. They stand wherever
/// in a name the library puts them.
const CHANGING: [(&str, &str); 13] = [
    ("lora_", MERGE),
    (".base_layer.", MERGE),
    (".ia3_", MERGE),
    (".modules_to_save.", MERGE),
    ("adapters.", ADAPTERS),
    (".loras.", ADAPTERS),
    (".prefix_tunings.", ADAPTERS),
    (".adapter_fusion_layer.", ADAPTERS),
    (
        "prompt_encoder.",
        "save the prompt alone, by save_pretrained of PEFT, and load it with option `resume_from`",
    ),
    (
        "prompt_embeddings",
        "save the prompt alone, by save_pretrained of PEFT, and load it with option `resume_from`",
    ),
    ("weight_mask", "make its pruning permanent in Python: torch.nn.utils.prune.remove(MODULE, \"weight\")"),
    (".SCB", DEQUANTISE),
    (".absmax", DEQUANTISE),
];

const MERGE: &str = "merge it in Python: model.merge_and_unload().save_pretrained(DIR)";
const ADAPTERS: &str = "save the model without adapters, and them by model.save_adapter(DIR, NAME), which option `resume_from` reads";
const DEQUANTISE: &str = "write plain weights in Python: model.dequantize().save_pretrained(DIR)";

/// What a tensor that is not needed means.
enum Meaning {
    /// Nothing: every such model may have it.
    Usual,
    /// A part of another task, such as a classifier.
    Other,
    /// A part of a layer that the configuration does not count.
    Beyond,
    /// The library that wrote it computes something else; with what to do.
    Changing(&'static str),
}

/// The tensors of a model that it does not need, and that somebody may miss.
pub(super) struct Unneeded<'a> {
    other: Vec<&'a str>,
    layers: BTreeSet<usize>,
}

impl<'a> Unneeded<'a> {
    /// Looks at every tensor that is not among those `needed`.
    ///
    /// # Errors
    /// Names the first that changes what its library computes.
    pub(super) fn of(places: &Places<'a>, config: &Config, needed: impl Fn(&str) -> bool) -> Result<Self> {
        let mut unneeded = Self { other: Vec::new(), layers: BTreeSet::new() };
        for (name, (file, stored)) in places.all().filter(|(name, _)| !needed(name)) {
            if file.is_gguf() {
                if file.refuses_unneeded(stored) {
                    let expected = "the tensors of a plain model of its architecture alone";
                    return Err(ModelError::weight(file.path(), stored, expected, "this one"));
                }
                continue;
            }
            match meaning(name, config) {
                Meaning::Usual => {}
                Meaning::Other => unneeded.other.push(stored),
                Meaning::Beyond => unneeded.layers.extend(config.family.names().layer_of(name)),
                Meaning::Changing(remedy) => {
                    let found = format!("this one, which changes what the model computes; {remedy}");
                    let expected = "the tensors of the plain model alone";
                    return Err(ModelError::weight(file.path(), stored, expected, found));
                }
            }
        }
        Ok(unneeded)
    }

    /// Names what is not used.
    pub(super) fn tell(&self, places: &Places<'_>, config: &Config) {
        let file = places.file.display();
        if let Some(layers) = self.told_layers(config) {
            tracing::warn!("{file}: {layers}");
        }
        if let Some(others) = self.told_others() {
            tracing::info!("{file}: {others}");
        }
    }

    fn told_layers(&self, config: &Config) -> Option<String> {
        let (all, used) = (self.layers.last()? + 1, config.layers());
        Some(format!(
            "it has {all} layers; the first {used} are used, as config.json says (num_hidden_layers)"
        ))
    }

    fn told_others(&self) -> Option<String> {
        /// As many names as a line holds.
        const NAMED: usize = 6;
        let some = self.other.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
        match self.other.len() {
            0 => None,
            count if count > NAMED => {
                Some(format!("a masked language model does not use {some} and {} more", count - NAMED))
            }
            _ => Some(format!("a masked language model does not use {some}")),
        }
    }
}

fn meaning(name: &str, config: &Config) -> Meaning {
    if let Some((_, remedy)) = CHANGING.iter().find(|(part, _)| name.contains(part)) {
        return Meaning::Changing(remedy);
    }
    let names = config.family.names();
    let is_twin = config.twins().iter().any(|(twin, _)| *twin == name);
    if is_twin || names.is_unused(name) {
        return Meaning::Usual;
    }
    if names.layer_of(name).is_some_and(|layer| layer >= config.layers()) {
        return Meaning::Beyond;
    }
    // Only a decoder looks at another text.
    if name.contains(".crossattention.") {
        return Meaning::Other;
    }
    if names.is_own(name) {
        return Meaning::Changing("only what config.json tells of a plain model is computed here");
    }
    Meaning::Other
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config() -> Config {
        Config::new(50, [4, 2, 8, 2], 16).unwrap()
    }

    fn unneeded<'a>(other: &[&'a str], layers: &[usize]) -> Unneeded<'a> {
        Unneeded { other: other.to_vec(), layers: layers.iter().copied().collect() }
    }

    #[test]
    fn what_is_not_used_is_told_once() {
        assert_eq!(unneeded(&[], &[]).told_others(), None);
        assert_eq!(unneeded(&[], &[]).told_layers(&config()), None);
        let told = unneeded(&["classifier.bias", "classifier.weight"], &[2, 5]);
        assert!(told.told_others().unwrap().ends_with("does not use classifier.bias, classifier.weight"));
        let layers = told.told_layers(&config()).unwrap();
        assert!(layers.starts_with("it has 6 layers; the first 2 are used"), "{layers}");
        let many = ["a", "b", "c", "d", "e", "f", "g", "h"];
        assert!(unneeded(&many, &[]).told_others().unwrap().ends_with("a, b, c, d, e, f and 2 more"));
    }

    #[test]
    fn every_tensor_has_a_meaning() {
        let bert = br#"{"model_type": "bert", "vocab_size": 50, "hidden_size": 4, "num_attention_heads": 2, "intermediate_size": 8,
            "num_hidden_layers": 2, "max_position_embeddings": 16}"#;
        let bert = Config::from_json(bert, Path::new("config.json")).unwrap();
        let of = |name: &str, config: &Config| match meaning(&config.family.names().canonical(name), config) {
            Meaning::Usual => "usual",
            Meaning::Other => "other",
            Meaning::Beyond => "beyond",
            Meaning::Changing(_) => "changing",
        };
        for (name, expected) in [
            ("roberta.embeddings.position_ids", "usual"),
            ("embeddings.token_type_ids", "usual"),
            ("roberta.pooler.dense.weight", "usual"),
            ("pooler.dense.bias", "usual"),
            ("lm_head.decoder.bias", "usual"),
            ("classifier.out_proj.weight", "other"),
            ("qa_outputs.bias", "other"),
            ("score.weight", "other"),
            ("cls.predictions.bias", "other"),
            ("roberta.encoder.layer.1.crossattention.self.key.weight", "other"),
            ("roberta.encoder.layer.2.output.dense.weight", "beyond"),
            ("encoder.layer.11.output.dense.weight", "beyond"),
            ("roberta.encoder.layer.1.output.adapters.sst2.adapter_up.bias", "changing"),
            ("roberta.invertible_adapters.sst2.F.0.weight", "changing"),
            ("roberta.encoder.layer.0.attention.self.query.lora_A.default.weight", "changing"),
            ("roberta.encoder.layer.0.attention.self.query.base_layer.weight", "changing"),
            ("roberta.encoder.layer.0.attention.self.distance_embedding.weight", "changing"),
            ("roberta.encoder.layer.0.intermediate.dense.SCB", "changing"),
            ("roberta.encoder.layer.0.output.dense.weight_mask", "changing"),
            ("prompt_encoder.default.embedding.weight", "changing"),
            ("lm_head.gate.weight", "changing"),
        ] {
            assert_eq!(of(name, &config()), expected, "{name}");
        }
        for (name, expected) in [
            ("cls.seq_relationship.weight", "usual"),
            ("cls.predictions.decoder.weight", "usual"),
            ("cls.predictions.gate.weight", "changing"),
            ("lm_head.dense.weight", "other"),
        ] {
            assert_eq!(of(name, &bert), expected, "{name}");
        }
    }
}
