//! The forms: what is damaged, and how it is read.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use candle_core::Device;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use skn_artifact::{GgufFile, RunRecord, SkillConfig, SplitRecord, TensorBundle, TensorFile, read_json};
use skn_data::{Task, TextEncoder, TokenizerFiles, read_dataset};
use skn_model::{ModelFolder, Weights};

use super::runs;
use super::support::{copy, golden, write};

/// What is damaged, and how it is read.
pub(super) struct Form {
    pub(super) name: &'static str,
    /// Makes a folder with a whole file, and says which file that is.
    pub(super) make: fn(&Path) -> PathBuf,
    /// Reads the damaged file; whether it was taken.
    pub(super) read: fn(&Path) -> bool,
    /// A command line that reads it behind the fence, if it is one of those that may abort.
    pub(super) fenced: Option<&'static str>,
}

const DATA: Option<&str> =
    Some("skn-train --model demo --task-file task.toml --epoch 1 --save_to run --data");
const MODEL: Option<&str> =
    Some("skn-train --task-file task.toml --epoch 1 --save_to run --data data/csv --model");

pub(super) const FORMS: [Form; 42] = [
    Form {
        name: "arrow",
        make: |to| data(to, "arrow/validation/data-00000-of-00001.arrow", "arrow"),
        read: rows,
        fenced: DATA,
    },
    Form {
        name: "parquet",
        make: |to| data(to, "parquet/validation-00000-of-00001.parquet", "parquet"),
        read: rows,
        fenced: DATA,
    },
    Form {
        name: "gzip_parquet",
        make: |to| parquet(to, Compression::GZIP(Default::default())),
        read: rows,
        fenced: DATA,
    },
    Form { name: "zstd_arrow", make: zstd_arrow, read: rows, fenced: DATA },
    Form { name: "csv", make: |to| data(to, "csv/validation.csv", "csv"), read: rows, fenced: None },
    Form { name: "tsv", make: tsv, read: rows, fenced: None },
    Form { name: "jsonl", make: |to| data(to, "jsonl/validation.jsonl", "jsonl"), read: rows, fenced: None },
    Form { name: "json", make: json_list, read: rows, fenced: None },
    Form { name: "json_stream", make: json_stream, read: rows, fenced: None },
    Form { name: "state", make: |to| saved(to, "state.json"), read: saved_rows, fenced: None },
    Form { name: "dataset_info", make: |to| saved(to, "dataset_info.json"), read: saved_rows, fenced: None },
    Form { name: "dataset_dict", make: dictionary, read: saved_rows, fenced: None },
    Form { name: "task", make: task_file, read: |file| Task::read(file).is_ok(), fenced: None },
    Form { name: "safetensors", make: tensors, read: all_tensors, fenced: None },
    Form { name: "shard_index", make: shards, read: weights, fenced: None },
    Form { name: "gguf", make: gguf, read: gguf_weights, fenced: None },
    Form { name: "gguf_tokenizer", make: gguf, read: gguf_tokenizer, fenced: MODEL },
    Form { name: "config", make: |to| model(to, "config.json"), read: weights, fenced: None },
    Form { name: "tokenizer", make: |to| model(to, "tokenizer.json"), read: tokenizer, fenced: MODEL },
    Form { name: "vocab", make: |to| older(to, "vocab.json"), read: tokenizer, fenced: MODEL },
    Form { name: "merges", make: |to| older(to, "merges.txt"), read: tokenizer, fenced: MODEL },
    Form {
        name: "tokenizer_config",
        make: |to| older(to, "tokenizer_config.json"),
        read: tokenizer,
        fenced: MODEL,
    },
    Form { name: "added_tokens", make: added_tokens, read: tokenizer, fenced: None },
    Form { name: "records", make: record, read: records, fenced: None },
    Form { name: "peft_config", make: runs::peft_config, read: runs::tuning, fenced: None },
    Form { name: "peft_tensors", make: runs::peft_tensors, read: runs::tuning, fenced: None },
    Form { name: "adapter_config", make: runs::adapter_config, read: runs::tuning, fenced: None },
    Form { name: "adapter_tensors", make: runs::adapter_tensors, read: runs::tuning, fenced: None },
    Form { name: "biases", make: runs::biases, read: runs::tuning, fenced: None },
    Form { name: "average", make: runs::average, read: runs::read_average, fenced: None },
    Form { name: "performance", make: runs::performance, read: runs::read_performance, fenced: None },
    Form { name: "positions", make: runs::positions, read: runs::read_positions, fenced: None },
    Form { name: "mask", make: runs::mask, read: runs::read_mask, fenced: None },
    Form { name: "made_mask", make: runs::made_mask, read: runs::read_made, fenced: None },
    Form { name: "npy_mask", make: runs::npy_mask, read: runs::read_made, fenced: None },
    Form { name: "csv_neurons", make: runs::csv_neurons, read: runs::read_made, fenced: None },
    Form { name: "json_neurons", make: runs::json_neurons, read: runs::read_made, fenced: None },
    Form { name: "fire_bits", make: runs::fire_bits, read: runs::read_fire_bits, fenced: None },
    Form { name: "areas", make: runs::areas, read: runs::read_areas, fenced: None },
    Form { name: "rank_shard", make: runs::rank_shard, read: runs::read_rank, fenced: None },
    Form { name: "checkpoint", make: runs::checkpoint, read: runs::read_checkpoint, fenced: None },
    Form { name: "run_record", make: runs::run_record, read: runs::read_run_record, fenced: None },
];

fn data(to: &Path, from: &str, extension: &str) -> PathBuf {
    let file = to.join(format!("mutant.{extension}"));
    write(&file, fs::read(golden().join("data").join(from)).unwrap());
    file
}

fn sst2() -> Task {
    Task::builtin("sst2").unwrap()
}

fn rows(file: &Path) -> bool {
    read_dataset(file, &sst2()).is_ok()
}

fn json_list(to: &Path) -> PathBuf {
    let file = to.join("mutant.json");
    let lines = fs::read_to_string(golden().join("data/jsonl/validation.jsonl")).unwrap();
    write(&file, format!("[{}]\n", lines.trim_end().replace('\n', ",\n")));
    file
}

/// Objects over several lines, with a number that JSON does not have.
fn json_stream(to: &Path) -> PathBuf {
    let file = to.join("mutant.json");
    let lines = fs::read_to_string(golden().join("data/jsonl/validation.jsonl")).unwrap();
    let objects = lines
        .lines()
        .map(|line| line.replace(", \"", ",\n  \"").replacen('{', "{\"n\": [NaN,\n-Infinity], ", 1));
    write(&file, objects.collect::<Vec<_>>().join("\n"));
    file
}

/// The golden rows, each with a line break within quotes.
fn tsv(to: &Path) -> PathBuf {
    let rows = read_dataset(&golden().join("data/csv/validation.csv"), &sst2()).unwrap();
    let mut text = "sentence\tlabel\n".to_owned();
    for row in &rows.splits["train"] {
        writeln!(text, "\"{} \"\"so\"\"\r\nand\tmore\"\t{}", row.text.as_str().replace('"', ""), row.label)
            .unwrap();
    }
    let file = to.join("mutant.tsv");
    write(&file, text);
    file
}

/// The golden rows as a batch.
fn batch() -> RecordBatch {
    let rows = read_dataset(&golden().join("data/csv/validation.csv"), &sst2()).unwrap();
    let rows = &rows.splits["train"];
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.text.as_str())));
    let labels: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.label)));
    RecordBatch::try_from_iter([("sentence", texts), ("label", labels)]).unwrap()
}

fn parquet(to: &Path, compression: Compression) -> PathBuf {
    let batch = batch();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let file = to.join("mutant.parquet");
    write(&file, writer.into_inner().unwrap());
    file
}

fn zstd_arrow(to: &Path) -> PathBuf {
    let batch = batch();
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    let file = to.join("mutant.arrow");
    write(&file, writer.into_inner().unwrap());
    file
}

fn saved(to: &Path, name: &str) -> PathBuf {
    copy(&golden().join("data/arrow/validation"), to);
    to.join(name)
}

fn saved_rows(file: &Path) -> bool {
    read_dataset(file.parent().unwrap(), &sst2()).is_ok()
}

fn dictionary(to: &Path) -> PathBuf {
    copy(&golden().join("data/arrow"), to);
    to.join("dataset_dict.json")
}

fn task_file(to: &Path) -> PathBuf {
    let more = "metric = \"accuracy_f1\"\nformat = \"csv\"\nheader = false\ncolumns = [\"label\", \"a\", \"b\"]\nother_labels = \"drop\"\n\
                [splits]\ntrain = \"train\"\ndev = \"dev\"\ntest = \"test\"\n[label_map]\n1 = 0\n\"x y\" = 1\n";
    let file = to.join("mutant.toml");
    write(
        &file,
        format!(
            "name = \"t\"\ntext = [\"a\", \"b\"]\nlabel = \"label\"\nlabels = [\"bad\", \" good\"]\n{more}"
        ),
    );
    file
}

fn tensors(to: &Path) -> PathBuf {
    use skn_artifact::Array;
    let mut bundle = TensorBundle::new();
    bundle.insert("score", Array::f32(vec![4, 9], vec![0.5; 36]).unwrap());
    bundle.insert("rank", Array::i32(vec![4, 9], vec![3; 36]).unwrap());
    bundle.insert("count", Array::i64(vec![1], vec![7]).unwrap());
    let file = to.join("mutant.safetensors");
    write(&file, bundle.to_bytes().unwrap());
    file
}

fn all_tensors(file: &Path) -> bool {
    let Ok(file) = TensorFile::read(file) else { return false };
    // Each is asked for as everything.
    for name in file.names() {
        let _ = (file.f32(name, None), file.i32(name, None), file.i64(name, None));
    }
    true
}

fn model(to: &Path, name: &str) -> PathBuf {
    copy(&golden().join("model"), to);
    to.join(name)
}

fn shards(to: &Path) -> PathBuf {
    let whole = model(to, "model.safetensors");
    let names: Vec<String> = TensorFile::read(&whole).unwrap().names().map(str::to_owned).collect();
    fs::rename(whole, to.join("model-00001-of-00001.safetensors")).unwrap();
    let map: serde_json::Map<_, _> =
        names.into_iter().map(|name| (name, "model-00001-of-00001.safetensors".into())).collect();
    let file = to.join("model.safetensors.index.json");
    write(&file, serde_json::json!({"metadata": {"total_size": 528_000}, "weight_map": map}).to_string());
    file
}

fn weights(file: &Path) -> bool {
    let Ok(folder) = ModelFolder::open(file.parent().unwrap()) else { return false };
    let Ok(config) = folder.config() else { return false };
    Weights::read(&folder, &config, &Device::Cpu).is_ok()
}

/// A small model.
fn gguf(to: &Path) -> PathBuf {
    let file = to.join("mutant.gguf");
    write(&file, fs::read(golden().join("../models/gguf/qwen2.gguf")).unwrap());
    file
}

fn gguf_weights(file: &Path) -> bool {
    let Ok(model) = ModelFolder::open_gguf(file) else { return false };
    let Ok(config) = model.config() else { return false };
    Weights::read(&model, &config, &Device::Cpu).is_ok()
}

fn gguf_tokenizer(file: &Path) -> bool {
    let Ok(file) = GgufFile::open(file) else { return false };
    let mut files = TokenizerFiles::new("model");
    files.insert("config.json", &br#"{"model_type": "qwen2"}"#[..]);
    let made = files.insert_gguf(&file).and_then(|()| TextEncoder::from_files(&files));
    made.and_then(|encoder| encoder.try_out()).is_ok()
}

fn older(to: &Path, name: &str) -> PathBuf {
    fs::remove_file(model(to, "tokenizer.json")).unwrap();
    to.join(name)
}

/// Tokens behind the vocabulary of the older files, as transformers wrote them.
fn added_tokens(to: &Path) -> PathBuf {
    let file = older(to, "added_tokens.json");
    // Newer settings say what was added, and then that file is not asked.
    fs::remove_file(to.join("tokenizer_config.json")).ok();
    let vocabulary: serde_json::Value =
        serde_json::from_slice(&fs::read(to.join("vocab.json")).unwrap()).unwrap();
    let next = vocabulary.as_object().unwrap().len();
    write(&file, serde_json::json!({"[USER]": next, "[URL]": next + 1, "<sep>": next + 2}).to_string());
    file
}

fn tokenizer(file: &Path) -> bool {
    let folder = file.parent().unwrap();
    let file = |name: &str| Ok::<_, Infallible>(fs::read(folder.join(name)).ok().map(Cow::Owned));
    let Ok(files) = TokenizerFiles::gather("model", file);
    TextEncoder::from_files(&files).and_then(|encoder| encoder.try_out()).is_ok()
}

fn record(to: &Path) -> PathBuf {
    let file = to.join("skn.json");
    let rows = |source: &str| serde_json::json!({"source": source, "rows": [0, 1, 5, 4_000_000_000u32]});
    let record = serde_json::json!({"task": "sst2", "seed": 7, "data_sha256": "00ff", "train": rows("train"),
        "dev": rows("train"), "test": rows("validation"), "method": "prompt", "prompt_size": 16, "stages": {}});
    write(&file, record.to_string());
    file
}

fn records(file: &Path) -> bool {
    let split = read_json::<SplitRecord>(file).is_ok();
    split | read_json::<SkillConfig>(file).is_ok() | read_json::<RunRecord>(file).is_ok()
}
