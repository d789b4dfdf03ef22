use candle_core::Tensor;
use skn_counts::Pool;
use skn_data::Batch;
use skn_model::{Hook, LanguageModel, ModelError, NeuronSite, Reads, Rows, Site};

use crate::error::{ProbingError, Result};
use crate::pass::with_values;

/// Where a row of activations `[width(layer)]` was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pool: Pool,
    pub(crate) layer: usize,
    /// The prompt position; 0 for pooled rows.
    pub(crate) position: usize,
    /// The text's index in its batch.
    pub(crate) text: usize,
}

/// What rows of activations are reduced to: sums, counts, what one neuron did.
pub(crate) trait Reduction {
    /// What it wants of a layer.
    fn wants(&self, pool: Pool, layer: usize) -> bool;

    /// Is given one row.
    fn take(&mut self, place: Place, values: &[f32]) -> Result<()>;
}

/// Reduces the FFN activations of a batch, layer by layer as they are made, and gives them to a [`Reduction`].
pub(crate) struct Watch<'a, R> {
    batch: &'a Batch,
    site: NeuronSite,
    reduction: R,
}

impl<'a, R: Reduction> Watch<'a, R> {
    pub(crate) fn new(batch: &'a Batch, site: NeuronSite, reduction: R) -> Self {
        Self { batch, site, reduction }
    }

    pub(crate) fn into_reduction(self) -> R {
        self.reduction
    }

    fn look(&mut self, layer: usize, rows: &Rows<'_>, width: usize, values: &[f32]) -> Result<()> {
        let pools = [Pool::Mean, Pool::Max].map(|pool| self.reduction.wants(pool, layer));
        let positions = self.reduction.wants(Pool::Position, layer);
        let last = self.reduction.wants(Pool::Last, layer);
        let mut pooled = Pooled::new(width, pools);
        let places = rows.sequence().iter().zip(rows.position()).zip(rows.place());
        for (index, ((&sequence, &position), place)) in places.enumerate() {
            let text = sequence as usize;
            let is_last = last && place.is_last_of_text;
            if !(if place.in_prompt.is_some() { positions } else { pooled.wanted() || is_last }) {
                continue;
            }
            let row = &values[index * width..][..width];
            self.check_finite(row, layer, position as usize, text)?;
            if is_last {
                self.reduction.take(Place { pool: Pool::Last, layer, position: 0, text }, row)?;
            }
            if let Some(position) = place.in_prompt {
                self.reduction.take(Place { pool: Pool::Position, layer, position, text }, row)?;
            } else if pooled.wanted() {
                if pooled.text != text {
                    pooled.give(&mut self.reduction, layer)?;
                    pooled.text = text;
                }
                pooled.add(row);
            }
        }
        pooled.give(&mut self.reduction, layer)
    }

    fn check_finite(&self, row: &[f32], layer: usize, position: usize, text: usize) -> Result<()> {
        // All of them first: that is one vector operation for many.
        if row.iter().fold(true, |finite, value| finite & value.is_finite()) {
            return Ok(());
        }
        let neuron = row.iter().position(|value| !value.is_finite()).unwrap_or(0);
        let found = row.get(neuron).copied().unwrap_or(f32::NAN);
        Err(ProbingError::Activation { row: self.batch.rows[text], layer, position, neuron, found })
    }
}

impl<R: Reduction> Hook for Watch<'_, R> {
    fn reads(&self, site: Site) -> Reads {
        let layer = site.layer();
        if site != self.site.at(layer) {
            return Reads::Nothing;
        }
        if [Pool::Mean, Pool::Max, Pool::Last].into_iter().any(|pool| self.reduction.wants(pool, layer)) {
            Reads::All
        } else if self.reduction.wants(Pool::Position, layer) {
            Reads::Prompt
        } else {
            Reads::Nothing
        }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
        let (_, width) = x.dims2()?;
        let looked = with_values(&x, |values| self.look(site.layer(), rows, width, values))?;
        looked.map_err(|error| ModelError::hook(site, error))?;
        Ok(x)
    }
}

/// Mean and maximum over the rows of one text at a time.
struct Pooled {
    text: usize,
    rows: u32,
    sum: Option<Vec<f64>>,
    max: Option<Vec<f32>>,
}

impl Pooled {
    fn new(width: usize, [mean, max]: [bool; 2]) -> Self {
        let (sum, max) = (mean.then(|| vec![0.0; width]), max.then(|| vec![f32::NEG_INFINITY; width]));
        Self { text: 0, rows: 0, sum, max }
    }

    fn wanted(&self) -> bool {
        self.sum.is_some() || self.max.is_some()
    }

    fn add(&mut self, row: &[f32]) {
        self.rows += 1;
        if let Some(sum) = &mut self.sum {
            sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        if let Some(max) = &mut self.max {
            max.iter_mut().zip(row).for_each(|(max, &value)| *max = max.max(value));
        }
    }

    /// Gives what was pooled, if anything, and begins anew.
    fn give(&mut self, reduction: &mut impl Reduction, layer: usize) -> Result<()> {
        let rows = f64::from(std::mem::take(&mut self.rows));
        if rows == 0.0 {
            return Ok(());
        }
        let place = |pool| Place { pool, layer, position: 0, text: self.text };
        if let Some(sum) = &mut self.sum {
            let mean: Vec<f32> = sum.iter().map(|&sum| (sum / rows) as f32).collect();
            reduction.take(place(Pool::Mean), &mean)?;
            sum.fill(0.0);
        }
        if let Some(max) = &mut self.max {
            reduction.take(place(Pool::Max), max)?;
            max.fill(f32::NEG_INFINITY);
        }
        Ok(())
    }
}

/// Places in the arrays of a pool: `[L, P, F]` or `[L, F]`, row-major; F is the largest FFN width, and what a narrower
/// layer lacks is padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dims(Vec<usize>);

impl Dims {
    pub(crate) fn of(model: &LanguageModel, pool: Pool) -> Result<Self> {
        let (layers, positions, neurons) =
            (model.config().layers(), model.prompt_rows(), model.config().widest());
        match pool {
            Pool::Position if positions == 0 => {
                Err(ProbingError::mismatch("prompt rows of the model to probe", "at least 1", positions))
            }
            Pool::Position => Self::new(vec![layers, positions, neurons]),
            Pool::Mean | Pool::Max | Pool::Last => Self::new(vec![layers, neurons]),
        }
    }

    /// # Errors
    /// If the product overflows.
    pub(crate) fn new(sizes: Vec<usize>) -> Result<Self> {
        let product = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        match product {
            Some(_) => Ok(Self(sizes)),
            None => {
                Err(ProbingError::mismatch("shape", "a countable number of elements", format!("{sizes:?}")))
            }
        }
    }

    pub(crate) fn sizes(&self) -> &[usize] {
        &self.0
    }

    pub(crate) fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Where the row of a place begins.
    pub(crate) fn offset(&self, place: Place) -> usize {
        match self.0[..] {
            [_, positions, neurons] => (place.layer * positions + place.position) * neurons,
            [_, neurons] => place.layer * neurons,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Taken(Vec<(Place, Vec<f32>)>);

    impl Reduction for Taken {
        fn wants(&self, _: Pool, _: usize) -> bool {
            true
        }
        fn take(&mut self, place: Place, values: &[f32]) -> Result<()> {
            self.0.push((place, values.to_vec()));
            Ok(())
        }
    }

    #[test]
    fn pooling_by_hand() {
        let mut taken = Taken::default();
        let mut pooled = Pooled::new(2, [true, true]);
        pooled.give(&mut taken, 3).unwrap();
        assert!(taken.0.is_empty(), "nothing was pooled");
        for row in [[1.0, -5.0], [2.0, -1.0], [6.0, -3.0]] {
            pooled.add(&row);
        }
        pooled.give(&mut taken, 3).unwrap();
        pooled.text = 1;
        pooled.add(&[-1.0, -2.0]);
        pooled.give(&mut taken, 3).unwrap();
        let place = |pool, text| Place { pool, layer: 3, position: 0, text };
        let expected = [
            (place(Pool::Mean, 0), vec![3.0, -3.0]),
            (place(Pool::Max, 0), vec![6.0, -1.0]),
            (place(Pool::Mean, 1), vec![-1.0, -2.0]),
            (place(Pool::Max, 1), vec![-1.0, -2.0]),
        ];
        assert_eq!(taken.0, expected);
    }

    #[test]
    fn offsets_are_row_major() {
        let place = Place { pool: Pool::Position, layer: 2, position: 1, text: 9 };
        assert_eq!(Dims::new(vec![4, 3, 10]).unwrap().offset(place), 70);
        assert_eq!(Dims::new(vec![4, 10]).unwrap().offset(place), 20);
        assert!(Dims::new(vec![usize::MAX, 2]).is_err());
    }
}
