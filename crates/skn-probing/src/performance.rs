use skn_artifact::{Array, TensorBundle, TensorFile};
use skn_stats::FireAccumulator;

use crate::average::{Metadata, check_same, described, dims_of_file};
use crate::error::{ProbingError, Result};
use crate::probe::Pool;
use crate::watch::Dims;

/// How often the rule `activation > average => label 1` is right on a split, for every neuron: what `dev_perf` and
/// `test_perf` hold.
///
/// Of two classes there is one rule. Of more there is one for each class against the rest, `activation > average =>
/// the class`, and arrays get the classes as their first dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Performance {
    pool: Pool,
    dims: Dims,
    correct: Vec<i64>,
    rest: Option<OneVsRest>,
    total: i64,
}

/// What is counted besides for more than two classes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OneVsRest {
    /// Texts of the class at which the neuron fires, `[C, ..]`.
    pub true_positive: Vec<i64>,
    /// Texts of each class, `[C]`.
    pub positives: Vec<i64>,
}

impl Performance {
    pub(crate) fn of(pool: Pool, dims: &Dims, fires: &FireAccumulator) -> Result<Self> {
        let classes = fires.classes();
        if classes < 2 {
            return Err(ProbingError::mismatch("classes to tell apart", "at least 2", classes));
        }
        let total = integer(fires.rows())?;
        if classes == 2 {
            return Ok(Self {
                pool,
                dims: dims.clone(),
                correct: integers(fires.correct(1)?)?,
                rest: None,
                total,
            });
        }
        let (mut correct, mut true_positive) = (Vec::new(), Vec::new());
        for class in 0..classes {
            correct.extend(integers(fires.correct(class)?)?);
            true_positive.extend(integers(fires.fired(class)?.iter().copied())?);
        }
        let rest = OneVsRest { true_positive, positives: integers(fires.label_counts().iter().copied())? };
        Ok(Self { pool, dims: dims.clone(), correct, rest: Some(rest), total })
    }

    /// What was taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// `[L, P, F]` for [`Pool::Position`], else `[L, F]`; of more than two classes the arrays have `C` before that.
    pub fn dims(&self) -> &[usize] {
        self.dims.sizes()
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.rest.as_ref().map_or(2, |rest| rest.positives.len())
    }

    /// For how many texts each neuron is right.
    pub fn correct(&self) -> &[i64] {
        &self.correct
    }

    /// What is counted besides for more than two classes.
    pub fn one_vs_rest(&self) -> Option<&OneVsRest> {
        self.rest.as_ref()
    }

    /// The number of texts.
    pub fn total(&self) -> i64 {
        self.total
    }

    /// The share of texts for which each neuron is right: quotients in f64, rounded to f32.
    pub fn accuracy(&self) -> Vec<f32> {
        let total = self.total.max(1) as f64;
        self.correct.iter().map(|&correct| (correct as f64 / total) as f32).collect()
    }

    /// Adds the counts of another shard.
    ///
    /// # Errors
    /// If it is of another pool, shape or number of classes, or there are too many texts.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        check_same(self.pool, &self.dims, other.pool, &other.dims)?;
        if self.classes() != other.classes() {
            return Err(ProbingError::mismatch("classes of a shard", self.classes(), other.classes()));
        }
        let mut sum = self.clone();
        add(&mut sum.correct, &other.correct)?;
        add(std::slice::from_mut(&mut sum.total), &[other.total])?;
        if let (Some(whole), Some(part)) = (&mut sum.rest, &other.rest) {
            add(&mut whole.true_positive, &part.true_positive)?;
            add(&mut whole.positives, &part.positives)?;
        }
        *self = sum;
        Ok(())
    }

    /// The file `dev_perf` and the like: `accuracy`, `correct`, `total`, and for more than two classes `true_positive`,
    /// `positives`.
    ///
    /// # Errors
    /// If the header can't be made.
    pub fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        let shape = || self.shape();
        let mut bundle = described(self.pool.performance_kind(), metadata);
        bundle.insert("accuracy", Array::f32(shape(), self.accuracy())?);
        bundle.insert("correct", Array::i64(shape(), self.correct.clone())?);
        bundle.insert("total", Array::i64(vec![1], vec![self.total])?);
        if let Some(rest) = &self.rest {
            bundle.insert("true_positive", Array::i64(shape(), rest.true_positive.clone())?);
            bundle.insert("positives", Array::i64(vec![self.classes()], rest.positives.clone())?);
        }
        Ok(bundle)
    }

    /// The shape of the arrays.
    fn shape(&self) -> Vec<usize> {
        let classes = self.rest.as_ref().map(|rest| rest.positives.len());
        classes.into_iter().chain(self.dims().iter().copied()).collect()
    }

    /// Reads what [`Self::to_bundle`] made.
    ///
    /// # Errors
    /// If the file is of another kind or shape, or a count is below 0 or above the number of texts.
    pub fn read(file: &TensorFile, pool: Pool) -> Result<Self> {
        file.expect_kind(pool.performance_kind())?;
        let (_, total) = file.i64("total", Some(&[1]))?;
        let (shape, correct) = file.i64("correct", None)?;
        let (sizes, rest) = if file.contains("positives") {
            let (_, positives) = file.i64("positives", Some(&shape[..shape.len().min(1)]))?;
            let (_, true_positive) = file.i64("true_positive", Some(&shape))?;
            (shape[1..].to_vec(), Some(OneVsRest { true_positive, positives }))
        } else {
            (shape, None)
        };
        let read = Self { pool, dims: dims_of_file(file, pool, sizes)?, correct, rest, total: total[0] };
        read.check(file)?;
        Ok(read)
    }

    fn check(&self, file: &TensorFile) -> Result<()> {
        let rest = self.rest.iter().flat_map(|rest| rest.true_positive.iter().chain(&rest.positives));
        match self.correct.iter().chain(rest).find(|&&count| !(0..=self.total).contains(&count)) {
            None => Ok(()),
            Some(count) => {
                let what = format!("{}: counts", file.path().display());
                Err(ProbingError::mismatch(what, format!("0 to the total, {}", self.total), count))
            }
        }
    }
}

fn integer(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|_| ProbingError::mismatch("count", "at most 63 bits", count))
}

fn integers(counts: impl IntoIterator<Item = u64>) -> Result<Vec<i64>> {
    counts.into_iter().map(integer).collect()
}

fn add(whole: &mut [i64], part: &[i64]) -> Result<()> {
    if whole.len() != part.len() {
        return Err(ProbingError::mismatch("counts of a shard", whole.len(), part.len()));
    }
    for (whole, &part) in whole.iter_mut().zip(part) {
        let sum = whole.checked_add(part);
        *whole = sum.ok_or_else(|| ProbingError::mismatch("sum of counts", "at most 63 bits", "more"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_classes() -> Performance {
        let dims = Dims::new(vec![1, 2]).unwrap();
        Performance { pool: Pool::Mean, dims, correct: vec![3, 1], rest: None, total: 4 }
    }

    fn three_classes() -> Performance {
        let rest = OneVsRest { true_positive: vec![1, 0, 2, 1, 1, 1], positives: vec![1, 2, 1] };
        Performance { correct: vec![4, 2, 3, 1, 2, 2], rest: Some(rest), ..two_classes() }
    }

    fn file(performance: &Performance) -> TensorFile {
        let metadata = Metadata::from([("skn.split".to_owned(), "dev".to_owned())]);
        let bytes = performance.to_bundle(&metadata).unwrap().to_bytes().unwrap();
        TensorFile::from_bytes("dev_mean_perf.safetensors".as_ref(), bytes).unwrap()
    }

    #[test]
    fn files_are_read_back() {
        for performance in [two_classes(), three_classes()] {
            let file = file(&performance);
            assert_eq!(Performance::read(&file, Pool::Mean).unwrap(), performance);
            assert_eq!(file.metadata()["skn.split"], "dev");
            assert!(Performance::read(&file, Pool::Max).is_err(), "another kind");
        }
        assert_eq!(file(&two_classes()).f32("accuracy", Some(&[1, 2])).unwrap().1, [0.75, 0.25]);
        assert_eq!(file(&three_classes()).i64("correct", None).unwrap().0, [3, 1, 2]);
    }

    #[test]
    fn merging_adds_counts() {
        let mut whole = three_classes();
        whole.merge(&three_classes()).unwrap();
        assert_eq!((whole.correct(), whole.total()), (&[8, 4, 6, 2, 4, 4][..], 8));
        assert_eq!(whole.one_vs_rest().unwrap().positives, [2, 4, 2]);
        assert_eq!(whole.accuracy(), three_classes().accuracy());
    }

    #[test]
    fn shards_that_do_not_fit_are_refused_and_change_nothing() {
        let mut whole = two_classes();
        assert!(whole.merge(&three_classes()).is_err());
        assert!(whole.merge(&Performance { pool: Pool::Max, ..two_classes() }).is_err());
        assert!(whole.merge(&Performance { total: i64::MAX, ..two_classes() }).is_err());
        assert_eq!(whole, two_classes());
    }

    #[test]
    fn impossible_counts_are_refused() {
        for correct in [vec![5, 0], vec![-1, 0]] {
            let file = file(&Performance { correct, ..two_classes() });
            let error = Performance::read(&file, Pool::Mean).unwrap_err();
            assert!(error.to_string().contains("0 to the total, 4"), "{error}");
        }
    }
}
