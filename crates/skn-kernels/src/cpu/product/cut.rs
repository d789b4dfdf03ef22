//! Ranges in pieces.

use std::ops::Range;

/// Cuts a range into pieces of `step`.
#[inline]
pub(super) fn pieces_of(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(step).map(move |start| start..range.end.min(start + step))
}

/// Cuts a range into pieces of `step`; an empty one is one empty piece, in which the bias is written.
#[inline]
pub(super) fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (range.start..range.end.max(range.start + 1)).step_by(step);
    starts.map(move |start| start..range.end.min(start + step))
}
