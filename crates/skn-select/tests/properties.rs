//! Scores, ranks and unions against the slowest way to find them, on counts that tie often.

#![allow(clippy::unwrap_used)] // a test's helper may

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proptest::prelude::*;
use skn_artifact::{Array, Overwrite, TensorBundle, TensorFile, write_file};
use skn_select::{Aggregate, Mask, Performance, Ranking, ScoreRule, Scores, SelectError, Share};

const LAYERS: usize = 3;

/// The scores of a sub-task by the score that its files have unless another is asked for.
fn of_group(
    files: &[Performance],
    aggregate: Aggregate,
    class: Option<usize>,
) -> Result<Vec<Scores>, SelectError> {
    Scores::of_group(files, aggregate, class, ScoreRule::of(files))
}

/// Counts of one file: `fired[class][layer][position][neuron]` of `sizes[class]` texts.
#[derive(Clone, Debug)]
struct Counts {
    sizes: Vec<i64>,
    positions: usize,
    neurons: usize,
    fired: Vec<Vec<i64>>,
}

impl Counts {
    fn total(&self) -> i64 {
        self.sizes.iter().sum()
    }

    /// How often `fires => class` is right.
    fn correct(&self, class: usize) -> Vec<i64> {
        let right = |place: usize| {
            (0..self.sizes.len()).map(move |other| {
                let fired = self.fired[other][place];
                if other == class { fired } else { self.sizes[other] - fired }
            })
        };
        (0..self.fired[0].len()).map(|place| right(place).sum()).collect()
    }

    /// `widths` are the neurons of each layer; as many in each as there are where nothing is said.
    fn file(&self, name: &str, widths: Option<&[usize]>) -> Performance {
        let classes = self.sizes.len();
        let mut shape = vec![LAYERS, self.positions, self.neurons];
        let mut bundle = TensorBundle::new();
        bundle.describe("skn.kind", "perf");
        if let Some(widths) = widths {
            bundle
                .describe("skn.widths", widths.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
        }
        bundle.insert("total", Array::i64(vec![1], vec![self.total()]).unwrap());
        if classes == 2 {
            bundle.insert("correct", Array::i64(shape.clone(), self.correct(1)).unwrap());
            bundle.insert("true_positive", Array::i64(shape, self.fired[1].clone()).unwrap());
            bundle.insert("positives", Array::i64(vec![1], vec![self.sizes[1]]).unwrap());
        } else {
            shape.insert(0, classes);
            let correct = (0..classes).flat_map(|class| self.correct(class)).collect();
            bundle.insert("correct", Array::i64(shape.clone(), correct).unwrap());
            bundle.insert("true_positive", Array::i64(shape, self.fired.concat()).unwrap());
            bundle.insert("positives", Array::i64(vec![classes], self.sizes.clone()).unwrap());
        }
        let file = TensorFile::from_bytes(name.as_ref(), bundle.to_bytes().unwrap()).unwrap();
        Performance::read(&file).unwrap()
    }

    /// Whether it can have accuracy for its score: two classes of nearly one size.
    fn is_even(&self) -> bool {
        self.sizes.len() == 2 && self.sizes.iter().all(|&size| 20 * size <= 11 * self.total())
    }

    /// The distance from 0.5 of a neuron's accuracy, or of its balanced accuracy, at its best position.
    fn score(&self, balanced: bool, class: usize, layer: usize, neuron: usize) -> Fraction {
        let (total, correct) = (i128::from(self.total()), self.correct(class));
        let positive = i128::from(self.sizes[class]);
        let negative = total - positive;
        let at = |position: usize| {
            let place = (layer * self.positions + position) * self.neurons + neuron;
            let correct = i128::from(correct[place]);
            if !balanced {
                return Fraction::new((2 * correct - total).abs(), 2 * total);
            }
            let hit = i128::from(self.fired[class][place]);
            let (hits, rejections) = (Fraction::new(hit, positive), Fraction::new(correct - hit, negative));
            let Fraction(up, down) = hits.plus(rejections);
            Fraction::new((up - down).abs(), 2 * down)
        };
        (0..self.positions).map(at).max_by(Fraction::compare).unwrap()
    }
}

/// Small enough here for i128.
#[derive(Clone, Copy, Debug)]
struct Fraction(i128, i128);

impl Fraction {
    fn new(up: i128, down: i128) -> Self {
        let (mut a, mut b) = (up, down);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        Self(up / a, down / a)
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.0 * other.1 + other.0 * self.1, self.1 * other.1)
    }

    fn compare(&self, other: &Self) -> Ordering {
        (self.0 * other.1).cmp(&(other.0 * self.1))
    }
}

/// The score of a neuron over the files of a sub-task.
fn oracle_score(
    files: &[Counts],
    aggregate: Aggregate,
    class: usize,
    layer: usize,
    neuron: usize,
) -> Fraction {
    let balanced = !files.iter().all(Counts::is_even);
    let scores = files.iter().map(|file| file.score(balanced, class, layer, neuron));
    match aggregate {
        Aggregate::Min => scores.min_by(Fraction::compare).unwrap(),
        Aggregate::Mean => {
            let Fraction(up, down) = scores.reduce(Fraction::plus).unwrap();
            Fraction::new(up, down * files.len() as i128)
        }
    }
}

/// The union of a layer, looking through all neurons at each turn.
fn oracle_union(layer: usize, width: usize, groups: &[Vec<Fraction>]) -> Vec<u32> {
    let mut chosen: Vec<u32> = Vec::new();
    for turn in 0..width {
        let scores = &groups[(layer + turn) % groups.len()];
        let mut best: Option<usize> = None;
        for neuron in (0..width).filter(|&neuron| !chosen.contains(&(neuron as u32))) {
            if best.is_none_or(|best| scores[neuron].compare(&scores[best]) == Ordering::Greater) {
                best = Some(neuron);
            }
        }
        chosen.push(best.unwrap() as u32);
    }
    chosen
}

/// One sub-task: `files` files of one shape, each with texts of its own number.
fn sub_task(classes: usize, positions: usize, neurons: usize, files: usize) -> BoxedStrategy<Vec<Counts>> {
    let file = prop::collection::vec(1i64..5, classes).prop_flat_map(move |sizes| {
        let size = LAYERS * positions * neurons;
        let fired = sizes.iter().map(|&most| prop::collection::vec(0..=most, size)).collect::<Vec<_>>();
        fired.prop_map(move |fired| Counts { sizes: sizes.clone(), positions, neurons, fired })
    });
    prop::collection::vec(file, files).boxed()
}

/// Up to three sub-tasks on one model, of two or more classes.
fn sub_tasks() -> impl Strategy<Value = Vec<Vec<Counts>>> {
    (1usize..12).prop_flat_map(|neurons| {
        let one = (2usize..5, 1usize..4, 1usize..4);
        let one = one
            .prop_flat_map(move |(classes, positions, files)| sub_task(classes, positions, neurons, files));
        prop::collection::vec(one, 1..4)
    })
}

fn aggregates() -> impl Strategy<Value = Aggregate> {
    prop::sample::select(Aggregate::all().to_vec())
}

fn files(counts: &[Counts]) -> Vec<Performance> {
    files_of(counts, None)
}

fn files_of(counts: &[Counts], widths: Option<&[usize]>) -> Vec<Performance> {
    let name = |index| format!("{index}/dev_perf");
    counts.iter().enumerate().map(|(index, counts)| counts.file(&name(index), widths)).collect()
}

/// The classes whose rules a file holds.
fn rules(counts: &Counts) -> Vec<usize> {
    if counts.sizes.len() == 2 { vec![1] } else { (0..counts.sizes.len()).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ranks_are_the_slow_ones(
        tasks in sub_tasks(),
        aggregate in aggregates(),
        cut in 0usize..4,
        share in 0u64..=100,
    ) {
        let neurons = tasks[0][0].neurons;
        let widths: Vec<usize> = (0..LAYERS).map(|layer| neurons.saturating_sub(cut * layer)).collect();
        let mut groups = Vec::new();
        let mut slow: Vec<Vec<Vec<Fraction>>> = vec![Vec::new(); LAYERS];
        for task in &tasks {
            groups.extend(of_group(&files_of(task, Some(&widths)), aggregate, None).unwrap());
            for class in rules(&task[0]) {
                for (layer, slow) in slow.iter_mut().enumerate() {
                    let score = |neuron| oracle_score(task, aggregate, class, layer, neuron);
                    slow.push((0..neurons).map(score).collect());
                }
            }
        }
        prop_assert_eq!(groups.len(), slow[0].len());
        let ranking = Ranking::new(&groups).unwrap();
        let share: Share = format!("{}.{:02}", share / 100, share % 100).parse().unwrap();
        let mask = ranking.mask(share);
        for layer in 0..LAYERS {
            let alone = oracle_union(layer, neurons, &slow[layer][..1]);
            prop_assert_eq!(&groups[0].rank()[layer], &alone);
            let order = oracle_union(layer, widths[layer], &slow[layer]);
            prop_assert_eq!(&ranking.order()[layer], &order);

            let mut selected = order[..share.count(widths[layer])].to_vec();
            selected.sort_unstable();
            prop_assert_eq!(&mask.neurons()[layer], &selected);
            let rank = &mask.rank()[layer * neurons..][..neurons];
            for (place, &neuron) in order.iter().enumerate() {
                prop_assert_eq!(rank[neuron as usize], place as i32);
            }
            for (place, &rank) in rank.iter().enumerate().skip(widths[layer]) {
                prop_assert_eq!(rank, place as i32, "padding comes last");
            }
            for (group, slow) in groups.iter().zip(&slow[layer]) {
                for (neuron, &Fraction(up, down)) in slow.iter().enumerate() {
                    let score = group.score()[layer * neurons + neuron];
                    prop_assert!((f64::from(score) - up as f64 / down as f64).abs() < 1e-7);
                    prop_assert!(score <= mask.score()[layer * neurons + neuron]);
                }
            }
        }
    }

    #[test]
    fn the_order_of_files_changes_nothing(
        (task, shuffled) in (2usize..5, 1usize..40).prop_flat_map(|(classes, files)| {
            let task = sub_task(classes, 2, 9, files);
            task.prop_flat_map(|task| (Just(task.clone()), Just(task).prop_shuffle()))
        }),
        aggregate in aggregates(),
    ) {
        let scores = |task: &[Counts]| of_group(&files(task), aggregate, None).unwrap();
        prop_assert_eq!(scores(&task), scores(&shuffled));
    }

    #[test]
    fn a_class_alone_is_its_part_of_all(
        task in (2usize..5).prop_flat_map(|classes| sub_task(classes, 2, 7, 2)),
    ) {
        let files = files(&task);
        let all = of_group(&files, Aggregate::Mean, None).unwrap();
        for class in 0..task[0].sizes.len() {
            let alone = of_group(&files, Aggregate::Mean, Some(class)).unwrap();
            prop_assert_eq!(&alone[..], &all[class.min(all.len() - 1)..][..1]);
        }
    }
}

/// One layer of neurons, as pooled.
fn one_layer(name: &str, correct: &[i64], total: i64) -> Performance {
    narrow_layer(name, correct, total, &correct.len().to_string())
}

/// The same, of which some are padding.
fn narrow_layer(name: &str, correct: &[i64], total: i64, width: &str) -> Performance {
    let mut bundle = TensorBundle::new();
    bundle.describe("skn.widths", width);
    bundle.insert("correct", Array::i64(vec![1, correct.len()], correct.to_vec()).unwrap());
    bundle.insert("total", Array::i64(vec![1], vec![total]).unwrap());
    Performance::read(&TensorFile::from_bytes(name.as_ref(), bundle.to_bytes().unwrap()).unwrap()).unwrap()
}

#[test]
fn sums_that_floats_tell_apart_tie() {
    // Accuracies less 0.5: 0.1 + 0.2 + 0.3 for the first neuron, 0.3 + 0.2 + 0.1 for the second.
    let files =
        [("a", [6, 8]), ("b", [7, 7]), ("c", [8, 6])].map(|(name, correct)| one_layer(name, &correct, 10));
    assert_ne!((0.1 + 0.2) + 0.3, (0.3 + 0.2) + 0.1);
    let scores = &of_group(&files, Aggregate::Mean, None).unwrap()[0];
    assert_eq!(scores.score(), [0.2, 0.2]);
    assert_eq!(scores.rank(), [[0, 1]]);
}

#[test]
fn differences_that_floats_do_not_see_count() {
    // The second neuron is one text of 2^31 in the last of 30 files better; denominators multiply to 900 bits
    // and more.
    let total = |file: i64| (1 << 31) - 2 * file;
    let correct = |file: i64| [total(file) - 5, total(file) - 5 + i64::from(file == 29)];
    let files: Vec<_> = (0..30).map(|file| one_layer("x", &correct(file), total(file))).collect();
    let scores = &of_group(&files, Aggregate::Mean, None).unwrap()[0];
    assert_eq!(scores.score(), [0.5, 0.5], "as f32");
    assert_eq!(scores.rank(), [[1, 0]]);
}

#[test]
fn the_first_sub_task_rotates_with_the_layer() {
    let sub_task = |best: usize| {
        let correct = (0..8).map(|place| if place % 4 == best { 9 } else { 5 }).collect();
        let mut bundle = TensorBundle::new();
        bundle.insert("correct", Array::i64(vec![2, 4], correct).unwrap());
        bundle.insert("total", Array::i64(vec![1], vec![10]).unwrap());
        let file = TensorFile::from_bytes("x".as_ref(), bundle.to_bytes().unwrap()).unwrap();
        of_group(&[Performance::read(&file).unwrap()], Aggregate::Mean, None).unwrap()
    };
    let ranking = Ranking::new(&[sub_task(2), sub_task(3)].concat()).unwrap();
    assert_eq!(ranking.order(), [[2, 3, 0, 1], [3, 2, 0, 1]]);
    assert_eq!(ranking.mask("0.25".parse().unwrap()).neurons(), [[2], [3]]);
    let chosen = ranking.mask_where(|layer, index| (layer + index) % 3 == 0);
    assert_eq!(chosen.neurons(), [vec![0, 3], vec![2]], "whatever its rank");
    assert_eq!((chosen.rank(), chosen.score()), (&ranking.rank()[..], ranking.score()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (two, three) = (one_layer("a/dev_perf", &[5, 5], 10), one_layer("b/dev_perf", &[5, 5, 5], 10));
    let error = of_group(&[two.clone(), three.clone()], Aggregate::Mean, None).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("b/dev_perf") && message.contains("2 neurons as in a/dev_perf"), "{message}");
    assert!(message.contains("found 2 classes, 1 layers, pooled, 3 neurons"), "{message}");

    let error = of_group(std::slice::from_ref(&two), Aggregate::Mean, Some(2)).unwrap_err();
    assert_eq!(error.to_string(), "a/dev_perf: class: expected 0 to 1, found 2");
    assert!(of_group(&[], Aggregate::Mean, None).is_err());

    let scores = |file: &Performance| of_group(std::slice::from_ref(file), Aggregate::Mean, None).unwrap();
    assert!(Ranking::new(&[scores(&two), scores(&three)].concat()).is_err());
    assert!(Ranking::new(&[]).is_err());
    let narrow = narrow_layer("c/dev_perf", &[5, 5], 10, "1");
    let error = of_group(&[two.clone(), narrow.clone()], Aggregate::Mean, None).unwrap_err().to_string();
    assert!(error.starts_with("c/dev_perf") && error.contains("2 neurons at most, [1]"), "{error}");
    let error = Ranking::new(&[scores(&two), scores(&narrow)].concat()).unwrap_err().to_string();
    assert!(error.contains("layers of [1] neurons"), "{error}");
    let all = Ranking::new(&scores(&narrow)).unwrap().mask_where(|_, _| true);
    assert_eq!(all.mask(), [true, false], "padding is no neuron");
    let error = "max".parse::<Aggregate>().unwrap_err();
    assert_eq!(error.to_string(), "type of aggregate: expected mean or min, found `max`");
}

#[test]
fn a_mask_survives_the_disk() {
    let files = [one_layer("x", &[5, 9, 1, 6, 5], 10)];
    let ranking = Ranking::new(&of_group(&files, Aggregate::Mean, None).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for share in ["0.0", "0.2", "0.5", "1.0"].map(|share| share.parse::<Share>().unwrap()) {
        let path = folder.path().join(format!("{share}.safetensors"));
        let bytes = ranking.mask(share).to_bundle(&BTreeMap::new()).unwrap().to_bytes().unwrap();
        write_file(&path, Overwrite::Refuse, &bytes).unwrap();
        let mask = Mask::read(&TensorFile::read(&path).unwrap()).unwrap();
        assert_eq!(mask, ranking.mask(share));
        assert_eq!(mask.rank(), [3, 0, 1, 2, 4]);
        assert_eq!(mask.neurons()[0].len(), share.count(5));
    }
}

/// Two files of one layer, position and four neurons, with the dead neurons of each.
fn of_dead(correct: [i64; 4], dead: [bool; 4]) -> Performance {
    let mut bundle = TensorBundle::new();
    bundle.insert("correct", Array::i64(vec![1, 4], correct.to_vec()).unwrap());
    bundle.insert("true_positive", Array::i64(vec![1, 4], correct.map(|right| right / 2).to_vec()).unwrap());
    bundle.insert("positives", Array::i64(vec![1], vec![5]).unwrap());
    bundle.insert("total", Array::i64(vec![1], vec![10]).unwrap());
    let file = TensorFile::from_bytes("dev_mean_perf".as_ref(), bundle.to_bytes().unwrap()).unwrap();
    Performance::read(&file).unwrap().with_dead(dead.to_vec()).unwrap()
}

#[test]
fn dead_neurons_fill_up_last() {
    let scores = |files: &[Performance]| of_group(files, Aggregate::Mean, None).unwrap();
    // The last neuron would be the best; a score of 0 is still one.
    let one = scores(&[of_dead([8, 5, 10, 10], [false, false, true, true])]);
    assert_eq!((one[0].rank(), one[0].score()), (vec![vec![0, 1, 2, 3]], &[0.3, 0.0, 0.0, 0.0][..]));
    // Dead in one file of two it has the half of the other's score.
    let two = scores(&[
        of_dead([8, 5, 10, 10], [false, false, true, true]),
        of_dead([8, 5, 10, 10], [false, false, true, false]),
    ]);
    assert_eq!((two[0].rank(), two[0].score()), (vec![vec![0, 3, 1, 2]], &[0.3, 0.0, 0.0, 0.25][..]));
    assert_eq!(two[0].dead(), [false, false, true, false]);
    // Of two sub-tasks none gives a dead neuron while the other has one that is alive.
    let groups: Vec<Scores> = [
        scores(&[of_dead([8, 5, 10, 10], [false, true, true, true])]),
        scores(&[of_dead([6, 7, 9, 10], [false, false, true, false])]),
    ]
    .concat();
    let ranking = Ranking::new(&groups).unwrap();
    assert_eq!(ranking.order(), [[0, 3, 1, 2]]);
    assert_eq!(ranking.dead(), [false, false, true, false], "dead for both");
    assert_eq!(ranking.mask("0.75".parse().unwrap()).neurons(), [[0, 1, 3]]);
}

#[test]
fn the_worst_first_are_alive() {
    // Neurons 1 and 2 guess alike; the last would be the worst or the best, and is dead.
    let files = [of_dead([8, 5, 5, 10], [false, false, false, true])];
    let ranking = Ranking::new(&of_group(&files, Aggregate::Mean, None).unwrap()).unwrap();
    let worst = ranking.clone().reversed();
    assert_eq!((ranking.order(), worst.order()), (&[vec![0, 1, 2, 3]][..], &[vec![1, 2, 0, 3]][..]));
    assert_eq!(worst.mask("0.25".parse().unwrap()).neurons(), [[1]], "of equals the lower index");
    assert_eq!(worst.rank(), [2, 0, 1, 3]);
    assert_eq!(worst.reversed(), ranking);
    // Of two sub-tasks only those tie that both score alike.
    let groups = [of_dead([8, 5, 5, 5], [false; 4]), of_dead([5, 7, 5, 5], [false; 4])];
    let groups: Vec<Scores> = groups
        .iter()
        .flat_map(|file| of_group(std::slice::from_ref(file), Aggregate::Mean, None).unwrap())
        .collect();
    let ranking = Ranking::new(&groups).unwrap();
    assert_eq!(ranking.order(), [[0, 1, 2, 3]]);
    assert_eq!(ranking.reversed().order(), [[2, 3, 1, 0]]);
}
