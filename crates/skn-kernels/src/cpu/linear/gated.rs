//! Two frozen layers whose results are multiplied, the first one's after an activation.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::weight::Packed;
use crate::activation::Activation;
use crate::cpu::gated::{gradients, product, product_in_place};
use crate::cpu::slices::{slice, with_slices};
use crate::cpu::view::View;

pub(super) struct Gated {
    /// Gate and up.
    layers: [Arc<Packed>; 2],
    biases: [Tensor; 2],
    activation: Activation,
    keeps_results: bool,
    /// What the layers gave, once a forward pass has been made: the gradient needs both.
    results: OnceLock<[Vec<f32>; 2]>,
}

impl Gated {
    pub(super) fn new(layers: [Arc<Packed>; 2], biases: [Tensor; 2], activation: Activation) -> Self {
        Self { layers, biases, activation, keeps_results: false, results: OnceLock::new() }
    }

    pub(super) fn forward(mut self, x: &Tensor) -> Result<Tensor> {
        self.keeps_results = x.track_op();
        if self.keeps_results { x.apply_op1(self) } else { x.apply_op1_no_bwd(&self) }
    }
}

impl CustomOp1 for Gated {
    fn name(&self) -> &'static str {
        "gated linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = layout.shape().dims2()?;
        let x = View::dense(slice(x, layout)?, rows, inputs);
        let [gate, up] = &self.layers;
        let (gate, up) = (gate.operand()?, up.operand()?);
        let outputs = gate.columns();
        let values = with_slices(self.biases.each_ref(), |[of_gate, of_up]| {
            let up = up.multiply(x, of_up, |_| {});
            let mut gate = gate.multiply(x, of_gate, |_| {});
            if self.keeps_results {
                let [gate, up] = self.results.get_or_init(|| [gate, up]);
                return Ok(product(self.activation, gate, up));
            }
            // Not part by part with the product, while a part is in a cache: then `up` is read in runs that are too short, which
            // takes longer (`benches`, operations).
            product_in_place(self.activation, &mut gate, &up);
            Ok(gate)
        })?;
        Ok((CpuStorage::F32(values), Shape::from((rows, outputs))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let Some([gate, up]) = self.results.get() else {
            bail!("gated linear: a gradient was asked for before the result");
        };
        let (rows, outputs) = gradient.dims2()?;
        let values = with_slices([gradient], |[gradient]| {
            let (of_gate, of_up) = gradients(self.activation, [gate, up, gradient]);
            let [gate, up] = &self.layers;
            let mut values = gate.operand()?.multiply_transposed(View::dense(&of_gate, rows, outputs));
            let of_up = up.operand()?.multiply_transposed(View::dense(&of_up, rows, outputs));
            values.iter_mut().zip(&of_up).for_each(|(value, other)| *value += other);
            Ok(values)
        })?;
        Ok(Some(Tensor::from_vec(values, x.shape(), x.device())?))
    }
}
