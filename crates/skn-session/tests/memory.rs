//! Memory of a probe does not grow with texts, nor while rows are read: bytes that are alive, counted by the allocator.

#![allow(unsafe_code, reason = "an allocator that counts; it calls the system's")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skn_probing::{Progress, Ranking, Work};
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
            // Texts of one length and of the same words, however many there are.
            let word = 100 + row % 900;
            writeln!(lines, "{{\"text\": \"so good {split} {word}\", \"label\": {}}}", row % 2).unwrap();
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

/// The most bytes that were alive while so many texts of train, and as many of dev, were read, and then in the passes of a plain probe, or
/// of one with all statistics that need no gradient and no fit.
fn most_of(texts: usize, with_all: bool) -> [usize; 2] {
    let folder = tempfile::tempdir().unwrap();
    let task = data(folder.path(), texts);
    let mut probe = Probe::of(folder.path().join("run"), &[ProbeType::Acc]);
    probe.subject = Subject::default();
    (probe.subject.model, probe.subject.task) = (Some(Subject::DEMO.into()), Some(TaskChoice::File(task)));
    probe.subject.data = Some(folder.path().into());
    probe.tuned = Tuned::default();
    probe.tuned.prompt_size = NonZeroUsize::new(1);
    if with_all {
        (probe.fire_bits, probe.variance) = (true, true);
        probe.rank = Ranking::ALL.into_iter().filter(|ranking| ranking.streams()).collect();
    }
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

/// Few stay in memory but for one round of them; many lie in a file, train's and dev's.
const FEW: usize = 1_000;
const MANY: usize = 10_000;
/// While rows are read, and in the passes: there batches may be fuller, and of 10,000 rows whose fire bits are kept some numbers each.
const MORE: [usize; 2] = [128 << 10, 1 << 20];

/// A plain probe's and that of one with all statistics are counted in a process each, at once.
#[test]
fn memory_does_not_grow_with_texts() {
    let counted = [PLAIN, ALL].map(|which| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "counted", "--nocapture", "--test-threads=1"]).env(WHICH, which);
        (which, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    });
    for (which, child) in counted {
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        eprint!("{said}");
        assert!(ended.status.success() && said.contains(which), "{which}: {}\n{said}", ended.status);
    }
}

const WHICH: &str = "SKN_MEMORY_OF";
const PLAIN: &str = "plain";
const ALL: &str = "all statistics";

/// Not a test but the child of one.
#[test]
fn counted() {
    let Ok(which) = std::env::var(WHICH) else { return };
    let with_all = which == ALL;
    // What is made once for the process.
    most_of(10, with_all);
    let most = [FEW, MANY].map(|texts| most_of(texts, with_all));
    eprintln!("{which}: {most:?} bytes while rows were read and in the passes, {FEW} and {MANY} texts");
    for (phase, more) in MORE.into_iter().enumerate() {
        assert!(most[1][phase] < most[0][phase] + more, "{which}: {most:?}");
    }
    if !with_all {
        let twice = most_of(2 * MANY, false);
        eprintln!("{which}: {twice:?} bytes, {} texts", 2 * MANY);
        for (twice, many) in twice.into_iter().zip(most[1]) {
            // With the numbers of the rows as a list it would be 8 more for each text of train with one of dev; with rows or tokens
            // kept more than 200.
            assert!(twice < many + 4 * MANY, "{which}: {most:?}, {twice}");
        }
    }
}
