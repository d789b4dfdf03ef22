//! The processes of an MPI job as a group.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use anyhow::Context;
use mpi::Threading;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Root, Source};
use skn_program::Failure;
use skn_session::{Group, ProbingError};

/// MPI counts what it sends in 31 bits.
const CHUNK: usize = 1 << 28;

/// What is asked of the thread that speaks MPI.
enum Call {
    Send { to: usize, bytes: Vec<u8> },
    Receive { from: usize },
    Broadcast { bytes: Vec<u8> },
    Abort { code: u8 },
}

/// All processes of the job. One thread makes all calls of MPI, so that MPI need know of no others.
pub(crate) struct World {
    rank: usize,
    size: usize,
    /// How many of the processes are on this machine.
    local: usize,
    host: String,
    calls: Mutex<Option<Sender<Call>>>,
    answers: Mutex<Receiver<Vec<u8>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Bytes that were given to others, and that came from them; what is given to all counts once.
    sent: AtomicU64,
    received: AtomicU64,
}

/// What is known at the beginning.
struct Met {
    rank: usize,
    size: usize,
    local: usize,
    host: String,
}

impl World {
    /// # Errors
    /// If MPI can't be started.
    pub(crate) fn meet() -> anyhow::Result<Self> {
        let (calls, asked) = channel();
        let (answer, answers) = channel();
        let (tell, met) = channel();
        let speak = move || speak(&tell, &asked, &answer);
        let thread =
            Builder::new().name("skn-mpi".into()).spawn(speak).context("can't start a thread for MPI")?;
        let Met { rank, size, local, host } =
            met.recv().map_err(|_| Failure::failed("MPI can't be started, or was before"))?;
        Ok(Self {
            rank,
            size,
            local,
            host,
            calls: Mutex::new(Some(calls)),
            answers: Mutex::new(answers),
            thread: Mutex::new(Some(thread)),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        })
    }

    /// Has the thread do something, and waits for its answer.
    fn call(&self, call: Call) -> Result<Vec<u8>, ProbingError> {
        let count =
            |counter: &AtomicU64, bytes: &[u8]| counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if let Call::Send { bytes, .. } | Call::Broadcast { bytes } = &call {
            count(&self.sent, bytes);
        }
        let comes = matches!(&call, Call::Receive { .. })
            || (self.rank > 0 && matches!(&call, Call::Broadcast { .. }));
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = calls.as_ref().is_some_and(|calls| calls.send(call).is_ok());
        let answer = if sent { answers.recv().ok() } else { None };
        if let Some(bytes) = answer.as_ref().filter(|_| comes) {
            count(&self.received, bytes);
        }
        answer.ok_or_else(|| ProbingError::Mismatch {
            what: "MPI".into(),
            expected: "an answer of its thread".into(),
            found: "none".into(),
        })
    }

    /// Ends all processes of the job with an exit code.
    pub(crate) fn abort(&self, code: u8) {
        self.call(Call::Abort { code }).ok();
    }
}

/// MPI is left when all processes have come to their end.
impl Drop for World {
    fn drop(&mut self) {
        // The others would wait for one that is gone.
        if std::thread::panicking() {
            self.abort(101);
        }
        let [sent, received] = [&self.sent, &self.received].map(|counter| counter.load(Ordering::Relaxed));
        tracing::debug!("MPI: {sent} bytes sent, {received} received");
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            thread.join().ok();
        }
    }
}

impl Group for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(
        &self,
        mine: Vec<u8>,
        take: &mut dyn FnMut(Vec<u8>) -> Result<(), ProbingError>,
    ) -> Result<(), ProbingError> {
        if self.rank > 0 {
            return self.call(Call::Send { to: 0, bytes: mine }).map(drop);
        }
        take(mine)?;
        (1..self.size).try_for_each(|from| take(self.call(Call::Receive { from })?))
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, ProbingError> {
        self.call(Call::Broadcast { bytes })
    }

    fn scatter(&self, of_rank: &mut dyn FnMut(usize) -> Vec<u8>) -> Result<Vec<u8>, ProbingError> {
        if self.rank > 0 {
            return self.call(Call::Receive { from: 0 });
        }
        let mine = of_rank(0);
        for to in 1..self.size {
            self.call(Call::Send { to, bytes: of_rank(to) })?;
        }
        Ok(mine)
    }

    /// The machine's cores shared by its processes; fewer where this one is bound to fewer.
    fn threads(&self) -> Option<usize> {
        let own = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Some(own.min((cores().unwrap_or(own) / self.local).max(1)))
    }

    fn name(&self) -> String {
        format!("rank {} of {} on {}", self.rank, self.size, self.host)
    }
}

/// The cores of this machine, whichever of them this process is bound to.
fn cores() -> Option<usize> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(info.lines().filter(|line| line.starts_with("processor")).count()).filter(|&cores| cores > 0)
}

/// Makes the calls of MPI, in their order, until nobody asks any more.
fn speak(tell: &Sender<Met>, asked: &Receiver<Call>, answer: &Sender<Vec<u8>>) {
    let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else { return };
    let world = universe.world();
    let [rank, size] = [world.rank(), world.size()].map(|number| usize::try_from(number).unwrap_or_default());
    let local = usize::try_from(world.split_shared(world.rank()).size()).unwrap_or(1).max(1);
    let host = mpi::environment::processor_name().unwrap_or_default();
    if tell.send(Met { rank, size, local, host }).is_err() {
        return;
    }
    while let Ok(call) = asked.recv() {
        let bytes = match call {
            Call::Send { to, bytes } => {
                send(&world, to, &bytes);
                Vec::new()
            }
            Call::Receive { from } => receive(&world, from),
            Call::Broadcast { bytes } => broadcast(&world, bytes),
            Call::Abort { code } => world.abort(code.into()),
        };
        if answer.send(bytes).is_err() {
            return;
        }
    }
}

fn rank_of(rank: usize) -> mpi::Rank {
    mpi::Rank::try_from(rank).unwrap_or_default()
}

fn send(world: &SimpleCommunicator, to: usize, bytes: &[u8]) {
    let to = world.process_at_rank(rank_of(to));
    to.send(&(bytes.len() as u64));
    bytes.chunks(CHUNK).for_each(|chunk| to.send(chunk));
}

fn receive(world: &SimpleCommunicator, from: usize) -> Vec<u8> {
    let from = world.process_at_rank(rank_of(from));
    let mut length = 0u64;
    from.receive_into(&mut length);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    for chunk in bytes.chunks_mut(CHUNK) {
        from.receive_into(chunk);
    }
    bytes
}

fn broadcast(world: &SimpleCommunicator, mut bytes: Vec<u8>) -> Vec<u8> {
    let root = world.process_at_rank(0);
    let mut length = bytes.len() as u64;
    root.broadcast_into(&mut length);
    bytes.resize(usize::try_from(length).unwrap_or_default(), 0);
    for chunk in bytes.chunks_mut(CHUNK) {
        root.broadcast_into(chunk);
    }
    bytes
}
