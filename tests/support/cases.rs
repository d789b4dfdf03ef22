//! Cases of a promise in RELIABILITY.md, each decided by its number alone.
//!
//! `SKN_CASES=500` runs more of them than CI does, `SKN_FROM=50` others: a campaign uses numbers that no one used before.
//! `SKN_STAGES='run,run anew'` attacks these programs alone, where a test chooses among them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many failures are shown.
const SHOWN: usize = 5;
/// After so many the rest would tell nothing new.
const ENOUGH: usize = 50;

/// The numbers of the cases to run; `ci` of them if nothing else is said.
pub fn range(ci: u64) -> Range<u64> {
    let first = variable("SKN_FROM").unwrap_or(0);
    first..first + variable("SKN_CASES").unwrap_or(ci)
}

#[allow(clippy::panic, reason = "a test's own")]
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found `{text}`")))
}

/// Runs the cases of the test `test` of the target `target`. A case panics if the promise is broken, else says in a word or
/// two how it went; how often each was said is given back and printed.
///
/// # Panics
/// If a case did. The message has the command that repeats the first.
#[allow(clippy::print_stdout, clippy::panic, reason = "a test's own report")]
pub fn run(target: &str, test: &str, ci: u64, case: impl Fn(u64) -> String) -> BTreeMap<String, u64> {
    let numbers = range(ci);
    let mut went = BTreeMap::<String, u64>::new();
    let mut failed = Vec::new();
    let mut done = 0;
    for number in numbers.clone() {
        done += 1;
        match catch_unwind(AssertUnwindSafe(|| case(number))) {
            Ok(how) => *went.entry(how).or_default() += 1,
            Err(payload) => failed.push((number, message(&*payload))),
        }
        if failed.len() == ENOUGH {
            break;
        }
    }
    let counts: Vec<String> = went.iter().map(|(how, count)| format!("{count} {how}")).collect();
    println!("{test}: {done} cases from {}: {}; {} failed", numbers.start, counts.join(", "), failed.len());
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
