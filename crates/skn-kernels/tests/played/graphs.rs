//! Work that is captured and replayed, of which a replay is done again here: which work is, what is uploaded, and what is refused.

use std::cell::Cell;

use candle_core::{Device, Error, Result, Tensor};
use skn_kernels::{Graphs, Packing, replays, rows_at_positions, rows_of, uploads};

use crate::common::{numbers, packing, values};
use crate::compile;

/// What is asked of a model: words' rows, and those of positions.
struct Asked {
    words: Tensor,
    positions: Tensor,
}

impl Asked {
    fn new() -> Self {
        Self { words: numbers(&[50, 8], 1), positions: numbers(&[40, 8], 2) }
    }

    fn plain(&self, ids: &[u32], packing: &Packing) -> Result<Tensor> {
        rows_of(&self.words, ids)? + rows_at_positions(&self.positions, &packing.all_rows())?
    }

    /// The same by graphs, which must have its bits; and how much was replayed and uploaded.
    fn by(&self, graphs: &Graphs<Vec<usize>>, lengths: &[usize], round: u32) -> (u64, u64) {
        let starts = packing(lengths);
        let ids: Vec<u32> = (0..starts.rows() as u32).map(|row| (7 * row + 13 * round) % 50).collect();
        let expected = self.plain(&ids, &starts).unwrap();
        let before = (replays(), uploads());
        // Rows are made anew, as a pass makes them.
        let found = graphs.run(lengths.to_vec(), &ids, &Device::Cpu, || self.plain(&ids, &packing(lengths)));
        assert_eq!(values(&found.unwrap()), values(&expected), "{lengths:?}, round {round}");
        (replays() - before.0, uploads() - before.1)
    }
}

#[test]
fn work_is_done_noted_and_replayed() {
    if compile::program().is_none() {
        return;
    }
    let (asked, graphs) = (Asked::new(), Graphs::new(4));
    // Tokens, and where rows are.
    assert_eq!(asked.by(&graphs, &[3, 5], 0), (0, 2));
    assert_eq!(asked.by(&graphs, &[5, 3], 0), (0, 2), "another work");
    // What is noted, and the tokens that are replayed for.
    assert_eq!(asked.by(&graphs, &[3, 5], 1), (1, 3));
    for round in 2..5 {
        assert_eq!(asked.by(&graphs, &[3, 5], round), (1, 1));
    }
    assert_eq!(asked.by(&graphs, &[5, 3], 1), (1, 3));
    assert_eq!(asked.by(&graphs, &[3, 5], 5), (1, 1));
    // Of nothing there is nothing to replay.
    for round in 0..3 {
        assert_eq!(asked.by(&graphs, &[], round).0, 0);
    }
}

/// Later replays write where the graph has its result, and not over what was given before.
#[test]
fn a_result_stays_as_it_was_given() {
    if compile::program().is_none() {
        return;
    }
    let (asked, graphs, rows) = (Asked::new(), Graphs::new(4), packing(&[3, 5]));
    let ids = |round: u32| (0..8).map(|row| (7 * row + 13 * round) % 50).collect::<Vec<_>>();
    let given: Vec<Tensor> = (0..5)
        .map(|round| {
            let ids = ids(round);
            graphs.run((), &ids, &Device::Cpu, || asked.plain(&ids, &packing(&[3, 5]))).unwrap()
        })
        .collect();
    for (round, found) in (0..).zip(&given) {
        let expected = asked.plain(&ids(round), &rows).unwrap();
        assert_eq!(values(found), values(&expected), "round {round}");
    }
}

#[test]
fn those_that_were_replayed_last_are_kept() {
    if compile::program().is_none() {
        return;
    }
    let (asked, graphs) = (Asked::new(), Graphs::new(2));
    let replayed = |length: usize, round: u32| asked.by(&graphs, &[length], round).0;
    for length in [4, 5] {
        assert_eq!([0, 1].map(|round| replayed(length, round)), [0, 1]);
    }
    // 4 was used later than 5, which goes.
    assert_eq!((replayed(4, 2), replayed(6, 0), replayed(6, 1)), (1, 0, 1));
    assert_eq!((replayed(4, 3), replayed(6, 2)), (1, 1));
    assert_eq!([0, 1, 2].map(|round| replayed(5, round)), [0, 1, 1], "as if it had never been there");
    assert_eq!(replayed(4, 4), 0);
    // Far more works than are remembered.
    for round in 0..3 {
        assert_eq!((10..39).map(|length| replayed(length, round)).sum::<u64>(), 0, "round {round}");
    }
}

#[test]
fn a_thread_replays_what_it_captured() {
    if compile::program().is_none() {
        return;
    }
    let graphs = Graphs::new(4);
    let rounds = || {
        let asked = Asked::new();
        [0, 1, 2].map(|round| asked.by(&graphs, &[9], round).0)
    };
    assert_eq!(rounds(), [0, 1, 1]);
    // It is another thread's stream.
    assert_eq!(std::thread::scope(|scope| scope.spawn(rounds).join().unwrap()), [0, 1, 1]);
    assert_eq!(rounds(), [1, 1, 1]);
}

/// A card would replay with what was uploaded before, and nobody would know.
#[test]
fn work_that_changes_by_more_than_its_numbers_is_refused() {
    if compile::program().is_none() {
        return;
    }
    let (asked, graphs) = (Asked::new(), Graphs::<()>::new(4));
    let run = |lengths: &[usize]| {
        let ids: Vec<u32> = (0..lengths.iter().sum::<usize>() as u32).collect();
        graphs.run((), &ids, &Device::Cpu, || asked.plain(&ids, &packing(lengths)))
    };
    run(&[3, 5]).unwrap();
    run(&[3, 5]).unwrap();
    let error = run(&[5, 3]).unwrap_err().to_string();
    assert!(error.contains("that were not uploaded when the same was done before"), "{error}");
    // It is not replayed again.
    let before = replays();
    run(&[5, 3]).unwrap();
    assert_eq!(replays(), before);
}

/// Work of which so much is done: plainly, to be noted, captured or replayed.
struct Counted {
    asked: Asked,
    done: Cell<u32>,
}

const IDS: [u32; 3] = [3, 1, 4];

impl Counted {
    fn new() -> Self {
        Self { asked: Asked::new(), done: Cell::new(0) }
    }

    /// The work of a key, to which `more` is done: how much of it was, and how much replayed. Its result must be that of the plain one.
    fn by(&self, graphs: &Graphs<u32>, key: u32, more: impl Fn(u32) -> Result<()>) -> Result<(u32, u64)> {
        let plain = |ids: &[u32]| self.asked.plain(ids, &packing(&[3]));
        let ids = IDS.map(|id| (id + self.done.get()) % 50);
        let before = (self.done.get(), replays());
        let found = graphs.run(key, &ids, &Device::Cpu, || {
            self.done.set(self.done.get() + 1);
            more(self.done.get() - before.0)?;
            plain(&ids)
        })?;
        assert_eq!(values(&found), values(&plain(&ids)?), "{key}");
        Ok((self.done.get() - before.0, replays() - before.1))
    }

    /// Work that uploads something else each time.
    fn changing(&self) -> Result<()> {
        rows_of(&self.asked.words, &[self.done.get() % 50]).map(drop)
    }
}

const NOT_BEFORE: &str = "that were not uploaded when the same was done before";

/// Such work is done once to be noted, once to be captured, and then plainly. It is not tried again, and other work is.
#[test]
fn what_can_not_be_captured_is_done_plainly() {
    if compile::program().is_none() {
        return;
    }
    let (work, graphs) = (Counted::new(), Graphs::new(4));
    let changing = || work.by(&graphs, 0, |_| work.changing()).unwrap();
    let right = |key| work.by(&graphs, key, |_| Ok(())).unwrap();
    assert_eq!([(); 2].map(|()| right(1)), [(1, 0), (3, 1)]);
    assert_eq!(graphs.refusal(), None);
    assert_eq!([(); 4].map(|()| changing()), [(1, 0), (3, 0), (1, 0), (1, 0)]);
    let first = graphs.refusal().unwrap();
    assert!(first.contains(NOT_BEFORE), "{first}");
    assert_eq!([2, 2, 2, 1].map(right), [(1, 0), (3, 1), (1, 1), (1, 1)]);
    // A copy of the numbers is not what changes, so that it can't be replayed for others.
    let ids = IDS;
    let copied = || {
        let copy = Vec::from(ids);
        let found = graphs.run(3, &ids, &Device::Cpu, || work.asked.plain(&copy, &packing(&[3]))).unwrap();
        assert_eq!(values(&found), values(&work.asked.plain(&ids, &packing(&[3])).unwrap()));
    };
    let before = replays();
    (0..3).for_each(|_| copied());
    assert_eq!(replays(), before);
    assert_eq!(graphs.refusal(), Some(first), "the first reason stays");
    let other = Graphs::<u32>::new(4);
    for _ in 0..3 {
        let copy = Vec::from(ids);
        other.run(3, &ids, &Device::Cpu, || work.asked.plain(&copy, &packing(&[3]))).unwrap();
    }
    assert_eq!(other.refusal().as_deref(), Some("it does not upload the numbers that change"));
}

/// What could not be captured is remembered, and that is bounded.
#[test]
fn nothing_more_is_captured_when_much_could_not_be() {
    if compile::program().is_none() {
        return;
    }
    let (work, graphs) = (Counted::new(), Graphs::new(1));
    let right = |key| work.by(&graphs, key, |_| Ok(())).unwrap();
    let changing = |key| work.by(&graphs, key, |_| work.changing()).unwrap();
    for key in 0..7 {
        assert_eq!([(); 3].map(|()| changing(key)), [(1, 0), (3, 0), (1, 0)], "{key}");
    }
    assert_eq!([(); 2].map(|()| right(100)), [(1, 0), (3, 1)]);
    assert_eq!([(); 3].map(|()| changing(7)), [(1, 0), (3, 0), (1, 0)]);
    for key in 8..12 {
        assert_eq!([(); 3].map(|()| right(key)), [(1, 0); 3], "{key}");
    }
    assert_eq!(right(100), (1, 1), "what was captured is replayed");
    assert_eq!(changing(0), (1, 0));
}

/// The plain work says what is wrong with it.
#[test]
fn work_that_fails_plainly_too_is_an_error() {
    if compile::program().is_none() {
        return;
    }
    let (work, graphs) = (Counted::new(), Graphs::new(4));
    let not_now =
        |least: u32| move |time| if time < least { Ok(()) } else { Err(Error::Msg(format!("not {time}"))) };
    work.by(&graphs, 0, |_| Ok(())).unwrap();
    // Noted, but neither captured nor done plainly.
    let error = work.by(&graphs, 0, not_now(2)).unwrap_err();
    assert_eq!((error.to_string(), graphs.refusal()), ("not 3".into(), Some("not 2".into())));
    assert_eq!([(); 2].map(|()| work.by(&graphs, 0, |_| Ok(())).unwrap()), [(1, 0); 2]);
    // What is wrong in a replay stays an error.
    let graphs = Graphs::new(4);
    work.by(&graphs, 0, |_| Ok(())).unwrap();
    assert_eq!(work.by(&graphs, 0, not_now(3)).unwrap_err().to_string(), "not 3");
    assert_eq!(graphs.refusal(), None);
}

#[test]
fn an_error_of_the_work_is_told_and_nothing_is_kept_of_it() {
    if compile::program().is_none() {
        return;
    }
    let (asked, ids) = (Asked::new(), IDS);
    let expected = values(&asked.plain(&ids, &packing(&[3])).unwrap());
    // The work is done plainly, to be noted, to be captured, and for two replays.
    for wrong in 1..=5 {
        let (graphs, done, before) = (Graphs::<()>::new(4), Cell::new(0), replays());
        let run = || {
            graphs.run((), &ids, &Device::Cpu, || {
                done.set(done.get() + 1);
                match done.get() == wrong {
                    true => Err(Error::Msg("not now".into())),
                    false => asked.plain(&ids, &packing(&[3])),
                }
            })
        };
        let found: Vec<Result<Tensor>> = (0..6).map(|_| run()).collect();
        let failed: Vec<usize> = (0..6).filter(|&place| found[place].is_err()).collect();
        // The second call notes, captures and replays. Where it can't capture it does the work plainly.
        let expected_to_fail: [&[usize]; 5] = [&[0], &[1], &[], &[1], &[2]];
        assert_eq!(failed, expected_to_fail[wrong - 1], "{wrong}");
        for found in found {
            match found {
                Ok(found) => assert_eq!(values(&found), expected, "{wrong}"),
                Err(error) => assert_eq!(error.to_string(), "not now"),
            }
        }
        // After an error it begins anew: a plain pass, and then replays. What can't be captured is plain from then on.
        assert_eq!(replays() - before, [4, 3, 0, 3, 3][wrong - 1], "{wrong}");
        assert_eq!(graphs.refusal(), (wrong == 3).then(|| "not now".into()), "{wrong}");
    }
}
