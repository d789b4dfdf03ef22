//! The figures of the report, each from the part that it shows.

use std::sync::Arc;

use kuva::prelude::*;
use serde_json::json;
use skn_artifact::{InferenceTime, MetricRecord, Points, Summary};

use crate::axis::{asked_name, metric_label, names_at_places, task_name};
use crate::classes;
use crate::evidence;
use crate::figure::{COLOURS, Figure, INK, MUTED, PRUNED, RANDOM, SKILL, TUNED, layout, plain};
use skn_counts::Predictor;

use crate::histograms::activations;
use crate::maps;
use crate::neurons::{Share, quantile, share};
use crate::number::{self, counted, grouped};
use crate::parts::{Parts, Probe, Task};
use crate::perturbed;
use crate::scoring;
use crate::table::Table;

/// How many of the best neurons are compared on dev and test: at most this many, and at most a twentieth of all.
const COMPARED: usize = 300;
/// How many of the others are drawn beside them.
const CROWD: usize = 400;

/// What a probed task's figures are called, in order.
pub(crate) const OF_TASK: [&str; 6] =
    ["predictivity", "predictivity-by-layer", BY_POSITION, "dev-against-test", "activations", "pooling"];
/// The figure that a probe without differences lacks.
pub(crate) const BY_POSITION: &str = "predictivity-by-position";

/// The figure of shuffled labels.
pub(crate) const CHANCE: &str = "chance";

/// The points of a summary in order, with what they are called.
pub(crate) fn points<T>(points: &Points<T>) -> [(&'static str, &T); 6] {
    [
        ("untuned", &points.untuned),
        ("tuned", &points.tuned),
        ("skill neurons perturbed", &points.skill_perturbed),
        ("random neurons perturbed", &points.random_perturbed),
        ("pruned", &points.pruned),
        ("pruned and retuned", &points.pruned_tuned),
    ]
}

/// All figures that a run's parts make, in the order of the report.
pub(crate) fn figures(parts: &Parts) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(parts.summary.as_ref().map(|found| summary(found, parts.metric())));
    figures.extend(training(&parts.metrics));
    for task in &parts.tasks {
        figures.extend(task_figures(parts, task));
    }
    figures.extend(parts.tasks.iter().filter_map(|task| classes::confusion(parts, task)));
    figures.extend(perturbed::figures(parts));
    figures.extend(classes::figures(parts));
    figures.extend(crate::rankings::figures(parts));
    figures.extend(parts.tasks.iter().filter_map(speed));
    figures
}

fn task_figures(parts: &Parts, task: &Task) -> Vec<Figure> {
    let name = |place: usize| task_name(task, OF_TASK[place]);
    let mut figures = Vec::new();
    if let Some(probe) = &task.probe {
        figures.extend([histogram(&name(0), probe), by_layer(&name(1), probe)]);
        figures.extend(heat_map(&name(2), probe));
        figures.extend(dev_against_test(&name(3), probe));
        let found = task.activations.as_ref();
        figures.extend(found.map(|found| activations(&name(4), "The best neuron's", parts, task, found)));
        for asked in &task.asked {
            let name = asked_name(task, asked);
            let found = asked.found.as_ref();
            figures.extend(found.map(|found| activations(&name, "A neuron's", parts, task, found)));
        }
        figures.extend(maps::figures(task, probe));
    }
    figures.extend(pooling(&name(5), task));
    figures.extend(task.weighed.as_ref().and_then(|found| evidence::figure(&task_name(task, CHANCE), found)));
    figures
}

/// The final table as bars with intervals.
fn summary(summary: &Summary, metric: Option<&str>) -> Figure {
    let values = points(&summary.accuracy);
    let intervals = points(&summary.interval);
    let colours = [MUTED, TUNED, SKILL, RANDOM, PRUNED, PRUNED];
    // kuva puts the first category at the bottom.
    let rows = || values.iter().zip(&intervals).zip(colours).rev();
    let bars = rows().map(|(((name, value), _), colour)| (plain(name), **value, colour));
    let errors = rows().map(|(((_, value), (_, interval)), _)| {
        ((*value - interval[0]).max(0.0), (interval[1] - *value).max(0.0))
    });
    let bars = BarPlot::new()
        .with_horizontal(true)
        .with_colored_bars(bars)
        .with_width(0.62)
        .with_asymmetric_error(errors)
        .with_error_color(INK);
    let plots = vec![Plot::Bar(bars)];
    let lowest = intervals.iter().map(|(_, interval)| interval[0]).fold(0.0, f64::min);
    let layout = layout(&plots)
        .with_x_label(format!("{} on test", metric_label(metric)))
        .with_x_axis_min(lowest)
        .with_x_axis_max(1.0)
        .with_x_tick_format(TickFormat::Fixed(1));
    let caption = format!(
        "Bars are the metric on the {} texts of test, whiskers 95 % intervals. Perturbing the skill neurons changes it by {} \
         points, as many random ones by {} (mean of {}).",
        grouped(summary.test_rows),
        number::points(summary.accuracy.skill_perturbed - summary.accuracy.tuned),
        number::points(summary.accuracy.random_perturbed - summary.accuracy.tuned),
        counted(summary.perturbation.draws, "draw", "draws")
    );
    let table = Table::of(
        ["model", "value", "low", "high"],
        values.iter().zip(&intervals).map(|((name, value), (_, interval))| {
            [json!(name), json!(value), json!(interval[0]), json!(interval[1])]
        }),
    );
    Figure::new("summary", "The model tuned, perturbed and pruned", caption, table, (plots, layout))
}

/// Loss and score over the steps, one figure each.
fn training(metrics: &[MetricRecord]) -> Vec<Figure> {
    let Some(first) = metrics.first() else { return Vec::new() };
    let series = |value: fn(&MetricRecord) -> f64| {
        metrics.iter().map(move |record| (record.step as f64, value(record)))
    };
    let line = |value: fn(&MetricRecord) -> f64, colour: &str, name: &str| {
        let points = series(value).filter(|(_, value)| value.is_finite());
        LinePlot::new().with_data(points).with_color(colour).with_stroke_width(2.0).with_legend(name)
    };
    let loss = vec![
        Plot::Line(line(|record| record.train_loss, COLOURS[1], "train").with_dashed()),
        Plot::Line(line(|record| record.dev_loss, COLOURS[0], "dev")),
    ];
    let steps = |layout: Layout| {
        layout.with_x_label("training step").with_x_axis_min(0.0).with_x_tick_format(TickFormat::Auto)
    };
    let loss_layout = steps(layout(&loss)).with_y_label("cross-entropy per text (nats)").with_y_axis_min(0.0);
    let caption = format!(
        "At each evaluation: the mean over the texts trained on since the last one (train, with dropout), and over all \
         texts of dev.{}",
        course(metrics).unwrap_or_default()
    );
    let table = Table::of(
        ["step", "epoch", "train_loss", "dev_loss"],
        metrics.iter().map(|of| [json!(of.step), json!(of.epoch), json!(of.train_loss), json!(of.dev_loss)]),
    );
    let loss = Figure::new("training-loss", "The loss while training", caption, table, (loss, loss_layout));
    let best = metrics.iter().rfind(|record| record.best);
    let mut score = vec![Plot::Line(line(|record| record.dev_score, COLOURS[0], "dev"))];
    if let Some(best) = best {
        let mark = ScatterPlot::new().with_data(vec![(best.step as f64, best.dev_score)]);
        score.push(Plot::Scatter(mark.with_color(COLOURS[1]).with_size(6.0).with_legend("best, kept")));
    }
    let score_layout =
        steps(layout(&score)).with_y_label(format!("{} on dev", metric_label(Some(&first.metric))));
    let caption = match best {
        Some(best) => format!(
            "The metric on dev at each evaluation. The parameters kept are those of step {}, with {:.3}.",
            grouped(best.step),
            best.dev_score
        ),
        None => "No evaluation is marked as the best.".into(),
    };
    let table = Table::of(
        ["step", "epoch", "metric", "dev_score", "best"],
        metrics.iter().map(|of| {
            [json!(of.step), json!(of.epoch), json!(of.metric), json!(of.dev_score), json!(of.best)]
        }),
    );
    let title = "The score on dev while training";
    vec![loss, Figure::new("training-score", title, caption, table, (score, score_layout))]
}

/// How the loss on dev goes on from where it is lowest.
fn course(metrics: &[MetricRecord]) -> Option<String> {
    let lowest = metrics.iter().min_by(|a, b| a.dev_loss.total_cmp(&b.dev_loss))?;
    let last = metrics.last()?;
    let (step, loss) = (grouped(lowest.step), lowest.dev_loss);
    Some(if last.dev_loss > loss {
        let by = last.dev_loss - loss;
        format!(
            " Dev is lowest at step {step}, with {loss:.3}, and ends {by:.3} higher; a lasting rise is overfitting."
        )
    } else {
        format!(" Dev is lowest at the end, with {loss:.3}.")
    })
}

/// How many neurons have which predictivity.
fn histogram(name: &str, probe: &Probe) -> Figure {
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
        .with_x_label("predictivity on dev, at the neuron's best position")
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
    let caption = format!(
        "{}, each at the best of its {}. {} has {guess:.3}; the best neuron has {best:.3}, half have {:.3} or more, one in a \
         hundred {:.3} or more.",
        counted(probe.ranked.len(), "neuron", "neurons"),
        counted(probe.dev.positions(), "position", "positions"),
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

/// A step of 1, 2 or 5 times a power of ten that makes about five ticks of a range.
fn round_step(range: f64) -> f64 {
    let rough = (range / 5.0).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| digit * power >= rough * 0.99);
    digit.unwrap_or(10.0) * power
}

/// Quantiles of the predictivity in each layer.
fn by_layer(name: &str, probe: &Probe) -> Figure {
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
    let caption = format!(
        "Neurons at their best position; layers from 0, the nearest to the words. Of 100 neurons of a layer, one is above \
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
fn heat_map(name: &str, probe: &Probe) -> Option<Figure> {
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

/// The best neurons by dev, as test sees them.
fn dev_against_test(name: &str, probe: &Probe) -> Option<Figure> {
    let test = probe.test.as_ref()?;
    let chosen = COMPARED.min(probe.ranked.len().div_ceil(20));
    let (best, others) = probe.ranked.split_at(chosen);
    let crowd = others.iter().step_by(others.len().div_ceil(CROWD).max(1));
    let place =
        |neuron: &Predictor| Some((neuron.predictivity, share(test, &neuron.rule, probe.score)?.value));
    let (best, crowd): (Vec<_>, Vec<_>) =
        (best.iter().filter_map(place).collect(), crowd.filter_map(place).collect());
    if best.is_empty() {
        return None;
    }
    let all = || best.iter().chain(&crowd).flat_map(|&(dev, test)| [dev, test]);
    let (low, high) = (all().fold(0.5, f64::min), all().fold(0.5, f64::max));
    let (low, high) = (low - 0.02, (high + 0.02).min(1.02));
    let dots = |data: &[(f64, f64)], colour: &str, legend: String| {
        let dots = ScatterPlot::new().with_data(data.to_vec()).with_color(colour).with_size(3.0);
        Plot::Scatter(dots.with_marker_opacity(0.55).with_legend(legend))
    };
    let equal = LinePlot::new().with_data(vec![(low, low), (high, high)]).with_color(MUTED);
    let mut plots =
        vec![Plot::Line(equal.with_dashed().with_stroke_width(1.2).with_legend("the same on both"))];
    if !crowd.is_empty() {
        plots.push(dots(&crowd, MUTED, format!("{} of the others", crowd.len())));
    }
    plots.push(dots(&best, COLOURS[1], format!("best {} by dev", best.len())));
    let layout = layout(&plots)
        .with_x_label("predictivity on dev, where neurons are chosen")
        .with_y_label("predictivity on test")
        .with_x_axis_min(low)
        .with_x_axis_max(high)
        .with_y_axis_min(low)
        .with_y_axis_max(high);
    let count = best.len() as f64;
    let (dev, seen) =
        best.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
    let caption = format!(
        "A dot is a neuron, with its position and direction of dev. The best {} have {dev:.3} on dev and {seen:.3} on test, \
         {} points; {} below the line. {}",
        best.len(),
        number::points(seen - dev),
        lie(best.iter().filter(|(dev, test)| test < dev).count(), best.len()),
        if seen < dev {
            "Choosing the best of many flatters them on dev, where they were chosen."
        } else {
            "Choosing the best of many flatters them on dev; here test is no harder for them all the same."
        }
    );
    let mut table = Table::new(["dev", "test", "group"]);
    for (group, data) in [("best", &best), ("others", &crowd)] {
        data.iter().for_each(|(dev, test)| table.push([json!(dev), json!(test), json!(group)]));
    }
    let title = "Predictivity on test against predictivity on dev";
    Some(Figure::new(name, title, caption, table, (plots, layout)))
}

/// How many of the dots lie where.
fn lie(some: usize, all: usize) -> String {
    match some {
        0 => "none lies".into(),
        _ if some == all => "all lie".into(),
        1 => format!("1 of {all} lies"),
        _ => format!("{some} of {all} lie"),
    }
}

/// The best neuron by prompt position beside the best by mean and by maximum over the text.
fn pooling(name: &str, task: &Task) -> Option<Figure> {
    let kinds = task.kinds();
    if task.pooled.is_empty() {
        return None;
    }
    let dev =
        kinds.iter().enumerate().map(|(number, (_, probe))| (number as f64 + 0.9, probe.best().predictivity));
    let dots = ScatterPlot::new().with_data(dev).with_color(MUTED).with_size(5.0);
    let mut plots = vec![Plot::Scatter(dots.with_legend("dev, where it was chosen"))];
    let mut lowest = 0.5;
    let (mut values, mut whiskers) = (Vec::new(), Vec::new());
    for (number, (_, probe)) in kinds.iter().enumerate() {
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
    let names = kinds.iter().map(|(what, _)| (*what).into()).collect();
    let layout = layout(&plots)
        .with_x_label("what is taken of a text's activations")
        .with_y_label("predictivity of the best neuron")
        .with_x_axis_min(0.5)
        .with_x_axis_max(kinds.len() as f64 + 0.5)
        .with_x_tick_step(1.0)
        .with_x_tick_format(names_at_places(names))
        .with_y_axis_min(lowest)
        .with_y_axis_max(1.0);
    let best = kinds.iter().max_by(|a, b| a.1.best().predictivity.total_cmp(&b.1.best().predictivity))?;
    let caption = format!(
        "For each way of reading, the neuron that is best on dev. The best of all is read at: {}, with {:.3} on dev.",
        best.0,
        best.1.best().predictivity
    );
    let table = Table::of(
        ["read", "layer", "index", "dev", "test", "test_low", "test_high"],
        kinds.iter().map(|(what, probe)| {
            let rule = &probe.best().rule;
            let test = probe.test.as_ref().and_then(|test| share(test, rule, probe.score));
            let [low, high] = [0, 1].map(|end| json!(test.map(|test| test.interval[end])));
            let dev = json!(probe.best().predictivity);
            [
                json!(what),
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

/// The time of every pass over test.
fn speed(task: &Task) -> Option<Figure> {
    let time: &InferenceTime = task.time.as_ref()?;
    if time.seconds.is_empty() || time.median_seconds <= 0.0 {
        return None;
    }
    let scale = time.ms_per_text / time.median_seconds;
    let points: Vec<(f64, f64)> =
        time.seconds.iter().enumerate().map(|(pass, seconds)| (pass as f64 + 1.0, seconds * scale)).collect();
    let high = points.iter().map(|point| point.1).fold(0.0, f64::max);
    let low = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let end = time.seconds.len() as f64 + 0.5;
    let median = LinePlot::new().with_data(vec![(0.5, time.ms_per_text), (end, time.ms_per_text)]);
    let dots = ScatterPlot::new().with_data(points).with_color(COLOURS[0]).with_size(5.0);
    let plots = vec![
        Plot::Line(
            median
                .with_color(COLOURS[1])
                .with_dashed()
                .with_legend(format!("median, {:.3} ms", time.ms_per_text)),
        ),
        Plot::Scatter(dots.with_legend("a pass")),
    ];
    let layout = layout(&plots)
        .with_x_label("pass over the test set")
        .with_y_label("time per text (ms)")
        .with_x_axis_min(0.5)
        .with_x_axis_max(end)
        .with_x_tick_step((time.seconds.len() as f64 / 20.0).ceil())
        .with_x_tick_format(TickFormat::Integer)
        .with_y_axis_min(0.0)
        .with_y_axis_max(high * 1.2);
    let caption = format!(
        "Tokenising and loading not counted; after {} to warm up, on {}, device {}. Between the fastest pass and the slowest \
         lie {:.0} % of the median: other work on the machine makes that more.",
        counted(time.warm_up, "pass", "passes"),
        counted(time.threads, "thread", "threads"),
        time.device,
        100.0 * (high - low) / time.ms_per_text
    );
    let passes = (1..).zip(&time.seconds);
    let table = Table::of(
        ["pass", "seconds", "ms_per_text"],
        passes.map(|(pass, seconds)| [json!(pass), json!(seconds), json!(seconds * scale)]),
    );
    Some(Figure::new(&task_name(task, "speed"), "Time of inference", caption, table, (plots, layout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_by_hand() {
        assert_eq!(
            [0.42, 0.05, 0.1, 3.0].map(|range| format!("{:.2}", round_step(range))),
            ["0.10", "0.01", "0.02", "1.00"]
        );
        assert_eq!([0.0, 1.0, 100.0].map(height), [0.0, 1.0, 3.0]);
        assert_eq!([1.0, 2.0, 4.0].map(count_at), [1, 10, 1000]);
    }
}
