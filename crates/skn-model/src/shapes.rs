use crate::architecture::Module;
use crate::config::Config;

/// Every tensor of a masked language model of this configuration, with its shape.
pub fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    needed(config, true).flat_map(|module| module.tensors().collect::<Vec<_>>()).collect()
}

/// The parts of a model, with or without its head.
pub(crate) fn needed(config: &Config, head: bool) -> impl Iterator<Item = Module> + '_ {
    config.modules().filter(move |module| head || !module.part.is_of_head())
}

/// Whether there is any tensor of the head: if there is, all must be.
pub(crate) fn has_head(config: &Config, has: impl Fn(&str) -> bool) -> bool {
    head_tensors(config).any(|name| has(&name))
}

/// The first tensor of the head.
pub(crate) fn first_of_head(config: &Config) -> String {
    head_tensors(config).next().unwrap_or_default()
}

fn head_tensors(config: &Config) -> impl Iterator<Item = String> + '_ {
    let head = config.modules().filter(|module| module.part.is_of_head());
    head.flat_map(|module| module.tensors().map(|(name, _)| name).collect::<Vec<_>>())
}
