use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use skn_artifact::names::{file, key, stage};
use skn_artifact::{TensorFile, hash_file, resolve};
use skn_counts::{Performance, ScoreRule};
use skn_select::{Mask, Ranking, Scores, Share};

use crate::error::{Result, SessionError};
use crate::options::{Select, Subject};
use crate::provenance;
use crate::run_writer::RunWriter;
use crate::session::Session;
use crate::stages::beside::with_areas;
use crate::stages::evidence::{Counted, Weighed};
use crate::stages::ranked::tell_others;
use crate::stages::select_made;
use crate::stages::selected::{
    SAME_NEURON, Selected, check_task, difference, other_split, ranked_by, remove_discoveries,
};

/// How many of the best neurons are told.
const TOLD: usize = 10;

impl Session {
    /// Ranks the neurons of each layer by how well they predict the label, and marks the best of them for each share, in
    /// `info/<task>/<share>.safetensors` of the run, which also holds all scores and ranks.
    ///
    /// # Errors
    /// If a file of counts is missing, damaged, or does not fit the others; if the run has masks that may not be replaced.
    pub fn select(&self, options: &Select) -> Result<Selected> {
        if let Some(ranking) = &options.ranking {
            return select_made::select(self, options, ranking);
        }
        if let (Some(class), Some(draws @ 1..)) = (options.class, options.permutations) {
            return Err(SessionError::usage(format!(
                "option `permutations` {draws}: goes with all classes, and not with option `class` {class}: the best neuron of a \
                 shuffle is that of any class"
            )));
        }
        let groups = Groups::read(options)?;
        let split = groups.other_split();
        groups.tell_twice()?;
        let task = groups.task(options)?;
        let score = groups.score(options)?;
        let scores = groups.scores(options, score)?;
        let best_first = Ranking::new(&scores)?;
        let ranking = if options.lowest { best_first.clone().reversed() } else { best_first.clone() };
        let (out, entry) = (options.out.as_path(), stage::select(&task));
        let mut writer = RunWriter::open(self, options.clone(), out, &entry, options.overwrite)?;
        let mut shares = options.shares.clone();
        shares.sort_unstable();
        shares.dedup();
        let masks: Vec<String> = shares.iter().map(|share| file::mask(&task, &share.to_string())).collect();
        writer.check_free(&masks)?;
        let (table, evidence) = (file::neurons(&task), file::evidence(&task));
        let discovered = options.fdr.map(|rate| (rate, file::discoveries(&task, &rate.to_string())));
        writer.check_free(&[&table, &evidence])?;
        writer.check_free(&discovered.iter().map(|(_, name)| name).collect::<Vec<_>>())?;
        let weighed = groups.weigh(self, options, score, &best_first, &mut writer)?;
        writer.bytes(&table, weighed.csv())?;
        match &weighed.record {
            Some(record) => writer.json(&evidence, record)?,
            None => writer.remove_listed([evidence])?,
        }
        remove_discoveries(&mut writer, &task, discovered.as_ref().map(|(_, name)| name.as_str()))?;
        let metadata = groups.metadata(&task, score);
        let (mut neurons, mut ranked) = (BTreeMap::new(), None);
        for (share, name) in shares.iter().zip(&masks) {
            let mask = ranking.mask(*share);
            let mut metadata = metadata.clone();
            metadata.insert(key::SHARE.into(), share.to_string());
            if let Some(class) = options.class {
                metadata.insert(key::CLASS.into(), class.to_string());
            }
            if options.lowest {
                metadata.insert(key::ORDER.into(), key::LOWEST.into());
            }
            writer.tensors(name, &mask.to_bundle(&metadata)?)?;
            ranked = ranked_by(&metadata);
            neurons.insert(share.to_string(), mask.neurons().iter().map(Vec::len).collect());
        }
        tell_others(&writer, &task, &masks, ranked)?;
        let mut discoveries = None;
        if let Some((rate, name)) = discovered {
            let mask = groups.discovered(rate, &weighed, &best_first)?;
            let mut metadata = metadata.clone();
            metadata.insert(key::FDR.into(), rate.to_string());
            writer.tensors(&name, &mask.to_bundle(&metadata)?)?;
            discoveries = Some(mask.neurons().iter().map(Vec::len).sum());
        }
        for counts in groups.0.iter().flatten() {
            writer.read(counts.performance.file())?;
            if let Ok(areas) = counts.performance.areas() {
                writer.read(&areas.file)?;
            }
        }
        writer.finish()?;
        let alone = groups.0.len() == 1;
        Ok(Selected {
            folder: out.join(file::INFO).join(&task),
            task,
            files: groups.0.iter().map(Vec::len).sum(),
            seeds: groups.0.iter().map(Vec::len).max().unwrap_or(0),
            subtasks: scores.len(),
            classes: alone.then(|| groups.first().performance.classes()),
            aggregate: options.aggregate.name(),
            score: score.name(),
            split,
            lowest: options.lowest,
            neurons,
            best: groups.best(options, &best_first, score)?,
            table: weighed.best(TOLD),
            discoveries,
        })
    }
}

/// A file of counts, and what it says of itself.
struct Counts {
    performance: Performance,
    metadata: BTreeMap<String, String>,
}

/// The files of each sub-task; there is at least one, and none is without a file.
struct Groups(Vec<Vec<Counts>>);

impl Groups {
    fn read(options: &Select) -> Result<Self> {
        if options.counts.is_empty() || options.counts.iter().any(Vec::is_empty) {
            return Err(SessionError::usage("option `counts`: expected at least one file, found none"));
        }
        let read = |path: &PathBuf| -> Result<Counts> {
            let path = resolve(path, "safetensors")?;
            provenance::check(&path)?;
            let file = TensorFile::read(&path)?;
            provenance::check_whole(&file)?;
            let (performance, metadata) = (Performance::read(&file)?, file.metadata().clone());
            let performance = match options.score {
                Some(ScoreRule::Auc) => with_areas(performance, &metadata)?,
                _ => performance,
            };
            Ok(Counts { performance, metadata })
        };
        let group = |files: &Vec<PathBuf>| files.iter().map(read).collect::<Result<Vec<_>>>();
        let groups = Self(options.counts.iter().map(group).collect::<Result<_>>()?);
        groups.check_model()?;
        Ok(groups)
    }

    /// All files that say of which model they are must say the same.
    fn check_model(&self) -> Result<()> {
        let of_model = self.0.iter().flatten().filter(|counts| counts.metadata.contains_key(key::MODEL));
        let mut said = of_model.map(|counts| (counts.performance.file(), &counts.metadata));
        let Some(first) = said.next() else { return Ok(()) };
        match said.find_map(|other| difference(&SAME_NEURON, first, other)) {
            Some(wrong) => Err(SessionError::input(wrong)),
            None => Ok(()),
        }
    }

    /// The split that all files are of, if they say another than dev; each that does is warned of.
    fn other_split(&self) -> Option<String> {
        let of =
            |counts: &Counts| other_split((counts.performance.file(), &counts.metadata)).map(str::to_owned);
        let splits: Vec<Option<String>> = self.0.iter().flatten().map(of).collect();
        splits.first().filter(|first| splits.iter().all(|split| split == *first)).cloned().flatten()
    }

    /// Says which file is there twice: it counts twice, and is no other seed and no other sub-task.
    ///
    /// # Errors
    /// If one can't be read again.
    fn tell_twice(&self) -> Result<()> {
        let mut known = BTreeMap::new();
        let files = self.0.iter().flatten().map(|counts| counts.performance.file());
        for file in files.filter(|_| self.0.len() > 1 || self.0[0].len() > 1) {
            match known.entry(hash_file(file)?) {
                Entry::Vacant(place) => {
                    place.insert(file);
                }
                Entry::Occupied(place) => tracing::warn!(
                    "{}: the same counts as {}: they count twice, and are no other seed and no other sub-task",
                    file.display(),
                    place.get().display()
                ),
            }
        }
        Ok(())
    }

    fn first(&self) -> &Counts {
        &self.0[0][0]
    }

    /// What right answers come to: what is asked for, or what suits the classes.
    fn score(&self, options: &Select) -> Result<ScoreRule> {
        let files = || self.0.iter().flatten().map(|counts| &counts.performance);
        let many = files().find(|file| file.classes() > 2);
        match (options.score, many) {
            (Some(ScoreRule::Auc), _) if options.permutations.is_some_and(|draws| draws > 0) => {
                Err(SessionError::usage(format!(
                    "option `permutations` {}: goes with option `score` accuracy or balanced, and not with auc: shuffles are of fire bits, \
                     which say nothing of areas",
                    options.permutations.unwrap_or_default()
                )))
            }
            (Some(ScoreRule::Accuracy), Some(file)) => Err(SessionError::usage(format!(
                "option `score` accuracy: expected balanced, as {} is of {} classes, where by accuracy a neuron that never \
                 fires beats one that fires for its class",
                file.file().display(),
                file.classes()
            ))),
            (Some(score), _) => Ok(score),
            (None, None) if options.paper => Ok(ScoreRule::Accuracy),
            (None, _) => {
                let score = ScoreRule::of(files());
                let uneven = files().filter(|_| many.is_none() && score == ScoreRule::Balanced);
                let shares = uneven.filter_map(|file| Some((file, file.larger_class()?)));
                if let Some((file, share)) = shares.max_by(|(_, a), (_, b)| a.total_cmp(b)) {
                    let (file, share) = (file.file().display(), share * 100.0);
                    tracing::warn!(
                        "{file}: one of its two classes has {share:.1} % of the texts, so that neurons are ranked by balanced \
                         accuracy; option `score` accuracy ranks by the published score"
                    );
                }
                Ok(score)
            }
        }
    }

    fn scores(&self, options: &Select, score: ScoreRule) -> Result<Vec<Scores>> {
        let first = &self.first().performance;
        let mut all = self.0.iter().flatten().map(|counts| &counts.performance);
        if let Some(other) = all.find(|other| other.widths() != first.widths()) {
            let (file, first) = (other.file().display(), first.file().display());
            return Err(SessionError::input(format!(
                "{file}: its layers are not as wide as those of {first}"
            )));
        }
        let mut scores = Vec::new();
        for group in &self.0 {
            let files: Vec<Performance> = group.iter().map(|counts| counts.performance.clone()).collect();
            if let (Some(class), true) = (options.class, files.iter().all(|file| file.classes() == 2)) {
                return Err(SessionError::usage(format!(
                    "option `class` {class}: of two classes one score tells both apart; leave the option out"
                )));
            }
            for class in (0..files[0].classes()).filter(|_| options.class.is_none() && files[0].classes() > 2)
            {
                if let Some(file) = files.iter().find(|file| !file.tells(class, score)) {
                    let file = file.file().display();
                    tracing::warn!("{file}: class {class}: no text of it, so it selects no neurons");
                }
            }
            scores.extend(Scores::of_group(&files, options.aggregate, options.class, score)?);
        }
        Ok(scores)
    }

    /// The best neurons of all layers. Of one file in the order that a probe and the report name them by; of several, where
    /// a neuron has no one position, equals are in the order of layer and index, as in the masks.
    fn best(&self, options: &Select, ranking: &Ranking, of: ScoreRule) -> Result<Vec<(usize, u32, f32)>> {
        let score = |layer: usize, index: u32| ranking.score()[layer * ranking.neurons() + index as usize];
        let mut all: Vec<(usize, u32)> = match &self.0[..] {
            [files] if files.len() == 1 => {
                let ranked = files[0].performance.ranked_by(of, options.class)?.into_iter();
                ranked.map(|found| (found.rule.layer, found.rule.index as u32)).collect()
            }
            _ => {
                let of_layer = |(layer, order): (usize, &Vec<u32>)| {
                    order.iter().map(|&index| (layer, index)).collect::<Vec<_>>()
                };
                let mut all: Vec<_> = ranking.order().iter().enumerate().flat_map(of_layer).collect();
                all.sort_by(|&a, &b| score(b.0, b.1).total_cmp(&score(a.0, a.1)).then(a.cmp(&b)));
                all
            }
        };
        all.truncate(TOLD);
        Ok(all.into_iter().map(|(layer, index)| (layer, index, score(layer, index))).collect())
    }

    /// What speaks for the neurons: of one file its tests and draws, of several their scores alone.
    fn weigh(
        &self,
        session: &Session,
        options: &Select,
        score: ScoreRule,
        ranking: &Ranking,
        writer: &mut RunWriter,
    ) -> Result<Weighed> {
        let [files] = &self.0[..] else { return self.of_several(options, ranking) };
        let [Counts { performance, metadata }] = &files[..] else { return self.of_several(options, ranking) };
        let counted = Counted::read(performance, metadata)?;
        let weighed = counted.weigh(session, options, score, ranking)?;
        counted.files.iter().try_for_each(|path| writer.read(path))?;
        Ok(weighed)
    }

    fn of_several(&self, options: &Select, ranking: &Ranking) -> Result<Weighed> {
        let asked =
            [("fdr", options.fdr.is_some()), ("permutations", options.permutations.is_some_and(|n| n > 0))];
        match asked.iter().find(|(_, asked)| *asked) {
            Some((option, _)) => Err(SessionError::usage(format!(
                "option `{option}`: expected one file of counts, found {}: texts of several files are not the same ones",
                self.0.iter().map(Vec::len).sum::<usize>()
            ))),
            None => Ok(Weighed::of_several(ranking)),
        }
    }

    /// The mask of all neurons whose q is at most a rate.
    fn discovered(&self, rate: Share, weighed: &Weighed, ranking: &Ranking) -> Result<Mask> {
        // It is written as a decimal number, which every such number is read from.
        let limit: f64 = rate.to_string().parse().unwrap_or(0.0);
        let found = weighed.is_found(limit, ranking.neurons()).ok_or_else(|| {
            let file = self.first().performance.file().display();
            SessionError::input(format!(
                "{file}: tensor `true_positive`: option `fdr` expected counts by class (an older version wrote the file: \
                 probe again), found none"
            ))
        })?;
        Ok(ranking.mask_where(found))
    }

    fn task(&self, options: &Select) -> Result<String> {
        let Counts { performance, metadata } = self.first();
        let told = || metadata.get(key::TASK).cloned();
        let task = options.task.clone().or_else(told).unwrap_or_else(|| Subject::TASK.into());
        check_task(&task, options.task.is_some(), performance.file())?;
        Ok(task)
    }

    /// What all files say alike.
    fn metadata(&self, task: &str, score: ScoreRule) -> BTreeMap<String, String> {
        let mut metadata = self.first().metadata.clone();
        for other in self.0.iter().flatten() {
            metadata.retain(|key, value| other.metadata.get(key) == Some(value));
        }
        metadata.retain(|key, _| key.starts_with("skn."));
        metadata.insert(key::TASK.into(), task.into());
        metadata.insert(key::SCORE.into(), score.name().into());
        metadata
    }
}
