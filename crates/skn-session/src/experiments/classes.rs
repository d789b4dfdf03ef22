//! Do the neurons of a class matter for that class?

use std::path::PathBuf;

use serde_json::json;
use skn_artifact::names::file;
use skn_report::{Chart, Drawn, Section, Table, suffers_most};

use super::plan::{Marked, Plan, Planned, PlannedTask, of, percent};
use super::{agreement, files};
use crate::error::Result;
use crate::options::{Stage, Tuned};
use crate::session::Session;

/// Tasks whose classes have neurons of their own: of two classes one rule tells both.
fn of_many<'p>(plan: &'p Plan<'_>) -> impl Iterator<Item = &'p PlannedTask> {
    plan.tasks.iter().filter(|task| task.classes > 2)
}

fn folder(plan: &Plan<'_>, task: &PlannedTask) -> PathBuf {
    plan.run(task, plan.first_seed()).join("classes")
}

pub(super) fn stages(plan: &Plan<'_>) -> Vec<Planned> {
    let mut planned = agreement::first_seeds(plan);
    let seed = plan.first_seed();
    for task in of_many(plan) {
        let mut stages: Vec<Stage> =
            (0..task.classes).map(|class| plan.select_class(task, class).into()).collect();
        let (tuned, masks) =
            (Tuned::of(plan.run(task, seed)), vec![plan.mask(task, Marked::Skill, plan.share)]);
        let mut perturb = plan.perturb(task, tuned, masks, plan.edit_of(task), folder(plan, task));
        perturb.class_masks =
            (0..task.classes).map(|class| plan.mask(task, Marked::Class(class), plan.share)).collect();
        stages.push(perturb.into());
        planned.extend(of(task, seed, stages));
    }
    planned
}

pub(super) fn section(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    let (mut charts, mut said) = (Vec::new(), Vec::new());
    for task in of_many(plan) {
        let results = files::perturbed(&folder(plan, task), file::CLASSES)?;
        let (mut rows, mut cells, mut own_is_worst) = (Vec::new(), Vec::new(), 0);
        let mut texts = Vec::new();
        for result in &results {
            let (Some(class), Some(by_class)) = (result.class, result.by_class.as_ref()) else { continue };
            let mut changes = Vec::new();
            for of in 0..task.classes {
                let found = by_class.accuracy(of);
                let change = found.map_or(f64::NAN, |[before, after]| 100.0 * (after - before));
                let [before, after] = [0, 1].map(|place| json!(found.map(|both| both[place])));
                rows.push(vec![
                    json!(task.name),
                    json!(class),
                    json!(of),
                    before,
                    after,
                    json!(by_class.rows.get(of)),
                ]);
                changes.push(change);
            }
            texts.clone_from(&by_class.rows);
            own_is_worst += usize::from(suffers_most(&changes, class));
            cells.push(changes);
        }
        said.push(format!("{}: for {own_is_worst} of {} classes", task.name, cells.len()));
        let names = task.class_names();
        let columns = ["task", "neurons_of_class", "texts_of_class", "unperturbed", "perturbed", "texts"];
        charts.push(Chart {
            name: format!("classes-{}", task.name),
            title: format!("Damage by class: {}", task.name),
            caption: format!(
                "Each cell is the change of the accuracy on a class's texts of test, in points (hundredths), with the best {} of each \
                 layer's neurons for a class perturbed. {}",
                percent(plan.share),
                of_texts(&texts)
            ),
            table: Table::from_rows(&columns, rows),
            drawn: Drawn::Map {
                y_label: "neurons of class".into(),
                rows: names.clone(),
                x_label: "texts of class".into(),
                columns: names,
                cells,
            },
        });
    }
    let found = if charts.is_empty() {
        "No task has more than two classes: of two classes one rule tells both.".into()
    } else {
        format!(
            "How often, with the neurons of a class perturbed, its own texts suffer most. {}.",
            said.join("; ")
        )
    };
    Ok(Section { paragraphs: vec![found], charts, ..Section::default() })
}

/// How many texts classes have.
fn of_texts(texts: &[u64]) -> String {
    match (texts.iter().min(), texts.iter().max()) {
        (Some(least), Some(most)) if least == most => format!("Each class has {least} texts of test."),
        (Some(least), Some(most)) => format!("A class has {least} to {most} texts of test."),
        _ => String::new(),
    }
}
