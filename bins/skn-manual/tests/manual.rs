//! Every program has completions and a man page that renders, and the committed reference is the one of today's flags.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use skn_manual::{SHELLS, man_page, programs, reference, write_manual};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The programs that are built, by the files that Cargo makes them of.
fn built() -> BTreeSet<String> {
    let folder = fs::read_dir(workspace().join("bins/skn/src/bin")).unwrap();
    let name = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
    folder.map(|entry| name(entry.unwrap())).chain(["skn-fetch".to_owned()]).collect()
}

#[test]
fn no_program_is_left_out() {
    let known: Vec<String> = programs().iter().map(|program| program.get_name().to_owned()).collect();
    assert_eq!(known.iter().cloned().collect::<BTreeSet<_>>(), built());
    assert_eq!(known.len(), built().len());
}

#[test]
fn each_program_has_a_completion_for_each_shell_and_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let written = write_manual(folder.path()).unwrap();
    assert_eq!(written.len(), built().len() * (SHELLS.len() + 1));
    for name in built() {
        for file in
            [format!("{name}.bash"), format!("_{name}"), format!("{name}.fish"), format!("_{name}.ps1")]
        {
            let text = fs::read_to_string(folder.path().join("completions").join(&file)).unwrap();
            assert!(text.contains(&name) && text.contains("verbose"), "{file}");
        }
        assert!(folder.path().join("man").join(format!("{name}.1")).is_file(), "{name}");
    }
    // A flag, an alias of the published programs, a value, and that a path is completed as one.
    let bash = fs::read_to_string(folder.path().join("completions/skn-train.bash")).unwrap();
    for word in ["--learning_rate", "--load_backbone", "RobertaAdapter", "compgen -f"] {
        assert!(bash.contains(word), "{word}");
    }
}

/// Bash knows what is wrong with a script; nothing else does.
#[test]
fn bash_completes_flags_and_values() {
    let folder = tempfile::tempdir().unwrap();
    write_manual(folder.path()).unwrap();
    let script = folder.path().join("completions/skn-probe.bash");
    let ask = |words: &str| {
        let asked = format!(
            "source '{}' && COMP_WORDS=(skn-probe {words}) && COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
             $(complete -p skn-probe | grep -o -- '-F [^ ]*' | cut -c 4-) skn-probe \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\" && \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let Ok(said) = Command::new("bash").args(["-c", &asked]).output() else { return None };
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Some(String::from_utf8(said.stdout).unwrap())
    };
    let Some(flags) = ask("--probe") else {
        println!("bash is missing: skipped");
        return;
    };
    assert!(flags.lines().any(|line| line == "--probe_type"), "{flags}");
    assert_eq!(ask("--progress lo").unwrap(), "log\n");
}

/// Rendered as a reader sees it; groff's warnings are about the page.
#[test]
fn man_pages_render() {
    let folder = tempfile::tempdir().unwrap();
    for program in programs() {
        let name = program.get_name();
        let path = folder.path().join(format!("{name}.1"));
        fs::write(&path, man_page(&program).unwrap()).unwrap();
        let page = path.to_str().unwrap();
        let renderers = [("mandoc", vec!["-Tutf8", page]), ("groff", vec!["-man", "-Tutf8", "-ww", page])];
        let said =
            renderers.iter().find_map(|(renderer, words)| Command::new(renderer).args(words).output().ok());
        let Some(said) = said else {
            println!("neither mandoc nor groff is here: skipped");
            return;
        };
        assert!(said.status.success(), "{name}");
        assert_eq!(String::from_utf8_lossy(&said.stderr), "", "{name}");
        let seen = plain(&String::from_utf8(said.stdout).unwrap());
        let usage = if name == "skn-tasks" { "skn-tasks [OPTIONS]" } else { name };
        for part in
            [usage, "NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO", "--verbose"]
        {
            assert!(seen.contains(part), "{name}: {part} in\n{seen}");
        }
    }
}

/// A rendered page without the marks of bold and underlined letters.
fn plain(page: &str) -> String {
    let mut text = String::new();
    let mut letters = page.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{8}' => drop(text.pop()),
            '\u{1b}' => drop(letters.by_ref().find(|letter| *letter == 'm')),
            letter => text.push(letter),
        }
    }
    text.replace(['\u{2010}', '\u{2212}'], "-")
}

#[test]
fn the_committed_reference_is_that_of_the_flags() {
    let path = workspace().join("docs/reference/programs.md");
    let made = reference();
    if std::env::var_os("SKN_UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &made).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differing = || {
        let pairs = committed.lines().zip(made.lines()).enumerate();
        let found = pairs
            .filter(|(_, (old, new))| old != new)
            .map(|(line, (old, new))| format!("line {}: committed `{old}`, of the flags `{new}`", line + 1));
        found.take(3).collect::<Vec<_>>().join("\n")
    };
    assert!(
        committed == made,
        "docs/reference/programs.md: not what the flags are; SKN_UPDATE=1 cargo test -p skn-manual writes it anew\n{}",
        differing()
    );
}

#[test]
fn the_reference_names_every_flag_of_every_program() {
    let page = reference();
    for program in programs() {
        let name = program.get_name();
        let section = page.split(&format!("\n## {name}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        let shared =
            page.split("\n## Flags of every program\n").nth(1).unwrap().split("\n## ").next().unwrap();
        for flag in program.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let Some(long) = flag.get_long() else { continue };
            let long = format!("`--{long}`");
            assert!(section.contains(&long) || shared.contains(&long), "{name}: {long}");
        }
    }
}
