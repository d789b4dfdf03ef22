//! A program that mpirun or srun has started several times.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use skn_program::{Failure, report};
use skn_session::{Alone, Group};

use crate::console::Console;

/// What sets one of these for each process that it starts. Open MPI, MPICH and Intel MPI, Slurm with PMIx and with PMI-2.
const STARTED: [&str; 4] = ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID"];

/// How long others leave rank 0 to tell of an error, which is theirs too as a rule.
const GRACE: Duration = Duration::from_secs(3);

/// How long processes that are told to stop wait for one another.
const PATIENCE: Duration = Duration::from_secs(10);

/// The processes that were started together.
pub(crate) struct Ranks {
    group: Arc<dyn Group>,
    #[cfg(feature = "mpi")]
    world: Option<Arc<crate::world::World>>,
}

impl Ranks {
    /// Meets the others, if there are any.
    ///
    /// # Errors
    /// If this program was started several times and was built without MPI, or MPI can't be had.
    pub(crate) fn meet() -> anyhow::Result<Self> {
        let starter = STARTED.into_iter().find(|name| std::env::var_os(name).is_some());
        #[cfg(feature = "mpi")]
        if starter.is_some() {
            let world = Arc::new(crate::world::World::meet()?);
            return Ok(Self { group: Arc::clone(&world) as _, world: Some(world) });
        }
        #[cfg(not(feature = "mpi"))]
        if let (Some(starter), true) = (starter, started_several()) {
            let first = std::env::var(starter).is_ok_and(|rank| rank == "0");
            let why = format!(
                "started by MPI ({starter} is set) as one of several processes, but built without it: each would do all of the work; \
                 build it with `cargo build --release --features skn/mpi`, or share a probe out with --shard"
            );
            return Err(Failure::usage(if first { why } else { String::new() }));
        }
        let _ = starter;
        Ok(Self {
            group: Arc::new(Alone),
            #[cfg(feature = "mpi")]
            world: None,
        })
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
    pub(crate) fn watch(&self, console: &Arc<Console>) -> anyhow::Result<()> {
        if !self.are_several() {
            return Ok(());
        }
        let console = Arc::clone(console);
        let wait = move || {
            loop {
                std::thread::sleep(Duration::from_millis(100));
                if let Some(signal) = console.signal() {
                    std::thread::sleep(PATIENCE);
                    std::process::exit(128 + i32::try_from(signal).unwrap_or_default());
                }
            }
        };
        std::thread::Builder::new().name("skn-signals".into()).spawn(wait)?;
        Ok(())
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
        if !self.is_first() {
            std::thread::sleep(GRACE);
        }
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

/// Whether this is one of several, by what Open MPI, MPICH or Slurm say of it.
#[cfg(not(feature = "mpi"))]
fn started_several() -> bool {
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok()?.parse::<usize>().ok())
        .any(|size| size > 1)
}
