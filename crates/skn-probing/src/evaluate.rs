use candle_core::Tensor;
use skn_data::{Batch, Encoded};
use skn_kernels::with_values;
use skn_model::{Hook, LanguageModel, NoHook, Pass, Scored};

use crate::error::{ProbingError, Result};
use crate::group::broken;
use crate::pass::{PassOptions, Texts, sequences, tokens};
use crate::workers::EVALUATING;
use crate::workers::{Progress, Work};

/// What a model answers to a split, in the order of the texts given.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
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
        let right = self.right().filter(|right| *right).count();
        right as f64 / self.labels.len().max(1) as f64
    }

    /// Whether each text is answered with its true class.
    pub fn right(&self) -> impl Iterator<Item = bool> + '_ {
        self.predicted.iter().zip(&self.labels).map(|(predicted, label)| predicted == label)
    }

    /// Texts by true class and answer, `[classes][classes]`.
    pub fn confusion(&self) -> Vec<Vec<u64>> {
        let mut table = vec![vec![0; self.classes]; self.classes];
        for (&predicted, &label) in self.predicted.iter().zip(&self.labels) {
            table[label][predicted] += 1;
        }
        table
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
    model: &LanguageModel,
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
    model: &LanguageModel,
    texts: &[Encoded],
    verbalizer: &[u32],
    options: &PassOptions<'_>,
    make_hook: impl Fn(&Batch) -> H + Sync,
) -> Result<Evaluation> {
    evaluate_each(model, texts, verbalizer, options, &[()], |(), batch| make_hook(batch))
        .map(|mut one| one.swap_remove(0))
}

/// As [`evaluate_with`] for each of several hooks, to the bit, in one pass over the texts: a sweep. `make_hook` makes the
/// hook of a variant for a micro-batch; the answers are in the order of the variants.
///
/// What lies below the first place that a hook reads is computed once for all variants
/// ([`LanguageModel::forward_each`]). A variant whose hook reads nothing is the model as it is, and costs next to nothing
/// beside others. A thread holds the hidden states of one micro-batch twice, however many variants there are.
/// Progress counts the tokens of every variant, and is asked between variants whether to stop.
///
/// ```
/// use skn_data::Encoded;
/// use skn_model::LanguageModel;
/// use skn_perturb::{Edit, Perturbation};
/// use skn_probing::{PassOptions, Workers, evaluate_each};
///
/// /// Accuracy as it is, and with each set of neurons (of each layer) at zero.
/// fn sweep(
///     model: &LanguageModel,
///     test: &[Encoded],
///     verbalizer: &[u32],
///     sets: Vec<Vec<Vec<u32>>>,
/// ) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
///     let widths = &model.config().intermediate_sizes;
///     let mut variants = vec![Perturbation::nothing(widths)];
///     for neurons in sets {
///         variants.push(Perturbation::new(Edit::Zero, neurons, widths)?);
///     }
///     let workers = Workers::new(2)?;
///     let options = PassOptions::new(&workers);
///     let answers = evaluate_each(model, test, verbalizer, &options, &variants, |v, _| v.hook())?;
///     Ok(answers.iter().map(|answers| answers.accuracy()).collect())
/// }
/// # // A small model of random weights.
/// # use candle_core::{Device, Tensor};
/// # use skn_model::{Config, Gradients, Tuning, Weights, shapes};
/// # let config = Config::new(20, [8, 2, 16, 2], 34)?;
/// # let random = |(name, shape)| Ok((name, Tensor::randn(0f32, 0.5, shape, &Device::Cpu)?));
/// # let tensors = shapes(&config).into_iter().map(random).collect::<skn_model::Result<_>>()?;
/// # let weights = Weights::from_tensors(&config, tensors)?;
/// # let model = LanguageModel::new(&config, &weights, &Tuning::none(), 3, Gradients::Nothing)?;
/// # let test = [10, 11].map(|id| vec![0, id, 2]).map(|ids| {
/// #     Encoded { second: ids.len(), label: 0, row: ids[1].into(), ids: ids.into() }
/// # });
///
/// // Of a model of two layers: two neurons of the second, then one of each.
/// let sets = vec![vec![vec![], vec![3, 5]], vec![vec![0], vec![15]]];
/// let accuracies = sweep(&model, &test, &[6, 7], sets)?;
/// assert_eq!(accuracies.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`evaluate_with`].
pub fn evaluate_each<'v, V: Sync, H: Hook>(
    model: &LanguageModel,
    texts: &[Encoded],
    verbalizer: &[u32],
    options: &PassOptions<'_>,
    variants: &'v [V],
    make_hook: impl Fn(&'v V, &Batch) -> H + Sync,
) -> Result<Vec<Evaluation>> {
    let classes = verbalizer.len();
    let progress = Sweep { told: options.progress, variants: variants.len() };
    let options = PassOptions { progress: &progress, ..*options };
    let mine = logits_of_texts(model, texts, verbalizer, &options, variants, make_hook, &progress);
    let answers = if options.group.size() == 1 {
        mine?
    } else {
        let parts = options.group.share_out(mine.map(|mine| mine.to_bytes()))?;
        let mut all = Answers::new(classes, variants.len());
        parts.iter().try_for_each(|part| all.append(part))?;
        all
    };
    if answers.labels.is_empty() {
        return Err(ProbingError::NoTexts { what: EVALUATING });
    }
    let Answers { labels, logits, .. } = answers;
    Ok(logits.into_iter().map(|logits| Evaluation::new(logits, classes, labels.clone())).collect())
}

/// Labels and logits of the texts that this process has.
fn logits_of_texts<'v, V: Sync, H: Hook>(
    model: &LanguageModel,
    texts: &[Encoded],
    verbalizer: &[u32],
    options: &PassOptions<'_>,
    variants: &'v [V],
    make_hook: impl Fn(&'v V, &Batch) -> H + Sync,
    progress: &Sweep<'_>,
) -> Result<Answers> {
    let classes = verbalizer.len();
    let mut answers = Answers::new(classes, variants.len());
    // Of more processes than texts some have none.
    if texts.is_empty() && options.group.size() > 1 {
        return Ok(answers);
    }
    let pass = Texts::new(EVALUATING, model, texts, classes, options)?;
    answers.labels = texts.iter().map(|text| text.label).collect();
    answers.logits = vec![vec![0f32; texts.len() * classes]; variants.len()];
    let map = |_, batch: &Batch| {
        let hooks = variants.iter().map(|variant| make_hook(variant, batch)).collect();
        logits_of_each(model, batch, verbalizer, hooks, progress)
    };
    pass.run(map, |batch, of_batch| {
        for (logits, of_batch) in answers.logits.iter_mut().zip(of_batch) {
            for (place, row) in pass.places(batch).zip(of_batch.chunks_exact(classes)) {
                logits[place * classes..][..classes].copy_from_slice(row);
            }
        }
        Ok(())
    })?;
    Ok(answers)
}

/// What is answered to some texts.
struct Answers {
    classes: usize,
    labels: Vec<usize>,
    /// Of each variant, `[texts, classes]`.
    logits: Vec<Vec<f32>>,
}

impl Answers {
    fn new(classes: usize, variants: usize) -> Self {
        Self { classes, labels: Vec::new(), logits: vec![Vec::new(); variants] }
    }

    /// The number of texts, their labels, then the logits of each variant; little-endian.
    fn to_bytes(&self) -> Vec<u8> {
        let labels = self.labels.iter().flat_map(|&label| (label as u64).to_le_bytes());
        let logits = self.logits.iter().flatten().flat_map(|logit| logit.to_le_bytes());
        let texts = (self.labels.len() as u64).to_le_bytes();
        texts.into_iter().chain(labels).chain(logits).collect()
    }

    /// Puts those of another process behind these.
    fn append(&mut self, part: &[u8]) -> Result<()> {
        let (texts, rest) = part.split_first_chunk().ok_or_else(broken)?;
        let texts = usize::try_from(u64::from_le_bytes(*texts)).map_err(|_| broken())?;
        let labels = texts.checked_mul(8).and_then(|bytes| rest.split_at_checked(bytes));
        let (labels, logits) = labels.ok_or_else(broken)?;
        let of_variant = texts.checked_mul(4 * self.classes).ok_or_else(broken)?;
        if of_variant.checked_mul(self.logits.len()) != Some(logits.len()) {
            return Err(broken());
        }
        let labels = labels.as_chunks().0.iter();
        self.labels.extend(labels.map(|label| u64::from_le_bytes(*label) as usize));
        for (all, part) in self.logits.iter_mut().zip(logits.chunks(of_variant.max(1))) {
            all.extend(part.as_chunks().0.iter().map(|logit| f32::from_le_bytes(*logit)));
        }
        Ok(())
    }
}

/// Tells of a pass with several variants. A batch of it takes as long as a pass over as many batches, so its tokens are
/// told by the thread that does them, a variant at a time, and not when the batch is folded.
struct Sweep<'a> {
    told: &'a dyn Progress,
    variants: usize,
}

impl Progress for Sweep<'_> {
    fn begin(&self, work: Work<'_>) {
        let each = self.variants as u64;
        self.told.begin(Work { texts: work.texts * each, amount: work.amount * each, ..work });
    }

    fn cancelled(&self) -> bool {
        self.told.cancelled()
    }
}

/// For each hook `[texts, classes]` of a batch, row-major.
fn logits_of_each<H: Hook>(
    model: &LanguageModel,
    batch: &Batch,
    verbalizer: &[u32],
    mut hooks: Vec<H>,
    progress: &Sweep<'_>,
) -> Result<Vec<Vec<f32>>> {
    if let [hook] = hooks.as_mut_slice() {
        let scored = Scored::Tokens(verbalizer);
        let answered = model.forward_logits(sequences(batch), &Pass::default(), scored, hook)?;
        let logits = finite(batch, verbalizer.len(), &answered)?;
        progress.told.advance(tokens(model, batch));
        return Ok(vec![logits]);
    }
    let mut logits = vec![Vec::new(); hooks.len()];
    let mut hooks: Vec<&mut dyn Hook> = hooks.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
    let mut left = hooks.len();
    model.forward_each(sequences(batch), &Pass::default(), &mut hooks, |variant, answers| {
        let answered = model.logits(&answers, Scored::Tokens(verbalizer))?;
        logits[variant] = finite(batch, verbalizer.len(), &answered)?;
        progress.told.advance(tokens(model, batch));
        left -= 1;
        // After the last variant whoever folds the batch asks.
        if left > 0 && progress.cancelled() { Err(ProbingError::Cancelled) } else { Ok(()) }
    })?;
    Ok(logits)
}

/// Logits `[texts, classes]` of a batch, row-major, if all are finite.
pub(crate) fn finite(batch: &Batch, classes: usize, logits: &Tensor) -> Result<Vec<f32>> {
    let logits = with_values(logits, <[f32]>::to_vec)?;
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(logits),
        Some(place) => {
            let (text, class) = (place / classes, place % classes);
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
        assert_eq!(evaluation.confusion(), [[1, 0], [1, 1]]);
        let softplus = |x: f64| (1.0 + x.exp()).ln();
        let expected = (2f64.ln() + softplus(-2.0) + softplus(2.0)) / 3.0;
        assert!((evaluation.loss - expected).abs() < 1e-12, "{}", evaluation.loss);
    }

    #[test]
    fn answers_of_processes_stand_behind_one_another() {
        let part = |labels: Vec<usize>, logits: Vec<Vec<f32>>| Answers { classes: 2, labels, logits };
        let parts = [
            part(vec![0, 1], vec![vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0, 7.0, 8.0]]),
            Answers::new(2, 2),
            part(vec![1], vec![vec![-0.0, f32::MIN], vec![9.0, 0.5]]),
        ];
        let mut all = Answers::new(2, 2);
        parts.iter().for_each(|part| all.append(&part.to_bytes()).unwrap());
        assert_eq!(all.labels, [0, 1, 1]);
        assert_eq!(all.logits[0], [1.0, 2.0, 3.0, 4.0, -0.0, f32::MIN]);
        assert_eq!(all.logits[1], [5.0, 6.0, 7.0, 8.0, 9.0, 0.5]);
        // Of other variants.
        assert!(Answers::new(2, 1).append(&parts[0].to_bytes()).is_err());
        assert!(all.append(&parts[0].to_bytes()[..9]).is_err());
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
