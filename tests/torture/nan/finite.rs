//! What is saved holds finite numbers alone.

use std::fs;
use std::path::Path;

use skn_artifact::TensorFile;

/// Looks through every file below a folder.
///
/// # Panics
/// If a number is NaN or infinite, or a file of numbers can't be read.
pub(super) fn check(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.display();
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => check(&path),
            Some("safetensors") => tensors(&path),
            Some("json") => {
                let value: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                // What JSON writes for a number that it does not have.
                for field in ["accuracy", "score", "dev_score", "unperturbed", "mean", "std", "draws"] {
                    assert!(value.get(field).is_none_or(|value| !holds_null(value)), "{name}: {field}");
                }
            }
            Some("jsonl") => {
                let text = fs::read_to_string(&path).unwrap();
                for line in text.lines() {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    assert!(!holds_null(&value), "{name}: {line}");
                }
            }
            _ => {}
        }
    }
}

fn tensors(path: &Path) {
    let file = TensorFile::read(path).unwrap();
    for name in file.names() {
        if let Ok((_, values)) = file.f32(name, None) {
            let place = values.iter().position(|value| !value.is_finite());
            assert_eq!(place, None, "{}: {name}", path.display());
        }
    }
}

fn holds_null(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(values) => values.iter().any(holds_null),
        serde_json::Value::Object(fields) => fields.values().any(holds_null),
        _ => false,
    }
}
