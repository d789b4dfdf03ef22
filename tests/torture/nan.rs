//! NaN or infinity in a loss, a gradient or an activation is caught within a step, named, and never saved.

mod finite;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{Tensor, Var};
use skn_artifact::hash_file;
use skn_model::{LanguageModel, Weights};
use skn_probing::{Progress, Silent};

use crate::cases;
use crate::damage::Dice;
use crate::small::{METHODS, SMALL, STEPS};

/// What each method's training leaves if nothing happens.
static STRAIGHT: LazyLock<Vec<BTreeMap<String, String>>> = LazyLock::new(|| {
    let straight = |method| {
        let folder = tempfile::tempdir().unwrap();
        let model = SMALL.model(method, &SMALL.weights);
        SMALL.train(&model, &SMALL.options(), &SMALL.run(folder.path(), false), &Silent).unwrap();
        hashes(folder.path())
    };
    (0..METHODS).map(straight).collect()
});

/// Of every file that two equal trainings leave alike.
fn hashes(run: &Path) -> BTreeMap<String, String> {
    let mut names = vec!["metrics.jsonl".to_owned(), "last/checkpoint.safetensors".to_owned()];
    for entry in fs::read_dir(run.join("best")).unwrap() {
        names.push(format!("best/{}", entry.unwrap().file_name().into_string().unwrap()));
    }
    names.into_iter().map(|name| (name.clone(), hash_file(&run.join(name)).unwrap())).collect()
}

/// Puts numbers into a parameter when so many steps are done: what a fault of the memory, of a kernel or of the optimiser
/// would leave.
struct Inject<'a> {
    model: &'a LanguageModel,
    after: u64,
    edit: &'a (dyn Fn(&LanguageModel) + Sync),
    told: AtomicU64,
}

impl Progress for Inject<'_> {
    fn advance(&self, _: u64) {
        // The first time is before the first step.
        if self.told.fetch_add(1, Ordering::Relaxed) == self.after {
            (self.edit)(self.model);
        }
    }
}

fn set(variable: &Var, edit: impl FnOnce(&mut Vec<f32>)) {
    let mut values = variable.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    edit(&mut values);
    let shape = variable.dims().to_vec();
    variable.set(&Tensor::from_vec(values, shape, variable.device()).unwrap()).unwrap();
}

/// A parameter that has numbers.
fn parameter<'m>(model: &'m LanguageModel, dice: &mut Dice) -> (&'m String, &'m Var) {
    let all: Vec<_> = model.parameters().iter().filter(|(_, variable)| variable.elem_count() > 0).collect();
    dice.one_of(&all)
}

/// The number of a step in an error's message.
fn step_of(message: &str) -> u64 {
    let digits = message.split("step ").nth(1).unwrap_or_else(|| panic!("no step in: {message}"));
    digits.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// What an error says was not finite.
fn what(message: &str) -> &'static str {
    let all = ["logits", "loss", "gradient", "second moment", "value of", "of the checkpoint"];
    all.into_iter().find(|what| message.contains(what)).unwrap_or_else(|| panic!("of what? {message}"))
}

/// A number that is none, in a parameter: an error names the step and what was not finite; the files hold finite numbers alone;
/// and the last checkpoint goes on to the bytes of a training in which nothing happened.
fn injected(dice: &mut Dice) -> String {
    let small = &*SMALL;
    let method = dice.below(METHODS);
    let after = dice.below(STEPS as usize) as u64;
    let value = dice.one_of(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    let everywhere = dice.below(3) == 0;
    let choice = dice.below(1 << 30) as u64;
    let model = small.model(method, &small.weights);
    let edit = |model: &LanguageModel| {
        let mut dice = Dice::of(choice);
        let (chosen, _) = parameter(model, &mut dice);
        for (name, variable) in model.parameters().iter().filter(|(_, variable)| variable.elem_count() > 0) {
            if everywhere || name == chosen {
                set(variable, |values| {
                    let place = dice.below(values.len());
                    values[place] = value;
                });
            }
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let progress = Inject { model: &model, after, edit: &edit, told: AtomicU64::new(0) };
    let result = small.train(&model, &small.options(), &small.run(folder.path(), false), &progress);
    finite::check(folder.path());
    let told = format!("method {method}, {value} after step {after}");
    let message = result.expect_err(&told).to_string();
    assert!(message.contains("finite"), "{told}: {message}");
    assert_eq!(step_of(&message), after, "{told}: {message}");
    let model = small.model(method, &small.weights);
    small.train(&model, &small.options(), &small.run(folder.path(), true), &Silent).unwrap();
    assert!(hashes(folder.path()) == STRAIGHT[method], "another result after the resume: {told}: {message}");
    format!("caught in {}", what(&message))
}

/// Options, weights and parameters that are finite, and with which numbers leave f32 by themselves: in the pass, in the loss,
/// in gradients, in their squares, in an update.
fn overflowing(dice: &mut Dice) -> String {
    let small = &*SMALL;
    let method = dice.below(METHODS);
    let mut options = small.options();
    let mut weights = small.weights.clone();
    let mut scale = |name: &str, factor: f64| {
        let mut tensors = weights.to_tensors().unwrap();
        let tensor = (&tensors[name] * factor).unwrap();
        tensors.insert(name.to_owned(), tensor);
        weights = Weights::from_tensors(&small.config, tensors).unwrap();
    };
    match dice.below(4) {
        0 => {
            options.learning_rate = dice.one_of(&[1e20, 1e25, 1e30]);
            options.warmup = 0.0;
        }
        // The head's LayerNorm of numbers near 0, times one near the end of f32: the logits are finite, and what is divided by
        // the root of its epsilon on the way back is not.
        1 => {
            let small = dice.one_of(&[1e-6, 1e-3, 0.02]);
            ["weight", "bias"].iter().for_each(|part| scale(&format!("lm_head.dense.{part}"), small));
            scale("lm_head.layer_norm.weight", dice.one_of(&[3e37, 1e38, 2e38]));
        }
        // Squares of gradients that are not clipped.
        2 => {
            options.max_norm = 1e300;
            scale("lm_head.layer_norm.weight", dice.one_of(&[1e20, 1e22, 1e24, 1e30]));
        }
        _ => {
            let names: Vec<String> = small.weights.to_tensors().unwrap().into_keys().collect();
            scale(&names[dice.below(names.len())], dice.one_of(&[1e10, 1e20, 1e30, 1e37]));
        }
    }
    let after = dice.below(STEPS as usize) as u64;
    let value = dice.one_of(&[f32::MAX, -3e38, 1e30, 1e20]);
    let (choice, is_edited) = (dice.below(1 << 30) as u64, dice.below(2) == 0);
    let edit = |model: &LanguageModel| {
        if is_edited {
            set(parameter(model, &mut Dice::of(choice)).1, |values| values.fill(value));
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let model = small.model(method, &weights);
    let progress = Inject { model: &model, after, edit: &edit, told: AtomicU64::new(0) };
    let result = small.train(&model, &options, &small.run(folder.path(), false), &progress);
    finite::check(folder.path());
    let Err(error) = result else { return "stayed finite".into() };
    let message = error.to_string();
    assert!(message.contains("finite"), "{message}");
    assert!(step_of(&message) <= STEPS, "{message}");
    format!("caught in {} that left f32", what(&message))
}

#[test]
fn training() {
    let went = cases::run("torture", "nan::training", 100, |number| {
        let mut dice = Dice::of(number);
        if number % 2 == 0 { injected(&mut dice) } else { overflowing(&mut dice) }
    });
    let all: u64 = went.values().sum();
    let finite = went.get("stayed finite").copied().unwrap_or(0);
    assert!(all < 20 || finite * 3 < all, "{finite} of {all} stayed finite");
    if all >= 100 {
        for what in ["logits", "gradient", "second moment", "value of"] {
            assert!(went.keys().any(|how| how.contains(what)), "nothing was caught in {what}: {went:?}");
        }
    }
}
