// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};
use skn_artifact::names::{file, key, kind};
use skn_artifact::{
    Array, ArtifactError, DType, Overwrite, TensorBundle, TensorFile, file_hash, is_there, read_regular,
    rename_file, sha256_hex, tensor_hash, write_file,
};

use crate::adam::{Adam, AdamSettings, Moments};
use crate::clip::check_finite;
use crate::error::{Result, TuneError};

/// Raised when the content of a checkpoint changes its meaning.
const FORMAT: u32 = 2;

/// The three tensors of a parameter in a checkpoint.
const PARAMETER: &str = "parameter.";
const MEAN: &str = "mean.";
const VARIANCE: &str = "variance.";

/// Where a training stands, apart from its tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Steps done.
    pub(crate) step: u64,
    /// Epochs done.
    pub(crate) epoch: u64,
    /// The step after which dev was last evaluated; 0 for never.
    pub(crate) evaluated: u64,
    /// The step after which the best parameters were found.
    pub(crate) best_step: u64,
    /// Their score; minus infinity before the first evaluation.
    #[serde(with = "bits")]
    pub(crate) best_score: f64,
    /// Sum of the losses of all rows since the last metric line.
    #[serde(with = "bits")]
    pub(crate) loss_sum: f64,
    /// The number of these rows.
    pub(crate) loss_rows: u64,
    /// Norm of the last step's gradient.
    #[serde(with = "bits")]
    pub(crate) gradient_norm: f64,
    /// Bytes of the metrics file.
    pub(crate) metrics_bytes: u64,
    /// Their SHA-256; checkpoints of version 0.1.0 and before have none.
    #[serde(default)]
    pub(crate) metrics_sha256: Option<String>,
    /// SHA-256 of the record of the best parameters, which has theirs; none before the first evaluation.
    #[serde(default)]
    pub(crate) best_sha256: Option<String>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            step: 0,
            epoch: 0,
            evaluated: 0,
            best_step: 0,
            best_score: f64::NEG_INFINITY,
            loss_sum: 0.0,
            loss_rows: 0,
            gradient_norm: 0.0,
            metrics_bytes: 0,
            metrics_sha256: None,
            best_sha256: None,
        }
    }
}

/// A number as its 64 bits: JSON has no infinity, and its readers may be one bit off.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

/// Everything but the tensors, as it stands in the checkpoint's header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    format: u32,
    /// Device and instruction set: the same bits are promised on the same machine only.
    machine: String,
    /// What a resume must match, by name.
    settings: BTreeMap<String, String>,
    state: State,
}

/// What a training is: a checkpoint is good for no other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fingerprint {
    pub(crate) machine: String,
    pub(crate) settings: BTreeMap<String, String>,
}

/// A checkpoint that was read and found whole.
pub(crate) struct Checkpoint {
    file: TensorFile,
    header: Header,
}

impl Checkpoint {
    /// The bytes of a checkpoint. Every tensor is checked to be finite.
    pub(crate) fn encode(
        variables: &BTreeMap<String, Var>,
        adam: &Adam,
        state: &State,
        fingerprint: &Fingerprint,
    ) -> Result<Vec<u8>> {
        let mut tensors = BTreeMap::new();
        let mut insert = |prefix: &str, name: &str, tensor: &Tensor| {
            let values = tensor.flatten_all()?.to_vec1::<f32>()?;
            let name = format!("{prefix}{name}");
            check_finite(state.step, || format!("`{name}` of the checkpoint"), &values)?;
            tensors.insert(name, (tensor.dims().to_vec(), values));
            Ok::<(), TuneError>(())
        };
        for (name, variable) in variables {
            insert(PARAMETER, name, variable.as_tensor())?;
        }
        for (name, moments) in adam.moments() {
            insert(MEAN, name, &moments.mean)?;
            insert(VARIANCE, name, &moments.variance)?;
        }
        let header = Header {
            format: FORMAT,
            machine: fingerprint.machine.clone(),
            settings: fingerprint.settings.clone(),
            state: state.clone(),
        };
        encode(&header, tensors)
    }

    /// Reads a checkpoint and compares every byte that matters with its hash.
    fn read(path: &Path) -> Result<Self, ArtifactError> {
        Self::check(TensorFile::read(path)?)
    }

    fn check(file: TensorFile) -> Result<Self, ArtifactError> {
        file.expect_kind(kind::CHECKPOINT)?;
        let entry = |key: &str| {
            let value = file.metadata().get(key);
            value.ok_or_else(|| damaged(file.path(), key, "an entry of the header", "nothing"))
        };
        let (state, expected) = (entry(key::STATE)?, entry(key::CONTENT)?);
        let found = content_hash(state, &file_hash([&file])?);
        if &found != expected {
            return Err(damaged(file.path(), "content", format!("SHA-256 {expected}"), found));
        }
        let header = serde_json::from_str(state)
            .map_err(|error| damaged(file.path(), key::STATE, "what this version writes", error))?;
        Ok(Self { file, header })
    }

    pub(crate) fn state(&self) -> &State {
        &self.header.state
    }

    /// Whether this was made later in a training than another one.
    fn is_later_than(&self, other: &Self) -> bool {
        // At one step there may be two: before the evaluation, and after it.
        let place = |checkpoint: &Self| (checkpoint.state().step, checkpoint.state().evaluated);
        place(self) > place(other)
    }

    /// Refuses a checkpoint of another training; a note if it was made on another kind of machine.
    pub(crate) fn compare(&self, now: &Fingerprint) -> Result<Option<String>> {
        let mismatch = |field: &str, checkpoint: &str, now: &str| TuneError::Mismatch {
            file: self.file.path().into(),
            field: field.into(),
            checkpoint: checkpoint.into(),
            now: now.into(),
        };
        if self.header.format != FORMAT {
            return Err(mismatch("format", &self.header.format.to_string(), &FORMAT.to_string()));
        }
        let old = &self.header.settings;
        for field in old.keys().chain(now.settings.keys()) {
            let [before, after] =
                [old, &now.settings].map(|of| of.get(field).map_or("nothing", String::as_str));
            if before != after {
                return Err(mismatch(field, before, after));
            }
        }
        let (made, here) = (&self.header.machine, &now.machine);
        Ok((made != here).then(|| {
            let file = self.file.path().display();
            format!("{file}: made on {made}, resumed on {here}: the last bits of the results may differ")
        }))
    }

    /// Puts the parameters back into `variables`, and gives back the optimiser.
    pub(crate) fn restore(&self, variables: &BTreeMap<String, Var>, settings: AdamSettings) -> Result<Adam> {
        let tensor = |prefix: &str, name: &str, like: &Var| -> Result<Tensor> {
            let (shape, values) = self.file.f32(&format!("{prefix}{name}"), Some(like.dims()))?;
            Ok(Tensor::from_vec(values, shape, like.device())?)
        };
        let mut moments = BTreeMap::new();
        for (name, variable) in variables {
            variable.set(&tensor(PARAMETER, name, variable)?)?;
            if self.file.contains(&format!("{MEAN}{name}")) {
                let (mean, variance) = (tensor(MEAN, name, variable)?, tensor(VARIANCE, name, variable)?);
                moments.insert(name.clone(), Moments { mean, variance });
            }
        }
        Ok(Adam::restore(settings, self.header.state.step, moments))
    }
}

fn encode(header: &Header, tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Result<Vec<u8>> {
    let place = Path::new("checkpoint");
    let state = serde_json::to_string(header)
        .map_err(|error| damaged(place, key::STATE, "something that JSON can say", error))?;
    let bytes: Vec<Vec<u8>> = tensors
        .values()
        .map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes);
    let views = views
        .map(|((name, (shape, _)), bytes)| (name.as_str(), DType::F32, shape.as_slice(), bytes.as_slice()));
    let hash = content_hash(&state, &tensor_hash(views));
    let mut bundle = TensorBundle::new();
    bundle.describe(key::KIND, kind::CHECKPOINT).describe(key::STATE, state).describe(key::CONTENT, hash);
    for (name, (shape, values)) in tensors {
        bundle.insert(name, Array::f32(shape, values)?);
    }
    Ok(bundle.to_bytes()?)
}

fn content_hash(state: &str, tensors: &str) -> String {
    sha256_hex(format!("{state}\n{tensors}").as_bytes())
}

fn damaged(file: &Path, place: &str, expected: impl ToString, found: impl ToString) -> ArtifactError {
    ArtifactError::Format {
        file: file.into(),
        place: place.into(),
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

/// The folder of a training's checkpoints: the last one, and the one before it.
pub(crate) struct CheckpointFolder {
    current: PathBuf,
    previous: PathBuf,
    /// Whether the current file may take the place of the previous one: a damaged one may not.
    current_is_whole: bool,
}

/// What there is beside the checkpoint that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// What should be.
    InPlace,
    /// An earlier one, in the place of the loaded one.
    Exchanged,
    /// One before it that can't be read.
    Damaged,
}

/// What [`CheckpointFolder::load`] found.
pub(crate) struct Loaded {
    pub(crate) checkpoint: Checkpoint,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
    /// What the other file is.
    other: Other,
}

impl CheckpointFolder {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            current: folder.join(file::CHECKPOINT),
            previous: folder.join(file::PREVIOUS_CHECKPOINT),
            current_is_whole: false,
        }
    }

    /// Removes the checkpoints of an earlier training.
    pub(crate) fn clear(&mut self) -> Result<()> {
        for file in [&self.current, &self.previous] {
            match std::fs::remove_file(file) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(file, "remove", source));
                }
                _ => {}
            }
        }
        self.current_is_whole = false;
        Ok(())
    }

    /// The last checkpoint that is whole, or `None` if there never was one. Nothing is written.
    pub(crate) fn load(&mut self, now: &Fingerprint) -> Result<Option<Loaded>> {
        let current = match Checkpoint::read(&self.current) {
            Err(error @ ArtifactError::Io { .. }) => return Err(error.into()),
            other => other,
        };
        let previous = match Checkpoint::read(&self.previous) {
            // The one before it is not needed then.
            Err(ArtifactError::Io { .. }) if current.is_ok() => None,
            Err(error @ ArtifactError::Io { .. }) => return Err(error.into()),
            Ok(previous) => Some(Ok(previous)),
            Err(ArtifactError::Missing { .. }) if current.is_ok() => None,
            Err(error) => Some(Err(error)),
        };
        self.current_is_whole = current.is_ok();
        match (current, previous) {
            (Ok(current), Some(Ok(previous))) => self.later(current, previous, now).map(Some),
            (Ok(checkpoint), previous) => {
                let mut notes: Vec<String> = checkpoint.compare(now)?.into_iter().collect();
                let damaged = previous.and_then(Result::err);
                let other = if damaged.is_some() { Other::Damaged } else { Other::InPlace };
                notes.extend(damaged.map(|reason| format!("{reason}; it is not needed, and is removed")));
                Ok(Some(Loaded { checkpoint, notes, other }))
            }
            (Err(reason), Some(Ok(checkpoint))) => {
                let step = checkpoint.state().step;
                let name = self.previous.display();
                let mut notes =
                    vec![format!("{reason}; going on from the checkpoint before it, {name} of step {step}")];
                notes.extend(checkpoint.compare(now)?);
                Ok(Some(Loaded { checkpoint, notes, other: Other::InPlace }))
            }
            (Err(ArtifactError::Missing { .. }), Some(Err(ArtifactError::Missing { .. }))) => Ok(None),
            (Err(reason), previous) => Err(TuneError::NoCheckpoint {
                file: self.current.clone(),
                reason: reason.to_string(),
                previous: previous.and_then(Result::err).map_or_else(String::new, |error| error.to_string()),
            }),
        }
    }

    /// Of two that are whole the one that is further, which is the current one unless somebody has moved files: that is told.
    fn later(&self, current: Checkpoint, previous: Checkpoint, now: &Fingerprint) -> Result<Loaded> {
        let mut notes: Vec<String> = current.compare(now)?.into_iter().collect();
        let (names, steps) = (
            [&self.current, &self.previous].map(|file| file.display()),
            [&current, &previous].map(|checkpoint| checkpoint.state().step),
        );
        let what = format!(
            "{}: expected a later checkpoint than {}, found step {} after step {}",
            names[0], names[1], steps[0], steps[1]
        );
        // The one before it may be of another training, which this one followed: then it says nothing of this one.
        if previous.compare(now).is_err() || current.is_later_than(&previous) {
            return Ok(Loaded { checkpoint: current, notes, other: Other::InPlace });
        }
        if !previous.is_later_than(&current) {
            notes.push(format!("{what}; going on from there"));
            return Ok(Loaded { checkpoint: current, notes, other: Other::InPlace });
        }
        notes.push(format!("{what}; going on from {}", names[1]));
        Ok(Loaded { checkpoint: previous, notes, other: Other::Exchanged })
    }

    /// Puts what was loaded, and is gone on from, in its place, and what was there in the other.
    pub(crate) fn settle(&self, loaded: &Loaded) -> Result<()> {
        match loaded.other {
            Other::InPlace => Ok(()),
            Other::Exchanged => {
                let earlier = read_regular(&self.current, u64::MAX);
                let earlier = earlier.map_err(|source| io(&self.current, "read", source))?;
                rename_file(&self.previous, &self.current)?;
                Ok(write_file(&self.previous, Overwrite::Replace, &earlier)?)
            }
            Other::Damaged => {
                std::fs::remove_file(&self.previous).map_err(|source| io(&self.previous, "remove", source))
            }
        }
    }

    /// The file of the last checkpoint.
    pub(crate) fn current(&self) -> &Path {
        &self.current
    }

    /// Writes a checkpoint; the one before it is kept under its other name. At every moment one of the two is whole.
    pub(crate) fn save(&mut self, bytes: &[u8]) -> Result<()> {
        if self.current_is_whole && is_there(&self.current)? {
            rename_file(&self.current, &self.previous)?;
            self.current_is_whole = false;
        }
        write_file(&self.current, Overwrite::Replace, bytes)?;
        self.current_is_whole = true;
        Ok(())
    }
}

fn io(file: &Path, operation: &'static str, source: std::io::Error) -> TuneError {
    ArtifactError::Io { file: file.into(), operation, source }.into()
}
