//! Rankings compared: how far they agree, and what damage the best neurons of each do.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use skn_artifact::{Agreement, RankingComparison, RankingDamage, ShareDamage};
use skn_data::Encoded;
use skn_model::LanguageModel;
use skn_perturb::{Edit, Perturbation, random_control};
use skn_probing::{PassOptions, Ranked, Ranking, evaluate_each};
use skn_random::{Key, Purpose};
use skn_select::Share;
use skn_stats::{jaccard, spearman, student};

use crate::base::Base;
use crate::error::Result;
use crate::score::{LEVEL, Score};

/// Draws of random neurons for each share.
const DRAWS: usize = 10;

/// What is compared.
pub(super) struct Comparison<'a> {
    pub(super) base: &'a Base<'a>,
    pub(super) model: &'a LanguageModel,
    /// Those of test, in a group of processes this one's share.
    pub(super) texts: &'a [Encoded],
    pub(super) pass: &'a PassOptions<'a>,
    /// In the order in which they were asked for: random neurons are none that the first selects.
    pub(super) ranked: &'a [(Ranking, Ranked)],
    /// What neurons are held at, for each layer.
    pub(super) averages: Vec<Vec<f32>>,
    pub(super) shares: &'a [Share],
}

/// For each layer the neurons that are selected.
type Selected = Vec<Vec<u32>>;

impl Comparison<'_> {
    /// All numbers, from one pass over the texts.
    pub(super) fn record(&self) -> Result<RankingComparison> {
        let selected: Vec<Vec<Selected>> = self.ranked.iter().map(|of| self.selected(of)).collect();
        let mut variants = vec![Perturbation::nothing(self.widths())];
        for of_ranking in &selected {
            for neurons in of_ranking {
                variants.push(self.held(neurons)?);
            }
        }
        // As many of each layer, none of them selected by the first ranking.
        for neurons in selected.first().into_iter().flatten() {
            for draw in 0..DRAWS as u64 {
                variants.push(self.held(&random_control(neurons, self.widths(), self.base.seed, draw)?)?);
            }
        }
        let (scores, rows) = self.scores(&variants)?;
        let (unperturbed, scores) = scores.split_at(1);
        let (of_rankings, of_chance) = scores.split_at(selected.len() * self.shares.len());
        let shares = self.shares.len();
        let each = self.ranked.iter().zip(&selected).zip(of_rankings.chunks(shares));
        let rankings = each.map(|((of, selected), scores)| RankingDamage {
            ranking: of.0.name().into(),
            scores: scores.iter().map(|score| score.value).collect(),
            intervals: scores.iter().map(|score| score.interval).collect(),
            unscored: selected.iter().map(|neurons| self.unscored(&of.1, neurons)).collect(),
        });
        let rankings = rankings.collect();
        let random = of_chance.chunks(DRAWS).map(chance).collect::<Result<_>>()?;
        let task = &self.base.task;
        Ok(RankingComparison {
            task: task.name.clone(),
            metric: task.metric.name().into(),
            rows,
            edit: "mean".into(),
            shares: self.shares.iter().map(ToString::to_string).collect(),
            unperturbed: unperturbed[0].value,
            rankings,
            random,
            draws: DRAWS,
            excluded: self.ranked.first().map(|(first, _)| first.name().into()),
            tuning_sha256: Some(self.model.tuning()?.sha256()?),
            agreement: self.agreement(&selected)?,
        })
    }

    fn widths(&self) -> &[usize] {
        &self.model.config().intermediate_sizes
    }

    /// For each share the best of each layer.
    fn selected(&self, (ranking, ranked): &(Ranking, Ranked)) -> Vec<Selected> {
        let (widest, key) = (self.model.config().widest(), unscored_key(self.base.seed, *ranking));
        let of_layer = |(layer, &width): (usize, &usize)| {
            let places = layer * widest..layer * widest + width;
            order(&ranked.score[places.clone()], &ranked.dead[places], key.layer(layer as u32))
        };
        let orders: Selected = self.widths().iter().enumerate().map(of_layer).collect();
        let of_share = |share: &Share| {
            let best = |order: &Vec<u32>| {
                let mut best = order[..share.count(order.len())].to_vec();
                best.sort_unstable();
                best
            };
            orders.iter().map(best).collect()
        };
        self.shares.iter().map(of_share).collect()
    }

    /// How many of these neurons have no score.
    fn unscored(&self, ranked: &Ranked, neurons: &Selected) -> u64 {
        let widest = self.model.config().widest();
        let of_layer = |(layer, neurons): (usize, &Vec<u32>)| {
            neurons.iter().filter(|&&neuron| ranked.score[layer * widest + neuron as usize] <= 0.0).count()
                as u64
        };
        neurons.iter().enumerate().map(of_layer).sum()
    }

    fn held(&self, neurons: &Selected) -> Result<Perturbation> {
        let edit = Edit::Mean { values: self.averages.clone() };
        Ok(Perturbation::new(edit, neurons.clone(), self.widths())?)
    }

    /// The score of each variant, and of how many texts it is.
    fn scores(&self, variants: &[Perturbation]) -> Result<(Vec<Score>, u64)> {
        let (ids, base) = (&self.base.verbalizer.ids, self.base);
        let pass = PassOptions { part: "test", ..*self.pass };
        let answers =
            evaluate_each(self.model, self.texts, ids, &pass, variants, |variant, _| variant.hook())?;
        let rows = answers.first().map_or(0, |answers| answers.labels.len() as u64);
        let scores = answers.iter().map(|answers| Score::of(base.task.metric, answers, base.seed));
        Ok((scores.collect::<Result<_>>()?, rows))
    }

    fn agreement(&self, selected: &[Vec<Selected>]) -> Result<Vec<Agreement>> {
        let mut all = Vec::new();
        for (second, (b, of_b)) in self.ranked.iter().enumerate() {
            for (first, (a, of_a)) in self.ranked[..second].iter().enumerate() {
                let live: Vec<usize> = (0..of_a.score.len()).filter(|&place| !of_a.dead[place]).collect();
                let scores =
                    |of: &Ranked| live.iter().map(|&place| f64::from(of.score[place])).collect::<Vec<_>>();
                let rho = if live.len() < 2 { f64::NAN } else { spearman(&scores(of_a), &scores(of_b))? };
                let overlaps = selected[first].iter().zip(&selected[second]);
                all.push(Agreement {
                    a: a.name().into(),
                    b: b.name().into(),
                    // One side is constant, or there is nothing to rank.
                    spearman: Some(rho).filter(|rho| rho.is_finite()),
                    overlap: overlaps.map(|(a, b)| jaccard(&set(a), &set(b))).collect(),
                });
            }
        }
        Ok(all)
    }
}

/// The key of the order of neurons of which a ranking says nothing: another one for each ranking, which would seem to agree otherwise.
fn unscored_key(seed: u64, ranking: Ranking) -> Key {
    // The first letters of a name tell it from the others, whatever is added to the list of them.
    let letters = ranking.name().bytes().take(8).fold(0, |number, byte| number << 8 | u64::from(byte));
    Key::new(seed, Purpose::Unscored).sample(letters)
}

/// The neurons of a layer by falling score, of equals the lowest index first, those without a score in an order of chance: by
/// index they would stand for a place in the layer. Dead ones come last.
fn order(score: &[f32], dead: &[bool], key: Key) -> Vec<u32> {
    let mut drawn: Vec<u32> = (0..score.len() as u32).collect();
    key.rng().shuffle(&mut drawn);
    let mut order: Vec<u32> = (0..score.len() as u32).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (a as usize, b as usize);
        let of_chance =
            || if score[a] <= 0.0 && score[b] <= 0.0 { drawn[a].cmp(&drawn[b]) } else { Ordering::Equal };
        dead[a].cmp(&dead[b]).then_with(|| score[b].total_cmp(&score[a])).then_with(of_chance)
    });
    order
}

fn set(selected: &Selected) -> BTreeSet<(usize, u32)> {
    let layers = selected.iter().enumerate();
    layers.flat_map(|(layer, neurons)| neurons.iter().map(move |&neuron| (layer, neuron))).collect()
}

/// The mean over draws, with Student's interval.
fn chance(scores: &[Score]) -> Result<ShareDamage> {
    let draws: Vec<f64> = scores.iter().map(|score| score.value).collect();
    let (mean, interval) = student(&draws, LEVEL)?;
    Ok(ShareDamage { mean, interval, draws })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neurons_without_a_score_are_drawn() {
        let mut score = vec![0.0; 100];
        (score[90], score[40], score[41], score[95]) = (0.2, 0.5, 0.2, 0.1);
        let mut dead = vec![false; 100];
        (dead[3], dead[60]) = (true, true);
        let of = |ranking| order(&score, &dead, unscored_key(7, ranking).layer(1));
        let found = of(Ranking::Lape);
        assert_eq!(found[..4], [40, 41, 90, 95], "of equals the lowest index is first");
        let last: BTreeSet<u32> = found[98..].iter().copied().collect();
        assert_eq!(last, BTreeSet::from([3, 60]), "dead neurons are last");
        let drawn = &found[4..98];
        assert!(drawn[..20].iter().any(|&neuron| neuron > 50) && !drawn.is_sorted(), "{drawn:?}");
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>().len(), 100);
        assert_eq!(found, of(Ranking::Lape));
        assert_ne!(found, of(Ranking::L1), "rankings do not agree on those of which they say nothing");
        let keys: BTreeSet<[u8; 32]> = Ranking::ALL.iter().map(|&of| unscored_key(7, of).bytes()).collect();
        assert_eq!(keys.len(), Ranking::ALL.len());
    }
}
