//! The page: sections of sentences, tables and figures. maud escapes every text that comes from a file.

use std::collections::{BTreeMap, BTreeSet};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use skn_artifact::names::setting;
use skn_artifact::{DamageEvidence, RunRecord, StageRecord, Summary, UntunedSummary, visible};
use skn_counts::{Pool, ScoreRule};

use crate::axis::{asked_name, task_name};
use crate::blocks::{missing, named, show};
use crate::damage;
use crate::draw;
use crate::evidence;
use crate::figure::{Figure, PALETTE};
use crate::maps;
use crate::neurons::{Share, share};
use crate::number::{counted, grouped, p_value, percent, points, range, ratio, scientific, three, utc};
use crate::parts::{Parts, Probe, Task};
use crate::scoring::explained;

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
                header { h1 { (title) } p.lead { (lead(parts)) } }
                main {
                    (result(parts, figures))
                    (training(parts, figures))
                    (neurons(parts, figures))
                    (damage::answers(parts, figures))
                    (damage::perturbation(parts, figures))
                    (crate::rankings::section(parts, figures))
                    (speed(parts, figures))
                    (stages(&parts.record))
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
    let method = config.map(|config| {
        let place = if config.prompt_place.as_deref() == Some("after") { "behind" } else { "before" };
        format!("tuned by {}, {} rows {place} the text", config.method, config.prompt_size)
    });
    let words = config.map(|config| format!("answers: {}", config.verbalizer.words.join(", ")));
    let said: Vec<String> = [model, method, words].into_iter().flatten().collect();
    if said.is_empty() { "The run does not say its model.".into() } else { said.join("; ") + "." }
}

fn result(parts: &Parts, figures: &[Figure]) -> Markup {
    html! {
        section id="result" {
            h2 { "Result" }
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
            } @else {
                (missing("The final table (summary.json) is", "skn-run"))
            }
        }
    }
}

/// What a model does as it is, in sentences.
fn untuned(summary: &UntunedSummary) -> Markup {
    let best = &summary.best_neuron;
    html! {
        ul.findings {
            li { "Nothing was tuned. The model's own words have " (summary.metric) " " b { (three(summary.accuracy)) }
                " on " (grouped(summary.test_rows)) " rows of test (95 % interval " (range(&summary.interval))
                "); always guessing the most frequent class is right for a share of " (three(summary.majority)) "." }
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
    let (accuracy, interval) = (draw::points(&summary.accuracy), draw::points(&summary.interval));
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
    let edit = match setting.edit.as_str() {
        "gaussian" => "Gaussian noise",
        "zero" => "Zeros",
        "mean" => "Means",
        other => other,
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
            li { (edit) (alpha) " in the best " (percent(&setting.share)) " of each layer's neurons: "
                b { (change(accuracy.skill_perturbed)) " points" } "; in as many random ones: "
                (change(accuracy.random_perturbed)) " (mean of " (counted(setting.draws, "draw", "draws")) ")."
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

fn training(parts: &Parts, figures: &[Figure]) -> Markup {
    html! {
        section id="training" {
            h2 { "Training" }
            @if let Some(last) = parts.metrics.last() {
                p { (counted(parts.metrics.len(), "evaluation", "evaluations")) " in " (counted(last.step as usize, "step", "steps")) "; the last at epoch " (last.epoch)
                    ", with learning rate " (scientific(last.learning_rate)) " and gradient norm "
                    (three(last.gradient_norm)) "." }
                (show(figures, &named(&["training-loss", "training-score"]), None))
            } @else {
                (missing("The training curve (metrics.jsonl) is", "skn-train"))
            }
        }
    }
}

fn neurons(parts: &Parts, figures: &[Figure]) -> Markup {
    html! {
        section id="neurons" {
            h2 { "Neurons" }
            p { "A neuron fires for a text if its activation is above its mean over train. Its rule: the label is 1 if it \
                fires." }
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

/// Which factors of neurons were read, where it was not the product that goes on.
fn sites(task: &Task) -> BTreeSet<&str> {
    let sites = task.kinds().into_iter().filter_map(|(_, probe)| probe.site.as_deref());
    sites.filter(|site| *site != "product").collect()
}

fn task_neurons(parts: &Parts, task: &Task, figures: &[Figure]) -> Markup {
    let Some(probe) = &task.probe else {
        return html! {
            (missing("Predictivity (dev_perf) is", "skn-probe --probe_type acc")) (chance(task, figures)) (pooled(task))
        };
    };
    let mut names: Vec<String> = draw::OF_TASK.map(|name| task_name(task, name)).to_vec();
    names.extend(task.asked.iter().map(|asked| asked_name(task, asked)));
    names.extend(maps::NAMES.map(|name| task_name(task, name)));
    let uniform = !figures.iter().any(|figure| figure.name == task_name(task, draw::BY_POSITION));
    html! {
        p { (explained(&probe.dev, probe.score)) }
        (show(figures, &names, None))
        @if uniform { p.missing { "All layers and positions have the same best predictivity: there is no map to draw." } }
        @if probe.test.is_none() { (missing("Predictivity on test (test_perf) is", "skn-probe --probe_type acc")) }
        @if task.activations.is_none() {
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
        (chance(task, figures))
        (pooled(task))
    }
}

/// Whether the best neuron could be there by chance.
fn chance(task: &Task, figures: &[Figure]) -> Markup {
    let sentences = evidence::section(task.weighed.as_ref());
    show(figures, &[task_name(task, draw::CHANCE)], Some(sentences))
}

fn best_table(parts: &Parts, task: &Task, probe: &Probe) -> Markup {
    let many = probe.dev.classes() > 2;
    let counts = Pool::Position.performance_file("dev");
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
        @if task.weighed.is_some() { (evidence::explained(probe.score)) }
        div.scroll { table class="best-neurons" {
            thead { tr {
                th.number { "rank" } th.number { "layer" } th.number { "index" } th.number { "position" }
                @if many { th { "class" } }
                th { @if many { "the class if it" } @else { "label 1 if it" } } th.number { "dev" }
                @if probe.test.is_some() { th.number { "test" } th.number { "95 % interval" } }
                @if task.weighed.is_some() { (evidence::heads()) }
            } }
            tbody {
                @for (rank, neuron) in listed.iter().enumerate() {
                    tr {
                        td.number { (rank + 1) } td.number { (neuron.rule.layer) } td.number { (neuron.rule.index) }
                        td.number { (neuron.rule.position) }
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

/// Nothing is known of a class that the split has no text of.
fn share_cells(share: Option<Share>) -> Markup {
    match share {
        Some(Share { value, interval }) => {
            html! { td.number { (three(value)) } td.number { (range(&interval)) } }
        }
        None => html! { td.number { "–" } td.number { "–" } },
    }
}

/// The best neuron by prompt position beside that by mean and by maximum over the text.
fn pooled(task: &Task) -> Markup {
    if task.pooled.is_empty() {
        return missing(
            "A comparison with the mean and the maximum over a text's tokens (dev_mean_perf, dev_max_perf) is",
            "skn-probe --probe_type acc_mean,acc_max",
        );
    }
    html! {
        h3 { "What is taken of the activations" }
        div.scroll { table {
            thead { tr {
                th { "activation" } th.number { "layer" } th.number { "index" } th.number { "best on dev" }
                th.number { "the same on test" } th.number { "95 % interval" }
            } }
            tbody {
                @for (what, probe) in task.kinds() {
                    tr {
                        th { (what) } td.number { (probe.best().rule.layer) } td.number { (probe.best().rule.index) }
                        td.number { (three(probe.best().predictivity)) }
                        (share_cells(probe.test.as_ref().and_then(|test| share(test, &probe.best().rule, probe.score))))
                    }
                }
            }
        } }
    }
}

fn speed(parts: &Parts, figures: &[Figure]) -> Markup {
    let measured = |task: &&Task| task.performance.is_some() || task.time.is_some();
    let tasks: Vec<&Task> = parts.tasks.iter().filter(measured).collect();
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

fn stages(record: &RunRecord) -> Markup {
    let mut stages: Vec<_> = record.stages.iter().collect();
    stages.sort_by_key(|(name, stage)| (stage.started, *name));
    html! {
        section id="run" {
            h2 { "What was run" }
            @if stages.is_empty() {
                p.missing { "There is no record (run.json): every program of skn adds to it." }
            } @else {
                div.scroll { table {
                    thead { tr {
                        th { "stage" } th { "started (UTC)" } th.number { "seconds" } th { "version" } th.number { "files" }
                        th { "arguments" }
                    } }
                    tbody {
                        @for (name, stage) in &stages {
                            tr {
                                th { (name) } td.number { (utc(stage.started)) } td.number { (format!("{:.1}", stage.seconds)) }
                                td { (stage.version) } td.number { (stage.outputs.len()) }
                                td.arguments { code { (stage.arguments.join(" ")) } }
                            }
                        }
                    }
                } }
                p { "Together " (format!("{:.1}", stages.iter().map(|(_, stage)| stage.seconds).sum::<f64>()))
                    " seconds. This page was made by skn " (env!("CARGO_PKG_VERSION")) "." }
                details {
                    summary { "Settings and files of each stage" }
                    @for (name, stage) in &stages { (stage_details(name, stage)) }
                }
            }
        }
    }
}

fn stage_details(name: &str, stage: &StageRecord) -> Markup {
    // The first digits of a hash tell files apart; run.json has them all.
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let hashed = |files: &BTreeMap<String, String>| -> Vec<(String, String)> {
        files.iter().map(|(file, hash)| (file.clone(), short(hash))).collect()
    };
    let settings = stage.settings.clone().into_iter().collect();
    let lists =
        [("settings", settings), ("read", hashed(&stage.inputs)), ("written", hashed(&stage.outputs))];
    html! {
        h3 { (name) }
        dl {
            @for (what, list) in lists {
                @if !list.is_empty() {
                    dt { (what) }
                    dd { @for (name, value) in list { code { (name) " " (value) } " " } }
                }
            }
        }
    }
}
