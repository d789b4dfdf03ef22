//! Models that are damaged, not there, or not what they seem.

use std::fs;

use serde_json::{Value, json};
use skn_artifact::{Array, TensorBundle, TensorFile};

use super::Reader;
use crate::support::{Desk, copy, golden, write};

const LFS: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 6304\n";

/// The golden model in a folder.
fn model(user: &Reader) {
    let _ = fs::remove_dir_all(user.desk.path("model"));
    copy(&golden().join("model"), &user.desk.path("model"));
}

fn edited(user: &Reader, name: &str, change: impl FnOnce(&mut Value)) {
    model(user);
    let mut value = user.desk.json(name);
    change(&mut value);
    write(&user.desk.path(name), value.to_string());
}

/// A file of tensors with one of them made anew.
fn with_tensor(user: &Reader, file: &str, tensor: &str, change: impl FnOnce(&mut Vec<usize>, &mut Vec<f32>)) {
    let path = user.desk.path(file);
    let read = TensorFile::read(&path).unwrap();
    let mut bundle = TensorBundle::new();
    for name in read.names() {
        let (shape, values) = read.f32(name, None).unwrap();
        bundle.insert(name, Array::f32(shape, values).unwrap());
    }
    let (mut shape, mut values) = read.f32(tensor, None).unwrap();
    change(&mut shape, &mut values);
    bundle.insert(tensor, Array::f32(shape, values).unwrap());
    write(&path, bundle.to_bytes().unwrap());
}

/// A file of tensors without those of the head.
fn without_head(user: &Reader, file: &str) {
    let path = user.desk.path(file);
    let read = TensorFile::read(&path).unwrap();
    let mut bundle = TensorBundle::new();
    for name in read.names().filter(|name| !name.starts_with("lm_head.")) {
        let (shape, values) = read.f32(name, None).unwrap();
        bundle.insert(name, Array::f32(shape, values).unwrap());
    }
    write(&path, bundle.to_bytes().unwrap());
}

#[test]
fn folders_of_models() {
    let mut user = Reader::new(Desk::original(), "models", "Models that are not there, damaged, or others.");
    let line = "skn-train --data data/raw/sst2 --out run --model model";
    user.told("No such folder", &line.replace("--model model", "--model ./model"), 3);
    user.told("Not fetched", &line.replace("--model model", "--model someone/something"), 4);
    user.told("A revision that was not fetched", &line.replace("--model model", "--model a/b@v1"), 4);
    write(&user.desk.path("model/readme"), "");
    user.told("A folder without a model", line, 3);
    model(&user);
    write(&user.desk.path("model/config.json"), LFS);
    user.told("What git left of config.json", line, 3);
    write(&user.desk.path("model/config.json"), "{\"model_type\": \"roberta\",");
    user.told("A config.json that breaks off", line, 3);
    edited(&user, "model/config.json", |config| config["model_type"] = json!("t5"));
    user.told("A model of another kind", line, 3);
    edited(&user, "model/config.json", |config| config["num_hidden_layers"] = json!("four"));
    user.told("A number that is a word", line, 3);
    edited(&user, "model/config.json", |config| config["intermediate_size"] = json!(1u64 << 40));
    user.told("A layer as wide as no memory", line, 3);
    edited(&user, "model/config.json", |config| config["hidden_size"] = json!(50));
    user.told("A width that the heads don't divide", line, 3);
    model(&user);
    write(&user.desk.path("model/model.safetensors"), LFS);
    user.told("What git left of the weights", line, 3);
    write(&user.desk.path("model/model.safetensors"), b"GGUF\x03\0\0\0\0");
    user.told("Weights of llama.cpp", line, 3);
    model(&user);
    let whole = fs::read(user.desk.path("model/model.safetensors")).unwrap();
    write(&user.desk.path("model/model.safetensors"), &whole[..whole.len() / 2]);
    user.told("Half of the weights", line, 3);
    fs::remove_file(user.desk.path("model/model.safetensors")).unwrap();
    write(&user.desk.path("model/pytorch_model.bin"), "PK");
    user.told("Weights as torch saves them", line, 3);
    let query = "roberta.encoder.layer.1.attention.self.query.weight";
    model(&user);
    with_tensor(&user, "model/model.safetensors", query, |_, values| values[5] = f32::NAN);
    user.told("A weight that is no number", line, 3);
    model(&user);
    with_tensor(&user, "model/model.safetensors", query, |shape, values| {
        shape[1] -= 1;
        values.truncate(shape[0] * shape[1]);
    });
    user.told("A weight of another shape", line, 3);
    model(&user);
    without_head(&user, "model/model.safetensors");
    user.told("A model without a head", line, 3);
    let whole = line.replace("skn-train", "skn-run --max-data 1G --epoch 1");
    user.told("A model without a head, for the whole chain", &whole, 3);
    let mask = "skn-mask --data data/raw/sst2 --model model --info_path mine.csv --out run";
    user.told("A model without a head, for what must answer", mask, 3);
    user.finish(18);
}

#[test]
fn files_of_models() {
    let mut user =
        Reader::new(Desk::original(), "gguf", "Models in GGUF files that are damaged, or not known here.");
    let line = "skn-train --data data/raw/sst2 --out run --model ./m.gguf";
    let whole = fs::read(golden().join("../models/gguf/qwen2.gguf")).unwrap();
    // What stands there by as many bytes of something else.
    let with = |user: &Reader, from: &[u8], to: &[u8]| {
        let mut bytes = whole.clone();
        let place = bytes.windows(from.len()).position(|part| part == from).unwrap();
        bytes.splice(place..place + from.len(), to.iter().copied());
        write(&user.desk.path("m.gguf"), bytes);
    };
    write(&user.desk.path("m.gguf"), &whole[..whole.len() / 2]);
    user.told("Half of it", line, 3);
    write(&user.desk.path("m.gguf"), &whole[..99]);
    user.told("Its beginning", line, 3);
    with(&user, b"GGUF\x03", b"GGUF\x01");
    user.told("An older form", line, 3);
    with(&user, b"qwen2", b"bloom");
    user.told("A model of another kind", line, 3);
    with(&user, b"qwen2.rope.freq_base", b"qwen2.rope.freq_bass");
    user.told("What nobody knows of a model", line, 3);
    with(&user, b"qwen2.context_length", b"qwen2.context_lenght");
    user.told("No length", line, 3);
    with(&user, b"blk.1.ffn_up.weight", b"blk.1.ffn_op.weight");
    user.told("A tensor that nobody knows", line, 3);
    let norm = b"blk.0.attn_norm.weight\x01\0\0\0\x18\0\0\0\0\0\0\0";
    with(&user, &[&norm[..], &[0]].concat(), &[&norm[..], &[99]].concat());
    user.told("Numbers of a type that nobody knows", line, 3);
    with(&user, b"gpt-2", b"gpt-9");
    user.told("A tokenizer that nobody knows", line, 3);
    write(&user.desk.path("config.json"), "{\"model_type\": \"qwen2\", \"num_hidden_layers\": 5}");
    write(&user.desk.path("m.gguf"), &whole);
    user.told("Another model's configuration beside it", line, 3);
    fs::remove_file(user.desk.path("config.json")).unwrap();
    write(&user.desk.path("folder/m.gguf"), &whole);
    user.told("The folder that it lies in", &line.replace("./m.gguf", "./folder"), 3);
    user.told("In place of data", "skn-train --data m.gguf --out run --model roberta-base", 3);
    user.finish(12);
}

#[test]
fn tokenizers() {
    let mut user =
        Reader::new(Desk::original(), "tokenizers", "Tokenizers that are damaged or of another model.");
    let line = "skn-train --data data/raw/sst2 --out run --model model";
    let tokenizer = "model/tokenizer.json";
    model(&user);
    for name in [tokenizer, "model/vocab.json", "model/merges.txt"] {
        fs::remove_file(user.desk.path(name)).unwrap();
    }
    user.told("None", line, 3);
    write(&user.desk.path(tokenizer), "{\"version\": \"1.0\",");
    user.told("One that breaks off", line, 3);
    write(&user.desk.path(tokenizer), b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94.");
    user.told("A pickle", line, 3);
    edited(&user, tokenizer, |json| json["model"]["vocab"]["the"] = json!(5000));
    user.told("A token beyond the vocabulary", line, 3);
    edited(&user, tokenizer, |json| {
        json["model"]["vocab"]["positive"] = json["model"]["vocab"]["ne"].clone();
    });
    user.told("Two label words of one id", line, 3);
    model(&user);
    fs::remove_file(user.desk.path("model/tokenizer_config.json")).unwrap();
    write(&user.desk.path("model/added_tokens.json"), r#"{"[USER]": 420}"#);
    user.told("More tokens than embeddings", line, 3);
    fs::remove_file(user.desk.path("model/added_tokens.json")).unwrap();
    write(&user.desk.path("model/tokenizer_config.json"), r#"{"tokenizer_class": "BertweetTokenizer"}"#);
    user.told("A class that nobody reads here", line, 3);
    user.finish(7);
}

#[test]
fn tuned_parameters() {
    let mut user =
        Reader::new(Desk::new(), "tuned", "Tuned parameters that are damaged, or of another model.");
    user.desk.ok("skn-train --model demo --task sentiment --prompt_size 4 --max-steps 1 --out run");
    write(&user.desk.path("texts"), "the food was not bad .\n");
    let line = "skn-predict --input texts --resume_from mine";
    user.told("No such folder", line, 3);
    let best = user.desk.path("run/best");
    let skn = "mine/best/skn.json";
    let mine = |user: &Reader, change: &dyn Fn(&mut Value)| {
        copy(&best, &user.desk.path("mine/best"));
        let mut value = user.desk.json(skn);
        change(&mut value);
        write(&user.desk.path(skn), value.to_string());
    };
    mine(&user, &|_| ());
    write(&user.desk.path(skn), "{\"method\": \"RobertaPrompt\"");
    user.told("skn.json breaks off", line, 3);
    mine(&user, &|skn| {
        skn.as_object_mut().unwrap().remove("method");
    });
    user.told("skn.json without the method", line, 3);
    mine(&user, &|skn| skn["verbalizer"]["ids"][0] = json!(99999));
    user.told("A label word's token beyond the vocabulary", line, 3);
    mine(&user, &|skn| skn["verbalizer"]["ids"][0] = skn["verbalizer"]["ids"][1].clone());
    user.told("Two label words of one token", line, 3);
    mine(&user, &|skn| skn["verbalizer"]["words"][0] = json!("positive"));
    user.told("The same label word twice", line, 3);
    mine(&user, &|skn| skn["verbalizer"]["words"] = json!(["negative"]));
    user.told("One label word of two classes", line, 3);
    mine(&user, &|skn| skn["prompt_size"] = json!(3));
    user.told("Another length than the prompt has", line, 3);
    mine(&user, &|skn| skn["method"] = json!("RobertaBias"));
    user.told("Another method", line, 3);
    mine(&user, &|skn| skn["task"] = json!("sst3"));
    user.told("A task that is none", line, 3);
    mine(&user, &|skn| skn["model"]["sha256"] = json!("00"));
    user.told("Another model", line, 3);
    let tensors = "adapter_model.safetensors";
    mine(&user, &|_| ());
    write(&user.desk.path("mine/best").join(tensors), LFS);
    user.told("What git left of the prompt", line, 3);
    copy(&best, &user.desk.path("mine/best"));
    let file = format!("mine/best/{tensors}");
    with_tensor(&user, &file, "prompt_embeddings", |_, values| values[5] = f32::NAN);
    user.told("A prompt that was changed", line, 3);
    fs::remove_file(user.desk.path(skn)).unwrap();
    let theirs = "skn-predict --input texts --model demo --task sentiment --resume_from mine/best";
    user.told("A number of somebody's prompt that is none", theirs, 3);
    fs::remove_file(user.desk.path("mine/best").join(tensors)).unwrap();
    user.told("No prompt beside its description", theirs, 3);
    write(&user.desk.path("mine.pt"), b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\x0f\0\x13\0best/data.pkl");
    user.told("A prompt as torch saves it", &theirs.replace("mine/best", "mine.pt"), 3);
    user.told(
        "A method that was not tuned",
        "skn-train -p --resume_from run --model_type RobertaBias --out x",
        2,
    );
    user.told("A prompt of another length", "skn-train -p --resume_from run --prompt_size 8 --out x", 2);
    user.told(
        "A pruned model that is none",
        "skn-prune --resume_from run --out x --info_path none --ths_path none",
        3,
    );
    assert!(!user.desk.path("x").exists(), "nothing is left behind");
    user.finish(19);
}
