//! Work that is captured once and replayed: CUDA graphs.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::{Device, Error, Tensor};

use crate::backend::Backend;
#[cfg(feature = "cuda")]
use crate::cuda::Captured;
use crate::launches::count_replay;
use crate::noted::{Alone, Noted, giving, noting};
use crate::upload::upload_over;

/// Work of which only some numbers change, by what else it depends on, `K`: done plainly the first time, captured the second time and
/// replayed from then on, with the bits of the plain work. A replay is one launch, where the work may be a hundred; so it is for work
/// that a card does sooner than a thread can launch it. It never ran on a real card.
///
/// Work that can't be captured, whatever the reason, is done plainly, each time, and not tried again; [`Self::refusal`] says why the first
/// such work could not.
///
/// What was captured belongs to the thread that did, whose stream it is replayed on. Where the host plays
/// ([`play_on_host`](crate::play_on_host)) a replay is the work done again, which then may upload nothing but the numbers that change.
/// On other devices all work is done plainly.
pub struct Graphs<K> {
    most: usize,
    known: Mutex<Known<K>>,
}

struct Known<K> {
    /// Done once; the latest is the last.
    seen: VecDeque<K>,
    /// The latest is the last.
    captured: Vec<Entry<K>>,
    /// What could not be captured.
    refused: Vec<K>,
    /// Why the first of it could not.
    refusal: Option<String>,
}

/// Seen work is remembered for each that may be captured. When so much was refused, nothing more is captured.
const SEEN: usize = 8;

struct Entry<K> {
    key: K,
    by: ThreadId,
    work: Replayed,
}

/// What was captured, with what it reads and writes. The graph goes first.
struct Replayed {
    graph: Graph,
    noted: Noted,
    result: Tensor,
}

enum Graph {
    #[cfg(feature = "cuda")]
    OnCard(Captured),
    /// The host plays.
    Played,
}

impl<K: PartialEq> Graphs<K> {
    /// At most so many are kept, those that were replayed last.
    pub fn new(most: usize) -> Self {
        let (seen, captured) = (VecDeque::new(), Vec::new());
        Self { most, known: Mutex::new(Known { seen, captured, refused: Vec::new(), refusal: None }) }
    }

    /// Why work could not be captured: the first that could not. Nothing as long as all could.
    pub fn refusal(&self) -> Option<String> {
        self.known().refusal.clone()
    }

    /// The result of `work`, a tensor of f32 that has no history.
    ///
    /// `work` is the same each time for a key, but for `numbers`: it uploads them from there, by an operation of this crate that takes
    /// them ([`rows_of`](crate::rows_of)), and computes nothing else of them on the host. All other numbers that it uploads depend on the
    /// key alone, and all that it reads on the device stays as it is as long as this is there. It keeps no tensor that it makes, since
    /// what is made in a capture is the graph's, and gone with one that fails. It can't be captured if it reads results back or waits.
    ///
    /// # Errors
    /// Those of `work`; if it does something else when it is replayed.
    pub fn run<E: From<Error> + Display>(
        &self,
        key: K,
        numbers: &[u32],
        device: &Device,
        work: impl Fn() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        if !Backend::of(device).replays() || numbers.is_empty() || self.most == 0 {
            return work();
        }
        let by = thread::current().id();
        let tried = match self.take(&key, by) {
            Taken::Captured(entry) => {
                let result = entry.work.replay(numbers, &work)?;
                self.put(entry);
                return Ok(result);
            }
            Taken::Nothing => {
                let result = work()?;
                self.see(key);
                return Ok(result);
            }
            Taken::Refused => return work(),
            Taken::Seen => Replayed::capture(numbers, device, &work)?,
        };
        match tried {
            Tried::Captured(replayed) => {
                let result = replayed.replay(numbers, &work)?;
                self.put(Entry { key, by, work: replayed });
                Ok(result)
            }
            Tried::NoNumbers => work(),
            Tried::Refused(why) => {
                self.refuse(key, why);
                // It tells what is wrong with the work itself, or with the card.
                work()
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known<K>> {
        // Lists are whole between any two calls.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is known of work out of the lists.
    fn take(&self, key: &K, by: ThreadId) -> Taken<K> {
        let known = &mut *self.known();
        let of_thread = |entry: &Entry<K>| entry.by == by && entry.key == *key;
        if let Some(place) = known.captured.iter().position(of_thread) {
            return Taken::Captured(known.captured.remove(place));
        }
        if known.refused.len() >= SEEN * self.most || known.refused.contains(key) {
            return Taken::Refused;
        }
        match known.seen.iter().position(|seen| seen == key) {
            Some(place) => {
                known.seen.remove(place);
                Taken::Seen
            }
            None => Taken::Nothing,
        }
    }

    fn see(&self, key: K) {
        let seen = &mut self.known().seen;
        if seen.len() >= SEEN * self.most {
            seen.pop_front();
        }
        seen.push_back(key);
    }

    fn refuse(&self, key: K, why: String) {
        let known = &mut *self.known();
        known.refusal.get_or_insert(why);
        known.refused.push(key);
    }

    fn put(&self, entry: Entry<K>) {
        let oldest = {
            let captured = &mut self.known().captured;
            captured.push(entry);
            if captured.len() > self.most { Some(captured.remove(0)) } else { None }
        };
        // It waits for the card, and nobody else waits for it.
        drop(oldest);
    }
}

/// What was known of work.
enum Taken<K> {
    Nothing,
    Seen,
    Refused,
    Captured(Entry<K>),
}

/// What came of trying to capture work.
enum Tried {
    Captured(Replayed),
    /// Its result has none.
    NoNumbers,
    /// It can't be captured, and this is why.
    Refused(String),
}

impl Replayed {
    /// Does work once more, to note what it uploads, and then captures it. An error is the work's own.
    fn capture<E: From<Error> + Display>(
        numbers: &[u32],
        device: &Device,
        work: impl Fn() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tried, E> {
        // Others would find what candle keeps of this thread's uploads before they have arrived.
        let _alone = Alone::begin();
        #[cfg(feature = "cuda")]
        let _kept = match device {
            Device::Cuda(card) => Some(card.enable_cuda_graph_htod_cache()),
            _ => None,
        };
        let noted = noting(numbers, &work);
        // What candle keeps of this thread's uploads has to have arrived before others find it.
        let arrived = device.synchronize();
        let (result, noted) = noted?;
        arrived?;
        if result.elem_count() == 0 {
            return Ok(Tried::NoNumbers);
        }
        Ok(match Self::captured(result, noted, numbers, device, work) {
            Ok(captured) => Tried::Captured(captured),
            Err(why) => Tried::Refused(why.to_string()),
        })
    }

    /// Captures work whose result and uploads were noted. Whatever fails, nothing is captured any more then.
    fn captured<E: From<Error> + Display>(
        result: Tensor,
        noted: Noted,
        numbers: &[u32],
        device: &Device,
        work: impl Fn() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Self, E> {
        if noted.changing().next().is_none() {
            return Err(Error::Msg("it does not upload the numbers that change".into()).into());
        }
        // All that the graph reads lies in memory of its own, and so does its result. This is done once before it is captured, as all else was.
        let result = result.contiguous()?.detach();
        let into = result.copy()?.detach();
        into.slice_set(&result, 0, 0)?;
        drop(result);
        device.synchronize()?;
        let written = || {
            let result = work()?;
            into.slice_set(&result.contiguous()?, 0, 0)?;
            Ok::<_, E>(())
        };
        let captured = || {
            Ok::<_, E>(match device {
                #[cfg(feature = "cuda")]
                Device::Cuda(card) => Graph::OnCard(Captured::of(card, written)?),
                _ => {
                    written()?;
                    Graph::Played
                }
            })
        };
        let (graph, noted) = giving(numbers, noted, captured);
        Ok(Self { graph: graph?, noted, result: into })
    }

    /// Its result for other numbers.
    fn replay<E: From<Error>>(
        &self,
        numbers: &[u32],
        work: impl Fn() -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<Tensor, E> {
        self.noted.changing().try_for_each(|place| upload_over(numbers, place))?;
        match &self.graph {
            #[cfg(feature = "cuda")]
            Graph::OnCard(captured) => captured.replay()?,
            Graph::Played => {
                let (result, _) = giving(numbers, self.noted.clone(), work);
                self.result.slice_set(&result?.contiguous()?, 0, 0)?;
            }
        }
        count_replay();
        Ok(self.result.copy()?)
    }
}
