use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skn_stats::{Loop, vectorised};

use crate::error::{ProbingError, Result};
use crate::watch::Dims;

/// Bins of a histogram: one below the smallest activation of train, one above the largest, and [`SIDE`] on each side of the mean.
pub(super) const BINS: usize = 2 * SIDE + 2;

/// Bins from the smallest activation of train to its mean, of one width, and from there to the largest, where the n-th ends at
/// (n / 15)^2 of the way: activations are densest about and below their mean, and have a long tail above it.
const SIDE: usize = 15;

/// Where the bins of neurons lie: an array for each number, so that many neurons' bins are found at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends {
    least: Vec<f32>,
    mean: Vec<f32>,
    most: Vec<f32>,
    /// Bins in 1 below the mean, and the part of the way above it that 1 is; 0 where a side has no width.
    below: Vec<f32>,
    above: Vec<f32>,
}

impl Ends {
    /// Of neurons' smallest, mean and largest activations.
    pub(super) fn new(least: Vec<f32>, mean: Vec<f32>, most: Vec<f32>) -> Self {
        let in_one = |whole: f32, width: f32| if width > 0.0 { whole / width } else { 0.0 };
        let below = least.iter().zip(&mean).map(|(least, mean)| in_one(SIDE as f32, mean - least)).collect();
        let above = most.iter().zip(&mean).map(|(most, mean)| in_one(1.0, most - mean)).collect();
        Self { least, mean, most, below, above }
    }

    /// The five numbers of the neurons of a layer, `[5, positions, width]`, as
    /// [`ColumnBins`](skn_kernels::ColumnBins) takes them.
    pub(super) fn of_layer(&self, dims: &Dims, layer: usize, shape: [usize; 2]) -> Vec<f32> {
        let all = [&self.least, &self.mean, &self.most, &self.below, &self.above];
        all.into_iter().flat_map(|all| dims.of_layer(all, layer, shape)).collect()
    }

    /// The bins of activations of the neurons from `at` on. A larger activation is in no lower bin.
    pub(super) fn bins(&self, at: usize, values: &[f32], bins: &mut [u8]) {
        let count = values.len();
        let ends =
            [&self.least, &self.mean, &self.most, &self.below, &self.above].map(|all| &all[at..][..count]);
        vectorised(BinsWithin, (ends, values, &mut bins[..count]));
    }
}

/// The bins of activations between such ends of their neurons: least, mean, most, below and above.
struct BinsWithin;

impl Loop<([&[f32]; 5], &[f32], &mut [u8])> for BinsWithin {
    type Output = ();

    #[inline(always)]
    fn run((ends, values, bins): ([&[f32]; 5], &[f32], &mut [u8])) {
        const LAST: f32 = SIDE as f32 - 1.0;
        let count = bins.len();
        // So that the loop knows that all are as long.
        let (values, [least, mean, most, below, above]) = (&values[..count], ends.map(|all| &all[..count]));
        for (place, bin) in bins.iter_mut().enumerate() {
            let value = values[place];
            let low = ((value - least[place]) * below[place]).min(LAST);
            let way = ((value - mean[place]) * above[place]).max(0.0);
            let high = (way.sqrt() * SIDE as f32).min(LAST) + SIDE as f32;
            let inner = 1.0 + if value < mean[place] { low } else { high };
            let number = if value < least[place] { 0.0 } else { inner };
            let number = if value > most[place] { BINS as f32 - 1.0 } else { number };
            *bin = whole(number);
        }
    }
}

/// A number of 0 to 255 without what is behind its point, give or take a last digit at whole numbers. From 2^23 on numbers in f32 are 1
/// apart, so that a sum in that range is rounded, and its last byte is the number: for many at once, where a cast is one at a time.
#[inline(always)]
fn whole(number: f32) -> u8 {
    /// What is a little less than a half keeps a whole number as it is.
    const JUST_BELOW_HALF: f32 = 0.499_999;
    ((number - JUST_BELOW_HALF).max(0.0) + (1u32 << 23) as f32).to_bits() as u8
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

    /// Counts a batch's texts, whose bins are `[texts, places]`, at the places from `at` on. Some places at a time, whose counts stay in the
    /// nearest cache for all texts.
    pub(super) fn add(&mut self, at: usize, bins: &[u8], labels: &[usize]) {
        const PLACES: usize = 64;
        let (places, classes) = (bins.len() / labels.len().max(1), self.classes);
        let (counts, _) = self.counts.as_chunks_mut::<BINS>();
        let counts = &mut counts[at * classes..][..places * classes];
        for (first, counts) in (0..).step_by(PLACES).zip(counts.chunks_mut(PLACES * classes.max(1))) {
            let some = counts.len() / classes.max(1);
            for (text, &label) in labels.iter().enumerate() {
                let bins = &bins[text * places + first..][..some];
                let of_class = counts.iter_mut().skip(label).step_by(classes.max(1));
                for (counts, &bin) in of_class.zip(bins) {
                    // No bin is beyond the last; so nothing has to look whether one is. A part has less than 2^32 texts.
                    let count = &mut counts[usize::from(bin) % BINS];
                    *count = count.wrapping_add(1);
                }
            }
        }
    }

    /// Adds counts of the places from `at` on, `[.., C, BINS]`, which were made elsewhere.
    pub(super) fn add_counts(&mut self, at: usize, counts: &[u32]) -> Result<()> {
        let of_places = &mut self.counts[at * self.classes * BINS..][..counts.len()];
        for (count, part) in of_places.iter_mut().zip(counts) {
            *count = count.checked_add(*part).ok_or_else(Self::too_many)?;
        }
        Ok(())
    }

    /// Counts so many texts of each class in the lowest bin of places that have no neuron, as [`Self::add`] does, whose texts have a bin there
    /// too.
    pub(super) fn add_without_neurons(&mut self, places: Range<usize>, texts: &[u32]) -> Result<()> {
        let (counts, _) = self.counts.as_chunks_mut::<BINS>();
        for of_place in
            counts[places.start * texts.len()..places.end * texts.len()].chunks_mut(texts.len().max(1))
        {
            for (bins, texts) in of_place.iter_mut().zip(texts) {
                bins[0] = bins[0].checked_add(*texts).ok_or_else(Self::too_many)?;
            }
        }
        Ok(())
    }

    fn too_many() -> ProbingError {
        ProbingError::mismatch("texts of a bin", "at most 2^32 - 1", "more")
    }

    pub(super) fn merge(&mut self, part: &Self) -> Result<()> {
        if self.classes != part.classes || self.counts.len() != part.counts.len() {
            return Err(ProbingError::mismatch("histogram to merge", self.counts.len(), part.counts.len()));
        }
        let sums = self.counts.iter().zip(&part.counts).map(|(count, part)| count.checked_add(*part));
        let sums: Option<Vec<u32>> = sums.collect();
        self.counts = sums.ok_or_else(Self::too_many)?;
        Ok(())
    }

    /// The area under the ROC curve of a place for a class against the rest, those of one bin counted half, and how far the exact area
    /// is from it at most: a half of the pairs that share a bin. 1/2 and 0 where one of the two has no text.
    pub(super) fn area(&self, place: usize, class: usize) -> (f64, f64) {
        let Pairs { above, shared, all } = self.pairs(place, class);
        match all as f64 {
            0.0 => (0.5, 0.0),
            pairs => ((above as f64 + shared as f64 / 2.0) / pairs, shared as f64 / 2.0 / pairs),
        }
    }

    /// The pairs of a text of a class and another, by their bins at a place. Of less than 2^32 texts they are less than 2^62.
    pub(super) fn pairs(&self, place: usize, class: usize) -> Pairs {
        let (mut above, mut shared, mut negatives, mut positives) = (0u64, 0u64, 0u64, 0u64);
        for (&positive, all) in self.of_classes(place)[class].iter().zip(self.of_bins(place)) {
            let positive = u64::from(positive);
            above += positive * negatives;
            shared += positive * (all - positive);
            positives += positive;
            negatives += all - positive;
        }
        Pairs { above, shared, all: positives * negatives }
    }

    /// What ties leave of the variance of a sum of ranks at a place: 1 - sum of (t^3 - t) / (n^3 - n) over bins of t of the n texts.
    pub(super) fn spread(&self, place: usize) -> f64 {
        let cubed = |count: u64| (u128::from(count).pow(3) - u128::from(count)) as f64;
        let bins = self.of_bins(place).into_iter();
        match cubed(bins.clone().sum()) {
            0.0 => 0.0,
            all => (1.0 - bins.map(cubed).sum::<f64>() / all).max(0.0),
        }
    }

    /// The texts of each class in each bin of a place.
    fn of_classes(&self, place: usize) -> &[[u32; BINS]] {
        &self.counts.as_chunks().0[place * self.classes..][..self.classes]
    }

    /// The texts of all classes in each bin of a place.
    fn of_bins(&self, place: usize) -> [u64; BINS] {
        let mut all = [0; BINS];
        for of_class in self.of_classes(place) {
            all.iter_mut().zip(of_class).for_each(|(all, &count)| *all += u64::from(count));
        }
        all
    }
}

/// The histogram of a pass, to which the threads add a batch's texts layer by layer: a part has the bins of one layer at a time. It is the
/// same in whatever order that is done.
#[derive(Debug)]
pub(super) struct SharedHistogram(Arc<Mutex<Histogram>>);

impl SharedHistogram {
    pub(super) fn new(histogram: Histogram) -> Self {
        Self(Arc::new(Mutex::new(histogram)))
    }

    /// The same.
    pub(super) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// What was counted.
    pub(super) fn into_histogram(self) -> Histogram {
        std::mem::replace(&mut *self.lock(), Histogram::new(0, 0))
    }

    fn lock(&self) -> MutexGuard<'_, Histogram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for SharedHistogram {
    /// One of its own.
    fn clone(&self) -> Self {
        Self::new(self.lock().clone())
    }
}

/// The bins of a batch's texts.
#[derive(Clone, Debug)]
pub(super) struct BatchBins {
    labels: Vec<usize>,
    /// Of the layer at hand, `[texts, places of a layer]`.
    bins: Vec<u8>,
    layer: Option<usize>,
    /// The layers that were added.
    added: Vec<bool>,
    /// Places of a layer.
    places: usize,
    whole: SharedHistogram,
}

impl BatchBins {
    /// For texts of these classes, in the memory of one that is not used any more.
    pub(super) fn new(
        used: Option<Self>,
        labels: &[usize],
        [layers, places]: [usize; 2],
        whole: SharedHistogram,
    ) -> Self {
        let mut bins = used.map(|used| used.bins).unwrap_or_default();
        bins.clear();
        bins.resize(labels.len() * places, 0);
        Self { labels: labels.to_vec(), bins, layer: None, added: vec![false; layers], places, whole }
    }

    /// Places of a layer.
    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// Takes activations of a text at a place of a layer.
    ///
    /// # Errors
    /// If the layer was ended: another came meanwhile.
    pub(super) fn take(
        &mut self,
        ends: &Ends,
        layer: usize,
        text: usize,
        place: usize,
        values: &[f32],
    ) -> Result<()> {
        if self.layer != Some(layer) {
            self.end_layer();
            if self.added[layer] {
                let found = format!("some of layer {layer} again");
                return Err(ProbingError::mismatch(
                    "rows of activations",
                    "those of a layer together",
                    found,
                ));
            }
            self.layer = Some(layer);
        }
        let bins = &mut self.bins[text * self.places + place..][..values.len()];
        ends.bins(layer * self.places + place, values, bins);
        Ok(())
    }

    /// Adds the layer at hand.
    fn end_layer(&mut self) {
        if let Some(layer) = self.layer.take() {
            self.whole.lock().add(layer * self.places, &self.bins, &self.labels);
            self.added[layer] = true;
            self.bins.fill(0);
        }
    }

    /// Adds what is left. What a pruned layer does not have is 0, in the lowest bin.
    pub(super) fn end(&mut self) {
        self.end_layer();
        for layer in 0..self.added.len() {
            if !self.added[layer] {
                self.layer = Some(layer);
                self.end_layer();
            }
        }
    }
}

/// Pairs of a text of a class and another text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pairs {
    /// Those in which that of the class is in a higher bin.
    pub(super) above: u64,
    /// Those in one bin.
    pub(super) shared: u64,
    /// All.
    pub(super) all: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_activation_is_in_no_lower_bin() {
        let values = [-1.0, -0.25, 0.0, 0.49, 0.5, 0.51, 1.0, 3.9, 4.0, 4.1];
        let ends = Ends::new(vec![-0.25; 11], vec![0.5; 11], vec![4.0; 11]);
        let mut bins = [9; 10];
        ends.bins(1, &values, &mut bins);
        assert_eq!(bins, [0, 1, 6, 15, 16, 16, 21, 30, 30, 31]);
        // A neuron that is one number.
        let ends = Ends::new(vec![1.0; 3], vec![1.0; 3], vec![1.0; 3]);
        ends.bins(0, &[0.9, 1.0, 1.1], &mut bins[..3]);
        assert_eq!(bins[..3], [0, 16, 31]);
        let many: Vec<f32> = (0..4000).map(|step| step as f32 / 900.0 - 0.3).collect();
        let ends = Ends::new(vec![-0.25; 4000], vec![0.5; 4000], vec![4.0; 4000]);
        let mut bins = vec![0; 4000];
        ends.bins(0, &many, &mut bins);
        assert!(bins.is_sorted(), "{bins:?}");
    }

    #[test]
    fn areas_by_hand() {
        let mut histogram = Histogram::new(2, 2);
        // Of the first place: class 0 in bins 1 and 3, class 1 in 2 and 3. Of the second all in one.
        histogram.add(0, &[1, 7, 2, 7], &[0, 1]);
        let mut second = Histogram::new(2, 2);
        // The places one after the other.
        second.add(1, &[7, 7], &[0, 1]);
        second.add(0, &[3, 3], &[0, 1]);
        histogram.merge(&second).unwrap();
        assert_eq!(histogram.area(0, 1), (2.5 / 4.0, 0.5 / 4.0));
        assert_eq!(histogram.area(0, 0), (1.5 / 4.0, 0.5 / 4.0));
        assert_eq!(histogram.pairs(0, 1), Pairs { above: 2, shared: 1, all: 4 });
        // Bins of 1, 1 and 2 of 4 texts; and one of all 4.
        assert_eq!([0, 1].map(|place| histogram.spread(place)), [1.0 - 6.0 / 60.0, 0.0]);
        assert_eq!(Histogram::new(1, 2).spread(0), 0.0);
        assert_eq!(histogram.area(1, 1), (0.5, 0.5));
        assert_eq!(Histogram::new(1, 2).area(0, 1), (0.5, 0.0));
        assert!(histogram.merge(&Histogram::new(1, 2)).is_err());
    }
}
