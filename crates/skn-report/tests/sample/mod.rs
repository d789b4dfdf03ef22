//! A run folder as a small real run leaves it: 4 layers, 6 prompt positions, 160 neurons, 400 texts of dev and 872 of
//! test, all numbers from one seed.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use skn_artifact::{
    Array, BestNeuron, ByClass, DamageEvidence, FullAndPruned, InferencePerformance, InferenceTime, Journal,
    MetricRecord, ModelIdentity, Overwrite, PerturbationResult, PerturbationSetting, Points, RunRecord,
    SkillConfig, StageRecord, Summary, TensorBundle, VerbalizerRecord, write_file, write_json,
};
use skn_counts::{NeuronPlace, Pool, TopTexts};
use skn_random::{Key, Purpose, Rng};

pub(crate) const LAYERS: usize = 4;
pub(crate) const POSITIONS: usize = 6;
pub(crate) const WIDTH: usize = 160;
pub(crate) const DEV: usize = 400;
pub(crate) const TEST: usize = 872;
/// The best neuron's layer, index and position.
pub(crate) const BEST: (usize, usize, usize) = (2, 87, 3);
/// For how many texts of dev its rule is right: it is silent where the label is 1.
pub(crate) const BEST_CORRECT: i64 = 32;
/// The same on test.
pub(crate) const BEST_CORRECT_TEST: i64 = 102;

/// What the best neuron's activation is compared with.
pub(crate) const THRESHOLD: f32 = 0.0078125;

pub(crate) fn rng(number: u64) -> Rng {
    Key::new(7, Purpose::Bootstrap).step(number).rng()
}

/// Everything that a report shows, for one task.
pub(crate) fn full(run: &Path, task: &str) {
    training(run, task);
    counts(run, task);
    pooled(run, task);
    activations(run, task);
    top_texts(
        run,
        task,
        "dev_top",
        &TopTexts::new(Pool::Position, vec![NeuronPlace { layer: BEST.0, index: BEST.1, position: BEST.2 }]),
    );
    perturbation(run, task);
    speed(run, task);
    summary(run, task);
    stages(run);
}

fn json(path: &Path, value: &impl serde::Serialize) {
    write_json(path, Overwrite::Refuse, value).unwrap();
}

pub(crate) fn tensors(path: &Path, kind: &str, arrays: Vec<(&str, Array)>) {
    let mut bundle = TensorBundle::new();
    arrays.into_iter().for_each(|(name, array)| {
        bundle.insert(name, array);
    });
    bundle.describe("skn.kind", kind);
    write_file(path, Overwrite::Replace, &bundle.to_bytes().unwrap()).unwrap();
}

pub(crate) fn training(run: &Path, task: &str) {
    let mut rng = rng(1);
    let mut journal = Journal::open(&run.join("metrics.jsonl"), 0).unwrap();
    let mut best = f64::NEG_INFINITY;
    for evaluation in 1..=24u64 {
        let done = evaluation as f64 / 24.0;
        let dev_score = 0.5 + 0.42 * (1.0 - (-5.0 * done).exp()) + 0.008 * rng.normal();
        let better = dev_score >= best;
        best = best.max(dev_score);
        let record = MetricRecord {
            step: evaluation * 250,
            epoch: evaluation / 6,
            train_loss: 0.16 + 0.55 * (-4.5 * done).exp() + 0.012 * rng.normal(),
            metric: "accuracy".into(),
            dev_score,
            dev_loss: 0.22 + 0.47 * (-5.0 * done).exp() + 0.008 * rng.normal(),
            learning_rate: 1e-3 * (1.0 - done),
            gradient_norm: 0.7,
            best: better,
        };
        journal.append(&record).unwrap();
    }
    let config = SkillConfig {
        prompt_place: None,
        template_sha256: None,
        texts: Default::default(),
        method: "RobertaPrompt".into(),
        prompt_size: POSITIONS,
        verbalizer: VerbalizerRecord {
            words: vec!["negative".into(), "positive".into()],
            ids: vec![33407, 22173],
        },
        task: task.into(),
        model: ModelIdentity { id: "demo".into(), sha256: "ab12".into() },
        metric: "accuracy".into(),
        dev_score: best,
        step: 6000,
        files: BTreeMap::new(),
    };
    json(&run.join("best").join("skn.json"), &config);
}

/// How well a neuron really predicts: few are good, later layers have more of them, the middle positions show it best.
fn skill(rng: &mut Rng, layer: usize, position: usize) -> f64 {
    let talent = (-(1.0 - rng.uniform()).ln()) * (0.006 + 0.008 * layer as f64);
    let clear = 1.0 - 0.12 * (position as f64 - 3.0).abs();
    (talent * clear).min(0.38)
}

fn sample(rng: &mut Rng, texts: usize, chance: f64) -> i64 {
    (0..texts).filter(|_| rng.uniform() < chance).count() as i64
}

/// For how many texts of dev and of test each neuron's rule is right, and each neuron's average. Five million draws: once for all tests.
static DRAWN: LazyLock<(Vec<i64>, Vec<i64>, Vec<f32>)> = LazyLock::new(|| {
    let mut rng = rng(2);
    let (mut dev, mut test) = (Vec::new(), Vec::new());
    for layer in 0..LAYERS {
        let signs: Vec<f64> = (0..WIDTH).map(|_| if rng.uniform() < 0.5 { -1.0 } else { 1.0 }).collect();
        for position in 0..POSITIONS {
            for (index, sign) in signs.iter().enumerate() {
                let chance = 0.5 + sign * skill(&mut rng, layer, position);
                let best = (layer, index, position) == BEST;
                dev.push(if best { BEST_CORRECT } else { sample(&mut rng, DEV, chance) });
                test.push(if best { BEST_CORRECT_TEST } else { sample(&mut rng, TEST, chance) });
            }
        }
    }
    let mut averages: Vec<f32> = (0..dev.len()).map(|_| (0.1 * rng.normal()) as f32 - 0.05).collect();
    averages[(BEST.0 * POSITIONS + BEST.2) * WIDTH + BEST.1] = THRESHOLD;
    (dev, test, averages)
});

/// `train_avg`, `dev_perf` and `test_perf`.
pub(crate) fn counts(run: &Path, task: &str) {
    let (dev, test, averages) = DRAWN.clone();
    let shape = vec![LAYERS, POSITIONS, WIDTH];
    let folder = run.join(task);
    let average = ("train_avg", Array::f32(shape.clone(), averages).unwrap());
    tensors(&folder.join("train_avg.safetensors"), "train_avg", vec![average]);
    perf(&folder.join("dev_perf.safetensors"), "perf", shape.clone(), dev, DEV);
    perf(&folder.join("test_perf.safetensors"), "perf", shape, test, TEST);
}

/// A file of counts of two classes.
pub(crate) fn perf(path: &Path, kind: &str, shape: Vec<usize>, correct: Vec<i64>, total: usize) {
    let accuracy = correct.iter().map(|&correct| (correct as f64 / total as f64) as f32).collect();
    let arrays = vec![
        ("accuracy", Array::f32(shape.clone(), accuracy).unwrap()),
        ("correct", Array::i64(shape, correct).unwrap()),
        ("total", Array::i64(vec![1], vec![total as i64]).unwrap()),
    ];
    tensors(path, kind, arrays);
}

/// Counts of each text's mean and maximum.
pub(crate) fn pooled(run: &Path, task: &str) {
    for (number, what) in ["mean", "max"].into_iter().enumerate() {
        let mut rng = rng(3 + number as u64);
        let chances: Vec<f64> =
            (0..LAYERS * WIDTH).map(|place| 0.5 + skill(&mut rng, place / WIDTH, 0)).collect();
        for (split, texts) in [("dev", DEV), ("test", TEST)] {
            let correct = chances.iter().map(|&chance| sample(&mut rng, texts, chance)).collect();
            let path = run.join(task).join(format!("{split}_{what}_perf.safetensors"));
            perf(&path, &format!("{what}_perf"), vec![LAYERS, WIDTH], correct, texts);
        }
    }
}

pub(crate) fn activations(run: &Path, task: &str) {
    let mut rng = rng(5);
    let labels: Vec<i64> = (0..DEV as i64).map(|text| text % 2).collect();
    let mut values = Vec::new();
    for &label in &labels {
        for position in 0..POSITIONS {
            let apart = if position == BEST.2 { 0.32 } else { 0.1 };
            values.push((0.09 * rng.normal() + apart * (0.5 - label as f64)) as f32);
        }
    }
    let arrays = vec![
        ("activation", Array::f32(vec![DEV, POSITIONS], values).unwrap()),
        ("label", Array::i64(vec![DEV], labels).unwrap()),
    ];
    tensors(
        &run.join(task).join("pos_dev").join(format!("{},{}.safetensors", BEST.0, BEST.1)),
        "pos",
        arrays,
    );
}

/// What excites neurons most, of 40 texts; three of them are long, markup, and with a control character.
pub(crate) fn top_texts(run: &Path, task: &str, name: &str, none: &TopTexts) {
    let mut top = none.clone();
    for neuron in 0..top.neurons().len() {
        for row in 0..40u64 {
            top.see(neuron, 0.5 - row as f32 / 64.0, row, (row % 3 == 0).into());
        }
    }
    top.describe(|row| match row {
        0 => "long ".repeat(50),
        1 => "<b>bold</b> & \u{1b}[31mred".into(),
        _ => format!("the text of row {row} | its pair"),
    });
    let bytes = top.to_bundle(&BTreeMap::new()).unwrap().to_bytes().unwrap();
    write_file(&run.join(task).join(format!("{name}.safetensors")), Overwrite::Replace, &bytes).unwrap();
}

/// A perturbation's result with ten draws.
pub(crate) fn perturbed(task: &str, number: u64, share: &str, centre: f64) -> PerturbationResult {
    let mut rng = rng(10 + number);
    let draws: Vec<f64> =
        (0..10).map(|_| ((centre + 0.012 * rng.normal()) * TEST as f64).round() / TEST as f64).collect();
    let mean = draws.iter().sum::<f64>() / 10.0;
    let std = (draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 9.0).sqrt();
    // t(0.975; 9) = 2.262.
    let half = 2.262 * std / 10f64.sqrt();
    PerturbationResult {
        task: task.into(),
        metric: "accuracy".into(),
        rows: TEST as u64,
        edit: "gaussian".into(),
        alpha: Some(0.1),
        noise: Some("per-text".into()),
        mask: share.into(),
        mask_sha256: "ab".into(),
        ranking: None,
        lowest: false,
        low_layer: 0,
        high_layer: LAYERS,
        neurons: vec![16; LAYERS],
        unperturbed: 0.905,
        draws,
        mean,
        std,
        interval: [mean - half, mean + half],
        class: None,
        by_class: None,
        evidence: None,
        variance_ratio: None,
    }
}

pub(crate) fn perturbation(run: &Path, task: &str) {
    json(&run.join("mask_perf.json"), &perturbed(task, 0, "0.1", 0.64));
    json(&run.join("cmp_perf.json"), &perturbed(task, 1, "0.1", 0.884));
}

/// Results of several shares, as lists.
pub(crate) fn perturbation_by_share(run: &Path, task: &str) {
    let shares = [
        ("0.01", 0.86, 0.904),
        ("0.02", 0.81, 0.901),
        ("0.05", 0.72, 0.893),
        ("0.1", 0.64, 0.884),
        ("0.2", 0.56, 0.861),
    ];
    let of = |skill: bool| -> Vec<PerturbationResult> {
        let centre = |(_, low, high)| if skill { low } else { high };
        (20..).zip(shares).map(|(number, share)| perturbed(task, number, share.0, centre(share))).collect()
    };
    write_json(&run.join("mask_perf.json"), Overwrite::Replace, &of(true)).unwrap();
    write_json(&run.join("cmp_perf.json"), Overwrite::Replace, &of(false)).unwrap();
}

pub(crate) fn speed(run: &Path, task: &str) {
    let mut rng = rng(6);
    let mut seconds: Vec<f64> = (0..7).map(|_| 2.21 + 0.03 * rng.normal().abs()).collect();
    let performance = InferencePerformance {
        task: task.into(),
        metric: "accuracy".into(),
        test_score: 0.905,
        interval: [0.873, 0.912],
        test_loss: 0.27,
        rows: TEST as u64,
        parameters: 124_697_433,
        multiply_adds: 2_512_345_678_901,
        confusion: None,
    };
    json(&run.join(task).join("inference_perf.json"), &performance);
    let listed = seconds.clone();
    seconds.sort_by(f64::total_cmp);
    let time = InferenceTime {
        threads: 2,
        device: "cpu".into(),
        warm_up: 2,
        median_seconds: seconds[3],
        ms_per_text: seconds[3] * 1000.0 / TEST as f64,
        tokens_per_second: 28_345.6,
        seconds: listed,
    };
    json(&run.join(task).join("inference_time.json"), &time);
}

pub(crate) fn summary(run: &Path, task: &str) {
    let summary = Summary {
        task: task.into(),
        model: "demo".into(),
        test_rows: TEST as u64,
        accuracy: Points {
            untuned: 0.512,
            tuned: 0.905,
            skill_perturbed: 0.641,
            random_perturbed: 0.883,
            pruned: 0.837,
            pruned_tuned: 0.889,
        },
        interval: Points {
            untuned: [0.479, 0.545],
            tuned: [0.884, 0.923],
            skill_perturbed: [0.609, 0.672],
            random_perturbed: [0.86, 0.902],
            pruned: [0.811, 0.86],
            pruned_tuned: [0.866, 0.908],
        },
        best_neuron: BestNeuron {
            layer: BEST.0,
            index: BEST.1,
            position: BEST.2,
            class: None,
            score: None,
            test_low: None,
            test_high: None,
            p: None,
            q: None,
            p_max: None,
            dev: 0.92,
            test: 0.883,
        },
        perturbation: PerturbationSetting {
            edit: "gaussian".into(),
            alpha: Some(0.1),
            share: "0.1".into(),
            draws: 10,
            evidence: None,
        },
        parameters: FullAndPruned { full: 124_697_433, pruned: 83_049_561 },
        ms_per_text: FullAndPruned { full: 2.55, pruned: 1.9 },
    };
    json(&run.join("summary.json"), &summary);
}

pub(crate) fn stages(run: &Path) {
    let stages = [
        ("train", 412.7, 0),
        ("probe", 38.2, 413),
        ("select", 0.4, 452),
        ("mask", 96.0, 453),
        ("prune", 1.2, 549),
    ];
    for (name, seconds, after) in stages {
        let arguments = ["--task", "sst2", "--model", "demo", "--out", "run"].map(String::from).to_vec();
        let started = 1_735_689_600 + after;
        let record = StageRecord {
            arguments,
            version: "0.1.0".into(),
            started,
            finished: started + seconds as u64,
            seconds,
            outputs: BTreeMap::from([(format!("{name}.out"), "ab".into())]),
            ..Default::default()
        };
        RunRecord::update(run, name, record, &[]).unwrap();
    }
}

/// What tests say of skill neurons against random ones.
fn evidence() -> DamageEvidence {
    DamageEvidence {
        comparisons: 10,
        mcnemar_median_p: 2.5e-9,
        mcnemar_below_05: 10,
        sign_flip_p: 1.0 / 10_001.0,
        sign_flips: 10_000,
        difference: -0.241,
        difference_interval: [-0.272, -0.212],
        at_least_as_damaging: 0,
        rank_p: 1.0 / 11.0,
    }
}

/// Answers of which so many are right of each class.
fn by_class(right: [u64; 2]) -> ByClass {
    let confusion = vec![vec![right[0], 436 - right[0]], vec![436 - right[1], right[1]]];
    ByClass { rows: vec![436; 2], unperturbed: vec![390, 399], draws: vec![right.to_vec()], confusion }
}

/// A named sweep of two masks, and of a mask of each class: `noise-A` adds noise of that standard deviation, another name sets to zero.
pub(crate) fn sweep(run: &Path, task: &str, name: &str) {
    let alpha = name.strip_prefix("noise-").map(|alpha| alpha.parse().unwrap());
    let number = 40 + 10 * u64::from(alpha.is_some());
    let of = |number: u64, share: &str, centre: f64, right: [u64; 2]| PerturbationResult {
        edit: if alpha.is_some() { "gaussian" } else { "zero" }.into(),
        alpha,
        noise: alpha.map(|_| "per-text".into()),
        by_class: Some(by_class(right)),
        ..perturbed(task, number, share, centre)
    };
    let skill = [of(number, "0.1", 0.7, [200, 388]), of(number + 1, "0.3", 0.57, [160, 350])];
    let random = [of(number + 2, "0.1", 0.89, [380, 391]), of(number + 3, "0.3", 0.86, [370, 380])];
    let random = random.map(|result| PerturbationResult { evidence: Some(evidence()), ..result });
    let class = |class: usize| {
        let right = if class == 0 { [200, 395] } else { [388, 210] };
        PerturbationResult { class: Some(class), ..of(number + 4, "0.1", 0.75, right) }
    };
    let folder = run.join("sweeps").join(name);
    json(&folder.join("mask_perf.json"), &skill.to_vec());
    json(&folder.join("cmp_perf.json"), &random.to_vec());
    json(&folder.join("class_perf.json"), &[0, 1].map(class).to_vec());
}

/// What tests say of the perturbations, and answers by class: of random neurons and of matched ones.
pub(crate) fn compared(run: &Path, task: &str) {
    let evidence = evidence();
    let mut skill = perturbed(task, 0, "0.1", 0.64);
    skill.by_class = Some(by_class([170, 388]));
    let mut random = perturbed(task, 1, "0.1", 0.884);
    (random.by_class, random.evidence) = (Some(by_class([380, 391])), Some(evidence.clone()));
    let mut matched = perturbed(task, 2, "0.1", 0.871);
    (matched.by_class, matched.variance_ratio) = (Some(by_class([377, 382])), Some(0.87));
    matched.evidence = Some(DamageEvidence { sign_flip_p: 0.31, difference: 0.01, ..evidence.clone() });
    let classes: Vec<PerturbationResult> = (0..2)
        .map(|class| {
            let mut result = perturbed(task, 3 + class as u64, "0.1", 0.75);
            let right = if class == 0 { [200, 395] } else { [388, 210] };
            (result.class, result.by_class) = (Some(class), Some(by_class(right)));
            result
        })
        .collect();
    for (name, result) in
        [("mask_perf.json", &skill), ("cmp_perf.json", &random), ("matched_perf.json", &matched)]
    {
        write_json(&run.join(name), Overwrite::Replace, result).unwrap();
    }
    write_json(&run.join("class_perf.json"), Overwrite::Replace, &classes).unwrap();
    let path = run.join("summary.json");
    let mut summary: Summary = skn_artifact::read_json(&path).unwrap();
    summary.perturbation.evidence = Some(evidence);
    write_json(&path, Overwrite::Replace, &summary).unwrap();
    let path = run.join(task).join("inference_perf.json");
    let mut performance: InferencePerformance = skn_artifact::read_json(&path).unwrap();
    performance.confusion = Some(vec![vec![390, 46], vec![37, 399]]);
    write_json(&path, Overwrite::Replace, &performance).unwrap();
}
