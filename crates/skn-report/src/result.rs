//! What the run found: sentences, the final table, and its bars.

use std::collections::BTreeSet;

use kuva::prelude::*;
use maud::{Markup, html};
use serde_json::json;
use skn_artifact::names::setting;
use skn_artifact::{DamageEvidence, Points, RunRecord, Summary, UntunedSummary};

use crate::axis::metric_label;
use crate::blocks::{missing, named, show};
use crate::evidence;
use crate::figure::{Figure, INK, MUTED, PRUNED, RANDOM, SKILL, TUNED, layout, plain};
use crate::neurons::{Share, share};
use crate::number::{counted, grouped, p_value, percent, points, range, ratio, three};
use crate::parts::Parts;
use crate::table::Table;

pub(crate) fn section(parts: &Parts, figures: &[Figure]) -> Markup {
    html! {
        section id="result" {
            h2 { "Result" }
            @if !parts.outdated.is_empty() {
                p.warning {
                    "This page mixes states of the run. Older than what they were made from: "
                    @for (place, (name, from)) in parts.outdated.iter().enumerate() {
                        @if place > 0 { ", " }
                        code { (name) } " (from " code { (from) } ")"
                    }
                    ". The programs that made them make them anew."
                }
            }
            @for template in templates(&parts.record) {
                p { "What is read of a row: " code { (format!("{template:?}")) } }
            }
            @for overlap in overlaps(&parts.record) {
                p.warning { "Seen in training: " (overlap) ". Scores on them tell nothing of new texts." }
            }
            @if let Some(summary) = &parts.summary {
                (findings(summary, parts.metric().unwrap_or("the metric")))
                (show(figures, &named(&["summary"]), Some(result_tables(summary, parts.metric().unwrap_or("metric")))))
            } @else if let Some(summary) = &parts.untuned {
                (untuned(summary))
            } @else if parts.lacks_head() {
                (headless(parts))
            } @else {
                (missing("The final table (summary.json) is", "skn-run"))
            }
        }
    }
}

/// The points of a summary in order, with what they are called.
pub(crate) fn values_of<T>(points: &Points<T>) -> [(&'static str, &T); 6] {
    [
        ("untuned", &points.untuned),
        ("tuned", &points.tuned),
        ("skill neurons perturbed", &points.skill_perturbed),
        ("random neurons perturbed", &points.random_perturbed),
        ("pruned", &points.pruned),
        ("pruned and retuned", &points.pruned_tuned),
    ]
}

/// The final table as bars with intervals.
pub(crate) fn figure(summary: &Summary, metric: Option<&str>) -> Figure {
    let values = values_of(&summary.accuracy);
    let intervals = values_of(&summary.interval);
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
        points(summary.accuracy.skill_perturbed - summary.accuracy.tuned),
        points(summary.accuracy.random_perturbed - summary.accuracy.tuned),
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

/// What is said of a model that answers nothing.
const NO_HEAD: &str = "The model has no head that names words: it answers nothing, and no prompt \
    can be tuned through it. So its neurons are read from the texts alone, and there is nothing to perturb, to prune or to time.";

/// What is found of a model that answers nothing.
fn headless(parts: &Parts) -> Markup {
    let found = parts.tasks.iter().filter_map(|task| Some((task, task.lead()?)));
    html! {
        p { (NO_HEAD) }
        ul.findings {
            @for (task, probe) in found {
                @let best = probe.best();
                @let test = probe.test.as_ref().and_then(|test| share(test, &best.rule, probe.score));
                li { @if parts.tasks.len() > 1 { "Task " (task.name) ": " }
                    "One neuron – layer " (best.rule.layer) ", index " (best.rule.index) ", " (probe.read_at())
                    (best.rule.class.map(|class| format!(", class {class} against the rest")).unwrap_or_default())
                    " – has predictivity "
                    @if let Some(Share { value, interval }) = test {
                        b { (three(value)) } " on test by itself (95 % interval " (range(&interval)) "; " (three(best.predictivity))
                        " on dev, where it was chosen)."
                    } @else { b { (three(best.predictivity)) } " on dev, where it was chosen." } }
            }
        }
    }
}

/// What a model does as it is, in sentences.
fn untuned(summary: &UntunedSummary) -> Markup {
    let best = &summary.best_neuron;
    html! {
        ul.findings {
            @if let Some(found) = &summary.answers {
                li { "Nothing was tuned. The model's own words have " (found.metric) " " b { (three(found.accuracy)) }
                    " on " (grouped(summary.test_rows)) " rows of test (95 % interval " (range(&found.interval))
                    "); always guessing the most frequent class is right for a share of " (three(summary.majority)) "." }
            } @else {
                li { (NO_HEAD) " Always guessing the most frequent class is right for a share of " (three(summary.majority)) " of the "
                    (grouped(summary.test_rows)) " rows of test." }
            }
            li { "One neuron – layer " (best.layer) ", index " (best.index) ", read at the last token of the text"
                (best.class.map(|class| format!(", class {class} against the rest")).unwrap_or_default())
                " – has predictivity " b { (three(best.test)) } " on test by itself (95 % interval " (range(&best.interval)) "; "
                (three(best.dev)) " on dev, where it was chosen)." }
        }
    }
}

/// What stands around texts, as the stages noted it.
fn templates(record: &RunRecord) -> BTreeSet<&str> {
    let noted = record.stages.values().filter_map(|stage| stage.settings.get(setting::TEMPLATE));
    noted.map(String::as_str).collect()
}

/// Which texts of dev and test stand in train too, as the stages noted it.
fn overlaps(record: &RunRecord) -> BTreeSet<&str> {
    let settings = record.stages.values().map(|stage| &stage.settings);
    let noted = settings.flat_map(|settings| setting::IN_TRAIN.map(|name| settings.get(name)));
    noted.flatten().map(String::as_str).collect()
}

fn result_tables(summary: &Summary, metric: &str) -> Markup {
    let (accuracy, interval) = (values_of(&summary.accuracy), values_of(&summary.interval));
    html! {
        div.scroll { table {
            thead { tr { th { "model" } th.number { (metric) " on test" } th.number { "95 % interval" } } }
            tbody {
                @for ((name, value), (_, interval)) in accuracy.iter().zip(interval) {
                    tr { th { (name) } td.number { (three(**value)) } td.number { (range(interval)) } }
                }
            }
        } }
        (size_table(summary))
    }
}

/// Parameters and time of the full and of the pruned model.
fn size_table(summary: &Summary) -> Markup {
    let (parameters, time) = (&summary.parameters, &summary.ms_per_text);
    let share =
        |part, whole| ratio(part, whole).map_or("–".into(), |share| format!("{:.1} %", share * 100.0));
    let kept = share(parameters.pruned as f64, parameters.full as f64);
    html! {
        div.scroll { table {
            thead { tr { th { "size and time" } th.number { "full" } th.number { "pruned" } th.number { "of full" } } }
            tbody {
                tr {
                    th { "parameters" } td.number { (grouped(parameters.full)) }
                    td.number { (grouped(parameters.pruned)) } td.number { (kept) }
                }
                tr {
                    th { "ms per text, median" } td.number { (three(time.full)) }
                    td.number { (three(time.pruned)) } td.number { (share(time.pruned, time.full)) }
                }
            }
        } }
    }
}

/// The result in sentences, the most important first.
fn findings(summary: &Summary, metric: &str) -> Markup {
    let (accuracy, best) = (&summary.accuracy, &summary.best_neuron);
    let change = |value: f64| points(value - accuracy.tuned);
    let setting = &summary.perturbation;
    let alpha = setting.alpha.map(|alpha| format!(" of standard deviation {alpha}")).unwrap_or_default();
    let neurons = format!("the best {} of each layer's neurons", percent(&setting.share));
    let perturbed = match setting.edit.as_str() {
        "gaussian" => format!("With Gaussian noise{alpha} added to {neurons}"),
        "zero" => format!("With {neurons} set to zero"),
        "mean" => format!("With {neurons} held at their means over train"),
        other => format!("With {other} done to {neurons}"),
    };
    let kept = ratio(summary.parameters.pruned as f64, summary.parameters.full as f64)
        .map(|kept| format!(" to {:.1} % of its parameters", kept * 100.0));
    let gain = ratio(summary.ms_per_text.full, summary.ms_per_text.pruned)
        .map(|gain| format!("is {gain:.2} times as fast and "));
    html! {
        ul.findings {
            li { "Tuning takes " (metric) " on test from " (three(accuracy.untuned)) " to " b { (three(accuracy.tuned)) } "." }
            li { "One neuron – layer " (best.layer) ", index " (best.index) ", prompt position " (best.position)
                (best.class.map(|class| format!(", class {class} against the rest")).unwrap_or_default())
                " – has predictivity " b { (three(best.test)) } " on test by itself ("
                @if let (Some(low), Some(high)) = (best.test_low, best.test_high) { "95 % interval " (range(&[low, high])) "; " }
                (three(best.dev)) " on dev, where it was chosen)."
                @if let Some(p) = best.p_max { " The chance that the best of all neurons does as well on dev where labels are shuffled: "
                    (evidence::chance(p)) "." } }
            li { (perturbed) ", " (metric) " changes by " b { (change(accuracy.skill_perturbed)) " points" }
                "; with the same done to as many random ones, by " (change(accuracy.random_perturbed)) " (mean of "
                (counted(setting.draws, "draw", "draws")) ")."
                @if let Some(found) = &setting.evidence { " " (tested(found, setting.draws)) } }
            li { "Pruned" (kept.unwrap_or_default()) ", the model " (gain.unwrap_or_default()) "has "
                (three(accuracy.pruned)) " (" (change(accuracy.pruned)) " points); tuned again, "
                b { (three(accuracy.pruned_tuned)) } " (" (change(accuracy.pruned_tuned)) ")." }
        }
    }
}

/// What the tests on the same texts say, in a sentence.
fn tested(found: &DamageEvidence, draws: usize) -> String {
    let sure = found.sign_flip_p < 0.05;
    let more = if found.difference < 0.0 { "fewer" } else { "more" };
    let said = if sure {
        "a difference that other texts would hardly undo"
    } else {
        "a difference that other texts may well undo"
    };
    let draws_that_do = match found.at_least_as_damaging {
        0 => format!("none of {draws} does as much damage"),
        1 => format!("1 of {draws} does as much damage"),
        many => format!("{many} of {draws} do as much damage"),
    };
    let choice = if found.rank_p < 0.05 {
        String::new()
    } else {
        format!(
            ", so that these draws alone do not show that the choice of neurons matters (rank p {})",
            p_value(found.rank_p)
        )
    };
    format!(
        "On the same texts skill neurons leave {} points {more} right answers than random ones (95 % interval {} to {}), {said} \
         (sign flips: p {}). Of the random choices, {draws_that_do}{choice}.",
        points(found.difference.abs()).trim_start_matches('+'),
        points(found.difference_interval[0]),
        points(found.difference_interval[1]),
        p_value(found.sign_flip_p)
    )
}
