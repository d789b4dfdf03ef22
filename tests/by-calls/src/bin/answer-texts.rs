//! Answers each line of standard input with what a run has tuned.

use std::io::{Write, read_to_string, stdin, stdout};

use skn_session::Session;
use skn_session::options::{Classify, Compute};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let run = std::env::args_os().nth(1).ok_or("expected a run")?;
    let session = Session::new(Compute::default())?;
    let texts: Vec<_> = read_to_string(stdin())?.lines().map(Into::into).collect();
    for answer in session.classifier(&Classify::by(run))?.answer(&texts)? {
        writeln!(stdout(), "{} {:.4}", answer.word, answer.probabilities[answer.class])?;
    }
    Ok(())
}
