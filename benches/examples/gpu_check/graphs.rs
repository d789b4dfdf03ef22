//! Passes that are replayed as CUDA graphs, next to plain ones: the same bits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use skn_bench::{Backbone, PROMPT_ROWS, VERBALIZER};
use skn_kernels::{Graphs, Packing, Rotary, launches, replays, rows_of, uploads, zeros_on};
use skn_model::{
    Backend, Config, Gradients, LanguageModel, NoHook, Output, Pass, Precision, Scored, Sequences, Tuning,
    Weights, shapes,
};

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
        row(
            format!("graphs: answers, of which a replay launches nothing beside, {name}"),
            models().and_then(|models| models.answers(&seed)),
        );
    }
    row("graphs: angles of a longer text in between".to_owned(), angles(device, &seed));
    for beside in Beside::ALL {
        row(
            format!("graphs: work that {}, and is not captured", beside.name()),
            refused(device, beside, &seed),
        );
    }
    row("graphs: heads too wide to be captured".to_owned(), wide_heads(device, &seed));
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

/// Does something with texts of these lengths.
fn with_texts<T>(
    lengths: &[usize],
    seed: &Cell<u64>,
    work: impl FnOnce(Sequences<'_>) -> Result<T>,
) -> Result<T> {
    let ids = drawn(seed, lengths.iter().sum(), VOCABULARY);
    let mut starts = vec![0];
    lengths.iter().for_each(|length| starts.push(starts[starts.len() - 1] + length));
    let samples: Vec<u64> = (0..lengths.len() as u64).collect();
    work(Sequences { ids: &ids, starts: &starts, samples: &samples, seconds: &[] })
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
        let pass = Pass { output, dropout: None };
        with_texts(lengths, seed, |batch| {
            let before = replays();
            let by_graph = self.graphs.forward(batch, &pass, &mut NoHook)?;
            found.replayed += replays() - before;
            let plain = self.plain.forward(batch, &pass, &mut NoHook)?;
            found.see(&by_graph, &plain)?;
            Ok([by_graph, plain])
        })
    }

    /// The same of logits, and what was uploaded and launched for them.
    fn see_answers(
        &self,
        found: &mut Found,
        lengths: &[usize],
        words: &[u32],
        seed: &Cell<u64>,
    ) -> Result<[u64; 2]> {
        let (pass, scored) = (Pass::default(), Scored::Tokens(words));
        with_texts(lengths, seed, |batch| {
            let before = [replays(), uploads(), launches()];
            let by_graph = self.graphs.forward_logits(batch, &pass, scored, &mut NoHook)?;
            found.replayed += replays() - before[0];
            let beside = [uploads() - before[1], launches() - before[2]];
            let hidden = self.plain.forward(batch, &pass, &mut NoHook)?;
            found.see(&by_graph, &self.plain.logits(&hidden, scored)?)?;
            Ok(beside)
        })
    }

    /// What is replayed uploads the tokens, and launches no kernel but by the graph.
    fn answers(&self, seed: &Cell<u64>) -> Result<Found> {
        let mut found = Found { expected: 8, ..Found::default() };
        for round in 0..5 {
            let beside = self.see_answers(&mut found, &[7, 12], &VERBALIZER, seed)?;
            // The layer of other words is made anew each time, and a graph keeps that which it reads.
            self.see_answers(&mut found, &[7, 12], &[3, 9, 4], seed)?;
            if Backend::of(&self.device).replays() && round > 1 && beside != [1, 0] {
                return Err(format!("{} uploads and {} launches", beside[0], beside[1]).into());
            }
        }
        Ok(found)
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

/// What work does that can't be captured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Waits,
    /// And goes on, although that is refused.
    WaitsAll,
    ReadsBack,
    Uploads,
    /// Memory that was asked for before.
    Frees,
    /// Of its own accord.
    Fails,
}

impl Beside {
    const ALL: [Self; 6] =
        [Self::Waits, Self::WaitsAll, Self::ReadsBack, Self::Uploads, Self::Frees, Self::Fails];

    fn name(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::WaitsAll => "waits, and goes on",
            Self::ReadsBack => "reads back",
            Self::Uploads => "uploads",
            Self::Frees => "frees what is older",
            Self::Fails => "fails in a capture",
        }
    }
}

/// Work that is not captured has the bits of plain work, and so has what the same thread does then, by the same graphs too.
fn refused(device: &Device, beside: Beside, seed: &Cell<u64>) -> Result<Found> {
    let is_card = Backend::of(device).replays();
    let table = (zeros_on((50, 16), device)? + 1.0)?;
    let older = (0..8).map(|_| zeros_on((3, 5), device)).collect::<candle_core::Result<Vec<_>>>()?;
    let (older, done) = (RefCell::new(older), Cell::new(0));
    let graphs = Graphs::new(2);
    let mut found = Found { expected: 2, ..Found::default() };
    let mut see = |key: usize, beside: Option<Beside>| {
        let ids = drawn(seed, 9, 50);
        let plain = || (rows_of(&table, &ids)? * 3.0)?.affine(0.5, 0.25);
        let work = || {
            done.set(done.get() + 1);
            let rows = rows_of(&table, &ids)?;
            match beside {
                None => {}
                Some(Beside::Waits) => device.synchronize()?,
                Some(Beside::WaitsAll) => drop(device.synchronize()),
                Some(Beside::ReadsBack) => drop(rows.to_vec2::<f32>()?),
                // More than candle keeps of what it has uploaded.
                Some(Beside::Uploads) => drop(Tensor::from_vec(vec![1f32; 5000], 5000, device)?),
                Some(Beside::Frees) => drop(older.borrow_mut().pop()),
                // After a plain pass, and one that is noted.
                Some(Beside::Fails) if is_card && done.get() == 3 => candle_core::bail!("not now"),
                Some(Beside::Fails) => {}
            }
            (rows * 3.0)?.affine(0.5, 0.25)
        };
        let before = replays();
        let by_graph = graphs.run(key, &ids, device, work)?;
        found.replayed += replays() - before;
        // What is queued and waited for behind it is right too.
        found.see(&by_graph, &plain()?)
    };
    for _ in 0..4 {
        see(0, Some(beside))?;
    }
    for _ in 0..3 {
        see(1, None)?;
    }
    see(0, Some(beside))?;
    // Plainly, twice more where it was tried, and plainly from then on.
    let times = if is_card { 1 + 3 + 2 + 1 + (1 + 2) } else { 8 };
    if done.get() != times || graphs.refusal().is_some() != is_card {
        return Err(format!("done {} times, not captured: {:?}", done.get(), graphs.refusal()).into());
    }
    Ok(found)
}

/// Those are candle's, which uploads what each row sees.
fn wide_heads(device: &Device, seed: &Cell<u64>) -> Result<Found> {
    const CONFIG: &str = r#"{"model_type": "llama", "vocab_size": 500, "hidden_size": 264, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": true}"#;
    let config = Config::from_json(CONFIG.as_bytes(), Path::new("config.json"))?;
    let random = |shape: &[usize]| {
        let values = drawn(seed, shape.iter().product(), 1 << 16).into_iter();
        let values: Vec<f32> = values.map(|value| value as f32 / 65_536.0 - 0.5).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_device(device)
    };
    let tensors = shapes(&config).into_iter().map(|(name, shape)| Ok((name, random(&shape)?)));
    let weights = Weights::from_tensors(&config, tensors.collect::<Result<BTreeMap<_, _>>>()?)?;
    let model = || LanguageModel::new(&config, &weights, &Tuning::plain_text(), None, Gradients::Nothing);
    let (device, graphs) = (device.clone(), model()?.with_graphs());
    let models = Models { device, plain: model()?, graphs };
    let mut found = Found::default();
    for _ in 0..4 {
        models.see_answers(&mut found, &[40], &VERBALIZER, seed)?;
    }
    let why = models.graphs.graphs_refusal();
    match why.is_some() == Backend::of(&models.device).replays() {
        true => Ok(found),
        false => Err(format!("not captured: {why:?}").into()),
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
