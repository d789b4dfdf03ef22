//! What a user hands in: a file, or standard input.

use std::io::Read;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use anyhow::Result;
use skn_artifact::read_regular;
use skn_program::{Console, Failure};

/// How often it is asked whether to stop.
const HEARTBEAT: Duration = Duration::from_millis(50);

/// All bytes of a file; of standard input, if that is `-`. Of files only regular ones are read: others may have no end.
///
/// # Errors
/// If it can't be read, or a signal came meanwhile.
pub(crate) fn read_all(path: &Path, console: &Console) -> Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        return standard_input(console);
    }
    read_regular(path, u64::MAX).map_err(|error| {
        Failure::input(format!(
            "{}: {error}; expected a file of texts, or - for standard input",
            path.display()
        ))
    })
}

/// Who waits for input that may never come still listens to signals.
fn standard_input(console: &Console) -> Result<Vec<u8>> {
    let (send, receive) = channel();
    let read = move || {
        let mut bytes = Vec::new();
        let read = std::io::stdin().read_to_end(&mut bytes).map(|_| bytes);
        // Nobody waits for it any more where a signal came.
        send.send(read).ok();
    };
    let thread = Builder::new().name("input".into()).spawn(read);
    thread.map_err(|error| anyhow::anyhow!("a thread that reads standard input can't be made: {error}"))?;
    loop {
        match receive.recv_timeout(HEARTBEAT) {
            Ok(read) => {
                return read
                    .map_err(|error| Failure::input(format!("standard input: {error}; expected texts")));
            }
            Err(RecvTimeoutError::Timeout) if console.signal().is_none() => {}
            Err(_) => return Err(Failure::input("standard input: it was not read to its end")),
        }
    }
}
