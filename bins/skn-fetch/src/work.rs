//! From the Hub into the store, one content after the other.

use std::time::Duration;

use anyhow::Result;
use skn_program::{Console, Failure};

use crate::content::{Expected, Hash};
use crate::fetched::FetchedFile;
use crate::listing::Listed;
use crate::remote::{Remote, Trouble, wrong_length};
use crate::store::{Partial, Store};

/// Tries that bring no byte, at most; one that brings some begins the count anew.
const FRUITLESS: u32 = 3;

/// A fetch in progress.
pub(crate) struct Work<'a> {
    pub(crate) console: &'a Console,
    pub(crate) remote: Remote<'a>,
    pub(crate) store: &'a Store,
    pub(crate) commit: &'a str,
    /// Bytes of the files that are finished.
    pub(crate) done: u64,
}

impl Work<'_> {
    /// Files with what they must be; where the Hub's list does not say it (a mirror's may not), the file's own headers
    /// do.
    pub(crate) fn described(&self, files: impl Iterator<Item = Listed>) -> Result<Vec<(String, Expected)>> {
        let describe = |Listed { name, expected }| {
            let expected = match expected {
                Some(expected) => expected,
                None => self.remote.open(self.commit, &name, 0)?.expected.ok_or_else(|| {
                    Failure::offline(format!("{name}: the Hub says neither hash nor length to check it by"))
                })?,
            };
            Ok((name, expected))
        };
        files.map(describe).collect()
    }

    /// Sees to it that a content is here, whole and right.
    pub(crate) fn obtain(&mut self, name: &str, expected: &Expected) -> Result<(FetchedFile, Hash)> {
        let here = self.store.has(expected)?;
        if !here {
            self.fetch(name, expected)?;
            tracing::info!("{name}: {} bytes fetched and checked", expected.size);
        }
        self.done += expected.size;
        self.console.reach(self.done);
        let hash = expected.hash.clone();
        let digits = Some(hash.digits().into());
        Ok((FetchedFile { name: name.into(), size: expected.size, hash: digits, fetched: !here }, hash))
    }

    fn fetch(&self, name: &str, expected: &Expected) -> Result<()> {
        let mut partial = self.store.partial(&expected.hash)?;
        // Whoever held the lock may have finished meanwhile.
        if self.store.has(expected)? {
            partial.discard();
            return Ok(());
        }
        let mut continued = partial.length > 0;
        if continued {
            tracing::info!("{name}: goes on behind the {} bytes that are here", partial.length);
        }
        loop {
            if partial.length > expected.size {
                partial.restart()?;
            }
            if let Err(error) = self.fill(&mut partial, name, expected) {
                if partial.length == 0 || partial.length > expected.size {
                    partial.discard();
                }
                return Err(error);
            }
            let Some(wrong) = self.store.complete(&partial, expected)? else { return Ok(()) };
            if !continued {
                partial.discard();
                return Err(Failure::offline(format!(
                    "{name}: {wrong}: not what the Hub lists; nothing is kept"
                )));
            }
            // What an earlier run left was not the beginning of this.
            tracing::warn!("{name}: {wrong}; it is fetched anew");
            continued = false;
            partial.restart()?;
        }
    }

    /// Adds what is missing, over as many connections as it takes.
    fn fill(&self, partial: &mut Partial, name: &str, expected: &Expected) -> Result<()> {
        let mut fruitless = 0;
        while partial.length < expected.size {
            let before = partial.length;
            let Err(trouble) = self.add(partial, name, expected) else { continue };
            let error = match trouble {
                Trouble::Passing(error) => error,
                Trouble::NoSuchRange(error) => {
                    partial.restart()?;
                    error
                }
                Trouble::Lasting(error) => return Err(error),
            };
            fruitless = if partial.length > before { 0 } else { fruitless + 1 };
            if fruitless == FRUITLESS {
                let (here, all) = (partial.length, expected.size);
                let hint = "the same command goes on from there";
                return Err(error.context(format!("{name}: {here} of {all} bytes are here; {hint}")));
            }
            tracing::debug!("{error}; another try");
            std::thread::sleep(Duration::from_millis(250) * fruitless);
            self.check_signal(name)?;
        }
        Ok(())
    }

    /// Adds what one connection brings.
    fn add(&self, partial: &mut Partial, name: &str, expected: &Expected) -> Result<(), Trouble> {
        let asked = partial.length;
        let arriving = self.remote.open(self.commit, name, asked)?;
        if let Some(found) = arriving.expected.filter(|found| found != expected) {
            return Err(match found.size == expected.size {
                true => Failure::offline(format!("{name}: expected {}, found {}", expected.hash, found.hash)),
                false => wrong_length(name, expected.size, found.size),
            }
            .into());
        }
        if arriving.from < asked {
            partial.restart()?;
        }
        let each = |length| {
            self.console.reach(self.done + length);
            self.check_signal(name)
        };
        // One more than should come, to see whether it does.
        let at_most = (expected.size - partial.length).saturating_add(1);
        match partial.append(&arriving.pieces, at_most, &each)? {
            Err(error) => {
                Err(Trouble::Passing(Failure::offline(format!("{name}: the connection broke: {error}"))))
            }
            Ok(()) if partial.length > expected.size => Err(wrong_length(name, expected.size, "more").into()),
            Ok(()) if partial.length < expected.size => {
                Err(Trouble::Passing(wrong_length(name, expected.size, partial.length)))
            }
            Ok(()) => Ok(()),
        }
    }

    fn check_signal(&self, name: &str) -> Result<()> {
        match self.console.signal() {
            Some(_) => Err(anyhow::anyhow!(
                "{name}: what is here of it is kept; the same command goes on from there"
            )),
            None => Ok(()),
        }
    }
}

/// The bytes of some files.
pub(crate) fn total(files: &[(String, Expected)]) -> u64 {
    // A hostile list may say anything.
    files.iter().fold(0, |sum, (_, expected)| sum.saturating_add(expected.size))
}
