//! Small random models of every family against Hugging Face transformers in float64 (tests/models/make.py).

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::path::{Path, PathBuf};

use candle_core::{D, Device, Tensor};
use skn_artifact::TensorFile;
use skn_model::{
    Config, Gradients, LanguageModel, ModelFolder, NoHook, Pass, Result, Rows, Scored, Sequences, Site,
    Tuning, Weights,
};

/// As in make.py.
const TEXTS: [&[u32]; 3] = [&[5, 9, 1, 30, 7, 7, 2, 40, 11, 3, 25], &[8], &[12, 44, 6, 19, 33]];
const LABELS: [u32; 3] = [0, 1, 0];
const WORDS: [u32; 2] = [4, 10];
const TOLERANCE: f32 = 2e-5;

fn cases() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let folders = std::fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.join("config.json").is_file()).collect();
    folders.sort();
    assert!(folders.len() >= 13, "{folders:?}");
    folders
}

struct Case {
    name: String,
    config: Config,
    weights: Weights,
    expected: TensorFile,
}

impl Case {
    fn open(folder: &Path) -> Self {
        let model = ModelFolder::open(folder).unwrap();
        let config = model.config().unwrap();
        let weights = Weights::read(&model, &config, &Device::Cpu).unwrap();
        let expected = TensorFile::read(&folder.join("expected.safetensors")).unwrap();
        Self { name: folder.file_name().unwrap().to_string_lossy().into_owned(), config, weights, expected }
    }

    fn prompt(&self) -> Tuning {
        let (shape, values) = self.expected.f32("prompt", None).unwrap();
        Tuning::prompt(Tensor::from_vec(values, shape, &Device::Cpu).unwrap(), false).unwrap()
    }

    fn model(&self, tuning: &Tuning, gradients: Gradients) -> LanguageModel {
        LanguageModel::new(&self.config, &self.weights, tuning, 0, gradients).unwrap()
    }

    fn expect(&self, what: &str, found: &[f32]) {
        let (_, expected) = self.expected.f32(what, None).unwrap();
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.name);
        let scale = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
        let apart = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
        let worst = apart.fold(0f32, f32::max);
        assert!(worst <= TOLERANCE * scale, "{}: {what}: {worst} apart, at most {scale}", self.name);
    }
}

fn batch<'a>(ids: &'a [u32], starts: &'a [usize]) -> Sequences<'a> {
    Sequences { ids, starts, samples: &[0, 1, 2], seconds: &[] }
}

/// Neurons, layers' outputs and logits of all texts in one batch, of each text apart.
fn check(case: &Case, what: &str, model: &LanguageModel) {
    let ids = TEXTS.concat();
    let starts = [0, 11, 12, 17];
    let mut seen: [[Vec<f32>; 2]; 3] = Default::default();
    let mut watch = |site: Site, rows: &Rows<'_>, x: Tensor| -> Result<Tensor> {
        let place = usize::from(matches!(site, Site::LayerOut { .. }));
        for (row, &text) in x.to_vec2::<f32>()?.iter().zip(rows.sequence()) {
            seen[text as usize][place].extend(row);
        }
        Ok(x)
    };
    let hidden = model.forward(batch(&ids, &starts), &Pass::default(), &mut watch).unwrap();
    let logits = model.logits(&hidden, Scored::All).unwrap().to_vec2::<f32>().unwrap();
    for (text, ([neurons, outputs], logits)) in seen.iter().zip(&logits).enumerate() {
        case.expect(&format!("{what}.{text}.neurons"), neurons);
        case.expect(&format!("{what}.{text}.outputs"), outputs);
        case.expect(&format!("{what}.{text}.logits"), logits);
    }
    // Only what is asked for: the same answers.
    let alone = model.forward(batch(&ids, &starts), &Pass::default(), &mut NoHook).unwrap();
    let alone = model.logits(&alone, Scored::Tokens(&WORDS)).unwrap().to_vec2::<f32>().unwrap();
    for (alone, all) in alone.iter().zip(&logits) {
        let close = WORDS.iter().zip(alone).all(|(&word, alone)| (all[word as usize] - alone).abs() < 2e-5);
        assert!(close, "{}: {what}: {alone:?} beside {all:?}", case.name);
    }
}

#[test]
fn every_family_computes_what_transformers_does() {
    for folder in cases() {
        let case = Case::open(&folder);
        check(&case, "plain", &case.model(&Tuning::plain_text(), Gradients::Nothing));
        check(&case, "prompted", &case.model(&case.prompt(), Gradients::Nothing));
    }
}

#[test]
fn a_prompts_gradient_is_that_of_autograd() {
    for folder in cases() {
        let case = Case::open(&folder);
        let model = case.model(&case.prompt(), Gradients::Tuned);
        let ids = TEXTS.concat();
        let hidden = model.forward(batch(&ids, &[0, 11, 12, 17]), &Pass::default(), &mut NoHook).unwrap();
        let logits = model.logits(&hidden, Scored::Tokens(&WORDS)).unwrap();
        let labels = Tensor::new(&LABELS, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let highest = logits.max_keepdim(D::Minus1).unwrap().detach();
        let shifted = logits.broadcast_sub(&highest).unwrap();
        let sum = shifted.exp().unwrap().sum_keepdim(D::Minus1).unwrap().log().unwrap();
        let loss = (sum - shifted.gather(&labels, 1).unwrap()).unwrap().sum_all().unwrap();
        case.expect("loss", &[loss.to_scalar::<f32>().unwrap()]);
        let (_, prompt) = model.parameters().first_key_value().unwrap();
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(prompt).unwrap().flatten_all().unwrap();
        case.expect("gradient", &gradient.to_vec1::<f32>().unwrap());
    }
}

#[test]
fn older_configurations_say_the_same() {
    let mut older = 0;
    for folder in cases() {
        let path = folder.join("older.json");
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let config = Config::from_json(&bytes, &path).unwrap();
        let newer = ModelFolder::open(&folder).unwrap().config().unwrap();
        assert!(config.computes_as(&newer), "{}", folder.display());
        older += 1;
    }
    assert!(older >= 10, "{older}");
}

/// A hook that holds neurons at their folded values, in the layers that are cut.
fn held(cuts: &[Option<skn_model::LayerCut>], site: Site, x: Tensor) -> Result<Tensor> {
    let (Site::FfnAct { layer }, Some(cut)) = (site, &cuts[site.layer()]) else { return Ok(x) };
    let _ = layer;
    let mut rows = x.to_vec2::<f32>()?;
    for row in &mut rows {
        for (neuron, value) in row.iter_mut().enumerate() {
            if !cut.kept.contains(&(neuron as u32)) {
                *value = cut.folded[neuron];
            }
        }
    }
    Ok(Tensor::new(rows, &Device::Cpu)?)
}

#[test]
fn a_pruned_model_answers_as_the_edited_one() {
    use skn_model::{LayerCut, PrunedForm, prune};
    for folder in cases() {
        let case = Case::open(&folder);
        let width = case.config.intermediate_size;
        let means: Vec<f32> = (0..width).map(|neuron| (neuron as f32 * 0.7).sin() * 0.2).collect();
        let kept: Vec<u32> = (0..width as u32).filter(|neuron| neuron % 3 == 1).collect();
        let cut = |kept: &[u32]| Some(LayerCut::hold_others(kept.to_vec(), &means).unwrap());
        let cuts = [cut(&kept), None, cut(&kept[2..]), cut(&[])];
        let (config, weights) = prune(&case.config, &case.weights, &cuts, PrunedForm::Narrow).unwrap();
        // Written and read again, with the configuration beside it.
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("config.json"), config.to_json()).unwrap();
        std::fs::write(place.path().join("model.safetensors"), weights.to_bytes().unwrap()).unwrap();
        let folder = ModelFolder::open(place.path()).unwrap();
        let config = folder.config().unwrap();
        let weights = Weights::read(&folder, &config, &Device::Cpu).unwrap();
        let tuning = case.prompt();
        let pruned = LanguageModel::new(&config, &weights, &tuning, 0, Gradients::Nothing).unwrap();
        let (ids, starts) = (TEXTS.concat(), [0, 11, 12, 17]);
        let answers = |model: &LanguageModel, edit: bool| {
            let mut hook =
                |site: Site, _: &Rows<'_>, x: Tensor| if edit { held(&cuts, site, x) } else { Ok(x) };
            let hidden = model.forward(batch(&ids, &starts), &Pass::default(), &mut hook).unwrap();
            model.logits(&hidden, Scored::All).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let edited = answers(&case.model(&tuning, Gradients::Nothing), true);
        let whole = answers(&case.model(&tuning, Gradients::Nothing), false);
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        let found = answers(&pruned, false);
        assert!(apart(&found, &edited) < 2e-5, "{}: {}", case.name, apart(&found, &edited));
        assert!(apart(&whole, &edited) > 1e-3, "{}: the edit changes nothing", case.name);
    }
}
