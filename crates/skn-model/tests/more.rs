//! Gates, ups and prompts in front, of small random models of every family, against transformers and PEFT in float64
//! (tests/models/more.py).

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::path::{Path, PathBuf};

use candle_core::{D, Device, Tensor};
use skn_artifact::TensorFile;
use skn_model::{
    Config, Gradients, Hook, LanguageModel, ModelFolder, NeuronSite, NoHook, Pass, PromptPlace, ReadAs,
    Reads, Result, Rows, Scored, Sequences, Site, Tuning, Weights,
};

/// As in make.py.
const TEXTS: [&[u32]; 3] = [&[5, 9, 1, 30, 7, 7, 2, 40, 11, 3, 25], &[8], &[12, 44, 6, 19, 33]];
const LABELS: [u32; 3] = [0, 1, 0];
const WORDS: [u32; 2] = [4, 10];
const TOLERANCE: f32 = 2e-5;

struct Case {
    folder: PathBuf,
    config: Config,
    weights: Weights,
    expected: TensorFile,
}

fn cases() -> Vec<Case> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(models.join("more")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() >= 13, "{folders:?}");
    let case = |folder: PathBuf| {
        let model = ModelFolder::open(models.join(folder.file_name().unwrap())).unwrap();
        let config = model.config().unwrap();
        let weights = Weights::read(&model, &config, &Device::Cpu).unwrap();
        let expected = TensorFile::read(&folder.join("expected.safetensors")).unwrap();
        Case { folder, config, weights, expected }
    };
    folders.into_iter().map(case).collect()
}

impl Case {
    fn model(&self, tuning: &Tuning, gradients: Gradients) -> LanguageModel {
        LanguageModel::new(&self.config, &self.weights, tuning, 0, gradients).unwrap()
    }

    fn expect(&self, what: &str, found: &[f32]) {
        let name = self.folder.display();
        let (_, expected) = self.expected.f32(what, None).unwrap();
        assert_eq!(found.len(), expected.len(), "{name}: {what}");
        let scale = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
        let apart = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
        let worst = apart.fold(0f32, f32::max);
        assert!(worst <= TOLERANCE * scale, "{name}: {what}: {worst} apart, at most {scale}");
    }

    fn peft(&self) -> Result<Tuning> {
        let folder = self.folder.join("peft");
        Ok(Tuning::read(&folder, &self.config, &self.weights, None, ReadAs::default())?.tuning)
    }
}

fn batch<'a>(ids: &'a [u32], starts: &'a [usize]) -> Sequences<'a> {
    Sequences { ids, starts, samples: &[0, 1, 2], seconds: &[] }
}

/// Keeps what stands at a site, text by text, and at another edits what is there.
struct Watch {
    site: NeuronSite,
    doubled: Option<NeuronSite>,
    seen: [Vec<f32>; 3],
}

impl Hook for Watch {
    fn reads(&self, site: Site) -> Reads {
        let wanted = [Some(self.site), self.doubled].into_iter().flatten();
        if wanted.into_iter().any(|wanted| wanted.at(site.layer()) == site) {
            Reads::All
        } else {
            Reads::Nothing
        }
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> Result<Tensor> {
        if self.site.at(site.layer()) == site {
            for (row, &text) in x.to_vec2::<f32>()?.iter().zip(rows.sequence()) {
                self.seen[text as usize].extend(row);
            }
        }
        let doubles = self.doubled.is_some_and(|doubled| doubled.at(site.layer()) == site);
        Ok(if doubles { (x * 2.0)? } else { x })
    }
}

fn watched(
    model: &LanguageModel,
    site: NeuronSite,
    doubled: Option<NeuronSite>,
) -> Result<([Vec<f32>; 3], Tensor)> {
    let mut hook = Watch { site, doubled, seen: Default::default() };
    let hidden = model.forward(batch(&TEXTS.concat(), &[0, 11, 12, 17]), &Pass::default(), &mut hook)?;
    Ok((hook.seen, hidden))
}

#[test]
fn gates_and_ups_are_those_of_transformers() {
    let mut gated = 0;
    for case in cases() {
        let model = case.model(&Tuning::plain_text(), Gradients::Nothing);
        let (product, hidden) = watched(&model, NeuronSite::Product, None).unwrap();
        if !case.config.is_gated() {
            let error = watched(&model, NeuronSite::Gate, None).unwrap_err().to_string();
            assert!(error.contains("FFN of layer 0") && error.contains("a plain one"), "{error}");
            continue;
        }
        gated += 1;
        let (gate, beside) = watched(&model, NeuronSite::Gate, None).unwrap();
        let (up, _) = watched(&model, NeuronSite::Up, None).unwrap();
        for text in 0..3 {
            case.expect(&format!("gate.{text}"), &gate[text]);
            case.expect(&format!("up.{text}"), &up[text]);
            // To the bit: who looks at the factors changes nothing.
            let products: Vec<f32> = gate[text].iter().zip(&up[text]).map(|(gate, up)| gate * up).collect();
            assert_eq!(products, product[text], "{}", case.folder.display());
        }
        let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&hidden), values(&beside), "{}", case.folder.display());
        // What a hook gives back goes on: a doubled factor doubles the product.
        let (doubled, _) = watched(&model, NeuronSite::Product, Some(NeuronSite::Up)).unwrap();
        let first = case.config.intermediate_size;
        assert!(doubled[1][..first].iter().zip(&product[1]).all(|(doubled, one)| *doubled == 2.0 * one));
    }
    assert!(gated >= 10, "{gated}");
}

#[test]
fn passes_that_branch_off_at_a_factor_are_those_alone() {
    for case in cases().into_iter().filter(|case| case.config.is_gated()) {
        let model = case.model(&Tuning::plain_text(), Gradients::Nothing);
        let sites = [NeuronSite::Up, NeuronSite::Product, NeuronSite::Gate];
        let mut hooks = sites.map(|site| Watch { site, doubled: Some(site), seen: Default::default() });
        let mut all: [Option<Vec<f32>>; 3] = Default::default();
        let [up, product, gate] = &mut hooks;
        let each = |place: usize, hidden: Tensor| {
            all[place] = Some(hidden.flatten_all()?.to_vec1::<f32>()?);
            Ok::<_, skn_model::ModelError>(())
        };
        let (ids, starts) = (TEXTS.concat(), [0, 11, 12, 17]);
        model.forward_each(batch(&ids, &starts), &Pass::default(), &mut [up, product, gate], each).unwrap();
        for ((site, hook), together) in sites.into_iter().zip(&hooks).zip(all) {
            let (seen, hidden) = watched(&model, site, Some(site)).unwrap();
            assert_eq!(together.unwrap(), hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap(), "{site}");
            assert_eq!(seen, hook.seen, "{site}");
        }
    }
}

#[test]
fn a_prompt_in_front_is_pefts() {
    let mut decoders = 0;
    for case in cases().into_iter().filter(|case| case.config.is_decoder()) {
        decoders += 1;
        let tuning = case.peft().unwrap();
        assert_eq!((tuning.place(), tuning.prompt_rows()), (PromptPlace::Front, 3));
        assert_ne!(tuning.sha256().unwrap(), tuning.clone().with_place(PromptPlace::After).sha256().unwrap());
        let model = case.model(&tuning, Gradients::Tuned);
        assert!(model.layout().has_blind_prompt());
        let (ids, starts) = (TEXTS.concat(), [0, 11, 12, 17]);
        let hidden = model.forward(batch(&ids, &starts), &Pass::default(), &mut NoHook).unwrap();
        let logits = model.logits(&hidden, Scored::All).unwrap().to_vec2::<f32>().unwrap();
        for (text, logits) in logits.iter().enumerate() {
            case.expect(&format!("front.{text}.logits"), logits);
        }
        let logits = model.logits(&hidden, Scored::Tokens(&WORDS)).unwrap();
        let labels = Tensor::new(&LABELS, &Device::Cpu).unwrap().unsqueeze(1).unwrap();
        let highest = logits.max_keepdim(D::Minus1).unwrap().detach();
        let shifted = logits.broadcast_sub(&highest).unwrap();
        let sum = shifted.exp().unwrap().sum_keepdim(D::Minus1).unwrap().log().unwrap();
        let loss = (sum - shifted.gather(&labels, 1).unwrap()).unwrap().sum_all().unwrap();
        case.expect("front.loss", &[loss.to_scalar::<f32>().unwrap()]);
        let (_, prompt) = model.parameters().first_key_value().unwrap();
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(prompt).unwrap().flatten_all().unwrap();
        case.expect("front.gradient", &gradient.to_vec1::<f32>().unwrap());
        // Written as PEFT writes it, and read again.
        let place = tempfile::tempdir().unwrap();
        for (name, bytes) in model.tuning().unwrap().files(&case.config, "the model", &[]).unwrap() {
            std::fs::write(place.path().join(name), bytes).unwrap();
        }
        let json = |path: &Path| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        let [ours, theirs] =
            [place.path(), &case.folder.join("peft")].map(|folder| json(&folder.join("adapter_config.json")));
        for (field, value) in theirs.as_object().unwrap() {
            let differs = ["base_model_name_or_path", "peft_version"].contains(&field.as_str());
            assert!(differs || ours[field] == *value, "{field}: {} for {value}", ours[field]);
        }
        let again =
            Tuning::read(place.path(), &case.config, &case.weights, None, ReadAs::default()).unwrap().tuning;
        assert_eq!(again.sha256().unwrap(), tuning.sha256().unwrap());
    }
    assert!(decoders >= 11, "{decoders}");
}

#[test]
fn a_folder_of_another_task_is_no_prompt_of_a_decoder() {
    let case = cases().into_iter().find(|case| case.config.is_decoder()).unwrap();
    let place = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(case.folder.join("peft").join(name), place.path().join(name)).unwrap();
    }
    let path = place.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (task, found) in [("\"FEATURE_EXTRACTION\"", "FEATURE_EXTRACTION"), ("null", "null")] {
        std::fs::write(&path, text.replace("\"CAUSAL_LM\"", task)).unwrap();
        let read = Tuning::read(place.path(), &case.config, &case.weights, None, ReadAs::default());
        let error = read.unwrap_err().to_string();
        assert!(
            error.contains("task_type") && error.contains("CAUSAL_LM") && error.contains(found),
            "{error}"
        );
    }
}
