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

/// A step of 1, 2 or 5 times a power of ten that makes about five ticks of a range.
pub(crate) fn round_step(range: f64) -> f64 {
    let rough = (range / 5.0).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= rough * 0.99);
    digit.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_by_hand() {
        assert_eq!(
            [0.42, 0.05, 0.1, 3.0].map(|range| format!("{:.2}", round_step(range))),
            ["0.10", "0.01", "0.02", "1.00"]
        );
    }
}
