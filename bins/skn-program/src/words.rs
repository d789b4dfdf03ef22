//! Words of a command line, as they are typed.

use std::borrow::Cow;

/// A command line that a shell reads as these words: each with anything but plain letters in it stands in quotes.
pub fn typed_again<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./,:=@%+".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    // Nothing but the quote itself means something there.
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_words_again() {
        let words = [
            "skn-x",
            "--out",
            "my runs",
            "it's",
            "",
            "a$b",
            "--info_path",
            "r/0.1,r/0.2",
            "demo@v1",
            "~x",
            "gr\u{fc}n",
        ];
        let line = typed_again(words);
        assert_eq!(
            line,
            "skn-x --out 'my runs' 'it'\\''s' '' 'a$b' --info_path r/0.1,r/0.2 demo@v1 '~x' gr\u{fc}n"
        );
        let read = std::process::Command::new("sh")
            .args(["-c", &format!("printf '%s\\n' {line}")])
            .output()
            .unwrap();
        let read = String::from_utf8(read.stdout).unwrap();
        assert_eq!(read.lines().collect::<Vec<_>>(), words);
    }
}
