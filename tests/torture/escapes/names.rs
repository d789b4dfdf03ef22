//! Names in files that lead out of their folder.

use std::fs;
use std::path::{Component, Path};

use super::{Base, state, weight_map};
use crate::damage::Dice;
use crate::support::{Desk, copy, write};

/// A name that leads to `outside/NAME` from so many folders below the desk, or somewhere else than into its folder.
fn evil(desk: &Desk, dice: &mut Dice, depth: usize, name: &str) -> String {
    let outside = desk.path(&format!("outside/{name}")).display().to_string();
    let long = "x".repeat(dice.one_of(&[256, 300, 5000, 70_000]));
    let up = "../".repeat(depth);
    match dice.below(24) {
        0..4 => format!("{up}outside/{name}"),
        4 | 5 => outside,
        6 => format!("{}outside/{name}", "../".repeat(1 + dice.below(5))),
        7 => format!("./{up}outside/{name}"),
        8 => format!("sub/../{up}outside/{name}"),
        9 => format!("{}outside//{name}", up.replace('/', "//")),
        10 => format!("{up}outside/{name}\0"),
        11 => format!("{name}\0{up}outside/{name}"),
        12 => format!("{}outside\\{name}", up.replace('/', "\\")),
        13 => format!("/{outside}"),
        14 => format!("{long}/../{up}outside/{name}"),
        15 => long,
        16 => format!("{}{up}outside/{name}", "./".repeat(500)),
        17 => dice.one_of(&["", ".", "..", "/", "//", "~", "./", "../"]).to_owned(),
        18 => format!("file://{outside}"),
        19 => format!("\u{202e}{up}outside/{name}\u{9b}2J"),
        20 => format!("/proc/self/cwd/../outside/{name}"),
        21 => format!("{}outside/{name}", up.replace("..", "%2e%2e")),
        22 => format!("link/{name}"),
        _ => format!("{up}inside/../outside/{name}"),
    }
}

/// The desk has `inside`, which the user names, and `outside`, which nobody does. What the program makes of it, and whether it
/// made anything outside.
pub(super) fn case(base: &Base, dice: &mut Dice) -> String {
    let desk = Desk::new();
    write(&desk.path("inside/texts"), "a film\n");
    let place = dice.below(8);
    let (from, name, depth) = match place {
        0 => ("shards", "shard.safetensors", 2),
        1 => ("data/train", "data-00000-of-00001.arrow", 3),
        2 | 3 => ("data/validation", "state.json", 2),
        4 | 5 => ("run/best", "adapter_model.safetensors", 2),
        6 => ("rows", "train.jsonl", 2),
        _ => ("run/best", "adapter_model.safetensors", 3),
    };
    copy(&base.path(from), &desk.path("outside"));
    let evil = evil(&desk, dice, depth, name);
    let train = "skn-train --model demo --prompt_size 2 --max-steps 1 --threads 1 --save_to out";
    let escaped = serde_json::Value::from(evil.as_str()).to_string();
    let line = match place {
        0 => {
            copy(&base.path("model"), &desk.path("inside/model"));
            let index = weight_map(&desk.path("inside/model"), &evil);
            fs::remove_file(desk.path("inside/model/model.safetensors")).unwrap();
            write(&desk.path("inside/model/model.safetensors.index.json"), index);
            "skn-predict --model model --task sst2 --prompt_size 2 --threads 1 --input texts".to_owned()
        }
        1 => {
            copy(&base.path("data"), &desk.path("inside/data"));
            fs::remove_file(desk.path("inside/data/train").join(name)).unwrap();
            write(
                &desk.path("inside/data/train/state.json"),
                serde_json::json!({"_data_files": [{"filename": evil}]}).to_string(),
            );
            format!("{train} --task sst2 --data data")
        }
        2 => {
            // A data set whose list of splits leads elsewhere, and a task that asks for that split.
            copy(&base.path("data"), &desk.path("inside/data"));
            let folder = evil.trim_end_matches("/state.json");
            let splits = serde_json::json!({"splits": ["train", folder]});
            write(&desk.path("inside/data/dataset_dict.json"), splits.to_string());
            task(&desk, "t", &["sentence"], "train", Some(folder));
            format!("{train} --task-file task.toml --data data")
        }
        3 => {
            copy(&base.path("data/train"), &desk.path("inside/data/train"));
            task(&desk, "t", &["sentence"], "train", Some(evil.trim_end_matches("/state.json")));
            format!("{train} --task-file task.toml --data data")
        }
        4 => {
            copy(&base.path("run/best"), &desk.path("inside/tuned"));
            let config = fs::read_to_string(desk.path("inside/tuned/skn.json")).unwrap();
            write(
                &desk.path("inside/tuned/skn.json"),
                config.replace("\"adapter_model.safetensors\"", &escaped),
            );
            "skn-predict -p --model demo --task sentiment --threads 1 --resume_from tuned --input texts"
                .to_owned()
        }
        5 => {
            copy(&base.path("run"), &desk.path("inside/run"));
            let record = fs::read_to_string(desk.path("inside/run/run.json")).unwrap();
            write(
                &desk.path("inside/run/run.json"),
                record.replace("\"best/adapter_model.safetensors\"", &escaped),
            );
            dice.one_of(&[
                "skn-verify run",
                "skn-report run",
                "skn-select --save_to run -a run/sentiment/dev_perf --force",
                "skn-predict -p --resume_from run --threads 1 --input texts",
                "skn-train --model demo --task sentiment --prompt_size 2 --max-steps 1 --threads 1 --save_to run --force",
            ])
            .to_owned()
        }
        6 => {
            // The task names the folder that results go to.
            copy(&base.path("rows"), &desk.path("inside/rows"));
            task(&desk, &evil, &["a"], "train", None);
            format!("{train} --task-file task.toml --data rows")
        }
        _ => {
            copy(&base.path("run"), &desk.path("inside/run"));
            // The task of a file of counts names the folder of its masks. What can't be an argument is no danger.
            let evil = if evil.len() > 200 { format!("../../../outside/{name}") } else { evil.clone() };
            let task = evil.replace('\0', "0");
            let counts = desk.path("inside/run/sentiment/dev_perf.safetensors");
            let bytes = fs::read(&counts).unwrap();
            write(&desk.path("inside/counts.safetensors"), with_task(&bytes, &evil));
            if dice.below(2) == 0 {
                "skn-select --save_to run -a counts.safetensors --shares 0.2".to_owned()
            } else if !task.is_empty() {
                format!("skn-select --save_to run -a run/sentiment/dev_perf --shares 0.2 --task {task}")
            } else {
                "skn-select --save_to run -a counts.safetensors --task .. --shares 0.2".to_owned()
            }
        }
    };
    let outside = state(&desk.path("outside"));
    let around = fs::read_dir(desk.path("")).unwrap().count();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = desk.command(words[0], &words[1..]);
    let output = command.current_dir(desk.path("inside")).output().unwrap();
    let said = crate::support::Said::from(output);
    let told =
        format!("place {place}, {escaped:.300}\n{line:.500}\n{:.3000}{:.1000}", said.stderr, said.stdout);
    assert_eq!(state(&desk.path("outside")), outside, "something was written outside: {told}");
    assert_eq!(fs::read_dir(desk.path("")).unwrap().count(), around, "something is beside: {told}");
    let control =
        |letter: char| letter.is_control() && !['\n', '\t'].contains(&letter) || letter == '\u{202e}';
    assert!(!said.stderr.contains(control) && !said.stdout.contains(control), "raw: {told}");
    match said.code {
        2 | 3 => "refused".into(),
        // A name without a way out is a name, however it looks; and what has a zero in it can't be opened.
        0 if place >= 5 && !leads_out(&evil) => "a name like another".into(),
        code => panic!("exit code {code}: {told}"),
    }
}

fn leads_out(name: &str) -> bool {
    let normal = |part| matches!(part, Component::Normal(_));
    name.is_empty() || !name.contains('\0') && !Path::new(name).components().all(normal)
}

fn task(desk: &Desk, name: &str, text: &[&str], train: &str, test: Option<&str>) {
    // A string of TOML escapes as one of JSON does.
    let string = |text: &str| serde_json::Value::from(text).to_string().replace('\u{9b}', "\\u009b");
    let test = test.map_or(String::new(), |test| format!("test = {}\n", string(test)));
    let toml = format!(
        "name = {}\ntext = {text:?}\nlabel = \"label\"\nlabels = [\" bad\", \" good\"]\n[splits]\ntrain = {}\n{test}",
        string(name),
        string(train)
    );
    write(&desk.path("inside/task.toml"), toml);
}

/// A file of counts that says it is of another task.
fn with_task(bytes: &[u8], task: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header["__metadata__"]["skn.task"] = task.into();
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(&bytes[8 + length..]);
    file
}
