//! The figures of shuffled labels: what the best neuron has by chance, of all and of each layer.

use kuva::prelude::*;
use serde_json::{Value, json};

use crate::axis::round_step;
use crate::evidence::{Weighed, reached};
use crate::figure::{COLOURS, Figure, layout};
use crate::neurons::quantile;
use crate::number::{counted, grouped};
use crate::probe::Probe;
use crate::table::Table;

/// About how many bars the figure has.
const BARS: f64 = 24.0;

/// How well the best neuron does where labels are shuffled, and where they are not.
pub(crate) fn figure(name: &str, weighed: &Weighed) -> Option<Figure> {
    let found = weighed.chance()?;
    let mut sorted = found.best.clone();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (*sorted.first()?, *sorted.last()?);
    // Scores of few texts are few: bars between them would be a comb.
    let step = 1.0 / found.texts.max(1) as f64;
    let width = step * ((high - low) / step / BARS).ceil().max(1.0);
    let start = low - step / 2.0;
    let bars = (((high - start) / width).floor() as usize + 1).max(1);
    let mut counts = vec![0.0; bars];
    for value in &sorted {
        counts[(((value - start) / width).floor() as usize).min(bars - 1)] += 1.0;
    }
    let tallest = counts.iter().copied().fold(1.0, f64::max);
    let edges: Vec<f64> = (0..=bars).map(|edge| start + edge as f64 * width).collect();
    let end = edges[bars].max(found.measured);
    let mark = LinePlot::new().with_data(vec![(found.measured, 0.0), (found.measured, tallest)]);
    let plots = vec![
        Plot::Histogram(
            Histogram::from_bins(edges, counts)
                .with_color(COLOURS[2])
                .with_legend("best neuron, labels shuffled"),
        ),
        Plot::Line(
            mark.with_color(COLOURS[1]).with_stroke_width(3.0).with_legend("best neuron, true labels"),
        ),
    ];
    let margin = (end - start) * 0.05;
    let layout = layout(&plots)
        .with_x_label("predictivity of the best neuron on dev")
        .with_y_label("shuffles")
        .with_x_axis_min(((start - margin) * 20.0).floor() / 20.0)
        .with_x_axis_max(((end + margin) * 20.0).ceil() / 20.0)
        .with_x_tick_step(round_step(end - start))
        .with_x_tick_format(TickFormat::Auto)
        .with_y_axis_min(0.0)
        .with_y_axis_max(tallest * 1.08);
    let beyond = reached(found);
    let caption = match beyond {
        0 => format!(
            "Each of {} shuffles of the labels has a best neuron; bars count how well it does. None does as well as the best \
             neuron does with the true labels, {:.3}.",
            grouped(found.draws),
            found.measured
        ),
        _ => format!(
            "Each of {} shuffles of the labels has a best neuron; bars count how well it does. {} at least as well as the best \
             neuron does with the true labels, {:.3}.",
            grouped(found.draws),
            if beyond == 1 { "One does".into() } else { format!("{} do", grouped(beyond as u64)) },
            found.measured
        ),
    };
    // The true labels are no draw: their row has no number.
    let draws =
        found.best.iter().enumerate().map(|(draw, best)| [json!("shuffled"), json!(draw), json!(best)]);
    let measured = [json!("true"), Value::Null, json!(found.measured)];
    let table = Table::of(["labels", "draw", "best_predictivity"], std::iter::once(measured).chain(draws));
    Some(Figure::new(name, "What the best neuron has by chance", caption, table, (plots, layout)))
}

/// The same of each layer's best neuron. Nothing where only a sample of texts was shuffled: what a layer's best neuron has on these
/// is not known.
pub(crate) fn by_layer(name: &str, weighed: &Weighed, probe: &Probe) -> Option<Figure> {
    let found = weighed.chance().filter(|found| !found.sample)?;
    let layers = probe.dev.layers();
    if found.layers.len() != layers {
        return None;
    }
    let mut measured = vec![None; layers];
    // The best come first.
    for neuron in &probe.ranked {
        measured[neuron.rule.layer].get_or_insert(neuron.predictivity);
    }
    let mut rows = Vec::new();
    for (layer, (draws, measured)) in found.layers.iter().zip(measured).enumerate() {
        let mut sorted = draws.clone();
        sorted.sort_by(f64::total_cmp);
        // A layer without neurons has neither.
        if let (false, Some(measured)) = (sorted.is_empty(), measured) {
            rows.push((layer, [0.5, 0.95, 1.0].map(|share| quantile(&sorted, share)), measured));
        }
    }
    let lowest = rows.iter().map(|(_, null, measured)| null[0].min(*measured)).min_by(f64::total_cmp)?;
    let highest = rows.iter().map(|(_, null, measured)| null[2].max(*measured)).max_by(f64::total_cmp)?;
    let null = rows.iter().map(|(layer, null, _)| (null[1], *layer as f64));
    let whiskers = rows.iter().map(|(_, null, _)| (null[1] - null[0], null[2] - null[1]));
    let null = ScatterPlot::new().with_data(null).with_x_err_asymmetric(whiskers);
    let best =
        ScatterPlot::new().with_data(rows.iter().map(|(layer, _, measured)| (*measured, *layer as f64)));
    let plots = vec![
        Plot::Scatter(
            null.with_color(COLOURS[2]).with_size(4.0).with_legend("labels shuffled: 95 % have no more"),
        ),
        Plot::Scatter(best.with_color(COLOURS[1]).with_size(5.5).with_legend("true labels")),
    ];
    let step = round_step(highest - lowest);
    let layout = layout(&plots);
    let height = layout.height.unwrap_or(340.0) + 12.0 * layers.saturating_sub(16) as f64;
    let layout = layout
        .with_height(height)
        .with_x_label("predictivity of the layer's best neuron on dev")
        .with_y_label("layer")
        .with_x_axis_min((lowest / step - 0.2).floor() * step)
        .with_x_axis_max((highest / step + 0.2).ceil() * step)
        .with_x_tick_step(step)
        .with_x_tick_format(TickFormat::Auto)
        .with_y_axis_min(-0.6)
        .with_y_axis_max(layers as f64 - 0.4)
        .with_y_tick_step((layers as f64 / 24.0).ceil().max(1.0))
        .with_y_tick_format(TickFormat::Integer);
    let beyond = rows.iter().filter(|(_, null, measured)| *measured > null[2]).count();
    let caption = format!(
        "Each of {} shuffles of the labels has a best neuron in each layer. A whisker begins at the median of the shuffles and ends at the \
         most that one has. {}. Layers are compared each with its own shuffles; that there are several is not regarded.",
        grouped(found.draws),
        match beyond {
            0 => "In no layer does the best neuron have more with the true labels than in any shuffle".into(),
            all if all == rows.len() && all > 1 => format!(
                "In all {all} layers the best neuron has more with the true labels than in any shuffle"
            ),
            some => format!(
                "In {some} of {} the best neuron has more with the true labels than in any shuffle",
                counted(rows.len(), "layer", "layers")
            ),
        }
    );
    let table = Table::of(
        ["layer", "shuffled_median", "shuffled_95_percent", "shuffled_most", "true_labels"],
        rows.iter().map(|(layer, [median, most_of_them, most], measured)| {
            [json!(layer), json!(median), json!(most_of_them), json!(most), json!(measured)]
        }),
    );
    Some(Figure::new(name, "What each layer's best neuron has by chance", caption, table, (plots, layout)))
}
