//! Makes `corpus/TARGET` for each target, of the golden case and of small files made here: `cargo run --bin seeds`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use skn_artifact::{Array, TensorBundle};
use skn_counts::{Performance, Pool};
use skn_data::{RowWriter, Task, read_dataset_to};
use skn_stats::FireAccumulator;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn golden(name: &str) -> Result<Vec<u8>> {
    Ok(fs::read(at("../tests/golden").join(name))?)
}

fn put(target: &str, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    let folder = at("corpus").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(name), bytes)?)
}

/// The first lines, so that a seed is small.
fn lines(bytes: &[u8], most: usize) -> Vec<u8> {
    bytes.split_inclusive(|&byte| byte == b'\n').take(most).flatten().copied().collect()
}

fn data() -> Result<()> {
    let csv = lines(&golden("data/csv/validation.csv")?, 6);
    put("csv", "csv", &csv)?;
    put("csv", "tsv", b"\tsentence\tlabel\n\"a \"\"b\"\"\nc\"\t1\n")?;
    let json = lines(&golden("data/jsonl/validation.jsonl")?, 4);
    put("json", "lines", &json)?;
    let text = String::from_utf8(json)?;
    put("json", "list", format!("[{}]", text.trim_end().replace('\n', ",\n")))?;
    put("json", "stream", b"{\"sentence\": \"a\",\n \"label\": 1, \"n\": [NaN, -Infinity]}\n{\"sentence\": \"b\", \"label\": 0}")?;
    put("arrow", "stream", golden("data/arrow/validation/data-00000-of-00001.arrow")?)?;
    put("parquet", "snappy", golden("data/parquet/validation-00000-of-00001.parquet")?)?;
    let saved = ["dataset_dict.json", "train/state.json", "train/dataset_info.json"];
    let saved: Result<Vec<_>> = saved.iter().map(|name| golden(&format!("data/arrow/{name}"))).collect();
    put("saved", "saved", saved?.join(&0))?;
    for entry in fs::read_dir(at("../crates/skn-data/tasks"))? {
        let path = entry?.path();
        put("task", &path.file_name().unwrap_or_default().to_string_lossy(), fs::read(&path)?)?;
    }
    put("tokenizer", "json", golden("model/tokenizer.json")?)?;
    for name in ["smollm", "llama-bpe", "neox"] {
        put("gguf", name, fs::read(at("../crates/skn-data/tests/gguf").join(format!("{name}.gguf")))?)?;
    }
    put("gguf", "blocks", fs::read(at("../tests/models/gguf/blocks.gguf"))?)?;
    let older = ["vocab.json", "merges.txt", "tokenizer_config.json"];
    let older: Result<Vec<_>> = older.iter().map(|name| golden(&format!("model/{name}"))).collect();
    put("tokenizer", "older", older?.join(&0))?;
    let mut sent = Vec::new();
    let mut writer = RowWriter::new(&mut sent);
    let csv = at("corpus/csv/csv");
    let file = csv.with_extension("csv");
    fs::copy(&csv, &file)?;
    read_dataset_to(&file, &Task::builtin("sst2")?, &mut writer)?;
    writer.finish()?;
    fs::remove_file(file)?;
    put("wire", "rows", sent)?;
    let mut failed = Vec::new();
    RowWriter::new(&mut failed).fail(1, "train.csv, line 3: wrong")?;
    put("wire", "failed", failed)
}

fn tensors() -> Result<()> {
    let mut bundle = TensorBundle::new();
    bundle.describe("skn.kind", "mask").describe("skn.share", "0.5");
    let shape = || vec![2, 4];
    bundle.insert("mask", Array::bool(shape(), [true, true, false, false].repeat(2))?);
    bundle.insert("score", Array::f32(shape(), [0.5, 0.25, 0.1, 0.0].repeat(2))?);
    bundle.insert("rank", Array::i32(shape(), [0, 1, 2, 3].repeat(2))?);
    for target in ["tensors", "mask"] {
        put(target, "mask", bundle.to_bytes()?)?;
    }
    for (classes, name) in [(2, "two"), (3, "three")] {
        let mut fires = FireAccumulator::new(6, classes)?;
        for row in 0..10 {
            fires.add(row % classes, 0, &[0.0, 1.0, 2.0, 3.0, 4.0, row as f32], &[1.5; 6])?;
            fires.add_row_label(row % classes)?;
        }
        let performance = Performance::of(Pool::Position, 1, &[3, 3], &fires)?;
        let bytes = performance.to_bundle(&BTreeMap::new())?.to_bytes()?;
        put("counts", name, &bytes)?;
        put("tensors", name, &bytes)?;
    }
    Ok(())
}

fn beside() -> Result<()> {
    let part = |source: &str| serde_json::json!({"source": source, "rows": [0, 1, 5]});
    let split = serde_json::json!({"task": "sst2", "seed": 7, "data_sha256": "00ff", "train": part("train"),
        "dev": part("train"), "test": part("validation")});
    put("records", "split", split.to_string())?;
    let skill = serde_json::json!({"method": "RobertaPrompt", "prompt_size": 2, "task": "sst2", "metric": "accuracy",
        "verbalizer": {"words": ["a", "b"], "ids": [5, 6]}, "model": {"id": "m", "sha256": "00"}, "dev_score": 0.5,
        "step": 3, "files": {"adapter_config.json": "00"}});
    put("records", "skn", skill.to_string())?;
    let stage = serde_json::json!({"arguments": ["--task"], "version": "0.1.0", "started": 1, "finished": 2,
        "seconds": 0.5, "settings": {"seed": "7"}, "inputs": {}, "outputs": {"metrics.jsonl": "00"}});
    put("records", "run", serde_json::json!({"stages": {"train": stage}}).to_string())?;
    put("foreign", "zip", b"PK\x03\x04\x14\0\0\0\x08\0train.csv")?;
    put("foreign", "pickle", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")?;
    put("foreign", "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")?;
    put("foreign", "html", b"\n<!DOCTYPE html>")?;
    put("config", "roberta", golden("model/config.json")?)?;
    for family in ["bert", "camembert", "xlm-roberta"] {
        put("config", family, fs::read(at("../tests/families").join(family).join("config.json"))?)?;
    }
    for entry in fs::read_dir(at("../tests/models"))? {
        let folder = entry?.path();
        let config = folder.join("config.json");
        if config.is_file() {
            put("config", &folder.file_name().unwrap_or_default().to_string_lossy(), fs::read(config)?)?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    data()?;
    tensors()?;
    beside()
}
