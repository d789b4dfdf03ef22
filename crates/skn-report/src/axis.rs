//! What axes and figures are called.

use std::sync::Arc;

use kuva::prelude::{Layout, TickFormat};

use crate::figure::plain;
use crate::task::{Asked, Task};

/// The name of a task's figure.
pub(crate) fn task_name(task: &Task, what: &str) -> String {
    format!("{}-{what}", task.name)
}

/// The name of the figure of a neuron that was asked for.
pub(crate) fn asked_name(task: &Task, asked: &Asked) -> String {
    task_name(task, &format!("activations-{}-{}", asked.layer, asked.index))
}

/// The metric, as an axis has it.
pub(crate) fn metric_label(metric: Option<&str>) -> String {
    plain(metric.unwrap_or("metric"))
}

/// Names for the places 1, 2, .. of an axis.
pub(crate) fn names_at_places(names: Vec<String>) -> TickFormat {
    TickFormat::Custom(Arc::new(move |value: f64| {
        let place = value.round();
        let exact = (value - place).abs() < 1e-6 && place >= 1.0;
        exact.then(|| names.get(place as usize - 1).cloned()).flatten().unwrap_or_default()
    }))
}

/// Room for the names of a horizontal axis: names that are too long to stand side by side stand askew, and the figure is
/// higher by what they take.
pub(crate) fn with_names(layout: Layout, names: &[String]) -> Layout {
    /// What all names together may have, in letters.
    const SIDE_BY_SIDE: usize = 44;
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    if longest * names.len() <= SIDE_BY_SIDE {
        return layout;
    }
    let height = layout.height.unwrap_or(340.0) + 4.5 * longest as f64;
    layout.with_x_tick_rotate(-35.0).with_height(height)
}
