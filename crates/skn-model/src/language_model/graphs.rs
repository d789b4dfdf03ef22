use candle_core::Tensor;

use super::encoder::Encoder;
use crate::error::Result;
use crate::pass::{Output, Pass};
use crate::sequences::Sequences;

/// The most rows of a pass that is captured, those of prompts too. With more of them a card takes longer for a product than a
/// thread does to launch one, and the graph spares nothing.
const MOST_ROWS: usize = 256;

/// Passes that are kept, at most.
const MOST: usize = 32;

/// Passes of a model that were captured. They belong to the model as it is: to its weights, its prompt and its precision.
pub(super) struct Graphs(skn_kernels::Graphs<Shape>);

/// What a pass depends on, beside the model and the tokens.
#[derive(PartialEq, Eq)]
struct Shape {
    starts: Box<[usize]>,
    seconds: Box<[usize]>,
    /// The rows that it returns; those of the answers where none are named.
    rows: Option<Box<[u32]>>,
    /// The tokens whose logits it returns; hidden states where there are none.
    scored: Option<Box<[u32]>>,
}

impl Graphs {
    pub(super) fn new() -> Self {
        Self(skn_kernels::Graphs::new(MOST))
    }

    /// Why the first pass that could not be captured could not.
    pub(super) fn refusal(&self) -> Option<String> {
        self.0.refusal()
    }

    /// What `plain` gives, a pass without a hook, to its hidden states or to the logits of the tokens `scored`: captured or replayed, if
    /// it is one of those.
    pub(super) fn run(
        &self,
        encoder: &Encoder,
        batch: Sequences<'_>,
        pass: &Pass,
        scored: Option<&[u32]>,
        plain: impl Fn() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let prompt = encoder.layout().prompt_rows();
        let rows = match &pass.output {
            Output::Nothing => return plain(),
            Output::Answer => None,
            Output::Rows(rows) => Some(rows.as_ref().into()),
        };
        let all = batch.ids.len() + prompt * batch.samples.len();
        if pass.dropout.is_some() || all > MOST_ROWS {
            return plain();
        }
        // A replay looks at nothing but the tokens, and at those unseen.
        batch.check(&encoder.config, prompt)?;
        let (starts, seconds) = (batch.starts.into(), batch.seconds.into());
        let shape = Shape { starts, seconds, rows, scored: scored.map(Into::into) };
        self.0.run(shape, batch.ids, encoder.device(), plain)
    }
}
