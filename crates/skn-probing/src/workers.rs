use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::{Scope, ThreadPool, ThreadPoolBuilder};
use skn_data::Batch;

use crate::error::{ProbingError, Result};

/// More threads than this are a mistake.
const MAX_THREADS: usize = 1024;

/// How many batches a thread may be ahead of the one that is folded next.
const BATCHES_AHEAD: usize = 2;

/// Is told how far a pass is, and says whether it should go on.
///
/// Every method does nothing unless it is written.
pub trait Progress: Sync {
    /// A pass over so many rows begins.
    fn begin(&self, what: &str, total_rows: u64) {
        let _ = (what, total_rows);
    }

    /// So many more rows are done.
    fn advance(&self, rows: u64) {
        let _ = rows;
    }

    /// Whether to stop; asked between batches.
    fn cancelled(&self) -> bool {
        false
    }
}

/// The [`Progress`] that tells nobody and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}

/// Threads that work on a batch each, and results that don't depend on how many there are.
///
/// ```
/// use skn_data::Batch;
/// use skn_probing::{ProbingError, Silent, Workers};
///
/// let batches = [vec![1, 2], vec![3], vec![4, 5, 6]].map(|ids| Batch { ids, ..Batch::default() });
/// let mut lengths = Vec::new();
/// Workers::new(2)?.fold(
///     &batches,
///     |_, batch| Ok::<_, ProbingError>(batch.ids.len()), // on any thread
///     |_, length| Ok(lengths.push(length)),              // here, in batch order
///     &Silent,
/// )?;
/// assert_eq!(lengths, [2, 1, 3]);
/// # Ok::<(), ProbingError>(())
/// ```
pub struct Workers {
    pool: ThreadPool,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("threads", &self.threads()).finish()
    }
}

impl Workers {
    /// Starts `threads` threads, which live as long as the value.
    ///
    /// # Errors
    /// If `threads` is 0 or above 1024, or the system does not give them.
    pub fn new(threads: usize) -> Result<Self> {
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(ProbingError::mismatch("threads", format!("1 to {MAX_THREADS}"), threads));
        }
        let pool =
            ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("skn-worker-{index}"));
        Ok(Self { pool: pool.build().map_err(|source| ProbingError::Threads { threads, source })? })
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Gives every batch to `map` on one of the threads, and the results to `fold` on this one, in the order of the
    /// batches. At most two batches a thread are under way or waiting to be folded, so that memory does not grow with
    /// the data. `progress` hears of every batch that is folded.
    ///
    /// A `map` that calls `fold` again on the same workers is served on its own thread.
    ///
    /// # Errors
    /// The error of the first batch, in batch order, that `map` or `fold` fails at; later ones are not begun.
    /// [`ProbingError::Cancelled`] when `progress` says so.
    pub fn fold<T: Send, E: From<ProbingError> + Send>(
        &self,
        batches: &[Batch],
        map: impl Fn(usize, &Batch) -> Result<T, E> + Sync,
        mut fold: impl FnMut(usize, T) -> Result<(), E>,
        progress: &dyn Progress,
    ) -> Result<(), E> {
        if self.pool.current_thread_index().is_some() {
            return fold_here(batches, map, fold, progress);
        }
        let stop = AtomicBool::new(false);
        let work = |index: usize, batch: &Batch| (!stop.load(Ordering::Relaxed)).then(|| map(index, batch));
        self.pool.in_place_scope(|scope| {
            let result =
                fold_ahead(scope, self.threads() * BATCHES_AHEAD, batches, &work, &mut fold, progress);
            stop.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// What a thread gives back for a batch: nothing if it was told to stop before.
type Answer<T, E> = Option<Result<T, E>>;

fn fold_ahead<'scope, T: Send + 'scope, E: From<ProbingError> + Send + 'scope>(
    scope: &Scope<'scope>,
    ahead: usize,
    batches: &'scope [Batch],
    work: &'scope (impl Fn(usize, &Batch) -> Answer<T, E> + Sync),
    fold: &mut impl FnMut(usize, T) -> Result<(), E>,
    progress: &dyn Progress,
) -> Result<(), E> {
    let mut under_way: VecDeque<Receiver<Answer<T, E>>> = VecDeque::with_capacity(ahead);
    let mut to_begin = batches.iter().enumerate();
    for (index, batch) in batches.iter().enumerate() {
        while under_way.len() < ahead {
            let Some((index, batch)) = to_begin.next() else { break };
            let (sender, receiver) = sync_channel(1);
            under_way.push_back(receiver);
            // Nobody listens any more when the pass has failed.
            scope.spawn(move |_| drop(sender.send(work(index, batch))));
        }
        // No answer means that the thread panicked; the scope goes on with that panic.
        let answer = under_way.pop_front().and_then(|receiver| receiver.recv().ok()).flatten();
        fold_one(
            index,
            batch,
            answer.unwrap_or_else(|| Err(ProbingError::Cancelled.into())),
            fold,
            progress,
        )?;
    }
    Ok(())
}

/// The same on this thread alone.
pub(crate) fn fold_here<T, E: From<ProbingError>>(
    batches: &[Batch],
    map: impl Fn(usize, &Batch) -> Result<T, E>,
    mut fold: impl FnMut(usize, T) -> Result<(), E>,
    progress: &dyn Progress,
) -> Result<(), E> {
    for (index, batch) in batches.iter().enumerate() {
        fold_one(index, batch, map(index, batch), &mut fold, progress)?;
    }
    Ok(())
}

fn fold_one<T, E: From<ProbingError>>(
    index: usize,
    batch: &Batch,
    result: Result<T, E>,
    fold: &mut impl FnMut(usize, T) -> Result<(), E>,
    progress: &dyn Progress,
) -> Result<(), E> {
    fold(index, result?)?;
    progress.advance(batch.len() as u64);
    if progress.cancelled() { Err(ProbingError::Cancelled.into()) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unit_arg, reason = "a fold is one push or one sum")]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn batches(count: u32) -> Vec<Batch> {
        (0..count).map(|id| Batch { ids: vec![id], rows: vec![u64::from(id)], ..Batch::default() }).collect()
    }

    #[test]
    fn results_come_in_batch_order() {
        for threads in [1, 2, 5] {
            let mut seen = Vec::new();
            let map = |index: usize, batch: &Batch| {
                // Later batches are quicker.
                (index..2000).for_each(|n| {
                    std::hint::black_box(n);
                });
                Ok::<_, ProbingError>(batch.ids[0])
            };
            let workers = Workers::new(threads).unwrap();
            workers.fold(&batches(100), map, |index, id| Ok(seen.push((index, id))), &Silent).unwrap();
            assert_eq!(seen, (0..100).map(|n| (n as usize, n)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_in_batch_order_ends_the_pass() {
        let started = AtomicUsize::new(0);
        let map = |index: usize, _: &Batch| {
            started.fetch_add(1, Ordering::Relaxed);
            if index >= 7 { Err(ProbingError::SameRow { row: index as u64 }) } else { Ok(()) }
        };
        let mut folded = 0;
        let workers = Workers::new(3).unwrap();
        let error = workers.fold(&batches(1000), map, |_, ()| Ok(folded += 1), &Silent).unwrap_err();
        assert!(matches!(error, ProbingError::SameRow { row: 7 }), "{error}");
        assert_eq!(folded, 7);
        assert!(started.into_inner() <= 7 + 3 * BATCHES_AHEAD, "no more than the window was begun");
    }

    #[test]
    fn an_error_of_the_fold_ends_the_pass() {
        let fold = |index: usize, ()| if index == 2 { Err(ProbingError::SameRow { row: 2 }) } else { Ok(()) };
        let error = Workers::new(2).unwrap().fold(&batches(9), |_, _| Ok(()), fold, &Silent).unwrap_err();
        assert!(matches!(error, ProbingError::SameRow { row: 2 }));
    }

    #[test]
    fn progress_is_told_and_can_stop() {
        struct Until(u64, AtomicUsize);
        impl Progress for Until {
            fn advance(&self, rows: u64) {
                self.1.fetch_add(rows as usize, Ordering::Relaxed);
            }
            fn cancelled(&self) -> bool {
                self.1.load(Ordering::Relaxed) as u64 >= self.0
            }
        }
        let until = Until(5, AtomicUsize::new(0));
        let map = |_: usize, _: &Batch| Ok::<_, ProbingError>(());
        let error = Workers::new(2).unwrap().fold(&batches(50), map, |_, ()| Ok(()), &until).unwrap_err();
        assert!(matches!(error, ProbingError::Cancelled));
        assert_eq!(until.1.into_inner(), 5);
    }

    #[test]
    fn a_pass_within_a_pass_does_not_wait_for_itself() {
        let workers = Workers::new(1).unwrap();
        let inner = batches(3);
        let map = |_: usize, _: &Batch| {
            let mut sum = 0;
            workers.fold(
                &inner,
                |_, batch| Ok::<_, ProbingError>(batch.ids[0]),
                |_, id| Ok(sum += id),
                &Silent,
            )?;
            Ok(sum)
        };
        let mut sums = Vec::new();
        workers.fold(&batches(2), map, |_, sum| Ok::<_, ProbingError>(sums.push(sum)), &Silent).unwrap();
        assert_eq!(sums, [3, 3]);
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_comes_through() {
        let map =
            |index: usize, _: &Batch| -> Result<()> { if index == 3 { panic!("a bug") } else { Ok(()) } };
        let _ = Workers::new(2).unwrap().fold(&batches(20), map, |_, ()| Ok(()), &Silent);
    }

    #[test]
    fn absurd_numbers_of_threads_are_refused() {
        assert!(Workers::new(0).is_err() && Workers::new(usize::MAX).is_err());
        assert_eq!(Workers::new(3).unwrap().threads(), 3);
    }
}
