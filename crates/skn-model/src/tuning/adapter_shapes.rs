//! The tensors of a layer's adapter.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::names::ADAPTER_NAME;
use crate::config::Config;

/// Those of a layer whose bottleneck has this width.
pub(super) fn adapter_shapes(config: &Config, layer: usize, width: usize) -> [(String, Vec<usize>); 4] {
    let (name, hidden) = (adapter_of(config, layer), config.hidden_size);
    [
        (format!("{name}.adapter_down.0.weight"), vec![width, hidden]),
        (format!("{name}.adapter_down.0.bias"), vec![width]),
        (format!("{name}.adapter_up.weight"), vec![hidden, width]),
        (format!("{name}.adapter_up.bias"), vec![hidden]),
    ]
}

/// The width of a layer's bottleneck, by its tensors; nothing for a layer that is left out.
pub(super) fn adapter_width(
    tensors: &BTreeMap<String, Tensor>,
    config: &Config,
    layer: usize,
) -> Option<usize> {
    let name = format!("{}.", adapter_of(config, layer));
    let bias = tensors.get(&format!("{name}adapter_down.0.bias")).map(Tensor::elem_count);
    bias.or_else(|| tensors.keys().any(|tensor| tensor.starts_with(&name)).then_some(0))
}

/// What the tensors of a layer's adapter begin with.
pub(crate) fn adapter_of(config: &Config, layer: usize) -> String {
    format!("{}.output.adapters.{ADAPTER_NAME}", config.family.names().layer(layer))
}
