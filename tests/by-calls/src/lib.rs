//! The demo's chain, from tuning to the pruned model's answers, by the calls of one session.

use std::path::Path;

use skn_session::options::{
    Classify, EditChoice, Perturb, Probe, Prune, Select, Subject, Train, Tuned, TunedMethod,
};
use skn_session::{ProbeType, Result, Session, Text};

/// What the chain comes to: scores on test, and what the pruned model answers.
#[derive(Debug)]
pub struct Found {
    /// The tuned model; its skill neurons perturbed, and as many random ones; the pruned model, and that tuned further.
    pub scores: [f64; 5],
    /// Layer and index of the best neuron.
    pub best: (usize, usize),
    /// The word for each text.
    pub words: Vec<String>,
}

/// Tunes a prompt on the demo's sentiment, and the pruned model again; leaves the runs in a folder.
pub fn chain(session: &Session, subject: Subject, run: &Path, texts: &[Text]) -> Result<Found> {
    let task = run.join("sentiment");
    let (averages, masks) = (task.join("train_avg"), run.join("info/sentiment"));
    session.train(&Train::new(subject, run))?;
    let types = [ProbeType::Acc, ProbeType::AccMean, ProbeType::AccMax, ProbeType::Speed];
    let probed = session.probe(&Probe::of(run, &types))?;
    let mut select = Select::new(task.join("dev_perf"), run);
    select.shares = vec!["0.02".parse()?, "0.3".parse()?];
    session.select(&select)?;
    let mean = EditChoice::Mean { averages: averages.clone() };
    let mut perturb = Perturb::of(run, vec![masks.join("0.3")], mean);
    perturb.controls = 10;
    let perturbed = session.perturb(&perturb)?;
    let [pruned, tuned] = ["prune", "prune-tuned"].map(|name| run.join(name));
    let mut prune = Prune::of(run, masks.join("0.02"), averages, &pruned);
    prune.layers.low_layer = Some(3);
    session.prune(&prune)?;
    let mut retrain = Train::new(Subject::default(), &tuned);
    retrain.tuned = Tuned::of(&pruned).by(TunedMethod::PrunePrompt);
    session.train(&retrain)?;
    let on_test = |run: &Path| -> Result<f64> {
        let mut probe = Probe::of(run, &[ProbeType::Speed]);
        probe.tuned.method = Some(TunedMethod::PrunePrompt);
        Ok(session.probe(&probe)?.inference.map_or(f64::NAN, |inference| inference.test_score))
    };
    let of_tuned = probed.inference.map_or(f64::NAN, |inference| inference.test_score);
    let (skill, random) = (perturbed.skill[0].mean, perturbed.random[0].mean);
    let answers = session.classifier(&Classify::by(&tuned))?.answer(texts)?;
    Ok(Found {
        scores: [of_tuned, skill, random, on_test(&pruned)?, on_test(&tuned)?],
        best: probed.best.map_or((0, 0), |best| (best.layer, best.index)),
        words: answers.into_iter().map(|answer| answer.word).collect(),
    })
}
