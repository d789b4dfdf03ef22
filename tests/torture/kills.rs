//! SIGKILL at any moment of a training, then a resume, perhaps on another number of threads: final weights, optimiser, metrics,
//! best choice and every later artifact are what they would have been.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::cases;
use crate::contents::{Contents, contents, differing};
use crate::damage::Dice;
use crate::stages::{copy_state, inputs};
use crate::support::Desk;
use crate::tracing::{command, plain};

/// Long enough to be hit in the middle, with evaluations and checkpoints on the way.
const TRAIN: &str = "skn-train --model model --task-file task.toml --data data --prompt_size 3 --bz 4 --epoch 6 \
                     --eval_every_step 4 --checkpoint-every 1 --save_to run";
const METHODS: [&str; 3] = ["RobertaPrompt", "RobertaBias", "RobertaAdapter"];

/// Steps of the training: 16 of the 20 rows, 4 at once, 6 times.
const STEPS: usize = 24;

/// Waits until the last checkpoint is of this step or a later one, or the training has ended.
fn wait_for_step(place: &std::path::Path, step: usize, child: &mut Child) {
    let reached = || {
        let bytes = fs::read(place.join("run/last/checkpoint.safetensors")).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let (_, rest) = text.split_once("\\\"step\\\":")?;
        rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    while reached().is_none_or(|reached| reached < step) && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// What comes after training.
fn later(method: &str) -> [String; 5] {
    let tuned = format!("-p --resume_from run --model_type {method} --data data");
    [
        format!("skn-probe {tuned} --probe_type acc,acc_mean --save_to run"),
        "skn-select -a run/tiny/dev_mean_perf --shares 0.1 --save_to run".into(),
        format!("skn-mask {tuned} --info_path run/info/tiny/0.1 --cmp --draws 2 --save_to run"),
        "skn-prune --resume_from run --data data --info_path run/info/tiny/0.1 --ths_path run/tiny/train_mean_avg --out pruned"
            .into(),
        "skn-report run".into(),
    ]
}

fn start(desk: &Desk, place: &std::path::Path, line: &str) -> Child {
    command(desk, place, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What a training that nobody disturbs leaves, alone and with all that comes after it; and how long it takes.
struct Straight {
    trained: Contents,
    done: Contents,
    took: Duration,
}

impl Straight {
    fn of(desk: &Desk, method: &str) -> Self {
        let place = desk.path(method);
        copy_state(&desk.path("inputs"), &place);
        let began = Instant::now();
        let line = format!("{TRAIN} --model_type {method} --threads 1");
        start(desk, &place, &line).wait().unwrap();
        let took = began.elapsed();
        let trained = contents(&place);
        do_later(desk, &place, method, 1);
        Self { trained, done: contents(&place), took }
    }
}

fn do_later(desk: &Desk, place: &std::path::Path, method: &str, threads: usize) {
    for line in later(method) {
        let flag = if line.contains("--data") { format!(" --threads {threads}") } else { String::new() };
        let ended = plain(desk, place, &format!("{line}{flag}"));
        assert_eq!(ended.code, 0, "{line}\n{}", ended.stderr);
    }
}

/// The number decides the method, how often a training is killed, behind which step or at which fraction of the time that a
/// whole one takes, and the threads of each part. Where exactly a kill falls is up to the machine, and any place must do.
#[test]
fn killed_and_resumed() {
    let desk = Desk::new();
    inputs(&desk.path("inputs"));
    let straight: BTreeMap<&str, Straight> =
        METHODS.iter().map(|method| (*method, Straight::of(&desk, method))).collect();
    let went = cases::run("torture", "kills::killed_and_resumed", 50, |number| {
        let mut dice = Dice::of(number);
        let method = dice.one_of(&METHODS);
        let expected = &straight[method];
        let place = desk.path(&format!("killed {number}"));
        copy_state(&desk.path("inputs"), &place);
        let line = |threads: usize| format!("{TRAIN} --model_type {method} --threads {threads}");
        let (kills, mut midway) = (1 + dice.below(3), 0);
        for kill in 0..kills {
            let resume = if kill == 0 { "" } else { " --resume" };
            let mut child = start(&desk, &place, &format!("{}{resume}", line(1 + dice.below(2))));
            match dice.below(3) {
                0 => std::thread::sleep(expected.took * (5 + dice.below(90) as u32) / 100),
                _ => wait_for_step(&place, dice.below(STEPS), &mut child),
            }
            child.kill().unwrap();
            midway += usize::from(!child.wait().unwrap().success());
        }
        let began = place.join("run/last/checkpoint.safetensors").exists();
        let ended = plain(&desk, &place, &format!("{} --resume", line(1 + dice.below(2))));
        assert_eq!(ended.code, 0, "{method}\n{}", ended.stderr);
        assert_eq!(
            differing(&contents(&place), &expected.trained),
            [""; 0],
            "{method}: killed {kills} times"
        );
        assert_eq!(plain(&desk, &place, "skn-verify run").code, 0);
        let stages = dice.below(5) == 0;
        if stages {
            do_later(&desk, &place, method, 1 + dice.below(2));
            assert_eq!(differing(&contents(&place), &expected.done), [""; 0], "{method}: what came later");
        }
        fs::remove_dir_all(&place).unwrap();
        match (midway, began) {
            (0, _) => "too late to be killed",
            (_, false) => "killed before the first checkpoint",
            (_, true) if stages => "killed midway, all stages",
            (_, true) => "killed midway",
        }
        .into()
    });
    let midway: u64 =
        went.iter().filter(|(how, _)| how.starts_with("killed midway")).map(|(_, count)| count).sum();
    let total: u64 = went.values().sum();
    assert!(total < 20 || midway * 3 > total, "{went:?}");
}
