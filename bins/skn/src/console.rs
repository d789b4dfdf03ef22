//! The console as the progress of passes over data.

use std::ops::Deref;

use skn_probing::{Progress, Work};
pub(crate) use skn_program::print;

use crate::cli::Common;
use crate::wording::flags_for_options;

/// The program's stderr and its signals: a [`skn_program::Console`] that passes report to.
pub struct Console(skn_program::Console);

impl Console {
    /// Sets up logging, progress and signal handling as the flags say.
    ///
    /// # Errors
    /// If the signal handlers can't be installed.
    pub fn new(common: &Common) -> anyhow::Result<Self> {
        skn_program::Console::with_wording(common, flags_for_options).map(Self)
    }
}

impl Deref for Console {
    type Target = skn_program::Console;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Progress for Console {
    fn begin(&self, work: Work<'_>) {
        self.0.begin(&work.to_string(), work.amount);
    }

    fn advance(&self, amount: u64) {
        self.0.advance(amount);
    }

    fn resumes(&self, amount: u64) {
        self.0.resumes(amount);
    }

    fn note(&self, found: &str) {
        self.0.note(found);
    }

    fn cancelled(&self) -> bool {
        self.signal().is_some()
    }
}
