//! A training that is stopped or killed and resumed leaves the same bytes as one that is not; a checkpoint that is
//! damaged or of another training is not used.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use skn_data::Metric;
use skn_model::Tuning;
use skn_tune::{Beginning, ClipScope, Stopped, TrainOptions, TrainRun, TuneError, train};

use crate::support::{Case, Golden, Stop, hashes, workers};

fn straight(case: &Case) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let outcome = case.train(&case.run(folder.path(), false), 1, &Stop::never()).unwrap();
    assert_eq!(outcome.stopped, Stopped::Finished);
    hashes(folder.path())
}

fn resume(case: &Case, folder: &Path, threads: usize) -> Vec<String> {
    let outcome = case.train(&case.run(folder, true), threads, &Stop::never()).unwrap();
    assert_eq!((outcome.stopped, outcome.steps), (Stopped::Finished, 10));
    outcome.notes
}

#[test]
fn threads_do_not_change_a_byte() {
    let case = Case::prompt();
    let folder = tempfile::tempdir().unwrap();
    case.train(&case.run(folder.path(), false), 2, &Stop::never()).unwrap();
    assert_eq!(hashes(folder.path()), straight(&case));
}

#[test]
fn interrupted_at_any_moment_and_resumed() {
    let case = Case::prompt();
    let expected = straight(&case);
    for questions in 0..15 {
        let folder = tempfile::tempdir().unwrap();
        let threads = 1 + questions as usize % 2;
        let outcome = case.train(&case.run(folder.path(), false), threads, &Stop::after(questions)).unwrap();
        assert_eq!(outcome.stopped, Stopped::Interrupted);
        assert!(resume(&case, folder.path(), 3 - threads).is_empty());
        assert_eq!(hashes(folder.path()), expected, "interrupted at question {questions}");
    }
}

#[test]
fn interrupted_again_and_again() {
    for tuning in [|_: &Golden| Tuning::new_bias(), Golden::adapter] {
        let case = Case::new(tuning);
        let folder = tempfile::tempdir().unwrap();
        let mut done = 0;
        for attempt in 0..14 {
            let outcome =
                case.train(&case.run(folder.path(), true), 1 + attempt % 2, &Stop::after(1)).unwrap();
            assert_eq!(outcome.stopped, Stopped::Interrupted, "attempt {attempt}");
            assert_eq!(outcome.resumed_from, (attempt > 0).then_some(done));
            done = outcome.steps;
        }
        assert!(resume(&case, folder.path(), 2).is_empty());
        assert_eq!(hashes(folder.path()), straight(&case));
    }
}

#[test]
fn killed_at_any_moment_and_resumed() {
    let case = Case::prompt();
    let expected = straight(&case);
    for questions in 0..15 {
        let folder = tempfile::tempdir().unwrap();
        let run = case.run(folder.path(), false);
        let killed = catch_unwind(AssertUnwindSafe(|| case.train(&run, 2, &Stop::kill_after(questions))));
        assert!(killed.is_err());
        assert!(resume(&case, folder.path(), 2).is_empty());
        assert_eq!(hashes(folder.path()), expected, "killed at question {questions}");
    }
}

#[test]
fn a_finished_training_has_nothing_left_to_do() {
    let case = Case::prompt();
    let folder = tempfile::tempdir().unwrap();
    case.train(&case.run(folder.path(), false), 1, &Stop::never()).unwrap();
    let before = hashes(folder.path());
    resume(&case, folder.path(), 1);
    assert_eq!(hashes(folder.path()), before);
}

/// A training interrupted after 7 steps; its checkpoints are of steps 7 and 6.
fn interrupted(case: &Case) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    // 7 steps and 3 evaluations, which one thread makes in one batch each.
    let outcome = case.train(&case.run(folder.path(), false), 1, &Stop::after(10)).unwrap();
    assert_eq!(outcome.steps, 7);
    folder
}

/// The first checkpoint of a training has none before it.
#[test]
fn a_checkpoint_without_one_before_it_is_nothing_to_tell() {
    let case = Case::prompt();
    let folder = interrupted(&case);
    std::fs::remove_file(folder.path().join("last/checkpoint.previous.safetensors")).unwrap();
    assert_eq!(resume(&case, folder.path(), 1), [""; 0]);
}

/// Somebody has copied one over the other: the last is gone on from, and that is told.
#[test]
fn of_two_equal_checkpoints_the_last_counts() {
    let case = Case::prompt();
    let folder = interrupted(&case);
    let [last, before] =
        ["", ".previous"].map(|which| folder.path().join(format!("last/checkpoint{which}.safetensors")));
    std::fs::copy(&last, &before).unwrap();
    let notes = resume(&case, folder.path(), 1);
    assert!(
        notes.len() == 1 && notes[0].ends_with("found step 7 after step 7; going on from there"),
        "{notes:?}"
    );
}

/// A training that begins anew has no use for the checkpoints of another, also where it is stopped before its second.
#[test]
fn a_new_training_leaves_no_checkpoint_of_another() {
    let case = Case::prompt();
    let folder = interrupted(&case);
    let before = folder.path().join("last/checkpoint.previous.safetensors");
    assert!(before.exists());
    case.train(&case.run(folder.path(), false), 1, &Stop::after(1)).unwrap();
    assert!(folder.path().join("last/checkpoint.safetensors").exists() && !before.exists());
}

/// What a new training would replace stays until it can write.
#[test]
fn a_journal_that_cannot_be_written_costs_no_checkpoint() {
    let case = Case::prompt();
    let folder = interrupted(&case);
    let metrics = folder.path().join("metrics.jsonl");
    let kept = std::fs::read(&metrics).unwrap();
    std::fs::remove_file(&metrics).unwrap();
    std::fs::create_dir(&metrics).unwrap();
    let checkpoint = folder.path().join("last/checkpoint.safetensors");
    let before = std::fs::read(&checkpoint).unwrap();
    let error = case.train(&case.run(folder.path(), false), 1, &Stop::never()).unwrap_err();
    assert!(error.to_string().contains("metrics.jsonl"), "{error}");
    assert!(std::fs::read(&checkpoint).unwrap() == before);
    std::fs::remove_dir(&metrics).unwrap();
    std::fs::write(&metrics, kept).unwrap();
    resume(&case, folder.path(), 1);
    assert_eq!(hashes(folder.path()), straight(&case));
}

#[test]
fn a_damaged_checkpoint_falls_back_and_says_so() {
    let case = Case::prompt();
    let expected = straight(&case);
    let damages: [&dyn Fn(&Path); 4] = [
        &|file| flip(file, 0.5),
        &|file| flip(file, 0.0),
        &|file| std::fs::write(file, &std::fs::read(file).unwrap()[..1000]).unwrap(),
        &|file| std::fs::remove_file(file).unwrap(),
    ];
    for damage in damages {
        let folder = interrupted(&case);
        damage(&folder.path().join("last/checkpoint.safetensors"));
        let notes = resume(&case, folder.path(), 1);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("checkpoint.safetensors") && notes[0].contains("step 6"), "{notes:?}");
        assert_eq!(hashes(folder.path()), expected);
    }
}

fn flip(file: &Path, place: f64) {
    let mut bytes = std::fs::read(file).unwrap();
    let place = (bytes.len() as f64 * place) as usize;
    bytes[place] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_damaged_checkpoint_does_not_push_out_the_good_one() {
    let case = Case::prompt();
    let folder = interrupted(&case);
    let (current, previous) = ("last/checkpoint.safetensors", "last/checkpoint.previous.safetensors");
    let good = std::fs::read(folder.path().join(previous)).unwrap();
    flip(&folder.path().join(current), 0.7);
    // The next checkpoint takes the damaged one's place.
    case.train(&case.run(folder.path(), true), 1, &Stop::after(1)).unwrap();
    assert_eq!(std::fs::read(folder.path().join(previous)).unwrap(), good);
    assert!(resume(&case, folder.path(), 1).is_empty());
}

#[test]
fn two_damaged_checkpoints_are_an_error() {
    let case = Case::prompt();
    let folder = interrupted(&case);
    flip(&folder.path().join("last/checkpoint.safetensors"), 0.9);
    flip(&folder.path().join("last/checkpoint.previous.safetensors"), 0.9);
    let before = std::fs::read(folder.path().join("metrics.jsonl")).unwrap();
    let error = case.train(&case.run(folder.path(), true), 1, &Stop::never()).unwrap_err();
    assert!(matches!(error, TuneError::NoCheckpoint { .. }), "{error}");
    assert_eq!(std::fs::read(folder.path().join("metrics.jsonl")).unwrap(), before, "nothing is touched");
}

#[test]
fn of_two_checkpoints_the_later_one_is_used() {
    let case = Case::prompt();
    let expected = straight(&case);
    let names = ["checkpoint.safetensors", "checkpoint.previous.safetensors"];
    for (exchanged, part) in
        [(true, "found step 6 after step 7; going on from"), (false, "step 6 after step 6")]
    {
        let folder = interrupted(&case);
        let [current, previous] = names.map(|name| folder.path().join("last").join(name));
        let (later, earlier) = (std::fs::read(&current).unwrap(), std::fs::read(&previous).unwrap());
        std::fs::write(&current, earlier).unwrap();
        if exchanged {
            std::fs::write(&previous, later).unwrap();
        }
        let notes = resume(&case, folder.path(), 1);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].contains(part) && notes[0].contains("last/checkpoint.safetensors"), "{notes:?}");
        assert_eq!(hashes(folder.path()), expected);
    }
    // Of a finished training nothing is saved again.
    let folder = tempfile::tempdir().unwrap();
    case.train(&case.run(folder.path(), false), 1, &Stop::never()).unwrap();
    let [current, previous] = names.map(|name| folder.path().join("last").join(name));
    let (later, earlier) = (std::fs::read(&current).unwrap(), std::fs::read(&previous).unwrap());
    std::fs::write(&current, &earlier).unwrap();
    std::fs::write(&previous, &later).unwrap();
    assert_eq!(resume(&case, folder.path(), 1).len(), 1);
    assert_eq!([&current, &previous].map(|file| std::fs::read(file).unwrap()), [later, earlier]);
    // One before the last that is damaged would be noted as what was written.
    flip(&previous, 0.5);
    let notes = resume(&case, folder.path(), 1);
    assert!(notes.len() == 1 && notes[0].contains("checkpoint.previous.safetensors"), "{notes:?}");
    assert!(!previous.exists());
}

/// Changes a file of a training that is interrupted, or finished, and resumes it.
fn after(finished: bool, change: impl Fn(&Path)) -> skn_tune::Result<BTreeMap<String, String>> {
    let case = Case::prompt();
    let folder = interrupted(&case);
    if finished {
        resume(&case, folder.path(), 1);
    }
    change(folder.path());
    case.train(&case.run(folder.path(), true), 1, &Stop::never())?;
    Ok(hashes(folder.path()))
}

#[test]
fn best_parameters_and_metrics_that_were_changed_are_not_taken_over() {
    let other = tempfile::tempdir().unwrap();
    let mut case = Case::prompt();
    case.options.seed = 5;
    case.train(&case.run(other.path(), false), 1, &Stop::never()).unwrap();
    let copied = |name: &'static str| {
        let from = other.path().join(name);
        move |folder: &Path| {
            std::fs::copy(&from, folder.join(name)).unwrap();
        }
    };
    let expected = straight(&Case::prompt());
    for finished in [true, false] {
        let results = [
            ("metrics.jsonl", after(finished, |folder| flip(&folder.join("metrics.jsonl"), 0.1))),
            (
                "metrics.jsonl",
                after(finished, |folder| std::fs::remove_file(folder.join("metrics.jsonl")).unwrap()),
            ),
            ("skn.json", after(finished, copied("best/skn.json"))),
            ("adapter_model.safetensors", after(finished, copied("best/adapter_model.safetensors"))),
            ("skn.json", after(finished, |folder| std::fs::remove_dir_all(folder.join("best")).unwrap())),
        ];
        for (name, result) in results {
            match result {
                // What an evaluation after the resume found to be better was written anew.
                Ok(found) => {
                    assert!(!finished && name != "metrics.jsonl", "{name}: it was not noticed");
                    assert_eq!(found, expected, "{name}");
                }
                Err(error) => {
                    assert!(error.to_string().contains(name), "{name}: {error}");
                    assert_eq!(error.kind(), skn_artifact::ErrorKind::Input, "{error}");
                }
            }
        }
    }
}

#[track_caller]
fn check_refused(field: &str, change: impl Fn(&mut Case, &mut TrainRun)) {
    let mut case = Case::prompt();
    let folder = interrupted(&case);
    let mut run = case.run(folder.path(), true);
    change(&mut case, &mut run);
    let error = case.train(&run, 1, &Stop::never()).unwrap_err();
    match &error {
        TuneError::Mismatch { field: found, checkpoint, now, .. } => {
            assert_eq!(found, field);
            assert_ne!(checkpoint, now);
            assert!(
                error.to_string().contains(checkpoint.as_str()) && error.to_string().contains(now.as_str())
            );
        }
        other => panic!("{field}: {other}"),
    }
}

#[test]
fn a_resume_that_does_not_match_is_refused() {
    check_refused("task", |_, run| run.task = "other".into());
    check_refused("data_sha256", |_, run| run.data_sha256 = "other".into());
    check_refused("tokenizer_sha256", |_, run| run.tokenizer_sha256 = "other".into());
    check_refused("model_sha256", |_, run| run.model.sha256 = "other".into());
    check_refused("verbalizer", |_, run| run.verbalizer.ids.reverse());
    check_refused("method", |_, run| run.method = "RobertaPrunePrompt".into());
    check_refused("begins_with", |_, run| run.begins = Beginning::Loaded);
    check_refused("begins_with", |_, run| run.begins = Beginning::OwnBest);
    check_refused("model", |case, _| case.golden.config.layer_norm_eps *= 2.0);
    check_refused("train", |case, _| case.train.truncate(36));
    check_refused("train", |case, _| {
        let mut ids = case.train[3].ids.to_vec();
        ids[1] += 1;
        case.train[3].ids = ids.into();
    });
    check_refused("dev", |case, _| case.dev[0].label = 1 - case.dev[0].label);
    check_refused("parameters", |case, _| {
        case.tuning = Tuning::new_prompt(&case.golden.config, 7, 0).unwrap();
    });
}

#[test]
fn a_resume_with_other_options_is_refused() {
    type Change = fn(&mut TrainOptions);
    let changes: [(&str, Change); 15] = [
        ("seed", |options| options.seed += 1),
        ("epochs", |options| options.epochs += 1),
        ("batch", |options| options.batch = 4),
        ("accumulate", |options| options.accumulate = 2),
        ("learning_rate", |options| options.learning_rate = 0.02),
        ("weight_decay", |options| options.weight_decay = 0.1),
        ("warmup", |options| options.warmup = 0.1),
        ("dropout", |options| options.dropout = Some(0.2)),
        ("eval_every", |options| options.eval_every = None),
        ("early_stop", |options| options.early_stop = true),
        ("max_steps", |options| options.max_steps = Some(9)),
        ("max_norm", |options| options.max_norm = 2.0),
        ("token_budget", |options| options.token_budget = 99),
        ("eval_every", |options| options.eval_every = Some(4)),
        ("dropout", |options| options.dropout = Some(0.0)),
    ];
    for (field, change) in changes {
        check_refused(field, |case, _| change(&mut case.options));
    }
    check_refused("clip", |case, _| {
        case.options.clip = ClipScope::Backbone;
        case.gradients = skn_model::Gradients::All;
    });
}

#[test]
fn a_resume_with_another_metric_is_refused() {
    let case = Case::prompt();
    let folder = interrupted(&case);
    let data = skn_tune::TrainData { metric: Metric::Mcc, ..case.data() };
    let run = case.run(folder.path(), true);
    let error = train(&case.model(), &data, &case.options, &run, &workers(1), &Stop::never()).unwrap_err();
    assert!(error.to_string().contains("`metric`"), "{error}");
}

#[test]
fn a_resume_without_a_checkpoint_begins_anew() {
    let case = Case::prompt();
    let folder = tempfile::tempdir().unwrap();
    let outcome = case.train(&case.run(folder.path(), true), 1, &Stop::never()).unwrap();
    assert_eq!(outcome.resumed_from, None);
    assert_eq!(hashes(folder.path()), straight(&case));
}
