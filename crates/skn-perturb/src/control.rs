use std::collections::BTreeSet;

use skn_random::{Key, Purpose};

use crate::error::{PerturbError, Result};

/// As many random neurons of each layer as `skill` has there, none of them in `skill`, in ascending order. Each `draw`
/// of a seed is another choice.
///
/// # Errors
/// If `skill` is not of the model's layers (`widths` has the FFN width of each), names a neuron that is not there, or
/// leaves fewer neurons of a layer than it has.
pub fn random_control(skill: &[Vec<u32>], widths: &[usize], seed: u64, draw: u64) -> Result<Vec<Vec<u32>>> {
    let skill = check_skill(skill, widths)?;
    let key = Key::new(seed, Purpose::Control).step(draw);
    let layers = skill.iter().zip(widths).enumerate();
    Ok(layers.map(|(layer, (skill, &width))| control_of_layer(layer, skill, width, key)).collect())
}

/// The selected neurons of each layer, if they are of the model and leave as many others.
pub(crate) fn check_skill(skill: &[Vec<u32>], widths: &[usize]) -> Result<Vec<BTreeSet<u32>>> {
    if skill.len() != widths.len() {
        return Err(PerturbError::Layers {
            what: "skill neurons",
            expected: widths.len(),
            found: skill.len(),
        });
    }
    let check = |(layer, (skill, &width)): (usize, (&Vec<u32>, &usize))| {
        let skill: BTreeSet<u32> = skill.iter().copied().collect();
        if let Some(&neuron) = skill.iter().find(|&&neuron| neuron as usize >= width) {
            return Err(PerturbError::Neuron { layer, neuron, width });
        }
        let (asked, left) = (skill.len(), width - skill.len());
        if left < asked { Err(PerturbError::TooFewLeft { layer, asked, left }) } else { Ok(skill) }
    };
    skill.iter().zip(widths).enumerate().map(check).collect()
}

fn control_of_layer(layer: usize, skill: &BTreeSet<u32>, width: usize, key: Key) -> Vec<u32> {
    let others: Vec<u32> = (0..width as u32).filter(|neuron| !skill.contains(neuron)).collect();
    let chosen = key.layer(layer as u32).rng().choose(others.len(), skill.len());
    chosen.into_iter().map(|place| others[place]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_left_is_taken() {
        let control = random_control(&[vec![0, 2], vec![]], &[4, 4], 1, 0).unwrap();
        assert_eq!(control, [vec![1, 3], vec![]]);
    }

    #[test]
    fn too_few_left_names_the_layer() {
        let error = random_control(&[vec![], vec![0, 1, 2]], &[4, 4], 1, 0).unwrap_err();
        assert_eq!(error, PerturbError::TooFewLeft { layer: 1, asked: 3, left: 1 });
        let error = random_control(&[vec![4]], &[4], 1, 0).unwrap_err();
        assert_eq!(error, PerturbError::Neuron { layer: 0, neuron: 4, width: 4 });
        assert!(random_control(&[vec![]], &[4, 4], 1, 0).is_err());
    }

    #[test]
    fn draws_differ_and_repeat() {
        let draw = |draw| random_control(&[vec![1, 2, 3, 4]], &[200], 7, draw).unwrap();
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }

    proptest! {
        #[test]
        fn a_control_has_the_same_size_and_no_skill_neuron(
            skill in prop::collection::btree_set(0u32..60, 0..30),
            seed: u64,
            draw: u64,
        ) {
            let skill: Vec<u32> = skill.into_iter().collect();
            let control = random_control(std::slice::from_ref(&skill), &[60], seed, draw).unwrap();
            prop_assert_eq!(control[0].len(), skill.len());
            prop_assert!(control[0].windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(control[0].iter().all(|neuron| *neuron < 60 && !skill.contains(neuron)));
        }
    }
}
