//! A file of a run that was changed since it was written is never used silently.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use skn_artifact::RunRecord;

use crate::cases;
use crate::damage::{Dice, mutant};
use crate::places::{self, Place, contents, copy, put, run_in};
use crate::support::{Desk, Said, write};

/// A stage that reads files of a run.
struct Stage {
    line: &'static str,
    /// Beginnings of the files that it reads: most cases change one of them.
    reads: &'static [&'static str],
    /// What it writes.
    writes: &'static [&'static str],
}

const fn stage(line: &'static str, reads: &'static [&'static str], writes: &'static [&'static str]) -> Stage {
    Stage { line, reads, writes }
}

const TUNED: &[&str] = &["run/best/", "run/split.json", "run/run.json"];
const TRAIN: &str = "skn-train --model demo --task-file ../mine.toml --data ../rows --prompt_size 4 --epoch 2 --bz 16 --lr 0.005 --eval_every_step 2 --checkpoint-every 1 --save_to run --resume --threads 1";
const CHAIN: &str = "skn-run --model demo --task-file ../mine.toml --data ../rows --prompt_size 4 --max-length 9 --epoch 2 \
                     --bz 16 --retune-epoch 1 --draws 2 --shares 0.1,0.3 --threads 1 --out run --resume";

const STAGES: &[Stage] = &[
    stage(
        "skn-probe -p --resume_from run --save_to run --probe_type acc,acc_mean,acc_max --splits test --force",
        &["run/best/", "run/split.json", "run/run.json", "run/mine/train_"],
        &["run/mine/test_perf", "run/mine/test_m"],
    ),
    stage(
        "skn-probe -p --resume_from run --save_to out --probe_type acc,acc_mean,acc_max,prompt_act,speed --repeats 1",
        TUNED,
        &["out/"],
    ),
    stage(
        "skn-probe -p --resume_from run --save_to run --probe_type pos --pos best --splits dev --force",
        &["run/best/", "run/split.json", "run/run.json", "run/mine/dev_perf"],
        &["run/mine/pos_dev"],
    ),
    stage("skn-probe --resume_from run --save_to out --splits train", TUNED, &["out/"]),
    stage(
        "skn-probe --model run/prune/best --task-file ../mine.toml --data ../rows --prompt_size 4 --save_to out --splits train",
        &["run/prune/best/config", "run/prune/best/model", "run/prune/best/tok", "run/prune/run.json"],
        &["out/"],
    ),
    stage(
        "skn-probe -p --model_type RobertaPrunePrompt --resume_from run/prune-tuned --save_to out --splits train",
        &["run/prune-tuned/best/", "run/prune-tuned/split.json", "run/prune-tuned/run.json"],
        &["out/"],
    ),
    stage(
        "skn-select -a run/mine/dev_perf --save_to out --shares 0.1,0.3",
        &["run/mine/dev_perf", "run/run.json"],
        &["out/"],
    ),
    stage(
        "skn-select -a run/mine/dev_mean_perf,run/mine/dev_max_perf --save_to out --shares 0.2",
        &["run/mine/dev_m", "run/run.json"],
        &["out/"],
    ),
    stage(
        "skn-mask -p --resume_from run --save_to out --info_path run/info/mine/0.1,run/info/mine/0.3 --type mean --ths_path \
         run/mine/train_avg --cmp --draws 2",
        &["run/best/", "run/split.json", "run/run.json", "run/info/", "run/mine/train_avg"],
        &["out/"],
    ),
    stage(
        "skn-prune --resume_from run --info_path run/info/mine/0.3 --ths_path run/mine/train_avg --save_to out",
        &["run/best/", "run/split.json", "run/run.json", "run/info/", "run/mine/train_avg"],
        &["out/"],
    ),
    stage(
        "skn-prune --resume_from run --info_path run/info/mine/0.1 --ths_path run/mine/train_avg --fold per-position-group \
         --save_to out",
        &[
            "run/best/",
            "run/split.json",
            "run/run.json",
            "run/info/",
            "run/mine/train_avg",
            "run/mine/train_mean",
        ],
        &["out/"],
    ),
    stage("skn-predict --resume_from run --input ../texts", &["run/best/", "run/run.json"], &[]),
    stage(
        "skn-predict --resume_from run/prune-tuned --input ../texts",
        &["run/prune-tuned/best/", "run/prune-tuned/run.json"],
        &[],
    ),
    stage("skn-evaluate --resume_from run --save_to out", TUNED, &["out/"]),
    stage("skn-merge --save_to parts", &["parts/shards/"], &["parts/mine/"]),
    stage(
        "skn-probe -p --resume_from run --save_to parts --splits test --probe_type acc,acc_mean --force",
        &["run/best/", "run/split.json", "run/run.json", "parts/mine/", "parts/run.json"],
        &["parts/mine/test"],
    ),
    stage(
        "skn-report run --force",
        &[
            "run/mine/",
            "run/run.json",
            "run/summary",
            "run/metrics",
            "run/mask_",
            "run/cmp_",
            "run/best/skn.json",
        ],
        &["run/report.html"],
    ),
    stage("skn-verify run", &["run/"], &[]),
    stage("skn-verify run/prune", &["run/prune/"], &[]),
    stage("skn-train -p --resume_from run --save_to out --max-steps 2 --bz 4 --threads 1", TUNED, &["out/"]),
    stage(
        "skn-train -p --model_type RobertaPrunePrompt --resume_from run/prune --save_to out --max-steps 2 --bz 4 --threads 1",
        &["run/prune/best/", "run/prune/split.json", "run/prune/run.json"],
        &["out/"],
    ),
    // The checkpoint before the last is another one after a fall back.
    stage(
        TRAIN,
        &["run/best/", "run/last/checkpoint.s", "run/metrics", "run/split.json", "run/run.json"],
        &["run/best/", "run/last/checkpoint.s", "run/metrics", "run/split.json"],
    ),
    stage(
        CHAIN,
        &["run/"],
        &[
            "run/best/",
            "run/last/checkpoint.s",
            "run/metrics",
            "run/split.json",
            "run/mine/",
            "run/info/",
            "run/mask_",
            "run/cmp_",
            "run/prune/best/",
            "run/prune-tuned/best/",
            "run/untuned/mine/",
        ],
    ),
];

/// Stages that go on with a run of these: its training, or all of it.
fn run_of(line: &str) -> &'static str {
    if line == TRAIN { "trained" } else { "one" }
}

/// Runs that are finished, and what each stage makes of them.
struct Finished {
    desk: Desk,
    expected: Vec<BTreeMap<String, Vec<u8>>>,
}

/// Two chains and two trainings that differ in their seeds, each with the shards of a probe.
static FINISHED: LazyLock<Finished> = LazyLock::new(|| {
    let desk = Desk::of_process();
    places::data(&desk);
    for (name, other, flag) in [("one", "two", ""), ("trained", "trained-two", "--seed 7")] {
        let line = if name == "one" { CHAIN } else { TRAIN };
        for (name, flag) in [(name, ""), (other, if flag.is_empty() { "--seed 5" } else { flag })] {
            let folder = desk.path(name);
            fs::create_dir(&folder).unwrap();
            let line = line.replace("--resume", "");
            let said = run_in(&desk, &folder, &format!("{line} {flag}"));
            assert_eq!(said.code, 0, "{line}\n{}", said.stderr);
            parts(&desk, &folder);
        }
    }
    let mut finished = Finished { desk, expected: Vec::new() };
    for (number, stage) in STAGES.iter().enumerate() {
        let place = Place::new(&finished.desk, &format!("expected-{number}"));
        copy(&finished.desk.path(run_of(stage.line)), &place.0);
        let said = run_in(&finished.desk, &place.0, stage.line);
        assert_eq!(said.code, 0, "{}\n{}", stage.line, said.stderr);
        assert!(!said.stderr.contains("no run lists it"), "{}\n{}", stage.line, said.stderr);
        let found = written(&place.0, stage, &said);
        assert!(found.len() > usize::from(!stage.writes.is_empty()), "{}: nothing is compared", stage.line);
        finished.expected.push(found);
    }
    finished
});

/// Shards of a run's probe: averages, merged, and counts on dev that are not.
fn parts(desk: &Desk, folder: &Path) {
    for (splits, merged) in [("train", true), ("dev", false)] {
        for part in 1..=2 {
            let line = format!(
                "skn-probe -p --resume_from run --save_to parts --probe_type acc,acc_mean --splits {splits} --shard {part}/2"
            );
            let said = run_in(desk, folder, &line);
            assert_eq!(said.code, 0, "{line}\n{}", said.stderr);
        }
        if merged {
            assert_eq!(run_in(desk, folder, "skn-merge --save_to parts").code, 0);
        }
    }
}

/// What a stage wrote, and its answer.
fn written(folder: &Path, stage: &Stage, said: &Said) -> BTreeMap<String, Vec<u8>> {
    let mut found = contents(folder);
    found.retain(|name, _| stage.writes.iter().any(|prefix| name.starts_with(prefix)));
    found.insert("(answer)".into(), answer(stage, said));
    found
}

/// Some answers have times in them, or say what was done before.
fn answer(stage: &Stage, said: &Said) -> Vec<u8> {
    let program = stage.line.split(' ').next().unwrap();
    match ["skn-predict", "skn-select", "skn-merge", "skn-verify"].contains(&program) {
        true => said.stdout.clone().into_bytes(),
        false => Vec::new(),
    }
}

/// Changes one file of a copy, or two of them; which.
fn change(
    dice: &mut Dice,
    number: u64,
    place: &Path,
    stage: &Stage,
    name: &str,
) -> Option<(&'static str, Vec<String>)> {
    let all = places::names(place);
    let path = place.join(name);
    let whole = fs::read(&path).unwrap();
    let other_run = if run_of(stage.line) == "one" { "two" } else { "trained-two" };
    let settings = String::from_utf8_lossy(&whole);
    let settings = match settings.contains("\"max_length\": \"9\"") {
        true => settings.replace("\"max_length\": \"9\"", "\"max_length\": \"8\""),
        // One that no stage has set.
        false => settings.replace("\"settings\": {", "\"settings\": {\n        \"max_length\": \"8\","),
    };
    let (how, bytes, other) = match dice.below(9) {
        // One digit of a record decides how texts are cut.
        0 | 1 if name.ends_with("run.json") && settings.as_bytes() != whole => {
            ("set otherwise", Some(settings.into_bytes()), None)
        }
        0 => {
            let (mut bytes, at) = (whole.clone(), dice.below(whole.len()));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
            ("flipped", Some(bytes), None)
        }
        1 => ("damaged", Some(mutant(&whole, number)), None),
        2 => ("cut", Some(whole[..dice.below(whole.len())].to_vec()), None),
        3 => ("removed", None, None),
        // A link, to what it was or to something else.
        7 => {
            let other = dice.below(3) > 0;
            let elsewhere = place.join("elsewhere").join(name);
            write(&elsewhere, if other { mutant(&whole, number) } else { whole.clone() });
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
            if fs::read(&elsewhere).unwrap() != whole {
                return Some(("linked", vec![name.to_owned()]));
            }
            return Some(("moved and linked", vec![name.to_owned()]));
        }
        8 => return add(dice, place, name),
        // The same file of another run.
        4 => ("of another run", Some(fs::read(FINISHED_DESK.join(other_run).join(name)).ok()?), None),
        // With a file of the same kind: of another stage, another split, another part of the run.
        choice => {
            let end = name.rsplit('.').next().unwrap();
            let alike: Vec<&String> = all
                .iter()
                .filter(|other| other.ends_with(end) && *other != name && !other.ends_with(".lock"))
                .collect();
            let other = *alike.get(dice.below(alike.len()))?;
            let bytes = fs::read(place.join(other)).unwrap();
            let back = (choice == 5).then(|| other.clone());
            (if choice == 5 { "exchanged" } else { "of another stage" }, Some(bytes), back)
        }
    };
    if bytes.as_ref() == Some(&whole) {
        return None;
    }
    match bytes {
        Some(bytes) => put(&path, &bytes),
        None => fs::remove_file(&path).unwrap(),
    }
    let mut names = vec![name.to_owned()];
    if let Some(other) = other {
        put(&place.join(&other), &whole);
        names.push(other);
    }
    Some((how, names))
}

/// Puts a file into the folder of another one that nobody listed there, and that would be read if it were a run's.
fn add(dice: &mut Dice, place: &Path, name: &str) -> Option<(&'static str, Vec<String>)> {
    let (folder, _) = name.rsplit_once('/')?;
    let (own, content): (&str, Vec<u8>) = match folder.rsplit('/').next()? {
        "best" => {
            let files = [
                ("tokenizer_config.json", b"{\"truncation_side\": \"left\"}".to_vec()),
                ("special_tokens_map.json", b"{\"mask_token\": \"<unk>\"}".to_vec()),
                ("added_tokens.json", b"{\"the\": 5}".to_vec()),
                ("bitfit.safetensors", fs::read(place.join(name)).unwrap()),
            ];
            files[dice.below(files.len())].clone()
        }
        "mine" if !folder.contains("info") => {
            let from = dice.one_of(&["dev_mean_perf", "test_max_perf", "train_avg"]);
            let content = fs::read(place.join(folder).join(from).with_extension("safetensors")).ok()?;
            (dice.one_of(&["dev_last_perf.safetensors", "train_last_avg.safetensors"]), content)
        }
        _ => return None,
    };
    let own = format!("{folder}/{own}");
    if place.join(&own).exists() {
        return None;
    }
    write(&place.join(&own), content);
    Some(("added", vec![own]))
}

/// The files of a stage's folder that a run of it lists.
fn is_listed(place: &Path, name: &str) -> bool {
    place.join(name).ancestors().skip(1).take_while(|folder| folder.starts_with(place)).any(|run| {
        let record = RunRecord::read(run).unwrap_or_default();
        let inside = place.join(name).strip_prefix(run).unwrap().to_str().unwrap().to_owned();
        record.stages.values().any(|stage| stage.outputs.contains_key(&inside))
    })
}

#[test]
fn files_of_a_run() {
    let finished = &*FINISHED;
    let went = cases::run("torture", "changed::files_of_a_run", 200, |number| {
        let mut dice = Dice::of(number);
        let at = dice.below(STAGES.len());
        let stage = &STAGES[at];
        let place = Place::new(&finished.desk, &format!("case-{number}"));
        copy(&finished.desk.path(run_of(stage.line)), &place.0);
        let all: Vec<String> =
            places::names(&place.0).into_iter().filter(|name| !name.ends_with(".lock")).collect();
        let read: Vec<&String> =
            all.iter().filter(|name| stage.reads.iter().any(|prefix| name.starts_with(prefix))).collect();
        assert!(!read.is_empty(), "{}", stage.line);
        // Now and then one that the stage has nothing to do with.
        let name =
            if dice.below(5) == 0 { &all[dice.below(all.len())] } else { read[dice.below(read.len())] };
        let before: BTreeSet<String> = all.iter().filter(|name| is_listed(&place.0, name)).cloned().collect();
        let Some((how, names)) = change(&mut dice, number, &place.0, stage, name) else {
            return "unchanged".into();
        };
        let said = run_in(&finished.desk, &place.0, stage.line);
        let what = format!("{}\n{names:?} {how}: exit {}\n{}", stage.line, said.code, said.stderr);
        match said.code {
            0 => {
                let verified = stage.line.strip_prefix("skn-verify ").map(|run| format!("{run}/"));
                if let Some(run) = verified {
                    let own = |name: &String| {
                        let inner =
                            ["prune/", "prune-tuned/", "untuned/"].map(|inner| format!("{run}{inner}"));
                        name.starts_with(&run) && !inner.iter().any(|inner| name.starts_with(inner))
                    };
                    let listed = names.iter().find(|name| own(name) && before.contains(*name));
                    // A link to the same bytes is the file that was written.
                    assert!(listed.is_none() || how == "moved and linked", "{what}");
                    return "not looked at".into();
                }
                let mut found = written(&place.0, stage, &said);
                if how == "added" {
                    // It is still there.
                    names.iter().for_each(|name| drop(found.remove(name)));
                }
                if places::differing(&found, &finished.expected[at]).is_empty() {
                    return "not used".into();
                }
                // Without its record a run is a folder like any other, and that is told; so is what no run lists.
                let lost = how == "removed" && names[0].ends_with("run.json");
                let told = ["no run lists it", "does not list"].iter().any(|told| said.stderr.contains(told));
                assert!(
                    (lost || how == "added") && told,
                    "used in silence: {:?}\n{what}",
                    places::differing(&found, &finished.expected[at])
                );
                "told".into()
            }
            3 => {
                // A record that was put in the place of another one is wrong about the files that it lists.
                let named = names.iter().any(|name| said.stderr.contains(name.rsplit('/').next().unwrap()));
                assert!(named, "the file is not named\n{what}");
                "refused".into()
            }
            _ => panic!("{what}"),
        }
    });
    let of = |how: &str| went.get(how).copied().unwrap_or(0);
    let total: u64 = went.values().sum();
    if total >= 100 {
        assert!(of("refused") * 2 > total, "{went:?}");
        assert!(of("not used") > 0, "{went:?}");
    }
}

/// Data that were changed are none that a training or a chain goes on with.
#[test]
fn data_of_a_run() {
    let finished = &*FINISHED;
    for (number, line) in [TRAIN, CHAIN].into_iter().enumerate() {
        for split in ["train", "dev", "test"] {
            let around = Place::new(&finished.desk, &format!("data-{number}-{split}"));
            let place = around.0.join("case");
            copy(&finished.desk.path(run_of(line)), &place);
            copy(&finished.desk.path("rows"), &around.0.join("rows"));
            fs::copy(finished.desk.path("mine.toml"), around.0.join("mine.toml")).unwrap();
            let said = run_in(&finished.desk, &place, line);
            assert_eq!(said.code, 0, "{line}\n{}", said.stderr);
            let rows = around.0.join("rows").join(split).with_extension("jsonl");
            let text = fs::read_to_string(&rows).unwrap();
            put(&rows, text.replacen("the ", "this ", 1).as_bytes());
            assert_ne!(fs::read_to_string(&rows).unwrap(), text, "{split}");
            let before = contents(&place);
            let said = run_in(&finished.desk, &place, line);
            assert_eq!(said.code, 3, "{line}\n{}", said.stderr);
            assert!(said.stderr.contains("data"), "{line}\n{}", said.stderr);
            assert!(contents(&place) == before, "{line}: something was written");
        }
    }
}

/// Where [`FINISHED`] lies, once it is there.
static FINISHED_DESK: LazyLock<std::path::PathBuf> = LazyLock::new(|| FINISHED.desk.path(""));

/// Files that no run lists are taken if they are whole in themselves, and that is told.
#[test]
fn files_of_nobody() {
    let finished = &*FINISHED;
    let went = cases::run("torture", "changed::files_of_nobody", 100, |number| {
        let mut dice = Dice::of(number);
        let place = Place::new(&finished.desk, &format!("nobody-{number}"));
        copy(&finished.desk.path("one"), &place.0);
        let (line, from) = [
            ("skn-select -a own --save_to out --shares 0.1", "run/mine/dev_perf.safetensors"),
            (
                "skn-mask -p --resume_from run --save_to out --info_path own --type zero",
                "run/info/mine/0.1.safetensors",
            ),
            (
                "skn-mask -p --resume_from run --save_to out --info_path run/info/mine/0.1 --type mean --ths_path own",
                "run/mine/train_avg.safetensors",
            ),
        ][dice.below(3)];
        let own = place.0.join("own.safetensors");
        let whole = fs::read(place.0.join(from)).unwrap();
        // Tensors, whose parts must fit one another; the header is the reader's.
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let mut bytes = whole.clone();
        let at = header + dice.below(whole.len() - header);
        bytes[at] ^= 1 << dice.below(8);
        put(&own, &bytes);
        let said = run_in(&finished.desk, &place.0, line);
        let what = format!("{line}: byte {at} of {from}: exit {}\n{}", said.code, said.stderr);
        assert!(said.stderr.contains("own.safetensors"), "{what}");
        match said.code {
            0 => {
                assert!(said.stderr.contains("no run lists it"), "{what}");
                "told".into()
            }
            3 => "refused".into(),
            _ => panic!("{what}"),
        }
    });
    let refused = went.get("refused").copied().unwrap_or(0);
    let total: u64 = went.values().sum();
    assert!(total < 50 || refused * 2 > total, "{went:?}");
}
