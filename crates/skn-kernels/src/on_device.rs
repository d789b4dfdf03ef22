//! What is made on a device when it is first needed.

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor};

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
pub(crate) struct OnDevice<T>(Arc<OnceLock<T>>);

impl<T> OnDevice<T> {
    /// What was made, or is made now. Two threads may both make it: it is the same.
    pub(crate) fn or_make(&self, make: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(made) = self.0.get() {
            return Ok(made);
        }
        let made = make()?;
        Ok(self.0.get_or_init(|| made))
    }

    /// As [`Self::or_make`], of what nothing can go wrong with.
    pub(crate) fn or_collect(&self, make: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(make)
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
