//! What a pass asks of a card beside its kernels.

use candle_core::{DType, Device, Tensor};
use skn_kernels::{casts, launches, uploads};
use skn_model::{
    Gradients, Hook, LanguageModel, ModelError, ModelFolder, NoHook, Output, Pass, Precision, Reads, Rows,
    Scored, Sequences, Site, Tuning, Weights,
};

use crate::case::{Case, sequences};
use crate::compile;
use crate::numbers::gradients;

/// What a pass uploads, and the rows that it gives.
fn pass(model: &LanguageModel, batch: Sequences<'_>, output: Output) -> (u64, Vec<usize>) {
    // The weights, once for all passes.
    model.pack(1).unwrap();
    let before = uploads();
    let hidden = model.forward(batch, &Pass { output, dropout: None }, &mut NoHook).unwrap();
    (uploads() - before, hidden.dims().to_vec())
}

#[test]
fn a_pass_uploads_what_is_new_in_its_batch() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let packed = case.first16().packed();
    let (texts, hidden) = (16, case.config.hidden_size);
    assert!(case.config.layers() > 2, "more layers must not make it more");
    // Ids, where rows are, and their tiles; the answers' rows and their tiles.
    let plain = case.model(&Tuning::plain_text(), Gradients::Nothing);
    assert_eq!(pass(&plain, sequences(&packed), Output::Answer), (5, vec![texts, hidden]));
    // And the places of prompt and texts.
    let prompted = case.model(&case.prompt(), Gradients::Nothing);
    assert_eq!(pass(&prompted, sequences(&packed), Output::Answer), (6, vec![texts, hidden]));
    assert_eq!(pass(&prompted, sequences(&packed), Output::Nothing), (0, vec![0, hidden]));
}

/// The label words of a model are looked up once: their rows and their biases.
#[test]
fn label_words_are_uploaded_once() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let model = case.model(&case.prompt(), Gradients::Nothing);
    let packed = case.first16().packed();
    let uploaded = |words: &[u32]| {
        let before = uploads();
        let logits =
            model.forward_logits(sequences(&packed), &Pass::default(), Scored::Tokens(words), &mut NoHook);
        assert_eq!(logits.unwrap().dims(), [16, words.len()]);
        uploads() - before
    };
    model.pack(1).unwrap();
    // The head's matrix is read when it is first needed.
    assert_eq!(uploaded(&case.verbalizer), 6 + 1 + 2);
    assert_eq!([(); 2].map(|()| uploaded(&case.verbalizer)), [6; 2]);
    // Other words are looked up each time.
    assert_eq!([(); 2].map(|()| uploaded(&[5, 6, 7])), [6 + 2; 2]);
    assert_eq!(uploaded(&case.verbalizer), 6);
}

/// A card holds a matrix once: in f32 as it is, in bf16 in half of that.
#[test]
fn a_card_holds_matrices_in_the_precision_of_their_products_alone() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let bytes = |tensor: &Tensor| 4 * tensor.elem_count();
    let all: usize = case.weights.to_tensors().unwrap().values().map(bytes).sum();
    let held = |precision: Precision| {
        let model = case.model(&case.prompt(), Gradients::Tuned).with_precision(precision);
        assert_eq!(model.weight_bytes(), 0, "nothing was needed yet");
        let (loss, found) = gradients(&case, &model, &case.first16());
        assert!(loss.is_finite() && found["prompt_embeddings"].iter().any(|&value| value != 0.0));
        model.weight_bytes()
    };
    // What no product reads is in memory, and nothing else.
    let matrices = held(Precision::F32);
    assert_eq!(case.weights.bytes() + matrices, all);
    assert_eq!(held(Precision::Tf32), matrices);
    assert_eq!(held(Precision::Bf16), matrices / 2);
}

#[test]
fn a_batch_of_no_texts_uploads_nothing() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let none = Sequences { ids: &[], starts: &[0], samples: &[], seconds: &[] };
    for tuning in [Tuning::plain_text(), case.prompt(), case.adapters()] {
        let model = case.model(&tuning, Gradients::Nothing);
        let run = || {
            let answers = model.forward(none, &Pass::default(), &mut NoHook).unwrap();
            assert_eq!(answers.dims(), [0, case.config.hidden_size]);
            assert_eq!(model.logits(&answers, Scored::Tokens(&[])).unwrap().dims(), [0, 0]);
        };
        // The weights, once for all passes.
        run();
        let before = uploads();
        run();
        assert_eq!(uploads(), before);
    }
}

/// Kernels beside products: bias and activation of neurons, attention, and two norms. All other biases are added by products, or by the
/// norms where nothing needs a gradient.
#[test]
fn a_layer_launches_what_it_must() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let packed = case.first16().packed();
    for gradients in [Gradients::Nothing, Gradients::Tuned] {
        let model = case.model(&case.prompt(), gradients);
        let before = launches();
        let pass = Pass { output: Output::Answer, dropout: None };
        model.forward(sequences(&packed), &pass, &mut NoHook).unwrap();
        // And the norm of the embeddings.
        assert_eq!(launches() - before, 1 + 4 * case.config.layers() as u64, "{gradients:?}");
    }
}

/// In bf16 the rows that attention reads are rounded for three products at once, and those that the FFN reads; the others are written
/// rounded, unless a gradient needs them whole.
#[test]
fn a_layer_rounds_what_it_must() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let packed = case.first16().packed();
    let layers = case.config.layers() as u64;
    for (gradients, each, more) in [
        // The rows that ask in the last layer are not those that are asked.
        (Gradients::Nothing, 2, 1),
        (Gradients::Tuned, 6, 0),
    ] {
        let model = case.model(&case.prompt(), gradients).with_precision(Precision::Bf16);
        model.pack(1).unwrap();
        let before = casts();
        let pass = Pass { output: Output::Answer, dropout: None };
        model.forward(sequences(&packed), &pass, &mut NoHook).unwrap();
        assert_eq!(casts() - before, each * layers + more, "{gradients:?}");
    }
}

/// Looks at one site, and sees f32.
struct Look(Site, usize);

impl Hook for Look {
    fn reads(&self, site: Site) -> Reads {
        if site == self.0 { Reads::All } else { Reads::Nothing }
    }

    fn on(&mut self, _: Site, _: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
        assert_eq!(x.dtype(), DType::F32, "{}", self.0);
        self.1 += 1;
        Ok(x)
    }
}

/// Passes over all rows with a hook at each site that there is, next to one that nobody watches; then all of them in one pass.
fn check_looks(model: &LanguageModel, batch: Sequences<'_>) {
    let config = model.config();
    // All rows, so that the last layer computes the same with every hook.
    let rows = batch.ids.len() + batch.samples.len() * model.prompt_rows();
    let pass = Pass { output: Output::Rows((0..rows as u32).collect()), dropout: None };
    let bits = |x: &Tensor| {
        let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let expected = bits(&model.forward(batch, &pass, &mut NoHook).unwrap());
    let of_layer = |layer| {
        let factors = [Site::FfnGate { layer }, Site::FfnUp { layer }];
        let factors = factors.into_iter().filter(|_| config.is_gated());
        factors.chain([Site::FfnAct { layer }, Site::LayerOut { layer }]).map(|site| Look(site, 0))
    };
    let mut looks: Vec<Look> = (0..config.layers()).flat_map(of_layer).collect();
    for look in &mut looks {
        assert_eq!(bits(&model.forward(batch, &pass, look).unwrap()), expected, "{}", look.0);
        assert_eq!(look.1, 1, "{}", look.0);
    }
    let (mut nothing, all) = (NoHook, looks.len());
    let mut hooks: Vec<&mut dyn Hook> = looks.iter_mut().map(|look| look as &mut dyn Hook).collect();
    hooks.push(&mut nothing);
    let mut answers = 0;
    let each = |place, hidden| {
        assert_eq!(bits(&hidden), expected, "{place}");
        answers += 1;
        Ok::<_, ModelError>(())
    };
    model.forward_each(batch, &pass, &mut hooks, each).unwrap();
    assert_eq!(answers, all + 1);
    assert!(looks.iter().all(|look| look.1 == 2));
}

/// In bf16 what nobody sees is made as the next product reads it. That changes no bit, and whoever looks sees it whole.
#[test]
fn whoever_looks_on_in_bf16_changes_no_bit() {
    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let (mut ids, mut starts, samples) = case.first16().packed();
    starts.truncate(3);
    ids.truncate(starts[2]);
    let packed = (ids, starts, samples[..2].into());
    for (tuning, gradients) in [
        (case.prompt(), Gradients::Nothing),
        (case.adapters(), Gradients::Nothing),
        // Biases that train, of layers that read what does not.
        (Tuning::new_bias_for(&case.config), Gradients::Tuned),
    ] {
        check_looks(&case.model(&tuning, gradients).with_precision(Precision::Bf16), sequences(&packed));
    }
}

/// The same of FFNs with gates, of layers that are parallel, and of norms before layers.
#[test]
fn whoever_looks_on_at_other_families_changes_no_bit() {
    if compile::program().is_none() {
        return;
    }
    for family in ["llama", "gpt_neox", "modernbert", "gemma3"] {
        let folder = format!("{}/../../tests/models/{family}", env!("CARGO_MANIFEST_DIR"));
        let folder = ModelFolder::open(folder).unwrap();
        let config = folder.config().unwrap();
        let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
        let tuning = Tuning::bare(&config);
        let model = LanguageModel::new(&config, &weights, &tuning, 3, Gradients::Nothing).unwrap();
        let (ids, starts) = ([5, 9, 7, 11, 6, 8, 10], [0, 4, 7]);
        let batch = Sequences { ids: &ids, starts: &starts, samples: &[0, 1], seconds: &[] };
        check_looks(&model.with_precision(Precision::Bf16), batch);
    }
}

/// A hook that first says that it reads nothing.
#[test]
fn a_hook_that_changes_its_mind_is_refused() {
    struct Undecided(std::cell::Cell<usize>);

    impl Hook for Undecided {
        fn reads(&self, site: Site) -> Reads {
            self.0.set(self.0.get() + usize::from(site == Site::FfnAct { layer: 0 }));
            if site == (Site::FfnAct { layer: 0 }) && self.0.get() > 1 { Reads::All } else { Reads::Nothing }
        }

        fn on(&mut self, _: Site, _: &Rows<'_>, x: Tensor) -> skn_model::Result<Tensor> {
            Ok(x)
        }
    }

    if compile::program().is_none() {
        return;
    }
    let case = Case::load();
    let packed = case.first16().packed();
    let model = case.model(&case.prompt(), Gradients::Nothing).with_precision(Precision::Bf16);
    let mut hook = Undecided(std::cell::Cell::new(0));
    let found = model.forward(sequences(&packed), &Pass::default(), &mut hook);
    let error = found.unwrap_err().to_string();
    assert!(error.contains("expected to read the same throughout a pass"), "{error}");
}
