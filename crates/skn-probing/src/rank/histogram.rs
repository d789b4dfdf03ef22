use crate::error::{ProbingError, Result};

/// Bins of a histogram: one below the smallest activation of train, one above the largest, and [`SIDE`] on each side of the mean.
pub(super) const BINS: usize = 2 * SIDE + 2;

/// Bins from the smallest activation of train to its mean, of one width, and from there to the largest, where the n-th ends at
/// (n / 15)^2 of the way: activations are densest about and below their mean, and have a long tail above it.
const SIDE: usize = 15;

/// Where the bins of a neuron lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    least: f32,
    mean: f32,
    most: f32,
    /// Bins in 1 below the mean, and the part of the way above it that 1 is; 0 where a side has no width.
    below: f32,
    above: f32,
}

impl Ends {
    /// Of a neuron's smallest, mean and largest activation.
    pub(super) fn new(least: f32, mean: f32, most: f32) -> Self {
        let in_one = |whole: f32, width: f32| if width > 0.0 { whole / width } else { 0.0 };
        Self { least, mean, most, below: in_one(SIDE as f32, mean - least), above: in_one(1.0, most - mean) }
    }

    /// The bin of an activation. A larger one is in no lower bin.
    pub(super) fn bin(self, value: f32) -> u8 {
        const LAST: f32 = SIDE as f32 - 1.0;
        let low = ((value - self.least) * self.below).min(LAST);
        let high = (((value - self.mean) * self.above).max(0.0).sqrt() * SIDE as f32).min(LAST);
        let inner = if value < self.mean { 1 + low as u8 } else { 1 + SIDE as u8 + high as u8 };
        if value < self.least {
            0
        } else if value > self.most {
            BINS as u8 - 1
        } else {
            inner
        }
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
    fn a_larger_activation_is_in_no_lower_bin() {
        let ends = Ends::new(-0.25, 0.5, 4.0);
        let values = [-1.0, -0.25, 0.0, 0.49, 0.5, 0.51, 1.0, 3.9, 4.0, 4.1];
        let bins = values.map(|value| ends.bin(value));
        assert_eq!(bins, [0, 1, 6, 15, 16, 16, 21, 30, 30, 31]);
        // A neuron that is one number.
        let ends = Ends::new(1.0, 1.0, 1.0);
        assert_eq!([0.9, 1.0, 1.1].map(|value| ends.bin(value)), [0, 16, 31]);
    }

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
