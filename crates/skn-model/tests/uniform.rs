//! Pruned models that other programs load: of one width in all layers, and dense.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{Device, Tensor};
use skn_artifact::{Array, TensorBundle};
use skn_model::{
    Config, Gradients, LanguageModel, LayerCut, ModelFolder, Pass, PrunedForm, Result, Rows, Scored,
    Sequences, Site, Tuning, Weights, prune,
};

/// Without the ids that pad, mask or begin a text anywhere.
const TEXTS: [&[u32]; 3] = [&[25, 9, 12, 30, 7, 7, 22, 40, 11, 13, 25], &[8], &[12, 44, 6, 19, 33]];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folders of small models of all families.
fn folders() -> Vec<PathBuf> {
    let places = ["tests/models", "tests/families", "tests/golden"].map(|place| root().join(place));
    let entries = places.iter().flat_map(|place| std::fs::read_dir(place).unwrap());
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.join("config.json").is_file()).collect();
    folders.sort();
    assert!(folders.len() >= 17, "{folders:?}");
    folders
}

fn read(folder: &Path) -> (Config, Weights) {
    let folder = ModelFolder::open(folder).unwrap();
    let config = folder.config().unwrap();
    let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
    (config, weights)
}

/// Logits `[texts * V]` where each text answers; with neurons held as `cuts` say.
fn logits(config: &Config, weights: &Weights, cuts: &[Option<LayerCut>]) -> Vec<f32> {
    let model = LanguageModel::new(config, weights, &Tuning::plain_text(), 4, Gradients::Nothing).unwrap();
    let ids = TEXTS.concat();
    let batch = Sequences { ids: &ids, starts: &[0, 11, 12, 17], samples: &[0, 1, 2], seconds: &[] };
    let mut hold = |site: Site, _: &Rows<'_>, x: Tensor| -> Result<Tensor> {
        let Site::FfnAct { layer } = site else { return Ok(x) };
        let Some(Some(cut)) = cuts.get(layer) else { return Ok(x) };
        let mut rows = x.to_vec2::<f32>()?;
        for row in &mut rows {
            let neurons = row.iter_mut().enumerate();
            let removed = neurons.filter(|(neuron, _)| !cut.kept.contains(&(*neuron as u32)));
            removed.for_each(|(neuron, value)| *value = cut.folded[neuron]);
        }
        Ok(Tensor::new(rows, &Device::Cpu)?)
    };
    let answers = model.forward(batch, &Pass::default(), &mut hold).unwrap();
    model.logits(&answers, Scored::All).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn apart(some: &[f32], others: &[f32]) -> f32 {
    assert_eq!(some.len(), others.len());
    some.iter().zip(others).fold(0f32, |most, (one, other)| most.max((one - other).abs()))
}

/// Other neurons in each layer, but as many.
fn cuts(config: &Config) -> Vec<Option<LayerCut>> {
    let cut = |(layer, &width): (usize, &usize)| {
        let means: Vec<f32> = (0..width).map(|neuron| ((neuron + layer) as f32 * 0.7).sin() * 0.2).collect();
        let mut kept: Vec<u32> = (0..7).map(|place| ((place * 3 + layer) % width) as u32).collect();
        kept.sort_unstable();
        Some(LayerCut::hold_others(kept, &means).unwrap())
    };
    config.intermediate_sizes.iter().enumerate().map(cut).collect()
}

/// A model's folder as the program writes it, and what it must answer.
struct Written {
    place: PathBuf,
    edited: Vec<f32>,
    whole: Vec<f32>,
}

/// Each model that can have the form, pruned and written below `place`; and how many were refused.
fn write_all(form: PrunedForm, place: &Path) -> (Vec<Written>, usize) {
    let (mut written, mut refused) = (Vec::new(), 0);
    for folder in folders() {
        let (config, weights) = read(&folder);
        let cuts = cuts(&config);
        assert_eq!(form.check(&config).is_ok(), prune(&config, &weights, &cuts, form).is_ok());
        let (pruned, small) = match prune(&config, &weights, &cuts, form) {
            Ok(pruned) => pruned,
            Err(error) => {
                let message = error.to_string();
                let parts =
                    ["biases in transformers", config.model_type(), "modernbert, llama, gpt_neox, gpt2"];
                assert!(parts.iter().all(|part| message.contains(part)), "{message}");
                refused += 1;
                continue;
            }
        };
        let parent = folder.parent().unwrap().file_name().unwrap().to_string_lossy();
        let name = format!("{parent}-{}", folder.file_name().unwrap().to_string_lossy());
        let place = place.join(name);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("config.json"), pruned.to_json()).unwrap();
        std::fs::write(place.join("model.safetensors"), small.to_bytes().unwrap()).unwrap();
        let (edited, whole) = (logits(&config, &weights, &cuts), logits(&config, &weights, &[]));
        written.push(Written { place, edited, whole });
    }
    (written, refused)
}

#[test]
fn a_model_for_others_answers_as_the_edited_one() {
    for form in [PrunedForm::Uniform, PrunedForm::Dense] {
        let place = tempfile::tempdir().unwrap();
        let (written, refused) = write_all(form, place.path());
        // Mistral, Qwen 2 and 3, Gemma 2 and 3, OLMo 2.
        assert_eq!((written.len(), refused), (folders().len() - 6, 6));
        for Written { place, edited, whole } in written {
            let (config, weights) = read(&place);
            let name = place.display();
            let found = logits(&config, &weights, &[]);
            assert!(apart(&found, &edited) < 2e-5, "{name}: {}", apart(&found, &edited));
            assert!(apart(&whole, &edited) > 1e-3, "{name}: the edit changes nothing");
            let json = String::from_utf8(config.to_json()).unwrap();
            assert!(
                !json.contains("skn_intermediate_sizes") && !json.contains("skn_ffn_output_bias"),
                "{json}"
            );
            let width = if form == PrunedForm::Uniform { 7 } else { config.intermediate_size };
            assert!(config.intermediate_sizes.iter().all(|&other| other == width), "{name}");
            // Pruned again, in the form that only these programs read.
            let again = config.pruned(&vec![Some(vec![0, 3]); config.layers()]).unwrap();
            assert_eq!(again.kept_neurons.unwrap().len(), config.layers(), "{name}");
        }
    }
}

#[test]
fn a_layer_left_whole_is_not_uniform_and_a_narrow_model_not_dense() {
    let (config, weights) = read(&root().join("tests/models/llama"));
    let mut cuts = cuts(&config);
    cuts[1] = None;
    let message = prune(&config, &weights, &cuts, PrunedForm::Uniform).unwrap_err().to_string();
    assert!(message.contains("one width of all layers") && message.contains("[7, 20, 7, 7]"), "{message}");
    // A layer left whole gets the biases that its neighbours need.
    let (narrow, weights) = prune(&config, &weights, &cuts, PrunedForm::Narrow).unwrap();
    let means = |width: usize| vec![0.25; width];
    let cuts = narrow.intermediate_sizes.iter();
    let cuts = cuts.map(|&width| Some(LayerCut::hold_others(vec![0, 3], &means(width)).unwrap()));
    let cuts: Vec<_> = cuts.collect();
    let message = prune(&narrow, &weights, &cuts, PrunedForm::Dense).unwrap_err().to_string();
    assert!(message.contains("one width") && message.contains("[7, 20, 7, 7]"), "{message}");
    // What was narrow becomes uniform, with its neurons' first names.
    let (uniform, small) = prune(&narrow, &weights, &cuts, PrunedForm::Uniform).unwrap();
    let kept = uniform.kept_neurons.as_ref().unwrap();
    let first = &narrow.kept_neurons.as_ref().unwrap()[0].as_ref().unwrap();
    assert_eq!(kept[0].as_ref().unwrap()[..], [first[0], first[3]]);
    assert_eq!(kept[1].as_ref().unwrap()[..], [0, 3]);
    let found = apart(&logits(&uniform, &small, &[]), &logits(&narrow, &weights, &cuts));
    assert!(found < 2e-5, "{found}");
}

/// `SKN_PYTHON` is a Python with torch, transformers and safetensors.
#[test]
#[ignore = "needs Python with transformers"]
fn transformers_answers_as_we_do() {
    let python = std::env::var("SKN_PYTHON").unwrap_or_else(|_| "python3".into());
    for form in [PrunedForm::Uniform, PrunedForm::Dense] {
        let place = tempfile::tempdir().unwrap();
        let (written, _) = write_all(form, place.path());
        for Written { place, .. } in &written {
            let (config, weights) = read(place);
            let mut bundle = TensorBundle::new();
            let found = logits(&config, &weights, &[]);
            bundle.insert("logits", Array::f32(vec![3, found.len() / 3], found).unwrap());
            for (number, text) in TEXTS.iter().enumerate() {
                let ids: Vec<i64> = text.iter().map(|&id| i64::from(id)).collect();
                bundle.insert(format!("ids.{number}"), Array::i64(vec![ids.len()], ids).unwrap());
            }
            std::fs::write(place.join("expected.safetensors"), bundle.to_bytes().unwrap()).unwrap();
        }
        let mut check = Command::new(&python);
        check.arg(root().join("tests/models/others_load.py"));
        check.args(written.iter().map(|written| &written.place));
        let done = check.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(
            said.lines().filter(|line| line.ends_with("same answers")).count(),
            written.len(),
            "{said}"
        );
        print!("{said}");
    }
}
