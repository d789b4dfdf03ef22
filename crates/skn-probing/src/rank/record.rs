use skn_counts::{Pool, ScoreRule};
use skn_random::{Key, Purpose};

use super::ranking::Ranking;
use super::score::{LeftOut, Score, Scores};
use super::tally::Tally;
use crate::error::{ProbingError, Result};
use crate::watch::Dims;

/// What a file of a ranking holds: a score for each neuron, and in a shard's file what it is computed from.
#[derive(Clone, Debug)]
pub struct RankRecord {
    pub(super) ranking: Ranking,
    pub(super) pool: Pool,
    pub(super) dims: Dims,
    pub(super) widths: Vec<usize>,
    /// Texts of each class.
    pub(super) texts: Vec<u64>,
    /// Of the shape of `dims`.
    pub(super) dead: Vec<bool>,
    pub(super) deviation: Option<Vec<f32>>,
    pub(super) seed: u64,
    /// Whether predictivity of two classes is accuracy, as published, whatever their shares.
    pub(super) as_published: bool,
    /// What activations were correlated with, where that is no class.
    pub(super) column: Option<String>,
    pub(super) tally: Tally,
}

/// The scores of a ranking, `[L, F]` each, row-major.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ranked {
    /// Larger is more of it, 0 at least; 0 of dead neurons, and where a pruned layer has none.
    pub score: Vec<f32>,
    /// The position that counts, of equals the first.
    pub position: Vec<i32>,
    /// The class that counts, of equals the first; 1 of two.
    pub class: Vec<i32>,
    /// What the score is the magnitude of: an accuracy, an area, a difference, a correlation; of `lape` the entropy, ln C of neurons
    /// that are dead or left out.
    pub signed: Vec<f32>,
    /// Of `auc` how far the exact area is at most, of `mean_difference` Cohen's d.
    pub beside: Vec<f32>,
    /// Whether the neuron is dead at all positions.
    pub dead: Vec<bool>,
}

impl Ranked {
    /// What selects neurons, `score` and `dead` `[L, F]`, without what says more of them: the rest is empty.
    pub fn of_scores(score: Vec<f32>, dead: Vec<bool>) -> Self {
        let (position, class, signed, beside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { score, position, class, signed, beside, dead }
    }
}

impl RankRecord {
    /// The ranking.
    pub fn ranking(&self) -> Ranking {
        self.ranking
    }

    /// What was taken of a text's activations.
    pub fn pool(&self) -> Pool {
        self.pool
    }

    /// The layers whose scores are far from what they should be, because a regression needs more steps than it has ([`l1`](crate::l1)).
    pub fn unsettled(&self) -> &[usize] {
        match &self.tally {
            Tally::Given { unsettled, .. } => unsettled,
            _ => &[],
        }
    }

    /// L and F.
    pub fn shape(&self) -> [usize; 2] {
        [self.dims.sizes()[0], self.neurons()]
    }

    pub(super) fn neurons(&self) -> usize {
        self.dims.sizes()[self.dims.sizes().len() - 1]
    }

    /// The score that predictivity is on these texts.
    pub(super) fn rule(&self) -> ScoreRule {
        ScoreRule::of_texts(&self.texts, self.as_published)
    }

    /// Whether it says one class of each neuron, of more than two.
    pub(super) fn is_of_a_class(&self) -> bool {
        self.ranking.is_of_a_class() && self.column.is_none()
    }

    fn positions(&self) -> usize {
        if self.pool.is_of_text() { 1 } else { self.dims.sizes()[1] }
    }

    /// The scores of all neurons.
    ///
    /// # Errors
    /// If a class has no text, or all texts are of one: nothing tells them apart then.
    pub fn ranked(&self) -> Result<Ranked> {
        let all: u64 = self.texts.iter().sum();
        if self.is_of_a_class()
            && let Some(class) = self.texts.iter().position(|&texts| texts == 0 || texts == all)
        {
            let expected = format!("texts of class {class}, and others, among {all}");
            return Err(ProbingError::mismatch(
                format!("ranking {}", self.ranking),
                expected,
                self.texts[class],
            ));
        }
        let mut scores = Scores {
            ranking: self.ranking,
            tally: &self.tally,
            places: self.dims.elements(),
            texts: &self.texts,
            deviation: self.deviation.as_deref(),
            left_out: LeftOut::default(),
            rule: self.rule(),
        };
        if self.ranking == Ranking::Lape {
            scores.left_out = scores.left_out(&self.dead);
        }
        let [layers, neurons] = self.shape();
        let mut ranked = Ranked {
            score: Vec::new(),
            position: Vec::new(),
            class: Vec::new(),
            signed: Vec::new(),
            beside: Vec::new(),
            dead: Vec::new(),
        };
        for layer in 0..layers {
            for neuron in 0..neurons {
                self.push(&mut ranked, &scores, layer, neuron);
            }
        }
        Ok(ranked)
    }

    fn push(&self, ranked: &mut Ranked, scores: &Scores<'_>, layer: usize, neuron: usize) {
        let (positions, neurons) = (self.positions(), self.neurons());
        let place = |position| (layer * positions + position) * neurons + neuron;
        // Of two classes what is said of class 1 is said of class 0 too.
        let classes = match (self.is_of_a_class(), self.ranking, self.texts.len()) {
            (false, ..) => 0..1,
            (_, Ranking::Lape, classes) => 0..classes,
            (_, _, 2) => 1..2,
            (_, _, classes) => 0..classes,
        };
        let mut best = (Score { score: 0.0, signed: 0.0, beside: 0.0 }, classes.start, 0, false);
        let given = match &self.tally {
            Tally::Given { position, .. } => Some(*position),
            _ => None,
        };
        for class in classes {
            let counted = (0..positions).filter(|position| given.is_none_or(|given| given == *position));
            for position in counted.filter(|&position| !self.dead[place(position)]) {
                let score = match &self.tally {
                    Tally::Given { scores, .. } => of_magnitude(scores[layer * neurons + neuron].into()),
                    Tally::Nothing => self.random(layer, neuron),
                    _ => scores.of(place(position), class),
                };
                if !best.3 || score.score > best.0.score {
                    best = (score, class, position, true);
                }
            }
        }
        let (score, class, position, live) = best;
        let live = live && neuron < self.widths[layer];
        let score = if live { score } else { scores.nothing() };
        ranked.score.push(score.score as f32);
        ranked.signed.push(score.signed as f32);
        ranked.beside.push(score.beside as f32);
        ranked.position.push(position as i32);
        ranked.class.push(class as i32);
        ranked.dead.push(!live);
    }

    fn random(&self, layer: usize, neuron: usize) -> Score {
        let key = Key::new(self.seed, Purpose::RandomRanking).layer(layer as u32).sample(neuron as u64);
        of_magnitude(key.rng().uniform())
    }
}

fn of_magnitude(score: f64) -> Score {
    Score { score, signed: score, beside: 0.0 }
}
