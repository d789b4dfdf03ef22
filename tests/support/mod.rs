//! A temporary folder in which the programs run as a user would run them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where the golden case lies.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// A place of its own for one test, with a Hugging Face cache that is empty or made by hand.
pub struct Desk {
    folder: tempfile::TempDir,
}

/// What a program said and how it ended.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// In memory, where the system has a place for that: thousands of cases should not wait for a disk that is told to keep each
    /// file for good.
    pub fn in_memory() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self { folder: folder.unwrap() }
    }

    /// The same below another folder than the system's for temporary ones.
    pub fn within(folder: &Path) -> Self {
        Self { folder: tempfile::tempdir_in(folder).unwrap() }
    }

    /// With the golden model as `roberta-base` in the cache, and the golden data as `data/raw/sst2`.
    pub fn original() -> Self {
        let desk = Self::new();
        let repository = desk.path("cache/hub/models--roberta-base");
        copy(&golden().join("model"), &repository.join("snapshots/0123abcd"));
        write(&repository.join("refs/main"), "0123abcd");
        copy(&golden().join("data/arrow"), &desk.path("data/raw/sst2"));
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program by its name, ready to run here.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        self.here(binary(program), arguments)
    }

    /// Lines of shell, ready to run here, which find the programs by their names; those in the desk's own `bin` first. The first that
    /// fails ends them.
    pub fn shell(&self, lines: &str) -> Command {
        let programs = Path::new(binary("skn-run")).parent().unwrap().to_path_buf();
        let others = std::env::var_os("PATH").unwrap_or_default();
        let places = [self.path("bin"), programs].into_iter().chain(std::env::split_paths(&others));
        let mut command = self.here("sh", &["-eu", "-c", lines]);
        command.env("PATH", std::env::join_paths(places).unwrap());
        command
    }

    fn here(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for name in [
            "RUST_LOG",
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "XDG_CACHE_HOME",
            "HF_TOKEN",
            "CLICOLOR_FORCE",
            "SLURM_ARRAY_TASK_ID",
            "JOB_COMPLETION_INDEX",
            "SKN_SHARDS",
        ] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.path("cache")).env("NO_COLOR", "1");
        command
    }

    /// Runs a command line, words separated by spaces, and says how it ended.
    pub fn run(&self, line: &str) -> Said {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.command(words[0], &words[1..]).output().unwrap().into()
    }

    /// Runs a command line that must succeed; what it printed on stdout.
    pub fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}\n{}{}", said.stdout, said.stderr);
        said.stdout
    }

    /// Runs a command line that must fail with this exit code, and say each of `parts` on stderr and nothing on stdout.
    pub fn fails(&self, line: &str, code: i32, parts: &[&str]) {
        let said = self.run(line);
        assert_eq!(said.code, code, "{line}\n{}{}", said.stdout, said.stderr);
        for part in parts {
            assert!(said.stderr.contains(part), "{line}\nexpected `{part}` in:\n{}", said.stderr);
        }
        assert_eq!(said.stdout, "", "{line}");
    }

    pub fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// Name and content of every file of a folder that must be the same for the same command: all but the records of
    /// times, paths and locks.
    pub fn contents(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        walk(&self.path(folder), "", &mut |name, path| {
            let varies = ["run.json", "inference_time.json", "summary.json", "report.html", ".lock"];
            if !varies.contains(&name.rsplit('/').next().unwrap()) {
                found.insert(name.to_string(), fs::read(path).unwrap());
            }
        });
        found
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

fn binary(program: &str) -> &'static str {
    match program {
        "skn-train" => env!("CARGO_BIN_EXE_skn-train"),
        "skn-probe" => env!("CARGO_BIN_EXE_skn-probe"),
        "skn-evaluate" => env!("CARGO_BIN_EXE_skn-evaluate"),
        "skn-experiment" => env!("CARGO_BIN_EXE_skn-experiment"),
        "skn-merge" => env!("CARGO_BIN_EXE_skn-merge"),
        "skn-select" => env!("CARGO_BIN_EXE_skn-select"),
        "skn-mask" => env!("CARGO_BIN_EXE_skn-mask"),
        "skn-prune" => env!("CARGO_BIN_EXE_skn-prune"),
        "skn-predict" => env!("CARGO_BIN_EXE_skn-predict"),
        "skn-report" => env!("CARGO_BIN_EXE_skn-report"),
        "skn-verify" => env!("CARGO_BIN_EXE_skn-verify"),
        "skn-binarize" => env!("CARGO_BIN_EXE_skn-binarize"),
        "skn-tasks" => env!("CARGO_BIN_EXE_skn-tasks"),
        "skn-run" => env!("CARGO_BIN_EXE_skn-run"),
        "skn-pretrain" => env!("CARGO_BIN_EXE_skn-pretrain"),
        other => panic!("no program {other}"),
    }
}

pub fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Copies a folder and what is in it.
pub fn copy(from: &Path, to: &Path) {
    walk(from, "", &mut |name, path| write(&to.join(name), fs::read(path).unwrap()));
}

pub fn walk(folder: &Path, prefix: &str, see: &mut dyn FnMut(&str, &Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{name}/"), see);
        } else {
            see(&name, &entry.path());
        }
    }
}
