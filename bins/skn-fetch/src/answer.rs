//! Answers that come in threads of their own: what waits for a silent server does not end when a signal comes.

use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::Result;
use skn_program::Failure;
use ureq::Body;

use crate::patience::{Patience, Waited, Watch};

/// A failed request, and whether another try may help.
pub(crate) enum Trouble {
    /// The connection or the server failed.
    Passing(anyhow::Error),
    /// The server has no bytes from there on.
    NoSuchRange(anyhow::Error),
    /// It will fail again.
    Lasting(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Lasting(error)
    }
}

impl From<Trouble> for anyhow::Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(error) | Trouble::NoSuchRange(error) | Trouble::Lasting(error) => error,
        }
    }
}

/// Pieces of a content, an empty one at the end.
pub(crate) type Pieces = Receiver<std::io::Result<Vec<u8>>>;

/// An answer that a thread waits for, and whose body it reads then.
pub(crate) struct Awaited<T> {
    head: Receiver<Result<T, Trouble>>,
    pieces: Pieces,
}

/// Asks in a thread.
///
/// # Errors
/// If none can be made.
pub(crate) fn in_thread<T: Send + 'static>(
    ask: impl FnOnce() -> Result<(Body, T), Trouble> + Send + 'static,
) -> Result<Awaited<T>> {
    let (head_sender, head) = sync_channel(1);
    let (sender, pieces) = sync_channel(4);
    let run = move || match ask() {
        Ok((body, begun)) => {
            if head_sender.send(Ok(begun)).is_ok() {
                send(body.into_reader(), &sender);
            }
        }
        // An error here: nobody waits any more.
        Err(trouble) => drop(head_sender.send(Err(trouble))),
    };
    thread::Builder::new()
        .spawn(run)
        .map_err(|error| Failure::failed(format!("no thread can be made to wait for the Hub: {error}")))?;
    Ok(Awaited { head, pieces })
}

impl<T> Awaited<T> {
    /// Waits for the headers.
    ///
    /// # Errors
    /// If they don't come; if a signal came or the time is over.
    pub(crate) fn come(
        self,
        name: &str,
        endpoint: &str,
        watch: &Watch<'_>,
        patience: &mut [&mut Patience],
    ) -> Result<(T, Pieces), Trouble> {
        let passing = |why: String| Err(Trouble::Passing(Failure::offline(format!("{endpoint}: {why}"))));
        match watch.wait(name, &self.head, patience, |_| 0)? {
            Waited::Came(head) => Ok((head?, self.pieces)),
            Waited::Gone => passing("the request was given up".into()),
            Waited::Slow(slow) => passing(format!("no answer: {slow}")),
        }
    }
}

fn send(mut reader: impl Read, to: &SyncSender<std::io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let piece = match reader.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map(|count| buffer[..count].to_vec()),
        };
        let last = piece.as_ref().map_or(true, Vec::is_empty);
        // An error here: nobody wants more.
        if to.send(piece).is_err() || last {
            return;
        }
    }
}
