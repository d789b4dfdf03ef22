//! Tuned parameters on their way into files and back, and those of others.

use std::path::Path;

use candle_core::Tensor;
use serde_json::{Value, json};
use skn_artifact::{Array, TensorBundle};
use skn_model::{Gradients, Method, ReadAs, ReadTuning, Result, Tuning};

use crate::case::{Case, assert_same_bits};

pub(crate) fn write(folder: &Path, files: &[(String, Vec<u8>)]) {
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
}

pub(crate) fn read(case: &Case, folder: &Path, prepend_mask: bool) -> Result<ReadTuning> {
    let how = ReadAs { prepend_mask, ..ReadAs::default() };
    Tuning::read(folder, &case.config, &case.weights, case.mask, how)
}

/// The files of a tuning in a folder of their own.
pub(crate) fn saved(case: &Case, tuning: &Tuning) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mask = case.weights.mask_embedding(case.mask).unwrap();
    write(folder.path(), &tuning.files(&case.config, "golden", &mask).unwrap());
    folder
}

/// Changes a JSON file of a folder.
pub(crate) fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
}

pub(crate) fn bundle(folder: &Path, name: &str, tensors: &[(&str, Vec<usize>, Vec<f32>)]) {
    let mut bundle = TensorBundle::new();
    for (name, shape, values) in tensors {
        bundle.insert(*name, Array::f32(shape.clone(), values.clone()).unwrap());
    }
    std::fs::write(folder.join(name), bundle.to_bytes().unwrap()).unwrap();
}

#[test]
fn every_method_is_read_back_with_the_same_bits() {
    let case = Case::load();
    let texts = case.test();
    for (method, tuning) in case.tunings() {
        let folder = saved(&case, &tuning);
        let again = read(&case, folder.path(), false).unwrap();
        assert!(again.warning.is_none(), "{method}: {:?}", again.warning);
        assert_eq!(again.tuning.method(), tuning.method());
        assert_eq!(again.tuning.prompt_rows(), tuning.prompt_rows(), "{method}");
        assert!(again.tuning.tensors().keys().eq(tuning.tensors().keys()), "{method}");
        let expected = case.logits(&case.model(&tuning, Gradients::Nothing), &texts);
        let found = case.logits(&case.model(&again.tuning, Gradients::Nothing), &texts);
        assert_same_bits(method, &found, &expected);
        let mask = case.weights.mask_embedding(case.mask).unwrap();
        let files = |tuning: &Tuning| tuning.files(&case.config, "golden", &mask).unwrap();
        assert_eq!(files(&again.tuning), files(&tuning), "{method}");
    }
}

#[test]
fn a_prompt_of_the_mask_row_alone_is_read_back() {
    let case = Case::load();
    let tuning = Tuning::new_prompt(&case.config, 1, 0).unwrap();
    let folder = saved(&case, &tuning);
    let again = read(&case, folder.path(), false).unwrap().tuning;
    assert_eq!((again.method(), again.prompt_rows()), (Some(Method::Prompt), 1));
    let logits = |tuning: &Tuning| case.logits(&case.model(tuning, Gradients::Nothing), &case.test());
    assert_same_bits("logits", &logits(&again), &logits(&Tuning::none()));
}

#[test]
fn a_prompt_without_the_mask_row_is_used_as_it_stands() {
    let case = Case::load();
    let folder = saved(&case, &case.prompt());
    let rows = case.f32("prompt");
    bundle(folder.path(), "adapter_model.safetensors", &[("prompt_embeddings", vec![5, 48], rows)]);
    let plain = read(&case, folder.path(), false).unwrap();
    assert!(plain.warning.unwrap().contains("row 0 is not the embedding of <mask>"));
    assert_eq!((plain.tuning.prompt_rows(), plain.tuning.has_mask_row()), (5, false));
    let with_mask = read(&case, folder.path(), true).unwrap().tuning;
    let logits = |tuning: &Tuning| case.logits(&case.model(tuning, Gradients::Nothing), &case.test());
    assert_same_bits("logits", &logits(&with_mask), &logits(&case.prompt()));
    assert_ne!(logits(&plain.tuning), logits(&case.prompt()));
    let again = read(&case, saved(&case, &plain.tuning).path(), false).unwrap().tuning;
    assert_same_bits("logits", &logits(&again), &logits(&plain.tuning));
}

#[test]
fn an_adapter_under_another_name_is_ours() {
    let case = Case::load();
    let folder = saved(&case, &case.adapters());
    let adapters = case.adapters();
    let other = |name: &String| name.replace(".skn.", ".sentiment-v2.");
    let names: Vec<String> = adapters.tensors().keys().map(other).collect();
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    let tensors = names.iter().zip(adapters.tensors().values());
    let tensors = tensors.map(|(name, tensor)| (name.as_str(), tensor.dims().to_vec(), values(tensor)));
    bundle(folder.path(), "adapter.safetensors", &tensors.collect::<Vec<_>>());
    let found = read(&case, folder.path(), false).unwrap().tuning;
    let logits = |tuning: &Tuning| case.logits(&case.model(tuning, Gradients::Nothing), &case.test());
    assert_same_bits("logits", &logits(&found), &logits(&case.adapters()));
}

#[test]
fn the_reduction_factor_gives_the_width_back() {
    let case = Case::load();
    for width in [1, 3, 5, 7, 11, 24, 25, 31, 48, 49, 96, 131] {
        let sized = |(name, tensor): (&String, &Tensor)| {
            let size = |size: &usize| if *size == 3 { width } else { *size };
            let shape: Vec<usize> = tensor.dims().iter().map(size).collect();
            (name.clone(), Tensor::zeros(shape, tensor.dtype(), tensor.device()).unwrap())
        };
        let adapters = case.adapters();
        let folder = saved(&case, &adapters.with_tensors(adapters.tensors().iter().map(sized).collect()));
        let config = std::fs::read(folder.path().join("adapter_config.json")).unwrap();
        let factor = serde_json::from_slice::<Value>(&config).unwrap()["config"]["reduction_factor"].as_f64();
        assert_eq!((48.0 / factor.unwrap()).floor() as usize, width);
        assert!(read(&case, folder.path(), false).is_ok(), "width {width}");
    }
}

#[test]
fn formulas_that_are_not_computed_are_refused_by_name() {
    let case = Case::load();
    for (field, value) in [
        ("mh_adapter", json!(true)),
        ("output_adapter", json!(false)),
        ("is_parallel", json!(true)),
        ("original_ln_before", json!(false)),
        ("original_ln_after", json!(false)),
        ("residual_before_ln", json!(false)),
        ("adapter_residual_before_ln", json!(true)),
        ("ln_before", json!(true)),
        ("ln_after", json!(true)),
        ("non_linearity", json!("swish")),
        ("phm_layer", json!(true)),
        ("use_gating", json!(true)),
        ("scaling", json!(2.0)),
        ("scaling", json!("learned")),
        ("inv_adapter", json!("nice")),
    ] {
        let folder = saved(&case, &case.adapters());
        edit(folder.path(), "adapter_config.json", |config| config["config"][field] = value.clone());
        let message = read(&case, folder.path(), false).unwrap_err().to_string();
        assert!(
            message.contains("adapter_config.json") && message.contains(field),
            "{field} {value}: {message}"
        );
    }
    let folder = saved(&case, &case.prompt());
    edit(folder.path(), "adapter_config.json", |config| config["peft_type"] = json!("LORA"));
    let message = read(&case, folder.path(), false).unwrap_err().to_string();
    assert!(message.contains("peft_type") && message.contains("LORA"), "{message}");
}

#[test]
fn damaged_tunings_are_refused_by_file_and_tensor() {
    let case = Case::load();
    type Tensors = Vec<(&'static str, Vec<usize>, Vec<f32>)>;
    let bias = "roberta.encoder.layer.0.output.dense.bias";
    let bad: [(usize, &str, Tensors, &str); 8] = [
        (0, "adapter_model.safetensors", vec![("prompt_embeddings", vec![1, 48], vec![f32::NAN; 48])], "NaN"),
        (0, "adapter_model.safetensors", vec![("prompt_embeddings", vec![2, 24], vec![0.0; 48])], "[2, 24]"),
        (0, "adapter_model.safetensors", vec![("prompt_embeddings", vec![48], vec![0.0; 48])], "[48]"),
        (0, "adapter_model.safetensors", vec![("prompt_embeddings", vec![128, 48], vec![0.5; 6144])], "128"),
        (0, "adapter_model.safetensors", vec![("other", vec![1, 48], vec![0.0; 48])], "prompt_embeddings"),
        (1, "bitfit.safetensors", vec![(bias, vec![47], vec![0.0; 47])], bias),
        (1, "bitfit.safetensors", vec![(bias, vec![48], vec![f32::INFINITY; 48])], "inf"),
        (2, "adapter.safetensors", vec![], "adapters"),
    ];
    for (method, file, tensors, part) in bad {
        let folder = saved(&case, &case.tunings()[method].1);
        bundle(folder.path(), file, &tensors);
        let error = read(&case, folder.path(), false).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(file) && message.contains(part), "{part}: {message}");
    }
    let unknown = saved(&case, &case.tunings()[1].1);
    bundle(
        unknown.path(),
        "bitfit.safetensors",
        &[("roberta.encoder.layer.9.output.dense.bias", vec![48], vec![0.0; 48])],
    );
    assert!(read(&case, unknown.path(), false).unwrap_err().to_string().contains("layer.9"));
}

#[test]
fn folders_that_hold_no_tuning_or_two_are_refused() {
    let case = Case::load();
    let folder = saved(&case, &case.prompt());
    let mask = case.weights.mask_embedding(case.mask).unwrap();
    write(folder.path(), &case.tunings()[1].1.files(&case.config, "golden", &mask).unwrap());
    assert!(read(&case, folder.path(), false).unwrap_err().to_string().contains("one tuning a folder"));
    let empty = tempfile::tempdir().unwrap();
    assert!(read(&case, empty.path(), false).unwrap_err().to_string().contains("adapter_model.safetensors"));
    std::fs::write(empty.path().join("adapter_model.bin"), [0x80, 4]).unwrap();
    assert!(read(&case, empty.path(), false).unwrap_err().to_string().contains("pickle"));
    assert!(read(&case, &empty.path().join("x"), false).unwrap_err().to_string().contains("no such folder"));
    assert!(Tuning::none().files(&case.config, "golden", &mask).is_err());
}
