//! How stable a selection is, against ranking each draw of texts anew the slow way.

#![allow(clippy::unwrap_used)] // a test's helper may

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use skn_artifact::{Array, TensorBundle, TensorFile};
use skn_counts::FireBits;
use skn_select::{Aggregate, Performance, Ranking, ScoreRule, Scores, SelectError, Share};

const TEXTS: usize = 60;
const LAYERS: usize = 3;
const NEURONS: usize = 20;
const DRAWS: usize = 25;
const SEED: u64 = 11;

fn label(text: usize) -> usize {
    text * 7 / 3 % 3
}

/// Neurons follow a class more or less often.
fn fires(layer: usize, neuron: usize, text: usize) -> bool {
    let strays = (text * 13 + neuron * 29 + layer * 17 + text * neuron) % 19;
    (label(text) == neuron % 3) ^ (strays <= neuron / 2)
}

fn file(bundle: &TensorBundle, name: &str) -> TensorFile {
    TensorFile::from_bytes(name.as_ref(), bundle.to_bytes().unwrap()).unwrap()
}

/// Pooled counts of three classes and the bits that they are of; layers have their own widths, and one neuron is dead.
fn counted() -> (Performance, FireBits) {
    let (mut correct, mut hits) = (Vec::new(), Vec::new());
    for class in 0..3 {
        for place in 0..LAYERS * NEURONS {
            let (layer, neuron) = (place / NEURONS, place % NEURONS);
            let of = |right: &dyn Fn(bool, bool) -> bool| {
                (0..TEXTS).filter(|&text| right(fires(layer, neuron, text), label(text) == class)).count()
                    as i64
            };
            correct.push(of(&|fires, is| fires == is));
            hits.push(of(&|fires, is| fires && is));
        }
    }
    let sizes = (0..3).map(|class| (0..TEXTS).filter(|&text| label(text) == class).count() as i64).collect();
    let shape = vec![3, LAYERS, NEURONS];
    let dead = (0..LAYERS * NEURONS).map(|place| place == NEURONS + 4).collect();
    let mut counts = TensorBundle::new();
    counts.describe("skn.kind", "mean_perf").describe("skn.widths", "20,20,13");
    counts.insert("correct", Array::i64(shape.clone(), correct).unwrap());
    counts.insert("true_positive", Array::i64(shape, hits).unwrap());
    counts.insert("positives", Array::i64(vec![3], sizes).unwrap());
    counts.insert("dead", Array::bool(vec![LAYERS, NEURONS], dead).unwrap());
    counts.insert("total", Array::i64(vec![1], vec![TEXTS as i64]).unwrap());
    let counts = Performance::read(&file(&counts, "dev_mean_perf")).unwrap();

    let bytes = TEXTS.div_ceil(8);
    let mut packed = vec![0u8; LAYERS * NEURONS * bytes];
    for place in 0..LAYERS * NEURONS {
        for text in (0..TEXTS).filter(|&text| fires(place / NEURONS, place % NEURONS, text)) {
            packed[place * bytes + text / 8] |= 1 << (text % 8);
        }
    }
    let mut bits = TensorBundle::new();
    bits.describe("skn.kind", "mean_fire").describe("skn.widths", "20,20,13");
    bits.insert("fire", Array::u8(vec![LAYERS, 1, NEURONS, bytes], packed).unwrap());
    bits.insert(
        "label",
        Array::i64(vec![TEXTS], (0..TEXTS).map(|text| label(text) as i64).collect()).unwrap(),
    );
    bits.insert("row", Array::i64(vec![TEXTS], (0..TEXTS as i64).collect()).unwrap());
    let bits = FireBits::read(file(&bits, "dev_mean_fire"), &counts).unwrap();
    (counts, bits)
}

/// The first `count` neurons of a layer where each class in turn gives its next best, the first being that of the layer's number.
fn union(parts: &[Vec<u64>], dead: &[bool], layer: usize, count: usize) -> BTreeSet<usize> {
    let mut chosen = BTreeSet::new();
    for turn in 0..count {
        let of_class = &parts[(layer + turn) % parts.len()];
        let left = (0..of_class.len()).filter(|neuron| !dead[*neuron] && !chosen.contains(neuron));
        // Of equals the first.
        let best = left.min_by_key(|&neuron| (std::cmp::Reverse(of_class[neuron]), neuron));
        chosen.extend(best.or_else(|| (0..of_class.len()).find(|neuron| !chosen.contains(neuron))));
    }
    chosen
}

#[test]
fn draws_are_ranked_as_all_texts_are() {
    let (counts, bits) = counted();
    let score = ScoreRule::Balanced;
    let ranking =
        Ranking::new(&Scores::of_group(std::slice::from_ref(&counts), Aggregate::Mean, None, score).unwrap())
            .unwrap();
    let shares: Vec<Share> =
        ["0", "0.01", "0.1", "0.35", "0.97", "1"].map(|share| share.parse().unwrap()).into();
    let draws = NonZeroUsize::new(DRAWS).unwrap();
    let mut asked = 0;
    let found = ranking
        .stability(&bits, &counts, score, &shares, draws, SEED, NonZeroUsize::MIN, || {
            asked += 1;
            Ok::<_, SelectError>(())
        })
        .unwrap();
    assert_eq!(asked, LAYERS, "once a layer");
    // A share of 0.01 selects nothing of so few.
    let told: Vec<String> = found.iter().map(|found| found.share.to_string()).collect();
    assert_eq!(told, ["0.1", "0.35", "0.97"]);

    for found in found {
        let (mut both, mut either) = (vec![0usize; DRAWS], vec![0usize; DRAWS]);
        for (layer, order) in ranking.order().iter().enumerate() {
            let count = found.share.count(order.len());
            let of_all: BTreeSet<usize> = order[..count].iter().map(|&neuron| neuron as usize).collect();
            let drawn = bits.resample(&counts, score, layer, 0..DRAWS, SEED, NonZeroUsize::MIN).unwrap();
            assert_eq!(drawn.dead.iter().filter(|&&dead| dead).count(), usize::from(layer == 1));
            for draw in 0..DRAWS {
                let parts: Vec<Vec<u64>> =
                    drawn.parts.iter().map(|of_class| of_class[draw].clone()).collect();
                let redone = union(&parts, &drawn.dead, layer, count);
                both[draw] += of_all.intersection(&redone).count();
                either[draw] += of_all.union(&redone).count();
            }
        }
        let mut index: Vec<f64> =
            both.iter().zip(&either).map(|(&both, &either)| both as f64 / either as f64).collect();
        let mean = index.iter().sum::<f64>() / DRAWS as f64;
        index.sort_by(f64::total_cmp);
        assert!((found.mean - mean).abs() < 1e-12, "{}: {} {mean}", found.share, found.mean);
        assert!(mean < 0.99, "{}: every draw selects the same, which tests nothing", found.share);
        // 0.6 and 23.4 of 0 to 24.
        assert_eq!(found.interval, [index[1], index[23]], "{}", found.share);
    }
}

#[test]
fn whoever_asks_can_end_it() {
    let (counts, bits) = counted();
    let score = ScoreRule::Balanced;
    let ranking =
        Ranking::new(&Scores::of_group(std::slice::from_ref(&counts), Aggregate::Mean, None, score).unwrap())
            .unwrap();
    let stop =
        || Err(SelectError::Mismatch { what: "stop".into(), expected: String::new(), found: String::new() });
    let shares = [Share::of_percent(10)];
    let one = NonZeroUsize::MIN;
    let error = ranking.stability(&bits, &counts, score, &shares, one, SEED, one, stop).unwrap_err();
    assert!(error.to_string().starts_with("stop"), "{error}");
}
