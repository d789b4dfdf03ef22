use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Tensor, Var};
use skn_data::Batch;
use skn_model::{Backend, LanguageModel, NoHook, Output, Pass, Scored, Sequences, TrainingDropout};
use skn_probing::{Group, ProbingError, Silent, Workers};

use crate::clip::check_finite;
use crate::error::{Result, TuneError};
use crate::loss::cross_entropy;

/// One step of training for classification.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The step's number, from 0: named in errors.
    pub number: u64,
    /// The rows of the step, cut into micro-batches.
    pub batches: &'a [Batch],
    /// The token of each class.
    pub verbalizer: &'a [u32],
    /// Dropout, if any.
    pub dropout: Option<TrainingDropout>,
}

/// A micro-batch of masked language modelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskedBatch {
    /// Token ids of all texts, some hidden.
    pub ids: Vec<u32>,
    /// Where each text begins in `ids`, and at last their number.
    pub starts: Vec<usize>,
    /// The number of each text; dropout is keyed by it.
    pub samples: Vec<u64>,
    /// Which of `ids` are to be guessed, as ascending indexes.
    pub rows: Vec<u32>,
    /// What stood there.
    pub targets: Vec<u32>,
}

/// One step of pre-training by masked language modelling.
#[derive(Clone, Copy, Debug)]
pub struct PretrainStep<'a> {
    /// The step's number, from 0: named in errors.
    pub number: u64,
    /// The texts of the step, cut into micro-batches.
    pub batches: &'a [MaskedBatch],
    /// Dropout, if any.
    pub dropout: Option<TrainingDropout>,
}

/// Loss and gradients of one step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepGradients {
    /// Mean cross-entropy over the step's rows, summed in f64.
    pub loss: f64,
    /// The rows that the loss is the mean of.
    pub rows: usize,
    /// The gradient of that mean to every parameter of the model that trains, backbone included, by name.
    pub gradients: BTreeMap<String, Tensor>,
}

/// Loss and gradients of a classification step.
///
/// Each core takes micro-batches, one single-threaded forward and backward pass each, and their gradients are added
/// in the order of the micro-batches: the same bits for any number of threads, and of processes of a [`Group`], which
/// take turns at the micro-batches.
///
/// # Errors
/// If the model can't take the texts, a class has no token, or a logit or the loss is NaN or infinite.
pub fn step_gradients(model: &LanguageModel, step: &Step<'_>, workers: &Workers) -> Result<StepGradients> {
    let pass = Pass { output: Output::Answer, dropout: step.dropout };
    let forward = |batch: &Batch| {
        let texts = Sequences {
            ids: &batch.ids,
            starts: &batch.starts,
            samples: &batch.rows,
            seconds: &batch.seconds,
        };
        let answers = model.forward(texts, &pass, &mut NoHook)?;
        let logits = model.logits(&answers, Scored::Tokens(step.verbalizer))?;
        let classes = batch.labels.iter().map(|&label| u32::try_from(label).unwrap_or(u32::MAX));
        Ok((logits, classes.collect()))
    };
    let rows = step.batches.iter().map(Batch::len).sum();
    Job { model, number: step.number, rows }.run(step.batches, workers, forward)
}

/// Loss over the whole vocabulary at the hidden tokens, and gradients, of a pre-training step. The model is made with
/// [`Tuning::plain_text`](skn_model::Tuning::plain_text) and [`Gradients::All`](skn_model::Gradients::All); what
/// trains is its [`backbone`](LanguageModel::backbone).
///
/// # Errors
/// If the model has a prompt, can't take the texts, or a logit or the loss is NaN or infinite.
pub fn pretrain_step(
    model: &LanguageModel,
    step: &PretrainStep<'_>,
    workers: &Workers,
) -> Result<StepGradients> {
    if model.prompt_rows() > 0 {
        let found = format!("{} rows before it", model.prompt_rows());
        return Err(TuneError::setting("model to pre-train", "plain text", found));
    }
    let forward = |batch: &MaskedBatch| {
        let texts =
            Sequences { ids: &batch.ids, starts: &batch.starts, samples: &batch.samples, seconds: &[] };
        let pass = Pass { output: Output::Rows(Arc::from(batch.rows.as_slice())), dropout: step.dropout };
        let hidden = model.forward(texts, &pass, &mut NoHook)?;
        Ok((model.logits(&hidden, Scored::All)?, batch.targets.clone()))
    };
    let rows = step.batches.iter().map(|batch| batch.rows.len()).sum();
    Job { model, number: step.number, rows }.run(step.batches, workers, forward)
}

/// What all micro-batches of a step share.
struct Job<'a> {
    model: &'a LanguageModel,
    number: u64,
    rows: usize,
}

/// Loss and gradients of one micro-batch, as shares of the step's mean.
struct Part {
    loss: f64,
    gradients: BTreeMap<String, Tensor>,
}

impl Job<'_> {
    /// Adds up the parts of all batches in their order; `forward` gives the logits and targets of one.
    fn run<B: Sync>(
        &self,
        batches: &[B],
        workers: &Workers,
        forward: impl Fn(&B) -> Result<(Tensor, Vec<u32>)> + Sync,
    ) -> Result<StepGradients> {
        if self.rows == 0 {
            return Err(TuneError::setting(format!("rows of step {}", self.number), "at least 1", 0));
        }
        let group = workers.group();
        let total = if group.size() == 1 {
            let mut total = None;
            self.each(batches.iter(), workers, &forward, |part| add(&mut total, part))?;
            total
        } else {
            self.together(batches, workers, &forward)?
        };
        let Part { loss, gradients } = total.unwrap_or(Part { loss: 0.0, gradients: BTreeMap::new() });
        Ok(StepGradients { loss, rows: self.rows, gradients })
    }

    /// Gives `take` the part of each batch, in their order.
    fn each<'b, B: Sync + 'b>(
        &self,
        batches: impl Iterator<Item = &'b B>,
        workers: &Workers,
        forward: &(impl Fn(&B) -> Result<(Tensor, Vec<u32>)> + Sync),
        mut take: impl FnMut(Part) -> Result<()>,
    ) -> Result<()> {
        let batches: Vec<&B> = batches.collect();
        let map = |_: usize, batch: &&B| {
            let (logits, targets) = forward(batch)?;
            self.backward(&logits, &targets)
        };
        if Backend::of(self.model.device()).computes_on_caller() {
            return workers.fold(&batches, map, |_, part| take(part), &Silent);
        }
        // One stream of work keeps the accelerator busy.
        batches.iter().enumerate().try_for_each(|(index, batch)| take(map(index, batch)?))
    }

    /// The sum of all parts, of which this process makes every n-th. Rank 0 adds them up in the order of the batches, so that bits do not
    /// depend on n.
    fn together<B: Sync>(
        &self,
        batches: &[B],
        workers: &Workers,
        forward: &(impl Fn(&B) -> Result<(Tensor, Vec<u32>)> + Sync),
    ) -> Result<Option<Part>> {
        let group = workers.group();
        let (rank, size) = (group.rank(), group.size());
        let mut mine = Vec::new();
        let own = batches.iter().skip(rank).step_by(size);
        self.each(own, workers, forward, |part| part.write(&mut mine))?;
        let mut found = Vec::new();
        group.gather(mine, &mut |part| {
            found.push(part);
            Ok(())
        })?;
        let mut sum = Vec::new();
        if rank == 0 {
            let mut left: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
            let mut total = None;
            for index in 0..batches.len() {
                let of_rank = left.get_mut(index % size).ok_or_else(|| self.broken(group))?;
                add(&mut total, self.read(of_rank, group)?)?;
            }
            if let Some(total) = &total {
                total.write(&mut sum)?;
            }
        }
        let sum = group.broadcast(sum)?;
        if sum.is_empty() { Ok(None) } else { self.read(&mut sum.as_slice(), group).map(Some) }
    }

    /// A part that another process has [written](Part::write), taken from the front of its bytes.
    fn read(&self, bytes: &mut &[u8], group: &dyn Group) -> Result<Part> {
        let (loss, mut rest) = bytes.split_first_chunk().ok_or_else(|| self.broken(group))?;
        let mut gradients = BTreeMap::new();
        for (name, variable) in self.variables() {
            let (values, behind) =
                rest.split_at_checked(4 * variable.elem_count()).ok_or_else(|| self.broken(group))?;
            let values = values.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
            gradients.insert(name.clone(), Tensor::from_vec(values, variable.shape(), variable.device())?);
            rest = behind;
        }
        *bytes = rest;
        Ok(Part { loss: f64::from_le_bytes(*loss), gradients })
    }

    /// What another process sent is of another model.
    fn broken(&self, group: &dyn Group) -> TuneError {
        let expected = format!("gradients of the same model from all {} processes", group.size());
        let what = format!("gradients of step {}", self.number);
        ProbingError::Mismatch { what, expected, found: "others".into() }.into()
    }

    /// What trains, in the order of the names.
    fn variables(&self) -> BTreeMap<&String, &Var> {
        self.model.parameters().iter().chain(self.model.backbone()).collect()
    }

    fn backward(&self, logits: &Tensor, targets: &[u32]) -> Result<Part> {
        check_finite(self.number, || "logits".into(), &logits.flatten_all()?.to_vec1::<f32>()?)?;
        let losses = cross_entropy(logits, targets)?;
        let values = losses.to_vec1::<f32>()?;
        check_finite(self.number, || "loss".into(), &values)?;
        let loss = values.iter().map(|&value| f64::from(value)).sum::<f64>() / self.rows as f64;
        let mut store = (losses.sum_all()? / self.rows as f64)?.backward()?;
        let mut gradients = BTreeMap::new();
        for (name, variable) in self.variables() {
            let gradient = store.remove(variable.as_tensor());
            gradients.insert(name.clone(), self.known(name, variable, gradient)?);
        }
        Ok(Part { loss, gradients })
    }

    /// A gradient that is not there means a cut graph, except for a parameter without elements (the FFN of a layer
    /// whose neurons are all pruned, the prompt of one `<mask>` row).
    fn known(&self, name: &str, variable: &Var, gradient: Option<Tensor>) -> Result<Tensor> {
        match gradient {
            Some(gradient) => Ok(gradient),
            None if variable.elem_count() == 0 => Ok(variable.zeros_like()?),
            None => Err(TuneError::NoGradient { step: self.number, parameter: name.to_owned() }),
        }
    }
}

fn add(total: &mut Option<Part>, part: Part) -> Result<()> {
    *total = Some(match total.take() {
        None => part,
        Some(total) => total.add(part)?,
    });
    Ok(())
}

impl Part {
    /// The loss, then the gradients in the order of their names, each row-major; little-endian.
    fn write(&self, bytes: &mut Vec<u8>) -> Result<()> {
        bytes.extend_from_slice(&self.loss.to_le_bytes());
        for gradient in self.gradients.values() {
            let values = gradient.flatten_all()?.to_vec1::<f32>()?;
            bytes.extend(values.into_iter().flat_map(f32::to_le_bytes));
        }
        Ok(())
    }

    fn add(mut self, other: Self) -> Result<Self> {
        self.loss += other.loss;
        for (name, gradient) in other.gradients {
            let sum = match self.gradients.get(&name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.gradients.insert(name, sum);
        }
        Ok(self)
    }
}
