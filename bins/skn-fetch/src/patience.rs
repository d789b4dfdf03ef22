//! How long a server is waited for.

use std::fmt;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use skn_program::{Console, Failure};

/// How long a signal may wait to be seen.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(100);

/// What flags and environment say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long an answer may take, from the look-up of the address to the end of the headers.
    pub(crate) answer: Duration,
    /// How long bytes may come slower than the least rate.
    pub(crate) silence: Duration,
    /// Bytes a second; with 0 any byte is enough.
    pub(crate) least_rate: u64,
    /// How long all may take.
    pub(crate) whole: Option<Duration>,
}

/// Waits for what servers send, as long as nobody says stop.
pub(crate) struct Watch<'a> {
    console: &'a Console,
    pub(crate) limits: Limits,
    /// When all must be over; nothing if that never comes.
    end: Option<Instant>,
}

/// What came of waiting.
pub(crate) enum Waited<T> {
    /// It is here.
    Came(T),
    /// Nobody sends it any more.
    Gone,
    /// Too little came for too long.
    Slow(Slow),
}

impl<'a> Watch<'a> {
    /// Begins the time that all may take.
    pub(crate) fn new(console: &'a Console, limits: Limits) -> Self {
        Self { console, limits, end: limits.whole.and_then(|whole| Instant::now().checked_add(whole)) }
    }

    /// Goes on, unless a signal came or the time is over.
    ///
    /// # Errors
    /// In these cases, naming `what` was at work.
    pub(crate) fn check(&self, what: &str) -> Result<()> {
        const KEPT: &str = "what is here of it is kept; the same command goes on from there";
        if self.console.signal().is_some() {
            return Err(anyhow::anyhow!("{what}: {KEPT}"));
        }
        match (self.end, self.limits.whole) {
            (Some(end), Some(whole)) if Instant::now() >= end => {
                let seconds = whole.as_secs();
                Err(Failure::offline(format!("{what}: not here after {seconds} s (--timeout); {KEPT}")))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the next of something. `bytes` says how many of them it is, `patience` how long that may take.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        receiver: &Receiver<T>,
        patience: &mut [&mut Patience],
        bytes: impl Fn(&T) -> usize,
    ) -> Result<Waited<T>> {
        loop {
            self.check(what)?;
            if let Some(slow) = patience.iter().find_map(|patience| patience.out()) {
                return Ok(Waited::Slow(slow));
            }
            let began = Instant::now();
            let received = receiver.recv_timeout(HEARTBEAT);
            // Who was stopped himself, or slept, did not wait for the server.
            let waited = began.elapsed().min(2 * HEARTBEAT);
            let came = received.as_ref().map_or(0, &bytes) as u64;
            patience.iter_mut().for_each(|patience| patience.spend(waited, came));
            match received {
                Ok(it) => return Ok(Waited::Came(it)),
                Err(RecvTimeoutError::Disconnected) => return Ok(Waited::Gone),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Runs out where bytes come slower than the least rate: waiting costs its time, and a byte gives back what it may take.
#[derive(Debug)]
pub(crate) struct Patience {
    most: Duration,
    left: Duration,
    least_rate: u64,
    /// Since it was whole.
    waited: Duration,
    bytes: u64,
}

impl Patience {
    /// With servers that are silent, or too slow, for so long.
    pub(crate) fn new(most: Duration, least_rate: u64) -> Self {
        Self { most, left: most, least_rate, waited: Duration::ZERO, bytes: 0 }
    }

    /// What was too slow, if it ran out.
    pub(crate) fn out(&self) -> Option<Slow> {
        let Self { left, waited, bytes, least_rate, .. } = *self;
        left.is_zero().then_some(Slow { waited, bytes, least_rate })
    }

    fn spend(&mut self, waited: Duration, bytes: u64) {
        let given = match self.least_rate {
            0 if bytes > 0 => self.most.saturating_add(waited),
            0 => Duration::ZERO,
            rate => Duration::try_from_secs_f64(bytes as f64 / rate as f64).unwrap_or(Duration::MAX),
        };
        self.waited += waited;
        self.bytes += bytes;
        self.left = self.left.saturating_add(given).saturating_sub(waited).min(self.most);
        if self.left == self.most {
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
    }
}

/// Less than the least rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Slow {
    waited: Duration,
    bytes: u64,
    least_rate: u64,
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waited, bytes, least_rate } = self;
        let seconds = waited.as_secs_f64();
        match bytes {
            0 => write!(f, "nothing came for {seconds:.0} s"),
            bytes => write!(
                f,
                "{bytes} bytes came in {seconds:.0} s, {:.0} a second; expected {least_rate} a second at least \
                 (--least-rate)",
                *bytes as f64 / seconds
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What is too slow, if so many bytes come one second after the other.
    fn slow(patience: &mut Patience, bytes: impl IntoIterator<Item = u64>) -> Option<(usize, Slow)> {
        bytes.into_iter().enumerate().find_map(|(second, bytes)| {
            patience.spend(SECOND, bytes);
            patience.out().map(|slow| (second + 1, slow))
        })
    }

    /// Seconds until patience with 30 s and 1024 bytes a second runs out, where so many come a second.
    fn lasts(rate: u64) -> Option<usize> {
        let bytes = std::iter::repeat_n(rate, 10_000);
        slow(&mut Patience::new(30 * SECOND, 1024), bytes).map(|(seconds, _)| seconds)
    }

    #[test]
    fn what_is_slower_than_the_least_rate_ends() {
        assert_eq!(lasts(0), Some(30));
        assert_eq!(lasts(1), Some(31));
        assert_eq!(lasts(512), Some(60));
        assert_eq!(lasts(1000), Some(1280));
        assert_eq!(lasts(1024), None);
        assert_eq!(lasts(u64::MAX >> 20), None);
    }

    /// A byte comes before each heartbeat ends.
    #[test]
    fn a_byte_each_moment_is_too_slow_too() {
        let mut patience = Patience::new(SECOND, 1024);
        for _ in 0..50 {
            patience.spend(SECOND / 20, 1);
        }
        assert!(patience.out().is_some());
    }

    #[test]
    fn what_came_before_counts_up_to_the_whole_alone() {
        let mut patience = Patience::new(30 * SECOND, 1024);
        let (seconds, found) = slow(&mut patience, [1 << 30].into_iter().chain([0; 40])).unwrap();
        assert_eq!((seconds, found.to_string().as_str()), (31, "nothing came for 30 s"));
        let mut patience = Patience::new(30 * SECOND, 1024);
        let (_, found) = slow(&mut patience, [100; 40]).unwrap();
        assert_eq!(
            found.to_string(),
            "3400 bytes came in 34 s, 100 a second; expected 1024 a second at least (--least-rate)"
        );
    }

    #[test]
    fn without_a_least_rate_any_byte_is_enough() {
        let mut patience = Patience::new(3 * SECOND, 0);
        assert_eq!(slow(&mut patience, [0, 0, 1, 0, 0, 1, 0, 0]), None);
        assert!(slow(&mut patience, [0]).is_some());
    }
}
