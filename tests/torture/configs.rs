//! Absurd numbers in configurations are refused before memory is asked for: every number in every file that says how large
//! something is or where it lies, and nine things in its place. The fields are those of real files, so that a new field is
//! covered. A case is a field and a value; numbers beyond all of these take two fields at once.

#![cfg(target_os = "linux")]

mod fields;
mod places;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use fields::Field;
use places::{Desks, Place};

use crate::cases;
use crate::damage::Dice;
use crate::support::{Desk, Said, write};

/// What stands in a number's place: `None` for nothing at all.
const VALUES: [Option<&str>; 9] = [
    Some("-1"),
    Some("0"),
    Some("2147483648"),
    Some("9223372036854775808"),
    Some("1e308"),
    Some("\"12\""),
    Some("null"),
    Some("[]"),
    None,
];

/// Address space of a program, in KiB. The whole files take a third of it; 2^31 of anything do not fit.
const MOST: u64 = 1 << 20;

/// What may stand in a number's place, and change what is computed: a value in its range.
const ALLOWED: [(&str, &[&str]); 4] = [
    ("layer_norm_eps", &["0", "null", "nothing"]),
    ("pad_token_id", &["0"]),
    // A name is one, whatever it is.
    ("name", &["\"12\""]),
    // The labels of a task that drops others.
    ("1", &["0", "nothing"]),
];

/// A field of a file, and how it goes with the file whole.
struct Target {
    place: &'static Place,
    field: Field,
}

struct All {
    desks: Desks,
    targets: Vec<Target>,
    /// What each place's program prints of the whole files.
    whole: BTreeMap<&'static str, String>,
}

impl All {
    fn new() -> Self {
        let desks = Desks::new();
        let (mut targets, mut whole) = (Vec::new(), BTreeMap::new());
        for place in &places::PLACES {
            let desk = desks.copy_of(place);
            let said = limited(&desk, place.line);
            assert_eq!(said.code, 0, "{}: {}\n{}", place.name, place.line, said.stderr);
            whole.insert(place.name, said.stdout);
            let bytes = fs::read(desk.path(place.file)).unwrap();
            let fields = fields::numbers(&bytes, place.form);
            assert!(!fields.is_empty(), "{}: no number", place.name);
            targets.extend(fields.into_iter().map(|field| Target { place, field }));
        }
        Self { desks, targets, whole }
    }
}

/// Runs a command line in a shell that allows a program so much address space.
fn limited(desk: &Desk, line: &str) -> Said {
    let words: Vec<&str> = line.split_whitespace().collect();
    let program = desk.command(words[0], &words[1..]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {MOST}; exec \"$0\" \"$@\"")]).arg(program.get_program());
    shell.args(program.get_args()).current_dir(desk.path(""));
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.output().unwrap().into()
}

fn case(all: &All, number: u64) -> String {
    let count = all.targets.len() * VALUES.len();
    let index = number as usize % count;
    let target = &all.targets[index / VALUES.len()];
    let value = VALUES[index % VALUES.len()];
    let place = target.place;
    let mut edits = vec![(&target.field, value)];
    if number as usize >= count {
        let mut dice = Dice::of(number);
        let beside: Vec<&Target> = all
            .targets
            .iter()
            .filter(|other| other.place.name == place.name && other.field != target.field)
            .collect();
        if !beside.is_empty() {
            edits.push((&dice.one_of(&beside).field, dice.one_of(&VALUES)));
        }
    }
    let desk = all.desks.copy_of(place);
    let path = desk.path(place.file);
    let whole = fs::read(&path).unwrap();
    write(&path, fields::edited(&whole, place.form, &edits));
    let said = limited(&desk, place.line);

    let written = value.unwrap_or("nothing");
    let told =
        format!("{}: {} = {written}\n{}\n{}", place.name, target.field.shown(), place.line, said.stderr);
    match said.code {
        0 => {
            let is_allowed = |(field, value): &(&fields::Field, Option<&str>)| {
                let written = value.unwrap_or("nothing");
                ALLOWED.iter().any(|(name, values)| field.is(name) && values.contains(&written))
            };
            assert!(
                edits.iter().any(is_allowed) || said.stdout == all.whole[place.name],
                "another result: {told}\n{}",
                said.stdout
            );
            "read as before".into()
        }
        3 => {
            let file = place.file.rsplit('/').next().unwrap();
            assert!(
                said.stderr.contains(file) || place.also.iter().any(|name| said.stderr.contains(name)),
                "the file: {told}"
            );
            let named = edits.iter().any(|(field, _)| field.is_named_in(&said.stderr));
            // What is in range and does not fit is told by the tensor that it does not fit.
            assert!(named || said.stderr.contains("tensor `"), "the field: {told}");
            "refused".into()
        }
        // A task without a text needs no data, and there is nothing to train on.
        2 if target.field.is("text") && written == "[]" => "refused".into(),
        // A task may be without labels, but nothing is tuned for it.
        2 if target.field.is("labels") && ["[]", "nothing"].contains(&written) => {
            assert!(said.stderr.contains("labels"), "the field: {told}");
            "refused".into()
        }
        code => panic!("exit code {code}: {told}"),
    }
}

#[test]
fn every_number() {
    let all = All::new();
    let count = (all.targets.len() * VALUES.len()) as u64;
    let went = cases::run("torture", "configs::every_number", count, |number| case(&all, number));
    let refused = went.get("refused").copied().unwrap_or(0);
    let all: u64 = went.values().sum();
    assert!(all < 20 || refused * 3 > all, "only {refused} of {all} were refused");
}
