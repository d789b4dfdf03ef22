use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use skn_random::{Key, Purpose};

use crate::bit_count::{LANES, Tile};
use crate::class_score::ClassScore;
use crate::error::{CountsError, Result};
use crate::fire_bits::{FireBits, masks};
use crate::fraction::Fraction;
use crate::performance::Performance;
use crate::score_rule::ScoreRule;

/// What the best of all neurons scores if labels are shuffled: the null distribution of the maximum over neurons, positions and
/// classes, thresholds staying those of train (Westfall and Young 1993). The best of many is far from guessing by chance alone;
/// this says how far.
#[derive(Clone, Debug, PartialEq)]
pub struct NullOfBest {
    /// For each layer the best of each draw, `[L][draws]`.
    layers: Vec<Vec<Fraction>>,
    /// The best of each draw over all layers.
    all: Vec<Fraction>,
    /// How far each neuron is from guessing under the true labels, at its best position and class, `[L, F]`; nothing of one that
    /// is dead everywhere or padding.
    measured: Vec<Option<Fraction>>,
}

/// The sums of one layer.
#[derive(Clone)]
struct OfLayer {
    /// For each class the largest part of each draw.
    most: Vec<Vec<u64>>,
    measured: Vec<Option<Fraction>>,
}

impl NullOfBest {
    /// Shuffles the labels `draws` times, keyed by `seed`, and counts each time how far the best neuron of each layer is from
    /// guessing. Neurons that `counts` say are dead are left out. `go_on` is asked before each position of a layer.
    ///
    /// # Errors
    /// If there are no draws, bits can't be read, no class can be told, or `go_on` ends it.
    pub fn draw<E: From<CountsError>>(
        bits: &FireBits,
        counts: &Performance,
        score: ScoreRule,
        draws: NonZeroUsize,
        seed: u64,
        threads: NonZeroUsize,
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let rules = ClassScore::all(bits.labels(), bits.classes(), score)?;
        let own = masks(bits.labels(), bits.classes());
        let shuffled = Shuffled::new(bits, &rules, draws, seed);
        let (mut layers, mut measured) = (Vec::new(), Vec::new());
        for layer in 0..bits.layers() {
            let mut sum = OfLayer {
                most: vec![vec![0; draws.get()]; rules.len()],
                measured: vec![None; bits.neurons()],
            };
            for position in 0..bits.positions() {
                go_on()?;
                let work =
                    Position { bits, counts, rules: &rules, own: &own, shuffled: &shuffled, layer, position };
                work.add(&mut sum, threads)?;
            }
            let best = |draw: usize| {
                let of_class = rules.iter().zip(&sum.most).map(|(rule, most)| rule.fraction(most[draw]));
                of_class.max().unwrap_or(Fraction::ZERO)
            };
            layers.push((0..draws.get()).map(best).collect::<Vec<_>>());
            measured.append(&mut sum.measured);
        }
        let of_draw = |draw: usize| layers.iter().map(|layer| layer[draw]).max().unwrap_or(Fraction::ZERO);
        let all = (0..draws.get()).map(of_draw).collect();
        Ok(Self { layers, all, measured })
    }

    /// How many times labels were shuffled.
    pub fn draws(&self) -> usize {
        self.all.len()
    }

    /// For each draw the best of all layers, in the order of draws.
    pub fn all(&self) -> &[Fraction] {
        &self.all
    }

    /// For each layer the best of each draw, `[L][draws]`.
    pub fn layers(&self) -> &[Vec<Fraction>] {
        &self.layers
    }

    /// How far each neuron is from guessing under the true labels of the same texts, `[L, F]`; nothing where it is dead at every
    /// position, or padding.
    pub fn measured(&self) -> &[Option<Fraction>] {
        &self.measured
    }

    /// For each neuron the chance that the best of all is as far from guessing under shuffled labels, `[L, F]`:
    /// `(1 + draws that reach it) / (1 + draws)`, the measured labels counting as a draw.
    pub fn p_max(&self) -> Vec<Option<f64>> {
        let mut sorted = self.all.clone();
        sorted.sort_unstable();
        let p = |found: Fraction| {
            let below = sorted.partition_point(|draw| *draw < found);
            (1 + sorted.len() - below) as f64 / (1 + sorted.len()) as f64
        };
        self.measured.iter().map(|found| found.map(p)).collect()
    }
}

/// The masks of each class under each shuffle.
struct Shuffled {
    /// For each rule the masks of all draws, one after the other.
    masks: Vec<Vec<u64>>,
    words: usize,
}

impl Shuffled {
    fn new(bits: &FireBits, rules: &[ClassScore], draws: NonZeroUsize, seed: u64) -> Self {
        let words = bits.texts().div_ceil(64);
        let mut all = vec![Vec::with_capacity(draws.get() * words); rules.len()];
        for draw in 0..draws.get() {
            let mut labels = bits.labels().to_vec();
            Key::new(seed, Purpose::Permutation).step(draw as u64).rng().shuffle(&mut labels);
            let masks = masks(&labels, bits.classes());
            all.iter_mut().zip(rules).for_each(|(all, rule)| all.extend(&masks[rule.class]));
        }
        Self { masks: all, words }
    }
}

/// The neurons of a layer at one position.
struct Position<'a> {
    bits: &'a FireBits,
    counts: &'a Performance,
    rules: &'a [ClassScore],
    own: &'a [Vec<u64>],
    shuffled: &'a Shuffled,
    layer: usize,
    position: usize,
}

impl Position<'_> {
    /// Adds what its neurons come to. Threads share the tiles; a maximum is the same in whatever order.
    fn add(&self, sum: &mut OfLayer, threads: NonZeroUsize) -> Result<()> {
        let rows = self.bits.position(self.layer, self.position)?;
        let first = (self.layer * self.bits.positions() + self.position) * self.bits.neurons();
        let alive: Vec<usize> =
            (0..rows.neurons()).filter(|&index| !self.counts.is_dead(first + index)).collect();
        let tiles: Vec<&[usize]> = alive.chunks(LANES).collect();
        let (next, total) = (AtomicUsize::new(0), Mutex::new(sum));
        let work = || {
            let mut most: Vec<Vec<u64>> =
                self.shuffled.masks.iter().map(|masks| vec![0; masks.len() / self.shuffled.words]).collect();
            let mut measured = Vec::new();
            while let Some(neurons) = tiles.get(next.fetch_add(1, Ordering::Relaxed)) {
                let tile = Tile::new(&rows, neurons);
                measured.extend(self.of_tile(&tile, neurons, &mut most));
            }
            let mut sum = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (all, own) in sum.most.iter_mut().zip(most) {
                all.iter_mut().zip(own).for_each(|(all, own)| *all = own.max(*all));
            }
            for (neuron, found) in measured {
                sum.measured[neuron] = sum.measured[neuron].max(Some(found));
            }
        };
        thread::scope(|scope| {
            let more = threads.get().min(tiles.len()).saturating_sub(1);
            // Where the system has no thread left, the others do its share.
            let helpers: Vec<_> =
                (0..more).filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
            work();
            drop(helpers);
        });
        Ok(())
    }

    /// The measured distances of a tile's neurons; the largest of each draw go into `most`.
    fn of_tile(&self, tile: &Tile, neurons: &[usize], most: &mut [Vec<u64>]) -> Vec<(usize, Fraction)> {
        let mut fires = [0u64; LANES];
        let every: Vec<u64> = (0..self.shuffled.words).map(|_| !0).collect();
        tile.each(std::iter::once(&every[..]), |sums| fires = *sums);
        let mut best = vec![Fraction::ZERO; neurons.len()];
        for ((rule, most), masks) in self.rules.iter().zip(most).zip(&self.shuffled.masks) {
            tile.each(std::iter::once(&self.own[rule.class][..]), |hits| {
                for ((best, &hits), &fires) in best.iter_mut().zip(hits).zip(&fires) {
                    *best = rule.fraction(rule.part(hits, fires)).max(*best);
                }
            });
            // A lane without a neuron comes to 0 by these.
            let (factor, mut bases) = (rule.factor(), [0i64; LANES]);
            bases.iter_mut().zip(&fires[..neurons.len()]).for_each(|(base, &fires)| *base = rule.base(fires));
            let mut draws = most.iter_mut();
            tile.each(masks.chunks_exact(self.shuffled.words), |hits| {
                let parts =
                    hits.iter().zip(&bases).map(|(&hits, base)| (factor * hits as i64 - base).unsigned_abs());
                let part = parts.fold(0, u64::max);
                if let Some(most) = draws.next() {
                    *most = part.max(*most);
                }
            });
        }
        neurons.iter().copied().zip(best).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fire_bits::tests::{counted, fire_file};

    const THREADS: [usize; 2] = [1, 3];

    fn draw(
        bits: &FireBits,
        counts: &Performance,
        score: ScoreRule,
        draws: usize,
        threads: usize,
    ) -> NullOfBest {
        let [draws, threads] = [draws, threads].map(|count| NonZeroUsize::new(count).unwrap());
        NullOfBest::draw(bits, counts, score, draws, 7, threads, || Ok::<(), CountsError>(())).unwrap()
    }

    /// The same, a text at a time.
    fn slow(
        fires: &dyn Fn(usize, usize) -> bool,
        alive: &[usize],
        labels: &[usize],
        class: usize,
        balanced: bool,
    ) -> Fraction {
        let (n, of) = (labels.len() as u64, labels.iter().filter(|&&label| label == class).count() as u64);
        let part = |&neuron: &usize| {
            let (mut hits, mut alarms) = (0u64, 0u64);
            for (_, &label) in labels.iter().enumerate().filter(|(text, _)| fires(neuron, *text)) {
                *(if label == class { &mut hits } else { &mut alarms }) += 1;
            }
            let right = hits + (n - of) - alarms;
            if balanced {
                Fraction { part: (hits * (n - of)).abs_diff(alarms * of), whole: of * (n - of) }
            } else {
                Fraction { part: (2 * right).abs_diff(n), whole: n }
            }
        };
        alive.iter().map(part).max().unwrap()
    }

    #[test]
    fn draws_are_the_slow_ones() {
        for (classes, score) in [(2, ScoreRule::Accuracy), (2, ScoreRule::Balanced), (3, ScoreRule::Balanced)]
        {
            let (texts, neurons) = (131, 70);
            let labels: Vec<usize> = (0..texts).map(|text| (text * text / 3) % classes).collect();
            let fires = |layer: usize, position: usize, neuron: usize, text: usize| {
                (neuron * 37 + text * (neuron % 11 + 3) + layer * 5 + position) % 7 < 3
            };
            let mut dead = vec![false; 2 * 2 * neurons];
            dead[5] = true;
            dead[neurons + 5] = true;
            // Where it is read second only.
            dead[neurons + 12] = true;
            dead[3 * neurons + 9] = true;
            let alive = |layer: usize, position: usize| -> Vec<usize> {
                let is_dead = |neuron: usize| match (layer, position) {
                    (0, 0) => neuron == 5,
                    (0, _) => [5, 12].contains(&neuron),
                    (_, 0) => false,
                    _ => neuron == 9,
                };
                (0..neurons).filter(|&neuron| !is_dead(neuron)).collect()
            };
            let counts = counted([2, 2, neurons], classes, &labels, &fires).with_dead(dead).unwrap();
            let bits = FireBits::read(fire_file([2, 2, neurons], &labels, &fires), &counts).unwrap();
            let null = draw(&bits, &counts, score, 20, THREADS[0]);
            assert_eq!(null, draw(&bits, &counts, score, 20, THREADS[1]), "whatever the threads");
            let ruled = if classes == 2 { 1..2 } else { 0..classes };
            for number in 0..20 {
                let mut shuffled = labels.clone();
                Key::new(7, Purpose::Permutation).step(number).rng().shuffle(&mut shuffled);
                for layer in 0..2 {
                    let best = ruled.clone().flat_map(|class| {
                        let (shuffled, alive) = (&shuffled, &alive);
                        (0..2).map(move |position| {
                            let fires = |neuron: usize, text: usize| fires(layer, position, neuron, text);
                            slow(
                                &fires,
                                &alive(layer, position),
                                shuffled,
                                class,
                                score == ScoreRule::Balanced,
                            )
                        })
                    });
                    assert_eq!(
                        null.layers()[layer][number as usize],
                        best.max().unwrap(),
                        "{classes} {score} {number}"
                    );
                }
                let all = null.layers().iter().map(|layer| layer[number as usize]).max().unwrap();
                assert_eq!(null.all()[number as usize], all);
            }
            for (place, &measured) in null.measured().iter().enumerate() {
                let (layer, neuron) = (place / neurons, place % neurons);
                let alive = (0..2).filter(|&position| alive(layer, position).contains(&neuron));
                let parts = alive.flat_map(|position| {
                    let fires = move |neuron: usize, text: usize| fires(layer, position, neuron, text);
                    let labels = &labels;
                    ruled.clone().map(move |class| {
                        slow(&fires, &[neuron], labels, class, score == ScoreRule::Balanced)
                    })
                });
                assert_eq!(measured, parts.max(), "{classes} {score} {place}");
            }
            assert_eq!(null.measured()[5], None, "dead");
            // What is measured is what the counts say.
            let measured = null.measured().iter().flatten().max().unwrap().predictivity();
            assert_eq!(measured, counts.ranked(score).unwrap()[0].predictivity);
            let p = null.p_max();
            assert_eq!(p[5], None);
            assert!(p.iter().flatten().all(|p| (1.0 / 21.0..=1.0).contains(p)));
        }
    }

    #[test]
    fn a_neuron_that_knows_the_label_is_reached_by_no_draw() {
        let labels: Vec<usize> = (0..200).map(|text| text % 2).collect();
        let fires = |_: usize, _: usize, neuron: usize, text: usize| match neuron {
            3 => text.is_multiple_of(2),
            other => (text * 7919 + other * 104_729) % 13 < 6,
        };
        let counts = counted([1, 1, 40], 2, &labels, &fires);
        let bits = FireBits::read(fire_file([1, 1, 40], &labels, &fires), &counts).unwrap();
        let null = draw(&bits, &counts, ScoreRule::Accuracy, 99, 2);
        assert_eq!(null.p_max()[3], Some(0.01));
        assert_eq!(null.measured()[3].unwrap().predictivity(), 1.0);
        assert!(null.all().iter().all(|best| best.predictivity() < 0.8));
    }
}
