//! A temporary folder in which the programs run as a user would run them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// Where the golden case lies.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// A place of its own for one test, with a Hugging Face cache that is empty or made by hand.
pub struct Desk {
    folder: tempfile::TempDir,
}

/// A folder whose files are in memory, if there is one with room for all desks: a container's has 64 MB as a rule, and one may be full.
/// Who says where temporary files are to be (`TMPDIR`) is obeyed.
pub fn memory() -> Option<&'static Path> {
    static MEMORY: LazyLock<Option<&Path>> = LazyLock::new(|| {
        let folder = Path::new("/dev/shm");
        let mounts = fs::read_to_string("/proc/mounts").ok()?;
        mounts.lines().find(|line| line.split(' ').nth(1) == Some("/dev/shm"))?;
        // What is free there, and in the machine, which has to give it.
        let told = Command::new("df").args(["-Pk", "/dev/shm"]).output().ok()?;
        let told = String::from_utf8(told.stdout).ok()?;
        let free: u64 = told.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
        let memory = fs::read_to_string("/proc/meminfo").ok()?;
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let available: u64 = available.split_whitespace().next()?.parse().ok()?;
        let is_large = free.min(available / 2) >= 1 << 20;
        let is_ours = std::env::var_os("TMPDIR").is_none() && tempfile::tempfile_in(folder).is_ok();
        (is_large && is_ours).then_some(folder)
    });
    *MEMORY
}

/// What a program said and how it ended.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Desk {
    /// In memory, where the system has room for that: programs wait until a disk keeps what they write for good, and tests need not.
    pub fn new() -> Self {
        let folder = memory().map_or_else(tempfile::tempdir, tempfile::tempdir_in);
        Self { folder: folder.unwrap() }
    }

    /// For what all tests of a process share and none may take away: it goes with the process, however that ends.
    pub fn of_process() -> Self {
        let desk = Self::new();
        // Its input ends when this process does. What stops a test by a key stops all of its group.
        let mut last = Command::new("sh");
        last.args(["-c", "trap '' HUP INT TERM; cat; rm -rf \"$0\""]).arg(desk.folder.path());
        let last = last.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        // Without a shell it stays, as all that statics hold.
        std::mem::forget(last);
        desk
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
