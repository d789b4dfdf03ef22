//! Several runs side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skn_stats::{jaccard, spearman};

use crate::chart::{Chart, Drawn, Page, Point, Section};
use crate::error::Result;
use crate::neurons::share;
use crate::parts::Parts;
use crate::probe::Probe;
use crate::result::values_of;
use crate::several_perturbed;
use crate::table::Table;
use crate::task::Task;

/// A page of several runs, and what is on it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// The page, complete.
    pub html: String,
    /// The figures by name, each an SVG document that stands alone.
    pub figures: BTreeMap<String, String>,
    /// What each figure and each table of the page shows.
    pub tables: BTreeMap<String, Table>,
    /// The files that it was made of, beside each run's `run.json`.
    pub files: Vec<PathBuf>,
}

/// A run, with what it is called on the page.
struct Run {
    name: String,
    parts: Parts,
}

impl Run {
    /// The task that it was tuned for.
    fn task(&self) -> Option<&Task> {
        let name = self.parts.task()?;
        self.parts.tasks.iter().find(|task| task.name == name)
    }

    fn probe(&self) -> Option<&Probe> {
        self.task()?.probe.as_ref()
    }
}

impl Comparison {
    /// Reads runs and compares them: their results, and for those of one model how far their neurons' predictivity agrees and
    /// how many selected neurons they share. Nothing is written.
    ///
    /// # Errors
    /// If a folder is not there, holds nothing of a run, or a file in it is not of its form.
    pub fn read(runs: &[&Path]) -> Result<Self> {
        let (mut read, mut files) = (Vec::new(), Vec::new());
        for (run, name) in runs.iter().zip(names(runs)) {
            let parts = Parts::read(run, &[])?;
            files.extend(parts.files(run)?);
            read.push(Run { name, parts });
        }
        let mut sections = vec![results(&read)];
        let parts: Vec<(&str, &Parts)> = read.iter().map(|run| (run.name.as_str(), &run.parts)).collect();
        sections.extend(several_perturbed::sections(&parts));
        sections.extend(agreement(&read));
        let models: BTreeSet<&str> = read.iter().filter_map(|run| run.parts.model()).collect();
        let lead =
            format!("{} runs; models: {}.", read.len(), models.into_iter().collect::<Vec<_>>().join(", "));
        let page = Page::new("Skill neurons: runs side by side", &lead, &sections);
        let mut tables = BTreeMap::new();
        for section in sections {
            tables.extend(section.charts.into_iter().map(|chart| (chart.name, chart.table)));
            tables.extend(section.tables.into_iter().map(|(_, table)| (section.id.clone(), table)));
        }
        Ok(Self { html: page.html, figures: page.figures, tables, files })
    }
}

/// What runs are called: the last parts of their folders, as many as tell them apart.
fn names(runs: &[&Path]) -> Vec<String> {
    let last = |run: &Path, count: usize| {
        let parts: Vec<String> =
            run.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        parts[parts.len().saturating_sub(count)..].join("/")
    };
    let most = runs.iter().map(|run| run.components().count()).max().unwrap_or(1);
    let named = |count: usize| runs.iter().map(|run| last(run, count)).collect::<Vec<_>>();
    let differ = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    (1..=most).map(named).find(|names| differ(names)).unwrap_or_else(|| named(most))
}

/// The results, a row for each run.
fn results(runs: &[Run]) -> Section {
    let columns = [
        "run",
        "model",
        "task",
        "metric",
        "untuned",
        "tuned",
        "skill_perturbed",
        "random_perturbed",
        "p",
        "pruned",
        "pruned_tuned",
        "best_neuron_dev",
        "best_neuron_test",
    ];
    let mut rows = Vec::new();
    let mut groups: Vec<(String, Vec<Point>)> = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        let Run { name, parts } = run;
        let summary = parts.summary.as_ref();
        let untuned = parts.untuned.as_ref().and_then(|found| found.answers.as_ref());
        let value =
            |of: fn(&skn_artifact::Points<f64>) -> f64| json!(summary.map(|found| of(&found.accuracy)));
        let best = run.probe().map(|probe| (probe, probe.best()));
        let test = best.and_then(|(probe, best)| share(probe.test.as_ref()?, &best.rule, probe.score));
        let as_it_is = untuned.map_or_else(|| value(|of| of.untuned), |found| json!(found.accuracy));
        // A run without a summary may have been measured.
        let measured =
            run.task().and_then(|task| task.performance.as_ref()).filter(|_| parts.untuned.is_none());
        let tested = summary.and_then(|found| found.perturbation.evidence.as_ref());
        rows.push(vec![
            json!(name),
            json!(parts.model()),
            json!(parts.task()),
            json!(parts.metric().or_else(|| untuned.map(|found| found.metric.as_str()))),
            as_it_is.clone(),
            json!(summary.map(|found| found.accuracy.tuned).or(measured.map(|found| found.test_score))),
            value(|of| of.skill_perturbed),
            value(|of| of.random_perturbed),
            json!(tested.map(|found| found.sign_flip_p)),
            value(|of| of.pruned),
            value(|of| of.pruned_tuned),
            json!(best.map(|(_, best)| best.predictivity)),
            json!(test.map(|test| test.value)),
        ]);
        let drawn: Vec<(&str, f64, Option<[f64; 2]>)> = match summary {
            Some(found) => (values_of(&found.accuracy).into_iter().zip(values_of(&found.interval)))
                .map(|((what, value), (_, interval))| (what, *value, Some(*interval)))
                .collect(),
            None => {
                let as_it_is = untuned.map(|found| ("untuned", found.accuracy, Some(found.interval)));
                let tuned = measured.map(|found| ("tuned", found.test_score, Some(found.interval)));
                as_it_is.into_iter().chain(tuned).collect()
            }
        };
        for (what, y, interval) in drawn {
            let dot = Point { interval, ..Point::at(place as f64, y) };
            match groups.iter_mut().find(|(group, _)| group == what) {
                Some((_, dots)) => dots.push(dot),
                None => groups.push((what.to_owned(), vec![dot])),
            }
        }
    }
    let table = Table::from_rows(&columns, rows);
    let chart = Chart {
        name: "runs".into(),
        title: "The metric on test of each run".into(),
        caption: "Each run's metric on its own test set, with its 95 % interval where the run has it: runs of different tasks are not \
                  of the same texts."
            .into(),
        table: table.clone(),
        drawn: Drawn::Dots {
            x_label: "run".into(),
            y_label: "metric on test".into(),
            names: runs.iter().map(|run| run.name.clone()).collect(),
            groups,
        },
    };
    Section {
        id: "results".into(),
        heading: "Results".into(),
        charts: vec![chart],
        tables: vec![("A row for each run".into(), table)],
        ..Section::default()
    }
}

/// How far runs of one model agree; nothing where there are no two of them.
fn agreement(runs: &[Run]) -> Option<Section> {
    let model = runs.iter().find_map(|run| run.probe().and(run.parts.model()))?;
    let of_model: Vec<(&Run, &Probe)> = (runs.iter())
        .filter(|run| run.parts.model() == Some(model))
        .filter_map(|run| Some((run, run.probe()?)))
        .collect();
    let (_, first) = of_model.first()?;
    let shape = |probe: &Probe| (probe.dev.layers(), probe.dev.widths().to_vec());
    let same: Vec<&(&Run, &Probe)> =
        of_model.iter().filter(|(_, probe)| shape(probe) == shape(first)).collect();
    if same.len() < 2 {
        return None;
    }
    let scores: Vec<Vec<Option<f64>>> = same.iter().map(|(_, probe)| by_neuron(probe)).collect();
    let dead = (0..scores[0].len()).filter(|&place| scores.iter().any(|of| of[place].is_none())).count();
    let selected: Vec<Option<BTreeSet<usize>>> = same.iter().map(|(run, _)| selected_of(run)).collect();
    let mut rows = Vec::new();
    let (mut rhos, mut overlaps) = (Vec::new(), Vec::new());
    for (a, (run_a, _)) in same.iter().enumerate() {
        let (mut of_rho, mut of_overlap) = (Vec::new(), Vec::new());
        for (b, (run_b, _)) in same.iter().enumerate() {
            let known: Vec<(f64, f64)> =
                scores[a].iter().zip(&scores[b]).filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect();
            let (of_a, of_b): (Vec<f64>, Vec<f64>) = known.into_iter().unzip();
            let rho = spearman(&of_a, &of_b).unwrap_or(f64::NAN);
            let both = selected[a].as_ref().zip(selected[b].as_ref());
            let shared =
                both.map(|(a, b)| a.intersection(b).count() as f64 / a.len().min(b.len()).max(1) as f64);
            let alike: Value = json!(both.map(|(a, b)| jaccard(a, b)));
            rows.push(vec![json!(run_a.name), json!(run_b.name), json!(rho), json!(shared), alike]);
            of_rho.push(rho);
            of_overlap.push(shared.unwrap_or(f64::NAN));
        }
        rhos.push(of_rho);
        overlaps.push(of_overlap);
    }
    let table = Table::from_rows(&["run_a", "run_b", "spearman", "overlap", "jaccard"], rows);
    let names: Vec<String> = same.iter().map(|(run, _)| run.name.clone()).collect();
    let map = |name: &str, title: &str, caption: &str, cells| Chart {
        name: name.into(),
        title: title.into(),
        caption: caption.into(),
        table: table.clone(),
        drawn: Drawn::Map {
            y_label: "run".into(),
            rows: names.clone(),
            x_label: "run".into(),
            columns: names.clone(),
            cells,
        },
    };
    let charts = vec![
        map(
            "runs-spearman",
            "Agreement on predictivity",
            "Spearman's correlation of all neurons' predictivity on dev.",
            rhos,
        ),
        map(
            "runs-overlap",
            "Shared skill neurons",
            "The share of one run's selected neurons that are also the other's.",
            overlaps,
        ),
    ];
    Some(Section {
        id: "agreement".into(),
        heading: format!("Runs of model {model}"),
        paragraphs: vec![format!(
            "Each pair of runs of one model: do the same neurons predict their labels?{}",
            match dead {
                0 => String::new(),
                1 => " 1 neuron hardly varies in one of them and is left out of pairs with it.".into(),
                _ => format!(" {dead} neurons hardly vary in one of them and are left out of pairs with it."),
            }
        )],
        charts,
        tables: vec![("Each pair".into(), table)],
        data: Vec::new(),
    })
}

/// The predictivity of all neurons, in the order of layer and index; nothing of one that is dead.
fn by_neuron(probe: &Probe) -> Vec<Option<f64>> {
    let widths = probe.dev.widths();
    let starts: Vec<usize> = widths
        .iter()
        .scan(0, |next, width| {
            let start = *next;
            *next += width;
            Some(start)
        })
        .collect();
    let mut all = vec![None; widths.iter().sum()];
    for of in &probe.ranked {
        all[starts[of.rule.layer] + of.rule.index] = Some(of.predictivity);
    }
    all
}

fn selected_of(run: &Run) -> Option<BTreeSet<usize>> {
    let selected = run.task()?.selected.as_ref()?;
    Some(selected.neurons.iter().enumerate().filter(|(_, chosen)| **chosen).map(|(place, _)| place).collect())
}

#[cfg(test)]
mod tests {
    use skn_artifact::{Array, TensorBundle, TensorFile};
    use skn_counts::Performance;

    use super::*;

    /// Of 10 texts, five of class 1: how many each of four neurons in two layers gets right.
    fn probe(dead: [bool; 4]) -> Probe {
        let mut bundle = TensorBundle::new();
        bundle.insert("correct", Array::i64(vec![2, 1, 2], vec![9, 8, 7, 6]).unwrap());
        bundle.insert("true_positive", Array::i64(vec![2, 1, 2], vec![5, 4, 3, 2]).unwrap());
        bundle.insert("positives", Array::i64(vec![1], vec![5]).unwrap());
        bundle.insert("total", Array::i64(vec![1], vec![10]).unwrap());
        let bytes = bundle.to_bytes().unwrap();
        let dev = Performance::read(&TensorFile::from_bytes("dev_perf".as_ref(), bytes).unwrap()).unwrap();
        let dev = dev.with_dead(dead.to_vec()).unwrap();
        let score = dev.usual_score();
        let (ranked, by_place) = (dev.ranked(score).unwrap(), dev.best_by_place(score).unwrap());
        Probe {
            pool: skn_counts::Pool::Position,
            dev,
            score,
            site: None,
            metadata: std::collections::BTreeMap::new(),
            test: None,
            ranked,
            by_place,
        }
    }

    #[test]
    fn a_dead_neuron_moves_no_other() {
        let all = by_neuron(&probe([false; 4]));
        assert_eq!(all, [0.9, 0.8, 0.7, 0.6].map(Some));
        for dead in 0..4 {
            let mut which = [false; 4];
            which[dead] = true;
            let found = by_neuron(&probe(which));
            let expected = |place: usize| if place == dead { None } else { all[place] };
            assert_eq!(found, (0..4).map(expected).collect::<Vec<_>>());
        }
    }

    #[test]
    fn names_tell_runs_apart() {
        let of = |runs: &[&str]| names(&runs.iter().map(Path::new).collect::<Vec<_>>());
        assert_eq!(of(&["runs/a", "runs/b"]), ["a", "b"]);
        assert_eq!(of(&["x/run", "y/run"]), ["x/run", "y/run"]);
        assert_eq!(of(&["run", "run"]), ["run", "run"]);
    }
}
