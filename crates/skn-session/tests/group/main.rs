//! Several processes that do a stage together, played by threads: files have the bytes of one process.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use skn_artifact::{sha256_hex, verify};
use skn_probing::Work;
use skn_session::options::{
    Chain, Classify, Compute, EditChoice, Evaluate, NeuronNoise, Perturb, Predict as PredictOptions, Probe,
    Select, Split, Subject, TaskChoice, Train,
};
use skn_session::{
    Alone, ErrorKind, Group, Predicted, ProbeType, Progress, Ranking, Records, Session, SessionError, Share,
};

use self::threads::together;

/// The demo's model on a task of a few rows.
fn few_reviews(folder: &Path, rows: usize) -> Subject {
    let [task_file, data] = ["reviews.toml", "reviews.jsonl"].map(|name| folder.join(name));
    let task = "name = \"reviews\"\ntext = [\"text\"]\nlabels = [\"negative\", \"positive\"]\n[splits]\ntrain = \"train\"\n";
    fs::write(&task_file, task).unwrap();
    let line = |row: usize| {
        let word = ["awful", "good"][row % 2];
        let more = "no ".repeat(row % 7);
        format!(
            "{{\"text\": \"the soup was {word} , {more} {row}\", \"stars\": {}, \"label\": {}}}\n",
            row % 5,
            row % 2
        )
    };
    fs::write(&data, (0..rows).map(line).collect::<String>()).unwrap();
    let mut subject = Subject::default();
    (subject.model, subject.data) = (Some(Subject::DEMO.into()), Some(data));
    subject.task = Some(TaskChoice::File(task_file));
    subject
}

fn compute() -> Compute {
    let mut compute = Compute::default();
    compute.threads = NonZeroUsize::new(1);
    compute
}

/// The hash of each file of a folder, by its path in it. A run's record has times and is no result.
fn hashes(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !["run.json", ".lock", "inference_time.json"].iter().any(|other| name.ends_with(other))
            {
                found.insert(name, sha256_hex(&fs::read(path).unwrap()));
            }
        }
    }
    found
}

/// A probe of everything that there is.
fn everything(subject: &Subject, run: &Path) -> Probe {
    let types =
        [ProbeType::Acc, ProbeType::AccMean, ProbeType::AccMax, ProbeType::AccLast, ProbeType::PromptAct];
    let mut probe = Probe::of(run, &types);
    probe.subject = subject.clone();
    (probe.fire_bits, probe.variance) = (true, true);
    probe.rank = Ranking::ALL.to_vec();
    probe.metric_column = Some("stars".into());
    probe.compare = vec![Share::of_percent(1), Share::of_percent(10)];
    probe
}

/// What is chosen of the probe's counts.
fn texts_and_positions(subject: &Subject, run: &Path) -> Probe {
    let mut probe = Probe::of(run, &[ProbeType::Pos, ProbeType::Top]);
    probe.subject = subject.clone();
    probe.pos = vec!["best".parse().unwrap(), "1,7".parse().unwrap()];
    probe.with_texts = true;
    probe
}

fn masks(run: &Path) -> Perturb {
    let noise = EditChoice::Gaussian { alpha: 0.3, noise: NeuronNoise::PerToken, repeats: NonZeroUsize::MIN };
    let mut perturb = Perturb::of(run, vec![run.join("info/reviews/0.1")], noise);
    perturb.controls = 3;
    perturb.matched = Some(run.join("reviews/train_avg"));
    perturb
}

/// Everything that processes do together, with what one does between.
fn stages(subject: &Subject, group: Arc<dyn Group>, run: &Path) -> Result<(), SessionError> {
    let session = Session::in_group(compute(), Arc::clone(&group))?;
    let mut train = Train::new(subject.clone(), run);
    (train.training.max_steps, train.training.batch) = (Some(5), NonZeroUsize::new(12));
    train.training.eval_every = Some(2);
    session.train(&train)?;
    session.probe(&everything(subject, run))?;
    session.probe(&texts_and_positions(subject, run))?;
    if group.rank() == 0 {
        let select = Select::new(run.join("reviews/dev_perf"), run);
        Session::new(compute())?.select(&select)?;
    }
    group.wait()?;
    session.perturb(&masks(run))?;
    let mut evaluate = Evaluate::of(run);
    (evaluate.calibrate, evaluate.out) = (true, Some(run.to_path_buf()));
    session.evaluate(&evaluate)?;
    let texts = run.with_file_name("texts.txt");
    let mut answers = Vec::new();
    let mut keep = |rows: &[Predicted]| {
        for row in rows {
            answers.extend_from_slice(format!("{:?}\n", row.answer).as_bytes());
        }
        Ok(())
    };
    let classifier = session.classifier(&Classify::by(run))?;
    let count = classifier.predict(&PredictOptions::default(), Records::File(texts), &mut keep)?;
    if group.rank() == 0 {
        assert_eq!(count.answered, 5);
        fs::write(run.join("answers.txt"), answers).unwrap();
    }
    Ok(())
}

fn of_folder(folder: &Path, rows: usize, sizes: &[usize]) {
    let (subject, run) = (few_reviews(folder, rows), folder.join("run"));
    let long = "the soup was good and ".repeat(200);
    fs::write(folder.join("texts.txt"), format!("so good\nso bad\n{long}\nno\nthe film\n")).unwrap();
    stages(&subject, Arc::new(Alone), &run).unwrap();
    let expected = hashes(&run);
    assert!(expected.len() > 60, "{expected:#?}");
    for &size in sizes {
        fs::remove_dir_all(&run).unwrap();
        for found in together(size, |group| stages(&subject, group, &run)) {
            found.unwrap();
        }
        let found = hashes(&run);
        let names: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
        if std::env::var_os("SHOW").is_some() {
            fs::copy(run.join("mask_perf.json"), format!("/tmp/show-{size}-mask_perf.json")).unwrap();
        }
        let differ: Vec<_> =
            names.into_iter().filter(|name| expected.get(*name) != found.get(*name)).collect();
        assert!(differ.is_empty(), "{size} processes: {differ:?}");
        assert!(verify(&run).unwrap().is_sound());
    }
}

#[test]
fn files_are_those_of_one_process() {
    of_folder(tempfile::tempdir().unwrap().path(), 83, &[2, 3]);
}

/// Dev and test have a few rows each, so that some of seven processes have none.
#[test]
fn more_processes_than_rows() {
    of_folder(tempfile::tempdir().unwrap().path(), 30, &[7]);
}

#[test]
fn a_training_that_one_process_is_told_to_stop_goes_on_with_any_number() {
    struct After(AtomicU64);
    impl Progress for After {
        fn cancelled(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) >= 3
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (subject, run) = (few_reviews(folder.path(), 60), folder.path().join("run"));
    let train = |group: Arc<dyn Group>, stops: bool, resume: bool| {
        let mut session = Session::in_group(compute(), group)?;
        if stops {
            session = session.with_progress(Arc::new(After(AtomicU64::new(0))));
        }
        let mut train = Train::new(subject.clone(), &run);
        (train.training.max_steps, train.training.eval_every) = (Some(9), Some(4));
        train.training.batch = NonZeroUsize::new(12);
        train.resume = resume;
        session.train(&train).map(drop)
    };
    train(Arc::new(Alone), false, false).unwrap();
    let expected = hashes(&run);
    fs::remove_dir_all(&run).unwrap();
    for found in together(3, |group| {
        let stops = group.rank() == 2;
        train(group, stops, false)
    }) {
        let error = found.unwrap_err();
        assert!(matches!(error, SessionError::Stopped { step: 1..9 }), "{error}");
    }
    together(2, |group| train(group, false, true)).into_iter().for_each(|found| found.unwrap());
    // The checkpoint before the last is another where a training was stopped.
    let without_previous = |mut found: BTreeMap<String, String>| {
        found.retain(|name, _| !name.ends_with("checkpoint.previous.safetensors"));
        found
    };
    assert_eq!(without_previous(hashes(&run)), without_previous(expected));
}

#[test]
fn another_model_is_refused_in_all_processes() {
    let folder = tempfile::tempdir().unwrap();
    let subject = few_reviews(folder.path(), 20);
    let found = together(3, |group| {
        let mut subject = subject.clone();
        if group.rank() == 2 {
            subject.seed = 9;
        }
        let mut probe = Probe::default();
        (probe.subject, probe.out) = (subject, folder.path().join("run"));
        probe.probe_type = vec![ProbeType::Acc];
        Session::in_group(compute(), group).unwrap().probe(&probe).map(drop)
    });
    for error in found.into_iter().map(|found| found.unwrap_err()) {
        let expected = "rank 2: seed: expected 0, as rank 0 has, found 9";
        assert!(error.to_string().starts_with(expected), "{error}");
        assert_eq!(error.kind(), ErrorKind::Input);
    }
    assert!(!folder.path().join("run").exists(), "nothing is written");
}

#[test]
fn a_probe_stops_while_its_texts_become_tokens() {
    #[derive(Default)]
    struct Stops(AtomicU64);
    impl Progress for Stops {
        fn begin(&self, _: Work<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn cancelled(&self) -> bool {
            true
        }
    }
    let (folder, stops) = (tempfile::tempdir().unwrap(), Arc::new(Stops::default()));
    let mut probe = Probe::default();
    (probe.subject, probe.out) = (few_reviews(folder.path(), 40), folder.path().join("run"));
    probe.probe_type = vec![ProbeType::Acc];
    let session = Session::in_group(compute(), Arc::new(Alone)).unwrap().with_progress(stops.clone());
    let error = session.probe(&probe).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    assert_eq!(stops.0.load(Ordering::Relaxed), 0, "no pass begins");
}

#[test]
fn an_error_of_one_process_ends_all_and_nothing_is_written() {
    struct Stops;
    impl Progress for Stops {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let subject = few_reviews(folder.path(), 40);
    for stopped in 0..3 {
        let out = folder.path().join(format!("run{stopped}"));
        let found = together(3, |group| {
            let mut probe = Probe::default();
            (probe.subject, probe.out) = (subject.clone(), out.clone());
            probe.probe_type = vec![ProbeType::Acc];
            let stops = group.rank() == stopped;
            let session = Session::in_group(compute(), group).unwrap();
            let session = if stops { session.with_progress(Arc::new(Stops)) } else { session };
            session.probe(&probe).map(drop)
        });
        for error in found.into_iter().map(|found| found.unwrap_err()) {
            assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        }
        assert!(!out.join("run.json").exists() && !out.join("reviews").exists());
    }
}

#[test]
fn what_is_done_by_one_process_is_refused() {
    let found = together(2, |group| {
        let session = Session::in_group(compute(), group).unwrap();
        let chained =
            session.chain(&Chain::default(), |_, _| Ok::<_, SessionError>(())).map(drop).unwrap_err();
        let mut probe = Probe::of("run", &[ProbeType::Acc]);
        (probe.shard, probe.splits) = (Some("1/2".parse().unwrap()), vec![Split::Train]);
        [chained, session.probe(&probe).map(drop).unwrap_err()]
    });
    for errors in found {
        for error in errors {
            assert!(error.to_string().contains("is done by one process, found a group of 2"), "{error}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
    }
}
