//! Passes with many hooks: the bits of a pass for each, and nothing computed twice.

use std::sync::Arc;

use candle_core::{Tensor, TensorId};
use skn_model::{
    Gradients, Hook, LanguageModel, ModelError, NoHook, Output, Pass, Reads, Result, Rows, Site,
    TrainingDropout,
};

use crate::case::{Case, Texts, assert_same_bits, sequences};

/// Adds to what it reads, and remembers what it was given.
#[derive(Clone)]
struct Shift {
    sites: Vec<Site>,
    reads: Reads,
    given: Vec<TensorId>,
}

impl Shift {
    fn at(sites: &[Site], reads: Reads) -> Self {
        Self { sites: sites.to_vec(), reads, given: Vec::new() }
    }
}

impl Hook for Shift {
    fn reads(&self, site: Site) -> Reads {
        if self.sites.contains(&site) { self.reads } else { Reads::Nothing }
    }

    fn on(&mut self, _: Site, _: &Rows<'_>, x: Tensor) -> Result<Tensor> {
        self.given.push(x.id());
        Ok(x.affine(1.0, 0.125)?)
    }
}

fn neurons(layer: usize) -> Site {
    Site::FfnAct { layer }
}

fn output(layer: usize) -> Site {
    Site::LayerOut { layer }
}

/// Hooks of every kind, in no order.
fn hooks(layers: usize) -> Vec<Shift> {
    let last = layers - 1;
    vec![
        Shift::at(&[neurons(last)], Reads::Answer),
        Shift::at(&[neurons(1), output(last)], Reads::Answer),
        Shift::at(&[], Reads::Nothing),
        Shift::at(&[neurons(0)], Reads::Answer),
        Shift::at(&[output(last)], Reads::Prompt),
        Shift::at(&[output(0)], Reads::All),
        Shift::at(&[neurons(1)], Reads::Answer),
        Shift::at(&[neurons(last)], Reads::All),
        Shift::at(&[], Reads::Nothing),
    ]
}

fn values(hidden: &Tensor) -> Vec<f32> {
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

/// What each hook makes of the hidden states, in the order of the hooks.
fn together(model: &LanguageModel, texts: &Texts, pass: &Pass, hooks: &mut [Shift]) -> Vec<Vec<f32>> {
    let mut found = vec![None; hooks.len()];
    let mut hooks: Vec<&mut dyn Hook> = hooks.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
    let each = |place: usize, hidden: Tensor| {
        assert!(found[place].replace(values(&hidden)).is_none(), "hook {place} is told once");
        Ok::<_, ModelError>(())
    };
    model.forward_each(sequences(&texts.packed()), pass, &mut hooks, each).unwrap();
    found.into_iter().map(Option::unwrap).collect()
}

fn case() -> (Case, Texts) {
    let case = Case::load();
    let mut texts = case.test();
    texts.texts.truncate(5);
    (case, texts)
}

#[test]
fn each_hook_has_the_bits_of_a_pass_of_its_own() {
    let (case, texts) = case();
    let dropout = Some(TrainingDropout { hidden: 0.1, attention: 0.1, seed: 3, step: 7 });
    let rows: Arc<[u32]> = [0, 3, 4, 11].into();
    for (name, tuning) in case.tunings() {
        let model = case.model(&tuning, Gradients::Nothing);
        for (output, dropout) in [
            (Output::Answer, None),
            (Output::Answer, dropout),
            (Output::Rows(rows.clone()), None),
            (Output::Nothing, None),
        ] {
            let pass = Pass { output, dropout };
            let mut all = hooks(case.config.layers());
            let found = together(&model, &texts, &pass, &mut all);
            for (place, mut hook) in hooks(case.config.layers()).into_iter().enumerate() {
                let alone = model.forward(sequences(&texts.packed()), &pass, &mut hook).unwrap();
                assert_same_bits(&format!("{name}, {pass:?}, hook {place}"), &found[place], &values(&alone));
                assert_eq!(all[place].given.len(), hook.given.len(), "{name}, {pass:?}, hook {place}");
            }
        }
    }
}

#[test]
fn hooks_that_begin_at_one_site_are_given_one_tensor() {
    let (case, texts) = case();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    let layers = case.config.layers();
    for site in [neurons(0), output(0), neurons(1), neurons(layers - 1), output(layers - 1)] {
        let hooks = |other: Reads| {
            let mut hooks = vec![
                Shift::at(&[site], Reads::Answer),
                Shift::at(&[neurons(0)], Reads::Answer),
                Shift::at(&[output(layers - 1)], other),
                Shift::at(&[site], Reads::Answer),
            ];
            together(&model, &texts, &Pass::default(), &mut hooks);
            assert_eq!(hooks[0].given.len(), 1, "{site}");
            hooks
        };
        let same = hooks(Reads::Answer);
        assert_eq!(same[0].given, same[3].given, "{site}: the same tensor, not an equal one");
        // Where one has more rows computed, each has the last layer to itself.
        let different = hooks(Reads::All);
        assert_eq!(different[0].given == different[3].given, site.layer() < layers - 1, "{site}");
    }
}

#[test]
fn an_error_ends_the_pass() {
    let (case, texts) = case();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    let (mut first, mut later) =
        (hooks(case.config.layers())[3].clone(), hooks(case.config.layers())[6].clone());
    let mut told = Vec::new();
    let stop = |place: usize, _: Tensor| {
        told.push(place);
        Err(ModelError::hook(neurons(0), std::io::Error::other("the test's")))
    };
    let batch = texts.packed();
    let hooks: &mut [&mut dyn Hook] = &mut [&mut later, &mut NoHook, &mut first];
    let error = model.forward_each(sequences(&batch), &Pass::default(), hooks, stop).unwrap_err();
    assert!(matches!(error, ModelError::Hook { .. }), "{error}");
    assert_eq!((told, later.given.len()), (vec![2], 0), "the lowest hook goes first, and no other");
}

#[test]
fn no_hooks_are_no_work() {
    let (case, texts) = case();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    assert!(together(&model, &texts, &Pass::default(), &mut []).is_empty());
    let batch = texts.packed();
    let outside = skn_model::Sequences { ids: &[420], ..sequences(&batch) };
    let each = |_: usize, _: Tensor| Ok::<_, ModelError>(());
    assert!(model.forward_each(outside, &Pass::default(), &mut [], each).is_err(), "but a check");
}
