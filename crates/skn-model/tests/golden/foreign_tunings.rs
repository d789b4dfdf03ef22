//! Tuned parameters as PEFT, AdapterHub and people's own scripts leave them.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use skn_model::{Gradients, ReadAs, ReadTuning, Result, Tuning, not_a_tuning_folder};

use crate::case::{Case, assert_same_bits};
use crate::tunings::{bundle, edit, read, saved};

const CONFIG: &str = "adapter_config.json";

fn logits(case: &Case, tuning: &Tuning) -> Vec<f32> {
    case.logits(&case.model(tuning, Gradients::Nothing), &case.test())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Replaces the file of tensors.
fn store(folder: &Path, name: &str, tensors: &[(String, Tensor)]) {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.dims().to_vec(), values(tensor)))
        .collect();
    bundle(folder, name, &tensors);
}

/// A tuning's tensors under other names.
fn renamed(tuning: &Tuning, rename: impl Fn(&str) -> String) -> Vec<(String, Tensor)> {
    tuning.tensors().iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

fn adapters_in(case: &Case, tensors: &[(String, Tensor)]) -> tempfile::TempDir {
    let folder = saved(case, &case.adapters());
    store(folder.path(), "adapter.safetensors", tensors);
    folder
}

fn by_words(case: &Case, folder: &Path) -> Result<ReadTuning> {
    let how = ReadAs { verbalizer: true, ..ReadAs::default() };
    Tuning::read(folder, &case.config, &case.weights, case.mask, how)
}

#[track_caller]
fn assert_refused(read: Result<ReadTuning>, parts: &[&str]) {
    let message = read.unwrap_err().to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?} in: {message}");
}

/// What PEFT 0.21 saves of a prompt for SEQ_CLS: it adds `modules_to_save` itself.
#[test]
fn a_classifier_saved_with_a_prompt_is_refused_unless_the_label_words_answer() {
    let case = Case::load();
    let folder = saved(&case, &case.prompt());
    let place = folder.path();
    let mut tensors = vec![("prompt_embeddings", vec![6, 48], {
        let mut rows = case.weights.mask_embedding(case.mask).unwrap();
        rows.extend(case.f32("prompt"));
        rows
    })];
    tensors.push(("base_model.classifier.dense.bias", vec![48], vec![0.0; 48]));
    bundle(place, "adapter_model.safetensors", &tensors);
    assert_refused(read(&case, place, false), &["base_model.classifier.dense.bias", "option `verbalizer`"]);
    edit(place, CONFIG, |config| {
        config["task_type"] = json!("SEQ_CLS");
        config["modules_to_save"] = json!(["classifier", "score"]);
    });
    assert_refused(read(&case, place, false), &[CONFIG, "modules_to_save", "score", "option `verbalizer`"]);
    let found = by_words(&case, place).unwrap();
    assert_same_bits("label words", &logits(&case, &found.tuning), &logits(&case, &case.prompt()));

    // What changes the label words' own logits is refused whatever answers.
    edit(place, CONFIG, |config| config["modules_to_save"] = json!(["classifier", "lm_head"]));
    assert_refused(by_words(&case, place), &["modules_to_save", "lm_head"]);
    edit(place, CONFIG, |config| config["modules_to_save"] = json!(null));
    tensors.push(("base_model.roberta.embeddings.word_embeddings.weight", vec![1], vec![0.0]));
    bundle(place, "adapter_model.safetensors", &tensors);
    assert_refused(by_words(&case, place), &["word_embeddings", "changes what the model computes"]);
}

#[test]
fn other_kinds_of_peft_are_refused_by_name() {
    let case = Case::load();
    for (kind, remedy) in [
        ("LORA", "merge_and_unload"),
        ("ADALORA", "merge_and_unload"),
        ("IA3", "merge_and_unload"),
        ("PREFIX_TUNING", "keys and values"),
        ("MULTITASK_PROMPT_TUNING", "only a plain prompt"),
        ("P_TUNING", "the same prompt"),
    ] {
        let folder = saved(&case, &case.prompt());
        edit(folder.path(), CONFIG, |config| config["peft_type"] = json!(kind));
        assert_refused(
            read(&case, folder.path(), false),
            &[CONFIG, "peft_type", "PROMPT_TUNING", kind, remedy],
        );
    }
    let folder = saved(&case, &case.prompt());
    edit(folder.path(), CONFIG, |config| config["num_transformer_submodules"] = json!(2));
    assert_refused(read(&case, folder.path(), false), &["num_transformer_submodules", "found 2"]);
    edit(folder.path(), CONFIG, |config| {
        config["num_transformer_submodules"] = json!(null);
        config["field_of_2031"] = json!(true);
    });
    read(&case, folder.path(), false).unwrap();
    std::fs::write(folder.path().join(CONFIG), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        .unwrap();
    assert_refused(read(&case, folder.path(), false), &[CONFIG, "git lfs pull"]);
}

/// A prompt that was trained beside a model in half precision, saved as that or as what `.float()` makes of it.
#[test]
fn a_mask_row_in_half_precision_is_still_one() {
    let case = Case::load();
    let mut rows = case.weights.mask_embedding(case.mask).unwrap();
    rows.extend(case.f32("prompt"));
    let rows = Tensor::from_vec(rows, (6, 48), &candle_core::Device::Cpu).unwrap();
    for dtype in [DType::BF16, DType::F16] {
        let half = rows.to_dtype(dtype).unwrap();
        let single = half.to_dtype(DType::F32).unwrap();
        let expected = values(&single.narrow(0, 1, 5).unwrap());
        for stored in [half, single] {
            let folder = saved(&case, &case.prompt());
            let tensors = HashMap::from([("prompt_embeddings", stored.clone())]);
            candle_core::safetensors::save(&tensors, folder.path().join("adapter_model.safetensors"))
                .unwrap();
            let found = read(&case, folder.path(), false).unwrap();
            assert!(found.warning.is_none(), "{dtype:?}: {:?}", found.warning);
            assert_eq!((found.tuning.prompt_rows(), found.tuning.has_mask_row()), (6, true));
            assert_same_bits("rows", &values(&found.tuning.tensors()["prompt_embeddings"]), &expected);
        }
    }
}

/// As `save_adapter` and hand-made copies of its tensors leave two adapters in one file.
#[test]
fn of_two_adapters_the_named_one_is_used() {
    let case = Case::load();
    let adapters = case.adapters();
    let mut tensors = renamed(&adapters, |name| name.replace(".skn.", ".first."));
    let other =
        |(name, tensor): (String, Tensor)| (name.replace(".first.", ".second."), tensor.neg().unwrap());
    tensors.extend(tensors.clone().into_iter().map(other));
    let folder = adapters_in(&case, &tensors);
    for (name, same) in [("first", true), ("second", false)] {
        edit(folder.path(), CONFIG, |config| config["name"] = json!(name));
        let found = read(&case, folder.path(), false).unwrap().tuning;
        assert_eq!(logits(&case, &found) == logits(&case, &adapters), same, "{name}");
        let sign = if same { 1.0 } else { -1.0 };
        for (name, tensor) in found.tensors() {
            let expected: Vec<f32> =
                values(&adapters.tensors()[name]).iter().map(|value| sign * value).collect();
            assert_same_bits(name, &values(tensor), &expected);
        }
    }
    edit(folder.path(), CONFIG, |config| config["name"] = json!("third"));
    assert_refused(read(&case, folder.path(), false), &["adapter.safetensors", "first, second", "third"]);
}

#[test]
fn adapters_of_older_files_are_ours() {
    let case = Case::load();
    let adapters = case.adapters();
    let expected = logits(&case, &adapters);
    let bare = renamed(&adapters, |name| name.strip_prefix("roberta.").unwrap().to_owned());
    let folder = adapters_in(&case, &bare);
    edit(folder.path(), CONFIG, |config| {
        config["config"]["scaling"] = json!(1);
        config["config"]["reduction_factor"] = json!(16.0);
        config["config"]["non_linearity"] = json!("ReLU");
    });
    let found = read(&case, folder.path(), false).unwrap().tuning;
    assert_same_bits("bare", &logits(&case, &found), &expected);
    // adapter-transformers 1, the tensors through torch.load and save_file; `.beta.` is the adapter's name.
    let old = renamed(&adapters, |name| name.replace(".adapters.skn.", ".layer_text_task_adapters.beta."));
    let folder = adapters_in(&case, &old);
    let configure = |folder: &Path, field: &str, value: Value| {
        edit(folder, CONFIG, |config| {
            config["config"] = json!({
                "LN_after": false, "LN_before": false, "MH_Adapter": false, "Output_Adapter": true,
                "adapter_residual_before_ln": false, "attention_type": "sent-lvl", "invertible_adapter": {},
                "new_attention_norm": false, "non_linearity": "relu", "original_ln_after": true,
                "original_ln_before": true, "reduction_factor": 16, "residual_before_ln": true,
            });
            config["name"] = json!("beta");
            config["config"][field] = value;
        });
    };
    configure(folder.path(), "MH_Adapter", json!(false));
    let found = read(&case, folder.path(), false).unwrap().tuning;
    assert_same_bits("old", &logits(&case, &found), &expected);
    for (field, value) in [
        ("MH_Adapter", json!(true)),
        ("LN_before", json!(true)),
        ("invertible_adapter", json!({"block_type": "nice", "non_linearity": "relu", "reduction_factor": 2})),
    ] {
        configure(folder.path(), field, value);
        assert_refused(read(&case, folder.path(), false), &[CONFIG, &field.to_lowercase()]);
    }
}

#[test]
fn other_architectures_of_adapter_hub_are_refused() {
    let case = Case::load();
    let with = |change: &dyn Fn(&mut Value)| {
        let folder = saved(&case, &case.adapters());
        edit(folder.path(), CONFIG, change);
        read(&case, folder.path(), false)
    };
    assert_refused(
        with(&|config| config["config"]["architecture"] = json!("union")),
        &["architecture", "union"],
    );
    assert_refused(with(&|config| config["config"] = json!("houlsby")), &["config", "houlsby", "seq_bn"]);
    with(&|config| config["config"] = json!("pfeiffer")).unwrap();
    // The library's default is false, and Pfeiffer's configuration writes true.
    let without = |config: &mut Value| {
        config["config"].as_object_mut().unwrap().remove("original_ln_before");
    };
    assert_refused(with(&without), &["original_ln_before", "expected true"]);
    // Tensors of more than the adapter: invertible adapters, fusion.
    for name in ["roberta.invertible_adapters.skn.F.0.weight", "roberta.encoder.layer.0.loras.skn.lora_A"] {
        let mut tensors = renamed(&case.adapters(), str::to_owned);
        tensors.push((name.into(), tensors[0].1.clone()));
        assert_refused(
            read(&case, adapters_in(&case, &tensors).path(), false),
            &["adapter.safetensors", name],
        );
    }
    // `save_adapter` writes a model's prediction head beside it.
    let folder = saved(&case, &case.adapters());
    std::fs::write(folder.path().join("head_config.json"), r#"{"config": {"head_type": "classification"}}"#)
        .unwrap();
    assert_refused(read(&case, folder.path(), false), &["head_config.json", "option `verbalizer`"]);
    let found = by_words(&case, folder.path()).unwrap().tuning;
    assert_same_bits("label words", &logits(&case, &found), &logits(&case, &case.adapters()));
    std::fs::write(folder.path().join("adapter_fusion_config.json"), "{}").unwrap();
    assert_refused(by_words(&case, folder.path()), &["adapter_fusion_config.json", "AdapterFusion"]);
    // Whatever it is, it is not absent.
    std::fs::remove_file(folder.path().join("adapter_fusion_config.json")).unwrap();
    by_words(&case, folder.path()).unwrap();
    std::fs::create_dir(folder.path().join("adapter_fusion_config.json")).unwrap();
    assert_refused(by_words(&case, folder.path()), &["adapter_fusion_config.json"]);
}

/// An adapter whose `up` is zero adds nothing, so a layer without one must give what that gives.
#[test]
fn layers_may_be_left_out() {
    let case = Case::load();
    let adapters = case.adapters();
    let out = |name: &str| name.contains(".layer.1.") || name.contains(".layer.3.");
    let mut zeroed = adapters.tensors().clone();
    for (name, tensor) in zeroed.iter_mut().filter(|(name, _)| out(name) && name.contains(".adapter_up.")) {
        *tensor = tensor.zeros_like().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let mut tensors = renamed(&adapters, str::to_owned);
    tensors.retain(|(name, _)| !out(name));
    let folder = adapters_in(&case, &tensors);
    assert_refused(read(&case, folder.path(), false), &["adapter.safetensors", ".layer.1.", "every layer"]);
    edit(folder.path(), CONFIG, |config| config["config"]["leave_out"] = json!([1, 3]));
    let found = read(&case, folder.path(), false).unwrap().tuning;
    assert_same_bits("left out", &logits(&case, &found), &logits(&case, &adapters.with_tensors(zeroed)));
    assert_ne!(logits(&case, &found), logits(&case, &adapters));

    let again = saved(&case, &found);
    let config: Value = serde_json::from_slice(&std::fs::read(again.path().join(CONFIG)).unwrap()).unwrap();
    assert_eq!(
        (&config["config"]["leave_out"], &config["config"]["reduction_factor"]),
        (&json!([1, 3]), &json!(16))
    );
    let again = read(&case, again.path(), false).unwrap().tuning;
    assert_same_bits("again", &logits(&case, &again), &logits(&case, &found));

    edit(folder.path(), CONFIG, |config| config["config"]["leave_out"] = json!([1, 2, 3]));
    assert_refused(read(&case, folder.path(), false), &[CONFIG, "leave_out", "layer 2"]);
    edit(folder.path(), CONFIG, |config| config["config"]["leave_out"] = json!("all"));
    assert_refused(read(&case, folder.path(), false), &[CONFIG, "leave_out", "a list of layers"]);
}

/// `reduction_factor: {"0": 8, "default": 16}`. Neurons whose weights are zero add nothing.
#[test]
fn layers_may_have_bottlenecks_of_their_own_widths() {
    let case = Case::load();
    let wider = |(name, tensor): (String, Tensor)| {
        let dimension = if name.ends_with("adapter_up.weight") { 1 } else { 0 };
        let widened = name.contains(".layer.0.") && !name.ends_with("adapter_up.bias");
        let wide = || Tensor::cat(&[&tensor, &tensor.zeros_like().unwrap()], dimension).unwrap();
        let tensor = if widened { wide() } else { tensor };
        (name, tensor)
    };
    let tensors: Vec<_> = renamed(&case.adapters(), str::to_owned).into_iter().map(wider).collect();
    let folder = adapters_in(&case, &tensors);
    edit(folder.path(), CONFIG, |config| {
        config["config"]["reduction_factor"] = json!({"0": 8, "default": 16})
    });
    let found = read(&case, folder.path(), false).unwrap().tuning;
    let (found_logits, expected) = (logits(&case, &found), logits(&case, &case.adapters()));
    for (found, expected) in found_logits.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    let again = saved(&case, &found);
    let config: Value = serde_json::from_slice(&std::fs::read(again.path().join(CONFIG)).unwrap()).unwrap();
    assert_eq!(config["config"]["reduction_factor"], json!({"0": 8, "1": 16, "2": 16, "3": 16}));
    let again = read(&case, again.path(), false).unwrap().tuning;
    assert_same_bits("again", &logits(&case, &again), &found_logits);
}

/// `{n: t for n, t in model.state_dict().items() if "bias" in n}`, of a model with and without its head.
#[test]
fn biases_of_a_whole_state_are_read() {
    let case = Case::load();
    let tuning = &case.tunings()[1].1;
    let folder = saved(&case, tuning);
    let mut tensors = renamed(tuning, |name| name.strip_prefix("roberta.").unwrap_or(name).to_owned());
    let bias = tuning.tensors()["lm_head.bias"].clone();
    tensors.push(("lm_head.decoder.bias".into(), bias.clone()));
    tensors.push(("pooler.dense.bias".into(), tensors[0].1.clone()));
    store(folder.path(), "bitfit.safetensors", &tensors);
    let found = read(&case, folder.path(), false).unwrap().tuning;
    assert!(found.tensors().keys().eq(tuning.tensors().keys()));
    assert_same_bits("state", &logits(&case, &found), &logits(&case, tuning));

    tensors.push(("classifier.out_proj.bias".into(), tensors[0].1.clone()));
    store(folder.path(), "bitfit.safetensors", &tensors);
    assert_refused(read(&case, folder.path(), false), &["classifier.out_proj.bias", "option `verbalizer`"]);
    by_words(&case, folder.path()).unwrap();
    let place = tensors.iter().position(|(name, _)| name == "lm_head.decoder.bias").unwrap();
    tensors[place].1 = bias.affine(1.0, 0.5).unwrap();
    store(folder.path(), "bitfit.safetensors", &tensors);
    assert_refused(by_words(&case, folder.path()), &["lm_head.decoder.bias", "lm_head.bias"]);
}

/// The first bytes of torch.save's files since 1.6, and before.
#[test]
fn prompts_of_torch_save_are_told_how_to_convert() {
    let case = Case::load();
    let starts: [&[u8]; 2] = [
        b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\x0f\0\x13\0prompts/data.pkl",
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9",
    ];
    for (name, start) in ["task_prompt.pt", "prompt.bin"].into_iter().zip(starts) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), start).unwrap();
        let load = format!("torch.load(\"{name}\"");
        let parts =
            [name, "pickle", &load, "prompt_embeddings", "PROMPT_TUNING", "adapter_model.safetensors"];
        assert_refused(read(&case, folder.path(), false), &parts);
        let message = not_a_tuning_folder(&folder.path().join(name)).to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
    let folder = saved(&case, &case.prompt());
    let message = not_a_tuning_folder(&folder.path().join("adapter_model.safetensors")).to_string();
    assert!(message.contains("give the folder"), "{message}");
}
