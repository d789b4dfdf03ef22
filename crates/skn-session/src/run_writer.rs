//! A run that is written.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use skn_artifact::names::{file, stage};
use skn_artifact::{
    ArtifactError, Overwrite, ReadyFile, RunLock, RunRecord, StageRecord, TensorBundle, hash_file, is_file,
    is_there, real_path, refuse_link, sha256_hex, write_file,
};
use skn_probing::Group;

use crate::error::{Result, SessionError};
use crate::options::{Made, Stage};
use crate::rehearsal::{Rehearsal, grows_with_texts};
use crate::session::Session;

/// A run that is written: locked for one stage, with a record of what was read and written.
///
/// Files are kept until [`RunWriter::finish`]: a stage that fails half-way leaves what there was before.
pub(crate) struct RunWriter {
    folder: PathBuf,
    entry: String,
    overwrite: Overwrite,
    record: StageRecord,
    began: Instant,
    /// Files that are made, and not written yet, in the order in which they will be.
    made: Vec<(String, Content)>,
    /// Files of earlier calls that would be read as this one's.
    obsolete: Vec<String>,
    /// Where nothing is written, and what would be is noted.
    rehearsal: Option<Arc<Rehearsal>>,
    /// The processes that do the stage: rank 0 writes, the others make nothing and wait for it.
    group: Arc<dyn Group>,
    _lock: Option<Arc<RunLock>>,
}

/// What a file will hold.
enum Content {
    Bytes(Vec<u8>),
    /// Too large for memory: it is written already, beside its place, and goes if the stage fails.
    Ready(ReadyFile),
}

/// Bytes of JSON that are not kept until the stage is done, nor made at once: rows of `split.json` are about as many bytes as their tokens.
const LARGE: u64 = 1 << 16;
/// Bytes of it that are made at once.
const PIECE: usize = 1 << 16;

impl RunWriter {
    /// Locks a folder for a stage, which has this entry in the run's record.
    ///
    /// # Errors
    /// If another program holds it, or it can't be made.
    pub(crate) fn open(
        session: &Session,
        stage: impl Into<Stage>,
        folder: &Path,
        entry: &str,
        overwrite: bool,
    ) -> Result<Self> {
        if folder.as_os_str().is_empty() {
            return Err(SessionError::usage("option `out`: expected a folder, found none"));
        }
        let stage = stage.into();
        if !stage.takes_a_group() {
            session.require_alone(&format!("stage {entry}"))?;
        }
        let arguments = session.description(&stage);
        let options = Some(serde_json::to_value(Made::new(stage, session.compute()))?);
        let rehearsal = session.rehearsal().cloned();
        if session.group().size() > 1 {
            let asked = sha256_hex(options.iter().map(ToString::to_string).collect::<String>().as_bytes());
            session.require_same(&[("options (SHA-256)", asked)])?;
        }
        let group = session.workers().group_shared();
        let locks = rehearsal.is_none() && group.rank() == 0;
        let lock = if locks { Some(session.lock(folder, entry)?) } else { None };
        for name in [file::RUN, file::SPLIT, file::METRICS, file::BEST, file::LAST, file::INFO] {
            refuse_link(folder, Path::new(name))?;
        }
        // What can't be added to at the end is known before any work.
        RunRecord::read(folder)?;
        let version = env!("CARGO_PKG_VERSION").into();
        Ok(Self {
            folder: folder.into(),
            entry: entry.into(),
            overwrite: if overwrite { Overwrite::Replace } else { Overwrite::Refuse },
            record: StageRecord {
                arguments,
                options,
                version,
                started: unix_seconds(),
                ..Default::default()
            },
            began: Instant::now(),
            made: Vec::new(),
            obsolete: Vec::new(),
            rehearsal,
            group,
            _lock: lock,
        })
    }

    /// Where what writes into no run notes what it reads, while it is rehearsed; [`Self::finish`] ends it.
    pub(crate) fn without_run(session: &Session) -> Option<Self> {
        let rehearsal = session.rehearsal().cloned()?;
        Some(Self {
            folder: PathBuf::new(),
            entry: String::new(),
            overwrite: Overwrite::Refuse,
            record: StageRecord::default(),
            began: Instant::now(),
            made: Vec::new(),
            obsolete: Vec::new(),
            rehearsal: Some(rehearsal),
            group: session.workers().group_shared(),
            _lock: None,
        })
    }

    /// The run's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether this process is the one that writes.
    pub(crate) fn writes(&self) -> bool {
        self.group.rank() == 0
    }

    /// Whether files that are there may be replaced.
    pub(crate) fn replaces(&self) -> bool {
        self.overwrite == Overwrite::Replace
    }

    /// Refuses early what would be refused at the end, so that no work is lost.
    ///
    /// # Errors
    /// Names the first file that exists and may not be replaced.
    pub(crate) fn check_free(&self, names: &[impl AsRef<Path>]) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        for name in names {
            refuse_link(&self.folder, name.as_ref())?;
        }
        if self.replaces() {
            return Ok(());
        }
        for path in names.iter().map(|name| self.folder.join(name.as_ref())) {
            if is_there(&path)? {
                let elsewhere = match self.entry.as_str() {
                    // A report goes where its run is.
                    stage::REPORT => "",
                    stage::MASK => ", option `name` NAME keeps both, option `out` RUN writes elsewhere",
                    _ => ", option `out` RUN writes elsewhere",
                };
                let path = path.display();
                return Err(SessionError::input(format!(
                    "{path}: exists; option `overwrite` replaces it{elsewhere}"
                )));
            }
        }
        Ok(())
    }

    /// Notes a file that was read: by its path in the run if it is one of the run's.
    ///
    /// # Errors
    /// If it can't be read again to be hashed.
    pub(crate) fn read(&mut self, path: &Path) -> Result<()> {
        if self.writes() && is_file(path)? {
            let run = if self.folder.as_os_str().is_empty() { None } else { real_path(&self.folder)? };
            let place = real_path(path)?;
            let inside = place.as_ref().zip(run).and_then(|(place, run)| place.strip_prefix(run).ok());
            let name = inside.unwrap_or(path).display().to_string();
            if let Some(rehearsal) = &self.rehearsal {
                rehearsal.seen().sizes.extend(length(path).map(|bytes| (name.clone(), bytes)));
            }
            self.record.inputs.insert(name, hash_file(path)?);
        }
        Ok(())
    }

    /// Notes something that was read, with the hash of its content.
    pub(crate) fn read_as(&mut self, what: impl Into<String>, sha256: impl Into<String>) {
        self.record.inputs.insert(what.into(), sha256.into());
    }

    /// Notes what a file of the run was when the stage began, which has replaced it since; nothing, if it was not there.
    pub(crate) fn read_before(&mut self, name: String, sha256: Option<String>) {
        match sha256 {
            Some(sha256) => drop(self.record.inputs.insert(name, sha256)),
            None => drop(self.record.inputs.remove(&name)),
        }
    }

    /// Notes a setting.
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.record.settings.insert(name.into(), value.to_string());
    }

    /// Makes tensors the content of `name` in the run.
    ///
    /// # Errors
    /// If the file exists and may not be replaced.
    pub(crate) fn tensors(&mut self, name: &str, bundle: &TensorBundle) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        if !bundle.is_made_in_pieces() {
            return self.bytes(name, bundle.to_bytes()?);
        }
        self.check_free(&[name])?;
        let path = self.folder.join(name);
        if self.rehearsal.is_some() {
            let mut bytes = 0;
            bundle.write(&mut |piece| {
                bytes += piece.len() as u64;
                Ok(())
            })?;
            self.note(name, bytes);
            return Ok(());
        }
        let file = ReadyFile::write(&path, self.overwrite, |write| bundle.write(write))?;
        self.made.push((name.into(), Content::Ready(file)));
        Ok(())
    }

    /// Makes JSON the content of `name` in the run.
    ///
    /// # Errors
    /// As [`Self::tensors`].
    pub(crate) fn json(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let mut counted = Length(0);
        serde_json::to_writer_pretty(&mut counted, value)?;
        let length = counted.0 + 1;
        if length < LARGE {
            let mut bytes = Vec::with_capacity(length as usize);
            serde_json::to_writer_pretty(&mut bytes, value)?;
            bytes.push(b'\n');
            return self.bytes(name, bytes);
        }
        self.check_free(&[name])?;
        if self.rehearsal.is_some() {
            self.note(name, length);
            return Ok(());
        }
        let path = self.folder.join(name);
        let file = ReadyFile::write(&path, self.overwrite, |write| {
            let mut pieces = BufWriter::with_capacity(PIECE, Pieces { write, refused: None });
            let made = serde_json::to_writer_pretty(&mut pieces, value).map_err(io::Error::from);
            let made = made.and_then(|()| pieces.write_all(b"\n")).and_then(|()| pieces.flush());
            let Pieces { refused, .. } = pieces.into_parts().0;
            made.map_err(|source| {
                refused.unwrap_or(ArtifactError::Io { file: path.clone(), operation: "write", source })
            })
        })?;
        self.made.push((name.into(), Content::Ready(file)));
        Ok(())
    }

    /// Makes bytes the content of `name` in the run.
    ///
    /// # Errors
    /// As [`Self::tensors`].
    pub(crate) fn bytes(&mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        self.check_free(&[name])?;
        let bytes = bytes.into();
        match &self.rehearsal {
            Some(_) => self.note(name, bytes.len() as u64),
            None => self.made.push((name.into(), Content::Bytes(bytes))),
        }
        Ok(())
    }

    /// Notes what would be written.
    fn note(&self, name: &str, bytes: u64) {
        if let Some(rehearsal) = &self.rehearsal {
            let path = self.folder.join(name);
            let grows = grows_with_texts(&path);
            rehearsal.writes(path, Some(bytes), grows);
        }
    }

    /// Where files without a name may be made meanwhile: beside the run's, or where a rehearsal leaves nothing.
    pub(crate) fn scratch(&self) -> PathBuf {
        if self.rehearsal.is_some() || !self.writes() { std::env::temp_dir() } else { self.folder.clone() }
    }

    /// A file of the run that is to go when this stage's are written.
    pub(crate) fn remove(&mut self, name: &str) {
        self.obsolete.push(name.into());
    }

    /// Files that are to go as well, if stages of the run wrote them: they would be read as this one's. Those of others stay.
    ///
    /// # Errors
    /// If the run's record can't be read.
    pub(crate) fn remove_listed(&mut self, names: impl IntoIterator<Item = String>) -> Result<()> {
        let record = RunRecord::read(&self.folder)?;
        let is_listed = |name: &String| record.stages.values().any(|stage| stage.outputs.contains_key(name));
        self.obsolete.extend(names.into_iter().filter(is_listed));
        Ok(())
    }

    /// Files that are to go as well: those that an earlier call of this stage made and this one does not, of the kind that
    /// `is_outdated` says of their names.
    ///
    /// # Errors
    /// If the run's record can't be read.
    pub(crate) fn remove_former(
        &mut self,
        made: &[String],
        is_outdated: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let record = RunRecord::read(&self.folder)?;
        let former = record.stages.get(&self.entry).map(|stage| stage.outputs.keys());
        let gone = former.into_iter().flatten().filter(|name| !made.contains(name) && is_outdated(name));
        self.obsolete.extend(gone.cloned());
        Ok(())
    }

    /// Writes what was made so far.
    ///
    /// # Errors
    /// If a file can't be written.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if self.rehearsal.is_some() || !self.writes() {
            return Ok(());
        }
        for (name, content) in std::mem::take(&mut self.made) {
            let sha256 = match content {
                Content::Bytes(bytes) => {
                    write_file(&self.folder.join(&name), self.overwrite, &bytes)?;
                    sha256_hex(&bytes)
                }
                Content::Ready(file) => {
                    let sha256 = file.sha256()?;
                    file.publish(self.overwrite)?;
                    sha256
                }
            };
            self.record.outputs.insert(name, sha256);
        }
        for name in &self.obsolete {
            refuse_link(&self.folder, Path::new(name))?;
            let path = self.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ArtifactError::Io { file: path, operation: "remove", source }.into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The stage's entry in the run's record.
    pub(crate) fn entry(&self) -> &str {
        &self.entry
    }

    /// Whether this is a rehearsal of a chain: earlier stages of it would have written to the run.
    pub(crate) fn rehearses_chain(&self) -> bool {
        self.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.is_of_chain())
    }

    /// Notes a file of the run that a library wrote.
    ///
    /// # Errors
    /// If it can't be read to be hashed.
    pub(crate) fn wrote(&mut self, name: &str) -> Result<()> {
        if !self.writes() {
            return Ok(());
        }
        let hash = hash_file(&self.folder.join(name))?;
        self.record.outputs.insert(name.into(), hash);
        Ok(())
    }

    /// Ends the stage: writes what it made, and its record into `run.json`.
    ///
    /// # Errors
    /// If something can't be written.
    pub(crate) fn finish(mut self) -> Result<()> {
        if let Some(rehearsal) = &self.rehearsal {
            let inputs = self.record.inputs.into_iter().map(|(name, sha256)| (name, Some(sha256)));
            rehearsal.seen().reads.extend(inputs);
            if !self.folder.as_os_str().is_empty() {
                rehearsal.writes(self.folder.join(file::RUN), None, false);
            }
            return Err(SessionError::Rehearsed);
        }
        let group = Arc::clone(&self.group);
        if !self.writes() {
            return Ok(group.wait()?);
        }
        self.flush()?;
        let (finished, seconds) = (unix_seconds(), self.began.elapsed().as_secs_f64());
        let record = StageRecord { finished, seconds, ..self.record };
        RunRecord::update(&self.folder, &self.entry, record, &self.obsolete)?;
        Ok(group.wait()?)
    }
}

/// How many bytes were written to it.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hands on what is written to it, and keeps why that could not be.
struct Pieces<'w> {
    write: &'w mut dyn FnMut(&[u8]) -> skn_artifact::Result<()>,
    refused: Option<ArtifactError>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match (self.write)(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.refused = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Session {
    /// Writes a file beside what a [`RunWriter`] writes; while a stage is rehearsed it is noted.
    ///
    /// # Errors
    /// If it is there and may not be replaced, or can't be written.
    pub(crate) fn write_beside(&self, path: &Path, overwrite: Overwrite, bytes: &[u8]) -> Result<()> {
        let Some(rehearsal) = self.rehearsal() else { return Ok(write_file(path, overwrite, bytes)?) };
        if overwrite == Overwrite::Refuse && is_there(path)? {
            return Err(ArtifactError::Exists { file: path.into() }.into());
        }
        rehearsal.writes(path.into(), Some(bytes.len() as u64), false);
        Ok(())
    }
}

/// The bytes of a file, where the system tells: what a rehearsal says of it.
pub(crate) fn length(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|found| found.len())
}

/// Seconds since 1970.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
