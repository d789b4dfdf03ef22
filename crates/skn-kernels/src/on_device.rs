//! What is made on a device when it is first needed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};

use candle_core::{Device, Result, Tensor};

/// Rows of a batch on the device that computes with them. Clones of a selection share it.
pub(crate) struct DeviceRows {
    /// `[rows]`
    pub(crate) sequence: Tensor,
    /// `[rows]`
    pub(crate) position: Tensor,
    /// In the batch `[rows]`.
    pub(crate) number: Tensor,
    /// The first row of keys of each sequence, and of what is behind the last `[sequences + 1]`.
    pub(crate) starts: Tensor,
    /// The same of the rows here `[sequences + 1]`.
    pub(crate) asked: Tensor,
    /// By the size of a tile.
    pub(crate) query_tiles: [OnDevice<Tensor>; 2],
    pub(crate) key_tiles: [OnDevice<Tensor>; 2],
}

/// A place for what is made when it is first needed, on a device most of it. It is no part of what its owner is: two owners are equal
/// whether it has been made or not.
pub(crate) struct OnDevice<T>(Arc<OnceLock<Made<T>>>);

/// What was made, and by whom. Each thread has a stream of its own on a card, and what others queue would not wait for it.
struct Made<T> {
    value: T,
    by: ThreadId,
    /// Whether somebody has waited for it.
    has_arrived: AtomicBool,
}

impl<T> Made<T> {
    fn new(value: T) -> Self {
        Self { value, by: thread::current().id(), has_arrived: AtomicBool::new(false) }
    }

    /// For this thread to use. The first one that has not made it waits, for all others too.
    fn arrived(&self, device: &Device) -> Result<&T> {
        if self.by != thread::current().id() && !self.has_arrived.load(Ordering::Acquire) {
            wait_for_others(device)?;
            self.has_arrived.store(true, Ordering::Release);
        }
        Ok(&self.value)
    }
}

/// Waits for what all threads have queued on a card. A card refuses that while one of them captures.
#[cfg(feature = "cuda")]
pub(crate) fn wait_for_others(device: &Device) -> Result<()> {
    let _alone = crate::noted::Alone::begin();
    match device {
        Device::Cuda(card) => card.cuda_stream().context().synchronize().map_err(candle_core::Error::wrap),
        _ => Ok(()),
    }
}

/// Nothing is queued without a card.
#[cfg(not(feature = "cuda"))]
fn wait_for_others(_: &Device) -> Result<()> {
    Ok(())
}

impl<T> OnDevice<T> {
    /// What was made on a device, or is made now. Two threads may both make it: the first one's is kept.
    pub(crate) fn or_make(&self, device: &Device, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(made) = self.0.get() {
            return made.arrived(device);
        }
        let made = Made::new(make()?);
        self.0.get_or_init(|| made).arrived(device)
    }

    /// As [`Self::or_make`], of what is on no device and nothing can go wrong with.
    pub(crate) fn or_collect(&self, make: impl FnOnce() -> T) -> &T {
        &self.0.get_or_init(|| Made::new(make())).value
    }
}

impl<T> Default for OnDevice<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for OnDevice<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for OnDevice<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for OnDevice<T> {}

impl<T> std::fmt::Debug for OnDevice<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "OnDevice" } else { "OnDevice, to be made" })
    }
}
