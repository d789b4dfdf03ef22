//! Gradients to neurons against finite differences of the whole model.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};
use skn_data::Encoded;
use skn_model::{Hook, NeuronSite, Reads, Rows, Site};
use skn_probing::{
    Average, BatchTexts, Metadata, PassOptions, Pool, ProbeType, Rank, Ranking, Record, Result, Row, Silent,
    SlopeOf, Statistic, Workers, averages, collect_gradients, evaluate_with, part,
};

use support::{LAYERS, NEURONS, POSITIONS, model, texts, through_a_file};

/// The tokens that answer, of three classes.
const THREE: [u32; 3] = [6, 7, 8];
/// The same of two.
const WORDS: [u32; 2] = [THREE[0], THREE[1]];

/// Slopes of the loss and of each class's probability, by text, layer and position: of all neurons, with their activations last.
type Kept = BTreeMap<(usize, usize, usize), Vec<Vec<f32>>>;

/// Keeps all slopes.
struct Keep {
    pool: Pool,
    places: Vec<usize>,
    kept: Kept,
    whole: Arc<Mutex<Kept>>,
}

impl Statistic for Keep {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == self.pool
    }

    fn slopes(&self) -> &[SlopeOf] {
        &[SlopeOf::EachClass, SlopeOf::Loss, SlopeOf::OwnClass]
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let (places, whole) = (texts.places.to_vec(), self.whole.clone());
        Ok(Box::new(Self { pool: self.pool, places, kept: Kept::new(), whole }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        let slopes = row.slopes.unwrap();
        assert!(
            slopes.own == Some(slopes.classes[row.label]),
            "of the own class, though other texts have others"
        );
        let all = [&[slopes.loss.unwrap()][..], &slopes.classes, &[row.values]].concat();
        let all = all.into_iter().map(<[f32]>::to_vec).collect();
        self.kept.insert((self.places[row.text], row.layer, row.position), all);
        Ok(())
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        self.whole.lock().unwrap().extend(part::<Self>(of_batch)?.kept);
        Ok(())
    }

    fn file(&self, split: &str) -> String {
        split.into()
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        unreachable!("nothing is written")
    }
}

fn slopes(pool: Pool, steps: Option<usize>, way: (usize, usize)) -> Kept {
    slopes_of((&texts(5, 3), &WORDS), pool, steps, way)
}

fn slopes_of(
    (texts, words): (&[Encoded], &[u32]),
    pool: Pool,
    steps: Option<usize>,
    way: (usize, usize),
) -> Kept {
    let (model, workers, whole) = (model(), Workers::new(way.0).unwrap(), Arc::new(Mutex::new(Kept::new())));
    let options = PassOptions { token_budget: way.1, ..PassOptions::new(&workers) };
    let keep = Keep { pool, places: Vec::new(), kept: Kept::new(), whole: whole.clone() };
    collect_gradients(&model, texts, words, vec![Box::new(keep)], steps, &options).unwrap();
    Arc::into_inner(whole).unwrap().into_inner().unwrap()
}

/// Adds a number to one neuron of a row, after the rows that are read were held at a share of what they were, if so.
struct Push<'a> {
    at: (usize, usize, usize),
    by: f32,
    pool: Pool,
    held: Option<(f32, &'a Kept, usize)>,
}

impl Hook for Push<'_> {
    fn reads(&self, site: Site) -> Reads {
        if site == NeuronSite::Product.at(site.layer()) { Reads::All } else { Reads::Nothing }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
        let mut values = x.to_vec2::<f32>()?;
        let (layer, position, neuron) = self.at;
        for (row, place) in values.iter_mut().zip(rows.place()) {
            let found = match self.pool {
                Pool::Position => place.in_prompt,
                _ => place.is_last_of_text.then_some(0),
            };
            let Some(found) = found else { continue };
            if let Some((share, kept, text)) = self.held {
                row.clone_from(&kept[&(text, site.layer(), found)][3]);
                row.iter_mut().for_each(|value| *value *= share);
            }
            if (site.layer(), found) == (layer, position) {
                row[neuron] += self.by;
            }
        }
        Ok(Tensor::new(values, &Device::Cpu)?)
    }
}

/// Loss and probabilities of a text with a neuron pushed.
fn pushed(text: &Encoded, push: impl Fn() -> Push<'static> + Sync) -> [f64; 3] {
    let workers = Workers::new(1).unwrap();
    let options = PassOptions { progress: &Silent, ..PassOptions::new(&workers) };
    let found = evaluate_with(&model(), std::slice::from_ref(text), &WORDS, &options, |_| push()).unwrap();
    let powers: Vec<f64> = found.logits.iter().map(|&logit| f64::from(logit).exp()).collect();
    let sum: f64 = powers.iter().sum();
    [found.loss, powers[0] / sum, powers[1] / sum]
}

/// By how much a neuron is pushed either way.
const STEP: f32 = 1.0 / 8.0;

#[track_caller]
fn check(found: &[f64; 3], expected: [f64; 3], what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        // Rounding of logits is a millionth of a slope of one.
        let scale = expected.abs().max(1e-3);
        assert!((found - expected).abs() < 0.03 * scale, "{what}: {found}, expected {expected}");
    }
}

#[test]
fn slopes_are_what_pushing_a_neuron_does() {
    let all = texts(5, 3);
    for (pool, positions) in [(Pool::Position, POSITIONS), (Pool::Last, 1)] {
        let kept = slopes(pool, None, (1, 4096));
        assert_eq!(kept.len(), 5 * LAYERS * positions);
        let mut largest = 0f64;
        for (place, (&(text, layer, position), of)) in kept.iter().enumerate() {
            let neuron = place * 7 % NEURONS;
            let either = [STEP, -STEP].map(|by| {
                pushed(&all[text], || Push { at: (layer, position, neuron), by, pool, held: None })
            });
            let slope = |which: usize| (either[0][which] - either[1][which]) / f64::from(2.0 * STEP);
            let expected = [0, 1, 2].map(slope);
            let found = [0, 1, 2].map(|which| f64::from(of[which][neuron]));
            check(
                &found,
                expected,
                &format!("{pool:?} of text {text}, layer {layer}, position {position}, neuron {neuron}"),
            );
            largest = expected.iter().fold(largest, |largest, slope| largest.max(slope.abs()));
        }
        assert!(largest > 1e-3, "a test that can fail has slopes: {largest}");
    }
}

#[test]
fn integrated_slopes_are_means_over_held_neurons() {
    let (all, kept) = (texts(5, 3), slopes(Pool::Position, None, (1, 4096)));
    // Held for as long as the test runs, as hooks are made for each batch.
    let kept: &'static Kept = Box::leak(Box::new(kept));
    let found = slopes(Pool::Position, Some(2), (2, 30));
    for (place, (&(text, layer, position), of)) in found.iter().enumerate().step_by(3) {
        let neuron = place * 5 % NEURONS;
        let mut expected = [0.0; 3];
        for share in [0.5, 1.0] {
            let either = [STEP, -STEP].map(|by| {
                let held = Some((share, kept, text));
                pushed(&all[text], || Push { at: (layer, position, neuron), by, pool: Pool::Position, held })
            });
            for (which, sum) in expected.iter_mut().enumerate() {
                *sum += (either[0][which] - either[1][which]) / f64::from(2.0 * STEP) / 2.0;
            }
        }
        let slopes = [0, 1, 2].map(|which| f64::from(of[which][neuron]));
        check(
            &slopes,
            expected,
            &format!("text {text}, layer {layer}, position {position}, neuron {neuron}"),
        );
        assert_eq!(of[3], kept[&(text, layer, position)][3], "activations are those of the model as it is");
    }
}

/// The scores of rankings by gradients, from the slopes themselves: of two classes, and of three of unlike sizes.
#[test]
fn rankings_add_up_slopes() {
    let three: Vec<Encoded> = texts(7, 3)
        .into_iter()
        .zip([0, 0, 1, 0, 2, 0, 1])
        .map(|(text, label)| Encoded { label, ..text })
        .collect();
    for (all, words) in [(texts(5, 3), &WORDS[..]), (three, &THREE)] {
        for ranking in [Ranking::Taylor, Ranking::Gradient, Ranking::IntegratedGradients] {
            add_up_slopes(ranking, &all, words);
        }
    }
}

#[track_caller]
fn add_up_slopes(ranking: Ranking, all: &[Encoded], words: &[u32]) {
    let (model, classes, workers) = (model(), words.len(), Workers::new(2).unwrap());
    let options = PassOptions { token_budget: 30, ..PassOptions::new(&workers) };
    let average: Average =
        averages(&model, all, &[ProbeType::Acc], &options).unwrap().remove(&Pool::Position).unwrap();
    let kept = slopes_of((all, words), Pool::Position, ranking.steps(), (1, 4096));
    let rank: Box<dyn Statistic> = Box::new(Rank::new(ranking, &model, &average, classes, 0).unwrap());
    let taken =
        collect_gradients(&model, all, words, vec![rank], ranking.steps(), &options).unwrap().remove(0);
    let file = through_a_file(&taken.into_record().unwrap().to_bundle(&Metadata::new()).unwrap());
    let (_, score) = file.f32("score", Some(&[LAYERS, NEURONS])).unwrap();
    let (_, position) = file.i32("position", Some(&[LAYERS, NEURONS])).unwrap();
    for (place, (score, position)) in score.iter().zip(position).enumerate() {
        let (layer, neuron) = (place / NEURONS, place % NEURONS);
        let of_text = |text: usize, position: usize| {
            let (z, slopes) = kept[&(text, layer, position)].split_last().unwrap();
            (z[neuron], slopes.iter().map(|of| of[neuron]).collect::<Vec<f32>>())
        };
        let mean = |position: usize| {
            let texts = all.iter().enumerate().map(|(text, encoded)| {
                let (z, slopes) = of_text(text, position);
                let slope = if ranking == Ranking::Taylor { slopes[0] } else { slopes[1 + encoded.label] };
                f64::from((z * slope).abs())
            });
            texts.sum::<f64>() / all.len() as f64
        };
        // Of two classes that of class 1, else the best of each against the rest.
        let agreement = |position: usize| {
            let of_class = |class: usize| {
                let share = |inside: bool| {
                    let texts = (0..all.len()).filter(|&text| (all[text].label == class) == inside);
                    let right = |&text: &usize| {
                        let (z, slopes) = of_text(text, position);
                        (z * slopes[1 + class] > 0.0) == inside
                    };
                    texts.clone().filter(right).count() as f64 / texts.count() as f64
                };
                let balanced = f64::midpoint(share(true), share(false));
                balanced.max(1.0 - balanced)
            };
            let ruled = if classes == 2 { 1..2 } else { 0..classes };
            ruled.map(of_class).fold(0.0, f64::max)
        };
        let of = |position: usize| match ranking {
            Ranking::Gradient => agreement(position),
            _ => mean(position),
        };
        let best = (0..POSITIONS).map(of).fold(0.0, f64::max);
        let what = format!("{ranking} of {classes} classes, {place}");
        assert!((f64::from(*score) - best).abs() < 1e-6, "{what}: {score}, expected {best}");
        assert!((of(position as usize) - best).abs() < 1e-6, "{what}: position {position}");
    }
    assert!(score.iter().any(|score| *score > 0.0));
}

#[test]
fn threads_and_batches_change_no_slope() {
    assert!(slopes(Pool::Last, None, (1, 4096)) == slopes(Pool::Last, None, (3, 24)));
}

#[test]
fn means_have_no_slope_of_their_own() {
    let (model, workers) = (model(), Workers::new(1).unwrap());
    let average: Box<dyn Statistic> = Box::new(Average::new(&model, Pool::Max).unwrap());
    let options = PassOptions::new(&workers);
    let error = collect_gradients(&model, &texts(2, 1), &WORDS, vec![average], None, &options).err().unwrap();
    assert!(error.to_string().contains("gradients: expected activations of one row"), "{error}");
}

/// A statistic has what it reads, and nothing else.
#[test]
fn a_pass_goes_back_for_what_is_read() {
    struct Only(&'static [SlopeOf], usize);

    impl Statistic for Only {
        fn reads(&self, pool: Pool, _: usize) -> bool {
            pool == Pool::Last
        }

        fn slopes(&self) -> &[SlopeOf] {
            self.0
        }

        fn of_batch(&self, _: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
            Ok(Box::new(Self(self.0, 0)))
        }

        fn take(&mut self, row: &Row<'_>) -> Result<()> {
            let slopes = row.slopes.unwrap();
            assert_eq!(
                [slopes.loss.is_some(), slopes.own.is_some(), !slopes.classes.is_empty()],
                [SlopeOf::Loss, SlopeOf::OwnClass, SlopeOf::EachClass].map(|of| self.0.contains(&of))
            );
            self.1 += 1;
            Ok(())
        }

        fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
            self.1 += part::<Self>(of_batch)?.1;
            Ok(())
        }

        fn file(&self, split: &str) -> String {
            split.into()
        }

        fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
            unreachable!("nothing is written")
        }
    }

    let (model, workers) = (model(), Workers::new(1).unwrap());
    let options = PassOptions::new(&workers);
    let pass = |of: &'static [SlopeOf]| {
        let only: Box<dyn Statistic> = Box::new(Only(of, 0));
        collect_gradients(&model, &texts(3, 1), &WORDS, vec![only], None, &options)
    };
    for of in [&[SlopeOf::Loss][..], &[SlopeOf::OwnClass], &[SlopeOf::EachClass]] {
        let taken = pass(of).unwrap().remove(0);
        assert_eq!(part::<Only>(taken).unwrap().1, 3 * LAYERS);
    }
    let error = pass(&[]).err().unwrap().to_string();
    assert!(error.contains("gradients: expected a statistic that reads them, found none"), "{error}");
    let only: Box<dyn Statistic> = Box::new(Only(&[SlopeOf::Loss], 0));
    let none = collect_gradients(&model, &texts(3, 1), &WORDS, vec![only], Some(0), &options);
    let error = none.err().unwrap().to_string();
    assert!(error.contains("steps of integrated gradients: expected at least 1, found 0"), "{error}");
}
