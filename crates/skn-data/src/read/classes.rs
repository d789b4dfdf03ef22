//! Which class a label is: names win over numbers wherever there are names.

use crate::dataset::UNLABELLED;
use crate::names::folded;
use crate::task::{OtherLabels, Task};

/// What a data set called its classes first, and which these are: other splits and files may number them otherwise.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    names: Vec<(String, i64)>,
    /// Whether data that name their classes number them otherwise than the task.
    reordered: bool,
    /// Whether there were numbers in data that name no classes.
    pub(crate) bare_numbers: bool,
}

impl Reference {
    fn class(&self, name: &str) -> Option<i64> {
        let wanted = folded(name);
        let exact = self.names.iter().find(|(other, _)| other == name);
        exact
            .or_else(|| self.names.iter().find(|(other, _)| folded(other) == wanted))
            .map(|(_, class)| *class)
    }

    /// Notes what more names mean.
    ///
    /// # Errors
    ///
    /// Says so if one meant something else before.
    fn note<'n>(&mut self, names: impl Iterator<Item = (&'n String, i64)>) -> Result<(), String> {
        for (name, class) in names {
            match self.class(name) {
                None => self.names.push((name.clone(), class)),
                Some(before) if before != class => {
                    return Err(format!(
                        "it numbers its class {name:?} {class}, but the data read before it number that {before}; label_map may \
                         speak of names"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn shown(&self) -> String {
        self.names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// What the labels of a file mean.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    /// The names of 0, 1, .. in this file; none if it says none.
    names: Vec<String>,
    /// The class of each of them.
    classes: Vec<i64>,
    /// Whether the task's map speaks of these names.
    map_means_names: bool,
    /// The names of classes in data that number them otherwise than the task, while this file has numbers without names: nobody
    /// can say which they are.
    other_order: Option<String>,
}

impl Classes {
    /// The meaning of labels in a file that calls 0, 1, .. by `names`. The second value is what should be told of it.
    ///
    /// # Errors
    ///
    /// What is wrong, in words, if the names can't be the task's classes.
    pub(crate) fn of(
        names: Vec<String>,
        task: &Task,
        reference: &mut Reference,
    ) -> Result<(Self, Option<String>), String> {
        if names.is_empty() {
            let other_order = reference.reordered.then(|| reference.shown());
            return Ok((Self { other_order, ..Self::default() }, None));
        }
        let twice =
            names.iter().enumerate().find(|(place, name)| names.iter().take(*place).any(|it| it == *name));
        if let Some((_, name)) = twice {
            return Err(format!("two of its classes are called {name:?}"));
        }
        if !task.label_map.is_empty() {
            let map_means_names = names.iter().any(|name| mapped_name(task, name).is_some());
            if !map_means_names {
                // It speaks of numbers, so these must mean the same everywhere.
                reference.note((0..).zip(&names).map(|(number, name)| (name, number)))?;
            }
            return Ok((Self { names, map_means_names, ..Self::default() }, None));
        }
        let (classes, note) = resolve(&names, task, reference)?;
        reference.note(names.iter().zip(classes.iter().copied()))?;
        if !classes.iter().copied().eq((0..).take(classes.len())) {
            if reference.bare_numbers {
                return Err(format!(
                    "its classes are {}, in another order than the task's, but data read before it have numbers without names",
                    names.join(", ")
                ));
            }
            reference.reordered = true;
        }
        Ok((Self { names, classes, ..Self::default() }, note))
    }

    /// The names of 0, 1, .., as the file calls them.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// What to expect of labels where numbers alone can't say it.
    pub(crate) fn other_order(&self) -> Option<&str> {
        self.other_order.as_deref()
    }

    /// The class of a number; nothing for a number that is none.
    pub(crate) fn of_number(&self, number: i64, task: &Task) -> Option<i64> {
        if !task.label_map.is_empty() {
            return self.mapped_number(number, task);
        }
        let place = || usize::try_from(number).ok();
        let class = match self.names.is_empty() {
            false => place().and_then(|place| self.classes.get(place).copied()),
            true if self.other_order.is_some() => None,
            true if task.names_are_numbers() => task.class_of_number(number).map(as_number),
            true => Some(number),
        };
        class.filter(|class| is_class(*class, task)).or_else(|| unlabelled(number))
    }

    /// The class of a word: a name of the file, one of the task, a number or a truth value as a text; nothing if it is none.
    /// An empty text is no label.
    pub(crate) fn of_text(&self, text: &str, task: &Task) -> Option<i64> {
        let text = text.trim();
        if text.is_empty() {
            return Some(UNLABELLED);
        }
        let number = || whole_number(text).or_else(|| truth(text).map(i64::from));
        if !task.label_map.is_empty() {
            let named = mapped_name(task, text);
            return named.or_else(|| self.mapped_number(number()?, task)).or_else(|| left_out(task));
        }
        if let Some(place) = self.names.iter().position(|name| name == text) {
            return self.classes.get(place).copied().filter(|class| is_class(*class, task));
        }
        task.class_named(text).map(as_number).or_else(|| self.of_number(number()?, task))
    }

    /// The class that the task's map gives a number, or a name by its number.
    fn mapped_number(&self, number: i64, task: &Task) -> Option<i64> {
        let mapped = match usize::try_from(number).ok().and_then(|place| self.names.get(place)) {
            Some(name) if self.map_means_names => mapped_name(task, name),
            // A number beyond the names has none.
            None if self.map_means_names => None,
            _ => task.label_map.get(&number.to_string()).copied().map(as_number),
        };
        mapped.or_else(|| unlabelled(number)).or_else(|| left_out(task))
    }

    /// The class of a truth value: as the task's map or names call it, else 1 for true.
    pub(crate) fn of_truth(&self, value: bool, task: &Task) -> Option<i64> {
        self.of_text(if value { "true" } else { "false" }, task)
    }
}

/// -1 says that there is no label, unless it is the name of a class.
fn unlabelled(number: i64) -> Option<i64> {
    (number == UNLABELLED).then_some(UNLABELLED)
}

fn is_class(class: i64, task: &Task) -> bool {
    usize::try_from(class).is_ok_and(|class| class < task.classes())
}

/// A class of a task as rows have it.
#[expect(clippy::cast_possible_wrap, reason = "it is the place of a word in a list, and no list is so long")]
fn as_number(class: usize) -> i64 {
    class as i64
}

/// The class of a key of the task's map: spelled so, or the only one that differs in case or separators alone.
fn mapped_name(task: &Task, name: &str) -> Option<i64> {
    if let Some(class) = task.label_map.get(name.trim()) {
        return Some(as_number(*class));
    }
    let wanted = folded(name);
    let mut alike = task.label_map.iter().filter(|(key, _)| folded(key) == wanted);
    alike.next().filter(|_| alike.next().is_none()).map(|(_, class)| as_number(*class))
}

fn left_out(task: &Task) -> Option<i64> {
    (task.other_labels == OtherLabels::Drop).then_some(UNLABELLED)
}

/// The class of each of a file's names, and what should be told of it.
fn resolve(
    names: &[String],
    task: &Task,
    reference: &Reference,
) -> Result<(Vec<i64>, Option<String>), String> {
    let (shown, known) = (names.join(", "), task.shown_names());
    let named: Vec<Option<i64>> = names
        .iter()
        .map(|name| if task.names.is_empty() { task.class_named(name) } else { task.class_of_name(name) })
        .map(|class| class.map(as_number))
        .collect();
    let by_name: Option<Vec<i64>> = named.iter().copied().collect();
    let by_number = || -> Option<Vec<i64>> {
        let number = |name: &String| numbered(name).filter(|class| is_class(*class, task));
        names.iter().map(number).collect()
    };
    let hint = "`names` in a task file says what data call its classes";
    if !task.names.is_empty() {
        return match by_name.or_else(by_number) {
            Some(classes) => Ok((classes, None)),
            None => Err(format!(
                "the data call their classes {shown}; task {} calls its {known}; {hint}",
                task.name
            )),
        };
    }
    if !reference.names.is_empty() {
        let classes: Option<Vec<i64>> = names.iter().map(|name| reference.class(name)).collect();
        return match classes {
            Some(classes) => Ok((classes, None)),
            None => Err(format!(
                "its classes are {shown}, but in the data read before it they are {}; {hint}",
                reference.shown()
            )),
        };
    }
    if let Some(classes) = by_name.or_else(by_number) {
        return Ok((classes, None));
    }
    let in_place = named.iter().zip(0..).all(|(class, place)| class.is_none_or(|class| class == place));
    if !in_place || names.len() < task.classes() {
        return Err(format!(
            "the data call their classes {shown}; task {} calls its {known}; {hint}",
            task.name
        ));
    }
    let pairs: Vec<String> = names
        .iter()
        .zip(&task.labels)
        .map(|(name, word)| format!("{name} is answered by {:?}", word.trim()))
        .collect();
    Ok((
        (0..).take(names.len()).collect(),
        Some(format!("classes in the data's order: {}", pairs.join(", "))),
    ))
}

/// The number that a name is: `3`, a truth value, or `LABEL_3`, as transformers calls classes that nobody named.
fn numbered(name: &str) -> Option<i64> {
    let name = name.trim();
    truth(name).map(i64::from).or_else(|| name.strip_prefix("LABEL_").unwrap_or(name).parse().ok())
}

/// The integer that a text or a float says, which may have a fraction of zero: pandas writes integers beside gaps so.
fn whole_number(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| whole(text.parse().ok()?))
}

/// A float that is an integer.
pub(crate) fn whole(number: f64) -> Option<i64> {
    // Larger ones are no classes, and not exact.
    #[expect(clippy::cast_possible_truncation, reason = "it is an integer below 1e15")]
    (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
}

/// A truth value as Python, R and JSON write it.
fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
