use std::collections::BTreeSet;

use crate::architecture::Module;
use crate::config::Config;

/// Every tensor of a masked language model of this configuration, with its shape.
pub fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    tensors(config, true).map(|(_, name, shape)| (name, shape)).collect()
}

/// The tensors of a model, with or without its head; one that parts share is there once, with the first of them.
pub(crate) fn tensors(
    config: &Config,
    head: bool,
) -> impl Iterator<Item = (Module, String, Vec<usize>)> + '_ {
    let mut seen = BTreeSet::new();
    let all = needed(config, head).flat_map(|module| {
        let own = module.tensors().map(|(name, shape)| (module.clone(), name, shape));
        own.collect::<Vec<_>>()
    });
    all.filter(move |(_, name, _)| seen.insert(name.clone()))
}

/// The parts of a model, with or without its head.
fn needed(config: &Config, head: bool) -> impl Iterator<Item = Module> + '_ {
    config.modules().filter(move |module| head || !module.part.is_of_head())
}

/// Whether a head is there: if any tensor of it is, all must be. A decoder whose head is the words' table lacks nothing.
pub(crate) fn has_head(config: &Config, has: impl Fn(&str) -> bool) -> bool {
    let mut head = head_tensors(config).peekable();
    head.peek().is_none() || head.any(|name| has(&name))
}

/// The first tensor of the head.
pub(crate) fn first_of_head(config: &Config) -> String {
    head_tensors(config).next().unwrap_or_default()
}

fn head_tensors(config: &Config) -> impl Iterator<Item = String> + '_ {
    let head = config.modules().filter(|module| module.part.is_of_head());
    head.flat_map(|module| module.tensors().map(|(name, _)| name).collect::<Vec<_>>())
}
