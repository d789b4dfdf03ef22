//! Against scipy, statsmodels and scikit-learn: `reference.py` says how `reference.json` was made.

#![allow(clippy::unwrap_used)] // a test's helper may

use std::cell::Cell;

use serde_json::Value;
use skn_stats::{
    accuracy, auc, benjamini_hochberg, bootstrap, fisher_exact, mcnemar, rank_sum, sign_flip, spearman,
    wilson,
};

fn cases(of: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
    all[of].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn counts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

fn near(found: f64, expected: f64, of: &Value) {
    let far = (found - expected).abs();
    assert!(far <= 1e-9 * expected.abs() || far < 1e-300, "{found}, expected {expected}: {of}");
}

#[test]
fn fisher_s_test_is_scipy_s() {
    let all = cases("fisher");
    assert!(all.len() > 60);
    for case in all {
        let table = counts(&case["table"]).try_into().unwrap();
        near(fisher_exact(table).unwrap(), case["p"].as_f64().unwrap(), &case);
    }
}

#[test]
fn adjusted_p_values_are_those_of_statsmodels() {
    for case in cases("adjusted") {
        let found = benjamini_hochberg(&floats(&case["p"])).unwrap();
        for (found, expected) in found.into_iter().zip(floats(&case["q"])) {
            near(found, expected, &case);
        }
    }
}

#[test]
fn wilson_s_interval_is_that_of_statsmodels() {
    for case in cases("wilson") {
        let of = counts(&case["of"]);
        let found = wilson(of[0], of[1], case["level"].as_f64().unwrap()).unwrap();
        for (found, expected) in found.into_iter().zip(floats(&case["interval"])) {
            assert!((found - expected).abs() < 1e-9, "{found}: {case}");
        }
    }
}

#[test]
fn mcnemar_s_test_is_that_of_statsmodels() {
    for case in cases("paired") {
        let only = counts(&case["only"]);
        near(mcnemar(only[0], only[1]).unwrap(), case["p"].as_f64().unwrap(), &case);
    }
}

#[test]
fn drawn_flips_come_near_all_flips() {
    let draws = 20_000;
    for case in cases("flips") {
        let found = sign_flip(&floats(&case["differences"]), draws, 3).unwrap();
        let p = case["p"].as_f64().unwrap();
        // Four standard errors, and the measured one that is counted too.
        let most = 4.0 * (p * (1.0 - p) / draws as f64).sqrt() + 1.0 / draws as f64;
        assert!((found - p).abs() <= most, "{found}: {case}");
    }
}

#[test]
fn ranks_are_those_of_scipy_and_scikit_learn() {
    for case in cases("ranked") {
        let (scores, other) = (floats(&case["scores"]), floats(&case["other"]));
        let positive: Vec<bool> = counts(&case["labels"]).iter().map(|&label| label == 1).collect();
        let said = |name: &str| case[name].as_f64().unwrap();
        near(auc(&scores, &positive).unwrap(), said("auc"), &case);
        near(rank_sum(&scores, &positive).unwrap(), said("rank_sum"), &case);
        near(spearman(&scores, &other).unwrap(), said("spearman"), &case);
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let right = |class: bool| {
            let of_class = || scores.iter().zip(&positive).filter(|(_, positive)| **positive == class);
            let right = of_class().filter(|(score, _)| (**score > mean) == class).count();
            accuracy(right as u64, of_class().count() as u64)
        };
        near((right(true) + right(false)) / 2.0, said("balanced"), &case);
    }
}

#[test]
fn the_bootstrap_interval_is_of_the_resamples() {
    let all: Value = serde_json::from_str(include_str!("reference.json")).unwrap();
    let case = &all["intervals"];
    let values = floats(&case["values"]);
    let places: Vec<Vec<u64>> = case["places"].as_array().unwrap().iter().map(counts).collect();
    let draw = Cell::new(0);
    // The same resamples as in Python, in the place of those drawn.
    let mean = |drawn: &[usize]| {
        assert_eq!(drawn.len(), values.len());
        let own = &places[draw.replace(draw.get() + 1)];
        own.iter().map(|&place| values[place as usize]).sum::<f64>() / own.len() as f64
    };
    let found = bootstrap(values.len(), places.len(), 0.95, 0, mean).unwrap();
    for (found, expected) in found.into_iter().zip(floats(&case["interval"])) {
        near(found, expected, case);
    }
}
