use crate::config::Config;
use crate::error::{ModelError, Result};

/// Token ids of a batch of texts, one after another, without padding and without prompt.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    /// `<s> text </s>` of every text, concatenated.
    pub ids: &'a [u32],
    /// Where each text starts in `ids`, and the end: n + 1 ascending numbers.
    pub starts: &'a [usize],
    /// The number of each text in the data; random decisions are keyed by it.
    pub samples: &'a [u64],
    /// For each text where in `ids` the second of a pair begins, or where the text ends if it is one; empty if no text
    /// is a pair. Only a BERT can tell ([`Config::segments`]).
    pub seconds: &'a [usize],
}

impl Sequences<'_> {
    /// Checks that its numbers fit together, and a model with so many rows of prompt.
    pub(crate) fn check(&self, config: &Config, prompt_rows: usize) -> Result<()> {
        check_tokens(self.ids, config.vocab_size)?;
        let sequences = self.starts.len().saturating_sub(1);
        if self.samples.len() != sequences || self.starts.last() != Some(&self.ids.len()) {
            let expected = "starts from 0 to the number of ids, and one sample for each sequence";
            let found =
                format!("starts {:?}, {} ids, {} samples", self.starts, self.ids.len(), self.samples.len());
            return Err(ModelError::input("sequences", expected, found));
        }
        self.check_seconds()?;
        let limit = config.max_sequence();
        for (sequence, ends) in self.starts.windows(2).enumerate() {
            let rows = ends[1].saturating_sub(ends[0]) + prompt_rows;
            if rows > limit {
                let found = format!("{rows} ({prompt_rows} of them prompt)");
                return Err(ModelError::input(
                    format!("rows of sequence {sequence}"),
                    format!("at most {limit}"),
                    found,
                ));
            }
        }
        Ok(())
    }

    fn check_seconds(&self) -> Result<()> {
        let mut ends = self.starts.windows(2).zip(self.seconds);
        let inside = ends.all(|(ends, second)| (ends[0]..=ends[1]).contains(second));
        if self.seconds.is_empty() || (inside && self.seconds.len() == self.samples.len()) {
            return Ok(());
        }
        let expected = "a place in each text, or none at all";
        let found = format!("starts {:?}, seconds {:?}", self.starts, self.seconds);
        Err(ModelError::input("second texts", expected, found))
    }
}

/// Checks that all token ids are in the vocabulary.
pub(crate) fn check_tokens(ids: &[u32], vocabulary: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(id) => Err(ModelError::input("token id", format!("less than vocab_size {vocabulary}"), id)),
    }
}
