//! What a prompt does to neurons, and what prompts do for other tasks.

use std::path::PathBuf;

use serde_json::json;
use skn_report::{Chart, Drawn, Point, Section, Table};
use skn_stats::spearman;

use super::plan::{Plan, Planned, PlannedTask, of};
use super::{agreement, files};
use crate::error::Result;
use crate::options::{Probe, Tuned};
use crate::session::Session;

/// The run of a task under a prompt that nobody tuned.
fn random_prompt(plan: &Plan<'_>, task: &PlannedTask) -> PathBuf {
    plan.out.join(format!("{}-random-prompt", task.name))
}

/// The run of a task under a prompt that somebody wrote.
fn written_prompt(plan: &Plan<'_>, task: &PlannedTask) -> PathBuf {
    plan.out.join(format!("{}-written-prompt", task.name))
}

pub(super) fn prompt_stages(plan: &Plan<'_>) -> Vec<Planned> {
    let mut planned = agreement::first_seeds(plan);
    let seed = plan.first_seed();
    for task in &plan.tasks {
        let probe = plan.probe_untuned(plan.subject(task, seed), random_prompt(plan, task));
        let written = plan.probe_written(task, written_prompt(plan, task));
        planned.extend(of(task, seed, [probe.into(), written.into()]));
    }
    planned
}

/// A run of each task, and what it is called.
pub(super) type Compared<'a> = (&'a str, &'a dyn Fn(&PlannedTask) -> PathBuf);

/// For each of the compared runs its name, and what the best neuron of each task has on test.
type Bests = Vec<(String, Vec<f64>)>;

/// What runs of each task found, one beside the other: the best neuron, and the answers of the model.
pub(super) fn compare(
    plan: &Plan<'_>,
    name: &str,
    title: &str,
    runs: &[Compared<'_>],
) -> Result<(Chart, Bests)> {
    let (mut rows, mut groups, mut bests) = (Vec::new(), Vec::new(), Vec::new());
    for (what, run) in runs {
        let (mut dots, mut of_run) = (Vec::new(), Vec::new());
        for (place, task) in plan.tasks.iter().enumerate() {
            let run = run(task);
            let best = files::best(plan, &run, &task.name)?;
            let ranked = files::ranked(plan, &run, &task.name)?;
            let median = ranked.get(ranked.len() / 2).map(|neuron| neuron.predictivity);
            let score = files::performance(&run, &task.name)?.test_score;
            let dev = best.as_ref().map(|of| of.dev);
            let tested = files::best_on_test(plan, &run, &task.name)?;
            let test = tested.as_ref().map(|of| of.value);
            let [low, high] = [0, 1].map(|end| json!(tested.as_ref().map(|of| of.interval[end])));
            rows.push(vec![
                json!(task.name),
                json!(what),
                json!(dev),
                json!(test),
                json!(median),
                json!(score),
                low,
                high,
                json!(tested.as_ref().map(|of| of.texts)),
            ]);
            dots.extend(tested.map(|of| Point::at(place as f64, of.value).between(of.interval)));
            of_run.push(test.unwrap_or(f64::NAN));
        }
        groups.push(((*what).to_owned(), dots));
        bests.push(((*what).to_owned(), of_run));
    }
    let columns = [
        "task",
        "run",
        "best_neuron_dev",
        "best_neuron_test",
        "median_neuron_dev",
        "metric_test",
        "test_low",
        "test_high",
        "test_texts",
    ];
    let chart = Chart {
        name: name.into(),
        title: title.into(),
        caption: "The neuron that predicts best on dev, as test sees it: its accuracy, or where classes are not of one size, or more than two, \
                  the balanced one (a guess has 0.5). Whiskers are 95 % intervals over the texts of test."
            .into(),
        table: Table::from_rows(&columns, rows),
        drawn: Drawn::Dots {
            x_label: "task".into(),
            y_label: "predictivity on test".into(),
            names: plan.tasks.iter().map(|task| task.name.clone()).collect(),
            groups,
        },
    };
    Ok((chart, bests))
}

/// For each task the values of two runs, in words.
pub(super) fn against(plan: &Plan<'_>, bests: &[(String, Vec<f64>)]) -> String {
    let of_task = |(place, task): (usize, &PlannedTask)| {
        let values = bests.iter().map(|(what, values)| format!("{what} {:.3}", values[place]));
        format!("{}: {}", task.name, values.collect::<Vec<_>>().join(", "))
    };
    plan.tasks.iter().enumerate().map(of_task).collect::<Vec<_>>().join("; ")
}

pub(super) fn prompts(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    let seed = plan.first_seed();
    let runs: [Compared<'_>; 3] = [
        ("random prompt", &|task| random_prompt(plan, task)),
        ("written prompt", &|task| written_prompt(plan, task)),
        ("tuned prompt", &|task| plan.run(task, seed)),
    ];
    let written: Vec<String> =
        plan.tasks.iter().map(|task| format!("for {} {:?}", task.name, task.prompt_text)).collect();
    let (chart, bests) = compare(plan, "prompts", "The best neuron under three prompts", &runs)?;
    let found = format!(
        "Predictivity of the best neuron on test, chosen on dev, read under a prompt of chance, under one that a person wrote (the \
         embeddings of its words), and under the tuned one. {}. Written were {}. A written \
         prompt has a position for each of its tokens: where it has more than the others, its best neuron is chosen among more.",
        against(plan, &bests),
        written.join(", ")
    );
    let table = ("The numbers".into(), chart.table.clone());
    Ok(Section { paragraphs: vec![found], charts: vec![chart], tables: vec![table], ..Section::default() })
}

/// Where a prompt answers another task.
fn transferred(plan: &Plan<'_>, from: &PlannedTask, to: &PlannedTask) -> PathBuf {
    plan.out.join("transfer").join(format!("{}-to-{}", from.name, to.name))
}

pub(super) fn transfer_stages(plan: &Plan<'_>) -> Vec<Planned> {
    let mut planned = agreement::first_seeds(plan);
    let seed = plan.first_seed();
    for from in &plan.tasks {
        for to in plan.tasks.iter().filter(|to| to.name != from.name) {
            let probe = Probe {
                subject: plan.subject(to, seed),
                tuned: Tuned::of(plan.run(from, seed)),
                probe_type: vec![skn_probing::ProbeType::Speed],
                repeats: std::num::NonZeroUsize::MIN,
                out: transferred(plan, from, to),
                ..Probe::default()
            };
            planned.extend(of(to, seed, [probe.into()]));
        }
    }
    planned
}

/// How far two prompts activate the same of these neurons: the cosine of the two sets' indicators (Su et al. 2022, section
/// 5.1); 0 where one activates none.
fn overlap(a: &[bool], b: &[bool], among: &[usize]) -> f64 {
    let count = |of: &dyn Fn(usize) -> bool| among.iter().filter(|&&place| of(place)).count() as f64;
    let both = count(&|place| a[place] && b[place]);
    let product = count(&|place| a[place]) * count(&|place| b[place]);
    if product > 0.0 { both / product.sqrt() } else { 0.0 }
}

pub(super) fn transfer(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    if plan.tasks.len() < 2 {
        let why = "There is one task: nothing to transfer to.".into();
        return Ok(Section { paragraphs: vec![why], ..Section::default() });
    }
    let seed = plan.first_seed();
    let (mut known, mut texts) = (Vec::new(), Vec::new());
    for task in &plan.tasks {
        let run = plan.run(task, seed);
        let (activated, width) = files::activated(&run, &task.name)?;
        let answers = files::performance(&run, &task.name)?;
        texts.push(format!("{} {}", task.name, answers.rows));
        known.push((task, activated, width, files::skill(plan, task, seed)?, answers.test_score));
    }
    let (mut rows, mut transfers, mut overlaps) = (Vec::new(), Vec::new(), Vec::new());
    let (mut transfer_map, mut overlap_map) = (Vec::new(), Vec::new());
    for (from, from_active, width, from_skill, own_score) in &known {
        let (mut of_transfer, mut of_overlap) = (Vec::new(), Vec::new());
        for (to, to_active, _, to_skill, to_score) in &known {
            let among: Vec<usize> =
                from_skill.union(to_skill).map(|(layer, index)| layer * width + *index as usize).collect();
            let shared = overlap(from_active, to_active, &among);
            if from.name == to.name {
                of_transfer.push(*own_score);
                of_overlap.push(shared);
                continue;
            }
            let answers = files::performance(&transferred(plan, from, to), &to.name)?;
            let (score, [low, high]) = (answers.test_score, answers.interval);
            let relative = score / to_score;
            rows.push(vec![
                json!(from.name),
                json!(to.name),
                json!(score),
                json!(to_score),
                json!(relative),
                json!(shared),
                json!(low),
                json!(high),
                json!(answers.rows),
            ]);
            transfers.push(relative);
            overlaps.push(shared);
            of_transfer.push(score);
            of_overlap.push(shared);
        }
        transfer_map.push(of_transfer);
        overlap_map.push(of_overlap);
    }
    let rho = spearman(&overlaps, &transfers)?;
    let pairs = transfers.len();
    let rho = if rho.is_finite() { format!("{rho:.3}") } else { "not known, as all are alike".into() };
    let found = format!(
        "Each task's prompt answers the other tasks' texts, with their words, without more tuning. The overlap is how far two prompts \
         activate the same skill neurons of either task by themselves, before any text (the cosine of the two sets of neurons with an \
         activation above 0 at the answer's row). Over {pairs} pairs of tasks, Spearman's correlation of the overlap with the score \
         relative to that of the task's own prompt is {rho}.{}",
        if pairs < 20 { " So few pairs say little." } else { "" }
    );
    let columns =
        ["from", "to", "metric", "own_metric", "relative", "overlap", "metric_low", "metric_high", "texts"];
    let table = Table::from_rows(&columns, rows);
    let names: Vec<String> = plan.tasks.iter().map(|task| task.name.clone()).collect();
    let map = |name: &str, title: &str, caption: &str, cells| Chart {
        name: name.into(),
        title: title.into(),
        caption: caption.into(),
        table: table.clone(),
        drawn: Drawn::Map {
            y_label: "prompt of".into(),
            rows: names.clone(),
            x_label: "texts of".into(),
            columns: names.clone(),
            cells,
        },
    };
    let charts = vec![
        map(
            "transfer-map",
            "Prompts on other tasks",
            &format!(
                "The metric on test; on the diagonal the task's own prompt. 95 % intervals stand below. Texts of test: {}.",
                texts.join(", ")
            ),
            transfer_map,
        ),
        map(
            "transfer-overlap",
            "Overlap of what prompts activate",
            "How far two prompts activate the same ones of either task's skill neurons, before any text: from 0, none in common, to 1, \
             the same.",
            overlap_map,
        ),
    ];
    let tables = vec![("The numbers".into(), table)];
    Ok(Section { paragraphs: vec![found], charts, tables, ..Section::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_by_hand() {
        let (a, b) = ([true, true, false, true], [true, false, true, true]);
        assert!((overlap(&a, &b, &[0, 1, 2, 3]) - 2.0 / 3.0).abs() < 1e-12);
        assert!((overlap(&a, &b, &[0, 1]) - 1.0 / 2f64.sqrt()).abs() < 1e-12);
        assert_eq!((overlap(&a, &b, &[2]), overlap(&a, &a, &[0, 1])), (0.0, 1.0));
    }
}
