//! Masks and lists of neurons that another program made, wherever a mask is taken.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use skn_artifact::{Array, PerturbationResult, SkillConfig, TensorBundle, TensorFile, read_json};
use skn_probing::Ranking;
use skn_select::Mask;
use skn_session::options::{Compute, EditChoice, Fold, Perturb, Probe, Prune, Select, Subject, Train};
use skn_session::{ErrorKind, ProbeType, Session};

use crate::warnings::warned;

/// 24 rows in each of train, dev and test of some words.
fn data(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for split in ["train", "dev", "test"] {
        let line = |row: usize| {
            let word = ["bad", "good"][row % 2];
            format!("{{\"text\":\"the film was {word} {split} {row}\",\"label\":{}}}\n", row % 2)
        };
        fs::write(folder.join(split).with_extension("jsonl"), (0..24).map(line).collect::<String>()).unwrap();
    }
}

/// A run that was tuned a little, probed and selected from, and the masks that it has.
fn run(session: &Session, folder: &Path) -> (Subject, PathBuf, Vec<String>) {
    let (rows, run) = (folder.join("rows"), folder.join("run"));
    data(&rows);
    let mut subject = Subject::demo("sentiment");
    subject.data = Some(rows.to_str().unwrap().into());
    let mut train = Train::new(subject.clone(), run.clone());
    train.tuned.prompt_size = NonZeroUsize::new(3);
    train.training.epochs = Some(1);
    train.training.max_steps = Some(2);
    session.train(&train).unwrap();
    session.probe(&Probe::of(&run, &[ProbeType::Acc])).unwrap();
    let mut select = Select::new(run.join("sentiment/dev_perf"), &run);
    select.shares = ["0.05", "0.1"].map(|share| share.parse().unwrap()).to_vec();
    session.select(&select).unwrap();
    (subject, run, vec!["0.05".into(), "0.1".into()])
}

/// The same neurons in every form that another program may have written.
fn forms(folder: &Path, mask: &Mask) -> Vec<PathBuf> {
    let (shape, marks) = ([mask.layers(), mask.width()], mask.mask());
    let bytes: Vec<u8> = marks.iter().map(|&marked| u8::from(marked)).collect();
    let neurons: Vec<(usize, u32)> = (0..)
        .zip(mask.neurons())
        .flat_map(|(layer, of_layer)| of_layer.into_iter().map(move |index| (layer, index)))
        .collect();
    let tensors = |array: Array| {
        let mut bundle = TensorBundle::new();
        bundle.insert("mask", array);
        bundle.to_bytes().unwrap()
    };
    let header =
        format!("{{'descr': '|b1', 'fortran_order': False, 'shape': ({}, {}), }}\n", shape[0], shape[1]);
    let length = (header.len() as u16).to_le_bytes();
    let lines = neurons.iter().rev().map(|(layer, index)| format!("{index},{layer},x\n"));
    let json: Vec<String> = neurons.iter().map(|(layer, index)| format!("[{layer}, {index}]")).collect();
    let files = [
        ("bool.safetensors", tensors(Array::bool(shape.to_vec(), marks.to_vec()).unwrap())),
        ("bytes.safetensors", tensors(Array::u8(shape.to_vec(), bytes.clone()).unwrap())),
        ("array.npy", [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), &bytes].concat()),
        ("list.csv", format!("neuron,layer,note\n{}", lines.collect::<String>()).into_bytes()),
        ("list.json", format!("[{}]", json.join(",")).into_bytes()),
    ];
    let write = |(name, bytes): (&str, Vec<u8>)| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    files.into_iter().map(write).collect()
}

#[test]
fn averages_of_maxima_are_no_means() {
    let (session, folder) = (Session::new(Compute::default()).unwrap(), tempfile::tempdir().unwrap());
    let (_, run, _) = run(&session, folder.path());
    session.probe(&Probe::of(&run, &[ProbeType::AccMean, ProbeType::AccMax])).unwrap();
    let (task, mask) = (run.join("sentiment"), run.join("info/sentiment/0.1"));
    let [of_prompt, means, maxima] =
        ["train_avg", "train_mean_avg", "train_max_avg"].map(|name| task.join(name));
    let perturb = |averages: &Path| {
        let edit = EditChoice::Mean { averages: averages.into() };
        let mut perturb = Perturb::of(&run, vec![mask.clone()], edit);
        (perturb.controls, perturb.overwrite) = (0, true);
        session.perturb(&perturb).map(drop)
    };
    let prune = |averages: &Path, of_text: &Path| {
        let mut prune = Prune::of(&run, &mask, averages, folder.path().join("pruned"));
        (prune.fold, prune.text_averages, prune.overwrite) =
            (Fold::PerPositionGroup, Some(of_text.into()), true);
        session.prune(&prune).map(drop)
    };
    for refused in [perturb(&maxima), prune(&maxima, &means), prune(&of_prompt, &maxima)] {
        let error = refused.unwrap_err();
        let (message, parts) =
            (error.to_string(), ["train_max_avg.safetensors: metadata skn.kind", "found train_max_avg"]);
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert_eq!(error.kind(), ErrorKind::Input);
    }
    assert!(!folder.path().join("pruned").exists(), "nothing is left behind");
    perturb(&means).unwrap();
    prune(&of_prompt, &means).unwrap();
}

#[test]
fn a_result_says_what_ranked_its_mask() {
    let (session, folder) = (Session::new(Compute::default()).unwrap(), tempfile::tempdir().unwrap());
    let (_, run, _) = run(&session, folder.path());
    let counts = run.join("sentiment/dev_perf");
    let mut probe = Probe::of(&run, &[ProbeType::Acc]);
    (probe.rank, probe.overwrite) = (vec![Ranking::Random], true);
    session.probe(&probe).unwrap();
    let select = |name: &str, change: &dyn Fn(&mut Select)| {
        let mut select = Select::new(&counts, folder.path().join(name));
        select.shares = vec!["0.1".parse().unwrap()];
        change(&mut select);
        session.select(&select).unwrap();
        folder.path().join(name).join("info/sentiment/0.1")
    };
    let masks = vec![
        select("best", &|_| {}),
        select("worst", &|select| select.lowest = true),
        select("chance", &|select| select.ranking = Some(run.join("sentiment/rank/random"))),
    ];
    // As an experiment does it: a task of its own.
    select("other", &|select| (select.lowest, select.task) = (true, Some("sentiment-lowest".into())));
    let other = folder.path().join("other/info/sentiment-lowest/0.1");
    let mut perturb = Perturb::of(&run, [masks, vec![other]].concat(), EditChoice::Zero);
    perturb.controls = 1;
    let (found, told) = warned(|| session.perturb(&perturb).unwrap());
    assert_eq!(told.len(), 2, "{told:?}");
    for (text, by) in told.iter().zip([
        "worst/info/sentiment/0.1.safetensors: ranked by accuracy, lowest first, and",
        "chance/info/sentiment/0.1.safetensors: ranked by random, and",
    ]) {
        assert!(
            text.contains(by) && text.contains("best/info/sentiment/0.1.safetensors by accuracy: "),
            "{text}"
        );
    }
    let expected = [(None, false), (None, true), (Some("random"), false), (None, true)];
    for results in [&found.skill, &found.random] {
        let said: Vec<_> = results.iter().map(|one| (one.ranking.as_deref(), one.lowest)).collect();
        assert_eq!(said, expected);
    }
    let written: Vec<PerturbationResult> = read_json(&run.join("mask_perf.json")).unwrap();
    assert_eq!((written[1].lowest, written[2].ranking.as_deref()), (true, Some("random")));
}

#[test]
fn every_form_is_the_same_mask() {
    let mut compute = Compute::default();
    compute.threads = NonZeroUsize::new(2);
    let session = Session::new(compute).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (subject, run, _) = run(&session, folder.path());
    let info = run.join("info/sentiment");
    let read = |share: &str| {
        Mask::read(&TensorFile::read(&info.join(format!("{share}.safetensors"))).unwrap()).unwrap()
    };
    let mask = read("0.1");
    let made = forms(folder.path(), &mask);

    // Perturbed, with as many random neurons.
    let masks = std::iter::once(info.join("0.1")).chain(made.clone()).collect();
    let mut perturb = Perturb::of(&run, masks, EditChoice::Zero);
    (perturb.subject, perturb.controls) = (subject.clone(), 2);
    perturb.matched = Some(run.join("sentiment/train_avg"));
    let message = session.perturb(&perturb).unwrap_err().to_string();
    assert!(message.contains("`variance`") || message.contains("variance"), "{message}");
    perturb.matched = None;
    // Files of another program say no class: they are one for each.
    perturb.class_masks = vec![made[2].clone(), made[3].clone()];
    let found = session.perturb(&perturb).unwrap();
    assert_eq!((found.skill.len(), found.random.len()), (6, 6));
    let same = |of: &PerturbationResult| (of.neurons.clone(), of.draws.clone(), of.by_class.clone());
    for results in [&found.skill, &found.random] {
        results[1..].iter().for_each(|of| assert_eq!(same(of), same(&results[0]), "{}", of.mask));
    }
    assert_eq!(found.skill[0].neurons, mask.neurons().iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(found.classes.iter().map(|of| of.class).collect::<Vec<_>>(), [Some(0), Some(1)]);
    perturb.class_masks = vec![made[2].clone()];
    (perturb.masks, perturb.overwrite) = (vec![made[0].clone()], true);
    let message = session.perturb(&perturb).unwrap_err().to_string();
    assert!(message.contains("array.npy") && message.contains("one for each class"), "{message}");

    // Pruned to.
    let widths = |mask: &Path, out: &str| {
        let mut prune = Prune::of(&run, mask, run.join("sentiment/train_avg"), folder.path().join(out));
        prune.subject = subject.clone();
        session.prune(&prune).map(|pruned| {
            let config: SkillConfig = read_json(&folder.path().join(out).join("best/skn.json")).unwrap();
            (pruned.widths, config.dev_score.to_bits())
        })
    };
    let expected = widths(&info.join("0.1"), "pruned").unwrap();
    for path in [&made[2], &made[3]] {
        assert_eq!(widths(path, &format!("of-{}", path.extension().unwrap().display())).unwrap(), expected);
    }
    let mut prune = Prune::of(&run, &made[3], run.join("sentiment/train_avg"), folder.path().join("rounded"));
    (prune.subject, prune.round_width) = (subject.clone(), NonZeroUsize::new(64).unwrap());
    let error = session.prune(&prune).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let message = error.to_string();
    assert!(
        message.contains("option `round_width`: fills layers up by rank") && message.contains("list.csv"),
        "{message}"
    );

    // Of another model.
    fs::write(folder.path().join("other.json"), "[[0, 1], [99, 2]]").unwrap();
    let message = widths(&folder.path().join("other.json"), "other").unwrap_err().to_string();
    assert!(message.contains("other.json: neuron 1 of the list: expected a layer below"), "{message}");
    let scores = folder.path().join("scores.safetensors");
    let mut bundle = TensorBundle::new();
    bundle.insert("score", Array::f32(vec![1, 1], vec![0.5]).unwrap());
    fs::write(&scores, bundle.to_bytes().unwrap()).unwrap();
    let message = widths(&scores, "other").unwrap_err().to_string();
    assert!(message.contains("scores.safetensors"), "{message}");

    // Selected by: an array of marks needs counts for the model's shape.
    let mut select = Select::new(run.join("sentiment/dev_perf"), folder.path().join("selected"));
    select.ranking = Some(made[2].clone());
    session.select(&select).unwrap();
    let marked = folder.path().join("selected/info/sentiment/array.safetensors");
    let marked = Mask::read(&TensorFile::read(&marked).unwrap()).unwrap();
    assert_eq!(marked.neurons(), mask.neurons());

    // What is selected by marks, or by a list of some neurons, fills no layer up either: nobody ranked the others.
    (select.ranking, select.overwrite) = (Some(made[3].clone()), true);
    select.shares = vec!["0.05".parse().unwrap()];
    session.select(&select).unwrap();
    for name in ["array", "0.05"] {
        let path = folder.path().join(format!("selected/info/sentiment/{name}.safetensors"));
        assert_eq!(TensorFile::read(&path).unwrap().metadata()["skn.unranked"], "some", "{name}");
        let mut prune =
            Prune::of(&run, &path, run.join("sentiment/train_avg"), folder.path().join("rounded"));
        (prune.subject, prune.round_width) = (subject.clone(), NonZeroUsize::new(64).unwrap());
        let message = session.prune(&prune).unwrap_err().to_string();
        assert!(message.contains("option `round_width`: fills layers up by rank"), "{message}");
        (prune.round_width, prune.uniform) = (NonZeroUsize::MIN, true);
        let message = session.prune(&prune).unwrap_err().to_string();
        assert!(message.contains("option `uniform`: fills layers up by rank"), "{message}");
    }
}
