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

#[test]
fn work_that_does_not_upload_the_numbers_is_refused() {
    if compile::program().is_none() {
        return;
    }
    let (asked, graphs) = (Asked::new(), Graphs::<()>::new(4));
    let ids = [3u32, 1, 4];
    // A copy of them is not what changes.
    let run = |ids: &[u32]| {
        let copy = Vec::from(ids);
        graphs.run((), ids, &Device::Cpu, || asked.plain(&copy, &packing(&[3])))
    };
    run(&ids).unwrap();
    let error = run(&ids).unwrap_err().to_string();
    assert!(error.contains("does not upload the numbers that change"), "{error}");
}

#[test]
fn an_error_of_the_work_is_told_and_nothing_is_kept_of_it() {
    if compile::program().is_none() {
        return;
    }
    let (asked, ids) = (Asked::new(), [3u32, 1, 4]);
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
        // The second call notes, captures and replays.
        assert_eq!(failed, [[0, 1, 1, 1, 2][wrong - 1]], "{wrong}");
        for found in found {
            match found {
                Ok(found) => assert_eq!(values(&found), expected, "{wrong}"),
                Err(error) if wrong == 3 => {
                    assert_eq!(error.to_string(), "a graph of it can't be captured: not now");
                }
                Err(error) => assert_eq!(error.to_string(), "not now"),
            }
        }
        // After an error it begins anew: a plain pass, and then replays.
        assert_eq!(replays() - before, [4, 3, 3, 3, 3][wrong - 1], "{wrong}");
    }
}
