use std::collections::HashSet;

use candle_core::Tensor;
use skn_counts::Pool;
use skn_data::{Batch, Packed, TextHead, TextList};
use skn_model::{Backend, Hook, LanguageModel, NeuronSite, Output, Pass, Sequences};

use crate::error::{ProbingError, Result};
use crate::group::Group;
use crate::workers::{Progress, Silent, Work, Workers, fold_here};

/// How a pass is done. Nothing here but `site` changes a result by a bit; it changes time and memory.
#[derive(Clone, Copy)]
pub struct PassOptions<'a> {
    /// The threads. A model that is not on the CPU is driven by the calling thread alone.
    pub workers: &'a Workers,
    /// The most rows of a micro-batch, prompt rows counted; a longer text goes alone. 2048 unless set. Where texts are too
    /// few to give each of several threads some batches of so many rows, batches are smaller, down to about 256 rows.
    pub token_budget: usize,
    /// The most texts of a micro-batch (`--bz`). No limit unless set.
    pub max_sequences: usize,
    /// Who is told how far the pass is.
    pub progress: &'a dyn Progress,
    /// What the texts are, for who is told: dev, test; empty unless set.
    pub part: &'a str,
    /// Which number of a neuron averages, counts and captures read; answers don't depend on it.
    pub site: NeuronSite,
    /// The processes that evaluate together. Each is given its share of the texts ([`skn_data::shard`]), and has the answers to all of
    /// them. Those of `workers` unless set. Statistics are of a process's own share, and put together as those of shards are.
    pub group: &'a dyn Group,
}

impl<'a> PassOptions<'a> {
    /// The defaults on these threads.
    pub fn new(workers: &'a Workers) -> Self {
        Self {
            workers,
            token_budget: 2048,
            max_sequences: usize::MAX,
            progress: &Silent,
            part: "",
            site: NeuronSite::Product,
            group: workers.group(),
        }
    }

    /// How many batches of so many rows keep all threads busy to the end: up to four for each of several, and as many for one as
    /// for the other.
    fn batches(&self, rows: usize) -> usize {
        /// Fewer rows make products slower than what a thread that waits would cost.
        const LEAST: usize = 256;
        match self.workers.threads() {
            1 => 1,
            threads => {
                let needed = rows.div_ceil(self.token_budget);
                needed.max((rows / LEAST).min(4 * threads)).next_multiple_of(threads)
            }
        }
    }

    fn check(&self) -> Result<()> {
        for (what, found) in [("token budget", self.token_budget), ("texts of a batch", self.max_sequences)] {
            if found == 0 {
                return Err(ProbingError::mismatch(what, "at least 1", found));
            }
        }
        Ok(())
    }
}

/// The texts of a pass, checked and divided into batches.
pub(crate) struct Texts<'a> {
    model: &'a LanguageModel,
    options: &'a PassOptions<'a>,
    batches: Packed<'a>,
}

impl<'a> Texts<'a> {
    pub(crate) fn new(
        what: &'static str,
        model: &'a LanguageModel,
        texts: impl Into<TextList<'a>>,
        classes: usize,
        options: &'a PassOptions<'a>,
    ) -> Result<Self> {
        options.check()?;
        let texts = texts.into();
        if texts.is_empty() {
            return Err(ProbingError::NoTexts { what });
        }
        // Rows that ascend are as many.
        let (ascend, mut rows) = (texts.ascends(), HashSet::new());
        let (prompt, mut amount) = (model.prompt_rows(), 0);
        check_each(texts, |text| {
            amount += text.tokens + prompt;
            check_text(model, text, classes)?;
            if !ascend && !rows.insert(text.row) {
                return Err(ProbingError::SameRow { row: text.row });
            }
            Ok(())
        })?;
        let shared = Backend::of(model.device()).computes_on_caller();
        let wanted = if shared { options.batches(amount) } else { 1 };
        let batches = Packed::new(texts, prompt, options.token_budget, options.max_sequences, wanted)?;
        let (part, texts, amount) = (options.part, texts.len() as u64, amount as u64);
        options.progress.begin(Work { what, part, texts, amount });
        Ok(Self { model, options, batches })
    }

    /// Where each text of a batch stands in the list that was given.
    pub(crate) fn places<'b>(&self, batch: &'b Batch) -> impl Iterator<Item = usize> + use<'b> {
        batch.places.iter().copied()
    }

    /// A batch by its number.
    pub(crate) fn batch(&self, number: usize) -> Result<Batch> {
        Ok(self.batches.batch(number)?)
    }

    /// Gives every batch with its number to `map`, on many threads, and the results to `fold`, in an order that depends on texts and options
    /// only. Progress hears of every batch that is folded.
    pub(crate) fn run<T: Send>(
        &self,
        map: impl Fn(usize, &Batch) -> Result<T> + Sync,
        mut fold: impl FnMut(&Batch, T) -> Result<()>,
    ) -> Result<()> {
        // A batch is made when its turn comes, and goes when it is folded.
        let map = |number: usize, (): &()| {
            let batch = self.batches.batch(number)?;
            Ok((map(number, &batch)?, batch))
        };
        let fold = |_: usize, (result, batch): (T, Batch)| {
            fold(&batch, result)?;
            self.options.progress.advance(tokens(self.model, &batch));
            Ok(())
        };
        let batches = vec![(); self.batches.len()];
        if Backend::of(self.model.device()).computes_on_caller() {
            self.options.workers.fold(&batches, map, fold, self.options.progress)
        } else {
            fold_here(&batches, map, fold, self.options.progress)
        }
    }
}

/// The rows of a batch, those of its prompts too.
pub(crate) fn tokens(model: &LanguageModel, batch: &Batch) -> u64 {
    (batch.ids.len() + model.prompt_rows() * batch.len()) as u64
}

/// Looks at each text; of those that it refuses the first in the list is told, in whatever order they come.
fn check_each(texts: TextList<'_>, mut check: impl FnMut(TextHead) -> Result<()>) -> Result<()> {
    let mut wrong: Option<(usize, ProbingError)> = None;
    texts.each(|text| {
        if let Err(error) = check(text)
            && wrong.as_ref().is_none_or(|(place, _)| text.place < *place)
        {
            wrong = Some((text.place, error));
        }
        Ok::<_, ProbingError>(())
    })?;
    wrong.map_or(Ok(()), |(_, error)| Err(error))
}

fn check_text(model: &LanguageModel, text: TextHead, classes: usize) -> Result<()> {
    let TextHead { row, tokens: found, .. } = text;
    // A decoder's empty text may have no token at all; its prompt has rows all the same.
    if found + model.prompt_rows() == 0 {
        return Err(ProbingError::Empty { row });
    }
    if found > model.max_text() {
        let (limit, prompt_rows) = (model.max_text(), model.prompt_rows());
        return Err(ProbingError::TooLong { row, limit, prompt_rows, found });
    }
    if text.label >= classes {
        return Err(ProbingError::Label { row, classes, found: text.label });
    }
    Ok(())
}

/// Refuses a text without a token where something is taken of texts' own rows: there is nothing of it to take.
pub(crate) fn check_text_rows<'p>(
    texts: TextList<'_>,
    mut pools: impl Iterator<Item = &'p Pool>,
) -> Result<()> {
    match pools.any(|pool| pool.is_of_text()) {
        true => check_each(texts, |text| match text.tokens {
            0 => Err(ProbingError::Empty { row: text.row }),
            _ => Ok(()),
        }),
        false => Ok(()),
    }
}

/// Runs a batch as far as the hook or the output needs it.
pub(crate) fn forward(
    model: &LanguageModel,
    batch: &Batch,
    output: Output,
    hook: &mut dyn Hook,
) -> Result<Tensor> {
    Ok(model.forward(sequences(batch), &Pass { output, dropout: None }, hook)?)
}

/// A batch as the model takes it.
pub(crate) fn sequences(batch: &Batch) -> Sequences<'_> {
    Sequences { ids: &batch.ids, starts: &batch.starts, samples: &batch.rows, seconds: &batch.seconds }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::EVALUATING;

    #[test]
    fn few_texts_are_shared_among_the_threads() {
        let [one, two] = [1, 2].map(|threads| Workers::new(threads).unwrap());
        assert_eq!(PassOptions::new(&one).batches(1280), 1, "one thread has nobody to share with");
        let found = [100, 640, 800, 3200, 1_000_000].map(|rows| PassOptions::new(&two).batches(rows));
        assert_eq!(found, [2, 2, 4, 8, 490]);
        assert_eq!(PassOptions { token_budget: 64, ..PassOptions::new(&two) }.batches(3200), 50);
    }

    #[test]
    fn an_evaluation_is_called_by_its_texts() {
        let told = |what, part| Work { part, ..Work::of(what, 0) }.to_string();
        assert_eq!(told(EVALUATING, "dev"), "dev");
        assert_eq!(told("counting", "dev"), "counting dev");
        assert_eq!(told(EVALUATING, ""), "evaluating");
    }
}
