//! Memory for what is read again and again.
#![allow(unsafe_code)] // parts of zeroed memory as slices, and one system call

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::element::Element;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a large page: of x86-64, and of 64-bit ARM where small pages have 4 KB.
const PAGE: usize = 2 << 20;
/// From so many bytes on, matrices lie side by side in a region.
const SHARED: usize = PAGE / 2;
/// Bytes of a region for several matrices.
const REGION: usize = 32 * PAGE;

/// Elements that begin with a cache line, so that loads of whole vectors don't cross from one into the next.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    first: NonNull<T>,
    len: usize,
    /// What the elements lie in, if there are any: it is freed with the last of them.
    _region: Option<Arc<Region>>,
    elements: PhantomData<T>,
}

// SAFETY: it owns its elements: no other value has a part of theirs.
unsafe impl<T: Send> Send for Aligned<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Aligned<T> {}

impl<T: Element> Aligned<T> {
    /// So many zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        const { assert!(LINE.is_multiple_of(size_of::<T>()) && !std::mem::needs_drop::<T>()) }
        let bytes = len.saturating_mul(size_of::<T>());
        let (first, region) = match bytes {
            0 => (NonNull::dangling(), None),
            SHARED.. => {
                let (first, region) = Region::share(bytes);
                (first.cast(), Some(region))
            }
            _ => {
                let region = Region::new(bytes, LINE);
                (region.start.cast(), Some(Arc::new(region)))
            }
        };
        Self { first, len, _region: region, elements: PhantomData }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements from `first` on lie in `region`, on a cache line, are of plain bits that were zero at first,
        // which is an element (see there), and are this value's alone.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

/// Zeroed memory, of which every byte is given to one owner at most.
#[derive(Debug)]
struct Region {
    memory: NonNull<u8>,
    layout: Layout,
    /// The first byte with the alignment that was asked for.
    start: NonNull<u8>,
}

// SAFETY: it is an address and what is needed to free it; nothing is read or written through it.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// So many bytes from an aligned one on. They are not touched here: fresh memory is zero already.
    fn new(bytes: usize, align: usize) -> Self {
        // Asked for with the alignment, memory would be cleared by hand.
        let size = bytes.saturating_add(align);
        let layout = Layout::from_size_align(size, 1)
            .unwrap_or_else(|_| panic!("a matrix of {bytes} bytes is more than can be addressed"));
        // SAFETY: the layout has a size.
        let Some(memory) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let before = memory.addr().get().next_multiple_of(align) - memory.addr().get();
        // SAFETY: less than `align` bytes of at least as many.
        let start = unsafe { memory.add(before) };
        Self { memory, layout, start }
    }

    /// So many bytes of a region that other matrices lie in too, on pages of 2 MB where the system has them. A matrix of some
    /// megabytes on pages of 4 KB has more of them than the processor remembers addresses of, and the system takes five times as
    /// long to clear them; on large pages of its own it would leave a part of the last one empty.
    fn share(bytes: usize) -> (NonNull<u8>, Arc<Self>) {
        /// The region that is being filled, and how many of its bytes are given away.
        static FILLED: Mutex<(Weak<Region>, usize)> = Mutex::new((Weak::new(), 0));
        let mut filled = FILLED.lock().unwrap_or_else(PoisonError::into_inner);
        let there = filled.0.upgrade().filter(|_| bytes <= REGION - filled.1);
        let (region, place) = match there {
            Some(region) => (region, filled.1),
            None => {
                let size = bytes.max(REGION).checked_next_multiple_of(PAGE).unwrap_or(usize::MAX);
                let region = Arc::new(Self::new(size, PAGE));
                region.on_large_pages(size);
                if bytes < REGION {
                    filled.0 = Arc::downgrade(&region);
                }
                (region, 0)
            }
        };
        if bytes < REGION {
            filled.1 = place + bytes.next_multiple_of(LINE);
        }
        // SAFETY: `place..place + bytes` lies in the region, whose size is REGION at least or `bytes` from 0.
        (unsafe { region.start.add(place) }, region)
    }

    /// Asks for large pages for so many bytes. Without them everything works as well, so that a refusal is none of our business.
    fn on_large_pages(&self, bytes: usize) {
        #[cfg(target_os = "linux")]
        // SAFETY: the region has as many bytes, and the advice changes no value in them.
        unsafe {
            libc::madvise(self.start.as_ptr().cast(), bytes / PAGE * PAGE, libc::MADV_HUGEPAGE);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = bytes;
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and who had a part of it is gone.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_begins_with_a_line() {
        for len in [0, 1, 15, 16, 1 << 20, (3 << 20) + 5] {
            let values = Aligned::<f32>::zeros(len);
            assert!(values.len() == len && values.iter().all(|&value| value == 0.0));
            assert!(len == 0 || values.as_ptr().addr().is_multiple_of(64));
        }
    }

    #[test]
    fn no_two_matrices_have_a_byte_in_common() {
        let shared = SHARED / size_of::<f32>();
        let lens = [shared, shared + 1, 3 * shared - 7, 40 * shared, 2 * shared, 65 * shared, 63 * shared, 9];
        let threads: Vec<_> = (0..3u8)
            .map(|thread| {
                std::thread::spawn(move || {
                    let fill =
                        |round: usize, place: usize| (usize::from(thread) * 100 + round * 10 + place) as f32;
                    let mut all = Vec::new();
                    for round in 0..3 {
                        for (place, &len) in lens.iter().enumerate() {
                            let mut values = Aligned::<f32>::zeros(len);
                            assert!(values.iter().all(|&value| value == 0.0), "{len} after others");
                            assert!(values.as_ptr().addr().is_multiple_of(LINE));
                            values.fill(fill(round, place));
                            all.push((fill(round, place), values));
                        }
                        // Some go, so that what comes next may lie where they were.
                        all.retain(|(value, _)| !(*value as usize).is_multiple_of(3));
                    }
                    assert!(all.iter().all(|(fill, values)| values.iter().all(|value| value == fill)));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
