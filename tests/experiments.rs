//! Experiments over several runs: each leaves its numbers and figures, and what was done is not done again. And what
//! perturbing is compared with: random neurons, those of matched variance, those of another class.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::chromium;
use crate::runs::{model, rows};
use crate::support;

use std::fs;

use skn_artifact::{Array, Overwrite, TensorBundle, TensorFile, write_file};
use support::Desk;

const ALL: &str = "skn-experiment --model model --tasks sentiment,topic,inference --data sentiment,topic,inference --epoch 1 --seeds 2 \
                   --prompt_size 3 --draws 2 --shares 0.1,0.3 --alphas 1 --out out --threads 2";

#[test]
fn experiments_leave_numbers_and_figures() {
    let desk = Desk::new();
    model(&desk.path("model"));
    for task in skn_demo::TASKS {
        rows(&desk.path(task), task, [96, 48, 48], 0);
    }
    let told = desk.ok(ALL);
    let found = desk.json("out/experiments.json");
    let names: Vec<&str> = found.as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap()).collect();
    let expected = [
        "seeds",
        "tasks",
        "overlap",
        "curves",
        "classes",
        "prompts",
        "random-model",
        "methods",
        "words",
        "transfer",
    ];
    assert_eq!(names, expected);
    let page = fs::read_to_string(desk.path("out/report.html")).unwrap();
    for experiment in found.as_array().unwrap() {
        let question = experiment["question"].as_str().unwrap();
        assert!(page.contains(question) && told.contains(question), "{question}");
        for said in experiment["found"].as_array().unwrap() {
            assert!(!said.as_str().unwrap().contains("NaN"), "{said}");
        }
        for (name, table) in experiment["tables"].as_object().unwrap() {
            let data = table["data"].as_array().unwrap();
            let csv = fs::read_to_string(desk.path(&format!("out/csv/{name}.csv"))).unwrap();
            // A word of the vocabulary may be a line's end, which stands within quotes.
            let lines =
                csv.split('"').step_by(2).map(|unquoted| unquoted.matches('\n').count()).sum::<usize>();
            assert!(!data.is_empty() && lines == data.len() + 1, "{name}: {lines}");
        }
    }
    // Every figure of every experiment, on a phone and a desktop, in light and dark.
    chromium::check(&page);
    let rows = |place: usize, name: &str| found[place]["tables"][name]["data"].as_array().unwrap().len();
    // Three tasks, one pair of seeds each, four layers and all of them together.
    assert_eq!(rows(0, "seeds-by-layer"), 3 * 5);
    // Two shares and one noise, of skill, random, lowest and another task's neurons.
    assert_eq!(rows(3, "curves-topic-shares"), 3 * 4);
    assert_eq!(rows(9, "transfer-map"), 6);
    // What an accuracy is of, and between what it may lie, stands beside it.
    let columns = |place: usize, name: &str| found[place]["tables"][name]["columns"].clone();
    for (place, name) in
        [(3, "curves-topic-shares"), (5, "prompts"), (6, "random-model"), (7, "methods"), (9, "transfer-map")]
    {
        let columns = columns(place, name).to_string();
        assert!(columns.contains("texts"), "{name}: {columns}");
    }
    let svg_of = |name: &str| {
        page.split(&format!("<figure id=\"{name}\">")).nth(1).unwrap().split("</figure>").next().unwrap()
    };
    assert!(svg_of("overlap-map").contains(">0."), "a map has its numbers");
    // A prompt of chance, a written one and the tuned one of each task.
    assert_eq!(rows(5, "prompts"), 3 * 3);
    assert!(page.contains("is it negative or positive ?") && page.contains("is it yes or maybe or no ?"));
    let again = desk.run(&format!("{ALL} --resume"));
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(
        !again.stderr.contains("] skn-train --") && again.stderr.contains("skn-train: done before"),
        "{}",
        again.stderr
    );
    desk.ok("skn-verify out");
    desk.fails("skn-experiment seeds --out out", 3, &["a run is there"]);
    desk.fails("skn-experiment weather --out other", 2, &["weather", "expected one of seeds, tasks"]);
}

const PERTURB: &str =
    "skn-mask -p --resume_from run --save_to run --type mean --ths_path run/topic/train_avg --threads 2";

#[test]
fn skill_neurons_are_compared_with_others_on_the_same_texts() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task topic --prompt_size 3 --epoch 2 --batch 16 --lr 5e-3 --threads 2 --out run");
    desk.ok("skn-probe -p --resume_from run --save_to run --probe_type acc,speed --repeats 1 --threads 2");
    desk.ok("skn-select -a run/topic/dev_perf --shares 0.1,0.3 --save_to run");
    let classes = desk.json("run/topic/inference_perf.json")["confusion"].as_array().unwrap().len();
    assert!(classes > 2, "the demo's topics");
    desk.ok("skn-select -a run/topic/dev_perf --shares 0.3 --lowest --task topic-lowest --save_to run");
    let [best, worst] = ["topic", "topic-lowest"].map(|folder| {
        let file = TensorFile::read(&desk.path(&format!("run/info/{folder}/0.3.safetensors"))).unwrap();
        file.i32("rank", None).unwrap()
    });
    let last = best.0[1] as i32 - 1;
    assert!(
        best.1.iter().zip(&worst.1).all(|(best, worst)| best + worst == last),
        "the one order is the other's reverse"
    );
    let mut masks = Vec::new();
    for class in 0..classes {
        desk.ok(&format!(
            "skn-select -a run/topic/dev_perf --shares 0.3 --class {class} --task topic-class-{class} --save_to run"
        ));
        masks.push(format!("run/info/topic-class-{class}/0.3"));
    }
    variances(&desk);
    let whole = format!(
        "{PERTURB} --info_path run/info/topic/0.1,run/info/topic/0.3 --cmp --draws 4 --matched variances"
    );
    let told = desk.ok(&format!("{whole} --class_path {}", masks.join(",")));
    for said in [
        "sign flips p",
        "rank p",
        "McNemar p below 0.05 in",
        "on random ones that vary as much",
        "for class 0: accuracy by class 0:",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let [skill, random, matched, of_class] =
        ["mask", "cmp", "matched", "class"].map(|name| desk.json(&format!("run/{name}_perf.json")));
    for (place, result) in random.as_array().unwrap().iter().enumerate() {
        let evidence = &result["evidence"];
        let [mean_skill, mean_random] = [&skill, &random].map(|of| of[place]["mean"].as_f64().unwrap());
        // The metric is accuracy, so the mean difference of the texts is that of the means.
        assert!(
            (evidence["difference"].as_f64().unwrap() - (mean_skill - mean_random)).abs() < 1e-12,
            "{result}"
        );
        assert_eq!(evidence["comparisons"], 4);
        let worse = result["draws"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|of| of.as_f64().unwrap() <= mean_skill)
            .count();
        assert_eq!(evidence["rank_p"].as_f64().unwrap(), (1 + worse) as f64 / 5.0);
        assert!(
            skill[place]["evidence"].is_null()
                && matched[place]["evidence"]["sign_flip_p"].as_f64().unwrap() > 0.0
        );
        assert!(matched[place]["variance_ratio"].as_f64().unwrap() > 0.0);
        let by_class = &skill[place]["by_class"];
        let right: u64 = by_class["draws"][0].as_array().unwrap().iter().map(|of| of.as_u64().unwrap()).sum();
        let rows = skill[place]["rows"].as_u64().unwrap();
        assert!((right as f64 / rows as f64 - mean_skill).abs() < 1e-12);
    }
    let confusion = desk.json("run/topic/inference_perf.json")["confusion"].clone();
    let diagonal: Vec<_> = (0..classes).map(|class| confusion[class][class].clone()).collect();
    assert_eq!(*skill[0]["by_class"]["unperturbed"].as_array().unwrap(), diagonal);
    let of_class = of_class.as_array().unwrap();
    assert_eq!(
        of_class.iter().map(|of| of["class"].as_u64().unwrap() as usize).collect::<Vec<_>>(),
        (0..classes).collect::<Vec<_>>()
    );
    desk.ok("skn-report run --csv tables --neuron 0,1");
    for name in ["accuracy-by-class", "damage-by-class", "topic-confusion", "perturbation-by-share"] {
        assert!(desk.path(&format!("tables/{name}.csv")).is_file(), "{name}");
    }
    // Without controls those of before are gone, as they would be read as this one's.
    desk.ok(&format!("{PERTURB} --info_path run/info/topic/0.1 --force"));
    for name in ["cmp", "matched", "class"] {
        assert!(!desk.path(&format!("run/{name}_perf.json")).exists(), "{name}");
    }
    desk.fails(
        &format!("{whole} --class_path run/info/topic/0.1 --force"),
        3,
        &["--class_path", "skn.class", "found none"],
    );
    let averages = whole.replace("--matched variances", "--matched run/topic/train_avg --force");
    desk.fails(&averages, 3, &["train_avg", "variance", "skn-probe --variance"]);
}

/// Made-up variances of the demo's neurons.
fn variances(desk: &Desk) {
    let mask = TensorFile::read(&desk.path("run/info/topic/0.1.safetensors")).unwrap();
    let (shape, _) = mask.bool("mask", None).unwrap();
    let values = (0..shape[0] * shape[1]).map(|place| 0.01 + (place % 7) as f32).collect();
    let mut bundle = TensorBundle::new();
    bundle.insert("variance", Array::f32(shape, values).unwrap());
    write_file(&desk.path("variances.safetensors"), Overwrite::Refuse, &bundle.to_bytes().unwrap()).unwrap();
}
