//! Where numbers lie that say how large something is, and which program reads them.

use std::collections::BTreeMap;
use std::fs;

use skn_artifact::TensorFile;

use super::fields::Form;
use crate::support::{Desk, copy, golden, write};

/// A file of numbers.
pub(super) struct Place {
    pub(super) name: &'static str,
    /// Which of the desks has it.
    desk: &'static str,
    pub(super) file: &'static str,
    pub(super) form: Form,
    /// What reads it.
    pub(super) line: &'static str,
    /// Files that may be named in its stead: what is checked against it.
    pub(super) also: &'static [&'static str],
}

const PREDICT: &str = "skn-predict --model model --task sst2 --prompt_size 2 --threads 1 --input texts";
const TUNED: &str = "skn-predict --model demo --task sentiment --threads 1 --input texts --resume_from tuned";
const TRAIN: &str =
    "skn-train --model demo --task sst2 --prompt_size 2 --max-steps 1 --threads 1 --save_to out --data data";

const fn place(
    name: &'static str,
    desk: &'static str,
    file: &'static str,
    form: Form,
    line: &'static str,
) -> Place {
    Place { name, desk, file, form, line, also: &[] }
}

const fn config(name: &'static str, desk: &'static str) -> Place {
    Place { also: &["model.safetensors"], ..place(name, desk, "model/config.json", Form::Json, PREDICT) }
}

pub(super) const PLACES: [Place; 18] = [
    config("config of RoBERTa", "roberta"),
    config("config of BERT", "bert"),
    config("config of XLM-R", "xlm-roberta"),
    config("config of CamemBERT", "camembert"),
    place("tokenizer settings", "roberta", "model/tokenizer_config.json", Form::Json, PREDICT),
    place("weights", "roberta", "model/model.safetensors", Form::Header, PREDICT),
    place("shard index", "shards", "model/model.safetensors.index.json", Form::Json, PREDICT),
    place("a shard", "shards", "model/model-00001-of-00001.safetensors", Form::Header, PREDICT),
    Place {
        also: &["train.jsonl", "split train"],
        ..place(
            "task",
            "data",
            "task.toml",
            Form::Toml,
            "skn-train --model demo --task-file task.toml --prompt_size 2 --max-steps 1 --threads 1 --save_to out --data data",
        )
    },
    place("data set's description", "saved", "data/train/dataset_info.json", Form::Json, TRAIN),
    place("data set's state", "saved", "data/train/state.json", Form::Json, TRAIN),
    place("PEFT's description", "peft", "tuned/adapter_config.json", Form::Json, TUNED),
    place("PEFT's prompt", "peft", "tuned/adapter_model.safetensors", Form::Header, TUNED),
    place("adapters' description", "adapter", "tuned/adapter_config.json", Form::Json, TUNED),
    place("adapters", "adapter", "tuned/adapter.safetensors", Form::Header, TUNED),
    place("skn.json", "ours", "tuned/skn.json", Form::Json, TUNED),
    place(
        "run.json",
        "run",
        "run/run.json",
        Form::Json,
        "skn-predict --resume_from run --threads 1 --input texts",
    ),
    place(
        "split.json",
        "own split",
        "run/split.json",
        Form::Json,
        "skn-probe -p --resume_from run --threads 1 --splits train --save_to out",
    ),
];

/// A desk for each set of files.
pub(super) struct Desks(BTreeMap<&'static str, Desk>);

impl Desks {
    pub(super) fn new() -> Self {
        let mut desks = BTreeMap::new();
        for family in ["bert", "xlm-roberta", "camembert"] {
            let desk = desk();
            copy(&golden().join("../families").join(family), &desk.path("model"));
            desks.insert(family, desk);
        }
        let roberta = desk();
        copy(&golden().join("model"), &roberta.path("model"));
        desks.insert("roberta", roberta);
        desks.insert("shards", shards());
        desks.insert("saved", saved());
        desks.insert("data", data());
        for (name, method) in [("peft", "RobertaPrompt --prompt_size 3"), ("adapter", "RobertaAdapter")] {
            let desk = desk();
            desk.ok(&format!(
                "skn-train --model demo --task sentiment --model_type {method} --max-steps 1 --threads 1 --save_to run"
            ));
            copy(&desk.path("run/best"), &desk.path("tuned"));
            if name == "peft" {
                let ours = self::desk();
                copy(&desk.path("run/best"), &ours.path("tuned"));
                desks.insert("ours", ours);
                let run = self::desk();
                copy(&desk.path("run"), &run.path("run"));
                desks.insert("run", run);
                let split = self::desk();
                copy(&desk.path("run"), &split.path("run"));
                // A division of the user's own, which no run lists.
                fs::remove_file(split.path("run/run.json")).unwrap();
                desks.insert("own split", split);
            }
            fs::remove_file(desk.path("tuned/skn.json")).unwrap();
            desks.insert(name, desk);
        }
        Self(desks)
    }

    /// A copy of a place's files, for one case.
    pub(super) fn copy_of(&self, place: &Place) -> Desk {
        let desk = Desk::new();
        copy(&self.0[place.desk].path(""), &desk.path(""));
        desk
    }
}

fn desk() -> Desk {
    let desk = Desk::new();
    write(&desk.path("texts"), "the food was good .\n");
    desk
}

fn shards() -> Desk {
    let desk = desk();
    copy(&golden().join("model"), &desk.path("model"));
    let (whole, shard) = ("model/model.safetensors", "model-00001-of-00001.safetensors");
    let names: Vec<String> =
        TensorFile::read(&desk.path(whole)).unwrap().names().map(str::to_owned).collect();
    fs::rename(desk.path(whole), desk.path(&format!("model/{shard}"))).unwrap();
    let map: serde_json::Map<_, _> = names.into_iter().map(|name| (name, shard.into())).collect();
    let index = serde_json::json!({"metadata": {"total_size": 528_000}, "weight_map": map});
    write(&desk.path("model/model.safetensors.index.json"), index.to_string());
    desk
}

/// With the numbers that `datasets` writes of a data set that it made itself.
fn saved() -> Desk {
    let desk = desk();
    copy(&golden().join("data/arrow"), &desk.path("data"));
    let mut info = desk.json("data/train/dataset_info.json");
    info["dataset_size"] = 19_864.into();
    info["download_size"] = 1000.into();
    info["version"] = serde_json::json!({"version_str": "1.0.0", "major": 1, "minor": 0, "patch": 0});
    info["splits"] =
        serde_json::json!({"train": {"name": "train", "num_bytes": 19_864, "num_examples": 160}});
    info["features"]["label"]["num_classes"] = 2.into();
    write(&desk.path("data/train/dataset_info.json"), info.to_string());
    let mut state = desk.json("data/train/state.json");
    state["_format_kwargs"] = serde_json::json!({"columns": 2});
    write(&desk.path("data/train/state.json"), state.to_string());
    desk
}

fn data() -> Desk {
    let desk = desk();
    let rows: String =
        (0..12).map(|row| format!("{{\"a\": \"a text\", \"stars\": {}}}\n", row % 2)).collect();
    write(&desk.path("data/train.jsonl"), rows);
    let task = "name = \"own\"\ntext = [\"a\"]\nlabel = \"stars\"\nlabels = [\" good\", \" bad\"]\nmetric = \"accuracy\"\n\
                other_labels = \"drop\"\n[label_map]\n0 = 0\n1 = 1\n[splits]\ntrain = \"train\"\n";
    write(&desk.path("task.toml"), task);
    desk
}
