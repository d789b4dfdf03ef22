//! On the golden case it is the neuron that float64 found.

use candle_core::{Device, Tensor};
use skn_artifact::TensorFile;
use skn_model::Tuning;

#[test]
fn the_golden_case() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden");
    let rows = |split: &str| -> Vec<(String, usize)> {
        let text = std::fs::read_to_string(format!("{golden}/data/jsonl/{split}.jsonl")).unwrap();
        let row = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            (row["sentence"].as_str().unwrap().to_string(), row["label"].as_u64().unwrap() as usize)
        };
        text.lines().map(row).collect()
    };
    let expected = TensorFile::read(format!("{golden}/expected.safetensors").as_ref()).unwrap();
    let (shape, prompt) = expected.f32("prompt", None).unwrap();
    let tuning = Tuning::prompt(Tensor::from_vec(prompt, shape, &Device::Cpu).unwrap(), true).unwrap();
    let train: Vec<String> = rows("train").into_iter().map(|(text, _)| text).collect();
    let dev = rows("validation");
    let [layer, position, index] =
        best_neuron::find(&format!("{golden}/model"), &tuning, &train, &dev).unwrap();
    let (shape, correct) = expected.i64("dev_correct", None).unwrap();
    let distance = |correct: i64| (2 * correct - dev.len() as i64).abs();
    let best = correct.iter().map(|&correct| distance(correct)).max().unwrap();
    let found = correct[(layer * shape[1] + position) * shape[2] + index];
    // A neuron within one count of another may change places with it.
    assert!(
        distance(found) >= best - 2,
        "layer {layer}, position {position}, index {index}: {found}, best {best}"
    );
    assert!(distance(found) > 12, "the best of a random model is better than most");

    let lines = include_str!("../src/lib.rs").lines().map(str::trim);
    let code = lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!(code < 40, "docs/how-to/library.md promises less than 40 lines, found {code}");
}
