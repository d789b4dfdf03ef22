//! A group of threads.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use skn_session::{Group, ProbingError};

/// One thread of a group, with a channel to rank 0 and one from it; rank 0 has all of these.
struct Member {
    rank: usize,
    size: usize,
    to: Vec<Mutex<Sender<Vec<u8>>>>,
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
}

type Result<T> = std::result::Result<T, ProbingError>;

impl Member {
    /// Sends to the place `index` among those that it knows.
    fn send(&self, index: usize, bytes: Vec<u8>) -> Result<()> {
        self.to[index].lock().unwrap().send(bytes).map_err(|_| gone())
    }

    fn receive(&self, index: usize) -> Result<Vec<u8>> {
        self.from[index].lock().unwrap().recv().map_err(|_| gone())
    }
}

fn gone() -> ProbingError {
    ProbingError::Mismatch {
        what: "group".into(),
        expected: "all processes".into(),
        found: "that one is gone".into(),
    }
}

impl Group for Member {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, mine: Vec<u8>, take: &mut dyn FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
        if self.rank > 0 {
            return self.send(0, mine);
        }
        take(mine)?;
        (0..self.size - 1).try_for_each(|other| take(self.receive(other)?))
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if self.rank > 0 {
            return self.receive(0);
        }
        (0..self.size - 1).try_for_each(|other| self.send(other, bytes.clone()))?;
        Ok(bytes)
    }

    fn scatter(&self, of_rank: &mut dyn FnMut(usize) -> Vec<u8>) -> Result<Vec<u8>> {
        if self.rank > 0 {
            return self.receive(0);
        }
        let own = of_rank(0);
        (1..self.size).try_for_each(|rank| self.send(rank - 1, of_rank(rank)))?;
        Ok(own)
    }
}

/// Does the same in several threads, each a member of the group; what each came to, in the order of ranks.
pub(crate) fn together<T: Send>(size: usize, work: impl Fn(Arc<dyn Group>) -> T + Sync) -> Vec<T> {
    let mut first = Member { rank: 0, size, to: Vec::new(), from: Vec::new() };
    let mut members = Vec::new();
    for rank in 1..size {
        let (to_first, from_other) = channel();
        let (to_other, from_first) = channel();
        first.to.push(Mutex::new(to_other));
        first.from.push(Mutex::new(from_other));
        members.push(Member {
            rank,
            size,
            to: vec![Mutex::new(to_first)],
            from: vec![Mutex::new(from_first)],
        });
    }
    members.insert(0, first);
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            members.into_iter().map(|member| scope.spawn(move || work(Arc::new(member)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
