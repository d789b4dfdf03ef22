//! The figures of the report, each from the part that it shows.

use std::sync::Arc;

use kuva::prelude::*;
use skn_artifact::{InferenceTime, MetricRecord, PerturbationResult, Points, Summary};

use crate::figure::{COLOURS, Figure, INK, MUTED, layout, plain};
use skn_counts::Predictor;

use crate::neurons::{Share, quantile, share};
use crate::number;
use crate::parts::{Activations, Parts, Probe, Task};
use crate::scoring;

/// How many of the best neurons are compared on dev and test: at most this many, and at most a twentieth of all.
const COMPARED: usize = 300;
/// How many of the others are drawn beside them.
const CROWD: usize = 400;

/// What a probed task's figures are called, in order.
pub(crate) const OF_TASK: [&str; 6] =
    ["predictivity", "predictivity-by-layer", BY_POSITION, "dev-against-test", "activations", "pooling"];
/// The figure that a probe without differences lacks.
pub(crate) const BY_POSITION: &str = "predictivity-by-position";

/// The colours of what is done to the model, the same in all figures.
const TUNED: &str = COLOURS[0];
const SKILL: &str = COLOURS[1];
const RANDOM: &str = COLOURS[2];
const PRUNED: &str = COLOURS[3];

/// The name of a task's figure.
pub(crate) fn task_name(task: &Task, what: &str) -> String {
    format!("{}-{what}", task.name)
}

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
    figures.extend(perturbation(&parts.skill, &parts.random));
    figures.extend(perturbation_curve(&parts.skill, &parts.random));
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
        figures.extend(found.map(|found| activations(&name(4), parts, task, probe, found)));
    }
    figures.extend(pooling(&name(5), task));
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
        "Bars are the metric on the {} texts of test, whiskers 95 % intervals. Perturbing skill neurons should cost far \
         more than perturbing as many random ones.",
        summary.test_rows
    );
    Figure::new("summary", "The model tuned, perturbed and pruned", caption, plots, layout)
}

fn metric_label(metric: Option<&str>) -> String {
    plain(metric.unwrap_or("metric"))
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
    let loss = Figure::new(
        "training-loss",
        "The loss while training",
        "At each evaluation: the mean over the texts trained on since the last one (train, with dropout), and over all \
         texts of dev. Train falling while dev rises is overfitting."
            .into(),
        loss,
        loss_layout,
    );
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
            number::grouped(best.step),
            best.dev_score
        ),
        None => "No evaluation is marked as the best.".into(),
    };
    let score =
        Figure::new("training-score", "The score on dev while training", caption, score, score_layout);
    vec![loss, score]
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
    let tick = |height: f64| if height < 1.0 { String::new() } else { number::grouped(count_at(height)) };
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
        "{} neurons, each at the best of its {} positions. {} has {:.3}; the best neuron has {best:.3}. A long tail to the \
         right means that a few neurons know the label.",
        number::grouped(probe.ranked.len() as u64),
        probe.dev.positions(),
        if guess > 0.5 { "Saying the larger class always" } else { "A guess" },
        guess
    );
    Figure::new(name, "How many neurons predict the label how well", caption, plots, layout)
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
    Figure::new(name, "Predictivity of the neurons of each layer", caption, plots, layout)
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
         column is a position that tells much, a bright row a layer that knows much."
    );
    Some(Figure::new(name, "Best predictivity by layer and position", caption, plots, layout))
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
         {} points: {}.",
        best.len(),
        number::points(seen - dev),
        if seen < dev {
            "choosing the best of many flatters them on dev, so most lie below the line"
        } else {
            "what they know holds on texts that had no say in their choice"
        }
    );
    Some(Figure::new(name, "Predictivity on test against predictivity on dev", caption, plots, layout))
}

/// The activations of the best neuron, a histogram for each class; of more than two, for its class and the rest.
fn activations(name: &str, parts: &Parts, task: &Task, probe: &Probe, found: &Activations) -> Figure {
    let best = probe.best().rule;
    let groups: Vec<(String, Vec<f64>)> = match best.class {
        None => (found.by_class().into_iter())
            .map(|(class, values)| (format!("class {}", parts.class(&task.name, class)), values))
            .collect(),
        Some(class) => {
            let [others, own] = found.of_class(class);
            vec![
                ("the other classes".into(), others),
                (format!("class {}", parts.class(&task.name, class)), own),
            ]
        }
    };
    let values = || groups.iter().flat_map(|(_, values)| values).copied();
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let bins = ((found.values.len() as f64).sqrt().ceil() as usize).clamp(10, 40);
    let width = ((high - low) / bins as f64).max(1e-6);
    let mut plots = Vec::new();
    for (number, (group, values)) in groups.iter().enumerate() {
        let line = LinePlot::new()
            .with_data(staircase(values, low, width, bins))
            .with_color(COLOURS[number % COLOURS.len()])
            .with_stroke_width(2.0);
        let line = if number == 0 { line } else { line.with_dashed() };
        let legend = format!("{group}, {} texts", values.len());
        plots.push(Plot::Line(line.with_fill().with_fill_opacity(0.18).with_legend(plain(&legend))));
    }
    let mut layout = layout(&plots)
        .with_x_label("activation, after GELU")
        .with_y_label("share of the class's texts (%)")
        .with_y_axis_min(0.0)
        .with_x_tick_format(TickFormat::Auto);
    if let Some(threshold) = found.threshold {
        let line = ReferenceLine::vertical(f64::from(threshold)).with_color(MUTED).with_label("threshold");
        layout = layout.with_reference_line(line);
    }
    let title = format!("The best neuron's activation by class: layer {}, index {}", best.layer, best.index);
    let caption = format!(
        "The {} texts of dev, read at prompt position {}. The threshold is the neuron's mean over train; the less the \
         classes overlap there, the better it predicts.",
        number::grouped(found.values.len() as u64),
        best.position
    );
    Figure::new(name, &title, caption, plots, layout)
}

/// A histogram's outline, in per cent of the values: from 0, along the top of each bin, to 0.
fn staircase(values: &[f64], low: f64, width: f64, bins: usize) -> Vec<(f64, f64)> {
    let mut shares = vec![0.0; bins];
    for value in values {
        shares[(((value - low) / width) as usize).min(bins - 1)] += 100.0 / values.len() as f64;
    }
    let edge = |bin: usize| low + bin as f64 * width;
    let tops =
        shares.iter().enumerate().flat_map(|(bin, &share)| [(edge(bin), share), (edge(bin + 1), share)]);
    std::iter::once((low, 0.0)).chain(tops).chain([(edge(bins), 0.0)]).collect()
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
    let caption = "For each way of reading, the neuron that is best on dev. A prompt position above the text's own tokens \
                   means that the prompt gathers what the neuron knows."
        .into();
    Some(Figure::new(name, "The best neuron by what is read", caption, plots, layout))
}

/// Names for the places 1, 2, .. of an axis.
fn names_at_places(names: Vec<String>) -> TickFormat {
    TickFormat::Custom(Arc::new(move |value: f64| {
        let place = value.round();
        let exact = (value - place).abs() < 1e-6 && place >= 1.0;
        exact.then(|| names.get(place as usize - 1).cloned()).flatten().unwrap_or_default()
    }))
}

/// What was done to the neurons: results of the same setting belong together.
fn setting(result: &PerturbationResult) -> String {
    let alpha = result.alpha.map(|alpha| format!(" {alpha}")).unwrap_or_default();
    format!("{}{alpha}", result.edit)
}

/// Skill neurons beside random ones: every draw, mean and interval, a row for each result.
fn perturbation(skill: &[PerturbationResult], random: &[PerturbationResult]) -> Option<Figure> {
    let rows: Vec<(&str, &str, &PerturbationResult)> = skill
        .iter()
        .map(|result| ("skill", SKILL, result))
        .chain(random.iter().map(|result| ("random", RANDOM, result)))
        .collect();
    let first = rows.first()?.2;
    // The first row is at the top, the highest place.
    let plots =
        (1..).zip(rows.iter().rev()).flat_map(|(place, &(_, colour, result))| draws(place, colour, result));
    let plots: Vec<Plot> = plots.collect();
    let name = |&(who, _, result): &(&str, &str, &PerturbationResult)| {
        plain(&format!("{who}, {}, {}", number::percent(&result.mask), setting(result)))
    };
    let names = rows.iter().rev().map(name).collect();
    let values = || {
        rows.iter().flat_map(|(_, _, result)| {
            result.draws.iter().chain(&result.interval).chain([&result.unperturbed])
        })
    };
    let (low, high) = (
        values().copied().fold(f64::INFINITY, f64::min),
        values().copied().fold(f64::NEG_INFINITY, f64::max),
    );
    let room = ((high - low) * 0.08).max(0.01);
    let unperturbed = ReferenceLine::vertical(first.unperturbed).with_color(INK);
    let layout = layout(&plots)
        .with_height(180.0 + 34.0 * rows.len() as f64)
        .with_x_label(format!("{} on test", metric_label(Some(&first.metric))))
        .with_x_axis_min(low - room)
        .with_x_axis_max(high + room)
        .with_y_axis_min(0.4)
        .with_y_axis_max(rows.len() as f64 + 0.6)
        .with_y_tick_step(1.0)
        .with_y_tick_format(names_at_places(names))
        .with_reference_line(unperturbed);
    let caption = format!(
        "Small dots are draws, large ones their mean with its 95 % interval, the vertical line is the model as it is, with \
         {:.3} on {} texts. Random neurons are as many in each layer, none of them a skill neuron.",
        first.unperturbed, first.rows
    );
    Some(Figure::new("perturbation", "Skill and random neurons perturbed", caption, plots, layout))
}

/// A result as a row of dots: its draws one above the other, so that equal ones are seen, and its mean below them.
fn draws(place: u32, colour: &str, result: &PerturbationResult) -> [Plot; 2] {
    let centre = f64::from(place);
    let count = result.draws.len().max(1) as f64;
    let height = |number: usize| centre + 0.3 * (number as f64 + 0.5) / count;
    let draws: Vec<(f64, f64)> =
        result.draws.iter().enumerate().map(|(number, &value)| (value, height(number))).collect();
    let dots = ScatterPlot::new().with_data(draws).with_color(colour).with_size(3.0).with_marker_opacity(0.5);
    let [low, high] = result.interval;
    let mean = ScatterPlot::new()
        .with_data(vec![(result.mean, centre - 0.12)])
        .with_x_err_asymmetric(vec![((result.mean - low).max(0.0), (high - result.mean).max(0.0))]);
    [Plot::Scatter(dots), Plot::Scatter(mean.with_color(colour).with_size(5.0))]
}

/// The metric by the share that is perturbed, if there are several shares.
fn perturbation_curve(skill: &[PerturbationResult], random: &[PerturbationResult]) -> Option<Figure> {
    let mut plots = Vec::new();
    let mut longest = 0;
    let mut settings: Vec<String> = skill.iter().chain(random).map(setting).collect();
    settings.sort();
    settings.dedup();
    for (who, results, colours) in [("skill", skill, [1, 3, 4]), ("random", random, [2, 0, 5])] {
        for (number, wanted) in settings.iter().enumerate() {
            let of_setting = results.iter().filter(|result| &setting(result) == wanted);
            let mut curve: Vec<(f64, &PerturbationResult)> =
                of_setting.filter_map(|result| Some((result.mask.parse().ok()?, result))).collect();
            curve.sort_by(|a, b| a.0.total_cmp(&b.0));
            longest = longest.max(curve.len());
            if curve.is_empty() {
                continue;
            }
            let points: Vec<(f64, f64)> =
                curve.iter().map(|(share, result)| (share * 100.0, result.mean)).collect();
            let bounds =
                |side: usize| curve.iter().map(|(_, result)| result.interval[side]).collect::<Vec<f64>>();
            let legend = format!("{who} neurons, {wanted}");
            let line = LinePlot::new()
                .with_data(points)
                .with_color(COLOURS[colours[number % 3]])
                .with_stroke_width(2.0);
            let line = if who == "random" { line.with_dashed() } else { line };
            plots.push(Plot::Line(line.with_band(bounds(0), bounds(1)).with_legend(plain(&legend))));
        }
    }
    if longest < 2 {
        return None;
    }
    let first = skill.first().or(random.first())?;
    let layout = layout(&plots)
        .with_x_label("neurons perturbed in each layer (%)")
        .with_y_label(format!("{} on test", metric_label(Some(&first.metric))))
        .with_x_axis_min(0.0)
        .with_reference_line(
            ReferenceLine::horizontal(first.unperturbed).with_color(MUTED).with_label("unperturbed"),
        );
    let caption = "Lines are means over draws, bands their 95 % intervals. The gap between the lines is what skill neurons know \
                   and others do not."
        .into();
    Some(Figure::new(
        "perturbation-by-share",
        "The model by the share of neurons perturbed",
        caption,
        plots,
        layout,
    ))
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
        "Tokenising and loading not counted; after {} passes to warm up, on {} threads, device {}. Dots far apart mean that \
         the machine was busy.",
        time.warm_up, time.threads, time.device
    );
    Some(Figure::new(&task_name(task, "speed"), "Time of inference", caption, plots, layout))
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
        let outline = staircase(&[0.0, 0.0, 0.5, 1.0], 0.0, 0.5, 2);
        assert_eq!(outline, [(0.0, 0.0), (0.0, 50.0), (0.5, 50.0), (0.5, 50.0), (1.0, 50.0), (1.0, 0.0)]);
    }
}
