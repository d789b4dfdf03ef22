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
    /// For each layer and place of the order, whether its neuron has the same scores as the one before it.
    tied: Vec<Vec<bool>>,
    score: Vec<f32>,
    dead: Vec<bool>,
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
        let order: Vec<Vec<u32>> =
            first.widths().iter().enumerate().map(|(layer, &width)| union(groups, layer, width)).collect();
        let of_layer = |(layer, order): (usize, &Vec<u32>)| -> Vec<bool> {
            let at = |neuron: u32| layer * neurons + neuron as usize;
            let tie = |pair: &[u32]| groups.iter().all(|group| group.ties(at(pair[0]), at(pair[1])));
            order.iter().take(1).map(|_| false).chain(order.windows(2).map(tie)).collect()
        };
        let tied = order.iter().enumerate().map(of_layer).collect();
        let best = |place: usize| groups.iter().map(|group| group.score()[place]).fold(0.0, f32::max);
        let places = 0..layers * neurons;
        let dead = places.clone().map(|place| groups.iter().all(|group| group.dead()[place])).collect();
        Ok(Self { neurons, order, tied, score: places.map(best).collect(), dead })
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
    /// Of equals the lower index is first here too, and dead neurons, which have no score that could be bad, are still the
    /// last, by index.
    pub fn reversed(mut self) -> Self {
        for (layer, (order, tied)) in self.order.iter_mut().zip(&mut self.tied).enumerate() {
            let is_dead = |neuron: u32| self.dead[layer * self.neurons + neuron as usize];
            let mut runs: Vec<Vec<u32>> = Vec::new();
            for (&neuron, &tied) in order.iter().zip(tied.iter()).filter(|(neuron, _)| !is_dead(**neuron)) {
                match runs.last_mut() {
                    Some(run) if tied => run.push(neuron),
                    _ => runs.push(vec![neuron]),
                }
            }
            let mut dead: Vec<u32> = order.iter().copied().filter(|&neuron| is_dead(neuron)).collect();
            dead.sort_unstable();
            runs.reverse();
            runs.extend(Some(dead).filter(|dead| !dead.is_empty()));
            runs.iter_mut().for_each(|run| run.sort_unstable());
            *tied = runs.iter().flat_map(|run| (0..run.len()).map(|place| place > 0)).collect();
            *order = runs.concat();
        }
        self
    }

    /// Which neurons are dead for every sub-task, `[L, F]`: they are ranked last, by index.
    pub fn dead(&self) -> &[bool] {
        &self.dead
    }

    /// The first of each layer, as many as the share of the neurons it has.
    pub fn mask(&self, share: Share) -> Mask {
        let mut mask = vec![false; self.score.len()];
        for (layer, order) in self.order.iter().enumerate() {
            for &neuron in &order[..share.count(order.len())] {
                mask[layer * self.neurons + neuron as usize] = true;
            }
        }
        self.mask_of(mask)
    }

    /// Each neuron's place in its layer, 0 the best, `[L, F]`. What a narrower layer lacks comes last.
    pub fn rank(&self) -> Vec<i32> {
        let mut rank = vec![0; self.score.len()];
        for (layer, order) in self.order.iter().enumerate() {
            let padding = order.len() as u32..self.neurons as u32;
            for (place, neuron) in order.iter().copied().chain(padding).enumerate() {
                rank[layer * self.neurons + neuron as usize] = place as i32;
            }
        }
        rank
    }

    /// A mask of other neurons, `[L, F]`, with the scores and ranks of these.
    fn mask_of(&self, mask: Vec<bool>) -> Mask {
        Mask::new(self.layers(), self.neurons, mask, self.score.clone(), self.rank())
    }

    /// A mask of the neurons of which `chosen` says so, by layer and index.
    pub fn mask_where(&self, chosen: impl Fn(usize, usize) -> bool) -> Mask {
        let mut mask = vec![false; self.score.len()];
        for (layer, order) in self.order.iter().enumerate() {
            for index in order.iter().map(|&index| index as usize).filter(|&index| chosen(layer, index)) {
                mask[layer * self.neurons + index] = true;
            }
        }
        self.mask_of(mask)
    }
}

/// All neurons of a layer that has `width`, each sub-task in turn giving the best it has left: a neuron that is dead for it
/// is none while another has one that is alive.
fn union(groups: &[Scores], layer: usize, width: usize) -> Vec<u32> {
    let alive = |group: &Scores| {
        let dead = group.dead()[layer * group.neurons()..][..width].to_vec();
        group.rank_layer(layer, width).into_iter().filter(move |&neuron| !dead[neuron as usize])
    };
    take_turns(groups.iter().map(|group| alive(group).collect()).collect(), layer, width)
}

/// All neurons of a layer that has `width`: each of the orders in turn gives its next that is not yet in, or where it has none
/// left another does; the first to give is that of the layer's number. What is in no order comes last, by index.
pub(crate) fn take_turns(orders: Vec<Vec<u32>>, layer: usize, width: usize) -> Vec<u32> {
    let turns = orders.len();
    let mut orders: Vec<_> = orders.into_iter().map(Vec::into_iter).collect();
    let mut chosen = vec![false; width];
    let mut all: Vec<u32> = (0..width)
        .map_while(|turn| {
            let next = (0..turns).find_map(|other| {
                orders[(layer + turn + other) % turns].find(|&neuron| !chosen[neuron as usize])
            })?;
            chosen[next as usize] = true;
            Some(next)
        })
        .collect();
    all.extend((0..width as u32).filter(|&neuron| !chosen[neuron as usize]));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_none_left_is_followed_by_the_next() {
        let orders = || vec![vec![4], vec![5, 4, 3], vec![2, 1]];
        // 4, 5 and 2 by turns; then the first has none left, and the second gives 3, the third 1. What nobody has is last.
        assert_eq!(take_turns(orders(), 0, 7), [4, 5, 2, 3, 1, 0, 6]);
        assert_eq!(take_turns(orders(), 1, 7), [5, 2, 4, 3, 1, 0, 6]);
        assert_eq!(take_turns(vec![Vec::new(); 2], 3, 2), [0, 1]);
    }
}
