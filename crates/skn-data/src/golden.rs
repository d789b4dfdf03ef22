//! The golden case, for tests.

use std::path::PathBuf;

use crate::{Dataset, Task, TextEncoder, read_dataset};

/// A path within the golden case.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")).join(name)
}

/// The bytes of a file of the golden case.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

/// Its task: two classes, three splits.
pub(crate) fn task() -> Task {
    let mut task = Task::builtin("sst2").unwrap();
    task.splits.dev = Some("validation".into());
    task.splits.test = Some("test".into());
    task
}

/// Its data in one of the forms.
pub(crate) fn dataset(form: &str) -> Dataset {
    read_dataset(&path("data").join(form), &task()).unwrap()
}

/// Its tokenizer.
pub(crate) fn encoder() -> TextEncoder {
    TextEncoder::from_json(&bytes("model/tokenizer.json"), "tokenizer.json").unwrap()
}

/// What Python computed: a tensor of integers, flat.
pub(crate) fn numbers(name: &str) -> Vec<i64> {
    let file = bytes("expected.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let data = tensors.tensor(name).unwrap().data().chunks_exact(8);
    data.map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
}
