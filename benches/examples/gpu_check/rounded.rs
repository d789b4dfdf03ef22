//! Results that are made for a reader who multiplies in bf16, next to whole ones that are rounded then: the same bits.

use candle_core::{DType, Device, Tensor};
use skn_kernels::{
    Activation, AttentionForm, Backend, Linear, Packing, Precision, SelfAttention, select_rows,
};
use skn_random::{Key, Purpose};

use crate::operations::random;
use crate::table::Table;
use crate::{Result, numbers};

/// Texts of these rows, all of one width: heads of all kernels, rows that are read by four and others.
const WIDTHS: [(usize, usize); 4] = [(33, 1), (64, 2), (200, 1), (768, 12)];

/// Compares them all, on a device that rounds.
pub(crate) fn check(table: &mut Table, device: &Device, seed: u64) {
    if !(Backend::of(device) == Backend::Cuda && Backend::Cuda.multiplies_in(Precision::Bf16)) {
        return;
    }
    for (number, (width, heads)) in WIDTHS.into_iter().enumerate() {
        let what = format!("rounded for who reads in bf16, rows of {width}");
        match differences(device, Key::new(seed, Purpose::Corpus).step(number as u64), [width, heads]) {
            Ok(found) => table.check(what, format!("{found} differ"), "none", found == 0),
            Err(error) => table.fail(what, error),
        }
    }
}

/// How many numbers have other bits.
fn differences(device: &Device, key: Key, [width, heads]: [usize; 2]) -> Result<usize> {
    const ROWS: usize = 50;
    let of = |shape: &[usize], layer| random(shape, 0.5, device, key.layer(layer));
    let layer = |layer| Linear::new(of(&[width, width], layer)?, Some(of(&[width], layer + 10)?));
    let ([gate, up, reader], x) = ([layer(1)?, layer(2)?, layer(3)?], of(&[ROWS, width], 0)?);
    let reader = reader.with_precision(Precision::Bf16);
    let mut off = 0;
    let mut compare = |found: Tensor, whole: Tensor| -> Result<()> {
        if found.dtype() != DType::BF16 {
            return Err(format!("expected bf16, found {:?}", found.dtype()).into());
        }
        let bits = |x: &Tensor| -> Result<Vec<u32>> {
            Ok(numbers(&x.to_dtype(DType::F32)?)?.into_iter().map(f32::to_bits).collect())
        };
        for (found, expected) in [
            (bits(&found)?, bits(&whole.to_dtype(DType::BF16)?)?),
            // And what the reader makes of it.
            (
                bits(&reader.forward(&found, Activation::Identity)?)?,
                bits(&reader.forward(&whole, Activation::Identity)?)?,
            ),
        ] {
            off += found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
        }
        Ok(())
    };
    for activation in [Activation::Gelu, Activation::Relu, Activation::Silu] {
        compare(up.forward_for(&x, activation, Some(&reader))?, up.forward(&x, activation)?)?;
        let found = gate.forward_gated_for(&up, &x, activation, Some(&reader))?;
        compare(found, gate.forward_gated(&up, &x, activation)?)?;
    }
    let rounds = |layer: Linear| layer.with_precision(Precision::Bf16);
    let layers = [layer(4)?, layer(5)?, layer(6)?].map(rounds);
    let [query, key, value] = layers;
    let attention = SelfAttention::new(query, key, value, AttentionForm::encoder(width, heads)?)?;
    let packing = Packing::from_starts(&[0, 7, 8, ROWS])?;
    for rows in [packing.all_rows(), packing.first_rows(1)] {
        let asking = select_rows(&x, &rows)?;
        let found = attention.forward_for(&x, &asking, &rows, None, Some(&reader))?;
        compare(found, attention.forward(&x, &asking, &rows, None)?)?;
    }
    Ok(off)
}
