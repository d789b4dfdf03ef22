//! The documentation: its links lead somewhere, its commands are such as the programs take, and those of blocks marked
//! `sh run` are run.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

#[cfg(unix)]
mod cluster;
mod facts;
use crate::cases;
use crate::page;
use crate::support;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::sync::LazyLock;

use clap::CommandFactory;
use page::{Page, pages, root};
use serde_json::Value;
use skn::cli::rewrite_short_pairs;
use skn::stage::{
    binarize, evaluate, experiment, mask, merge, predict, pretrain, probe, prune, report, run, select, tasks,
    train, verify,
};
use support::{Desk, write};

/// Programs of other crates: skn-fetch has a test of its own, and skn-manual has no flags.
const OF_OTHERS: [&str; 2] = ["skn-fetch", "skn-manual"];

/// Calls a function that is generic over a program's flags, for the program of this name; nothing for others.
macro_rules! of_program {
    ($name:expr, $call:ident($($argument:expr),*)) => {
        match $name {
            "skn-binarize" => Some($call::<binarize::Binarize>($($argument),*)),
            "skn-evaluate" => Some($call::<evaluate::Evaluate>($($argument),*)),
            "skn-experiment" => Some($call::<experiment::Experiment>($($argument),*)),
            "skn-mask" => Some($call::<mask::Mask>($($argument),*)),
            "skn-merge" => Some($call::<merge::Merge>($($argument),*)),
            "skn-predict" => Some($call::<predict::Predict>($($argument),*)),
            "skn-pretrain" => Some($call::<pretrain::Pretrain>($($argument),*)),
            "skn-probe" => Some($call::<probe::Probe>($($argument),*)),
            "skn-prune" => Some($call::<prune::Prune>($($argument),*)),
            "skn-report" => Some($call::<report::Report>($($argument),*)),
            "skn-run" => Some($call::<run::Run>($($argument),*)),
            "skn-select" => Some($call::<select::Select>($($argument),*)),
            "skn-tasks" => Some($call::<tasks::Tasks>($($argument),*)),
            "skn-train" => Some($call::<train::Train>($($argument),*)),
            "skn-verify" => Some($call::<verify::Verify>($($argument),*)),
            _ => None,
        }
    };
}

/// Why a program does not take a command line.
fn wrong<P: clap::Parser>(words: &[OsString]) -> Option<String> {
    let error = skn_program::parse::<P>(words.to_vec()).err()?;
    error.use_stderr().then(|| error.to_string())
}

/// The long flags of a program, with `-`.
fn flags<P: CommandFactory>() -> BTreeSet<String> {
    let command = P::command();
    let names = command.get_arguments().flat_map(|flag| {
        let others = flag.get_all_aliases().unwrap_or_default();
        flag.get_long().into_iter().chain(others).map(|name| name.replace('_', "-")).collect::<Vec<_>>()
    });
    names.chain(["help".to_owned(), "version".to_owned()]).collect()
}

#[test]
fn commands_are_taken_by_the_programs() {
    let (mut wrongs, mut seen) = (Vec::new(), 0);
    for page in pages() {
        let at = page.path.display();
        for words in page.blocks.iter().flat_map(page::Block::commands) {
            let program = words[0].clone();
            // `[OPTIONS]` stands in a line that says how a program is used.
            let is_usage = words.iter().any(|word| word == "[OPTIONS]");
            if !program.starts_with("skn-") || OF_OTHERS.contains(&program.as_str()) || is_usage {
                continue;
            }
            seen += 1;
            let words = rewrite_short_pairs(words.into_iter().map(Into::into));
            match of_program!(program.as_str(), wrong(&words)) {
                None => wrongs.push(format!("{at}: there is no {program}")),
                Some(Some(error)) => wrongs.push(format!("{at}: {words:?}: {error}")),
                Some(None) => {}
            }
        }
        // Within lines flags are checked alone: what a program can't do without is often left out.
        for code in page.codes.iter().filter(|code| code.starts_with("skn-")) {
            let mut words = code.split_whitespace();
            let program = words.next().unwrap();
            let Some(flags) = of_program!(program, flags()) else { continue };
            let named = words.filter_map(|word| word.strip_prefix("--")).filter(|name| !name.is_empty());
            for name in named.map(|name| name.split('=').next().unwrap()) {
                if !flags.contains(&name.replace('_', "-")) && name != "list-tasks" {
                    wrongs.push(format!("{at}: {program} has no --{name}"));
                }
            }
        }
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
    assert!(seen > 80, "{seen} commands: are they all found?");
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut wrongs = Vec::new();
    for page in &pages {
        for link in page.links.iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(a, b)| (a, Some(b)));
            let folder = root().join(page.path.parent().unwrap());
            let target = if file.is_empty() { root().join(&page.path) } else { folder.join(file) };
            let Ok(target) = target.canonicalize() else {
                wrongs.push(format!("{}: {link}: no such file", page.path.display()));
                continue;
            };
            let Some(anchor) = anchor else { continue };
            let named = pages.iter().find(|page| root().join(&page.path).canonicalize().unwrap() == target);
            if !named.is_some_and(|page| page.anchors.iter().any(|name| name == anchor)) {
                wrongs.push(format!("{}: {link}: no such heading", page.path.display()));
            }
        }
    }
    assert!(wrongs.is_empty(), "{}", wrongs.join("\n"));
}

#[test]
fn every_page_of_docs_is_in_its_index() {
    let index = Page::read("docs/README.md".into());
    let linked: BTreeSet<_> = index.links.iter().map(|link| link.split('#').next().unwrap()).collect();
    for page in pages() {
        if let Ok(name) = page.path.strip_prefix("docs") {
            let name = name.to_str().unwrap();
            assert!(name == "README.md" || linked.contains(name), "docs/README.md does not link {name}");
        }
    }
}

#[test]
fn what_is_marked_runs() {
    let pages: Vec<Page> =
        pages().into_iter().filter(|page| page.blocks.iter().any(page::Block::is_run)).collect();
    assert!(pages.len() > 5, "{} pages: are their marks found?", pages.len());
    cases::each(pages.iter().collect(), run_page);
}

/// The command that many pages begin with. It is run once for all of them.
const TRAINING: [&str; 9] =
    ["skn-train", "--model", "demo", "--task", "sentiment", "--out", "RUN", "--epoch", "1"];

/// Where it was run.
static TRAINED: LazyLock<Desk> = LazyLock::new(|| {
    let desk = Desk::of_process();
    assert!(!desk.ok(&TRAINING.join(" ")).is_empty());
    desk
});

/// Runs what a page marks, on a desk with the files that lie beside it.
fn run_page(page: &Page) {
    let at = page.path.display();
    let desk = Desk::new();
    let folder = root().join(page.path.parent().unwrap());
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let is_page = entry.path().extension().is_some_and(|extension| extension == "md");
        if entry.path().is_file() && !is_page {
            write(&desk.path(entry.file_name().to_str().unwrap()), fs::read(entry.path()).unwrap());
        }
    }
    for block in &page.blocks {
        if let Some(name) = block.file() {
            write(&desk.path(name), &block.text);
        }
        for words in block.commands().iter().filter(|_| block.is_run()) {
            if TRAINING.iter().copied().eq(words.iter().map(String::as_str)) && !desk.path("RUN").exists() {
                support::copy(&TRAINED.path("RUN"), &desk.path("RUN"));
                continue;
            }
            let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            let said: support::Said = desk.command(&words[0], &arguments).output().unwrap().into();
            assert_eq!(said.code, 0, "{at}: {words:?}\n{}{}", said.stdout, said.stderr);
            assert!(!said.stdout.is_empty(), "{at}: {words:?} says nothing");
        }
    }
    facts::keys_are_told(&desk, |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap());
}
