//! Small data of one's own for the demo's model, and folders of runs as cases use them: copied, changed, compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Desk, Said, write};

/// Rows of train, dev and test.
const ROWS: [usize; 3] = [48, 20, 20];

/// Writes `mine.toml` and `rows/` to a desk: a task of the demo's language, with few rows.
pub(crate) fn data(desk: &Desk) {
    let task = skn_demo::task_files("sentiment").unwrap();
    write(&desk.path("mine.toml"), task.description.replace("\"sentiment\"", "\"mine\""));
    for (rows, (split, content)) in ROWS.iter().zip(task.splits) {
        let lines = std::str::from_utf8(content).unwrap().lines().take(*rows);
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        write(&desk.path(&format!("rows/{split}.jsonl")), text);
    }
    write(
        &desk.path("texts"),
        "the food was not bad , but the service was awful .\nwe never disliked the soup .\n",
    );
}

/// Files that hold times, paths and processes: the same command leaves others.
const VARIES: [&str; 4] = ["run.json", "inference_time.json", "summary.json", ".lock"];

/// Name and content of every file below a folder, without those that differ from one call to the next. The report has times
/// in it as well, but not where it is drawn from the same files.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names(folder) {
        if !VARIES.contains(&name.rsplit('/').next().unwrap()) {
            let content = fs::read(folder.join(&name)).unwrap();
            found.insert(name, content);
        }
    }
    found
}

/// The paths of all files below a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

/// What two sets of files differ in, by name: their contents are too long to be read.
pub(crate) fn differing(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names.into_iter().filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}

/// A copy of a run. Files of tensors, which programs replace and never write to, are the same files under another name.
pub(crate) fn copy(from: &Path, to: &Path) {
    for name in names(from).into_iter().filter(|name| !name.ends_with(".lock")) {
        let (old, new) = (from.join(&name), to.join(&name));
        fs::create_dir_all(new.parent().unwrap()).unwrap();
        if name.ends_with(".safetensors") {
            fs::hard_link(old, new).unwrap();
        } else {
            fs::copy(old, new).unwrap();
        }
    }
}

/// Puts bytes in the place of a file of a copy; the original stays.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    write(path, bytes);
}

/// Runs a command line in a folder of the desk, and says how it ended.
pub(crate) fn run_in(desk: &Desk, folder: &Path, line: &str) -> Said {
    command_in(desk, folder, line).output().unwrap().into()
}

/// As [`run_in`], ready to run.
pub(crate) fn command_in(desk: &Desk, folder: &Path, line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = desk.command(words[0], &words[1..]);
    command.current_dir(folder);
    command
}

/// A command that must succeed; what it printed on stdout.
pub(crate) fn done(command: &mut Command) -> Vec<u8> {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// A folder for one case, which goes with it.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(desk: &Desk, name: &str) -> Self {
        let path = desk.path(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
