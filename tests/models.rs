//! Every family of models through the programs: a small random one each, so what is checked is that each stage does its work, and that
//! what two stages say of the same thing agrees (crates/skn-model/tests/models.rs checks the numbers).

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;
use std::path::{Path, PathBuf};

use skn_artifact::{Array, TensorBundle, TensorFile};
use support::{Desk, copy, write};

const TASK: &str = "name = \"reviews\"\ntext = [\"text\"]\nlabel = \"label\"\nlabels = [\" negative\", \" positive\"]\n\
                    names = [[\"negative\"], [\"positive\"]]\n\n[splits]\ntrain = \"train\"\ndev = \"dev\"\ntest = \"test\"\n";

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// The folders of models.
fn families() -> Vec<String> {
    let entries = fs::read_dir(models()).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|path| path.join("config.json").is_file());
    let mut names: Vec<String> =
        folders.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() >= 13, "{names:?}");
    names
}

fn is_decoder(family: &str) -> bool {
    !family.starts_with("modernbert")
}

/// A desk with a model, a task and a few of the demo's rows.
fn desk(family: &str) -> Desk {
    let desk = Desk::new();
    copy(&models().join(family), &desk.path("model"));
    fs::remove_file(desk.path("model/expected.safetensors")).unwrap();
    let tokenizer = if is_decoder(family) { "decoder.json" } else { "encoder.json" };
    write(&desk.path("model/tokenizer.json"), fs::read(models().join("tokenizers").join(tokenizer)).unwrap());
    write(&desk.path("reviews.toml"), TASK);
    let rows = fs::read_to_string(models().join("../../data/tasks/sentiment/train.jsonl")).unwrap();
    for (name, skip, take) in [("train", 0, 48), ("dev", 48, 24), ("test", 72, 24)] {
        let part: Vec<&str> = rows.lines().skip(skip).take(take).collect();
        write(&desk.path(&format!("data/{name}.jsonl")), part.join("\n"));
    }
    desk
}

const MODEL: &str = "--model ./model --task-file reviews.toml --data data --max-length 40";

#[test]
fn every_family_goes_through_the_chain() {
    for family in families() {
        let desk = desk(&family);
        let train =
            format!("skn-train {MODEL} --epoch 1 --max-steps 4 --bz 8 --prompt_size 3 --eval_every_step 2");
        desk.ok(&format!("{train} --save_to run"));
        let prompt = if is_decoder(&family) { "prompt.safetensors" } else { "adapter_model.safetensors" };
        assert!(desk.path("run/best").join(prompt).is_file(), "{family}");
        // Nobody takes a decoder's prompt for one that stands in front.
        assert_eq!(desk.path("run/best/adapter_config.json").is_file(), !is_decoder(&family), "{family}");
        let probe = "skn-probe -p --resume_from run --probe_type acc,acc_mean,acc_max,acc_last";
        desk.ok(&format!("{probe},prompt_act,speed --save_to run"));
        desk.ok("skn-select -a run/reviews/dev_perf --save_to run --shares 0.2");
        desk.ok(
            "skn-mask -p --resume_from run --save_to run --info_path run/info/reviews/0.2 --cmp --draws 2",
        );
        desk.ok(
            "skn-prune --resume_from run --info_path run/info/reviews/0.2 --ths_path run/reviews/train_avg --save_to run/pruned",
        );
        desk.ok("skn-train -p --resume_from run/pruned --save_to run/again --epoch 1 --max-steps 2 --bz 8");
        write(&desk.path("texts"), "the band was superb .\nthe band was awful .\n");
        for from in ["run", "run/pruned", "run/again"] {
            let said = desk.ok(&format!("skn-predict --resume_from {from} --input texts"));
            assert_eq!(said.lines().count(), 2, "{family}: {said}");
        }
        desk.ok("skn-verify run");
        desk.ok("skn-report run");
        let page = fs::read_to_string(desk.path("run/report.html")).unwrap();
        assert!(page.contains("last token"), "{family}");
        // Shards come to the same bytes.
        for splits in ["train", "dev,test"] {
            for shard in ["1/2", "2/2"] {
                desk.ok(&format!("{probe} --splits {splits} --shard {shard} --save_to merged"));
            }
            desk.ok("skn-merge --save_to merged");
        }
        for name in ["train_avg", "dev_perf", "dev_last_perf", "test_mean_perf"] {
            let of = |run: &str| fs::read(desk.path(&format!("{run}/reviews/{name}.safetensors"))).unwrap();
            assert!(of("run") == of("merged"), "{family}: {name}");
        }
        // A training that was stopped goes on to the same bytes.
        desk.ok(&format!(
            "{} --save_to stopped",
            train.replace("--max-steps 4", "--max-steps 4 --threads 2")
        ));
        let best = |run: &str| fs::read(desk.path(&format!("{run}/best/{prompt}"))).unwrap();
        assert!(best("run") == best("stopped"), "{family}");
    }
}

/// The table of docs/reference/models.md names what is tested, and nothing else.
#[test]
fn the_table_of_models_is_what_is_tested() {
    let root = models().join("../..");
    let page = fs::read_to_string(root.join("docs/reference/models.md")).unwrap();
    let table = page.split("| `model_type` |").nth(1).unwrap().split("\n\n").next().unwrap();
    let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let mut named: Vec<&str> =
        first_cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect();
    let folders = [models(), root.join("tests/families"), root.join("tests/golden")];
    let configs = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let configs = configs.filter_map(|entry| fs::read(entry.unwrap().path().join("config.json")).ok());
    let types = configs.map(|config| {
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config["model_type"].as_str().unwrap().to_owned()
    });
    let tested: std::collections::BTreeSet<String> = types.collect();
    named.sort_unstable();
    assert_eq!(named, tested.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_decoder_is_probed_and_answers_without_tuning() {
    let desk = desk("llama");
    desk.ok(&format!("skn-probe {MODEL} --probe_type acc_last,acc_mean --save_to plain"));
    desk.ok("skn-select -a plain/reviews/dev_last_perf --save_to plain");
    let counts = TensorFile::read(&desk.path("plain/reviews/dev_last_perf.safetensors")).unwrap();
    assert_eq!(counts.i64("correct", None).unwrap().0, [4, 20]);
    write(&desk.path("texts"), "the band was superb .\n");
    assert_eq!(
        desk.ok("skn-predict --model ./model --task-file reviews.toml --input texts").lines().count(),
        1
    );
    let expected = ["--probe_type acc", "acc_last", "--prompt_size"];
    desk.fails(&format!("skn-probe {MODEL} --probe_type acc --save_to none"), 2, &expected);
    // A random prompt, as for encoders.
    desk.ok(&format!("skn-probe {MODEL} --probe_type acc --prompt_size 2 --save_to random"));
}

#[test]
fn a_decoder_goes_through_the_whole_run() {
    let desk = desk("qwen2");
    let run = format!("skn-run {MODEL} --epoch 1 --retune-epoch 1 --prompt_size 3 --shares 0.2 --draws 2");
    desk.ok(&format!("{run} --out run"));
    desk.ok("skn-verify run");
    assert!(desk.ok(&format!("{run} --out run --resume")).contains("run"));
}

/// Writes a mask of neurons of four layers of 20, the first of a layer its best.
fn mark(desk: &Desk, layers: [&[usize]; 4]) {
    let (mut mask, mut rank) = (vec![false; 80], Vec::new());
    for (layer, neurons) in layers.into_iter().enumerate() {
        neurons.iter().for_each(|neuron| mask[20 * layer + neuron] = true);
        let behind = (0..20).filter(|neuron| !neurons.contains(neuron));
        let order: Vec<usize> = neurons.iter().copied().chain(behind).collect();
        let rank_of = |neuron| order.iter().position(|&other| other == neuron).unwrap() as i32;
        rank.extend((0..20).map(rank_of));
    }
    let mut bundle = TensorBundle::new();
    bundle.insert("mask", Array::bool(vec![4, 20], mask).unwrap());
    bundle.insert("score", Array::f32(vec![4, 20], vec![0.25; 80]).unwrap());
    bundle.insert("rank", Array::i32(vec![4, 20], rank).unwrap());
    write(&desk.path("mask.safetensors"), bundle.to_bytes().unwrap());
}

/// Layers keep 1, 3, 0 and 2 neurons.
const KEPT: [&[usize]; 4] = [&[5], &[2, 9, 4], &[], &[0, 19]];

#[test]
fn one_width_is_a_model_like_any() {
    for family in ["llama", "gpt2", "gpt_neox", "modernbert", "modernbert-biases"] {
        let desk = desk(family);
        desk.ok(&format!("skn-train {MODEL} --epoch 1 --max-steps 4 --bz 8 --prompt_size 3 --save_to run"));
        desk.ok("skn-probe -p --resume_from run --splits train --save_to run");
        mark(&desk, KEPT);
        let prune = "skn-prune --resume_from run --info_path mask --ths_path run/reviews/train_avg --uniform";
        let said = desk.ok(&format!("{prune} --save_to small"));
        assert!(said.contains("layers 0 to 3") && said.contains("to 3 of 20 neurons"), "{family}: {said}");
        let config = desk.json("small/best/config.json");
        let width = if family == "gpt2" { "n_inner" } else { "intermediate_size" };
        assert_eq!(config[width], 3, "{family}");
        assert_eq!(config["skn_kept_neurons"][1], serde_json::json!([2, 4, 9]), "{family}");
        assert_eq!(
            config["skn_kept_neurons"][0],
            serde_json::json!([0, 1, 5]),
            "{family}: filled up by rank"
        );
        assert!(config.get("skn_intermediate_sizes").is_none(), "{family}");
        let gated = !family.starts_with("gpt");
        assert_eq!(config.get("mlp_bias").is_some_and(|bias| bias == true), gated, "{family}");
        // The same model in our own form, where no layer is filled up: it has other neurons, but every program takes either.
        desk.ok("skn-train -p --resume_from small --save_to again --epoch 1 --max-steps 2 --bz 8");
        desk.ok("skn-probe -p --resume_from small --save_to small --probe_type acc,acc_last,speed");
        write(&desk.path("texts"), "the band was superb .\nthe band was awful .\n");
        for from in
            ["--resume_from small", "--resume_from again", "--model small/best --task-file reviews.toml"]
        {
            let said = desk.ok(&format!("skn-predict {from} --input texts"));
            assert_eq!(said.lines().count(), 2, "{family}: {said}");
        }
        desk.ok("skn-verify small");
        // Widths are rounded up, as far as there are neurons.
        let rounded = desk.ok(&format!("{prune} --round-width 8 --save_to rounded"));
        assert!(rounded.contains("to 8 of 20 neurons"), "{family}: {rounded}");
        let rounded =
            desk.ok(&format!("{prune} --round-width 64 --low_layer 0 --high_layer 4 --save_to whole"));
        assert!(rounded.contains("to 20 of 20 neurons"), "{family}: {rounded}");
        // What keeps all its neurons answers as before.
        let answers = |from: &str| {
            let said = desk.ok(&format!("skn-predict --resume_from {from} --input texts --json"));
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            [0, 1].map(|text| said[text]["probabilities"][0].as_f64().unwrap())
        };
        let (before, after) = (answers("run"), answers("whole"));
        assert!(before.iter().zip(after).all(|(one, other)| (one - other).abs() < 1e-5), "{family}");
    }
}

#[test]
fn one_width_is_refused_where_it_can_not_be() {
    for family in ["mistral", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2"] {
        let desk = desk(family);
        desk.ok(&format!("skn-train {MODEL} --epoch 1 --max-steps 1 --bz 8 --prompt_size 3 --save_to run"));
        mark(&desk, KEPT);
        let prune = "skn-prune --resume_from run --info_path mask --ths_path none --save_to small";
        let reason = ["biases in transformers", family.trim_end_matches("3"), "which has none"];
        desk.fails(&format!("{prune} --uniform"), 2, &reason);
        desk.fails(&format!("{prune} --dense"), 2, &reason);
        assert!(!desk.path("small").exists());
    }
    // A model whose layers differ, and one of which is narrower than what another keeps.
    let desk = desk("llama");
    desk.ok(&format!("skn-train {MODEL} --epoch 1 --max-steps 1 --bz 8 --prompt_size 3 --save_to run"));
    desk.ok("skn-probe -p --resume_from run --splits train --save_to run");
    mark(&desk, KEPT);
    let prune = "skn-prune --info_path mask --ths_path";
    desk.ok(&format!("{prune} run/reviews/train_avg --resume_from run --save_to narrow"));
    desk.ok("skn-probe -p --resume_from narrow --splits train --save_to narrow");
    mark(&desk, [&[0], &[2], &[], &[]]);
    let again = format!("{prune} narrow/reviews/train_avg --resume_from narrow --save_to small --uniform");
    desk.fails(
        &again,
        3,
        &["mask", "layer 0: expected at most 0 selected neurons, as many as layer 2", "found 1"],
    );
}

#[test]
fn what_a_decoder_lacks_is_said() {
    let desk = desk("llama");
    let train = format!("skn-train {MODEL} --max-steps 1 --save_to run");
    desk.fails(&format!("{train} --model_type adapter"), 2, &["adapters", "llama"]);
    desk.fails(&format!("{train} --model_type bias"), 2, &["biases", "llama"]);
    let biases = self::desk("llama-biases");
    biases.ok(&format!("skn-train {MODEL} --max-steps 1 --model_type bias --save_to run"));
    biases.ok("skn-probe -p --model_type bias --resume_from run --probe_type acc_last --save_to run");
    // Another family's field that is not done.
    let config = desk.path("model/config.json");
    let text = fs::read_to_string(&config).unwrap().replace("\"llama3\"", "\"yarn\"");
    write(&config, text);
    desk.fails(&train, 3, &["config.json", "rope_type", "yarn", "default, linear or llama3"]);
}

#[test]
fn tuned_parameters_of_the_other_kind_are_refused() {
    let (decoder, encoder) = (desk("qwen2"), desk("modernbert"));
    for desk in [&decoder, &encoder] {
        desk.ok(&format!("skn-train {MODEL} --max-steps 1 --epoch 1 --prompt_size 3 --save_to run"));
        fs::remove_file(desk.path("run/best/skn.json")).unwrap();
    }
    copy(&encoder.path("run/best"), &decoder.path("other"));
    copy(&decoder.path("run/best"), &encoder.path("other"));
    let probe = format!("skn-probe -p --resume_from other {MODEL} --probe_type acc --save_to x");
    decoder.fails(&probe, 3, &["adapter_config.json", "before the text"]);
    encoder.fails(&probe, 3, &["prompt.safetensors", "behind the text"]);
}
