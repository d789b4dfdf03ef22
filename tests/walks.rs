//! Three walks that strangers make in their first quarter of an hour.
//!
//! - The researcher has an encoder of her own without a masked-LM head: `docs/tutorial/own-encoder.md`.
//! - The engineer has a table with semicolons, and wants a small classifier for a stream: `docs/tutorial/stream.md`.
//! - The programmer has Rust: the example in README, which `benches/src/lib.rs` makes a doc test.
//!
//! The pages are the walks. Their blocks marked `sh walk` are run here by a shell, in their order, beside the files that the page says to
//! write. What needs Python is done by Python where `python3` (or what `SKN_PYTHON` names) has the library, and else by this file, which
//! says so.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::page;
use crate::support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use page::{Page, root};
use support::{Desk, Said, copy, write};

/// Makes the walk of a page; what each of its blocks printed. A block that `needs=` what is not here is done by `instead`.
fn walk(desk: &Desk, page: &str, instead: &dyn Fn(&str)) -> Vec<Said> {
    let page = Page::read(page.into());
    let mut said = Vec::new();
    for block in &page.blocks {
        let words: Vec<&str> = block.info.split_whitespace().collect();
        if let Some(name) = block.file() {
            write(&desk.path(name), &block.text);
        }
        if !words.contains(&"walk") {
            continue;
        }
        let needs = words.iter().find_map(|word| word.strip_prefix("needs="));
        if let Some(library) = needs.filter(|library| !python_with(desk, library)) {
            tell(&format!("no Python with {library} here: the test does its part"));
            instead(library);
            continue;
        }
        let block_said: Said = desk.shell(&block.text).output().unwrap().into();
        let at = page.path.display();
        assert_eq!(block_said.code, 0, "{at}:\n{}{}{}", block.text, block_said.stdout, block_said.stderr);
        said.push(block_said);
    }
    said
}

/// Puts Python on a desk's path as `python`, if it is here and has a library.
fn python_with(desk: &Desk, library: &str) -> bool {
    let python = std::env::var("SKN_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = format!("import sys, {library}; print(sys.executable)");
    let Ok(found) = Command::new(&python).args(["-c", &script]).output() else { return false };
    if found.status.success() && !desk.path("bin/python").exists() {
        // A link would not find the libraries of a virtual environment.
        let place = String::from_utf8(found.stdout).unwrap();
        write(&desk.path("bin/python"), format!("#!/bin/sh\nexec '{}' \"$@\"\n", place.trim()));
        fs::set_permissions(desk.path("bin/python"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    found.status.success()
}

#[allow(clippy::print_stdout, reason = "a test's own report")]
fn tell(text: &str) {
    println!("{text}");
}

fn tutorial(name: &str) -> PathBuf {
    root().join("docs/tutorial").join(name)
}

/// Layer and index of each line of a table of neurons, in its order.
fn neurons_of(csv: &Path) -> Vec<(usize, usize)> {
    let text = fs::read_to_string(csv).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let heads = lines.next().unwrap();
    let column = |name: &str| heads.iter().position(|head| *head == name).unwrap();
    let (layer, index) = (column("layer"), column("index"));
    lines.map(|line| (line[layer].parse().unwrap(), line[index].parse().unwrap())).collect()
}

/// The researcher. Her BERT is one of three layers, without the tensors of a head, as a sentence encoder comes.
#[test]
fn a_researcher_with_an_encoder_of_her_own() {
    let desk = Desk::new();
    let with_head = root().join("tests/families/bert");
    copy(&with_head, &desk.path("my-bert"));
    let file = skn_artifact::TensorFile::read(&with_head.join("model.safetensors")).unwrap();
    let mut encoder = skn_artifact::TensorBundle::new();
    for name in file.names().filter(|name| name.starts_with("bert.")) {
        let (shape, values) = file.f32(name, None).unwrap();
        encoder.insert(name.trim_start_matches("bert."), skn_artifact::Array::f32(shape, values).unwrap());
    }
    write(&desk.path("my-bert/model.safetensors"), encoder.to_bytes().unwrap());
    fs::copy(tutorial("reviews.csv"), desk.path("reviews.csv")).unwrap();

    let table = desk.path("runs/encoder/info/reviews/neurons.csv");
    let said = walk(&desk, "docs/tutorial/own-encoder.md", &|library| match library {
        "pandas" => {
            let of_layer = neurons_of(&table).into_iter().filter(|(layer, _)| *layer == 1).take(8);
            let lines: String = of_layer.map(|(layer, index)| format!("{layer},{index}\n")).collect();
            write(&desk.path("mine.csv"), format!("layer,index\n{lines}"));
        }
        // A new head is random; this one was, too.
        _ => copy(&with_head, &desk.path("my-bert-mlm")),
    });

    // The table has every neuron, each once.
    let mut all = neurons_of(&table);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 3 * 32);
    // Hers are perturbed and no others, beside as many random ones of the same layer.
    let mine = neurons_of(&desk.path("mine.csv"));
    assert_eq!(mine.len(), 8);
    for (file, draws) in [("mask_perf.json", 1), ("cmp_perf.json", 10)] {
        let result = desk.json(&format!("runs/tuned/{file}"));
        let result = if result.is_array() { &result[0] } else { &result };
        assert_eq!(result["neurons"], serde_json::json!([0, 8, 0]), "{file}");
        assert_eq!(result["draws"].as_array().unwrap().len(), draws, "{file}");
        assert_eq!((&result["edit"], &result["mask"]), (&"zero".into(), &"mine.csv".into()), "{file}");
    }
    let of_mask = &said[said.len() - 1];
    assert!(of_mask.stdout.contains("zero on the neurons of mine.csv (8 in 1 layer)"), "{}", of_mask.stdout);
    assert!(
        !of_mask.stderr.contains("mine.csv"),
        "a list of her own is nothing to warn of: {}",
        of_mask.stderr
    );

    // What she tries on the way is answered with what to do.
    let text = "--task-file reviews.toml --data reviews.csv --out x";
    let probe = "`skn-probe --probe_type acc_mean,acc_max,acc_last`";
    desk.fails(&format!("skn-train --model my-bert {text}"), 3, &["no masked-LM head", probe]);
    desk.fails(
        "skn-mask --resume_from runs/encoder --info_path mine.csv --out x",
        3,
        &["runs/encoder: a run in which nothing was tuned", "probe acc_max,acc_mean", "skn-train", "--model"],
    );
    // A second choice finds a place beside the first.
    let again = "skn-mask --resume_from runs/tuned --info_path mine.csv --out runs/tuned";
    desk.fails(again, 3, &["mask_perf.json: exists; --force replaces it, --name NAME keeps both, --out RUN"]);
    desk.ok(&format!("{again} --name noise"));
    assert!(desk.path("runs/tuned/sweeps/noise/mask_perf.json").is_file());
    desk.fails(
        "skn-mask --resume_from runs/tuned --info_path runs/encoder/info/reviews --out x",
        3,
        &["runs/encoder/info/reviews: no such file", "it is a folder, of which one file is expected"],
    );
    // The table of all neurons is no choice, and a copy of it is nobody's.
    fs::copy(&table, desk.path("neurons.csv")).unwrap();
    let whole = desk.run("skn-mask --resume_from runs/tuned --info_path neurons.csv --out x");
    for told in ["neurons.csv: marks every neuron of the model", "neurons.csv: no run lists it"] {
        assert!(whole.code == 0 && whole.stderr.contains(told), "{}", whole.stderr);
    }
    fs::rename(desk.path("neurons.csv"), desk.path("all.csv")).unwrap();
    let ranked = desk.run("skn-select --ranking all.csv -a runs/encoder/reviews/dev_mean_perf --out x");
    assert!(ranked.code == 0 && !ranked.stderr.contains("all.csv"), "{}", ranked.stderr);
}

/// The engineer. The model is the demo, and the page has the stream.
#[test]
fn an_engineer_with_a_stream_of_messages() {
    let desk = Desk::new();
    fs::copy(tutorial("messages.csv"), desk.path("messages.csv")).unwrap();
    let said = walk(&desk, "docs/tutorial/stream.md", &|library| panic!("{library} is not needed"));
    assert!(said[0].stderr.contains("that have no label, or one that the task does not use: 25"));
    assert_eq!(answers(&said.last().unwrap().stdout), ["901 kitchen", "902 stage", "903 pitch"]);

    // What serves is one folder.
    copy(&desk.path("runs/small-tuned/best"), &desk.path("service/best"));
    for gone in ["runs", "messages.csv", "messages.toml"] {
        fs::rename(desk.path(gone), desk.path(&format!("gone-{gone}"))).unwrap();
    }
    let serve = "skn-predict --resume_from service/best --format jsonl --flush";
    // A busy machine may be late; a program that is would be each time.
    let took: Vec<Duration> = (0..3).map(|_| served_and_stopped(&desk, serve)).collect();
    assert!(took.iter().any(|took| *took < Duration::from_secs(1)), "it took {took:?} to stop");

    // Who forgets to say that the stream is JSON Lines is told, and who says that it is text is not.
    for (flags, told) in [("", true), (" --input-format text", false)] {
        let said: Said = desk.shell(&format!("cat new.jsonl | {serve}{flags}")).output().unwrap().into();
        let hint =
            "standard input: its first line is a JSON object, and is read as a text; --input-format jsonl";
        assert_eq!((said.code, said.stderr.contains(hint)), (0, told), "{}", said.stderr);
    }
}

/// Serves the page's stream, whose answers must come while it goes on, and stops with SIGTERM while it waits for more; how long that took.
fn served_and_stopped(desk: &Desk, serve: &str) -> Duration {
    let mut service = desk.shell(&format!("exec {serve} --input-format jsonl"));
    service.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut service = service.spawn().unwrap();
    let mut stdin = service.stdin.take().unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    for line in fs::read_to_string(desk.path("new.jsonl")).unwrap().lines() {
        writeln!(stdin, "{line}").unwrap();
        let answer = lines.next().unwrap().unwrap();
        assert!(answer.starts_with(line.trim_end_matches('}')), "{answer}");
    }
    let began = Instant::now();
    assert!(Command::new("kill").args(["-s", "TERM", &service.id().to_string()]).status().unwrap().success());
    let status = loop {
        match service.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() > Duration::from_secs(20) => {
                service.kill().unwrap();
                panic!("it waits for its input");
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let took = began.elapsed();
    // Its input was open until here.
    drop(stdin);
    assert_eq!((status.code(), lines.next().is_none()), (Some(143), true));
    took
}

/// The `id` and the `predicted_label` of answers in JSON Lines.
fn answers(lines: &str) -> Vec<String> {
    let answer = |line: &str| {
        let answer: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        format!("{} {}", answer["id"], answer["predicted_label"].as_str().unwrap())
    };
    lines.lines().map(answer).collect()
}

/// The programmer. What README shows is compiled and run by `cargo test --doc -p skn-bench`, unless its fence says otherwise.
#[test]
fn the_example_in_readme_is_one_that_is_run() {
    let readme = Page::read("README.md".into());
    let rust: Vec<&page::Block> =
        readme.blocks.iter().filter(|block| block.language().starts_with("rust")).collect();
    assert_eq!(rust.iter().map(|block| block.info.as_str()).collect::<Vec<_>>(), ["rust"]);
    let tests = include_str!("../benches/src/lib.rs");
    assert!(
        tests.contains("#[doc = include_str!(\"../../README.md\")]"),
        "benches/src/lib.rs makes it a test"
    );
    // The dependencies that a page names are crates of this repository.
    let library = Page::read("docs/how-to/library.md".into());
    let manifests = library.blocks.iter().filter(|block| block.language() == "toml");
    let lines = manifests.flat_map(|block| block.text.lines());
    let names: Vec<&str> = lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    let crates: Vec<&&str> = names.iter().filter(|name| name.starts_with("skn-")).collect();
    assert!(crates.contains(&&"skn-session"), "{names:?}");
    crates.iter().for_each(|name| assert!(root().join("crates").join(name).is_dir(), "{name}"));
}

/// Each step says the next one: who types what is printed comes from a training to the report, and from a pruned model to its scores.
#[test]
fn who_follows_the_hints_arrives() {
    let desk = Desk::new();
    let follow = |first: &str| {
        let (mut line, mut programs) = (first.to_owned(), Vec::new());
        loop {
            programs.push(line.split(' ').next().unwrap().to_owned());
            let said: Said = desk.shell(&line).output().unwrap().into();
            assert_eq!(said.code, 0, "{line}\n{}", said.stderr);
            match said.stderr.lines().find_map(|line| line.split_once("next: ")) {
                Some((_, next)) => next.clone_into(&mut line),
                None => break programs,
            }
        }
    };
    let train = "skn-train --model demo --task sentiment --prompt_size 2 --max-steps 2";
    let programs = follow(&format!("{train} --out 'my run'"));
    assert_eq!(programs, ["skn-train", "skn-probe", "skn-select", "skn-mask", "skn-report"]);
    assert!(desk.path("my run/report.html").is_file());
    let prune = "skn-prune --resume_from 'my run' --info_path 'my run/info/sentiment/0.2' \
                 --ths_path 'my run/sentiment/train_avg' --out small";
    let mut programs = follow(prune);
    assert_eq!(programs, ["skn-prune", "skn-train", "skn-evaluate"]);
    // Without anything tuned there is nothing to perturb.
    programs = follow("skn-probe --model demo --task sentiment --probe_type acc_mean --out untuned");
    assert_eq!(programs, ["skn-probe", "skn-select", "skn-report"]);
    // A program is named as the first one was: by its place, where that was typed.
    let train =
        desk.command("skn-train", &["--model", "demo", "--task", "topic", "--max-steps", "1", "--out", "x"]);
    let place = Path::new(train.get_program()).with_file_name("skn-probe").display().to_string();
    let said: Said = { train }.output().unwrap().into();
    assert!(said.stderr.contains(&format!("next: {place} --resume_from x --out x")), "{}", said.stderr);
    // Programs that read the result, and who asks for quiet, are spared it.
    for flags in ["--json", "--quiet"] {
        let said = desk.run(&format!("skn-select -a x/topic/dev_perf --out x {flags}"));
        assert!(!said.stderr.contains("next:"), "{flags}: {}", said.stderr);
    }
}
