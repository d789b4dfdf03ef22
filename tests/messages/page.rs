//! A page of messages: what a user typed, and word for word what the program said of it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Write the pages anew instead of comparing them: SKN_UPDATE=1 cargo test --test suite messages
const UPDATE: &str = "SKN_UPDATE";

/// What no message for people has in it.
const FOREIGN: [&str; 10] =
    ["::", "Some(", "None", "Err(", "Error {", "Error(", "option `", "panicked", "RUST_BACKTRACE", "src/"];

/// Messages of one kind. They are compared with `pages/NAME.txt` when it is finished.
pub struct Page {
    file: PathBuf,
    text: String,
    /// Words that are different each time, and what stands for them.
    varying: Vec<(String, &'static str)>,
    /// The flags of each program, by its help.
    flags: BTreeMap<String, BTreeSet<String>>,
    messages: usize,
    wrong: Vec<String>,
}

impl Page {
    /// An empty page about something, of a user who works in `folder`.
    pub fn new(name: &str, about: &str, folder: &Path) -> Self {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/messages/pages");
        let mut varying = Vec::new();
        for path in [fs::canonicalize(folder).unwrap(), folder.to_path_buf()] {
            varying.push((path.display().to_string(), "$HOME"));
        }
        Self {
            file: pages.join(name).with_extension("txt"),
            text: format!("{about}\n"),
            varying,
            flags: BTreeMap::new(),
            messages: 0,
            wrong: Vec::new(),
        }
    }

    /// Something that is different each time is shown as `shown`.
    pub fn varies(&mut self, word: impl Into<String>, shown: &'static str) {
        self.varying.push((word.into(), shown));
    }

    /// Adds what a program said of a wrong command line. `help` is what a program prints for `--help`.
    pub fn add(
        &mut self,
        what: &str,
        line: &str,
        (code, stdout, stderr): (i32, &str, &str),
        help: impl Fn(&str) -> String,
    ) {
        let mut said: String = stderr.lines().filter(|line| !line.starts_with(" INFO ")).fold(
            String::new(),
            |mut said, line| {
                said += line;
                said.push('\n');
                said
            },
        );
        for (word, shown) in &self.varying {
            said = said.replace(word, shown);
        }
        let said = without_numbers(&said);
        let program = line.split_whitespace().find(|word| word.starts_with("skn-")).unwrap().to_owned();
        let flags = self.flags.entry(program.clone()).or_insert_with(|| flags_in(&help(&program)));
        let mut complain = |wrong: String| self.wrong.push(format!("$ {line}\n{said}{wrong}\n"));
        if !(1..=6).contains(&code) || !stdout.is_empty() {
            complain(format!(
                "expected an exit code of 1 to 6 and nothing on stdout, found {code}, {stdout:?}"
            ));
        }
        if !said.contains(" error: ") && !said.starts_with("error: ") {
            complain("expected it to say error".into());
        }
        for foreign in FOREIGN.iter().filter(|foreign| said.contains(**foreign)) {
            complain(format!("no word for users: {foreign:?}"));
        }
        // What stands between backticks is a command of another program; clap's tips know aliases that no help shows.
        let no_tips: Vec<&str> = said.lines().filter(|line| !line.starts_with("  tip: ")).collect();
        let own: String = no_tips.join("\n").split('`').step_by(2).collect();
        for flag in flags_in(&own).difference(flags).filter(|flag| !line.contains(flag.as_str())) {
            complain(format!("{program} has no flag {flag}"));
        }
        self.messages += 1;
        self.text += &format!("\n# {what}\n$ {line}\n{said}-> {code}\n");
    }

    /// Compares the page with the one that is kept, or writes it; how many messages it has.
    pub fn finish(self) -> usize {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        if std::env::var_os(UPDATE).is_some() {
            fs::create_dir_all(self.file.parent().unwrap()).unwrap();
            fs::write(&self.file, &self.text).unwrap();
        }
        let kept = fs::read_to_string(&self.file).unwrap_or_default();
        let differing = kept.lines().zip(self.text.lines()).find(|(kept, now)| kept != now);
        assert!(
            kept == self.text,
            "{}: messages are others than the page has; read the new ones, and where they are better: {UPDATE}=1\n{differing:?}",
            self.file.display()
        );
        self.messages
    }
}

/// The flags in a text, `_` for `-` within: programs take either.
fn flags_in(text: &str) -> BTreeSet<String> {
    let is_of_flag = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let words = text.split(|letter: char| !is_of_flag(letter));
    let flags = words.filter(|word| word.len() > 3 && word.starts_with("--") && !word[2..].starts_with('-'));
    flags.map(|flag| format!("--{}", flag[2..].replace('-', "_"))).collect()
}

/// The same with hashes, process numbers and what memory there is left out.
fn without_numbers(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let mut shown: Vec<String> = Vec::new();
        for (place, word) in words.iter().enumerate() {
            let bare = word.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
            let is_hash = bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
            let before = place.checked_sub(1).map(|before| words[before].trim_start_matches('('));
            let is_process = before == Some("process") && bare.bytes().all(|byte| byte.is_ascii_digit());
            let after = words[place + 1..].join(" ");
            let is_free = after.starts_with("GiB are available");
            shown.push(match () {
                () if bare.is_empty() => (*word).to_owned(),
                () if is_hash => word.replace(bare, "HASH"),
                () if is_process || is_free => word.replace(bare, "N"),
                () => (*word).to_owned(),
            });
        }
        lines.push(shown.join(" "));
    }
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}
