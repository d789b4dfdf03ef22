//! No torn or half-valid file, ever: a program that is killed at any of its calls to the system leaves each file as it was or as
//! it should be, what comes next says what to do or works, and the same command again gives the right bytes.

use crate::cases;
use crate::damage::Dice;
use crate::shop::{CHANGING, Known, Place, Shop};
use crate::tracing::{Call, Ended, Injection, Threads, can_trace, plain, traced};

/// The calls at which a stage is killed.
fn points(known: &Known) -> impl Iterator<Item = &Call> {
    let changing: Vec<&str> = CHANGING.split(',').collect();
    known.calls.iter().filter(move |call| changing.contains(&call.name.as_str()))
}

/// Kills a stage at a call, in a place that is as the stage finds it. A call is tried again that a run did not come to: on a busy machine
/// another thread made some of those before it.
fn killed(shop: &Shop, known: &Known, call: &Call, name: &str) -> (Place, Ended) {
    let mut tries = 0;
    loop {
        let place = shop.place(known, &format!("{name} {tries}"));
        let (ended, log) =
            traced(&shop.desk, &place, &known.stage.line, &call.name, Some(&kill(call)), Threads::Main);
        tries += 1;
        if log.contains("(INJECTED)") || ended.signal.is_some() || ended.code != 0 || tries == 3 {
            return (place, ended);
        }
    }
}

fn kill(call: &Call) -> Injection {
    Injection { call: call.name.clone(), number: call.number, onward: false, what: "signal=KILL".into() }
}

/// A case's number below the number of calls is that call; all others are killed twice, at calls that the dice choose: the
/// command that goes on is killed too.
#[test]
fn killed_at_a_call() {
    if !can_trace("torn::killed_at_a_call") {
        return;
    }
    let shop = Shop::open();
    let all: Vec<(&Known, &Call)> =
        shop.stages.iter().flat_map(|known| points(known).map(move |call| (known, call))).collect();
    let went = cases::run("torture", "torn::killed_at_a_call", 500, |number| {
        let mut dice = Dice::of(number);
        // Spread over all programs also where there are fewer cases than calls.
        let (known, call) = all[number.wrapping_mul(7919) as usize % all.len()];
        let (place, ended) = killed(shop, known, call, &format!("torn {number}"));
        let what = format!("{} {call:?}", known.stage.name);
        assert_eq!(ended.signal, Some(9), "{what}: exit code {}\n{}", ended.code, ended.stderr);
        let mut new = known.check_whole(&place, &what);
        if number as usize >= all.len() {
            let flag = known.stage.again;
            let line = if known.stage.line.contains(flag) {
                known.stage.line.clone()
            } else {
                format!("{} {flag}", known.stage.line)
            };
            let points: Vec<&Call> = points(known).collect();
            let call = points[dice.below(points.len())];
            traced(&shop.desk, &place, &line, &call.name, Some(&kill(call)), Threads::Main);
            new = known.check_whole(&place, &what);
        }
        // It may write into the run: only where the run is not looked at again.
        let next = match dice.below(3) {
            0 => known.check_next(&shop.desk, &place),
            _ => None,
        };
        if next.is_none() {
            known.check_again(&shop.desk, &place);
        }
        let how = if new == 0 { "all as before" } else { "some files new" };
        next.map_or(how.into(), |next| format!("{how}, {next}"))
    });
    let count =
        |what: &str| went.iter().filter(|(how, _)| how.contains(what)).map(|(_, count)| count).sum::<u64>();
    let cases: u64 = went.values().sum();
    if cases >= 300 {
        assert!(count("some files new") * 5 > cases, "{went:?}");
        // Of all programs some have a next one.
        if shop.stages.iter().any(|known| known.stage.next.is_some()) {
            assert!(count("next is told") > 0 && count("next works") > 0, "{went:?}");
        }
    }
}

/// A stage that wrote its files and was killed before it noted them, without strace: the same command lists them.
#[test]
fn killed_before_the_record() {
    let shop = Shop::open();
    for known in
        shop.stages.iter().filter(|known| !known.stage.run.is_empty() && !known.stage.again.is_empty())
    {
        let place = shop.place(known, "unrecorded");
        let record = place.join(known.stage.run).join("run.json");
        let before = std::fs::read(&record).ok();
        assert_eq!(plain(&shop.desk, &place, &known.stage.line).code, 0);
        match before {
            Some(before) => std::fs::write(&record, before).unwrap(),
            None => std::fs::remove_file(&record).unwrap(),
        }
        known.check_again(&shop.desk, &place);
    }
}

#[test]
fn a_report_tells_what_no_stage_has_noted() {
    let shop = Shop::open();
    let known = shop.stages.iter().find(|known| known.stage.name == "mask").unwrap();
    let place = shop.place(known, "half an experiment");
    let record = std::fs::read(place.join("run/run.json")).unwrap();
    assert_eq!(plain(&shop.desk, &place, &known.stage.line).code, 0);
    std::fs::write(place.join("run/run.json"), record).unwrap();
    for name in ["cmp_perf.json", "matched_perf.json"] {
        std::fs::remove_file(place.join("run").join(name)).unwrap();
    }
    let ended = plain(&shop.desk, &place, "skn-report run");
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("run.json does not list mask_perf.json:"), "{}", ended.stderr);
}
