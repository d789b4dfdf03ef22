use std::collections::BTreeMap;
use std::ops::Range;

use skn_artifact::names::{key, kind, rank};
use skn_artifact::{Array, TensorBundle, TensorFile};

use crate::error::{Result, SelectError};
use crate::share::Share;

/// Which neurons are selected, and how all of them rank: the file `info/<task>/0.05`.
///
/// [`Ranking::mask`](crate::Ranking::mask) makes one. Arrays are `[L, F]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    layers: usize,
    neurons: usize,
    mask: Vec<bool>,
    score: Vec<f32>,
    rank: Vec<i32>,
}

impl Mask {
    pub(crate) fn new(
        layers: usize,
        neurons: usize,
        mask: Vec<bool>,
        score: Vec<f32>,
        rank: Vec<i32>,
    ) -> Self {
        Self { layers, neurons, mask, score, rank }
    }

    /// The number of layers, L.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// The number of neurons in the widest layer, F.
    pub fn width(&self) -> usize {
        self.neurons
    }

    /// Whether each neuron is selected, `[L, F]`.
    pub fn mask(&self) -> &[bool] {
        &self.mask
    }

    /// How far each neuron's accuracy is from 0.5, `[L, F]`; of a ranking that was made elsewhere, its own scores.
    pub fn score(&self) -> &[f32] {
        &self.score
    }

    /// Each neuron's place in its layer, 0 the best, `[L, F]`. What a narrower layer lacks comes last.
    pub fn rank(&self) -> &[i32] {
        &self.rank
    }

    /// For each layer the selected neurons, ascending.
    pub fn neurons(&self) -> Vec<Vec<u32>> {
        (0..self.layers).map(|layer| self.layer(layer)).collect()
    }

    /// The selected neurons of a layer that has `width`, ascending, and with them the next best ones, until they are a
    /// multiple of `multiple` or all.
    pub fn best_of_layer(&self, layer: usize, width: usize, multiple: usize) -> Vec<u32> {
        self.best(layer, width, self.selected(layer, width).next_multiple_of(multiple.max(1)))
    }

    /// The best `count` neurons of a layer that has `width`, or all of them, ascending: the selected ones first, then by rank.
    pub fn best(&self, layer: usize, width: usize, count: usize) -> Vec<u32> {
        let row = self.row(layer, width);
        let (mask, rank) = (&self.mask[row.clone()], &self.rank[row]);
        let mut order: Vec<usize> = (0..mask.len()).collect();
        order.sort_by_key(|&neuron| (!mask[neuron], rank[neuron]));
        order.truncate(count);
        order.sort_unstable();
        order.into_iter().map(|neuron| neuron as u32).collect()
    }

    /// How many neurons of a layer that has `width` are selected.
    pub fn selected(&self, layer: usize, width: usize) -> usize {
        self.mask[self.row(layer, width)].iter().filter(|&&selected| selected).count()
    }

    fn row(&self, layer: usize, width: usize) -> Range<usize> {
        layer * self.neurons..layer * self.neurons + width.min(self.neurons)
    }

    fn layer(&self, layer: usize) -> Vec<u32> {
        let row = &self.mask[layer * self.neurons..][..self.neurons];
        (0..).zip(row).filter(|(_, selected)| **selected).map(|(neuron, _)| neuron).collect()
    }

    /// The file: `mask` BOOL, `score` F32, `rank` I32, all `[L, F]`, and what it says of itself besides its
    /// kind.
    ///
    /// # Errors
    /// None that a mask of this crate can give.
    pub fn to_bundle(&self, metadata: &BTreeMap<String, String>) -> Result<TensorBundle> {
        let shape = || vec![self.layers, self.neurons];
        let mut bundle = TensorBundle::new();
        for (key, value) in metadata {
            bundle.describe(key, value);
        }
        bundle.describe(key::KIND, kind::MASK);
        bundle.insert("mask", Array::bool(shape(), self.mask.clone())?);
        bundle.insert("score", Array::f32(shape(), self.score.clone())?);
        bundle.insert("rank", Array::i32(shape(), self.rank.clone())?);
        Ok(bundle)
    }

    /// Reads what [`Self::to_bundle`] made.
    ///
    /// # Errors
    /// If the file is of another kind or shape, a score is not from 0 to 0.5 (of a ranking that was made elsewhere, no number),
    /// or a layer's ranks are not each of 0 to F - 1 once.
    pub fn read(file: &TensorFile) -> Result<Self> {
        file.expect_kind(kind::MASK)?;
        let (shape, mask) = file.bool("mask", None)?;
        let (layers, neurons) = match shape[..] {
            [layers, neurons] if layers > 0 && neurons > 0 && i32::try_from(neurons).is_ok() => {
                (layers, neurons)
            }
            _ => {
                let expected = "shape [layers, neurons], none 0";
                return Err(SelectError::file(file.path(), "tensor `mask`", expected, format!("{shape:?}")));
            }
        };
        let (_, score) = file.f32("score", Some(&shape))?;
        let (_, rank) = file.i32("rank", Some(&shape))?;
        // Another ranking than by predictivity has scores of its own.
        let made = file.metadata().contains_key(rank::RANKING);
        let fits = |score: &f32| if made { score.is_finite() } else { (0.0..=0.5).contains(score) };
        if let Some(place) = score.iter().position(|score| !fits(score)) {
            let element = format!("tensor `score`, element {place}");
            let expected = if made { "a number" } else { "0 to 0.5" };
            return Err(SelectError::file(file.path(), element, expected, score[place]));
        }
        if let Some(place) = not_a_rank(&rank, neurons) {
            let element = format!("tensor `rank`, element {place}");
            let expected = format!("each of 0 to {} once in a layer", neurons - 1);
            return Err(SelectError::file(file.path(), element, expected, rank[place]));
        }
        let read = Self::new(layers, neurons, mask, score, rank);
        read.check_share(file)?;
        Ok(read)
    }

    /// What a file's share selects is what it marks: the first of each layer by rank.
    fn check_share(&self, file: &TensorFile) -> Result<()> {
        let Some(text) = file.metadata().get(key::SHARE) else { return Ok(()) };
        let wrong = |_| SelectError::file(file.path(), format!("metadata {}", key::SHARE), "a share", text);
        let share: Share = text.parse().map_err(wrong)?;
        let widths = file
            .metadata()
            .get(key::WIDTHS)
            .map(|text| text.split(',').map(|width| width.parse().ok()).collect());
        let widths: Vec<usize> = match widths {
            None => vec![self.neurons; self.layers],
            Some(Some(widths)) => widths,
            Some(None) => Vec::new(),
        };
        if widths.len() != self.layers || widths.iter().any(|&width| width > self.neurons) {
            let expected = format!("widths of {} layers, none above {}", self.layers, self.neurons);
            let place = format!("metadata {}", key::WIDTHS);
            return Err(SelectError::file(file.path(), place, expected, format!("{widths:?}")));
        }
        for (place, (&marked, &rank)) in self.mask.iter().zip(&self.rank).enumerate() {
            let expected = (rank as usize) < share.count(widths[place / self.neurons]);
            if marked != expected {
                let expected = format!("{expected}, as rank {rank} is at share {share}");
                let element = format!("tensor `mask`, element {place}");
                return Err(SelectError::file(file.path(), element, expected, marked));
            }
        }
        Ok(())
    }
}

/// The first element that is out of range, or is in its layer already.
fn not_a_rank(rank: &[i32], neurons: usize) -> Option<usize> {
    let mut seen = vec![false; rank.len()];
    rank.iter().enumerate().position(|(place, &rank)| {
        let start = place / neurons * neurons;
        let rank = usize::try_from(rank).ok().filter(|&rank| rank < neurons);
        rank.is_none_or(|rank| std::mem::replace(&mut seen[start + rank], true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Mask {
        let mask = vec![true, false, true, false, true, true];
        Mask::new(2, 3, mask, vec![0.5, 0.0, 0.25, 0.0, 0.25, 0.5], vec![0, 2, 1, 2, 1, 0])
    }

    fn file(mask: &Mask) -> TensorFile {
        described(mask, &[("skn.task", "sst2")])
    }

    fn described(mask: &Mask, metadata: &[(&str, &str)]) -> TensorFile {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let bytes = mask.to_bundle(&metadata).unwrap().to_bytes().unwrap();
        TensorFile::from_bytes("info/sst2/0.1.safetensors".as_ref(), bytes).unwrap()
    }

    #[test]
    fn a_mask_is_read_back() {
        let file = file(&sample());
        let read = Mask::read(&file).unwrap();
        assert_eq!(read, sample());
        assert_eq!((read.layers(), read.width()), (2, 3));
        assert_eq!(
            (read.mask(), read.score(), read.rank()),
            (&sample().mask[..], &sample().score[..], &sample().rank[..])
        );
        let said = |key: &str| file.metadata()[key].as_str();
        assert_eq!((said("skn.kind"), said("skn.task")), ("mask", "sst2"));
        assert_eq!(file.bool("mask", None).unwrap().0, [2, 3]);
    }

    #[test]
    fn neurons_are_listed_by_layer() {
        assert_eq!(sample().neurons(), [[0, 2], [1, 2]]);
        assert_eq!([0, 1].map(|layer| sample().best_of_layer(layer, 3, 1)), [[0, 2], [1, 2]]);
        assert_eq!(sample().best_of_layer(1, 3, 3), [0, 1, 2], "filled up by rank");
        assert_eq!(sample().best_of_layer(0, 3, 64), [0, 1, 2], "no more than there are");
        assert_eq!(sample().best_of_layer(0, 2, 2), [0, 1], "what is beyond the width is padding");
        assert_eq!([3, 2].map(|width| sample().selected(0, width)), [2, 1]);
        assert_eq!([0, 1, 2, 3, 4].map(|count| sample().best(1, 3, count).len()), [0, 1, 2, 3, 3]);
        assert_eq!(sample().best(1, 3, 1), [2], "the best of those selected");
    }

    #[test]
    fn broken_masks_are_refused() {
        let cases = [
            (Mask { rank: vec![0, 2, 1, 2, 2, 0], ..sample() }, "`rank`, element 4"),
            (Mask { rank: vec![0, 3, 1, 2, 1, 0], ..sample() }, "found 3"),
            (Mask { rank: vec![0, -1, 1, 2, 1, 0], ..sample() }, "found -1"),
            (Mask { score: vec![0.5, 0.0, 0.25, f32::NAN, 0.25, 0.5], ..sample() }, "found NaN"),
            (Mask { score: vec![0.5, 0.0, 0.25, 0.75, 0.25, 0.5], ..sample() }, "`score`, element 3"),
            (Mask { layers: 0, mask: vec![], score: vec![], rank: vec![], ..sample() }, "[0, 3]"),
        ];
        for (mask, part) in cases {
            let error = Mask::read(&file(&mask)).unwrap_err();
            let message = error.to_string();
            assert!(message.contains("info/sst2/0.1") && message.contains(part), "{message} has no {part}");
        }
    }

    #[test]
    fn what_is_marked_is_what_the_share_selects() {
        // Of three neurons two, of two one; the last of the second layer is padding.
        let mask = vec![true, false, true, false, true, false];
        let narrow = Mask { mask, rank: vec![0, 2, 1, 1, 0, 2], ..sample() };
        let read = |mask: &Mask, share, widths| {
            Mask::read(&described(mask, &[("skn.share", share), ("skn.widths", widths)]))
        };
        assert_eq!(read(&narrow, "0.7", "3,2").unwrap(), narrow);
        assert_eq!(Mask::read(&described(&sample(), &[("skn.share", "0.7")])).unwrap(), sample());
        for (share, widths, part) in [
            ("0.7", "3,3", "tensor `mask`, element 3: expected true, as rank 1 is at share 0.7, found false"),
            ("0.6", "3,2", "tensor `mask`, element 2: expected false, as rank 1 is at share 0.6, found true"),
            ("1.7", "3,2", "metadata skn.share: expected a share, found 1.7"),
            ("0.7", "3", "metadata skn.widths: expected widths of 2 layers, none above 3, found [3]"),
            ("0.7", "4,2", "none above 3, found [4, 2]"),
            ("0.7", "3,x", "metadata skn.widths"),
        ] {
            let message = read(&narrow, share, widths).unwrap_err().to_string();
            assert!(message.contains(part), "{message} has no {part}");
        }
    }

    #[test]
    fn another_ranking_has_scores_of_its_own() {
        let made = Mask { score: vec![7.5, -2.0, 0.25, 0.0, 0.25, 0.5], ..sample() };
        assert_eq!(Mask::read(&described(&made, &[("skn.rank", "cett")])).unwrap(), made);
        assert!(
            Mask::read(&described(&made, &[]))
                .unwrap_err()
                .to_string()
                .contains("expected 0 to 0.5, found 7.5")
        );
        let none = Mask { score: vec![0.5, f32::INFINITY, 0.25, 0.0, 0.25, 0.5], ..sample() };
        let message = Mask::read(&described(&none, &[("skn.rank", "cett")])).unwrap_err().to_string();
        assert!(message.contains("`score`, element 1: expected a number, found inf"), "{message}");
    }

    #[test]
    fn other_files_are_refused() {
        let mut bundle = sample().to_bundle(&BTreeMap::new()).unwrap();
        bundle.describe("skn.kind", "perf");
        let file = TensorFile::from_bytes("x".as_ref(), bundle.to_bytes().unwrap()).unwrap();
        assert!(Mask::read(&file).unwrap_err().to_string().contains("found perf"));
    }
}
