//! A user's folder in which `skn-fetch` runs against a Hub of this machine.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::hub::{self, COMMIT, Hub};

pub const MODEL: &str = "models/owner/name";

/// A large file, more than one piece of a connection.
pub fn weights() -> Vec<u8> {
    (0u32..300_000).flat_map(u32::to_le_bytes).collect()
}

/// A Hub with a small model.
pub fn model() -> Hub {
    Hub::new(
        MODEL,
        &[
            ("README.md", b"# name"),
            ("config.json", b"{}"),
            ("model.safetensors", &weights()),
            ("pytorch_model.bin", b"PK"),
            ("tokenizer.json", b"{\"model\": 1}"),
        ],
    )
}

/// A user's folder with a cache.
pub struct Desk {
    pub folder: tempfile::TempDir,
}

pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Desk {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn repository(&self, name: &str) -> PathBuf {
        self.path("home/hub").join(name)
    }

    pub fn snapshot(&self) -> PathBuf {
        self.repository("models--owner--name/snapshots").join(COMMIT)
    }

    pub fn blob(&self, hash: &str) -> PathBuf {
        self.repository("models--owner--name/blobs").join(hash)
    }

    pub fn command(&self, hub: &Hub, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skn-fetch"));
        command.args(line.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        hub::only(&mut command, hub).env("HF_HOME", self.path("home"));
        command
    }

    pub fn run(&self, hub: &Hub, line: &str) -> Said {
        said(&mut self.command(hub, line))
    }

    pub fn ok(&self, hub: &Hub, line: &str) -> Said {
        let said = self.run(hub, line);
        assert_eq!(said.code, 0, "{line}\n{}", said.stderr);
        said
    }

    /// Runs what must fail with this code and say each of `parts`; no file may look whole then.
    pub fn fails(&self, hub: &Hub, line: &str, code: i32, parts: &[&str]) -> String {
        let said = self.run(hub, line);
        assert_eq!(said.code, code, "{line}\n{}", said.stderr);
        for part in parts {
            assert!(said.stderr.contains(part), "{line}\nexpected `{part}` in:\n{}", said.stderr);
        }
        assert_eq!(said.stdout, "", "{line}");
        said.stderr
    }
}

pub fn said(command: &mut Command) -> Said {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).map(|it| it.map(name).collect()).unwrap_or_default();
    names.sort();
    names
}

pub fn contents(hub: &Hub) -> Vec<String> {
    let of_contents = |path: String| path.contains("/elsewhere/") || path.contains("/resolve/");
    hub.asked().into_iter().map(|asked| asked.path).filter(|path| of_contents(path.clone())).collect()
}
