//! The programs of this folder; `tests/chain.rs` compares the chain by calls with `skn-run`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use skn_session::Session;
use skn_session::options::{Classify, Compute, Subject, Train};

#[test]
fn texts_are_answered() {
    let run = tempfile::tempdir().unwrap();
    let session = Session::new(Compute::default()).unwrap();
    let mut train = Train::new(Subject::demo("sentiment"), run.path());
    train.training.max_steps = Some(4);
    session.train(&train).unwrap();
    let text = "the food was not bad .";
    let answers =
        session.classifier(&Classify::by(run.path())).unwrap().answer(&[text.into(), text.into()]).unwrap();

    let mut command = Command::new(env!("CARGO_BIN_EXE_answer-texts"));
    let mut program = command.arg(run.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(format!("{text}\n{text}\n").as_bytes()).unwrap();
    let said = String::from_utf8(program.wait_with_output().unwrap().stdout).unwrap();
    let line = format!("{} {:.4}\n", answers[0].word, answers[0].probabilities[answers[0].class]);
    assert_eq!(said, line.repeat(2));
}

#[test]
fn programs_are_short_and_name_no_flag() {
    for (files, most) in
        [(&["src/lib.rs", "src/bin/chain-by-calls.rs"][..], 60), (&["src/bin/answer-texts.rs"], 15)]
    {
        let read =
            |file: &&str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let text: String = files.iter().map(read).collect();
        assert!(!text.contains("\"-"), "{files:?}");
        let code = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
        assert!(code.count() < most, "{files:?}");
    }
}
