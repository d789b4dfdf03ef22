use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use skn_counts::Pool;
use skn_data::Batch;
use skn_kernels::{Misfit, RowGroups, RowRuns, pool_rows};
use skn_model::Rows;

use crate::error::{ProbingError, Result};
use crate::statistic::{Block, Slopes, Statistic};

/// What can't be taken of a batch is found when somebody looks.
pub(crate) type SharedMisfit = Mutex<Misfit>;

pub(crate) fn lock(misfit: &SharedMisfit) -> MutexGuard<'_, Misfit> {
    misfit.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the rows of a batch to statistics in blocks, on a device that reduces them there.
pub(crate) struct Blocks<'a> {
    batch: &'a Batch,
    misfit: &'a SharedMisfit,
    /// Which rows there are differs between layers: the last one has no more than somebody reads.
    lists: Vec<Lists>,
}

impl<'a> Blocks<'a> {
    /// Of the batch with this number in its pass.
    pub(crate) fn new(batch: &'a Batch, misfit: &'a SharedMisfit, number: usize) -> Self {
        lock(misfit).set_mark(number as u64);
        Self { batch, misfit, lists: Vec::new() }
    }

    /// What these rows are, for [`Self::give`].
    pub(crate) fn lists(&mut self, rows: &Rows<'_>) -> Result<ListsOf> {
        Lists::of(&mut self.lists, rows, self.batch).map(ListsOf)
    }

    /// Gives what there is of a layer's rows to those of the statistics that `takers` says of each pool, who all take blocks.
    pub(crate) fn give(
        &mut self,
        layer: usize,
        ListsOf(lists): ListsOf,
        of_layer: OfLayer<'_>,
        statistics: &mut [Box<dyn Statistic>],
        takers: &[Vec<bool>; Pool::ALL.len()],
    ) -> Result<()> {
        let wanted = takers.each_ref().map(|takers| takers.contains(&true));
        if wanted == [false; Pool::ALL.len()] {
            return Ok(());
        }
        let (lists, OfLayer { values: x, output_norms, slopes }) = (&self.lists[lists], of_layer);
        let mut misfit = lock(self.misfit);
        let wants = |of: Pool| Pool::ALL.into_iter().zip(wanted).any(|pool| pool == (of, true));
        let pooled = [Pool::Mean, Pool::Max].map(wants);
        let [means, maxima] = match &lists.texts {
            Some((runs, _)) if pooled != [false, false] => pool_rows(x, runs, pooled, &mut misfit)?,
            _ => [None, None],
        };
        for (pool, takers) in Pool::ALL.into_iter().zip(takers) {
            let texts = lists.texts.as_ref().map(|(_, of_texts)| of_texts);
            let (values, list) = match pool {
                Pool::Position => (Some(x), lists.prompt.as_ref()),
                Pool::Last => (Some(x), lists.last.as_ref()),
                Pool::Mean => (means.as_ref(), texts),
                Pool::Max => (maxima.as_ref(), texts),
            };
            // What is made of several rows has no output and no gradients of its own.
            let is_a_row = matches!(pool, Pool::Position | Pool::Last);
            let (output_norms, slopes) = if is_a_row { (output_norms, slopes) } else { (None, None) };
            for (statistic, _) in statistics.iter_mut().zip(takers).filter(|(_, takes)| **takes) {
                let (Some(values), Some(list), Some(taker)) = (values, list, statistic.blocks()) else {
                    return Err(ProbingError::mismatch("rows of a layer", pool.name(), "others"));
                };
                let (rows, texts) = (&list.rows, &list.texts[..]);
                let block = Block { pool, layer, values, rows, texts, output_norms, slopes };
                taker.take_block(&block, &mut misfit)?;
            }
        }
        Ok(())
    }
}

/// What [`Blocks`] knows of the rows of a layer.
#[derive(Clone, Copy)]
pub(crate) struct ListsOf(usize);

/// The neurons of a layer, for each row the norm of what its FFN makes of it, and their gradients.
#[derive(Clone, Copy)]
pub(crate) struct OfLayer<'a> {
    pub(crate) values: &'a Tensor,
    pub(crate) output_norms: Option<&'a Tensor>,
    pub(crate) slopes: Option<&'a Slopes<Tensor>>,
}

/// Some rows of a layer, and the texts that they are of.
struct List {
    rows: RowGroups,
    texts: Vec<usize>,
}

/// The rows of a layer by what they are. Texts stand in the order of their classes, as counts are quickest.
struct Lists {
    sequence: Vec<u32>,
    position: Vec<u32>,
    /// A group for each place in the prompt; nothing where not all of these rows are there.
    prompt: Option<List>,
    last: Option<List>,
    /// Each text's own rows, and what is pooled of them.
    texts: Option<(RowRuns, List)>,
}

impl Lists {
    /// The place of those of these rows, made when they first come.
    fn of(all: &mut Vec<Self>, rows: &Rows<'_>, batch: &Batch) -> Result<usize> {
        let same = |lists: &Self| lists.sequence == rows.sequence() && lists.position == rows.position();
        if let Some(place) = all.iter().position(same) {
            return Ok(place);
        }
        all.push(Self::new(rows, batch)?);
        Ok(all.len() - 1)
    }

    fn new(rows: &Rows<'_>, batch: &Batch) -> Result<Self> {
        let (texts, positions) = (batch.labels.len(), rows.layout().prompt_rows());
        let mut by_class: Vec<usize> = (0..texts).collect();
        by_class.sort_by_key(|&text| batch.labels[text]);
        // For each text its rows: of the prompt, the last of the text, and all of the text.
        let mut of_prompt: Vec<Option<usize>> = vec![None; texts * positions];
        let mut last: Vec<Option<usize>> = vec![None; texts];
        let mut runs: Vec<Option<Range<usize>>> = vec![None; texts];
        let mut in_one_piece = true;
        for (row, (place, &text)) in rows.place().zip(rows.sequence()).enumerate() {
            let text = text as usize;
            if let Some(position) = place.in_prompt {
                of_prompt[text * positions + position] = Some(row);
                continue;
            }
            if place.is_last_of_text {
                last[text] = Some(row);
            }
            runs[text] = Some(match runs[text].take() {
                None => row..row + 1,
                Some(run) => {
                    in_one_piece &= run.end == row;
                    run.start..row + 1
                }
            });
        }
        let prompt = (0..positions).map(|position| of_prompt.iter().skip(position).step_by(positions));
        let prompt: Option<Vec<Vec<usize>>> = prompt.map(|of| of.copied().collect()).collect();
        let prompt = prompt.map(|prompt| list(by_class.clone(), &prompt, batch)).transpose()?;
        // A text without a token has none of its own.
        let (with_rows, own): (Vec<usize>, Vec<_>) =
            by_class.iter().filter_map(|&text| Some((text, runs[text].clone()?))).unzip();
        let texts = match in_one_piece {
            true => {
                // One row of what is pooled for each, in this order.
                let pooled =
                    List { rows: groups(&[(0..own.len()).collect()], &with_rows, batch)?, texts: with_rows };
                Some((RowRuns::new(&own)?, pooled))
            }
            false => None,
        };
        let with_last: Vec<usize> = by_class.into_iter().filter(|&text| last[text].is_some()).collect();
        let last: Vec<usize> = last.into_iter().map(|row| row.unwrap_or(0)).collect();
        let last = Some(list(with_last, &[last], batch)?);
        let (sequence, position) = (rows.sequence().to_vec(), rows.position().to_vec());
        Ok(Self { sequence, position, prompt, last, texts })
    }
}

/// For each group the rows of these texts, of which `rows` has one for each text of the batch.
fn list(texts: Vec<usize>, rows: &[Vec<usize>], batch: &Batch) -> Result<List> {
    let of_group = |rows: &Vec<usize>| texts.iter().map(|&text| rows[text]).collect();
    let rows = groups(&rows.iter().map(of_group).collect::<Vec<_>>(), &texts, batch)?;
    Ok(List { rows, texts })
}

fn groups(rows: &[Vec<usize>], texts: &[usize], batch: &Batch) -> Result<RowGroups> {
    let numbers = rows.iter().flatten().map(|&row| row as u32).collect();
    let classes = texts.iter().map(|&text| batch.labels[text] as u32).collect();
    Ok(RowGroups::new(rows.len(), numbers, classes)?)
}
