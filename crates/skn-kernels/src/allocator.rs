//! What a program says when the system gives no memory.
#![allow(unsafe_code)] // the system's allocator is called through, and the process ended without looking back

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::OnceLock;
#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::time::Duration;

/// Whether a thread has begun to say it.
#[cfg(unix)]
static SAID: AtomicBool = AtomicBool::new(false);

/// A program's name, and what it has to say.
static PROGRAM: OnceLock<(&str, &str)> = OnceLock::new();

/// The system's allocator, which says in one line how much was asked for when there is not so much, and ends the program with exit
/// code 1: once [`tell_of_memory`] was called. Without it Rust ends a program by a signal, as if it were broken, and its
/// users look for a bug.
///
/// Nothing else can be done there: tensors are made in many places of several libraries that all go on as if memory could be had.
/// So `try_reserve` fails as everything does.
///
/// ```
/// use skn_kernels::TellingAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: TellingAllocator = TellingAllocator;
///
/// fn main() {
///     skn_kernels::tell_of_memory("my-program", "give it smaller batches");
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TellingAllocator;

/// From now on a program that has the [`TellingAllocator`] says under this name that memory could not be had, and this behind how
/// much was asked for. Only the first call counts.
pub fn tell_of_memory(program: &'static str, advice: &'static str) {
    PROGRAM.get_or_init(|| (program, advice));
}

// SAFETY: every call goes to the system's allocator as it came, and what that gives is given on; a null pointer too, unless the process
// ends, and then nobody sees it. It does not unwind: what could panic is not called.
unsafe impl GlobalAlloc for TellingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the same promises.
        given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; the memory came from the system's allocator.
        given(unsafe { System.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[inline]
fn given(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        refused(bytes);
    }
    memory
}

/// Ends the program, if it has said its name. Must not ask for memory.
#[cold]
fn refused(bytes: usize) {
    let Some((program, advice)) = PROGRAM.get() else { return };
    #[cfg(unix)]
    while SAID.swap(true, Ordering::Relaxed) {
        // Another thread is about to end the program.
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut line = [0; 512];
    let length = {
        let mut rest = &mut line[..];
        // What does not fit is left out.
        let _ = writeln!(
            rest,
            "{program}: error: out of memory: {bytes} bytes more were asked for, and the system did not give them; {advice}"
        );
        512 - rest.len()
    };
    #[cfg(unix)]
    // SAFETY: the bytes are there. The process ends without destructors, which could ask for memory, as a signal would end it.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), length);
        libc::_exit(1);
    }
    // Elsewhere it ends as Rust has it.
    #[cfg(not(unix))]
    let _ = (line, length);
}
