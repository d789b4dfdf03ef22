//! The neurons of a gated FFN.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use crate::activation::Activation;
use crate::cpu::simd::Isa;
use crate::cpu::slices::{slice, with_slices};

/// See [`gated`](crate::gated()).
pub(super) fn forward(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    gate.contiguous()?.apply_op2(&up.contiguous()?, Product { activation })
}

/// Numbers that stay in the first-level cache from one step to the next.
const AT_ONCE: usize = 1024;

/// Makes `activation(gate) * up` of the gate.
pub(super) fn product_in_place(activation: Activation, gate: &mut [f32], up: &[f32]) {
    for (values, up) in gate.chunks_mut(AT_ONCE).zip(up.chunks(AT_ONCE)) {
        let count = values.len();
        activation.apply(Isa::best(), values, count, count);
        values.iter_mut().zip(up).for_each(|(value, up)| *value *= up);
    }
}

/// `activation(gate) * up`.
pub(super) fn product(activation: Activation, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(gate.len());
    for (gate, up) in gate.chunks(AT_ONCE).zip(up.chunks(AT_ONCE)) {
        let start = values.len();
        values.extend_from_slice(gate);
        product_in_place(activation, &mut values[start..], up);
    }
    values
}

/// The gradients of gate and up, from that of [`product`].
pub(super) fn gradients(activation: Activation, [gate, up, gradient]: [&[f32]; 3]) -> (Vec<f32>, Vec<f32>) {
    (of_gate(activation, [gate, up, gradient]), product(activation, gate, gradient))
}

fn of_gate(activation: Activation, [gate, up, gradient]: [&[f32]; 3]) -> Vec<f32> {
    let mut values = gradient.to_vec();
    let parts = values.chunks_mut(AT_ONCE).zip(gate.chunks(AT_ONCE).zip(up.chunks(AT_ONCE)));
    for (values, (gate, up)) in parts {
        values.iter_mut().zip(up).for_each(|(value, up)| *value *= up);
        activation.differentiate(Isa::best(), gate, values);
    }
    values
}

struct Product {
    activation: Activation,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        lg: &Layout,
        up: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let values = product(self.activation, slice(gate, lg)?, slice(up, lu)?);
        Ok((CpuStorage::F32(values), lg.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dg, du) = with_slices([gate, up, gradient], |[g, u, gradient]| {
            let dg = gate.track_op().then(|| of_gate(self.activation, [g, u, gradient]));
            Ok((dg, up.track_op().then(|| product(self.activation, g, gradient))))
        })?;
        let tensor = |values: Option<Vec<f32>>| {
            values.map(|values| Tensor::from_vec(values, gate.shape(), gate.device())).transpose()
        };
        Ok((tensor(dg)?, tensor(du)?))
    }
}
