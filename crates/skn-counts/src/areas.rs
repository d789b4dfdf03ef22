use std::path::PathBuf;

use skn_artifact::{Array, TensorBundle};

use crate::error::Result;

/// The areas under the ROC curves of neurons for their classes, of the texts that a [`Performance`](crate::Performance) counts: what the files `rank/auc` (of
/// dev) and `rank/auc_test` hold for [`ScoreRule::Auc`](crate::ScoreRule::Auc).
///
/// Activations were put into bins, of which a larger activation is in no lower one. Those of one bin count as equal, so an area is
/// off the exact one by [`Self::bound`] at most, a half of the share of pairs that share a bin; ties of the rank-sum test are those of bins too.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Areas {
    /// Where they were read; empty for ones that were counted.
    pub file: PathBuf,
    /// Twice the number of pairs of a text of the class and another in which that of the class has the larger activation, those that
    /// share a bin counted once: of the shape of [`Performance::correct`](crate::Performance::correct).
    pub twice_above: Vec<i64>,
    /// How far the exact area is at most, of the same shape.
    pub bound: Vec<f32>,
    /// What ties leave of the variance of a sum of ranks, `1 - sum of (t^3 - t) / (n^3 - n)` over bins of t of the n texts: of the shape of
    /// [`Performance::dims`](crate::Performance::dims), 0 to 1.
    pub spread: Vec<f32>,
}

impl Areas {
    /// Areas that were counted.
    pub fn new(twice_above: Vec<i64>, bound: Vec<f32>, spread: Vec<f32>) -> Self {
        Self { file: PathBuf::new(), twice_above, bound, spread }
    }

    /// Puts them into a file whose counts by class are `positives` of `total` texts. `shape` is that of [`Performance::shape`](crate::Performance::shape), of which the
    /// last of `dims` are those without classes.
    ///
    /// # Errors
    /// If arrays are not of their shapes.
    pub fn insert(
        &self,
        shape: &[usize],
        dims: &[usize],
        (positives, total): (Vec<i64>, i64),
        bundle: &mut TensorBundle,
    ) -> Result<()> {
        bundle.insert("twice_above", Array::i64(shape.to_vec(), self.twice_above.clone())?);
        bundle.insert("bounds", Array::f32(shape.to_vec(), self.bound.clone())?);
        bundle.insert("spread", Array::f32(dims.to_vec(), self.spread.clone())?);
        bundle.insert("positives", Array::i64(vec![positives.len()], positives)?);
        bundle.insert("total", Array::i64(vec![1], vec![total])?);
        Ok(())
    }
}
