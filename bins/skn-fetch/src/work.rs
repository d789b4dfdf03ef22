//! From the Hub into the store, one content after the other.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use skn_program::{Console, Failure};

use crate::answer::Trouble;
use crate::content::{Expected, Hash};
use crate::fetched::FetchedFile;
use crate::listing::Listed;
use crate::patience::{Limits, Patience, Waited, Watch};
use crate::remote::{Remote, wrong_length};
use crate::store::{Partial, Store};

/// Tries that bring no byte, at most; one that brings some begins the count anew.
const FRUITLESS: u32 = 3;

/// A fetch in progress.
pub(crate) struct Work<'a> {
    pub(crate) console: &'a Console,
    pub(crate) watch: Watch<'a>,
    pub(crate) remote: Arc<Remote>,
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
                None => self.by_headers(&name)?,
            };
            Ok((name, expected))
        };
        files.map(describe).collect()
    }

    fn by_headers(&self, name: &str) -> Result<Expected> {
        let arriving = self.remote.open(&self.watch, &mut self.patience(), (self.commit, name), 0)?;
        arriving.expected.ok_or_else(|| {
            Failure::offline(format!("{name}: the Hub says neither hash nor length to check it by"))
        })
    }

    /// With a file, over all connections: a second one may be better than the first.
    fn patience(&self) -> Patience {
        let Limits { answer, silence, least_rate, .. } = self.watch.limits;
        Patience::new(answer.max(silence).saturating_mul(2), least_rate)
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
        if self.store.has_still(expected, &partial)? {
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
        let mut patience = self.patience();
        let mut fruitless = 0;
        while partial.length < expected.size {
            let before = partial.length;
            let Err(trouble) = self.add(partial, name, expected, &mut patience) else { continue };
            let error = match trouble {
                Trouble::Passing(error) => error,
                Trouble::NoSuchRange(error) => {
                    partial.restart()?;
                    error
                }
                Trouble::Lasting(error) => return Err(error),
            };
            fruitless = if partial.length > before { 0 } else { fruitless + 1 };
            if fruitless == FRUITLESS || patience.out().is_some() {
                let (here, all) = (partial.length, expected.size);
                let hint = "the same command goes on from there";
                return Err(error.context(format!("{name}: {here} of {all} bytes are here; {hint}")));
            }
            tracing::debug!("{error}; another try");
            std::thread::sleep(Duration::from_millis(250) * fruitless);
            self.watch.check(name)?;
        }
        Ok(())
    }

    /// Adds what one connection brings.
    fn add(
        &self,
        partial: &mut Partial,
        name: &str,
        expected: &Expected,
        patience: &mut Patience,
    ) -> Result<(), Trouble> {
        let asked = partial.length;
        let arriving = self.remote.open(&self.watch, patience, (self.commit, name), asked)?;
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
        let Limits { silence, least_rate, .. } = self.watch.limits;
        let mut of_connection = Patience::new(silence, least_rate);
        let passing = |why: String| Err(Trouble::Passing(Failure::offline(format!("{name}: {why}"))));
        // One byte more than should come is waited for, to see whether it does.
        while partial.length <= expected.size {
            let length = |piece: &std::io::Result<Vec<u8>>| piece.as_ref().map_or(0, Vec::len);
            let patience = &mut [&mut of_connection, patience];
            match self.watch.wait(name, &arriving.pieces, patience, length)? {
                Waited::Came(Ok(piece)) if piece.is_empty() => break,
                Waited::Came(Ok(piece)) => {
                    let most = (expected.size - partial.length).saturating_add(1);
                    let most = piece.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                    partial.append(&piece[..most])?;
                    self.console.reach(self.done + partial.length);
                }
                Waited::Came(Err(error)) => return passing(format!("the connection broke: {error}")),
                Waited::Gone => return passing("the connection broke".into()),
                Waited::Slow(slow) => return passing(slow.to_string()),
            }
        }
        match partial.length {
            found if found > expected.size => Err(wrong_length(name, expected.size, "more").into()),
            found if found < expected.size => Err(Trouble::Passing(wrong_length(name, expected.size, found))),
            _ => Ok(()),
        }
    }
}

/// The bytes of some files.
pub(crate) fn total(files: &[(String, Expected)]) -> u64 {
    // A hostile list may say anything.
    files.iter().fold(0, |sum, (_, expected)| sum.saturating_add(expected.size))
}
