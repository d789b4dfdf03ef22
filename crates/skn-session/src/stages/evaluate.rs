use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use skn_artifact::names::{file, stage};
use skn_artifact::{Calibration, ClassEvaluation, EvaluationRecord, Likelihood, RowNumbers};
use skn_data::{Dataset, PartIndex, SplitIndex, Splits, split_with};
use skn_model::{Gradients, LanguageModel};
use skn_probing::{Evaluation, evaluate};
use skn_stats::{brier, class_scores, softmax};

use super::calibration::{self, BINS, likelihood};
use super::classify::check_task;
use crate::error::{Result, SessionError};
use crate::named::Named;
use crate::options::{Evaluate, Split};
use crate::run_writer::RunWriter;
use crate::score::Score;
use crate::session::Session;
use crate::setup::Setup;
use crate::spread::{Texts, spread};
use crate::tuned_folder::TunedFolder;

/// What data are called that are not the run's own.
const NEW: &str = "new";

/// How a model answers a part of the data.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Evaluated {
    /// What was found.
    #[serde(flatten)]
    pub evaluation: EvaluationRecord,
    /// The temperature that was fitted on dev, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// How true the probabilities of the part are with that temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated: Option<Likelihood>,
    /// The files that were written.
    pub files: Vec<PathBuf>,
}

impl Session {
    /// Scores a tuned model, pruned or not, or one as it is: the task's metric and its interval, a confusion matrix, each class, and
    /// how true the probabilities are. Fits a temperature on dev where that is asked for.
    ///
    /// ```no_run
    /// use skn_session::Session;
    /// use skn_session::options::{Compute, Evaluate};
    ///
    /// let session = Session::new(Compute::default())?;
    /// let found = session.evaluate(&Evaluate::of("runs/demo-sentiment"))?;
    /// println!("{} {:.3}", found.evaluation.metric, found.evaluation.score);
    /// # Ok::<(), skn_session::SessionError>(())
    /// ```
    ///
    /// # Errors
    /// If something named is missing, damaged or does not fit, or a file may not be replaced.
    pub fn evaluate(&self, options: &Evaluate) -> Result<Evaluated> {
        if options.calibrate && options.calibrated {
            return Err(SessionError::usage(
                "option `calibrated` uses the temperature that is there, option `calibrate` fits another; leave one of them out",
            ));
        }
        let Rows { setup, part } = rows(self, options)?;
        let base = &setup.base;
        check_task(base, &options.tuned)?;
        let tuning = base.tuning(&options.tuned)?;
        let model = base.roberta(&tuning, Gradients::Nothing)?;
        let kept = options.calibrated.then(|| calibration::read(base, &model)).transpose()?;
        let name = format!("{}/{}", base.task.name, file::evaluation(part));
        // A rehearsal tells of what is read even where nothing is written.
        let writer = writer(self, options, &setup, part, &name)?.or_else(|| RunWriter::without_run(self));
        let answered = Answered::of(&setup, &model, options, part)?;
        let evaluation =
            answered.record(&setup, &model, part, kept.as_ref().map(|kept| kept.found.temperature))?;
        let calibration = match options.calibrate {
            true => {
                let dev = match part {
                    "dev" => answered.evaluation.clone(),
                    _ => Answered::of(&setup, &model, options, "dev")?.evaluation,
                };
                Some(calibration::fit(base, &model, &dev)?)
            }
            false => None,
        };
        let fitted = calibration.as_ref().map(|calibration| calibration.temperature);
        let calibrated = fitted.map(|fitted| likelihood(&answered.evaluation, fitted)).transpose()?;
        let mut files = Vec::new();
        if let Some(mut writer) = writer {
            if options.out.is_some() {
                writer.json(&name, &evaluation)?;
                files.push(writer.folder().join(&name));
            }
            if let Some(calibration) = &calibration {
                writer.json(file::CALIBRATION, calibration)?;
                files.push(writer.folder().join(file::CALIBRATION));
            }
            setup.note(&mut writer)?;
            if let Some(kept) = &kept {
                writer.read(&kept.path)?;
            }
            writer.finish()?;
        }
        Ok(Evaluated { evaluation, calibration, calibrated, files })
    }
}

/// What is evaluated, and what its part is called.
struct Rows<'s> {
    setup: Setup<'s>,
    part: &'static str,
}

/// Reads what options name. Data that the run was not made with are its test set and nothing else, if they are not divided.
fn rows<'s>(session: &'s Session, options: &Evaluate) -> Result<Rows<'s>> {
    let Evaluate { subject, tuned, .. } = options;
    let named = Named::of(subject, tuned, None)?;
    let mut is_of_run = true;
    let read = || {
        let (splits, part) = divided(session, &named, options)?;
        is_of_run = part != NEW;
        Ok(splits)
    };
    let spread = spread(session, Texts::Own, read)?;
    // Rank 0 has looked at them.
    let part = match session.group().any(!is_of_run)? {
        true => NEW,
        false => options.split.name(),
    };
    let setup = Setup::of(session, named, spread, subject, tuned)?;
    setup.base.model.weights.require_head()?;
    Ok(Rows { setup, part })
}

/// The rows, and what the part that is evaluated is called.
fn divided(session: &Session, named: &Named, options: &Evaluate) -> Result<(Splits, &'static str)> {
    let dataset = named.dataset(session)?;
    Ok(match is_new(named, options, &dataset)? {
        true if options.calibrate => {
            return Err(SessionError::usage(
                "option `calibrate`: fits on dev of the run's own data; leave out option `data`",
            ));
        }
        true => {
            if options.split != Split::Test {
                tracing::warn!(
                    "part {}: not looked at: the data are not those of a run and have one split, so all of them are evaluated",
                    options.split.name()
                );
            }
            (all_rows(named, dataset)?, NEW)
        }
        false => (named.divided(dataset, options.subject.seed)?, options.split.name()),
    })
}

/// Whether data that were named have one split and are not those that the run was made with.
fn is_new(named: &Named, options: &Evaluate, dataset: &Dataset) -> Result<bool> {
    if options.subject.data.is_none() || !named.task.needs_data() || dataset.splits.len() != 1 {
        return Ok(false);
    }
    let record = named.source.as_ref().map(|source| source.split()).transpose()?.flatten();
    Ok(record.is_none_or(|record| record.data_sha256 != dataset.sha256()))
}

/// All labelled rows of data of one split, as a test set.
fn all_rows(named: &Named, dataset: Arc<Dataset>) -> Result<Splits> {
    let data_sha256 = dataset.sha256();
    let no_rows = Vec::new();
    let only = dataset.splits.iter().next();
    let (split, rows) = only.map_or((NEW, &no_rows), |(split, rows)| (split.as_str(), rows));
    let labelled = (0u32..).zip(rows).filter(|(_, row)| row.label >= 0).map(|(place, _)| place);
    let labelled: RowNumbers = labelled.collect();
    if labelled.is_empty() {
        let data = named.data.as_deref().unwrap_or(split.as_ref()).display();
        return Err(SessionError::input(format!(
            "{data}: expected a row with a label in column {:?}, found none in {} rows",
            named.task.label,
            rows.len()
        )));
    }
    tracing::info!(
        "the data are not those of a run and have one split: all {} labelled rows are evaluated",
        labelled.len()
    );
    let test = PartIndex { split: split.to_owned(), rows: labelled };
    let index = SplitIndex { data_sha256, test, ..SplitIndex::default() };
    Ok(split_with(Arc::unwrap_or_clone(dataset), &index)?)
}

/// The run that something is written into, if something is.
fn writer(
    session: &Session,
    options: &Evaluate,
    setup: &Setup<'_>,
    part: &str,
    name: &str,
) -> Result<Option<RunWriter>> {
    // Of a folder that lies elsewhere than in its run nothing is written into the folder around it.
    let kept_in = |source: &TunedFolder| match source.own_run() {
        None if source.config.is_some() => Some(source.best.clone()),
        run => run.map(Path::to_path_buf),
    };
    let run = setup.base.source.as_ref().and_then(kept_in);
    let folder = match (&options.out, options.calibrate) {
        (Some(out), _) => out.clone(),
        (None, false) => return Ok(None),
        (None, true) => run.filter(|_| options.tuned.load).ok_or_else(|| {
            SessionError::usage(
                "option `calibrate`: expected a run of ours that keeps the temperature (option `resume_from` RUN with option \
                 `load`), or option `out` RUN",
            )
        })?,
    };
    let entry = if options.calibrate { stage::CALIBRATE.to_owned() } else { stage::evaluate(part) };
    let mut writer = RunWriter::open(session, options.clone(), &folder, &entry, options.overwrite)?;
    if options.out.is_some() {
        writer.check_free(&[name])?;
    }
    if options.calibrate {
        writer.check_free(&[file::CALIBRATION])?;
    }
    if part != NEW {
        setup.keep_split(&mut writer, false)?;
    }
    Ok(Some(writer))
}

/// A part as the model answers it.
struct Answered {
    evaluation: Evaluation,
    cut: u64,
}

impl Answered {
    fn of(setup: &Setup<'_>, model: &LanguageModel, options: &Evaluate, part: &str) -> Result<Self> {
        let base = &setup.base;
        let rows = setup.part(part);
        let (texts, cut) = base.encode_own_noting_cuts("", rows, model)?;
        let cut = cut.len() as u64;
        base.tell_cut(cut, rows.len() as u64, &format!(" of {part}"), model);
        let pass = base.session.pass(options.batch);
        let evaluation = evaluate(model, &texts, &base.verbalizer.ids, &pass)?;
        Ok(Self { evaluation, cut })
    }

    fn record(
        &self,
        setup: &Setup<'_>,
        model: &LanguageModel,
        part: &str,
        temperature: Option<f64>,
    ) -> Result<EvaluationRecord> {
        let (base, found) = (&setup.base, &self.evaluation);
        let Score { value: score, interval } = Score::of(base.task.metric, found, base.seed)?;
        let confusion = found.confusion();
        let class = |(class, scores): (usize, skn_stats::ClassScores)| ClassEvaluation {
            word: base.verbalizer.words[class].trim().to_owned(),
            label: base.task.label_name(class).map(str::to_owned),
            precision: scores.precision,
            recall: scores.recall,
            f1: scores.f1,
            support: scores.support,
        };
        let classes = class_scores(&confusion)?.into_iter().enumerate().map(class).collect();
        let divided_by = temperature.unwrap_or(1.0);
        let rows = found.logits.chunks_exact(found.classes);
        let probabilities: Vec<f64> = rows.flat_map(|logits| softmax(logits, divided_by)).collect();
        let Likelihood { nll, calibration_error } = likelihood(found, divided_by)?;
        Ok(EvaluationRecord {
            task: base.task.name.clone(),
            part: part.to_owned(),
            rows: found.labels.len() as u64,
            metric: base.task.metric.name().to_owned(),
            score,
            interval,
            accuracy: found.accuracy(),
            confusion,
            classes,
            nll,
            brier: brier(&probabilities, found.classes, &found.labels)?,
            calibration_error,
            bins: BINS,
            temperature,
            cut: self.cut,
            max_tokens: base.most_tokens(model),
            model_sha256: base.identity.sha256.clone(),
            tuning_sha256: model.tuning()?.sha256()?,
            data_sha256: setup.part_sha256(part),
        })
    }
}
