//! Logits and activations.

use std::collections::BTreeMap;

use candle_core::Tensor;
use skn_model::{
    Chain, Gradients, Hook, LanguageModel, NoHook, Output, Pass, Reads, Result, Rows, Scored, Sequences,
    Site, Tuning, Weights,
};

use crate::case::{Case, Texts, assert_near, assert_same_bits, sequences};

/// What the neurons of each layer do at the prompt rows, by layer.
#[derive(Default)]
struct Capture {
    reads: Option<Reads>,
    layers: BTreeMap<usize, Vec<f32>>,
}

impl Hook for Capture {
    fn reads(&self, site: Site) -> Reads {
        match site {
            Site::FfnAct { .. } => self.reads.unwrap_or(Reads::Prompt),
            _ => Reads::Nothing,
        }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> Result<Tensor> {
        let taken = self.layers.entry(site.layer()).or_default();
        for (row, place) in x.to_vec2::<f32>()?.iter().zip(rows.place()) {
            if place.in_prompt.is_some() {
                taken.extend(row);
            }
        }
        Ok(x)
    }
}

impl Capture {
    fn of(model: &LanguageModel, texts: &Texts, output: Output, reads: Reads) -> Self {
        let (ids, starts, samples) = texts.packed();
        let batch = Sequences { ids: &ids, starts: &starts, samples: &samples, seconds: &[] };
        let mut capture = Self { reads: Some(reads), ..Self::default() };
        model.forward(batch, &Pass { output, dropout: None }, &mut capture).unwrap();
        capture
    }

    /// `[texts, L, P, F]`.
    fn by_text(&self, texts: usize) -> Vec<f32> {
        let part = |layer: &Vec<f32>, text: usize| {
            let size = layer.len() / texts;
            layer[text * size..(text + 1) * size].to_vec()
        };
        (0..texts).flat_map(|text| self.layers.values().flat_map(move |layer| part(layer, text))).collect()
    }
}

#[test]
fn activations_at_the_prompt_rows() {
    let case = Case::load();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    let mut texts = case.test();
    texts.texts.truncate(6);
    let only_read = Capture::of(&model, &texts, Output::Nothing, Reads::Prompt).by_text(6);
    assert_near("activations", &only_read, &case.f32("test_acts_first6"), 2e-4);
    for (output, reads) in [(Output::Answer, Reads::Prompt), (Output::Nothing, Reads::All)] {
        let among_others = Capture::of(&model, &texts, output, reads).by_text(6);
        assert_same_bits("rows beside those that are read", &among_others, &only_read);
    }
}

#[test]
fn a_text_has_the_same_bits_alone_and_in_any_batch() {
    let case = Case::load();
    let texts = case.test();
    let mut reversed = texts.clone();
    reversed.texts.reverse();
    for (name, tuning) in case.tunings() {
        let model = case.model(&tuning, Gradients::Nothing);
        let together = case.logits(&model, &texts);
        let backwards = case.logits(&model, &reversed);
        let seen = Capture::of(&model, &texts, Output::Nothing, Reads::Prompt).by_text(texts.texts.len());
        let size = seen.len() / texts.texts.len();
        for index in 0..texts.texts.len() {
            let alone = texts.one(index);
            let place = 2 * (texts.texts.len() - 1 - index);
            let what = format!("{name}, text {index}");
            assert_same_bits(&what, &case.logits(&model, &alone), &together[2 * index..][..2]);
            assert_same_bits(&what, &backwards[place..][..2], &together[2 * index..][..2]);
            let seen_alone = Capture::of(&model, &alone, Output::Nothing, Reads::Prompt).by_text(1);
            assert_same_bits(&what, &seen_alone, &seen[index * size..][..size]);
        }
    }
}

#[test]
fn a_model_that_can_train_gives_the_same_bits() {
    let case = Case::load();
    let texts = case.test();
    for (name, tuning) in case.tunings() {
        let expected = case.logits(&case.model(&tuning, Gradients::Nothing), &texts);
        for gradients in [Gradients::Tuned, Gradients::All] {
            let found = case.logits(&case.model(&tuning, gradients), &texts);
            assert_same_bits(name, &found, &expected);
        }
    }
}

/// A model keeps the label words that it scores, unless something may change them.
#[test]
fn label_words_that_train_are_those_of_now() {
    let case = Case::load();
    let packed = case.first16().packed();
    let of = |model: &LanguageModel, answers: &Tensor| {
        let logits = model.logits(answers, Scored::Tokens(&case.verbalizer)).unwrap();
        logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let model = case.model(&Tuning::plain_text(), Gradients::All);
    let answers = model.forward(sequences(&packed), &Pass::default(), &mut NoHook).unwrap();
    let before = of(&model, &answers);
    for name in ["roberta.embeddings.word_embeddings.weight", "lm_head.bias"] {
        let var = &model.backbone()[name];
        var.set(&var.affine(0.9, 0.02).unwrap()).unwrap();
    }
    let after = of(&model, &answers);
    assert_ne!(after, before);
    let mut tensors = case.weights.to_tensors().unwrap();
    tensors.extend(model.backbone().iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())));
    let weights = Weights::from_tensors(&case.config, tensors).unwrap();
    let fixed =
        LanguageModel::new(&case.config, &weights, &Tuning::plain_text(), case.mask, Gradients::Nothing);
    let fixed = fixed.unwrap();
    for _ in 0..2 {
        assert_same_bits("kept words", &of(&fixed, &answers), &after);
    }
}

#[test]
fn texts_that_do_not_fit_are_refused() {
    let case = Case::load();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    let refused = |ids: &[u32], starts: &[usize]| {
        let samples = vec![0; starts.len().saturating_sub(1)];
        let batch = Sequences { ids, starts, samples: &samples, seconds: &[] };
        model.forward(batch, &Pass::default(), &mut NoHook).unwrap_err().to_string()
    };
    assert_eq!(model.max_text(), 122);
    let longest = Texts { texts: vec![vec![5; 122]], labels: Vec::new() };
    assert_eq!(case.logits(&model, &longest).len(), 2);
    assert!(refused(&[5; 123], &[0, 123]).contains("at most 128, found 129 (6 of them prompt)"));
    assert!(refused(&[0, 420, 2], &[0, 3]).contains("less than vocab_size 420, found 420"));
    assert!(refused(&[0, 2], &[0, 3]).contains("sequences"));
    assert!(refused(&[0, 2, 0, 2], &[2, 4]).contains("packing"));
    let mask_outside =
        LanguageModel::new(&case.config, &case.weights, &Tuning::none(), 420, Gradients::Nothing);
    assert!(mask_outside.err().unwrap().to_string().contains("<mask>"));
}

/// Keeps the neurons of each layer that it reads, and what the FFN made of them.
#[derive(Default)]
struct Sees {
    /// The layers whose FFN's output it asks for, of those that it reads: all but the first.
    asks: Vec<usize>,
    neurons: BTreeMap<usize, Tensor>,
    outputs: BTreeMap<usize, Tensor>,
}

impl Hook for Sees {
    fn reads(&self, site: Site) -> Reads {
        match site {
            Site::FfnAct { layer } if layer > 0 => Reads::Prompt,
            _ => Reads::Nothing,
        }
    }

    fn on(&mut self, site: Site, _: &Rows<'_>, x: Tensor) -> Result<Tensor> {
        // What goes on is what the output is of.
        let x = (x * 0.5)?;
        self.neurons.insert(site.layer(), x.clone());
        Ok(x)
    }

    fn sees_ffn_output(&self, layer: usize) -> bool {
        self.asks.contains(&layer)
    }

    fn see_ffn_output(&mut self, layer: usize, rows: &Rows<'_>, output: &Tensor) -> Result<()> {
        assert_eq!(rows.len(), output.dim(0)?);
        assert!(self.outputs.insert(layer, output.clone()).is_none(), "once for each time that neurons came");
        Ok(())
    }
}

#[test]
fn a_hook_sees_what_the_ffn_makes_of_its_neurons() {
    let case = Case::load();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    let last = model.config().layers() - 1;
    let (ids, starts, samples) = case.first16().packed();
    let batch = Sequences { ids: &ids, starts: &starts, samples: &samples, seconds: &[] };
    let of = |asks: &[usize]| Sees { asks: asks.to_vec(), ..Sees::default() };
    let mut both = Chain(of(&[0, last]), Chain(NoHook, of(&[1])));
    model.forward(batch, &Pass { output: Output::Nothing, dropout: None }, &mut both).unwrap();
    let Chain(first, Chain(_, second)) = both;
    let seen = |hook: &Sees| hook.outputs.keys().copied().collect::<Vec<_>>();
    assert_eq!(seen(&first), [last], "it does not read the neurons of layer 0");
    assert_eq!(seen(&second), [1]);
    // Both halve the neurons, the second what the first returned.
    for (layer, output) in first.outputs.iter().chain(&second.outputs) {
        let expected = model.ffn_output(*layer, &second.neurons[layer]).unwrap();
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_same_bits(&format!("layer {layer}"), &values(output), &values(&expected));
    }
}
