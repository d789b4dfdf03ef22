//! Models in GGUF files through the programs (crates/skn-model/tests/gguf.rs checks the numbers): each stage does its work, what comes out is a
//! folder, and a file is taken for a model nowhere else.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Desk, copy, write};

const TASK: &str = "name = \"reviews\"\ntext = [\"text\"]\nlabel = \"label\"\nlabels = [\" negative\", \" positive\"]\n\
                    names = [[\"negative\"], [\"positive\"]]\n\n[splits]\ntrain = \"train\"\ndev = \"dev\"\ntest = \"test\"\n";

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

/// The models of which there is a file, and whether a `config.json` must lie beside it.
const ALL: [(&str, bool); 10] = [
    ("llama", true),
    ("llama-biases", false),
    ("mistral", false),
    ("qwen2", false),
    ("qwen3", false),
    ("gemma2", true),
    ("gemma3", true),
    ("gpt_neox", false),
    ("gpt_neox-serial", false),
    ("gpt2", false),
];

/// A desk with a model as a file and as a folder, a task and a few of the demo's rows.
fn desk((name, beside): (&str, bool)) -> Desk {
    let desk = Desk::new();
    let from = if beside { models().join("gguf").join(name) } else { models().join("gguf") };
    write(&desk.path("m.gguf"), fs::read(from.join(format!("{name}.gguf"))).unwrap());
    if beside {
        write(&desk.path("config.json"), fs::read(from.join("config.json")).unwrap());
    }
    copy(&models().join(name), &desk.path("folder"));
    write(&desk.path("folder/tokenizer.json"), fs::read(models().join("tokenizers/decoder.json")).unwrap());
    write(&desk.path("reviews.toml"), TASK);
    let rows = fs::read_to_string(models().join("../../data/tasks/sentiment/train.jsonl")).unwrap();
    for (name, skip, take) in [("train", 0, 48), ("dev", 48, 24), ("test", 72, 24)] {
        let part: Vec<&str> = rows.lines().skip(skip).take(take).collect();
        write(&desk.path(&format!("data/{name}.jsonl")), part.join("\n"));
    }
    write(
        &desk.path("texts"),
        "the band was superb .\nthe band was awful in 1999 .\n\u{e9}t\u{e9} \u{1f642}\n",
    );
    desk
}

const REST: &str = "--task-file reviews.toml --data data --max-length 40";

#[test]
fn every_kind_goes_through_the_chain() {
    for (name, beside) in ALL {
        let desk = desk((name, beside));
        let answers = |model: &str| {
            desk.ok(&format!("skn-predict --model {model} --task-file reviews.toml --input texts"))
        };
        assert_eq!(answers("m.gguf"), answers("folder"), "{name}: tokens and answers");
        let train = format!("skn-train --model m.gguf {REST} --epoch 1 --max-steps 4 --bz 8 --prompt_size 3");
        desk.ok(&format!("{train} --save_to run"));
        desk.ok(&format!("{} --save_to of-folder", train.replace("m.gguf", "folder")));
        let prompt = |run: &str| fs::read(desk.path(&format!("{run}/best/prompt.safetensors"))).unwrap();
        assert_eq!(prompt("run").len(), prompt("of-folder").len(), "{name}");
        desk.ok("skn-probe -p --resume_from run --probe_type acc,acc_mean,acc_max,acc_last --save_to run");
        desk.ok("skn-select -a run/reviews/dev_perf --save_to run --shares 0.2");
        desk.ok(
            "skn-mask -p --resume_from run --save_to run --info_path run/info/reviews/0.2 --cmp --draws 2",
        );
        desk.ok(
            "skn-prune --resume_from run --info_path run/info/reviews/0.2 --ths_path run/reviews/train_avg --save_to run/pruned",
        );
        // A folder like any other, which needs the file no more.
        for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            assert!(desk.path("run/pruned/best").join(file).is_file(), "{name}: {file}");
        }
        let tuned = desk.ok("skn-predict --resume_from run --input texts");
        assert_eq!(tuned.lines().count(), 3, "{name}");
        desk.ok("skn-verify run");
        desk.ok("skn-report run");
        fs::rename(desk.path("m.gguf"), desk.path("gone.gguf")).unwrap();
        desk.ok("skn-train -p --resume_from run/pruned --save_to run/again --epoch 1 --max-steps 2 --bz 8");
        assert_eq!(desk.ok("skn-predict --resume_from run/again --input texts").lines().count(), 3, "{name}");
        desk.fails("skn-predict --resume_from run --input texts", 3, &["m.gguf", "run.json", "--model"]);
    }
}

#[test]
fn a_file_goes_through_the_whole_run() {
    let desk = desk(("qwen2", false));
    let run = format!(
        "skn-run --model ./m.gguf {REST} --epoch 1 --retune-epoch 1 --prompt_size 3 --shares 0.2 --draws 2"
    );
    desk.ok(&format!("{run} --out run"));
    desk.ok("skn-verify run");
    desk.ok(&format!("{run} --out run --resume"));
    // Another file under the name is another model.
    write(&desk.path("m.gguf"), fs::read(models().join("gguf/qwen3.gguf")).unwrap());
    desk.fails("skn-predict --resume_from run --input texts", 3, &["tuned on model", "SHA-256"]);
}

#[test]
fn what_lies_beside_is_heeded() {
    let desk = desk(("qwen2", false));
    let line = "skn-predict --model m.gguf --task-file reviews.toml --input texts";
    let alone = desk.ok(line);
    // The tokenizer that the model's folder has.
    write(&desk.path("tokenizer.json"), fs::read(desk.path("folder/tokenizer.json")).unwrap());
    assert_eq!(desk.ok(line), alone);
    let other = models().join("../../crates/skn-data/tests/tokenizers/roberta/tokenizer.json");
    write(&desk.path("tokenizer.json"), fs::read(other).unwrap());
    desk.fails(line, 3, &["m.gguf", "tokenizer.json beside it", "another model"]);
    write(&desk.path("tokenizer.json"), "{");
    desk.fails(line, 3, &["tokenizer.json"]);
    fs::remove_file(desk.path("tokenizer.json")).unwrap();
    // A configuration that says the same, another one, and a part of one.
    let config = fs::read_to_string(desk.path("folder/config.json")).unwrap();
    write(&desk.path("config.json"), &config);
    assert_eq!(desk.ok(line), alone);
    write(&desk.path("config.json"), config.replace("\"rope_theta\": 500.0", "\"rope_theta\": 501.0"));
    desk.fails(line, 3, &["config.json", "rope_parameters", "m.gguf says"]);
    write(&desk.path("config.json"), config.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3"));
    desk.fails(line, 3, &["config.json", "num_hidden_layers", "expected 4", "found 3"]);
    write(&desk.path("config.json"), "{\"model_type\": \"qwen2\"}");
    assert_eq!(desk.ok(line), alone);
    write(&desk.path("config.json"), "{\"model_type\": \"qwen3\"}");
    desk.fails(line, 3, &["config.json", "model_type"]);
}

#[test]
fn what_a_file_lacks_is_said() {
    for name in ["gemma2", "gemma3"] {
        let desk = desk((name, true));
        fs::remove_file(desk.path("config.json")).unwrap();
        let line = "skn-predict --model m.gguf --task-file reviews.toml --input texts";
        desk.fails(line, 3, &["m.gguf", "query_pre_attn_scalar", "config.json beside the file"]);
    }
    let desk = desk(("llama", true));
    fs::remove_file(desk.path("config.json")).unwrap();
    let line = "skn-predict --model m.gguf --task-file reviews.toml --input texts";
    desk.fails(line, 3, &["m.gguf", "rope_freqs.weight", "llama3", "config.json beside the file"]);
    let whole = fs::read(desk.path("m.gguf")).unwrap();
    // A kind, a key and a type that are not known, of the same lengths.
    for (from, to, parts) in [
        (&b"llama"[..], &b"lamma"[..], &["general.architecture", "\"lamma\"", "one of llama, qwen2"][..]),
        (b"llama.vocab_size", b"llama.vocab_form", &["llama.vocab_form", "keys that are known"]),
        (b"blk.2.ffn_up.weight", b"blk.2.ffn_op.weight", &["blk.2.ffn_op.weight", "plain model"]),
        (b"llama.block_count", b"llama.block_cound", &["llama.block_count", "found nothing"]),
    ] {
        let mut bytes = whole.clone();
        let place = bytes.windows(from.len()).position(|part| part == from).unwrap();
        bytes.splice(place..place + from.len(), to.iter().copied());
        write(&desk.path("m.gguf"), bytes);
        write(&desk.path("config.json"), fs::read(desk.path("folder/config.json")).unwrap());
        desk.fails(line, 3, &[&["m.gguf"], parts].concat());
    }
    write(&desk.path("m.gguf"), &whole[..whole.len() - 64]);
    desk.fails(line, 3, &["m.gguf", "a file of"]);
}

#[test]
fn a_file_is_a_model_nowhere_else() {
    let desk = desk(("qwen2", false));
    desk.ok(&format!("skn-train --model m.gguf {REST} --epoch 1 --max-steps 1 --save_to run"));
    for line in [
        "skn-train --model folder --task-file reviews.toml --data m.gguf --save_to x",
        "skn-predict --model folder --task-file m.gguf --input texts",
        "skn-predict --resume_from m.gguf --input texts",
        "skn-select -a m.gguf --save_to x",
        "skn-mask -p --resume_from run --info_path m.gguf --save_to x",
    ] {
        desk.fails(line, 3, &["m.gguf", "GGUF"]);
    }
    // A folder with such a file is none.
    fs::create_dir(desk.path("of")).unwrap();
    fs::copy(desk.path("m.gguf"), desk.path("of/m.gguf")).unwrap();
    let line = "skn-predict --model ./of --task-file reviews.toml --input texts";
    desk.fails(line, 3, &["of: no config.json; there is m.gguf, which is a model by itself: name the file"]);
    write(&desk.path("of/config.json"), fs::read(desk.path("folder/config.json")).unwrap());
    write(&desk.path("of/tokenizer.json"), fs::read(desk.path("folder/tokenizer.json")).unwrap());
    desk.fails(line, 3, &["no model.safetensors", "m.gguf, which is a model by itself"]);
}
