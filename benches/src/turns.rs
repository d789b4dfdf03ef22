use std::time::{Duration, Instant};

/// What time is taken by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The clock on the wall, for work on several threads.
    Wall,
    /// The time that this thread was on a CPU, as Linux counts it: others who use the machine don't count. Elsewhere
    /// the clock on the wall.
    Thread,
}

impl Clock {
    /// How long `work` takes.
    fn time(self, work: &mut dyn FnMut()) -> Duration {
        let (start, before) = (Instant::now(), self.on_cpu());
        work();
        let (elapsed, after) = (start.elapsed(), self.on_cpu());
        before.zip(after).and_then(|(before, after)| after.checked_sub(before)).unwrap_or(elapsed)
    }

    /// The first number of the kernel's `schedstat`, in nanoseconds.
    fn on_cpu(self) -> Option<Duration> {
        if self == Self::Wall {
            return None;
        }
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
    }
}

/// Times several things by turns, so that whatever else the machine does in the meantime hits them all: ratios of the
/// medians can be trusted where times can't.
///
/// ```
/// use skn_bench::{Clock, Turns};
///
/// let (mut short, mut long) = (|| (), || std::thread::sleep(std::time::Duration::from_millis(2)));
/// let turns = Turns::take(Clock::Wall, 3, &mut [&mut short, &mut long]);
/// assert!(turns.ratio(1, 0) > 1.0);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns {
    rounds: Vec<Vec<Duration>>,
}

impl Turns {
    /// Does each of `work` once without a clock, and then `rounds` times, one after the other.
    pub fn take(clock: Clock, rounds: usize, work: &mut [&mut dyn FnMut()]) -> Self {
        work.iter_mut().for_each(|work| work());
        let mut round = || work.iter_mut().map(|work| clock.time(work)).collect();
        Self { rounds: (0..rounds).map(|_| round()).collect() }
    }

    /// The median time of the work with this index.
    pub fn median(&self, work: usize) -> Duration {
        Duration::from_secs_f64(median(self.rounds.iter().map(|round| round[work].as_secs_f64())))
    }

    /// How many times longer `slow` takes than `fast`: the median of the ratios of each round.
    pub fn ratio(&self, slow: usize, fast: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[slow].as_secs_f64() / round[fast].as_secs_f64()))
    }
}

/// The middle value, or the mean of the two in the middle; 0 if there is none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

/// Whether the program was started by `cargo bench`, to measure: otherwise everything is done once, to see that it
/// works.
pub fn measures() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_hand() {
        let milliseconds = |times: [u64; 2]| times.map(Duration::from_millis).to_vec();
        let turns = Turns { rounds: [[10, 5], [90, 30], [20, 5]].map(milliseconds).to_vec() };
        assert_eq!((turns.median(0), turns.median(1)), (Duration::from_millis(20), Duration::from_millis(5)));
        assert_eq!(turns.ratio(0, 1), 3.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
    }
}
