use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::ThreadId;

use candle_core::Device;
use skn_artifact::RunLock;
use skn_model::{Backend, Isa, Precision};
use skn_probing::{Alone, Group, Kinds, PassOptions, Progress, Silent, Workers};

use crate::cache::{Cache, real};
use crate::error::{Result, SessionError};
use crate::options::{Compute, DeviceChoice, Made, Stage};
use crate::rehearsal::Rehearsal;

/// How a stage is called by whoever asked for it.
type Describe = dyn Fn(&Stage) -> Vec<String> + Send + Sync;
/// The way back: how a stage was done that has this entry in the record of a run, and was called so.
type Understand = dyn Fn(&str, &[String]) -> Option<Made> + Send + Sync;

/// Where stages are done: threads and a device, with the models and data sets that were read last. Each stage is a call
/// with its options, and may be done as often as one likes.
///
/// A model, its tokenizer and a data set are read once, and again if their files change. While something uses them, files of a
/// model must not be written to in place: large matrices are read from them when they are needed. (A file that takes the
/// place of another by its name is fine, and so is what stages write.) Stages write into a run's folder
/// as the programs do, with the same names and bytes; one session may serve several threads.
///
/// ```no_run
/// use skn_session::Session;
/// use skn_session::options::{Compute, Subject, Train};
///
/// let session = Session::new(Compute::default())?;
/// let trained = session.train(&Train::new(Subject::demo("sentiment"), "runs/sentiment"))?;
/// println!("{} {:.3} on dev", trained.metric, trained.dev_score);
/// # Ok::<(), skn_session::SessionError>(())
/// ```
pub struct Session {
    compute: Compute,
    device: Device,
    workers: Workers,
    progress: Arc<dyn Progress + Send + Sync>,
    describe: Box<Describe>,
    understand: Box<Understand>,
    kinds: Kinds,
    pub(crate) cache: Cache,
    /// Where a stage is only rehearsed.
    rehearsal: Option<Arc<Rehearsal>>,
    /// What was told already.
    told: Mutex<BTreeSet<String>>,
    /// The runs that a chain holds from its first stage to its last, and the thread that does it.
    held: Mutex<Vec<(ThreadId, PathBuf, Weak<RunLock>)>>,
}

impl Session {
    /// A session that says nothing while it works.
    ///
    /// # Errors
    /// If the device or the threads can't be had, or the device can't compute in the precision asked for.
    pub fn new(compute: Compute) -> Result<Self> {
        Self::in_group(compute, Arc::new(Alone))
    }

    /// The session of one process of a group, each of which makes the same calls in the same order: they share the texts of a training, a
    /// probe, a sweep, an evaluation and of predictions. Rank 0 alone reads the data, which it hands out, and writes files, which are those of
    /// one process to the byte. All read the model, and a run that is gone on from, from the same places. Other stages refuse.
    ///
    /// Who is told of an error, and who ends the other processes then, is the caller's to decide.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn in_group(compute: Compute, group: Arc<dyn Group>) -> Result<Self> {
        let device = device(compute.device)?;
        check_precision(compute.precision, &device)?;
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = compute.threads.map(NonZeroUsize::get).or_else(|| group.threads());
        let threads = threads.unwrap_or_else(available);
        Ok(Self {
            compute,
            device,
            workers: Workers::new(threads)?.in_group(group),
            progress: Arc::new(Silent),
            describe: Box::new(|_| Vec::new()),
            understand: Box::new(|_, _| None),
            kinds: Kinds::default(),
            cache: Cache::default(),
            rehearsal: None,
            told: Mutex::default(),
            held: Mutex::default(),
        })
    }

    /// Tells how far a pass or a training is, and asks whether to stop.
    pub fn with_progress(self, progress: Arc<dyn Progress + Send + Sync>) -> Self {
        Self { progress, ..self }
    }

    /// What the record of a run says of how a stage was called, beside its options: a program's command line, say.
    pub fn with_description(self, describe: impl Fn(&Stage) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self { describe: Box::new(describe), ..self }
    }

    /// How a stage was done, of a record that has no options yet: by its entry, and by how it was called.
    pub fn with_understanding(
        self,
        understand: impl Fn(&str, &[String]) -> Option<Made> + Send + Sync + 'static,
    ) -> Self {
        Self { understand: Box::new(understand), ..self }
    }

    /// The kinds of files of statistics that are merged: those of [`skn_probing`] unless set, which statistics of one's own come to by
    /// [`Kinds::with`].
    pub fn with_kinds(self, kinds: Kinds) -> Self {
        Self { kinds, ..self }
    }

    /// Keeps nothing that was read for the next stage: for a session that does one, whose texts then go as they are
    /// tokenised.
    pub fn for_one_stage(self) -> Self {
        Self { cache: Cache::nothing(), ..self }
    }

    /// Where and how it computes.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Its threads.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The processes that share the work.
    pub(crate) fn group(&self) -> &dyn Group {
        self.workers.group()
    }

    /// Refuses what several processes can't do together.
    ///
    /// # Errors
    /// If there are several.
    pub(crate) fn require_alone(&self, what: &str) -> Result<()> {
        match self.group().size() {
            1 => Ok(()),
            size => Err(SessionError::usage(format!(
                "{what} is done by one process, found a group of {size}; start it by itself"
            ))),
        }
    }

    /// Refuses processes that do not compute with the same things: names of these, and what they are here.
    ///
    /// # Errors
    /// If another process has something else; it is told in all of them. If a process is gone.
    pub(crate) fn require_same(&self, facts: &[(&str, String)]) -> Result<()> {
        let group = self.group();
        if group.size() == 1 {
            return Ok(());
        }
        let said = |found: &[(&str, String)]| {
            let facts = found.iter().map(|(what, found)| format!("{what}\t{found}"));
            std::iter::once(group.name()).chain(facts).collect::<Vec<_>>().join("\n")
        };
        let (here, mut wrong) = (said(facts), String::new());
        group.gather(here.clone().into_bytes(), &mut |there| {
            let there = String::from_utf8_lossy(&there).into_owned();
            let differs = here.lines().zip(there.lines()).skip(1).find(|(here, there)| here != there);
            if let (Some((here_is, there_is)), true) = (differs, wrong.is_empty()) {
                let (what, expected) = here_is.split_once('\t').unwrap_or((here_is, ""));
                let found = there_is.split_once('\t').map_or("", |(_, found)| found);
                let name = |said: &str| said.lines().next().unwrap_or_default().to_owned();
                wrong = format!(
                    "{}: {what}: expected {expected}, as {} has, found {found}; processes of a group compute with the same things",
                    name(&there),
                    name(&here)
                );
            }
            Ok(())
        })?;
        let wrong = String::from_utf8_lossy(&group.broadcast(wrong.into_bytes())?).into_owned();
        if wrong.is_empty() { Ok(()) } else { Err(SessionError::input(wrong)) }
    }

    /// The kinds of files of statistics that are known.
    pub(crate) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Whether a message was not told yet: several stages of a chain find out the same. From now on it was.
    pub(crate) fn is_new(&self, message: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(message.to_owned())
    }

    /// Takes the lock of a run for a stage; within a chain that holds the run it is the chain's.
    ///
    /// # Errors
    /// If another program, or another thread, holds it.
    pub(crate) fn lock(&self, run: &Path, entry: &str) -> Result<Arc<RunLock>> {
        let (me, place) = (std::thread::current().id(), real(run)?);
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = held.iter().find(|(thread, folder, _)| *thread == me && *folder == place);
        match mine.and_then(|(.., lock)| lock.upgrade()) {
            Some(lock) => Ok(lock),
            None => Ok(Arc::new(RunLock::acquire(run, entry)?)),
        }
    }

    /// Takes the lock of a run for all stages that this thread does, until it is dropped.
    ///
    /// # Errors
    /// As [`Self::lock`].
    pub(crate) fn hold(&self, run: &Path, entry: &str) -> Result<Arc<RunLock>> {
        let lock = self.lock(run, entry)?;
        let place = real(run)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|(.., lock)| lock.strong_count() > 0);
        held.push((std::thread::current().id(), place, Arc::downgrade(&lock)));
        Ok(lock)
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// The device as records name it.
    pub(crate) fn device_name(&self) -> &'static str {
        if matches!(self.device, Device::Cpu) { "cpu" } else { "cuda" }
    }

    pub(crate) fn progress_shared(&self) -> Arc<dyn Progress + Send + Sync> {
        match &self.rehearsal {
            Some(rehearsal) => Arc::clone(rehearsal) as _,
            None => Arc::clone(&self.progress),
        }
    }

    pub(crate) fn progress(&self) -> &dyn Progress {
        match &self.rehearsal {
            Some(rehearsal) => &**rehearsal,
            None => &*self.progress,
        }
    }

    /// The rehearsal that is under way.
    pub(crate) fn rehearsal(&self) -> Option<&Arc<Rehearsal>> {
        self.rehearsal.as_ref()
    }

    /// From now on stages, those of a chain or others, are rehearsed with so many texts of each part, or done again.
    pub(crate) fn rehearse_with(&mut self, sample: Option<usize>, of_chain: bool) {
        let progress = &self.progress;
        let new = |sample| Arc::new(Rehearsal::new(sample, of_chain, Arc::clone(progress)));
        self.rehearsal = sample.map(new);
    }

    pub(crate) fn description(&self, stage: &Stage) -> Vec<String> {
        (self.describe)(stage)
    }

    pub(crate) fn made_by(&self, entry: &str, arguments: &[String]) -> Option<Made> {
        (self.understand)(entry, arguments)
    }

    /// How a pass runs; `batch` is the most texts at once.
    pub(crate) fn pass_over<'a>(&'a self, part: &'a str, batch: Option<NonZeroUsize>) -> PassOptions<'a> {
        PassOptions { part, ..self.pass(batch) }
    }

    /// Refuses to go on where nothing can be captured as a CUDA graph.
    ///
    /// # Errors
    /// If the device is no NVIDIA GPU.
    pub(crate) fn require_graphs(&self) -> Result<()> {
        let hint = match candle_core::utils::cuda_is_available() {
            true => "use option `device` cuda, or leave it out",
            false => "this program was built without CUDA; leave it out",
        };
        match Backend::of(&self.device).replays() {
            true => Ok(()),
            false => Err(SessionError::Device(format!(
                "option `cuda_graphs`: expected an NVIDIA GPU, found the CPU; {hint}"
            ))),
        }
    }

    /// The same, of texts that are no part of a task's data.
    pub(crate) fn pass(&self, batch: Option<NonZeroUsize>) -> PassOptions<'_> {
        let options = PassOptions { progress: self.progress(), ..PassOptions::new(&self.workers) };
        PassOptions { max_sequences: batch.map_or(options.max_sequences, NonZeroUsize::get), ..options }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let threads = self.workers.threads();
        f.debug_struct("Session").field("device", &self.device).field("threads", &threads).finish()
    }
}

/// The device that a user names. `auto` is CUDA where this program was built with it and the machine has it; asked for
/// CUDA that can't be had there is never a silent run on the CPU.
fn device(choice: DeviceChoice) -> Result<Device> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if !candle_core::utils::cuda_is_available() => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Device::new_cuda(0).unwrap_or_else(|error| {
            let error = error.to_string();
            if has_no_card(&error) {
                tracing::info!("option `device` auto: no NVIDIA card here, so the CPU computes");
            } else {
                // There is one, and somebody who built this program for it wants to know why it idles.
                tracing::warn!("option `device` auto: the CPU computes, for {}", cannot_open(0, &error));
            }
            Device::Cpu
        })),
        DeviceChoice::Cuda(number) if candle_core::utils::cuda_is_available() => Device::new_cuda(number)
            .map_err(|error| SessionError::Device(refused(number, &error.to_string()))),
        DeviceChoice::Cuda(number) => Err(SessionError::Device(format!(
            "cuda:{number}: this program was built without CUDA; build it with \
             `cargo build --release --features cuda` (needs nvcc), or use option `device` cpu"
        ))),
    }
}

/// Whether CUDA says that the machine has no card at all.
fn has_no_card(error: &str) -> bool {
    error.contains("CUDA_ERROR_NO_DEVICE")
}

/// What is said to somebody who asked for a card that CUDA does not open.
fn refused(number: usize, error: &str) -> String {
    format!("{}; or use option `device` cpu", cannot_open(number, error))
}

/// Why CUDA does not open a card and what to do about it, by what it says.
fn cannot_open(number: usize, error: &str) -> String {
    let hint = if has_no_card(error) {
        "no NVIDIA card is seen here"
    } else if error.contains("CUDA_ERROR_INVALID_DEVICE") {
        "there is no card of this number; `nvidia-smi -L` lists them"
    } else if error.contains("INSUFFICIENT")
        || error.contains("MISMATCH")
        || error.contains("UNSUPPORTED_PTX")
    {
        "the driver is older than the CUDA that this program was built with; `nvidia-smi` says which one it takes"
    } else {
        "the device can't be opened"
    };
    // A backtrace, where one is asked for, comes on lines of its own.
    let error = error.lines().next().unwrap_or_default();
    format!("cuda:{number}: {hint} ({error})")
}

/// Refuses a precision that can't be had on a device.
fn check_precision(precision: Precision, device: &Device) -> Result<()> {
    let backend = Backend::of(device);
    if !backend.multiplies_in(precision) {
        return Err(SessionError::usage(match precision {
            Precision::Tf32 => {
                "option `precision` tf32: expected an NVIDIA GPU (option `device` cuda), found another device, which multiplies in \
                 f32 or bf16; leave it out for f32"
            }
            _ => {
                "option `precision` bf16: this device has no products in it; leave it out, or use option `device` cpu"
            }
        }));
    }
    if let Some(card) = Backend::too_old_for(precision, device)? {
        return Err(SessionError::usage(old_card(precision, &card)));
    }
    if precision == Precision::Bf16 && backend == Backend::Cpu && !Isa::best().multiplies_bf16() {
        tracing::warn!(
            "option `precision` bf16: this CPU has no AVX512-BF16, so it saves memory, but no time"
        );
    }
    Ok(())
}

/// What is said to somebody who asked for a precision that a card is too old for.
fn old_card(precision: Precision, card: &str) -> String {
    let name = precision.name();
    format!(
        "option `precision` {name}: expected a GPU of compute capability 8.0 or more, found {card}; leave it out for f32, or use option \
         `device` cpu"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_too_old_is_told_with_what_to_do() {
        let said = old_card(Precision::Bf16, "Tesla T4, compute capability 7.5");
        let expected = "option `precision` bf16: expected a GPU of compute capability 8.0 or more, found Tesla T4, compute capability 7.5; \
                        leave it out for f32, or use option `device` cpu";
        assert_eq!(said, expected);
        // The processor has no such number.
        assert!(check_precision(Precision::Bf16, &Device::Cpu).is_ok());
    }

    #[test]
    fn a_card_that_cannot_be_opened_is_told_with_what_to_do() {
        let said = |error| cannot_open(1, &format!("DriverError({error}, \"why\")\n   0: a backtrace"));
        let no_card = "cuda:1: no NVIDIA card is seen here (DriverError(CUDA_ERROR_NO_DEVICE, \"why\"))";
        assert_eq!(said("CUDA_ERROR_NO_DEVICE"), no_card);
        // Where the CPU computes already nobody need be told to use it.
        assert_eq!(
            refused(1, "DriverError(CUDA_ERROR_NO_DEVICE, \"why\")"),
            format!("{no_card}; or use option `device` cpu")
        );
        assert!(said("CUDA_ERROR_INVALID_DEVICE").contains("no card of this number"));
        assert!(said("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH").contains("the driver is older"));
        assert!(
            said("CUDA_ERROR_OUT_OF_MEMORY").starts_with("cuda:1: the device can't be opened (DriverError(")
        );
        assert!(has_no_card(no_card) && !has_no_card("CUDA_ERROR_INVALID_DEVICE"));
    }
}
