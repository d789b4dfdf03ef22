//! Rankings against numpy, scipy and scikit-learn (rankings/expected.py), against the model's own matrices, and in shards.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use skn_artifact::names::key;
use skn_artifact::{Array, TensorFile, read_json};
use skn_data::shard;
use skn_model::LanguageModel;
use skn_probing::{
    Average, BatchTexts, Kinds, Metadata, PassOptions, Pool, ProbeType, Rank, Ranking, Record, Row, Slopes,
    Statistic, Workers, averages, collect, l1, part,
};

use skn_stats::{Labelled, Logistic};
use support::{LAYERS, NEURONS, Numbers, POSITIONS, model, texts, through_a_file, weights};

/// `[texts, L, P, F]` and labels, as expected.py makes them: some neurons follow the label, neuron 5 is dead.
fn activations(count: usize, classes: usize, seed: u64) -> (Vec<f32>, Vec<usize>) {
    let mut numbers = Numbers::new(seed);
    let labels: Vec<usize> = (0..count).map(|text| (text * 7 + text / 5) % classes).collect();
    let mut values = Vec::new();
    for label in &labels {
        for place in 0..LAYERS * POSITIONS * NEURONS {
            let (position, neuron) = (place / NEURONS % POSITIONS, place % NEURONS);
            let value = numbers.next();
            values.push(match (neuron, label) {
                (5, _) => 0.25,
                (_, 1) => value + 0.125 * (neuron % 4 * position) as f32,
                _ => value,
            });
        }
    }
    (values, labels)
}

/// Gives activations to a statistic, a few texts a batch.
fn take(whole: &mut dyn Statistic, values: &[f32], labels: &[usize]) {
    let of_text = LAYERS * POSITIONS * NEURONS;
    for (first, labels) in labels.chunks(7).enumerate() {
        let places: Vec<usize> = (0..labels.len()).map(|text| first * 7 + text).collect();
        let rows: Vec<u64> = places.iter().map(|&place| place as u64).collect();
        let mut batch = whole.of_batch(&BatchTexts { labels, rows: &rows, places: &places }).unwrap();
        for layer in 0..LAYERS {
            for (text, &label) in labels.iter().enumerate() {
                for position in 0..POSITIONS {
                    let at = places[text] * of_text + (layer * POSITIONS + position) * NEURONS;
                    let values = &values[at..][..NEURONS];
                    let (pool, output_norm) = (Pool::Position, Some(2.0));
                    batch
                        .take(&Row { pool, layer, position, text, label, values, output_norm, slopes: None })
                        .unwrap();
                }
            }
        }
        whole.absorb(batch).unwrap();
    }
}

fn of_train(model: &LanguageModel, classes: usize) -> Average {
    let mut average = Average::new(model, Pool::Position).unwrap().with_variance();
    let (values, labels) = activations(30, classes, 11);
    take(&mut average, &values, &labels);
    average
}

/// The file of a ranking of some of the texts of dev.
fn ranked(
    ranking: Ranking,
    classes: usize,
    texts: std::ops::Range<usize>,
    shard: Option<&str>,
) -> TensorFile {
    let model = model();
    let mut rank = Rank::new(ranking, &model, &of_train(&model, classes), classes, 3).unwrap();
    let (values, labels) = activations(41, classes, 12);
    let of_text = values.len() / labels.len();
    take(&mut rank, &values[texts.start * of_text..texts.end * of_text], &labels[texts]);
    let metadata: Metadata =
        shard.map(|shard| (key::SHARD.to_owned(), shard.to_owned())).into_iter().collect();
    through_a_file(&Box::new(rank).into_record().unwrap().to_bundle(&metadata).unwrap())
}

#[track_caller]
fn near(what: &str, found: &[f32], expected: &[f64], tolerance: impl Fn(usize) -> f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (place, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs();
        assert!(off <= tolerance(place), "{what} at {place}: {found}, expected {expected}");
    }
}

#[test]
fn scores_are_those_of_numpy_scipy_and_scikit_learn() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rankings/expected.json");
    let expected: BTreeMap<String, BTreeMap<String, Vec<f64>>> = read_json(&path).unwrap();
    for classes in [2, 3] {
        let expected = &expected[&classes.to_string()];
        for ranking in [Ranking::Predictivity, Ranking::MeanDifference, Ranking::Correlation, Ranking::Lape] {
            let file = ranked(ranking, classes, 0..41, None);
            let (_, score) = file.f32("score", Some(&[LAYERS, NEURONS])).unwrap();
            near(ranking.name(), &score, &expected[ranking.name()], |_| 2e-6);
            assert!(score.iter().any(|&score| score > 0.0), "{ranking}");
            let (_, dead) = file.bool("dead", Some(&[LAYERS, NEURONS])).unwrap();
            assert!(dead.iter().enumerate().all(|(place, &dead)| dead == (place % NEURONS == 5)));
            assert_eq!(score[5], 0.0, "a dead neuron has no score");
            assert_eq!(file.metadata()["skn.rank"], ranking.name());
        }
        let file = ranked(Ranking::MeanDifference, classes, 0..41, None);
        let (_, d) = file.f32("cohen_d", None).unwrap();
        let d: Vec<f32> = d.into_iter().map(f32::abs).collect();
        near("cohen_d", &d, &expected["cohen_d"], |_| 1e-5);
    }
}

#[test]
fn neurons_that_are_left_out_are_as_even_as_can_be() {
    for classes in [2, 3] {
        let file = ranked(Ranking::Lape, classes, 0..41, None);
        let ((_, score), (_, entropy)) =
            (file.f32("score", None).unwrap(), file.f32("entropy", None).unwrap());
        let most = (classes as f64).ln() as f32;
        assert_eq!((score[5], entropy[5]), (0.0, most), "a dead neuron");
        let left_out = (0..score.len()).filter(|&place| score[place] == 0.0 && place % NEURONS != 5);
        assert!(left_out.clone().count() > 0);
        left_out
            .for_each(|place| assert!((entropy[place] - most).abs() < 1e-6, "{place}: {}", entropy[place]));
        for (score, entropy) in score.iter().zip(&entropy) {
            assert!((score - (most - entropy)).abs() < 1e-6, "{score} {entropy}");
        }
    }
}

#[test]
fn predictivity_says_what_it_is() {
    // Of the first four texts each class has two; of all 41 one has more than 55 %.
    for (texts, name, other, rule) in [
        (0..4, "accuracy", "balanced_accuracy", "accuracy"),
        (0..41, "balanced_accuracy", "accuracy", "balanced"),
    ] {
        let file = ranked(Ranking::Predictivity, 2, texts, None);
        assert_eq!(file.metadata()[key::SCORE], rule);
        assert!(file.contains(name) && !file.contains(other), "{name}");
    }
    assert!(!ranked(Ranking::Auc, 2, 0..41, None).metadata().contains_key(key::SCORE));
}

/// Gives activations with slopes of each class to a statistic, in one batch.
fn take_slopes(
    whole: &mut dyn Statistic,
    (values, slopes): (&[f32], &[Vec<f32>]),
    labels: &[usize],
    texts: std::ops::Range<usize>,
) {
    let places: Vec<usize> = texts.clone().collect();
    let rows: Vec<u64> = places.iter().map(|&place| place as u64).collect();
    let labels = &labels[texts];
    let mut batch = whole.of_batch(&BatchTexts { labels, rows: &rows, places: &places }).unwrap();
    for layer in 0..LAYERS {
        for (text, &label) in labels.iter().enumerate() {
            for position in 0..POSITIONS {
                let at = ((places[text] * LAYERS + layer) * POSITIONS + position) * NEURONS;
                let span = at..at + NEURONS;
                let classes: Vec<&[f32]> = slopes.iter().map(|of| &of[span.clone()]).collect();
                let slopes = Slopes { loss: None, own: None, classes };
                let (pool, values, slopes) = (Pool::Position, &values[span], Some(&slopes));
                let row = Row { pool, layer, position, text, label, values, output_norm: None, slopes };
                batch.take(&row).unwrap();
            }
        }
    }
    whole.absorb(batch).unwrap();
}

/// Three classes, of which the first has three quarters of the texts: a neuron without a slope is worth no more for that.
#[test]
fn agreement_is_balanced_between_a_class_and_the_others() {
    let labels: Vec<usize> = (0..31).map(|text| [0, 0, 0, 1, 0, 0, 2, 0][text % 8]).collect();
    let (values, _) = activations(31, 3, 12);
    let mut numbers = Numbers::new(13);
    let mut slope = |place| if place % NEURONS == 3 { 0.0 } else { numbers.next() };
    let slopes: Vec<Vec<f32>> = (0..3).map(|_| (0..values.len()).map(&mut slope).collect()).collect();
    let model = model();
    let taken = |texts: std::ops::Range<usize>, shard: Option<&str>| {
        let mut rank = Rank::new(Ranking::Gradient, &model, &of_train(&model, 3), 3, 0).unwrap();
        take_slopes(&mut rank, (&values, &slopes), &labels, texts);
        let metadata: Metadata =
            shard.map(|shard| (key::SHARD.to_owned(), shard.to_owned())).into_iter().collect();
        Box::new(rank).into_record().unwrap().to_bundle(&metadata).unwrap()
    };
    let whole = taken(0..31, None);
    let file = through_a_file(&whole);
    let [(_, score), (_, agreement)] = ["score", "agreement"].map(|name| file.f32(name, None).unwrap());
    let [(_, class), (_, position)] = ["class", "position"].map(|name| file.i32(name, None).unwrap());
    let balanced = |place: usize, class: usize, position: usize| {
        let share = |of_class: bool| {
            let texts = (0..31).filter(|&text| (labels[text] == class) == of_class);
            let at =
                |text| ((text * LAYERS + place / NEURONS) * POSITIONS + position) * NEURONS + place % NEURONS;
            let right = |text: &usize| (values[at(*text)] * slopes[class][at(*text)] > 0.0) == of_class;
            texts.clone().filter(right).count() as f64 / texts.count() as f64
        };
        f64::midpoint(share(true), share(false))
    };
    for place in (0..score.len()).filter(|place| place % NEURONS != 5) {
        let all = (0..3).flat_map(|class| (0..POSITIONS).map(move |position| (class, position)));
        let best = all.map(|(class, position)| balanced(place, class, position));
        let best = best.fold(0.0, |best: f64, share| best.max(share).max(1.0 - share));
        assert!((f64::from(score[place]) - best).abs() < 1e-6, "{place}: {}, not {best}", score[place]);
        let chosen = balanced(place, class[place] as usize, position[place] as usize);
        assert!((f64::from(agreement[place]) - chosen).abs() < 1e-6, "{place}: {}", agreement[place]);
        if place % NEURONS == 3 {
            assert_eq!((score[place], agreement[place]), (0.5, 0.5), "no slope at {place}");
        }
    }
    assert!(score.iter().any(|&score| score > 0.6), "{score:?}");

    let [first, second] = [taken(0..13, Some("1/2")), taken(13..31, Some("2/2"))];
    let [mut merged, part] =
        [&first, &second].map(|bundle| Kinds::default().read(&through_a_file(bundle)).unwrap());
    merged.merge(part.as_ref()).unwrap();
    assert!(merged.to_bundle(&Metadata::new()).unwrap() == whole);

    // No class agrees for more texts than it has, nor for more of the others.
    let places = LAYERS * POSITIONS * NEURONS;
    let texts: Vec<usize> =
        (0..3).map(|class| labels[..13].iter().filter(|&&of| of == class).count()).collect();
    for (side, class, most) in [(0, 1, texts[1]), (1, 0, 13 - texts[0])] {
        let (shape, mut agreed) = through_a_file(&first).i64("agreed", None).unwrap();
        assert_eq!(shape, [2, 3, LAYERS, POSITIONS, NEURONS]);
        let at = (side * 3 + class) * places;
        agreed[at] = most as i64;
        let mut bundle = first.clone();
        bundle.insert("agreed", Array::i64(shape.clone(), agreed.clone()).unwrap());
        assert!(Kinds::default().read(&through_a_file(&bundle)).is_ok());
        agreed[at] += 1;
        bundle.insert("agreed", Array::i64(shape, agreed).unwrap());
        let error = Kinds::default().read(&through_a_file(&bundle)).err().unwrap().to_string();
        assert!(error.contains("agreed") && error.contains(&format!("at most {most}, ")), "{error}");
    }
}

#[test]
fn areas_are_within_their_bounds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rankings/expected.json");
    let expected: BTreeMap<String, BTreeMap<String, Vec<f64>>> = read_json(&path).unwrap();
    let model = model();
    for classes in [2, 3] {
        let file = ranked(Ranking::Auc, classes, 0..41, None);
        let (_, score) = file.f32("score", None).unwrap();
        let (_, bound) = file.f32("bound", None).unwrap();
        // The best of several within their bounds is within the widest bound of the exact best.
        let widest = bound.iter().copied().fold(0.0, f32::max);
        assert!(0.0 < widest && widest < 0.06, "{widest}");
        near("auc", &score, &expected[&classes.to_string()]["auc"], |_| f64::from(widest) + 1e-6);
    }
    // The bound of each holds for the very position that was chosen.
    let file = ranked(Ranking::Auc, 2, 0..41, None);
    let (_, found) = file.f32("auc", None).unwrap();
    let (_, bound) = file.f32("bound", None).unwrap();
    let (_, position) = file.i32("position", None).unwrap();
    let (values, labels) = activations(41, 2, 12);
    let positive: Vec<bool> = labels.iter().map(|&label| label == 1).collect();
    for place in (0..LAYERS * NEURONS).filter(|place| place % NEURONS != 5) {
        let (layer, neuron) = (place / NEURONS, place % NEURONS);
        let at = (layer * POSITIONS + position[place] as usize) * NEURONS + neuron;
        let of_text = model.config().layers() * POSITIONS * NEURONS;
        let z: Vec<f64> = (0..41).map(|text| f64::from(values[text * of_text + at])).collect();
        let exact = skn_stats::auc(&z, &positive).unwrap();
        let off = (f64::from(found[place]) - exact).abs();
        assert!(off <= f64::from(bound[place]) + 1e-7, "{place}: {off} beyond {}", bound[place]);
    }
}

#[test]
fn areas_of_all_positions_are_kept() {
    let model = model();
    for classes in [2, 3] {
        let file = ranked(Ranking::Auc, classes, 0..41, None);
        let (shape, above) = file.i64("twice_above", None).unwrap();
        let (_, positives) = file.i64("positives", None).unwrap();
        let (_, bounds) = file.f32("bounds", Some(&shape)).unwrap();
        let expected = [&[3][..classes - 2], &[LAYERS, POSITIONS, NEURONS]].concat();
        assert_eq!((shape, file.i64("total", None).unwrap().1), (expected, vec![41]));
        let [(_, found), (_, bound)] = ["auc", "bound"].map(|name| file.f32(name, None).unwrap());
        let (_, position) = file.i32("position", None).unwrap();
        let class = if classes == 2 { vec![0; found.len()] } else { file.i32("class", None).unwrap().1 };
        let places = LAYERS * POSITIONS * NEURONS;
        for place in (0..found.len()).filter(|place| place % NEURONS != 5) {
            let (layer, neuron, class) = (place / NEURONS, place % NEURONS, class[place] as usize);
            let at = class * places + (layer * POSITIONS + position[place] as usize) * NEURONS + neuron;
            let pairs = positives[class] * (41 - positives[class]);
            assert_eq!(
                (found[place], bound[place]),
                ((above[at] as f64 / (2 * pairs) as f64) as f32, bounds[at])
            );
        }
        // Of test there are areas, and nothing to choose neurons by.
        let mut rank = Rank::new(Ranking::Auc, &model, &of_train(&model, classes), classes, 3).unwrap();
        let (values, labels) = activations(41, classes, 12);
        take(&mut rank, &values, &labels);
        assert_eq!((rank.file("dev"), rank.file("test")), ("rank/auc".into(), "rank/auc_test".into()));
        let metadata = Metadata::from([(key::SPLIT.to_owned(), "test".to_owned())]);
        let test = through_a_file(&Box::new(rank).into_record().unwrap().to_bundle(&metadata).unwrap());
        assert_eq!(test.i64("twice_above", None).unwrap().1, above);
        assert!(!test.contains("score") && !test.contains("position"));
    }
}

#[test]
fn predictivity_as_published_is_accuracy() {
    let model = model();
    let of = |classes, texts: std::ops::Range<usize>, shard: Option<&str>| {
        let rank = Rank::new(Ranking::Predictivity, &model, &of_train(&model, classes), classes, 3).unwrap();
        let mut rank = rank.as_published(true);
        let (values, labels) = activations(41, classes, 12);
        let of_text = values.len() / labels.len();
        take(&mut rank, &values[texts.start * of_text..texts.end * of_text], &labels[texts]);
        let metadata: Metadata =
            shard.map(|shard| (key::SHARD.to_owned(), shard.to_owned())).into_iter().collect();
        Box::new(rank).into_record().unwrap().to_bundle(&metadata).unwrap()
    };
    let whole = of(2, 0..41, None);
    let file = through_a_file(&whole);
    assert_eq!(file.metadata()[key::SCORE], "accuracy");
    let usual = ranked(Ranking::Predictivity, 2, 0..41, None);
    assert_eq!(usual.metadata()[key::SCORE], "balanced", "one class has more than 55 %");
    assert_ne!(file.f32("score", None).unwrap(), usual.f32("score", None).unwrap());
    assert_eq!(through_a_file(&of(3, 0..41, None)).metadata()[key::SCORE], "balanced");
    let [first, second] = [of(2, 0..13, Some("1/2")), of(2, 13..41, Some("2/2"))];
    let [mut merged, part] =
        [&first, &second].map(|bundle| Kinds::default().read(&through_a_file(bundle)).unwrap());
    merged.merge(part.as_ref()).unwrap();
    // What shards say besides goes when they are merged.
    let said: Metadata =
        Some((skn_artifact::names::rank::COMPAT.to_owned(), "paper".to_owned())).into_iter().collect();
    assert!(merged.to_bundle(&said).unwrap() == whole);
    let other = Kinds::default().read(&ranked(Ranking::Predictivity, 2, 0..8, Some("1/2"))).unwrap();
    let error = merged.merge(other.as_ref()).unwrap_err().to_string();
    assert!(error.contains("expected the published score, found the usual score"), "{error}");
}

#[test]
fn activations_are_correlated_with_numbers() {
    let model = model();
    let (values, labels) = activations(41, 3, 12);
    let of_text = values.len() / labels.len();
    let mut drawn = Numbers::new(31);
    let numbers: Vec<f64> =
        labels.iter().map(|&label| label as f64 * 10.0 + 7.0 * f64::from(drawn.next())).collect();
    let moments = |of: &[f64]| {
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        (mean, (of.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / of.len() as f64).sqrt())
    };
    let (mean, deviation) = moments(&numbers);
    let scaled = std::sync::Arc::new(
        numbers.iter().map(|number| ((number - mean) / deviation) as f32).collect::<Vec<f32>>(),
    );
    let of = |texts: std::ops::Range<usize>, shard: Option<&str>| {
        let rank = Rank::new(Ranking::Correlation, &model, &of_train(&model, 3), 3, 3).unwrap();
        let mut rank = rank.with_numbers("length", scaled.clone());
        let (first, labels) = (texts.start, &labels[texts]);
        let rows: Vec<u64> = (0..labels.len()).map(|text| (first + text) as u64).collect();
        let places: Vec<usize> = (0..labels.len()).collect();
        let mut batch = rank.of_batch(&BatchTexts { labels, rows: &rows, places: &places }).unwrap();
        for layer in 0..LAYERS {
            for (text, &label) in labels.iter().enumerate() {
                for position in 0..POSITIONS {
                    let at = (first + text) * of_text + (layer * POSITIONS + position) * NEURONS;
                    let (pool, values) = (Pool::Position, &values[at..][..NEURONS]);
                    batch
                        .take(&Row {
                            pool,
                            layer,
                            position,
                            text,
                            label,
                            values,
                            output_norm: None,
                            slopes: None,
                        })
                        .unwrap();
                }
            }
        }
        rank.absorb(batch).unwrap();
        let metadata: Metadata =
            shard.map(|shard| (key::SHARD.to_owned(), shard.to_owned())).into_iter().collect();
        Box::new(rank).into_record().unwrap().to_bundle(&metadata).unwrap()
    };
    let whole = of(0..41, None);
    let file = through_a_file(&whole);
    assert_eq!(file.metadata()["skn.metric_column"], "length");
    assert!(!file.contains("class"), "no class was chosen");
    let [(_, score), (_, r)] = ["score", "r"].map(|name| file.f32(name, None).unwrap());
    let (_, position) = file.i32("position", None).unwrap();
    for place in (0..score.len()).filter(|place| place % NEURONS != 5) {
        let pearson = |position: usize| {
            let at = (place / NEURONS * POSITIONS + position) * NEURONS + place % NEURONS;
            let z: Vec<f64> = (0..41).map(|text| f64::from(values[text * of_text + at])).collect();
            let (of_z, spread) = moments(&z);
            let products = z.iter().zip(&numbers).map(|(z, number)| (z - of_z) * (number - mean));
            products.sum::<f64>() / 41.0 / spread / deviation
        };
        let best = (0..POSITIONS).map(pearson).fold(0.0, |best: f64, r| best.max(r.abs()));
        assert!((f64::from(score[place]) - best).abs() < 1e-6, "{place}: {}, expected {best}", score[place]);
        assert!((f64::from(r[place]) - pearson(position[place] as usize)).abs() < 1e-6, "{place}");
    }
    assert!(score.iter().any(|&score| score > 0.2));
    let [first, second] = [of(0..13, Some("1/2")), of(13..41, Some("2/2"))];
    let [mut merged, part] =
        [&first, &second].map(|bundle| Kinds::default().read(&through_a_file(bundle)).unwrap());
    merged.merge(part.as_ref()).unwrap();
    assert!(merged.to_bundle(&Metadata::new()).unwrap() == whole);
    let other = Kinds::default().read(&ranked(Ranking::Correlation, 3, 0..8, Some("1/2"))).unwrap();
    let error = merged.merge(other.as_ref()).unwrap_err().to_string();
    assert!(error.contains("expected \"length\", found classes"), "{error}");
}

#[test]
fn chance_is_the_same_whenever_it_is_asked_for() {
    let [first, second] =
        [0..41, 0..8].map(|texts| ranked(Ranking::Random, 2, texts, None).f32("score", None).unwrap().1);
    assert_eq!(first, second);
    let live: Vec<f32> =
        first.iter().enumerate().filter(|(place, _)| place % NEURONS != 5).map(|(_, &x)| x).collect();
    let mean = live.iter().sum::<f32>() / live.len() as f32;
    assert!((0.3..0.7).contains(&mean) && live.iter().all(|score| (0.0..1.0).contains(score)), "{mean}");
}

#[test]
fn shards_merge_to_the_bytes_of_the_whole() {
    for ranking in
        Ranking::ALL.into_iter().filter(|ranking| *ranking != Ranking::L1 && !ranking.needs_gradients())
    {
        for classes in [2, 3] {
            let parts = [("1/3", 0..14), ("2/3", 14..28), ("3/3", 28..41)];
            let [first, rest @ ..] = parts.map(|(shard, texts)| {
                Kinds::default().read(&ranked(ranking, classes, texts, Some(shard))).unwrap()
            });
            let mut whole = first;
            rest.iter().for_each(|part| whole.merge(part.as_ref()).unwrap());
            let merged = whole.to_bundle(&Metadata::new()).unwrap().to_bytes().unwrap();
            let expected = ranked(ranking, classes, 0..41, None);
            let merged = TensorFile::from_bytes("part.safetensors".as_ref(), merged).unwrap();
            assert_eq!(
                skn_artifact::file_hash([&merged]).unwrap(),
                skn_artifact::file_hash([&expected]).unwrap(),
                "{ranking}"
            );
            assert_eq!(merged.metadata(), expected.metadata(), "{ranking}");
        }
    }
    let error = Kinds::default().read(&ranked(Ranking::Auc, 2, 0..41, None)).err().unwrap().to_string();
    assert!(error.contains("part.safetensors") && error.contains("scores alone"), "{error}");
}

#[test]
fn one_class_alone_is_refused() {
    let model = model();
    let rank = Rank::new(Ranking::Correlation, &model, &of_train(&model, 2), 2, 0).unwrap();
    let record = Box::new(rank).into_record().unwrap();
    let error = record.to_bundle(&Metadata::new()).err().unwrap().to_string();
    assert!(error.contains("correlation") && error.contains("class 0"), "{error}");
    // Averages of an older version have no deviation.
    let plain = Average::new(&model, Pool::Position).unwrap();
    let error = Rank::new(Ranking::MeanDifference, &model, &plain, 2, 0).err().unwrap().to_string();
    assert!(error.contains("mean_difference") && error.contains("variance"), "{error}");
}

/// What a neuron adds to the output of its FFN, from the matrices that the model was made of.
#[test]
fn cett_is_the_share_of_the_ffn_output() {
    let (model, texts) = (model(), texts(9, 5));
    let workers = Workers::new(2).unwrap();
    let options = PassOptions::new(&workers);
    let average =
        averages(&model, &texts, &[ProbeType::AccLast], &options).unwrap().remove(&Pool::Last).unwrap();
    let rank = Rank::new(Ranking::Cett, &model, &average, 2, 0).unwrap();
    let taken = collect("ranking", &model, &texts, 2, vec![Box::new(rank)], &options).unwrap().remove(0);
    let file = through_a_file(&taken.into_record().unwrap().to_bundle(&Metadata::new()).unwrap());
    let (_, found) = file.f32("score", Some(&[LAYERS, NEURONS])).unwrap();

    let tensors = weights();
    let mut expected = vec![0f64; LAYERS * NEURONS];
    for text in &texts {
        for layer in 0..LAYERS {
            let z = last_row(&model, text, layer);
            let matrix = tensors[&format!("roberta.encoder.layer.{layer}.output.dense.weight")]
                .to_vec2::<f32>()
                .unwrap();
            let bias = tensors[&format!("roberta.encoder.layer.{layer}.output.dense.bias")]
                .to_vec1::<f32>()
                .unwrap();
            let output = matrix.iter().zip(&bias).map(|(row, &bias)| {
                f64::from(bias) + row.iter().zip(&z).map(|(&w, &z)| f64::from(w) * f64::from(z)).sum::<f64>()
            });
            let norm = output.map(|x| x * x).sum::<f64>().sqrt();
            for neuron in 0..NEURONS {
                let column = matrix.iter().map(|row| f64::from(row[neuron]).powi(2)).sum::<f64>().sqrt();
                expected[layer * NEURONS + neuron] +=
                    f64::from(z[neuron]).abs() * column / norm / texts.len() as f64;
            }
        }
    }
    near("cett", &found, &expected, |_| 1e-5);
}

/// The activations of a layer at the last row of a text.
fn last_row(model: &LanguageModel, text: &skn_data::Encoded, layer: usize) -> Vec<f32> {
    let workers = Workers::new(1).unwrap();
    let options = PassOptions::new(&workers);
    let average = averages(model, std::slice::from_ref(text), &[ProbeType::AccLast], &options).unwrap();
    average[&Pool::Last].values().unwrap()[layer * NEURONS..][..NEURONS].to_vec()
}

/// The regression of each layer on the activations at each text's last row, done again from the activations of single texts.
#[test]
fn l1_is_a_regression_on_the_neurons_of_a_layer() {
    let (model, train, dev) = (model(), texts(24, 6), texts(17, 7));
    let (workers, folder) = (Workers::new(2).unwrap(), tempfile::tempdir().unwrap());
    let options = PassOptions { token_budget: 40, ..PassOptions::new(&workers) };
    let average: Box<dyn Statistic> = Box::new(Average::new(&model, Pool::Last).unwrap().with_variance());
    let average = collect("averaging", &model, &train, 2, vec![average], &options).unwrap().remove(0);
    let average: Average = part(average).unwrap();
    let record = l1(&model, [&train, &dev], &average, 2, folder.path(), &options).unwrap();
    let file = through_a_file(&record.to_bundle(&Metadata::new()).unwrap());
    let (_, found) = file.f32("score", Some(&[LAYERS, NEURONS])).unwrap();

    let (means, variances) = (average.values().unwrap(), average.variance().unwrap().unwrap());
    for layer in 0..LAYERS {
        let table = |texts: &[skn_data::Encoded]| -> (Vec<f32>, Vec<bool>) {
            let row = |text: &skn_data::Encoded| {
                let at = layer * NEURONS;
                let values = last_row(&model, text, layer);
                let scaled = values.iter().zip(&means[at..]).zip(&variances[at..]);
                scaled.map(|((z, mean), variance)| (z - mean) * (1.0 / variance.sqrt())).collect::<Vec<_>>()
            };
            (texts.iter().flat_map(row).collect(), texts.iter().map(|text| text.label == 1).collect())
        };
        let ((x, positive), (dev_x, dev_positive)) = (table(&train), table(&dev));
        let of = Labelled { x: &x, columns: NEURONS, positive: &positive };
        let of_dev = Labelled { x: &dev_x, columns: NEURONS, positive: &dev_positive };
        let mut fit = Logistic::nothing(of).unwrap();
        let most = fit.least_strength_of_nothing(of);
        let mut fits = Vec::new();
        for halvings in 1..=8 {
            fit = fit.fit(of, most * 0.5f64.powi(halvings));
            let right =
                fit.scores(of_dev).iter().zip(&dev_positive).filter(|(z, y)| (**z > 0.0) == **y).count();
            fits.push((right, fit.clone()));
        }
        let most_right = fits.iter().map(|(right, _)| *right).max().unwrap();
        let best = &fits.iter().find(|(right, _)| *right == most_right).unwrap().1;
        let expected: Vec<f64> = best.weights.iter().map(|weight| weight.abs()).collect();
        near("l1", &found[layer * NEURONS..][..NEURONS], &expected, |_| 1e-4);
        assert!(expected.iter().any(|&weight| weight > 0.0));
    }
    let mean: Average = Average::new(&model, Pool::Mean).unwrap();
    let error = l1(&model, [&train, &dev], &mean, 2, folder.path(), &options).err().unwrap().to_string();
    assert!(error.contains("ranking l1"), "{error}");
}

#[test]
fn any_threads_batches_and_shards_give_the_same_bytes() {
    let (model, texts) = (model(), texts(37, 8));
    let of = |texts: &[skn_data::Encoded], threads, token_budget, shard: Option<&str>| {
        let workers = Workers::new(threads).unwrap();
        let options = PassOptions { token_budget, ..PassOptions::new(&workers) };
        let train = averages(&model, &self::texts(20, 2), &[ProbeType::Acc], &options).unwrap();
        let all = [Ranking::Predictivity, Ranking::Auc, Ranking::Correlation, Ranking::Lape, Ranking::Cett];
        let rank = |ranking| -> Box<dyn Statistic> {
            Box::new(Rank::new(ranking, &model, &train[&Pool::Position], 2, 0).unwrap())
        };
        let taken = collect("ranking", &model, texts, 2, all.map(rank).into(), &options).unwrap();
        let metadata: Metadata =
            shard.map(|shard| (key::SHARD.to_owned(), shard.to_owned())).into_iter().collect();
        let bundle = |of: Box<dyn Statistic>| of.into_record().unwrap().to_bundle(&metadata).unwrap();
        taken.into_iter().map(bundle).collect::<Vec<_>>()
    };
    let whole = of(&texts, 1, 4096, None);
    assert!(whole == of(&texts, 3, 40, None));
    let parts: Vec<_> =
        (0..3).map(|index| of(shard(&texts, index, 3).unwrap(), 2, 64, Some("i/3"))).collect();
    for (which, whole) in whole.iter().enumerate() {
        let mut records =
            parts.iter().map(|part| Kinds::default().read(&through_a_file(&part[which])).unwrap());
        let mut merged = records.next().unwrap();
        records.for_each(|record| merged.merge(record.as_ref()).unwrap());
        assert!(&merged.to_bundle(&Metadata::new()).unwrap() == whole, "{which}");
    }
}

#[test]
fn parts_are_what_their_statistic_made() {
    let model = model();
    let average: Box<dyn Statistic> = Box::new(Average::new(&model, Pool::Mean).unwrap());
    let error = part::<Rank>(average).err().unwrap().to_string();
    assert!(error.contains("part of a statistic"), "{error}");
    let none = Tensor::zeros((1, NEURONS), candle_core::DType::F32, &Device::Cpu).unwrap();
    assert!(model.ffn_output(LAYERS, &none).unwrap_err().to_string().contains("below 2"));
}
