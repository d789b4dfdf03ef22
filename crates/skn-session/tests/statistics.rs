//! Fire bits, variances and rankings of a probe: whole, in shards, replaced, compared, and on the report's page.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use skn_artifact::names::key;
use skn_artifact::{
    Array, Evidence, Overwrite, RankingComparison, TensorBundle, TensorFile, hash_file, read_json, verify,
    write_file,
};
use skn_counts::{Performance, Pool, ScoreRule};
use skn_probing::{Average, Ranking};
use skn_select::Share;
use skn_session::Session;
use skn_session::options::{
    Compute, DrawReport, Merge, NeuronChoice, Probe, Select, Shard, Split, Subject, Tuned,
};

use crate::warnings::warned;

/// Rankings that merge: all but those that go back through the model, which do too and take longer.
const RANKINGS: [Ranking; 7] = [
    Ranking::Predictivity,
    Ranking::Auc,
    Ranking::MeanDifference,
    Ranking::Correlation,
    Ranking::Lape,
    Ranking::Cett,
    Ranking::Random,
];

fn session() -> Session {
    let mut compute = Compute::default();
    compute.threads = NonZeroUsize::new(2);
    Session::new(compute).unwrap()
}

/// The demo with a prompt of chance.
fn probe(run: &Path) -> Probe {
    let mut probe = Probe::of(run, &[skn_session::ProbeType::Acc, skn_session::ProbeType::AccLast]);
    probe.subject = Subject::demo("sentiment");
    probe.tuned = Tuned::default();
    probe.tuned.prompt_size = NonZeroUsize::new(4);
    (probe.fire_bits, probe.rank) = (true, RANKINGS.to_vec());
    probe
}

fn files() -> Vec<String> {
    let rankings = RANKINGS.map(|ranking| format!("rank/{ranking}"));
    ["train_avg", "train_last_avg", "dev_perf", "dev_fire", "dev_last_fire", "rank/auc_test"]
        .map(String::from)
        .into_iter()
        .chain(rankings)
        .collect()
}

/// A folder of 30 rows in each of train, dev and test, whose texts have one to seven words, with what else is said of a row.
fn data(folder: &Path, more: &dyn Fn(usize) -> String) {
    fs::create_dir_all(folder).unwrap();
    for split in ["train", "dev", "test"] {
        let line = |row: usize| {
            let text = "good ".repeat(1 + row % 7);
            format!("{{\"text\":\"{text}{split} {row}\",{}}}\n", more(row))
        };
        fs::write(folder.join(split).with_extension("jsonl"), (0..30).map(line).collect::<String>()).unwrap();
    }
}

/// An error with what is behind it.
fn said(error: &dyn std::error::Error) -> String {
    let behind = error.source().map_or_else(String::new, said);
    format!("{error}: {behind}")
}

fn path(run: &Path, name: &str) -> std::path::PathBuf {
    run.join("sentiment").join(format!("{name}.safetensors"))
}

#[test]
fn shards_make_the_files_of_one_probe() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    session.probe(&probe(&whole)).unwrap();
    for splits in [vec![Split::Train], vec![Split::Dev, Split::Test]] {
        for index in [1, 2] {
            let mut of = probe(&parts);
            (of.splits, of.shard) = (splits.clone(), Some(Shard { index, count: 2 }));
            if splits == [Split::Train] {
                (of.fire_bits, of.rank, of.variance) = (false, Vec::new(), true);
            }
            session.probe(&of).unwrap();
        }
        session.merge(&Merge::new(&parts)).unwrap();
    }
    for name in files() {
        let [expected, found] = [&whole, &parts].map(|run| hash_file(&path(run, &name)).unwrap());
        assert_eq!(expected, found, "{name}");
    }
    let found = verify(&parts).unwrap();
    assert!(found.changed.is_empty() && found.missing.is_empty());
    // Merged once more, nothing is left to do.
    assert!(session.merge(&Merge::new(&parts)).unwrap().files.is_empty());

    // Dead neurons of the averages are those of the counts, and variances are there.
    let average =
        Average::read(&TensorFile::read(&path(&whole, "train_avg")).unwrap(), Pool::Position).unwrap();
    assert!(average.variance().unwrap().is_some());
    let counts = Performance::read(&TensorFile::read(&path(&whole, "dev_perf")).unwrap()).unwrap();
    assert_eq!(counts.dead().unwrap(), average.range().unwrap().dead());
}

#[test]
fn neurons_are_selected_by_area() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let run = folder.path();
    let mut asked = probe(run);
    asked.rank = Vec::new();
    session.probe(&asked).unwrap();
    let mut select = Select::new(path(run, "dev_perf"), run);
    (select.shares, select.score) = (vec!["0.1".parse().unwrap()], Some(ScoreRule::Auc));
    let message = session.select(&select).unwrap_err().to_string();
    let parts = [
        "rank/auc.safetensors: option `score` auc: expected the areas",
        "skn-probe --probe_type acc --rank auc",
    ];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");

    (asked.rank, asked.overwrite) = (vec![Ranking::Auc], true);
    session.probe(&asked).unwrap();
    select.permutations = Some(9);
    let message = session.select(&select).unwrap_err().to_string();
    assert!(
        message.contains("option `permutations` 9: goes with option `score` accuracy or balanced"),
        "{message}"
    );
    select.permutations = None;
    let found = session.select(&select).unwrap();
    assert_eq!((found.score, found.table.len()), ("auc", 10));

    // What is selected by is what the ranking says, and what is told of test is of the same rule.
    let ranking = TensorFile::read(&path(run, "rank/auc")).unwrap();
    let (shape, score) = ranking.f32("score", None).unwrap();
    let mask = TensorFile::read(&run.join("info/sentiment/0.1.safetensors")).unwrap();
    assert_eq!(mask.metadata()[key::SCORE], "auc");
    assert_eq!(mask.f32("score", Some(&shape)).unwrap().1, score);
    let areas = |split: &str, file: &str| {
        let counts =
            Performance::read(&TensorFile::read(&path(run, &format!("{split}_perf"))).unwrap()).unwrap();
        counts.with_areas(&TensorFile::read(&path(run, file)).unwrap()).unwrap()
    };
    let (dev, test) = (areas("dev", "rank/auc"), areas("test", "rank/auc_test"));
    let tested = dev.tested_by(None, ScoreRule::Auc).unwrap();
    let best = dev.best_rule(ScoreRule::Auc).unwrap();
    let told = &found.table[0];
    assert_eq!((told.layer, told.index, told.position), (best.layer, best.index, Some(best.position)));
    assert_eq!(told.dev, Some(dev.accuracy_of(&best, ScoreRule::Auc).unwrap()));
    assert_eq!(told.test, Some(test.accuracy_of(&best, ScoreRule::Auc).unwrap()));
    assert!(told.test_low < told.test && told.test < told.test_high && told.p_max.is_none());
    assert_eq!(told.p, tested.neurons[best.layer * shape[1] + best.index].map(|tested| tested.p));
    let evidence: Evidence = read_json(&run.join("info/sentiment/evidence.json")).unwrap();
    assert_eq!((evidence.score.as_str(), evidence.chance), ("auc", None));
    assert!(
        ["auc.safetensors", "auc_test.safetensors"].iter().all(|name| evidence.inputs.contains_key(*name))
    );
    session.report(&DrawReport::new(run)).unwrap();
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    for part in ["selected by auc", "rank-sum test", "Newcombe", "there is no p<sub>max"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains(">is high<") || page.contains(">is low<"));
    assert!(!page.contains("of other counts or fire bits"), "the evidence is of what is here");
    let verified = verify(run).unwrap();
    assert!(verified.changed.is_empty() && verified.missing.is_empty());

    // Areas of other texts are not taken.
    let mut other = ranking.metadata().clone();
    other.insert(key::DATA.into(), "another".into());
    let mut bundle = TensorBundle::new();
    for (key, value) in &other {
        bundle.describe(key, value);
    }
    bundle.insert("total", Array::i64(vec![1], vec![1]).unwrap());
    let elsewhere = folder.path().join("elsewhere");
    for name in ["dev_perf", "rank/auc"] {
        let bytes = match name {
            "dev_perf" => fs::read(path(run, name)).unwrap(),
            _ => bundle.to_bytes().unwrap(),
        };
        write_file(&path(&elsewhere, name), Overwrite::Refuse, &bytes).unwrap();
    }
    let mut select = Select::new(path(&elsewhere, "dev_perf"), &elsewhere);
    select.score = Some(ScoreRule::Auc);
    let message = session.select(&select).unwrap_err().to_string();
    assert!(
        message.contains("auc.safetensors: metadata skn.data_sha256") && message.contains("found another"),
        "{message}"
    );
}

#[test]
fn the_ranking_by_predictivity_follows_the_published_score() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let run = folder.path();
    let mut asked = probe(run);
    // Of the texts of this task one class has more than 55 %.
    (asked.rank, asked.fire_bits, asked.splits) =
        (vec![Ranking::Predictivity], false, vec![Split::Train, Split::Dev]);
    let score = |asked: &Probe| {
        session.probe(asked).unwrap();
        TensorFile::read(&path(run, "rank/predictivity")).unwrap().metadata()[key::SCORE].clone()
    };
    let rows = folder.path().join("rows");
    data(&rows, &|row| format!("\"label\":{}", i32::from(row % 4 == 0)));
    asked.subject.data = Some(rows.to_str().unwrap().into());
    assert_eq!(score(&asked), "balanced");
    (asked.subject.paper, asked.overwrite) = (true, true);
    assert_eq!(score(&asked), "accuracy");
}

#[test]
fn activations_are_correlated_with_a_column() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let run = folder.path().join("run");
    let rows = folder.path().join("rows");
    let write = |cell: &dyn Fn(usize) -> String| {
        data(&rows, &|row| format!("\"label\":{},\"length\":{}", row % 2, cell(row)));
    };
    let mut asked = probe(&run);
    (asked.fire_bits, asked.splits) = (false, vec![Split::Train, Split::Dev]);
    asked.subject.data = Some(rows.to_str().unwrap().into());
    asked.metric_column = Some("length".into());
    write(&|row| (1 + row % 7).to_string());
    asked.rank = vec![Ranking::Auc];
    let message = said(&session.probe(&asked).unwrap_err());
    assert!(
        message.contains("option `metric_column` length: goes with option `rank` correlation"),
        "{message}"
    );
    asked.rank = vec![Ranking::Correlation];
    let but =
        |cell: &'static str| move |row: usize| if row == 21 { cell.to_owned() } else { row.to_string() };
    for (cell, part) in [
        ("\"long\"", "expected a number, found the text \"long\""),
        ("null", "expected a number, found a null"),
        ("true", "expected a number, found true"),
        ("[3]", "expected a number"),
    ] {
        write(&but(cell));
        let message = said(&session.probe(&asked).unwrap_err());
        let place = ["dev.jsonl", "line 22", "length"].iter().all(|part| message.contains(part));
        assert!(place && message.contains(part), "{message} has no {part}");
        assert!(message.contains("option `metric_column` length"), "{message}");
    }
    {
        let part = "expected numbers that differ, found 2.5 for all";
        write(&|_| "2.5".into());
        let message = said(&session.probe(&asked).unwrap_err());
        assert!(
            message.contains("option `metric_column` length") && message.contains(part),
            "{message} has no {part}"
        );
    }
    write(&|row| if row % 2 == 0 { (1 + row % 7).to_string() } else { format!("\"{}.0\"", 1 + row % 7) });
    for (column, part) in [("label", "that of the label"), ("width", "width")] {
        asked.metric_column = Some(column.into());
        let message = said(&session.probe(&asked).unwrap_err());
        assert!(
            message.contains(&format!("option `metric_column` {column}")) && message.contains(part),
            "{message}"
        );
    }
    asked.metric_column = Some("length".into());
    session.probe(&asked).unwrap();
    let file = TensorFile::read(&path(&run, "rank/correlation")).unwrap();
    assert_eq!(file.metadata()["skn.metric_column"], "length");
    let (_, with_numbers) = file.f32("score", None).unwrap();
    (asked.metric_column, asked.overwrite) = (None, true);
    session.probe(&asked).unwrap();
    let file = TensorFile::read(&path(&run, "rank/correlation")).unwrap();
    let (_, with_classes) = file.f32("score", None).unwrap();
    let most = |of: &[f32]| of.iter().copied().fold(0.0, f32::max);
    assert!(!file.metadata().contains_key("skn.metric_column"));
    assert!(most(&with_numbers) > 0.8, "how long a text is stands in some neuron: {}", most(&with_numbers));
    assert!(most(&with_classes) < most(&with_numbers), "the label has nothing to do with it");
}

#[test]
fn shards_of_other_numbers_are_not_merged() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let [run, rows] = ["run", "rows"].map(|name| folder.path().join(name));
    let write = |most: usize| {
        data(&rows, &|row| format!("\"label\":{},\"length\":{}", row % 2, 1 + row % most));
    };
    let mut asked = probe(&run);
    asked.subject.data = Some(rows.to_str().unwrap().into());
    (asked.fire_bits, asked.rank, asked.variance) = (false, Vec::new(), true);
    asked.splits = vec![Split::Train];
    write(7);
    session.probe(&asked).unwrap();
    (asked.splits, asked.rank, asked.variance) = (vec![Split::Dev], vec![Ranking::Correlation], false);
    asked.metric_column = Some("length".into());
    for (index, most) in [(1, 7), (2, 5)] {
        write(most);
        asked.shard = Some(Shard { index, count: 2 });
        session.probe(&asked).unwrap();
    }
    let message = session.merge(&Merge::new(&run)).unwrap_err().to_string();
    assert!(message.contains("correlation.safetensors: skn.metric_sha256: expected"), "{message}");
    write(7);
    asked.overwrite = true;
    session.probe(&asked).unwrap();
    session.merge(&Merge::new(&run)).unwrap();
    let merged = TensorFile::read(&path(&run, "rank/correlation")).unwrap();
    assert_eq!(merged.metadata()["skn.metric_sha256"].len(), 64);
    // Of classes there are no numbers.
    (asked.metric_column, asked.shard) = (None, None);
    session.probe(&asked).unwrap();
    let of_classes = TensorFile::read(&path(&run, "rank/correlation")).unwrap();
    assert!(!of_classes.metadata().contains_key("skn.metric_sha256"));
}

#[test]
fn what_is_not_asked_for_again_goes() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let run = folder.path();
    let mut first = probe(run);
    first.rank.truncate(2);
    session.probe(&first).unwrap();
    let message = session.probe(&first).unwrap_err().to_string();
    assert!(message.contains("exists") && message.contains("option `overwrite`"), "{message}");
    let mut second = probe(run);
    (second.fire_bits, second.rank, second.overwrite) = (false, vec![Ranking::Auc], true);
    let (_, warned) = warned(|| session.probe(&second).unwrap());
    for name in ["dev_fire", "dev_last_fire"] {
        let goes = format!("sentiment/{name}.safetensors: goes");
        let of_bits = |text: &&String| text.starts_with(&goes) && text.contains("option `fire_bits`");
        assert_eq!(warned.iter().filter(of_bits).count(), 1, "{name}: {warned:?}");
    }
    let of_rankings: Vec<&String> = warned.iter().filter(|text| text.contains("/rank/")).collect();
    let [goes] = of_rankings[..] else { panic!("{warned:?}") };
    assert!(
        goes.starts_with("sentiment/rank/predictivity.safetensors: goes") && !goes.contains("rank/auc"),
        "{goes}"
    );
    let there: Vec<bool> = ["dev_fire", "dev_last_fire", "rank/predictivity", "rank/auc"]
        .iter()
        .map(|name| path(run, name).exists())
        .collect();
    assert_eq!(
        there,
        [false, false, false, true],
        "bits and rankings of other counts would be taken for these"
    );
}

#[test]
fn rankings_go_with_the_counts_whichever_probe_made_them() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let run = folder.path();
    let there = || {
        let rankings = ["auc", "random", "lape"].map(|name| path(run, &format!("rank/{name}")).exists());
        (rankings, run.join("sentiment/rank/comparison.json").exists())
    };
    let mut first = probe(run);
    (first.fire_bits, first.rank) = (false, vec![Ranking::Auc, Ranking::Random]);
    first.compare = vec!["0.1".parse().unwrap()];
    session.probe(&first).unwrap();
    assert_eq!(there(), ([true, true, false], true));
    // What replaces neither averages nor counts of dev leaves them.
    let mut other = probe(run);
    (other.fire_bits, other.rank, other.overwrite) = (false, Vec::new(), true);
    (other.probe_type, other.splits) = (vec![skn_session::ProbeType::Acc], vec![Split::Test]);
    session.probe(&other).unwrap();
    (other.probe_type, other.splits) = (vec![skn_session::ProbeType::Pos], vec![Split::Dev]);
    other.pos = vec![NeuronChoice::At(0, 0)];
    session.probe(&other).unwrap();
    assert_eq!(there(), ([true, true, false], true));
    // An entry of its own, which ranks by something else.
    (other.probe_type, other.pos) = (vec![skn_session::ProbeType::Acc], vec![]);
    other.rank = vec![Ranking::Lape];
    let (_, warned) = warned(|| session.probe(&other).unwrap());
    let named = ["auc.safetensors", "auc_test.safetensors", "comparison.json", "random.safetensors"];
    let named = named.map(|name| format!("sentiment/rank/{name}")).join(", ");
    assert!(warned.iter().any(|text| text.starts_with(&format!("{named}: goes"))), "{warned:?}");
    assert_eq!(there(), ([false, false, true], false));
    (other.splits, other.rank) = (vec![Split::Train], Vec::new());
    session.probe(&other).unwrap();
    assert_eq!(there(), ([false; 3], false), "rankings of other averages");
    let found = verify(run).unwrap();
    assert!(found.changed.is_empty() && found.missing.is_empty());
}

#[test]
fn rankings_go_with_the_averages_that_shards_replace() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let run = folder.path();
    let mut of = probe(run);
    (of.fire_bits, of.rank, of.compare) = (false, vec![Ranking::Random], vec!["0.1".parse().unwrap()]);
    session.probe(&of).unwrap();
    (of.rank, of.compare, of.variance, of.splits) = (Vec::new(), Vec::new(), true, vec![Split::Train]);
    of.tuned.prompt_size = NonZeroUsize::new(3);
    for index in [1, 2] {
        of.shard = Some(Shard { index, count: 2 });
        session.probe(&of).unwrap();
    }
    assert!(path(run, "rank/random").exists(), "shards replace nothing of the run");
    let mut merge = Merge::new(run);
    merge.overwrite = true;
    session.merge(&merge).unwrap();
    assert!(!path(run, "rank/random").exists() && !run.join("sentiment/rank/comparison.json").exists());
    let found = verify(run).unwrap();
    assert!(found.changed.is_empty() && found.missing.is_empty());
}

#[test]
fn rankings_are_compared_and_shown() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let run = folder.path();
    let mut asked = probe(run);
    asked.rank =
        vec![Ranking::Predictivity, Ranking::Taylor, Ranking::Gradient, Ranking::Random, Ranking::Lape];
    asked.compare = vec!["0.1".parse().unwrap(), "0.3".parse().unwrap()];
    let probed = session.probe(&asked).unwrap();
    assert!(probed.files.iter().any(|name| name == "sentiment/rank/comparison.json"), "{:?}", probed.files);
    let found: RankingComparison = read_json(&run.join("sentiment/rank/comparison.json")).unwrap();
    assert_eq!(found.shares, ["0.1", "0.3"]);
    let names: Vec<&str> = found.rankings.iter().map(|of| of.ranking.as_str()).collect();
    assert_eq!(
        names,
        ["predictivity", "taylor", "gradient", "random", "lape"],
        "in the order in which they were asked for"
    );
    assert_eq!(found.excluded.as_deref(), Some("predictivity"));
    let counts = TensorFile::read(&path(run, "dev_perf")).unwrap();
    assert_eq!(found.tuning_sha256.as_ref(), counts.metadata().get(key::TUNING));
    assert_eq!((found.agreement.len(), found.random.len(), found.random[0].draws.len()), (10, 2, 10));
    for of in &found.rankings {
        // Every share is filled with neurons of score 0 where those above it are too few.
        let file = TensorFile::read(&path(run, &format!("rank/{}", of.ranking))).unwrap();
        let (shape, score) = file.f32("score", None).unwrap();
        let lacks = |share: &Share| -> u64 {
            let layers = score.chunks_exact(shape[1]);
            let scored = layers.map(|layer| layer.iter().filter(|&&score| score > 0.0).count());
            scored.map(|scored| share.count(shape[1]).saturating_sub(scored) as u64).sum()
        };
        assert_eq!(of.unscored, asked.compare.iter().map(lacks).collect::<Vec<_>>(), "{}", of.ranking);
    }
    for of in &found.agreement {
        assert!(of.spearman.is_some_and(|rho| (-1.0..=1.0).contains(&rho)), "{of:?}");
        assert!(of.overlap.iter().all(|overlap| (0.0..=1.0).contains(overlap)), "{of:?}");
    }
    session.report(&DrawReport::new(run)).unwrap();
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    for part in [
        "Which ranking finds the neurons that matter?",
        "taylor",
        "sentiment-rankings",
        "none of them selected by predictivity",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_can_not_be_asked_is_refused() {
    let (session, folder) = (session(), tempfile::tempdir().unwrap());
    let check = |change: &dyn Fn(&mut Probe), parts: &[&str]| {
        let mut asked = probe(folder.path());
        change(&mut asked);
        let message = session.probe(&asked).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    check(&|of| of.rank.push(Ranking::Auc), &["option `rank` auc", "found twice"]);
    check(&|of| of.splits = vec![Split::Train], &["option `fire_bits`", "option `splits` leaves out"]);
    check(
        &|of| (of.fire_bits, of.splits) = (false, vec![Split::Test]),
        &["option `rank`: rankings are of dev"],
    );
    check(
        &|of| (of.fire_bits, of.probe_type) = (false, vec![skn_session::ProbeType::AccMax]),
        &["option `rank` cett"],
    );
    check(
        &|of| {
            (of.fire_bits, of.probe_type) = (false, vec![skn_session::ProbeType::AccMean]);
            of.rank = vec![Ranking::Auc, Ranking::L1];
        },
        &["option `rank` l1", "acc or acc_last"],
    );
    check(
        &|of| {
            (of.fire_bits, of.rank, of.splits) = (false, vec![Ranking::Auc, Ranking::L1], vec![Split::Dev]);
            of.shard = Some(Shard { index: 1, count: 2 });
        },
        &["option `shard` 1/2", "option `rank` l1", "without option `shard`"],
    );
    check(&|of| of.compare = vec!["0.6".parse().unwrap()], &["option `compare` 0.6", "at most 0.5"]);
    check(
        &|of| (of.rank, of.compare) = (Vec::new(), vec!["0.1".parse().unwrap()]),
        &["option `compare`: goes with option `rank`"],
    );
    check(
        &|of| (of.variance, of.splits, of.rank, of.fire_bits) = (true, vec![Split::Dev], Vec::new(), false),
        &["option `variance`"],
    );
}
