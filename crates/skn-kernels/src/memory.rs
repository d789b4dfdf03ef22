//! Memory for what is read again and again.
#![allow(unsafe_code)] // zeroed memory as a vector, and one system call

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ops::{Deref, DerefMut, Range};

use crate::element::Element;

/// Elements that begin with a cache line, so that loads of whole vectors don't cross from one into the next.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    memory: Vec<T>,
    range: Range<usize>,
}

impl<T: Element> Aligned<T> {
    /// Elements of a cache line, all being of 4 bytes.
    const LINE: usize = 16;

    /// So many zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        const { assert!(size_of::<T>() * Self::LINE == 64) }
        if len == 0 {
            return Self { memory: Vec::new(), range: 0..0 };
        }
        let memory: Vec<T> = zeros(len + Self::LINE - 1);
        // Less than a line, as elements are aligned to their size; but a standard library may decline to say it.
        let start = memory.as_ptr().align_offset(64).min(Self::LINE - 1);
        Self { memory, range: start..start + len }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.range.clone()]
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.memory[self.range.clone()]
    }
}

/// So many zeros, where the system can do it on pages of 2 MB: a matrix of some megabytes on pages of 4 KB has more of them
/// than the processor remembers addresses of. Fresh memory is zero already and is not touched here.
fn zeros<T: Element>(len: usize) -> Vec<T> {
    let Ok(layout) = Layout::array::<T>(len) else { return vec![T::default(); len] };
    if layout.size() == 0 {
        return vec![T::default(); len];
    }
    // SAFETY: the layout has a size, and that is all that is asked.
    let memory = unsafe { alloc_zeroed(layout) }.cast::<T>();
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: `memory` was allocated just now with the layout of `len` elements, and bits of 0 are an element (see there).
    let mut values = unsafe { Vec::from_raw_parts(memory, len, len) };
    #[cfg(target_os = "linux")]
    on_large_pages(&mut values);
    values
}

/// Asks for large pages wherever whole ones fit. Without them everything works as well, so that a refusal is none of our business.
#[cfg(target_os = "linux")]
fn on_large_pages<T>(memory: &mut [T]) {
    /// Of x86-64, and of 64-bit ARM where small pages have 4 KB.
    const PAGE: usize = 2 << 20;
    let range = memory.as_mut_ptr_range();
    let (start, end) = ((range.start as usize).next_multiple_of(PAGE), range.end as usize / PAGE * PAGE);
    if start < end {
        // SAFETY: the range lies in memory that is borrowed here for writing, and the advice changes no value in it.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
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
}
