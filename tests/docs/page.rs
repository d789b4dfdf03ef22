//! The Markdown pages of the repository, taken apart: blocks, headings, links, code in lines; and command lines in them.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::fs;
use std::path::{Path, PathBuf};

/// A page.
pub struct Page {
    /// Its path in the repository.
    pub path: PathBuf,
    /// What stands between fences, in order.
    pub blocks: Vec<Block>,
    /// The names by which headings are linked to.
    pub anchors: Vec<String>,
    /// Where links and pictures lead.
    pub links: Vec<String>,
    /// Code within lines.
    pub codes: Vec<String>,
}

/// What stands between fences.
pub struct Block {
    /// The word behind the opening fence, and those behind it: `sh run`.
    pub info: String,
    /// Its lines.
    pub text: String,
}

impl Block {
    /// The language.
    pub fn language(&self) -> &str {
        self.info.split_whitespace().next().unwrap_or("")
    }

    /// Whether its commands are run.
    pub fn is_run(&self) -> bool {
        self.info.split_whitespace().any(|word| word == "run")
    }

    /// The file that it is written to.
    pub fn file(&self) -> Option<&str> {
        self.info.split_whitespace().find_map(|word| word.strip_prefix("file="))
    }

    /// The command lines of a shell, each in words.
    pub fn commands(&self) -> Vec<Vec<String>> {
        let prompted = match self.language() {
            "sh" => false,
            "console" => true,
            _ => return Vec::new(),
        };
        let mut lines: Vec<String> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            let command = match line.strip_prefix("$ ").or_else(|| line.strip_prefix("> ")) {
                Some(command) if prompted => command,
                None if prompted && !goes_on => continue,
                _ => line,
            };
            let body = command.trim_end().strip_suffix('\\');
            let part = body.unwrap_or(command);
            match lines.last_mut() {
                Some(last) if goes_on => last.push_str(&format!(" {part}")),
                _ => lines.push(part.to_owned()),
            }
            goes_on = body.is_some();
        }
        lines.iter().flat_map(|line| commands(line)).collect()
    }
}

/// Where the repository lies.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page of the repository.
pub fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    let tops = ["benches", "bins", "crates", "data", "docs", "fuzz", "tests"];
    tops.iter().for_each(|top| walk(Path::new(top), &mut paths));
    let names = fs::read_dir(root()).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
    paths.extend(names.filter(|name| is_page(name)));
    paths.sort();
    paths.into_iter().map(Page::read).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let path = folder.join(entry.unwrap().file_name());
        if root().join(&path).is_dir() && !path.ends_with("target") {
            walk(&path, found);
        } else if is_page(&path) {
            found.push(path);
        }
    }
}

impl Page {
    /// Reads a page.
    pub fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        Self::of(path, &text)
    }

    /// Takes its text apart.
    pub fn of(path: PathBuf, text: &str) -> Self {
        let (mut blocks, mut anchors, mut prose) = (Vec::new(), Vec::<String>::new(), String::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                let indent = line.len() - line.trim_start().len();
                let inside = lines.by_ref().take_while(|line| line.trim() != "```");
                let text = inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or(""))).collect();
                blocks.push(Block { info: info.to_owned(), text });
                prose.push('\n');
                continue;
            }
            if let Some(heading) = line.strip_prefix('#') {
                let name = anchor(heading.trim_start_matches('#'));
                let again = anchors.iter().filter(|known| **known == name).count();
                anchors.push(if again == 0 { name } else { format!("{name}-{again}") });
            }
            prose.push_str(line);
            prose.push('\n');
        }
        let (codes, rest) = codes(&prose);
        let links = rest.split("](").skip(1).filter_map(|part| part.split_once(')'));
        let links = links.map(|(link, _)| link.to_owned()).collect();
        Self { path, blocks, anchors, links, codes }
    }
}

/// How GitHub names a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Code between backticks of each paragraph, and the text without it.
fn codes(prose: &str) -> (Vec<String>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    for paragraph in prose.split("\n\n") {
        for (place, part) in paragraph.split('`').enumerate() {
            match place % 2 {
                0 => rest.push_str(part),
                _ => found.push(part.replace('\n', " ")),
            }
        }
        rest.push('\n');
    }
    (found, rest)
}

/// The commands of a line of shell: what `&&`, `;`, `|`, `&` part, without comments, assignments, `do`, `cargo run` and what
/// starts them in many places (xargs, parallel, srun). What sbatch wraps is a line of its own.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let mut found = vec![Vec::new()];
    for word in words(line) {
        match word.as_str() {
            "&&" | ";" | "|" | "&" => found.push(Vec::new()),
            _ => found.last_mut().unwrap().push(word),
        }
    }
    let wrapped = |words: &[String]| {
        let place = words.iter().position(|word| word == "--wrap");
        let line = place.and_then(|place| words.get(place + 1));
        // The end of a `$(..)` around it is no part of it.
        line.map_or_else(Vec::new, |line| commands(line.trim_end_matches(')')))
    };
    let found = found.into_iter().flat_map(|words| [wrapped(&words), vec![plain(&words)]].concat());
    found.filter(|words| !words.is_empty()).collect()
}

fn plain(words: &[String]) -> Vec<String> {
    let is_before =
        |word: &&String| *word == "do" || word.split_once('=').is_some_and(|(name, _)| is_name(name));
    let words: Vec<String> = words.iter().skip_while(is_before).cloned().collect();
    let starts = words.first().is_some_and(|word| ["xargs", "parallel", "srun"].contains(&word.as_str()));
    if let (true, Some(place)) = (starts, words.iter().position(|word| word.starts_with("skn-"))) {
        // Their `{}` is a number here, and what follows `:::` is what it stands for.
        let own = words[place..].iter().take_while(|word| *word != ":::");
        return own.map(|word| word.replace("{}", "1")).collect();
    }
    match words.iter().position(|word| word == "--bin") {
        Some(place) if words[0] == "cargo" && words[1] == "run" => {
            let rest = words[place + 1..].iter().enumerate();
            rest.filter(|(place, word)| *place != 1 || *word != "--").map(|(_, word)| word.clone()).collect()
        }
        _ => words,
    }
}

fn is_name(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The words of a line of shell. A variable is 1; all arguments, `"$@"`, are none.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match (c, quote) {
            (_, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#', None) if word.is_none() => break,
            ('$', Some('"')) if word.as_deref() == Some("") && rest.peek() == Some(&'@') => {
                rest.nth(1);
                (word, quote) = (None, None);
            }
            ('$', None | Some('"')) => {
                while rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_').is_some() {}
                word.get_or_insert_default().push('1');
            }
            (';', None) => {
                words.extend(word.take());
                words.push(";".to_owned());
            }
            (' ' | '\t', None) => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let text = "# A `b` c, d\n[x](y.md#z) and `skn-run\n--force`\n\n```sh run\na \\\n  --b 'c d' # e\n```\n## A b c d\n";
        let page = Page::of("p.md".into(), text);
        assert_eq!(page.anchors, ["a-b-c-d", "a-b-c-d-1"]);
        assert_eq!(
            (page.links, page.codes),
            (vec!["y.md#z".to_owned()], vec!["b".to_owned(), "skn-run --force".to_owned()])
        );
        assert!(page.blocks[0].is_run());
        assert_eq!(page.blocks[0].commands(), [["a", "--b", "c d"]]);
    }

    #[test]
    fn a_line_of_shell_is_taken_apart() {
        let line = "A=1 cargo run --release --bin skn-run -- --shard $I/8 -- x && skn-tasks; echo \"a | b\"";
        let expected: [&[&str]; 3] =
            [&["skn-run", "--shard", "1/8", "--", "x"], &["skn-tasks"], &["echo", "a | b"]];
        assert_eq!(commands(line), expected);
        let line = "seq 8 | xargs -P 4 -I{} skn-probe --shard {}/8 & parallel -j 2 skn-run {} x ::: 1 2; srun -n 4 skn-run \"$@\" y";
        let expected: [&[&str]; 4] =
            [&["seq", "8"], &["skn-probe", "--shard", "1/8"], &["skn-run", "1", "x"], &["skn-run", "y"]];
        assert_eq!(commands(line), expected);
        let line = "id=$(sbatch --wrap 'skn-merge --out a && skn-verify a')";
        assert_eq!(commands(line)[..2], [vec!["skn-merge", "--out", "a"], vec!["skn-verify", "a"]]);
        let block = Block { info: "console".into(), text: "$ a \\\n    b\nsaid\n$ c\n".into() };
        assert_eq!(block.commands(), [vec!["a", "b"], vec!["c"]]);
    }
}
