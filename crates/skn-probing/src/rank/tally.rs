use skn_stats::{Loop, MeanAccumulator, SquareAccumulator, count_above, vectorised};

use super::histogram::{BatchBins, Ends, Histogram, SharedHistogram};
use super::ranking::Ranking;
use crate::error::{ProbingError, Result};
use crate::statistic::{Row, no_slopes};

/// What is counted or added up for a ranking, for each place of the activations `[L, P, F]` or `[L, F]`: integers, so the same in any
/// order of the texts.
#[derive(Clone, Debug)]
pub(super) enum Tally {
    /// For how many texts of each class the activation is above a threshold, `[C, places]`.
    Fired(Vec<u64>),
    /// Sums over the texts of each class, `[C, places]`, and of squares over all, `[places]`.
    Sums { of_class: MeanAccumulator, squares: Option<SquareAccumulator> },
    /// Sums over all texts of activations, of their products with a number of the text, and of their squares, `[places]`; of a batch with
    /// the number of each text.
    Moments { sum: MeanAccumulator, product: MeanAccumulator, squares: SquareAccumulator, numbers: Vec<f32> },
    /// How many texts of each class lie in each bin.
    Histogram(Histogram),
    /// Of a batch: the bins of its texts.
    Bins(BatchBins),
    /// Sums over all texts, `[places]`.
    Weighted(MeanAccumulator),
    /// For how many texts of each class, then for how many others, the sign of z dp/dz of the class tells whether the text is of it,
    /// `[2, C, places]`.
    Agreed(Vec<u64>),
    /// Scores that were computed already, `[L, F]`, of one position, and the layers where they are not what they should be.
    Given { scores: Vec<f32>, position: usize, unsettled: Vec<usize> },
    /// Nothing: it is known without texts.
    Nothing,
}

/// What activations are compared with, of the shape of the places.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    /// For [`Ranking::Predictivity`] and [`Ranking::Lape`].
    pub(super) threshold: Vec<f32>,
    /// For [`Ranking::Auc`].
    pub(super) ends: Ends,
    /// For [`Ranking::Cett`]: norms of the columns of each layer's second matrix, `[L, F]`.
    pub(super) columns: Vec<f32>,
    /// F.
    pub(super) width: usize,
}

impl Tally {
    /// Of all texts, nothing yet.
    pub(super) fn new(ranking: Ranking, places: usize, classes: usize) -> Self {
        let of_class = || MeanAccumulator::new(classes * places);
        match ranking {
            Ranking::Predictivity | Ranking::Lape => Self::Fired(vec![0; classes * places]),
            Ranking::Auc => Self::Histogram(Histogram::new(places, classes)),
            Ranking::MeanDifference => Self::Sums { of_class: of_class(), squares: None },
            Ranking::Correlation => {
                Self::Sums { of_class: of_class(), squares: Some(SquareAccumulator::new(places)) }
            }
            Ranking::Cett | Ranking::Taylor | Ranking::IntegratedGradients => {
                Self::Weighted(MeanAccumulator::new(places))
            }
            Ranking::Gradient => Self::Agreed(vec![0; 2 * classes * places]),
            Ranking::L1 | Ranking::Random => Self::Nothing,
        }
    }

    /// Of a batch's texts, nothing yet; in the memory of one of the same ranking that is not used any more.
    pub(super) fn of_batch(used: Option<Self>, ranking: Ranking, places: usize, classes: usize) -> Self {
        let mut tally = used.unwrap_or_else(|| Self::new(ranking, places, classes));
        tally.clear();
        tally
    }

    /// The same of the bins of texts of these classes.
    pub(super) fn bins_of_batch(
        used: Option<Self>,
        labels: &[usize],
        of_layers: [usize; 2],
        whole: SharedHistogram,
    ) -> Self {
        let used = match used {
            Some(Self::Bins(bins)) => Some(bins),
            _ => None,
        };
        Self::Bins(BatchBins::new(used, labels, of_layers, whole))
    }

    /// Makes all that was taken 0, in the same memory; of a batch it forgets the numbers of its texts.
    fn clear(&mut self) {
        match self {
            Self::Fired(counts) | Self::Agreed(counts) => counts.fill(0),
            Self::Sums { of_class, squares } => {
                of_class.clear();
                squares.iter_mut().for_each(SquareAccumulator::clear);
            }
            Self::Moments { sum, product, squares, numbers } => {
                sum.clear();
                product.clear();
                squares.clear();
                numbers.clear();
            }
            Self::Histogram(histogram) => histogram.counts.fill(0),
            Self::Weighted(sums) => sums.clear(),
            Self::Bins(_) | Self::Given { .. } | Self::Nothing => {}
        }
    }

    /// Of all texts, nothing yet, for a correlation with numbers.
    pub(super) fn moments(places: usize) -> Self {
        let (sum, product) = (MeanAccumulator::new(places), MeanAccumulator::new(places));
        Self::Moments { sum, product, squares: SquareAccumulator::new(places), numbers: Vec::new() }
    }

    /// The same of a batch's texts, which have these numbers; in the memory of one that is not used any more.
    pub(super) fn moments_of_batch(used: Option<Self>, places: usize, of_batch: Vec<f32>) -> Self {
        let mut tally = used.unwrap_or_else(|| Self::moments(places));
        tally.clear();
        if let Self::Moments { numbers, .. } = &mut tally {
            *numbers = of_batch;
        }
        tally
    }

    /// Takes a row whose first activation is at a place `at` of so many.
    pub(super) fn take(
        &mut self,
        ranking: Ranking,
        row: &Row<'_>,
        at: usize,
        places: usize,
        with: &Compared,
    ) -> Result<()> {
        let values = row.values;
        match self {
            Self::Fired(fired) => {
                let counts = &mut fired[row.label * places + at..][..values.len()];
                count_above(counts, values, &with.threshold[at..]);
            }
            Self::Sums { of_class, squares } => {
                of_class.add_row_at(row.label * places + at, values)?;
                if let Some(squares) = squares {
                    squares.add_row_at(at, values)?;
                }
            }
            Self::Moments { sum, product, squares, numbers } => {
                let number = numbers[row.text];
                let products: Vec<f32> = values.iter().map(|value| value * number).collect();
                sum.add_row_at(at, values)?;
                product.add_row_at(at, &products)?;
                squares.add_row_at(at, values)?;
            }
            Self::Bins(bins) => {
                let place = at - row.layer * bins.places();
                bins.take(&with.ends, row.layer, row.text, place, values)?;
            }
            Self::Agreed(agreed) => {
                let of_row = &row.slopes.ok_or_else(no_slopes)?.classes;
                if agreed.len() != 2 * of_row.len() * places {
                    let expected = agreed.len() / (2 * places.max(1));
                    return Err(ProbingError::mismatch("classes of gradients", expected, of_row.len()));
                }
                for (class, slopes) in of_row.iter().enumerate() {
                    let side = usize::from(class != row.label);
                    let counts = &mut agreed[(side * of_row.len() + class) * places + at..][..values.len()];
                    for ((count, value), slope) in counts.iter_mut().zip(values).zip(*slopes) {
                        let product = value * slope;
                        if !product.is_finite() {
                            let expected = "a finite product of an activation and its gradient";
                            return Err(ProbingError::mismatch("ranking gradient", expected, product));
                        }
                        *count += u64::from((product > 0.0) == (class == row.label));
                    }
                }
            }
            Self::Weighted(sums) => {
                let mut parts = vec![0.0; values.len()];
                match ranking.slopes() {
                    [of, ..] => {
                        let slopes = row.slopes.and_then(|slopes| slopes.one(*of)).ok_or_else(no_slopes)?;
                        let both = values.iter().zip(*slopes);
                        parts
                            .iter_mut()
                            .zip(both)
                            .for_each(|(part, (value, slope))| *part = (value * slope).abs());
                    }
                    [] => {
                        let norm = row.output_norm.unwrap_or(0.0);
                        let columns = &with.columns[row.layer * with.width..];
                        // An output of 0 is nobody's.
                        if norm > 0.0 {
                            vectorised(SharesOf, (&mut parts[..], values, columns, norm));
                        }
                    }
                }
                sums.add_row_at(at, &parts)?;
            }
            Self::Histogram(_) | Self::Given { .. } | Self::Nothing => {}
        }
        Ok(())
    }
}

/// The shares that neurons have in an output of some norm, by the norms of their columns.
struct SharesOf;

impl Loop<(&mut [f32], &[f32], &[f32], f32)> for SharesOf {
    type Output = ();

    #[inline(always)]
    fn run((shares, values, columns, norm): (&mut [f32], &[f32], &[f32], f32)) {
        for ((share, value), column) in shares.iter_mut().zip(values).zip(columns) {
            *share = value.abs() * column / norm;
        }
    }
}

impl Tally {
    /// Adds what was taken of other texts: of a batch, or of another shard.
    pub(super) fn merge(&mut self, part: &Self) -> Result<()> {
        match (self, part) {
            (Self::Fired(fired), Self::Fired(part)) | (Self::Agreed(fired), Self::Agreed(part))
                if fired.len() == part.len() =>
            {
                fired.iter_mut().zip(part).for_each(|(count, part)| *count += part);
            }
            (Self::Sums { of_class, squares }, Self::Sums { of_class: part, squares: part_squares }) => {
                of_class.merge(part)?;
                if let (Some(squares), Some(part)) = (squares, part_squares) {
                    squares.merge(part)?;
                }
            }
            (
                Self::Moments { sum, product, squares, .. },
                Self::Moments { sum: other_sum, product: other_product, squares: other_squares, .. },
            ) => {
                sum.merge(other_sum)?;
                product.merge(other_product)?;
                squares.merge(other_squares)?;
            }
            (Self::Histogram(whole), Self::Histogram(part)) => whole.merge(part)?,
            (Self::Weighted(sums), Self::Weighted(part)) => sums.merge(part)?,
            (Self::Nothing, Self::Nothing) => {}
            _ => return Err(ProbingError::mismatch("ranking to merge", "the same sums", "others")),
        }
        Ok(())
    }
}
