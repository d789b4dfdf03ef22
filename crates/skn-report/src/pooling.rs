//! The best neuron by what is taken of the activations: at a prompt position, or over a text's tokens.

use kuva::prelude::*;
use maud::{Markup, html};
use serde_json::json;

use crate::axis::names_at_places;
use crate::blocks::{missing, share_cells};
use crate::figure::{COLOURS, Figure, MUTED, layout};
use crate::neurons::{Share, share};
use crate::number::three;
use crate::table::Table;
use crate::task::Task;

/// The best neuron by prompt position beside that by mean and by maximum over the text.
pub(crate) fn section(task: &Task) -> Markup {
    if task.pooled.is_empty() {
        return missing(
            "A comparison with the mean and the maximum over a text's tokens (dev_mean_perf, dev_max_perf) is",
            "skn-probe --probe_type acc_mean,acc_max",
        );
    }
    html! {
        h3 { "What is taken of the activations" }
        div.scroll { table {
            thead { tr {
                th { "activation" } th.number { "layer" } th.number { "index" } th.number { "best on dev" }
                th.number { "the same on test" } th.number { "95 % interval" }
            } }
            tbody {
                @for probe in task.kinds() {
                    tr {
                        th { (probe.read_at()) } td.number { (probe.best().rule.layer) } td.number { (probe.best().rule.index) }
                        td.number { (three(probe.best().predictivity)) }
                        (share_cells(probe.test.as_ref().and_then(|test| share(test, &probe.best().rule, probe.score))))
                    }
                }
            }
        } }
    }
}

/// The best neuron by prompt position beside the best by mean and by maximum over the text.
pub(crate) fn figure(name: &str, task: &Task) -> Option<Figure> {
    let kinds = task.kinds();
    if task.pooled.is_empty() {
        return None;
    }
    let dev =
        kinds.iter().enumerate().map(|(number, probe)| (number as f64 + 0.9, probe.best().predictivity));
    let dots = ScatterPlot::new().with_data(dev).with_color(MUTED).with_size(5.0);
    let mut plots = vec![Plot::Scatter(dots.with_legend("dev, where it was chosen"))];
    let mut lowest = 0.5;
    let (mut values, mut whiskers) = (Vec::new(), Vec::new());
    for (number, probe) in kinds.iter().enumerate() {
        let known = probe.test.as_ref().and_then(|test| share(test, &probe.best().rule, probe.score));
        let Some(Share { value, interval: [low, high] }) = known else { continue };
        values.push((number as f64 + 1.1, value));
        whiskers.push((value - low, high - value));
        lowest = low.min(lowest);
    }
    if !values.is_empty() {
        let dots = ScatterPlot::new().with_data(values).with_y_err_asymmetric(whiskers);
        let dots = dots.with_color(COLOURS[0]).with_size(5.0);
        plots.push(Plot::Scatter(dots.with_legend("test, with its 95 % interval")));
    }
    let names = kinds.iter().map(|probe| probe.read_at().into()).collect();
    let layout = layout(&plots)
        .with_x_label("what is taken of a text's activations")
        .with_y_label("predictivity of the best neuron")
        .with_x_axis_min(0.5)
        .with_x_axis_max(kinds.len() as f64 + 0.5)
        .with_x_tick_step(1.0)
        .with_x_tick_format(names_at_places(names))
        .with_y_axis_min(lowest)
        // A dot at 1 is whole.
        .with_y_axis_max(1.03)
        .with_y_tick_step(0.1)
        .with_y_tick_format(TickFormat::Fixed(1));
    let best = kinds.iter().max_by(|a, b| a.best().predictivity.total_cmp(&b.best().predictivity))?;
    let caption = format!(
        "For each way of reading, the neuron that is best on dev. The best of all on dev is that by {}, with {:.3}. It was chosen there: only test \
         says how good each one is.",
        best.read_at(),
        best.best().predictivity
    );
    let table = Table::of(
        ["read", "layer", "index", "dev", "test", "test_low", "test_high"],
        kinds.iter().map(|probe| {
            let rule = &probe.best().rule;
            let test = probe.test.as_ref().and_then(|test| share(test, rule, probe.score));
            let [low, high] = [0, 1].map(|end| json!(test.map(|test| test.interval[end])));
            let dev = json!(probe.best().predictivity);
            [
                json!(probe.read_at()),
                json!(rule.layer),
                json!(rule.index),
                dev,
                json!(test.map(|test| test.value)),
                low,
                high,
            ]
        }),
    );
    Some(Figure::new(name, "The best neuron by what is read", caption, table, (plots, layout)))
}
