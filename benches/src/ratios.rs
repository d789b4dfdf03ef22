use std::hint::black_box;

use skn_data::{Encoded, pack};
use skn_model::{LanguageModel, NoHook, Pass, Scored, Sequences};
use skn_probing::{PassOptions, Workers, evaluate};

use crate::{Backbone, Clock, Lengths, PROMPT_ROWS, PRUNED_NEURONS, Turns, VERBALIZER, rows};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How many times faster a pruned model is than the full one: the number that pruning is for.
///
/// The models take turns, so that a busy machine slows down all of them; the ratio is the median over rounds. Next to
/// it stands the ratio of multiply-adds, which a program without any other work would reach.
pub struct Ratios {
    /// The full model, one with [`PRUNED_NEURONS`] a layer, and one with whole panels of the kernels.
    models: [LanguageModel; 3],
    rounds: usize,
}

impl Ratios {
    /// The head of the table that the rows belong to.
    pub const HEADER: &str = "\
| what | texts | rows | full, ms a text | 61 neurons | 64 neurons | full/61 | full/64 | multiply-adds full/61 |
|---|---|---|---|---|---|---|---|---|";

    /// Texts of the rows: a batch for [`Self::forward`] has about 512 rows of these.
    pub const TEXTS: [(Lengths, usize); 5] = [
        (Lengths::Sst2Train, 16),
        (Lengths::Sst2Dev, 12),
        (Lengths::Fixed(32), 16),
        (Lengths::Fixed(128), 4),
        (Lengths::Imdb, 2),
    ];

    /// Rounds for numbers to go by.
    pub const ROUNDS: usize = 5;

    /// Makes the models, to be measured in so many rounds.
    ///
    /// # Errors
    /// If they can't be made.
    pub fn new(rounds: usize) -> Result<Self> {
        let full = Backbone::base()?;
        let pruned = |neurons: usize| full.pruned(neurons)?.prompted(PROMPT_ROWS);
        let (narrow, padded) = (pruned(PRUNED_NEURONS)?, pruned(PRUNED_NEURONS.next_multiple_of(32))?);
        Ok(Self { models: [full.prompted(PROMPT_ROWS)?, narrow, padded], rounds })
    }

    /// A row of the table: one packed batch on this thread, by its processor time.
    ///
    /// # Errors
    /// If the models do not take the texts.
    pub fn forward(&self, lengths: Lengths, count: usize) -> Result<String> {
        self.row(("forward", Clock::Thread), lengths, &lengths.texts(count), forward)
    }

    /// A row of the table: a whole pass on so many threads, by the clock.
    ///
    /// # Errors
    /// If the models do not take the texts.
    pub fn evaluate(&self, threads: usize, lengths: Lengths, count: usize) -> Result<String> {
        let workers = Workers::new(threads)?;
        // Batches small enough that every thread has several.
        let options = PassOptions { token_budget: 256, ..PassOptions::new(&workers) };
        let pass = |model: &LanguageModel, texts: &[Encoded]| {
            black_box(evaluate(model, texts, &VERBALIZER, &options)?);
            Ok(())
        };
        let what = format!("evaluate, {threads} threads");
        self.row((&what, Clock::Wall), lengths, &lengths.texts(count), pass)
    }

    fn row(
        &self,
        (what, clock): (&str, Clock),
        lengths: Lengths,
        texts: &[Encoded],
        work: impl Fn(&LanguageModel, &[Encoded]) -> Result<()>,
    ) -> Result<String> {
        let [full, narrow, padded] = &self.models;
        // What goes wrong does so here already.
        self.models.iter().try_for_each(|model| work(model, texts))?;
        let turn = |model| drop(work(model, texts));
        let models: [&mut dyn FnMut(); 3] = [&mut || turn(full), &mut || turn(narrow), &mut || turn(padded)];
        let turns = Turns::take(clock, self.rounds, &mut { models });
        let [a, b, c] = [0, 1, 2].map(|work| turns.median(work).as_secs_f64() * 1e3 / texts.len() as f64);
        let multiply_adds = |model: &LanguageModel| -> u64 {
            texts.iter().map(|text| model.config().multiply_adds(text.ids.len() + PROMPT_ROWS)).sum()
        };
        Ok(format!(
            "| {what}, {} | {} | {} | {a:.2} | {b:.2} | {c:.2} | {:.2} | {:.2} | {:.2} |",
            lengths.name(),
            texts.len(),
            rows(texts),
            turns.ratio(0, 1),
            turns.ratio(0, 2),
            multiply_adds(full) as f64 / multiply_adds(narrow) as f64
        ))
    }
}

/// One packed batch on this thread.
fn forward(model: &LanguageModel, texts: &[Encoded]) -> Result<()> {
    for batch in pack(texts, PROMPT_ROWS, usize::MAX, usize::MAX, 1) {
        let texts = Sequences {
            ids: &batch.ids,
            starts: &batch.starts,
            samples: &batch.rows,
            seconds: &batch.seconds,
        };
        let answers = model.forward(texts, &Pass::default(), &mut NoHook)?;
        black_box(model.logits(&answers, Scored::Tokens(&VERBALIZER))?);
    }
    Ok(())
}
