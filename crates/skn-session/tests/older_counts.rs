//! Counts of two classes as versions wrote them that did not count by class: `accuracy`, `correct` and `total` alone, in the
//! first form (`skn.schema` 1).

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::path::Path;

use skn_artifact::{Array, TensorBundle, TensorFile, hash_file};
use skn_counts::Performance;
use skn_session::options::{
    Compute, DrawReport, Merge, NeuronChoice, Probe, Select, Shard, Split, Subject, Train,
};
use skn_session::{ErrorKind, ProbeType, Session};

const DEV: &str = "sentiment/dev_perf.safetensors";

/// A run that was tuned in two steps, with its averages.
fn run(session: &Session, run: &Path) {
    let mut train = Train::new(Subject::demo("sentiment"), run);
    train.training.max_steps = Some(2);
    session.train(&train).unwrap();
    let mut probe = Probe::of(run, &[ProbeType::Acc]);
    probe.splits = vec![Split::Train];
    session.probe(&probe).unwrap();
}

/// Counts on dev; of a part of it where one is named.
fn count(session: &Session, run: &Path, shard: Option<usize>) {
    let mut probe = Probe::of(run, &[ProbeType::Acc]);
    probe.splits = vec![Split::Dev];
    probe.shard = shard.map(|index| Shard { index, count: 2 });
    session.probe(&probe).unwrap();
}

fn count_in_shards(session: &Session, run: &Path) {
    (1..=2).for_each(|index| count(session, run, Some(index)));
}

fn read(path: &Path) -> Performance {
    Performance::read(&TensorFile::read(path).unwrap()).unwrap()
}

/// Puts another file in the place of a run's, as if its stage had written that.
fn rewrite(run: &Path, name: &str, bundle: &TensorBundle) {
    let (path, record) = (run.join(name), run.join("run.json"));
    let noted = hash_file(&path).unwrap();
    fs::write(&path, bundle.to_bytes().unwrap()).unwrap();
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains(&noted));
    let text = text.replace(&noted, &hash_file(&path).unwrap());
    let mut edited: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Older records have no hash of themselves.
    edited.as_object_mut().unwrap().remove("sha256").unwrap();
    fs::write(&record, edited.to_string()).unwrap();
}

/// Makes of a run's file what an older version would have written, for its record too.
fn age(run: &Path, name: &str) {
    let path = run.join(name);
    let file = TensorFile::read(&path).unwrap();
    assert_eq!(file.metadata()["skn.schema"], "3");
    let mut bundle = TensorBundle::new();
    for (key, value) in file.metadata() {
        bundle.describe(key, value);
    }
    let (shape, correct) = file.i64("correct", None).unwrap();
    bundle.insert("accuracy", Array::f32(shape.clone(), file.f32("accuracy", None).unwrap().1).unwrap());
    bundle.insert("correct", Array::i64(shape, correct).unwrap());
    bundle.insert("total", Array::i64(vec![1], file.i64("total", None).unwrap().1).unwrap());
    rewrite(run, name, &bundle);
    assert_eq!(TensorFile::read(&path).unwrap().metadata()["skn.schema"], "1");
}

#[test]
fn stages_read_older_counts_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let (session, place) = (Session::new(Compute::default()).unwrap(), folder.path().join("run"));
    run(&session, &place);
    count(&session, &place, None);
    let select = |out: &str, counts: &[&Path]| {
        let mut select = Select::new(place.join("sentiment/dev_perf"), folder.path().join(out));
        select.counts = vec![counts.iter().map(|path| path.to_path_buf()).collect()];
        select.shares = vec!["0.1".parse().unwrap()];
        let best = session.select(&select).unwrap().best;
        (best, fs::read(folder.path().join(out).join("info/sentiment/0.1.safetensors")).unwrap())
    };
    let dev = place.join(DEV);
    let newer = folder.path().join("newer.safetensors");
    fs::copy(&dev, &newer).unwrap();
    let before = select("before", &[&dev]);
    age(&place, DEV);
    assert_eq!(read(&dev).by_class(), None);
    assert_eq!(select("after", &[&dev]), before, "the order of neurons is that of the accuracy");
    // A seed that an older version counted and one that this one did are seeds alike.
    assert_eq!(select("seeds", &[&dev, &newer]).1, select("twice", &[&newer, &newer]).1);

    let mut probe = Probe::of(&place, &[ProbeType::Pos]);
    (probe.splits, probe.pos) = (vec![Split::Dev], vec![NeuronChoice::Best]);
    session.probe(&probe).unwrap();
    session.report(&DrawReport::new(&place)).unwrap();
    let newer = read(&newer);
    let best = newer.best_rule(newer.usual_score()).unwrap();
    assert!(place.join(format!("sentiment/pos_dev/{},{}.safetensors", best.layer, best.index)).is_file());
}

#[test]
fn shards_are_merged_with_their_like() {
    let folder = tempfile::tempdir().unwrap();
    let (session, place) = (Session::new(Compute::default()).unwrap(), folder.path().join("run"));
    run(&session, &place);
    count_in_shards(&session, &place);
    let shards = [1, 2].map(|index| place.join(format!("shards/{index}-of-2")));
    let mut merge = Merge::new(&place);
    merge.overwrite = true;

    session.merge(&merge).unwrap();
    let whole = read(&place.join(DEV));
    let counted = whole.by_class().unwrap();
    let parts = shards.each_ref().map(|shard| read(&shard.join(DEV)));
    let of = |part: &Performance| part.by_class().unwrap().clone();
    let [first, second] = parts.each_ref().map(of);
    assert_eq!(counted.positives, [first.positives[0] + second.positives[0]]);
    let sums = first.true_positive.iter().zip(&second.true_positive).map(|(one, two)| one + two);
    assert!(sums.eq(counted.true_positive.iter().copied()));

    age(&shards[0], DEV);
    let error = session.merge(&merge).unwrap_err();
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Input, "{message}");
    for part in ["2-of-2", "skn.schema: expected 1 as in", "1-of-2", "found 3; probe the shards", "again"] {
        assert!(message.contains(part), "{message} has no {part}");
    }

    age(&shards[1], DEV);
    session.merge(&merge).unwrap();
    let older = TensorFile::read(&place.join(DEV)).unwrap();
    assert_eq!(older.metadata()["skn.schema"], "1");
    assert_eq!(older.names().collect::<Vec<_>>(), ["accuracy", "correct", "total"]);
    assert_eq!(older.i64("correct", None).unwrap().1, whole.correct());
}

#[test]
fn what_only_one_shard_says_keeps_them_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (session, place) = (Session::new(Compute::default()).unwrap(), folder.path().join("run"));
    run(&session, &place);
    count_in_shards(&session, &place);
    // As `--dtype bf16` writes it; of f32 nothing is said.
    let second = place.join("shards/2-of-2");
    let file = TensorFile::read(&second.join(DEV)).unwrap();
    let mut metadata = file.metadata().clone();
    metadata.insert("skn.dtype".into(), "bf16".into());
    rewrite(&second, DEV, &Performance::read(&file).unwrap().to_bundle(&metadata).unwrap());
    let message = session.merge(&Merge::new(&place)).unwrap_err().to_string();
    assert!(message.contains("2-of-2") && message.contains("skn.dtype: expected nothing as in"), "{message}");
}
