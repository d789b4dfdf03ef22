use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::{Scope, ThreadPool, ThreadPoolBuilder};

use crate::error::{ProbingError, Result};
use crate::group::{Alone, Group};

/// What an evaluation is called; its name is that of its texts.
pub(crate) const EVALUATING: &str = "evaluating";
/// More threads than this are a mistake.
const MAX_THREADS: usize = 1024;

/// How many items a thread may be ahead of the one that is folded next.
const ITEMS_AHEAD: usize = 2;

/// What begins, as a [`Progress`] is told of it. As a text it is the name of the work: an evaluation is called by its texts alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work<'a> {
    /// What is done: averaging, counting, evaluating.
    pub what: &'a str,
    /// Of which texts: dev, test; empty if nobody said.
    pub part: &'a str,
    /// How many texts are taken, each as often as it is.
    pub texts: u64,
    /// How much work it is, as [`Progress::advance`] counts it: a pass counts the tokens of its texts (prompt rows are some), which
    /// take time alike, where texts do not; a training counts texts.
    pub amount: u64,
}

impl<'a> Work<'a> {
    /// So many texts, or of something else that takes time alike.
    pub fn of(what: &'a str, amount: u64) -> Self {
        Self { what, part: "", texts: amount, amount }
    }
}

impl fmt::Display for Work<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.what, self.part) {
            (what, "") => f.write_str(what),
            (EVALUATING, part) => f.write_str(part),
            (what, part) => write!(f, "{what} {part}"),
        }
    }
}

/// Is told how far a pass is, and says whether it should go on.
///
/// Every method does nothing unless it is written.
pub trait Progress: Sync {
    /// Something begins.
    fn begin(&self, work: Work<'_>) {
        let _ = work;
    }

    /// So much more of it is done.
    fn advance(&self, amount: u64) {
        let _ = amount;
    }

    /// So much of it was done before, and says nothing of the time that the rest takes.
    fn resumes(&self, amount: u64) {
        self.advance(amount);
    }

    /// What is known by now, to be shown beside how far it is.
    fn note(&self, found: &str) {
        let _ = found;
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

/// Threads that work on an item each, and results that don't depend on how many there are. They may be those of one process of a
/// [`Group`].
///
/// ```
/// use skn_probing::{ProbingError, Silent, Workers};
///
/// let mut lengths = Vec::new();
/// Workers::new(2)?.fold(
///     &["one", "three", "eleven"],
///     |_, word| Ok::<_, ProbingError>(word.len()), // on any thread
///     |_, length| Ok(lengths.push(length)),        // here, in the order of the items
///     &Silent,
/// )?;
/// assert_eq!(lengths, [3, 5, 6]);
/// # Ok::<(), ProbingError>(())
/// ```
pub struct Workers {
    pool: ThreadPool,
    group: Arc<dyn Group>,
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
        let pool = pool.build().map_err(|source| ProbingError::Threads { threads, source })?;
        Ok(Self { pool, group: Arc::new(Alone) })
    }

    /// The same threads in a group of processes, which share the work of a pass or a step.
    #[must_use]
    pub fn in_group(self, group: Arc<dyn Group>) -> Self {
        Self { group, ..self }
    }

    /// The same, to be kept.
    pub fn group_shared(&self) -> Arc<dyn Group> {
        Arc::clone(&self.group)
    }

    /// The processes that share the work: this one alone, unless said.
    pub fn group(&self) -> &dyn Group {
        &*self.group
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Does `work` on one of the threads, so that what it shares out by rayon goes to them, and not to rayon's own: those
    /// would be more, and where the system gives none that is a panic.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// Gives every item (a batch, as a rule) and its place to `map` on one of the threads, and the results to `fold` on
    /// this one, in the order of the items. At most two items a thread are under way or waiting to be folded, so that
    /// memory does not grow with the data. `progress` is asked after every item that is folded whether to stop; it is told
    /// nothing, as only `fold` knows how much an item is.
    ///
    /// A `map` that calls `fold` again on the same workers is served on its own thread.
    ///
    /// # Errors
    /// The error of the first item, in their order, that `map` or `fold` fails at; later ones are not begun.
    /// [`ProbingError::Cancelled`] when `progress` says so.
    pub fn fold<I: Sync, T: Send, E: From<ProbingError> + Send>(
        &self,
        items: &[I],
        map: impl Fn(usize, &I) -> Result<T, E> + Sync,
        mut fold: impl FnMut(usize, T) -> Result<(), E>,
        progress: &dyn Progress,
    ) -> Result<(), E> {
        if self.pool.current_thread_index().is_some() {
            return fold_here(items, map, fold, progress);
        }
        let stop = AtomicBool::new(false);
        let work = |index: usize, item: &I| (!stop.load(Ordering::Relaxed)).then(|| map(index, item));
        self.pool.in_place_scope(|scope| {
            let result = fold_ahead(scope, self.threads() * ITEMS_AHEAD, items, &work, &mut fold, progress);
            stop.store(true, Ordering::Relaxed);
            result
        })
    }
}

/// What a thread gives back for an item: nothing if it was told to stop before.
type Answer<T, E> = Option<Result<T, E>>;

fn fold_ahead<'scope, I: Sync, T: Send + 'scope, E: From<ProbingError> + Send + 'scope>(
    scope: &Scope<'scope>,
    ahead: usize,
    items: &'scope [I],
    work: &'scope (impl Fn(usize, &I) -> Answer<T, E> + Sync),
    fold: &mut impl FnMut(usize, T) -> Result<(), E>,
    progress: &dyn Progress,
) -> Result<(), E> {
    let mut under_way: VecDeque<Receiver<Answer<T, E>>> = VecDeque::with_capacity(ahead);
    let mut to_begin = items.iter().enumerate();
    for folded in 0..items.len() {
        while under_way.len() < ahead {
            let Some((index, item)) = to_begin.next() else { break };
            let (sender, receiver) = sync_channel(1);
            under_way.push_back(receiver);
            // Nobody listens any more when the pass has failed.
            scope.spawn(move |_| drop(sender.send(work(index, item))));
        }
        // No answer means that the thread panicked; the scope goes on with that panic.
        let answer = under_way.pop_front().and_then(|receiver| receiver.recv().ok()).flatten();
        let result = answer.unwrap_or_else(|| Err(ProbingError::Cancelled.into()));
        fold_one(folded, result, fold, progress)?;
    }
    Ok(())
}

/// The same on this thread alone.
pub(crate) fn fold_here<I, T, E: From<ProbingError>>(
    items: &[I],
    map: impl Fn(usize, &I) -> Result<T, E>,
    mut fold: impl FnMut(usize, T) -> Result<(), E>,
    progress: &dyn Progress,
) -> Result<(), E> {
    for (index, item) in items.iter().enumerate() {
        fold_one(index, map(index, item), &mut fold, progress)?;
    }
    Ok(())
}

fn fold_one<T, E: From<ProbingError>>(
    index: usize,
    result: Result<T, E>,
    fold: &mut impl FnMut(usize, T) -> Result<(), E>,
    progress: &dyn Progress,
) -> Result<(), E> {
    fold(index, result?)?;
    if progress.cancelled() { Err(ProbingError::Cancelled.into()) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unit_arg, reason = "a fold is one push or one sum")]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn items(count: u32) -> Vec<u32> {
        (0..count).collect()
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for threads in [1, 2, 5] {
            let mut seen = Vec::new();
            let map = |index: usize, id: &u32| {
                // Later items are quicker.
                (index..2000).for_each(|n| {
                    std::hint::black_box(n);
                });
                Ok::<_, ProbingError>(*id)
            };
            let workers = Workers::new(threads).unwrap();
            workers.fold(&items(100), map, |index, id| Ok(seen.push((index, id))), &Silent).unwrap();
            assert_eq!(seen, (0..100).map(|n| (n as usize, n)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_in_the_order_of_the_items_ends_the_pass() {
        let started = AtomicUsize::new(0);
        let map = |index: usize, _: &u32| {
            started.fetch_add(1, Ordering::Relaxed);
            if index >= 7 { Err(ProbingError::SameRow { row: index as u64 }) } else { Ok(()) }
        };
        let mut folded = 0;
        let workers = Workers::new(3).unwrap();
        let error = workers.fold(&items(1000), map, |_, ()| Ok(folded += 1), &Silent).unwrap_err();
        assert!(matches!(error, ProbingError::SameRow { row: 7 }), "{error}");
        assert_eq!(folded, 7);
        assert!(started.into_inner() <= 7 + 3 * ITEMS_AHEAD, "no more than the window was begun");
    }

    #[test]
    fn an_error_of_the_fold_ends_the_pass() {
        let fold = |index: usize, ()| if index == 2 { Err(ProbingError::SameRow { row: 2 }) } else { Ok(()) };
        let error = Workers::new(2).unwrap().fold(&items(9), |_, _| Ok(()), fold, &Silent).unwrap_err();
        assert!(matches!(error, ProbingError::SameRow { row: 2 }));
    }

    #[test]
    fn progress_can_stop() {
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
        let map = |_: usize, _: &u32| Ok::<_, ProbingError>(());
        let fold = |_: usize, ()| Ok(until.advance(1));
        let error = Workers::new(2).unwrap().fold(&items(50), map, fold, &until).unwrap_err();
        assert!(matches!(error, ProbingError::Cancelled));
        assert_eq!(until.1.into_inner(), 5);
    }

    #[test]
    fn a_pass_within_a_pass_does_not_wait_for_itself() {
        let workers = Workers::new(1).unwrap();
        let inner = items(3);
        let map = |_: usize, _: &u32| {
            let mut sum = 0;
            workers.fold(&inner, |_, id| Ok::<_, ProbingError>(*id), |_, id| Ok(sum += id), &Silent)?;
            Ok(sum)
        };
        let mut sums = Vec::new();
        workers.fold(&items(2), map, |_, sum| Ok::<_, ProbingError>(sums.push(sum)), &Silent).unwrap();
        assert_eq!(sums, [3, 3]);
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_comes_through() {
        let map = |index: usize, _: &u32| -> Result<()> { if index == 3 { panic!("a bug") } else { Ok(()) } };
        let _ = Workers::new(2).unwrap().fold(&items(20), map, |_, ()| Ok(()), &Silent);
    }

    #[test]
    fn absurd_numbers_of_threads_are_refused() {
        assert!(Workers::new(0).is_err() && Workers::new(usize::MAX).is_err());
        assert_eq!(Workers::new(3).unwrap().threads(), 3);
    }
}
