use std::fmt;
use std::str::FromStr;

use crate::error::{CountsError, Result};
use crate::performance::Performance;

/// How right answers become a score: what neurons are ordered by, and what is told of them.
///
/// ```
/// use skn_counts::ScoreRule;
///
/// assert_eq!("balanced".parse::<ScoreRule>()?, ScoreRule::Balanced);
/// assert_eq!(ScoreRule::Accuracy.to_string(), "accuracy");
/// # Ok::<(), skn_counts::CountsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScoreRule {
    /// The share of all texts for which a rule is right (Wang et al. 2022, section 3). A neuron that never fires has the share
    /// of the class that it is silent for. Of two classes only: of more, the rest is most of the texts.
    Accuracy,
    /// The mean of the shares of the class and of the other texts for which it is right. It does not depend on how many texts
    /// each class has: a neuron that never fires has 0.5.
    Balanced,
    /// The area under the ROC curve of the activation for the class against the rest (Mann and Whitney 1947): the share of pairs of a
    /// text of the class and another in which the class's has the larger activation, equal ones counted half. It needs no
    /// threshold, and [`Areas`](crate::Areas) beside the counts.
    Auc,
}

impl ScoreRule {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Accuracy, Self::Balanced, Self::Auc];

    /// The largest share of texts, in hundredths, that a class of two may have in each file for accuracy to be the score.
    pub const MOST_FOR_ACCURACY: u64 = 55;

    /// The score that files are ranked by unless another is asked for: accuracy while all are of two classes, of which the
    /// larger has at most 55 % of the texts of every file; else balanced accuracy, for all of them. A file that does not say
    /// how many texts each class has (an older version's) can only have accuracy, and does not decide.
    pub fn of<'a>(files: impl IntoIterator<Item = &'a Performance>) -> Self {
        let uneven = files.into_iter().any(|file| file.rules() > 1 || file.is_uneven());
        if uneven { Self::Balanced } else { Self::Accuracy }
    }

    /// The same from the number of texts of each class.
    pub fn of_classes(texts: &[u64]) -> Self {
        let (all, larger) = (texts.iter().map(|&of| u128::from(of)).sum::<u128>(), texts.iter().max());
        let larger = u128::from(larger.copied().unwrap_or(0));
        let uneven = texts.len() > 2 || 100 * larger > u128::from(Self::MOST_FOR_ACCURACY) * all;
        if uneven { Self::Balanced } else { Self::Accuracy }
    }

    /// The same, or as published, which of two classes is accuracy whatever their shares.
    pub fn of_texts(texts: &[u64], as_published: bool) -> Self {
        Self::of_classes(texts).or_published(texts.len(), as_published)
    }

    /// This one, unless what is published is followed: of two classes that is accuracy, of more nobody published one that is right.
    fn or_published(self, classes: usize, as_published: bool) -> Self {
        if as_published && classes == 2 { Self::Accuracy } else { self }
    }

    /// Its name, as metadata say it (`skn.score`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Balanced => "balanced",
            Self::Auc => "auc",
        }
    }
}

impl fmt::Display for ScoreRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ScoreRule {
    type Err = CountsError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|score| score.name() == name)
            .ok_or_else(|| CountsError::mismatch("score", "accuracy, balanced or auc", format!("`{name}`")))
    }
}

impl Performance {
    /// The score that this file alone is ranked by unless another is asked for.
    pub fn usual_score(&self) -> ScoreRule {
        ScoreRule::of([self])
    }

    /// The score that neurons are named by: the usual one, or as published, which for two classes is accuracy whatever their
    /// shares. Nobody published one for more classes that is right.
    pub fn score_of(&self, as_published: bool) -> ScoreRule {
        self.usual_score().or_published(self.classes(), as_published)
    }

    /// The share of the larger of two classes; nothing of more, and of a file that does not say.
    pub fn larger_class(&self) -> Option<f64> {
        Some(self.larger()? as f64 / self.total.max(1) as f64)
    }

    fn is_uneven(&self) -> bool {
        let of = |larger: i64| [larger, self.total - larger].map(i64::unsigned_abs);
        self.larger().is_some_and(|larger| ScoreRule::of_classes(&of(larger)) == ScoreRule::Balanced)
    }

    /// Texts of the larger of two classes.
    fn larger(&self) -> Option<i64> {
        match self.by_class.as_ref()?.positives[..] {
            [positives] => Some(positives.max(self.total - positives)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::tests::read;

    fn of(positives: i64, total: i64) -> Performance {
        let tensors: &[(&str, &[usize], &[i64])] = &[
            ("correct", &[1, 1, 1], &[positives]),
            ("true_positive", &[1, 1, 1], &[positives]),
            ("positives", &[1], &[positives]),
            ("total", &[1], &[total]),
        ];
        read(None, tensors).unwrap()
    }

    #[test]
    fn accuracy_is_for_classes_of_nearly_one_size() {
        for (positives, score) in [(55, ScoreRule::Accuracy), (56, ScoreRule::Balanced)] {
            assert_eq!(of(positives, 100).usual_score(), score);
            assert_eq!(of(100 - positives, 100).usual_score(), score, "whichever class is the larger");
        }
        assert_eq!(of(11, 20).usual_score(), ScoreRule::Accuracy, "55 % exactly");
        assert_eq!(of(0, 20).usual_score(), ScoreRule::Balanced);
        assert_eq!(of(73, 100).larger_class(), Some(0.73));
        assert_eq!(
            [true, false].map(|paper| of(73, 100).score_of(paper)),
            [ScoreRule::Accuracy, ScoreRule::Balanced]
        );
        let all = [of(50, 100), of(30, 100)];
        assert_eq!(ScoreRule::of(&all), ScoreRule::Balanced, "one file decides for all");
        let older = read(None, &[("correct", &[1, 1, 1], &[9]), ("total", &[1], &[10])]).unwrap();
        assert_eq!((older.usual_score(), older.larger_class()), (ScoreRule::Accuracy, None));
        assert_eq!(ScoreRule::of([&older, &of(30, 100)]), ScoreRule::Balanced);
    }

    #[test]
    fn names_are_read_back() {
        for score in ScoreRule::ALL {
            assert_eq!(score.to_string().parse::<ScoreRule>().unwrap(), score);
        }
        let message = "f1".parse::<ScoreRule>().unwrap_err().to_string();
        assert_eq!(message, "score: expected accuracy, balanced or auc, found `f1`");
    }
}
