use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use skn_kernels::{LayerNorm, Linear};

use crate::architecture::{Module, Part};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::tuning::Tuning;
use crate::weights::{Table, Weights};

/// Which parameters get gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gradients {
    /// None: for inference.
    Nothing,
    /// Those of the tuning method.
    Tuned,
    /// Those of the tuning method and the whole backbone's.
    All,
}

/// Gives out the tensors of a model: a trainable one as the tensor of a `Var`, which is kept.
pub(super) struct TensorSupply<'a> {
    config: &'a Config,
    weights: &'a Weights,
    tuning: &'a Tuning,
    gradients: Gradients,
    /// What trains, by name.
    pub(super) parameters: BTreeMap<String, Var>,
    /// The other parameters that get a gradient.
    pub(super) backbone: BTreeMap<String, Var>,
}

impl<'a> TensorSupply<'a> {
    pub(super) fn new(
        config: &'a Config,
        weights: &'a Weights,
        tuning: &'a Tuning,
        gradients: Gradients,
    ) -> Self {
        Self { config, weights, tuning, gradients, parameters: BTreeMap::new(), backbone: BTreeMap::new() }
    }

    /// The weights that tensors are taken from.
    pub(super) fn weights(&self) -> &'a Weights {
        self.weights
    }

    /// The tuning, whose tensors take the place of the weights'.
    pub(super) fn tuning(&self) -> &'a Tuning {
        self.tuning
    }

    pub(super) fn get(&mut self, name: &str) -> Result<Tensor> {
        let known = self.parameters.get(name).or_else(|| self.backbone.get(name));
        if let Some(var) = known {
            return Ok(var.as_tensor().clone());
        }
        let tensor = match self.tuning.tensor(name) {
            Some(tensor) => tensor.to_device(self.weights.device())?,
            None => self.weights.get(name)?,
        };
        if self.is_frozen(name) {
            return Ok(tensor);
        }
        let trains = self.tuning.trains(name);
        let var = Var::from_tensor(&tensor.copy()?)?;
        let tensor = var.as_tensor().clone();
        let owner = if trains { &mut self.parameters } else { &mut self.backbone };
        owner.insert(name.into(), var);
        Ok(tensor)
    }

    /// A part that the model must have.
    fn module(&self, part: Part) -> Result<Module> {
        self.config
            .module(part)
            .ok_or_else(|| ModelError::input(format!("{part:?}"), "a part of the model", "nothing"))
    }

    /// A matrix whose rows are looked up.
    pub(super) fn table(&mut self, part: Part) -> Result<Table> {
        let name = self.module(part)?.weight();
        if self.is_frozen(&name) && self.tuning.tensor(&name).is_none() {
            return self.weights.table(&name);
        }
        Ok(Table::Tensor(self.get(&name)?))
    }

    /// The numbers of a small table, `[rows, width]`.
    pub(super) fn small_table(&mut self, part: Part) -> Result<Tensor> {
        self.get(&self.module(part)?.weight())
    }

    /// A bias that stands alone.
    pub(super) fn bias(&mut self, part: Part) -> Result<Tensor> {
        self.get(&self.module(part)?.bias())
    }

    /// A dense layer of the model.
    pub(super) fn dense(&mut self, part: Part) -> Result<Linear> {
        self.linear(&self.module(part)?.name)
    }

    fn is_frozen(&self, name: &str) -> bool {
        let trains = self.gradients != Gradients::Nothing && self.tuning.trains(name);
        !trains && self.gradients != Gradients::All
    }

    /// A dense layer by what its tensors are called.
    pub(super) fn linear(&mut self, name: &str) -> Result<Linear> {
        let weight = format!("{name}.weight");
        let bias = self.get(&format!("{name}.bias"))?;
        match self.weights.stored(&weight) {
            Some(stored) if self.is_frozen(&weight) && self.tuning.tensor(&weight).is_none() => {
                let (shape, stored) = (stored.shape(), stored.clone());
                let read = move |rows, values: &mut Vec<f32>| {
                    stored.read_rows(rows, values).map_err(candle_core::Error::wrap)
                };
                Ok(Linear::deferred(shape, bias, read)?)
            }
            _ => Ok(Linear::new(self.get(&weight)?, Some(bias))?),
        }
    }

    pub(super) fn norm(&mut self, part: Part) -> Result<LayerNorm> {
        let module = self.module(part)?;
        let (weight, bias) = (self.get(&module.weight())?, self.get(&module.bias())?);
        Ok(LayerNorm::new(weight, Some(bias), self.config.layer_norm_eps)?)
    }
}
