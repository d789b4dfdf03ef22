//! `agreement MASK MASK`: how far two selections of `skn-select` agree, of one model and one share. Prints Spearman's rank
//! correlation of the neurons' predictivities, over all layers and in the layer where it is least, and the share of selected
//! neurons that both have.

#![allow(clippy::print_stdout, reason = "a program")]

use std::path::Path;

use skn_artifact::{TensorFile, resolve};
use skn_select::Mask;
use skn_stats::spearman;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [one, other] = &paths[..] else { return Err("expected MASK MASK".into()) };
    let read = |path: &String| -> Result<Mask, Box<dyn std::error::Error>> {
        Ok(Mask::read(&TensorFile::read(&resolve(Path::new(path), "safetensors")?)?)?)
    };
    let place = other;
    let (one, other) = (read(one)?, read(other)?);
    let (expected, found) = ([one.layers(), one.width()], [other.layers(), other.width()]);
    if expected != found {
        return Err(format!(
            "{place}: tensor `mask`: expected {expected:?} as in the first, found {found:?}"
        )
        .into());
    }
    let scores = |mask: &Mask| mask.score().iter().map(|&score| f64::from(score)).collect::<Vec<_>>();
    let (a, b) = (scores(&one), scores(&other));
    let least = a
        .chunks(one.width())
        .zip(b.chunks(one.width()))
        .map(|(a, b)| spearman(a, b))
        .try_fold(1f64, |least, of_layer| of_layer.map(|of_layer| least.min(of_layer)))?;
    let both = one.mask().iter().zip(other.mask()).filter(|(a, b)| **a && **b).count();
    let selected = one.mask().iter().filter(|selected| **selected).count();
    println!(
        "Spearman {:.4}, in a layer at least {least:.4}; {both} of {selected} selected by both",
        spearman(&a, &b)?
    );
    Ok(())
}
