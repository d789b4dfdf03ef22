//! Finds the neuron that tells two classes apart best, as a project that uses two of skn's crates would.

use candle_core::{Device, Tensor};
use skn_model::{Gradients, LanguageModel, ModelFolder, Pass, Rows, Sequences, Site, Tuning, Weights};
use skn_stats::{FireAccumulator, MeanAccumulator, best};
use tokenizers::{Tokenizer, TruncationParams};

type Result<T> = std::result::Result<T, tokenizers::Error>;

/// Layer, prompt position and index of the neuron whose "above its average over `train`" tells label 1 from 0 best.
pub fn find(at: &str, tuning: &Tuning, train: &[String], dev: &[(String, usize)]) -> Result<[usize; 3]> {
    let folder = ModelFolder::open(at)?;
    let config = folder.config()?;
    let weights = Weights::read(&folder, &config, &Device::Cpu)?;
    let mut tokenizer = Tokenizer::from_file(format!("{at}/tokenizer.json"))?;
    let mask = tokenizer.token_to_id("<mask>").ok_or("the tokenizer has no <mask>")?;
    let model = LanguageModel::new(&config, &weights, tuning, mask, Gradients::Nothing)?;
    let cut = TruncationParams { max_length: model.max_text(), ..Default::default() };
    tokenizer.with_truncation(Some(cut))?;
    let (positions, width) = (model.prompt_rows(), config.widest());
    let activations = |text: &str| -> Result<Vec<f32>> {
        let (text, mut neurons) = (tokenizer.encode(text, true)?, Vec::new());
        let mut watch = |site: Site, _: &Rows<'_>, x: Tensor| {
            let Site::FfnAct { .. } = site else { return Ok(x) };
            neurons.extend(x.narrow(0, 0, positions)?.flatten_all()?.to_vec1::<f32>()?);
            Ok(x)
        };
        let batch = Sequences { ids: text.get_ids(), starts: &[0, text.len()], samples: &[0], seconds: &[] };
        model.forward(batch, &Pass::default(), &mut watch)?;
        Ok(neurons)
    };
    let mut sums = MeanAccumulator::new(config.layers() * positions * width);
    for text in train {
        sums.add_row_at(0, &activations(text)?)?;
    }
    sums.add_rows(train.len() as u64)?;
    let (averages, mut fires) = (sums.mean()?, FireAccumulator::new(sums.len(), 2)?);
    for (text, label) in dev {
        fires.add(*label, 0, &activations(text)?, &averages)?;
        fires.add_row_label(*label)?;
    }
    let place = best(&fires.correct(1)?.collect::<Vec<u64>>(), fires.rows()).ok_or("no neurons")?;
    Ok([place / width / positions, place / width % positions, place % width])
}
