//! What reference pages say next to what the code says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use skn_artifact::ErrorKind;
use skn_data::Task;

use crate::page::{Page, pages, root};
use crate::support::{Desk, walk};

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// What stands between backticks of a text.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words of a file of code between quotation marks that begin so.
fn quoted<'a>(code: &'a str, begins: &'a str) -> impl Iterator<Item = &'a str> {
    code.split('"').skip(1).step_by(2).filter(move |word| word.starts_with(begins))
}

#[test]
fn exit_codes_are_told() {
    let page = read("docs/reference/exit-codes.md");
    let kinds = [
        ErrorKind::Usage,
        ErrorKind::Input,
        ErrorKind::NotHere,
        ErrorKind::Device,
        ErrorKind::Locked,
        ErrorKind::Interrupted,
        ErrorKind::Failed,
    ];
    for code in kinds.map(skn_program::exit_code) {
        assert!(
            page.contains(&format!("\n| {code} | ")) || page.contains(&format!("\n| {code}, ")),
            "{code}"
        );
    }
}

#[test]
fn keys_of_a_task_file_are_told() {
    let page = read("docs/reference/task-file.md");
    let said = Task::from_toml("nothing = 1", "t.toml").unwrap_err().to_string();
    let keys: Vec<&str> = codes(&said).filter(|key| *key != "nothing").collect();
    assert!(keys.len() > 10, "{said}");
    for key in keys {
        assert!(page.contains(&format!("`{key}`")) || page.contains(&format!("`[{key}]`")), "{key}");
    }
    let tasks = pages().into_iter().flat_map(|page| page.blocks).filter(|block| block.language() == "toml");
    let tasks: Vec<_> = tasks.filter(|block| block.text.starts_with("name = ")).collect();
    assert!(tasks.len() > 2);
    for block in tasks {
        Task::from_toml(&block.text, "page.toml").unwrap();
    }
}

#[test]
fn variables_of_the_environment_are_told() {
    let page = read("docs/reference/environment.md");
    let code = read("bins/skn/src/shard.rs");
    let code = code.split("#[cfg(test)]").next().unwrap();
    for begins in ["SLURM_ARRAY_TASK_", "JOB_", "SKN_"] {
        let names: Vec<&str> = quoted(code, begins).collect();
        assert!(!names.is_empty(), "{begins}");
        for name in names {
            // A table has no place for the same beginning five times.
            let end = name.replace("SLURM_ARRAY_TASK_", "_");
            assert!(page.contains(&format!("`{name}`")) || page.contains(&format!("`{end}`")), "{name}");
        }
    }
    for folder in ["crates/skn-hub/src", "bins/skn-fetch/src"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let code = fs::read_to_string(entry.unwrap().path()).unwrap();
            for begins in ["HF_", "HUGGING", "TRANSFORMERS_", "XDG_"] {
                for word in quoted(&code, begins) {
                    let is_name = word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                    assert!(!is_name || page.contains(&format!("`{word}`")), "{word} of {folder}");
                }
            }
        }
    }
}

#[test]
fn names_on_disk_are_told() {
    let page =
        ["run-folder", "json", "models"].map(|name| read(&format!("docs/reference/{name}.md"))).concat();
    let names = read("crates/skn-artifact/src/names.rs");
    // What its tests name are examples.
    let names = names.split("#[cfg(test)]").next().unwrap();
    let keys: BTreeSet<&str> = quoted(names, "skn.").collect();
    assert!(keys.len() > 15);
    for key in keys {
        assert!(page.contains(key), "metadata {key}");
    }
    let files = quoted(names, "").filter(|name| {
        let path = Path::new(name);
        ["json", "jsonl", "html"].iter().any(|end| path.extension().is_some_and(|found| found == *end))
            && !name.contains('{')
    });
    for file in files {
        assert!(page.contains(file), "{file}");
    }
}

#[test]
fn programs_are_told() {
    let page = Page::read("docs/reference/programs.md".into());
    for manifest in ["bins/skn/Cargo.toml", "bins/skn-fetch/Cargo.toml"] {
        let manifest = read(manifest);
        for part in manifest.split("[[bin]]").skip(1) {
            let program = quoted(part, "skn-").next().unwrap();
            let told = page.codes.iter().any(|code| code == program)
                || page.anchors.iter().any(|name| name == program);
            assert!(told, "{program}");
        }
    }
}

/// Every JSON file of a desk that docs/reference/json.md names has no key that it does not name.
pub(crate) fn keys_are_told(desk: &Desk, parsed: impl Fn(&Path) -> Value) {
    let page = read("docs/reference/json.md");
    let rows: Vec<Vec<&str>> =
        page.lines().filter(|line| line.starts_with("| `")).map(|line| line.split(" | ").collect()).collect();
    walk(&desk.path(""), "", &mut |name, path| {
        let told: BTreeSet<&str> = rows
            .iter()
            .filter(|row| codes(row[0]).any(|file| name.ends_with(file.trim_start_matches("<task>/"))))
            .flat_map(|row| codes(row[1]))
            .collect();
        if told.is_empty() || !name.ends_with(".json") {
            return;
        }
        let found = parsed(path);
        let entries = found.as_array().map_or(vec![&found], |list| list.iter().collect());
        for key in entries.iter().flat_map(|entry| entry.as_object().unwrap().keys()) {
            assert!(told.contains(key.as_str()), "docs/reference/json.md: {name} has {key} too");
        }
    });
}
