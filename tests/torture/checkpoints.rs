//! A damaged checkpoint is never used silently: the one before it is, and that is told.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use skn_artifact::ErrorKind;
use skn_session::options::{Compute, Subject, TaskChoice, Train, Tuned};
use skn_session::{Progress, Session, SessionError};

use crate::cases;
use crate::damage::{Dice, mutant};
use crate::places::{self, Place, contents, copy, differing, put, run_in};
use crate::support::Desk;

const CURRENT: &str = "run/last/checkpoint.safetensors";
const PREVIOUS: &str = "run/last/checkpoint.previous.safetensors";
/// What [`training`] asks for, as a program is asked.
pub(crate) const RESUME: &str = "skn-train --model demo --task-file ../mine.toml --data ../rows --prompt_size 4 --bz 8 --lr 0.01 --epoch 3 \
                      --max-steps 14 --eval_every_step 4 --checkpoint-every 3 --save_to run --threads 1 --resume";

pub(crate) fn training(desk: &Desk, out: &Path, seed: u64) -> Train {
    let mut subject = Subject::default();
    subject.model = Some(Subject::DEMO.into());
    subject.task = Some(TaskChoice::File(desk.path("mine.toml")));
    subject.data = Some(desk.path("rows"));
    subject.seed = seed;
    let mut train = Train::new(subject, out);
    let mut tuned = Tuned::default();
    tuned.prompt_size = NonZeroUsize::new(4);
    train.tuned = tuned;
    train.training.batch = NonZeroUsize::new(8);
    train.training.learning_rate = Some(0.01);
    train.training.epochs = Some(3);
    train.training.max_steps = Some(14);
    train.training.eval_every = Some(4);
    train.training.checkpoint_every = 3;
    train
}

/// Stops when it was asked so often.
pub(crate) struct StopAfter(pub(crate) AtomicUsize);

impl Progress for StopAfter {
    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// A training as it is when it was stopped at each of its moments, the last finished; and one of another seed.
pub(crate) struct Stopped {
    pub(crate) desk: Desk,
    pub(crate) moments: usize,
    pub(crate) expected: BTreeMap<String, Vec<u8>>,
}

pub(crate) static STOPPED: LazyLock<Stopped> = LazyLock::new(|| {
    let desk = Desk::of_process();
    places::data(&desk);
    let mut moments = 0;
    for (name, seed) in [("stopped", 0), ("other", 1)] {
        for moment in 0.. {
            let mut compute = Compute::default();
            compute.threads = Some(NonZeroUsize::MIN);
            let stop = Arc::new(StopAfter(AtomicUsize::new(moment)));
            let session = Session::new(compute).unwrap().with_progress(stop);
            let out = desk.path(&format!("{name}-{moment}/run"));
            match session.train(&training(&desk, &out, seed)) {
                Err(SessionError::Stopped { .. }) => {}
                // While data were read and made tokens there is nothing yet to go on with.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
                Ok(_) => {
                    moments = moment + 1;
                    break;
                }
            }
        }
    }
    let expected = run_contents(&desk.path(&format!("stopped-{}", moments - 1)));
    Stopped { desk, moments, expected }
});

/// The run's files, without the second-last checkpoint: which one that is depends on where the run was stopped.
fn run_contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = contents(&folder.join("run"));
    found.retain(|name, _| !name.contains("previous"));
    found
}

/// Whether what was done must be told, as no part of it could have been harmless.
struct Change {
    how: &'static str,
    names: Vec<&'static str>,
    is_told: bool,
}

fn change(dice: &mut Dice, number: u64, place: &Path, moment: usize) -> Option<Change> {
    let stopped = &*STOPPED;
    let at = |name: &str| place.join(name);
    let is_whole = |name: &str| at(name).is_file();
    let other = |kind: &str, moment: usize, name: &str| {
        fs::read(stopped.desk.path(&format!("{kind}-{moment}")).join(name)).ok()
    };
    let damage = |dice: &mut Dice, name: &str| -> Option<&'static str> {
        let whole = fs::read(at(name)).ok()?;
        let (how, bytes) = match dice.below(4) {
            0 => {
                let (mut bytes, at) = (whole.clone(), dice.below(whole.len()));
                // There may be no metrics yet.
                *bytes.get_mut(at)? ^= 1 << dice.below(8);
                ("flipped", bytes)
            }
            1 => ("damaged", mutant(&whole, number)),
            2 => ("cut", whole[..dice.below(whole.len())].to_vec()),
            _ => {
                fs::remove_file(at(name)).unwrap();
                return Some("removed");
            }
        };
        put(&at(name), &bytes);
        (bytes != whole).then_some(how)
    };
    let moved = |name: &'static str, bytes: Vec<u8>| {
        let is_other = fs::read(at(name)).ok().as_ref() != Some(&bytes);
        put(&at(name), &bytes);
        is_other
    };
    let made = |how, names: &[&'static str], is_told| Some(Change { how, names: names.to_vec(), is_told });
    match dice.below(10) {
        0..=2 => {
            let how = damage(dice, CURRENT)?;
            // A bit of a name's padding may mean nothing.
            made(how, &[CURRENT], ["cut", "removed"].contains(&how) && is_whole(PREVIOUS))
        }
        3 => made(damage(dice, PREVIOUS)?, &[PREVIOUS], false),
        4 => {
            damage(dice, CURRENT)?;
            made(damage(dice, PREVIOUS)?, &[CURRENT, PREVIOUS], false)
        }
        5 => {
            let [later, earlier] = [CURRENT, PREVIOUS].map(|name| fs::read(at(name)).ok());
            moved(CURRENT, earlier.clone()?);
            // Exchanged, or the one copied over the other.
            if dice.below(2) == 0 {
                moved(PREVIOUS, later?);
            }
            made("exchanged", &[CURRENT], true)
        }
        6 => {
            let bytes = other("other", moment, CURRENT)?;
            moved(CURRENT, bytes).then_some(())?;
            made("of another run", &[CURRENT], false)
        }
        7 => {
            let bytes = other("stopped", dice.below(stopped.moments), CURRENT)?;
            moved(CURRENT, bytes).then_some(())?;
            made("of another step", &[CURRENT], false)
        }
        // Parameters of an earlier or later moment, with this one's checkpoint: a part of the best, or all.
        8 => {
            let names: &[&'static str] = match dice.below(3) {
                0 => &["run/best/skn.json"],
                1 => &["run/best/adapter_model.safetensors"],
                _ => &["run/best/skn.json", "run/best/adapter_model.safetensors"],
            };
            let kind = dice.one_of(&["stopped", "stopped", "other"]);
            let from = dice.below(stopped.moments);
            let mut is_other = false;
            for name in names {
                is_other |= moved(name, other(kind, from, name)?);
            }
            is_other.then_some(())?;
            made("best of another moment", names, false)
        }
        _ => {
            let name = dice.one_of(&[
                "run/metrics.jsonl",
                "run/best/adapter_model.safetensors",
                "run/best/skn.json",
            ]);
            let how = damage(dice, name)?;
            made(how, &[name], false)
        }
    }
}

#[test]
fn damaged_and_exchanged() {
    let stopped = &*STOPPED;
    assert!(stopped.moments > 15, "{} moments", stopped.moments);
    let went = cases::run("torture", "checkpoints::damaged_and_exchanged", 200, |number| {
        let mut dice = Dice::of(number);
        let place = Place::new(&stopped.desk, &format!("case-{number}"));
        let moment = dice.below(stopped.moments);
        copy(&stopped.desk.path(&format!("stopped-{moment}")), &place.0);
        let Some(Change { how, names, is_told }) = change(&mut dice, number, &place.0, moment) else {
            return "unchanged".into();
        };
        let said = run_in(&stopped.desk, &place.0, RESUME);
        let what = format!("moment {moment}: {names:?} {how}: exit {}\n{}", said.code, said.stderr);
        let is_named = names.iter().any(|name| said.stderr.contains(name.trim_start_matches("run/")));
        match said.code {
            0 => {
                let found = run_contents(&place.0);
                assert!(
                    found == stopped.expected,
                    "{:?} differ\n{what}",
                    differing(&found, &stopped.expected)
                );
                assert_eq!(run_in(&stopped.desk, &place.0, "skn-verify run").code, 0, "{what}");
                let is_warned = said.stderr.contains("WARN") && is_named;
                assert!(is_warned || !is_told, "not a word of it\n{what}");
                if is_warned { "went on, told".into() } else { "made again".into() }
            }
            3 => {
                assert!(is_named, "the file is not named\n{what}");
                "refused".into()
            }
            _ => panic!("{what}"),
        }
    });
    let of = |how: &str| went.get(how).copied().unwrap_or(0);
    let total: u64 = went.values().sum();
    if total >= 100 {
        assert!(of("went on, told") * 5 > total && of("refused") * 10 > total, "{went:?}");
    }
}
