//! What answering records would read and take.

use std::cell::{Cell, OnceCell};

use super::FIRST;
use super::planned::{DryRun, PlannedWork};
use crate::cache::Cache;
use crate::error::{Result, SessionError};
use crate::options::{Classify, Predict};
use crate::session::Session;
use crate::stages::Records;

/// What is done beside passes.
const BESIDE: &str = "reading, tokenising";

impl Session {
    /// As [`Self::dry_run`] of answering records ([`Classifier::predict`](crate::Classifier::predict)), from some of them. A stream is not
    /// read: how many texts it has, and how long they take, is not known then.
    ///
    /// # Errors
    /// As [`Self::classifier`], and as answering those records that are looked at.
    pub fn dry_predict(mut self, classify: &Classify, options: &Predict, records: Records) -> Result<DryRun> {
        self.cache = Cache::default();
        // Records are read once, whatever is done with them then.
        let (records, read) = (Cell::new(Some(records)), OnceCell::new());
        let mut told = self.rehearse_call(FIRST, false, |session| {
            let classifier = session.classifier(classify)?;
            if let Some(records) = records.take() {
                read.set(classifier.sampled(options, records)?).ok();
            }
            let sampled = read.get().ok_or_else(|| SessionError::failed("no records to rehearse with"))?;
            classifier.rehearse(sampled)
        })?;
        let mut work = told.work(BESIDE);
        if read.get().is_some_and(|sampled| sampled.rows().is_none()) {
            work.truncate(1);
            let what = "evaluating".to_owned();
            work.push(PlannedWork { what, texts: None, seconds: None, timed: false });
        }
        // Answers go as they come, so that more texts take no more memory.
        told.seen.parts.clear();
        told.into_dry_run(None, work)
    }
}
