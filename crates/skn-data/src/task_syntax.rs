//! What is said of a text that is no task: TOML that breaks off, unknown keys, values of another type.

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use crate::error::DataError;

/// The error of a task file whose text TOML, or the form of a task, does not take. It names the line, and the key where a value is of
/// another type than the key's.
pub(crate) fn syntax_error(text: &str, file: &str, error: &toml::de::Error) -> DataError {
    let start = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    let message = error.message().replace("missing field", "no field");
    let written = text.lines().nth(line).unwrap_or_default();
    let key =
        written.split_once('=').map(|(key, _)| key.trim()).filter(|_| message.starts_with("invalid type"));
    let place = match key {
        Some(key) if is_key(key) => format!("line {}, {key}", line.saturating_add(1)),
        _ => format!("line {}", line.saturating_add(1)),
    };
    let (expected, hint) = match table(text, line) {
        // A key that was put at the end of the file is one of the table that stands last there.
        Some("label_map") if key.is_some() => ("the number of a class, as [label_map] has", KEYS_FIRST),
        Some("splits") if message.starts_with("unknown field") => ("a task", KEYS_FIRST),
        _ => ("a task", ""),
    };
    DataError::TaskFile {
        file: file.to_owned(),
        field: place,
        expected: expected.to_owned(),
        found: message + hint,
    }
}

const KEYS_FIRST: &str = "; keys of the task itself stand above the first [table] of the file";

/// Whether it is the name of a key, and not the inside of a text or of a list.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter))
}

/// The table that a line, counted from 0, stands in; none of the task itself.
fn table(text: &str, line: usize) -> Option<&str> {
    let names = text.lines().take(line).filter_map(|line| line.trim().strip_prefix('[')?.strip_suffix(']'));
    names.last()
}

#[cfg(test)]
mod tests {
    use crate::task::Task;

    const TASK: &str = "name = \"t\"\ntext = [\"a\"]\nlabels = [\"bad\", \"good\"]\n";

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let error = Task::from_toml(text, "t.toml").unwrap_err().to_string();
        assert_eq!(error, format!("t.toml: {expected}"));
    }

    #[test]
    fn a_value_of_another_type_is_named_by_its_key() {
        let text = TASK.replace("[\"bad\", \"good\"]", "7");
        refused(
            &text,
            "line 3, labels: expected a task, found invalid type: integer `7`, expected a sequence",
        );
    }

    #[test]
    fn a_key_below_a_table_is_told_where_it_belongs() {
        let map = format!("{TASK}[label_map]\ndown = 0\nup = 1\n\ndelimiter = \";\"\n");
        let first = "keys of the task itself stand above the first [table] of the file";
        refused(
            &map,
            &format!(
                "line 8, delimiter: expected the number of a class, as [label_map] has, found invalid type: string \";\", \
                 expected usize; {first}"
            ),
        );
        let splits = format!("{TASK}[splits]\ntrain = \"train\"\nmetric = \"f1\"\n");
        refused(
            &splits,
            &format!(
                "line 6: expected a task, found unknown field `metric`, expected one of `train`, `dev`, `test`; {first}"
            ),
        );
    }
}
