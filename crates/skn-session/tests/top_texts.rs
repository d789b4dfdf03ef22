//! The texts that excite the best neurons most: kept with how they begin, in shards too, and gone with the counts.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::num::NonZeroUsize;
use std::path::Path;

use skn_artifact::TensorFile;
use skn_counts::{Performance, Pool, TopTexts};
use skn_session::options::{Compute, DrawReport, Merge, Probe, Shard, Split, Subject, Tuned};
use skn_session::{ProbeType, Session};

fn session() -> Session {
    let mut compute = Compute::default();
    compute.threads = NonZeroUsize::new(2);
    Session::new(compute).unwrap()
}

/// The demo with a prompt of chance.
fn probe(run: &Path, types: &[ProbeType]) -> Probe {
    let mut probe = Probe::of(run, types);
    probe.subject = Subject::demo("sentiment");
    probe.tuned = Tuned::default();
    probe.tuned.prompt_size = NonZeroUsize::new(2);
    probe
}

#[test]
fn texts_go_with_counts_that_are_merged_again() {
    let (folder, session) = (tempfile::tempdir().unwrap(), session());
    let run = folder.path();
    let kept = run.join("sentiment/dev_top.safetensors");
    for positions in [2, 3] {
        let of = |types: &[ProbeType], splits: Vec<Split>| {
            let mut probe = probe(run, types);
            probe.tuned.prompt_size = NonZeroUsize::new(positions);
            (probe.splits, probe.overwrite) = (splits, true);
            probe
        };
        session.probe(&of(&[ProbeType::Acc], vec![Split::Train])).unwrap();
        for index in [1, 2] {
            let mut part = of(&[ProbeType::Acc], vec![Split::Dev]);
            part.shard = Some(Shard { index, count: 2 });
            session.probe(&part).unwrap();
        }
        assert_eq!(kept.exists(), positions == 3, "the counts are as they were until shards are merged");
        let mut merge = Merge::new(run);
        merge.overwrite = true;
        session.merge(&merge).unwrap();
        assert!(!kept.exists());
        session.probe(&of(&[ProbeType::Top], vec![Split::Dev])).unwrap();
        assert!(kept.exists());
    }
}

#[test]
fn texts_are_kept_of_the_best_neurons_and_go_with_the_counts() {
    let (folder, session) = (tempfile::tempdir().unwrap(), session());
    let run = folder.path();
    let kept = run.join("sentiment/dev_top.safetensors");
    let missed = session.probe(&probe(run, &[ProbeType::Top])).unwrap_err().to_string();
    assert!(missed.contains("dev_perf"), "{missed}");
    let together = session.probe(&probe(run, &[ProbeType::Acc, ProbeType::Top])).unwrap_err().to_string();
    assert!(together.contains("option `probe_type` top"), "{together}");
    let mut of_test = probe(run, &[ProbeType::Top]);
    of_test.splits = vec![Split::Test];
    assert!(session.probe(&of_test).unwrap_err().to_string().contains("option `splits`"));

    session.probe(&probe(run, &[ProbeType::Acc])).unwrap();
    session.probe(&probe(run, &[ProbeType::Top])).unwrap();
    let top = TopTexts::read(&TensorFile::read(&kept).unwrap(), Pool::Position).unwrap();
    let counts =
        Performance::read(&TensorFile::read(&run.join("sentiment/dev_perf.safetensors")).unwrap()).unwrap();
    let ranked = counts.ranked(counts.usual_score()).unwrap();
    assert_eq!(top.neurons().len(), Probe::TOP_NEURONS);
    for (neuron, best) in top.neurons().iter().zip(&ranked) {
        let rule = &best.rule;
        assert_eq!((neuron.layer, neuron.index, neuron.position), (rule.layer, rule.index, rule.position));
    }
    // The demo's texts are words and a full stop.
    assert!(top.texts(0).iter().all(|text| text.excerpt.split(' ').count() > 3), "{:?}", top.texts(0));
    let page = std::fs::read_to_string(session.report(&DrawReport::new(run)).unwrap().page).unwrap();
    assert!(page.contains(&top.texts(0)[0].excerpt), "the page shows the text");

    // Shards give the same file: nothing is left to merge.
    for index in [1, 2] {
        let mut part = probe(run, &[ProbeType::Top]);
        part.shard = Some(Shard { index, count: 2 });
        session.probe(&part).unwrap();
    }
    assert!(run.join("shards/2-of-2/sentiment/dev_top.safetensors").is_file());
    assert_eq!(session.merge(&Merge::new(run)).unwrap().files, Vec::<String>::new());

    // Other counts have other best neurons.
    let mut again = probe(run, &[ProbeType::Acc]);
    again.overwrite = true;
    session.probe(&again).unwrap();
    assert!(!kept.exists());
}
