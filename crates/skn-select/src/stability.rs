use std::num::NonZeroUsize;
use std::ops::Range;

use skn_counts::{FireBits, Performance, ScoreRule};

use crate::error::{Result, SelectError};
use crate::ranking::{Ranking, take_turns};
use crate::share::Share;

/// How many numbers of a layer's draws are held at once.
const HELD: usize = 1 << 22;

/// How far the neurons of a share stay the same when texts are drawn anew: the Jaccard index of those that are selected by all
/// texts and those that a draw selects, over all layers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stability {
    /// Share of each layer's neurons.
    pub share: Share,
    /// The mean over draws.
    pub mean: f64,
    /// 95 % of the draws are between these.
    pub interval: [f64; 2],
}

impl Ranking {
    /// Ranks the neurons anew by texts that are drawn with replacement within each class, keyed by `seed`, and compares what
    /// is selected. Shares that select nothing or all have no line. `go_on` is asked before each layer's draws.
    ///
    /// # Errors
    /// If bits can't be read, no class can be told, or `go_on` ends it.
    #[allow(clippy::too_many_arguments, reason = "what is drawn from, how, and what is compared")]
    pub fn stability<E: From<SelectError>>(
        &self,
        bits: &FireBits,
        counts: &Performance,
        score: ScoreRule,
        shares: &[Share],
        draws: NonZeroUsize,
        seed: u64,
        threads: NonZeroUsize,
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<Vec<Stability>, E> {
        // Selected by all and by the draw, and by both, for each share and draw.
        let mut both = vec![vec![0u64; draws.get()]; shares.len()];
        let mut selected = vec![0u64; shares.len()];
        for (layer, order) in self.order().iter().enumerate() {
            let counts_of = |share: &Share| share.count(order.len());
            shares
                .iter()
                .zip(&mut selected)
                .for_each(|(share, selected)| *selected += counts_of(share) as u64);
            for some in batches(draws.get(), at_once(order.len() * bits.classes())) {
                go_on()?;
                let found = bits.resample(counts, score, layer, some.clone(), seed, threads);
                let found = found.map_err(SelectError::from)?;
                for (place, draw) in some.enumerate() {
                    let orders = found.parts.iter().map(|parts| ranked(&parts[place], &found.dead));
                    let redone = take_turns(orders.collect(), layer, order.len());
                    for (share, both) in shares.iter().zip(&mut both) {
                        both[draw] += in_common(&order[..counts_of(share)], &redone[..counts_of(share)]);
                    }
                }
            }
        }
        let neurons: u64 = self.order().iter().map(|order| order.len() as u64).sum();
        let told = shares
            .iter()
            .zip(&both)
            .zip(selected)
            .filter(|(_, selected)| 0 < *selected && *selected < neurons);
        Ok(told.map(|((share, both), selected)| summary(*share, both, selected)).collect())
    }
}

/// How many draws are held at once, each of so many numbers: one at least.
fn at_once(numbers: usize) -> usize {
    (HELD / numbers.max(1)).max(1)
}

/// All draws, in parts of so many.
fn batches(draws: usize, at_once: usize) -> impl Iterator<Item = Range<usize>> {
    (0..draws).step_by(at_once).map(move |first| first..draws.min(first + at_once))
}

/// A class's neurons of a layer that are alive, best first, equals by index.
fn ranked(parts: &[u64], dead: &[bool]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..parts.len() as u32).filter(|&neuron| !dead[neuron as usize]).collect();
    order.sort_by_key(|&neuron| std::cmp::Reverse(parts[neuron as usize]));
    order
}

/// How many neurons two selections of a layer have in common.
fn in_common(first: &[u32], second: &[u32]) -> u64 {
    let mut sorted = first.to_vec();
    sorted.sort_unstable();
    second.iter().filter(|neuron| sorted.binary_search(neuron).is_ok()).count() as u64
}

/// The Jaccard index of each draw from what both selections have in common, each being of `selected` neurons.
fn summary(share: Share, both: &[u64], selected: u64) -> Stability {
    let index = |&both: &u64| both as f64 / (2 * selected - both) as f64;
    let mut all: Vec<f64> = both.iter().map(index).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
    Stability { share, mean, interval: [at(0.025), at(0.975)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_made_some_at_a_time() {
        assert_eq!(batches(7, 3).collect::<Vec<_>>(), [0..3, 3..6, 6..7]);
        assert_eq!(batches(6, 3).collect::<Vec<_>>(), [0..3, 3..6]);
        assert!(batches(1, 9).eq(std::iter::once(0..1)));
        // 3072 neurons of two classes: 4 million numbers are 682 draws.
        assert_eq!([0, 1, 6144, 1 << 23].map(at_once), [4_194_304, 4_194_304, 682, 1]);
    }

    #[test]
    fn jaccard_by_hand() {
        assert_eq!(in_common(&[3, 1, 2], &[2, 4, 3]), 2);
        // Two neurons each: both, one and none in common.
        let found = summary(Share::of_percent(10), &[2, 1, 0], 2);
        assert_eq!(found.mean, (1.0 + 1.0 / 3.0) / 3.0);
        assert_eq!(found.interval, [0.0, 1.0]);
    }
}
