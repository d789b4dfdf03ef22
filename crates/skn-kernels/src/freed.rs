//! What the allocator does with memory that is freed.
#![allow(unsafe_code)] // settings of the allocator, made while nobody else is there to read them

/// Has the allocator keep what is freed for what is asked for next, instead of giving it back to the system; returns whether it
/// will.
///
/// A training step frees what its backward pass has used, and the next one asks for as much again: some hundred megabytes, which
/// the system would take, clear and hand out page by page. A step of 16 texts on RoBERTa-base's shape takes 4 to 7 % longer then, and
/// its peak of memory is the same within 1 % (two threads; docs/speed.md).
///
/// For glibc on Linux; elsewhere it does nothing. Call it first thing in `main`: it does nothing either if the program has more than one
/// thread already, or if glibc's own variables, `MALLOC_MMAP_THRESHOLD_` or `MALLOC_TRIM_THRESHOLD_`, are set.
///
/// ```standalone_crate
/// # #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))] {
/// let resident = || -> usize {
///     let status = std::fs::read_to_string("/proc/self/status").unwrap();
///     let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
///     line.trim_end_matches("kB").trim().parse().unwrap()
/// };
/// assert!(skn_kernels::keep_freed_memory());
/// let before = resident();
/// drop(vec![1u8; 24 << 20]);
/// assert!(resident() > before + (20 << 10), "24 MiB are kept");
/// # }
/// ```
pub fn keep_freed_memory() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    {
        /// Bytes. The most that glibc lets be set: what is larger than that goes back to the system whenever it is freed.
        const LARGEST: libc::c_int = 32 << 20;
        let set = |variable| std::env::var_os(variable).is_some();
        if set("MALLOC_MMAP_THRESHOLD_")
            || set("MALLOC_TRIM_THRESHOLD_")
            || !crate::one_pool::is_only_thread()
        {
            return false;
        }
        // SAFETY: mallopt sets numbers that malloc goes by; there is no other thread that could read them meanwhile.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST) == 1
                && libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) == 1
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64")))]
    false
}

/// Gives back to the system what the allocator keeps of freed memory, of all threads: for between two pieces of work of which the next
/// asks for other sizes, or on other threads, so that it would not get what the first has freed. It costs some milliseconds, and the
/// time that the system takes to clear what is asked for again.
///
/// For glibc on Linux; elsewhere it does nothing.
///
/// ```standalone_crate
/// # #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))] {
/// let resident = || -> usize {
///     let status = std::fs::read_to_string("/proc/self/status").unwrap();
///     let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
///     line.trim_end_matches("kB").trim().parse().unwrap()
/// };
/// skn_kernels::keep_freed_memory();
/// // What is behind what was freed is still there.
/// let (freed, there) = (vec![1u8; 24 << 20], vec![1u8; 1 << 20]);
/// drop(freed);
/// let before = resident();
/// skn_kernels::give_back_freed_memory();
/// assert!(resident() + (20 << 10) < before, "24 MiB are given back");
/// # drop(there);
/// # }
/// ```
pub fn give_back_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    // SAFETY: it changes nothing that anybody has, and takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
