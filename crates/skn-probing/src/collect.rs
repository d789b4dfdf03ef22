use skn_data::{Batch, TextList};
use skn_model::{LanguageModel, Output};

use crate::error::Result;
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
    let nothing = BatchTexts { labels: &[], rows: &[], places: &[] };
    let blank: Vec<_> =
        statistics.iter().map(|statistic| statistic.of_batch(&nothing)).collect::<Result<_>>()?;
    let texts = texts.into();
    check_text_rows(texts, pools_read(&blank, model.config().layers()).iter())?;
    let pass = Texts::new(what, model, texts, classes, options)?;
    let map = |batch: &Batch| {
        let places: Vec<usize> = pass.places(batch).collect();
        let texts = BatchTexts { labels: &batch.labels, rows: &batch.rows, places: &places };
        let parts = blank.iter().map(|statistic| statistic.of_batch(&texts)).collect::<Result<_>>()?;
        let mut watch = Watch::new(batch, options.site, parts);
        forward(model, batch, Output::Nothing, &mut watch)?;
        Ok(watch.into_statistics())
    };
    pass.run(map, |_, parts: Vec<Box<dyn Statistic>>| {
        statistics.iter_mut().zip(parts).try_for_each(|(whole, part)| whole.absorb(part))
    })?;
    Ok(statistics)
}
