//! What test says of neurons that were chosen on dev.

use kuva::prelude::*;
use serde_json::json;
use skn_counts::{Pool, Predictor};

use crate::figure::{COLOURS, Figure, MUTED, layout};
use crate::neurons::share;
use crate::number;
use crate::probe::Probe;
use crate::table::Table;

/// How many of the best neurons are compared on dev and test: at most this many, and at most a twentieth of all.
const COMPARED: usize = 300;
/// How many of the others are drawn beside them.
const CROWD: usize = 400;

/// The best neurons by dev, as test sees them.
pub(crate) fn figure(name: &str, probe: &Probe) -> Option<Figure> {
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
        "A dot is a neuron, {} that is best on dev. The best {} have {dev:.3} on dev and {seen:.3} on test, \
         {} points; {} below the line. {}",
        if probe.pool == Pool::Position {
            "at the position and in the direction"
        } else {
            "in the direction"
        },
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
