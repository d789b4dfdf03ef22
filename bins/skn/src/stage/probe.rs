//! `skn-probe`: how well every neuron predicts the label.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use serde::Serialize;
use skn_artifact::{InferencePerformance, InferenceTime, TensorFile};
use skn_data::{Encoded, shard};
use skn_model::{Gradients, Roberta};
use skn_probing::{
    Counts, Metadata, PassOptions, Pool, ProbeType, Threshold, averages, counts, prompt_activation_bundle,
    prompt_activations, speed,
};
use skn_select::{Performance, Rule};

use crate::cli::{AtOnce, Common, Compute, Destination, Shard, Subject, Tuned};
use crate::exit::Failure;
use crate::program::{Call, Stage};
use crate::run::Sink;
use crate::score::{Score, with_interval};
use crate::setup::Setup;

/// Measure how well every feed-forward neuron predicts the label.
///
/// One pass over each split gives all probes that are asked for: average activations over train, then on dev and test
/// how often `activation > average` tells the label. Results are the same bytes for any number of threads and shards.
#[derive(Parser, Clone, Debug)]
#[command(name = "skn-probe", version)]
pub struct Probe {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    tuned: Tuned,

    /// Probes, comma-separated: acc, acc_mean, acc_max, pos, prompt_act, speed
    #[arg(long = "probe_type", value_name = "PROBES", value_delimiter = ',', default_value = "acc")]
    probe_type: Vec<ProbeType>,

    /// For pos: the neuron, as layer,index from 0; or best, that of RUN/<task>/dev_perf
    #[arg(long, value_name = "LAYER,NEURON")]
    pos: Option<Neuron>,

    /// Splits to pass over; without train, the averages are read from the run [default: all]
    #[arg(long, value_name = "SPLITS", value_delimiter = ',')]
    splits: Vec<Split>,

    /// A part of each split, as 2/8; written to RUN/shards, for skn-merge
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,

    #[command(flatten)]
    at_once: AtOnce,

    /// For speed: timed passes over test, after one that is not timed
    #[arg(long, value_name = "N", default_value = "5")]
    repeats: NonZeroUsize,

    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    destination: Destination,
    #[command(flatten)]
    common: Common,
}

/// The neuron whose activations `pos` keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neuron {
    Best,
    At(usize, usize),
}

impl FromStr for Neuron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = || {
            let (layer, index) = text.split_once(',')?;
            Some(Self::At(layer.trim().parse().ok()?, index.trim().parse().ok()?))
        };
        match text {
            "best" => Ok(Self::Best),
            _ => {
                at().ok_or_else(|| "expected two numbers, layer,index from 0, such as 9,1893; or best".into())
            }
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    Train,
    Dev,
    Test,
}

/// What a probe found.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    run: PathBuf,
    task: String,
    model: String,
    layers: usize,
    positions: usize,
    neurons: usize,
    files: Vec<String>,
    /// The neuron that predicts the label best on dev, and how well it does on test.
    #[serde(skip_serializing_if = "Option::is_none")]
    best: Option<Best>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference: Option<InferencePerformance>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<InferenceTime>,
}

/// The best neuron.
#[derive(Clone, Debug, Serialize)]
struct Best {
    layer: usize,
    index: usize,
    position: usize,
    /// The class that it tells from the rest, of more than two.
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<usize>,
    dev: f64,
    test: Option<f64>,
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layers, positions, neurons, model, task, .. } = self;
        write!(f, "probed {layers} layers x ")?;
        if *positions > 0 {
            write!(f, "{positions} positions x ")?;
        }
        write!(f, "{neurons} neurons of {model} on {task}")?;
        if let Some(Best { layer, index, position, class, dev, test }) = &self.best {
            write!(f, "; best neuron: layer {layer}, index {index} at position {position}")?;
            if let Some(class) = class {
                write!(f, " for class {class} against the rest")?;
            }
            write!(f, ", predictivity {dev:.4} on dev")?;
            if let Some(test) = test {
                write!(f, ", {test:.4} on test")?;
            }
        }
        if let (Some(inference), Some(time)) = (&self.inference, &self.time) {
            let InferencePerformance { metric, test_score, interval, rows, parameters, .. } = inference;
            write!(f, "; {metric} {} on {rows} rows of test", with_interval(*test_score, *interval))?;
            write!(f, "; {:.3} ms a text, {:.0} tokens/s", time.ms_per_text, time.tokens_per_second)?;
            write!(f, " (median of {} passes, {} threads)", time.seconds.len(), time.threads)?;
            write!(f, ", {:.2} M parameters", *parameters as f64 / 1e6)?;
        }
        write!(f, "; {} files in {}", self.files.len(), self.run.display())
    }
}

impl Stage for Probe {
    const PROGRAM: &'static str = "skn-probe";
    type Output = Probed;

    fn common(&self) -> &Common {
        &self.common
    }

    fn run(&self, call: &Call<'_>) -> Result<Probed> {
        self.check_flags()?;
        let run = self.destination.out.as_path();
        let setup = self.load()?;
        let model = setup.base.roberta(&setup.base.tuning(&self.tuned)?, Gradients::Nothing)?;
        // A shard has a folder of its own: many are made at once, and a run has one writer.
        let folder = self.shard.map_or(run.to_path_buf(), |shard| shard_folder(run, shard));
        let mut sink = Sink::open(call, &folder, &self.stage_name(), self.destination.force)?;
        let mut probing = Probing::new(self, &setup, &model, run, call)?;
        sink.check_free(&self.outputs(&setup.base.task.name, probing.neuron))?;
        probing.predictivity(&mut sink)?;
        probing.prompt_activations(&mut sink)?;
        let (inference, time) = probing.speed(&mut sink)?.unzip();
        let files = probing.files;
        setup.keep_split(&mut sink, false)?;
        setup.note(&mut sink)?;
        sink.finish()?;
        // The best neuron is one of the whole run's counts, which are written now.
        let best = if self.counts_positions() { best(run, &setup)? } else { None };
        let config = &setup.base.model.config;
        Ok(Probed {
            run: folder,
            task: setup.base.task.name.clone(),
            model: setup.base.identity.id.clone(),
            layers: config.layers(),
            positions: model.prompt_rows(),
            neurons: config.widest(),
            files,
            best,
            inference,
            time,
        })
    }
}

/// Where a shard is kept until it is merged.
pub(crate) fn shard_folder(run: &Path, shard: Shard) -> PathBuf {
    run.join("shards").join(format!("{}-of-{}", shard.index, shard.count))
}

impl Probe {
    fn check_flags(&self) -> Result<()> {
        if self.asks(ProbeType::Pos) && self.pos.is_none() {
            return Err(Failure::usage(
                "--probe_type pos: expected the neuron, --pos LAYER,NEURON or --pos best, found no --pos",
            ));
        }
        if self.pos.is_some() && !self.asks(ProbeType::Pos) {
            return Err(Failure::usage("--pos: goes with --probe_type pos"));
        }
        if self.pos == Some(Neuron::Best) && self.asks(ProbeType::Acc) {
            return Err(Failure::usage(
                "--pos best is the best of counts that are there: probe acc first, then pos with --pos best",
            ));
        }
        if self.asks(ProbeType::Speed) && !self.passes(Split::Test) {
            return Err(Failure::usage("--probe_type speed is measured on test, which --splits leaves out"));
        }
        let Some(shard) = self.shard else { return Ok(()) };
        if let Some(whole) =
            [ProbeType::PromptAct, ProbeType::Speed].into_iter().find(|&probe| self.asks(probe))
        {
            return Err(Failure::usage(format!(
                "--shard {shard}: {whole} is not made of parts; run it once, without --shard"
            )));
        }
        let (train, rest) = (self.passes(Split::Train), self.passes(Split::Dev) || self.passes(Split::Test));
        if train && rest && self.pools().next().is_some() {
            return Err(Failure::usage(format!(
                "--shard {shard}: the averages over all of train come first; probe with --splits train, then skn-merge, \
                 then --splits dev,test, then skn-merge"
            )));
        }
        Ok(())
    }

    /// What is asked of texts alone can be asked of an encoder; a prompt is tuned through the masked-LM head.
    fn load(&self) -> Result<Setup> {
        let of_texts = [ProbeType::AccMean, ProbeType::AccMax];
        match self.probe_type.iter().all(|probe| of_texts.contains(probe)) {
            true => Setup::load_encoder(&self.subject, &self.compute, &self.tuned),
            false => Setup::load(&self.subject, &self.compute, &self.tuned),
        }
    }

    fn asks(&self, probe: ProbeType) -> bool {
        self.probe_type.contains(&probe)
    }

    fn passes(&self, split: Split) -> bool {
        self.splits.is_empty() || self.splits.contains(&split)
    }

    fn pools(&self) -> impl Iterator<Item = Pool> {
        self.probe_type.iter().filter_map(|probe| probe.pool())
    }

    fn counts_positions(&self) -> bool {
        self.asks(ProbeType::Acc) && self.passes(Split::Dev) && self.shard.is_none()
    }

    /// Each set of probes has an entry of its own in the run's record.
    fn stage_name(&self) -> String {
        let mut names: Vec<&str> = self.probe_type.iter().map(|probe| probe.name()).collect();
        names.sort_unstable();
        names.dedup();
        let splits: Vec<String> =
            self.splits.iter().map(|split| format!("{split:?}").to_lowercase()).collect();
        let splits = if splits.is_empty() { String::new() } else { format!(" on {}", splits.join(",")) };
        format!("probe {}{splits}", names.join(","))
    }

    /// The names of all files that this will write, in the sink's folder.
    fn outputs(&self, task: &str, neuron: Option<(usize, usize)>) -> Vec<String> {
        let mut names = Vec::new();
        for pool in self.pools() {
            if self.passes(Split::Train) {
                names.push(tensors(pool.average_file()));
            }
            for (_, split) in self.counted() {
                names.push(tensors(&pool.performance_file(split)));
            }
        }
        if let Some(neuron) = neuron {
            names.extend(self.counted().map(|(_, split)| positions_file(split, neuron)));
        }
        if self.asks(ProbeType::PromptAct) {
            names.push(tensors("prompt_activation"));
        }
        if self.asks(ProbeType::Speed) {
            names.extend([PERFORMANCE, TIME].map(String::from));
        }
        names.into_iter().map(|name| format!("{task}/{name}")).collect()
    }

    /// The splits to count on.
    fn counted(&self) -> impl Iterator<Item = (Split, &'static str)> {
        [(Split::Dev, "dev"), (Split::Test, "test")].into_iter().filter(|&(split, _)| self.passes(split))
    }
}

const PERFORMANCE: &str = "inference_perf.json";
const TIME: &str = "inference_time.json";

fn tensors(name: &str) -> String {
    format!("{name}.safetensors")
}

fn positions_file(split: &str, (layer, index): (usize, usize)) -> String {
    format!("pos_{split}/{layer},{index}.safetensors")
}

/// A probe under way.
struct Probing<'a> {
    probe: &'a Probe,
    setup: &'a Setup,
    model: &'a Roberta,
    options: PassOptions<'a>,
    /// The whole run, of which a shard may be made.
    run: &'a Path,
    /// The neuron whose activations are kept, for `pos`.
    neuron: Option<(usize, usize)>,
    files: Vec<String>,
}

impl<'a> Probing<'a> {
    fn new(
        probe: &'a Probe,
        setup: &'a Setup,
        model: &'a Roberta,
        run: &'a Path,
        call: &'a Call<'_>,
    ) -> Result<Self> {
        let options = setup.base.pass(probe.at_once.texts(), call.console);
        let mut probing = Self { probe, setup, model, options, run, neuron: None, files: Vec::new() };
        probing.neuron = probing.find_neuron()?;
        Ok(probing)
    }

    /// The neuron of `--pos`, which the model must have.
    fn find_neuron(&self) -> Result<Option<(usize, usize)>> {
        let widths = &self.model.config().intermediate_sizes;
        match self.probe.pos {
            None => Ok(None),
            Some(Neuron::At(layer, index)) => match widths.get(layer) {
                None => Err(Failure::usage(format!(
                    "--pos {layer},{index}: layer {layer}: expected 0 to {}, the model's layers",
                    widths.len() - 1
                ))),
                Some(&width) if index >= width => Err(Failure::usage(format!(
                    "--pos {layer},{index}: index {index}: layer {layer} has {width} neurons, from 0"
                ))),
                Some(_) => Ok(Some((layer, index))),
            },
            Some(Neuron::Best) => {
                let file = self.file_of_run("dev_perf")?;
                let Rule { layer, index, .. } = Performance::read(&file)?.best_rule()?;
                Ok(Some((layer, index)))
            }
        }
    }

    /// A file that an earlier probe left in the run, of this very model with these very tuned parameters.
    fn file_of_run(&self, name: &str) -> Result<TensorFile> {
        let name = format!("{}/{}", self.setup.base.task.name, tensors(name));
        let file = TensorFile::read(&self.run.join(&name))?;
        let expected = self.setup.metadata("train", self.model)?;
        for (key, what) in [("skn.model_sha256", "model"), ("skn.tuning_sha256", "tuned parameters")] {
            match (file.metadata().get(key), expected.get(key)) {
                (Some(found), Some(expected)) if found != expected => {
                    return Err(Failure::input(format!(
                        "{}: {key}: expected {expected}, that of the {what} given, found {found}; probe again",
                        file.path().display()
                    )));
                }
                _ => {}
            }
        }
        // f32 is not noted.
        let dtypes = [&expected, file.metadata()].map(|of| of.get("skn.dtype").map_or("f32", String::as_str));
        if let [expected, found] = dtypes
            && expected != found
        {
            return Err(Failure::input(format!(
                "{}: skn.dtype: expected {expected}, as --dtype says, found {found}; probe again",
                file.path().display()
            )));
        }
        Ok(file)
    }

    /// Averages over train, counts on dev and test.
    fn predictivity(&mut self, sink: &mut Sink) -> Result<()> {
        let types = &self.probe.probe_type;
        let mut fresh = BTreeMap::new();
        if self.probe.passes(Split::Train) && self.probe.pools().next().is_some() {
            let texts = self.texts("train")?;
            for (pool, average) in averages(self.model, &texts, types, &self.options)? {
                self.write(sink, pool.average_file(), &average.to_bundle(&self.metadata("train")?)?)?;
                fresh.insert(pool, average.threshold()?);
            }
        }
        let splits: Vec<_> = self.probe.counted().collect();
        if splits.is_empty() || (self.probe.pools().next().is_none() && !self.probe.asks(ProbeType::Pos)) {
            return Ok(());
        }
        let mut thresholds = BTreeMap::new();
        for pool in self.probe.pools() {
            let threshold = match fresh.remove(&pool) {
                Some(threshold) => threshold,
                None => self.threshold_of_run(pool)?,
            };
            thresholds.insert(pool, threshold);
        }
        for (_, split) in splits {
            self.count(sink, split, &thresholds)?;
        }
        Ok(())
    }

    fn count(&mut self, sink: &mut Sink, split: &str, thresholds: &BTreeMap<Pool, Threshold>) -> Result<()> {
        let classes = self.setup.base.task.classes();
        let neuron = self.neuron;
        let texts = self.texts(split)?;
        let Counts { counts, positions } =
            counts(self.model, &texts, classes, thresholds, neuron, &self.options)?;
        for (pool, count) in counts {
            let bundle = count.performance()?.to_bundle(&self.metadata(split)?)?;
            self.write(sink, &pool.performance_file(split), &bundle)?;
        }
        if let (Some(positions), Some(neuron)) = (positions, neuron) {
            let name = positions_file(split, neuron);
            let bundle = positions.to_bundle(&self.metadata(split)?)?;
            self.write(sink, name.trim_end_matches(".safetensors"), &bundle)?;
        }
        Ok(())
    }

    /// The averages that an earlier pass over train left in the run.
    fn threshold_of_run(&self, pool: Pool) -> Result<Threshold> {
        Ok(Threshold::read(&self.file_of_run(pool.average_file())?, pool)?)
    }

    /// The activations of an empty text.
    fn prompt_activations(&mut self, sink: &mut Sink) -> Result<()> {
        if !self.probe.asks(ProbeType::PromptAct) {
            return Ok(());
        }
        let (encoder, config) = (&self.setup.base.encoder, &self.setup.base.model.config);
        let activations = prompt_activations(self.model, &[encoder.start_id(), encoder.end_id()])?;
        let mut metadata = self.metadata("train")?;
        metadata.retain(|key, _| key != "skn.data_sha256" && key != "skn.split");
        let bundle = prompt_activation_bundle(&[activations], [config.layers(), config.widest()], &metadata)?;
        self.write(sink, "prompt_activation", &bundle)
    }

    /// Accuracy and time of inference on test.
    fn speed(&mut self, sink: &mut Sink) -> Result<Option<(InferencePerformance, InferenceTime)>> {
        if !self.probe.asks(ProbeType::Speed) {
            return Ok(None);
        }
        let base = &self.setup.base;
        let texts = self.texts("test")?;
        let repeats = self.probe.repeats.get();
        let speed = speed(self.model, &texts, &base.verbalizer.ids, repeats, 1, &self.options)?;
        let score = Score::of(base.task.metric, &speed.evaluation, base.seed)?;
        let performance = speed.performance(&base.task.name, base.task.metric, score.interval);
        let time = speed.time(base.workers.threads(), if base.device.is_cpu() { "cpu" } else { "cuda" });
        for (name, value) in
            [(PERFORMANCE, serde_json::to_value(&performance)?), (TIME, serde_json::to_value(&time)?)]
        {
            let name = format!("{}/{name}", base.task.name);
            sink.json(&name, &value)?;
            self.files.push(name);
        }
        Ok(Some((performance, time)))
    }

    fn texts(&self, split: &str) -> Result<Vec<Encoded>> {
        let texts = self.setup.base.encode(self.setup.part(split), self.model)?;
        let Some(Shard { index, count }) = self.probe.shard else { return Ok(texts) };
        let part = shard(&texts, index - 1, count)?.to_vec();
        if part.is_empty() {
            let (rows, shard) = (texts.len(), Shard { index, count });
            return Err(Failure::usage(format!("--shard {shard}: split {split} has only {rows} rows")));
        }
        Ok(part)
    }

    fn metadata(&self, split: &str) -> Result<Metadata> {
        let mut metadata = self.setup.metadata(split, self.model)?;
        if let Some(shard) = self.probe.shard {
            metadata.insert("skn.shard".into(), shard.to_string());
        }
        Ok(metadata)
    }

    fn write(&mut self, sink: &mut Sink, name: &str, bundle: &skn_artifact::TensorBundle) -> Result<()> {
        let name = format!("{}/{}", self.setup.base.task.name, tensors(name));
        sink.tensors(&name, bundle)?;
        self.files.push(name);
        Ok(())
    }
}

/// The best neuron of the run's counts.
fn best(run: &Path, setup: &Setup) -> Result<Option<Best>> {
    let folder = run.join(&setup.base.task.name);
    let read = |name: &str| {
        Ok::<_, anyhow::Error>(Performance::read(&TensorFile::read(&folder.join(tensors(name)))?)?)
    };
    let dev = read("dev_perf")?;
    let rule = dev.best_rule()?;
    let test = folder.join(tensors("test_perf")).is_file().then(|| read("test_perf")).transpose()?;
    let told = |test: &Performance| rule.class.is_none_or(|class| test.tells(class));
    let test = test.filter(told).map(|test| test.accuracy_of(&rule)).transpose()?;
    let Rule { layer, index, position, class, .. } = rule;
    Ok(Some(Best { layer, index, position, class, dev: dev.accuracy_of(&rule)?, test }))
}
