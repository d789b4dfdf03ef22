//! Whether chances are what they say, on data sets whose labels have nothing to do with the neurons, and on one where three do.

use std::num::NonZeroUsize;

use skn_random::{Key, Purpose};

use crate::error::CountsError;
use crate::fire_bits::FireBits;
use crate::fire_bits::tests::{counted, fire_file};
use crate::null::NullOfBest;
use crate::performance::Performance;
use crate::score_rule::ScoreRule;

const SETS: usize = 200;
const DIMS: [usize; 3] = [2, 2, 60];
const TEXTS: usize = 120;
const DRAWS: usize = 199;

/// Bits of neurons that fire more or less often, half of them together with others.
fn random_bits(seed: u64) -> Vec<bool> {
    let mut rng = Key::new(seed, Purpose::Noise).rng();
    let shared: Vec<f64> = (0..TEXTS).map(|_| rng.uniform()).collect();
    let neurons: usize = DIMS.iter().product();
    let mut bits = Vec::with_capacity(neurons * TEXTS);
    for neuron in 0..neurons {
        let rate = 0.1 + 0.8 * rng.uniform();
        bits.extend(shared.iter().map(|shared| {
            let own = rng.uniform();
            if neuron % 2 == 0 { (own + shared) / 2.0 < rate } else { own < rate }
        }));
    }
    bits
}

fn random_labels(seed: u64, positives: usize) -> Vec<usize> {
    let mut labels: Vec<usize> = (0..TEXTS).map(|text| usize::from(text < positives)).collect();
    Key::new(seed, Purpose::Control).rng().shuffle(&mut labels);
    labels
}

/// The chance that the best neuron is given, and the same with ties broken by a draw.
fn of_the_best(bits: &FireBits, counts: &Performance, score: ScoreRule, seed: u64) -> (f64, f64) {
    let draws = NonZeroUsize::new(DRAWS).unwrap();
    let null =
        NullOfBest::draw(bits, counts, score, draws, seed, NonZeroUsize::MIN, || Ok::<_, CountsError>(()));
    let null = null.unwrap();
    let p = null.p_max().into_iter().flatten().fold(1.0, f64::min);
    let best = null.measured().iter().flatten().max().unwrap();
    let above = null.all().iter().filter(|draw| *draw > best).count() as f64;
    let same = null.all().iter().filter(|draw| *draw == best).count() as f64 + 1.0;
    let broken = Key::new(seed, Purpose::Bootstrap).rng().uniform();
    (p, (above + broken * same) / (DRAWS as f64 + 1.0))
}

#[test]
fn chances_under_random_labels_are_what_they_say() {
    for (score, positives) in [(ScoreRule::Accuracy, 60), (ScoreRule::Balanced, 32)] {
        let (mut chances, mut broken, mut found) = (Vec::new(), Vec::new(), 0);
        for seed in 0..SETS as u64 {
            let (fires, labels) = (random_bits(seed), random_labels(seed, positives));
            let place = |layer: usize, position: usize, neuron: usize| {
                (layer * DIMS[1] + position) * DIMS[2] + neuron
            };
            let fires = |layer: usize, position: usize, neuron: usize, text: usize| {
                fires[place(layer, position, neuron) * TEXTS + text]
            };
            let counts = counted(DIMS, 2, &labels, &fires);
            let bits = FireBits::read(fire_file(DIMS, &labels, &fires), &counts).unwrap();
            let (p, uniform) = of_the_best(&bits, &counts, score, seed);
            chances.push(p);
            broken.push(uniform);
            let tested = counts.tested(None).unwrap();
            found += usize::from(tested.neurons.iter().flatten().any(|neuron| neuron.q <= 0.05));
        }
        for level in [0.01, 0.05, 0.1, 0.2] {
            let share = chances.iter().filter(|&&p| p <= level).count() as f64 / SETS as f64;
            let error = (level * (1.0 - level) / SETS as f64).sqrt();
            assert!(
                share <= level + 3.0 * error,
                "{score}: {share} of data sets have p_max of {level} or less"
            );
        }
        // Kolmogorov and Smirnov: the largest distance from the uniform distribution, at 0.001.
        broken.sort_by(f64::total_cmp);
        let far = broken.iter().enumerate().map(|(place, p)| {
            let [low, high] = [place, place + 1].map(|count| count as f64 / SETS as f64);
            (p - low).max(high - p)
        });
        let far = far.fold(0.0, f64::max);
        assert!(far < 1.95 / (SETS as f64).sqrt(), "{score}: {far}");
        assert!(found <= 19, "{score}: a discovery at 0.05 in {found} of {SETS} data sets");
    }
}

#[test]
fn three_neurons_that_know_the_label_are_found_and_no_other() {
    let (dims, known) = ([2, 1, 1000], [(0, 17), (1, 17), (1, 900)]);
    let labels = random_labels(5, 60);
    let mut rng = Key::new(5, Purpose::Noise).rng();
    let mut fires = vec![false; 2 * 1000 * TEXTS];
    for (place, fire) in fires.iter_mut().enumerate() {
        let (neuron, text) = (place / TEXTS, place % TEXTS);
        let knows = known.contains(&(neuron / 1000, neuron % 1000));
        // Those that know it are right for nine of ten texts.
        *fire = if knows { (labels[text] == 1) == (rng.uniform() < 0.9) } else { rng.uniform() < 0.4 };
    }
    let fires =
        |layer: usize, _: usize, neuron: usize, text: usize| fires[(layer * 1000 + neuron) * TEXTS + text];
    let counts = counted(dims, 2, &labels, &fires);
    let tested = counts.tested(None).unwrap();
    let found: Vec<(usize, usize)> = (0..2000)
        .filter(|&place| tested.neurons[place].unwrap().q <= 0.05)
        .map(|place| (place / 1000, place % 1000))
        .collect();
    assert_eq!(found, known);
    let bits = FireBits::read(fire_file(dims, &labels, &fires), &counts).unwrap();
    let (draws, threads) = (NonZeroUsize::new(DRAWS).unwrap(), NonZeroUsize::MIN);
    let null =
        NullOfBest::draw(&bits, &counts, ScoreRule::Accuracy, draws, 1, threads, || Ok::<_, CountsError>(()));
    let chances = null.unwrap().p_max();
    let sure: Vec<usize> = (0..2000).filter(|&place| chances[place].unwrap() <= 0.005).collect();
    assert_eq!(sure, [17, 1017, 1900]);
}
