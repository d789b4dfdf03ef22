//! The figures of what perturbing neurons did.

use kuva::prelude::*;
use serde_json::{Value, json};
use skn_artifact::PerturbationResult;

use crate::axis::{metric_label, names_at_places};
use crate::figure::{COLOURS, Figure, INK, MUTED, RANDOM, SKILL, layout, plain};
use crate::number::{self, grouped};
use crate::sweep::Sweep;
use crate::table::Table;

/// Random neurons of matched variance.
const MATCHED: &str = COLOURS[4];

/// Whose neurons results are of: the name, the colour of the figures, the results.
pub(crate) fn groups(sweep: &Sweep) -> [(&'static str, &'static str, &[PerturbationResult]); 3] {
    [("skill", SKILL, &sweep.skill), ("random", RANDOM, &sweep.random), ("matched", MATCHED, &sweep.matched)]
}

/// What the figures are called.
pub(crate) const FIGURES: [&str; 2] = ["perturbation", "perturbation-by-share"];

/// All of them, in the order of the report.
pub(crate) fn figures(sweep: &Sweep) -> Vec<Figure> {
    let figures = [perturbation(sweep), perturbation_curve(sweep)];
    figures.into_iter().flatten().map(|figure| sweep.say(figure)).collect()
}

/// What was done to the neurons, and how they were chosen if not as usual: results of the same setting belong together.
fn setting(result: &PerturbationResult) -> String {
    let alpha = result.alpha.map(|alpha| format!(" {alpha}")).unwrap_or_default();
    let chosen = chosen(result).map(|chosen| format!(", {chosen}")).unwrap_or_default();
    format!("{}{alpha}{chosen}", result.edit)
}

/// How the neurons of a result's mask were chosen, if not as the best by the predictivity of counts: `worst`, `by random`.
pub(crate) fn chosen(result: &PerturbationResult) -> Option<String> {
    let ranking = result.ranking.as_ref().filter(|_| result.mask.parse::<f64>().is_ok());
    match ranking {
        _ if result.lowest => Some("worst".into()),
        // Marks have the name of their file, which is the mask's.
        ranking => ranking.map(|ranking| format!("by {ranking}")),
    }
}

/// Skill neurons beside random ones: every draw, mean and interval, a row for each result.
fn perturbation(sweep: &Sweep) -> Option<Figure> {
    let rows: Vec<(&str, &str, &PerturbationResult)> = groups(sweep)
        .into_iter()
        .flat_map(|(who, colour, results)| results.iter().map(move |result| (who, colour, result)))
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
        "Small dots are draws, large ones their mean with its 95 % interval (of one draw that over texts, of several that over draws); the dashed line is the \
         unperturbed model, with \
         {:.3} on {} texts. Random neurons are as many in each layer, none of them a skill neuron{}.",
        first.unperturbed,
        grouped(first.rows),
        if sweep.matched.is_empty() {
            ""
        } else {
            "; matched ones are random too, each of about the variance of a skill neuron"
        }
    );
    let title = "Skill and random neurons perturbed";
    Some(Figure::new(&sweep.figure(FIGURES[0]), title, caption, draws_table(&rows), (plots, layout)))
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

/// A row for each draw.
fn draws_table(rows: &[(&str, &str, &PerturbationResult)]) -> Table {
    let columns = ["neurons", "share", "edit", "alpha", "draw", "value", "unperturbed"];
    let of = |&(who, _, result): &(&str, &str, &PerturbationResult)| {
        let cells = [json!(who), share(result), json!(result.edit), json!(result.alpha)];
        let draws = result.draws.iter().enumerate();
        let [who, share, edit, alpha] = cells;
        draws
            .map(|(draw, value)| {
                let (draw, unperturbed) = (json!(draw), json!(result.unperturbed));
                [who.clone(), share.clone(), edit.clone(), alpha.clone(), draw, json!(value), unperturbed]
            })
            .collect::<Vec<_>>()
    };
    Table::of(columns, rows.iter().flat_map(of))
}

/// A mask's share; the name of another mask.
pub(crate) fn share(result: &PerturbationResult) -> Value {
    result.mask.parse::<f64>().map_or_else(|_| json!(result.mask), |share| json!(share))
}

/// A line of the curve: whose neurons, which edit, and the results by share.
struct Curve<'a> {
    who: &'static str,
    setting: String,
    results: Vec<(f64, &'a PerturbationResult)>,
}

/// A curve for each edit of each kind of neurons; masks whose names are no shares are in none.
fn curves(sweep: &Sweep) -> Vec<Curve<'_>> {
    let mut curves = Vec::new();
    for (who, _, results) in groups(sweep) {
        let mut settings: Vec<String> = results.iter().map(setting).collect();
        settings.sort();
        settings.dedup();
        for wanted in settings {
            let of_setting = results.iter().filter(|result| setting(result) == wanted);
            let mut results: Vec<(f64, &PerturbationResult)> =
                of_setting.filter_map(|result| Some((result.mask.parse().ok()?, result))).collect();
            results.sort_by(|a, b| a.0.total_cmp(&b.0));
            curves.push(Curve { who, setting: wanted, results });
        }
    }
    curves.retain(|curve| !curve.results.is_empty());
    curves
}

/// The metric by the share that is perturbed, if there are several shares.
fn perturbation_curve(sweep: &Sweep) -> Option<Figure> {
    let curves = curves(sweep);
    if curves.iter().all(|curve| curve.results.len() < 2) {
        return None;
    }
    let first = curves.first()?.results.first()?.1;
    let last = curves.iter().flat_map(|curve| &curve.results).map(|(share, _)| *share).fold(0.0, f64::max);
    // As a line of its own: a label beside the axes would be cut off.
    let as_it_is =
        LinePlot::new().with_data(vec![(0.0, first.unperturbed), (last * 100.0, first.unperturbed)]);
    let as_it_is = as_it_is.with_color(MUTED).with_dotted().with_stroke_width(1.5).with_legend("unperturbed");
    let mut plots = vec![Plot::Line(as_it_is)];
    for (number, Curve { who, setting, results }) in curves.iter().enumerate() {
        let points = results.iter().map(|(share, result)| (share * 100.0, result.mean)).collect::<Vec<_>>();
        let bounds = |side: usize| results.iter().map(|(_, of)| of.interval[side]).collect::<Vec<f64>>();
        let own = groups(sweep).iter().find(|(name, ..)| name == who).map_or(INK, |(_, colour, _)| colour);
        let earlier = curves[..number].iter().any(|curve| curve.who == *who);
        let colour = if earlier { COLOURS[number % COLOURS.len()] } else { own };
        let legend = plain(&format!("{who} neurons, {setting}"));
        if let [(x, y)] = points[..] {
            // A line of one point would not be seen.
            let [low, high] = results[0].1.interval;
            let dot = ScatterPlot::new()
                .with_data(vec![(x, y)])
                .with_y_err_asymmetric(vec![((y - low).max(0.0), (high - y).max(0.0))]);
            plots.push(Plot::Scatter(dot.with_color(colour).with_size(5.0).with_legend(legend)));
            continue;
        }
        let line = LinePlot::new().with_data(points).with_color(colour).with_stroke_width(2.0);
        let line = if *who == "skill" { line } else { line.with_dashed() };
        plots.push(Plot::Line(line.with_band(bounds(0), bounds(1)).with_legend(legend)));
    }
    let layout = layout(&plots)
        .with_x_label("neurons perturbed in each layer (%)")
        .with_y_label(format!("{} on test", metric_label(Some(&first.metric))))
        .with_x_axis_min(0.0);
    let caption = format!(
        "Lines are means over draws, bands their 95 % intervals (of one draw that over texts, of several that over draws); the dotted line is the unperturbed model, with \
         {:.3}.{}",
        first.unperturbed,
        widest_gap(sweep).unwrap_or_default()
    );
    let columns = ["neurons", "edit", "share", "mean", "low", "high"];
    let rows = curves.iter().flat_map(|Curve { who, setting, results }| {
        results.iter().map(move |(share, result)| {
            let [low, high] = result.interval;
            [json!(who), json!(setting), json!(share), json!(result.mean), json!(low), json!(high)]
        })
    });
    let table = Table::of(columns, rows);
    let title = "The model by the share of neurons perturbed";
    Some(Figure::new(&sweep.figure(FIGURES[1]), title, caption, table, (plots, layout)))
}

/// Where skill and random neurons are farthest apart.
fn widest_gap(sweep: &Sweep) -> Option<String> {
    let pairs = sweep.skill.iter().filter_map(|skill| {
        let same =
            |random: &&PerturbationResult| random.mask == skill.mask && setting(random) == setting(skill);
        Some((skill, sweep.random.iter().find(same)?))
    });
    let (skill, random) =
        pairs.max_by(|a, b| (a.1.mean - a.0.mean).abs().total_cmp(&(b.1.mean - b.0.mean).abs()))?;
    Some(format!(
        " They are farthest apart at {}: {:.3} with skill neurons perturbed, {:.3} with random ones, {} points.",
        number::percent(&skill.mask),
        skill.mean,
        random.mean,
        number::points(skill.mean - random.mean)
    ))
}
