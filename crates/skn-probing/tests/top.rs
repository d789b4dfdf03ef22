//! The texts that excite neurons most are those with the largest of all activations, whatever threads, batches and shards they come from.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::collections::BTreeMap;

use skn_data::{Encoded, shard};
use skn_probing::{
    Kinds, Metadata, NeuronPlace, PassOptions, Pool, Positions, Statistic, Top, TopTexts, Workers, collect,
    counts,
};

use support::{model, texts, through_a_file};

const NEURONS: [NeuronPlace; 2] =
    [NeuronPlace { layer: 1, index: 2, position: 1 }, NeuronPlace { layer: 0, index: 3, position: 0 }];

/// What a pass keeps, through a file.
fn top(
    texts: &[Encoded],
    pool: Pool,
    neurons: &[NeuronPlace],
    way: (usize, usize),
) -> skn_artifact::TensorFile {
    let (model, workers) = (model(), Workers::new(way.0).unwrap());
    let options = PassOptions { token_budget: way.1, ..PassOptions::new(&workers) };
    let statistic: Box<dyn Statistic> = Box::new(Top::new(&model, pool, neurons.to_vec()).unwrap());
    let mut taken = collect("counting", &model, texts, 2, vec![statistic], &options).unwrap();
    let record = taken.remove(0).into_record().unwrap();
    through_a_file(&record.to_bundle(&Metadata::new()).unwrap())
}

/// All activations of a neuron, from a pass that captures them.
fn captured(texts: &[Encoded], neuron: NeuronPlace) -> Vec<(f32, u64)> {
    let (model, workers) = (model(), Workers::new(1).unwrap());
    let at = Some((neuron.layer, neuron.index));
    let found = counts(&model, texts, 2, &BTreeMap::new(), at, &PassOptions::new(&workers)).unwrap();
    let Positions { positions, activations, .. } = found.positions.unwrap();
    activations
        .chunks_exact(positions)
        .zip(texts)
        .map(|(row, text)| (row[neuron.position], text.row))
        .collect()
}

#[test]
fn they_are_the_largest_of_all() {
    let texts = texts(37, 3);
    let whole = TopTexts::read(&top(&texts, Pool::Position, &NEURONS, (1, 2048)), Pool::Position).unwrap();
    for (number, &neuron) in NEURONS.iter().enumerate() {
        let mut all = captured(&texts, neuron);
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let found: Vec<(f32, u64)> =
            whole.texts(number).iter().map(|text| (text.activation, text.row)).collect();
        assert_eq!(found, all[..TopTexts::KEPT]);
        let class = |row: u64| texts.iter().find(|text| text.row == row).unwrap().label;
        assert!(whole.texts(number).iter().all(|text| text.class == class(text.row)));
    }
    for way in [(2, 40), (3, 300)] {
        assert_eq!(
            TopTexts::read(&top(&texts, Pool::Position, &NEURONS, way), Pool::Position).unwrap(),
            whole
        );
    }
}

#[test]
fn shards_merge_to_the_whole_by_their_kind() {
    let (texts, last) = (texts(37, 4), [NeuronPlace { position: 0, ..NEURONS[0] }]);
    let whole = Kinds::default().read(&top(&texts, Pool::Last, &last, (1, 2048))).unwrap();
    let parts: Vec<_> =
        (0..3).map(|part| top(shard(&texts, part, 3).unwrap(), Pool::Last, &last, (1, 64))).collect();
    // From the last to the first: no order matters.
    let mut merged = Kinds::default().read(&parts[2]).unwrap();
    for part in [&parts[0], &parts[1]] {
        merged.merge(Kinds::default().read(part).unwrap().as_ref()).unwrap();
    }
    let bytes = |of: &dyn skn_probing::Record| of.to_bundle(&Metadata::new()).unwrap().to_bytes().unwrap();
    assert_eq!(bytes(merged.as_ref()), bytes(whole.as_ref()));
    // Texts of other neurons don't merge with these.
    let other = top(&texts, Pool::Last, &[NeuronPlace { index: 0, ..last[0] }], (1, 2048));
    assert!(merged.merge(Kinds::default().read(&other).unwrap().as_ref()).is_err());
}

#[test]
fn neurons_that_the_model_does_not_have_are_refused() {
    let model = model();
    let refused = |place: NeuronPlace, pool| Top::new(&model, pool, vec![place]).unwrap_err().to_string();
    let said = refused(NeuronPlace { index: 100_000, ..NEURONS[0] }, Pool::Position);
    assert!(said.contains("1,100000 at 1"), "{said}");
    refused(NeuronPlace { layer: 99, ..NEURONS[0] }, Pool::Position);
    refused(NeuronPlace { position: 99, ..NEURONS[0] }, Pool::Position);
    // A pooled text has one place.
    refused(NEURONS[0], Pool::Last);
    assert!(Top::new(&model, Pool::Position, Vec::new()).is_err());
}
