use super::part::{LayerPart, Part};

/// What the tensors of a model are called in Hugging Face files.
#[derive(Debug)]
pub(crate) struct Names {
    /// What the names of all but the head begin with. A model saved without a head leaves it out.
    pub(crate) trunk: &'static str,
    /// How names begin that left it out.
    pub(crate) bare: &'static [&'static str],
    /// What the names of a layer's tensors begin with, before its number.
    pub(crate) layers: &'static str,
    /// What the names of the head begin with.
    pub(crate) head: &'static str,
    /// The parts outside the layers.
    pub(crate) parts: &'static [(Part, &'static str)],
    /// The parts of a layer, behind its number.
    pub(crate) in_layers: &'static [(LayerPart, &'static str)],
    /// Names that transformers gives to a tensor beside the one that it has here.
    pub(crate) twins: &'static [(&'static str, &'static str)],
    /// Other names of a tensor in files of some versions.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
    /// What such models often have and do not compute with.
    pub(crate) unused: &'static [&'static str],
    /// How names end of what was stored beside the parameters.
    pub(crate) buffers: &'static [&'static str],
    pub(crate) stored: Stored,
}

/// How the matrices of a layer lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Each by itself, `[outputs, inputs]`.
    Apart,
    /// Queries, keys and values one after another in one matrix, as are gate and what it lets through.
    Fused,
    /// Query, key and value of each head one after another in one matrix.
    HeadByHead,
    /// `[inputs, outputs]`, queries, keys and values side by side in one matrix.
    Transposed,
}

impl Names {
    /// The name of a part, which those of its tensors begin with. Nothing for one that such models don't have.
    pub(crate) fn of(&self, part: Part) -> Option<String> {
        if let Part::Layer(layer, part) = part {
            let (_, name) = self.in_layers.iter().find(|(known, _)| *known == part)?;
            return Some(format!("{}.{name}", self.layer(layer)));
        }
        self.parts.iter().find(|(known, _)| *known == part).map(|(_, name)| (*name).to_owned())
    }

    /// What the names of a layer's tensors begin with.
    pub(crate) fn layer(&self, layer: usize) -> String {
        format!("{}.{layer}", self.layers)
    }

    /// The layer that a tensor belongs to, by its name.
    pub(crate) fn layer_of(&self, name: &str) -> Option<usize> {
        name.strip_prefix(self.layers)?.strip_prefix('.')?.split('.').next()?.parse().ok()
    }

    /// The name under which this crate knows a stored tensor: older files say `gamma` and `beta`, those of a trunk saved
    /// alone leave out what all its names begin with.
    pub(crate) fn canonical(&self, stored: &str) -> String {
        let renamed = [(".gamma", ".weight"), (".beta", ".bias")].into_iter();
        let mut renamed = renamed.filter_map(|(old, new)| Some(stored.strip_suffix(old)?.to_owned() + new));
        let name = renamed.next().unwrap_or_else(|| stored.into());
        let alias = self.aliases.iter().find(|(alias, _)| *alias == name);
        let name = alias.map_or(name, |(_, own)| (*own).to_owned());
        let is_bare = self.bare.iter().any(|start| name.starts_with(start));
        if is_bare { format!("{}.{name}", self.trunk) } else { name }
    }

    /// Whether a tensor is one that such models often have and do not compute with.
    pub(crate) fn is_unused(&self, name: &str) -> bool {
        let is_buffer = self.buffers.iter().any(|buffer| name.ends_with(buffer));
        is_buffer || self.unused.iter().any(|unused| within(name, unused))
    }

    /// Whether a tensor is of the trunk or the head, by its name.
    pub(crate) fn is_own(&self, name: &str) -> bool {
        within(name, self.trunk) || within(name, self.head)
    }
}

fn within(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
}
