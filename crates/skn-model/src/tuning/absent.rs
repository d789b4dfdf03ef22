//! What is said where tuned parameters should be and are not.

use std::path::Path;

use skn_artifact::names::file::{ADAPTER_TENSORS, BIAS_TENSORS, PEFT_TENSORS};
use skn_artifact::{Foreign, Wanted, is_folder};

use crate::error::ModelError;

/// Endings by which torch.save's files go.
const PICKLED: [&str; 5] = ["pt", "pth", "bin", "ckpt", "pkl"];

/// The error of a folder that holds no tuned parameters.
pub fn no_tuning(folder: &Path) -> ModelError {
    let expected = format!("{PEFT_TENSORS}, {ADAPTER_TENSORS} or {BIAS_TENSORS}");
    // What can't be looked at is only left out of the hint.
    let hint = match (pickle_in(folder), is_folder(folder).unwrap_or(true)) {
        (Some(name), _) if ["adapter_model.bin", "pytorch_adapter.bin"].contains(&name.as_str()) => format!(
            "its {name} is a pickle, which may run code: load it in Python and save it again with safe_serialization=True"
        ),
        (Some(name), _) => format!("its {name} is {}; {}", what(&folder.join(&name)), convert(&name)),
        (None, false) => "there is no such folder".into(),
        (None, true) => "tuned parameters are written there by skn-train, PEFT or adapters".into(),
    };
    ModelError::MissingFile { folder: folder.into(), expected, hint }
}

/// The error of a file where a folder of tuned parameters is expected. It says what the file is, and how it becomes a folder.
pub fn not_a_tuning_folder(file: &Path) -> ModelError {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let hint = match Foreign::of_file(file) {
        Some(Foreign::Safetensors) => "this is one of its files: give the folder that it lies in".into(),
        Some(found @ (Foreign::Pickle | Foreign::TorchSave)) => {
            format!("this is {}; {}", found.what(), convert(&name))
        }
        Some(found) => format!("this is {}", found.told(Wanted::Tensors)),
        None => "this is a file; give a run, or the folder that PEFT or adapters wrote".into(),
    };
    let expected = format!("folder with {PEFT_TENSORS}, {ADAPTER_TENSORS} or {BIAS_TENSORS}");
    ModelError::MissingFile { folder: file.into(), expected, hint }
}

/// A file of a folder that torch.save may have written.
fn pickle_in(folder: &Path) -> Option<String> {
    let files =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = files
        .filter(|name| {
            let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
            ending.is_some_and(|ending| PICKLED.contains(&ending))
        })
        .collect();
    names.sort();
    names.into_iter().next()
}

fn what(file: &Path) -> &'static str {
    Foreign::of_file(file).map_or("a file of torch.save, which may run code", Foreign::what)
}

/// How a prompt that torch.save wrote becomes a folder that is read.
fn convert(name: &str) -> String {
    format!(
        "if you trust it, make a folder DIR of it in Python: import json, torch; from safetensors.torch import save_file; \
         rows = torch.load(\"{name}\", map_location=\"cpu\", weights_only=True); \
         rows = rows if torch.is_tensor(rows) else next(iter(rows.values())); \
         save_file({{\"prompt_embeddings\": rows.detach().float().contiguous()}}, \"DIR/{PEFT_TENSORS}\"); \
         json.dump({{\"peft_type\": \"PROMPT_TUNING\"}}, open(\"DIR/adapter_config.json\", \"w\"))"
    )
}
