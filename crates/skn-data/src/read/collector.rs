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
    /// The rows whose texts are in `shared`: how many texts they have, and the label.
    pending: Vec<(usize, i64)>,
    /// Where those texts end.
    ends: Vec<usize>,
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
            self.rows.shrink_to_fit();
            self.dataset.splits.insert(std::mem::take(&mut self.split), std::mem::take(&mut self.rows));
        }
    }

    /// Makes rows of what is pending.
    fn share(&mut self) {
        let all = Arc::new(std::mem::take(&mut self.shared).into_boxed_str());
        let mut start = 0;
        let mut texts = self.ends.drain(..).map(|end| {
            let text = Text::within(&all, start, end).unwrap_or_default();
            start = end;
            text
        });
        self.rows.extend(self.pending.drain(..).map(|(count, label)| Example {
            text: texts.next().unwrap_or_default(),
            pair: if count > 1 { texts.next() } else { None },
            more: texts.by_ref().take(count.saturating_sub(2)).collect(),
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
        let before = self.ends.len();
        for text in row.texts() {
            self.shared.push_str(text);
            self.ends.push(self.shared.len());
        }
        self.pending.push((self.ends.len() - before, row.label));
        Ok(())
    }
}
