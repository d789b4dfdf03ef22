//! A session as a service uses it: for several threads, and with what nobody should ask.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::Path;
use std::sync::{Arc, Mutex};

use skn_artifact::RunLock;
use skn_probing::{Progress, Work};
use skn_session::options::{
    Chain, Classify, Compute, LayerRange, Perturb, Probe, Prune, Subject, TaskChoice, Train,
};
use skn_session::{ErrorKind, ProbeType, Session, SessionError};

fn session() -> Session {
    Session::new(Compute::default()).unwrap()
}

#[test]
fn one_session_serves_several_threads() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let session = session();
    is_shared(&session);
    let answer = || {
        let mut options = Classify::default();
        options.subject = Subject::demo("sentiment");
        session.classifier(&options).unwrap().answer(&["we liked the soup .".into()]).unwrap()
    };
    let alone = answer();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(answer)).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), alone));
    });
}

fn usage<T: std::fmt::Debug>(result: Result<T, SessionError>, option: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(error.to_string().contains(&format!("option `{option}`")), "{error}");
}

#[test]
fn what_nobody_should_ask_is_refused_before_any_work() {
    let session = session();
    let (folder, demo) = (tempfile::tempdir().unwrap(), || Subject::demo("sentiment"));
    let out = folder.path().join("run");
    usage(session.train(&Train::new(demo(), "")), "out");
    let mut probe = Probe::of(&out, &[]);
    probe.tuned = Default::default();
    probe.subject = demo();
    usage(session.probe(&probe), "probe_type");
    usage(session.perturb(&Perturb::default()), "masks");
    let chain = |change: fn(&mut Chain)| {
        let mut chain = Chain::default();
        chain.out = Some(out.clone());
        change(&mut chain);
        session.chain(&chain, |_, _| Ok::<_, SessionError>(()))
    };
    usage(chain(|chain| (chain.overwrite, chain.resume) = (true, true)), "overwrite");
    usage(chain(|chain| chain.shares.clear()), "shares");
    usage(chain(|chain| chain.alpha = Some(f64::NAN)), "alpha");
    assert!(!out.exists(), "nothing is left behind");
    let wrong = LayerRange { low_layer: Some(9), high_layer: None };
    let mut train = Train::new(demo(), &out);
    train.training.max_steps = Some(1);
    session.train(&train).unwrap();
    session.probe(&Probe::of(&out, &[ProbeType::Acc])).unwrap();
    session.select(&skn_session::options::Select::new(out.join("sentiment/dev_perf"), &out)).unwrap();
    let (mask, averages) = (out.join("info/sentiment/0.1"), out.join("sentiment/train_avg"));
    let mut prune = Prune::of(&out, mask, averages, out.join("prune"));
    prune.layers = wrong;
    usage(session.prune(&prune), "low_layer");
}

#[test]
fn text_beyond_what_is_allowed_is_refused_without_a_fence_too() {
    let folder = tempfile::tempdir().unwrap();
    let (data, task) = (folder.path().join("rows"), folder.path().join("reviews.toml"));
    fs::create_dir(&data).unwrap();
    let rows: String = (0..40).map(|row| format!("a long review number {row},{}\n", row % 2)).collect();
    for split in ["train", "test"] {
        fs::write(data.join(format!("{split}.csv")), format!("review,label\n{rows}")).unwrap();
    }
    let words =
        "name = \"reviews\"\ntext = [\"review\"]\nlabel = \"label\"\nlabels = [\"negative\", \"positive\"]";
    fs::write(&task, format!("{words}\n[splits]\ntrain = \"train\"\ntest = \"test\"\n")).unwrap();
    let mut train = Train::new(Subject::demo("sentiment"), folder.path().join("run"));
    train.subject.task = Some(skn_session::options::TaskChoice::File(task));
    train.subject.data = Some(data);
    train.training.max_steps = Some(1);
    let session = session();
    train.subject.max_data = Some("1K".parse().unwrap());
    let error = session.train(&train).unwrap_err().to_string();
    assert!(error.contains("more than 1024 bytes") && error.contains("option `max_data`"), "{error}");
    train.subject.max_data = None;
    session.train(&train).unwrap();
}

/// The demo's model on a task of a few rows.
fn few_reviews(folder: &Path) -> Subject {
    let [task_file, data] = ["reviews.toml", "reviews.jsonl"].map(|name| folder.join(name));
    let task = "name = \"reviews\"\ntext = [\"text\"]\nlabels = [\"negative\", \"positive\"]\n[splits]\ntrain = \"train\"\n";
    fs::write(&task_file, task).unwrap();
    let line = |row: usize| {
        let word = ["awful", "good"][row % 2];
        format!("{{\"text\": \"the soup was {word} , no {row}\", \"label\": {}}}\n", row % 2)
    };
    fs::write(&data, (0..80).map(line).collect::<String>()).unwrap();
    let mut subject = Subject::default();
    (subject.model, subject.data) = (Some(Subject::DEMO.into()), Some(data));
    subject.task = Some(TaskChoice::File(task_file));
    subject
}

/// Between two stages of a chain nobody else may write its runs: not another program, nor another thread of this one.
#[test]
fn a_chain_holds_its_runs_to_the_end() {
    let session = session();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut chain = Chain::default();
    chain.subject = few_reviews(folder.path());
    chain.out = Some(out.clone());
    (chain.epochs, chain.retune_epochs) = (Some(NonZeroU64::MIN), Some(NonZeroU64::MIN));
    (chain.draws, chain.overwrite) = (NonZeroUsize::MIN, true);
    let locked = |error: SessionError| assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    let mut asked = 0;
    let done = session.chain(&chain, |_, _| {
        asked += 1;
        for run in ["", "untuned", "prune", "prune-tuned"] {
            let error = RunLock::acquire(&out.join(run), "another").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(|| session.chain(&chain, |_, _| Ok::<_, SessionError>(())).map(drop));
            locked(other.join().unwrap().unwrap_err());
        });
        Ok::<_, SessionError>(())
    });
    done.unwrap();
    assert!(asked > 20, "{asked}");
    RunLock::acquire(&out, "another").unwrap();
}

/// A chain that is refused leaves nothing of the folders that it took.
#[test]
fn a_chain_that_is_refused_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("mine.txt"), "").unwrap();
    let mut chain = Chain::default();
    chain.out = Some(out.clone());
    let error = session().chain(&chain, |_, _| Ok::<_, SessionError>(())).unwrap_err();
    assert!(error.to_string().contains("a run is there"), "{error}");
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "mine.txt" || name == ".lock"), "{names:?}");
}

/// Stops what is under way as soon as it makes tokens.
#[derive(Default)]
struct StopsTokenising(Mutex<Vec<(String, u64)>>);

impl Progress for StopsTokenising {
    fn begin(&self, work: Work<'_>) {
        self.0.lock().unwrap().push((work.to_string(), work.amount));
    }

    fn cancelled(&self) -> bool {
        self.0.lock().unwrap().iter().any(|(work, _)| work.starts_with("tokenising"))
    }
}

#[test]
fn making_tokens_of_many_texts_is_told_and_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let subject = few_reviews(folder.path());
    let line = |row: usize| format!("{{\"text\": \"review {row}\", \"label\": {}}}\n", row % 2);
    // A tenth of them are dev, as many test.
    fs::write(subject.data.as_ref().unwrap(), (0..15_000).map(line).collect::<String>()).unwrap();
    let out = folder.path().join("run");
    let progress = Arc::new(StopsTokenising::default());
    let session = |one_stage: bool| {
        let session = session().with_progress(Arc::clone(&progress) as _);
        if one_stage { session.for_one_stage() } else { session }
    };
    let stopped = |error: SessionError| {
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        assert!(!out.join("split.json").exists());
        std::mem::take(&mut *progress.0.lock().unwrap())
    };
    let train = [("tokenising train".to_owned(), 12_000)];
    let mut probe = Probe::of(&out, &[ProbeType::AccLast]);
    (probe.tuned, probe.subject) = (Default::default(), subject.clone());
    for one_stage in [true, false] {
        assert_eq!(stopped(session(one_stage).probe(&probe).unwrap_err()), train, "{one_stage}");
    }
    assert_eq!(stopped(session(true).train(&Train::new(subject, &out)).unwrap_err()), train);
}
