use crate::error::{Result, StatsError, same, span};
use crate::vectorised::{Loop, vectorised};

/// More classes than this are a mistake.
const MAX_CLASSES: usize = 1 << 16;

/// For how many texts of each class each neuron fires: its activation is above its threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireAccumulator {
    neurons: usize,
    /// `[classes, neurons]`.
    fired: Vec<u64>,
    /// `[classes]`.
    labels: Vec<u64>,
}

impl FireAccumulator {
    /// Counts of 0.
    ///
    /// # Errors
    /// If there are no classes or absurdly many.
    pub fn new(neurons: usize, classes: usize) -> Result<Self> {
        if !(1..=MAX_CLASSES).contains(&classes) {
            return Err(StatsError::mismatch("classes", format!("1 to {MAX_CLASSES}"), classes));
        }
        let counts =
            neurons.checked_mul(classes).ok_or(StatsError::Overflow { what: "neurons and classes" })?;
        Ok(Self { neurons, fired: vec![0; counts], labels: vec![0; classes] })
    }

    /// Makes all counts 0, of no text, in the same memory.
    pub fn clear(&mut self) {
        self.fired.fill(0);
        self.labels.fill(0);
    }

    /// Counts the neurons from `offset` on that fire for one text of `class`: those of `values` above `thresholds`.
    ///
    /// # Errors
    /// If the class is not there, or the values do not fit in or have not as many thresholds.
    pub fn add(&mut self, class: usize, offset: usize, values: &[f32], thresholds: &[f32]) -> Result<()> {
        self.check_class(class)?;
        same("thresholds", values.len(), thresholds.len())?;
        let place = span(offset, values.len(), self.neurons)?;
        let counts = &mut self.fired[class * self.neurons..][place];
        count_above(counts, values, thresholds);
        Ok(())
    }

    /// Adds counts of texts of `class` for which the neurons from `offset` on fire, such as a device has made.
    ///
    /// # Errors
    /// If the class is not there, the counts do not fit in, or one is more than can be counted; then nothing is added.
    pub fn add_counts(&mut self, class: usize, offset: usize, counts: &[u64]) -> Result<()> {
        self.check_class(class)?;
        let place = span(offset, counts.len(), self.neurons)?;
        let fired = &mut self.fired[class * self.neurons..][place];
        if vectorised(Overflows, (&*fired, counts)) {
            return Err(StatsError::Overflow { what: "texts" });
        }
        vectorised(AddCounts, (fired, counts));
        Ok(())
    }

    /// Counts the texts of another accumulator, and not what fired for them. It may have other neurons.
    ///
    /// # Errors
    /// If it has other classes, or there are more texts than can be counted; nothing is added then.
    pub fn merge_texts(&mut self, other: &Self) -> Result<()> {
        same("classes of the counts to merge", self.classes(), other.classes())?;
        // Of all classes together too: rows are the sum of them.
        let mut labels = self.labels.iter().chain(&other.labels);
        if labels.try_fold(0u64, |rows, count| rows.checked_add(*count)).is_none() {
            return Err(StatsError::Overflow { what: "texts of the counts to merge" });
        }
        vectorised(AddCounts, (&mut self.labels[..], &other.labels[..]));
        Ok(())
    }

    /// Counts a text of `class`.
    ///
    /// # Errors
    /// If the class is not there.
    pub fn add_row_label(&mut self, class: usize) -> Result<()> {
        self.check_class(class)?;
        self.labels[class] += 1;
        Ok(())
    }

    /// Adds the counts of another accumulator.
    ///
    /// # Errors
    /// If it has other neurons or classes, or there are more texts than can be counted; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        same("neurons of the counts to merge", self.neurons, other.neurons)?;
        same("classes of the counts to merge", self.classes(), other.classes())?;
        if vectorised(Overflows, (&self.fired[..], &other.fired[..])) {
            return Err(StatsError::Overflow { what: "texts of the counts to merge" });
        }
        self.merge_texts(other)?;
        vectorised(AddCounts, (&mut self.fired[..], &other.fired[..]));
        Ok(())
    }

    /// The number of neurons.
    pub fn neurons(&self) -> usize {
        self.neurons
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.labels.len()
    }

    /// The number of texts.
    pub fn rows(&self) -> u64 {
        self.labels.iter().sum()
    }

    /// Texts of each class.
    pub fn label_counts(&self) -> &[u64] {
        &self.labels
    }

    /// Texts of `class` for which each neuron fires.
    ///
    /// # Errors
    /// If the class is not there.
    pub fn fired(&self, class: usize) -> Result<&[u64]> {
        self.check_class(class)?;
        Ok(&self.fired[class * self.neurons..][..self.neurons])
    }

    /// Texts for which the rule "fires, so it is of `class`" of each neuron is right: those of the class for which it
    /// fires, and those of the others for which it does not.
    ///
    /// # Errors
    /// If the class is not there.
    pub fn correct(&self, class: usize) -> Result<impl Iterator<Item = u64> + '_> {
        let of_class = self.fired(class)?;
        let others = self.rows() - self.labels[class];
        Ok(of_class.iter().enumerate().map(move |(neuron, &hits)| {
            let anywhere: u64 = self.fired.iter().skip(neuron).step_by(self.neurons).sum();
            hits + others - (anywhere - hits)
        }))
    }

    fn check_class(&self, class: usize) -> Result<()> {
        if class < self.classes() {
            return Ok(());
        }
        Err(StatsError::mismatch("class", format!("below {}", self.classes()), class))
    }
}

/// Adds 1 to the count of each value that is above its threshold.
///
/// ```
/// let mut counts = [5, 5, 5];
/// skn_stats::count_above(&mut counts, &[0.5, 2.0, f32::NAN], &[0.5, 1.0, 0.0]);
/// assert_eq!(counts, [5, 6, 5]);
/// ```
pub fn count_above(counts: &mut [u64], values: &[f32], thresholds: &[f32]) {
    vectorised(CountAbove, (counts, values, thresholds));
}

struct CountAbove;

impl Loop<(&mut [u64], &[f32], &[f32])> for CountAbove {
    type Output = ();

    #[inline(always)]
    fn run((counts, values, thresholds): (&mut [u64], &[f32], &[f32])) {
        for ((count, value), threshold) in counts.iter_mut().zip(values).zip(thresholds) {
            // One a text: there is no time for 2^64 of them.
            *count = count.wrapping_add(u64::from(value > threshold));
        }
    }
}

/// Whether a sum of two counts overflows.
struct Overflows;

impl Loop<(&[u64], &[u64])> for Overflows {
    type Output = bool;

    #[inline(always)]
    fn run((counts, parts): (&[u64], &[u64])) -> bool {
        counts.iter().zip(parts).fold(false, |any, (count, part)| any | (count.wrapping_add(*part) < *count))
    }
}

/// Adds counts of which none [overflows](Overflows).
struct AddCounts;

impl Loop<(&mut [u64], &[u64])> for AddCounts {
    type Output = ();

    #[inline(always)]
    fn run((counts, parts): (&mut [u64], &[u64])) {
        for (count, part) in counts.iter_mut().zip(parts) {
            *count = count.wrapping_add(*part);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(rows: &[(usize, [f32; 3])]) -> FireAccumulator {
        let mut fires = FireAccumulator::new(3, 3).unwrap();
        for (class, values) in rows {
            fires.add(*class, 0, values, &[0.5; 3]).unwrap();
            fires.add_row_label(*class).unwrap();
        }
        fires
    }

    #[test]
    fn counts_by_hand() {
        let fires = of(&[
            (0, [1.0, 0.5, 0.0]),
            (1, [1.0, 0.6, 0.0]),
            (1, [0.0, 0.7, f32::NAN]),
            (2, [1.0, 0.8, 1.0]),
        ]);
        assert_eq!((fires.rows(), fires.label_counts()), (4, &[1, 2, 1][..]));
        assert_eq!(fires.fired(1).unwrap(), [1, 2, 0], "0.5 is not above 0.5");
        let correct = |class| fires.correct(class).unwrap().collect::<Vec<_>>();
        assert_eq!([correct(0), correct(1), correct(2)], [[2, 0, 2], [1, 3, 1], [2, 2, 4]]);
    }

    #[test]
    fn counts_made_elsewhere_are_added() {
        let mut fires = of(&[(0, [1.0, 0.5, 0.0]), (1, [1.0; 3])]);
        fires.add_counts(1, 1, &[4, 6]).unwrap();
        assert_eq!((fires.fired(0).unwrap(), fires.fired(1).unwrap()), (&[1, 0, 0][..], &[1, 5, 7][..]));
        assert!(fires.add_counts(3, 0, &[1]).is_err() && fires.add_counts(0, 2, &[1, 1]).is_err());
        let before = fires.clone();
        assert!(fires.add_counts(1, 1, &[1, u64::MAX]).is_err());
        assert_eq!(fires, before);
        let mut texts = FireAccumulator::new(0, 3).unwrap();
        [2, 2, 0].into_iter().for_each(|class| texts.add_row_label(class).unwrap());
        fires.merge_texts(&texts).unwrap();
        assert_eq!((fires.label_counts(), fires.fired(1)), (&[2, 1, 2][..], before.fired(1)));
        assert!(fires.merge_texts(&FireAccumulator::new(3, 2).unwrap()).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut fires = of(&[]);
        assert!(fires.add(3, 0, &[1.0], &[0.0]).is_err() && fires.add_row_label(3).is_err());
        assert!(fires.add(0, 3, &[1.0], &[0.0]).is_err() && fires.add(0, 0, &[1.0], &[]).is_err());
        assert!(fires.fired(3).is_err() && fires.correct(3).is_err());
        assert!(fires.merge(&FireAccumulator::new(2, 3).unwrap()).is_err());
        assert!(FireAccumulator::new(1, 0).is_err() && FireAccumulator::new(1, usize::MAX).is_err());
        assert_eq!(fires, of(&[]));
    }

    #[test]
    fn more_than_can_be_counted_is_an_error() {
        // Merged with itself 62 times: 2^62 texts of each of three classes, 3 * 2^62 in all.
        let mut fires = of(&[(0, [1.0; 3]), (1, [1.0; 3]), (2, [0.0; 3])]);
        for _ in 0..62 {
            let copy = fires.clone();
            fires.merge(&copy).unwrap();
        }
        assert_eq!((fires.rows(), fires.fired(0).unwrap()), (3 << 62, &[1 << 62; 3][..]));
        let before = fires.clone();
        assert_eq!(fires.merge(&before), Err(StatsError::Overflow { what: "texts of the counts to merge" }));
        assert_eq!(fires, before);
        let mut one = of(&[(0, [1.0; 3])]);
        for _ in 0..63 {
            let copy = one.clone();
            one.merge(&copy).unwrap();
        }
        let copy = one.clone();
        assert!(one.merge(&copy).is_err());
        assert_eq!(one, copy);
    }

    proptest! {
        #[test]
        fn correct_is_what_the_rule_says(rows in prop::collection::vec((0usize..3, [0f32..1.0, 0f32..1.0, 0f32..1.0]), 0..40), cut in 0usize..40) {
            let mut fires = of(&rows[..cut.min(rows.len())]);
            fires.merge(&of(&rows[cut.min(rows.len())..])).unwrap();
            for class in 0..3 {
                let right = |neuron: usize| rows.iter().filter(|(label, x)| (x[neuron] > 0.5) == (*label == class)).count() as u64;
                prop_assert_eq!(fires.correct(class).unwrap().collect::<Vec<_>>(), [right(0), right(1), right(2)]);
            }
        }
    }
}
