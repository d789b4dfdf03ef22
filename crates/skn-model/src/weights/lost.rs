//! What is said of a tensor that is not there.

use std::path::Path;
use std::sync::Arc;

use super::source::Source;
use crate::architecture::Names;
use crate::error::ModelError;
use crate::family::Family;

/// What wraps a model while it is trained, and puts its own name before all others.
const WRAPPERS: [(&str, &str); 5] = [
    ("_orig_mod.", "which torch.compile puts there"),
    ("module.", "which DataParallel and DistributedDataParallel put there"),
    ("_fsdp_wrapped_module.", "which FSDP puts there"),
    ("base_model.model.", "which PEFT puts there"),
    ("model.", "which a module around the model puts there"),
];

/// The error of a tensor that a model needs and `files` lack.
pub(super) fn missing(file: &Path, name: &str, files: &[Arc<Source>], names: &Names) -> ModelError {
    if let Some(gguf) = files.iter().find(|file| file.is_gguf()) {
        return ModelError::weight(file, &gguf.own_name(name), "a tensor", "nothing");
    }
    let stored: Vec<&str> = files.iter().flat_map(|file| file.names()).collect();
    let found = prefixed(name, &stored, names)
        .or_else(|| beside(name, &stored))
        .unwrap_or_else(|| format!("nothing{}", some_of(&stored)));
    ModelError::weight(file, name, "a tensor", found)
}

/// If it is there with something else before its name.
fn prefixed(name: &str, stored: &[&str], names: &Names) -> Option<String> {
    let own = format!("{}.", names.trunk);
    let bare = name.strip_prefix(&own).unwrap_or(name);
    let mut prefixes = stored.iter().filter_map(|stored| stored.strip_suffix(bare));
    let prefix = prefixes.find(|prefix| prefix.ends_with('.'))?;
    if let Some(other) = Family::ALL.iter().find(|other| prefix == format!("{}.", other.names().trunk)) {
        return Some(format!(
            "nothing; its names begin with `{}.`, those of this model_type (config.json) with `{own}`",
            other.names().trunk
        ));
    }
    let prefix = prefix.strip_suffix(&own).unwrap_or(prefix);
    let why = WRAPPERS.iter().find(|(wrapper, _)| prefix.starts_with(wrapper)).map_or("", |(_, why)| why);
    let which = if stored.iter().all(|name| name.starts_with(prefix)) { "all names" } else { "its names" };
    let comma = if why.is_empty() { "" } else { ", " };
    Some(format!(
        "nothing; {which} begin with `{prefix}`{comma}{why}; take it off in Python: from safetensors.torch import load_file, \
         save_file; save_file({{n.removeprefix(\"{prefix}\"): t for n, t in load_file(FILE).items()}}, FILE, \
         metadata={{\"format\": \"pt\"}})"
    ))
}

/// If its module has other tensors, as one has that was pruned or parametrised by torch.
fn beside(name: &str, stored: &[&str]) -> Option<String> {
    let (module, _) = name.rsplit_once('.')?;
    let within = |stored: &&&str| stored.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
    let others: Vec<&str> = stored.iter().filter(within).copied().take(3).collect();
    (!others.is_empty()).then(|| format!("nothing; its module has {}", others.join(", ")))
}

fn some_of(stored: &[&str]) -> String {
    let some = stored.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let dots = if stored.len() > 3 { " .." } else { "" };
    if some.is_empty() { String::new() } else { format!(" (there are {some}{dots})") }
}
