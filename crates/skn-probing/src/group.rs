use std::fmt;

use crate::error::{ProbingError, Result};

/// Processes that do the same work, each on its share of the texts, and put together what they found.
///
/// Every process makes the same calls in the same order: [`gather`](Self::gather) and [`broadcast`](Self::broadcast) return in all of them or
/// in none. Rank 0 alone writes files and tells of the work. Whoever can't go on ends its process, and the others with it.
///
/// A process by itself is [`Alone`]. Another engine than the programs' (MPI) needs these methods only.
pub trait Group: Send + Sync {
    /// This process among the others, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are, at least 1.
    fn size(&self) -> usize;

    /// Gives rank 0 what each process gives, one after the other in the order of ranks, so that it need not hold all at once; others get
    /// nothing.
    ///
    /// # Errors
    /// If a process is gone, and those of `take`.
    fn gather(&self, mine: Vec<u8>, take: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()>;

    /// What rank 0 gives, for all; what others give is dropped.
    ///
    /// # Errors
    /// If a process is gone.
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>>;

    /// What rank 0 gives to each process: it asks `of_rank` for one after the other, in the order of ranks, so that it need not hold all
    /// at once; others ask for nothing.
    ///
    /// # Errors
    /// If a process is gone.
    fn scatter(&self, of_rank: &mut dyn FnMut(usize) -> Vec<u8>) -> Result<Vec<u8>>;

    /// The threads that this process should take where nobody says how many: processes of one machine share its cores. `None`: as many as
    /// the machine has.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// What this process is called in messages.
    fn name(&self) -> String {
        format!("rank {}", self.rank())
    }
}

impl fmt::Debug for dyn Group + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

/// The [`Group`] of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn gather(&self, mine: Vec<u8>, take: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        take(mine)
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(bytes)
    }

    fn scatter(&self, of_rank: &mut dyn FnMut(usize) -> Vec<u8>) -> Result<Vec<u8>> {
        Ok(of_rank(0))
    }
}

/// What the first byte of a part says: it is there,
const FOUND: u8 = 0;
/// or this process was told to stop.
const STOPPED: u8 = 1;

impl dyn Group + '_ {
    /// Whether this is rank 0, which writes files and tells of the work.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// What every process found, in the order of ranks, for all of them. If one was told to stop, all are: they end at the same place, so
    /// that rank 0 can keep what there is. Another error than that is this process's own, and the others do not hear of it.
    ///
    /// # Errors
    /// That of `mine`; [`ProbingError::Cancelled`] if another process was told to stop; if a process is gone.
    pub fn share_out(&self, mine: Result<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        if self.size() == 1 {
            return Ok(vec![mine?]);
        }
        let mine = match mine {
            Ok(mut found) => {
                found.push(FOUND);
                found
            }
            Err(ProbingError::Cancelled) => vec![STOPPED],
            Err(error) => return Err(error),
        };
        let mut all = Vec::new();
        self.gather(mine, &mut |part| {
            all.extend_from_slice(&(part.len() as u64).to_le_bytes());
            all.extend_from_slice(&part);
            Ok(())
        })?;
        let all = self.broadcast(all)?;
        let mut rest = all.as_slice();
        let mut parts = Vec::with_capacity(self.size());
        while !rest.is_empty() {
            let mut part = take(&mut rest)?.to_vec();
            match part.pop() {
                Some(FOUND) => parts.push(part),
                Some(STOPPED) => return Err(ProbingError::Cancelled),
                _ => return Err(broken()),
            }
        }
        if parts.len() == self.size() { Ok(parts) } else { Err(broken()) }
    }

    /// Whether any process says yes; all hear the same.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn any(&self, mine: bool) -> Result<bool> {
        if self.size() == 1 {
            return Ok(mine);
        }
        let mut any = false;
        self.gather(vec![u8::from(mine)], &mut |said| {
            any |= said.first() == Some(&1);
            Ok(())
        })?;
        Ok(self.broadcast(vec![u8::from(any)])?.first() == Some(&1))
    }

    /// Returns when all processes have called it.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn wait(&self) -> Result<()> {
        self.any(false).map(drop)
    }
}

/// A stretch of bytes with its length before it.
fn take<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8]> {
    let (length, rest) = bytes.split_first_chunk().ok_or_else(broken)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| broken())?;
    let (part, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
    *bytes = rest;
    Ok(part)
}

/// What another process sent is not what this one reads: they are of different versions, or do different work.
pub(crate) fn broken() -> ProbingError {
    ProbingError::mismatch("group of processes", "the same work in each", "another part than this one reads")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rank 0 of several processes, which have said what they say.
    struct Scripted(Vec<Vec<u8>>);

    impl Group for Scripted {
        fn rank(&self) -> usize {
            0
        }
        fn size(&self) -> usize {
            self.0.len() + 1
        }
        fn gather(&self, mine: Vec<u8>, take: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
            std::iter::once(mine).chain(self.0.iter().cloned()).try_for_each(take)
        }
        fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
            Ok(bytes)
        }
        fn scatter(&self, of_rank: &mut dyn FnMut(usize) -> Vec<u8>) -> Result<Vec<u8>> {
            Ok(of_rank(0))
        }
    }

    fn as_dyn(group: &dyn Group) -> &dyn Group {
        group
    }

    #[test]
    fn parts_come_in_the_order_of_ranks() {
        assert_eq!(as_dyn(&Alone).share_out(Ok(vec![7])).unwrap(), [[7]]);
        let others = vec![vec![FOUND], vec![5, 6, FOUND]];
        let parts = as_dyn(&Scripted(others)).share_out(Ok(vec![7])).unwrap();
        assert_eq!(parts, [vec![7], vec![], vec![5, 6]]);
    }

    #[test]
    fn who_is_stopped_stops_all() {
        let cancelled = |found| matches!(found, Err(ProbingError::Cancelled));
        assert!(cancelled(as_dyn(&Scripted(vec![vec![STOPPED]])).share_out(Ok(vec![7]))));
        assert!(cancelled(as_dyn(&Scripted(vec![vec![FOUND]])).share_out(Err(ProbingError::Cancelled))));
        assert!(as_dyn(&Scripted(vec![vec![0], vec![1]])).any(false).unwrap());
        assert!(!as_dyn(&Scripted(vec![vec![0], vec![0]])).any(false).unwrap());
    }

    #[test]
    fn other_work_is_noticed() {
        for said in [vec![], vec![9]] {
            assert!(as_dyn(&Scripted(vec![said])).share_out(Ok(vec![])).is_err());
        }
        assert!(take(&mut &[3, 0, 0, 0, 0, 0, 0, 0, 1, 2][..]).is_err());
    }
}
