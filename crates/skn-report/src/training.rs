//! The course of training.

use kuva::prelude::*;
use maud::{Markup, html};
use serde_json::json;
use skn_artifact::MetricRecord;

use crate::axis::{metric_label, round_step};
use crate::blocks::{missing, named, show};
use crate::figure::{COLOURS, Figure, layout};
use crate::number::{counted, grouped, scientific, three};
use crate::parts::Parts;
use crate::table::Table;

pub(crate) fn section(parts: &Parts, figures: &[Figure]) -> Markup {
    html! {
        section id="training" {
            h2 { "Training" }
            @if let Some(last) = parts.metrics.last() {
                p { (counted(parts.metrics.len(), "evaluation", "evaluations")) " in " (counted(last.step as usize, "step", "steps")) "; the last at epoch " (last.epoch)
                    ", with learning rate " (scientific(last.learning_rate)) " and gradient norm "
                    (three(last.gradient_norm)) "." }
                (show(figures, &named(&["training-loss", "training-score"]), None))
            } @else if parts.is_untuned() {
                p { "Nothing was tuned." }
            } @else {
                (missing("The training curve (metrics.jsonl) is", "skn-train"))
            }
        }
    }
}

/// Loss and score over the steps, one figure each.
pub(crate) fn figures(metrics: &[MetricRecord]) -> Vec<Figure> {
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
    // Ticks that are no round numbers would be written as others.
    let scores = || metrics.iter().map(|record| record.dev_score).filter(|score| score.is_finite());
    let range = scores().fold(f64::NEG_INFINITY, f64::max) - scores().fold(f64::INFINITY, f64::min);
    let score_layout = steps(layout(&score))
        .with_y_tick_step(round_step(range.max(0.005)))
        .with_y_tick_format(TickFormat::Auto)
        .with_y_label(format!("{} on dev", metric_label(Some(&first.metric))));
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
