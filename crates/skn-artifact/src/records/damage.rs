use serde::{Deserialize, Serialize};

/// Of `RUN/cmp_perf.json`: whether perturbing selected neurons damages more than perturbing random ones does, by tests on
/// the same texts.
///
/// ```
/// let text = r#"{
///   "comparisons": 10, "mcnemar_median_p": 0.001, "mcnemar_below_05": 9, "sign_flip_p": 0.0001, "sign_flips": 10000,
///   "difference": -0.17, "difference_interval": [-0.21, -0.13], "at_least_as_damaging": 0, "rank_p": 0.0909
/// }"#;
/// let evidence: skn_artifact::DamageEvidence = serde_json::from_str(text)?;
/// assert_eq!(evidence.mcnemar_below_05, 9);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DamageEvidence {
    /// Pairs of a draw of the selected neurons' noise and a draw of random neurons: each has a McNemar test.
    pub comparisons: u64,
    /// The median of the tests' p (exact, two-sided; McNemar 1947) that both err equally often.
    pub mcnemar_median_p: f64,
    /// How many of the tests have a p below 0.05.
    pub mcnemar_below_05: u64,
    /// p that the texts' differences lie about 0, by flipping their signs (Fisher 1935).
    pub sign_flip_p: f64,
    /// Random flips behind it.
    pub sign_flips: u64,
    /// The mean over texts of: the share of draws that answer it right with selected neurons perturbed, less that with random
    /// ones. Below 0, selected neurons matter more.
    pub difference: f64,
    /// Its 95 % interval: a bootstrap over texts.
    pub difference_interval: [f64; 2],
    /// Draws of random neurons after which the metric is no better than after the selected ones, on average over the noise.
    pub at_least_as_damaging: u64,
    /// (1 + those) / (1 + draws): the chance that a random choice does as much damage.
    pub rank_p: f64,
}

/// Right answers by true class, of the model as it is and of each draw of a perturbation.
///
/// ```
/// let text = r#"{"rows": [428, 444], "unperturbed": [390, 412], "draws": [[300, 401]], "confusion": [[300, 128], [43, 401]]}"#;
/// let classes: skn_artifact::ByClass = serde_json::from_str(text)?;
/// assert_eq!(classes.draws[0][1], 401);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByClass {
    /// Rows of test of each class, `[classes]`.
    pub rows: Vec<u64>,
    /// Those answered right without an edit, `[classes]`.
    pub unperturbed: Vec<u64>,
    /// Those answered right, `[draws][classes]`.
    pub draws: Vec<Vec<u64>>,
    /// Rows by true class and answer, summed over draws, `[classes][classes]`.
    pub confusion: Vec<Vec<u64>>,
}

impl ByClass {
    /// The accuracy on the texts of a class: as it is, and the mean over draws; nothing of a class without texts.
    pub fn accuracy(&self, class: usize) -> Option<[f64; 2]> {
        let rows = self.rows.get(class).copied().filter(|rows| *rows > 0)? as f64;
        let right: u64 = self.draws.iter().filter_map(|draw| draw.get(class)).sum();
        let unperturbed = *self.unperturbed.get(class)? as f64;
        Some([unperturbed / rows, right as f64 / (rows * self.draws.len().max(1) as f64)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_by_hand() {
        let classes = ByClass {
            rows: vec![10, 0],
            unperturbed: vec![9, 0],
            draws: vec![vec![4, 0], vec![2, 0]],
            confusion: vec![vec![6, 14], vec![0, 0]],
        };
        assert_eq!(
            (classes.accuracy(0), classes.accuracy(1), classes.accuracy(2)),
            (Some([0.9, 0.3]), None, None)
        );
    }
}
