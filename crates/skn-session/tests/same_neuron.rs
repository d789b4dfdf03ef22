//! The best neuron is one: for a probe, a selection, the mask, the summary and the report, whatever ties and whatever is
//! padding.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, key, kind};
use skn_artifact::{
    Array, BestNeuron, Overwrite, TensorBundle, TensorFile, read_json, write_file, write_json,
};
use skn_counts::{Performance, Pool};
use skn_select::Mask;
use skn_session::options::{Chain, Compute, DrawReport, Select, TaskChoice};
use skn_session::{Session, SessionError};

/// Counts of two classes on dev and test, `[L, P, F]`.
struct Case {
    shape: [usize; 3],
    widths: &'static str,
    correct: Vec<i64>,
    total: i64,
    /// The layer, index and position of the best.
    best: [usize; 3],
}

fn write(run: &Path, case: &Case) {
    for split in ["dev", "test"] {
        let mut bundle = TensorBundle::new();
        bundle.describe(key::KIND, kind::PERFORMANCE);
        bundle.describe(key::TASK, "reviews");
        bundle.describe(key::WIDTHS, case.widths);
        bundle.insert("correct", Array::i64(case.shape.to_vec(), case.correct.clone()).unwrap());
        bundle.insert("total", Array::i64(vec![1], vec![case.total]).unwrap());
        let name = file::tensors(&Pool::Position.performance_file(split));
        let bytes = bundle.to_bytes().unwrap();
        write_file(&run.join("reviews").join(name), Overwrite::Replace, &bytes).unwrap();
    }
}

fn check(case: &Case) {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    write(run, case);
    let [layer, index, position] = case.best;
    let dev = TensorFile::read(&run.join("reviews/dev_perf.safetensors")).unwrap();
    let dev = Performance::read(&dev).unwrap();
    let rule = dev.best_rule(dev.usual_score()).unwrap();
    assert_eq!([rule.layer, rule.index, rule.position], case.best);

    let session = Session::new(Compute::default()).unwrap();
    let mut select = Select::new(run.join("reviews/dev_perf"), run);
    select.shares = vec!["0.5".parse().unwrap()];
    let selected = session.select(&select).unwrap();
    assert_eq!((selected.best[0].0, selected.best[0].1 as usize), (layer, index), "what selecting says");
    let mask = TensorFile::read(&run.join("info/reviews/0.5.safetensors")).unwrap();
    let marked = Mask::read(&mask).unwrap().neurons();
    assert!(marked[layer].contains(&(index as u32)), "the mask has it: {marked:?}");

    session.report(&DrawReport::new(run)).unwrap();
    let page = fs::read_to_string(run.join(file::REPORT)).unwrap();
    let row = format!(
        "<td class=\"number\">1</td><td class=\"number\">{layer}</td><td class=\"number\">{index}</td>\
         <td class=\"number\">{position}</td>"
    );
    assert!(page.contains(&row), "the report's first row is {case:?}", case = case.best);
}

#[test]
fn ties_go_to_the_first_position() {
    check(&Case {
        shape: [1, 2, 4],
        widths: "4",
        correct: vec![5, 9, 5, 5, 9, 5, 5, 5],
        total: 10,
        best: [0, 1, 0],
    });
}

#[test]
fn mirror_pairs_tie() {
    // In f64 `1 - c / t` is above `(t - c) / t` for these, so that the neuron that is right would win.
    for count in [24_i32, 56, 88, 120, 133, 152, 165] {
        let (total, of) = (872.0, f64::from(count));
        assert_ne!(1.0 - of / total, (total - of) / total, "{count}");
        let (right, wrong) = (872 - i64::from(count), i64::from(count));
        check(&Case {
            shape: [2, 1, 2],
            widths: "2,2",
            correct: vec![436, wrong, right, 436],
            total: 872,
            best: [0, 1, 0],
        });
    }
}

#[test]
fn padding_never_wins() {
    check(&Case {
        shape: [2, 2, 4],
        widths: "4,2",
        correct: vec![5, 5, 6, 5, 5, 5, 5, 5, 5, 5, 10, 0, 5, 2, 10, 10],
        total: 10,
        best: [1, 1, 1],
    });
}

/// The demo's task with a tenth of its rows.
fn few_rows(folder: &Path) -> (Option<TaskChoice>, Option<PathBuf>) {
    let files = skn_demo::task_files("sentiment").unwrap();
    let (task, data) = (folder.join("sentiment.toml"), folder.join("rows"));
    fs::write(&task, files.description).unwrap();
    fs::create_dir(&data).unwrap();
    for ((split, content), rows) in files.splits.iter().zip([96, 32, 48]) {
        let lines = str::from_utf8(content).unwrap().split_inclusive('\n').take(rows);
        fs::write(data.join(split).with_extension("jsonl"), lines.collect::<String>()).unwrap();
    }
    (Some(TaskChoice::File(task)), Some(data))
}

/// What a chain writes into its summary is what its probe says.
#[test]
fn the_summary_names_the_probe_s_neuron() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut chain = Chain::default();
    chain.out = Some(run.clone());
    (chain.subject.task, chain.subject.data) = few_rows(folder.path());
    (chain.epochs, chain.retune_epochs) = (1.try_into().ok(), 1.try_into().ok());
    (chain.shares, chain.draws) = (vec!["0.1".parse().unwrap()], 2.try_into().unwrap());
    let session = Session::new(Compute::default()).unwrap();
    let mut said = None;
    let summary = session
        .chain(&chain, |_, event| {
            if let skn_session::ChainEvent::Done(skn_session::Outcome::Probed(found)) = event {
                said = said.take().or(found.best.clone());
            }
            Ok::<_, SessionError>(())
        })
        .unwrap();
    let BestNeuron { layer, index, position, dev, test, .. } = summary.best_neuron;
    let said = said.unwrap();
    assert_eq!((said.layer, said.index, said.position), (layer, index, Some(position)));
    assert_eq!((said.dev, said.test), (dev, Some(test)));

    // A run that was stopped goes on where it was; with other options it does not.
    let record = run.join(file::RUN);
    chain.resume = true;
    let done_before = |session: &Session, chain: &Chain| {
        let mut done = 0;
        session
            .chain(chain, |_, event| {
                done += usize::from(matches!(event, skn_session::ChainEvent::DoneBefore(_)));
                Ok::<_, SessionError>(())
            })
            .map(|_| done)
    };
    assert_eq!(done_before(&session, &chain).unwrap(), 11, "all but the report");
    // A record in the form that had no options is read, and what it tells of is done again.
    let mut changed: serde_json::Value = read_json(&record).unwrap();
    changed["stages"]["mask"].as_object_mut().unwrap().remove("options");
    // Nor had it a hash of itself.
    changed.as_object_mut().unwrap().remove("sha256").unwrap();
    write_json(&record, Overwrite::Replace, &changed).unwrap();
    assert_eq!(done_before(&session, &chain).unwrap(), 10);
    chain.learning_rate = Some(1.0);
    let error = done_before(&session, &chain).unwrap_err();
    assert!(matches!(&error, SessionError::OtherOptions { entry, .. } if entry == "train"), "{error}");
}
