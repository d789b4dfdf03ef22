use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a statistic has on a device, by layer, in the course of a pass. The statistic and its parts of batches share it, so that
/// it need not be put together batch by batch: one thread drives a device. If an error ends the pass in the middle of a batch, it has
/// half of that, and nobody asks for it any more.
pub(crate) struct Shared<T>(Arc<Mutex<BTreeMap<usize, T>>>);

impl<T> Shared<T> {
    /// The same.
    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it; then there is nothing.
    pub(crate) fn take(&self) -> BTreeMap<usize, T> {
        std::mem::take(&mut *self.lock())
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Shared<T> {
    /// Nothing: a copy of a statistic takes for itself what is taken from now on, and before or behind a pass there is nothing.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&self.lock().len()).finish()
    }
}

/// What parts of batches took numbers into, when these have been absorbed: the next parts take it again. A pass has so many of them
/// as are under way at once, and asks for no more memory however many batches there are. The statistic and its parts share it.
pub(crate) struct Spare<T>(Arc<Mutex<Vec<T>>>);

impl<T> Spare<T> {
    /// The same.
    pub(crate) fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// One that was used, as it was left.
    pub(crate) fn take(&self) -> Option<T> {
        self.lock().pop()
    }

    /// Puts one aside that is not used any more.
    pub(crate) fn keep(&self, used: T) {
        self.lock().push(used);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Spare<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Spare<T> {
    /// None: a copy has memory of its own.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for Spare<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spare").field(&self.lock().len()).finish()
    }
}
