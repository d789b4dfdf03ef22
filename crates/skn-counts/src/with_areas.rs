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

use std::iter::repeat_n;
use std::path::Path;

use skn_artifact::TensorFile;
use skn_artifact::names::rank;

use crate::areas::Areas;
use crate::error::{CountsError, Result};
use crate::performance::Performance;

impl Performance {
    /// Takes the areas of the same texts from a file. Who calls it has seen that both files are of the same model, parameters and rows.
    ///
    /// # Errors
    /// If the file is no ranking by areas or lacks them (an older version's, or a shard's), is of another shape or of other texts than
    /// the counts, or holds what can't be.
    pub fn with_areas(mut self, file: &TensorFile) -> Result<Self> {
        file.expect_kind(rank::KIND)?;
        let path = file.path();
        let place = format!("metadata {}", rank::RANKING);
        let found = file.metadata().get(rank::RANKING).map_or("none", String::as_str);
        if found != rank::AUC {
            return Err(CountsError::file(path, place, rank::AUC, found));
        }
        let expected = rank::pool_name(self.pool.map_or("", crate::Pool::name));
        let found = file.metadata().get(rank::POOL).map_or("none", String::as_str);
        if found != expected {
            let expected = format!("{expected}, as {} is of", self.file.display());
            return Err(CountsError::file(path, format!("metadata {}", rank::POOL), expected, found));
        }
        let Some(counted) = &self.by_class else {
            let expected = "counts by class (an older version wrote the file: probe again)";
            return Err(CountsError::file(&self.file, "tensor `true_positive`", expected, "nothing"));
        };
        if !file.contains("twice_above") {
            let expected = "areas by position and class (skn-probe --rank auc makes them; an older version did not, and a shard's file \
                            has none before skn-merge)";
            return Err(CountsError::file(path, "tensor `twice_above`", expected, "none"));
        }
        let shape = self.shape();
        let (_, positives) = file.i64("positives", Some(&[counted.positives.len()]))?;
        let (_, total) = file.i64("total", Some(&[1]))?;
        if (&positives, total.first()) != (&counted.positives, Some(&self.total)) {
            let expected =
                format!("{:?} of {} texts, as {} counts", counted.positives, self.total, self.file.display());
            let found = format!("{positives:?} of {}", total.first().unwrap_or(&0));
            return Err(CountsError::file(path, "tensor `positives`", expected, found));
        }
        let (_, twice_above) = file.i64("twice_above", Some(&shape))?;
        let each = twice_above.len() / positives.len().max(1);
        let pairs = positives.iter().flat_map(|&of_class| repeat_n(of_class * (self.total - of_class), each));
        for (at, (&above, pairs)) in twice_above.iter().zip(pairs).enumerate() {
            if !(0..=2 * pairs).contains(&above) {
                let place = format!("tensor `twice_above`, element {at}");
                return Err(CountsError::file(
                    path,
                    place,
                    format!("0 to {}, twice the pairs", 2 * pairs),
                    above,
                ));
            }
        }
        let bound = shares(file, "bounds", &shape, 0.5)?;
        let spread = shares(file, "spread", &self.dims, 1.0)?;
        self.areas = Some(Areas { file: path.into(), twice_above, bound, spread });
        Ok(self)
    }

    /// The areas that were taken with [`Self::with_areas`].
    ///
    /// # Errors
    /// If none were.
    pub fn areas(&self) -> Result<&Areas> {
        self.areas.as_ref().ok_or_else(|| {
            let expected = "areas beside it (skn-probe --rank auc makes them)";
            CountsError::file(&self.file, "score auc", expected, "none")
        })
    }

    /// How far the exact areas of some rules are at most from those that are told.
    ///
    /// # Errors
    /// If there are no areas.
    pub fn largest_bound<'r>(&self, rules: impl IntoIterator<Item = &'r crate::Rule>) -> Result<f32> {
        let bound = &self.areas()?.bound;
        let place = |rule: &crate::Rule| {
            let row = rule.layer * self.positions() + rule.position;
            rule.class.unwrap_or(0) * self.size() + row * self.neurons() + rule.index
        };
        Ok(rules
            .into_iter()
            .filter_map(|rule| bound.get(place(rule)))
            .fold(0.0, |most, &bound| most.max(bound)))
    }
}

/// Numbers from 0 to a largest one.
fn shares(file: &TensorFile, name: &str, shape: &[usize], most: f32) -> Result<Vec<f32>> {
    let (_, shares) = file.f32(name, Some(shape))?;
    match shares.iter().enumerate().find(|(_, share)| !(0.0..=most).contains(*share)) {
        None => Ok(shares),
        Some((at, share)) => Err(wrong_share(file.path(), name, at, most, *share)),
    }
}

fn wrong_share(file: &Path, name: &str, at: usize, most: f32, found: f32) -> CountsError {
    CountsError::file(file, format!("tensor `{name}`, element {at}"), format!("0 to {most}"), found)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use skn_artifact::TensorBundle;

    use super::*;
    use crate::file::tests::read;
    use crate::score_rule::ScoreRule::{Accuracy, Auc};
    use skn_stats::{auc, rank_sum};

    /// Activations of two neurons for 7 texts, which are bins at once.
    const VALUES: [[f64; 7]; 2] = [[1.0, 2.0, 2.0, 3.0, 0.0, 2.0, 1.0], [5.0, 4.0, 4.0, 1.0, 1.0, 0.0, 2.0]];
    const LABELS: [bool; 7] = [false, true, false, true, false, true, false];

    fn counts() -> Performance {
        let tensors: &[(&str, &[usize], &[i64])] = &[
            ("correct", &[1, 1, 2], &[5, 3]),
            ("true_positive", &[1, 1, 2], &[2, 1]),
            ("positives", &[1], &[3]),
            ("total", &[1], &[7]),
        ];
        read(Some("perf"), tensors).unwrap()
    }

    fn spread(values: &[f64]) -> f32 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let tied: f64 =
            sorted.chunk_by(|a, b| a == b).map(|tied| (tied.len() as f64).powi(3) - tied.len() as f64).sum();
        (1.0 - tied / 336.0) as f32
    }

    /// A file of areas, after a change.
    fn areas(change: impl FnOnce(&mut TensorBundle, &mut Areas)) -> TensorFile {
        let twice_above =
            VALUES.map(|values| (auc(&values, &LABELS).unwrap() * 24.0).round() as i64).to_vec();
        let spread = VALUES.map(|values| spread(&values)).to_vec();
        let mut areas = Areas { file: PathBuf::new(), twice_above, bound: vec![0.125, 0.25], spread };
        let mut bundle = TensorBundle::new();
        bundle.describe("skn.kind", rank::KIND);
        bundle.describe(rank::RANKING, rank::AUC);
        bundle.describe(rank::POOL, "position");
        change(&mut bundle, &mut areas);
        areas.insert(&[1, 1, 2], &[1, 1, 2], (vec![3], 7), &mut bundle).unwrap();
        TensorFile::from_bytes("rank/auc.safetensors".as_ref(), bundle.to_bytes().unwrap()).unwrap()
    }

    #[test]
    fn neurons_are_ranked_and_tested_by_area() {
        assert_eq!(counts().best_rule(Accuracy).unwrap().index, 0);
        let message = counts().best_rule(Auc).unwrap_err().to_string();
        assert!(message.contains("score auc: expected areas beside it (skn-probe --rank auc"), "{message}");
        let dev = counts().with_areas(&areas(|_, _| ())).unwrap();
        let ranked = dev.ranked(Auc).unwrap();
        let areas = VALUES.map(|values| auc(&values, &LABELS).unwrap());
        assert!(areas[0] > 0.5 && areas[1] < 0.5, "{areas:?}");
        for found in &ranked {
            let area = areas[found.rule.index];
            assert_eq!(found.rule.silent, area < 0.5);
            assert!((found.predictivity - area.max(1.0 - area)).abs() < 1e-12);
            let [low, high] = dev.interval_of(&found.rule, Auc, 0.95).unwrap();
            assert!(low < found.predictivity && found.predictivity < high);
        }
        let first = usize::from(areas[1].min(1.0 - areas[1]) < areas[0].min(1.0 - areas[0]));
        assert_eq!(ranked[0].rule.index, first);
        assert_eq!(dev.largest_bound(ranked.iter().map(|found| &found.rule)).unwrap(), 0.25);
        let tested = dev.tested_by(None, Auc).unwrap();
        for (found, values) in tested.neurons.iter().zip(VALUES) {
            let expected = rank_sum(&values, &LABELS).unwrap();
            assert!((found.unwrap().p - expected).abs() < 1e-6, "{found:?} {expected}");
        }
        assert_ne!(tested.neurons, dev.tested(None).unwrap().neurons, "Fisher's test is another");
        assert!(dev.merge_with_itself().areas.is_none());
    }

    impl Performance {
        fn merge_with_itself(&self) -> Self {
            let mut whole = self.clone();
            whole.merge(self).unwrap();
            whole
        }
    }

    #[test]
    fn areas_that_can_not_be_are_refused() {
        type Change = fn(&mut TensorBundle, &mut Areas);
        let cases: [(Change, &str); 5] = [
            (
                |_, areas| areas.twice_above[1] = 25,
                "`twice_above`, element 1: expected 0 to 24, twice the pairs, found 25",
            ),
            (|_, areas| areas.bound[0] = f32::NAN, "`bounds`, element 0: expected 0 to 0.5, found NaN"),
            (|_, areas| areas.spread[1] = -0.5, "`spread`, element 1"),
            (
                |bundle, _| {
                    bundle.describe(rank::RANKING, "cett");
                },
                "skn.rank: expected auc, found cett",
            ),
            (
                |bundle, _| {
                    bundle.describe(rank::POOL, "mean");
                },
                "skn.pool: expected position, as",
            ),
        ];
        for (change, part) in cases {
            let message = counts().with_areas(&areas(change)).unwrap_err().to_string();
            assert!(
                message.contains("rank/auc.safetensors") && message.contains(part),
                "{message} has no {part}"
            );
        }
        let other = read(
            Some("perf"),
            &[
                ("correct", &[1, 1, 2], &[5, 3]),
                ("true_positive", &[1, 1, 2], &[2, 1]),
                ("positives", &[1], &[4]),
                ("total", &[1], &[7]),
            ],
        )
        .unwrap();
        let message = other.with_areas(&areas(|_, _| ())).unwrap_err().to_string();
        assert!(message.contains("`positives`: expected [4] of 7 texts"), "{message}");
    }
}
