//! What speaks for neurons that are ranked by one file of counts: its tests, the test split, the draws of shuffled labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use skn_artifact::names::{file, fire, key};
use skn_artifact::{
    ChanceRecord, CorrelationRecord, Evidence, NeuronRecord, StabilityRecord, VoteRecord, hash_file,
};
use skn_counts::{FireBits, Fraction, NullOfBest, Performance, Predictor, ScoreRule, Significance, Tested};
use skn_probing::{ProbingError, Work};
use skn_select::{Ranking, Share, Stability};

use crate::error::{Result, SessionError};
use crate::options::{Select, Split};
use crate::session::Session;
use crate::stages::beside::{areas_beside, beside};

/// The level of intervals.
const LEVEL: f64 = 0.95;
/// How many neurons the record names.
const NAMED: usize = 20;
/// The rate of false discoveries that the record counts by.
const RATE: f64 = 0.05;
/// How often texts are drawn anew to see what stays selected.
const RESAMPLES: NonZeroUsize = NonZeroUsize::new(100).unwrap();
/// How many of the best neurons vote.
const VOTERS: [usize; 5] = [1, 3, 5, 11, 21];
/// What the columns of `neurons.csv` are.
const COLUMNS: &str = "rank,layer,index,position,class,score,dev,test,test_low,test_high,p,q,p_max";

/// A file of counts, and what lies beside it.
pub(super) struct Counted<'a> {
    dev: &'a Performance,
    test: Option<Performance>,
    bits: Option<FireBits>,
    /// The files beside it that were read.
    pub(super) files: Vec<PathBuf>,
}

impl<'a> Counted<'a> {
    /// Reads the same counts of test and the fire bits of dev, where they lie beside a file that has the name of one of dev.
    pub(super) fn read(dev: &'a Performance, metadata: &BTreeMap<String, String>) -> Result<Self> {
        let mut found = Self { dev, test: None, bits: None, files: Vec::new() };
        let Some(pool) = dev.pool() else { return Ok(found) };
        let named =
            dev.file().file_name().is_some_and(|name| *name == *file::tensors(&pool.performance_file("dev")));
        let folder = dev.file().parent().unwrap_or(Path::new(""));
        if !named {
            return Ok(found);
        }
        let path = folder.join(file::tensors(&pool.performance_file("test")));
        if let Some(read) = beside(&path, dev, metadata, &[])? {
            let mut test = Performance::read(&read)?;
            if !dev.fits(&test) {
                return Err(SessionError::input(format!(
                    "{}: tensor `correct`: expected shape {:?} as in {}, found {:?}",
                    path.display(),
                    dev.shape(),
                    dev.file().display(),
                    test.shape()
                )));
            }
            found.files.push(path);
            if dev.areas().is_ok() {
                match areas_beside(&test, read.metadata(), Split::Test)? {
                    Some(areas) => {
                        found.files.push(areas.path().into());
                        test = test.with_areas(&areas)?;
                        found.test = Some(test);
                    }
                    None => tracing::warn!(
                        "{}: no areas of test beside it, so that test stays empty; skn-probe --rank auc on dev and test makes them",
                        test.file().display()
                    ),
                }
            } else {
                found.test = Some(test);
            }
        }
        let path = folder.join(file::tensors(&fire::file(pool.name(), "dev")));
        if let Some(read) = beside(&path, dev, metadata, &[key::DATA])? {
            found.bits = Some(FireBits::read(read, dev)?);
            found.files.push(path);
        }
        Ok(found)
    }

    /// What the options ask to draw; nothing where there is nothing to draw from, unless it is asked for.
    fn draws(&self, options: &Select) -> Result<Option<(&FireBits, NonZeroUsize)>> {
        match (&self.bits, options.permutations) {
            (_, Some(0)) | (None, None) => Ok(None),
            (Some(bits), asked) => {
                let draws = asked.unwrap_or(Select::PERMUTATIONS);
                Ok(NonZeroUsize::new(draws).map(|draws| (bits, draws)))
            }
            (None, Some(_)) => Err(SessionError::usage(format!(
                "option `permutations`: expected fire bits of dev beside {}, found none (skn-probe --fire-bits keeps them)",
                self.dev.file().display()
            ))),
        }
    }

    /// What speaks for the neurons.
    pub(super) fn weigh(
        &self,
        session: &Session,
        options: &Select,
        score: ScoreRule,
        ranking: &Ranking,
    ) -> Result<Weighed> {
        let class = options.class;
        let ranked = self.dev.ranked_by(score, class)?;
        let tested = match self.dev.by_class() {
            Some(_) => Some(self.dev.tested_by(class, score)?),
            None => {
                let file = self.dev.file().display();
                tracing::warn!("{file}: an older version's, without counts by class: p and q stay empty");
                None
            }
        };
        if score == ScoreRule::Auc {
            let bound = self.dev.largest_bound(ranked.iter().take(NAMED).map(|found| &found.rule))?;
            tracing::info!(
                "areas are those of 32 bins: the exact ones of the best {} neurons are within {bound:.4} of them; p is the rank-sum \
                 test's with ties, and p_max stays empty, as fire bits say nothing of areas",
                NAMED.min(ranked.len())
            );
        }
        let chance = match self.draws(options)? {
            // Bits say nothing of areas.
            _ if score == ScoreRule::Auc => None,
            // The draws are of all classes together.
            Some((bits, draws)) if class.is_none() => Some(self.null(session, options, score, bits, draws)?),
            _ => None,
        };
        let p_max = chance.as_ref().map(NullOfBest::p_max);
        let rank = ranking.rank();
        let row = |found: &Predictor| -> Result<Row> {
            let place = found.rule.layer * ranking.neurons() + found.rule.index;
            let tested = tested.as_ref().and_then(|tested| tested.neurons[place]);
            let p_max = p_max.as_ref().and_then(|all| all[place]);
            Ok(Row {
                rank: Some(rank[place] as u32 + 1),
                score: Some(ranking.score()[place]),
                record: self.record(found, score, tested, p_max)?,
            })
        };
        let mut rows = ranked.iter().map(row).collect::<Result<Vec<_>>>()?;
        rows.extend(dead(ranking, &rows));
        let record = Evidence {
            score: score.name().into(),
            counts: self.dev.file().file_stem().map(|stem| stem.to_string_lossy().into()).unwrap_or_default(),
            counts_sha256: hash_file(self.dev.file())?,
            inputs: self.hashes()?,
            class,
            rules: tested.as_ref().map_or(0, |tested| tested.rules as u64),
            discoveries: discoveries(tested.as_ref(), RATE) as u64,
            neurons: ranked.len() as u64,
            best: rows.iter().take(NAMED).map(|row| row.record.clone()).collect(),
            chance: chance
                .as_ref()
                .zip(self.bits.as_ref())
                .map(|(null, bits)| chance_record(null, bits, options.seed)),
            stability: match &chance {
                Some(_) => self.stability(session, options, score, ranking)?,
                None => Vec::new(),
            },
            votes: self.votes(&ranked, score)?,
            correlation: self.correlation(options, &ranked, ranking)?,
        };
        Ok(Weighed { rows, tested, record: Some(record) })
    }

    /// The files that were read, by name, with their hashes.
    fn hashes(&self) -> Result<BTreeMap<String, String>> {
        let areas = self.dev.areas().ok().map(|areas| areas.file.as_path());
        let files = self.files.iter().map(PathBuf::as_path).chain([self.dev.file()]).chain(areas);
        let hash = |path: &Path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            Ok((name.unwrap_or_default(), hash_file(path)?))
        };
        files.map(hash).collect()
    }

    fn null(
        &self,
        session: &Session,
        options: &Select,
        score: ScoreRule,
        bits: &FireBits,
        draws: NonZeroUsize,
    ) -> Result<NullOfBest> {
        let threads = NonZeroUsize::new(session.workers().threads()).unwrap_or(NonZeroUsize::MIN);
        let progress = session.progress();
        progress.begin(Work::of("shuffle labels", (bits.layers() * bits.positions()) as u64));
        let mut begun = false;
        let go_on = || -> Result<()> {
            if std::mem::replace(&mut begun, true) {
                progress.advance(1);
            }
            if progress.cancelled() { Err(ProbingError::Cancelled.into()) } else { Ok(()) }
        };
        NullOfBest::draw(bits, self.dev, score, draws, options.seed, threads, go_on)
    }

    /// How far the neurons of each share stay the same when texts are drawn anew.
    fn stability(
        &self,
        session: &Session,
        options: &Select,
        score: ScoreRule,
        ranking: &Ranking,
    ) -> Result<Vec<StabilityRecord>> {
        let Some(bits) = &self.bits else { return Ok(Vec::new()) };
        let threads = NonZeroUsize::new(session.workers().threads()).unwrap_or(NonZeroUsize::MIN);
        let cancelled = || -> Result<()> {
            if session.progress().cancelled() { Err(ProbingError::Cancelled.into()) } else { Ok(()) }
        };
        let (shares, seed) = (&options.shares, options.seed);
        let found = ranking.stability(bits, self.dev, score, shares, RESAMPLES, seed, threads, cancelled)?;
        let record = |found: Stability| StabilityRecord {
            share: found.share.to_string(),
            draws: RESAMPLES.get() as u64,
            mean: found.mean,
            interval: found.interval,
        };
        Ok(found.into_iter().map(record).collect())
    }

    /// How right the best neurons are by majority, on the texts of dev that have bits.
    fn votes(&self, ranked: &[Predictor], score: ScoreRule) -> Result<Vec<VoteRecord>> {
        let Some(bits) = &self.bits else { return Ok(Vec::new()) };
        let votes = bits.votes(ranked, &VOTERS, score)?.into_iter();
        Ok(votes.map(|(number, dev)| VoteRecord { neurons: number as u64, dev }).collect())
    }

    /// How far selected neurons, those of the share nearest to a tenth, fire for the texts that others fire for.
    fn correlation(
        &self,
        options: &Select,
        ranked: &[Predictor],
        ranking: &Ranking,
    ) -> Result<Option<CorrelationRecord>> {
        let Some(bits) = &self.bits else { return Ok(None) };
        let width = |share: &Share| share.count(1_000_000).abs_diff(100_000);
        let Some(share) = options.shares.iter().min_by_key(|share| width(share)) else { return Ok(None) };
        let selected = ranking.mask(*share);
        let mut layers = vec![Vec::new(); ranking.layers()];
        for neuron in ranked {
            let rule = &neuron.rule;
            let is_selected = selected.mask()[rule.layer * ranking.neurons() + rule.index];
            layers[rule.layer].push((rule.index, rule.position, is_selected));
        }
        let (mut among, mut others, mut most) = ((0.0, 0u64), (0.0, 0u64), 0f64);
        for (layer, neurons) in layers.iter_mut().enumerate() {
            neurons.sort_unstable();
            let found = bits.correlation(layer, neurons)?;
            among = (among.0 + found.among.0, among.1 + found.among.1);
            others = (others.0 + found.with_others.0, others.1 + found.with_others.1);
            most = most.max(found.most);
        }
        let mean = |(sum, pairs): (f64, u64)| sum / pairs as f64;
        Ok((among.1 > 0 && others.1 > 0).then(|| CorrelationRecord {
            share: share.to_string(),
            among_selected: mean(among),
            with_others: mean(others),
            most_with_others: most,
        }))
    }

    fn record(
        &self,
        found: &Predictor,
        score: ScoreRule,
        tested: Option<Significance>,
        p_max: Option<f64>,
    ) -> Result<NeuronRecord> {
        let rule = &found.rule;
        let test = self.test.as_ref().filter(|test| test.tells(rule.class.unwrap_or(0), score));
        let interval = test.map(|test| test.interval_of(rule, score, LEVEL)).transpose()?;
        Ok(NeuronRecord {
            layer: rule.layer,
            index: rule.index,
            position: (!self.dev.pooled()).then_some(rule.position),
            class: rule.class,
            dev: Some(found.predictivity),
            test: test.map(|test| test.accuracy_of(rule, score)).transpose()?,
            test_low: interval.map(|[low, _]| low),
            test_high: interval.map(|[_, high]| high),
            p: tested.map(|tested| tested.p),
            q: tested.map(|tested| tested.q),
            p_max,
        })
    }
}

/// What speaks for the neurons of a ranking.
pub(super) struct Weighed {
    rows: Vec<Row>,
    tested: Option<Tested>,
    /// Nothing of several files.
    pub(super) record: Option<Evidence>,
}

/// A line of `neurons.csv`.
struct Row {
    rank: Option<u32>,
    score: Option<f32>,
    record: NeuronRecord,
}

impl Weighed {
    /// Of several files, or sub-tasks: a neuron has no one position, and its scores are of different texts.
    pub(super) fn of_several(ranking: &Ranking) -> Self {
        let (rank, score) = (ranking.rank(), ranking.score());
        let of_layer = |(layer, order): (usize, &Vec<u32>)| {
            order.iter().map(|&index| (layer, index as usize)).collect::<Vec<_>>()
        };
        let mut all: Vec<(usize, usize)> = ranking.order().iter().enumerate().flat_map(of_layer).collect();
        let place = |&(layer, index): &(usize, usize)| layer * ranking.neurons() + index;
        all.retain(|neuron| !ranking.dead()[place(neuron)]);
        all.sort_by(|a, b| score[place(b)].total_cmp(&score[place(a)]).then(a.cmp(b)));
        let row = |neuron: (usize, usize)| Row {
            rank: Some(rank[place(&neuron)] as u32 + 1),
            score: Some(score[place(&neuron)]),
            record: NeuronRecord { layer: neuron.0, index: neuron.1, ..NeuronRecord::default() },
        };
        let mut rows: Vec<Row> = all.into_iter().map(row).collect();
        rows.extend(dead(ranking, &rows));
        Self { rows, tested: None, record: None }
    }

    /// The best neurons.
    pub(super) fn best(&self, count: usize) -> Vec<NeuronRecord> {
        let alive = self.rows.iter().filter(|row| row.rank.is_some());
        alive.take(count).map(|row| row.record.clone()).collect()
    }

    /// Whether a neuron's q is at most a rate; nothing where no rule was tested.
    pub(super) fn is_found(&self, rate: f64, neurons: usize) -> Option<impl Fn(usize, usize) -> bool + '_> {
        let tested = self.tested.as_ref()?;
        Some(move |layer: usize, index: usize| {
            tested.neurons[layer * neurons + index].is_some_and(|found| found.q <= rate)
        })
    }

    /// The table of all neurons, the best first. What is unknown is empty.
    pub(super) fn csv(&self) -> String {
        let mut text = format!("{COLUMNS}\n");
        for Row { rank, score, record } in &self.rows {
            let NeuronRecord { layer, index, position, class, dev, test, test_low, test_high, p, q, p_max } =
                record;
            let cells = [
                said(rank.as_ref()),
                layer.to_string(),
                index.to_string(),
                said(position.as_ref()),
                said(class.as_ref()),
                said(score.as_ref()),
                said(dev.as_ref()),
                said(test.as_ref()),
                said(test_low.as_ref()),
                said(test_high.as_ref()),
                said(p.as_ref()),
                said(q.as_ref()),
                said(p_max.as_ref()),
            ];
            // Writing to a string never fails.
            let _ = writeln!(text, "{}", cells.join(","));
        }
        text
    }
}

fn said<T: std::fmt::Debug>(value: Option<&T>) -> String {
    // Debug writes the shortest digits that give the number back, with an exponent where that is shorter.
    value.map_or_else(String::new, |value| format!("{value:?}"))
}

/// Neurons that have no rule: they have neither score nor rank, and come last.
fn dead(ranking: &Ranking, ranked: &[Row]) -> Vec<Row> {
    let known: std::collections::BTreeSet<(usize, usize)> =
        ranked.iter().map(|row| (row.record.layer, row.record.index)).collect();
    let mut rows = Vec::new();
    for (layer, order) in ranking.order().iter().enumerate() {
        let mut left: Vec<usize> = order.iter().map(|&index| index as usize).collect();
        left.retain(|&index| !known.contains(&(layer, index)));
        left.sort_unstable();
        rows.extend(left.into_iter().map(|index| Row {
            rank: None,
            score: None,
            record: NeuronRecord { layer, index, ..NeuronRecord::default() },
        }));
    }
    rows
}

fn discoveries(tested: Option<&Tested>, rate: f64) -> usize {
    tested.map_or(0, |tested| tested.neurons.iter().flatten().filter(|found| found.q <= rate).count())
}

fn chance_record(null: &NullOfBest, bits: &FireBits, seed: u64) -> ChanceRecord {
    let values = |draws: &[Fraction]| draws.iter().map(|best| best.predictivity()).collect();
    let measured = null.measured().iter().flatten().max();
    ChanceRecord {
        draws: null.draws() as u64,
        seed,
        texts: bits.texts() as u64,
        sample: bits.is_sample(),
        measured: measured.map_or(0.5, |best| best.predictivity()),
        best: values(null.all()),
        layers: null.layers().iter().map(|layer| values(layer)).collect(),
    }
}
