use std::sync::Mutex;

use candle_core::Device;
use skn_data::{Batch, TextList};
use skn_kernels::Misfit;
use skn_model::{Backend, LanguageModel, Output};

use crate::blocks::{Blocks, SharedMisfit, lock};
use crate::error::{ProbingError, Result};
use crate::pass::{PassOptions, Texts, check_text_rows, forward};
use crate::statistic::{BatchTexts, Statistic};
use crate::watch::{Watch, pools_read};

/// Passes once over `texts` and gives each statistic the activations that it reads. `what` says what is done, for who
/// watches. Labels must be below `classes`.
///
/// Texts are a slice, or those of a [`TextStore`](skn_data::TextStore): then memory holds those of the batches under way, and the same
/// comes of it.
///
/// # Errors
/// If there are no texts, one does not fit into the model, has no token where something is taken of a text's own rows, or has a label that
/// is not below `classes`; if an activation is not finite, or a statistic refuses one.
pub fn collect<'t>(
    what: &'static str,
    model: &LanguageModel,
    texts: impl Into<TextList<'t>>,
    classes: usize,
    mut statistics: Vec<Box<dyn Statistic>>,
    options: &PassOptions<'_>,
) -> Result<Vec<Box<dyn Statistic>>> {
    if statistics.is_empty() {
        return Ok(statistics);
    }
    let texts = texts.into();
    check_text_rows(texts, pools_read(&statistics, model.config().layers()).iter())?;
    let pass = Texts::new(what, model, texts, classes, options)?;
    let take = |batch: &Batch, parts: Parts, blocks: Option<Blocks<'_>>| {
        let mut watch = Watch::new(batch, options.site, parts, blocks);
        forward(model, batch, Output::Nothing, &mut watch)?;
        Ok(watch.into_statistics())
    };
    take_each(&pass, model.device(), &mut statistics, take)?;
    Ok(statistics)
}

/// What is taken of a batch: a part of each statistic.
pub(crate) type Parts = Vec<Box<dyn Statistic>>;

/// Has each batch of a pass taken by parts of the statistics, which absorb them. On a device that reduces rows `take` is given
/// the blocks that rows are given by; a batch of which something could not be taken so is taken once more without them, for
/// its error.
pub(crate) fn take_each(
    pass: &Texts<'_>,
    device: &Device,
    statistics: &mut [Box<dyn Statistic>],
    take: impl Fn(&Batch, Parts, Option<Blocks<'_>>) -> Result<Parts> + Sync,
) -> Result<()> {
    let nothing = BatchTexts { labels: &[], rows: &[], places: &[] };
    let blank: Parts = statistics.iter().map(|of| of.of_batch(&nothing)).collect::<Result<_>>()?;
    let misfit = match Backend::of(device).reduces() {
        true => Some(Mutex::new(Misfit::new(device)?)),
        false => None,
    };
    let take = |number: usize, batch: &Batch, misfit: Option<&SharedMisfit>| {
        let places: Vec<usize> = pass.places(batch).collect();
        let texts = BatchTexts { labels: &batch.labels, rows: &batch.rows, places: &places };
        let parts = blank.iter().map(|statistic| statistic.of_batch(&texts)).collect::<Result<_>>()?;
        take(batch, parts, misfit.map(|misfit| Blocks::new(batch, misfit, number)))
    };
    let map = |number: usize, batch: &Batch| take(number, batch, misfit.as_ref());
    let mut absorbed = 0usize;
    let taken = pass.run(map, |_, parts: Parts| {
        statistics.iter_mut().zip(parts).try_for_each(|(whole, part)| whole.absorb(part))?;
        absorbed += 1;
        match &misfit {
            // Looked for below.
            Some(misfit) if absorbed.is_multiple_of(BATCHES_AHEAD) && lock(misfit).found()?.is_some() => {
                Err(ProbingError::Cancelled)
            }
            _ => Ok(()),
        }
    });
    let wrong = misfit.as_ref().map_or(Ok(None), |misfit| lock(misfit).found());
    match (taken, wrong) {
        // The first batch in which something could not be taken, of which the processor would have told too.
        (_, Ok(Some(number))) => {
            let number = number as usize;
            take(number, &pass.batch(number)?, None)?;
            let expected = "finite numbers, and none beyond 2^20 where they are added up";
            return Err(ProbingError::mismatch("activations", expected, "others, once of two times"));
        }
        (Err(error), _) => return Err(error),
        (Ok(()), Err(error)) => return Err(error.into()),
        (Ok(()), Ok(None)) => {}
    }
    match misfit {
        Some(_) => statistics.iter_mut().filter_map(|of| of.blocks()).try_for_each(|of| of.finish()),
        None => Ok(()),
    }
}

/// How many batches are begun on a device before somebody waits for it to see whether all could be taken.
const BATCHES_AHEAD: usize = 16;
