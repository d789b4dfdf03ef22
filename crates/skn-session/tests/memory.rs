//! Memory of a probe does not grow with texts, nor while rows are read: bytes that are alive, counted by the allocator.

#![allow(unsafe_code, reason = "an allocator that counts; it calls the system's")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skn_probing::{Progress, Work};
use skn_session::options::{Compute, Probe, Subject, TaskChoice, Tuned};
use skn_session::{ProbeType, Session};

/// Bytes that are alive, and the most that were.
static ALIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn more(bytes: usize) {
    let alive = ALIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(alive, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came, and what that gives is given on. Counting asks for no memory, and does not
// unwind.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the same promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        // SAFETY: as above.
        let memory = unsafe { System.realloc(memory, layout, size) };
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts anew when the first pass begins: what reading took before is told apart.
#[derive(Default)]
struct FromFirstPass {
    reading: AtomicUsize,
}

impl Progress for FromFirstPass {
    fn begin(&self, work: Work<'_>) {
        if work.what == "averaging" {
            self.reading
                .store(MOST.swap(ALIVE.load(Ordering::Relaxed), Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

fn data(folder: &Path, texts: usize) -> std::path::PathBuf {
    for (split, texts) in [("train", texts), ("dev", texts), ("test", 10)] {
        let mut lines = String::new();
        for row in 0..texts {
            // Texts of one length, however many there are.
            writeln!(lines, "{{\"text\": \"so good {split} {row:06}\", \"label\": {}}}", row % 2).unwrap();
        }
        fs::write(folder.join(split).with_extension("jsonl"), lines).unwrap();
    }
    let task = folder.join("task.toml");
    let splits = "[splits]\ntrain = \"train\"\ndev = \"dev\"\ntest = \"test\"\n";
    let text = format!(
        "name = \"made\"\ntext = \"text\"\nlabel = \"label\"\nlabels = [\"bad\", \"good\"]\n{splits}"
    );
    fs::write(&task, text).unwrap();
    task
}

/// The most bytes that were alive while so many texts of train, and as many of dev, were read, and then in the passes.
fn most_of(texts: usize) -> [usize; 2] {
    let folder = tempfile::tempdir().unwrap();
    let task = data(folder.path(), texts);
    let mut probe = Probe::of(folder.path().join("run"), &[ProbeType::Acc]);
    probe.subject = Subject::default();
    (probe.subject.model, probe.subject.task) = (Some(Subject::DEMO.into()), Some(TaskChoice::File(task)));
    probe.subject.data = Some(folder.path().into());
    probe.tuned = Tuned::default();
    probe.tuned.prompt_size = NonZeroUsize::new(1);
    let mut compute = Compute::default();
    compute.threads = NonZeroUsize::new(1);
    let progress = Arc::new(FromFirstPass::default());
    let session = Session::new(compute).unwrap().for_one_stage().with_progress(Arc::clone(&progress) as _);
    let before = ALIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    session.probe(&probe).unwrap();
    let most = [progress.reading.load(Ordering::Relaxed), MOST.load(Ordering::Relaxed)];
    most.map(|most| most - before)
}

#[test]
fn memory_does_not_grow_with_texts() {
    // Both lie in a file, both have the tokenizer that keeps few words, and neither part becomes tokens in one round.
    const FEW: usize = 20_000;
    // What is made once for the process.
    most_of(10);
    let [few, many] = [FEW, 2 * FEW].map(most_of);
    let of_text = |which: usize| (many[which] as f64 - few[which] as f64) / FEW as f64;
    let [reading, passes] = [0, 1].map(of_text);
    eprintln!("{few:?} {many:?}: {reading:.1} and {passes:.1} bytes for each text of train with one of dev");
    // With the numbers of the rows as a list it would be 8 more; with rows or tokens kept more than 200.
    assert!(reading < 4.0 && passes < 4.0, "{few:?} {many:?}");
}
