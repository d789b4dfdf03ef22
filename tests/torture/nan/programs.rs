//! The programs on weights, averages and noise with which activations leave f32.

use std::fs;
use std::path::Path;

use skn_artifact::{Array, TensorBundle, TensorFile};

use super::finite;
use crate::cases;
use crate::damage::Dice;
use crate::support::{Desk, copy, golden, write};

const SUBJECT: &str = "--model model --task sst2 --data data --threads 1";

/// The golden model, a few rows, and a run that is probed and has masks.
fn base() -> Desk {
    let desk = Desk::new();
    copy(&golden().join("model"), &desk.path("model"));
    for (split, rows) in [("train", 24), ("validation", 8)] {
        let text = fs::read_to_string(golden().join(format!("data/jsonl/{split}.jsonl"))).unwrap();
        let lines: Vec<&str> = text.lines().take(rows).collect();
        write(&desk.path(&format!("data/{split}.jsonl")), lines.join("\n"));
    }
    write(&desk.path("texts"), "a film\nnot a film\n");
    desk.ok(&format!("skn-train {SUBJECT} --prompt_size 2 --max-steps 2 --save_to run"));
    desk.ok(&format!("skn-probe {SUBJECT} -p --resume_from run --save_to run"));
    desk.ok("skn-select --save_to run -a run/sst2/dev_perf --shares 0.1");
    desk
}

fn rewrite(from: &Path, to: &Path, keep: impl Fn(&str) -> bool, mut edit: impl FnMut(&str, &mut [f32])) {
    let file = TensorFile::read(from).unwrap();
    let mut bundle = TensorBundle::new();
    for (key, value) in file.metadata() {
        bundle.describe(key, value);
    }
    for name in file.names().filter(|name| keep(name)) {
        let (shape, mut values) = file.f32(name, None).unwrap();
        edit(name, &mut values);
        bundle.insert(name, Array::f32(shape, values).unwrap());
    }
    write(to, bundle.to_bytes().unwrap());
}

/// A model of finite weights that are beyond all reason.
fn huge_weights(base: &Desk, desk: &Desk, dice: &mut Dice) {
    let whole = base.path("model/model.safetensors");
    let names: Vec<String> = TensorFile::read(&whole).unwrap().names().map(str::to_owned).collect();
    let chosen = &names[dice.below(names.len())];
    let kind = dice.below(3);
    let value = dice.one_of(&[f32::MAX, 1e38, -1e38, 1e30, 1e25]);
    copy(&base.path("model"), &desk.path("model"));
    rewrite(
        &whole,
        &desk.path("model/model.safetensors"),
        |_| true,
        |name, values| {
            if name == chosen {
                match kind {
                    0 => values.fill(value),
                    1 => {
                        let place = dice.below(values.len());
                        values[place] = value;
                    }
                    _ => values
                        .iter_mut()
                        .for_each(|number| *number = (*number * 1e37).clamp(f32::MIN, f32::MAX)),
                }
            }
        },
    );
    for name in ["data", "texts"] {
        let (from, to) = (base.path(name), desk.path(name));
        if from.is_dir() { copy(&from, &to) } else { write(&to, fs::read(from).unwrap()) }
    }
}

/// The base's run, with averages of one's own: finite, and beyond what any activation is.
fn huge_averages(base: &Desk, desk: &Desk, dice: &mut Dice) {
    for name in ["model", "data", "run"] {
        copy(&base.path(name), &desk.path(name));
    }
    let value = dice.one_of(&[f32::MAX, 1e38, -3e38, 1e30]);
    rewrite(
        &base.path("run/sst2/train_avg.safetensors"),
        &desk.path("avg.safetensors"),
        |name| name == "train_avg",
        |_, values| values.fill(value),
    );
}

fn case(base: &Desk, number: u64) -> String {
    let mut dice = Dice::of(number);
    let desk = Desk::new();
    let mask = "-p --resume_from run --info_path run/info/sst2/0.1 --threads 1 --save_to out";
    let line = match number % 8 {
        6 | 7 => {
            huge_averages(base, &desk, &mut dice);
            dice.one_of(&[
                "skn-prune MASK --ths_path avg",
                "skn-prune MASK --ths_path avg --dense",
                "skn-mask MASK --type mean --ths_path avg",
                "skn-mask MASK --type gaussian --alpha 1e38",
                "skn-mask MASK --type gaussian --alpha 1e300",
            ])
            .replace("MASK", mask)
        }
        stage => {
            huge_weights(base, &desk, &mut dice);
            let method = dice.one_of(&["RobertaPrompt --prompt_size 2", "RobertaBias", "RobertaAdapter"]);
            match stage {
                0 | 1 => format!("skn-train {SUBJECT} --model_type {method} --max-steps 2 --save_to out"),
                2 => "skn-predict --model model --task sst2 --threads 1 --input texts".to_owned(),
                3 => format!("skn-probe {SUBJECT} --model_type {method} --save_to out --probe_type speed"),
                _ => {
                    let all = "acc,acc_mean,acc_max,prompt_act,pos --pos 1,3";
                    format!("skn-probe {SUBJECT} --model_type {method} --save_to out --probe_type {all}")
                }
            }
        }
    };
    // `-p` of a prune is meant already.
    let line = if line.starts_with("skn-prune") { line.replace("-p --", "--") } else { line };
    let said = desk.run(&line);
    finite::check(&desk.path("out"));
    let printed = said.stdout.to_lowercase();
    assert!(!printed.contains("nan") && !printed.contains("inf"), "{line}\n{}", said.stdout);
    match said.code {
        0 => "stayed finite".into(),
        1 | 3 => {
            assert!(
                said.stderr.contains("finite") || said.stderr.contains("at most"),
                "{line}\n{}",
                said.stderr
            );
            let made = ["out/best", "out/last", "out/sst2", "out/mask_perf.json"];
            let made = made.into_iter().find(|name| desk.path(name).exists());
            assert_eq!(made, None, "{line}\n{}", said.stderr);
            "caught".into()
        }
        code => panic!("{line}\nexit code {code}: {}", said.stderr),
    }
}

#[test]
fn programs() {
    let base = base();
    let went = cases::run("torture", "nan::programs::programs", 100, |number| case(&base, number));
    let [caught, finite] = ["caught", "stayed finite"].map(|how| went.get(how).copied().unwrap_or(0));
    assert!(caught + finite < 20 || caught * 3 > finite, "only {caught} were caught, {finite} stayed finite");
}
