//! Rankings compared: how far they agree, and what damage the best neurons of each do.

use std::collections::BTreeSet;

use skn_artifact::{Agreement, RankingComparison, RankingDamage, ShareDamage};
use skn_data::Encoded;
use skn_model::LanguageModel;
use skn_perturb::{Edit, Perturbation, random_control};
use skn_probing::{PassOptions, Ranked, Ranking, evaluate_each};
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
    /// Those of test.
    pub(super) texts: &'a [Encoded],
    pub(super) pass: &'a PassOptions<'a>,
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
        let selected: Vec<Vec<Selected>> = self.ranked.iter().map(|(_, of)| self.selected(of)).collect();
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
        let scores = self.scores(&variants)?;
        let (unperturbed, scores) = scores.split_at(1);
        let (of_rankings, of_chance) = scores.split_at(selected.len() * self.shares.len());
        let damage = |(of, scores): (&(Ranking, Ranked), &[Score])| RankingDamage {
            ranking: of.0.name().into(),
            scores: scores.iter().map(|score| score.value).collect(),
            intervals: scores.iter().map(|score| score.interval).collect(),
        };
        let rankings = self.ranked.iter().zip(of_rankings.chunks(self.shares.len())).map(damage).collect();
        let random = of_chance.chunks(DRAWS).map(chance).collect::<Result<_>>()?;
        let task = &self.base.task;
        Ok(RankingComparison {
            task: task.name.clone(),
            metric: task.metric.name().into(),
            rows: self.texts.len() as u64,
            edit: "mean".into(),
            shares: self.shares.iter().map(ToString::to_string).collect(),
            unperturbed: unperturbed[0].value,
            rankings,
            random,
            draws: DRAWS,
            agreement: self.agreement(&selected)?,
        })
    }

    fn widths(&self) -> &[usize] {
        &self.model.config().intermediate_sizes
    }

    /// For each share the best of each layer, of equals the lowest index, dead ones last.
    fn selected(&self, ranked: &Ranked) -> Vec<Selected> {
        let widest = self.model.config().widest();
        let order = |layer: usize, width: usize| {
            let at = |index: &u32| layer * widest + *index as usize;
            let mut order: Vec<u32> = (0..width as u32).collect();
            order.sort_by(|a, b| {
                let live = ranked.dead[at(a)].cmp(&ranked.dead[at(b)]);
                live.then_with(|| ranked.score[at(b)].total_cmp(&ranked.score[at(a)]))
            });
            order
        };
        let orders: Selected =
            self.widths().iter().enumerate().map(|(layer, &width)| order(layer, width)).collect();
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

    fn held(&self, neurons: &Selected) -> Result<Perturbation> {
        let edit = Edit::Mean { values: self.averages.clone() };
        Ok(Perturbation::new(edit, neurons.clone(), self.widths())?)
    }

    fn scores(&self, variants: &[Perturbation]) -> Result<Vec<Score>> {
        let (ids, base) = (&self.base.verbalizer.ids, self.base);
        let answers =
            evaluate_each(self.model, self.texts, ids, self.pass, variants, |variant, _| variant.hook())?;
        answers.iter().map(|answers| Score::of(base.task.metric, answers, base.seed)).collect()
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
