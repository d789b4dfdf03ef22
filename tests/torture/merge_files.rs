//! Files of shards merge exactly, or not at all: empty ones, one given twice, missing, of another run, changed, and more than can
//! be counted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use skn_artifact::names::{file, key, kind, schema};
use skn_artifact::{Array, ErrorKind, RunRecord, StageRecord, TensorBundle, sha256_hex, verify};
use skn_session::Session;
use skn_session::options::{Compute, Merge};

use crate::cases;
use crate::damage::Dice;
use crate::places::{self, Place};
use crate::support::{Desk, write};

/// The most texts that counts are of, and averages.
const MOST_COUNTED: i128 = u32::MAX as i128;
const MOST_AVERAGED: i128 = i64::MAX as i128;

/// L, P and F.
const SHAPE: [usize; 3] = [2, 2, 3];

/// A text: its class, and each neuron's activation at each position, in 1024ths.
#[derive(Clone)]
struct Row {
    class: usize,
    values: Vec<i64>,
}

/// What the files are of: texts, each taken so often.
struct Rows<'a> {
    rows: &'a [Row],
    times: i128,
    classes: usize,
}

impl Rows<'_> {
    fn count(&self) -> i128 {
        self.rows.len() as i128 * self.times
    }

    fn averages(&self) -> TensorBundle {
        let sums: Vec<i128> = (0..SHAPE.iter().product())
            .map(|place| {
                self.rows.iter().map(|row| i128::from(row.values[place]) << 30).sum::<i128>() * self.times
            })
            .collect();
        let mean = |sum: &i128| (*sum as f64 / (self.count() as f64 * (1u64 << 40) as f64)) as f32;
        // Of no texts there is no mean: whoever makes such a file must write something.
        let means = sums.iter().map(mean).map(|mean| if mean.is_nan() { 0.0 } else { mean }).collect();
        let mut bundle = TensorBundle::new();
        bundle.describe(key::KIND, kind::AVERAGE);
        bundle.insert(kind::AVERAGE, Array::f32(SHAPE.to_vec(), means).unwrap());
        bundle.insert(
            "sum_high",
            Array::i64(SHAPE.to_vec(), sums.iter().map(|sum| (sum >> 63) as i64).collect()).unwrap(),
        );
        let low = |sum: &i128| (sum & i128::from(i64::MAX)) as i64;
        bundle.insert("sum_low", Array::i64(SHAPE.to_vec(), sums.iter().map(low).collect()).unwrap());
        bundle.insert("count", Array::i64(vec![1], vec![self.count() as i64]).unwrap());
        bundle
    }

    fn counts(&self) -> TensorBundle {
        let ruled = if self.classes == 2 { 1..2 } else { 0..self.classes };
        let (mut correct, mut hits, mut positives) = (Vec::new(), Vec::new(), Vec::new());
        let number = |rows: usize| (rows as i128 * self.times) as i64;
        for class in ruled.clone() {
            for place in 0..SHAPE.iter().product() {
                let fires = |row: &&Row| row.values[place] > 0;
                correct
                    .push(number(self.rows.iter().filter(|row| fires(row) == (row.class == class)).count()));
                hits.push(number(self.rows.iter().filter(|row| fires(row) && row.class == class).count()));
            }
            positives.push(number(self.rows.iter().filter(|row| row.class == class).count()));
        }
        let total = self.count() as i64;
        let accuracy = correct.iter().map(|&correct| (correct as f64 / total.max(1) as f64) as f32).collect();
        let shape: Vec<usize> = (self.classes > 2).then_some(self.classes).into_iter().chain(SHAPE).collect();
        let mut bundle = TensorBundle::new();
        bundle.describe(key::KIND, kind::PERFORMANCE);
        bundle.insert("accuracy", Array::f32(shape.clone(), accuracy).unwrap());
        bundle.insert("correct", Array::i64(shape.clone(), correct).unwrap());
        bundle.insert("total", Array::i64(vec![1], vec![total]).unwrap());
        bundle.insert("true_positive", Array::i64(shape, hits).unwrap());
        bundle.insert("positives", Array::i64(vec![ruled.len()], positives).unwrap());
        if self.classes == 2 {
            bundle.in_schema(schema::COUNTS_BY_CLASS);
        }
        bundle
    }

    fn positions(&self) -> TensorBundle {
        let [_, positions, _] = SHAPE;
        let values = self
            .rows
            .iter()
            .flat_map(|row| row.values[..positions].iter().map(|&value| value as f32 / 1024.0));
        let mut bundle = TensorBundle::new();
        bundle.describe(key::KIND, kind::POSITIONS);
        bundle.insert("activation", Array::f32(vec![self.rows.len(), positions], values.collect()).unwrap());
        let classes = self.rows.iter().map(|row| row.class as i64).collect();
        bundle.insert("label", Array::i64(vec![self.rows.len()], classes).unwrap());
        bundle
    }

    /// The files of a shard, or of all.
    fn files(&self, seed: u64, shard: Option<String>) -> BTreeMap<String, Vec<u8>> {
        let of = [
            ("train_avg", "train", self.averages()),
            ("dev_perf", "dev", self.counts()),
            ("pos_dev/1,2", "dev", self.positions()),
        ];
        let mut files = BTreeMap::new();
        for (name, split, mut bundle) in of {
            bundle.describe(key::TASK, "t").describe(key::SPLIT, split).describe(key::SEED, seed);
            bundle.describe(key::TUNING, "ab").describe(key::MODEL, "cd").describe(key::DATA, "ef");
            if let Some(shard) = &shard {
                bundle.describe(key::SHARD, shard);
            }
            files.insert(format!("t/{}", file::tensors(name)), bundle.to_bytes().unwrap());
        }
        files
    }
}

/// How a tree of shards is not what probes leave.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Nothing,
    Missing,
    Twice,
    OtherRun,
    OtherLength,
    OtherAverages,
    OtherSplit,
    Changed,
    Removed,
    Unlisted,
}

const FAULTS: [Fault; 13] = [
    Fault::Nothing,
    Fault::Nothing,
    Fault::Nothing,
    Fault::Nothing,
    Fault::Missing,
    Fault::Twice,
    Fault::OtherRun,
    Fault::OtherLength,
    Fault::OtherAverages,
    Fault::OtherSplit,
    Fault::Changed,
    Fault::Removed,
    Fault::Unlisted,
];

/// Writes a shard as a probe does.
fn shard(
    folder: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    length: &str,
    averages: &str,
    data: &str,
    lists: bool,
) {
    let part = r#"{"source": "train", "rows": [0]}"#;
    let split = format!(
        r#"{{"task": "t", "seed": 0, "data_sha256": "{data}", "train": {part}, "dev": {part}, "test": {part}}}"#
    );
    let mut record = StageRecord { version: "1".into(), ..StageRecord::default() };
    record.settings.insert("max_length".into(), length.into());
    record.inputs.insert("run/t/train_avg.safetensors".into(), averages.into());
    for (name, bytes) in files {
        write(&folder.join(name), bytes);
        record.outputs.insert(name.clone(), sha256_hex(bytes));
    }
    write(&folder.join(file::SPLIT), &split);
    record.outputs.insert(file::SPLIT.into(), sha256_hex(split.as_bytes()));
    if lists {
        RunRecord::update(folder, "probe acc,pos", record, &[]).unwrap();
    }
}

#[test]
fn trees_of_shards() {
    let (desk, session) = (Desk::new(), Session::new(Compute::default()).unwrap());
    let went = cases::run("torture", "merge_files::trees_of_shards", 300, |number| {
        let mut dice = Dice::of(number);
        let count = 1 + dice.below(6);
        let fault = if count == 1 { Fault::Nothing } else { dice.one_of(&FAULTS) };
        let classes = 2 + dice.below(2);
        let row = |dice: &mut Dice| {
            let values =
                (0..SHAPE.iter().product()).map(|_| dice.one_of(&[0, 1, -1, 1000, -123_456, 1 << 30]));
            let values = values.collect();
            Row { class: dice.below(classes), values }
        };
        let most = if dice.below(6) == 0 { 1 } else { 4 };
        let sizes: Vec<usize> =
            (0..count).map(|_| if dice.below(12) == 0 { 0 } else { 1 + dice.below(most) }).collect();
        let rows: Vec<Row> = (0..sizes.iter().sum()).map(|_| row(&mut dice)).collect();
        let times = match dice.below(5) {
            // Near what can be counted, from both sides.
            0 => (MOST_COUNTED + dice.below(3) as i128 - 1) / rows.len().max(1) as i128,
            1 => MOST_COUNTED / sizes.iter().max().unwrap_or(&1).max(&1).to_owned() as i128,
            _ => 1,
        };
        let whole = Rows { rows: &rows, times, classes };
        let run = Place::new(&desk, &format!("case-{number}"));
        let folder = |index: usize| run.0.join(file::shard(index + 1, count));
        let odd = dice.below(count);
        let mut first = 0;
        for (index, &size) in sizes.iter().enumerate() {
            let part = Rows { rows: &rows[first..first + size], times, classes };
            first += size;
            let is_odd = |of: Fault| fault == of && index == odd;
            let files = part
                .files(if is_odd(Fault::OtherRun) { 8 } else { 7 }, Some(format!("{}/{count}", index + 1)));
            let either =
                |of: Fault, usual: &'static str, other: &'static str| if is_odd(of) { other } else { usual };
            shard(
                &folder(index),
                &files,
                either(Fault::OtherLength, "20", "21"),
                either(Fault::OtherAverages, "aa", "bb"),
                either(Fault::OtherSplit, "da", "db"),
                !is_odd(Fault::Unlisted),
            );
        }
        let other = (odd + 1) % count;
        let tensors = folder(odd).join("t/dev_perf.safetensors");
        match fault {
            Fault::Missing => fs::remove_dir_all(folder(odd)).unwrap(),
            Fault::Twice => {
                fs::remove_dir_all(folder(odd)).unwrap();
                places::copy(&folder(other), &folder(odd));
            }
            Fault::Changed => {
                let mut bytes = fs::read(&tensors).unwrap();
                let place = dice.below(bytes.len());
                bytes[place] ^= 1 << dice.below(8);
                fs::write(&tensors, bytes).unwrap();
            }
            Fault::Removed => fs::remove_file(&tensors).unwrap(),
            _ => {}
        }
        let what =
            format!("{fault:?} of {count} shards of {sizes:?} texts, {times} times, {classes} classes");
        let merged = session.merge(&Merge::new(&run.0));
        let is_empty = sizes.contains(&0);
        let is_much = whole.count() > MOST_COUNTED;
        let may = fault == Fault::Nothing && !is_empty && !is_much;
        match merged {
            Ok(merged) => {
                assert!(may, "{what}: merged");
                assert_eq!(merged.shards, count);
                let expected = whole.files(7, None);
                assert_eq!(merged.files, expected.keys().cloned().collect::<Vec<_>>(), "{what}");
                for (name, bytes) in expected {
                    assert!(fs::read(run.0.join(&name)).unwrap() == bytes, "{what}: {name}");
                }
                assert!(verify(&run.0).unwrap().is_sound());
                let again = session.merge(&Merge::new(&run.0)).unwrap();
                assert!(again.files.is_empty(), "{what}: merged again");
                "merged".into()
            }
            Err(error) => {
                assert!(!may, "{what}: {error}");
                assert_eq!(error.kind(), ErrorKind::Input, "{what}: {error}");
                let message = error.to_string();
                let named = match fault {
                    Fault::Missing => format!("missing shards {}/{count}", odd + 1),
                    // It was killed before it noted its files.
                    Fault::Unlisted => format!("shard {}/{count} is not finished", odd + 1),
                    // Whichever comes second is not like the first.
                    _ => "-of-".into(),
                };
                assert!(message.contains(&named), "{what}: {message}");
                assert!(
                    !run.0.join("t").exists() && !run.0.join(file::RUN).exists(),
                    "{what}: something is left"
                );
                match (fault, is_empty) {
                    (Fault::Nothing, true) => "with an empty shard".into(),
                    (Fault::Nothing, false) => "more than can be counted".into(),
                    _ => "refused".into(),
                }
            }
        }
    });
    if went.values().sum::<u64>() >= 200 {
        let least =
            [("merged", 60), ("refused", 60), ("with an empty shard", 5), ("more than can be counted", 5)];
        for (how, least) in least {
            assert!(went.get(how).is_some_and(|count| *count >= least), "{how}: {went:?}");
        }
    }
}

/// Averages count further than counts do.
#[test]
fn more_texts_than_averages_can_count() {
    let (desk, session) = (Desk::new(), Session::new(Compute::default()).unwrap());
    let rows: Vec<Row> = (0..3).map(|class| Row { class: class % 2, values: vec![1 << 30; 12] }).collect();
    for (times, fits) in
        [(MOST_AVERAGED / 3, true), (MOST_AVERAGED / 3 + 1, false), (MOST_AVERAGED / 2, false)]
    {
        let run = Place::new(&desk, &times.to_string());
        let mut whole = Rows { rows: &rows, times, classes: 2 }.files(7, None);
        whole.retain(|name, _| name.contains("avg"));
        for index in 0..3 {
            let part = Rows { rows: &rows[index..=index], times, classes: 2 };
            let mut files = part.files(7, Some(format!("{}/3", index + 1)));
            files.retain(|name, _| name.contains("avg"));
            shard(&run.0.join(file::shard(index + 1, 3)), &files, "20", "aa", "da", true);
        }
        match session.merge(&Merge::new(&run.0)) {
            Ok(_) => {
                assert!(fits, "{times} times");
                for (name, bytes) in whole {
                    assert!(fs::read(run.0.join(&name)).unwrap() == bytes, "{name}");
                }
            }
            Err(error) => {
                assert!(!fits, "{times} times: {error}");
                assert_eq!(error.kind(), ErrorKind::Input, "{error}");
                assert!(error.to_string().contains("3-of-3"), "{error}");
            }
        }
    }
}
