//! Programs that run under strace, which counts their system calls, and makes one of them fail or kill them.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::support::Desk;

/// No program here works longer than a second; one that does hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a program ended.
pub(crate) struct Ended {
    /// Its exit code; -1 if a signal killed it.
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// What strace does to a call.
#[derive(Clone, Debug)]
pub(crate) struct Injection {
    pub(crate) call: String,
    /// The how-manieth call of a thread, from 1.
    pub(crate) number: usize,
    /// Whether all that follow too.
    pub(crate) onward: bool,
    /// As strace has it: `signal=KILL`, `error=ENOSPC`, `retval=0`.
    pub(crate) what: String,
}

impl std::fmt::Display for Injection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let onward = if self.onward { "+" } else { "" };
        write!(f, "{}:{}:when={}{onward}", self.call, self.what, self.number)
    }
}

/// A call that a program made on a file of its user.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The how-manieth of this name in its thread, from 1.
    pub(crate) number: usize,
    /// The file, in the user's folder.
    pub(crate) file: String,
}

/// Why strace can't be used here, or nothing.
static MISSING: LazyLock<Option<String>> = LazyLock::new(|| {
    let tried = Command::new("strace").args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
    match tried {
        Err(error) => Some(format!("strace: {error}")),
        Ok(tried) if !tried.status.success() => {
            Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned())
        }
        Ok(_) => None,
    }
});

/// Why programs can't be traced here, if they can't.
pub(crate) fn missing() -> Option<&'static str> {
    MISSING.as_deref()
}

/// Whether strace can be used here; else says that a test is skipped.
#[allow(clippy::print_stdout, reason = "a test's own report")]
pub(crate) fn can_trace(test: &str) -> bool {
    if let Some(why) = missing() {
        println!("{test}: skipped, programs can't be traced here: {why}");
    }
    missing().is_none()
}

/// Runs a command to its end.
///
/// # Panics
/// If it hangs.
pub(crate) fn run(command: Command, place: &Path) -> Ended {
    attended(command, place, &mut |_| ())
}

/// The same, with something that is done every now and then meanwhile, and is told the group of processes.
fn attended(mut command: Command, place: &Path, attend: &mut dyn FnMut(u32)) -> Ended {
    let [out, err] = ["stdout", "stderr"].map(|name| place.join(format!(".{name}")));
    // A group of its own, so that all of it can be killed.
    let mut child = command
        .stdout(File::create(&out).unwrap())
        .stderr(File::create(&err).unwrap())
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > PATIENCE {
            signal(child.id(), "KILL");
            child.wait().unwrap();
            panic!("{command:?} hangs: {}", read(&err));
        }
        attend(child.id());
        std::thread::sleep(Duration::from_micros(500));
    };
    Ended {
        code: status.code().unwrap_or(-1),
        signal: status.signal(),
        stdout: read(&out),
        stderr: read(&err),
    }
}

fn signal(group: u32, name: &str) {
    Command::new("kill").args(["-s", name, "--", &format!("-{group}")]).status().unwrap();
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()
}

/// A command line, words separated by spaces, ready to run in `place`.
pub(crate) fn command(desk: &Desk, place: &Path, line: &str) -> Command {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = desk.command(words[0], &words[1..]);
    command.current_dir(place);
    command
}

/// Runs a command line in `place` and says how it ended.
pub(crate) fn plain(desk: &Desk, place: &Path, line: &str) -> Ended {
    run(command(desk, place, line), place)
}

/// Whose calls are counted and tampered with: each thread has its own count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    Main,
    /// Those of the processes that it starts too.
    All,
}

/// The same under strace: calls of these names are noted, and one of them is tampered with. What strace noted is given back
/// too.
pub(crate) fn traced(
    desk: &Desk,
    place: &Path,
    line: &str,
    calls: &str,
    injection: Option<&Injection>,
    threads: Threads,
) -> (Ended, String) {
    let injection = injection.map(ToString::to_string);
    let command = strace(desk, place, line, calls, injection.as_deref(), threads);
    (run(command, place), read(&place.join(LOG)))
}

/// Stops a program behind each call of these names that its main thread makes, for somebody to see what is there then.
pub(crate) fn seen_at_each(
    desk: &Desk,
    place: &Path,
    line: &str,
    calls: &str,
    see: &mut dyn FnMut(),
) -> Ended {
    let injection = format!("{calls}:signal=STOP");
    let command = strace(desk, place, line, calls, Some(&injection), Threads::Main);
    let mut stops = 0;
    let ended = attended(command, place, &mut |group| {
        let log = fs::read_to_string(place.join(LOG)).unwrap_or_default();
        let so_far = log.matches("--- stopped by SIGSTOP ---").count();
        if so_far > stops {
            stops = so_far;
            see();
            signal(group, "CONT");
        }
    });
    assert!(stops > 0, "{line}: was not stopped: {}", ended.stderr);
    ended
}

/// What strace noted, in the place of a program.
const LOG: &str = ".trace";

/// A command line under strace, ready to run.
fn strace(
    desk: &Desk,
    place: &Path,
    line: &str,
    calls: &str,
    injection: Option<&str>,
    threads: Threads,
) -> Command {
    let inner = command(desk, place, line);
    let log = place.join(LOG);
    let mut command = Command::new("strace");
    if threads == Threads::All {
        // Much faster, but strace sends no signals then.
        command.args(["-f", "--seccomp-bpf"]);
    }
    command.args(["-y", "-s", "0", "-o"]).arg(&log).arg("-e").arg(format!("trace={calls}"));
    if let Some(injection) = injection {
        command.arg("-e").arg(format!("inject={injection}"));
    }
    command.arg("--").arg(inner.get_program()).args(inner.get_args()).current_dir(place);
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// The calls of the main thread on files in `place`, of a program of which it alone was traced.
pub(crate) fn calls_on_files(log: &str, place: &Path) -> Vec<Call> {
    let place = place.canonicalize().unwrap();
    let mut seen = std::collections::BTreeMap::<&str, usize>::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((name, arguments)) = line.split_once('(') else { continue };
        let number = seen.entry(name).or_default();
        *number += 1;
        if let Some(file) = file_of(arguments, &place) {
            calls.push(Call { name: name.to_owned(), number: *number, file });
        }
    }
    calls
}

/// The file in `place` that a call's arguments name, as strace writes them.
pub(crate) fn file_of(arguments: &str, place: &Path) -> Option<String> {
    let inside = |path: &str| {
        let path = place.join(path.trim_end_matches(" (deleted)"));
        let name = path.strip_prefix(place).ok()?.to_str()?.to_owned();
        (!name.is_empty()).then_some(name)
    };
    // `openat(AT_FDCWD</desk>, "run/best", ..`: what is in quotes; of `write(3</desk/run/x>, ""..., 5)` what the number is.
    let quoted = arguments.split('"').nth(1).filter(|text| !text.is_empty());
    let numbered = arguments.split_once('<').filter(|(number, _)| number.parse::<u32>().is_ok());
    match (quoted, numbered) {
        (Some(path), None) => inside(path),
        (_, Some((_, rest))) => inside(rest.split_once('>')?.0).filter(|_| rest.starts_with('/')),
        (None, None) => None,
    }
}
