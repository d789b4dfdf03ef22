//! What each target does with the bytes that libFuzzer makes: it reads them as a program would. A panic, an abort, a hang, an
//! allocation beyond `-malloc_limit_mb` or what AddressSanitizer sees is a find.
//!
//! Arrow, Parquet and tokenizers are read by crates that are known to panic on damaged files, which is why the programs read
//! them in a child process (`skn_session::fence`). Their targets look away from panics in those crates, and see the rest.

use std::borrow::Cow;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{LazyLock, Once};

use skn_artifact::{Foreign, GgufFile, RunRecord, SkillConfig, SplitRecord, TensorFile, Wanted, parse_json};
use skn_counts::Performance;
use skn_data::{RowReader, Task, TextEncoder, TokenizerFiles, read_dataset};
use skn_select::Mask;

/// Where a reader of files finds the bytes.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    // In memory, where there is such a place.
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
});

static SST2: LazyLock<Task> = LazyLock::new(|| Task::builtin("sst2").expect("a task that is built in"));

/// Reads a data set of one file.
fn rows(name: &str, bytes: &[u8]) {
    let path = FOLDER.path().join(name);
    fs::write(&path, bytes).expect("a file in memory");
    if let Err(error) = read_dataset(&path, &SST2) {
        assert!(error.to_string().contains(name), "the file is not named: {error}");
    }
}

/// A panic in a crate that is fenced in is no find.
fn fenced(read: impl FnOnce()) {
    static SILENT: Once = Once::new();
    // libFuzzer's own hook ends the process before a panic can be caught.
    SILENT.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let _ = catch_unwind(AssertUnwindSafe(read));
}

/// Rows of CSV, or of TSV where the first byte says so.
pub fn csv(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'\t', rest)) => rows("train.tsv", rest),
        _ => rows("train.csv", bytes),
    }
}

/// Rows of JSON.
pub fn json(bytes: &[u8]) {
    rows("train.jsonl", bytes);
    rows("train.json", bytes);
}

/// Rows of an Arrow stream.
pub fn arrow(bytes: &[u8]) {
    fenced(|| rows("train.arrow", bytes));
}

/// Rows of a Parquet file.
pub fn parquet(bytes: &[u8]) {
    fenced(|| rows("train.parquet", bytes));
}

/// The three files that say what a saved data set holds; the bytes are theirs in turn, with a zero between.
pub fn saved(bytes: &[u8]) {
    let root = FOLDER.path().join("saved");
    let table = root.join("train");
    fs::create_dir_all(&table).expect("a folder in memory");
    let mut parts = bytes.split(|&byte| byte == 0);
    for path in [root.join("dataset_dict.json"), table.join("state.json"), table.join("dataset_info.json")] {
        fs::write(path, parts.next().unwrap_or_default()).expect("a file in memory");
    }
    if let Err(error) = read_dataset(&root, &SST2) {
        let message = error.to_string();
        assert!(message.contains("saved"), "the file is not named: {message}");
    }
}

/// A task's description.
pub fn task(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Task::from_toml(text, "own.toml") {
        Ok(task) => {
            // It names a folder of the run.
            let mut parts = Path::new(&task.name).components();
            assert!(matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None)));
        }
        Err(error) => assert!(error.to_string().contains("own.toml"), "{error}"),
    }
}

/// A tokenizer's files: the bytes are `tokenizer.json`, or `vocab.json`, `merges.txt` and `tokenizer_config.json` with a zero
/// between.
pub fn tokenizer(bytes: &[u8]) {
    let parts: Vec<&[u8]> = bytes.splitn(3, |&byte| byte == 0).collect();
    let names: &[&str] = if parts.len() == 1 {
        &["tokenizer.json"]
    } else {
        &["vocab.json", "merges.txt", "tokenizer_config.json"]
    };
    let mut files = TokenizerFiles::new("model");
    for (name, part) in names.iter().zip(parts) {
        files.insert(name, Cow::Borrowed(part));
    }
    fenced(|| {
        let _ = TextEncoder::from_files(&files).and_then(|encoder| encoder.try_out());
    });
}

/// What the fence's child sends: the parent trusts nothing in it.
pub fn wire(bytes: &[u8]) {
    let mut reader = RowReader::new(bytes, &SST2, 1 << 20);
    if let Ok(data) = reader.read() {
        let classes = SST2.classes() as i64;
        assert!(data.splits.values().flatten().all(|row| (-1..classes).contains(&row.label)));
    }
    let _ = (reader.place(), reader.file_bytes(), reader.unpacked_bytes(), reader.notes().len());
}

fn tensor_file(bytes: &[u8]) -> Option<TensorFile> {
    match TensorFile::from_bytes(Path::new("x.safetensors"), bytes.to_vec()) {
        Ok(file) => Some(file),
        Err(error) => {
            assert!(error.to_string().contains("x.safetensors"), "{error}");
            None
        }
    }
}

/// A safetensors file, each of whose tensors is asked for as everything.
pub fn tensors(bytes: &[u8]) {
    let Some(file) = tensor_file(bytes) else { return };
    for name in file.names() {
        let _ = (file.f32(name, None), file.i32(name, None), file.i64(name, None), file.bool(name, None));
        let _ = (file.digest(name), file.expect_floats(name, &[2, 2]));
    }
}

/// A GGUF file, each of whose keys and tensors is asked for as everything, and the tokenizer that is in it.
pub fn gguf(bytes: &[u8]) {
    let file = match GgufFile::from_bytes(Path::new("x.gguf"), bytes.to_vec()) {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().contains("x.gguf"), "{error}");
            return;
        }
    };
    for key in file.keys() {
        let _ = (file.text(key), file.integer(key), file.number(key), file.flag(key), file.is_list(key));
        let _ = (file.texts(key), file.integers(key), file.numbers(key), file.flags(key));
    }
    for name in file.names() {
        file.scan(name, |_| {}).expect("a tensor lies in its file");
        let rows = file.tensor(name).map_or(0, |(shape, _)| shape[0]);
        let _ = (file.rows(name, 0..rows, |_| {}), file.rows(name, rows..rows + 1, |_| {}));
    }
    let mut files = TokenizerFiles::new("model");
    files.insert("config.json", &br#"{"model_type": "llama"}"#[..]);
    if let Err(error) = files.insert_gguf(&file) {
        assert!(error.to_string().contains("x.gguf"), "{error}");
        return;
    }
    fenced(|| {
        let _ = TextEncoder::from_files(&files).and_then(|encoder| encoder.try_out());
    });
}

/// A file of counts.
pub fn counts(bytes: &[u8]) {
    if let Some(file) = tensor_file(bytes) {
        let _ = Performance::read(&file);
    }
}

/// A file of a mask.
pub fn mask(bytes: &[u8]) {
    let Some(file) = tensor_file(bytes) else { return };
    if let Ok(mask) = Mask::read(&file) {
        for layer in 0..mask.layers() {
            let chosen = mask.best_of_layer(layer, mask.width(), 64);
            assert!(chosen.iter().all(|&neuron| (neuron as usize) < mask.width()));
        }
    }
}

/// The JSON files of a run.
pub fn records(bytes: &[u8]) {
    let path = Path::new("run.json");
    let _ = parse_json::<SplitRecord>(path, bytes, "a record");
    let _ = parse_json::<SkillConfig>(path, bytes, "a record");
    if let Err(error) = parse_json::<RunRecord>(path, bytes, "a record") {
        assert!(error.to_string().contains("run.json"), "{error}");
    }
}

/// How a file begins.
pub fn foreign(bytes: &[u8]) {
    if let Some(found) = Foreign::of(bytes) {
        for wanted in [Wanted::Data, Wanted::Tensors, Wanted::Text] {
            assert!(!found.told(wanted).ends_with("; "));
        }
        // The start is enough to tell.
        let start = &bytes[..bytes.len().min(Foreign::LOOKED_AT)];
        assert!(Foreign::of(start).is_some());
    }
}

/// A model's configuration.
#[cfg(feature = "model")]
pub fn config(bytes: &[u8]) {
    match skn_model::Config::from_json(bytes, Path::new("config.json")) {
        Ok(config) => {
            assert!(config.max_sequence() > 0 && config.hidden_size % config.num_attention_heads == 0);
            // What is written beside a pruned model is read as the same model.
            let again = skn_model::Config::from_json(&config.to_json(), Path::new("config.json"))
                .expect("a configuration that was read can be read again");
            assert_eq!(
                (again.model_type(), again.first_position, again.parameters(), &again.intermediate_sizes),
                (config.model_type(), config.first_position, config.parameters(), &config.intermediate_sizes)
            );
        }
        Err(error) => assert!(error.to_string().contains("config.json"), "{error}"),
    }
}
