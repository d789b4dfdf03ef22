//! What was reported saved survives a power cut. A file system of its own, in a file, is shut down by the system call that ext4
//! has for such tests: nothing more of what is in memory reaches it. Then it is mounted again.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::cases;
use crate::contents::{contents, differing};
use crate::damage::Dice;
use crate::shop::{Known, Shop};
use crate::support;
use crate::tracing::{command, plain};

/// `EXT4_IOC_SHUTDOWN`, with or without the log of the file system that is in memory: there is no program for it.
const SHUTDOWN: &str = r#"open(my $f, "<", $ARGV[0]) or die "open: $!"; my $how = pack("L", $ARGV[1]); ioctl($f, 0x8004587d, $how) or die "ioctl: $!""#;
const LOG_FLUSHED: &str = "1";
const LOG_LOST: &str = "2";

/// A file system in a file, mounted.
struct Disk {
    image: PathBuf,
    point: PathBuf,
    mounted: bool,
}

impl Disk {
    /// A new one; or why there can't be one here.
    fn new(folder: &Path) -> Result<Self, String> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return Err("it needs root".into());
        }
        let mut disk = Self { image: folder.join("image"), point: folder.join("disk"), mounted: false };
        fs::create_dir_all(&disk.point).unwrap();
        File::create(&disk.image).unwrap().set_len(32 << 20).unwrap();
        let image = disk.image.display().to_string();
        // Small pieces, and no time lost on tables of a large one.
        tried(
            "mkfs.ext4",
            &["-q", "-F", "-b", "4096", "-O", "^resize_inode", "-E", "lazy_itable_init=1", &image],
        )?;
        tried("perl", &["-e", "1"])?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&mut self) -> Result<(), String> {
        tried(
            "mount",
            &["-o", "loop", &self.image.display().to_string(), &self.point.display().to_string()],
        )?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) {
        // What a program left behind that was killed, such as the reader of its data, may still be at it.
        let mut busy = String::new();
        for _ in 0..100 {
            match tried("umount", &[&self.point.display().to_string()]) {
                Ok(()) => {
                    self.mounted = false;
                    return;
                }
                Err(error) => busy = error,
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{busy}");
    }

    /// Cuts the power: from now on nothing reaches the disk.
    fn cut(&self, how: &str) {
        tried("perl", &["-e", SHUTDOWN, &self.point.display().to_string(), how]).unwrap();
    }

    /// The machine is on again.
    fn recover(&mut self) {
        self.unmount();
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            Command::new("umount").arg(&self.point).status().ok();
        }
        fs::remove_file(&self.image).ok();
        fs::remove_dir(&self.point).ok();
    }
}

fn tried(program: &str, words: &[&str]) -> Result<(), String> {
    match Command::new(program).args(words).output() {
        Err(error) => Err(format!("{program}: {error}")),
        Ok(tried) if !tried.status.success() => {
            Err(format!("{program}: {}", String::from_utf8_lossy(&tried.stderr).trim()))
        }
        Ok(_) => Ok(()),
    }
}

fn start(shop: &Shop, place: &Path, line: &str, said: &Path) -> Child {
    let mut command = command(&shop.desk, place, line);
    let said = File::create(said).unwrap();
    command.stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

/// How long a stage takes here.
fn time(shop: &Shop, known: &Known, place: &Path) -> std::time::Duration {
    let began = Instant::now();
    plain(&shop.desk, place, &known.stage.line);
    began.elapsed()
}

fn copy(shop: &Shop, known: &Known, place: &Path) {
    fs::remove_dir_all(place).ok();
    support::copy(&shop.desk.path(known.before_state()), place);
    // What was there before was there long before.
    tried("sync", &["-f", &place.display().to_string()]).unwrap();
}

/// The number decides the program, what happens before the power is cut, and when: at a fraction of the time that it takes, when
/// it has ended, or when a signal made a training write a checkpoint.
#[test]
#[ignore = "needs root, a loop device and mkfs.ext4; see CONTRIBUTING.md"]
#[allow(clippy::print_stdout, reason = "a test's own report")]
fn the_power_is_cut() {
    let shop = Shop::open();
    let writers: Vec<&Known> = shop.stages.iter().filter(|known| !known.stage.again.is_empty()).collect();
    if let Err(why) = Disk::new(&shop.desk.path("trial")) {
        println!("power::the_power_is_cut: skipped, no disk can be made here: {why}");
        return;
    }
    let went = cases::run_alone("torture", "power::the_power_is_cut", 50, |number| {
        let mut dice = Dice::of(number);
        let known = dice.one_of(&writers);
        let folder = shop.desk.path(&format!("power {number}"));
        let said = shop.desk.path(&format!("said {number}"));
        let mut disk = Disk::new(&folder).unwrap();
        let place = disk.point.join("desk");
        copy(shop, known, &place);
        let took = time(shop, known, &place);
        copy(shop, known, &place);
        let cut = dice.one_of(&[LOG_LOST, LOG_LOST, LOG_FLUSHED]);
        let mut child = start(shop, &place, &known.stage.line, &said);
        let ended = match dice.below(4) {
            0 => child.wait().unwrap().code(),
            1 if known.is_training() => {
                std::thread::sleep(took * dice.below(100) as u32 / 100);
                tried("kill", &["-s", "INT", &child.id().to_string()]).ok();
                child.wait().unwrap().code()
            }
            _ => {
                std::thread::sleep(took * dice.below(100) as u32 / 100);
                child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
            }
        };
        disk.cut(cut);
        child.kill().ok();
        child.wait().unwrap();
        disk.recover();
        let text = fs::read_to_string(&said).unwrap();
        fs::remove_file(&said).unwrap();
        let how = match ended {
            Some(0) => {
                let found = contents(&place);
                assert_eq!(differing(&found, &known.after), [""; 0], "{} had ended well", known.stage.line);
                "ended well"
            }
            Some(130) => {
                check_checkpoint(shop, known, &place, &text);
                "saved on a signal"
            }
            Some(code) => panic!("{}: exit code {code}\n{text}", known.stage.line),
            None => "was working",
        };
        // A signal makes a checkpoint where an undisturbed training has none; it was read.
        if ended != Some(130) {
            known.check_whole(&place, &known.stage.line);
        }
        if !known.stage.run.is_empty() && place.join(known.stage.run).join("run.json").exists() {
            // A record is the last thing that is written.
            let recorded = known.before.keys().all(|name| !name.starts_with(known.stage.run));
            let verified = plain(&shop.desk, &place, &format!("skn-verify {}", known.stage.run));
            assert!(!recorded || verified.code == 0, "{}{}", verified.stdout, verified.stderr);
        }
        known.check_again(&shop.desk, &place);
        drop(disk);
        fs::remove_dir(&folder).unwrap();
        format!("{how}, log {}", if cut == LOG_LOST { "lost" } else { "flushed" })
    });
    let count =
        |what: &str| went.iter().filter(|(how, _)| how.contains(what)).map(|(_, count)| count).sum::<u64>();
    assert!(count("was working") * 4 > went.values().sum() && count("ended well") > 0, "{went:?}");
}

/// A program that said that a checkpoint of a step is written goes on from that step, not from an earlier one.
fn check_checkpoint(shop: &Shop, known: &Known, place: &Path, said: &str) {
    let Some((_, rest)) = said.split_once("a checkpoint of step ") else {
        assert!(said.contains("stopped by SIGINT"), "{said}");
        return;
    };
    let step: u64 = rest.split(' ').next().unwrap().parse().unwrap();
    // On a copy: the case itself goes on with its own command.
    let copied = shop.desk.path("from the checkpoint");
    fs::remove_dir_all(&copied).ok();
    support::copy(place, &copied);
    let line = known.stage.line.replace(" --force", "");
    let ended = plain(&shop.desk, &copied, &format!("{line} --resume --json"));
    assert_eq!(ended.code, 0, "{line}\n{}", ended.stderr);
    let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    // Before the first step there is nothing to go on from.
    let from = found["resumed_from"].as_u64().unwrap_or_default();
    assert_eq!(from, step, "{line}: goes on from another step than it said\n{said}");
    fs::remove_dir_all(&copied).unwrap();
}
