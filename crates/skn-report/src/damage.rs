//! The sections of what the model answers, as it is and with neurons perturbed.

use maud::{Markup, html};
use serde_json::json;
use skn_artifact::names::file;
use skn_artifact::{DamageEvidence, PerturbationResult};

use crate::axis::task_name;
use crate::blocks::{missing, show};
use crate::classes;
use crate::figure::Figure;
use crate::number::{grouped, p_value, percent, range, three};
use crate::parts::Parts;
use crate::perturbed;
use crate::sweep::Sweep;
use crate::table::Table;
use crate::task::Task;

/// Where it is told what tests of perturbed neurons ask.
const EXPLAINED: &str = "choice-of-neurons";
/// What they ask.
pub(crate) const ASKED: &str = "Each text is answered with skill neurons perturbed and with as many random ones. The difference is the share of draws that \
     answer right with skill neurons perturbed, less that with random ones, mean over texts: below 0, skill neurons matter \
     more. Sign flips ask how often differences as large come about if skill and random neurons do the same; McNemar's test \
     asks it of each pair of draws. The rank p is how likely the skill neurons would do so much more damage than the random choices if they were one more of \
     these: with few draws it can't be small.";

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

/// What perturbing neurons did, with what tests say of it: what lies in the run itself, then each named sweep.
pub(crate) fn perturbation(parts: &Parts, figures: &[Figure]) -> Markup {
    // A run may have named sweeps alone, and of a model without a head there is nothing.
    let own = !parts.own.is_empty() || (parts.sweeps.is_empty() && !parts.lacks_head());
    // What tests ask is told where they are met first.
    let explains = parts.perturbed().position(|sweep| !tested(sweep).is_empty());
    html! {
        @for (place, sweep) in parts.perturbed().enumerate().filter(|(place, _)| own || *place > 0) {
            section id=(sweep.id()) {
                (heading(sweep))
                (results(sweep, figures))
                (evidence(sweep, explains == Some(place)))
                (show(figures, &classes::DAMAGE.map(|name| sweep.figure(name)), None))
                (classes::by_class_table(parts, sweep).unwrap_or_default())
            }
        }
    }
}

/// What a section is of, and what it lacks.
fn heading(sweep: &Sweep) -> Markup {
    let name = sweep.name.as_deref();
    let flag = name.map_or_else(String::new, |name| format!(" --name {name}"));
    let of = |file: &str| name.map_or_else(|| file.to_owned(), |name| file::in_sweep(name, file));
    html! {
        h2 { "Perturbation" @if let Some(name) = name { ": " (name) } }
        @if let Some(name) = name {
            p { "A sweep by itself: " (done(sweep)) ". Its results lie in the run's folder " code { (file::SWEEPS) "/" (name) }
                ", where " code { "skn-mask --name " (name) } " has put them." }
        }
        @if sweep.skill.iter().chain(&sweep.classes).any(|result| perturbed::chosen(result).is_some()) {
            p { "Skill neurons are those that a mask marks. Beside its share stands how they were chosen, where they are not the best by \
                 predictivity: the worst, or the best by another ranking." }
        }
        @if sweep.skill.is_empty() {
            (missing(&format!("Perturbed skill neurons ({}) are", of(file::SKILL)), &format!("skn-mask{flag}")))
        }
        @if sweep.random.is_empty() {
            (missing(&format!("Perturbed random neurons ({}) are", of(file::RANDOM)), &format!("skn-mask --cmp{flag}")))
        }
    }
}

/// What happened to the neurons of a sweep.
pub(crate) fn done(sweep: &Sweep) -> String {
    let all = [&sweep.skill, &sweep.random, &sweep.matched, &sweep.classes];
    let result = all.into_iter().flatten().next();
    let edit = result.map(|result| (result.edit.as_str(), result.alpha));
    match edit {
        Some(("gaussian", Some(alpha))) => {
            format!("noise of standard deviation {alpha} is added to the neurons")
        }
        Some(("zero", _)) => "the neurons are set to zero".to_owned(),
        Some(("mean", _)) => "the neurons are held at their means".to_owned(),
        Some((other, _)) => format!("what is done to the neurons is {other}"),
        None => "nothing is known of it".to_owned(),
    }
}

/// Each result, as figures and as a table.
fn results(sweep: &Sweep, figures: &[Figure]) -> Markup {
    let rows: Vec<(&str, &PerturbationResult)> = perturbed::groups(sweep)
        .into_iter()
        .flat_map(|(who, _, results)| results.iter().map(move |result| (who, result)))
        .chain(sweep.classes.iter().map(|result| ("of one class", result)))
        .collect();
    html! {
        (show(figures, &perturbed::FIGURES.map(|name| sweep.figure(name)), None))
        @if !rows.is_empty() {
            div.scroll { table {
                thead { tr {
                    th { "neurons" } th { "edit" } th.number { "share" } th { "layers" } th.number { "edited neurons" }
                    th.number { "unperturbed" } th.number { "draws" } th.number { "mean" } th.number { "95 % interval" }
                } }
                tbody { @for (who, found) in rows { (perturbation_row(who, found)) } }
            } }
        }
    }
}

/// Random neurons with what tests say of skill ones against them, by their kind.
fn tested(sweep: &Sweep) -> Vec<(&'static str, &PerturbationResult, &DamageEvidence)> {
    let controls = [("random", &sweep.random), ("matched", &sweep.matched)];
    let results =
        controls.into_iter().flat_map(|(who, results)| results.iter().map(move |result| (who, result)));
    results.filter_map(|(who, result)| Some((who, result, result.evidence.as_ref()?))).collect()
}

/// What tests say, for programs: a row for each kind of random neurons and each mask.
pub(crate) fn evidence_table(sweep: &Sweep) -> Option<(String, Table)> {
    let rows = tested(sweep);
    let columns = [
        "against",
        "share",
        "edit",
        "alpha",
        "difference",
        "low",
        "high",
        "sign_flip_p",
        "rank_p",
        "mcnemar_below_05",
        "comparisons",
        "mcnemar_median_p",
        "variance_ratio",
    ];
    (!rows.is_empty()).then(|| {
        let row = |(who, result, found): (&str, &PerturbationResult, &DamageEvidence)| {
            let [low, high] = found.difference_interval;
            [
                json!(who),
                perturbed::share(result),
                json!(result.edit),
                json!(result.alpha),
                json!(found.difference),
                json!(low),
                json!(high),
                json!(found.sign_flip_p),
                json!(found.rank_p),
                json!(found.mcnemar_below_05),
                json!(found.comparisons),
                json!(found.mcnemar_median_p),
                json!(result.variance_ratio),
            ]
        };
        (sweep.figure("perturbation-evidence"), Table::of(columns, rows.into_iter().map(row)))
    })
}

/// What the tests say of skill neurons against each kind of random ones; `explains` what they ask.
fn evidence(sweep: &Sweep, explains: bool) -> Markup {
    let rows = tested(sweep);
    html! {
        @if !rows.is_empty() {
            h3 id=[explains.then_some(EXPLAINED)] { "Is it the choice of neurons?" }
            @if explains {
                p { (ASKED) }
            } @else {
                p { "What is asked here stands " a href={ "#" (EXPLAINED) } { "above" } "." }
            }
            @if !sweep.matched.is_empty() {
                p { "Matched neurons are random ones of about the same variance over train, for noise, zeros and means do more to a neuron \
                     that varies more." }
            }
            div.scroll { table class="evidence" {
                thead { tr {
                    th { "against" } th.number { "share" } th.number { "difference" } th.number { "95 % interval" }
                    th.number { "p, sign flips" } th.number { "p, rank" } th.number { "McNemar p < 0.05" } th.number { "median p" }
                    @if !sweep.matched.is_empty() { th.number { "variance" } }
                } }
                tbody {
                    @for (who, result, found) in rows {
                        tr {
                            th { (who) } td.number { (marked(result)) }
                            td.number { (three(found.difference)) } td.number { (range(&found.difference_interval)) }
                            td.number { (p_value(found.sign_flip_p)) } td.number { (p_value(found.rank_p)) }
                            td.number { (found.mcnemar_below_05) " of " (found.comparisons) }
                            td.number { (p_value(found.mcnemar_median_p)) }
                            @if !sweep.matched.is_empty() {
                                td.number { (result.variance_ratio.map_or("–".into(), |ratio| format!("{ratio:.2} times"))) }
                            }
                        }
                    }
                }
            } }
        }
    }
}

/// Which neurons a mask marks: its share or name, and how they were chosen if not as usual.
fn marked(result: &PerturbationResult) -> String {
    let chosen = perturbed::chosen(result).map(|chosen| format!(", {chosen}")).unwrap_or_default();
    format!("{}{chosen}", percent(&result.mask))
}

fn perturbation_row(who: &str, found: &PerturbationResult) -> Markup {
    let alpha = found.alpha.map(|alpha| format!(" {alpha}")).unwrap_or_default();
    let noise = found.noise.as_ref().map(|noise| format!(", {noise}")).unwrap_or_default();
    let last = found.high_layer.saturating_sub(1);
    html! {
        tr {
            th { (who) } td.edit { (found.edit) (alpha) (noise) } td.number { (marked(found)) }
            td { (found.low_layer) " to " (last) } td.number { (grouped(found.neurons.iter().map(|&n| n as u64).sum())) }
            td.number { (three(found.unperturbed)) } td.number { (found.draws.len()) } td.number { (three(found.mean)) }
            td.number { (range(&found.interval)) }
        }
    }
}
