//! Random flips of signs against all of them, as scipy's `permutation_test` does them (`sign_flip/make.py`).

use serde_json::Value;
use skn_stats::sign_flip;

#[test]
fn flips_agree_with_all_of_them() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("sign_flip/sign_flip.json")).unwrap();
    assert_eq!(cases.len(), 7);
    let draws = 10_000;
    for case in cases {
        let p = case["p"].as_f64().unwrap();
        let differences = case["differences"].as_array().unwrap();
        let differences: Vec<f64> = differences.iter().map(|x| x.as_f64().unwrap()).collect();
        let found = sign_flip(&differences, draws, 7).unwrap();
        let deviation = (p * (1.0 - p) / draws as f64).sqrt();
        // The measured one counts among the draws: 1 / 10,001 more.
        assert!((found - p).abs() < 4.0 * deviation + 2e-4, "{case}: found {found}");
    }
}
