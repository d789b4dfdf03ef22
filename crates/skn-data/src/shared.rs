//! What many small things are stretches of, so that none of them needs an allocation of its own.

use std::ops::{Index, Range};
use std::sync::Arc;

/// A stretch of something that it shares with its neighbours. It takes 16 bytes, and cloning copies nothing of it.
pub(crate) struct Shared<T: ?Sized> {
    // A thin pointer: with an `Arc<T>` it would be 24 bytes.
    all: Arc<Box<T>>,
    start: u32,
    end: u32,
}

/// As the end of a stretch: that of the whole, however long it is.
const TO_THE_END: u32 = u32::MAX;

/// Stretches of something longer than this can't be told.
pub(crate) const MOST_SHARED: usize = TO_THE_END as usize - 1;

impl<T: ?Sized> Shared<T> {
    /// All of something.
    pub(crate) fn whole(all: Box<T>) -> Self {
        Self { all: Arc::new(all), start: 0, end: TO_THE_END }
    }

    /// A stretch, which must be one of `all`; none if it ends beyond [`MOST_SHARED`].
    pub(crate) fn stretch(all: &Arc<Box<T>>, stretch: Range<usize>) -> Option<Self> {
        let start = u32::try_from(stretch.start).ok()?;
        let end = u32::try_from(stretch.end).ok().filter(|end| *end < TO_THE_END)?;
        Some(Self { all: Arc::clone(all), start, end })
    }
}

impl<T: ?Sized + Index<Range<usize>, Output = T>> Shared<T> {
    pub(crate) fn get(&self) -> &T {
        match self.end {
            TO_THE_END => &self.all,
            end => &self.all[self.start as usize..end as usize],
        }
    }
}

// Not derived: that would ask for a `T` that can be cloned.
impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { all: Arc::clone(&self.all), ..*self }
    }
}
