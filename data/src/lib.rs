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
