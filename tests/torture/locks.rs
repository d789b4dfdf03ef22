//! One run folder, one writer: of several that start, one works at a time, the others end with exit code 6 and name it, and a
//! holder that is killed holds nothing.

use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use skn_artifact::RunLock;

use crate::cases;
use crate::contents::{contents, differing};
use crate::damage::Dice;
use crate::shop::{Known, Shop};
use crate::tracing::{command, plain};

/// A program that was started, with what it says on stderr.
struct Started {
    child: Child,
    said: std::path::PathBuf,
}

impl Started {
    fn new(shop: &Shop, place: &Path, line: &str, number: usize) -> Self {
        let said = place.join(format!(".said {number}"));
        let mut command = command(&shop.desk, place, line);
        let child =
            command.stdout(File::create("/dev/null").unwrap()).stderr(File::create(&said).unwrap()).spawn();
        Self { child: child.unwrap(), said }
    }

    fn end(mut self) -> (u32, i32, String) {
        let id = self.child.id();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (id, code, fs::read_to_string(&self.said).unwrap())
    }
}

/// Checks that one who came second names one who was there.
fn check_loser(said: &str, others: &[u32]) {
    let named = others.iter().any(|id| said.contains(&format!("(process {id})")));
    assert!(said.contains("another run works here: ") && named, "expected one of {others:?}\n{said}");
}

fn check_result(known: &Known, shop: &Shop, place: &Path) {
    assert_eq!(differing(&contents(place), &known.after), [""; 0], "{}", known.stage.name);
    if !known.stage.run.is_empty() {
        let verified = plain(&shop.desk, place, &format!("skn-verify {}", known.stage.run));
        assert_eq!(verified.code, 0, "{}{}", verified.stdout, verified.stderr);
    }
}

fn race(shop: &Shop, known: &Known, place: &Path, dice: &mut Dice) -> String {
    let count = 2 + dice.below(3);
    let started: Vec<Started> = (0..count)
        .map(|number| {
            std::thread::sleep(Duration::from_micros(dice.one_of(&[0, 0, 300, 3000])));
            Started::new(shop, place, &known.stage.line, number)
        })
        .collect();
    let all: Vec<u32> = started.iter().map(|started| started.child.id()).collect();
    let (mut done, mut refused) = (0, 0);
    for (id, code, said) in started.into_iter().map(Started::end) {
        let others: Vec<u32> = all.iter().copied().filter(|other| *other != id).collect();
        match code {
            0 => done += 1,
            6 => {
                refused += 1;
                check_loser(&said, &others);
            }
            // It came when the first had ended.
            3 if said.contains("exists; --force replaces it") => {}
            code => panic!("{}: exit code {code}\n{said}", known.stage.line),
        }
    }
    assert!(done > 0, "nobody did it");
    check_result(known, shop, place);
    if refused > 0 { "raced, one was refused" } else { "one after another" }.into()
}

fn killed_holder(shop: &Shop, known: &Known, place: &Path, dice: &mut Dice) -> String {
    let mut holder = Started::new(shop, place, &known.stage.line, 0);
    let lock = place.join(known.stage.run).join(".lock");
    let name = format!("(process {})\n", holder.child.id());
    let began = Instant::now();
    // Until it holds the lock.
    while fs::read_to_string(&lock).is_ok_and(|text| !text.ends_with(&name)) || !lock.exists() {
        if holder.child.try_wait().unwrap().is_some() || began.elapsed() > Duration::from_secs(60) {
            return "the holder was too fast".into();
        }
    }
    // It stands still, so that it holds the lock for as long as we like.
    let id = holder.child.id().to_string();
    let signal = |name: &str| std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap();
    signal("STOP");
    // It takes a moment; then it may have ended, or have given up the lock already.
    let stands = |state: &str| state.contains(") T ") || state.contains(") Z ");
    while !fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|state| stands(&state)) {
        std::thread::sleep(Duration::from_micros(100));
    }
    if File::open(&lock).unwrap().try_lock().is_ok() {
        signal("KILL");
        holder.child.wait().unwrap();
        return "the holder was too fast".into();
    }
    // It may have written all and only not ended: who merges then finds nothing left to do, and writes nothing.
    let is_done = differing(&contents(place), &known.after).is_empty();
    let count = 1 + dice.below(2);
    let losers: Vec<Started> =
        (1..=count).map(|number| Started::new(shop, place, &known.stage.line, number)).collect();
    let mut told = 0;
    for (_, code, said) in losers.into_iter().map(Started::end) {
        match code {
            6 => {
                check_loser(&said, &[holder.child.id()]);
                told += 1;
            }
            0 if is_done && known.stage.line.starts_with("skn-merge") => {}
            // It had written something already.
            3 if said.contains("--force") || said.contains("--resume") => {}
            code => panic!("{}: exit code {code} while another holds the lock\n{said}", known.stage.line),
        }
    }
    signal("KILL");
    holder.child.wait().unwrap();
    known.check_whole(place, &known.stage.line);
    known.check_again(&shop.desk, place);
    if told > 0 { "refused, then the holder was killed" } else { "the holder was killed" }.into()
}

/// The number decides the program, how many start, how far apart, and whether the one that came first is killed.
#[test]
fn one_writer() {
    let shop = Shop::open();
    let writers: Vec<&Known> = shop
        .stages
        .iter()
        .filter(|known| !known.stage.again.is_empty() && !known.stage.run.is_empty())
        .collect();
    let went = cases::run("torture", "locks::one_writer", 100, |number| {
        let mut dice = Dice::of(number);
        let known = dice.one_of(&writers);
        let place = shop.place(known, &format!("locks {number}"));
        match dice.below(3) {
            0 => killed_holder(shop, known, &place, &mut dice),
            _ => race(shop, known, &place, &mut dice),
        }
    });
    let refused: u64 = went.iter().filter(|(how, _)| how.contains("refused")).map(|(_, count)| count).sum();
    let total: u64 = went.values().sum();
    assert!(total < 50 || refused * 4 > total, "{went:?}");
}

/// Two that write sub-tasks to one place would leave some files of each.
#[test]
fn binarize_has_a_place_to_itself() {
    let shop = Shop::open();
    let known = shop.stages.iter().find(|known| known.stage.name == "binarize").unwrap();
    let place = shop.place(known, "binarize alone");
    let lock = RunLock::acquire(&place.join("two"), "somebody").unwrap();
    let ended = plain(&shop.desk, &place, &known.stage.line);
    assert_eq!(ended.code, 6, "{}", ended.stderr);
    check_loser(&ended.stderr, &[std::process::id()]);
    // What one that was killed was writing goes with the next.
    let left = place.join("two/tiny3-pn/train/.skn-abc.tmp");
    fs::create_dir_all(left.parent().unwrap()).unwrap();
    fs::write(&left, "").unwrap();
    drop(lock);
    let ended = plain(&shop.desk, &place, &format!("{} --force", known.stage.line));
    assert_eq!((ended.code, left.exists()), (0, false), "{}", ended.stderr);
}
