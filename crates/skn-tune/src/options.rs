use skn_data::{Encoded, Metric};

use crate::adam::AdamSettings;
use crate::clip::ClipScope;
use crate::error::{Result, TuneError};
use crate::schedule::Schedule;

/// Rows (tokens and prompt) of a micro-batch by default: small enough that four cores share a batch of 16 short texts and that
/// little is kept for its gradients, large enough that the kernels run at full speed.
pub const TOKEN_BUDGET: usize = 128;

/// How to train. The defaults are the published implementation's.
///
/// ```
/// use skn_tune::TrainOptions;
///
/// let options = TrainOptions { seed: 7, epochs: 2, eval_every: Some(100), ..TrainOptions::default() };
/// assert_eq!((options.batch, options.learning_rate), (8, 1e-3));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOptions {
    /// Keys the order of rows and the dropout; default 0.
    pub seed: u64,
    /// Times that every row of train is visited; default 4.
    pub epochs: u64,
    /// Rows of a batch; default 8. The last batch of an epoch may have fewer.
    pub batch: usize,
    /// Batches of a step, whose gradient is the mean over all their rows; default 1.
    pub accumulate: usize,
    /// Peak learning rate; default 1e-3.
    pub learning_rate: f64,
    /// Decoupled weight decay; default 0.
    pub weight_decay: f64,
    /// Share of all steps in which the learning rate rises; default 0.006.
    pub warmup: f64,
    /// Evaluate on dev after so many steps, besides at the end of each epoch; default: only then.
    pub eval_every: Option<u64>,
    /// End after 6 times `eval_every` steps (or 6 epochs) without a new best; default no.
    pub early_stop: bool,
    /// Dropout of hidden states and attention weights; default: the model's own.
    pub dropout: Option<f32>,
    /// What the gradient's norm is clipped to; default 1.
    pub max_norm: f64,
    /// Whose gradients that norm counts.
    pub clip: ClipScope,
    /// End after so many steps, and let the learning rate fall to 0 until then; default: all epochs.
    pub max_steps: Option<u64>,
    /// Rows of a micro-batch; default [`TOKEN_BUDGET`]. It decides in which order gradients are added, so it is part
    /// of what makes two runs the same; the number of threads is not.
    pub token_budget: usize,
    /// Make a checkpoint at every multiple of so many steps, besides at evaluations; default 200.
    pub checkpoint_every: u64,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 4,
            batch: 8,
            accumulate: 1,
            learning_rate: 1e-3,
            weight_decay: 0.0,
            warmup: 0.006,
            eval_every: None,
            early_stop: false,
            dropout: None,
            max_norm: 1.0,
            clip: ClipScope::Tuned,
            max_steps: None,
            token_budget: TOKEN_BUDGET,
            checkpoint_every: 200,
        }
    }
}

/// The rows to train on and to choose by.
#[derive(Clone, Copy, Debug)]
pub struct TrainData<'a> {
    /// Rows to train on.
    pub train: &'a [Encoded],
    /// Rows to choose the best parameters by.
    pub dev: &'a [Encoded],
    /// How dev is scored; higher is better.
    pub metric: Metric,
}

impl TrainData<'_> {
    /// Checks that there is something to train on and to choose by, of at most `classes` classes.
    pub(crate) fn check(&self, classes: usize) -> Result<()> {
        for (part, texts) in [("train", self.train), ("dev", self.dev)] {
            if texts.is_empty() || u32::try_from(texts.len()).is_err() {
                let expected = format!("1 to {} rows", u32::MAX);
                return Err(TuneError::setting(part, expected, texts.len()));
            }
            if let Some(text) = texts.iter().find(|text| text.label >= classes) {
                let what = format!("label of {part} row {}", text.row);
                return Err(TuneError::setting(what, format!("a class below {classes}"), text.label));
            }
        }
        Ok(())
    }
}

/// What [`TrainOptions`] come to for a number of rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rows_per_step: usize,
    pub(crate) steps_per_epoch: u64,
    pub(crate) schedule: Schedule,
    /// Steps without a new best after which training ends.
    pub(crate) patience: Option<u64>,
}

impl TrainOptions {
    pub(crate) fn adam(&self) -> AdamSettings {
        AdamSettings { weight_decay: self.weight_decay, ..AdamSettings::default() }
    }

    /// How many steps training will take at most: for estimates and progress.
    ///
    /// # Errors
    /// If an option makes no sense.
    pub fn total_steps(&self, rows: usize) -> Result<u64> {
        Ok(self.plan(rows)?.schedule.total())
    }

    pub(crate) fn plan(&self, rows: usize) -> Result<Plan> {
        self.check()?;
        let rows_per_step = self.batch.saturating_mul(self.accumulate);
        let steps_per_epoch = rows.div_ceil(rows_per_step).max(1) as u64;
        let all = steps_per_epoch.checked_mul(self.epochs);
        let all =
            all.ok_or_else(|| TuneError::setting("epochs", "a countable number of steps", self.epochs))?;
        let total = self.max_steps.map_or(all, |most| most.min(all));
        let every = self.eval_every.unwrap_or(steps_per_epoch);
        Ok(Plan {
            rows_per_step,
            steps_per_epoch,
            schedule: Schedule::new(total, self.warmup)?,
            patience: self.early_stop.then(|| every.saturating_mul(6)),
        })
    }

    fn check(&self) -> Result<()> {
        let counts = [
            ("epochs", self.epochs),
            ("batch", self.batch as u64),
            ("accumulate", self.accumulate as u64),
            ("steps between evaluations", self.eval_every.unwrap_or(1)),
            ("most steps", self.max_steps.unwrap_or(1)),
            ("rows of a micro-batch", self.token_budget as u64),
            ("steps between checkpoints", self.checkpoint_every),
        ];
        if let Some((what, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(TuneError::setting(what, "at least 1", 0));
        }
        // A rate that f32 can't hold would make every parameter infinite.
        let sizes = [("learning rate", self.learning_rate), ("weight decay", self.weight_decay)];
        if let Some((what, size)) = sizes.into_iter().find(|(_, size)| !(0.0..=1e30).contains(size)) {
            return Err(TuneError::setting(what, "a number from 0 to 1e30", size));
        }
        if self.max_norm.is_nan() || self.max_norm <= 0.0 {
            return Err(TuneError::setting("largest norm of the gradient", "more than 0", self.max_norm));
        }
        match self.dropout {
            Some(dropout) if !(0.0..1.0).contains(&dropout) => {
                Err(TuneError::setting("dropout", "a probability from 0 to below 1", dropout))
            }
            _ => Ok(()),
        }
    }
}

impl Plan {
    /// Rows visited by the first `steps` steps, of an epoch of `rows`.
    pub(crate) fn visited(&self, steps: u64, rows: usize) -> u64 {
        let (epochs, rest) = (steps / self.steps_per_epoch, steps % self.steps_per_epoch);
        let rest = (rest as usize).saturating_mul(self.rows_per_step).min(rows) as u64;
        epochs.saturating_mul(rows as u64).saturating_add(rest)
    }

    /// Whether dev is evaluated after `steps` steps.
    pub(crate) fn evaluates(&self, steps: u64, eval_every: Option<u64>) -> bool {
        let at = |every: u64| steps.is_multiple_of(every);
        steps > 0
            && (at(self.steps_per_epoch) || eval_every.is_some_and(at) || steps == self.schedule.total())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_by_hand() {
        let options = TrainOptions { batch: 4, accumulate: 2, epochs: 3, ..Default::default() };
        let plan = options.plan(17).unwrap();
        assert_eq!((plan.rows_per_step, plan.steps_per_epoch, plan.schedule.total()), (8, 3, 9));
        let evaluated: Vec<u64> = (0..=9).filter(|&steps| plan.evaluates(steps, Some(2))).collect();
        assert_eq!(evaluated, [2, 3, 4, 6, 8, 9], "every 2 steps and after each epoch, each once");
        assert_eq!([0, 2, 3, 4, 9].map(|steps| plan.visited(steps, 17)), [0, 16, 17, 25, 51]);
        let short = TrainOptions { max_steps: Some(4), ..options };
        let plan = short.plan(17).unwrap();
        assert_eq!((0..=4).filter(|&steps| plan.evaluates(steps, None)).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn patience_is_six_evaluations() {
        let options = TrainOptions { early_stop: true, eval_every: Some(10), ..Default::default() };
        assert_eq!(options.plan(80).unwrap().patience, Some(60));
        let options = TrainOptions { eval_every: None, ..options };
        assert_eq!(options.plan(80).unwrap().patience, Some(60), "10 steps an epoch");
        assert_eq!(TrainOptions::default().plan(80).unwrap().patience, None);
    }

    #[test]
    fn absurd_options_are_refused_by_name() {
        let base = TrainOptions::default;
        for (options, name) in [
            (TrainOptions { epochs: 0, ..base() }, "epochs"),
            (TrainOptions { epochs: u64::MAX, ..base() }, "epochs"),
            (TrainOptions { batch: 0, ..base() }, "batch"),
            (TrainOptions { accumulate: 0, ..base() }, "accumulate"),
            (TrainOptions { eval_every: Some(0), ..base() }, "evaluations"),
            (TrainOptions { max_steps: Some(0), ..base() }, "steps"),
            (TrainOptions { token_budget: 0, ..base() }, "micro-batch"),
            (TrainOptions { checkpoint_every: 0, ..base() }, "checkpoints"),
            (TrainOptions { learning_rate: f64::NAN, ..base() }, "learning rate"),
            (TrainOptions { learning_rate: 1e308, ..base() }, "learning rate"),
            (TrainOptions { weight_decay: -1.0, ..base() }, "weight decay"),
            (TrainOptions { warmup: 1.5, ..base() }, "warm-up"),
            (TrainOptions { dropout: Some(1.0), ..base() }, "dropout"),
            (TrainOptions { dropout: Some(f32::NAN), ..base() }, "dropout"),
            (TrainOptions { max_norm: 0.0, ..base() }, "norm"),
        ] {
            let message = options.plan(100).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        // Large numbers that mean something are not.
        assert!(TrainOptions { batch: usize::MAX, accumulate: usize::MAX, ..base() }.plan(3).is_ok());
    }

    #[test]
    fn data_is_checked() {
        let text = |label| Encoded { ids: vec![0, 2].into(), second: 2, label, row: 5 };
        let good = [text(0), text(1)];
        let data = |train, dev| TrainData { train, dev, metric: Metric::Accuracy };
        assert!(data(&good, &good).check(2).is_ok());
        assert!(data(&good, &[]).check(2).unwrap_err().to_string().contains("dev"));
        assert!(data(&[], &good).check(2).unwrap_err().to_string().contains("train"));
        let message = data(&good, &[text(2)]).check(2).unwrap_err().to_string();
        assert!(message.contains("dev row 5") && message.contains("found 2"), "{message}");
    }
}
