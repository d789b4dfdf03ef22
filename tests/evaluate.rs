//! Scores of a model: on the parts of a run's data, on other data, and with a temperature.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use serde_json::Value;
use support::{Desk, copy, write};

fn evaluated(desk: &Desk, flags: &str) -> Value {
    serde_json::from_str(&desk.ok(&format!("skn-evaluate {flags} --json --threads 1"))).unwrap()
}

/// A desk with a run of the demo's sentiment, tuned for a moment.
fn tuned() -> Desk {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --epoch 1 --max-steps 30 --lr 0.005 --prompt_size 4 --save_to run");
    desk
}

#[test]
fn a_run_is_scored_and_calibrated() {
    let desk = tuned();
    let found = evaluated(&desk, "-p --resume_from run --out run");
    assert_eq!(desk.json("run/sentiment/test_evaluation.json"), {
        let mut kept = found.clone();
        kept.as_object_mut().unwrap().remove("files");
        kept
    });
    // What the probe of speed says of the same texts.
    desk.ok("skn-probe -p --resume_from run --probe_type speed --repeats 1 --save_to run");
    let speed = desk.json("run/sentiment/inference_perf.json");
    assert_eq!(found["score"], speed["test_score"]);
    assert_eq!(
        (&found["interval"], &found["confusion"], &found["rows"]),
        (&speed["interval"], &speed["confusion"], &speed["rows"])
    );
    let near =
        |a: &Value, b: &Value| assert!((a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-9, "{a} {b}");
    near(&found["nll"], &speed["test_loss"]);
    let confusion: Vec<Vec<f64>> = serde_json::from_value(found["confusion"].clone()).unwrap();
    for class in 0..2 {
        let of = &found["classes"][class];
        let support: f64 = confusion[class].iter().sum();
        assert_eq!(of["support"].as_f64().unwrap(), support);
        near(&of["recall"], &(confusion[class][class] / support).into());
    }
    // The answers that skn-predict gives to the same texts.
    let rows: Vec<Value> = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../data/tasks/sentiment/test.jsonl"
    ))
    .unwrap()
    .lines()
    .map(|line| serde_json::from_str(line).unwrap())
    .collect();
    let texts: String = rows.iter().map(|row| format!("{}\n", row["text"].as_str().unwrap())).collect();
    write(&desk.path("texts"), texts);
    let predict = "skn-predict --resume_from run --input texts --format jsonl --probabilities";
    let answers = |flags: &str| -> Vec<Value> {
        let out = desk.ok(&format!("{predict} {flags}"));
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let plain = answers("");
    let words = ["negative", "positive"];
    let right = plain.iter().zip(&rows).filter(|(answer, row)| {
        let label = &row["label"];
        answer["predicted_class"] == *label
            || label.as_str() == words.get(answer["predicted_class"].as_u64().unwrap() as usize).copied()
    });
    near(&found["accuracy"], &(right.count() as f64 / rows.len() as f64).into());

    // A temperature: it changes probabilities alone, and dev is likelier with it.
    desk.fails(
        &format!("{predict} --calibrated"),
        3,
        &["run/calibration.json: no such file", "--calibrate fits one"],
    );
    let calibrated = evaluated(&desk, "-p --resume_from run --calibrate");
    let kept = desk.json("run/calibration.json");
    assert_eq!(calibrated["calibration"], kept);
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&kept["after"]["nll"]) < number(&kept["before"]["nll"]), "{kept}");
    let temperature = number(&kept["temperature"]);
    assert!(temperature > 0.0 && (temperature - 1.0).abs() > 1e-3, "{temperature}");
    let with = evaluated(&desk, "-p --resume_from run --calibrated");
    assert_eq!(with["confusion"], found["confusion"]);
    near(&with["nll"], &calibrated["calibrated"]["nll"]);
    near(&with["calibration_error"], &calibrated["calibrated"]["calibration_error"]);
    for (plain, with) in plain.iter().zip(answers("--calibrated")) {
        assert_eq!(plain["predicted_class"], with["predicted_class"]);
        let log_odds =
            |row: &Value| (number(&row["probabilities"][1]) / number(&row["probabilities"][0])).ln();
        assert!((log_odds(plain) - temperature * log_odds(&with)).abs() < 1e-6, "{plain} {with}");
    }
    desk.ok("skn-verify run");
    assert!(desk.json("run/run.json")["stages"]["calibrate"]["outputs"]["calibration.json"].is_string());
    desk.fails(
        "skn-evaluate -p --resume_from run --calibrate",
        3,
        &["calibration.json: exists; --force replaces it"],
    );
    let told = desk.ok("skn-evaluate -p --resume_from run --calibrate --force");
    for part in ["| class ", "precision", "as positive", "temperature ", "fitted on", "calibration error"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // One that was fitted for other parameters is not used.
    desk.ok("skn-train --model demo --task sentiment --max-steps 2 --prompt_size 4 --save_to run --force");
    desk.fails(
        &format!("{predict} --calibrated"),
        3,
        &["calibration.json: tuning_sha256: expected", "--calibrate"],
    );
}

#[test]
fn other_data_and_other_parts() {
    let desk = tuned();
    let dev = evaluated(&desk, "-p --resume_from run --split dev");
    assert_eq!(dev["part"], "dev");
    let scored = desk.json("run/best/skn.json")["dev_score"].as_f64().unwrap();
    assert!((dev["score"].as_f64().unwrap() - scored).abs() < 1e-9, "what training saw");
    write(
        &desk.path("new.jsonl"),
        "{\"text\": \"so good .\", \"label\": 1}\n{\"text\": \"so bad .\", \"label\": 0}\n{\"text\": \"a song .\", \"label\": 1}\n",
    );
    let new = evaluated(&desk, "--resume_from run --data new.jsonl --out run");
    assert_eq!((&new["part"], &new["rows"]), (&"new".into(), &3.into()));
    assert_eq!((&new["classes"][0]["support"], &new["classes"][1]["support"]), (&1.into(), &2.into()));
    assert_eq!(desk.json("run/sentiment/new_evaluation.json")["rows"], 3);
    let said = desk.run("skn-evaluate --resume_from run --data new.jsonl --split dev");
    assert!(said.code == 0 && said.stderr.contains("part dev: not looked at: the data"), "{}", said.stderr);
    desk.ok("skn-verify run");
    desk.fails("skn-evaluate --resume_from run --data new.jsonl --calibrate", 2, &["--calibrate", "--data"]);
    write(&desk.path("none.jsonl"), "{\"text\": \"so good .\", \"label\": null}\n");
    desk.fails(
        "skn-evaluate --resume_from run --data none.jsonl",
        3,
        &["none.jsonl", "found none in 1 rows"],
    );
    // A model as it is has no run to keep a temperature in.
    let untuned = evaluated(&desk, "--model demo --task sentiment --prompt_size 2");
    assert_eq!((&untuned["part"], untuned["confusion"].as_array().unwrap().len()), (&"test".into(), 2));
    desk.fails(
        "skn-evaluate --model demo --task sentiment --calibrate",
        2,
        &["--calibrate", "--resume_from RUN", "--out RUN"],
    );
    desk.fails(
        "skn-evaluate --model demo --task sentiment --calibrated",
        2,
        &["--calibrated", "--resume_from RUN"],
    );
}

#[test]
fn what_contradicts_the_loaded_parameters_is_refused() {
    let desk = tuned();
    let evaluate = "skn-evaluate --resume_from run";
    for (flags, expected) in [
        ("--prompt_size 3", "--prompt_size 3: the prompt in run/best has 4 positions"),
        (
            "--model_type RobertaBias",
            "--model_type RobertaBias: the tuned parameters in run/best are a prompt",
        ),
        ("--prompt_place after", "--prompt_place after: model demo is an encoder"),
        ("--prompt_text good", "--prompt_text \"good\": "),
    ] {
        desk.fails(&format!("{evaluate} {flags}"), 2, &[expected]);
    }
    desk.ok(&format!("{evaluate} --prompt_size 4 --model_type RobertaPrompt"));
}

/// A `best` that lies elsewhere keeps its temperature itself: other models may lie beside it.
#[test]
fn a_folder_elsewhere_keeps_its_temperature() {
    let desk = tuned();
    copy(&desk.path("run/best"), &desk.path("models/a"));
    let calibrated = evaluated(&desk, "-p --resume_from models/a --calibrate");
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(desk.path(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names("models"), ["a"], "nothing beside it");
    assert_eq!(desk.json("models/a/calibration.json"), calibrated["calibration"]);
    let with = evaluated(&desk, "-p --resume_from models/a --calibrated --out run");
    assert_eq!(with["temperature"], calibrated["calibration"]["temperature"]);
    // The record says which temperature it was.
    evaluated(&desk, "-p --resume_from run --calibrate");
    evaluated(&desk, "-p --resume_from run --calibrated --out run --force");
    let record = desk.json("run/run.json");
    let stages = record["stages"].as_object().unwrap();
    let of = |name: &str| stages.values().filter(|stage| stage["inputs"][name].is_string()).count();
    assert_eq!(of("calibration.json"), 1, "{record}");
    desk.ok("skn-verify run");
}
