use crate::error::{Result, SelectError};
use crate::mask::Mask;
use crate::scores::Scores;
use crate::share::Share;

/// All neurons of each layer, best first, over one sub-task or the union of several.
///
/// In a layer each sub-task in turn gives its next best neuron that is not yet in, until all are; layer `l`
/// begins with sub-task `l` modulo their number, so that none is favoured. The first `n` are the union of `n`
/// neurons, and of one sub-task its `n` best.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    neurons: usize,
    order: Vec<Vec<u32>>,
    score: Vec<f32>,
}

impl Ranking {
    /// Ranks by the scores of one or more sub-tasks.
    ///
    /// Where a pruned model's layers have fewer neurons than the widest, what is beyond is padding, which is ranked last and
    /// never chosen.
    ///
    /// # Errors
    /// If there are no scores, or they differ in shape or in the widths of their layers.
    pub fn new(groups: &[Scores]) -> Result<Self> {
        let Some(first) = groups.first() else {
            return Err(SelectError::mismatch("sub-tasks to rank by", "at least one", "none"));
        };
        let (layers, neurons) = (first.layers(), first.neurons());
        for (index, group) in groups.iter().enumerate() {
            if (group.widths(), group.neurons()) != (first.widths(), neurons) {
                let shape = |of: &Scores| match of.widths() {
                    widths if widths.iter().any(|&width| width != of.neurons()) => {
                        format!("layers of {widths:?} neurons")
                    }
                    widths => format!("{} layers of {} neurons", widths.len(), of.neurons()),
                };
                let (expected, found) = (format!("{} as in sub-task 0", shape(first)), shape(group));
                return Err(SelectError::mismatch(format!("scores of sub-task {index}"), expected, found));
            }
        }
        let order =
            first.widths().iter().enumerate().map(|(layer, &width)| union(groups, layer, width)).collect();
        let best = |place: usize| groups.iter().map(|group| group.score()[place]).fold(0.0, f32::max);
        Ok(Self { neurons, order, score: (0..layers * neurons).map(best).collect() })
    }

    /// The number of layers, L.
    pub fn layers(&self) -> usize {
        self.order.len()
    }

    /// The number of neurons in the widest layer, F.
    pub fn neurons(&self) -> usize {
        self.neurons
    }

    /// For each layer the neurons it has, best first.
    pub fn order(&self) -> &[Vec<u32>] {
        &self.order
    }

    /// The scores, `[L, F]`: of several sub-tasks, each neuron's largest.
    pub fn score(&self) -> &[f32] {
        &self.score
    }

    /// The same from the worst to the best: a control. Its masks mark the worst neurons, and rank 0 is the worst of a layer.
    pub fn reversed(mut self) -> Self {
        self.order.iter_mut().for_each(|order| order.reverse());
        self
    }

    /// The first of each layer, as many as the share of the neurons it has.
    pub fn mask(&self, share: Share) -> Mask {
        let size = self.score.len();
        let (mut mask, mut rank) = (vec![false; size], vec![0; size]);
        for (layer, order) in self.order.iter().enumerate() {
            let start = layer * self.neurons;
            let padding = order.len() as u32..self.neurons as u32;
            for (place, neuron) in order.iter().copied().chain(padding).enumerate() {
                rank[start + neuron as usize] = place as i32;
            }
            for &neuron in &order[..share.count(order.len())] {
                mask[start + neuron as usize] = true;
            }
        }
        Mask::new(self.layers(), self.neurons, mask, self.score.clone(), rank)
    }
}

/// All neurons of a layer that has `width`, each sub-task in turn giving the best it has left: a neuron that is dead for it
/// is none while another has one that is alive.
fn union(groups: &[Scores], layer: usize, width: usize) -> Vec<u32> {
    let alive = |group: &Scores| {
        let dead = group.dead()[layer * group.neurons()..][..width].to_vec();
        group.rank_layer(layer, width).into_iter().filter(move |&neuron| !dead[neuron as usize])
    };
    let mut orders: Vec<_> = groups.iter().map(alive).collect();
    let mut chosen = vec![false; width];
    let mut all: Vec<u32> = (0..width)
        .map_while(|turn| {
            let next = (0..groups.len()).find_map(|other| {
                orders[(layer + turn + other) % groups.len()].find(|&neuron| !chosen[neuron as usize])
            })?;
            chosen[next as usize] = true;
            Some(next)
        })
        .collect();
    // What is dead for all sub-tasks is left.
    all.extend((0..width as u32).filter(|&neuron| !chosen[neuron as usize]));
    all
}
