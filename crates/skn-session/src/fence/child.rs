//! A child process: how it is started, read, stopped and mourned.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child as Process, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use skn_artifact::is_there;
use skn_probing::Progress;

use super::limits::address_space;
use crate::error::{Result, SessionError};

/// The first word of a child's command line.
pub(super) const MARKER: &str = "--skn-read-under-limits";

/// Set where the program can run itself again.
pub(super) static UP: OnceLock<()> = OnceLock::new();

/// How often we ask whether to stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// A child that is killed, and waited for, when it is dropped.
pub(super) struct Child {
    process: Process,
    stderr: Option<JoinHandle<String>>,
    /// Why its standard input could not be written.
    refused: Option<io::Error>,
    /// Whether we were told to stop while it worked.
    stopped: bool,
}

impl Child {
    /// Starts this program again with a first word and others behind it.
    ///
    /// # Errors
    /// If the system does not let us.
    pub(super) fn start(marker: &str, words: &[OsString]) -> Result<Self> {
        let program = this_program().and_then(|program| {
            let mut command = Command::new(program);
            command.arg(marker).args(words);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
        });
        let process = program.map_err(|error| {
            SessionError::failed(format!(
                "people's files are read in a process of their own, and this program can't start one: {error}"
            ))
        })?;
        // From here on it is killed if something fails.
        let mut child = Self { process, stderr: None, refused: None, stopped: false };
        if let Some(stderr) = child.process.stderr.take() {
            let reader = Builder::new().name("skn-reader-stderr".into()).spawn(move || beginning(stderr));
            child.stderr =
                Some(reader.map_err(|error| no_thread("to hear what the reader of a file says", &error))?);
        }
        Ok(child)
    }

    /// Sends bytes to its standard input. A child that has ended does not take them; its end says why. What else goes wrong
    /// is told when it is read.
    pub(super) fn give(&mut self, bytes: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        let given = self.process.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(bytes));
        self.refused = given.err().filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    }

    /// Reads its standard output, after it was given everything. It is killed if we are told to stop: reading then ends as
    /// if it had ended itself.
    ///
    /// # Errors
    /// If it could not be given everything, there is no thread to read it, or this is asked twice.
    pub(super) fn read<T: Send>(
        &mut self,
        progress: &dyn Progress,
        read: impl FnOnce(ChildStdout) -> T + Send,
    ) -> Result<T> {
        drop(self.process.stdin.take());
        if let Some(error) = self.refused.take() {
            return Err(broken_pipe("write to", &error));
        }
        let pipe = self.process.stdout.take().ok_or_else(|| SessionError::failed("the pipe is taken"))?;
        std::thread::scope(|scope| {
            let (done, watched) = channel::<()>();
            let (process, stopped) = (&mut self.process, &mut self.stopped);
            // The system goes on reading after a signal, so somebody else must wait for it. What is read stays with who asked: memory that a
            // thread's own part of the allocator has does not go back to the system when the thread is gone.
            let watch = move || {
                while watched.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    if progress.cancelled() {
                        *stopped = true;
                        // It may have ended.
                        let _ = process.kill();
                    }
                }
            };
            let watcher = Builder::new().name("skn-reader-watch".into()).spawn_scoped(scope, watch);
            watcher.map_err(|error| no_thread("to watch over the reader of a file", &error))?;
            let found = read(pipe);
            drop(done);
            Ok(found)
        })
    }

    fn kill(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
    }

    /// How it ended. It is killed if it has not.
    pub(super) fn end(mut self, progress: &dyn Progress) -> End {
        let stopped = self.stopped || progress.cancelled();
        // Its output has ended, so it will too; unless we want no more of it.
        if stopped {
            self.kill();
        }
        let status = self.process.wait();
        let said = self.stderr.take().and_then(|said| said.join().ok()).unwrap_or_default();
        match status {
            _ if stopped => End::Stopped,
            Ok(status) if status.success() => End::Done,
            Ok(status) => End::Failed(status, said),
            Err(error) => End::Lost(error),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Waiting fails if it was waited for.
        self.kill();
        let _ = self.process.wait();
    }
}

/// What the user is told where the system gives no thread.
pub(crate) fn no_thread(what: &str, error: &io::Error) -> SessionError {
    SessionError::failed(format!("can't start a thread {what}: {error}"))
}

/// What the user is told of a pipe between this program and a child that fails though both are there.
pub(super) fn broken_pipe(operation: &str, error: &io::Error) -> SessionError {
    SessionError::failed(format!(
        "people's files are read in a process of their own, and this program can't {operation} the pipe to it: {error}; \
         this says nothing of the file"
    ))
}

/// How a child ended.
pub(super) enum End {
    /// Well.
    Done,
    /// We were told to stop.
    Stopped,
    /// Otherwise; and what it said.
    Failed(ExitStatus, String),
    /// Nobody knows.
    Lost(io::Error),
}

impl End {
    /// What the user is told of a child that read `place` and did not end well.
    pub(super) fn failure(self, place: &str, seconds: u64, memory: u64) -> SessionError {
        let limit = address_space();
        let damaged = "the file is damaged, or was made to do this";
        let reason = match self {
            Self::Stopped => return SessionError::Interrupted(format!("{place}: stopped while it was read")),
            Self::Lost(error) => {
                return SessionError::failed(format!("{place}: its reader was lost: {error}"));
            }
            // No limit of ours ends in this; the file has no part in it.
            Self::Failed(status, _) if signal(status) == Some(SIGKILL) => {
                return SessionError::failed(format!(
                    "{place}: its reader was killed (signal {SIGKILL}), by somebody or by the system for lack of memory"
                ));
            }
            Self::Done => format!("its reader ended early; {damaged}"),
            // That is what it says of itself; libraries panic or abort.
            Self::Failed(status, said) if status.code() == Some(i32::from(OWN_FAILURE)) => {
                let said = if said.is_empty() { "it does not say why" } else { said.trim_end() };
                return SessionError::failed(format!(
                    "{place}: its reader failed: {said}; this says nothing of the file"
                ));
            }
            Self::Failed(status, said) => match (signal(status), asked(&said)) {
                (_, Some(asked)) if limit.is_some_and(|limit| limit < memory.saturating_add(OTHERWISE)) => {
                    let limit = limit.unwrap_or_default();
                    return SessionError::failed(format!(
                        "{place}: its reader asked for {asked} bytes more than this process may have, which are {limit} in all \
                         (ulimit -v); reading it may take {memory} beside the program itself"
                    ));
                }
                (Some(SIGXCPU), _) => {
                    format!(
                        "reading it took more than {seconds} s of processor time, the limit for its size; {damaged}"
                    )
                }
                (_, Some(asked)) => format!(
                    "expected to read it in {memory} bytes of memory, the limit for its size, but the library asked for \
                     {asked} bytes more; {damaged}"
                ),
                (Some(signal), None) => {
                    format!("the library ended its process with signal {signal}; {damaged}")
                }
                (None, None) => format!("the library failed on it; {damaged}"),
            },
        };
        SessionError::input(format!("{place}: {reason}"))
    }
}

/// The exit code of a child that failed for another reason than the file.
pub(super) const OWN_FAILURE: u8 = 1;

/// Bytes of address space that the program itself takes, at most.
const OTHERWISE: u64 = 256 << 20;

/// The signal of a process that used up its time, and the one that nobody can refuse; the same numbers on every Unix that Rust is
/// at home on.
const SIGXCPU: i32 = 24;
const SIGKILL: i32 = 9;

fn signal(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    return None.filter(|_: &i32| status.success());
}

/// The bytes that an allocation asked for in vain, if that is why a process aborted.
fn asked(said: &str) -> Option<u64> {
    said.split("memory allocation of ").nth(1)?.split(' ').next()?.parse().ok()
}

/// The first words of a stream, which is read to its end.
fn beginning(mut stream: impl Read) -> String {
    let mut said = Vec::new();
    let _ = stream.by_ref().take(4096).read_to_end(&mut said);
    let _ = io::copy(&mut stream, &mut io::sink());
    String::from_utf8_lossy(&said).into_owned()
}

/// This program, also where another has taken its place on disk since it was started.
fn this_program() -> io::Result<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && is_there(&running).unwrap_or(false) {
        Ok(running)
    } else {
        std::env::current_exe()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use skn_artifact::ErrorKind;

    #[test]
    fn every_end_is_told() {
        let check = |status: i32, said: &str, expected: &str| {
            let error = End::Failed(ExitStatus::from_raw(status), said.into()).failure("t.parquet", 3, 1000);
            assert_eq!(error.kind(), ErrorKind::Input);
            let message = error.to_string();
            assert!(message.starts_with("t.parquet: ") && message.contains(expected), "{message}");
        };
        check(24, "", "more than 3 s of processor time");
        check(
            6,
            "memory allocation of 77 bytes failed\n",
            "in 1000 bytes of memory, the limit for its size, but the library asked for 77",
        );
        check(11, "", "ended its process with signal 11");
        check(101 << 8, "", "the library failed on it");
        let failed = |status, said: &str| {
            let error = End::Failed(ExitStatus::from_raw(status), said.into()).failure("t.parquet", 3, 1000);
            assert_eq!(error.kind(), ErrorKind::Failed);
            error.to_string()
        };
        assert_eq!(
            failed(1 << 8, "no limits\n"),
            "t.parquet: its reader failed: no limits; this says nothing of the file"
        );
        assert!(
            failed(9, "").starts_with("t.parquet: its reader was killed (signal 9)"),
            "the file is not to blame"
        );
        assert_eq!(End::Stopped.failure("t", 3, 1000).kind(), ErrorKind::Interrupted);
    }
}
