use std::collections::BTreeSet;

use skn_random::{Key, Purpose, Rng};

use crate::control::check_skill;
use crate::error::{PerturbError, Result};
use crate::finite::check_finite;

/// Of how many neurons nearest in variance one is drawn: this share of the layer.
const NEAREST: f64 = 0.05;

/// As many random neurons of each layer as `skill` has there, none of them in `skill`, each of about the variance of one
/// of those, in ascending order. Noise of one size, zeros and means do more to a neuron that varies more: where selected
/// neurons do, [`random_control`](crate::random_control) takes part of that for skill.
///
/// A layer's neurons stand in the order of `variances` (a list for each layer, one number a neuron; ties by index). For each
/// selected neuron, in random order, one is drawn from those nearest to it in that order which are free yet: 5 % of the
/// layer's neurons, at least one. Each `draw` of a seed is another choice.
///
/// ```
/// use skn_perturb::matched_control;
///
/// // One layer of twenty neurons, of which two vary much: the one stands for the other.
/// let mut variances = vec![1.0; 20];
/// (variances[3], variances[17]) = (9.0, 10.0);
/// let control = matched_control(&[vec![17]], &[variances], 42, 0)?;
/// assert_eq!(control, [[3]]);
/// # Ok::<(), skn_perturb::PerturbError>(())
/// ```
///
/// # Errors
/// As [`random_control`](crate::random_control) does with the lengths of `variances` as widths, or if a variance is not
/// finite or below 0.
pub fn matched_control(
    skill: &[Vec<u32>],
    variances: &[Vec<f32>],
    seed: u64,
    draw: u64,
) -> Result<Vec<Vec<u32>>> {
    let widths: Vec<usize> = variances.iter().map(Vec::len).collect();
    let skill = check_skill(skill, &widths)?;
    let key = Key::new(seed, Purpose::MatchedControl).step(draw);
    let of_layer = |(layer, (skill, variances)): (usize, (&BTreeSet<u32>, &Vec<f32>))| {
        check_variances(layer, variances)?;
        Ok(matched_of_layer(skill, variances, &mut key.layer(layer as u32).rng()))
    };
    skill.iter().zip(variances).enumerate().map(of_layer).collect()
}

/// The mean variance of random neurons over that of the selected ones; nothing where these do not vary at all.
///
/// Both are of the layers and widths of `variances`.
pub fn variance_ratio(skill: &[Vec<u32>], control: &[Vec<u32>], variances: &[Vec<f32>]) -> Option<f64> {
    let mean = |neurons: &[Vec<u32>]| {
        let all = neurons.iter().zip(variances);
        let values = all.flat_map(|(neurons, of)| neurons.iter().filter_map(|&n| of.get(n as usize)));
        let (sum, count) = values.fold((0.0, 0u64), |(sum, count), &x| (sum + f64::from(x), count + 1));
        sum / count as f64
    };
    let ratio = mean(control) / mean(skill);
    ratio.is_finite().then_some(ratio)
}

fn check_variances(layer: usize, variances: &[f32]) -> Result<()> {
    check_finite(variances, |place| format!("variance of layer {layer}, neuron {place}"))?;
    match variances.iter().position(|variance| *variance < 0.0) {
        None => Ok(()),
        Some(place) => Err(PerturbError::Value {
            what: format!("variance of layer {layer}, neuron {place}"),
            expected: "0 or more",
            found: f64::from(variances[place]),
        }),
    }
}

/// `skill` leaves as many neurons as it has.
fn matched_of_layer(skill: &BTreeSet<u32>, variances: &[f32], rng: &mut Rng) -> Vec<u32> {
    let mut order: Vec<u32> = (0..variances.len() as u32).collect();
    order.sort_by(|&a, &b| variances[a as usize].total_cmp(&variances[b as usize]).then(a.cmp(&b)));
    // Places in the order, ascending.
    let place_of = |wanted: bool| {
        let all = order.iter().enumerate();
        all.filter(move |(_, neuron)| skill.contains(neuron) == wanted).map(|(place, _)| place)
    };
    let mut free: Vec<usize> = place_of(false).collect();
    let mut selected: Vec<usize> = place_of(true).collect();
    rng.shuffle(&mut selected);
    let nearest = ((variances.len() as f64 * NEAREST).round() as usize).max(1);
    let mut chosen: Vec<u32> = selected
        .into_iter()
        .map(|place| {
            let [low, high] = window(&free, place, nearest);
            let drawn = low + rng.below(high - low);
            order[free.remove(drawn)]
        })
        .collect();
    chosen.sort_unstable();
    chosen
}

/// Which of the ascending `free` places are the `count` nearest to `place`, from the first to one past the last; of equally
/// near ones the lower.
fn window(free: &[usize], place: usize, count: usize) -> [usize; 2] {
    let above = free.partition_point(|&other| other < place);
    let (mut low, mut high) = (above, above);
    while high - low < count.min(free.len()) {
        let below = low.checked_sub(1).map(|next| place - free[next]);
        let beyond = free.get(high).map(|next| next - place);
        match (below, beyond) {
            (Some(below), Some(beyond)) if below <= beyond => low -= 1,
            (Some(_), None) => low -= 1,
            _ => high += 1,
        }
    }
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn windows_by_hand() {
        let free = [0, 1, 5, 6, 9];
        assert_eq!(window(&free, 3, 1), [1, 2], "1 and 5 are as near: the lower");
        assert_eq!(window(&free, 4, 2), [2, 4]);
        assert_eq!(window(&free, 10, 2), [3, 5]);
        assert_eq!(window(&free, 2, 9), [0, 5]);
    }

    /// Selected neurons vary a hundred times as much as most, and so do as many others.
    #[test]
    fn what_varies_as_much_is_drawn() {
        let variances: Vec<f32> = (0..400).map(|n| if n % 10 < 5 { 100.0 + n as f32 } else { 1.0 }).collect();
        let skill: Vec<u32> = (0..400).filter(|n| n % 10 == 0).collect();
        let all = [variances];
        for draw in 0..20 {
            let control = matched_control(std::slice::from_ref(&skill), &all, 3, draw).unwrap();
            // Below the least of them lie those that hardly vary.
            let little = control[0].iter().filter(|n| **n % 10 >= 5).count();
            assert!(little < 5, "{control:?}");
            let ratio = variance_ratio(std::slice::from_ref(&skill), &control, &all).unwrap();
            assert!((ratio - 1.0).abs() < 0.1, "{ratio}");
        }
        let plain = crate::random_control(std::slice::from_ref(&skill), &[400], 3, 0).unwrap();
        assert!(variance_ratio(&[skill], &plain, &all).unwrap() < 0.75);
    }

    #[test]
    fn wrong_variances_are_named() {
        let error = matched_control(&[vec![0]], &[vec![1.0, -1.0]], 0, 0).unwrap_err();
        assert!(
            error.to_string().starts_with("variance of layer 0, neuron 1: expected 0 or more"),
            "{error}"
        );
        assert!(matched_control(&[vec![0]], &[vec![1.0, f32::NAN]], 0, 0).is_err());
        let error = matched_control(&[vec![0, 1]], &[vec![1.0; 3]], 0, 0).unwrap_err();
        assert_eq!(error, PerturbError::TooFewLeft { layer: 0, asked: 2, left: 1 });
        assert_eq!(variance_ratio(&[vec![0]], &[vec![1]], &[vec![0.0, 1.0]]), None);
    }

    proptest! {
        #[test]
        fn a_control_has_the_same_size_and_no_skill_neuron(
            skill in prop::collection::btree_set(0u32..60, 0..30),
            variances in prop::collection::vec(0f32..10.0, 60),
            draw: u64,
        ) {
            let skill: Vec<u32> = skill.into_iter().collect();
            let control = matched_control(std::slice::from_ref(&skill), &[variances], 1, draw).unwrap();
            prop_assert_eq!(control[0].len(), skill.len());
            prop_assert!(control[0].iter().all(|neuron| !skill.contains(neuron)));
            prop_assert!(control[0].windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
