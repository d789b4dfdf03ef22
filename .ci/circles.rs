//! No two files of a crate import each other in a circle (ARCHITECTURE.md, "Edges").
//!
//! Reads the `crate::`, `super::` and `self::` paths of every file below `src`, tests and comments left out, follows `pub use`
//! to where an item stands, and prints every circle. `.ci/circles` compiles it with rustc alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A path of names, from the crate's root.
type Names = Vec<String>;

fn main() -> ExitCode {
    let mut failed = false;
    for folder in std::env::args().skip(1) {
        let src = Path::new(&folder).join("src");
        let files: BTreeMap<Names, Source> =
            rust_files(&src).into_iter().map(|file| read(&src, &file)).collect();
        for circle in circles(&edges(&files)) {
            failed = true;
            let names: Vec<String> =
                circle.iter().map(|module| files[module].file.display().to_string()).collect();
            println!("circle of imports: {}", names.join(", "));
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A file: what it names, and what it hands on under another name.
#[derive(Default)]
struct Source {
    file: PathBuf,
    named: Vec<Names>,
    handed_on: BTreeMap<String, Names>,
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path).into_iter().filter(|_| entry.file_name() != "bin"));
        } else if path.extension().is_some_and(|ending| ending == "rs") && entry.file_name() != "tests.rs" {
            found.push(path);
        }
    }
    found
}

fn read(src: &Path, file: &Path) -> (Names, Source) {
    let inner = file.strip_prefix(src).unwrap_or(file).with_extension("");
    let mut module: Names = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("lib" | "main" | "mod")) {
        module.pop();
    }
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let source = Source { file: file.into(), ..parse(&module, &text) };
    (module, source)
}

fn parse(module: &[String], text: &str) -> Source {
    let text = without_tests_and_comments(text);
    let tokens = tokens(&text);
    // A child's items are named by its module too.
    let children =
        tokens.windows(3).filter(|three| three[0] == "mod" && three[2] == ";").map(|three| three[1]);
    let begins: BTreeSet<&str> = children.chain(["crate", "super", "self"]).collect();
    let mut source = Source::default();
    let mut place = 0;
    while place < tokens.len() {
        let within = place >= 1 && tokens[place - 1] == "::";
        let public = place >= 1 && (tokens[place - 1] == "pub" || tokens[place - 1] == ")");
        if tokens[place] == "use" {
            let mut paths = Vec::new();
            place = tree(&tokens, place + 1, &mut Vec::new(), &mut paths);
            for path in paths {
                let Some(full) = from_root(module, &path) else { continue };
                match full.split_last() {
                    Some((last, _)) if public && last != "*" => {
                        drop(source.handed_on.insert(last.clone(), full.clone()))
                    }
                    _ => source.named.push(full),
                }
            }
        } else if begins.contains(tokens[place]) && tokens.get(place + 1) == Some(&"::") && !within {
            let mut paths = Vec::new();
            place = tree(&tokens, place, &mut Vec::new(), &mut paths);
            source.named.extend(paths.iter().filter_map(|path| from_root(module, path)));
        } else {
            place += 1;
        }
    }
    source
}

/// Unit tests stand at the end of a file, behind `#[cfg(test)]` and `mod`.
fn without_tests_and_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let of_tests = line.trim_start().starts_with("#[cfg(") && line.contains("test");
        if of_tests && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{')) {
            break;
        }
        kept += line.split("//").next().unwrap_or_default();
        kept.push('\n');
    }
    kept
}

fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            word => word,
        };
        if !first.is_whitespace() {
            found.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    found
}

/// The paths of a use tree (or of one path in an expression) that begins at a token, and the token behind it.
fn tree(tokens: &[&str], mut place: usize, stem: &mut Names, paths: &mut Vec<Names>) -> usize {
    let depth = stem.len();
    loop {
        match tokens.get(place) {
            Some(&"{") => {
                place += 1;
                while tokens.get(place).is_some_and(|token| *token != "}") {
                    place = tree(tokens, place, stem, paths);
                    place += usize::from(tokens.get(place) == Some(&","));
                }
                stem.truncate(depth);
                return place + 1;
            }
            Some(name) if *name == "*" || name.chars().all(|c| c.is_alphanumeric() || c == '_') => {
                stem.push((*name).to_owned());
                place += 1;
            }
            _ => break,
        }
        if tokens.get(place) == Some(&"::") {
            place += 1;
        } else {
            break;
        }
    }
    paths.push(stem.clone());
    stem.truncate(depth);
    if tokens.get(place) == Some(&"as") { place + 2 } else { place.max(1) }
}

/// A path from the crate's root; nothing if it is of another crate.
fn from_root(module: &[String], path: &[String]) -> Option<Names> {
    let mut base = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => (base, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        // A child module's path, as `use child::Item` has it; what is no file of the crate is dropped later.
        _ => {}
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Which file imports which.
fn edges(files: &BTreeMap<Names, Source>) -> BTreeMap<Names, BTreeSet<Names>> {
    let mut edges = BTreeMap::new();
    for (module, source) in files {
        let targets = source.named.iter().filter_map(|path| target(files, path, 0));
        // The root lists its modules, and a child of a path that is no file is an item of its own file.
        edges.insert(module.clone(), targets.filter(|target| target != module).collect());
    }
    edges
}

/// The file that an item stands in.
fn target(files: &BTreeMap<Names, Source>, path: &[String], depth: usize) -> Option<Names> {
    let module =
        (0..=path.len()).rev().map(|length| &path[..length]).find(|module| files.contains_key(*module))?;
    let Some(item) = path.get(module.len()) else { return Some(module.to_vec()) };
    if depth > 8 {
        return Some(module.to_vec());
    }
    if let Some(elsewhere) = files[module].handed_on.get(item) {
        return target(files, elsewhere, depth + 1);
    }
    // The root has no items that its modules import but those it hands on.
    Some(module.to_vec()).filter(|module| !module.is_empty() || path.len() > module.len())
}

/// The strongly connected parts with more than one file (each is what all its files reach and are reached from).
fn circles(edges: &BTreeMap<Names, BTreeSet<Names>>) -> Vec<BTreeSet<Names>> {
    let reached = |from: &Names| {
        let mut seen = BTreeSet::new();
        let mut next: Vec<&Names> = edges[from].iter().collect();
        while let Some(module) = next.pop() {
            if seen.insert(module.clone()) {
                next.extend(&edges[module]);
            }
        }
        seen
    };
    let reach: BTreeMap<&Names, BTreeSet<Names>> =
        edges.keys().map(|module| (module, reached(module))).collect();
    let mut found: Vec<BTreeSet<Names>> = Vec::new();
    for (module, ahead) in &reach {
        let circle: BTreeSet<Names> =
            ahead.iter().filter(|other| reach[other].contains(*module)).cloned().collect();
        if circle.len() > 1 && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)]) -> Vec<String> {
        let of = |name: &str| -> Names {
            name.split("::").filter(|part| !part.is_empty()).map(String::from).collect()
        };
        let files = files.iter().map(|(name, text)| (of(name), parse(&of(name), text))).collect();
        let join = |circle: &BTreeSet<Names>| {
            circle.iter().map(|name| name.join("::")).collect::<Vec<_>>().join(" ")
        };
        circles(&edges(&files)).iter().map(join).collect()
    }

    #[test]
    fn circles_are_found_through_groups_and_what_is_handed_on() {
        let root = ("", "mod a; mod b; mod c; pub use crate::b::{B, Other};");
        assert!(
            check(&[root, ("a", "use crate::{b::{B, Other}, c::C};"), ("b", ""), ("c", "use crate::b::B;")])
                .is_empty()
        );
        assert_eq!(
            check(&[
                root,
                ("a", "use crate::B;"),
                ("b", "fn f(_: crate::c::C) {}"),
                ("c", "use super::a::A;")
            ]),
            ["a b c"]
        );
        assert_eq!(
            check(&[root, ("a", "use crate::b::B as X;"), ("b", "use crate::a::A;"), ("c", "")]),
            ["a b"]
        );
    }

    #[test]
    fn tests_comments_and_other_crates_are_left_out() {
        let tests = "// use crate::a::A;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n";
        assert!(check(&[("", ""), ("a", "use crate::b::B;\nuse std::b::B;"), ("b", tests)]).is_empty());
    }

    #[test]
    fn a_parent_and_its_child_can_be_a_circle() {
        assert_eq!(check(&[("", ""), ("a", "mod b; use b::B;"), ("a::b", "use super::A;")]), ["a a::b"]);
        assert_eq!(
            check(&[("", ""), ("a", "mod b; fn f() { b::g() }"), ("a::b", "use super::A;")]),
            ["a a::b"]
        );
        assert!(
            check(&[("", ""), ("a", "mod b; pub use b::B;"), ("a::b", ""), ("c", "use crate::a::B;")])
                .is_empty()
        );
    }
}
