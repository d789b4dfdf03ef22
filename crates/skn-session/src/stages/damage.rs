//! What answers to the same texts say of a perturbation: tests against a control, and right answers by class.

use skn_artifact::{ByClass, DamageEvidence};
use skn_probing::Evaluation;
use skn_stats::{bootstrap, mcnemar, sign_flip};

use crate::error::Result;
use crate::score::LEVEL;

/// Random flips of the signs of the texts' differences.
const FLIPS: u64 = 10_000;
/// Metrics that differ by less are equal.
const TIE: f64 = 1e-12;
/// Resamples of texts.
const RESAMPLES: usize = 1_000;

/// What is compared: which texts are answered right with selected neurons perturbed, for each draw of the noise, and with
/// random ones, for each draw of these; with the metric of each.
pub(super) struct Compared<'a> {
    pub(super) skill: &'a [Vec<bool>],
    pub(super) random: &'a [Vec<bool>],
    /// The mean metric of the selected ones.
    pub(super) skill_metric: f64,
    /// That of each draw of random ones.
    pub(super) random_metrics: &'a [f64],
}

impl Compared<'_> {
    /// The tests; there is at least one draw of each, and at least one text.
    pub(super) fn evidence(&self, seed: u64) -> Result<DamageEvidence> {
        let mut p = self.mcnemar()?;
        p.sort_by(f64::total_cmp);
        let differences = self.differences();
        let scale = (self.skill.len() * self.random.len()) as f64;
        let mean = |sum: f64| sum / (scale * differences.len() as f64);
        let resampled = |texts: &[usize]| mean(texts.iter().map(|&text| differences[text]).sum());
        // A mean of equals may differ from them by rounding, which is no damage.
        let worse = self.random_metrics.iter().filter(|metric| **metric <= self.skill_metric + TIE).count();
        Ok(DamageEvidence {
            comparisons: p.len() as u64,
            mcnemar_median_p: (p[(p.len() - 1) / 2] + p[p.len() / 2]) / 2.0,
            mcnemar_below_05: p.iter().filter(|p| **p < 0.05).count() as u64,
            sign_flip_p: sign_flip(&differences, FLIPS, seed)?,
            sign_flips: FLIPS,
            difference: mean(differences.iter().sum()),
            difference_interval: bootstrap(differences.len(), RESAMPLES, LEVEL, seed, resampled)?,
            at_least_as_damaging: worse as u64,
            rank_p: (1 + worse) as f64 / (1 + self.random_metrics.len()) as f64,
        })
    }

    /// McNemar's p for each pair of draws.
    fn mcnemar(&self) -> Result<Vec<f64>> {
        let mut found = Vec::new();
        for skill in self.skill {
            for random in self.random {
                let only = |wanted: bool| {
                    let both = skill.iter().zip(random);
                    both.filter(|(skill, random)| **skill == wanted && **random != wanted).count() as u64
                };
                found.push(mcnemar(only(true), only(false))?);
            }
        }
        Ok(found)
    }

    /// For each text the share of right answers with selected neurons perturbed, less that with random ones, times the draws of
    /// both: whole numbers, so that sums of them are exact.
    fn differences(&self) -> Vec<f64> {
        let counts = |draws: &[Vec<bool>]| {
            let mut counts = vec![0i64; draws[0].len()];
            for draw in draws {
                counts.iter_mut().zip(draw).for_each(|(count, right)| *count += i64::from(*right));
            }
            counts
        };
        let (skill, random) = (self.skill.len() as i64, self.random.len() as i64);
        let both = counts(self.skill).into_iter().zip(counts(self.random));
        both.map(|(of_skill, of_random)| (of_skill * random - of_random * skill) as f64).collect()
    }
}

/// Right answers by class: as it is, and under each draw.
pub(super) fn by_class(unperturbed: &Evaluation, draws: &[Evaluation]) -> ByClass {
    let diagonal = |table: &[Vec<u64>]| -> Vec<u64> {
        table.iter().enumerate().map(|(class, row)| row[class]).collect()
    };
    let as_it_is = unperturbed.confusion();
    let mut summed = vec![vec![0; unperturbed.classes]; unperturbed.classes];
    let mut of_draws = Vec::new();
    for draw in draws {
        let table = draw.confusion();
        of_draws.push(diagonal(&table));
        summed.iter_mut().flatten().zip(table.iter().flatten()).for_each(|(sum, count)| *sum += count);
    }
    ByClass {
        rows: as_it_is.iter().map(|row| row.iter().sum()).collect(),
        unperturbed: diagonal(&as_it_is),
        draws: of_draws,
        confusion: summed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(texts: &str) -> Vec<bool> {
        texts.chars().map(|c| c == '1').collect()
    }

    #[test]
    fn evidence_by_hand() {
        let skill = [right("1000000011"), right("0000000011")];
        let random = [right("1111111100"), right("1111110011")];
        let compared =
            Compared { skill: &skill, random: &random, skill_metric: 0.25, random_metrics: &[0.8, 0.2] };
        let evidence = compared.evidence(1).unwrap();
        // Right by one alone: 2 and 7, 0 and 5, 2 and 8, 0 and 6; of the binomials twice 46/512, 1/32, 56/1024, 1/64.
        let p = |part: f64, whole: f64| 2.0 * part / whole;
        let mut all = [p(46.0, 512.0), p(1.0, 32.0), p(56.0, 1024.0), p(1.0, 64.0)];
        all.sort_by(f64::total_cmp);
        assert!((evidence.mcnemar_median_p - (all[1] + all[2]) / 2.0).abs() < 1e-12, "{evidence:?}");
        assert_eq!((evidence.comparisons, evidence.mcnemar_below_05), (4, 1));
        // Of 2 draws each: -0.5, five of -1, two of -0.5, two of +0.5.
        assert!((evidence.difference + 5.5 / 10.0).abs() < 1e-12, "{evidence:?}");
        let [low, high] = evidence.difference_interval;
        assert!(-1.0 <= low && low < evidence.difference && evidence.difference < high && high < 0.1);
        assert!((0.0..0.05).contains(&evidence.sign_flip_p), "{evidence:?}");
        assert_eq!((evidence.at_least_as_damaging, evidence.rank_p), (1, 2.0 / 3.0));
    }

    #[test]
    fn equal_answers_are_no_evidence() {
        let answers = [right("1010")];
        let compared =
            Compared { skill: &answers, random: &answers, skill_metric: 0.5, random_metrics: &[0.5] };
        let DamageEvidence { mcnemar_median_p, sign_flip_p, difference, rank_p, .. } =
            compared.evidence(1).unwrap();
        assert_eq!((mcnemar_median_p, sign_flip_p, difference, rank_p), (1.0, 1.0, 0.0, 1.0));
        // 477 of 480 right 21 times: their mean is another number by rounding, and no damage.
        let metric = 477.0 / 480.0;
        let mean = [metric; 21].iter().sum::<f64>() / 21.0;
        assert_ne!(mean, metric);
        let compared =
            Compared { skill: &answers, random: &answers, skill_metric: mean, random_metrics: &[metric; 10] };
        assert_eq!(compared.evidence(1).unwrap().rank_p, 1.0);
    }
}
