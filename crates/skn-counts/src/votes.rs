use crate::error::Result;
use crate::fire_bits::FireBits;
use crate::order::Predictor;
use crate::score_rule::ScoreRule;

impl FireBits {
    /// How right the first neurons of a ranking are together, of two classes: each says class 1 or class 0 at its position and
    /// in its direction, and the majority is taken. One share of right answers for each number of neurons, by the score;
    /// numbers are odd, and those above the ranking's length are left out. Nothing of more than two classes, and nothing by
    /// [`ScoreRule::Auc`], whose rules have no threshold to fire above.
    ///
    /// # Errors
    /// If bits can't be read.
    pub fn votes(
        &self,
        ranked: &[Predictor],
        numbers: &[usize],
        score: ScoreRule,
    ) -> Result<Vec<(usize, f64)>> {
        if self.classes() != 2 || score == ScoreRule::Auc {
            return Ok(Vec::new());
        }
        let (mut ones, mut voted, mut found) = (vec![0usize; self.texts()], 0, Vec::new());
        for &number in numbers.iter().filter(|&&number| number <= ranked.len()) {
            for neuron in &ranked[voted..number] {
                let rule = &neuron.rule;
                let row = self.row(rule.layer, rule.position, rule.index)?;
                for (text, ones) in ones.iter_mut().enumerate() {
                    let fires = row[text / 64] >> (text % 64) & 1 == 1;
                    *ones += usize::from(fires != rule.silent);
                }
            }
            voted = number;
            found.push((number, self.right(&ones, number, score)));
        }
        Ok(found)
    }

    fn right(&self, ones: &[usize], of: usize, score: ScoreRule) -> f64 {
        let (mut right, mut total) = ([0usize; 2], [0usize; 2]);
        for (&label, &ones) in self.labels().iter().zip(ones) {
            total[label] += 1;
            right[label] += usize::from((2 * ones > of) == (label == 1));
        }
        let share = |right: usize, total: usize| right as f64 / total.max(1) as f64;
        match score {
            ScoreRule::Accuracy => share(right[0] + right[1], total[0] + total[1]),
            ScoreRule::Balanced | ScoreRule::Auc => {
                (share(right[0], total[0]) + share(right[1], total[1])) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fire_bits::tests::{counted, fire_file};

    #[test]
    fn three_that_err_on_other_texts_are_right_together() {
        // Neurons 0, 1 and 2 err on one text each of 9; neuron 1 is silent for class 1.
        let labels = [1, 1, 1, 0, 0, 0, 0, 0, 0];
        let fires = |_: usize, _: usize, neuron: usize, text: usize| {
            (labels[text] == 1) ^ (text == neuron) ^ (neuron == 1)
        };
        let counts = counted([1, 1, 3], 2, &labels, &fires);
        let bits = FireBits::read(fire_file([1, 1, 3], &labels, &fires), &counts).unwrap();
        for (score, alone) in
            [(ScoreRule::Accuracy, 8.0 / 9.0), (ScoreRule::Balanced, (2.0 / 3.0 + 1.0) / 2.0)]
        {
            let ranked = counts.ranked(score).unwrap();
            let found = bits.votes(&ranked, &[1, 3, 5], score).unwrap();
            assert_eq!(found, [(1, alone), (3, 1.0)]);
            assert_eq!(alone, ranked[0].predictivity);
        }
    }
}
