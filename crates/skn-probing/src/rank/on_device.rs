use candle_core::Tensor;
use skn_kernels::{
    ColumnBins, ColumnCounts, ColumnMoments, ColumnShares, Misfit, RowGroups, RowNumbers, numbers_on,
};
use skn_stats::MeanAccumulator;

use super::ranking::Ranking;
use super::tally::{Compared, Tally};
use crate::error::{ProbingError, Result};
use crate::statistic::{Block, SlopeOf, no_slopes};
use crate::watch::Dims;

/// What a ranking counts or adds up of a layer where a device has the activations.
pub(super) enum OnDevice {
    Fired {
        threshold: Tensor,
        counts: ColumnCounts,
    },
    Moments(ColumnMoments),
    Bins(ColumnBins),
    Shares(ColumnShares),
    /// Sums of what activations times gradients come to.
    Weighted {
        of: SlopeOf,
        sums: ColumnMoments,
    },
    /// For each class, of how many of the others' texts and of its own activation times gradient is above 0.
    Agreed {
        zero: Tensor,
        of_class: Vec<ColumnCounts>,
    },
}

/// What it is made for.
pub(super) struct For<'a> {
    pub(super) ranking: Ranking,
    pub(super) dims: &'a Dims,
    pub(super) classes: usize,
    pub(super) compared: &'a Compared,
    /// Whether activations are multiplied with a number of each text.
    pub(super) with_numbers: bool,
}

/// Whether a ranking can be counted or added up on a device: others need all activations at once, or none.
pub(super) fn is_reduced(ranking: Ranking) -> bool {
    match ranking {
        Ranking::Predictivity
        | Ranking::Lape
        | Ranking::Auc
        | Ranking::MeanDifference
        | Ranking::Correlation
        | Ranking::Cett
        | Ranking::Taylor
        | Ranking::Gradient
        | Ranking::IntegratedGradients => true,
        Ranking::L1 | Ranking::Random => false,
    }
}

impl OnDevice {
    /// Of nothing yet, for the layer of a block.
    pub(super) fn new(of: &For<'_>, block: &Block<'_>) -> Result<Self> {
        let (shape, device) = ([block.rows.groups(), block.values.dim(1)?], block.values.device());
        if let [slope, ..] = of.ranking.slopes() {
            return Ok(match slope {
                SlopeOf::EachClass => Self::Agreed {
                    zero: numbers_on(vec![0.0; shape[0] * shape[1]], shape.to_vec(), device)?,
                    of_class: (0..of.classes)
                        .map(|_| Ok(ColumnCounts::new(2, shape, device)?))
                        .collect::<Result<_>>()?,
                },
                &of => Self::Weighted { of, sums: ColumnMoments::new(None, shape, [false, false], device)? },
            });
        }
        Ok(match of.ranking {
            Ranking::Predictivity | Ranking::Lape => {
                let threshold = of.dims.of_layer(&of.compared.threshold, block.layer, shape);
                Self::Fired {
                    threshold: numbers_on(threshold, shape.to_vec(), device)?,
                    counts: ColumnCounts::new(of.classes, shape, device)?,
                }
            }
            Ranking::Auc => {
                let ends = of.compared.ends.of_layer(of.dims, block.layer, shape);
                let ends = numbers_on(ends, vec![5, shape[0], shape[1]], device)?;
                Self::Bins(ColumnBins::new(of.classes, shape, ends)?)
            }
            Ranking::Cett => {
                let columns = &of.compared.columns[block.layer * of.compared.width..][..shape[1]];
                Self::Shares(ColumnShares::new(shape[0], numbers_on(columns.to_vec(), shape[1], device)?)?)
            }
            // With the sums of numbers no class has sums of its own.
            _ if of.with_numbers => Self::Moments(ColumnMoments::new(None, shape, [true, true], device)?),
            ranking => {
                let squares = ranking == Ranking::Correlation;
                Self::Moments(ColumnMoments::new(Some(of.classes), shape, [false, squares], device)?)
            }
        })
    }

    pub(super) fn take(
        &mut self,
        block: &Block<'_>,
        numbers: Option<&RowNumbers>,
        against: &[RowGroups],
        misfit: &mut Misfit,
    ) -> Result<()> {
        match self {
            Self::Fired { threshold, counts } => counts.add(block.values, block.rows, threshold, misfit)?,
            Self::Moments(moments) => moments.add(block.values, block.rows, numbers, misfit)?,
            Self::Bins(bins) => bins.add(block.values, block.rows, misfit)?,
            Self::Shares(shares) => shares.add(block.values, block.rows, block.output_norms, misfit)?,
            // A product of no numbers is more than some devices can.
            Self::Weighted { .. } | Self::Agreed { .. } if block.values.elem_count() == 0 => {}
            Self::Weighted { of, sums } => {
                let slope = block.slopes.and_then(|slopes| slopes.one(*of)).ok_or_else(no_slopes)?;
                sums.add(&(block.values * slope)?.abs()?, block.rows, None, misfit)?;
            }
            Self::Agreed { zero, of_class } => {
                let slopes = &block.slopes.ok_or_else(no_slopes)?.classes;
                if [slopes.len(), against.len()] != [of_class.len(); 2] {
                    let (expected, found) = (of_class.len(), slopes.len());
                    return Err(ProbingError::mismatch("classes of gradients", expected, found));
                }
                for ((counts, slope), rows) in of_class.iter_mut().zip(slopes).zip(against) {
                    counts.add(&(block.values * slope)?, rows, zero, misfit)?;
                }
            }
        }
        Ok(())
    }

    /// Adds what was taken of a layer to what there is of all, `texts` of each class.
    pub(super) fn add_to(
        &self,
        tally: &mut Tally,
        (layer, texts): (usize, &[u32]),
        dims: &Dims,
    ) -> Result<()> {
        let places = dims.elements();
        // Each position of a layer in arrays `[.., positions, width]`, and where it stands among all places.
        let each = |[positions, width]: [usize; 2], length: usize| {
            let all = length.checked_div(width).unwrap_or(0);
            (0..all).map(move |row| {
                let (outer, position) = (row / positions, row % positions);
                (outer * places + dims.place(layer, position), row * width..(row + 1) * width)
            })
        };
        let add_weighted = |all: &mut MeanAccumulator, shape, sums: &[i128]| -> Result<()> {
            for (at, own) in each(shape, sums.len()) {
                all.add_sums_at(at, &sums[own])?;
            }
            Ok(())
        };
        match (self, tally) {
            (Self::Fired { counts, .. }, Tally::Fired(fired)) => {
                let (shape, counts) = (counts.shape(), counts.counts()?);
                for (at, own) in each(shape, counts.len()) {
                    let counts = &counts[own];
                    let to = &mut fired[at..][..counts.len()];
                    to.iter_mut().zip(counts).for_each(|(count, part)| *count += part);
                }
            }
            (Self::Moments(moments), Tally::Sums { of_class, squares }) => {
                let (shape, totals) = (moments.shape(), moments.totals()?);
                for (at, own) in each(shape, totals.sums.len()) {
                    of_class.add_sums_at(at, &totals.sums[own])?;
                }
                if let (Some(squares), Some(sums)) = (squares, &totals.squares) {
                    for (at, own) in each(shape, sums.len()) {
                        squares.add_sums_at(at, &sums[own])?;
                    }
                }
            }
            (Self::Moments(moments), Tally::Moments { sum, product, squares, .. }) => {
                let (shape, totals) = (moments.shape(), moments.totals()?);
                for (at, own) in each(shape, totals.sums.len()) {
                    sum.add_sums_at(at, &totals.sums[own.clone()])?;
                    if let (Some(of_products), Some(of_squares)) = (&totals.products, &totals.squares) {
                        product.add_sums_at(at, &of_products[own.clone()])?;
                        squares.add_sums_at(at, &of_squares[own])?;
                    }
                }
            }
            (Self::Shares(shares), Tally::Weighted(all)) => {
                add_weighted(all, shares.shape(), &shares.sums()?)?
            }
            (Self::Weighted { sums, .. }, Tally::Weighted(all)) => {
                add_weighted(all, sums.shape(), &sums.totals()?.sums)?;
            }
            (Self::Agreed { of_class, .. }, Tally::Agreed(agreed)) => {
                let classes = of_class.len();
                for (class, counts) in of_class.iter().enumerate() {
                    let (shape, above) = (counts.shape(), counts.counts()?);
                    // Of the others those agree whose product is not above 0.
                    let others = texts.iter().map(|&texts| u64::from(texts)).sum::<u64>();
                    let others = others - u64::from(texts[class]);
                    let agreeing = |above: u64| {
                        let found = others.checked_sub(above);
                        found.ok_or_else(|| ProbingError::mismatch("texts of other classes", others, above))
                    };
                    let (of_others, of_own) = above.split_at(above.len() / 2);
                    let sides = [(0, of_own), (1, of_others)];
                    for (side, counts) in sides {
                        for (at, own) in each(shape, counts.len()) {
                            let to = &mut agreed[(side * classes + class) * places + at..];
                            for (count, &above) in to.iter_mut().zip(&counts[own]) {
                                *count += if side == 0 { above } else { agreeing(above)? };
                            }
                        }
                    }
                }
            }
            (Self::Bins(bins), Tally::Histogram(histogram)) => {
                let ([positions, width], counts) = (bins.shape(), bins.counts()?);
                let of_position = counts.len() / positions.max(1);
                for position in 0..if width == 0 { 0 } else { positions } {
                    let own = &counts[position * of_position..][..of_position];
                    histogram.add_counts(dims.place(layer, position), own)?;
                }
            }
            _ => return Err(ProbingError::mismatch("ranking of a device", "the same sums", "others")),
        }
        Ok(())
    }
}
