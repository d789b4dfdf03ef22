use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Tensor, Var};
use skn_kernels::{LayerNorm, Linear, RmsNorm, Rotary, zeros_on};

use super::norm::Norm;
use crate::architecture::{Form, Module, NormForm, Part, Piece};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::tuning::Tuning;
use crate::weights::{Columns, Table, Weights};

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
    /// Layers that rotate alike share a table.
    rotaries: Vec<(Arc<[f64]>, Rotary)>,
}

impl<'a> TensorSupply<'a> {
    pub(super) fn new(
        config: &'a Config,
        weights: &'a Weights,
        tuning: &'a Tuning,
        gradients: Gradients,
    ) -> Self {
        Self {
            config,
            weights,
            tuning,
            gradients,
            parameters: BTreeMap::new(),
            backbone: BTreeMap::new(),
            rotaries: Vec::new(),
        }
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
            // A layer without neurons has nothing to copy.
            Some(tensor) if tensor.elem_count() == 0 => zeros_on(tensor.shape(), self.weights.device())?,
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

    /// Whether the model has a part.
    fn has(&self, part: Part) -> bool {
        self.config.module(part).is_some()
    }

    /// A matrix whose rows are looked up.
    pub(super) fn table(&mut self, part: Part) -> Result<Table> {
        let name = self.module(part)?.weight();
        if self.is_frozen(&name) && self.tuning.tensor(&name).is_none() {
            return self.weights.table(&name);
        }
        Ok(Table::Tensor(self.get(&name)?))
    }

    /// The numbers of a small table, `[rows, width]`, if the model has it.
    pub(super) fn small_table(&mut self, part: Part) -> Result<Option<Tensor>> {
        self.config.module(part).map(|module| self.get(&module.weight())).transpose()
    }

    /// A bias that stands alone, if the model has it.
    pub(super) fn bias(&mut self, part: Part) -> Result<Option<Tensor>> {
        self.config.module(part).map(|module| self.get(&module.bias())).transpose()
    }

    /// A dense layer, if the model has it.
    pub(super) fn dense_if_any(&mut self, part: Part) -> Result<Option<Linear>> {
        self.has(part).then(|| self.dense(part)).transpose()
    }

    /// A dense layer of the model.
    pub(super) fn dense(&mut self, part: Part) -> Result<Linear> {
        let module = self.module(part)?;
        let Form::Dense { outputs, inputs, .. } = module.form else {
            return Err(ModelError::input(&module.name, "a matrix", format!("{:?}", module.form)));
        };
        let bias = match module.has_bias() {
            true => Some(cut(&self.get(&module.bias())?, module.piece, outputs)?),
            false => None,
        };
        let weight = module.weight();
        match self.weights.stored(&weight) {
            Some(stored) if self.is_frozen(&weight) && self.tuning.tensor(&weight).is_none() => {
                let (stored, piece) = (stored.clone(), module.piece);
                let bias = match bias {
                    Some(bias) => bias,
                    None => zeros_on(outputs, self.weights.device())?,
                };
                let shape = [outputs, inputs];
                // Outputs lie one after another in the file, or beside each other.
                if module.transposed == stored.is_turned() {
                    let read = move |rows, values: &mut Vec<f32>| stored.read_rows(rows, values);
                    return Ok(Linear::deferred(shape, bias, of_piece(piece, read))?);
                }
                let end = piece.rows(0..outputs).last().map_or(0, |rows| rows.end);
                let columns = Columns::new(stored, end);
                let read = move |rows, values: &mut Vec<f32>| columns.read_rows(rows, values);
                Ok(Linear::deferred(shape, bias, of_piece(piece, read))?)
            }
            _ => {
                let weight = self.get(&weight)?;
                let weight = if module.transposed { weight.t()? } else { weight };
                Ok(Linear::new(cut(&weight, module.piece, outputs)?, bias)?)
            }
        }
    }

    /// A matrix with a bias, by what its tensors are called.
    pub(super) fn linear(&mut self, name: &str) -> Result<Linear> {
        let bias = self.get(&format!("{name}.bias"))?;
        Ok(Linear::new(self.get(&format!("{name}.weight"))?, Some(bias))?)
    }

    /// A norm, if the model has it.
    pub(super) fn norm_if_any(&mut self, part: Part) -> Result<Option<Norm>> {
        self.has(part).then(|| self.norm(part)).transpose()
    }

    /// A norm of the model.
    pub(super) fn norm(&mut self, part: Part) -> Result<Norm> {
        let (module, epsilon) = (self.module(part)?, self.config.layer_norm_eps);
        let weight = self.get(&module.weight())?;
        Ok(match self.config.architecture.norm {
            NormForm::Layer { bias } => {
                let bias = bias.then(|| self.get(&module.bias())).transpose()?;
                Norm::Layer(LayerNorm::new(weight, bias, epsilon)?)
            }
            NormForm::Rms => Norm::Rms(RmsNorm::new(weight, epsilon)?),
            NormForm::RmsPlusOne => Norm::Rms(RmsNorm::new((weight + 1.0)?, epsilon)?),
        })
    }

    /// What turns the queries and keys of a layer by their positions, if something does.
    pub(super) fn rotary(&mut self, layer: usize) -> Result<Option<Rotary>> {
        let how = &self.config.architecture;
        let Some(frequencies) = how.layers.get(layer).and_then(|form| form.rotation.as_ref()) else {
            return Ok(None);
        };
        if let Some((_, known)) = self.rotaries.iter().find(|(other, _)| other == frequencies) {
            return Ok(Some(known.clone()));
        }
        let rotary = Rotary::new(frequencies, how.attention.head_width)?;
        self.rotaries.push((Arc::clone(frequencies), rotary.clone()));
        Ok(Some(rotary))
    }

    fn is_frozen(&self, name: &str) -> bool {
        let trains = self.gradients != Gradients::Nothing && self.tuning.trains(name);
        !trains && self.gradients != Gradients::All
    }
}

/// Reads rows of a part, where `read` reads those of the tensor that holds it.
fn of_piece(
    piece: Piece,
    read: impl Fn(Range<usize>, &mut Vec<f32>) -> Result<()>,
) -> impl Fn(Range<usize>, &mut Vec<f32>) -> candle_core::Result<()> {
    move |rows, values| {
        let mut pieces = piece.rows(rows).into_iter();
        pieces.try_for_each(|rows| read(rows, values)).map_err(candle_core::Error::wrap)
    }
}

/// The outputs of a part, `[outputs, ..]`, of a tensor that holds several.
fn cut(tensor: &Tensor, piece: Piece, outputs: usize) -> Result<Tensor> {
    Ok(match piece {
        Piece::Whole => tensor.clone(),
        Piece::Outputs { first, .. } => tensor.narrow(0, first, outputs)?,
        Piece::Heads { place, width } => {
            let inputs = tensor.elem_count() / tensor.dim(0)?.max(1);
            let heads = tensor.contiguous()?.reshape((outputs / width.max(1), 3, width, inputs))?;
            let mut shape = tensor.dims().to_vec();
            shape[0] = outputs;
            heads.narrow(1, place, 1)?.contiguous()?.reshape(shape)?
        }
    }
    .contiguous()?)
}
