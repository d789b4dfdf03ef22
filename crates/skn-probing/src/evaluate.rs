use skn_data::{Batch, Encoded};
use skn_model::{Hook, NoHook, Output, Roberta, Scored};

use crate::error::{ProbingError, Result};
use crate::pass::{PassOptions, Texts, forward};

/// What a model answers to a split, in the order of the texts given.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One logit for each text and class, `[texts, classes]`.
    pub logits: Vec<f32>,
    /// The number of classes.
    pub classes: usize,
    /// The class of the highest logit of each text; of equals the lowest.
    pub predicted: Vec<usize>,
    /// The true class of each text.
    pub labels: Vec<usize>,
    /// Mean cross-entropy, in nats: of f64 terms, summed in the order of the texts.
    pub loss: f64,
}

impl Evaluation {
    /// The share of texts answered with their true class.
    pub fn accuracy(&self) -> f64 {
        let right =
            self.predicted.iter().zip(&self.labels).filter(|(predicted, label)| predicted == label).count();
        right as f64 / self.labels.len().max(1) as f64
    }

    fn new(logits: Vec<f32>, classes: usize, labels: Vec<usize>) -> Self {
        let rows = || logits.chunks_exact(classes);
        let predicted = rows().map(highest).collect();
        let sum: f64 = rows().zip(&labels).map(|(logits, &label)| cross_entropy(logits, label)).sum();
        let loss = sum / labels.len().max(1) as f64;
        Self { logits, classes, predicted, labels, loss }
    }
}

/// The index of the highest value; of equals the lowest.
fn highest(values: &[f32]) -> usize {
    let better = |best: usize, index: usize| if values[index] > values[best] { index } else { best };
    (1..values.len()).fold(0, better)
}

/// `ln(sum(exp(logits))) - logits[label]`, in f64, of finite logits.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(highest)).exp()).sum();
    sum.ln() + f64::from(highest) - f64::from(logits[label])
}

/// Logits, answers and loss of a model over `texts`; `verbalizer` has the token id that answers for each class.
///
/// # Errors
/// If there are no texts, one does not fit into the model or has a label without a token, or a logit is not finite.
pub fn evaluate(
    model: &Roberta,
    texts: &[Encoded],
    verbalizer: &[u32],
    options: &PassOptions<'_>,
) -> Result<Evaluation> {
    evaluate_with(model, texts, verbalizer, options, |_| NoHook)
}

/// As [`evaluate`], while hooks look on or edit: `make_hook` makes one for each micro-batch.
///
/// # Errors
/// As [`evaluate`], and those of the hooks.
pub fn evaluate_with<H: Hook>(
    model: &Roberta,
    texts: &[Encoded],
    verbalizer: &[u32],
    options: &PassOptions<'_>,
    make_hook: impl Fn(&Batch) -> H + Sync,
) -> Result<Evaluation> {
    let classes = verbalizer.len();
    let pass = Texts::new("evaluating", model, texts, classes, options)?;
    let mut logits = vec![0f32; texts.len() * classes];
    let map = |batch: &Batch| logits_of(model, batch, verbalizer, &mut make_hook(batch));
    pass.run(map, |batch, of_batch| {
        for (place, row) in pass.places(batch).zip(of_batch.chunks_exact(classes)) {
            logits[place * classes..][..classes].copy_from_slice(row);
        }
        Ok(())
    })?;
    Ok(Evaluation::new(logits, classes, texts.iter().map(|text| text.label).collect()))
}

/// `[texts, classes]` of a batch, row-major.
fn logits_of(model: &Roberta, batch: &Batch, verbalizer: &[u32], hook: &mut dyn Hook) -> Result<Vec<f32>> {
    let answers = forward(model, batch, Output::Answer, hook)?;
    let logits = model.logits(&answers, Scored::Tokens(verbalizer))?.flatten_all()?.to_vec1::<f32>()?;
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(logits),
        Some(place) => {
            let (text, class) = (place / verbalizer.len(), place % verbalizer.len());
            Err(ProbingError::Logit { row: batch.rows[text], class, found: logits[place] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evaluation_by_hand() {
        let evaluation = Evaluation::new(vec![0.0, 0.0, 1.0, 3.0, 2.0, 0.0], 2, vec![0, 1, 1]);
        assert_eq!(evaluation.predicted, [0, 1, 0]);
        assert_eq!(evaluation.accuracy(), 2.0 / 3.0);
        let softplus = |x: f64| (1.0 + x.exp()).ln();
        let expected = (2f64.ln() + softplus(-2.0) + softplus(2.0)) / 3.0;
        assert!((evaluation.loss - expected).abs() < 1e-12, "{}", evaluation.loss);
    }

    #[test]
    fn huge_logits_have_a_finite_loss() {
        assert_eq!(cross_entropy(&[f32::MAX, f32::MIN], 0), 0.0);
        assert_eq!(cross_entropy(&[1e6, 0.0], 1), 1e6);
    }

    #[test]
    fn of_equal_logits_the_first_class_is_the_answer() {
        assert_eq!(highest(&[1.0, 2.0, 2.0]), 1);
        assert_eq!(highest(&[1.0]), 0);
    }
}
