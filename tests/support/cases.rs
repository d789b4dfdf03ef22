//! Cases of a promise in RELIABILITY.md, each decided by its number alone.
//!
//! `cargo test` runs every 23rd case of the attacks, `SKN_ATTACKS=all cargo test` all of them, as CI does. `SKN_CASES=500` runs more of
//! them than CI does, `SKN_FROM=50` others: a campaign uses numbers that no one used before.
//! `SKN_STAGES='run,run anew'` attacks these programs alone, where a test chooses among them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::any::Any;
use std::collections::BTreeMap;
use std::iter::StepBy;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// How many failures are shown.
const SHOWN: usize = 5;
/// After so many the rest would tell nothing new.
const ENOUGH: usize = 50;

/// The numbers of the cases; `ci` of them if nothing else is said. [`run`] takes some of these alone where nothing is said.
pub fn range(ci: u64) -> Range<u64> {
    let first = variable("SKN_FROM").unwrap_or(0);
    first..first + variable("SKN_CASES").unwrap_or(ci)
}

/// The numbers of cases that differ in nothing but their number, one after another: the first ones where nothing is said.
pub fn first(ci: u64) -> Range<u64> {
    let Range { start, end } = range(ci);
    start..start + (end - start).div_ceil(step() as u64)
}

/// One in so many of the numbers in [`range`] is run where nothing is said: all of them take minutes, and who works on something else runs
/// all tests many times a day. It has no divisor in common with what tests divide numbers by, so that all kinds of cases come.
const USUALLY: usize = 23;

/// One in so many cases is run.
#[allow(clippy::panic, reason = "a test's own")]
fn step() -> usize {
    let is_given = |name: &str| std::env::var_os(name).is_some();
    match std::env::var("SKN_ATTACKS") {
        Ok(all) if all == "all" => 1,
        Ok(other) => panic!("SKN_ATTACKS: expected all, found `{other}`"),
        Err(_) if is_given("SKN_FROM") || is_given("SKN_CASES") => 1,
        Err(_) => USUALLY,
    }
}

#[allow(clippy::panic, reason = "a test's own")]
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found `{text}`")))
}

/// How many threads share the cases of a test: as many as the test harness has, since the longest tests would else be the last, and
/// alone. But four at most, as other tests run beside it, each case starts programs, and some fill a disk that is in memory.
fn threads() -> usize {
    const MOST: usize = 4;
    let arguments: Vec<String> = std::env::args().collect();
    let given = arguments.iter().enumerate().find_map(|(place, argument)| {
        match argument.strip_prefix("--test-threads") {
            Some("") => arguments.get(place + 1).cloned(),
            Some(number) => number.strip_prefix('=').map(str::to_owned),
            None => None,
        }
    });
    let given = given.or_else(|| std::env::var("RUST_TEST_THREADS").ok());
    let given = given.and_then(|given| given.parse::<NonZeroUsize>().ok());
    given.or_else(|| thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get).min(MOST)
}

/// What is known of the cases so far.
struct Tally {
    left: StepBy<Range<u64>>,
    done: u64,
    went: BTreeMap<String, u64>,
    failed: Vec<(u64, String)>,
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the next case, if there is to be one.
fn next_case(tally: &Mutex<Tally>) -> Option<u64> {
    let mut tally = locked(tally);
    if tally.failed.len() < ENOUGH { tally.left.next() } else { None }
}

fn next_of<T>(left: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    locked(left).next()
}

/// Runs the cases of the test `test` of the target `target`, several at once. A case panics if the promise is broken, else says in a
/// word or two how it went; how often each was said is given back and printed.
///
/// # Panics
/// If a case did. The message has the command that repeats the first.
pub fn run(target: &str, test: &str, ci: u64, case: impl Fn(u64) -> String + Sync) -> BTreeMap<String, u64> {
    divided(target, test, range(ci).step_by(step()), threads(), case)
}

/// As [`run`], one after another, and all of them: for cases that need something of which there is only one.
///
/// # Panics
/// As [`run`].
pub fn run_alone(
    target: &str,
    test: &str,
    ci: u64,
    case: impl Fn(u64) -> String + Sync,
) -> BTreeMap<String, u64> {
    divided(target, test, range(ci).step_by(1), 1, case)
}

/// What is made of each, several at once, in their order.
pub fn each<T: Send, R: Send>(all: Vec<T>, make: impl Fn(T) -> R + Sync) -> Vec<R> {
    let left = Mutex::new(all.into_iter().enumerate());
    let made = Mutex::new(BTreeMap::new());
    at_once(threads(), || {
        while let Some((place, one)) = next_of(&left) {
            let one = make(one);
            locked(&made).insert(place, one);
        }
    });
    made.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Does the work on so many threads, this one among them.
fn at_once(threads: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(&work)));
        work();
    });
}

#[allow(clippy::print_stdout, clippy::panic, reason = "a test's own report")]
fn divided(
    target: &str,
    test: &str,
    numbers: StepBy<Range<u64>>,
    threads: usize,
    case: impl Fn(u64) -> String + Sync,
) -> BTreeMap<String, u64> {
    let (first, second) = (numbers.clone().next().unwrap_or(0), numbers.clone().nth(1));
    let step = second.map_or(1, |second| second - first);
    let tally = Mutex::new(Tally { left: numbers, done: 0, went: BTreeMap::new(), failed: Vec::new() });
    at_once(threads, || {
        while let Some(number) = next_case(&tally) {
            let how = catch_unwind(AssertUnwindSafe(|| case(number)));
            let mut tally = locked(&tally);
            tally.done += 1;
            match how {
                Ok(how) => *tally.went.entry(how).or_default() += 1,
                Err(payload) => tally.failed.push((number, message(&*payload))),
            }
        }
    });
    let Tally { done, went, mut failed, .. } = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_unstable();
    let counts: Vec<String> = went.iter().map(|(how, count)| format!("{count} {how}")).collect();
    let of = if step == 1 { String::new() } else { format!(", one in {step} (SKN_ATTACKS=all runs all)") };
    println!("{test}: {done} cases from {first}{of}: {}; {} failed", counts.join(", "), failed.len());
    if let Some((first, _)) = failed.first() {
        let shown: Vec<String> =
            failed.iter().take(SHOWN).map(|(number, message)| format!("case {number}: {message}")).collect();
        let stages = std::env::var("SKN_STAGES")
            .map_or_else(|_| String::new(), |names| format!("SKN_STAGES='{names}' "));
        panic!(
            "{test}: {} of {done} cases failed\n{}\nagain: {stages}SKN_FROM={first} SKN_CASES=1 cargo test --test {target} -- --exact {test} \
             --nocapture",
            failed.len(),
            shown.join("\n")
        );
    }
    went
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
