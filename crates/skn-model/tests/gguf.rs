//! The models of tests/models as GGUF files (tests/models/make_gguf.py), and in half precision: they must be the same models.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use skn_artifact::TensorFile;
use skn_model::{
    Config, Gradients, LanguageModel, ModelFolder, Pass, Result, Rows, Scored, Sequences, Site, Tuning,
    Weights,
};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// Each model's folder in Hugging Face form, and its GGUF file.
fn cases() -> Vec<(PathBuf, PathBuf)> {
    let mut files = Vec::new();
    let mut ahead = vec![models().join("gguf")];
    while let Some(folder) = ahead.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                ahead.push(path);
            } else if path.extension().is_some_and(|end| end == "gguf") && !path.ends_with("blocks.gguf") {
                files.push((models().join(path.file_stem().unwrap()), path));
            }
        }
    }
    files.sort();
    assert_eq!(files.len(), 10, "{files:?}");
    files
}

struct Model {
    config: Config,
    weights: Weights,
}

impl Model {
    fn of(folder: &ModelFolder) -> Result<Self> {
        let config = folder.config()?;
        let weights = Weights::read(folder, &config, &Device::Cpu)?;
        Ok(Self { config, weights })
    }

    fn gguf(file: &Path) -> Self {
        let found = ModelFolder::open_gguf(file).and_then(|folder| Self::of(&folder));
        found.unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Neurons and logits of two texts.
    fn answers(&self) -> Vec<f32> {
        let model =
            LanguageModel::new(&self.config, &self.weights, &Tuning::plain_text(), 0, Gradients::Nothing)
                .unwrap();
        let batch = Sequences {
            ids: &[5, 9, 1, 20, 7, 7, 2, 17, 11, 3, 15, 12, 4, 6, 19, 13],
            starts: &[0, 11, 16],
            samples: &[0, 1],
            seconds: &[],
        };
        let mut seen = Vec::new();
        let mut watch = |_: Site, _: &Rows<'_>, x: Tensor| -> Result<Tensor> {
            seen.extend(x.flatten_all()?.to_vec1::<f32>()?);
            Ok(x)
        };
        let hidden = model.forward(batch, &Pass::default(), &mut watch).unwrap();
        let logits = model.logits(&hidden, Scored::All).unwrap();
        seen.extend(logits.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        seen
    }
}

fn apart(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).fold(0f32, |most, (one, other)| most.max((one - other).abs()))
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
}

#[test]
fn a_file_is_the_model_that_its_folder_is() {
    for (folder, file) in cases() {
        let (folder, name) = (ModelFolder::open(&folder).unwrap(), folder.display().to_string());
        let (plain, gguf) = (Model::of(&folder).unwrap(), Model::gguf(&file));
        assert!(gguf.config.computes_as(&plain.config), "{name}: {:#?} {:#?}", gguf.config, plain.config);
        assert_eq!(
            gguf.weights.names().collect::<Vec<_>>(),
            plain.weights.names().collect::<Vec<_>>(),
            "{name}"
        );
        for tensor in plain.weights.names() {
            let [found, expected] = [&gguf, &plain].map(|model| model.weights.get(tensor).unwrap());
            assert_eq!(found.dims(), expected.dims(), "{name}: {tensor}");
            // 1 + w - 1 is w, but for its last bits.
            let most = if name.contains("gemma") { 1e-7 } else { 0.0 };
            assert!(apart(&values(&found), &values(&expected)) <= most, "{name}: {tensor}");
        }
        // The same numbers out of matrices that are read a panel at a time.
        assert!(apart(&gguf.answers(), &plain.answers()) < 2e-5, "{name}");
        assert_ne!(gguf.weights.sha256(), plain.weights.sha256(), "another file");
        assert_eq!(ModelFolder::open_gguf(&file).unwrap().id(), file.file_stem().unwrap().to_str().unwrap());
    }
}

#[test]
fn a_file_becomes_a_folder() {
    for (_, file) in cases() {
        let gguf = Model::gguf(&file);
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("config.json"), gguf.config.to_json()).unwrap();
        std::fs::write(place.path().join("model.safetensors"), gguf.weights.to_bytes().unwrap()).unwrap();
        let folder = Model::of(&ModelFolder::open(place.path()).unwrap()).unwrap();
        assert!(folder.config.computes_as(&gguf.config));
        assert_eq!(folder.answers(), gguf.answers(), "{}", file.display());
    }
}

#[test]
fn matrices_in_half_precision_are_read_a_part_at_a_time() {
    for name in ["llama", "gpt2", "gpt_neox", "gemma3", "modernbert"] {
        let plain = Model::of(&ModelFolder::open(models().join(name)).unwrap()).unwrap();
        for dtype in [DType::F16, DType::BF16] {
            let place = tempfile::tempdir().unwrap();
            std::fs::write(place.path().join("config.json"), plain.config.to_json()).unwrap();
            let tensors = plain.weights.to_tensors().unwrap().into_iter();
            let tensors: HashMap<String, Tensor> =
                tensors.map(|(name, tensor)| (name, tensor.to_dtype(dtype).unwrap())).collect();
            candle_core::safetensors::save(&tensors, place.path().join("model.safetensors")).unwrap();
            let half = Model::of(&ModelFolder::open(place.path()).unwrap()).unwrap();
            let whole = Weights::from_tensors(&half.config, half.weights.to_tensors().unwrap()).unwrap();
            let whole = Model { config: half.config.clone(), weights: whole };
            assert!(apart(&half.answers(), &whole.answers()) < 2e-6, "{name} {dtype:?}");
            let apart = apart(&half.answers(), &plain.answers());
            assert!(apart > 1e-5 && apart < 0.2, "{name} {dtype:?}: {apart}");
        }
    }
}

#[test]
fn every_type_of_numbers_is_what_python_makes_of_it() {
    let gguf = Model::gguf(&models().join("gguf/blocks.gguf"));
    let expected = TensorFile::read(&models().join("gguf/blocks.safetensors")).unwrap();
    let parts = [
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ];
    let of_layers = (0..2).flat_map(|layer| {
        parts.map(|(stored, own)| (format!("blk.{layer}.{stored}"), format!("model.layers.{layer}.{own}")))
    });
    let tables = [("token_embd", "model.embed_tokens"), ("output", "lm_head")];
    let all: Vec<(String, String)> =
        of_layers.chain(tables.map(|(stored, own)| (stored.to_owned(), own.to_owned()))).collect();
    assert_eq!(all.len(), expected.names().count());
    for (stored, own) in all {
        let (_, expected) = expected.f32(&format!("{stored}.weight"), None).unwrap();
        let found = gguf.weights.get(&format!("{own}.weight")).unwrap();
        // What is beside the first row of a query or a key in the file is half a head of 16 further on in the model.
        let second = if stored.ends_with("_q") || stored.ends_with("_k") { 8 } else { 1 };
        let rows = Tensor::new(&[0, second, found.dim(0).unwrap() as u32 - 1], &Device::Cpu).unwrap();
        let found = values(&found.index_select(&rows, 0).unwrap());
        let most = expected.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert!(apart(&found, &expected) <= 1e-6 * most, "{stored}: {}", apart(&found, &expected));
        assert!(most > 0.05, "{stored}: {most}");
    }
    // Divisors become the settings that come to them.
    let json: serde_json::Value = serde_json::from_slice(&gguf.config.to_json()).unwrap();
    let settings = serde_json::json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    assert_eq!((&json["rope_theta"], &json["rope_scaling"]), (&serde_json::json!(500_000.0), &settings));
    // What is read a panel at a time is what is read as a whole.
    let whole = Weights::from_tensors(&gguf.config, gguf.weights.to_tensors().unwrap()).unwrap();
    let whole = Model { config: gguf.config.clone(), weights: whole };
    assert!(apart(&gguf.answers(), &whole.answers()) < 2e-6);
}
