//! The messages of wrong uses, word for word, kept as pages that one can read: `tests/messages/pages/`.
//!
//! Who changes a message runs `SKN_UPDATE=1 cargo test --test suite messages` and reads what became of the page.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

mod data;
mod models;
mod page;
mod runs;
use crate::support;
mod usage;

use page::Page;
use support::Desk;

/// A user at a desk, and the page of what he is told.
pub(crate) struct Reader {
    pub(crate) desk: Desk,
    page: Page,
}

impl Reader {
    pub(crate) fn new(desk: Desk, name: &str, about: &str) -> Self {
        let page = Page::new(name, about, &desk.path(""));
        Self { desk, page }
    }

    /// Runs a command line that must fail with this code.
    pub(crate) fn told(&mut self, what: &str, line: &str, code: i32) {
        let said = self.desk.run(line);
        let help = |program: &str| self.desk.ok(&format!("{program} --help"));
        assert_eq!(said.code, code, "{what}: {line}\n{}{}", said.stdout, said.stderr);
        self.page.add(what, line, (said.code, &said.stdout, &said.stderr), help);
    }

    /// Compares the page; how many messages it must have at least.
    pub(crate) fn finish(self, least: usize) {
        let messages = self.page.finish();
        assert!(messages >= least, "expected {least} messages or more, found {messages}");
    }
}
