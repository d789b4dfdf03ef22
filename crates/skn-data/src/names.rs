//! What the classes of a task are called in data.

use crate::task::Task;

/// Names that differ in case, or in how they separate words, are the same: `Not Entailment` is `not_entailment`. What has no
/// letter has no words: `-1` is not `1`.
pub(crate) fn folded(name: &str) -> String {
    if !name.chars().any(char::is_alphabetic) {
        return name.trim().to_owned();
    }
    let letters = name.trim().chars().filter(|letter| !matches!(letter, ' ' | '_' | '-'));
    letters.flat_map(char::to_lowercase).collect()
}

impl Task {
    /// The class that a label in words means: by the names of the task file, else by the words that answer. A spelling wins that
    /// is the same, else one that differs in case or separators alone, if no other class has such a one.
    pub(crate) fn class_named(&self, label: &str) -> Option<usize> {
        self.class_of_name(label).or_else(|| class_of(label, &self.labels, |word, same| same(word)))
    }

    /// The class that has a name, as the task file spells names.
    pub(crate) fn class_of_name(&self, name: &str) -> Option<usize> {
        class_of(name, &self.names, |of, same| of.iter().any(|other| same(other)))
    }

    /// The class whose name, or without names whose word, is a number: stars from 1 to 5, say.
    pub(crate) fn class_of_number(&self, number: i64) -> Option<usize> {
        let number = number.to_string();
        match self.names.is_empty() {
            true => only(&self.labels, |word| word.trim() == number),
            false => only(&self.names, |of| of.iter().any(|name| name.trim() == number)),
        }
    }

    /// Whether numbers in data are names, or without names words, of the task file, and not the places of classes.
    pub(crate) fn names_are_numbers(&self) -> bool {
        let is_number = |name: &String| name.trim().parse::<i64>().is_ok();
        match self.names.is_empty() {
            true => self.labels.iter().any(is_number),
            false => self.names.iter().flatten().any(is_number),
        }
    }

    /// The names of the classes for an error: those that the task gives, else the words that answer.
    pub(crate) fn shown_names(&self) -> String {
        let names: Vec<String> = match self.names.is_empty() {
            true => self.labels.iter().map(|word| word.trim().to_owned()).collect(),
            false => self.names.iter().map(|of| of.join(" or ")).collect(),
        };
        names.join(", ")
    }
}

/// The class with a name, where `has` says whether a class has one that is the same.
fn class_of<T>(name: &str, classes: &[T], has: impl Fn(&T, &dyn Fn(&str) -> bool) -> bool) -> Option<usize> {
    let (name, wanted) = (name.trim(), folded(name));
    let exactly = |other: &str| other.trim() == name;
    let alike = |other: &str| !wanted.is_empty() && folded(other) == wanted;
    only(classes, |class| has(class, &exactly)).or_else(|| only(classes, |class| has(class, &alike)))
}

/// The place of the only one that fits.
fn only<T>(all: &[T], fits: impl Fn(&T) -> bool) -> Option<usize> {
    let mut places = all.iter().enumerate().filter(|(_, one)| fits(one)).map(|(place, _)| place);
    places.next().filter(|_| places.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_go_by_names_then_by_words() {
        let qnli = Task::builtin("qnli").unwrap();
        for (name, class) in [
            ("entailment", Some(0)),
            ("not_entailment", Some(1)),
            ("Not Entailment", Some(1)),
            ("positive", Some(0)),
            (" NEGATIVE ", Some(1)),
            ("neutral", None),
            ("", None),
        ] {
            assert_eq!(qnli.class_named(name), class, "{name:?}");
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_are_told_apart() {
        let text = "name = \"t\"\ntext = [\"a\"]\nlabels = [\"x\", \"y\"]\nnames = [\"ab\", \"AB\"]\n[splits]\ntrain = \"train\"\n";
        let task = Task::from_toml(text, "t.toml").unwrap();
        assert_eq!(["ab", "AB", "Ab"].map(|name| task.class_named(name)), [Some(0), Some(1), None]);
    }

    #[test]
    fn several_spellings_of_numbers() {
        let text = "name = \"t\"\ntext = [\"a\"]\nlabels = [\"bad\", \"good\"]\nnames = [[\"1\", \"2\"], [\"4\", \"5\"]]\n[splits]\ntrain = \"train\"\n";
        let task = Task::from_toml(text, "t.toml").unwrap();
        assert_eq!(
            [1, 2, 3, 5].map(|number| task.class_of_number(number)),
            [Some(0), Some(0), None, Some(1)]
        );
        assert_eq!(task.shown_names(), "1 or 2, 4 or 5");
        let again: Task = serde_json::from_str(&serde_json::to_string(&task).unwrap()).unwrap();
        assert_eq!(again, task);
    }
}
