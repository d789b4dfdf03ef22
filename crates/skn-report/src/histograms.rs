//! The activations of single neurons, a histogram for each class.

use kuva::prelude::*;
use serde_json::json;
use skn_counts::ScoreRule;

use crate::figure::{COLOURS, Figure, MUTED, layout, plain};
use crate::number::grouped;
use crate::parts::Parts;
use crate::probe::Activations;
use crate::table::Table;
use crate::task::Task;

/// The activations of a neuron on dev, a histogram for each class; of a rule of one class among more than two, for its class
/// and the rest. `whose` begins the title.
pub(crate) fn activations(
    name: &str,
    whose: &str,
    parts: &Parts,
    task: &Task,
    found: &Activations,
) -> Figure {
    let rule = found.rule;
    let groups: Vec<(String, Vec<f64>)> = match rule.class {
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
    let (mut plots, mut highest) = (Vec::new(), 0f64);
    let mut table = Table::new(["from", "to", "class", "percent"]);
    for (number, (group, values)) in groups.iter().enumerate() {
        let shares = shares(values, low, width, bins);
        highest = shares.iter().copied().fold(highest, f64::max);
        let edge = |bin: usize| low + bin as f64 * width;
        for (bin, share) in shares.iter().enumerate() {
            table.push([json!(edge(bin)), json!(edge(bin + 1)), json!(group), json!(share)]);
        }
        let line = LinePlot::new()
            .with_data(staircase(&shares, low, width))
            .with_color(COLOURS[number % COLOURS.len()])
            .with_stroke_width(2.0);
        let line = if number == 0 { line } else { line.with_dashed() };
        let legend = format!("{group}, {} texts", values.len());
        plots.push(Plot::Line(line.with_fill().with_fill_opacity(0.18).with_legend(plain(&legend))));
    }
    if let Some(threshold) = found.threshold.map(f64::from) {
        // As a line of its own: a label beside the axes would be cut off.
        let line = LinePlot::new().with_data(vec![(threshold, 0.0), (threshold, highest)]).with_color(MUTED);
        plots.push(Plot::Line(line.with_dotted().with_stroke_width(1.5).with_legend("threshold")));
    }
    let layout = layout(&plots)
        .with_x_label("activation")
        .with_y_label("share of the class's texts (%)")
        .with_y_axis_min(0.0)
        .with_x_tick_format(TickFormat::Auto);
    let title = format!("{whose} activation by class: layer {}, index {}", rule.layer, rule.index);
    let by_area = task.probe.as_ref().is_some_and(|probe| probe.score == ScoreRule::Auc);
    let caption = match by_area {
        true => format!(
            "The {} texts of dev, read at prompt position {}. Its area under the ROC curve for label 1 if it {}, is {:.3}: the less \
             the classes overlap, the more.",
            grouped(found.values.len() as u64),
            rule.position,
            if rule.silent { "is low" } else { "is high" },
            found.predictivity
        ),
        false => format!(
            "The {} texts of dev, read at prompt position {}. {} its rule, label 1 if it {}, is right for a share of {:.3}: the less the \
         classes overlap there, the more.",
            grouped(found.values.len() as u64),
            rule.position,
            if found.threshold.is_some() {
                "The threshold is the neuron's mean over train;"
            } else {
                "With its mean over train as threshold"
            },
            if rule.silent { "is silent" } else { "fires" },
            found.predictivity
        ),
    };
    let caption = match rule.class {
        None => caption,
        Some(class) => caption.replace("label 1 if", &format!("class {} if", parts.class(&task.name, class))),
    };
    Figure::new(name, &title, caption, table, (plots, layout))
}

/// The values in each bin, in per cent of all.
fn shares(values: &[f64], low: f64, width: f64, bins: usize) -> Vec<f64> {
    let mut shares = vec![0.0; bins];
    for value in values {
        shares[(((value - low) / width) as usize).min(bins - 1)] += 100.0 / values.len() as f64;
    }
    shares
}

/// A histogram's outline: from 0, along the top of each bin, to 0.
fn staircase(shares: &[f64], low: f64, width: f64) -> Vec<(f64, f64)> {
    let edge = |bin: usize| low + bin as f64 * width;
    let tops =
        shares.iter().enumerate().flat_map(|(bin, &share)| [(edge(bin), share), (edge(bin + 1), share)]);
    std::iter::once((low, 0.0)).chain(tops).chain([(edge(shares.len()), 0.0)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_by_hand() {
        let outline = staircase(&shares(&[0.0, 0.0, 0.5, 1.0], 0.0, 0.5, 2), 0.0, 0.5);
        assert_eq!(outline, [(0.0, 0.0), (0.0, 50.0), (0.5, 50.0), (0.5, 50.0), (1.0, 50.0), (1.0, 0.0)]);
    }
}
