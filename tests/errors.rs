//! Bad input: each error names what is wrong, where, and has the documented exit code; nothing is left behind.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;
use std::path::Path;

use skn_artifact::{Array, TensorBundle, TensorFile};
use support::{Desk, copy, golden, write};

const TRAIN: &str = "skn-train --data_path data/raw/sst2 --save_to run --epoch 1 --bz 64";

/// The golden model in a folder, with one tensor made anew.
fn broken_model(desk: &Desk, change: impl FnOnce(&mut TensorBundle)) {
    copy(&golden().join("model"), &desk.path("model"));
    let path = desk.path("model/model.safetensors");
    let mut bundle = bundle_of(&path);
    change(&mut bundle);
    write(&path, bundle.to_bytes().unwrap());
}

/// The floats of a file, to be written again.
fn bundle_of(path: &Path) -> TensorBundle {
    let file = TensorFile::read(path).unwrap();
    let mut bundle = TensorBundle::new();
    for name in file.names() {
        let (shape, values) = file.f32(name, None).unwrap();
        bundle.insert(name, Array::f32(shape, values).unwrap());
    }
    bundle
}

#[test]
fn what_is_not_there() {
    let desk = Desk::original();
    desk.fails("skn-train --data_path nowhere --save_to run", 3, &["nowhere"]);
    desk.fails(&format!("{TRAIN} --model ./nowhere"), 3, &["./nowhere", "no such folder"]);
    desk.fails(
        &format!("{TRAIN} --model someone/something"),
        4,
        &["`skn-fetch someone/something`", "--model demo"],
    );
    desk.fails(&format!("{TRAIN} --model a/b@v1"), 4, &["`skn-fetch a/b --revision v1`"]);
    desk.fails("skn-train --data a/b --save_to run", 4, &["no such data set", "`skn-fetch --dataset a/b`"]);
    desk.fails("skn-train --data data/nothing --save_to run", 3, &["data/nothing"]);
    desk.fails(&format!("{TRAIN} --resume_from nowhere -p"), 3, &["nowhere"]);
    desk.fails(
        "skn-select --save_to run -a run/sst2/dev_perf",
        3,
        &["run/sst2/dev_perf", "dev_perf.safetensors"],
    );
    desk.fails("skn-merge --save_to run", 3, &["shards", "--shard"]);
    desk.fails("skn-verify nowhere", 3, &["run.json"]);
    desk.fails("skn-report nowhere", 3, &["nowhere"]);
    assert!(!desk.path("run").exists() && !desk.path("nowhere").exists());
}

#[test]
fn what_is_no_task_word_or_flag() {
    let desk = Desk::original();
    desk.fails(&format!("{TRAIN} --task_type sst3"), 2, &["sst3", "sst2", "sentiment"]);
    desk.fails(&format!("{TRAIN} --verb good"), 2, &["good", "2"]);
    desk.fails(&format!("{TRAIN} --verb negative,negative"), 2, &["negative"]);
    desk.fails(&format!("{TRAIN} --model_type RobertaMagic"), 2, &["RobertaMagic", "RobertaPrompt"]);
    desk.fails(&format!("{TRAIN} --prompt_size 500"), 2, &["500", "128"]);
    desk.fails(&format!("{TRAIN} --lr nan"), 2, &["learning rate"]);
    desk.fails(&format!("{TRAIN} -p"), 2, &["--resume_from"]);
    desk.fails(&format!("{TRAIN} --device tpu"), 2, &["tpu", "cuda"]);
    desk.fails("skn-train --data_path data/raw/sst2", 2, &["--out"]);
    desk.fails(
        "skn-probe --data_path data/raw/sst2 --save_to run --probe_type acc,magic",
        2,
        &["magic", "acc_mean"],
    );
    desk.fails("skn-probe --data_path data/raw/sst2 --save_to run --probe_type pos", 2, &["--pos"]);
    desk.fails(
        "skn-probe --data_path data/raw/sst2 --save_to run --probe_type pos --pos 1,2,3",
        2,
        &["1,2,3"],
    );
    desk.fails("skn-train --save_to run", 2, &["--data"]);
    desk.fails("skn-run --prune-layer 4 --out run", 2, &["--prune-layer 4", "0 to 3"]);
    desk.fails("skn-run --alpha -1 --out run", 2, &["--alpha", "at least 0"]);
    desk.fails("skn-run --alpha 0.1 --out run", 2, &["--alpha", "mean"]);
    desk.fails("skn-run --shares 0.6 --out run", 2, &["--shares 0.6", "at most 0.5"]);
    desk.fails(&format!("{TRAIN} --lr -1"), 2, &["learning rate"]);
    desk.fails(&format!("{TRAIN} --prompt_size 126"), 2, &["126 positions", "at least 3"]);
    desk.fails(&format!("{TRAIN} --prompt_size 127"), 2, &["127 positions"]);
    desk.fails(&format!("{TRAIN} --max-length 2"), 2, &["--max-length 2"]);
    let probe = "skn-probe --data_path data/raw/sst2 --save_to run --probe_type";
    desk.fails(&format!("{probe} pos --pos 4,0"), 2, &["--pos 4,0", "layer 4", "0 to 3"]);
    desk.fails(&format!("{probe} pos --pos 1,160"), 2, &["--pos 1,160", "160 neurons"]);
    desk.fails(&format!("{probe} speed --splits dev"), 2, &["speed", "--splits"]);
    write(
        &desk.path("last.toml"),
        "name = \"last\"\ntext = [\"sentence\"]\nlabel = \"label\"\nlabels = [\"bad\", \"good\"]\n[splits]\ntrain = \"train\"\ntest = \"validation\"\n",
    );
    desk.fails(
        &format!("{TRAIN} --task-file last.toml"),
        3,
        &["last.toml: name", "folder of a run", "\"last\""],
    );
    assert!(!desk.path("run").exists(), "nothing is left behind");
}

#[test]
fn what_has_nothing_to_act_on() {
    let desk = Desk::original();
    desk.ok(TRAIN);
    desk.ok("skn-probe -p --resume_from run --save_to run --probe_type acc,acc_mean");
    desk.ok("skn-select --save_to run -a run/sst2/dev_perf --shares 0.1");
    desk.fails("skn-select --save_to x -a run/sst2/dev_perf --class 1", 2, &["--class 1", "two classes"]);
    let mask = "skn-mask -p --resume_from run --save_to x --info_path run/info/sst2/0.1";
    for wrong in ["--alpha nan", "--low_layer 4", "--high_layer 5", "--type mean"] {
        desk.fails(&format!("{mask} {wrong}"), 2, &[wrong.split(' ').next().unwrap()]);
    }
    let prune =
        "skn-prune --resume_from run --save_to x --info_path run/info/sst2/0.1 --ths_path run/sst2/train_avg";
    desk.fails(&format!("{prune} --text_ths_path run/sst2/train_mean_avg"), 2, &["per-position-group"]);
    assert!(!desk.path("x").exists(), "nothing is left behind");
    for idle in [
        "--type zero --alpha 0.2",
        "--type mean --ths_path run/sst2/train_avg --alpha 0.2",
        "--type zero --noise per-token",
        "--type zero --repeats 2",
        "--draws 3",
        "--ths_path run/sst2/train_avg",
        "--matched run/sst2/train_avg",
        "--matched_path run/info/sst2/0.1",
    ] {
        let flag = idle.rsplit("--").next().unwrap().split(' ').next().unwrap();
        desk.fails(&format!("{mask} {idle}"), 2, &[&format!("--{flag}: goes with"), "leave it out"]);
    }
    assert!(!desk.path("x").exists(), "nothing is left behind");
    let said = desk.run("skn-probe -p --resume_from run --model_type RobertaPrunePrompt --save_to y");
    assert!(said.code == 0 && said.stderr.contains("is not pruned"), "{}", said.stderr);
    let idle = "skn-probe --data_path data/raw/sst2 --save_to z --repeats 3 --prepend-mask --verbalizer --model_type RobertaBias";
    let said = desk.run(&format!("{idle} --prompt_size 4 --splits train"));
    assert_eq!(said.code, 0, "{}", said.stderr);
    for flag in [
        "--repeats: goes with",
        "--prepend-mask: goes with --resume_from",
        "--verbalizer: goes with --resume_from",
        "--prompt_size",
    ] {
        assert!(said.stderr.contains(flag), "{flag} in {}", said.stderr);
    }
}

#[test]
fn answers_of_a_tuned_model_and_of_one_as_it_is() {
    let desk = Desk::original();
    desk.ok("skn-train --model demo --task sentiment --epoch 1 --max-steps 40 --lr 0.005 --save_to run");
    write(&desk.path("texts"), "the food was not bad .\n");
    let tuned = desk.ok("skn-predict --resume_from run --input texts");
    assert_eq!(desk.ok("skn-predict -p --resume_from run --input texts"), tuned);
    let untuned = desk.ok("skn-predict --model demo --task sentiment --input texts");
    assert_eq!(untuned.trim_end().split('\t').count(), 3, "{untuned}");
    assert_ne!(untuned, tuned);
    assert_ne!(desk.ok("skn-predict --model demo --task sentiment --seed 3 --input texts"), untuned);
    desk.fails("skn-predict -p --input texts", 2, &["-p loads tuned parameters", "--resume_from"]);
    desk.fails("skn-predict --resume_from run --data data/raw/sst2 --input texts", 2, &["--data"]);
    let said = desk.run("skn-predict --resume_from run --seed 3 --prompt_size 4 --input texts");
    assert_eq!((said.code, said.stdout.as_str()), (0, tuned.as_str()));
    for flag in ["--seed: goes with", "--prompt_size: goes with"] {
        assert!(said.stderr.contains(flag), "{flag} in {}", said.stderr);
    }
    let said =
        desk.run("skn-predict --model demo --task sentiment --prepend-mask --verbalizer --input texts");
    for flag in ["--prepend-mask: goes with", "--verbalizer: goes with"] {
        assert!(said.code == 0 && said.stderr.contains(flag), "{flag} in {}", said.stderr);
    }
}

/// A prompt as PEFT saves it for SEQ_CLS: the classifier answers there.
#[test]
fn tuned_parameters_of_other_tools() {
    let desk = Desk::original();
    desk.ok("skn-train --model demo --task sentiment --epoch 1 --max-steps 40 --lr 0.005 --save_to run");
    write(&desk.path("texts"), "the food was not bad .\n");
    let tuned = desk.ok("skn-predict --resume_from run --input texts");
    let mut config = desk.json("run/best/adapter_config.json");
    (config["task_type"], config["modules_to_save"]) = ("SEQ_CLS".into(), vec!["classifier", "score"].into());
    write(&desk.path("peft/adapter_config.json"), config.to_string());
    let tensors = "adapter_model.safetensors";
    let mut bundle = bundle_of(&desk.path("run/best").join(tensors));
    bundle.insert("base_model.classifier.out_proj.bias", Array::f32(vec![2], vec![0.5; 2]).unwrap());
    write(&desk.path("peft").join(tensors), bundle.to_bytes().unwrap());
    let line = "skn-predict --model demo --task sentiment --input texts --resume_from";
    desk.fails(&format!("{line} peft"), 3, &["modules_to_save", "classifier", "--verbalizer answers"]);
    assert_eq!(desk.ok(&format!("{line} peft --verbalizer")), tuned);

    let prompt = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\x0f\0\x13\0task_prompt/data.pkl";
    write(&desk.path("task_prompt.pt"), prompt);
    write(&desk.path("prompts/task_prompt.pt"), prompt);
    for place in ["task_prompt.pt", "prompts"] {
        desk.fails(
            &format!("{line} {place}"),
            3,
            &["pickle", "torch.load(\"task_prompt.pt\"", "PROMPT_TUNING"],
        );
    }
    desk.fails(&format!("{line} peft/{tensors}"), 3, &["give the folder"]);
    // Without `--model` the file says which it is.
    write(
        &desk.path("peft/adapter_config.json"),
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
    );
    let line = "skn-predict --task sentiment --input texts --resume_from peft";
    desk.fails(line, 3, &["adapter_config.json", "git lfs pull"]);
}

/// What a model's files hold beside the model is told.
#[test]
fn what_a_model_holds_beside() {
    let desk = Desk::original();
    broken_model(&desk, |bundle| {
        bundle.insert("classifier.out_proj.bias", Array::f32(vec![2], vec![0.5; 2]).unwrap());
    });
    let config = fs::read_to_string(desk.path("model/config.json")).unwrap();
    let fewer = config.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3");
    write(&desk.path("model/config.json"), fewer);
    write(&desk.path("model/adapter_model.safetensors"), "");
    let said = desk.run(&format!("{TRAIN} --model model"));
    assert_eq!(said.code, 0, "{}", said.stderr);
    for told in [
        "does not use classifier.out_proj.bias",
        "has 4 layers; the first 3 are used",
        "tuned parameters (adapter_model.safetensors) are not loaded",
    ] {
        assert!(said.stderr.matches(told).count() == 1, "{told} in {}", said.stderr);
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_was_not_built_in() {
    let desk = Desk::original();
    desk.fails(&format!("{TRAIN} --device cuda:0"), 5, &["cuda:0", "--features cuda"]);
}

#[test]
fn weights_that_are_damaged() {
    let line = format!("{TRAIN} --model model");
    let query = "roberta.encoder.layer.1.attention.self.query.weight";
    let desk = Desk::original();
    broken_model(&desk, |bundle| {
        bundle.insert(query, Array::f32(vec![48, 47], vec![0.0; 48 * 47]).unwrap());
    });
    desk.fails(&line, 3, &["model.safetensors", query, "[48, 48]", "[48, 47]"]);
    broken_model(&desk, |bundle| {
        let mut values = vec![0.0; 48 * 48];
        values[5] = f32::NAN;
        bundle.insert(query, Array::f32(vec![48, 48], values).unwrap());
    });
    desk.fails(&line, 3, &["model.safetensors", query, "finite", "element 5"]);
    let whole = fs::read(desk.path("model/model.safetensors")).unwrap();
    write(&desk.path("model/model.safetensors"), &whole[..whole.len() / 2]);
    desk.fails(&line, 3, &["model.safetensors"]);
    fs::remove_file(desk.path("model/model.safetensors")).unwrap();
    write(&desk.path("model/pytorch_model.bin"), "PK");
    desk.fails(&line, 3, &["pytorch_model.bin", "safe_serialization"]);
}

#[test]
fn a_model_of_absurd_size() {
    let desk = Desk::original();
    copy(&golden().join("model"), &desk.path("model"));
    let text = fs::read_to_string(desk.path("model/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["intermediate_size"] = serde_json::json!(1u64 << 40);
    write(&desk.path("model/config.json"), config.to_string());
    desk.fails(&format!("{TRAIN} --model model"), 3, &["config.json", "intermediate_size", "1099511627776"]);
}

#[test]
fn data_that_are_damaged() {
    let desk = Desk::new();
    let at = "skn-train --model demo --task sst2 --epoch 1 --save_to run --data data";
    let rows = |labels: [i64; 3]| {
        labels.map(|label| format!("{{\"sentence\": \"a text\", \"label\": {label}}}\n")).concat()
    };
    write(&desk.path("data/train.jsonl"), rows([0, 1, 7]));
    write(&desk.path("data/validation.jsonl"), rows([0, 1, 1]));
    desk.fails(at, 3, &["train.jsonl", "7"]);
    write(&desk.path("data/train.jsonl"), "");
    desk.fails(at, 3, &["train"]);
    write(&desk.path("data/train.jsonl"), "{\"sentence\": \"a text\", \"label\": 1}\n{\"sentence\": 5");
    desk.fails(at, 3, &["train.jsonl", "2"]);
    write(&desk.path("data/train.jsonl"), "{\"text\": \"a text\", \"label\": 1}\n");
    desk.fails(at, 3, &["train.jsonl", "sentence"]);
    fs::remove_file(desk.path("data/train.jsonl")).unwrap();
    desk.fails(at, 3, &["train"]);
}

#[test]
fn a_split_that_lost_its_file() {
    let desk = Desk::original();
    fs::remove_file(desk.path("data/raw/sst2/validation/data-00000-of-00001.arrow")).unwrap();
    desk.fails(TRAIN, 3, &["validation/data-00000-of-00001.arrow"]);
    assert!(!desk.path("run").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn nobody_listens_to_stderr() {
    let desk = Desk::new();
    let line = ["--model", "demo", "--task", "topic", "--max-steps", "2", "--save_to", "run"];
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert!(desk.command("skn-train", &line).stderr(full).status().unwrap().success());
}

#[test]
fn masks_and_averages_of_another_model() {
    let desk = Desk::original();
    desk.ok(TRAIN);
    desk.ok("skn-probe -p --resume_from run --save_to run");
    desk.ok("skn-select --save_to run -a run/sst2/dev_perf --shares 0.1");
    let perf = desk.path("run/sst2/dev_perf.safetensors");
    let demo = "--model demo --task sentiment --save_to other";
    desk.ok(&format!("skn-train {demo} --epoch 1 --max-steps 2"));
    desk.fails(
        "skn-mask -p --resume_from other --save_to other --info_path run/info/sst2/0.1",
        3,
        &["run/info/sst2/0.1", "[4, 384]", "[4, 160]"],
    );
    desk.fails(
        "skn-mask -p --resume_from other --save_to other --model roberta-base --info_path run/info/sst2/0.1",
        3,
        &["skn.json", "demo"],
    );
    desk.fails("skn-probe -p --resume_from run --save_to run", 3, &["train_avg.safetensors", "--force"]);
    desk.fails(TRAIN, 3, &["skn.json", "--force"]);
    let mut bytes = fs::read(&perf).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    write(&perf, &bytes);
    desk.fails("skn-verify run", 3, &["changed", "sst2/dev_perf.safetensors"]);
    desk.fails("skn-select --save_to run -a run/sst2/dev_perf --force", 3, &["dev_perf.safetensors"]);
}

#[test]
fn a_run_that_another_program_writes() {
    let desk = Desk::original();
    let _lock = skn_artifact::RunLock::acquire(&desk.path("run"), "skn-other").unwrap();
    desk.fails(TRAIN, 6, &["skn-other"]);
}

#[test]
fn a_tuned_run_is_not_replaced_by_accident() {
    let desk = Desk::new();
    let train = "skn-train --model demo --task sentiment --max-steps 3 --save_to run";
    desk.ok(train);
    let before = desk.contents("run");
    desk.fails(train, 3, &["best/skn.json", "--force"]);
    desk.fails(&format!("{train} --force --epoch 0"), 2, &["epochs"]);
    assert!(desk.contents("run") == before);
    // Another division would make dev rows of what the run was probed on.
    desk.ok("skn-probe --model demo --task sentiment --save_to probed");
    desk.fails("skn-train --model demo --task topic --max-steps 3 --save_to probed", 3, &["split.json"]);
}

#[test]
fn files_of_another_model_are_refused_though_their_shape_fits() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --max-steps 3 --save_to run");
    desk.ok("skn-probe -p --resume_from run --save_to run");
    desk.ok("skn-select -a run/sentiment/dev_perf --save_to run");
    let prune = "skn-prune --info_path run/info/sentiment/0.02 --ths_path run/sentiment/train_avg";
    desk.ok(&format!("{prune} --resume_from run --save_to pruned"));
    desk.fails(
        &format!("{prune} --resume_from pruned --save_to again"),
        3,
        &["0.02.safetensors", "skn.model_sha256"],
    );
}

#[test]
fn what_a_run_was_tuned_with_is_remembered() {
    let desk = Desk::new();
    desk.ok(
        "skn-train --model demo --task inference --max-steps 3 --max-length 8 --compat paper --save_to run",
    );
    let speed = "skn-probe -p --resume_from run --probe_type speed --repeats 1 --save_to";
    desk.ok(&format!("{speed} a"));
    desk.ok(&format!("{speed} b --max-length 8 --compat paper"));
    desk.ok(&format!("{speed} c --max-length 100"));
    let [a, b, c] = ["a", "b", "c"].map(|run| desk.json(&format!("{run}/inference/inference_perf.json")));
    assert_eq!(a, b);
    assert_ne!(a["multiply_adds"], c["multiply_adds"]);
}

#[test]
fn a_control_of_another_experiment_does_not_stay() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --max-steps 3 --save_to run");
    desk.ok("skn-probe -p --resume_from run --save_to run");
    desk.ok("skn-select -a run/sentiment/dev_perf --save_to run --shares 0.1");
    let mask = "skn-mask -p --resume_from run --save_to run --info_path run/info/sentiment/0.1";
    desk.ok(&format!("{mask} --cmp --draws 2"));
    desk.ok(&format!("{mask} --type zero --force"));
    desk.ok("skn-verify run");
    assert!(desk.path("run/mask_perf.json").is_file() && !desk.path("run/cmp_perf.json").exists());
    desk.fails(
        "skn-probe -p --resume_from run --save_to x --probe_type acc,pos --pos best",
        2,
        &["acc first"],
    );
}

#[test]
fn statistics_of_other_parameters_do_not_mix() {
    let desk = Desk::new();
    let probe = "skn-probe -p --resume_from run --save_to run";
    desk.ok("skn-train --model demo --task sentiment --max-steps 3 --save_to run");
    desk.ok(&format!("{probe} --splits train"));
    desk.ok(&format!("{probe} --shard 1/2 --splits dev"));
    // A part is not taken for the whole.
    let line = "skn-select --save_to part -a run/shards/1-of-2/sentiment/dev_perf";
    desk.fails(line, 3, &["dev_perf.safetensors", "found shard 1/2", "skn-merge"]);
    desk.ok("skn-train --max-steps 3 -p --resume_from run --save_to run");
    desk.fails(&format!("{probe} --splits dev"), 3, &["train_avg.safetensors", "skn.tuning_sha256"]);
    let told = desk.ok("skn-verify run");
    assert!(
        told.contains("sentiment/train_avg.safetensors: made from best/adapter_model.safetensors"),
        "{told}"
    );
    desk.ok(&format!("{probe} --splits train --force"));
    assert!(!desk.ok("skn-verify run").contains("made from"));
    desk.ok(&format!("{probe} --shard 2/2 --splits dev"));
    desk.fails("skn-merge --save_to run", 3, &["2-of-2", "skn.tuning_sha256"]);
}

#[test]
fn what_was_moved_since() {
    let desk = Desk::original();
    desk.ok(TRAIN);
    fs::rename(desk.path("data"), desk.path("elsewhere")).unwrap();
    let probe = "skn-probe -p --resume_from run --save_to run";
    desk.fails(probe, 3, &["run/run.json says", "--data says otherwise", "data/raw/sst2"]);
    desk.ok(&format!("{probe} --data elsewhere/raw/sst2"));
}

#[test]
fn texts_that_are_none() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task inference --max-steps 3 --save_to run");
    let predict = "skn-predict --resume_from run --input";
    desk.fails(&format!("{predict} run"), 3, &["run: ", "expected a file"]);
    desk.fails(&format!("{predict} nowhere"), 3, &["nowhere: "]);
    // Others may have no end, or wait for somebody who never comes.
    #[cfg(unix)]
    desk.fails(&format!("{predict} /dev/zero"), 3, &["/dev/zero: it is a device", "- for standard input"]);
    write(&desk.path("texts"), b"one\ttwo\nthree\tf\xffour\n");
    desk.fails(&format!("{predict} texts"), 3, &["texts: line 2: not UTF-8"]);
    write(&desk.path("texts"), "one\ttwo\nthree\n");
    desk.fails(&format!("{predict} texts"), 3, &["texts: line 2: expected two texts"]);
    write(&desk.path("texts"), "");
    desk.fails(&format!("{predict} texts"), 3, &["texts: expected a text a line"]);
    desk.fails("skn-report run --figures texts", 3, &["--figures texts", "found a file"]);
}

/// Names and texts of other people don't move the cursor, nor turn what stands beside them, wherever they are shown.
#[cfg(unix)]
#[test]
fn control_characters_are_spelled_out() {
    const ORDERS: [char; 4] = ['\u{1b}', '\u{9b}', '\u{202e}', '\u{7}'];
    let evil = "x\u{1b}[2J\u{9b}31m\u{202e}\u{7}";
    let desk = Desk::new();
    write(&desk.path("texts.txt"), format!("{evil}\n"));
    let plain = desk.ok("skn-predict --model demo --task sst2 --input texts.txt");
    let json = desk.ok("skn-predict --model demo --task sst2 --input texts.txt --json");
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(
        parsed.to_string().contains(&serde_json::Value::from(evil).to_string()),
        "JSON says the same text: {json}"
    );
    // In the names of a task, of a column, of a file, of a tensor, of a split.
    write(&desk.path(&format!("{evil}/train.csv")), format!("{evil},b\n1,2\n"));
    let lines = [
        format!("skn-train --model demo --task {evil} --data d --out r"),
        format!("skn-train --model demo --task sst2 --data {evil} --out r"),
        format!("skn-predict --model {evil} --task sst2 --input texts.txt"),
        format!("skn-verify {evil}"),
        format!("skn-select -a {evil} --save_to r --task_type {evil}"),
        // What clap says of the words itself.
        format!("skn-train --epoch {evil} --out r"),
        format!("skn-train --out r {evil}"),
    ];
    let said = lines.map(|line| desk.run(&line));
    assert!(plain.contains("\\u{1b}[2J"), "{plain}");
    let errors = said.iter().flat_map(|said| [said.stderr.as_str(), said.stdout.as_str()]);
    for text in [plain.as_str(), json.as_str()].into_iter().chain(errors) {
        assert!(!text.contains(ORDERS), "{text:?}");
    }
    assert!(
        said.iter().all(|said| said.code != 0 && said.stderr.contains("\\u{202e}")),
        "the names are shown"
    );
}

/// What the original implementation left, and what git left of a large file, are named for what they are.
#[test]
fn tuned_parameters_that_are_something_else() {
    let desk = Desk::new();
    let line = "skn-probe --model demo --task sentiment -p --probe_type acc --save_to other --resume_from";
    // The first bytes of torch.save's zip: its first file is `best-backbone/data.pkl`.
    let zip = b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x16\0\x0c\0best-backbone/data.pkl";
    write(&desk.path("old/best-backbone"), zip);
    desk.fails(&format!("{line} old/best-backbone"), 3, &["old/best-backbone", "torch.save"]);

    desk.ok("skn-train --model demo --task sentiment --prompt_size 4 --max-steps 1 --save_to run");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 6304\n";
    write(&desk.path("run/best/adapter_model.safetensors"), pointer);
    desk.fails(
        &format!("{line} run"),
        3,
        &["run/best/adapter_model.safetensors", "Git LFS pointer", "git lfs pull"],
    );
}
