//! Where programs are attacked: a small model and small data, and for each program a folder as it is before it runs and as it
//! should be afterwards. A case works on copies of these.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use skn_artifact::names::file::{REPORT, SUMMARY};
use skn_artifact::sha256_hex;

use crate::cases;
use crate::contents::{
    Contents, checkpoint, contents, differing, entries, is_record, is_temporary, passing, seen, shown,
};
use crate::stages::{Stage, attacked, copy_state, inputs, states_of};
use crate::support::Desk;
use crate::tracing::{Call, Threads, calls_on_files, missing, plain, seen_at_each, traced};

/// What is known of a stage.
pub(crate) struct Known {
    pub(crate) stage: Stage,
    pub(crate) before: Contents,
    pub(crate) after: Contents,
    pub(crate) stdout: String,
    /// Whole files that are there for a time only, such as checkpoints: name and hash.
    passing: BTreeSet<(String, String)>,
    /// What the next stage makes of what was before, if it takes it, and of what is afterwards.
    next: [Option<Contents>; 2],
    /// What it makes of what a training leaves on the way: parameters that were the best for a time.
    midway: Vec<Contents>,
    /// Calls on files of the user.
    pub(crate) calls: Vec<Call>,
}

pub(crate) struct Shop {
    pub(crate) desk: Desk,
    pub(crate) stages: Vec<Known>,
}

/// Calls that change files, or open them.
pub(crate) const CHANGING: &str = "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,\
                            mkdir,mkdirat,ftruncate,truncate,copy_file_range";
/// Those that give a file its name, or take it.
const MOVING: &str = "rename,renameat,renameat2,link,linkat,unlink,unlinkat,ftruncate";
/// Those, and calls that look at them.
pub(crate) const ALL: &str = "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,\
                       mkdir,mkdirat,ftruncate,truncate,copy_file_range,read,pread64,lseek,statx,newfstatat,fstat,getdents64,flock,\
                       fcntl,readlink,readlinkat,chmod,fchmod";

impl Shop {
    /// The one that all tests of a process share.
    pub(crate) fn open() -> &'static Self {
        static SHARED: LazyLock<Shop> = LazyLock::new(Shop::new);
        &SHARED
    }

    fn new() -> Self {
        let desk = Desk::of_process();
        let stages = attacked();
        inputs(&desk.path("inputs"));
        for (name, from, lines) in states_of(&stages) {
            copy_state(&desk.path(from), &desk.path(name));
            for line in lines {
                let ended = plain(&desk, &desk.path(name), &line);
                assert_eq!(ended.code, 0, "{line}\n{}", ended.stderr);
            }
        }
        let stages = cases::each(stages, |stage| Known::find_out(&desk, stage));
        Self { desk, stages }
    }

    /// A copy of what a stage finds.
    pub(crate) fn place(&self, stage: &Known, name: &str) -> Place {
        let path = self.desk.path(name);
        copy_state(&self.desk.path(stage.stage.before), &path);
        Place(path)
    }
}

/// Of each name the calls of the program's run that had the fewest: some are made by whichever thread comes first, and on a busy machine
/// it is the main one now and then, whose later calls have other numbers then.
fn fewest(traces: &[Vec<Call>]) -> Vec<Call> {
    let counts = |calls: &[Call]| -> BTreeMap<String, usize> {
        calls.iter().map(|call| (call.name.clone(), call.number)).collect()
    };
    let all: Vec<BTreeMap<String, usize>> = traces.iter().map(|calls| counts(calls)).collect();
    // A run that has none of a name is not the one to be counted.
    let has = |name: &str| {
        let name = name.to_owned();
        let all = &all;
        (0..all.len()).filter(move |&other| all[other].contains_key(&name))
    };
    let mut chosen = Vec::new();
    for (trace, calls) in traces.iter().enumerate() {
        let is_of = |call: &&Call| has(&call.name).min_by_key(|&other| all[other][&call.name]) == Some(trace);
        chosen.extend(calls.iter().filter(is_of).cloned());
    }
    chosen
}

/// A case's folder, which goes when the case is done.
pub(crate) struct Place(PathBuf);

impl std::ops::Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Known {
    fn find_out(desk: &Desk, stage: Stage) -> Self {
        let place = Place(desk.path(&format!("finding out {}", stage.name)));
        let begin = || {
            fs::remove_dir_all(&*place).ok();
            copy_state(&desk.path(stage.before), &place);
        };
        begin();
        let before = contents(&place);
        let mut passing = passing(&place);
        let ended = plain(desk, &place, &stage.line);
        assert_eq!(ended.code, 0, "{}\n{}", stage.line, ended.stderr);
        let after = contents(&place);
        passing.extend(self::passing(&place));
        let next = |fresh: bool| {
            if fresh {
                begin();
            }
            let done = plain(desk, &place, stage.next?);
            (done.code == 0).then(|| contents(&place))
        };
        let next = [false, true].map(next);
        let mut known = Self {
            stage,
            before,
            after,
            stdout: ended.stdout,
            passing,
            next,
            midway: Vec::new(),
            calls: Vec::new(),
        };
        known.without_test(desk, &place);
        if missing().is_none() {
            known.trace(desk, &place);
        }
        known
    }

    /// What the next stage makes of a probe that was killed before it had counted test and noted anything: test stays empty.
    fn without_test(&mut self, desk: &Desk, place: &Path) {
        let tests: Vec<&String> =
            self.after.keys().filter(|name| name.ends_with("/test_perf.safetensors")).collect();
        let Some(next) = self.stage.next.filter(|_| !tests.is_empty()) else { return };
        fs::remove_dir_all(place).ok();
        copy_state(&desk.path(self.stage.before), place);
        let record = place.join(self.stage.run).join("run.json");
        let before = fs::read(&record).ok();
        assert_eq!(plain(desk, place, &self.stage.line).code, 0);
        match before {
            Some(before) => fs::write(&record, before).unwrap(),
            None => fs::remove_file(&record).unwrap(),
        }
        tests.iter().for_each(|name| fs::remove_file(place.join(name)).unwrap());
        if plain(desk, place, next).code == 0 {
            self.midway.push(contents(place));
        }
    }

    fn trace(&mut self, desk: &Desk, place: &Path) {
        let begin = || {
            fs::remove_dir_all(place).ok();
            copy_state(&desk.path(self.stage.before), place);
        };
        let traces = [(); 3].map(|()| {
            begin();
            let (ended, log) = traced(desk, place, &self.stage.line, ALL, None, Threads::Main);
            assert_eq!(ended.code, 0, "{}\n{}", self.stage.line, ended.stderr);
            assert_eq!(
                differing(&contents(place), &self.after),
                [""; 0],
                "{} is not the same twice",
                self.stage.line
            );
            calls_on_files(&log, place)
        });
        self.calls = fewest(&traces);
        if !self.is_training() {
            return;
        }
        // A training writes some files several times. Every one of them is in place for a while.
        begin();
        let aside = Place(desk.path(&format!("meanwhile {}", self.stage.name)));
        let (before, next) = (&self.before, self.stage.next);
        let (passing, midway) = (&mut self.passing, &mut self.midway);
        let ended = seen_at_each(desk, place, &self.stage.line, MOVING, &mut || {
            passing.extend(self::passing(place));
            let best = |name: &String| name.contains("/best/skn.json");
            let is_new =
                seen(place).iter().any(|(name, bytes)| best(name) && before.get(name) != Some(bytes));
            if let Some(next) = next.filter(|_| is_new) {
                fs::remove_dir_all(&*aside).ok();
                copy_state(place, &aside);
                if plain(desk, &aside, next).code == 0 {
                    midway.push(contents(&aside));
                }
            }
        });
        assert_eq!(ended.code, 0, "{}\n{}", self.stage.line, ended.stderr);
    }

    /// Whether each stage that a record lists, and each file, is one that the chain lists on its way: where it was stopped before, those of
    /// both times stand beside one another.
    fn is_of_both(&self, name: &str, bytes: &[u8]) -> bool {
        entries(bytes).into_iter().all(|entry| self.passing.contains(&(name.to_owned(), entry)))
    }

    /// The folder of the shop's desk that the stage finds.
    pub(crate) fn before_state(&self) -> &'static str {
        self.stage.before
    }

    pub(crate) fn is_training(&self) -> bool {
        self.stage.line.starts_with("skn-train") || self.is_chain()
    }

    /// Whether it is a chain of stages.
    pub(crate) fn is_chain(&self) -> bool {
        self.stage.line.starts_with("skn-run")
    }

    /// Checks that a stopped program left every file as it was, or as it should be; says how many are new.
    ///
    /// # Panics
    /// If one is neither, or gone.
    pub(crate) fn check_whole(&self, place: &Path, case: &str) -> usize {
        let found = seen(place);
        let mut new = 0;
        for (name, bytes) in found.iter().filter(|(name, _)| !is_temporary(name)) {
            let is = |expected: &Contents| expected.get(name) == Some(bytes);
            // Lines that are behind the last checkpoint are cut off by a resume.
            let growing = name.ends_with("metrics.jsonl")
                && self.after.get(name).is_some_and(|all| all.starts_with(bytes));
            let passing = || self.passing.contains(&(checkpoint(name), sha256_hex(bytes)));
            let mixed = || self.is_chain() && is_record(name) && self.is_of_both(name, bytes);
            new += usize::from(!is(&self.before));
            assert!(
                is(&self.before) || is(&self.after) || growing || passing() || mixed(),
                "{case}: {name}: {} bytes, neither the old file nor the new: {:?}{}",
                bytes.len(),
                String::from_utf8_lossy(&bytes[..bytes.len().min(100)]),
                shown(std::slice::from_ref(name), &found, &self.after)
            );
        }
        let stay = self.before.keys().filter(|name| self.after.contains_key(*name));
        // A training that begins anew has no use for the checkpoints of another, and a new one takes the place of the last.
        // What a whole chain came to would be told of another one's files.
        // So would the texts that excite the neurons of other counts.
        let of_others = [SUMMARY, REPORT, "_top.safetensors"];
        let told = |name: &String| self.is_chain() && of_others.iter().any(|end| name.ends_with(end));
        let goes = |name: &String| self.is_training() && name.contains("/last/") || told(name);
        let gone: Vec<&String> = stay.filter(|name| !found.contains_key(*name) && !goes(name)).collect();
        assert!(gone.is_empty(), "{case}: gone: {gone:?}");
        new
    }

    /// Checks that a program which ended with an error has taken no checkpoints of an earlier training before it could begin its
    /// own: the figures of the earlier one go first.
    ///
    /// # Panics
    /// If it has.
    pub(crate) fn check_kept(&self, place: &Path, case: &str) {
        let found = seen(place);
        let has = |files: &Contents| files.keys().any(|name| name.contains("/last/checkpoint"));
        let figures = |files: &Contents| {
            let mut all = files.iter().filter(|(name, _)| name.ends_with("metrics.jsonl"));
            all.next().map(|(_, bytes)| bytes.clone())
        };
        let has_begun = figures(&found) != figures(&self.before);
        assert!(!has(&self.before) || has(&found) || has_begun, "{case}: the checkpoints are gone");
    }

    /// Checks that the next stage takes what a stopped program left only if it is all old or all new.
    ///
    /// # Panics
    /// If it takes something else, or doesn't say why it does not.
    pub(crate) fn check_next(&self, desk: &Desk, place: &Path) -> Option<String> {
        let line = self.stage.next?;
        let ended = plain(desk, place, line);
        if ended.code == 0 {
            let found = contents(place);
            let told = ["does not list", "no run lists it"].iter().any(|told| ended.stderr.contains(told));
            let like = |expected: &Contents| {
                let made = expected
                    .keys()
                    .filter(|name| !self.before.contains_key(*name) && !self.after.contains_key(*name));
                made.into_iter().all(|name| found.get(name) == expected.get(name))
            };
            let midway = self.midway.iter().any(like)
                || (!self.is_training() && ended.stderr.contains("does not list"));
            assert!(
                self.next.iter().flatten().any(like) || (midway && told),
                "{line} took what was left, and made something else of it than of the old or the new\n{}",
                ended.stderr
            );
            return Some("next works".into());
        }
        assert!(matches!(ended.code, 2 | 3), "{line}: exit code {}\n{}", ended.code, ended.stderr);
        assert!(ended.stderr.contains(": error: "), "{line}\n{}", ended.stderr);
        Some("next is told".into())
    }

    /// Runs the stage again, as its message says if it says something, and checks that everything is as it should be.
    ///
    /// # Panics
    /// If it is not.
    pub(crate) fn check_again(&self, desk: &Desk, place: &Path) {
        let (line, flag) = (&self.stage.line, self.stage.again);
        let mut ended = plain(desk, place, line);
        if ended.code == 3 && !flag.is_empty() && ended.stderr.contains("--force replaces") {
            ended = plain(desk, place, &format!("{line} {flag}"));
        }
        assert_eq!(ended.code, 0, "{line} {flag}\n{}", ended.stderr);
        let mut found = contents(place);
        // Nobody knows whether somebody else is writing into a folder that is no run's.
        let in_no_run = |name: &str| ["figures/", "made/"].iter().any(|folder| name.starts_with(folder));
        found.retain(|name, _| !(is_temporary(name) && in_no_run(name)));
        let differing = differing(&found, &self.after);
        assert_eq!(
            differing,
            [""; 0],
            "{line}: not what it should be: {}",
            shown(&differing, &found, &self.after)
        );
        if !self.stage.run.is_empty() {
            let ended = plain(desk, place, &format!("skn-verify {}", self.stage.run));
            assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
        }
    }
}
