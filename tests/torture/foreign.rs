//! Pickles, archives and what else a file may be are refused by content, with how to convert them, under any name and in any
//! place. A case is a place and a form; numbers beyond all of these have other bytes behind the beginning.

use std::fs;

use skn_artifact::{Array, Foreign, TensorBundle, TensorFile, Wanted};

use crate::cases;
use crate::damage::Dice;
use crate::support::{Desk, copy, golden, write};

/// A form, as its library begins a file, and what must be said of it.
struct Kind {
    bytes: fn() -> Vec<u8>,
    said: &'static str,
}

const KINDS: [Kind; 18] = [
    // pickle.dumps({"a": 1}, 2), 4 and 5; torch.save before 1.6.
    Kind { bytes: || b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.".to_vec(), said: "pickle" },
    Kind {
        bytes: || b"\x80\x04\x95\n\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.".to_vec(),
        said: "pickle",
    },
    Kind {
        bytes: || b"\x80\x05\x95\n\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.".to_vec(),
        said: "pickle",
    },
    Kind { bytes: || b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec(), said: "pickle" },
    Kind { bytes: || zip("archive/data.pkl", b"\x80\x02}q\x00."), said: "pickle" },
    Kind { bytes: || zip("train.csv", b"sentence,label\na,1\n"), said: "zip" },
    Kind { bytes: || zip("[Content_Types].xml", b"<?xml version=\"1.0\"?>"), said: "workbook" },
    Kind { bytes: || zip("arr_0.npy", b"\x93NUMPY\x01\x00v\x00"), said: "npz" },
    Kind { bytes: || b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), said: "zip" },
    Kind {
        bytes: || {
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n\0\0\0\0"
                .to_vec()
        },
        said: "npy",
    },
    Kind { bytes: || b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0".to_vec(), said: "HDF5" },
    Kind {
        bytes: || {
            b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0general.architecture"
                .to_vec()
        },
        said: "GGUF",
    },
    Kind { bytes: tar, said: "tar" },
    Kind {
        bytes: || b"\x1f\x8b\x08\0\0\0\0\0\0\x03+NL\xca\x01\0\x85\x11J\r\x04\0\0\0".to_vec(),
        said: "gzip",
    },
    Kind { bytes: || b"BZh91AY&SY\x94$|\x0e\0\0\0\x81\0\x01".to_vec(), said: "bzip2" },
    Kind { bytes: || b"\x28\xb5\x2f\xfd\x04\x58\x21\0\0abcd".to_vec(), said: "zstd" },
    Kind {
        bytes: || {
            let hash = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{hash}\nsize 12345\n")
                .into_bytes()
        },
        said: "git lfs pull",
    },
    Kind {
        bytes: || b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0\0\0\0\0\0\0>\0\x03\0\xfe\xff\t\0".to_vec(),
        said: "workbook",
    },
];

/// A zip file of one stored file, without its directory at the end.
fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"PK\x03\x04\x14\0\0\0\0\0\0\0!\0\0\0\0\0".to_vec();
    let length = content.len() as u32;
    bytes.extend([length.to_le_bytes(), length.to_le_bytes()].concat());
    bytes.extend((name.len() as u32).to_le_bytes());
    bytes.extend(name.bytes().chain(content.iter().copied()));
    bytes
}

fn tar() -> Vec<u8> {
    let mut bytes = b"weights.pt".to_vec();
    bytes.resize(100, 0);
    bytes.extend(b"0000644\x000000000\x000000000\x0000000000004\x0000000000000\x00010000\x00 0");
    bytes.resize(257, 0);
    bytes.extend(b"ustar\x0000");
    bytes.resize(512, 0);
    bytes.extend(b"abcd");
    bytes.resize(10_240, 0);
    bytes
}

/// A file that is something else, and the program that is to read it.
struct Place {
    file: &'static str,
    line: &'static str,
    /// Files that must not be there, for this one is read in their stead.
    without: &'static [&'static str],
}

const PREDICT: &str = "skn-predict --model model --task sst2 --prompt_size 2 --threads 1 --input texts";
const TUNED: &str = "skn-predict --model demo --task sentiment --threads 1 --input texts --resume_from tuned";
const TRAIN: &str =
    "skn-train --model demo --task sst2 --prompt_size 2 --max-steps 1 --threads 1 --save_to out --data";
const MASK: &str = "skn-mask -p --resume_from run --threads 1 --save_to out --info_path";
const SHARDS: &[&str] = &["model/model.safetensors"];
const OLDER: &[&str] = &["model/tokenizer.json"];
const OTHERS: &[&str] = &["tuned/skn.json", "tuned/adapter_model.safetensors"];

const fn place(file: &'static str, line: &'static str) -> Place {
    Place { file, line, without: &[] }
}

const PLACES: [Place; 38] = [
    place("model/model.safetensors", PREDICT),
    Place { without: SHARDS, ..place("model/model.safetensors.index.json", PREDICT) },
    Place { without: SHARDS, ..place("model/shard.safetensors", PREDICT) },
    place("model/config.json", PREDICT),
    place("model/tokenizer.json", PREDICT),
    place("model/tokenizer_config.json", PREDICT),
    Place { without: &["model/tokenizer_config.json"], ..place("model/special_tokens_map.json", PREDICT) },
    Place { without: OLDER, ..place("model/vocab.json", PREDICT) },
    Place { without: OLDER, ..place("model/merges.txt", PREDICT) },
    Place {
        without: &["model/tokenizer.json", "model/tokenizer_config.json"],
        ..place("model/added_tokens.json", PREDICT)
    },
    place("model.bin", "skn-predict --model model.bin --task sst2 --input texts"),
    place("tuned/adapter_model.safetensors", TUNED),
    place("tuned/adapter_config.json", TUNED),
    place("tuned/skn.json", TUNED),
    Place { without: OTHERS, ..place("tuned/adapter.safetensors", TUNED) },
    Place { without: OTHERS, ..place("tuned/bitfit.safetensors", TUNED) },
    place("prompt.pt", "skn-predict -p --model demo --task sentiment --input texts --resume_from prompt.pt"),
    place("data/train.csv", TRAIN),
    place("data/train.tsv", TRAIN),
    place("data/train.json", TRAIN),
    place("data/train.jsonl", TRAIN),
    place("data/train.parquet", TRAIN),
    place("saved/train/data-00000-of-00001.arrow", TRAIN),
    place("saved/train/state.json", TRAIN),
    place("saved/train/dataset_info.json", TRAIN),
    place("saved/dataset_dict.json", TRAIN),
    place("rows.txt", TRAIN),
    place("rows.pkl", TRAIN),
    place("rows.csv", TRAIN),
    place("task.toml", "skn-train --model demo --task-file task.toml --data d --max-steps 1 --save_to out"),
    place("own/mask.safetensors", MASK),
    place("own/mask.pt", MASK),
    place("own/perf.safetensors", "skn-select --save_to out -a own/perf.safetensors"),
    place(
        "own/avg.safetensors",
        "skn-mask -p --resume_from run --threads 1 --save_to out --info_path whole --type mean --ths_path own/avg",
    ),
    place(
        "own/avg.safetensors",
        "skn-prune --resume_from run --threads 1 --save_to out --info_path whole --ths_path own/avg",
    ),
    place("run/run.json", "skn-verify run"),
    place("alone/split.json", "skn-probe -p --resume_from alone --threads 1 --splits train --save_to out"),
    place("texts", "skn-predict --model demo --task sentiment --threads 1 --input texts"),
];

fn base() -> Desk {
    let desk = Desk::new();
    write(&desk.path("texts"), "the food was good .\n");
    copy(&golden().join("model"), &desk.path("model"));
    copy(&golden().join("data/arrow"), &desk.path("saved"));
    for split in ["train", "validation"] {
        let name = format!("data/jsonl/{split}.jsonl");
        write(&desk.path(&format!("rest/{split}.jsonl")), fs::read(golden().join(name)).unwrap());
    }
    desk.ok(
        "skn-train --model demo --task sentiment --prompt_size 2 --max-steps 1 --threads 1 --save_to run",
    );
    copy(&desk.path("run/best"), &desk.path("tuned"));
    copy(&desk.path("run"), &desk.path("alone"));
    fs::remove_file(desk.path("alone/run.json")).unwrap();
    whole_mask(&desk);
    desk
}

/// A mask of the demo's four layers, which no run lists.
fn whole_mask(desk: &Desk) {
    let config: serde_json::Value = serde_json::from_slice(
        skn_demo::model_files().iter().find(|(name, _)| *name == "config.json").unwrap().1,
    )
    .unwrap();
    let [layers, width] =
        ["num_hidden_layers", "intermediate_size"].map(|field| config[field].as_u64().unwrap() as usize);
    let mut bundle = TensorBundle::new();
    bundle.describe("skn.kind", "mask");
    let rank = (0..layers).flat_map(|_| 0..width as i32).collect();
    bundle.insert("mask", Array::bool(vec![layers, width], vec![true; layers * width]).unwrap());
    bundle.insert("score", Array::f32(vec![layers, width], vec![0.25; layers * width]).unwrap());
    bundle.insert("rank", Array::i32(vec![layers, width], rank).unwrap());
    write(&desk.path("whole.safetensors"), bundle.to_bytes().unwrap());
}

fn case(base: &Desk, number: u64) -> String {
    let count = PLACES.len() * KINDS.len();
    // Neighbours differ in both.
    let index = number as usize % count;
    let place = &PLACES[index % PLACES.len()];
    let kind = &KINDS[(index / PLACES.len() + index) % KINDS.len()];
    let mut bytes = (kind.bytes)();
    if number as usize >= count {
        let mut dice = Dice::of(number);
        let more = dice.below(2000);
        bytes.extend((0..more).map(|_| dice.below(256) as u8));
    }
    let desk = Desk::new();
    write(&desk.path("texts"), fs::read(base.path("texts")).unwrap());
    let folder = place.file.split('/').next().unwrap();
    let needed: &[&str] = match folder {
        "model" | "tuned" | "saved" | "alone" | "run" => &[folder],
        "own" => &["run"],
        _ => &[],
    };
    for name in needed {
        copy(&base.path(name), &desk.path(name));
    }
    write(&desk.path("whole.safetensors"), fs::read(base.path("whole.safetensors")).unwrap());
    if folder == "data" {
        let other = fs::read(base.path("rest/validation.jsonl")).unwrap();
        // Of the same form as the file, so that it alone is wrong.
        let extension = place.file.rsplit('.').next().unwrap();
        write(&desk.path(&format!("data/validation.{extension}")), other);
    }
    for name in place.without {
        fs::remove_file(desk.path(name)).unwrap();
    }
    if place.file == "model/shard.safetensors" {
        let names = TensorFile::read(&base.path("model/model.safetensors")).unwrap();
        let map: serde_json::Map<_, _> =
            names.names().map(|name| (name.to_owned(), "shard.safetensors".into())).collect();
        let index = serde_json::json!({"metadata": {}, "weight_map": map});
        write(&desk.path("model/model.safetensors.index.json"), index.to_string());
    }
    write(&desk.path(place.file), &bytes);
    let line = match place.line {
        TRAIN => format!("{TRAIN} {}", if ["data", "saved"].contains(&folder) { folder } else { place.file }),
        MASK => format!("{MASK} {}", place.file),
        line => line.to_owned(),
    };
    let said = desk.run(&line);
    let told = format!("{}: {}\n{line}\n{}", place.file, kind.said, said.stderr);
    assert_eq!(said.code, 3, "{told}");
    assert!(said.stderr.contains(place.file.rsplit('/').next().unwrap()), "the file: {told}");
    assert!(said.stderr.contains(kind.said), "what it is: {told}");
    let found = Foreign::of(&bytes).unwrap();
    let remedies = [Wanted::Data, Wanted::Tensors, Wanted::Text].map(|wanted| found.remedy(wanted));
    let converts =
        remedies.iter().any(|remedy| said.stderr.contains(remedy)) || said.stderr.contains("torch.load(");
    assert!(converts, "what to do: {told}");
    assert!(!desk.path("out").exists(), "something is left: {told}");
    "refused".into()
}

#[test]
fn by_content() {
    let count = (PLACES.len() * KINDS.len()) as u64;
    let base = base();
    let went = cases::run("torture", "foreign::by_content", count, |number| case(&base, number));
    assert!(went.values().sum::<u64>() > 0);
}
