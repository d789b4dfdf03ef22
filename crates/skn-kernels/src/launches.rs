//! How many kernels were launched, and how much work replayed.

use std::cell::Cell;

thread_local! {
    static LAUNCHES: Cell<u64> = const { Cell::new(0) };
    static REPLAYS: Cell<u64> = const { Cell::new(0) };
    static CASTS: Cell<u64> = const { Cell::new(0) };
}

/// How many kernels of ours this thread has launched, on a card or where [`play_on_host`](crate::play_on_host) was called. Products,
/// which are cuBLASLt's, with the biases that they add, and what candle launches are not counted. Tests count by it what a pass launches.
pub fn launches() -> u64 {
    LAUNCHES.get()
}

pub(crate) fn count_launch() {
    LAUNCHES.set(LAUNCHES.get() + 1);
}

/// How often this thread has had candle round numbers to bf16 for a product that reads them so, where [`launches`] counts. What a kernel
/// of ours has rounded as it wrote it ([`Linear::forward_for`](crate::Linear::forward_for)) is not counted.
pub fn casts() -> u64 {
    CASTS.get()
}

pub(crate) fn count_cast() {
    CASTS.set(CASTS.get() + 1);
}

/// How often this thread has replayed what was captured ([`Graphs`](crate::Graphs)). Tests count by it what is computed so.
pub fn replays() -> u64 {
    REPLAYS.get()
}

pub(crate) fn count_replay() {
    REPLAYS.set(REPLAYS.get() + 1);
}
