//! Activations, products of elements, dropout and rotation.

use candle_core::{Result, Tensor, bail};

use super::launch::{Launch, Made, THREADS, blocks, warps};
use super::node::{of_one, of_two};
use super::rows::rows_on;
use super::run::nothing;
use crate::activation::Activation;
use crate::mask::Dropout;
use crate::noted::hold;
use crate::packing::RowSelection;
use crate::rotary::Turned;

/// An activation as kernels call it.
pub(super) fn code(activation: Activation) -> usize {
    match activation {
        Activation::Identity => 0,
        Activation::Gelu => 1,
        Activation::GeluTanh => 2,
        Activation::Relu => 3,
        Activation::Silu => 4,
    }
}

/// See [`gated`](crate::gated()).
pub(super) fn gated(gate: &Tensor, up: &Tensor, activation: Activation, rounded: bool) -> Result<Tensor> {
    let count = gate.elem_count();
    if count == 0 {
        let made = Made::nothing(gate.shape(), gate.device())?;
        return of_two("gated", [gate, up], made, |inputs, _, _| nothing(inputs));
    }
    let wanted = [gate, up].map(Tensor::track_op);
    let [whole, rounded] = Launch::new("gated", blocks(count), THREADS)
        .output_rounded_if(rounded && wanted == [false; 2], gate.shape())
        .tensor(gate)?
        .tensor(up)?
        .u64(count)
        .u32(code(activation))?
        .run::<2>(gate.device())?;
    let Some(made) = whole.or(rounded) else {
        bail!("gated: expected a result");
    };
    of_two("gated", [gate, up], made, move |[gate, up], _, gradient| {
        let made = Launch::new("gated_gradient", blocks(count), THREADS)
            .output_if(wanted[0], gate.shape())
            .output_if(wanted[1], gate.shape())
            .tensor(gate)?
            .tensor(up)?
            .tensor(gradient)?
            .u64(count)
            .u32(code(activation))?
            .run::<2>(gate.device())?;
        Ok(made.map(|made| made.map(Made::tensor)))
    })
}

/// The five arguments of a kernel that may drop elements of the rows of `x`.
pub(super) fn with_dropout(
    launch: Launch,
    dropped: Option<(&RowSelection, &Dropout)>,
    x: &Tensor,
) -> Result<Launch> {
    let Some((rows, dropout)) = dropped else {
        return Ok(launch.tensor_if(None)?.tensor_if(None)?.tensor_if(None)?.u32(0)?.f32(1.0));
    };
    dropout.check_keys(rows)?;
    let on_device = rows_on(rows, x.device())?;
    // A warp keeps a bit for each number of its row, and makes 16 at once.
    Ok(launch
        .shared(16 * (x.dim(1)? as u32 / 16 + 2))
        .tensor(dropout.keys_on(x.device())?)?
        .tensor(&on_device.sequence)?
        .tensor(&on_device.position)?
        .u32(dropout.threshold() as usize)?
        .f32(dropout.factor()))
}

/// See [`dropout`](crate::dropout()).
pub(super) fn dropout(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return of_one("dropout", x, Made::nothing(x.shape(), x.device())?, |inputs, _, _| nothing(inputs));
    }
    let made = dropped(x, rows, dropout)?;
    let (rows, dropout) = (rows.clone(), dropout.clone());
    of_one("dropout", x, made, move |_, _, gradient| Ok([Some(dropped(gradient, &rows, &dropout)?.tensor())]))
}

fn dropped(x: &Tensor, rows: &RowSelection, dropout: &Dropout) -> Result<Made> {
    let (count, width) = x.dims2()?;
    let launch = Launch::new("dropped", warps(count), THREADS).output(x.shape()).tensor(x)?;
    with_dropout(launch, Some((rows, dropout)), x)?.u32(count)?.u32(width)?.run_one(x.device())
}

/// See [`Rotary::apply`](crate::Rotary::apply).
pub(super) fn rotary(turned: Turned, x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 || turned.table.angles == 0 {
        return Ok(x.clone());
    }
    let made = turn(&turned, x, false)?;
    of_one("rotary", x, made, move |_, _, gradient| Ok([Some(turn(&turned, gradient, true)?.tensor())]))
}

fn turn(turned: &Turned, x: &Tensor, back: bool) -> Result<Made> {
    let (rows, width) = x.dims2()?;
    let device = x.device();
    let table = turned.table.on(device)?;
    // A longer sequence replaces it.
    hold(table);
    Launch::new("rotary", [rows.min(65_535) as u32, 1, 1], 128)
        .output(x.shape())
        .tensor(x)?
        .tensor(table)?
        .tensor(&rows_on(&turned.rows, device)?.position)?
        .u32(rows)?
        .u32(width / turned.head_width)?
        .u32(turned.head_width)?
        .u32(turned.table.angles)?
        .u32(usize::from(back))?
        .run_one(device)
}
