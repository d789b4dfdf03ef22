use candle_core::Tensor;
use skn_counts::Pool;
use skn_data::Batch;
use skn_kernels::{row_norms, with_values};
use skn_model::{Hook, LanguageModel, ModelError, NeuronSite, Reads, Rows, Site};

use crate::blocks::{Blocks, OfLayer};
use crate::error::{ProbingError, Result};
use crate::statistic::{Row, Statistic};

/// Which pools are read of some layer.
pub(crate) fn pools_read(statistics: &[Box<dyn Statistic>], layers: usize) -> Vec<Pool> {
    let read = |pool: &Pool| (0..layers).any(|layer| reads(statistics, *pool, layer));
    Pool::ALL.into_iter().filter(read).collect()
}

fn reads(statistics: &[Box<dyn Statistic>], pool: Pool, layer: usize) -> bool {
    statistics.iter().any(|statistic| statistic.reads(pool, layer))
}

/// Gives the FFN activations of a batch to statistics, layer by layer as they are made.
pub(crate) struct Watch<'a> {
    batch: &'a Batch,
    site: NeuronSite,
    statistics: Vec<Box<dyn Statistic>>,
    /// On a device that reduces rows.
    blocks: Option<Blocks<'a>>,
    /// For each statistic whether it takes them there. All others are given rows on the host.
    by_block: Vec<bool>,
    /// The neurons of a layer until its FFN's output is known, where somebody needs that beside them.
    waiting: Option<Tensor>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        batch: &'a Batch,
        site: NeuronSite,
        mut statistics: Vec<Box<dyn Statistic>>,
        blocks: Option<Blocks<'a>>,
    ) -> Self {
        let by_block = statistics.iter_mut().map(|of| blocks.is_some() && of.blocks().is_some()).collect();
        Self { batch, site, statistics, blocks, by_block, waiting: None }
    }

    pub(crate) fn into_statistics(self) -> Vec<Box<dyn Statistic>> {
        self.statistics
    }

    /// Whether somebody reads a pool's rows at a site.
    fn reads(&self, pool: Pool, site: Site) -> bool {
        self.statistics.iter().any(|statistic| takes(statistic.as_ref(), self.site, pool, site))
    }

    /// Whether somebody who does is given them on the host.
    fn reads_on_host(&self, pool: Pool, site: Site) -> bool {
        let all = self.statistics.iter().zip(&self.by_block);
        all.filter(|(_, by_block)| !**by_block)
            .any(|(statistic, _)| takes(statistic.as_ref(), self.site, pool, site))
    }

    fn any_on_host(&self, site: Site) -> bool {
        Pool::ALL.into_iter().any(|pool| self.reads_on_host(pool, site))
    }

    /// Gives blocks to those who take them: to those who wait for the output of a layer's FFN, which is given beside its neurons then, or
    /// to all others.
    fn give_blocks(
        &mut self,
        site: Site,
        rows: &Rows<'_>,
        x: &Tensor,
        output: Option<&Tensor>,
    ) -> Result<()> {
        let Some(blocks) = &mut self.blocks else { return Ok(()) };
        let (by_block, usual) = (&self.by_block, self.site);
        let takers: [Vec<bool>; Pool::ALL.len()] = Pool::ALL.map(|pool| {
            let all = self.statistics.iter().map(AsRef::as_ref).zip(by_block);
            let wanted = |of| waits(of, site) == output.is_some() && takes(of, usual, pool, site);
            all.map(|(of, by_block)| *by_block && wanted(of)).collect()
        });
        if !takers.iter().any(|of_pool| of_pool.contains(&true)) {
            return Ok(());
        }
        let norms = output.map(row_norms).transpose()?;
        let (lists, output_norms) = (blocks.lists(rows)?, norms.as_ref());
        let of_layer = OfLayer { values: x, output_norms, slopes: None };
        blocks.give(site.layer(), lists, of_layer, &mut self.statistics, &takers)
    }

    fn look(&mut self, site: Site, rows: &Rows<'_>, seen: &Seen<'_>) -> Result<()> {
        let (layer, width) = (site.layer(), seen.width);
        let pools = [Pool::Mean, Pool::Max].map(|pool| self.reads_on_host(pool, site));
        let positions = self.reads_on_host(Pool::Position, site);
        let last = self.reads_on_host(Pool::Last, site);
        let mut pooled = Pooled::new(width, pools);
        let (labels, usual) = (&self.batch.labels, self.site);
        let (statistics, by_block) = (&mut self.statistics, &self.by_block);
        let mut give = Give { site, usual, labels, statistics, by_block, output_norm: None };
        let places = rows.sequence().iter().zip(rows.position()).zip(rows.place());
        for (index, ((&sequence, &position), place)) in places.enumerate() {
            let text = sequence as usize;
            let is_last = last && place.is_last_of_text;
            if !(if place.in_prompt.is_some() { positions } else { pooled.wanted() || is_last }) {
                continue;
            }
            let row = &seen.values[index * width..][..width];
            give.output_norm = seen.output.map(|(hidden, output)| norm(&output[index * hidden..][..hidden]));
            check_finite(self.batch, row, layer, position as usize, text)?;
            if is_last {
                give.row(Pool::Last, 0, text, row)?;
            }
            if let Some(position) = place.in_prompt {
                give.row(Pool::Position, position, text, row)?;
            } else if pooled.wanted() {
                if pooled.text != text {
                    pooled.give(|pool, text, row| give.pooled(pool, text, row))?;
                    pooled.text = text;
                }
                pooled.add(row);
            }
        }
        pooled.give(|pool, text, row| give.pooled(pool, text, row))
    }
}

/// Whether a statistic reads a pool's rows at a site.
fn takes(statistic: &dyn Statistic, usual: NeuronSite, pool: Pool, site: Site) -> bool {
    let layer = site.layer();
    statistic.site().unwrap_or(usual).at(layer) == site && statistic.reads(pool, layer)
}

/// Whether a statistic is given what is at a site when the layer's FFN has made something of it.
fn waits(statistic: &dyn Statistic, site: Site) -> bool {
    statistic.needs_output_norm() && site == NeuronSite::Product.at(site.layer())
}

/// The neurons of a layer, `[rows, width]`, and what its FFN makes of them, `[rows, hidden]`, where somebody needs it.
struct Seen<'a> {
    width: usize,
    values: &'a [f32],
    output: Option<(usize, &'a [f32])>,
}

/// Hands rows of a layer to whoever reads them.
struct Give<'a> {
    site: Site,
    /// What is read where a statistic says nothing else.
    usual: NeuronSite,
    labels: &'a [usize],
    statistics: &'a mut [Box<dyn Statistic>],
    by_block: &'a [bool],
    output_norm: Option<f32>,
}

impl Give<'_> {
    fn row(&mut self, pool: Pool, position: usize, text: usize, values: &[f32]) -> Result<()> {
        let (site, layer, output_norm) = (self.site, self.site.layer(), self.output_norm);
        let row =
            Row { pool, layer, position, text, label: self.labels[text], values, output_norm, slopes: None };
        for (statistic, by_block) in self.statistics.iter_mut().zip(self.by_block) {
            if !by_block && takes(statistic.as_ref(), self.usual, pool, site) {
                statistic.take(&row)?;
            }
        }
        Ok(())
    }

    /// What is made of several rows has no output of its own.
    fn pooled(&mut self, pool: Pool, text: usize, values: &[f32]) -> Result<()> {
        let norm = self.output_norm.take();
        let given = self.row(pool, 0, text, values);
        self.output_norm = norm;
        given
    }
}

fn check_finite(batch: &Batch, row: &[f32], layer: usize, position: usize, text: usize) -> Result<()> {
    // All of them first: that is one vector operation for many.
    if row.iter().fold(true, |finite, value| finite & value.is_finite()) {
        return Ok(());
    }
    let neuron = row.iter().position(|value| !value.is_finite()).unwrap_or(0);
    let found = row.get(neuron).copied().unwrap_or(f32::NAN);
    Err(ProbingError::Activation { row: batch.rows[text], layer, position, neuron, found })
}

impl Hook for Watch<'_> {
    fn reads(&self, site: Site) -> Reads {
        if [Pool::Mean, Pool::Max, Pool::Last].into_iter().any(|pool| self.reads(pool, site)) {
            Reads::All
        } else if self.reads(Pool::Position, site) {
            Reads::Prompt
        } else {
            Reads::Nothing
        }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
        let (layer, (_, width)) = (site.layer(), x.dims2()?);
        self.give_blocks(site, rows, &x, None).map_err(|error| ModelError::hook(site, error))?;
        if site == NeuronSite::Product.at(layer) && self.sees_ffn_output(layer) {
            self.waiting = Some(x.clone());
            return Ok(x);
        }
        if !self.any_on_host(site) {
            return Ok(x);
        }
        let looked =
            with_values(&x, |values: &[f32]| self.look(site, rows, &Seen { width, values, output: None }))?;
        looked.map_err(|error| ModelError::hook(site, error))?;
        Ok(x)
    }

    fn sees_ffn_output(&self, _: usize) -> bool {
        self.statistics.iter().any(|statistic| statistic.needs_output_norm())
    }

    fn see_ffn_output(&mut self, layer: usize, rows: &Rows<'_>, output: &Tensor) -> skn_model::Result<()> {
        let Some(x) = self.waiting.take() else { return Ok(()) };
        let (site, (_, width), (_, hidden)) = (NeuronSite::Product.at(layer), x.dims2()?, output.dims2()?);
        self.give_blocks(site, rows, &x, Some(output)).map_err(|error| ModelError::hook(site, error))?;
        if !self.any_on_host(site) {
            return Ok(());
        }
        let looked = with_values(&x, |values: &[f32]| {
            with_values(output, |output: &[f32]| {
                self.look(site, rows, &Seen { width, values, output: Some((hidden, output)) })
            })
        })??;
        looked.map_err(|error| ModelError::hook(site, error))
    }
}

/// The Euclidean norm of a row: summed in f64 in the order of the columns.
fn norm(row: &[f32]) -> f32 {
    row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt() as f32
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
            max.iter_mut().zip(row).for_each(|(max, &value)| *max = if value > *max { value } else { *max });
        }
    }

    /// Gives what was pooled, if anything, and begins anew.
    fn give(&mut self, mut to: impl FnMut(Pool, usize, &[f32]) -> Result<()>) -> Result<()> {
        let rows = f64::from(std::mem::take(&mut self.rows));
        if rows == 0.0 {
            return Ok(());
        }
        if let Some(sum) = &mut self.sum {
            let mean: Vec<f32> = sum.iter().map(|&sum| (sum / rows) as f32).collect();
            to(Pool::Mean, self.text, &mean)?;
            sum.fill(0.0);
        }
        if let Some(max) = &mut self.max {
            to(Pool::Max, self.text, max)?;
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
    pub(crate) fn offset(&self, row: &Row<'_>) -> usize {
        self.place(row.layer, row.position)
    }

    /// What such an array has of a layer, `[positions, width]`, whatever the widest layer has.
    pub(crate) fn of_layer(&self, values: &[f32], layer: usize, [positions, width]: [usize; 2]) -> Vec<f32> {
        let of = |position| &values[self.place(layer, position)..][..width];
        (0..positions).flat_map(of).copied().collect()
    }

    /// Where a layer's row at a position begins.
    pub(crate) fn place(&self, layer: usize, position: usize) -> usize {
        match self.0[..] {
            [_, positions, neurons] => (layer * positions + position) * neurons,
            [_, neurons] => layer * neurons,
            _ => 0,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unit_arg, reason = "a row is taken by one push")]
mod tests {
    use super::*;

    #[test]
    fn pooling_by_hand() {
        let mut taken = Vec::new();
        let mut take = |pool, text, row: &[f32]| Ok(taken.push((pool, text, row.to_vec())));
        let mut pooled = Pooled::new(2, [true, true]);
        pooled.give(&mut take).unwrap();
        for row in [[1.0, -5.0], [2.0, -1.0], [6.0, -3.0]] {
            pooled.add(&row);
        }
        pooled.give(&mut take).unwrap();
        pooled.text = 1;
        pooled.add(&[-1.0, -2.0]);
        pooled.give(&mut take).unwrap();
        // Nothing of the first time: nothing was pooled.
        let expected = [
            (Pool::Mean, 0, vec![3.0, -3.0]),
            (Pool::Max, 0, vec![6.0, -1.0]),
            (Pool::Mean, 1, vec![-1.0, -2.0]),
            (Pool::Max, 1, vec![-1.0, -2.0]),
        ];
        assert_eq!(taken, expected);
    }

    #[test]
    fn offsets_are_row_major() {
        let row = Row {
            pool: Pool::Position,
            layer: 2,
            position: 1,
            text: 9,
            label: 0,
            values: &[],
            output_norm: None,
            slopes: None,
        };
        assert_eq!(Dims::new(vec![4, 3, 10]).unwrap().offset(&row), 70);
        assert_eq!(Dims::new(vec![4, 10]).unwrap().offset(&row), 20);
        assert!(Dims::new(vec![usize::MAX, 2]).is_err());
    }
}
