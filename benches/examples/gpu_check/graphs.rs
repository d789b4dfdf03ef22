//! Passes that are replayed as CUDA graphs, next to plain ones: the same bits.

use std::cell::Cell;

use candle_core::{Device, Tensor};
use skn_bench::{Backbone, PROMPT_ROWS};
use skn_kernels::{Graphs, Packing, Rotary, replays, rows_of, zeros_on};
use skn_model::{Backend, Gradients, LanguageModel, NoHook, Output, Pass, Precision, Sequences, Tuning};

use crate::table::Table;
use crate::timings::on_device;
use crate::{Result, numbers};

const VOCABULARY: usize = 500;

/// Passes that are kept of a model, and more.
const KEPT: usize = 32;
const SHAPES: usize = 36;

pub(crate) fn check(table: &mut Table, device: &Device, seed: u64) {
    let seed = Cell::new(seed);
    let mut row = |what: String, found: Result<Found>| match found {
        Err(error) => table.fail(what, error),
        Ok(Found { passes, apart, replayed, expected }) => {
            // What is done plainly on other devices is no replay.
            let expected = if Backend::of(device).replays() { expected } else { 0 };
            let found = format!("{apart} of {passes} with other bits, {replayed} replayed");
            table.check(what, found, format!("0, {expected}"), apart == 0 && replayed == expected);
        }
    };
    for precision in [Precision::F32, Precision::Bf16] {
        let models = || Models::new(device, precision);
        let name = precision.name();
        row(
            format!("graphs: several lengths in turn, {name}"),
            models().and_then(|models| models.in_turn(&seed)),
        );
        row(
            format!("graphs: {SHAPES} lengths, more than are kept, {name}"),
            models().and_then(|models| models.more_than_kept(&seed)),
        );
        row(format!("graphs: two threads, {name}"), models().and_then(|models| models.by_threads(&seed)));
    }
    row("graphs: angles of a longer text in between".to_owned(), angles(device, &seed));
}

/// Passes, those that differ from plain ones in a bit, and those that were replayed.
#[derive(Clone, Copy, Default)]
struct Found {
    passes: u64,
    apart: u64,
    replayed: u64,
    expected: u64,
}

impl Found {
    fn and(self, other: Self) -> Self {
        Self {
            passes: self.passes + other.passes,
            apart: self.apart + other.apart,
            replayed: self.replayed + other.replayed,
            expected: self.expected + other.expected,
        }
    }

    fn see(&mut self, found: &Tensor, plain: &Tensor) -> Result<()> {
        let bits = |tensor| Ok::<_, crate::Error>(numbers(tensor)?.into_iter().map(f32::to_bits).collect());
        let [found, plain]: [Vec<u32>; 2] = [bits(found)?, bits(plain)?];
        self.passes += 1;
        self.apart += u64::from(found != plain || found.is_empty());
        Ok(())
    }
}

/// Fresh numbers below a limit.
fn drawn(seed: &Cell<u64>, count: usize, below: usize) -> Vec<u32> {
    let next = || {
        let state =
            seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.set(state);
        ((state >> 33) % below as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}

/// A model twice.
struct Models {
    device: Device,
    plain: LanguageModel,
    graphs: LanguageModel,
}

impl Models {
    fn new(device: &Device, precision: Precision) -> Result<Self> {
        let backbone = on_device(&Backbone::of(VOCABULARY, [48, 2, 96, 4])?, device)?;
        let tuning = Tuning::new_prompt(&backbone.config, PROMPT_ROWS, 0)?;
        let mask = VOCABULARY as u32 - 1;
        let model = || {
            LanguageModel::new(&backbone.config, &backbone.weights, &tuning, mask, Gradients::Nothing)
                .map(|model| model.with_precision(precision))
        };
        Ok(Self { device: device.clone(), plain: model()?, graphs: model()?.with_graphs() })
    }

    /// Texts of these lengths, by both: what they gave.
    fn see(
        &self,
        found: &mut Found,
        lengths: &[usize],
        output: Output,
        seed: &Cell<u64>,
    ) -> Result<[Tensor; 2]> {
        let ids = drawn(seed, lengths.iter().sum(), VOCABULARY);
        let mut starts = vec![0];
        lengths.iter().for_each(|length| starts.push(starts[starts.len() - 1] + length));
        let samples: Vec<u64> = (0..lengths.len() as u64).collect();
        let batch = Sequences { ids: &ids, starts: &starts, samples: &samples, seconds: &[] };
        let pass = Pass { output, dropout: None };
        let before = replays();
        let by_graph = self.graphs.forward(batch, &pass, &mut NoHook)?;
        found.replayed += replays() - before;
        let plain = self.plain.forward(batch, &pass, &mut NoHook)?;
        found.see(&by_graph, &plain)?;
        Ok([by_graph, plain])
    }

    fn in_turn(&self, seed: &Cell<u64>) -> Result<Found> {
        let lengths: [&[usize]; 5] = [&[7], &[12], &[7, 12], &[12, 7], &[1, 40, 3]];
        let mut found = Found { expected: 3 * 6, ..Found::default() };
        let mut given = Vec::new();
        for _ in 0..4 {
            for lengths in lengths {
                given.push(self.see(&mut found, lengths, Output::Answer, seed)?);
            }
            given.push(self.see(&mut found, &[7, 12], Output::Rows([0, 3, 30].into()), seed)?);
        }
        // Later replays write over nothing that was given before.
        for [by_graph, plain] in &given {
            found.see(by_graph, plain)?;
        }
        Ok(found)
    }

    /// All are captured in the second round, and the first ones let go for the last.
    fn more_than_kept(&self, seed: &Cell<u64>) -> Result<Found> {
        let mut found = Found { expected: (SHAPES + KEPT) as u64, ..Found::default() };
        for _ in 0..3 {
            for length in 1..=SHAPES {
                self.see(&mut found, &[length], Output::Answer, seed)?;
            }
        }
        Ok(found)
    }

    /// One after the other, as threads use a card.
    fn by_threads(&self, seed: &Cell<u64>) -> Result<Found> {
        let rounds = |expected: u64, seed: u64| {
            let (mut found, seed) = (Found { expected, ..Found::default() }, Cell::new(seed));
            // Who has not used the card yet finds it by waiting for it.
            self.device.synchronize()?;
            for _ in 0..3 {
                self.see(&mut found, &[9], Output::Answer, &seed)?;
                self.see(&mut found, &[4, 5], Output::Answer, &seed)?;
            }
            self.device.synchronize()?;
            Ok::<_, crate::Error>(found)
        };
        let other = |expected: u64, seed: u64| {
            std::thread::scope(|scope| {
                let other = scope.spawn(move || rounds(expected, seed).map_err(|error| error.to_string()));
                match other.join() {
                    Ok(found) => found.map_err(crate::Error::from),
                    Err(_) => Err("a thread has panicked".into()),
                }
            })
        };
        let mut found = rounds(4, seed.get())?;
        // Each captures for itself.
        found = found.and(other(4, seed.get() + 1)?);
        found = found.and(rounds(6, seed.get() + 2)?);
        Ok(found.and(other(4, seed.get() + 3)?))
    }
}

/// A graph keeps the table of angles that it reads when a longer text needs a longer one.
fn angles(device: &Device, seed: &Cell<u64>) -> Result<Found> {
    let table = (zeros_on((50, 16), device)? + 1.0)?;
    let rotary = Rotary::new(&[1.0, 0.1], 8)?;
    let graphs = Graphs::new(2);
    let mut found = Found { expected: 3, ..Found::default() };
    for length in [5, 5, 100, 5, 5] {
        let ids = drawn(seed, length, 50);
        let plain = || {
            let rows = Packing::from_starts(&[0, length])?.all_rows();
            rotary.apply(&rows_of(&table, &ids)?, &rows)
        };
        let before = replays();
        let by_graph = graphs.run(length, &ids, device, plain)?;
        found.replayed += replays() - before;
        found.see(&by_graph, &plain()?)?;
    }
    Ok(found)
}
