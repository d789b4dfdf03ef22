use std::path::Path;
use std::sync::OnceLock;

use skn_artifact::names::{key, setting};
use skn_artifact::{PartRecord, SplitRecord};
use skn_data::{Example, Overlap, PartIndex, SomeRows, SplitIndex, Splits, StoredSplits, part_hash};
use skn_model::{LanguageModel, Precision};
use skn_probing::Metadata;

use crate::base::Base;
use crate::division;
use crate::error::Result;
use crate::named::{Named, Rows};
use crate::options::{Subject, Tuned};
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::spread::{Spread, Texts, spread};

/// Everything a stage computes with: a [`Base`] and the task's rows.
pub(crate) struct Setup<'s> {
    /// Model, tokenizer and task.
    pub(crate) base: Base<'s>,
    /// The rows, but those that are stored.
    pub(crate) splits: Splits,
    /// Those.
    pub(crate) stored: Option<StoredSplits>,
    /// Of the parts, where this process has not all of their texts in memory.
    hashes: Option<[String; 3]>,
    /// Which texts of dev and test stand in train too.
    overlaps: Vec<Overlap>,
    /// How many rows train, dev and test have.
    counts: [usize; 3],
    /// The hash of each part's rows, once somebody has asked for it.
    sha256: [OnceLock<String>; 3],
}

impl<'s> Setup<'s> {
    /// Reads and checks what options name. Data are read before the model: a mistyped path should not cost the time
    /// that weights take.
    ///
    /// # Errors
    /// If something is missing, damaged, or does not fit the rest.
    pub(crate) fn load(session: &'s Session, subject: &Subject, tuned: &Tuned) -> Result<Self> {
        let setup = Self::read(session, subject, tuned, None, Texts::Own)?;
        setup.base.require_answers()?;
        Ok(setup)
    }

    /// As [`Self::load`], with all texts in each process of a group. The run `torn`, if that is resumed from, need not be one whole: it is one that a training goes on
    /// from and writes to, and was perhaps stopped while it wrote.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_to_train(
        session: &'s Session,
        subject: &Subject,
        tuned: &Tuned,
        torn: Option<&Path>,
    ) -> Result<Self> {
        let setup = Self::read(session, subject, tuned, torn, Texts::All)?;
        setup.base.require_answers()?;
        Ok(setup)
    }

    /// As [`Self::load`], of a model that may have no masked-LM head.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn load_encoder(session: &'s Session, subject: &Subject, tuned: &Tuned) -> Result<Self> {
        Self::read(session, subject, tuned, None, Texts::Own)
    }

    /// As [`Self::load_encoder`], for who takes rows one after another and once: many lie in a file without a name, which takes room in this
    /// folder.
    ///
    /// # Errors
    /// As [`Self::load`]; if the file can't be written.
    pub(crate) fn load_stored(
        session: &'s Session,
        subject: &Subject,
        tuned: &Tuned,
        folder: &Path,
    ) -> Result<Self> {
        let named = Named::of(subject, tuned, None)?;
        let stored = match named.stored(session, subject.seed, folder)? {
            Rows::Here(splits) => {
                return Self::of(session, named, Spread { splits, hashes: None }, subject, tuned);
            }
            Rows::Stored(stored) => stored,
        };
        let overlaps = Overlap::of_stored(&stored)?;
        tell_overlaps(session, &named, &overlaps);
        let base = Base::read(session, named, subject, tuned)?;
        let mut splits = Splits::default();
        splits.source = stored.source().clone();
        let SplitIndex { train, dev, test, .. } = stored.source();
        let counts = [train, dev, test].map(|part| part.rows.len());
        let hashes = Some(stored.hashes().clone());
        Ok(Self { base, splits, stored: Some(stored), hashes, overlaps, counts, sha256: Default::default() })
    }

    fn read(
        session: &'s Session,
        subject: &Subject,
        tuned: &Tuned,
        torn: Option<&Path>,
        texts: Texts,
    ) -> Result<Self> {
        let named = Named::of(subject, tuned, torn)?;
        let spread = spread(session, texts, || named.splits(session, subject.seed))?;
        Self::of(session, named, spread, subject, tuned)
    }

    /// The same, of rows that were read.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) fn of(
        session: &'s Session,
        named: Named,
        spread: Spread,
        subject: &Subject,
        tuned: &Tuned,
    ) -> Result<Self> {
        let Spread { splits, hashes } = spread;
        // Whoever has not all texts can't tell which are the same.
        let overlaps = if session.group().is_first() { Overlap::of(&splits) } else { Vec::new() };
        tell_overlaps(session, &named, &overlaps);
        let base = Base::read(session, named, subject, tuned)?;
        let counts = [splits.train.len(), splits.dev.len(), splits.test.len()];
        Ok(Self { base, splits, stored: None, hashes, overlaps, counts, sha256: Default::default() })
    }

    /// What a file says of itself that was made by a tuned model from a part of the data.
    ///
    /// # Errors
    /// If the tuned parameters can't be read from the device.
    pub(crate) fn metadata(&self, split: &str, model: &LanguageModel) -> Result<Metadata> {
        let base = &self.base;
        let mut entries = Metadata::from(
            [
                (key::TASK, base.task.name.clone()),
                (key::MODEL, base.identity.sha256.clone()),
                (key::TUNING, model.tuning()?.sha256()?),
                (key::DATA, self.part_sha256(split)),
                (key::SPLIT, split.to_string()),
                (key::SEED, base.seed.to_string()),
            ]
            .map(|(key, value)| (key.to_string(), value)),
        );
        entries.extend(base.template_sha256().map(|hash| (key::TEMPLATE.to_owned(), hash)));
        let precision = base.session.compute().precision;
        if precision != Precision::F32 {
            entries.insert(key::DTYPE.into(), precision.name().into());
        }
        // Arrays are as wide as the widest layer: selecting must know where a pruned layer ends.
        let widths = key::widths(&base.model.config.intermediate_sizes);
        entries.extend(widths.map(|widths| (key::WIDTHS.to_owned(), widths)));
        Ok(entries)
    }

    /// The hash of the rows of train, dev or test.
    pub(crate) fn part_sha256(&self, split: &str) -> String {
        let place = place(split);
        match &self.hashes {
            Some(hashes) => hashes[place].clone(),
            None => self.sha256[place].get_or_init(|| part_hash(self.part(split))).clone(),
        }
    }

    /// Takes the rows of train, dev or test out, for one who lets go of them on the way. What else is asked of them stays.
    pub(crate) fn take(&mut self, split: &str) -> Vec<Example> {
        self.part_sha256(split);
        let Splits { train, dev, test, .. } = &mut self.splits;
        std::mem::take([train, dev, test][place(split)])
    }

    /// How many rows train, dev or test has, or had before they were taken.
    pub(crate) fn count(&self, split: &str) -> usize {
        self.counts[place(split)]
    }

    /// The rows of train, dev or test.
    pub(crate) fn part(&self, split: &str) -> &[Example] {
        let Splits { train, dev, test, .. } = &self.splits;
        [train, dev, test][place(split)]
    }

    /// The division of the data, for a record.
    fn split_record(&self) -> SplitRecord {
        let part = |part: &PartIndex| PartRecord { source: part.split.clone(), rows: part.rows.clone() };
        let SplitIndex { data_sha256, train, dev, test } = &self.splits.source;
        SplitRecord {
            task: self.base.task.name.clone(),
            seed: self.base.seed,
            data_sha256: data_sha256.clone(),
            train: part(train),
            dev: part(dev),
            test: part(test),
        }
    }

    /// Writes the division of the data ([`division::keep`]).
    ///
    /// # Errors
    /// If the run is of other rows, or the file can't be written.
    pub(crate) fn keep_split(&self, writer: &mut RunWriter, replace: bool) -> Result<()> {
        division::keep(writer, &self.split_record(), replace)
    }

    /// The data's name among a stage's inputs, and their hash.
    pub(crate) fn data_read(&self) -> (String, String) {
        let name = format!("{}{}", division::DATA, self.base.task.name);
        (name, self.splits.source.data_sha256.clone())
    }

    /// Notes in a stage's record what was read, so that later stages find it again.
    ///
    /// # Errors
    /// If a file can't be hashed.
    pub(crate) fn note(&self, writer: &mut RunWriter) -> Result<()> {
        self.base.note(writer)?;
        for overlap in &self.overlaps {
            let [dev, test] = setting::IN_TRAIN;
            writer.set(if overlap.part == "dev" { dev } else { test }, overlap);
        }
        let (name, sha256) = self.data_read();
        writer.read_as(name, sha256);
        Ok(())
    }
}

/// Tells which texts of dev and test stand in train too.
fn tell_overlaps(session: &Session, named: &Named, overlaps: &[Overlap]) {
    for overlap in overlaps {
        let told = format!("task {}: {overlap}; scores on them tell nothing of new texts", named.task.name);
        if session.is_new(&told) {
            tracing::warn!("{told}");
        }
    }
}

/// The rows of train, dev or test that are stored.
pub(crate) fn stored_part<'s>(stored: &'s StoredSplits, split: &str) -> SomeRows<'s> {
    let SplitIndex { train, dev, test, .. } = stored.source();
    stored.part([train, dev, test][place(split)])
}

/// Where a part stands among train, dev and test.
fn place(split: &str) -> usize {
    match split {
        "train" => 0,
        "dev" => 1,
        _ => 2,
    }
}
