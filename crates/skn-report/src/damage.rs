//! The sections of what the model answers, as it is and with neurons perturbed.

use maud::{Markup, html};
use skn_artifact::{DamageEvidence, PerturbationResult};

use crate::axis::task_name;
use crate::blocks::{missing, named, show};
use crate::classes;
use crate::figure::Figure;
use crate::number::{grouped, p_value, percent, range, three};
use crate::parts::Parts;
use crate::perturbed;
use crate::task::Task;

/// What the tuned model answers to each class.
pub(crate) fn answers(parts: &Parts, figures: &[Figure]) -> Markup {
    let tasks: Vec<(&Task, Markup)> = (parts.tasks.iter())
        .filter_map(|task| Some((task, classes::confusion_table(parts, task)?)))
        .collect();
    html! {
        @if !tasks.is_empty() {
            section id="answers" {
                h2 { "Answers" }
                @for (task, table) in tasks {
                    @if parts.tasks.len() > 1 { h3 { "Task " (task.name) } }
                    (show(figures, &[task_name(task, classes::CONFUSION)], Some(table)))
                }
            }
        }
    }
}

/// What perturbing neurons did, with what tests say of it.
pub(crate) fn perturbation(parts: &Parts, figures: &[Figure]) -> Markup {
    let rows: Vec<(&str, &PerturbationResult)> = perturbed::groups(parts)
        .into_iter()
        .flat_map(|(who, _, results)| results.iter().map(move |result| (who, result)))
        .chain(parts.classes.iter().map(|result| ("of one class", result)))
        .collect();
    if rows.is_empty() && parts.lacks_head() {
        return html! {};
    }
    let figures_of_classes = show(figures, &named(&classes::DAMAGE), None);
    html! {
        section id="perturbation" {
            h2 { "Perturbation" }
            @if parts.skill.is_empty() { (missing("Perturbed skill neurons (mask_perf.json) are", "skn-mask")) }
            @if parts.random.is_empty() { (missing("Perturbed random neurons (cmp_perf.json) are", "skn-mask --cmp")) }
            (show(figures, &named(&["perturbation", "perturbation-by-share"]), None))
            @if !rows.is_empty() {
                div.scroll { table {
                    thead { tr {
                        th { "neurons" } th { "edit" } th.number { "share" } th { "layers" } th.number { "edited neurons" }
                        th.number { "unperturbed" } th.number { "draws" } th.number { "mean" } th.number { "95 % interval" }
                    } }
                    tbody { @for (who, found) in rows { (perturbation_row(who, found)) } }
                } }
            }
            (evidence(parts))
            (figures_of_classes)
            (classes::by_class_table(parts).unwrap_or_default())
        }
    }
}

/// What the tests say of skill neurons against each kind of random ones.
fn evidence(parts: &Parts) -> Markup {
    let controls = [("random", &parts.random), ("matched", &parts.matched)];
    let rows: Vec<(&str, &PerturbationResult, &DamageEvidence)> = controls
        .into_iter()
        .flat_map(|(who, results)| results.iter().map(move |result| (who, result)))
        .filter_map(|(who, result)| Some((who, result, result.evidence.as_ref()?)))
        .collect();
    html! {
        @if !rows.is_empty() {
            h3 { "Is it the choice of neurons?" }
            p { "Each text is answered with skill neurons perturbed and with as many random ones. The difference is the share of draws that                  answer right with skill neurons perturbed, less that with random ones, mean over texts: below 0, skill neurons matter                  more. Sign flips ask how often differences as large come about if skill and random neurons do the same; McNemar's test                  asks it of each pair of draws. The rank p is how likely the skill neurons would do so much more damage than the random choices if they were one more of \
                 these: with few draws it can't be small." }
            @if !parts.matched.is_empty() {
                p { "Matched neurons are random ones of about the same variance over train, for noise, zeros and means do more to a neuron                      that varies more." }
            }
            div.scroll { table class="evidence" {
                thead { tr {
                    th { "against" } th.number { "share" } th.number { "difference" } th.number { "95 % interval" }
                    th.number { "p, sign flips" } th.number { "p, rank" } th.number { "McNemar p < 0.05" } th.number { "median p" }
                    @if !parts.matched.is_empty() { th.number { "variance" } }
                } }
                tbody {
                    @for (who, result, found) in rows {
                        tr {
                            th { (who) } td.number { (percent(&result.mask)) }
                            td.number { (three(found.difference)) } td.number { (range(&found.difference_interval)) }
                            td.number { (p_value(found.sign_flip_p)) } td.number { (p_value(found.rank_p)) }
                            td.number { (found.mcnemar_below_05) " of " (found.comparisons) }
                            td.number { (p_value(found.mcnemar_median_p)) }
                            @if !parts.matched.is_empty() {
                                td.number { (result.variance_ratio.map_or("–".into(), |ratio| format!("{ratio:.2} times"))) }
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn perturbation_row(who: &str, found: &PerturbationResult) -> Markup {
    let alpha = found.alpha.map(|alpha| format!(" {alpha}")).unwrap_or_default();
    let noise = found.noise.as_ref().map(|noise| format!(", {noise}")).unwrap_or_default();
    let last = found.high_layer.saturating_sub(1);
    html! {
        tr {
            th { (who) } td.edit { (found.edit) (alpha) (noise) } td.number { (percent(&found.mask)) }
            td { (found.low_layer) " to " (last) } td.number { (grouped(found.neurons.iter().map(|&n| n as u64).sum())) }
            td.number { (three(found.unperturbed)) } td.number { (found.draws.len()) } td.number { (three(found.mean)) }
            td.number { (range(&found.interval)) }
        }
    }
}
