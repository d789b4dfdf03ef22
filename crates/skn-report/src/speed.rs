//! The time of inference.

use kuva::prelude::*;
use maud::{Markup, html};
use serde_json::json;
use skn_artifact::InferenceTime;

use crate::axis::task_name;
use crate::blocks::{missing, show};
use crate::figure::{COLOURS, Figure, layout};
use crate::number::{counted, grouped, scientific, three};
use crate::parts::Parts;
use crate::table::Table;
use crate::task::Task;

pub(crate) fn section(parts: &Parts, figures: &[Figure]) -> Markup {
    let measured = |task: &&Task| task.performance.is_some() || task.time.is_some();
    let tasks: Vec<&Task> = parts.tasks.iter().filter(measured).collect();
    if tasks.is_empty() && parts.lacks_head() {
        return html! {};
    }
    html! {
        section id="speed" {
            h2 { "Speed" }
            @if tasks.is_empty() {
                (missing("Time of inference (<task>/inference_perf.json, inference_time.json) is", "skn-probe --probe_type speed"))
            }
            @for task in tasks {
                @if parts.tasks.len() > 1 { h3 { "Task " (task.name) } }
                (show(figures, &[task_name(task, "speed")], Some(task_speed(task))))
            }
        }
    }
}

fn task_speed(task: &Task) -> Markup {
    html! {
        dl {
            @if let Some(found) = &task.performance {
                dt { (found.metric) " on test" } dd { (three(found.test_score)) " on " (grouped(found.rows)) " texts, loss " (three(found.test_loss)) }
                dt { "parameters" } dd { (grouped(found.parameters)) }
                dt { "multiply-adds" } dd { (scientific(found.multiply_adds as f64)) " for all texts" }
            }
            @if let Some(found) = &task.time {
                dt { "time per text" } dd { (three(found.ms_per_text)) " ms (median of " (counted(found.seconds.len(), "pass", "passes")) ")" }
                dt { "tokens per second" } dd { (grouped(found.tokens_per_second.max(0.0).round() as u64)) }
                dt { "device" } dd { (found.device) ", " (counted(found.threads, "thread", "threads")) }
            }
        }
    }
}

/// The time of every pass over test.
pub(crate) fn figure(task: &Task) -> Option<Figure> {
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
    let spread = match time.seconds.len() {
        1 => "One pass does not say how much times vary.".into(),
        _ => format!(
            "Between the fastest pass and the slowest lie {:.0} % of the median: other work on the machine makes that more.",
            100.0 * (high - low) / time.ms_per_text
        ),
    };
    let caption = format!(
        "Tokenising and loading not counted; after {} to warm up, on {}, device {}. {spread}",
        counted(time.warm_up, "pass", "passes"),
        counted(time.threads, "thread", "threads"),
        time.device
    );
    let passes = (1..).zip(&time.seconds);
    let table = Table::of(
        ["pass", "seconds", "ms_per_text"],
        passes.map(|(pass, seconds)| [json!(pass), json!(seconds), json!(seconds * scale)]),
    );
    Some(Figure::new(&task_name(task, "speed"), "Time of inference", caption, table, (plots, layout)))
}
