//! The figures of the report in their order, each from the part that it shows.

use crate::axis::{asked_name, task_name};
use crate::chance;
use crate::classes;
use crate::dev_and_test;
use crate::figure::Figure;
use crate::histograms::activations;
use crate::maps;
use crate::parts::Parts;
use crate::perturbed;
use crate::pooling;
use crate::predictivity;
use crate::rankings;
use crate::result;
use crate::speed;
use crate::task::Task;
use crate::training;

/// What a probed task's figures are called, in order.
pub(crate) const OF_TASK: [&str; 6] =
    ["predictivity", "predictivity-by-layer", BY_POSITION, "dev-against-test", "activations", "pooling"];
/// The figure that a probe without differences lacks.
pub(crate) const BY_POSITION: &str = "predictivity-by-position";

/// The figures of shuffled labels.
pub(crate) const CHANCE: [&str; 2] = ["chance", "chance-by-layer"];

/// All figures that a run's parts make, in the order of the report.
pub(crate) fn figures(parts: &Parts) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(parts.summary.as_ref().map(|found| result::figure(found, parts.metric())));
    figures.extend(training::figures(&parts.metrics));
    for task in &parts.tasks {
        figures.extend(task_figures(parts, task));
    }
    figures.extend(parts.tasks.iter().filter_map(|task| classes::confusion(parts, task)));
    for sweep in parts.perturbed() {
        figures.extend(perturbed::figures(sweep));
        figures.extend(classes::figures(parts, sweep));
    }
    figures.extend(rankings::figures(parts));
    figures.extend(parts.tasks.iter().filter_map(speed::figure));
    figures
}

fn task_figures(parts: &Parts, task: &Task) -> Vec<Figure> {
    let name = |place: usize| task_name(task, OF_TASK[place]);
    let mut figures = Vec::new();
    if let Some(probe) = task.lead() {
        figures.extend([predictivity::histogram(&name(0), probe), predictivity::by_layer(&name(1), probe)]);
        figures.extend(predictivity::heat_map(&name(2), probe));
        figures.extend(dev_and_test::figure(&name(3), probe));
        let found = task.activations.as_ref();
        figures.extend(found.map(|found| activations(&name(4), "The best neuron's", parts, task, found)));
        for asked in &task.asked {
            let name = asked_name(task, asked);
            let found = asked.found.as_ref();
            figures.extend(found.map(|found| activations(&name, "A neuron's", parts, task, found)));
        }
        figures.extend(maps::figures(task, probe));
    }
    figures.extend(pooling::figure(&name(5), task));
    if let Some(found) = &task.weighed {
        let [all, by_layer] = CHANCE.map(|name| task_name(task, name));
        figures.extend(chance::figure(&all, found));
        let kinds = task.kinds();
        let probe = kinds.into_iter().find(|probe| found.pool() == Some(probe.pool));
        figures.extend(probe.and_then(|probe| chance::by_layer(&by_layer, found, probe)));
    }
    figures
}
