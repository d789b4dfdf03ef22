//! A resume that doesn't match is refused, for everything that a training's bits depend on: the error names the field, what the
//! checkpoint was made with, and what is asked for now.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use skn_artifact::names::key;
use skn_artifact::{Array, TensorBundle, TensorFile, file_hash, sha256_hex};
use skn_session::Session;
use skn_session::options::{Compute, Train, Tuned};

use crate::checkpoints::{RESUME, STOPPED, StopAfter, training};
use crate::places::{Place, contents, copy, put, run_in};
use crate::support::write;

/// What a resume with another value of an option does.
enum Decision {
    /// It is refused, by this field. The flags are put in the place of others, or besides.
    Refused(&'static str, &'static [(&'static str, &'static str)]),
    /// The result is the same, so it may differ.
    Free(&'static str),
    /// Another test has it.
    Elsewhere,
}
use Decision::{Elsewhere, Free, Refused};

/// A decision for every option of a training: a new one without fails the test.
const DECISIONS: &[(&str, Decision)] = &[
    ("compute.device", Free("--device cpu")),
    ("compute.precision", Refused("dtype", &[("", "--dtype bf16")])),
    ("subject.model", Refused("model_sha256", &[("--model demo", "--model ../other-model")])),
    ("subject.task", Refused("metric", &[("../mine.toml", "../other.toml")])),
    ("subject.data", Refused("data_sha256", &[("../rows", "../other-rows")])),
    ("subject.max_data", Free("--max-data 1G")),
    ("subject.words", Refused("verbalizer", &[("", "--verb positive,negative")])),
    ("subject.max_length", Refused("dev", &[("", "--max-length 6")])),
    ("subject.paper", Refused("clip", &[("", "--compat paper")])),
    ("subject.seed", Refused("seed", &[("", "--seed 1")])),
    ("tuned.method", Refused("method", &[("", "--model_type RobertaBias")])),
    ("tuned.prompt_size", Refused("parameters", &[("--prompt_size 4", "--prompt_size 5")])),
    // What is loaded is in the fingerprint by its hash, however it was read.
    ("tuned.resume_from", Elsewhere),
    ("tuned.load", Elsewhere),
    ("tuned.prepend_mask", Elsewhere),
    ("tuned.verbalizer", Elsewhere),
    // The only one that an encoder has; a decoder's is in the fingerprint.
    ("tuned.prompt_place", Free("--prompt_place front")),
    ("training.epochs", Refused("epochs", &[("--epoch 3", "--epoch 4")])),
    ("training.batch", Refused("batch", &[("--bz 8", "--bz 4")])),
    ("training.eval_every", Refused("eval_every", &[("--eval_every_step 4", "--eval_every_step 5")])),
    ("training.learning_rate", Refused("learning_rate", &[("--lr 0.01", "--lr 0.02")])),
    ("training.early_stop", Refused("early_stop", &[("", "--early_stop")])),
    ("training.max_steps", Refused("max_steps", &[("--max-steps 14", "--max-steps 15")])),
    ("training.accumulate", Refused("accumulate", &[("", "--accumulate 2")])),
    ("training.warmup", Refused("warmup", &[("", "--warmup 0.25")])),
    ("training.weight_decay", Refused("weight_decay", &[("", "--weight-decay 0.5")])),
    ("training.dropout", Refused("dropout", &[("", "--dropout 0.25")])),
    ("training.checkpoint_every", Free("--checkpoint-every 5")),
    // Where it lies, and that it goes on.
    ("out", Elsewhere),
    ("overwrite", Elsewhere),
    ("resume", Elsewhere),
];

/// The names of all options, from what their defaults are in JSON.
fn options() -> Vec<String> {
    fn add(prefix: &str, value: Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                    add(&name, value, found);
                }
            }
            _ => found.push(prefix.into()),
        }
    }
    let mut found = Vec::new();
    add("", serde_json::to_value(Train::default()).unwrap(), &mut found);
    add("compute", serde_json::to_value(Compute::default()).unwrap(), &mut found);
    found.sort();
    found
}

/// A training that was stopped in its middle.
fn stopped(name: &str) -> Place {
    let place = Place::new(&STOPPED.desk, name);
    copy(&STOPPED.desk.path(&format!("stopped-{}", STOPPED.moments / 2)), &place.0);
    place
}

#[test]
fn every_option_is_decided() {
    let mut decided: Vec<&str> = DECISIONS.iter().map(|(name, _)| *name).collect();
    decided.sort_unstable();
    assert_eq!(options(), decided, "an option of training without a decision, or the other way round");

    let desk = &STOPPED.desk;
    let task = fs::read_to_string(desk.path("mine.toml")).unwrap();
    write(&desk.path("other.toml"), task.replace("[splits]", "metric = \"mcc\"\n[splits]"));
    for split in ["train", "dev", "test"] {
        let rows = fs::read_to_string(desk.path(&format!("rows/{split}.jsonl"))).unwrap();
        let cut = rows.trim_end().rsplit_once('\n').unwrap().0;
        write(&desk.path(&format!("other-rows/{split}.jsonl")), cut);
    }
    for (name, bytes) in skn_demo::model_files() {
        let mut bytes = bytes.to_vec();
        if name.ends_with(".safetensors") {
            // The last bits of the last number, which is finite with any of them.
            let last = bytes.len() - 4;
            bytes[last] ^= 1;
        }
        write(&desk.path(&format!("other-model/{name}")), bytes);
    }
    for (number, (option, decision)) in DECISIONS.iter().enumerate() {
        match decision {
            Elsewhere => {}
            Free(flags) => {
                let place = stopped(&format!("free-{number}"));
                let line = match *flags {
                    "--checkpoint-every 5" => RESUME.replace("--checkpoint-every 3", flags),
                    flags => format!("{RESUME} {flags}"),
                };
                let said = run_in(desk, &place.0, &line);
                assert_eq!(said.code, 0, "{option}: {}", said.stderr);
                let mut found = contents(&place.0.join("run"));
                found.retain(|name, _| !name.contains("previous"));
                assert!(found == STOPPED.expected, "{option}");
            }
            Refused(field, flags) => {
                let place = stopped(&format!("refused-{number}"));
                let before = contents(&place.0);
                let line = flags.iter().fold(RESUME.to_string(), |line, (old, new)| match *old {
                    "" => format!("{line} {new}"),
                    old => line.replace(old, new),
                });
                assert_ne!(line, RESUME);
                refused(option, &run_in(desk, &place.0, &line), field);
                assert!(contents(&place.0) == before, "{option}: the run was touched");
            }
        }
    }
}

fn refused(what: &str, said: &crate::support::Said, field: &str) {
    assert_eq!(said.code, 3, "{what}: {}", said.stderr);
    let text = &said.stderr;
    for part in
        ["checkpoint.safetensors", &format!("`{field}`"), "the checkpoint was made with", "this run has"]
    {
        assert!(text.contains(part), "{what}: expected {part} in {text}");
    }
    let values = text.split_once("made with ").and_then(|(_, rest)| rest.split_once(", this run has "));
    let (old, new) = values.unwrap();
    let new = new.split_once(';').unwrap().0;
    assert!(!old.is_empty() && !new.is_empty() && old != new, "{what}: {text}");
}

/// Puts another value into a checkpoint's header, with the hash that fits.
fn change_header(path: &Path, change: impl FnOnce(&mut Value)) {
    let file = TensorFile::read(path).unwrap();
    let mut header: Value = serde_json::from_str(&file.metadata()[key::STATE]).unwrap();
    change(&mut header);
    let state = header.to_string();
    let content = sha256_hex(format!("{state}\n{}", file_hash([&file]).unwrap()).as_bytes());
    let mut bundle = TensorBundle::new();
    for (name, value) in file.metadata() {
        bundle.describe(name, value);
    }
    bundle.describe(key::STATE, state).describe(key::CONTENT, content);
    for name in file.names() {
        let (shape, values) = file.f32(name, None).unwrap();
        bundle.insert(name, Array::f32(shape, values).unwrap());
    }
    put(path, &bundle.to_bytes().unwrap());
}

/// What a checkpoint says that a training must match; what is new must be thought of in [`DECISIONS`] too.
const FIELDS: [&str; 28] = [
    "accumulate",
    "batch",
    "begins_with",
    "clip",
    "data_sha256",
    "dev",
    "dropout",
    "dtype",
    "early_stop",
    "epochs",
    "eval_every",
    "learning_rate",
    "max_norm",
    "max_steps",
    "method",
    "metric",
    "model",
    "model_sha256",
    "parameters",
    "prompt_size",
    "seed",
    "task",
    "token_budget",
    "tokenizer_sha256",
    "train",
    "verbalizer",
    "warmup",
    "weight_decay",
];

#[test]
fn every_field_of_a_checkpoint_is_compared() {
    let place = stopped("fields");
    let path = place.0.join("run/last/checkpoint.safetensors");
    let whole = fs::read(&path).unwrap();
    let header: Value =
        serde_json::from_str(&TensorFile::read(&path).unwrap().metadata()[key::STATE]).unwrap();
    let settings: BTreeMap<String, String> = serde_json::from_value(header["settings"].clone()).unwrap();
    assert_eq!(settings.keys().collect::<Vec<_>>(), FIELDS.iter().collect::<Vec<_>>());
    for (field, value) in &settings {
        for other in [Some(format!("{value} or so")), None] {
            put(&path, &whole);
            change_header(&path, |header| match &other {
                Some(other) => header["settings"][field] = other.clone().into(),
                None => drop(header["settings"].as_object_mut().unwrap().remove(field)),
            });
            let said = run_in(&STOPPED.desk, &place.0, RESUME);
            refused(field, &said, field);
            let old = other.as_deref().unwrap_or("nothing");
            let both = format!("made with {old}, this run has {value};");
            assert!(said.stderr.contains(&both), "{field}: expected `{both}` in {}", said.stderr);
        }
    }
    put(&path, &whole);
    change_header(&path, |header| header["settings"]["brand_new"] = "x".into());
    refused("a field of a later version", &run_in(&STOPPED.desk, &place.0, RESUME), "brand_new");
    put(&path, &whole);
    change_header(&path, |header| header["format"] = 1.into());
    refused("format", &run_in(&STOPPED.desk, &place.0, RESUME), "format");
    // As it was it goes on, so nothing above was refused for another reason.
    put(&path, &whole);
    change_header(&path, |_| ());
    assert_eq!(run_in(&STOPPED.desk, &place.0, RESUME).code, 0);
}

#[test]
fn other_loaded_parameters_are_refused() {
    let desk = &STOPPED.desk;
    let place = Place::new(desk, "loaded");
    let last = STOPPED.moments - 1;
    copy(&desk.path(&format!("stopped-{last}/run")), &place.0.join("mine"));
    let others = fs::read_dir(desk.path("")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_prefix("other-")?.parse::<usize>().ok()
    });
    copy(&desk.path(&format!("other-{}/run", others.max().unwrap())), &place.0.join("other"));
    let mut train: Train = training(desk, &place.0.join("run"), 0);
    train.tuned = Tuned::of(place.0.join("mine"));
    let mut compute = Compute::default();
    compute.threads = Some(NonZeroUsize::MIN);
    let session = Session::new(compute).unwrap().with_progress(Arc::new(StopAfter(12.into())));
    session.train(&train).unwrap_err();
    assert!(place.0.join("run/last/checkpoint.safetensors").is_file());
    let line = |from: &str| RESUME.replace("--prompt_size 4", &format!("-p --resume_from {from}"));
    let said = run_in(desk, &place.0, &line("other"));
    refused("other parameters", &said, "begins_with");
    assert_eq!(said.stderr.matches("loaded parameters, SHA-256").count(), 2, "{}", said.stderr);
    refused("new parameters", &run_in(desk, &place.0, RESUME), "begins_with");
    let said = run_in(desk, &place.0, &line("mine"));
    assert_eq!(said.code, 0, "{}", said.stderr);
}

#[test]
fn another_tokenizer_or_configuration_is_refused() {
    let desk = &STOPPED.desk;
    let place = Place::new(desk, "tokenizer");
    let model = |name: &str, change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>| {
        for (file, bytes) in skn_demo::model_files() {
            write(&place.0.join(name).join(file), change(file, bytes.to_vec()));
        }
    };
    model("same", &|_, bytes| bytes);
    let edited = |of: &'static str, key: &'static str, to: Value| {
        move |file: &str, bytes: Vec<u8>| {
            if file != of {
                return bytes;
            }
            let mut value: Value = serde_json::from_slice(&bytes).unwrap();
            value[key] = to.clone();
            value.to_string().into_bytes()
        }
    };
    model("tokenizer", &edited("tokenizer.json", "normalizer", serde_json::json!({"type": "NFC"})));
    model("config", &edited("config.json", "layer_norm_eps", 1e-3.into()));
    let line = |model: &str| RESUME.replace("--model demo", &format!("--model {model}"));
    for (model, field) in [("tokenizer", "tokenizer_sha256"), ("config", "model")] {
        let stopped = stopped(&format!("tokenizer-{model}"));
        let said = run_in(desk, &stopped.0, &line(&format!("../tokenizer/{model}")));
        refused(model, &said, field);
    }
    let stopped = stopped("tokenizer-same");
    let said = run_in(desk, &stopped.0, &line("../tokenizer/same"));
    assert_eq!(said.code, 0, "{}", said.stderr);
}
