//! A statistic that this crate does not know: taken in one pass with those that it knows, written, read by its kind, merged.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use skn_artifact::names::key;
use skn_artifact::{Array, TensorBundle, TensorFile};
use skn_data::{Encoded, shard};
use skn_probing::{
    Average, BatchTexts, Kinds, Metadata, PassOptions, Pool, Record, Result, Row, Statistic, Workers,
    collect, described, other, part,
};

use support::{LAYERS, NEURONS, model, texts, through_a_file};

/// The largest activation of each neuron over all texts, `[L, F]`, and how many texts there were.
#[derive(Clone)]
struct Largest {
    values: Vec<f32>,
    texts: i64,
}

const KIND: &str = "largest";

impl Largest {
    fn new(texts: usize) -> Self {
        Self { values: vec![f32::NEG_INFINITY; LAYERS * NEURONS], texts: texts as i64 }
    }

    fn read(file: &TensorFile) -> Result<Self> {
        file.expect_kind(KIND)?;
        let values = file.f32("largest", Some(&[LAYERS, NEURONS]))?.1;
        Ok(Self { values, texts: file.i64("texts", Some(&[1]))?.1[0] })
    }
}

impl Statistic for Largest {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == Pool::Max
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        Ok(Box::new(Self::new(texts.rows.len())))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        let own = &mut self.values[row.layer * NEURONS..][..row.values.len()];
        own.iter_mut().zip(row.values).for_each(|(own, &value)| *own = own.max(value));
        Ok(())
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        self.merge(&part::<Self>(of_batch)?)
    }

    fn file(&self, split: &str) -> String {
        format!("{split}_{KIND}")
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        Ok(self)
    }
}

impl Record for Largest {
    fn merge(&mut self, shard: &dyn Record) -> Result<()> {
        let shard: &Self = other(shard)?;
        self.texts += shard.texts;
        self.values.iter_mut().zip(&shard.values).for_each(|(own, &value)| *own = own.max(value));
        Ok(())
    }

    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        let mut bundle = described(KIND, metadata);
        bundle.insert("largest", Array::f32(vec![LAYERS, NEURONS], self.values.clone())?);
        bundle.insert("texts", Array::i64(vec![1], vec![self.texts])?);
        Ok(bundle)
    }
}

/// The files of one pass with both statistics.
fn files(texts: &[Encoded], threads: usize) -> Vec<TensorBundle> {
    let model = model();
    let workers = Workers::new(threads).unwrap();
    let options = PassOptions { token_budget: 32, ..PassOptions::new(&workers) };
    let own: [Box<dyn Statistic>; 2] =
        [Box::new(Largest::new(0)), Box::new(Average::new(&model, Pool::Max).unwrap())];
    let taken = collect("looking", &model, texts, 2, own.into(), &options).unwrap();
    assert_eq!(taken[0].file("dev"), "dev_largest");
    let metadata = Metadata::from([(key::TASK.to_owned(), "t".to_owned())]);
    taken.into_iter().map(|of| of.into_record().unwrap().to_bundle(&metadata).unwrap()).collect()
}

#[test]
fn it_is_taken_written_and_merged_like_one_of_this_crate() {
    let texts = texts(41, 3);
    let whole = files(&texts, 1);
    // Beside one that is checked elsewhere: no average is above the largest of all.
    let largest = Largest::read(&through_a_file(&whole[0])).unwrap();
    let average = Average::read(&through_a_file(&whole[1]), Pool::Max).unwrap();
    let averages = average.values().unwrap();
    assert!(averages.iter().zip(&largest.values).all(|(average, largest)| average <= largest));
    assert!(averages.iter().zip(&largest.values).any(|(average, largest)| average < largest));
    assert_eq!(largest.texts, 41);

    let kinds = Kinds::default().with(KIND, |file| Ok(Box::new(Largest::read(file)?)));
    for count in [2, 3] {
        let shards: Vec<_> = (0..count).map(|index| files(shard(&texts, index, count).unwrap(), 2)).collect();
        for (which, whole) in whole.iter().enumerate() {
            let read = |of: &Vec<TensorBundle>| kinds.read(&through_a_file(&of[which])).unwrap();
            let mut merged = read(&shards[0]);
            for shard in &shards[1..] {
                merged.merge(read(shard).as_ref()).unwrap();
            }
            let metadata = Metadata::from([(key::TASK.to_owned(), "t".to_owned())]);
            let merged = merged.to_bundle(&metadata).unwrap();
            assert!(merged.to_bytes().unwrap() == whole.to_bytes().unwrap(), "{count} shards of {which}");
        }
    }
}

#[test]
fn what_is_of_another_type_is_refused() {
    let whole = files(&texts(5, 1), 1);
    let error = Kinds::default().read(&through_a_file(&whole[0])).err().unwrap().to_string();
    for part in ["part.safetensors", "skn.kind", "train_avg", "found largest"] {
        assert!(error.contains(part), "{error}");
    }
    let average = Kinds::default().read(&through_a_file(&whole[1])).unwrap();
    let error = Largest::new(0).merge(average.as_ref()).unwrap_err().to_string();
    assert!(error.contains("shard to merge") && error.contains("Largest"), "{error}");
}
