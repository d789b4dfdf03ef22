//! A program that mpirun or srun has started several times.

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use skn_program::{Failure, report};
use skn_session::{Alone, Group};

use crate::console::Console;

/// The number of a process among those that it was started with: Open MPI, MPICH and Intel MPI, Slurm with PMIx and with PMI-2.
const RANKS: [&str; 4] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID"];

/// How many there are; last what Slurm says.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"];

/// How long others leave rank 0 to tell of an error, which is theirs too as a rule.
const GRACE: Duration = Duration::from_secs(3);

/// How long processes that are told to stop wait for one another.
const PATIENCE: Duration = Duration::from_secs(10);

/// The processes that were started together.
pub(crate) struct Ranks {
    group: Arc<dyn Group>,
    #[cfg(feature = "mpi")]
    world: Option<Arc<crate::world::World>>,
    /// Whether a signal came to this one.
    is_signalled: Cell<bool>,
}

impl Ranks {
    /// Meets the others, if MPI has started some.
    ///
    /// # Errors
    /// If MPI can't be had.
    pub(crate) fn meet() -> anyhow::Result<Self> {
        #[cfg(feature = "mpi")]
        if RANKS.into_iter().any(|name| std::env::var_os(name).is_some()) {
            let world = Arc::new(crate::world::World::meet()?);
            return Ok(Self {
                group: Arc::clone(&world) as _,
                world: Some(world),
                is_signalled: Cell::new(false),
            });
        }
        Ok(Self {
            group: Arc::new(Alone),
            #[cfg(feature = "mpi")]
            world: None,
            is_signalled: Cell::new(false),
        })
    }

    /// Refuses to be one of several processes that know nothing of each other, each of which would do all of the work.
    ///
    /// # Errors
    /// If this is one.
    pub(crate) fn refuse_strangers(&self) -> anyhow::Result<()> {
        // What MPI says of its processes counts before what Slurm says of those that MPI was started by.
        let found = SIZES.into_iter().find_map(|name| {
            let size: usize = std::env::var(name).ok()?.parse().ok()?;
            Some((name, size))
        });
        let Some((size, _)) = found.filter(|(_, size)| *size > 1 && !self.are_several()) else {
            return Ok(());
        };
        Err(Failure::usage(if cfg!(feature = "mpi") {
            format!(
                "{size} says that this is one of several processes, and MPI that it is alone: each would do all of the work; start them \
                 by the mpirun of the MPI that this was built with, or by srun --mpi=pmix"
            )
        } else {
            format!(
                "{size} says that this is one of several processes, and it is built without MPI: each would do all of the work; build it \
                 with `cargo build --release --features skn/mpi`"
            )
        }))
    }

    pub(crate) fn group(&self) -> Arc<dyn Group> {
        Arc::clone(&self.group)
    }

    pub(crate) fn is_first(&self) -> bool {
        self.group.is_first()
    }

    pub(crate) fn are_several(&self) -> bool {
        self.group.size() > 1
    }

    /// Ends this process where the others do not let it end in time after a signal.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(crate) fn watch(&self, program: &'static str, console: &Arc<Console>) -> anyhow::Result<()> {
        if !self.are_several() {
            return Ok(());
        }
        let console = Arc::clone(console);
        let wait = move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                if let Some(signal) = console.signal() {
                    std::thread::sleep(PATIENCE);
                    let waits = anyhow::anyhow!("the other processes did not stop in time");
                    let said = Failure::signal(signal, &waits);
                    report(program, |_| 1, Err(said));
                    std::process::exit(128 + i32::try_from(signal).unwrap_or_default());
                }
            }
        };
        std::thread::Builder::new().name("skn-signals".into()).spawn(wait)?;
        Ok(())
    }

    /// Ends a process whose command line can't be read, as [`Self::end`] does: `tell` says why, and gives the exit code.
    pub(crate) fn refuse(self, code: u8, tell: impl FnOnce() -> ExitCode) -> ExitCode {
        if self.are_several() && !self.is_first() {
            std::thread::sleep(GRACE);
        }
        let ended = tell();
        #[cfg(feature = "mpi")]
        if let Some(world) = self.world.as_ref().filter(|_| self.are_several()) {
            world.abort(code);
        }
        #[cfg(not(feature = "mpi"))]
        let _ = code;
        ended
    }

    /// Notes whether a signal came to this process.
    pub(crate) fn note_signal(&self, console: &Console) {
        self.is_signalled.set(console.signal().is_some());
    }

    /// How the process ends: one that failed ends the others. Rank 0 says what was wrong, another only if that does not.
    pub(crate) fn end(
        self,
        program: &str,
        code: fn(&anyhow::Error) -> u8,
        result: anyhow::Result<()>,
    ) -> ExitCode {
        if !self.are_several() {
            return report(program, code, result);
        }
        let error = match result {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error,
        };
        let number = code(&error);
        // Who was stopped without a signal leaves it to the one that had it.
        let is_stopped_by_another = number == 130 && !self.is_signalled.get();
        let patience = if is_stopped_by_another { 2 } else { u32::from(!self.is_first()) };
        std::thread::sleep(GRACE * patience);
        let said = match self.is_first() {
            true => error,
            false => Failure::coded(number, format!("{}: {error:#}", self.group.name())),
        };
        let ended = report(program, code, Err(said));
        #[cfg(feature = "mpi")]
        if let Some(world) = &self.world {
            world.abort(number);
        }
        ended
    }
}

/// Whether this process, of several that were called alike, is the one that prints help, which needs no meeting.
pub(crate) fn says_first() -> bool {
    let rank = RANKS.into_iter().find_map(|name| std::env::var(name).ok());
    rank.is_none_or(|rank| rank == "0")
}
