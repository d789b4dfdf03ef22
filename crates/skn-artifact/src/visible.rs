//! Text of files, of the network and of command lines, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// A text with its control characters spelled out, so that none can move a terminal's cursor, set its title or turn the
/// direction of what stands beside: `\u{1b}`. Line breaks and tabs stay.
///
/// ```
/// use skn_artifact::visible;
///
/// assert_eq!(visible("weights\u{1b}[2J"), "weights\\u{1b}[2J");
/// assert_eq!(visible("naïve\ttext\n"), "naïve\ttext\n");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |out, letter| write!(out, "\\u{{{:x}}}", u32::from(letter)))
}

/// The same for JSON, whose strings stay the same strings: `\u009b`.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    escaped(json, |out, letter| write!(out, "\\u{:04x}", u32::from(letter)))
}

/// Whether a character says a terminal, or who lays out text, what to do: control characters but for line break and tab, and
/// what overrides the direction of text.
fn is_order(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        letter => letter.is_control(),
    }
}

fn escaped(text: &str, spell: impl Fn(&mut String, char) -> std::fmt::Result) -> Cow<'_, str> {
    if !text.chars().any(is_order) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_order(letter) {
            // Writing to a string does not fail.
            true => spell(&mut out, letter).unwrap_or_default(),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_spelled_and_letters_stay() {
        let orders = "\u{1b}]0;title\u{7}\r\u{9b}31m\u{202e}\u{2066}\u{7f}\0";
        assert_eq!(visible(orders), "\\u{1b}]0;title\\u{7}\\u{d}\\u{9b}31m\\u{202e}\\u{2066}\\u{7f}\\u{0}");
        for text in ["", "é 日本語 🙂\u{200d} مرحبا\u{200f}", "a\tb\n"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn json_says_the_same() {
        let value = serde_json::json!({"text": "\u{9b}2J \u{202e}x\u{1b}"});
        let json = serde_json::to_string_pretty(&value).unwrap();
        let shown = visible_json(&json);
        assert!(shown.contains("\\u009b2J \\u202ex\\u001b"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
