//! The forms of a model folder, and what is wrong with a bad one.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::Device;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use skn_model::{
    Config, Gradients, LanguageModel, LayerCut, ModelError, ModelFolder, NoHook, Pass, PrunedForm, Result,
    Scored, Sequences, Weights, prune,
};

use crate::case::{Case, assert_same_bits, path};

/// Tensors of a file: dtype, shape and bytes by name.
pub(crate) type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

pub(crate) fn golden() -> Tensors {
    let bytes = std::fs::read(path("model/model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, TensorView<'_>)| {
        (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn write(file: &Path, tensors: &Tensors) {
    write_with(file, tensors, None);
}

/// The same with what the file says of itself.
pub(crate) fn write_with(file: &Path, tensors: &Tensors, metadata: Option<HashMap<String, String>>) {
    let views = tensors.iter().map(|(name, (dtype, shape, data))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(file, safetensors::serialize(views, metadata).unwrap()).unwrap();
}

/// A folder with the golden configuration and these weights.
pub(crate) fn folder(tensors: &Tensors) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(path("model/config.json"), folder.path().join("config.json")).unwrap();
    write(&folder.path().join("model.safetensors"), tensors);
    folder
}

pub(crate) fn read(folder: &Path) -> Result<(Config, Weights)> {
    let folder = ModelFolder::open(folder)?;
    let config = folder.config()?;
    let weights = Weights::read(&folder, &config, &Device::Cpu)?;
    Ok((config, weights))
}

/// Fails unless the folder gives the golden model, bit for bit.
#[track_caller]
pub(crate) fn assert_golden(case: &Case, what: &str, folder: &Path) {
    let (config, weights) = read(folder).unwrap();
    assert_eq!(config, case.config);
    assert!(weights.names().eq(case.weights.names()), "{what}");
    for name in weights.names() {
        let values = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let [found, expected] = [&weights, &case.weights].map(|weights| values(&weights.get(name).unwrap()));
        assert_same_bits(&format!("{what}: {name}"), &found, &expected);
    }
    let model = LanguageModel::new(&config, &weights, &case.prompt(), case.mask, Gradients::Nothing).unwrap();
    let expected = case.logits(&case.model(&case.prompt(), Gradients::Nothing), &case.test());
    assert_same_bits(what, &case.logits(&model, &case.test()), &expected);
}

pub(crate) fn renamed(rename: impl Fn(&str) -> String) -> Tensors {
    golden().into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect()
}

/// Puts the tensors into `count` files in turn, beside an index.
fn shard(folder: &Path, tensors: &Tensors, count: usize) {
    let mut shards = vec![Tensors::new(); count];
    let mut map = BTreeMap::new();
    for (place, (name, tensor)) in tensors.iter().enumerate() {
        shards[place % count].insert(name.clone(), tensor.clone());
        map.insert(name, file_of(place % count, count));
    }
    for (place, tensors) in shards.iter().enumerate() {
        write(&folder.join(file_of(place, count)), tensors);
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
}

fn file_of(place: usize, count: usize) -> String {
    format!("model-{:05}-of-{count:05}.safetensors", place + 1)
}

#[test]
fn shards_are_one_model() {
    let case = Case::load();
    let folder = folder(&golden());
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    shard(folder.path(), &golden(), 3);
    assert_golden(&case, "3 shards", folder.path());
    assert_eq!(
        read(folder.path()).unwrap().1.sha256(),
        case.weights.sha256(),
        "the hash does not tell the form"
    );
}

#[test]
fn old_names_are_understood() {
    let case = Case::load();
    let bare = |name: &str| name.strip_prefix("roberta.").unwrap_or(name).to_owned();
    let old = |name: &str| match name.contains("orm.") {
        true => name.replace(".weight", ".gamma").replace(".bias", ".beta"),
        false => name.to_owned(),
    };
    assert_golden(&case, "no prefix", folder(&renamed(bare)).path());
    assert_golden(&case, "gamma and beta", folder(&renamed(old)).path());
    assert_golden(&case, "both", folder(&renamed(|name| old(&bare(name)))).path());
}

#[test]
fn what_a_masked_language_model_does_not_need_is_passed_over() {
    let case = Case::load();
    let mut tensors = golden();
    let words = tensors["roberta.embeddings.word_embeddings.weight"].clone();
    let ids = (Dtype::I64, vec![1, 130], vec![0; 1040]);
    tensors.insert("lm_head.decoder.weight".into(), words);
    tensors.insert("lm_head.decoder.bias".into(), tensors["lm_head.bias"].clone());
    tensors.insert("roberta.embeddings.position_ids".into(), ids);
    tensors.insert("roberta.pooler.dense.bias".into(), (Dtype::F32, vec![48], vec![0xff; 192]));
    assert_golden(&case, "more tensors", folder(&tensors).path());
}

#[test]
fn other_float_types_are_read() {
    let case = Case::load();
    let double = |(_, shape, data): (Dtype, Vec<usize>, Vec<u8>)| {
        let values = data.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        (Dtype::F64, shape, values.flat_map(f64::to_le_bytes).collect())
    };
    let tensors = golden().into_iter().map(|(name, tensor)| (name, double(tensor))).collect();
    assert_golden(&case, "F64", folder(&tensors).path());
    let half = |(_, shape, data): (Dtype, Vec<usize>, Vec<u8>)| {
        let upper = data.as_chunks::<4>().0.iter().flat_map(|bytes| [bytes[2], bytes[3]]);
        (Dtype::BF16, shape, upper.collect())
    };
    let tensors = golden().into_iter().map(|(name, tensor)| (name, half(tensor))).collect();
    let (_, weights) = read(folder(&tensors).path()).unwrap();
    for (name, tensor) in weights.to_tensors().unwrap() {
        let expected = case.weights.get(&name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let cut: Vec<f32> =
            expected.iter().map(|value| f32::from_bits(value.to_bits() & 0xffff_0000)).collect();
        assert_same_bits(&name, &tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(), &cut);
    }
}

#[test]
fn a_pruned_model_is_such_a_folder() {
    let case = Case::load();
    let means = vec![0.1; 160];
    let cut = |kept: Vec<u32>| Some(LayerCut::hold_others(kept, &means).unwrap());
    let cuts = [None, cut(vec![]), cut(vec![3, 5, 100]), cut((0..160).collect())];
    for form in [PrunedForm::Narrow, PrunedForm::Dense] {
        let (config, weights) = prune(&case.config, &case.weights, &cuts, form).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_json()).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), weights.to_bytes().unwrap()).unwrap();
        let (again_config, again) = read(folder.path()).unwrap();
        assert_eq!(again_config, config);
        assert_eq!(again.sha256(), weights.sha256(), "{form:?}");
        let logits = |config: &Config, weights: &Weights| {
            let model =
                LanguageModel::new(config, weights, &case.prompt(), case.mask, Gradients::Nothing).unwrap();
            case.logits(&model, &case.test())
        };
        assert_same_bits("pruned", &logits(&again_config, &again), &logits(&config, &weights));
    }
}

/// Fails unless reading fails with a message that has all `parts` and the exit code for bad input.
#[track_caller]
pub(crate) fn assert_refused(folder: &Path, parts: &[&str]) {
    let error: ModelError = read(folder).unwrap_err();
    let message = error.to_string();
    assert!(parts.iter().all(|part| message.contains(part)), "expected {parts:?} in: {message}");
}

#[test]
fn bad_weights_are_refused_by_file_and_tensor() {
    let name = "roberta.encoder.layer.2.output.dense.weight";
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = golden();
        change(&mut tensors);
        folder(&tensors)
    };
    for (value, found) in [(f32::NAN, "NaN at element 77"), (f32::NEG_INFINITY, "-inf at element 77")] {
        let spoil = |tensors: &mut Tensors| {
            tensors.get_mut(name).unwrap().2[4 * 77..][..4].copy_from_slice(&value.to_le_bytes());
        };
        assert_refused(changed(&spoil).path(), &["model.safetensors", name, "finite", found]);
    }
    let turned = changed(&|tensors| tensors.get_mut(name).unwrap().1 = vec![160, 48]);
    assert_refused(turned.path(), &["model.safetensors", name, "[48, 160]", "[160, 48]"]);
    let without = changed(&|tensors| drop(tensors.remove(name)));
    assert_refused(without.path(), &["model.safetensors", name, "nothing"]);
    let whole_numbers = changed(&|tensors| tensors.get_mut(name).unwrap().0 = Dtype::I32);
    assert_refused(whole_numbers.path(), &["model.safetensors", name, "I32"]);
    let half_a_head = changed(&|tensors| drop(tensors.remove("lm_head.layer_norm.bias")));
    assert_refused(half_a_head.path(), &["model.safetensors", "lm_head.layer_norm.bias", "nothing"]);
    let cut = folder(&golden());
    let file = cut.path().join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert_refused(cut.path(), &["model.safetensors"]);
}

#[test]
fn an_encoder_has_neurons_but_no_logits() {
    let case = Case::load();
    let mut tensors = golden();
    tensors.retain(|name, _| !name.starts_with("lm_head"));
    let (config, weights) = read(folder(&tensors).path()).unwrap();
    let error = weights.require_head().unwrap_err();
    let message = error.to_string();
    for part in ["model.safetensors", "lm_head.dense.weight", "no masked-LM head", "acc_mean"] {
        assert!(message.contains(part), "{message}");
    }
    case.weights.require_head().unwrap();

    let seen = |weights: &Weights| {
        let model =
            LanguageModel::new(&config, weights, &case.prompt(), case.mask, Gradients::Nothing).unwrap();
        let (ids, starts, samples) = case.test().packed();
        let batch = Sequences { ids: &ids, starts: &starts, samples: &samples, seconds: &[] };
        let answers = model.forward(batch, &Pass::default(), &mut NoHook).unwrap();
        let scores = model.logits(&answers, Scored::All);
        (answers.flatten_all().unwrap().to_vec1::<f32>().unwrap(), scores.map_err(|error| error.to_string()))
    };
    let ((alone, refused), (whole, scores)) = (seen(&weights), seen(&case.weights));
    assert_same_bits("answers", &alone, &whole);
    assert_eq!(refused.unwrap_err(), message);
    assert!(scores.is_ok());

    let cuts = [None, Some(LayerCut::hold_others(vec![3], &[0.1; 160]).unwrap()), None, None];
    let (_, pruned) = prune(&config, &weights, &cuts, PrunedForm::Narrow).unwrap();
    assert!(pruned.require_head().is_err());
}

#[test]
fn weights_of_any_size_are_copied() {
    let (from, to) = (folder(&golden()), tempfile::tempdir().unwrap());
    let weights = from.path().join("model.safetensors");
    // One byte more than is read of what lies beside weights; no disk is taken before the copy.
    std::fs::File::create(&weights).unwrap().set_len((1 << 28) + 1).unwrap();
    let folder = ModelFolder::open(from.path()).unwrap();
    assert!(folder.file("model.safetensors").is_err());
    let copy = to.path().join("best/model.safetensors");
    let sha256 = folder.copy("model.safetensors", &copy).unwrap().unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), (1 << 28) + 1);
    assert_eq!(skn_artifact::hash_file(&copy).unwrap(), sha256);
    assert_eq!(folder.copy("vocab.txt", &copy).unwrap(), None);
    assert!(folder.copy("../config.json", &copy).is_err());
}

#[test]
fn bad_shards_are_refused_by_file() {
    let sharded = || {
        let folder = folder(&golden());
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        shard(folder.path(), &golden(), 2);
        folder
    };
    let lost = sharded();
    std::fs::remove_file(lost.path().join(file_of(1, 2))).unwrap();
    assert_refused(lost.path(), &[&file_of(1, 2), "the shard index names it"]);
    let index = "model.safetensors.index.json";
    for (text, parts) in [
        (r#"{"weight_map": {"x": "../model.safetensors"}}"#, ["inside the folder", "../model.safetensors"]),
        (r#"{"weight_map": {"x": "/etc/passwd"}}"#, ["inside the folder", "/etc/passwd"]),
        (r#"{"weight_map": []}"#, [index, "weight_map"]),
        (r#"{"weight_map": {}}"#, [index, "nothing"]),
        ("{", [index, "weight_map"]),
    ] {
        let folder = sharded();
        std::fs::write(folder.path().join(index), text).unwrap();
        assert_refused(folder.path(), &parts);
    }
}

#[test]
fn bad_configurations_are_refused_by_file_and_field() {
    let bad = [
        ("vocab_size", json!(0)),
        ("vocab_size", json!(1e30)),
        ("hidden_size", json!(-48)),
        ("num_attention_heads", json!(7)),
        ("num_attention_heads", json!(0)),
        ("num_hidden_layers", json!(1 << 30)),
        ("intermediate_size", json!("160")),
        ("max_position_embeddings", json!(2)),
        ("layer_norm_eps", json!(-1e-5)),
        ("layer_norm_eps", json!("small")),
        ("hidden_dropout_prob", json!(1.0)),
        ("attention_probs_dropout_prob", json!(-0.1)),
        ("pad_token_id", json!(u64::MAX)),
        ("skn_intermediate_sizes", json!([160, 160, 160])),
        ("skn_intermediate_sizes", json!([160, 160, 160, 161])),
        ("skn_kept_neurons", json!([null, null, null, [0, 1]])),
        ("hidden_act", json!("mish")),
        ("model_type", json!("distilbert")),
        ("position_embedding_type", json!("relative_key")),
    ];
    for (field, value) in bad {
        let folder = folder(&golden());
        let file = folder.path().join("config.json");
        let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        config[field] = value;
        std::fs::write(&file, config.to_string()).unwrap();
        assert_refused(folder.path(), &["config.json", field]);
    }
    // Sizes that are each possible, but not these weights'.
    let wider = folder(&golden());
    let file = wider.path().join("config.json");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"vocab_size\": 420", "\"vocab_size\": 421");
    std::fs::write(&file, text).unwrap();
    assert_refused(wider.path(), &["model.safetensors", "word_embeddings", "[421, 48]", "[420, 48]"]);
}

/// Clusters keep weights on another disk.
#[cfg(unix)]
#[test]
fn links_of_a_folder_lead_where_the_user_lets_them() {
    use std::os::unix::fs::symlink;
    let case = Case::load();
    let (disk, mine) = (folder(&golden()), tempfile::tempdir().unwrap());
    for name in ["config.json", "model.safetensors"] {
        symlink(disk.path().join(name), mine.path().join(name)).unwrap();
    }
    assert_golden(&case, "links", mine.path());
    // Both files are named with where they ought to be; no other file is taken instead.
    shard(mine.path(), &golden(), 2);
    for name in ["model.safetensors", "config.json"] {
        let target = disk.path().join(name);
        std::fs::remove_file(&target).unwrap();
        let link = format!("{name}: a link to {}, which", target.display());
        assert_refused(mine.path(), &[&link, "mend the link"]);
    }
}

/// What a removed content, an interrupted download and a copy leave in the cache.
#[cfg(unix)]
#[test]
fn a_snapshot_that_is_not_whole_is_fetched_again() {
    use std::os::unix::fs::symlink;
    let (cache, whole) = (tempfile::tempdir().unwrap(), folder(&golden()));
    let repository = cache.path().join("models--owner--name");
    let snapshot = repository.join("snapshots/0123abcd");
    let blobs = repository.join("blobs");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(&blobs).unwrap();
    let command = "`skn-fetch owner/name --revision 0123abcd";
    assert_refused(&snapshot, &["no config.json", command]);
    symlink("../../blobs/1", snapshot.join("config.json")).unwrap();
    assert_refused(&snapshot, &["config.json: a link to ../../blobs/1, which", command]);
    std::fs::copy(whole.path().join("config.json"), blobs.join("1")).unwrap();
    std::fs::write(blobs.join("2.incomplete"), "").unwrap();
    assert_refused(&snapshot, &["no model.safetensors", "not finished (blobs/2.incomplete)", command]);
    symlink("../../blobs/2", snapshot.join("model.safetensors")).unwrap();
    assert_refused(&snapshot, &["model.safetensors: a link to ../../blobs/2, which", command]);
    std::fs::rename(whole.path().join("model.safetensors"), blobs.join("2")).unwrap();
    assert_golden(&Case::load(), "snapshot", &snapshot);
    // A shard that was not fetched.
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    shard(&snapshot, &golden(), 2);
    std::fs::remove_file(snapshot.join(file_of(1, 2))).unwrap();
    assert_refused(&snapshot, &[&file_of(1, 2), command]);
    // A content that is no content of the repository.
    std::fs::write(cache.path().join("secret"), "").unwrap();
    symlink("../../../secret", snapshot.join(file_of(1, 2))).unwrap();
    assert_refused(&snapshot, &[&file_of(1, 2), "leads out of its repository's folder"]);
}

#[test]
fn folders_that_are_none_are_refused() {
    let empty = tempfile::tempdir().unwrap();
    assert_refused(empty.path(), &["config.json"]);
    assert_refused(&empty.path().join("nowhere"), &["no such folder"]);
    std::fs::copy(path("model/config.json"), empty.path().join("config.json")).unwrap();
    assert_refused(empty.path(), &["model.safetensors", "safe_serialization"]);
    std::fs::write(empty.path().join("pytorch_model.bin"), [0x80, 2]).unwrap();
    assert_refused(empty.path(), &["pytorch_model.bin is a pickle"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n";
    std::fs::write(empty.path().join("pytorch_model.bin"), pointer).unwrap();
    assert_refused(empty.path(), &["pytorch_model.bin is a Git LFS pointer", "a model.safetensors is read"]);
    std::fs::write(empty.path().join("model.safetensors"), [0x80, 2, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_refused(empty.path(), &["model.safetensors", "pickle"]);
}
