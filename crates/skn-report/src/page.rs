//! The page: sections of sentences, tables and figures. maud escapes every text that comes from a file.

use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use skn_artifact::visible;
use skn_counts::{Pool, ScoreRule};

use crate::axis::{asked_name, task_name};
use crate::blocks::{missing, share_cells, show};
use crate::damage;
use crate::draw;
use crate::evidence;
use crate::figure::{Figure, PALETTE};
use crate::glossary;
use crate::maps;
use crate::neurons::share;
use crate::number::three;
use crate::parts::Parts;
use crate::pooling;
use crate::probe::Probe;
use crate::rankings;
use crate::result;
use crate::scoring::explained;
use crate::speed;
use crate::stages;
use crate::task::Task;
use crate::top_texts;
use crate::training;

pub(crate) const STYLE: &str = include_str!("style.css");
/// How many of the best neurons are listed.
const LISTED: usize = 20;

/// The whole page.
pub(crate) fn render(parts: &Parts, figures: &[Figure]) -> String {
    let title = match parts.task() {
        Some(task) => format!("Skill neurons: {task}"),
        None => "Skill neurons".into(),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(PALETTE)) (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (title) } p.lead { (lead(parts)) } (glossary::section()) }
                main {
                    (result::section(parts, figures))
                    (training::section(parts, figures))
                    (neurons(parts, figures))
                    (damage::answers(parts, figures))
                    (damage::perturbation(parts, figures))
                    (rankings::section(parts, figures))
                    (speed::section(parts, figures))
                    (stages::section(&parts.record))
                }
            }
        }
    };
    // maud escapes what HTML would read; a control character it would hand on.
    visible(&page.into_string()).into_owned()
}

fn lead(parts: &Parts) -> String {
    let model = parts.model().map(|model| format!("Model {model}"));
    let config = parts.config.as_ref();
    let model = if config.is_none() && parts.is_untuned() {
        model.map(|model| format!("{model}; nothing tuned"))
    } else {
        model
    };
    let method = config.map(|config| {
        let place = if config.prompt_place.as_deref() == Some("after") { "behind" } else { "before" };
        let prompt = format!("a prompt of {} rows {place} the text", config.prompt_size);
        match config.method.as_str() {
            method @ "RobertaBias" => format!("tuned: its biases (BitFit, {method}), with {prompt}"),
            method @ "RobertaAdapter" => format!("tuned: adapters in its layers ({method}), with {prompt}"),
            method => format!("tuned: {prompt} ({method})"),
        }
    });
    let words = config.map(|config| format!("answers: {}", config.verbalizer.words.join(", ")));
    let said: Vec<String> = [model, method, words].into_iter().flatten().collect();
    if said.is_empty() { "The run does not say its model.".into() } else { said.join("; ") + "." }
}

fn neurons(parts: &Parts, figures: &[Figure]) -> Markup {
    html! {
        section id="neurons" {
            h2 { "Neurons" }
            p { "A neuron fires for a text if its activation is above its mean over train. Its rule: the label is "
                (one_of_two(parts)) " if it fires." }
            @if parts.tasks.is_empty() {
                (missing("Predictivity (<task>/dev_perf) is", "skn-probe --probe_type acc"))
            }
            @for task in &parts.tasks {
                @if parts.tasks.len() > 1 { h3 { "Task " (task.name) } }
                @for site in sites(task) {
                    p { "A neuron of the gated FFN is read at its " b { (site) } "." }
                }
                (task_neurons(parts, task, figures))
            }
        }
    }
}

/// What a rule says if its neuron fires: of two classes the second, by its word if the page is of one task.
fn one_of_two(parts: &Parts) -> String {
    match parts.tasks.as_slice() {
        [task] if task.lead().is_none_or(|probe| probe.dev.classes() <= 2) => parts.class(&task.name, 1),
        _ => "1".into(),
    }
}

/// Which factors of neurons were read, where it was not the product that goes on.
fn sites(task: &Task) -> BTreeSet<&str> {
    let sites = task.kinds().into_iter().filter_map(|probe| probe.site.as_deref());
    sites.filter(|site| *site != "product").collect()
}

fn task_neurons(parts: &Parts, task: &Task, figures: &[Figure]) -> Markup {
    let of_prompt = task.probe.is_some();
    let lacks_prompt = !of_prompt && !parts.is_untuned();
    let Some(probe) = task.lead() else {
        return html! {
            @if lacks_prompt { (missing("Predictivity (dev_perf) is", "skn-probe --probe_type acc")) }
            (chance(parts, task, figures)) (pooling::section(task))
        };
    };
    let mut names: Vec<String> = draw::OF_TASK.map(|name| task_name(task, name)).to_vec();
    names.extend(task.asked.iter().map(|asked| asked_name(task, asked)));
    names.extend(maps::NAMES.map(|name| task_name(task, name)));
    let uniform = !figures.iter().any(|figure| figure.name == task_name(task, draw::BY_POSITION));
    html! {
        @if lacks_prompt { (missing("Predictivity at prompt positions (dev_perf) is", "skn-probe --probe_type acc")) }
        @if !of_prompt { p { "A text's activation is here its " b { (probe.read_at()) } "." } }
        p { (explained(&probe.dev, probe.score)) }
        (show(figures, &names, None))
        @if of_prompt && uniform { p.missing { "All layers and positions have the same best predictivity: there is no map to draw." } }
        @if probe.test.is_none() { (missing(
            &format!("Predictivity on test ({}) is", probe.pool.performance_file("test")),
            &format!("skn-probe --probe_type {}", probe_type(probe.pool))
        )) }
        @if of_prompt && task.activations.is_none() {
            (missing("The best neuron's activations (pos_dev) are", &format!("skn-probe --probe_type pos --pos {},{}",
                probe.best().rule.layer, probe.best().rule.index)))
        }
        @for asked in &task.asked {
            @if asked.dead {
                p.missing { "Neuron " (asked.layer) "," (asked.index) " hardly varies over train: it has no rule, and there is nothing to draw." }
            } @else if asked.found.is_none() {
                (missing(&format!("Activations of neuron {},{} (pos_dev) are", asked.layer, asked.index),
                    &format!("skn-probe --probe_type pos --pos {},{}", asked.layer, asked.index)))
            }
        }
        (best_table(parts, task, probe))
        // Of a tuned run texts belong to the counts of prompt positions, which were asked for above.
        @if !lacks_prompt || task.top.is_some() { (top_texts::section(parts, task, probe)) }
        (chance(parts, task, figures))
        (pooling::section(task))
    }
}

/// What `skn-probe` calls what is taken of a text's activations.
fn probe_type(pool: Pool) -> &'static str {
    match pool {
        Pool::Position => "acc",
        Pool::Mean => "acc_mean",
        Pool::Max => "acc_max",
        Pool::Last => "acc_last",
    }
}

/// Whether the best neuron could be there by chance.
fn chance(parts: &Parts, task: &Task, figures: &[Figure]) -> Markup {
    html! {
        (evidence::section(task.weighed.as_ref(), !parts.is_untuned()))
        (show(figures, &draw::CHANCE.map(|name| task_name(task, name)), None))
    }
}

fn best_table(parts: &Parts, task: &Task, probe: &Probe) -> Markup {
    let many = probe.dev.classes() > 2;
    let of_prompt = probe.pool == Pool::Position;
    let counts = probe.pool.performance_file("dev");
    let listed = &probe.ranked[..LISTED.min(probe.ranked.len())];
    html! {
        h3 { @if listed.len() == 1 { "The best neuron" } @else { "The best " (listed.len()) " neurons" } }
        p { "Chosen on dev, so that their predictivity there flatters them; test had no say. Intervals are "
            @match probe.score {
                ScoreRule::Balanced => "put together from Wilson's of both shares",
                ScoreRule::Accuracy => "Wilson's",
                ScoreRule::Auc => "Newcombe's for areas",
            }
            ", 95 %." }
        @if task.weighed.is_some() { (evidence::explained(probe.score, of_prompt)) }
        div.scroll { table class="best-neurons" {
            thead { tr {
                th.number { "rank" } th.number { "layer" } th.number { "index" } @if of_prompt { th.number { "position" } }
                @if many { th { "class" } }
                th { @if many { "the class if it" } @else { "label 1 if it" } } th.number { "dev" }
                @if probe.test.is_some() { th.number { "test" } th.number { "95 % interval" } }
                @if task.weighed.is_some() { (evidence::heads()) }
            } }
            tbody {
                @for (rank, neuron) in listed.iter().enumerate() {
                    tr {
                        td.number { (rank + 1) } td.number { (neuron.rule.layer) } td.number { (neuron.rule.index) }
                        @if of_prompt { td.number { (neuron.rule.position) } }
                        @if let Some(class) = neuron.rule.class { td { (parts.class(&task.name, class)) } }
                        td {
                            @match (probe.score, neuron.rule.silent) {
                                (ScoreRule::Auc, true) => "is low",
                                (ScoreRule::Auc, false) => "is high",
                                (_, true) => "is silent",
                                (_, false) => "fires",
                            }
                        }
                        td.number { (three(neuron.predictivity)) }
                        @if let Some(test) = &probe.test { (share_cells(share(test, &neuron.rule, probe.score))) }
                        @if let Some(weighed) = &task.weighed { (evidence::cells(weighed.of(&counts, &neuron.rule))) }
                    }
                }
            }
        } }
    }
}
