use std::sync::{Mutex, PoisonError};

/// What `work` gives for each job, in order; up to eight processors take the largest of those that are left, one after another.
pub(super) fn on_all_processors<J: Send, T: Send>(
    jobs: Vec<J>,
    size: impl Fn(&J) -> usize,
    work: impl Fn(J) -> T + Sync,
) -> Vec<T> {
    let mut numbered: Vec<_> = jobs.into_iter().enumerate().collect();
    numbered.sort_by_key(|(_, job)| size(job));
    let threads =
        std::thread::available_parallelism().map_or(1, |count| count.get().min(8).min(numbered.len()));
    let (left, done) = (Mutex::new(numbered), Mutex::new(Vec::new()));
    let share = || {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((number, job)) = next else { return };
            let result = work(job);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
    };
    std::thread::scope(|scope| {
        // Where the system gives no thread, the others do its share.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, share).ok();
        let others: Vec<_> = (1..threads).filter_map(spawn).collect();
        share();
        others.into_iter().for_each(|other| {
            other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_once_and_results_are_in_order() {
        let names: Vec<String> =
            (0..100).map(|number| format!("{:?}", "x".repeat(number * 37 % 101))).collect();
        let done = on_all_processors(names.iter().collect(), |name| name.len(), |name| name.clone());
        assert_eq!(done, names);
        assert!(on_all_processors(Vec::<u8>::new(), |_| 0, |_| ()).is_empty());
    }
}
