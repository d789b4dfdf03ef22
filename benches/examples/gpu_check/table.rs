//! The one table that everything goes into, row by row as it is found.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Rows are printed at once: what is stopped has told what it knew.
pub(crate) struct Table {
    begun: Instant,
    limit: Duration,
    rows: usize,
    wrong: usize,
}

impl Table {
    /// Prints its head. Work that can be left out is, once `limit` has passed.
    pub(crate) fn new(limit: Duration) -> Self {
        println!("| what | found | beside | |\n|---|---|---|---|");
        Self { begun: Instant::now(), limit, rows: 0, wrong: 0 }
    }

    /// The time that is left for more.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// Something that is as it should be, or is not.
    pub(crate) fn check(
        &mut self,
        what: impl Display,
        found: impl Display,
        expected: impl Display,
        right: bool,
    ) {
        self.wrong += usize::from(!right);
        self.print(what, found, expected, if right { "ok" } else { "WRONG" });
    }

    /// A number that nothing is expected of.
    pub(crate) fn tell(&mut self, what: impl Display, found: impl Display, beside: impl Display) {
        self.print(what, found, beside, "");
    }

    /// What could not be done; the table goes on.
    pub(crate) fn fail(&mut self, what: impl Display, error: impl Display) {
        self.wrong += 1;
        let error = error.to_string().replace(['\n', '|'], " ");
        self.print(what, error, "", "FAILED");
    }

    /// The last line. Whether everything was right, and something was looked at.
    pub(crate) fn finish(self) -> bool {
        let Self { rows, wrong, begun, .. } = self;
        println!("\n{rows} rows, {wrong} wrong; {:.0} s", begun.elapsed().as_secs_f64());
        wrong == 0 && rows > 0
    }

    fn print(&mut self, what: impl Display, found: impl Display, beside: impl Display, verdict: &str) {
        self.rows += 1;
        println!("| {what} | {found} | {beside} | {verdict} |");
    }
}
