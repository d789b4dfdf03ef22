//! Rankings by gradients against PyTorch (gradients/reference.py): a small random RoBERTa of transformers, in float64.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::{Device, Tensor};
use skn_artifact::{TensorBundle, TensorFile};
use skn_data::Encoded;
use skn_model::{Config, Gradients, LanguageModel, Tuning, Weights, shapes};
use skn_probing::{
    BatchTexts, Metadata, PassOptions, Pool, ProbeType, Rank, Ranking, Record, Result, Row, SlopeOf,
    Statistic, Workers, averages, collect_gradients, part,
};

// All as in reference.py.
const LAYERS: usize = 2;
const POSITIONS: usize = 3;
const NEURONS: usize = 12;
const HIDDEN: usize = 8;
const TEXTS: [&[u32]; 7] = [
    &[0, 11, 2],
    &[0, 14, 9, 30, 2],
    &[0, 7, 7, 21, 39, 2],
    &[0, 25, 12, 2],
    &[0, 33, 10, 18, 2],
    &[0, 5, 2],
    &[0, 28, 16, 6, 2],
];
const LABELS: [usize; 7] = [0, 1, 2, 0, 1, 2, 0];
const WORDS: [u32; 3] = [6, 17, 23];

fn reference() -> TensorFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gradients/reference.safetensors");
    TensorFile::read(&path).unwrap()
}

fn model(reference: &TensorFile) -> LanguageModel {
    let config = Config::new(40, [HIDDEN, 2, NEURONS, LAYERS], 34).unwrap();
    let tensor = |name: &str| {
        let (shape, values) = reference.f32(name, None).unwrap();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    let tensors = shapes(&config).into_iter().map(|(name, _)| (name.clone(), tensor(&name)));
    let weights = Weights::from_tensors(&config, tensors.collect()).unwrap();
    let prompt = Tuning::prompt(tensor("prompt"), false).unwrap();
    LanguageModel::new(&config, &weights, &prompt, 3, Gradients::Nothing).unwrap()
}

fn texts() -> Vec<Encoded> {
    let rows = TEXTS.iter().zip(LABELS).zip(0..);
    rows.map(|((ids, label), row)| Encoded { second: ids.len(), label, row, ids: ids.to_vec().into() })
        .collect()
}

/// Two numbers of each neuron, by text, layer and position: its activation, and the slope of the loss.
type Kept = Vec<[Vec<f32>; 2]>;

struct Keep {
    places: Vec<usize>,
    kept: Kept,
    whole: Arc<Mutex<Kept>>,
}

impl Statistic for Keep {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == Pool::Position
    }

    fn slopes(&self) -> &[SlopeOf] {
        &[SlopeOf::Loss]
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let kept = vec![Default::default(); TEXTS.len() * LAYERS * POSITIONS];
        Ok(Box::new(Self { places: texts.places.to_vec(), kept, whole: self.whole.clone() }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        let at = (self.places[row.text] * LAYERS + row.layer) * POSITIONS + row.position;
        self.kept[at] = [row.values.to_vec(), row.slopes.unwrap().loss.unwrap().to_vec()];
        Ok(())
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let kept = part::<Self>(of_batch)?.kept;
        let mut whole = self.whole.lock().unwrap();
        whole.iter_mut().zip(kept).filter(|(_, of)| !of[0].is_empty()).for_each(|(place, of)| *place = of);
        Ok(())
    }

    fn file(&self, split: &str) -> String {
        split.into()
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        unreachable!("nothing is written")
    }
}

/// Within what f32 rounds of a sum of some dozen numbers.
#[track_caller]
fn near(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    assert!(expected.iter().any(|value| value.abs() > 0.05), "{what}: a test that can fail has numbers");
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        let off = (found - expected).abs();
        assert!(off <= 1e-5 + 2e-5 * expected.abs(), "{what} at {place}: {found}, expected {expected}");
    }
}

#[test]
fn slopes_of_the_loss_are_those_of_pytorch() {
    let (reference, workers) = (reference(), Workers::new(2).unwrap());
    let model = model(&reference);
    let options = PassOptions { token_budget: 20, ..PassOptions::new(&workers) };
    let whole = Arc::new(Mutex::new(vec![Default::default(); TEXTS.len() * LAYERS * POSITIONS]));
    let keep = Keep { places: Vec::new(), kept: Vec::new(), whole: whole.clone() };
    collect_gradients(&model, &texts(), &WORDS, vec![Box::new(keep)], None, &options).unwrap();
    let kept = Arc::into_inner(whole).unwrap().into_inner().unwrap();
    for (place, name) in ["expected.activations", "expected.loss_slopes"].into_iter().enumerate() {
        let found: Vec<f32> = kept.iter().flat_map(|of| of[place].iter().copied()).collect();
        let shape = [TEXTS.len(), LAYERS, POSITIONS, NEURONS];
        near(name, &found, &reference.f32(name, Some(&shape)).unwrap().1);
    }
}

#[test]
fn scores_are_those_of_pytorch() {
    let (reference, workers) = (reference(), Workers::new(2).unwrap());
    let model = model(&reference);
    let options = PassOptions::new(&workers);
    let average =
        averages(&model, &texts(), &[ProbeType::Acc], &options).unwrap().remove(&Pool::Position).unwrap();
    for ranking in [Ranking::Taylor, Ranking::Gradient, Ranking::IntegratedGradients] {
        let rank: Box<dyn Statistic> = Box::new(Rank::new(ranking, &model, &average, 3, 0).unwrap());
        let taken =
            collect_gradients(&model, &texts(), &WORDS, vec![rank], ranking.steps(), &options).unwrap();
        let record = taken.into_iter().next().unwrap().into_record().unwrap();
        let bundle: TensorBundle = record.to_bundle(&Metadata::new()).unwrap();
        let file = TensorFile::from_bytes("rank.safetensors".as_ref(), bundle.to_bytes().unwrap()).unwrap();
        let shape = [LAYERS, NEURONS];
        let (_, found) = file.f32("score", Some(&shape)).unwrap();
        near(ranking.name(), &found, &reference.f32(&format!("expected.{ranking}"), Some(&shape)).unwrap().1);
    }
}
