//! What a training takes, from some of its steps: training writes as it goes, so it is not run.

use std::time::Instant;

use skn_artifact::names::file;
use skn_data::{Encoded, pack_in_order};
use skn_model::{LanguageModel, TrainingDropout};
use skn_probing::{PassOptions, ProbingError, evaluate};
use skn_tune::{Step, TrainOptions, step_gradients};

use super::predict::OnlyStops;
use super::train_files::{copied, is_apart};
use crate::error::Result;
use crate::rehearsal::{Rehearsal, seconds_since};
use crate::run_writer::RunWriter;
use crate::setup::Setup;

/// The least time that steps are measured for, and the most steps.
const SECONDS: f64 = 0.5;
const STEPS: u64 = 16;

/// Times some steps and an evaluation, on a sample of train and of dev, and notes what the training would read and write.
///
/// # Errors
/// [`SessionError::Rehearsed`](crate::SessionError::Rehearsed) when all went well.
pub(super) fn rehearse(
    rehearsal: &Rehearsal,
    setup: &Setup<'_>,
    model: &LanguageModel,
    [train, dev]: [&[Encoded]; 2],
    (how, steps): (&TrainOptions, u64),
    mut writer: RunWriter,
) -> Result<()> {
    let base = &setup.base;
    let rows_per_step = how.batch.saturating_mul(how.accumulate);
    let (all, ratio) = {
        let seen = rehearsal.seen();
        (seen.parts.first().map_or(0, |part| part.texts), seen.parts.last().map_or(1.0, |part| part.ratio()))
    };
    // A sample may have fewer rows than a step.
    let taken = rows_per_step.min(train.len()).max(1);
    let larger = rows_per_step.min(all) as f64 / taken as f64;
    let config = model.config();
    let [hidden, attention] =
        how.dropout.map_or([config.hidden_dropout, config.attention_dropout], |p| [p, p]);
    let one = |number: u64| -> Result<()> {
        // Rows in turns, as an epoch would take them.
        let first = number as usize * taken;
        let rows: Vec<u32> = (first..first + taken).map(|row| (row % train.len().max(1)) as u32).collect();
        let batches = pack_in_order(train, &rows, model.prompt_rows(), how.token_budget)?;
        let dropout = TrainingDropout { hidden, attention, seed: how.seed, step: number };
        let dropout = ([hidden, attention] != [0.0; 2]).then_some(dropout);
        let verbalizer = &base.verbalizer.ids;
        step_gradients(
            model,
            &Step { number, batches: &batches, verbalizer, dropout },
            base.session.workers(),
        )?;
        Ok(())
    };
    // The first one packs weights.
    one(0)?;
    let progress = base.session.progress();
    let began = Instant::now();
    let mut done = 0;
    while done < STEPS && (done == 0 || seconds_since(began) < SECONDS) && !progress.cancelled() {
        done += 1;
        one(done)?;
    }
    if progress.cancelled() {
        return Err(ProbingError::Cancelled.into());
    }
    let measured = seconds_since(began);
    rehearsal.note(
        "training",
        visited(steps, all, rows_per_step),
        measured,
        larger * measured / done as f64 * steps as f64,
    );

    let began = Instant::now();
    // It is noted below, as often as it is done.
    let pass = PassOptions { progress: &OnlyStops(progress), ..PassOptions::new(base.session.workers()) };
    evaluate(model, dev, &base.verbalizer.ids, &pass)?;
    let measured = seconds_since(began);
    let times = evaluations(steps, all.div_ceil(rows_per_step).max(1) as u64, how.eval_every) as f64;
    rehearsal.note("evaluating dev", times * dev.len() as f64 * ratio, measured, times * ratio * measured);

    setup.keep_split(&mut writer, true)?;
    setup.note(&mut writer)?;
    let embedding = base.model.weights.mask_embedding(base.encoder.mask_id())?;
    let mut trained = 0;
    for (name, bytes) in model.tuning()?.files(&base.model.config, &base.identity.id, &embedding)? {
        trained += if file::is_tensors(&name) { bytes.len() as u64 } else { 0 };
        let name = if is_apart(setup) { file::in_tuned_folder(&name) } else { name };
        let name = writer.folder().join(file::BEST).join(name);
        rehearsal.writes(name, Some(bytes.len() as u64), false);
    }
    for (name, bytes) in copied(setup, writer.folder())? {
        rehearsal.writes(writer.folder().join(name), bytes, false);
    }
    let last = writer.folder().join(file::LAST);
    // Parameters and Adam's two moments of each, of two checkpoints.
    for name in [file::CHECKPOINT, file::PREVIOUS_CHECKPOINT] {
        rehearsal.writes(last.join(name), Some(3 * trained), false);
    }
    for name in [format!("{}/{}", file::BEST, file::SKILL_CONFIG), file::METRICS.to_owned()] {
        rehearsal.writes(writer.folder().join(name), None, false);
    }
    writer.finish()
}

/// Rows that so many steps take: the last one of an epoch may have fewer.
fn visited(steps: u64, all: usize, rows_per_step: usize) -> f64 {
    let per_epoch = all.div_ceil(rows_per_step).max(1) as u64;
    let rest = ((steps % per_epoch) as f64 * rows_per_step as f64).min(all as f64);
    (steps / per_epoch) as f64 * all as f64 + rest
}

/// How often dev is evaluated: at each epoch's end, at the last step, and every so many steps.
fn evaluations(steps: u64, per_epoch: u64, every: Option<u64>) -> u64 {
    let at_epochs = steps.div_ceil(per_epoch.max(1));
    let Some(every) = every.filter(|every| *every > 0) else { return at_epochs };
    let between = (1..=steps / every).map(|time| time * every);
    at_epochs + between.filter(|step| !step.is_multiple_of(per_epoch) && *step != steps).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluations_and_rows_by_hand() {
        // Ten rows in steps of four: three steps an epoch.
        assert_eq!([1, 3, 4, 6].map(|steps| visited(steps, 10, 4)), [4.0, 10.0, 14.0, 20.0]);
        assert_eq!(evaluations(6, 3, None), 2);
        assert_eq!(evaluations(7, 3, None), 3);
        // Steps 2, 3, 4 and 6.
        assert_eq!(evaluations(6, 3, Some(2)), 4);
        assert_eq!(evaluations(6, 3, Some(3)), 2);
    }
}
