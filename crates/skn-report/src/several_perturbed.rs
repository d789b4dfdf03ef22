//! What perturbing did in each of several runs: what lies in the runs themselves, and their named sweeps.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skn_artifact::PerturbationResult;

use crate::axis::metric_label;
use crate::chart::{Chart, Drawn, Point, Section};
use crate::damage;
use crate::number::{grouped, percent};
use crate::parts::Parts;
use crate::perturbed::{groups, share};
use crate::sweep::Sweep;
use crate::table::Table;

/// A sweep of one of the runs: the run's place and name, all of the run, and the sweep.
struct Of<'a> {
    place: usize,
    run: &'a str,
    parts: &'a Parts,
    sweep: &'a Sweep,
}

/// What perturbing did, and what tests say of it; nothing of what no run has.
pub(crate) fn sections(runs: &[(&str, &Parts)]) -> Vec<Section> {
    let all: Vec<Of<'_>> = (runs.iter().enumerate())
        .flat_map(|(place, &(run, parts))| {
            parts.perturbed().map(move |sweep| Of { place, run, parts, sweep })
        })
        .filter(|of| !of.sweep.is_empty())
        .collect();
    // What lies in the runs themselves has no name, and comes first.
    let names: BTreeSet<Option<&str>> = all.iter().map(|of| of.sweep.name.as_deref()).collect();
    let mut sections = Vec::new();
    if !all.is_empty() {
        let said = "What perturbing neurons did in each run: first what lies in the run itself, then each sweep by its name \
                    (skn-mask --name). Runs of different tasks are not of the same texts.";
        let (mut paragraphs, mut charts) = (vec![said.to_owned()], Vec::new());
        for name in &names {
            let same: Vec<&Of<'_>> = all.iter().filter(|of| of.sweep.name.as_deref() == *name).collect();
            match shared_mask(&same) {
                Some(mask) => charts.extend(chart(runs, &same, mask)),
                None => paragraphs.push(without_figure(*name, same.len())),
            }
        }
        sections.push(Section {
            id: "perturbation".into(),
            heading: "Perturbation".into(),
            paragraphs,
            charts,
            tables: vec![("A row for each result".into(), results(all.iter()))],
            data: Vec::new(),
        });
    }
    sections.extend(evidence(&all));
    sections
}

/// A row for each result.
fn results<'a>(all: impl Iterator<Item = &'a Of<'a>>) -> Table {
    let columns = [
        "run",
        "sweep",
        "neurons",
        "share",
        "edit",
        "alpha",
        "texts",
        "draws",
        "unperturbed",
        "mean",
        "low",
        "high",
    ];
    let mut rows = Vec::new();
    for Of { run, parts, sweep, .. } in all {
        let row = |who: String, of: &PerturbationResult| {
            let [low, high] = of.interval;
            let labels =
                [json!(run), json!(sweep.name), json!(who), share(of), json!(of.edit), json!(of.alpha)];
            let numbers = [json!(of.rows), json!(of.draws.len()), json!(of.unperturbed), json!(of.mean)];
            [&labels[..], &numbers, &[json!(low), json!(high)]].concat()
        };
        for (who, _, results) in groups(sweep) {
            rows.extend(results.iter().map(|of| row(who.to_owned(), of)));
        }
        for of in &sweep.classes {
            let class = of.class.map_or_else(String::new, |class| parts.class(&of.task, class));
            rows.push(row(format!("of class {class}"), of));
        }
    }
    Table::from_rows(&columns, rows)
}

/// Whether a sweep has a result of skill neurons of a mask.
fn has(of: &Of<'_>, mask: &str) -> bool {
    of.sweep.skill.iter().any(|result| result.mask == mask)
}

/// The mask of which most of these sweeps have a result of skill neurons; of several that of a summary, or else the last of
/// them. Two sweeps must have it, where there are two.
fn shared_mask<'a>(same: &[&Of<'a>]) -> Option<&'a str> {
    let mut masks: Vec<(&str, usize)> = Vec::new();
    for result in same.iter().flat_map(|of| &of.sweep.skill) {
        let mask = result.mask.as_str();
        if masks.iter().all(|(known, _)| *known != mask) {
            masks.push((mask, same.iter().filter(|of| has(of, mask)).count()));
        }
    }
    let most = masks.iter().map(|(_, count)| *count).max()?;
    if most < same.len().min(2) {
        return None;
    }
    masks.retain(|(_, count)| *count == most);
    let mut told = same.iter().filter_map(|of| of.parts.summary.as_ref());
    let of_summary =
        told.find_map(|summary| masks.iter().find(|(mask, _)| *mask == summary.perturbation.share));
    of_summary.or(masks.last()).map(|(mask, _)| *mask)
}

/// What is said of results that no figure can set beside one another.
fn without_figure(name: Option<&str>, sweeps: usize) -> String {
    let what = name.map_or_else(|| "what lies in the runs themselves".into(), |name| format!("sweep {name}"));
    let why = if sweeps < 2 {
        "it has no results of skill neurons"
    } else {
        "no two runs have results of skill neurons of the same mask"
    };
    format!("Of {what} there is no figure: {why}.")
}

/// The runs of one sweep beside one another, those that have results of the mask.
fn chart(runs: &[(&str, &Parts)], same: &[&Of<'_>], mask: &str) -> Option<Chart> {
    let table = results(same.iter().copied());
    let same: Vec<&Of<'_>> = same.iter().copied().filter(|of| has(of, mask)).collect();
    let first = same.first()?;
    let mut drawn: Vec<(&str, Vec<Point>)> = vec![("unperturbed", Vec::new())];
    let (mut metrics, mut texts) = (BTreeSet::new(), Vec::new());
    for Of { place, run, sweep, .. } in &same {
        for (who, _, results) in groups(sweep) {
            let Some(found) = results.iter().find(|result| result.mask == mask) else { continue };
            if who == "skill" {
                metrics.insert(found.metric.as_str());
                texts.push((*run, found.rows));
                drawn[0].1.push(Point::at(*place as f64, found.unperturbed));
            }
            let dot = Point::at(*place as f64, found.mean).between(found.interval);
            match drawn.iter_mut().find(|(group, _)| *group == who) {
                Some((_, dots)) => dots.push(dot),
                None => drawn.push((who, vec![dot])),
            }
        }
    }
    let own =
        |who: &str| if who == "unperturbed" { who.to_owned() } else { format!("{who} neurons perturbed") };
    let metric = metrics.first().copied().filter(|_| metrics.len() == 1);
    let sweep = first.sweep.name.as_deref();
    let neurons = which(mask);
    // A name may be longer than a figure is wide.
    let title = sweep.filter(|name| name.chars().count() <= 24);
    Some(Chart {
        name: sweep.map_or("runs-perturbation".into(), |name| format!("runs-sweep-{name}")),
        title: title
            .map_or("Neurons perturbed in each run".into(), |name| format!("Sweep {name} in each run")),
        caption: format!(
            "{}. {} Dots are means over draws, whiskers their 95 % intervals (of one draw that over texts, of several that over \
             draws). {}{}",
            sweep.map_or_else(|| capital(&neurons), |name| format!("Sweep {name}: {neurons}")),
            edits(&same),
            counted(&texts, runs.len()),
            left_out(runs, &same)
        ),
        table,
        drawn: Drawn::Dots {
            x_label: "run".into(),
            y_label: format!("{} on test", metric_label(metric)),
            names: runs.iter().map(|(name, _)| (*name).to_owned()).collect(),
            groups: drawn.into_iter().map(|(who, dots)| (own(who), dots)).collect(),
        },
    })
}

/// The neurons of a mask: the best of a share, or those that somebody chose.
fn which(mask: &str) -> String {
    match mask.parse::<f64>() {
        Ok(_) => format!("the best {} of each layer's neurons", percent(mask)),
        Err(_) => format!("the neurons of mask {mask}"),
    }
}

/// What happened to the neurons, of each run where it was not the same.
fn edits(same: &[&Of<'_>]) -> String {
    let sentence = |text: String| capital(&text) + ".";
    let done: BTreeSet<String> = same.iter().map(|of| damage::done(of.sweep)).collect();
    match done.len() {
        1 => done.into_iter().map(sentence).collect(),
        _ => {
            let of_run = |of: &&Of<'_>| format!("in {}, {}", of.run, damage::done(of.sweep));
            sentence(same.iter().map(of_run).collect::<Vec<_>>().join("; "))
        }
    }
}

/// As a sentence begins.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// How many texts each result is of; of so many runs some may not be drawn.
fn counted(texts: &[(&str, u64)], runs: usize) -> String {
    let counts: BTreeSet<u64> = texts.iter().map(|(_, count)| *count).collect();
    let of_run = |(run, count): &(&str, u64)| format!("{} in {run}", grouped(*count));
    match counts.first() {
        Some(count) if counts.len() == 1 => {
            let each = if texts.len() < runs { "Each run drawn" } else { "Each run" };
            format!("{each} has {} texts of test.", grouped(*count))
        }
        _ => format!("Texts of test: {}.", texts.iter().map(of_run).collect::<Vec<_>>().join(", ")),
    }
}

/// The runs that have no place in a figure.
fn left_out(runs: &[(&str, &Parts)], drawn: &[&Of<'_>]) -> String {
    let others = (runs.iter().enumerate()).filter(|(place, _)| drawn.iter().all(|of| of.place != *place));
    let names: Vec<&str> = others.map(|(_, (run, _))| *run).collect();
    if names.is_empty() {
        return String::new();
    }
    format!(" Not drawn, for they have no results of skill neurons of this mask here: {}.", names.join(", "))
}

/// What tests say of skill neurons against random ones, a row for each kind of these and each mask.
fn evidence(all: &[Of<'_>]) -> Option<Section> {
    let mut columns: Vec<String> = vec!["run".into(), "sweep".into()];
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for Of { run, sweep, .. } in all {
        let Some((_, table)) = damage::evidence_table(sweep) else { continue };
        if rows.is_empty() {
            columns.extend(table.columns.iter().cloned());
        }
        rows.extend(table.data.into_iter().map(|row| [vec![json!(run), json!(sweep.name)], row].concat()));
    }
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    (!rows.is_empty()).then(|| Section {
        id: "perturbation-evidence".into(),
        heading: "Is it the choice of neurons?".into(),
        paragraphs: vec![damage::ASKED.into()],
        tables: vec![("A row for each result of random neurons".into(), Table::from_rows(&columns, rows))],
        ..Section::default()
    })
}

#[cfg(test)]
mod tests {
    use skn_artifact::RunRecord;

    use super::*;

    /// A run with one result of its skill neurons: the score without an edit, the mean of draws and the interval of that.
    fn parts(unperturbed: f64, mean: f64, interval: [f64; 2]) -> Parts {
        let result = json!({
            "task": "sst2", "metric": "accuracy", "rows": 872, "edit": "zero", "mask": "0.1", "mask_sha256": "ab",
            "low_layer": 0, "high_layer": 2, "neurons": [3, 3], "unperturbed": unperturbed, "draws": [mean],
            "mean": mean, "std": 0.0, "interval": interval
        });
        let skill = vec![serde_json::from_value(result).unwrap()];
        let own = Sweep { name: None, skill, random: Vec::new(), matched: Vec::new(), classes: Vec::new() };
        let (summary, untuned, config, metrics) = (None, None, None, Vec::new());
        let (tasks, sweeps, record) = (Vec::new(), Vec::new(), RunRecord::default());
        Parts { summary, untuned, config, metrics, tasks, own, sweeps, record, outdated: Vec::new() }
    }

    #[test]
    fn each_run_has_its_own_dots() {
        let (a, b) = (parts(0.9, 0.6, [0.5, 0.7]), parts(0.8, 0.4, [0.3, 0.45]));
        let sections = sections(&[("a", &a), ("b", &b)]);
        let Drawn::Dots { groups, names, .. } = &sections[0].charts[0].drawn else { panic!("{sections:?}") };
        assert_eq!(names, &["a", "b"]);
        let place = |point: &Point| (point.x, point.y, point.interval);
        let found: Vec<(&str, Vec<_>)> =
            groups.iter().map(|(group, dots)| (group.as_str(), dots.iter().map(place).collect())).collect();
        let perturbed = vec![(0.0, 0.6, Some([0.5, 0.7])), (1.0, 0.4, Some([0.3, 0.45]))];
        let expected = [
            ("unperturbed", vec![(0.0, 0.9, None), (1.0, 0.8, None)]),
            ("skill neurons perturbed", perturbed),
        ];
        assert_eq!(found, expected);
    }
}
