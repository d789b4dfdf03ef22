//! What a rehearsal told.

use std::path::PathBuf;

use skn_artifact::is_there;

use super::planned::{DryRun, PlannedFile, PlannedRead, PlannedWork};
use crate::error::Result;
use crate::loaded::available_memory;
use crate::rehearsal::{Part, Pass, Seen, most_memory};

/// What a rehearsal told.
pub(super) struct Rehearsed {
    pub(super) seen: Seen,
    /// Seconds beside the passes: reading model and data, making files.
    pub(super) beside: f64,
    /// Texts of each part, where there are any.
    pub(super) sample: Option<usize>,
}

impl Rehearsed {
    /// Its passes, those of a name together.
    fn passes(&self) -> Vec<PlannedWork> {
        let mut work: Vec<PlannedWork> = Vec::new();
        for Pass { what, texts, seconds, .. } in &self.seen.passes {
            let texts = texts.round() as u64;
            match work.iter_mut().find(|work| work.what == *what) {
                Some(PlannedWork { texts: Some(all), seconds: Some(sum), .. }) => {
                    *all += texts;
                    *sum += seconds;
                }
                _ => work.push(PlannedWork {
                    what: what.clone(),
                    // Of what takes none it is not told.
                    texts: (texts > 0).then_some(texts),
                    seconds: Some(*seconds),
                    timed: true,
                }),
            }
        }
        work
    }

    /// What one stage does: what is done beside the passes first.
    pub(super) fn work(&self, beside: &str) -> Vec<PlannedWork> {
        let (what, seconds) = (beside.to_owned(), Some(self.beside));
        let mut work = vec![PlannedWork { what, texts: None, seconds, timed: true }];
        work.extend(self.passes());
        work
    }

    pub(super) fn pass_seconds(&self) -> f64 {
        self.seen.passes.iter().map(|pass| pass.seconds).sum()
    }

    /// Seconds of the passes of a name.
    pub(super) fn of(&self, what: &str) -> f64 {
        self.seen.passes.iter().filter(|pass| pass.what == what).map(|pass| pass.seconds).sum()
    }

    /// How often a training evaluates dev, its second part.
    pub(super) fn evaluations(&self) -> f64 {
        let texts = self.seen.parts.get(1).map_or(1.0, |part| part.texts as f64).max(1.0);
        let all = self.seen.passes.iter().filter(|pass| pass.what == "evaluating dev");
        (all.map(|pass| pass.texts).sum::<f64>() / texts).max(1.0)
    }

    /// Seconds and texts of all of it.
    pub(super) fn seconds_and_texts(&self) -> (f64, f64) {
        let texts = self.seen.passes.iter().map(|pass| pass.texts).sum();
        (self.beside + self.pass_seconds(), texts)
    }

    pub(super) fn takes(&self) -> (Option<f64>, Option<u64>, bool) {
        let (seconds, texts) = self.seconds_and_texts();
        (Some(seconds), Some(texts.round() as u64), true)
    }

    pub(super) fn into_dry_run(self, run: Option<PathBuf>, work: Vec<PlannedWork>) -> Result<DryRun> {
        // Tokens of texts that were not taken.
        let more = |part: &Part| {
            let left = part.held.saturating_sub(part.taken) as f64;
            (left * (4.0 * part.tokens + 64.0)) as u64
        };
        let more: u64 = self.seen.parts.iter().map(more).sum();
        let sizes = &self.seen.sizes;
        let reads = self.seen.reads.into_iter().map(|(name, sha256)| {
            let bytes = sizes.get(&name).copied();
            PlannedRead { name, sha256, bytes }
        });
        let reads = reads.collect();
        let mut writes: Vec<PlannedFile> = Vec::new();
        for (path, bytes) in self.seen.writes {
            if writes.iter().all(|file| file.path != path) {
                let replaces = is_there(&path)?;
                writes.push(PlannedFile { path, bytes, replaces });
            }
        }
        Ok(DryRun {
            run,
            reads,
            writes,
            seconds: work.iter().filter_map(|work| work.seconds).sum(),
            work,
            memory: most_memory().map(|most| most + more),
            available_memory: available_memory(),
            rehearsed_with: self.sample,
            notes: self.seen.notes,
        })
    }
}
