//! Disks that are full, files that may not grow, and a stdout that takes nothing: what the system refuses is told, and what was
//! there is whole.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cases;
use crate::contents::{contents, differing};
use crate::damage::Dice;
use crate::shop::{Known, Shop};
use crate::tracing::{Ended, command, run};

/// A program that ended well has made what it should; one that was refused says what and why, and leaves whole files.
fn check(
    known: &Known,
    shop: &Shop,
    place: &Path,
    ended: &Ended,
    said: &str,
    again: impl FnOnce(),
) -> String {
    known.check_whole(place, &known.stage.line);
    if ended.code == 0 {
        assert_eq!(differing(&contents(place), &known.after), [""; 0], "{}", known.stage.line);
        return "had room".into();
    }
    assert_eq!(ended.code, 1, "{}\n{}", known.stage.line, ended.stderr);
    assert!(ended.stderr.contains(said), "{}: expected `{said}`\n{}", known.stage.line, ended.stderr);
    again();
    known.check_again(&shop.desk, place);
    "refused".into()
}

fn writers(shop: &Shop) -> Vec<&Known> {
    shop.stages.iter().filter(|known| !known.stage.again.is_empty()).collect()
}

/// A limit on the size of files makes a write short, and the next one fails. The number decides the limit.
#[test]
fn files_may_not_grow() {
    let shop = Shop::open();
    let writers = writers(shop);
    let went = cases::run("torture", "disks::files_may_not_grow", 60, |number| {
        let mut dice = Dice::of(number);
        let known = dice.one_of(&writers);
        let place = shop.place(known, &format!("short {number}"));
        let largest = known.after.values().map(Vec::len).max().unwrap_or_default();
        // Small files are more than large ones.
        let most = if dice.below(2) == 0 { 12 } else { largest / 512 + 2 };
        let inner = command(&shop.desk, &place, &known.stage.line);
        let mut limited = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", dice.below(most));
        limited.args(["-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(&*place);
        // What it says goes through pipes, which have no limit.
        let output = limited.output().unwrap();
        let ended = Ended {
            code: output.status.code().unwrap_or(-1),
            signal: None,
            stdout: String::new(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        check(known, shop, &place, &ended, "File too large", || ())
    });
    let refused = went.get("refused").copied().unwrap_or_default();
    let total: u64 = went.values().sum();
    assert!(total < 20 || refused * 3 > total, "{went:?}");
}

/// A small file system, unmounted when it goes.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

/// The number decides how much room is left.
#[test]
#[allow(clippy::print_stdout, reason = "a test's own report")]
fn a_disk_is_full() {
    let shop = Shop::open();
    let writers = writers(shop);
    let mount = |point: &Path, size: &str| {
        fs::create_dir_all(point).unwrap();
        let options = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(point).output();
        mounted.is_ok_and(|mounted| mounted.status.success()).then(|| Mounted(point.into()))
    };
    if fs::metadata("/proc/self").unwrap().uid() != 0 || mount(&shop.desk.path("small"), "1m").is_none() {
        println!("disks::a_disk_is_full: skipped, nothing can be mounted here: that needs root");
        return;
    }
    let went = cases::run("torture", "disks::a_disk_is_full", 40, |number| {
        let mut dice = Dice::of(number);
        let known = dice.one_of(&writers);
        let point = shop.desk.path(&format!("small {number}"));
        let _mounted = mount(&point, "64m").unwrap();
        let place = point.join("desk");
        copy_state_whole(shop, known, &place);
        let needed: usize = known.after.values().map(|bytes| bytes.len() + 4096).sum();
        let filler = point.join("filler");
        fill(&filler, dice.below(needed / 2) + 4096);
        let ended = {
            // What it says goes elsewhere.
            let aside = shop.desk.path(&format!("aside {number}"));
            fs::create_dir_all(&aside).unwrap();
            let ended = run(command(&shop.desk, &place, &known.stage.line), &aside);
            fs::remove_dir_all(aside).unwrap();
            ended
        };
        // Cut, as the room of a file that is removed comes back only when nobody has it open: a process that another case is starting
        // may for a moment.
        let again = || drop(fs::File::create(&filler).unwrap());
        check(known, shop, &place, &ended, "No space left on device", again)
    });
    let refused = went.get("refused").copied().unwrap_or_default();
    let total: u64 = went.values().sum();
    assert!(total < 20 || refused * 3 > total, "{went:?}");
}

/// What a stage finds, with copies of a model and data instead of links to another file system.
fn copy_state_whole(shop: &Shop, known: &Known, place: &Path) {
    crate::support::copy(&shop.desk.path(known.before_state()), place);
}

/// Leaves so many bytes of the file system that `file` lies in.
fn fill(file: &Path, free: usize) {
    let mut writer = OpenOptions::new().create_new(true).write(true).open(file).unwrap();
    let piece = [0u8; 4096];
    while std::io::Write::write_all(&mut writer, &piece).is_ok() {}
    let length = writer.metadata().unwrap().len();
    writer.set_len(length.saturating_sub(free as u64) / 4096 * 4096).unwrap();
}

#[test]
fn stdout_takes_nothing() {
    let shop = Shop::open();
    cases::each(shop.stages.iter().collect(), |known| without_stdout(shop, known));
}

fn without_stdout(shop: &Shop, known: &Known) {
    let line = &known.stage.line;
    let folder = format!("no stdout {}", known.stage.name);
    let place = shop.place(known, &folder);
    let mut full = command(&shop.desk, &place, line);
    let full = full.stdout(OpenOptions::new().write(true).open("/dev/full").unwrap()).output().unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{line}\n{said}");
    assert!(said.contains("stdout") && said.contains("No space left on device"), "{line}\n{said}");
    // What was made stays. A chain, which tells of each step, ends at the first.
    if known.is_chain() {
        assert!(known.check_whole(&place, line) > 0, "{line}");
    } else {
        assert_eq!(differing(&contents(&place), &known.after), [""; 0], "{line}");
    }
    drop(place);
    for closed in [">&-", "2>&-", ">&- 2>&-", "| :", "2>/dev/full"] {
        let place = shop.place(known, &folder);
        let inner = command(&shop.desk, &place, line);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("\"$@\" {closed}"), "sh"]).arg(inner.get_program()).args(inner.get_args());
        shell.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(&*place);
        let status = shell.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{line} {closed}: {status}");
        assert_eq!(differing(&contents(&place), &known.after), [""; 0], "{line} {closed}");
    }
}
