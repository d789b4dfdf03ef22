use std::sync::Arc;

use crate::dataset::{Dataset, Example};
use crate::error::Result;
use crate::rows::{Receiver, Row, check_length};
use crate::text::Text;

/// As many bytes of text share a string.
const SHARED: usize = 1 << 20;

/// Keeps what it receives, as a data set.
#[derive(Default)]
pub(crate) struct Collector {
    dataset: Dataset,
    split: String,
    rows: Vec<Example>,
    shared: String,
    /// The rows whose texts are in `shared`: where the texts end, and the label.
    pending: Vec<(usize, Option<usize>, i64)>,
}

impl Collector {
    /// All that was received.
    pub(crate) fn finish(mut self) -> Dataset {
        self.end_split();
        self.dataset
    }

    fn end_split(&mut self) {
        self.share();
        if !self.split.is_empty() {
            self.dataset.splits.insert(std::mem::take(&mut self.split), std::mem::take(&mut self.rows));
        }
    }

    /// Makes rows of what is pending.
    fn share(&mut self) {
        let all = Arc::new(std::mem::take(&mut self.shared).into_boxed_str());
        let mut start = 0;
        let mut text = |end: usize| {
            let text = Text::within(&all, start, end).unwrap_or_default();
            start = end;
            text
        };
        self.rows.extend(self.pending.drain(..).map(|(end, pair, label)| Example {
            text: text(end),
            pair: pair.map(&mut text),
            label,
        }));
    }
}

impl Receiver for Collector {
    fn split(&mut self, name: &str) -> Result<()> {
        self.end_split();
        self.split = name.to_owned();
        Ok(())
    }

    fn row(&mut self, row: Row<'_>) -> Result<()> {
        let bytes = check_length(row, (self.rows.len() + self.pending.len()) as u64)?;
        if self.shared.len() + bytes > SHARED {
            self.share();
        }
        self.shared.push_str(row.text);
        let end = self.shared.len();
        let pair = row.pair.map(|pair| {
            self.shared.push_str(pair);
            self.shared.len()
        });
        self.pending.push((end, pair, row.label));
        Ok(())
    }
}
