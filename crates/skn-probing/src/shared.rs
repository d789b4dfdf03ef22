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
