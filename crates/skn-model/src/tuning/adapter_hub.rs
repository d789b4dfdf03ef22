//! Adapters as AdapterHub's `adapters` saves them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};
use skn_artifact::names::file::ADAPTER_TENSORS;
use skn_artifact::{TensorFile, is_there};

use super::adapter_shapes::adapter_shapes;
use super::names::ADAPTER_NAME;
use super::source::{CLASSIFIER, Source, read_tensor, tell_unknown};
use super::{Method, Tuning};
use crate::architecture::Names;
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::neutral::{Neutral, is_empty, is_false, is_true};

/// Every field that changes the formula. What is absent has this value in the library too, but for `original_ln_before`.
const FORMULA: [Neutral; 16] = [
    Neutral { field: "architecture", expected: "null: bottleneck adapters alone", accepts: Value::is_null },
    Neutral { field: "mh_adapter", expected: "false", accepts: is_false },
    Neutral { field: "output_adapter", expected: "true", accepts: is_true },
    Neutral { field: "is_parallel", expected: "false", accepts: is_false },
    Neutral { field: "original_ln_before", expected: "true", accepts: is_true },
    Neutral { field: "original_ln_after", expected: "true", accepts: is_true },
    Neutral { field: "residual_before_ln", expected: "true", accepts: is_true },
    Neutral { field: "adapter_residual_before_ln", expected: "false", accepts: is_false },
    Neutral { field: "ln_before", expected: "false", accepts: is_false },
    Neutral { field: "ln_after", expected: "false", accepts: is_false },
    Neutral {
        field: "non_linearity",
        expected: "\"relu\"",
        accepts: |value| value.as_str().is_some_and(|name| name.eq_ignore_ascii_case("relu")),
    },
    Neutral { field: "phm_layer", expected: "false", accepts: is_false },
    Neutral { field: "use_gating", expected: "false", accepts: is_false },
    Neutral { field: "scaling", expected: "1.0", accepts: |value| value.as_f64() == Some(1.0) },
    Neutral { field: "inv_adapter", expected: "null: no invertible adapter", accepts: Value::is_null },
    // The form of adapter-transformers 1.
    Neutral { field: "invertible_adapter", expected: "null: no invertible adapter", accepts: is_empty },
];

/// Fields that change nothing when a model answers.
const HARMLESS: [&str; 19] = [
    "cross_adapter",
    "dropout",
    "factorized_phm_rule",
    "factorized_phm_w",
    "hypercomplex_nonlinearity",
    "init_weights",
    "init_weights_seed",
    "inv_adapter_reduction_factor",
    "learn_phm",
    "leave_out",
    "phm_bias",
    "phm_c_init",
    "phm_dim",
    "phm_init_range",
    "phm_rank",
    "reduction_factor",
    "shared_phm_rule",
    "shared_w_phm",
    "stochastic_depth",
];

/// Names of adapters in files of adapter-transformers 1, which called them by their place and purpose.
const OLD_NAMES: [&str; 4] = [
    "attention_text_task_adapters",
    "attention_text_lang_adapters",
    "layer_text_task_adapters",
    "layer_text_lang_adapters",
];

/// Reads adapters.
pub(super) fn read_adapter(source: &Source<'_>, model: &Config) -> Result<Tuning> {
    let config = source.config()?;
    let details = details(&source.config_file(), &config)?;
    check_formula(&source.config_file(), &details)?;
    check_heads(source)?;
    let file = source.tensors(ADAPTER_TENSORS)?;
    let named = config.get("name").and_then(Value::as_str);
    let chosen = choose(&file, source.names, named)?;
    let (mut tensors, mut others) = (BTreeMap::new(), Vec::new());
    for stored in file.names() {
        match canonical(stored, source.names) {
            None => others.push(stored),
            Some((adapter, name)) if adapter == chosen => {
                tensors.insert(name, read_tensor(&file, stored)?);
            }
            Some(_) => {}
        }
    }
    source.pass_over(&file, &others)?;
    let tuning = Tuning { method: Some(Method::Adapter), tensors, ..Tuning::none() };
    check_layers(&source.config_file(), &file, &details, &tuning, model)?;
    Ok(tuning)
}

/// The fields of the adapters' configuration, in small letters (adapter-transformers 1 wrote `LN_before`).
fn details(file: &Path, config: &Map<String, Value>) -> Result<Map<String, Value>> {
    let fields = match config.get("config") {
        Some(Value::Object(fields)) => fields,
        // A name stands for the configuration of that name.
        Some(Value::String(name)) if ["pfeiffer", "seq_bn"].contains(&name.as_str()) => return Ok(Map::new()),
        Some(found @ Value::String(_)) => {
            let expected = "\"seq_bn\" or \"pfeiffer\", or an object with its fields";
            return Err(ModelError::field(file, "config", expected, found));
        }
        _ => config,
    };
    let fields: Map<_, _> =
        fields.iter().map(|(field, value)| (field.to_ascii_lowercase(), value.clone())).collect();
    // The library's own default is another, which a configuration that has the field beside it does not write out.
    if fields.contains_key("mh_adapter") && !fields.contains_key("original_ln_before") {
        let found = "nothing, which `adapters` takes for false";
        return Err(ModelError::field(file, "original_ln_before", "true", found));
    }
    Ok(fields)
}

fn check_formula(file: &Path, details: &Map<String, Value>) -> Result<()> {
    FORMULA.iter().try_for_each(|neutral| neutral.check(details, file))?;
    for field in ["dropout", "stochastic_depth"] {
        if let Some(value) = details.get(field).and_then(Value::as_f64).filter(|&value| value > 0.0) {
            tracing::info!(
                "{}: `{field}` {value} is not done where adapters are trained further",
                file.display()
            );
        }
    }
    let known: Vec<&str> = FORMULA.iter().map(|neutral| neutral.field).chain(HARMLESS).collect();
    tell_unknown(file, details.keys(), &known);
    Ok(())
}

/// What `save_adapter` and `save_adapter_fusion` put beside the adapter: a head that answers, and adapters that are mixed.
fn check_heads(source: &Source<'_>) -> Result<()> {
    let head = source.file("head_config.json");
    if is_there(&head)? {
        if !source.how.verbalizer {
            return Err(ModelError::field(&head, "(whole file)", "no prediction head", CLASSIFIER));
        }
        tracing::info!("{}: the prediction head is not used: the label words answer", head.display());
    }
    let fusion = source.file("adapter_fusion_config.json");
    if is_there(&fusion)? {
        let found = "adapters that are mixed (AdapterFusion), which is not computed here";
        return Err(ModelError::field(&fusion, "(whole file)", "one adapter alone", found));
    }
    Ok(())
}

/// Which of a file's adapters is read: the one that the configuration names, or the only one.
fn choose(file: &TensorFile, names: &Names, named: Option<&str>) -> Result<String> {
    let all: BTreeSet<String> =
        file.names().filter_map(|stored| canonical(stored, names)).map(|(adapter, _)| adapter).collect();
    let list = || all.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut adapters = all.iter();
    match (adapters.next(), adapters.next(), named) {
        (Some(_), Some(_), Some(name)) if all.contains(name) => {
            tracing::info!("{}: of the adapters {} {name} is used", file.path().display(), list());
            Ok(name.into())
        }
        (Some(_), Some(_), _) => Err(ModelError::weight(
            file.path(),
            "*.adapters.*",
            "one adapter, or one that `name` of adapter_config.json names",
            format!("{} (`name` is {})", list(), named.unwrap_or("not there")),
        )),
        (Some(only), None, _) => Ok(only.clone()),
        (None, ..) => Err(ModelError::weight(
            file.path(),
            "*.adapters.*",
            "adapters of the layers' outputs",
            format!("only {}", file.names().take(3).collect::<Vec<_>>().join(", ")),
        )),
    }
}

/// A stored tensor's adapter, and its name under our own adapter's: `....adapters.<adapter>.adapter_up.bias`. Nothing for what
/// belongs to no adapter of a layer.
fn canonical(stored: &str, names: &Names) -> Option<(String, String)> {
    let new = OLD_NAMES.iter().fold(stored.to_owned(), |name, old| name.replace(old, "adapters"));
    let name = names.canonical(&new);
    let (before, after) = name.split_once(".adapters.")?;
    let (adapter, part) = after.split_once('.')?;
    Some((adapter.into(), format!("{before}.adapters.{ADAPTER_NAME}.{part}")))
}

/// Every layer must have its adapter, but for those that the configuration leaves out.
fn check_layers(
    config_file: &Path,
    file: &TensorFile,
    details: &Map<String, Value>,
    tuning: &Tuning,
    model: &Config,
) -> Result<()> {
    let field = "leave_out";
    let left_out: Vec<usize> = match details.get(field) {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => serde_json::from_value(value.clone())
            .map_err(|_| ModelError::field(config_file, field, "a list of layers", value))?,
    };
    for layer in 0..model.layers() {
        let names = adapter_shapes(model, layer, 0).map(|(name, _)| name);
        let lacks = names.iter().find(|name| !tuning.tensors.contains_key(*name));
        match (left_out.contains(&layer), lacks) {
            (false, Some(name)) => {
                return Err(ModelError::weight(file.path(), name, "a tensor for every layer", "nothing"));
            }
            (true, None) => {
                let found =
                    format!("{left_out:?}, but {} has tensors of layer {layer}", file.path().display());
                return Err(ModelError::field(config_file, field, "layers without an adapter", found));
            }
            _ => {}
        }
    }
    Ok(())
}
