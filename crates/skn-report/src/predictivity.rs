//! Predictivity of all neurons: how many have which, by layer, and by layer and position.

use std::sync::Arc;

use kuva::prelude::*;
use serde_json::json;
use skn_counts::Pool;

use crate::axis::round_step;
use crate::figure::{COLOURS, Figure, layout};
use crate::neurons::quantile;
use crate::number::{counted, grouped};
use crate::probe::Probe;
use crate::scoring;
use crate::table::Table;

/// How many neurons have which predictivity.
pub(crate) fn histogram(name: &str, probe: &Probe) -> Figure {
    let total = probe.dev.total().unsigned_abs();
    // Scores are multiples of 1 / total: bins that are not would be a comb.
    let step = 1.0 / total as f64;
    let width = step * (0.01 / step).round().max(1.0);
    let start = total.div_ceil(2) as f64 * step - step / 2.0;
    let best = probe.best().predictivity;
    let bins = (((best - start) / width).floor().max(0.0) as usize + 1).min(200);
    let mut counts = vec![0.0; bins];
    for neuron in &probe.ranked {
        let bin = ((neuron.predictivity - start) / width).floor().max(0.0) as usize;
        counts[bin.min(bins - 1)] += 1.0;
    }
    let edges: Vec<f64> = (0..=bins).map(|edge| start + edge as f64 * width).collect();
    let most = counts.iter().copied().fold(1.0, f64::max);
    let bars: Vec<f64> = counts.iter().map(|&count| height(count)).collect();
    let plots = vec![Plot::Histogram(Histogram::from_bins(edges, bars).with_color(COLOURS[0]))];
    let tick = |height: f64| if height < 1.0 { String::new() } else { grouped(count_at(height)) };
    let end = start + bins as f64 * width;
    let layout = layout(&plots)
        .with_x_label(match probe.pool {
            Pool::Position => "predictivity on dev, at the neuron's best position",
            _ => "predictivity on dev",
        })
        .with_y_label("neurons (logarithmic)")
        .with_x_axis_min(start.min(0.5))
        .with_x_axis_max(end + width)
        .with_x_tick_step(round_step(end - start))
        .with_x_tick_format(TickFormat::Auto)
        .with_y_axis_min(0.6)
        .with_y_axis_max(height(most) + 0.15)
        .with_y_tick_step(1.0)
        .with_y_tick_format(TickFormat::Custom(Arc::new(tick)));
    let guess = scoring::guess(&probe.dev, probe.score);
    let place = match probe.pool {
        Pool::Position => {
            format!(", each at the best of its {}", counted(probe.dev.positions(), "position", "positions"))
        }
        _ => format!(", by {}", probe.read_at()),
    };
    let caption = format!(
        "{}{place}. {} has {guess:.3}; the best neuron has {best:.3}, half have {:.3} or more, one in a \
         hundred {:.3} or more.",
        counted(probe.ranked.len(), "neuron", "neurons"),
        if guess > 0.5 { "Saying the larger class always" } else { "A guess" },
        probe.reached_by(0.5),
        probe.reached_by(0.01),
    );
    let table = Table::of(
        ["from", "to", "neurons"],
        counts.iter().enumerate().map(|(bin, count)| {
            let edge = |bin: usize| start + bin as f64 * width;
            [json!(edge(bin)), json!(edge(bin + 1)), json!(*count as u64)]
        }),
    );
    Figure::new(name, "How many neurons predict the label how well", caption, table, (plots, layout))
}

/// The height of a bar on a logarithmic axis whose foot is a tenth of a neuron: one neuron is seen beside thousands.
fn height(count: f64) -> f64 {
    if count > 0.0 { count.log10() + 1.0 } else { 0.0 }
}

/// The number of neurons that a bar of this height stands for.
fn count_at(height: f64) -> u64 {
    10f64.powf(height - 1.0).round() as u64
}

/// Quantiles of the predictivity in each layer.
pub(crate) fn by_layer(name: &str, probe: &Probe) -> Figure {
    let layers = probe.dev.layers();
    let mut scores = vec![Vec::new(); layers];
    probe.ranked.iter().rev().for_each(|neuron| scores[neuron.rule.layer].push(neuron.predictivity));
    // A layer without neurons has no quantiles.
    let at = |share: f64| -> Vec<(f64, f64)> {
        let known = scores.iter().enumerate().filter(|(_, scores)| !scores.is_empty());
        known.map(|(layer, scores)| (layer as f64, quantile(scores, share))).collect()
    };
    let values = |share| at(share).into_iter().map(|point| point.1).collect::<Vec<_>>();
    let line = |share: f64, colour: &str, legend: &str| {
        LinePlot::new().with_data(at(share)).with_color(colour).with_stroke_width(2.0).with_legend(legend)
    };
    let dots = |share: f64, colour: &str| {
        Plot::Scatter(ScatterPlot::new().with_data(at(share)).with_color(colour).with_size(3.5))
    };
    let plots = vec![
        Plot::Line(
            line(0.5, COLOURS[2], "median, band: middle half")
                .with_dotted()
                .with_band(values(0.25), values(0.75)),
        ),
        Plot::Line(line(0.99, COLOURS[0], "99 % are below").with_dashed()),
        Plot::Line(line(1.0, COLOURS[1], "best neuron")),
        dots(0.5, COLOURS[2]),
        dots(0.99, COLOURS[0]),
        dots(1.0, COLOURS[1]),
    ];
    let layout = layout(&plots)
        .with_x_label("layer")
        .with_y_label("predictivity on dev")
        .with_x_axis_min(-0.3)
        .with_x_axis_max(layers as f64 - 0.7)
        .with_x_tick_step(if layers > 30 { 5.0 } else { 1.0 })
        .with_x_tick_format(TickFormat::Integer);
    let best = probe.best();
    let place = if probe.pool == Pool::Position { "Neurons at their best position; l" } else { "L" };
    let caption = format!(
        "{place}ayers from 0, the nearest to the words. Of 100 neurons of a layer, one is above \
         the dashed line. The best of all is in layer {}.",
        best.rule.layer
    );
    let mut table = Table::new(["layer", "quantile", "predictivity"]);
    for quantile in [0.25, 0.5, 0.75, 0.99, 1.0] {
        at(quantile).into_iter().for_each(|(layer, value)| {
            table.push([json!(layer as u64), json!(quantile), json!(value)]);
        });
    }
    Figure::new(name, "Predictivity of the neurons of each layer", caption, table, (plots, layout))
}

/// The best predictivity of each layer at each position; nothing where all are the same.
pub(crate) fn heat_map(name: &str, probe: &Probe) -> Option<Figure> {
    if probe.pool != Pool::Position {
        return None;
    }
    let (layers, positions) = (probe.dev.layers(), probe.dev.positions());
    let all = || probe.by_place.iter().flatten().copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    // A colour scale needs two ends.
    if high - low < 1e-9 {
        return None;
    }
    let map = Heatmap::new()
        .with_data(probe.by_place.clone())
        .with_color_map(ColorMap::Viridis)
        .with_cell_size(1.0);
    let map = map.with_x_range(-0.5, positions as f64 - 0.5).with_y_range(-0.5, layers as f64 - 0.5);
    let plots = vec![Plot::Heatmap(map)];
    let step = |count: usize| (count as f64 / 16.0).ceil().max(1.0);
    let layout = layout(&plots)
        .with_x_label("prompt position (0 is <mask>)")
        .with_y_label("layer")
        .with_x_axis_min(-0.5)
        .with_x_axis_max(positions as f64 - 0.5)
        .with_y_axis_min(-0.5)
        .with_y_axis_max(layers as f64 - 0.5)
        .with_x_tick_step(step(positions))
        .with_y_tick_step(step(layers))
        .with_x_tick_format(TickFormat::Integer)
        .with_y_tick_format(TickFormat::Integer)
        .with_colorbar_tick_format(TickFormat::Fixed(2))
        .with_show_grid(false);
    let caption = format!(
        "Colour is the predictivity on dev of the layer's best neuron at that position, {low:.3} to {high:.3}. A bright \
         column is a position that tells much, a bright row a layer that knows much. The brightest is layer {}, position {}.",
        probe.best().rule.layer,
        probe.best().rule.position
    );
    let places = probe.by_place.iter().enumerate();
    let cells = places.flat_map(|(layer, row)| row.iter().enumerate().map(move |cell| (layer, cell)));
    let table = Table::of(
        ["layer", "position", "predictivity"],
        cells.map(|(layer, (position, value))| [json!(layer), json!(position), json!(value)]),
    );
    Some(Figure::new(name, "Best predictivity by layer and position", caption, table, (plots, layout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_by_hand() {
        assert_eq!([0.0, 1.0, 100.0].map(height), [0.0, 1.0, 3.0]);
        assert_eq!([1.0, 2.0, 4.0].map(count_at), [1, 10, 1000]);
    }
}
