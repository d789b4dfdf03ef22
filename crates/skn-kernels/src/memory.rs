//! Memory for what is read again and again.
#![allow(unsafe_code)] // one system call

/// So many default values, where the system can do it on pages of 2 MB: a matrix of some megabytes on pages of 4 KB has
/// more of them than the processor remembers addresses of.
pub(crate) fn zeros<T: Clone + Default>(len: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    #[cfg(target_os = "linux")]
    on_large_pages(values.spare_capacity_mut());
    values.resize(len, T::default());
    values
}

/// Asks for large pages wherever whole ones fit. Without them everything works as well, so that a refusal is none of our business.
#[cfg(target_os = "linux")]
fn on_large_pages<T>(memory: &mut [std::mem::MaybeUninit<T>]) {
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
    fn large_memory_is_zero() {
        for len in [0, 1, 1 << 20, (3 << 20) + 5] {
            let values: Vec<f32> = zeros(len);
            assert!(values.len() == len && values.iter().all(|&value| value == 0.0));
        }
    }
}
