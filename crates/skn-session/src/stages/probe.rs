use std::any::Any;
use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Serialize;
use skn_artifact::names::{file, fire, key, kind, rank};
use skn_artifact::{
    InferencePerformance, InferenceTime, RunRecord, Spool, TensorBundle, TensorFile, is_folder,
};
use skn_counts::{NeuronPlace, Performance, Rule, TopTexts};
use skn_data::{Encoded, Example, StoredTexts, Text, TextList, TextStore, shard};
use skn_model::{Gradients, LanguageModel};
use skn_perturb::mean_over_positions;
use skn_probing::{
    Alone, Average, Capture, Count, Fires, Metadata, PassOptions, Pool, ProbeType, ProbingError, Rank,
    RankRecord, Ranked, Ranking, Record, Sample, Statistic, Threshold, Top, collect, collect_gradients, l1,
    prompt_activation_bundle, prompt_activations, speed,
};
use skn_random::{Key, Purpose};

use super::best::BestPredictor;
use super::compare::Comparison;
use super::mask_file::{check_site as check_site_of, check_template};
use super::numbers::{Numbers, numbers};
use super::probe_checks::{check, check_prompt, check_site};
use super::probe_group::{Taken, spread_ranked, together};
use super::probe_top::{best_of, counted, describe, outdated, top_file};
use crate::error::{Result, SessionError};
use crate::options::{NeuronChoice, Probe, Shard, Split};
use crate::provenance;
use crate::run_writer::RunWriter;
use crate::score::Score;
use crate::session::Session;
use crate::setup::{Setup, stored_part};
use crate::spread::first_of_share;

/// What a probe found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Probed {
    /// The folder it was written to: the run's, or a shard's in it.
    pub run: PathBuf,
    /// The task's name.
    pub task: String,
    /// The model's id.
    pub model: String,
    /// L, the model's layers.
    pub layers: usize,
    /// P, the prompt's positions.
    pub positions: usize,
    /// F, the neurons of the widest layer.
    pub neurons: usize,
    /// Which number of a neuron was read, where the FFN is gated: product, gate or up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<&'static str>,
    /// The files that were written, by their paths in the folder.
    pub files: Vec<String>,
    /// The neuron that predicts the label best on dev, and how well it does on test: of `acc`, else of the first of `acc_last`,
    /// `acc_mean`, `acc_max` that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<BestPredictor>,
    /// The same of `acc_last`, where it is not that anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_last: Option<BestPredictor>,
    /// The test set as the model answers it, of `speed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inference: Option<InferencePerformance>,
    /// How long that took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<InferenceTime>,
}

impl Session {
    /// Measures how well every feed-forward neuron predicts the label: average activations over train, then on dev and test
    /// how often `activation > average` tells the label, in one pass over each split. The files are the same bytes for any
    /// number of threads and shards.
    ///
    /// # Errors
    /// If something named is missing, damaged or does not fit, or the run has files that may not be replaced.
    pub fn probe(&self, options: &Probe) -> Result<Probed> {
        check(options)?;
        if options.shard.is_some() {
            self.require_alone("option `shard`: a shard")?;
        }
        let setup = load(self, options)?;
        let model = setup.base.roberta_as_stored(&setup.base.tuning(&options.tuned)?, Gradients::Nothing)?;
        check_prompt(options, &setup, &model)?;
        check_site(options, &setup)?;
        let run = options.out.as_path();
        // A shard has a folder of its own: many are made at once, and a run has one writer.
        let folder = options.shard.map_or(run.to_path_buf(), |shard| shard.folder(run));
        let (entry, overwrite) = (options.entry(), options.overwrite);
        let mut writer = RunWriter::open(self, options.clone(), &folder, &entry, overwrite)?;
        let mut probing = Probing::new(self, options, setup, &model, writer.scratch())?;
        let task = probing.setup.base.task.name.clone();
        let task = task.as_str();
        let top_of = probing.top.as_ref().map(|(pool, _)| *pool);
        let made = outputs(options, task, &probing.neurons, top_of);
        writer.check_free(&made)?;
        let record = RunRecord::read(&folder)?;
        let fires = outdated_fires(options, task, &record);
        for name in &fires {
            tracing::warn!(
                "{name}: goes, as this probe replaces the counts that its bits are of; option `fire_bits` keeps bits of the new \
                 counts"
            );
        }
        writer.remove_listed(fires)?;
        let tops = outdated(options, task, &record);
        for name in &tops {
            tracing::warn!(
                "{name}: goes, as this probe replaces the counts that its neurons were the best of"
            );
        }
        writer.remove_listed(tops)?;
        let rankings = outdated_rankings(options, task, &entry, &record, &made);
        if !rankings.is_empty() {
            let names = rankings.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "{names}: goes, as this probe replaces what it was made with; option `rank` makes rankings again, option `compare` \
                 their comparison, option `out` RUN keeps the old ones"
            );
        }
        writer.remove_listed(rankings)?;
        probing.setup.keep_split(&mut writer, false)?;
        // While texts are in memory the weights need not be.
        probing.tokenise()?;
        probing.setup.base.pack(&model)?;
        probing.predictivity(&mut writer)?;
        probing.compare(&mut writer)?;
        probing.prompt_activations(&mut writer)?;
        let (inference, time) = probing.speed(&mut writer)?.unzip();
        let Probing { files, read, setup, .. } = probing;
        read.iter().try_for_each(|path| writer.read(path))?;
        setup.note(&mut writer)?;
        writer.finish()?;
        let own = self
            .group()
            .is_first()
            .then(|| best(options, &run.join(&setup.base.task.name), setup.base.paper));
        let (best, best_last) = own.transpose()?.unwrap_or_default();
        let config = &setup.base.model.config;
        Ok(Probed {
            run: folder,
            task: setup.base.task.name.clone(),
            model: setup.base.identity.id.clone(),
            layers: config.layers(),
            positions: model.prompt_rows(),
            neurons: config.widest(),
            site: config.is_gated().then(|| options.site.name()),
            files,
            best,
            best_last,
            inference,
            time,
        })
    }
}

/// The best neurons, which are of the whole run's counts: these are written now. The second is that of `acc_last` beside another.
fn best(
    options: &Probe,
    folder: &Path,
    paper: bool,
) -> Result<(Option<BestPredictor>, Option<BestPredictor>)> {
    if !options.passes(Split::Dev) || options.shard.is_some() {
        return Ok((None, None));
    }
    let order = [ProbeType::Acc, ProbeType::AccLast, ProbeType::AccMean, ProbeType::AccMax];
    let mut asked = order.into_iter().filter(|probe| options.asks(*probe));
    let mut next = || asked.next().map_or(Ok(None), |probe| BestPredictor::of(folder, probe, paper));
    let first = next()?;
    let last = next()?.filter(|best| best.probe == ProbeType::AccLast);
    Ok((first, last))
}

/// What is read of texts alone needs nothing that answers: no masked-LM head, and no words of the task's classes.
fn load<'s>(session: &'s Session, options: &Probe) -> Result<Setup<'s>> {
    if takes_rows_once(session, options) {
        let setup = Setup::load_stored(session, &options.subject, &options.tuned, &room(&options.out))?;
        if needs_answers(options) {
            setup.base.require_answers()?;
        }
        return Ok(setup);
    }
    match needs_answers(options) {
        false => Setup::load_encoder(session, &options.subject, &options.tuned),
        true => Setup::load(session, &options.subject, &options.tuned),
    }
}

fn needs_answers(options: &Probe) -> bool {
    let of_texts =
        [ProbeType::AccMean, ProbeType::AccMax, ProbeType::AccLast, ProbeType::Pos, ProbeType::Top];
    let answers = !options.compare.is_empty() || options.rank.iter().any(|ranking| ranking.needs_gradients());
    answers || options.probe_type.iter().any(|probe| !of_texts.contains(probe))
}

/// Whether rows are needed until they are tokens, and no longer. A rehearsal, and processes of a group, take them as they come to them.
fn takes_rows_once(session: &Session, options: &Probe) -> bool {
    let says = [Split::Train, Split::Dev, Split::Test].into_iter().any(|split| options.says(split));
    let alone = session.group().size() == 1 && session.rehearsal().is_none();
    alone && !session.cache.keeps_data() && !says && options.metric_column.is_none()
}

/// Where a file without a name takes room before the run is opened: in its folder, or in that which it will be made in. Any will do.
fn room(run: &Path) -> PathBuf {
    let mut above = run.ancestors().map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    let found = above.find(|folder| is_folder(folder).unwrap_or(false));
    found.map_or_else(std::env::temp_dir, Path::to_path_buf)
}

/// The names of all files that a probe will write, in its folder.
fn outputs(options: &Probe, task: &str, neurons: &[(usize, usize)], top_of: Option<Pool>) -> Vec<String> {
    let mut names = Vec::new();
    for pool in options.pools() {
        if options.passes(Split::Train) {
            names.push(file::tensors(pool.average_file()));
        }
        names.extend(options.counted().map(|split| file::tensors(&pool.performance_file(split))));
    }
    for &(layer, index) in neurons {
        names.extend(options.counted().map(|split| file::positions(split, layer, index)));
    }
    names.extend(top_of.map(top_file));
    names.extend(options.counted().filter(|_| options.with_texts).map(file::position_texts));
    if options.fire_bits && options.passes(Split::Dev) {
        names.extend(options.fire_pools().map(fire_file));
    }
    if options.asks(ProbeType::PromptAct) {
        names.push(file::tensors(kind::PROMPT_ACTIVATION));
    }
    if options.asks(ProbeType::Speed) {
        names.extend([file::INFERENCE_PERFORMANCE, file::INFERENCE_TIME].map(String::from));
    }
    names.extend(options.rank.iter().map(|ranking| file::tensors(&rank::file(ranking.name()))));
    names.extend(held_out(options).map(|split| file::tensors(&rank::areas(split.name()))));
    names.extend((!options.compare.is_empty()).then(|| rank::COMPARISON.to_owned()));
    names.into_iter().map(|name| format!("{task}/{name}")).collect()
}

/// Test, where areas under ROC curves are taken of it too.
fn held_out(options: &Probe) -> Option<Split> {
    Some(Split::Test).filter(|&test| options.passes(test) && options.rank.contains(&Ranking::Auc))
}

fn fire_file(pool: Pool) -> String {
    file::tensors(&fire::file(pool.name(), Split::Dev.name()))
}

/// The fire bits of earlier counts, which would be taken for those of counts that this probe replaces.
fn outdated_fires(options: &Probe, task: &str, record: &RunRecord) -> Vec<String> {
    if options.fire_bits || !options.passes(Split::Dev) {
        return Vec::new();
    }
    let names = options.fire_pools().map(|pool| format!("{task}/{}", fire_file(pool)));
    names.filter(|name| record.stages.values().any(|stage| stage.outputs.contains_key(name))).collect()
}

/// The rankings of a run and what compared them that go: where averages or counts of dev are replaced all that are not made now, else
/// those that an earlier call of this stage made and this one does not.
fn outdated_rankings(
    options: &Probe,
    task: &str,
    entry: &str,
    record: &RunRecord,
    made: &[String],
) -> BTreeSet<String> {
    let replaces = options.passes(Split::Train) || options.passes(Split::Dev);
    if options.pools().next().is_some() && replaces {
        return rankings_but(record, task, made).into_iter().collect();
    }
    let rankings = format!("{task}/{}/", rank::FOLDER);
    let former = record.stages.get(entry).into_iter().flat_map(|stage| stage.outputs.keys());
    former.filter(|name| name.starts_with(&rankings) && !made.contains(name)).cloned().collect()
}

/// The rankings of a run and what compared them, whichever stage made them, but those that are made now: they would be taken for
/// rankings of the averages and counts that are replaced.
pub(super) fn rankings_but(record: &RunRecord, task: &str, made: &[String]) -> Vec<String> {
    let rankings = format!("{task}/{}/", rank::FOLDER);
    let listed = record.stages.values().flat_map(|stage| stage.outputs.keys());
    listed.filter(|name| name.starts_with(&rankings) && !made.contains(name)).cloned().collect()
}

/// A probe under way.
struct Probing<'a> {
    options: &'a Probe,
    setup: Setup<'a>,
    model: &'a LanguageModel,
    pass: PassOptions<'a>,
    /// The neurons whose activations are kept, for `pos`.
    neurons: Vec<(usize, usize)>,
    /// The neurons whose texts are kept, for `top`, and what is read of these.
    top: Option<(Pool, Vec<NeuronPlace>)>,
    /// The averages that rankings are made with.
    averages: Option<Average>,
    /// The numbers of the texts of dev that activations are correlated with.
    numbers: Option<Numbers>,
    /// Rankings that are to be compared.
    ranked: Vec<(Ranking, Ranked)>,
    /// The texts of each split as tokens, those that this process takes.
    texts: RefCell<BTreeMap<String, Rc<StoredTexts>>>,
    /// Where they lie if they are many.
    scratch: PathBuf,
    files: Vec<String>,
    /// Files of the run that were read.
    read: Vec<PathBuf>,
}

impl<'a> Probing<'a> {
    fn new(
        session: &'a Session,
        options: &'a Probe,
        setup: Setup<'a>,
        model: &'a LanguageModel,
        scratch: PathBuf,
    ) -> Result<Self> {
        let pass = PassOptions { site: options.site, ..session.pass(options.batch) };
        let (averages, ranked, files, read) = (None, Vec::new(), Vec::new(), Vec::new());
        let numbers = numbers(session, options, &setup)?;
        let (neurons, top, texts) = (Vec::new(), None, RefCell::default());
        let mut probing = Self {
            options,
            setup,
            model,
            pass,
            neurons,
            top,
            averages,
            numbers,
            ranked,
            texts,
            scratch,
            files,
            read,
        };
        for &choice in &options.pos {
            let found = probing.find_neuron(choice)?;
            if !probing.neurons.contains(&found) {
                probing.neurons.push(found);
            }
        }
        probing.top = probing.find_top()?;
        Ok(probing)
    }

    /// Makes tokens of all texts that are read, once. From then on these are enough: rows are let go of as they become tokens, but those
    /// that are said.
    ///
    /// A rehearsal takes its samples as it comes to them, and of several processes each needs to know how many rows there are.
    fn tokenise(&mut self) -> Result<()> {
        let session = self.setup.base.session;
        if session.rehearsal().is_some() || session.group().size() > 1 {
            return Ok(());
        }
        let stored = self.setup.stored.take();
        for split in [Split::Train, Split::Dev, Split::Test] {
            let name = split.name();
            if !self.options.reads(split) {
                self.setup.take(name);
                continue;
            }
            let texts = match &stored {
                Some(stored) => {
                    let mut rows = stored_part(stored, name);
                    let texts = self.store(name, &mut rows)?;
                    rows.end()?;
                    texts
                }
                None if self.options.says(split) => self.store(name, self.setup.part(name))?,
                None => {
                    let rows = self.setup.take(name);
                    self.store(name, rows)?
                }
            };
            self.texts.get_mut().insert(name.to_owned(), Rc::new(texts));
        }
        Ok(())
    }

    /// A neuron that is asked for, which the model must have.
    fn find_neuron(&mut self, choice: NeuronChoice) -> Result<(usize, usize)> {
        let widths = &self.model.config().intermediate_sizes;
        match choice {
            NeuronChoice::At(layer, index) => match widths.get(layer) {
                None => Err(SessionError::usage(format!(
                    "option `pos` {layer},{index}: layer {layer}: expected 0 to {}, the model's layers",
                    widths.len() - 1
                ))),
                Some(&width) if index >= width => Err(SessionError::usage(format!(
                    "option `pos` {layer},{index}: index {index}: layer {layer} has {width} neurons, from 0"
                ))),
                Some(_) => Ok((layer, index)),
            },
            NeuronChoice::Best => {
                let pool = if self.model.prompt_rows() == 0 { Pool::Last } else { Pool::Position };
                let counts = self.file_of_run(&pool.performance_file("dev"), "dev")?;
                let dev = Performance::read(&counts)?;
                let score = dev.score_of(self.setup.base.paper);
                let Rule { layer, index, .. } = dev.best_rule(score)?;
                Ok((layer, index))
            }
        }
    }

    /// The best neurons of the counts that the run has: those of prompt positions, or else of the last token, the mean, the
    /// maximum.
    fn find_top(&mut self) -> Result<Option<(Pool, Vec<NeuronPlace>)>> {
        if !self.options.asks(ProbeType::Top) {
            return Ok(None);
        }
        let pool = counted(&self.options.out.join(&self.setup.base.task.name))?;
        let dev = Performance::read(&self.file_of_run(&pool.performance_file("dev"), "dev")?)?;
        Ok(Some((pool, best_of(&dev, self.setup.base.paper)?)))
    }

    /// A file that an earlier probe left in the run, of this very model with these very tuned parameters, and of the rows of
    /// `split`.
    fn file_of_run(&mut self, name: &str, split: &str) -> Result<TensorFile> {
        let name = format!("{}/{}", self.setup.base.task.name, file::tensors(name));
        let path = self.options.out.join(&name);
        provenance::is_there(&path)?;
        let file = TensorFile::read(&path)?;
        provenance::check_whole(&file)?;
        let expected = self.setup.metadata(split, self.model)?;
        for (key, what) in [(key::MODEL, "model"), (key::TUNING, "tuned parameters"), (key::DATA, "rows")] {
            match (file.metadata().get(key), expected.get(key)) {
                (Some(found), Some(expected)) if found != expected => {
                    return Err(SessionError::input(format!(
                        "{}: {key}: expected {expected}, that of the {what} given, found {found}; probe again",
                        file.path().display()
                    )));
                }
                _ => {}
            }
        }
        check_template(&file, &self.setup.base)?;
        check_site_of(&file, self.options.site)?;
        // f32 is not noted.
        let dtypes = [&expected, file.metadata()].map(|of| of.get(key::DTYPE).map_or("f32", String::as_str));
        if let [expected, found] = dtypes
            && expected != found
        {
            return Err(SessionError::input(format!(
                "{}: {}: expected {expected}, as option `precision` says, found {found}; probe again",
                file.path().display(),
                key::DTYPE
            )));
        }
        self.check_settings(&name)?;
        self.read.push(path);
        Ok(file)
    }

    /// Refuses a file of the run whose texts were cut or joined otherwise, which it does not say itself.
    fn check_settings(&self, name: &str) -> Result<()> {
        let run = self.options.out.as_path();
        let record = RunRecord::read(run)?;
        let made = record.stages.iter().find(|(_, stage)| stage.outputs.contains_key(name));
        let Some((entry, stage)) = made else { return Ok(()) };
        for (setting, expected) in self.setup.base.cut_and_joined() {
            let found = stage.settings.get(setting);
            if found != expected.as_ref() {
                let said = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
                return Err(SessionError::input(format!(
                    "{}: stage {entry}: {setting} of {name}: expected {}, as texts are cut and joined now, found {}; probe again",
                    run.join(file::RUN).display(),
                    said(expected.as_ref()),
                    said(found)
                )));
            }
        }
        Ok(())
    }

    /// Averages over train, counts on dev and test.
    fn predictivity(&mut self, writer: &mut RunWriter) -> Result<()> {
        let options = self.options;
        let mut fresh = BTreeMap::new();
        if options.passes(Split::Train) && options.pools().next().is_some() {
            for taken in self.collect("averaging", Split::Train.name(), |_, _| self.of_train())? {
                let any: &dyn Any = taken.record.as_ref();
                if let Some(average) = any.downcast_ref::<Average>() {
                    fresh.insert(average.pool(), average.threshold()?);
                    if options.ranks() == Some(average.pool()) {
                        self.averages = Some(average.clone());
                    }
                }
                self.keep(writer, Split::Train.name(), taken)?;
            }
        }
        let splits: Vec<_> = options.counted().collect();
        let counts = options.pools().next().is_some() || options.asks(ProbeType::Pos);
        if splits.is_empty() || (!counts && !options.asks(ProbeType::Top)) {
            return Ok(());
        }
        let mut thresholds = BTreeMap::new();
        for pool in options.pools() {
            let threshold = match fresh.remove(&pool) {
                Some(threshold) => threshold,
                // Those that an earlier pass over train left in the run.
                None => Threshold::read(&self.file_of_run(pool.average_file(), "train")?, pool)?,
            };
            thresholds.insert(pool, threshold);
        }
        if let (Some(pool), None) = (options.ranks(), &self.averages) {
            self.averages = Some(Average::read(&self.file_of_run(pool.average_file(), "train")?, pool)?);
        }
        for split in splits {
            // The texts of the best neurons are those of dev.
            if !counts && split != Split::Dev.name() {
                continue;
            }
            let of_split = |texts: TextList<'_>, classes| self.of_split(split, texts, classes, &thresholds);
            for taken in self.collect("counting", split, of_split)? {
                self.keep(writer, split, taken)?;
            }
            if options.with_texts && self.is_first() {
                self.keep_texts(writer, split)?;
            }
            if split == Split::Dev.name() {
                self.gradients(writer)?;
                self.l1(writer)?;
            }
        }
        Ok(())
    }

    /// The rankings that need a way back through the model, in passes of their own over dev.
    fn gradients(&mut self, writer: &mut RunWriter) -> Result<()> {
        let split = Split::Dev.name();
        let (here, integrated): (Vec<Ranking>, Vec<Ranking>) = self
            .options
            .rank
            .iter()
            .filter(|ranking| ranking.needs_gradients())
            .partition(|ranking| ranking.steps().is_none());
        for rankings in [here, integrated] {
            let (Some(averages), Some(first)) = (&self.averages, rankings.first()) else { continue };
            let (steps, base) = (first.steps(), &self.setup.base);
            let mut statistics = Vec::<Box<dyn Statistic>>::new();
            for &ranking in &rankings {
                let rank = Rank::new(ranking, self.model, averages, base.task.classes(), base.seed)?;
                statistics.push(Box::new(rank));
            }
            let (texts, ids) = (self.texts(split)?, &base.verbalizer.ids);
            let pass = PassOptions { part: split, ..self.pass };
            let found = || collect_gradients(self.model, &*texts, ids, statistics, steps, &pass);
            for taken in self.together(split, (&*texts).into(), found)? {
                self.keep(writer, split, taken)?;
            }
        }
        Ok(())
    }

    /// The ranking by a regression, which reads some texts of train and of dev in passes of its own.
    fn l1(&mut self, writer: &mut RunWriter) -> Result<()> {
        let is_asked = self.options.rank.contains(&Ranking::L1) && self.is_first();
        let (Some(averages), true) = (&self.averages, is_asked) else { return Ok(()) };
        let base = &self.setup.base;
        let some = |split: Split, layer: u32| -> Result<Vec<Encoded>> {
            let texts = self.all_texts(split.name())?;
            let key = Key::new(base.seed, Purpose::RegressionTexts).layer(layer);
            let drawn = key.rng().choose(TextList::from(&*texts).len(), Probe::MOST_REGRESSION_TEXTS);
            Ok(texts.chosen(|place| drawn.binary_search(&place).is_ok())?)
        };
        let (train, dev) = (some(Split::Train, 0)?, some(Split::Dev, 1)?);
        let classes = base.task.classes();
        // A regression is not made of parts.
        let pass = PassOptions { group: &Alone, ..self.pass };
        let record = l1(self.model, [&train, &dev], averages, classes, &self.scratch, &pass)?;
        if !record.unsettled().is_empty() {
            let layers: Vec<String> = record.unsettled().iter().map(usize::to_string).collect();
            tracing::warn!(
                "ranking l1: regressions that stopped before they came near what is sought, by layers: {}; take the scores there as \
                 rough, as the file says (`skn.unsettled`)",
                layers.join(", ")
            );
        }
        self.keep_record(writer, Split::Dev.name(), &rank::file(Ranking::L1.name()), Box::new(record))
    }

    /// What is taken of train.
    fn of_train(&self) -> Result<Vec<Box<dyn Statistic>>> {
        let pools: BTreeSet<Pool> = self.options.pools().collect();
        let mut statistics = Vec::<Box<dyn Statistic>>::new();
        for pool in pools {
            let average = Average::new(self.model, pool)?;
            statistics.push(Box::new(if self.options.with_variance() {
                average.with_variance()
            } else {
                average
            }));
        }
        Ok(statistics)
    }

    /// What is taken of dev, and of test.
    fn of_split(
        &self,
        split: &str,
        texts: TextList<'_>,
        classes: usize,
        thresholds: &BTreeMap<Pool, Threshold>,
    ) -> Result<Vec<Box<dyn Statistic>>> {
        let mut statistics = Vec::<Box<dyn Statistic>>::new();
        for threshold in thresholds.values() {
            statistics.push(Box::new(Count::new(self.model, threshold, classes)?));
        }
        if self.options.fire_bits && split == Split::Dev.name() {
            let sample = self.fire_sample(split);
            for pool in self.options.fire_pools() {
                let (threshold, spool) = (&thresholds[&pool], Spool::new(&self.scratch)?);
                let fires = Fires::new(self.model, threshold, texts, sample.as_ref(), spool)?;
                statistics.push(Box::new(fires));
            }
        }
        if let Some(averages) = self.averages.as_ref() {
            let held_out = held_out(self.options).is_some_and(|test| split == test.name());
            let taken = |ranking: &&Ranking| match **ranking {
                Ranking::Auc => held_out || split == Split::Dev.name(),
                ranking => ranking.streams() && split == Split::Dev.name(),
            };
            for &ranking in self.options.rank.iter().filter(taken) {
                let rank = Rank::new(ranking, self.model, averages, classes, self.setup.base.seed)?;
                let rank = rank.as_published(self.setup.base.paper);
                statistics.push(Box::new(match (&self.options.metric_column, &self.numbers) {
                    (Some(column), Some(numbers)) if ranking == Ranking::Correlation => {
                        rank.with_numbers(column, numbers.scaled.clone())
                    }
                    _ => rank,
                }));
            }
        }
        if let Some((pool, neurons)) = self.top.as_ref().filter(|_| split == Split::Dev.name()) {
            statistics.push(Box::new(Top::new(self.model, *pool, neurons.clone())?));
        }
        for &neuron in &self.neurons {
            statistics.push(Box::new(Capture::new(self.model, neuron, texts)?));
        }
        Ok(statistics)
    }

    /// Which texts of a split keep their fire bits, where all would be too many. A shard's are its part of them.
    fn fire_sample(&self, split: &str) -> Option<Sample> {
        let of = self.setup.count(split);
        let most = Probe::MOST_FIRE_TEXTS;
        if of <= most {
            return None;
        }
        tracing::info!("fire bits are kept of {most} of the {of} texts of {split}, drawn by the seed");
        let drawn = Key::new(self.setup.base.seed, Purpose::KeptTexts).rng().choose(of, most);
        Some(Sample { rows: drawn.into_iter().map(|row| row as u64).collect(), of })
    }

    /// One pass over a split, with the statistics that are made for its texts and classes.
    fn collect(
        &self,
        what: &'static str,
        split: &str,
        statistics: impl FnOnce(TextList<'_>, usize) -> Result<Vec<Box<dyn Statistic>>>,
    ) -> Result<Vec<Taken>> {
        let (stored, classes) = (self.texts(split)?, self.setup.base.task.classes());
        let texts = TextList::from(&*stored);
        let statistics = statistics(texts, classes)?;
        let pass = PassOptions { part: split, ..self.pass };
        self.together(split, texts, || collect(what, self.model, texts, classes, statistics, &pass))
    }

    /// What was taken of all texts: of this process's share by `pass`, with what others took of theirs. They stop together.
    fn together(
        &self,
        split: &str,
        texts: TextList<'_>,
        pass: impl FnOnce() -> Result<Vec<Box<dyn Statistic>>, ProbingError>,
    ) -> Result<Vec<Taken>> {
        let group = self.pass.group;
        // Of more processes than texts some have none.
        let found = if texts.is_empty() && group.size() > 1 { Ok(Vec::new()) } else { pass() };
        if group.any(matches!(found, Err(ProbingError::Cancelled)))? {
            return Err(ProbingError::Cancelled.into());
        }
        let taken = found?
            .into_iter()
            .map(|statistic| Ok(Taken { name: statistic.file(split), record: statistic.into_record()? }));
        together(
            group,
            self.setup.base.session.kinds(),
            &self.metadata(split)?,
            taken.collect::<Result<_>>()?,
        )
    }

    fn is_first(&self) -> bool {
        self.pass.group.is_first()
    }

    /// The texts whose activations are kept, a line each, in the order of the activations.
    fn keep_texts(&mut self, writer: &mut RunWriter, split: &str) -> Result<()> {
        let (columns, rows) = (self.setup.base.task.text_columns(), self.setup.part(split));
        let mut lines = Vec::new();
        for (row, example) in rows.iter().enumerate() {
            let texts: BTreeMap<&str, &str> =
                columns.iter().map(String::as_str).zip(example.texts().map(Text::as_str)).collect();
            let line = serde_json::json!({ "row": row, "label": example.label, "texts": texts });
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        let name = format!("{}/{}", self.setup.base.task.name, file::position_texts(split));
        writer.bytes(&name, lines)?;
        self.files.push(name);
        Ok(())
    }

    fn keep(&mut self, writer: &mut RunWriter, split: &str, taken: Taken) -> Result<()> {
        if !writer.writes() {
            return Ok(());
        }
        let Taken { name, mut record } = taken;
        let any: &mut dyn Any = record.as_mut();
        if let Some(top) = any.downcast_mut::<TopTexts>() {
            describe(top, self.setup.part(split));
        }
        self.keep_record(writer, split, &name, record)
    }

    fn keep_record(
        &mut self,
        writer: &mut RunWriter,
        split: &str,
        name: &str,
        record: Box<dyn Record>,
    ) -> Result<()> {
        let mut metadata = self.metadata(split)?;
        let any: &dyn Any = record.as_ref();
        if let (Some(rank), Some(numbers)) = (any.downcast_ref::<RankRecord>(), &self.numbers)
            && rank.ranking() == Ranking::Correlation
        {
            metadata.insert(rank::METRIC.into(), numbers.sha256.clone());
        }
        let bundle = record.to_bundle(&metadata)?;
        let any: Box<dyn Any> = record;
        let compared = !self.options.compare.is_empty() && split == Split::Dev.name();
        if let (Ok(rank), true) = (any.downcast::<RankRecord>(), compared) {
            self.ranked.push((rank.ranking(), rank.ranked()?));
        }
        self.write(writer, name, &bundle)
    }

    /// What the best neurons of each ranking do to test.
    fn compare(&mut self, writer: &mut RunWriter) -> Result<()> {
        let (Some(averages), false) = (&self.averages, self.options.compare.is_empty()) else {
            return Ok(());
        };
        // Those that need passes of their own were made last.
        spread_ranked(self.pass.group, &mut self.ranked)?;
        let asked = &self.options.rank;
        self.ranked.sort_by_key(|(ranking, _)| asked.iter().position(|asked| asked == ranking));
        let base = &self.setup.base;
        let values = mean_over_positions(&averages.values()?, averages.dims())?;
        let compared = Comparison {
            base,
            model: self.model,
            texts: &self.texts(Split::Test.name())?.all()?,
            pass: &self.pass,
            ranked: &self.ranked,
            averages: values,
            shares: &self.options.compare,
        }
        .record()?;
        let name = format!("{}/{}", base.task.name, rank::COMPARISON);
        writer.json(&name, &compared)?;
        self.files.push(name);
        Ok(())
    }

    /// The activations of an empty text.
    fn prompt_activations(&mut self, writer: &mut RunWriter) -> Result<()> {
        if !self.options.asks(ProbeType::PromptAct) || !self.is_first() {
            return Ok(());
        }
        let config = &self.setup.base.model.config;
        let ids = self.setup.base.encode_empty(self.model)?;
        let activations = prompt_activations(self.model, &ids, self.options.site)?;
        let mut metadata = self.metadata("train")?;
        metadata.retain(|name, _| name != key::DATA && name != key::SPLIT);
        let bundle = prompt_activation_bundle(&[activations], [config.layers(), config.widest()], &metadata)?;
        self.write(writer, kind::PROMPT_ACTIVATION, &bundle)
    }

    /// Accuracy and time of inference on test.
    fn speed(&mut self, writer: &mut RunWriter) -> Result<Option<(InferencePerformance, InferenceTime)>> {
        if !self.options.asks(ProbeType::Speed) || !self.is_first() {
            return Ok(None);
        }
        let base = &self.setup.base;
        // One process is timed.
        let texts = self.all_texts("test")?.all()?;
        let repeats = self.options.repeats.get();
        let pass = PassOptions { part: "test", group: &Alone, ..self.pass };
        let speed = speed(self.model, &texts, &base.verbalizer.ids, repeats, 1, &pass)?;
        let score = Score::of(base.task.metric, &speed.evaluation, base.seed)?;
        let performance = speed.performance(&base.task.name, base.task.metric, score.interval);
        let time = speed.time(base.session.workers().threads(), base.session.device_name());
        for (name, value) in [
            (file::INFERENCE_PERFORMANCE, serde_json::to_value(&performance)?),
            (file::INFERENCE_TIME, serde_json::to_value(&time)?),
        ] {
            let name = format!("{}/{name}", base.task.name);
            writer.json(&name, &value)?;
            self.files.push(name);
        }
        Ok(Some((performance, time)))
    }

    /// All texts of a part, which rank 0 has.
    fn all_texts(&self, split: &str) -> Result<Rc<StoredTexts>> {
        if self.pass.group.size() == 1 {
            return self.texts(split);
        }
        let mut store = TextStore::new(&self.scratch);
        store.add(self.setup.base.encode(split, self.setup.part(split), self.model)?)?;
        Ok(Rc::new(store.finish()?))
    }

    /// The texts of a part that this process takes.
    fn texts(&self, split: &str) -> Result<Rc<StoredTexts>> {
        if let Some(texts) = self.texts.borrow().get(split) {
            return Ok(Rc::clone(texts));
        }
        let texts = self.setup.base.encode_own(split, self.setup.part(split), self.model)?;
        if let Some(rehearsal) = self.setup.base.session.rehearsal()
            && !self.options.answers(split)
        {
            rehearsal.stores();
        }
        let own = match self.options.shard {
            None => &texts[..],
            Some(part) => shard(&texts, part.index - 1, part.count)?,
        };
        self.require_some(split, own.len(), texts.len())?;
        let mut store = TextStore::new(&self.scratch);
        store.add(own.to_vec())?;
        let texts = Rc::new(store.finish()?);
        self.texts.borrow_mut().insert(split.to_owned(), Rc::clone(&texts));
        Ok(texts)
    }

    /// The rows of a part as tokens, or those of its shard.
    fn store<R>(
        &self,
        split: &str,
        rows: impl IntoIterator<Item = R, IntoIter: ExactSizeIterator + Send>,
    ) -> Result<StoredTexts>
    where
        R: Borrow<Example> + Send + Sync,
    {
        let count = self.setup.count(split);
        let own = match self.options.shard {
            None => 0..count,
            Some(Shard { index, count: of }) => {
                first_of_share(count, index - 1, of)..first_of_share(count, index, of)
            }
        };
        self.require_some(split, own.len(), count)?;
        self.setup.base.store(split, rows, own, &self.scratch, self.model)
    }

    /// Refuses a shard of a split that has less rows than shards.
    fn require_some(&self, split: &str, own: usize, rows: usize) -> Result<()> {
        match self.options.shard {
            Some(part) if own == 0 => {
                Err(SessionError::usage(format!("option `shard` {part}: split {split} has only {rows} rows")))
            }
            _ => Ok(()),
        }
    }

    fn metadata(&self, split: &str) -> Result<Metadata> {
        let mut metadata = self.setup.metadata(split, self.model)?;
        if self.setup.base.model.config.is_gated() {
            metadata.insert(key::SITE.into(), self.options.site.name().into());
        }
        if let Some(shard) = self.options.shard {
            metadata.insert(key::SHARD.into(), shard.to_string());
        }
        Ok(metadata)
    }

    fn write(&mut self, writer: &mut RunWriter, name: &str, bundle: &TensorBundle) -> Result<()> {
        let name = format!("{}/{}", self.setup.base.task.name, file::tensors(name));
        writer.tensors(&name, bundle)?;
        self.files.push(name);
        Ok(())
    }
}
