use crate::error::{CountsError, Result};
use crate::fraction::Fraction;
use crate::score_rule::ScoreRule;

/// How the bits of a neuron come to its distance from guessing, for one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassScore {
    pub(crate) class: usize,
    positives: i64,
    negatives: i64,
    score: ScoreRule,
}

impl ClassScore {
    /// The rules that some texts can tell: that of class 1 of two, that of each class of more.
    ///
    /// # Errors
    /// If none can be told, or the score is accuracy of more than two classes, or an area, which bits don't say.
    pub(crate) fn all(labels: &[usize], classes: usize, score: ScoreRule) -> Result<Vec<Self>> {
        if classes > 2 && score == ScoreRule::Accuracy {
            return Err(CountsError::mismatch(format!("score of {classes} classes"), "balanced", score));
        }
        if score == ScoreRule::Auc {
            return Err(CountsError::mismatch("score of fire bits", "accuracy or balanced", score));
        }
        let ruled = if classes == 2 { 1..2 } else { 0..classes };
        let of_class = |class: usize| {
            let positives = labels.iter().filter(|&&label| label == class).count() as i64;
            Self { class, positives, negatives: labels.len() as i64 - positives, score }
        };
        let told = |of: &Self| score == ScoreRule::Accuracy || of.positives * of.negatives > 0;
        let all: Vec<Self> = ruled.map(of_class).filter(told).collect();
        if all.is_empty() || labels.is_empty() {
            return Err(CountsError::mismatch("labels of texts", "some of each of two classes", "one class"));
        }
        Ok(all)
    }

    /// The denominator of [`Self::part`].
    pub(crate) fn whole(&self) -> u64 {
        let whole = match self.score {
            ScoreRule::Accuracy => self.positives + self.negatives,
            ScoreRule::Balanced | ScoreRule::Auc => self.positives * self.negatives,
        };
        whole.unsigned_abs()
    }

    /// What is the same of a neuron whatever the labels are, if it fires so often: see [`Self::part`].
    pub(crate) fn base(&self, fires: u64) -> i64 {
        let fires = fires as i64;
        match self.score {
            ScoreRule::Accuracy => 2 * fires + self.positives - self.negatives,
            ScoreRule::Balanced | ScoreRule::Auc => fires * self.positives,
        }
    }

    /// What a text of the class for which the neuron fires adds.
    pub(crate) fn factor(&self) -> i64 {
        match self.score {
            // Right are `hits + negatives - (fires - hits)`.
            ScoreRule::Accuracy => 4,
            // `hits * negatives - (fires - hits) * positives`.
            ScoreRule::Balanced | ScoreRule::Auc => self.positives + self.negatives,
        }
    }

    /// Twice the distance from 0.5, times [`Self::whole`].
    pub(crate) fn part(&self, hits: u64, fires: u64) -> u64 {
        (self.factor() * hits as i64 - self.base(fires)).unsigned_abs()
    }

    pub(crate) fn fraction(&self, part: u64) -> Fraction {
        Fraction { part, whole: self.whole() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_nobody_can_tell_has_no_rule() {
        let of = |labels: &[usize], classes, score| {
            let all = ClassScore::all(labels, classes, score);
            all.map(|all| all.iter().map(|of| (of.class, of.positives, of.negatives)).collect::<Vec<_>>())
                .ok()
        };
        let (accuracy, balanced) = (ScoreRule::Accuracy, ScoreRule::Balanced);
        assert_eq!(of(&[0, 1, 1], 2, accuracy), Some(vec![(1, 2, 1)]));
        assert_eq!(of(&[0, 1, 1], 2, balanced), Some(vec![(1, 2, 1)]));
        // Accuracy has a denominator all the same.
        assert_eq!(of(&[1, 1], 2, accuracy), Some(vec![(1, 2, 0)]));
        assert_eq!(of(&[1, 1], 2, balanced), None);
        assert_eq!(of(&[0, 2, 2], 3, balanced), Some(vec![(0, 1, 2), (2, 2, 1)]));
        assert_eq!(
            [of(&[0, 1, 2], 3, accuracy), of(&[], 2, accuracy), of(&[], 3, balanced)],
            [None, None, None]
        );
    }
}
