//! A file of a run that was changed since it was written is never used without a word.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::path::Path;

use skn_artifact::{Array, TensorBundle, TensorFile};
use skn_session::options::{
    Classify, Compute, DrawReport, EditChoice, NeuronChoice, Perturb, Probe, Prune, Select, Split, Subject,
    Train,
};
use skn_session::{ErrorKind, ProbeType, Session, SessionError};

/// A small run with all that later stages read.
fn run(session: &Session, run: &Path) {
    let mut train = Train::new(Subject::demo("sentiment"), run);
    train.training.max_steps = Some(2);
    session.train(&train).unwrap();
    session.probe(&Probe::of(run, &[ProbeType::Acc])).unwrap();
    let mut select = Select::new(run.join("sentiment/dev_perf"), run);
    select.shares = vec!["0.1".parse().unwrap()];
    session.select(&select).unwrap();
}

fn select(session: &Session, run: &Path) -> Result<(), SessionError> {
    session.select(&Select::new(run.join("sentiment/dev_perf"), run.join("other"))).map(drop)
}

fn perturb(session: &Session, run: &Path) -> Result<(), SessionError> {
    let mut perturb = Perturb::of(run, vec![run.join("info/sentiment/0.1")], EditChoice::Zero);
    perturb.out = run.join("other");
    session.perturb(&perturb).map(drop)
}

fn prune(session: &Session, run: &Path) -> Result<(), SessionError> {
    let (mask, averages) = (run.join("info/sentiment/0.1"), run.join("sentiment/train_avg"));
    session.prune(&Prune::of(run, mask, averages, run.join("other"))).map(drop)
}

fn count(session: &Session, run: &Path) -> Result<(), SessionError> {
    let mut probe = Probe::of(run, &[ProbeType::Acc]);
    (probe.splits, probe.overwrite) = (vec![Split::Dev], true);
    session.probe(&probe).map(drop)
}

fn best_position(session: &Session, run: &Path) -> Result<(), SessionError> {
    let mut probe = Probe::of(run, &[ProbeType::Pos]);
    (probe.splits, probe.pos) = (vec![Split::Dev], vec![NeuronChoice::Best]);
    session.probe(&probe).map(drop)
}

fn answer(session: &Session, run: &Path) -> Result<(), SessionError> {
    session.classifier(&Classify::by(run)).map(drop)
}

fn report(session: &Session, run: &Path) -> Result<(), SessionError> {
    session.report(&DrawReport::new(run)).map(drop)
}

type Stage = fn(&Session, &Path) -> Result<(), SessionError>;

#[test]
fn changed_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (session, place) = (Session::new(Compute::default()).unwrap(), folder.path().join("run"));
    run(&session, &place);
    let cases: [(&str, &[Stage]); 7] = [
        ("sentiment/train_avg.safetensors", &[prune, count, report]),
        ("sentiment/dev_perf.safetensors", &[select, best_position, report]),
        ("info/sentiment/0.1.safetensors", &[perturb, prune, report]),
        ("split.json", &[perturb, prune, count]),
        ("best/skn.json", &[answer, perturb, count]),
        ("best/adapter_model.safetensors", &[answer, prune]),
        ("metrics.jsonl", &[report]),
    ];
    for (file, stages) in cases {
        let path = place.join(file);
        let whole = fs::read(&path).unwrap();
        // One bit of a number, or the last line.
        let mut changed = whole.clone();
        if file.ends_with(".safetensors") {
            let place = whole.len() - 9;
            changed[place] ^= 1;
        } else if file.ends_with(".jsonl") {
            changed.truncate(whole.len() / 2);
        } else {
            changed.push(b'\n');
        }
        fs::write(&path, &changed).unwrap();
        for (number, stage) in stages.iter().enumerate() {
            let error = stage(&session, &place).expect_err(&format!("{file}, stage {number}"));
            assert_eq!(error.kind(), ErrorKind::Input, "{file}: {error}");
            assert!(error.to_string().contains(file.rsplit('/').next().unwrap()), "{file}: {error}");
        }
        fs::write(&path, whole).unwrap();
    }
    // What another program calls run.json, above the run, is none of ours.
    fs::write(folder.path().join("run.json"), "{\"of\": \"another program\"}").unwrap();
    fs::copy(place.join("info/sentiment/0.1.safetensors"), place.join("info/sentiment/mine.safetensors"))
        .unwrap();
    let mut own = Perturb::of(&place, vec![place.join("info/sentiment/mine")], EditChoice::Zero);
    own.out = place.join("own");
    session.perturb(&own).unwrap();
    for stage in [select, count, answer, report] as [Stage; 4] {
        stage(&session, &place).unwrap();
    }
}

#[test]
fn a_record_that_cannot_be_read_is_not_absent() {
    let folder = tempfile::tempdir().unwrap();
    let (session, place) = (Session::new(Compute::default()).unwrap(), folder.path().join("run"));
    run(&session, &place);
    let record = fs::read(place.join("run.json")).unwrap();
    for damaged in [&record[..20], b"", b"[]"] {
        fs::write(place.join("run.json"), damaged).unwrap();
        for stage in [count, answer, select, report] as [Stage; 4] {
            let error = stage(&session, &place).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input, "{error}");
            assert!(error.to_string().contains("run.json"), "{error}");
        }
    }
    fs::remove_file(place.join("run.json")).unwrap();
    fs::create_dir(place.join("run.json")).unwrap();
    assert!(answer(&session, &place).unwrap_err().to_string().contains("run.json"));
}

/// A copy outside the run has no hash to be compared with, but its parts must fit one another.
#[test]
fn a_copy_is_checked_against_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (session, place) = (Session::new(Compute::default()).unwrap(), folder.path().join("run"));
    run(&session, &place);
    let copy = |file: &str, change: &dyn Fn(&TensorFile, &mut TensorBundle)| {
        let read = TensorFile::read(&place.join(file)).unwrap();
        let mut bundle = TensorBundle::new();
        for (key, value) in read.metadata() {
            bundle.describe(key, value);
        }
        change(&read, &mut bundle);
        let path = folder.path().join("copy.safetensors");
        fs::write(&path, bundle.to_bytes().unwrap()).unwrap();
        path
    };
    let counts = |wrong: f32| {
        copy("sentiment/dev_perf.safetensors", &|read, bundle| {
            let (shape, correct) = read.i64("correct", None).unwrap();
            let (_, mut accuracy) = read.f32("accuracy", None).unwrap();
            accuracy[7] += wrong;
            bundle.insert("accuracy", Array::f32(shape.clone(), accuracy).unwrap());
            bundle.insert("correct", Array::i64(shape, correct).unwrap());
            bundle.insert("total", Array::i64(vec![1], read.i64("total", None).unwrap().1).unwrap());
        })
    };
    let out = folder.path().join("out");
    session.select(&Select::new(counts(0.0), out.join("a"))).unwrap();
    let error = session.select(&Select::new(counts(1e-3), out.join("b"))).unwrap_err().to_string();
    assert!(error.contains("copy.safetensors") && error.contains("`accuracy`, element 7"), "{error}");

    let mask = |flip: usize| {
        copy("info/sentiment/0.1.safetensors", &|read, bundle| {
            let (shape, mut mask) = read.bool("mask", None).unwrap();
            (0..flip).for_each(|place| mask[place] = !mask[place]);
            bundle.insert("mask", Array::bool(shape.clone(), mask).unwrap());
            bundle.insert("score", Array::f32(shape.clone(), read.f32("score", None).unwrap().1).unwrap());
            bundle.insert("rank", Array::i32(shape, read.i32("rank", None).unwrap().1).unwrap());
        })
    };
    let perturb = |mask, name: &str| {
        let mut perturb = Perturb::of(&place, vec![mask], EditChoice::Zero);
        perturb.out = out.join(name);
        session.perturb(&perturb)
    };
    perturb(mask(0), "c").unwrap();
    let error = perturb(mask(1), "d").unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("`mask`, element 0"), "{error}");

    let averages = |wrong: f32| {
        copy("sentiment/train_avg.safetensors", &|read, bundle| {
            let (shape, mut values) = read.f32("train_avg", None).unwrap();
            values[3] += wrong;
            for name in ["sum_high", "sum_low", "count"] {
                let (shape, values) = read.i64(name, None).unwrap();
                bundle.insert(name, Array::i64(shape, values).unwrap());
            }
            bundle.insert("train_avg", Array::f32(shape, values).unwrap());
        })
    };
    let prune = |averages, name: &str| {
        session.prune(&Prune::of(&place, place.join("info/sentiment/0.1"), averages, out.join(name)))
    };
    prune(averages(0.0), "e").unwrap();
    let error = prune(averages(1.0), "f").unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("train_avg"), "{error}");
}

/// A stage writes what it was asked for, into the run's own folder.
#[test]
fn files_of_others_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session::new(Compute::default()).unwrap();
    let train = |run: &Path, overwrite| {
        let mut train = Train::new(Subject::demo("sentiment"), run);
        (train.training.max_steps, train.overwrite) = (Some(1), overwrite);
        session.train(&train).map(drop)
    };
    for name in ["adapter_config.json", "adapter_model.safetensors", "adapter.safetensors", "skn.json"] {
        let run = folder.path().join(name);
        let mine = run.join("best").join(name);
        fs::create_dir_all(run.join("best")).unwrap();
        fs::write(&mine, "mine").unwrap();
        let error = train(&run, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        assert!(error.to_string().contains(&format!("best/{name}: exists; option `overwrite`")), "{error}");
        assert_eq!(fs::read(&mine).unwrap(), b"mine");
    }
}

#[cfg(unix)]
#[test]
fn nothing_is_written_through_a_link_within_a_run() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let session = Session::new(Compute::default()).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let train = |run: &Path| {
        let mut train = Train::new(Subject::demo("sentiment"), run);
        (train.training.max_steps, train.overwrite) = (Some(1), true);
        session.train(&train).map(drop)
    };
    for name in [
        "best",
        "last",
        "metrics.jsonl",
        "run.json",
        "split.json",
        "best/skn.json",
        "last/checkpoint.safetensors",
    ] {
        let run = folder.path().join(name.replace('/', "-"));
        fs::create_dir_all(run.join(name).parent().unwrap()).unwrap();
        symlink(&elsewhere, run.join(name)).unwrap();
        let error = train(&run).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "{name}");
    }
    // The run's folder itself may be a link.
    let run = folder.path().join("run");
    symlink(&elsewhere, &run).unwrap();
    train(&run).unwrap();
    assert!(elsewhere.join("best/skn.json").is_file());
}
