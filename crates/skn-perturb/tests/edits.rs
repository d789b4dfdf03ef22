//! Edits of a small random model: what they change, what they leave alone, and that pruning is an edit.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use skn_model::{
    Chain, Config, Gradients, LanguageModel, LayerCut, Pass, PrunedForm, Result, Rows, Scored, Sequences,
    Site, Tuning, Weights, prune, shapes,
};
use skn_perturb::{Edit, NoiseTable, Perturbation};
use skn_random::{Key, Purpose};

const MASK: u32 = 19;
const WIDTHS: [usize; 3] = [12; 3];
const BATCH: Sequences<'static> = Sequences {
    ids: &[0, 5, 6, 2, 0, 7, 2, 0, 8, 9, 10, 2],
    starts: &[0, 4, 7, 12],
    samples: &[3, 0, 7],
    seconds: &[],
};

fn config() -> Config {
    Config::new(20, [8, 2, WIDTHS[0], WIDTHS.len()], 32).unwrap()
}

fn weights(config: &Config) -> Weights {
    let mut rng = Key::new(1, Purpose::WeightInit).rng();
    let tensors = shapes(config).into_iter().map(|(name, shape)| {
        let norm = name.contains("orm.weight");
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| (0.4 * rng.normal()) as f32 + f32::from(u8::from(norm)))
            .collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    });
    Weights::from_tensors(config, tensors.collect::<BTreeMap<_, _>>()).unwrap()
}

fn model(config: &Config, weights: &Weights) -> LanguageModel {
    let prompt = Tuning::new_prompt(&self::config(), 3, 0).unwrap();
    LanguageModel::new(config, weights, &prompt, MASK, Gradients::Nothing).unwrap()
}

fn whole() -> LanguageModel {
    model(&config(), &weights(&config()))
}

fn logits(model: &LanguageModel, batch: Sequences<'_>, hook: &mut dyn skn_model::Hook) -> Vec<Vec<f32>> {
    let answers = model.forward(batch, &Pass::default(), hook).unwrap();
    model.logits(&answers, Scored::Tokens(&[3, 4])).unwrap().to_vec2().unwrap()
}

/// `[rows, width]` of every layer after the edit.
fn edited(perturbation: &Perturbation) -> Vec<Vec<Vec<f32>>> {
    let mut seen = vec![Vec::new(); WIDTHS.len()];
    let watch = |site: Site, _: &Rows<'_>, x: Tensor| -> Result<Tensor> {
        if let Site::FfnAct { layer } = site {
            seen[layer] = x.to_vec2::<f32>()?;
        }
        Ok(x)
    };
    logits(&whole(), BATCH, &mut Chain(perturbation.hook(), watch));
    seen
}

fn new(edit: Edit, neurons: Vec<Vec<u32>>) -> Perturbation {
    Perturbation::new(edit, neurons, &WIDTHS).unwrap()
}

fn gaussian(alpha: f64, per_token: bool) -> Edit {
    Edit::Gaussian { alpha, seed: 42, per_token }
}

#[test]
fn only_the_chosen_neurons_change() {
    // In the last layer that is edited nothing before it differs.
    let before = edited(&new(Edit::Zero, vec![vec![]; 3]));
    let after = edited(&new(Edit::Zero, vec![vec![], vec![], vec![2, 7]]));
    assert_eq!(before[..2], after[..2]);
    for (before, after) in before[2].iter().zip(&after[2]) {
        for neuron in 0..12 {
            let expected = if [2, 7].contains(&neuron) { 0.0 } else { before[neuron] };
            assert_eq!(after[neuron], expected);
        }
    }
}

#[test]
fn means_stand_at_every_row() {
    let values = vec![(0..12).map(|n| n as f32 + 0.5).collect::<Vec<_>>(); 3];
    let after = edited(&new(Edit::Mean { values }, vec![vec![1, 11], vec![], vec![]]));
    assert_eq!(after[0].len(), 12 + 3 * 3, "prompt and text rows");
    assert!(after[0].iter().all(|row| row[1] == 1.5 && row[11] == 11.5));
}

#[test]
fn what_is_held_does_not_let_nan_through() {
    let spoil = |site: Site, _: &Rows<'_>, x: Tensor| -> Result<Tensor> {
        if site != (Site::FfnAct { layer: 1 }) {
            return Ok(x);
        }
        let mut values = x.to_vec2::<f32>()?;
        values.iter_mut().for_each(|row| (row[4], row[5]) = (f32::NAN, f32::INFINITY));
        Ok(Tensor::new(values, x.device())?)
    };
    let zero = new(Edit::Zero, vec![vec![], vec![4, 5], vec![]]);
    // What is read of the last layer decides in which order it adds: both passes read all of it.
    let leave = |_: Site, _: &Rows<'_>, x: Tensor| -> Result<Tensor> { Ok(x) };
    let clean = logits(&whole(), BATCH, &mut Chain(leave, zero.hook()));
    assert_eq!(logits(&whole(), BATCH, &mut Chain(spoil, zero.hook())), clean);
}

#[test]
fn noise_is_the_same_at_all_positions_of_a_text_or_at_none() {
    let neurons = vec![vec![0, 3], vec![], vec![]];
    let before = edited(&new(Edit::Zero, vec![vec![]; 3]));
    for per_token in [false, true] {
        let after = edited(&new(gaussian(0.5, per_token), neurons.clone()));
        let added = |row: usize, neuron: usize| after[0][row][neuron] - before[0][row][neuron];
        assert_eq!(added(0, 1), 0.0);
        assert!(added(0, 0) != 0.0 && added(0, 0) != added(0, 3));
        // Rows 0..7 are the first text (3 prompt rows, 4 tokens), row 7 is the second's first.
        let same = (1..7).all(|row| (added(row, 3) - added(0, 3)).abs() < 1e-6);
        assert_eq!(same, !per_token);
        assert!((added(7, 3) - added(0, 3)).abs() > 1e-6, "texts differ");
    }
}

#[test]
fn a_neurons_noise_depends_neither_on_the_batch_nor_on_the_other_neurons() {
    for per_token in [false, true] {
        let few = new(gaussian(0.5, per_token), vec![vec![3], vec![], vec![]]);
        let many = new(gaussian(0.5, per_token), vec![vec![0, 3, 9], vec![1], vec![2]]);
        let column = |seen: &[Vec<Vec<f32>>]| seen[0].iter().map(|row| row[3]).collect::<Vec<_>>();
        assert_eq!(column(&edited(&few)), column(&edited(&many)));

        let together = logits(&whole(), BATCH, &mut many.hook());
        for (text, logits_together) in together.iter().enumerate() {
            let ids = &BATCH.ids[BATCH.starts[text]..BATCH.starts[text + 1]];
            let alone = Sequences {
                ids,
                starts: &[0, ids.len()],
                samples: &BATCH.samples[text..=text],
                seconds: &[],
            };
            assert_eq!(&logits(&whole(), alone, &mut many.hook())[0], logits_together, "text {text}");
        }
    }
}

#[test]
fn repeats_and_seeds_have_noise_of_their_own() {
    let neurons = || vec![vec![0], vec![5], vec![7]];
    let run = |perturbation: Perturbation| logits(&whole(), BATCH, &mut perturbation.hook());
    let first = run(new(gaussian(1.0, false), neurons()));
    assert_eq!(first, run(new(gaussian(1.0, false), neurons()).repeat(0)));
    assert_ne!(first, run(new(gaussian(1.0, false), neurons()).repeat(1)));
    assert_ne!(first, run(new(Edit::Gaussian { alpha: 1.0, seed: 43, per_token: false }, neurons())));
    let none = logits(&whole(), BATCH, &mut skn_model::NoHook);
    assert_eq!(none, run(new(gaussian(0.0, false), neurons())));
}

#[test]
fn given_noise_is_added_as_it_is() {
    let values: Vec<f32> = (0..8 * 3 * 12).map(|n| n as f32).collect();
    let noise = NoiseTable::new(values, [8, 3, 12]).unwrap();
    let after = edited(&new(Edit::GivenNoise { alpha: 0.5, noise }, vec![vec![4], vec![], vec![]]));
    let before = edited(&new(Edit::Zero, vec![vec![]; 3]));
    for (row, sample) in [(0, 3), (6, 3), (7, 0), (20, 7)] {
        let expected = before[0][row][4] + 0.5 * (sample * 36 + 4) as f32;
        assert_eq!(after[0][row][4], expected, "row {row}");
    }
}

#[test]
fn a_text_without_given_noise_is_an_error() {
    let noise = NoiseTable::new(vec![0.0; 36], [1, 3, 12]).unwrap();
    let perturbation = new(Edit::GivenNoise { alpha: 0.5, noise }, vec![vec![4], vec![], vec![]]);
    let error = whole().forward(BATCH, &Pass::default(), &mut perturbation.hook()).unwrap_err();
    assert!(error.to_string().contains("expected texts below 1, found 3"), "{error}");
}

#[test]
fn an_edit_for_another_model_is_an_error() {
    let perturbation = Perturbation::new(Edit::Zero, vec![vec![0]; 3], &[11; 3]).unwrap();
    let error = whole().forward(BATCH, &Pass::default(), &mut perturbation.hook()).unwrap_err();
    assert!(error.to_string().contains("expected 11 values, found 12"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A pruned model is the whole model with the removed neurons at their means, whatever the mask.
    #[test]
    fn pruning_is_holding_at_the_mean(
        masks in prop::collection::vec(prop::collection::vec(any::<bool>(), 12), 3),
        means in prop::collection::vec(prop::collection::vec(-2f32..2.0, 12), 3),
        whole_layer in 0usize..4,
    ) {
        // At least one neuron stays in every layer.
        let kept = |layer: usize| -> Vec<u32> {
            (0..12).filter(|&neuron| layer == whole_layer || neuron == 0 || masks[layer][neuron as usize]).collect()
        };
        let cuts: Vec<_> = (0..3)
            .map(|layer| (layer != whole_layer).then(|| LayerCut::hold_others(kept(layer), &means[layer]).unwrap()))
            .collect();
        let (config, weights) = (config(), weights(&config()));
        let removed = (0..3).map(|layer| (0..12).filter(|neuron| !kept(layer).contains(neuron)).collect()).collect();
        let held = new(Edit::Mean { values: means.clone() }, removed);
        let expected = logits(&whole(), BATCH, &mut held.hook());
        for form in [PrunedForm::Narrow, PrunedForm::Dense] {
            let (pruned, weights) = prune(&config, &weights, &cuts, form).unwrap();
            let found = logits(&model(&pruned, &weights), BATCH, &mut skn_model::NoHook);
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                prop_assert!((found - expected).abs() < 1e-4, "{form:?}: {found} {expected}");
            }
        }
    }
}
