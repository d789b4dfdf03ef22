//! An I/O error is reported (file, operation, what the system said), never swallowed, and never destroys the old file.

use crate::cases;
use crate::contents::{contents, differing, is_temporary};
use crate::damage::Dice;
use crate::shop::{Known, Place, Shop};
use crate::tracing::{Call, Ended, Injection, Threads, can_trace, file_of, plain, traced};

/// What the system says, and how a program repeats it.
const ERRORS: [(&str, &str); 6] = [
    ("error=ENOSPC", "No space left on device"),
    ("error=EIO", "Input/output error"),
    ("error=EROFS", "Read-only file system"),
    ("error=EACCES", "Permission denied"),
    ("error=EMFILE", "Too many open files"),
    // A write that takes nothing.
    ("retval=0", "failed to write"),
];

/// Calls that are part of keeping what was made: none of them may fail in silence.
const KEEPING: [&str; 9] =
    ["write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "ftruncate", "mkdir"];

/// Calls that look at what is there.
const LOOKS: [&str; 5] = ["statx", "newfstatat", "readlink", "readlinkat", "getdents64"];

/// Whether a call's failure can be expected to be told.
fn can_fail(call: &Call) -> bool {
    // The standard library asks so in its own tests, whether a file is open.
    call.name != "fcntl" && call.file != ".stderr"
}

#[test]
fn a_call_fails() {
    if !can_trace("faults::a_call_fails") {
        return;
    }
    let shop = Shop::open();
    let went = cases::run("torture", "faults::a_call_fails", 500, |number| {
        let mut dice = Dice::of(number);
        let known = &shop.stages[dice.below(shop.stages.len())];
        let calls: Vec<&Call> = known.calls.iter().filter(|call| can_fail(call)).collect();
        // Half of them where something is written: most calls read.
        let keeping: Vec<&Call> =
            calls.iter().filter(|call| KEEPING.contains(&call.name.as_str())).copied().collect();
        let from = if dice.below(2) == 0 && !keeping.is_empty() { &keeping } else { &calls };
        let call = from[dice.below(from.len())];
        let errors = if call.name == "write" { &ERRORS[..] } else { &ERRORS[..5] };
        let (what, said) = dice.one_of(errors);
        let onward = dice.below(4) == 0;
        // A child process that reads data or a tokenizer counts its own calls, and may fail before.
        let threads = if dice.below(5) == 0 { Threads::All } else { Threads::Main };
        let injection = Injection { call: call.name.clone(), number: call.number, onward, what: what.into() };
        let (place, ended, log) = attacked(shop, known, &format!("fault {number}"), &injection, threads);
        let case = format!("{}: {injection} on {}", known.stage.line, call.file);
        if !log.contains("(INJECTED)") {
            // Weights are read by whichever thread comes first.
            assert!(call.name == "pread64", "{case}: it was not reached");
            return "was not reached".into();
        }
        assert!(
            ended.signal.is_none() && ended.code != 101,
            "{case}: exit code {}\n{}",
            ended.code,
            ended.stderr
        );
        assert!(!ended.stderr.contains("panicked"), "{case}\n{}", ended.stderr);
        known.check_whole(&place, &case);
        // One that fails while they are cleared can't put them back.
        if !["unlink", "ftruncate"].contains(&call.name.as_str()) && !call.file.contains("last") {
            known.check_kept(&place, &case);
        }
        if ended.code == 0 {
            let differing = differing(&contents(&place), &known.after);
            assert_eq!(differing, [""; 0], "{case}: it said that all is well\n{}", ended.stderr);
            assert_eq!(
                untimed(&ended.stdout),
                untimed(&known.stdout),
                "{case}: all is well\n{}",
                ended.stderr
            );
            // On a busy machine a program says more of its progress than when its calls were counted: then another call has the
            // number, and it may be one that says something.
            let mut failed = log.lines().filter(|line| line.contains("(INJECTED)"));
            let of_stderr = failed.all(|line| line.contains("/.stderr>"));
            let kept = KEEPING.contains(&call.name.as_str()) && !of_stderr;
            assert!(!kept, "{case}: nothing was said of it\n{log}");
            return "did no harm".into();
        }
        // What it would say of it fails too, or what a reader would say of its data.
        let mute = onward && call.name == "write";
        let of_reader = threads == Threads::All
            || log.lines().any(|line| line.contains("(INJECTED)") && line.contains("<pipe:"));
        match mute || of_reader {
            true => {
                assert!(matches!(ended.code, 1 | 3), "{case}: exit code {}\n{}", ended.code, ended.stderr)
            }
            false => check_message(&case, call, said, &ended, &log),
        }
        known.check_again(&shop.desk, &place);
        if mute || of_reader { "ended" } else { "told" }.into()
    });
    let told = went.get("told").copied().unwrap_or_default();
    assert!(told * 3 > went.values().sum(), "{went:?}");
}

/// Runs a program of which a call fails. As in `torn`: a call that was not reached is tried again.
fn attacked(
    shop: &Shop,
    known: &Known,
    name: &str,
    injection: &Injection,
    threads: Threads,
) -> (Place, Ended, String) {
    let mut tries = 0;
    loop {
        let place = shop.place(known, &format!("{name} {tries}"));
        let (ended, log) =
            traced(&shop.desk, &place, &known.stage.line, &injection.call, Some(injection), threads);
        tries += 1;
        if log.contains("(INJECTED)") || ended.signal.is_some() || ended.code != 0 || tries == 3 {
            return (place, ended, log);
        }
    }
}

/// Each look at a file in turn: a program that took the error for an answer would choose something else, and end well.
#[test]
#[allow(clippy::print_stdout, reason = "a test's own report")]
fn a_look_fails() {
    if !can_trace("faults::a_look_fails") {
        return;
    }
    let shop = Shop::open();
    let looking = shop.stages.iter().filter(|known| !known.is_chain());
    let mut looks: Vec<(&Known, &Call)> = looking
        .flat_map(|known| {
            let looks = known.calls.iter().filter(|call| LOOKS.contains(&call.name.as_str()));
            looks.filter(|call| can_fail(call)).map(move |call| (known, call))
        })
        .collect();
    if looks.is_empty() {
        println!(
            "faults::a_look_fails: skipped, a chain's looks are not attacked, and SKN_STAGES names chains alone"
        );
        return;
    }
    // First those of the program in which one did harm, then some of each.
    looks.sort_by_key(|(known, call)| (known.stage.name != "mask", call.number % 97));
    let went = cases::run("torture", "faults::a_look_fails", 700, |number| {
        let (known, call) = looks[number as usize % looks.len()];
        let injection = Injection {
            call: call.name.clone(),
            number: call.number,
            onward: false,
            what: "error=EMFILE".into(),
        };
        let (place, ended, log) = attacked(shop, known, &format!("look {number}"), &injection, Threads::Main);
        let case = format!("{}: {injection} on {}", known.stage.line, call.file);
        known.check_whole(&place, &case);
        known.check_kept(&place, &case);
        if ended.code == 0 {
            let differing = differing(&contents(&place), &known.after);
            assert_eq!(differing, [""; 0], "{case}: it said that all is well\n{}", ended.stderr);
            assert_eq!(
                untimed(&ended.stdout),
                untimed(&known.stdout),
                "{case}: all is well\n{}",
                ended.stderr
            );
            return if log.contains("(INJECTED)") { "did no harm" } else { "was not reached" }.into();
        }
        check_message(&case, call, "Too many open files", &ended, &log);
        "told".into()
    });
    let told = went.get("told").copied().unwrap_or_default();
    assert!(told * 2 > went.values().sum(), "{went:?}");
}

/// What a program printed, without times.
fn untimed(stdout: &str) -> String {
    stdout.split("; ").filter(|part| !part.contains("ms a text")).collect::<Vec<_>>().join("; ")
}

/// Checks that a program said what failed and why.
fn check_message(case: &str, call: &Call, said: &str, ended: &Ended, log: &str) {
    let told = ended
        .stderr
        .split(": error: ")
        .nth(1)
        .unwrap_or_else(|| panic!("{case}: no error told\n{}", ended.stderr));
    assert!(matches!(ended.code, 1 | 3), "{case}: exit code {}\n{}", ended.code, ended.stderr);
    if KEEPING.contains(&call.name.as_str()) {
        // A folder that may not be made there is a wrong place; all else is the system's.
        let is_no_place = ["Permission denied", "Read-only file system"].contains(&said);
        let expected = if call.name == "mkdir" && is_no_place { 3 } else { 1 };
        assert_eq!(ended.code, expected, "{case}\n{}", ended.stderr);
    }
    assert!(told.contains(said), "{case}: expected `{said}`\n{}", ended.stderr);
    if call.file == ".stdout" {
        return;
    }
    // Any of the calls that failed: other threads count their own, and all that follow fail too. A temporary file is named by
    // the one that it should become.
    let place = std::path::Path::new("/");
    let named = log.lines().filter(|line| line.contains("(INJECTED)")).filter_map(|line| {
        let arguments = line.split_once('(')?.1;
        file_of(arguments, place)
    });
    let named = named.chain([call.file.clone()]).any(|file| {
        // On a busy machine the call of that number may be the next one, which prints.
        if file.ends_with("/.stdout") {
            return told.starts_with("stdout: ");
        }
        let parts: Vec<&str> = file.split('/').collect();
        let (name, folder) = (parts[parts.len() - 1], parts.get(parts.len().wrapping_sub(2)));
        // One without a name is called by its number.
        let is_nameless = name.starts_with('#');
        told.contains(if is_temporary(name) || is_nameless { folder.unwrap_or(&name) } else { name })
    });
    assert!(named, "{case}: expected the file's name\n{}", ended.stderr);
}

/// Without strace: a link that leads to itself can't be looked at, and was taken for a file that is not there.
#[test]
fn what_cannot_be_looked_at_is_told() {
    let shop = Shop::open();
    for (stage, file) in [
        ("report", "run/metrics.jsonl"),
        ("report", "run/mask_perf.json"),
        ("verify", "run/tiny/dev_perf.safetensors"),
        ("select", "run/tiny/dev_perf.safetensors"),
        ("probe", "run/best/skn.json"),
        ("prune", "run/split.json"),
        ("train", "model"),
        ("binarize", "two/tiny3-pn"),
    ] {
        let known = shop.stages.iter().find(|known| known.stage.name == stage).unwrap();
        let place = shop.place(known, "a loop");
        let link = place.join(file);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::fs::remove_file(&link).or_else(|_| std::fs::remove_dir_all(&link)).ok();
        std::os::unix::fs::symlink(&link, &link).unwrap();
        let ended = plain(&shop.desk, &place, &known.stage.line);
        assert_eq!(ended.code, 3, "{stage}, {file}\n{}", ended.stderr);
        let name = file.rsplit('/').next().unwrap();
        assert!(ended.stderr.contains(name), "{stage}, {file}\n{}", ended.stderr);
    }
}
