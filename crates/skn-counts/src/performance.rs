use std::path::{Path, PathBuf};

use skn_stats::FireAccumulator;

use crate::areas::Areas;
use crate::error::{CountsError, Result};
use crate::pool::Pool;

/// The most texts that can be counted: products of two counts are below 2^64 then.
pub(crate) const MAX_TEXTS: i64 = u32::MAX as i64;

/// How often the rule `activation > average => label 1` is right on a split, for every neuron: what `dev_perf` and its
/// like hold.
///
/// Of two classes there is one rule. Of more there is one for each class against the rest, `activation > average =>
/// the class`, and arrays get the classes as their first dimension. Either way it is counted too for how many texts of the
/// class a neuron fires ([`ByClass`]).
#[derive(Clone, Debug)]
pub struct Performance {
    /// Where it was read; empty for one that was counted.
    pub(crate) file: PathBuf,
    /// Not known of a file that does not say.
    pub(crate) pool: Option<Pool>,
    /// `[L, P, F]`, or `[L, F]` of whole texts.
    pub(crate) dims: Vec<usize>,
    /// Neurons of each layer.
    pub(crate) widths: Vec<usize>,
    pub(crate) correct: Vec<i64>,
    /// Older files of two classes do not have it.
    pub(crate) by_class: Option<ByClass>,
    /// Of the shape of `dims`.
    pub(crate) dead: Option<Vec<bool>>,
    pub(crate) total: i64,
    /// Areas under ROC curves of the same texts, where they were read too.
    pub(crate) areas: Option<Areas>,
}

/// What is counted besides of each rule's class: class 1 of two, each class of more.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ByClass {
    /// Texts of the class for which the neuron fires, so those of the class for which the rule is right; of the shape of
    /// [`Performance::correct`].
    pub true_positive: Vec<i64>,
    /// Texts of the class: one number for two classes, else `[C]`.
    pub positives: Vec<i64>,
}

impl PartialEq for Performance {
    /// Whether the same was counted, wherever it was read.
    fn eq(&self, other: &Self) -> bool {
        let of = |all: &Self| (all.pool, all.total);
        of(self) == of(other)
            && (&self.dims, &self.widths) == (&other.dims, &other.widths)
            && (&self.correct, &self.by_class, &self.dead) == (&other.correct, &other.by_class, &other.dead)
    }
}

impl Performance {
    /// What was counted by class. `widths` are the neurons of each layer, and `positions` the prompt's where each has its
    /// own counts.
    ///
    /// # Errors
    /// If there are fewer than two classes, too many texts, or the counts are not as many as the shape says.
    pub fn of(pool: Pool, positions: usize, widths: &[usize], fires: &FireAccumulator) -> Result<Self> {
        let classes = fires.classes();
        if classes < 2 {
            return Err(CountsError::mismatch("classes to tell apart", "at least 2", classes));
        }
        let (layers, widest) = (widths.len(), widths.iter().copied().max().unwrap_or(0));
        let dims = if pool.is_of_text() { vec![layers, widest] } else { vec![layers, positions, widest] };
        // Of two classes the rule of class 1 says it of class 0 too.
        let ruled = if classes == 2 { 1..2 } else { 0..classes };
        let size = dims.iter().product::<usize>() * ruled.len();
        let (mut correct, mut true_positive) = (Vec::new(), Vec::new());
        for class in ruled.clone() {
            correct.extend(integers(fires.correct(class)?)?);
            true_positive.extend(integers(fires.fired(class)?.iter().copied())?);
        }
        let positives = integers(fires.label_counts()[ruled].iter().copied())?;
        let by_class = Some(ByClass { true_positive, positives });
        let total = integer(fires.rows())?;
        if correct.len() != size {
            return Err(CountsError::mismatch(format!("counts of shape {dims:?}"), size, correct.len()));
        }
        let widths = widths.to_vec();
        let (file, dead) = (PathBuf::new(), None);
        Ok(Self { file, pool: Some(pool), dims, widths, correct, by_class, dead, total, areas: None })
    }

    /// Notes which neurons are dead at which position, of the shape of [`Self::dims`]: their activation hardly varies over
    /// train, so that what is above its average is rounding. They get no score and no place among the ranked.
    ///
    /// # Errors
    /// If there are not as many as the shape says, or the counts are an older version's, without [by class](Self::by_class).
    pub fn with_dead(mut self, dead: Vec<bool>) -> Result<Self> {
        if dead.len() != self.size() {
            let what = format!("dead neurons of shape {:?}", self.dims);
            return Err(CountsError::mismatch(what, self.size(), dead.len()));
        }
        if self.by_class.is_none() {
            return Err(CountsError::mismatch("counts with dead neurons", "counts by class", self.said()));
        }
        self.dead = Some(dead);
        Ok(self)
    }

    /// The file it was read from; empty for one that was counted.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What was taken of a text's activations; not known of a file of whole texts that does not say.
    pub fn pool(&self) -> Option<Pool> {
        self.pool
    }

    /// Whether a text's activations were pooled to one for each neuron.
    pub fn pooled(&self) -> bool {
        self.dims.len() == 2
    }

    /// `[L, P, F]`, or `[L, F]` where they were pooled; of more than two classes the arrays have `C` before that.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of layers, L.
    pub fn layers(&self) -> usize {
        self.dims[0]
    }

    /// The number of positions, P; 1 if pooled.
    pub fn positions(&self) -> usize {
        if self.pooled() { 1 } else { self.dims[1] }
    }

    /// The number of neurons in the widest layer, F.
    pub fn neurons(&self) -> usize {
        self.dims[self.dims.len() - 1]
    }

    /// The number of neurons that each layer has, `[L]`: of a pruned model some have fewer than the widest, and what is
    /// beyond in the arrays is padding.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// The number of classes, C.
    pub fn classes(&self) -> usize {
        self.rules().max(2)
    }

    /// For how many texts each rule is right: of the shape of [`Self::dims`], with `C` before that where each class has
    /// its own.
    pub fn correct(&self) -> &[i64] {
        &self.correct
    }

    /// What is counted besides of each rule's class; nothing of a file of two classes that an older version wrote.
    pub fn by_class(&self) -> Option<&ByClass> {
        self.by_class.as_ref()
    }

    /// Which neurons are dead at which position, of the shape of [`Self::dims`]; nothing where that was not looked at.
    pub fn dead(&self) -> Option<&[bool]> {
        self.dead.as_deref()
    }

    /// Whether the neuron at a place of [`Self::dims`] is dead there.
    pub(crate) fn is_dead(&self, place: usize) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead[place])
    }

    /// The number of texts.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// The share of texts for which each rule is right: quotients in f64, rounded to f32.
    pub fn accuracy(&self) -> Vec<f32> {
        let total = self.total.max(1) as f64;
        self.correct.iter().map(|&correct| (correct as f64 / total) as f32).collect()
    }

    /// Whether another one counts the same rules of the same neurons.
    pub fn fits(&self, other: &Self) -> bool {
        (&self.dims, &self.widths) == (&other.dims, &other.widths) && self.shape() == other.shape()
    }

    /// The shape of the arrays.
    pub fn shape(&self) -> Vec<usize> {
        let classes = self.is_one_vs_rest().then(|| self.classes());
        classes.into_iter().chain(self.dims.iter().copied()).collect()
    }

    /// Adds the counts of another shard.
    ///
    /// # Errors
    /// If it is of another pool, shape or number of classes, has other [dead](Self::dead) neurons, only one of the two is
    /// [by class](Self::by_class), or there are too many texts; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if (self.pool, &self.dims, &self.widths) != (other.pool, &other.dims, &other.widths) {
            let of = |all: &Self| format!("{:?} {:?}", all.pool, all.dims);
            return Err(CountsError::mismatch("counts of a shard", of(self), of(other)));
        }
        if self.classes() != other.classes() {
            return Err(CountsError::mismatch("classes of a shard", self.classes(), other.classes()));
        }
        if self.dead != other.dead {
            let (expected, found) = (self.said_of_dead(), other.said_of_dead());
            return Err(CountsError::mismatch("tensor `dead` of a shard", expected, found));
        }
        let mut sum = self.clone();
        // They are of other texts.
        sum.areas = None;
        add(&mut sum.correct, &other.correct)?;
        add(std::slice::from_mut(&mut sum.total), &[other.total])?;
        match (&mut sum.by_class, &other.by_class) {
            (Some(whole), Some(part)) => {
                add(&mut whole.true_positive, &part.true_positive)?;
                add(&mut whole.positives, &part.positives)?;
            }
            (None, None) => (),
            // Without a word the whole would say less than its shards.
            _ => return Err(CountsError::mismatch("counts of a shard", self.said(), other.said())),
        }
        *self = sum;
        Ok(())
    }

    /// How many are dead, in words.
    fn said_of_dead(&self) -> String {
        match &self.dead {
            Some(dead) => {
                format!("that of these averages, {} dead", dead.iter().filter(|&&dead| dead).count())
            }
            None => "none".into(),
        }
    }

    /// Whether it counts by class, in words.
    fn said(&self) -> &'static str {
        match self.by_class {
            Some(_) => "`true_positive` and `positives`",
            None => {
                "neither `true_positive` nor `positives` (an older version wrote it: probe that shard again)"
            }
        }
    }
}

fn integer(count: u64) -> Result<i64> {
    let fits = i64::try_from(count).ok().filter(|count| *count <= MAX_TEXTS);
    fits.ok_or_else(|| CountsError::mismatch("count", format!("at most {MAX_TEXTS}"), count))
}

fn integers(counts: impl IntoIterator<Item = u64>) -> Result<Vec<i64>> {
    counts.into_iter().map(integer).collect()
}

fn add(whole: &mut [i64], part: &[i64]) -> Result<()> {
    if whole.len() != part.len() {
        return Err(CountsError::mismatch("counts of a shard", whole.len(), part.len()));
    }
    for (whole, &part) in whole.iter_mut().zip(part) {
        let sum = whole.checked_add(part).filter(|sum| *sum <= MAX_TEXTS);
        let wrong = || CountsError::mismatch("sum of counts", format!("at most {MAX_TEXTS}"), "more");
        *whole = sum.ok_or_else(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_classes() -> Performance {
        Performance {
            file: PathBuf::new(),
            pool: Some(Pool::Mean),
            dims: vec![1, 2],
            widths: vec![2],
            correct: vec![3, 1],
            by_class: Some(ByClass { true_positive: vec![1, 1], positives: vec![2] }),
            dead: None,
            total: 4,
            areas: None,
        }
    }

    /// As an older version counted.
    fn older() -> Performance {
        Performance { by_class: None, ..two_classes() }
    }

    fn three_classes() -> Performance {
        let by_class = ByClass { true_positive: vec![1, 0, 2, 1, 1, 1], positives: vec![1, 2, 1] };
        Performance { correct: vec![4, 2, 3, 1, 2, 2], by_class: Some(by_class), ..two_classes() }
    }

    #[test]
    fn merging_adds_counts() {
        let mut whole = three_classes();
        whole.merge(&three_classes()).unwrap();
        assert_eq!((whole.correct(), whole.total()), (&[8, 4, 6, 2, 4, 4][..], 8));
        assert_eq!(whole.by_class().unwrap().positives, [2, 4, 2]);
        assert_eq!(whole.accuracy(), three_classes().accuracy());
        let mut whole = two_classes();
        let part = Performance {
            correct: vec![5, 6],
            by_class: Some(ByClass { true_positive: vec![3, 4], positives: vec![5] }),
            total: 7,
            ..two_classes()
        };
        whole.merge(&part).unwrap();
        let sum = ByClass { true_positive: vec![4, 5], positives: vec![7] };
        assert_eq!((whole.correct(), whole.total()), (&[8, 7][..], 11));
        assert_eq!(whole.by_class(), Some(&sum));
    }

    #[test]
    fn counts_are_the_same_wherever_they_were_read() {
        let elsewhere = Performance { file: "b/dev_perf".into(), ..two_classes() };
        assert_eq!(elsewhere, two_classes());
        let by_class = ByClass { true_positive: vec![1, 0], positives: vec![2] };
        for other in [
            older(),
            Performance { pool: Some(Pool::Max), ..two_classes() },
            Performance { dims: vec![2, 1], ..two_classes() },
            Performance { widths: vec![1], ..two_classes() },
            Performance { correct: vec![3, 2], ..two_classes() },
            Performance { by_class: Some(by_class), ..two_classes() },
            Performance { dead: Some(vec![false; 2]), ..two_classes() },
            Performance { total: 5, ..two_classes() },
        ] {
            assert_ne!(other, two_classes());
        }
    }

    #[test]
    fn a_shard_of_an_older_version_is_added_to_its_like_alone() {
        let mut whole = older();
        whole.merge(&older()).unwrap();
        assert_eq!((whole.correct(), whole.total(), whole.by_class()), (&[6, 2][..], 8, None));
        for (mut whole, part, wrong) in
            [(two_classes(), older(), "found neither"), (older(), two_classes(), "expected neither")]
        {
            let before = whole.clone();
            let message = whole.merge(&part).unwrap_err().to_string();
            assert!(message.contains(wrong) && message.contains("probe that shard again"), "{message}");
            assert_eq!(whole, before);
        }
    }

    #[test]
    fn shards_that_do_not_fit_are_refused_and_change_nothing() {
        let mut whole = two_classes();
        assert!(whole.merge(&three_classes()).is_err());
        assert!(whole.merge(&Performance { pool: Some(Pool::Max), ..two_classes() }).is_err());
        assert!(whole.merge(&Performance { widths: vec![1], ..two_classes() }).is_err());
        assert!(whole.merge(&Performance { total: MAX_TEXTS, ..two_classes() }).is_err());
        assert_eq!(whole, two_classes());
    }

    #[test]
    fn shards_have_the_same_dead_neurons() {
        let dead = |dead: [bool; 2]| two_classes().with_dead(dead.to_vec()).unwrap();
        let mut whole = dead([true, false]);
        whole.merge(&dead([true, false])).unwrap();
        assert_eq!((whole.dead(), whole.total()), (Some(&[true, false][..]), 8));
        let before = whole.clone();
        for (part, found) in [(two_classes(), "found none"), (dead([false, false]), "averages, 0 dead")] {
            let message = whole.merge(&part).unwrap_err().to_string();
            assert!(message.contains("`dead`") && message.contains(found), "{message}");
            assert_eq!(whole, before);
        }
        assert!(two_classes().with_dead(vec![true]).unwrap_err().to_string().contains("expected 2, found 1"));
        assert!(older().with_dead(vec![true; 2]).unwrap_err().to_string().contains("counts by class"));
    }

    #[test]
    fn counts_are_those_of_the_classes() {
        let mut fires = FireAccumulator::new(2, 3).unwrap();
        for (label, values) in [(0, [1.0, 0.0]), (1, [0.0, 0.0]), (2, [1.0, 1.0])] {
            fires.add(label, 0, &values, &[0.5, 0.5]).unwrap();
            fires.add_row_label(label).unwrap();
        }
        let counted = Performance::of(Pool::Position, 1, &[2], &fires).unwrap();
        assert_eq!((counted.shape(), counted.total()), (vec![3, 1, 1, 2], 3));
        assert_eq!(counted.correct(), [2, 1, 0, 1, 2, 3]);
        assert_eq!(counted.by_class().unwrap().true_positive, [1, 0, 0, 0, 1, 1]);
        let error = Performance::of(Pool::Position, 2, &[2], &fires).unwrap_err().to_string();
        assert!(error.contains("expected 12, found 6"), "{error}");
        assert!(Performance::of(Pool::Max, 1, &[2], &FireAccumulator::new(2, 1).unwrap()).is_err());
    }

    #[test]
    fn two_classes_are_counted_by_class_1() {
        // Two texts of class 0 and three of class 1. The first neuron fires for one and two of them, the second for the one
        // other of class 0 alone.
        let mut fires = FireAccumulator::new(2, 2).unwrap();
        let texts = [(0, [1.0, 0.0]), (1, [1.0, 0.0]), (1, [0.0, 0.0]), (1, [1.0, 0.0]), (0, [0.0, 1.0])];
        for (label, values) in texts {
            fires.add(label, 0, &values, &[0.5, 0.5]).unwrap();
            fires.add_row_label(label).unwrap();
        }
        let counted = Performance::of(Pool::Max, 1, &[2], &fires).unwrap();
        assert_eq!((counted.shape(), counted.classes(), counted.rules()), (vec![1, 2], 2, 1));
        assert_eq!((counted.correct(), counted.total()), (&[3, 1][..], 5));
        let expected = ByClass { true_positive: vec![2, 0], positives: vec![3] };
        assert_eq!(counted.by_class(), Some(&expected));
    }
}
