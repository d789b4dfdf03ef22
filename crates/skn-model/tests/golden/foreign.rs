//! Model folders as other tools leave them: other names, other tensors beside those of the model, other files.

use std::collections::HashMap;

use candle_core::Device;
use safetensors::Dtype;
use skn_model::{ModelFolder, Weights};

use crate::case::{Case, assert_same_bits, path};
use crate::folders::{Tensors, assert_golden, assert_refused, folder, golden, read, renamed, write_with};

const WORDS: &str = "roberta.embeddings.word_embeddings.weight";
const DECODER: &str = "lm_head.decoder.weight";

/// The tensors with other names for some.
fn moved(mut tensors: Tensors, names: &[(&str, &str)]) -> Tensors {
    for (from, to) in names {
        let tensor = tensors.remove(*from).unwrap();
        tensors.insert((*to).into(), tensor);
    }
    tensors
}

/// A folder with what `safetensors.torch.save_model` notes in the file: under each name left out the one that was kept.
fn saved(tensors: &Tensors, twins: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = folder(tensors);
    let twins: HashMap<String, String> =
        twins.iter().map(|(twin, kept)| ((*twin).into(), (*kept).into())).collect();
    write_with(&folder.path().join("model.safetensors"), tensors, Some(twins));
    folder
}

fn values(weights: &Weights, name: &str) -> Vec<f32> {
    weights.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// What `save_model` leaves of a RobertaForMaskedLM: of tied names the first in the alphabet.
#[test]
fn a_tied_tensor_is_found_by_its_other_name() {
    let case = Case::load();
    let weight = moved(golden(), &[(WORDS, DECODER)]);
    let bias = moved(golden(), &[("lm_head.bias", "lm_head.decoder.bias")]);
    let noted = [(WORDS, DECODER), ("lm_head.decoder.bias", "lm_head.bias")];
    assert_golden(&case, "weight, noted", saved(&weight, &noted).path());
    assert_golden(&case, "weight, not noted", folder(&weight).path());
    assert_golden(&case, "bias", folder(&bias).path());
    let both = moved(weight, &[("lm_head.bias", "lm_head.decoder.bias")]);
    assert_golden(&case, "both", folder(&both).path());
    assert_eq!(
        read(folder(&both).path()).unwrap().1.sha256(),
        read(saved(&both, &noted).path()).unwrap().1.sha256(),
        "the hash is of what is stored"
    );
}

#[test]
fn so_is_that_of_a_bert() {
    let place = path("../families/bert");
    let plain = ModelFolder::open(&place).unwrap();
    let config = plain.config().unwrap();
    let plain = Weights::read(&plain, &config, &Device::Cpu).unwrap();
    let bytes = std::fs::read(place.join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.tensors().into_iter();
    let tensors: Tensors = tensors
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    let tied = moved(
        tensors,
        &[
            ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"),
            ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        ],
    );
    let folder = folder(&tied);
    std::fs::copy(place.join("config.json"), folder.path().join("config.json")).unwrap();
    let (_, weights) = read(folder.path()).unwrap();
    assert!(weights.names().eq(plain.names()));
    for name in plain.names() {
        assert_same_bits(name, &values(&weights, name), &values(&plain, name));
    }
}

/// A model whose layers share their parameters, saved by `save_model`.
#[test]
fn a_shared_layer_is_stored_once() {
    let twin = |name: &str| name.replace(".layer.3.", ".layer.1.");
    let mut tensors = golden();
    let shared: Vec<String> = tensors.keys().filter(|name| name.contains(".layer.3.")).cloned().collect();
    shared.iter().for_each(|name| drop(tensors.remove(name)));
    let twins: Vec<String> = shared.iter().map(|name| twin(name)).collect();
    let noted: Vec<(&str, &str)> =
        shared.iter().zip(&twins).map(|(twin, kept)| (twin.as_str(), kept.as_str())).collect();
    let (_, weights) = read(saved(&tensors, &noted).path()).unwrap();
    for (name, kept) in noted {
        assert_same_bits(name, &values(&weights, name), &values(&weights, kept));
    }
    assert_refused(folder(&tensors).path(), &["layer.3.", "nothing"]);
}

/// transformers 4 computes with the embeddings, 5 with the decoder.
#[test]
fn a_decoder_that_is_not_its_twin_is_refused() {
    let mut tensors = golden();
    let mut other = tensors[WORDS].clone();
    other.2[0] ^= 1;
    tensors.insert(DECODER.into(), other);
    assert_refused(folder(&tensors).path(), &["model.safetensors", DECODER, WORDS, "tie_word_embeddings"]);
    let mut tensors = golden();
    let mut other = tensors["lm_head.bias"].clone();
    other.2.fill(0);
    tensors.insert("lm_head.decoder.bias".into(), other);
    assert_refused(folder(&tensors).path(), &["`lm_head.decoder.bias`", "`lm_head.bias`"]);
}

#[test]
fn one_parameter_twice_is_refused() {
    let mut tensors = golden();
    let norm = tensors["roberta.embeddings.LayerNorm.weight"].clone();
    tensors.insert("embeddings.LayerNorm.gamma".into(), norm);
    assert_refused(
        folder(&tensors).path(),
        &["`roberta.embeddings.LayerNorm.weight`", "`embeddings.LayerNorm.gamma`", "same parameter"],
    );
}

#[test]
fn names_that_all_begin_alike_are_told_with_their_cause() {
    for (prefix, cause) in [
        ("_orig_mod.", "torch.compile"),
        ("module.", "DistributedDataParallel"),
        ("module._orig_mod.", "DistributedDataParallel"),
        ("base_model.model.", "PEFT"),
        ("net.", "begin with `net.`; take it off"),
    ] {
        let remedy = format!("removeprefix(\"{prefix}\")");
        let parts = ["model.safetensors", "all names begin with", cause, &remedy];
        assert_refused(folder(&renamed(|name| format!("{prefix}{name}"))).path(), &parts);
    }
    let bare = renamed(|name| format!("module.{}", name.strip_prefix("roberta.").unwrap_or(name)));
    assert_refused(folder(&bare).path(), &["all names begin with `module.`", "removeprefix(\"module.\")"]);
    let bert = renamed(|name| name.replace("roberta.", "bert."));
    assert_refused(folder(&bert).path(), &["begin with `bert.`", "model_type", "`roberta.`"]);
    // As torch.nn.utils.prune leaves a matrix.
    let matrix = "roberta.encoder.layer.1.output.dense.weight";
    let pruned = moved(golden(), &[(matrix, "roberta.encoder.layer.1.output.dense.weight_orig")]);
    assert_refused(folder(&pruned).path(), &["weight_orig"]);
}

#[test]
fn what_changes_the_model_is_refused_by_name() {
    for (name, remedy) in [
        // As save_pretrained of adapters 1.3 writes a whole model.
        ("roberta.encoder.layer.0.output.adapters.sst2.adapter_up.bias", "save_adapter"),
        // As a PeftModel's base saves itself.
        ("roberta.encoder.layer.0.attention.self.query.lora_A.default.weight", "merge_and_unload"),
        ("roberta.encoder.layer.0.attention.self.distance_embedding.weight", "plain model"),
    ] {
        let mut tensors = golden();
        tensors.insert(name.into(), (Dtype::F32, vec![48], vec![0; 192]));
        assert_refused(folder(&tensors).path(), &["model.safetensors", name, "changes", remedy]);
    }
}

#[test]
fn what_changes_nothing_is_passed_over() {
    let case = Case::load();
    let mut tensors = golden();
    let mut add = |name: &str, dtype, shape: &[usize], bytes| {
        tensors.insert(name.into(), (dtype, shape.to_vec(), vec![0x7f; bytes]));
    };
    // RobertaForSequenceClassification, and types that numpy and torch write but nobody computes with here.
    add("classifier.dense.weight", Dtype::F32, &[48, 48], 48 * 48 * 4);
    add("classifier.out_proj.bias", Dtype::F8_E4M3, &[2], 2);
    add("roberta.pooler.dense.bias", Dtype::F8_E5M2, &[48], 48);
    add("score.weight", Dtype::U16, &[2, 3], 12);
    add("num_batches_tracked", Dtype::U64, &[], 8);
    assert_golden(&case, "more tensors", folder(&tensors).path());
}

/// transformers warns, and so do we.
#[test]
fn the_first_layers_are_used_if_config_counts_fewer() {
    let fewer = |tensors: &Tensors| {
        let folder = folder(tensors);
        let file = folder.path().join("config.json");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 2");
        std::fs::write(&file, text).unwrap();
        let (config, weights) = read(folder.path()).unwrap();
        assert_eq!(config.layers(), 2);
        weights
    };
    let mut two = golden();
    two.retain(|name, _| !name.contains(".layer.2.") && !name.contains(".layer.3."));
    let (all, two) = (fewer(&golden()), fewer(&two));
    assert!(all.names().eq(two.names()));
    for name in two.names() {
        assert_same_bits(name, &values(&all, name), &values(&two, name));
    }
}

#[test]
fn files_that_are_something_else_are_named() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 498818054\n";
    let index = "model.safetensors.index.json";
    for file in ["config.json", "model.safetensors", index] {
        let folder = folder(&golden());
        if file == index {
            std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        }
        std::fs::write(folder.path().join(file), pointer).unwrap();
        assert_refused(folder.path(), &[file, "Git LFS pointer", "git lfs pull"]);
    }
    // As PowerShell's `>` writes.
    let folder = folder(&golden());
    let wide: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.path().join("config.json"), wide).unwrap();
    assert_refused(folder.path(), &["config.json", "UTF-16"]);
}

/// As Notepad saves what it was opened with.
#[test]
fn a_byte_order_mark_is_skipped() {
    let case = Case::load();
    let folder = folder(&golden());
    let file = folder.path().join("config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("\u{feff}{text}")).unwrap();
    assert_golden(&case, "byte order mark", folder.path());
}
