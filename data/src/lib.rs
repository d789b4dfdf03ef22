//! The embedded demo of skn: a tiny RoBERTa, pre-trained by this workspace's `skn-pretrain` on text that this crate
//! generates, and three tasks of the same language. It demonstrates; it knows no English beyond its grammar.
//!
//! - [`model_files`] and [`task_files`] are what is embedded.
//! - [`document`], [`judgement`] and [`inference`] make the text, [`train_tokenizer`] and [`make_tasks`] the files
//!   beside the weights. The same seed gives the same bytes.
//!
//! ```
//! let names: Vec<&str> = skn_demo::model_files().iter().map(|(name, _)| *name).collect();
//! assert_eq!(names, ["config.json", "model.safetensors", "tokenizer.json"]);
//! let task = skn_demo::task_files("sentiment").expect("it is embedded");
//! assert!(task.description.contains("labels = [\"negative\", \"positive\"]"));
//! ```

mod corpus;
mod grammar;
mod tasks;
mod tokenizer;
mod words;

pub use crate::corpus::{Claim, Document, Line, Stage, document};
pub use crate::grammar::{Inference, Judgement, Level, inference, judgement};
pub use crate::tasks::make_tasks;
pub use crate::tokenizer::train_tokenizer;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the embedded model calls itself in artifacts.
pub const MODEL_ID: &str = "demo";

/// The names of the embedded tasks.
pub const TASKS: [&str; 3] = ["sentiment", "topic", "inference"];

/// An embedded task.
#[derive(Clone, Copy, Debug)]
pub struct TaskFiles {
    /// The task file, TOML.
    pub description: &'static str,
    /// Name and content of each split, JSONL.
    pub splits: [(&'static str, &'static [u8]); 3],
}

/// The files of the embedded model folder: name and content.
pub fn model_files() -> &'static [(&'static str, &'static [u8])] {
    &[
        ("config.json", include_bytes!("../model/config.json")),
        ("model.safetensors", include_bytes!("../model/model.safetensors")),
        ("tokenizer.json", include_bytes!("../model/tokenizer.json")),
    ]
}

/// An embedded task by its name.
pub fn task_files(name: &str) -> Option<TaskFiles> {
    macro_rules! task {
        ($name:literal) => {
            TaskFiles {
                description: include_str!(concat!("../tasks/", $name, "/task.toml")),
                splits: [
                    ("train", include_bytes!(concat!("../tasks/", $name, "/train.jsonl"))),
                    ("dev", include_bytes!(concat!("../tasks/", $name, "/dev.jsonl"))),
                    ("test", include_bytes!(concat!("../tasks/", $name, "/test.jsonl"))),
                ],
            }
        };
    }
    match name {
        "sentiment" => Some(task!("sentiment")),
        "topic" => Some(task!("topic")),
        "inference" => Some(task!("inference")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_tasks_are_what_is_generated() {
        let made = make_tasks(0);
        assert_eq!(made.len(), TASKS.len() * 3);
        for task in TASKS {
            for (split, bytes) in task_files(task).unwrap().splits {
                let name = format!("{task}/{split}.jsonl");
                let (_, content) = made.iter().find(|(made, _)| *made == name).unwrap();
                assert!(content.as_bytes() == bytes, "{name}: make it again with skn-pretrain");
            }
        }
    }

    #[test]
    fn the_embedded_tokenizer_is_what_is_trained() {
        let (_, bytes) = model_files().iter().find(|(name, _)| *name == "tokenizer.json").unwrap();
        assert!(train_tokenizer(0).unwrap().as_bytes() == *bytes, "make it again with skn-pretrain");
    }

    #[test]
    fn no_text_is_in_two_splits_of_a_task() {
        for task in TASKS {
            let mut before = std::collections::BTreeSet::new();
            for (split, bytes) in task_files(task).unwrap().splits {
                let lines = std::str::from_utf8(bytes).unwrap().lines();
                let text = |line: &str| {
                    let mut row: serde_json::Value = serde_json::from_str(line).unwrap();
                    row.as_object_mut().unwrap().remove("label");
                    row.to_string()
                };
                let texts: Vec<String> = lines.map(text).collect();
                let again: Vec<_> = texts.iter().filter(|text| before.contains(*text)).collect();
                assert!(again.is_empty(), "{task}, {split}: {again:?}");
                before.extend(texts);
            }
        }
    }
}
