use crate::error::{ProbingError, Result};

/// Bins of a histogram: one below the smallest activation of train, one above the largest, the others between them, of one width.
pub(super) const BINS: usize = 32;

/// How many of the inner bins there are in 1, between the extremes of train; 0 if those are one.
pub(super) fn bins_in_one(least: f32, most: f32) -> f32 {
    if most > least { (BINS - 2) as f32 / (most - least) } else { 0.0 }
}

/// The bin of an activation. A larger one is in no lower bin.
pub(super) fn bin(value: f32, least: f32, most: f32, bins_in_one: f32) -> u8 {
    match value {
        _ if value < least => 0,
        _ if value > most => BINS as u8 - 1,
        _ => 1 + (((value - least) * bins_in_one) as usize).min(BINS - 3) as u8,
    }
}

/// How many texts of each class lie in each bin, for every place of the activations: `[places, C, BINS]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Histogram {
    pub(super) classes: usize,
    pub(super) counts: Vec<u32>,
}

impl Histogram {
    pub(super) fn new(places: usize, classes: usize) -> Self {
        Self { classes, counts: vec![0; places * classes * BINS] }
    }

    fn places(&self) -> usize {
        self.counts.len() / (self.classes * BINS).max(1)
    }

    /// Counts a batch's texts, whose bins are `[texts, places]`. Place by place, so that the counts of one are in a cache for all texts.
    pub(super) fn add(&mut self, bins: &[u8], labels: &[usize]) {
        let places = self.places();
        for (place, counts) in self.counts.chunks_exact_mut(self.classes * BINS).enumerate() {
            for (text, label) in labels.iter().enumerate() {
                counts[label * BINS + usize::from(bins[text * places + place])] += 1;
            }
        }
    }

    pub(super) fn merge(&mut self, part: &Self) -> Result<()> {
        if self.classes != part.classes || self.counts.len() != part.counts.len() {
            return Err(ProbingError::mismatch("histogram to merge", self.counts.len(), part.counts.len()));
        }
        let sums = self.counts.iter().zip(&part.counts).map(|(count, part)| count.checked_add(*part));
        let sums: Option<Vec<u32>> = sums.collect();
        self.counts =
            sums.ok_or_else(|| ProbingError::mismatch("texts of a bin", "at most 2^32 - 1", "more"))?;
        Ok(())
    }

    /// The area under the ROC curve of a place for a class against the rest, those of one bin counted half, and how far the exact area
    /// is from it at most: a half of the pairs that share a bin. 1/2 and 0 where one of the two has no text.
    pub(super) fn area(&self, place: usize, class: usize) -> (f64, f64) {
        let counts = &self.counts[place * self.classes * BINS..][..self.classes * BINS];
        let (mut above, mut shared, mut negatives, mut positives) = (0u64, 0u64, 0u64, 0u64);
        for bin in 0..BINS {
            let positive = u64::from(counts[class * BINS + bin]);
            let all: u64 = counts.iter().skip(bin).step_by(BINS).map(|&count| u64::from(count)).sum();
            above += positive * negatives;
            shared += positive * (all - positive);
            positives += positive;
            negatives += all - positive;
        }
        match positives as f64 * negatives as f64 {
            0.0 => (0.5, 0.0),
            pairs => ((above as f64 + shared as f64 / 2.0) / pairs, shared as f64 / 2.0 / pairs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_by_hand() {
        let mut histogram = Histogram::new(2, 2);
        // Of the first place: class 0 in bins 1 and 3, class 1 in 2 and 3. Of the second all in one.
        histogram.add(&[1, 7, 2, 7], &[0, 1]);
        let mut second = Histogram::new(2, 2);
        second.add(&[3, 7, 3, 7], &[0, 1]);
        histogram.merge(&second).unwrap();
        assert_eq!(histogram.area(0, 1), (2.5 / 4.0, 0.5 / 4.0));
        assert_eq!(histogram.area(0, 0), (1.5 / 4.0, 0.5 / 4.0));
        assert_eq!(histogram.area(1, 1), (0.5, 0.5));
        assert_eq!(Histogram::new(1, 2).area(0, 1), (0.5, 0.0));
        assert!(histogram.merge(&Histogram::new(1, 2)).is_err());
    }
}
