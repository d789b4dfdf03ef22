use std::collections::BTreeMap;

use skn_random::{Key, Purpose};

use crate::dataset::{Dataset, Example, UNLABELLED};
use crate::error::{DataError, Result};
use crate::split::{no_split, with_splits_of};
use crate::task::{OtherLabels, SplitNames, Task};

/// A question of two classes that is made of a task with negative, neutral and positive rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubTask {
    /// The negative rows (0) against the positive ones (1), without all others.
    NegativePositive,
    /// All other rows (0) against the neutral ones (1).
    Neutral,
}

/// How the rows of a balanced split are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// As many of each class as the smaller one has, by this seed. Classes go by the task's words, and test keeps its
    /// distribution.
    Seeded(u64),
    /// As the published script does, for comparison with published numbers: one less than that, the first of each class,
    /// in test as well. Classes go by their places ([`Task::paper_words`]), so that MNLI's entailment is negative.
    Published,
}

impl SubTask {
    /// Both.
    pub const ALL: [Self; 2] = [Self::NegativePositive, Self::Neutral];

    /// What stands behind the task's name in that of the sub-task: `-pn`, `-neu`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::NegativePositive => "-pn",
            Self::Neutral => "-neu",
        }
    }

    /// What its two classes are.
    pub fn class_names(self) -> [&'static str; 2] {
        match self {
            Self::NegativePositive => ["negative", "positive"],
            Self::Neutral => ["other", "neutral"],
        }
    }

    /// The sub-task of `task`: the same columns, splits and metric, answered by `negative` and `positive`.
    ///
    /// ```
    /// use skn_data::{SubTask, Task};
    ///
    /// let task = SubTask::Neutral.of(&Task::builtin("mnli")?)?;
    /// assert_eq!(task, Task::builtin("mnli-neu")?);
    /// # Ok::<(), skn_data::DataError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`DataError::NotThreeSided`] unless the task has three or four classes, one each answered by `negative`,
    /// `neutral` and `positive`.
    pub fn of(self, task: &Task) -> Result<Task> {
        Sides::of(task, Choice::Seeded(0))?;
        Ok(Task {
            name: format!("{}{}", task.name, self.suffix()),
            text: task.text.clone(),
            template: task.template.clone(),
            label: task.label.clone(),
            labels: vec!["negative".to_owned(), "positive".to_owned()],
            names: self.class_names().map(|name| vec![name.to_owned()]).to_vec(),
            label_names: Vec::new(),
            metric: task.metric,
            splits: task.splits.clone(),
            label_map: BTreeMap::new(),
            other_labels: OtherLabels::default(),
            format: None,
            header: true,
            columns: Vec::new(),
            delimiter: None,
            numbers: false,
        })
    }

    /// The sub-task's class of a row, if the row belongs to it.
    fn class(self, sides: &Sides, label: i64) -> Option<i64> {
        if label == UNLABELLED {
            return None;
        }
        match self {
            Self::NegativePositive if label == sides.negative => Some(0),
            Self::NegativePositive if label == sides.positive => Some(1),
            Self::NegativePositive => None,
            Self::Neutral => Some(i64::from(label == sides.neutral)),
        }
    }
}

/// The classes that sub-tasks are made of.
struct Sides {
    negative: i64,
    neutral: i64,
    positive: i64,
}

impl Sides {
    fn of(task: &Task, choice: Choice) -> Result<Self> {
        let words = match choice {
            Choice::Seeded(_) => task.labels.clone(),
            Choice::Published => task.paper_words(),
        };
        let class = |word: &str| words.iter().position(|label| label.trim() == word);
        match (class("negative"), class("neutral"), class("positive")) {
            (Some(negative), Some(neutral), Some(positive)) if task.classes() <= 4 => {
                let [negative, neutral, positive] = [negative, neutral, positive].map(|class| class as i64);
                Ok(Self { negative, neutral, positive })
            }
            _ => Err(DataError::NotThreeSided { task: task.name.clone(), words: task.labels.join(", ") }),
        }
    }
}

/// The rows of one sub-task of a data set of three or four classes, under [`SubTask::of`]'s split names.
///
/// Train, and dev if the task names one, are balanced exactly: of the class with more rows as many are kept as the other
/// has, which ones depends on the seed alone. Test keeps its distribution (so does dev where it stands in for a test split
/// without labels). A task with one split has it balanced as a whole. Rows keep their order; those without a label are
/// left out. [`Choice::Published`] differs.
///
/// # Errors
///
/// As [`SubTask::of`]; [`DataError::EmptySplit`] if a split is missing, or has no row of one of the two classes and
/// is to be balanced.
pub fn binarize(dataset: &Dataset, task: &Task, part: SubTask, choice: Choice) -> Result<Dataset> {
    let sides = Sides::of(task, choice)?;
    let task = &with_splits_of(&dataset.splits, task);
    let mut splits: BTreeMap<String, Vec<Example>> = BTreeMap::new();
    for name in task.split_names() {
        let Some(rows) = dataset.splits.get(name) else {
            // A file, or a single saved table, is train alone.
            if dataset.splits.len() == 1 && name != task.splits.train {
                continue;
            }
            return Err(no_split(&dataset.splits, name));
        };
        let kept = rows
            .iter()
            .filter_map(|row| part.class(&sides, row.label).map(|label| Example { label, ..row.clone() }));
        splits.insert(name.to_owned(), kept.collect());
    }
    let balanced = match choice {
        Choice::Seeded(_) => balanced(dataset, task),
        Choice::Published => task.split_names(),
    };
    for (number, name) in balanced.into_iter().enumerate() {
        let Some(rows) = splits.get_mut(name) else { continue };
        let kept = match choice {
            Choice::Seeded(seed) => {
                let key = Key::new(seed, Purpose::Binarize).step(part as u64).sample(number as u64);
                chosen(rows, name, part, key)?
            }
            Choice::Published => first(rows),
        };
        *rows = kept.into_iter().map(|place| rows[place].clone()).collect();
    }
    Ok(Dataset { splits })
}

/// The splits that are balanced: train, and dev unless results will be reported on it.
fn balanced<'t>(dataset: &Dataset, task: &'t Task) -> Vec<&'t str> {
    let SplitNames { train, dev, test } = &task.splits;
    let labelled = |name: &String| dataset.splits.get(name).is_some_and(|rows| rows.iter().any(has_label));
    let dev = dev.as_deref().filter(|_| test.as_ref().is_some_and(labelled));
    std::iter::once(train.as_str()).chain(dev).collect()
}

fn has_label(row: &Example) -> bool {
    row.label != UNLABELLED
}

/// The places of as many rows of each class as the smaller one has, ascending.
fn chosen(rows: &[Example], split: &str, part: SubTask, key: Key) -> Result<Vec<usize>> {
    let of_class = [0, 1].map(|class| places(rows, class));
    let count = of_class[0].len().min(of_class[1].len());
    if count == 0 {
        let [first, second] = part.class_names();
        let [some, others] = of_class.map(|places| places.len());
        let reason =
            format!("expected rows of both classes to balance, found {some} {first} and {others} {second}");
        return Err(DataError::EmptySplit { split: split.to_owned(), reason });
    }
    let mut kept = Vec::new();
    for (class, places) in of_class.iter().enumerate() {
        let numbers = key.layer(class as u32).rng().choose(places.len(), count);
        kept.extend(numbers.into_iter().map(|number| places[number]));
    }
    kept.sort_unstable();
    Ok(kept)
}

/// The places of the first rows of each class, one less than the smaller one has, ascending.
fn first(rows: &[Example]) -> Vec<usize> {
    let of_class = [0, 1].map(|class| places(rows, class));
    let count = of_class[0].len().min(of_class[1].len()).saturating_sub(1);
    let mut kept: Vec<usize> = of_class.iter().flat_map(|places| &places[..count]).copied().collect();
    kept.sort_unstable();
    kept
}

fn places(rows: &[Example], class: i64) -> Vec<usize> {
    rows.iter().enumerate().filter(|(_, row)| row.label == class).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Splits, split};

    /// `labels` in order; the texts are the row numbers.
    fn rows(labels: &[i64]) -> Vec<Example> {
        let row = |(row, label): (usize, &i64)| Example {
            text: row.to_string().into(),
            pair: None,
            more: Box::default(),
            label: *label,
        };
        labels.iter().enumerate().map(row).collect()
    }

    fn dataset(splits: &[(&str, &[i64])]) -> Dataset {
        Dataset { splits: splits.iter().map(|(name, labels)| ((*name).to_owned(), rows(labels))).collect() }
    }

    fn counts(rows: &[Example]) -> [usize; 2] {
        [0, 1].map(|class| places(rows, class).len())
    }

    /// Text to label.
    fn pairs(rows: &[Example]) -> Vec<(usize, i64)> {
        rows.iter().map(|row| (row.text.parse().unwrap(), row.label)).collect()
    }

    #[test]
    fn sub_tasks_are_those_that_are_built_in() {
        for name in ["mnli", "tweet_eval", "hate"] {
            let task = Task::builtin(name).unwrap();
            for part in SubTask::ALL {
                let built_in = Task::builtin(&format!("{name}{}", part.suffix())).unwrap();
                assert_eq!(part.of(&task).unwrap(), built_in);
            }
        }
    }

    #[test]
    fn classes_go_by_their_words() {
        let test = |task: &str, part, labels: &[i64]| {
            let task = Task::builtin(task).unwrap();
            let data = dataset(&[("train", &[0, 1, 2, 3]), (task.splits.test.as_ref().unwrap(), labels)]);
            let made = binarize(&data, &task, part, Choice::Seeded(0)).unwrap();
            pairs(&made.splits[task.splits.test.as_ref().unwrap()])
        };
        let labels = [0, 1, -1, 2, 2];
        // Entailment (0) is answered by "positive", contradiction (2) by "negative".
        assert_eq!(test("mnli", SubTask::NegativePositive, &labels), [(0, 1), (3, 0), (4, 0)]);
        assert_eq!(test("mnli", SubTask::Neutral, &labels), [(0, 0), (1, 1), (3, 0), (4, 0)]);
        let mut four = Task::builtin("hate").unwrap();
        assert_eq!(four.labels, ["conflict", "negative", "neutral", "positive"]);
        four.splits.test = Some("test".into());
        let labels: &[i64] = &[3, 2, 1, 0];
        let data = dataset(&[("train", labels), ("test", labels)]);
        let test = |part| pairs(&binarize(&data, &four, part, Choice::Seeded(0)).unwrap().splits["test"]);
        assert_eq!(test(SubTask::NegativePositive), [(0, 1), (2, 0)]);
        assert_eq!(test(SubTask::Neutral), [(0, 0), (1, 1), (2, 0), (3, 0)]);
    }

    #[test]
    fn train_and_dev_are_balanced_and_test_is_not() {
        let task = Task::builtin("tweet_eval").unwrap();
        let labels: Vec<i64> = (0..90).map(|row| [2, 2, 2, 1, 1, 0][row % 6]).collect();
        let data = dataset(&[("train", &labels), ("validation", &labels[..30]), ("test", &labels)]);
        for (part, sizes) in [
            (SubTask::NegativePositive, [[15, 15], [5, 5], [15, 45]]),
            (SubTask::Neutral, [[30, 30], [10, 10], [60, 30]]),
        ] {
            let made = binarize(&data, &task, part, Choice::Seeded(0)).unwrap();
            let found = ["train", "validation", "test"].map(|split| counts(&made.splits[split]));
            assert_eq!(found, sizes);
            let ascending = |rows: &[Example]| pairs(rows).windows(2).all(|pair| pair[0].0 < pair[1].0);
            assert!(made.splits.values().all(|rows| ascending(rows)));
            // What comes out is a data set of the sub-task.
            let Splits { train, .. } = split(made, &part.of(&task).unwrap(), 0).unwrap();
            assert_eq!(counts(&train), sizes[0]);
        }
    }

    #[test]
    fn the_choice_depends_on_the_seed_alone() {
        let task = Task::builtin("hate").unwrap();
        let labels: Vec<i64> = (0..60).map(|row| [3, 3, 3, 3, 1, 2][row % 6]).collect();
        let made = |seed| {
            binarize(&dataset(&[("train", &labels)]), &task, SubTask::NegativePositive, Choice::Seeded(seed))
                .unwrap()
        };
        assert_eq!(made(3), made(3));
        assert_ne!(made(3), made(4));
        // A change here would give every run other rows.
        let chosen: Vec<usize> = pairs(&made(0).splits["train"])
            .iter()
            .filter(|(_, label)| *label == 1)
            .map(|(row, _)| *row)
            .collect();
        assert_eq!(chosen, [3, 25, 26, 31, 33, 39, 44, 49, 50, 51]);
    }

    #[test]
    fn the_published_choice() {
        let task = Task::builtin("mnli").unwrap();
        let labels = &[0, 1, 2, 0, 2, 1, 2, 0, -1][..];
        let data = dataset(&[("train", labels), ("validation_matched", labels)]);
        for (part, rows) in [
            (SubTask::NegativePositive, [(0, 0), (2, 1), (3, 0), (4, 1)].as_slice()),
            (SubTask::Neutral, &[(0, 0), (1, 1)]),
        ] {
            let made = binarize(&data, &task, part, Choice::Published).unwrap();
            assert!(made.splits.values().all(|split| pairs(split) == rows), "{made:?}");
        }
    }

    #[test]
    fn a_dev_split_that_stands_in_for_test_is_left_as_it_is() {
        let task = Task::builtin("tweet_eval").unwrap();
        let data = dataset(&[("train", &[0, 0, 1, 2]), ("validation", &[0, 0, 2]), ("test", &[-1, -1])]);
        let made = binarize(&data, &task, SubTask::NegativePositive, Choice::Seeded(0)).unwrap();
        let found = ["train", "validation", "test"].map(|split| counts(&made.splits[split]));
        assert_eq!(found, [[1, 1], [2, 1], [0, 0]]);
    }

    #[test]
    fn what_has_no_two_classes_is_refused() {
        let task = Task::builtin("mnli").unwrap();
        let data = dataset(&[("train", &[0, 0, 1]), ("validation_matched", &[])]);
        let error = binarize(&data, &task, SubTask::NegativePositive, Choice::Seeded(0)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "split train: expected rows of both classes to balance, found 0 negative and 2 positive"
        );
        let data = dataset(&[("train", &[0, 2]), ("other", &[])]);
        let error = binarize(&data, &task, SubTask::NegativePositive, Choice::Seeded(0)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("split validation_matched: expected this split, found other, train")
        );
        for name in ["sst2", "ag_news", "dbpedia"] {
            let error = SubTask::Neutral.of(&Task::builtin(name).unwrap()).unwrap_err();
            assert!(error.to_string().starts_with(&format!("task {name}: expected three or four classes")));
        }
    }
}
