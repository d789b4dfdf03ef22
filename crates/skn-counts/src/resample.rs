use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use skn_random::{Key, Purpose};

use crate::bit_count::{LANES, Tile};
use crate::class_score::ClassScore;
use crate::error::Result;
use crate::fire_bits::FireBits;
use crate::performance::Performance;
use crate::score_rule::ScoreRule;

/// How far the neurons of one layer are from guessing where texts are drawn anew, with replacement within each class (Efron
/// 1979): classes keep their size, so that a score means the same.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resampled {
    /// For each class that can be told, each draw, and each neuron the largest distance over positions, `[C][draws][F]`, as
    /// parts of one denominator in a class.
    pub parts: Vec<Vec<Vec<u64>>>,
    /// Which neurons of the layer are dead at every position, `[F]`.
    pub dead: Vec<bool>,
}

impl FireBits {
    /// Draws texts anew for some draws of a layer, keyed by `seed` and the number of the draw.
    ///
    /// # Errors
    /// If bits can't be read, or no class can be told.
    pub fn resample(
        &self,
        counts: &Performance,
        score: ScoreRule,
        layer: usize,
        draws: Range<usize>,
        seed: u64,
        threads: NonZeroUsize,
    ) -> Result<Resampled> {
        let rules = ClassScore::all(self.labels(), self.classes(), score)?;
        let drawn = Drawn::new(self, draws, seed);
        let width = self.widths()[layer];
        let mut found = Resampled {
            parts: vec![vec![vec![0; width]; drawn.draws]; rules.len()],
            dead: vec![true; width],
        };
        for position in 0..self.positions() {
            let rows = self.position(layer, position)?;
            let first = (layer * self.positions() + position) * self.neurons();
            let alive: Vec<usize> =
                (0..rows.neurons()).filter(|&index| !counts.is_dead(first + index)).collect();
            alive.iter().for_each(|&index| found.dead[index] = false);
            let tiles: Vec<&[usize]> = alive.chunks(LANES).collect();
            let (next, total) = (AtomicUsize::new(0), Mutex::new(&mut found.parts));
            let work = || {
                while let Some(neurons) = tiles.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let of_tile = drawn.count(&Tile::new(&rows, neurons), &rules);
                    let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    for (all, own) in total.iter_mut().zip(&of_tile) {
                        for (all, own) in all.iter_mut().zip(own) {
                            neurons
                                .iter()
                                .zip(own)
                                .for_each(|(&index, &part)| all[index] = part.max(all[index]));
                        }
                    }
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
        }
        Ok(found)
    }
}

/// How often each text was drawn, as bits: plane `b` has the texts whose number has bit `b`.
struct Drawn {
    draws: usize,
    classes: usize,
    planes: usize,
    words: usize,
    /// `[draws][C][planes][words]`: of the texts of each class.
    masks: Vec<u64>,
}

impl Drawn {
    fn new(bits: &FireBits, draws: Range<usize>, seed: u64) -> Self {
        let (classes, words) = (bits.classes(), bits.texts().div_ceil(64));
        let mut members = vec![Vec::new(); classes];
        bits.labels().iter().enumerate().for_each(|(text, &label)| members[label].push(text));
        let count = |draw: usize| {
            let mut rng = Key::new(seed, Purpose::Bootstrap).step(draw as u64).rng();
            let mut times = vec![0u32; bits.texts()];
            for members in &members {
                for _ in members {
                    times[members[rng.below(members.len())]] += 1;
                }
            }
            times
        };
        let times: Vec<Vec<u32>> = draws.map(count).collect();
        let most = times.iter().flatten().copied().max().unwrap_or(0);
        let planes = (u32::BITS - most.leading_zeros()).max(1) as usize;
        let mut masks = vec![0u64; times.len() * classes * planes * words];
        for (draw, times) in times.iter().enumerate() {
            for (text, (&label, &times)) in bits.labels().iter().zip(times).enumerate() {
                for plane in (0..planes).filter(|plane| times >> plane & 1 == 1) {
                    let mask = (draw * classes + label) * planes + plane;
                    masks[mask * words + text / 64] |= 1 << (text % 64);
                }
            }
        }
        Self { draws: times.len(), classes, planes, words, masks }
    }

    /// For each rule and draw the distances of a tile's neurons.
    fn count(&self, tile: &Tile, rules: &[ClassScore]) -> Vec<Vec<[u64; LANES]>> {
        let mut parts = vec![vec![[0; LANES]; self.draws]; rules.len()];
        let mut hits = vec![[0u64; LANES]; self.classes];
        let mut number = 0;
        tile.each(self.masks.chunks_exact(self.words), |sums| {
            let (plane, class) = (number % self.planes, number / self.planes % self.classes);
            let of_class = &mut hits[class];
            of_class.iter_mut().zip(sums).for_each(|(hits, sum)| *hits += sum << plane);
            number += 1;
            if number % (self.planes * self.classes) == 0 {
                let draw = number / (self.planes * self.classes) - 1;
                let mut fires = [0u64; LANES];
                for of_class in &hits {
                    fires.iter_mut().zip(of_class).for_each(|(fires, hits)| *fires += hits);
                }
                for (rule, parts) in rules.iter().zip(&mut parts) {
                    for ((part, &hits), &fires) in parts[draw].iter_mut().zip(&hits[rule.class]).zip(&fires) {
                        *part = rule.part(hits, fires);
                    }
                }
                hits.iter_mut().for_each(|hits| *hits = [0; LANES]);
            }
        });
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fire_bits::tests::{counted, fire_file};

    #[test]
    fn draws_are_counted_text_by_text() {
        for (classes, score) in [(2, ScoreRule::Accuracy), (2, ScoreRule::Balanced), (3, ScoreRule::Balanced)]
        {
            let labels: Vec<usize> = (0..90).map(|text| (text * 5 / 2) % classes).collect();
            let fires = |layer: usize, position: usize, neuron: usize, text: usize| {
                (neuron * 31 + text * (neuron % 7 + 2) + layer + 2 * position) % 9 < 4
            };
            let dims = [2, 2, 40];
            let mut dead = vec![false; 160];
            dead[82] = true; // layer 1, position 0, neuron 2
            dead[123] = true; // .. position 1, neuron 3
            dead[83] = true; // .. position 0, neuron 3
            let counts = counted(dims, classes, &labels, &fires).with_dead(dead).unwrap();
            let bits = FireBits::read(fire_file(dims, &labels, &fires), &counts).unwrap();
            let threads = [1, 3].map(|threads| NonZeroUsize::new(threads).unwrap());
            let found = bits.resample(&counts, score, 1, 2..6, 9, threads[0]).unwrap();
            assert_eq!(found, bits.resample(&counts, score, 1, 2..6, 9, threads[1]).unwrap());
            assert_eq!(found.dead.iter().filter(|&&dead| dead).count(), 1);
            assert!(found.dead[3]);
            let rules = ClassScore::all(&labels, classes, score).unwrap();
            for draw in 2..6u64 {
                let mut rng = Key::new(9, Purpose::Bootstrap).step(draw).rng();
                let mut texts = Vec::new();
                for class in 0..classes {
                    let members: Vec<usize> = (0..90).filter(|&text| labels[text] == class).collect();
                    texts.extend(members.iter().map(|_| members[rng.below(members.len())]));
                }
                for (rule, parts) in rules.iter().zip(&found.parts) {
                    for (neuron, &found) in parts[draw as usize - 2].iter().enumerate() {
                        let alive = (0..2).filter(|position| match neuron {
                            2 => *position == 1,
                            3 => false,
                            _ => true,
                        });
                        let part = |position: usize| {
                            let firing = texts.iter().filter(|&&text| fires(1, position, neuron, text));
                            let hits =
                                firing.clone().filter(|&&text| labels[text] == rule.class).count() as u64;
                            rule.part(hits, firing.count() as u64)
                        };
                        let expected = alive.map(part).max().unwrap_or(0);
                        assert_eq!(found, expected, "{classes} {score} {draw} {neuron}");
                    }
                }
            }
        }
    }
}
