//! Memory for what is read again and again.
#![allow(unsafe_code)] // parts of zeroed memory as slices, and one system call

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::cpu::element::Element;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a large page: of x86-64, and of 64-bit ARM where small pages have 4 KB.
const PAGE: usize = 2 << 20;
/// Bytes of a region for several matrices.
const REGION: usize = 32 * PAGE;
/// From so many bytes on, what is kept lies in a region: elsewhere than on Linux there are no large pages to win by it.
const SHARED: usize = if cfg!(target_os = "linux") { PAGE / 2 } else { usize::MAX };

/// Elements that begin with a cache line, so that loads of whole vectors don't cross from one into the next.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    first: NonNull<T>,
    len: usize,
    /// What the elements lie in.
    _memory: Memory,
    elements: PhantomData<T>,
}

#[derive(Debug)]
#[allow(dead_code, reason = "it is there to be dropped")]
enum Memory {
    None,
    Own(Region),
    Shared(Arc<Region>),
}

// SAFETY: it owns its elements: no other value has a part of theirs.
unsafe impl<T: Send> Send for Aligned<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Aligned<T> {}

impl<T: Element> Aligned<T> {
    /// So many zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        match Self::bytes(len) {
            0 => Self { first: NonNull::dangling(), len, _memory: Memory::None, elements: PhantomData },
            bytes => {
                let region = Region::new(bytes, LINE);
                let first = region.start.cast();
                Self { first, len, _memory: Memory::Own(region), elements: PhantomData }
            }
        }
    }

    /// So many zeros for what stays: beside others of its kind, so that all of it is on large pages where the system has them.
    pub(crate) fn kept(len: usize) -> Self {
        /// The region that is being filled.
        static FILLED: Mutex<Filling> = Mutex::new(Filling::new());
        let bytes = Self::bytes(len);
        if bytes < SHARED {
            return Self::zeros(len);
        }
        let (first, region) = FILLED.lock().unwrap_or_else(PoisonError::into_inner).share(bytes, REGION);
        Self { first: first.cast(), len, _memory: Memory::Shared(region), elements: PhantomData }
    }

    /// The first elements, made anew as zeros if there are not so many.
    pub(crate) fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            *self = Self::zeros(len);
        }
        &mut self[..len]
    }

    fn bytes(len: usize) -> usize {
        const { assert!(LINE.is_multiple_of(size_of::<T>())) }
        len.saturating_mul(size_of::<T>())
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements from `first` on, which is the start of a cache line, lie in `_memory`, were zeros at first, which are
        // elements (`Element`), and are this value's alone.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

/// A region that is being filled with matrices. A matrix of some megabytes on pages of 4 KB has more of them than the processor
/// remembers addresses of, and the system takes longer to clear them; on large pages of its own it would leave a part of
/// the last one empty. A place is given once: the region goes with the last matrix that lies in it.
#[derive(Debug)]
struct Filling {
    region: Weak<Region>,
    /// Bytes that are given away.
    used: usize,
}

impl Filling {
    const fn new() -> Self {
        Self { region: Weak::new(), used: 0 }
    }

    /// So many bytes, in the region if they fit, or in a new one of at least `size` bytes, a multiple of a cache line.
    fn share(&mut self, bytes: usize, size: usize) -> (NonNull<u8>, Arc<Region>) {
        let there = self.region.upgrade().filter(|_| bytes <= size - self.used);
        let (region, place) = match there {
            Some(region) => (region, self.used),
            None => (Arc::new(Region::new(bytes.max(size), PAGE)), 0),
        };
        if bytes <= size {
            (self.region, self.used) = (Arc::downgrade(&region), place + bytes.next_multiple_of(LINE));
        }
        // SAFETY: `place..place + bytes` lies in the region: it was made for `bytes` from 0 on, or there are `size - used` left.
        (unsafe { region.start.add(place) }, region)
    }
}

/// Memory that was zeros at first, of which every byte is given to one owner at most.
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
    /// So many bytes, at least one, from an aligned one on.
    fn new(bytes: usize, align: usize) -> Self {
        // The alignment is not asked for: the memory would be cleared by hand then, even what comes from the system as zeros.
        let size = bytes.saturating_add(align);
        let layout = Layout::from_size_align(size, 1)
            .unwrap_or_else(|_| panic!("a matrix of {bytes} bytes is more than can be addressed"));
        // SAFETY: the layout has a size.
        let Some(memory) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let before = memory.addr().get().next_multiple_of(align) - memory.addr().get();
        // SAFETY: less than `align` bytes of at least as many.
        let start = unsafe { memory.add(before) };
        let region = Self { memory, layout, start };
        region.on_large_pages();
        region
    }

    /// Asks for large pages wherever whole ones fit. Without them everything works as well, so that a refusal is none of our
    /// business.
    fn on_large_pages(&self) {
        #[cfg(target_os = "linux")]
        {
            let (first, end) = (self.memory.addr().get(), self.memory.addr().get() + self.layout.size());
            let (start, end) = (first.next_multiple_of(PAGE), end / PAGE * PAGE);
            if start < end {
                let start = self.memory.as_ptr().wrapping_add(start - first);
                // SAFETY: the range lies in memory that is this region's, and the advice changes no value in it.
                unsafe { libc::madvise(start.cast(), end - start.addr(), libc::MADV_HUGEPAGE) };
            }
        }
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
            for make in [Aligned::<f32>::zeros, Aligned::kept] {
                let mut values = make(len);
                assert!(values.len() == len && values.iter().all(|&value| value == 0.0));
                assert!(len == 0 || values.as_ptr().addr().is_multiple_of(LINE));
                values.fill(1.0);
                assert_eq!(values.at_least(len.saturating_sub(1)).len(), len.saturating_sub(1));
                assert!(values.at_least(len + 1).iter().all(|&value| value == 0.0));
            }
        }
    }

    #[test]
    fn a_region_is_filled_and_goes_with_its_last_matrix() {
        const SIZE: usize = 8 * LINE;
        let mut filling = Filling::new();
        let mut share = |bytes: usize| {
            let (first, region) = filling.share(bytes, SIZE);
            (first.addr().get() - region.start.addr().get(), region)
        };
        let (places, regions): (Vec<_>, Vec<_>) =
            [1, LINE, 3 * LINE - 1, 3 * LINE].map(&mut share).into_iter().unzip();
        assert_eq!(places, [0, LINE, 2 * LINE, 5 * LINE], "one after the other, and all of it");
        assert!(regions.iter().all(|region| Arc::ptr_eq(region, &regions[0])));
        let (place, second) = share(1);
        assert!(place == 0 && !Arc::ptr_eq(&second, &regions[0]), "it was full");
        let (place, large) = share(SIZE + 1);
        assert!(place == 0 && Arc::strong_count(&large) == 1, "what is too large is alone");
        assert!(Arc::ptr_eq(&share(7 * LINE).1, &second), "and leaves the other to be filled");
        assert!(!Arc::ptr_eq(&share(1).1, &second), "a byte too many");
        let last = Arc::downgrade(&second);
        drop(second);
        assert!(last.upgrade().is_none(), "nobody else keeps it");
        let both = [share(LINE), share(LINE)];
        assert_eq!(both.map(|(place, _)| place), [0, LINE]);
        assert_eq!(share(LINE).0, 0, "what was freed is not filled further");
    }

    #[test]
    fn no_two_matrices_have_a_byte_in_common() {
        let mebibyte = (1 << 20) / size_of::<f32>();
        let lens = [mebibyte, mebibyte + 1, 3 * mebibyte - 7, 20 * mebibyte, 2 * mebibyte, 9];
        let fill_all = |thread: u16| {
            let mut all = Vec::new();
            for round in 0..3 {
                for (place, len) in lens.into_iter().enumerate() {
                    let mut values = Aligned::<f32>::kept(len);
                    assert!(values.iter().all(|&value| value == 0.0), "{len} after others");
                    assert!(values.as_ptr().addr().is_multiple_of(LINE));
                    let fill = f32::from(thread) * 100.0 + (round * lens.len() + place + 1) as f32;
                    values.fill(fill);
                    all.push((fill, values));
                }
            }
            assert!(all.iter().all(|(fill, values)| values.iter().all(|value| value == fill)));
        };
        std::thread::scope(|scope| {
            scope.spawn(|| fill_all(1));
            fill_all(0);
        });
    }
}
