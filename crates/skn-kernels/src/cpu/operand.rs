//! The right-hand side of a product, packed in the precision that is multiplied.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use candle_core::Result;

use crate::cpu::element::Pair;
use crate::cpu::panels::Panels;
use crate::cpu::simd::Isa;
use crate::cpu::view::{View, ViewMut};
use crate::precision::Precision;

/// The right-hand side of a product, packed. There is none in tf32: who packs refuses it first.
#[derive(Debug)]
pub(crate) enum Operand {
    F32(Arc<Panels<f32>>),
    Bf16(Panels<Pair>),
}

impl Operand {
    /// Columns of the result.
    pub(crate) fn columns(&self) -> usize {
        match self {
            Self::F32(panels) => panels.columns(),
            Self::Bf16(panels) => panels.columns(),
        }
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::F32(panels) => size_of_val(panels.elements()),
            Self::Bf16(panels) => size_of_val(panels.elements()),
        }
    }

    /// A matrix `[inner, columns]`.
    pub(crate) fn of(matrix: View<'_>, precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::Tf32 => Self::F32(Arc::new(Panels::of(matrix))),
            Precision::Bf16 => Self::Bf16(Panels::of(matrix)),
        }
    }

    /// The transpose of a matrix `[columns, inner]`.
    pub(crate) fn of_transposed(matrix: View<'_>, precision: Precision) -> Self {
        match precision {
            Precision::F32 | Precision::Tf32 => Self::F32(Arc::new(Panels::of_transposed(matrix))),
            Precision::Bf16 => Self::Bf16(Panels::of_transposed(matrix)),
        }
    }

    /// As [`Self::of_transposed`], of a matrix whose rows are read.
    pub(crate) fn of_read(
        shape: [usize; 2],
        precision: Precision,
        read: impl Fn(Range<usize>, &mut Vec<f32>) -> Result<()>,
    ) -> Result<Self> {
        Ok(match precision {
            Precision::F32 | Precision::Tf32 => Self::F32(Arc::new(Panels::of_read(shape, read)?)),
            Precision::Bf16 => Self::Bf16(Panels::of_read(shape, read)?),
        })
    }

    /// See [`Panels::multiply_into`].
    pub(crate) fn multiply_into(&self, left: View<'_>, bias: &[f32], out: &mut ViewMut<'_>) {
        match self {
            Self::F32(panels) => panels.multiply_into(Isa::best(), left, bias, out, |_| {}),
            Self::Bf16(panels) => panels.multiply_into(Isa::best(), left, bias, out, |_| {}),
        }
    }

    /// See [`Panels::multiply_transposed`].
    pub(crate) fn multiply_transposed(&self, left: View<'_>) -> Vec<f32> {
        match self {
            Self::F32(panels) => panels.multiply_transposed(Isa::best(), left),
            Self::Bf16(panels) => panels.multiply_transposed(Isa::best(), left),
        }
    }

    /// See [`Panels::multiply`].
    pub(crate) fn multiply(
        &self,
        left: View<'_>,
        bias: &[f32],
        finish: impl FnMut(&mut ViewMut<'_>),
    ) -> Vec<f32> {
        match self {
            Self::F32(panels) => panels.multiply(Isa::best(), left, bias, finish),
            Self::Bf16(panels) => panels.multiply(Isa::best(), left, bias, finish),
        }
    }
}

/// The value of a cell, made if there is none. Two threads may both make it: it is the same.
pub(crate) fn made<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}
