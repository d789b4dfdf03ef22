//! Against scikit-learn: `classification/make.py` says how `classification/cases.json` was made.

#![allow(clippy::unwrap_used)] // a test's helper may

use serde_json::Value;
use skn_stats::{brier, calibration_error, class_scores, fit_temperature, negative_log_likelihood, softmax};

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[track_caller]
fn near(found: f64, expected: &Value, within: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((found - expected).abs() <= within * expected.abs().max(1.0), "{found}, expected {expected}");
}

#[test]
fn answers_and_probabilities_are_scored_as_scikit_learn_does() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("classification/cases.json")).unwrap();
    assert_eq!(cases.len(), 5);
    for case in cases {
        let classes = case["classes"].as_u64().unwrap() as usize;
        let labels: Vec<usize> = floats(&case["labels"]).into_iter().map(|label| label as usize).collect();
        let logits: Vec<f32> = floats(&case["logits"]).into_iter().map(|logit| logit as f32).collect();
        let confusion: Vec<Vec<u64>> = serde_json::from_value(case["confusion"].clone()).unwrap();
        let scores = class_scores(&confusion).unwrap();
        for (class, scores) in scores.iter().enumerate() {
            near(scores.precision, &case["precision"][class], 1e-12);
            near(scores.recall, &case["recall"][class], 1e-12);
            near(scores.f1, &case["f1"][class], 1e-12);
            assert_eq!(case["support"][class].as_u64(), Some(scores.support));
        }
        let rows: Vec<Vec<f64>> = logits.chunks_exact(classes).map(|row| softmax(row, 1.0)).collect();
        let best = |row: &Vec<f64>| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        let confidences: Vec<f64> = rows.iter().map(|row| row[best(row)]).collect();
        let right: Vec<bool> = rows.iter().zip(&labels).map(|(row, label)| best(row) == *label).collect();
        near(calibration_error(&confidences, &right, 15).unwrap(), &case["calibration_error"], 1e-12);
        near(brier(&rows.concat(), classes, &labels).unwrap(), &case["brier"], 1e-12);
        near(negative_log_likelihood(&logits, classes, &labels, 1.0).unwrap(), &case["nll"], 1e-9);
        let temperature = fit_temperature(&logits, classes, &labels).unwrap();
        // Theirs is a minimum of values, flat to half of f64's digits.
        near(temperature, &case["temperature"], 1e-6);
        let calibrated = negative_log_likelihood(&logits, classes, &labels, temperature).unwrap();
        near(calibrated, &case["nll_calibrated"], 1e-9);
        assert!(calibrated < negative_log_likelihood(&logits, classes, &labels, 1.0).unwrap());
    }
}
