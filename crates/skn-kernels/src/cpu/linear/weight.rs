//! The frozen weight of a layer: where it is, and how it is packed when it is first used.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{Device, Result, Tensor};

use crate::check::expect_cpu_precision;
use crate::cpu::operand::{Operand, made};
use crate::cpu::panels::Panels;
use crate::cpu::slices::with_slices;
use crate::features::{Features, ReadRows};
use crate::precision::Precision;

/// A frozen weight as the products need it, which is made when it is first used.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) features: Features,
    pub(crate) precision: Precision,
    original: Mutex<Original>,
    operand: OnceLock<Operand>,
}

/// Every bit of a weight `[out, in]`.
#[derive(Clone)]
pub(crate) enum Original {
    /// Still where it can be read from.
    Unread(Arc<ReadRows>),
    /// As it was given.
    Tensor(Tensor),
    /// Packed: then the tensor is not needed any more.
    Panels(Arc<Panels<f32>>),
}

impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unread(_) => "Unread",
            Self::Tensor(_) => "Tensor",
            Self::Panels(_) => "Panels",
        })
    }
}

impl Packed {
    pub(crate) fn new(original: Original, features: Features, precision: Precision) -> Self {
        let original = Mutex::new(original);
        Self { features, precision, original, operand: OnceLock::new() }
    }

    /// The same weight for products in another precision.
    pub(crate) fn with_precision(&self, precision: Precision) -> Self {
        Self::new(self.original().clone(), self.features, precision)
    }

    fn original(&self) -> MutexGuard<'_, Original> {
        // It is replaced as a whole or not at all.
        self.original.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn operand(&self) -> Result<&Operand> {
        if let Some(operand) = self.operand.get() {
            return Ok(operand);
        }
        expect_cpu_precision(self.precision)?;
        // Who comes second waits here, instead of packing it too.
        let mut original = self.original();
        made(&self.operand, || {
            let operand = match (&*original, self.precision) {
                (Original::Panels(panels), Precision::F32) => Operand::F32(Arc::clone(panels)),
                (Original::Unread(read), precision) => {
                    let Features { inputs, outputs } = self.features;
                    Operand::of_read([outputs, inputs], precision, read.as_ref())?
                }
                (_, precision) => {
                    let weight = self.weight_of(&original)?;
                    let Features { inputs, outputs } = self.features;
                    with_slices([&weight], |[values]| {
                        let read = |rows: Range<usize>, to: &mut Vec<f32>| {
                            to.extend_from_slice(&values[rows.start * inputs..rows.end * inputs]);
                            Ok(())
                        };
                        Operand::of_read([outputs, inputs], precision, read)
                    })?
                }
            };
            if let Operand::F32(panels) = &operand {
                *original = Original::Panels(Arc::clone(panels));
            }
            Ok(operand)
        })
    }

    pub(crate) fn weight(&self) -> Result<Tensor> {
        self.weight_of(&self.original())
    }

    /// Bytes that it takes in memory now.
    pub(crate) fn bytes(&self) -> usize {
        let operand = self.operand.get();
        let original = match &*self.original() {
            Original::Unread(_) => 0,
            Original::Tensor(weight) => 4 * weight.elem_count(),
            // They are what is multiplied with.
            Original::Panels(_) if matches!(operand, Some(Operand::F32(_))) => 0,
            Original::Panels(panels) => size_of_val(panels.elements()),
        };
        operand.map_or(0, Operand::bytes) + original
    }

    fn weight_of(&self, original: &Original) -> Result<Tensor> {
        let Features { inputs, outputs } = self.features;
        match original {
            Original::Unread(read) => {
                let mut values = Vec::with_capacity(outputs * inputs);
                read(0..outputs, &mut values)?;
                Tensor::from_vec(values, (outputs, inputs), &Device::Cpu)
            }
            Original::Tensor(weight) => Ok(weight.clone()),
            Original::Panels(panels) => {
                Tensor::from_vec(panels.transposed(), (outputs, inputs), &Device::Cpu)
            }
        }
    }
}
