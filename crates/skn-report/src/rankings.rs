//! Rankings of neurons compared: which of them finds those that matter?

use kuva::prelude::*;
use maud::{Markup, PreEscaped, html};
use serde_json::json;
use skn_artifact::{RankingComparison, RankingDamage};

use crate::figure::{COLOURS, Figure, INK, MUTED, layout, plain};
use crate::number::{percent, range, three};
use crate::parts::Parts;
use crate::table::Table;
use crate::task::Task;

/// What each ranking looks at, in a few words.
fn meaning(ranking: &str) -> &'static str {
    match ranking {
        "predictivity" => "how often \"above its average\" tells the class",
        "auc" => "how well its activation sorts the classes",
        "mean_difference" => "how far its averages of the classes lie apart",
        "correlation" => "how its activation goes with the class",
        "lape" => "whether it fires for one class more often than for others",
        "cett" => "how much of the layer's output it makes, whatever the class",
        "taylor" => "how much the loss would change without it, by the gradient",
        "gradient" => "whether pushing it moves the answer to the text's class",
        "integrated_gradients" => "what it adds to the answer on the way from nothing to what it is",
        "l1" => "its weight in a sparse regression on all neurons of its layer",
        "random" => "nothing: numbers of chance",
        _ => "",
    }
}

/// The name of a task's figure.
fn name(task: &Task) -> String {
    format!("{}-rankings", task.name)
}

pub(crate) fn figures(parts: &Parts) -> impl Iterator<Item = Figure> {
    parts.tasks.iter().filter_map(|task| Some(figure(&name(task), task.rankings.as_ref()?)))
}

fn shares(found: &RankingComparison) -> Vec<f64> {
    found.shares.iter().map(|share| share.parse().unwrap_or(0.0) * 100.0).collect()
}

/// How many draws of random neurons there are, in words.
fn draws(found: &RankingComparison) -> String {
    match found.draws {
        1 => "1 draw".into(),
        draws => format!("{draws} draws"),
    }
}

/// Which neurons are not among the random ones.
fn not_selected(found: &RankingComparison) -> String {
    found.excluded.as_ref().map_or_else(String::new, |name| format!(", none of them selected by {name}"))
}

/// What fills a share, by its number, where the ranking says nothing of some of its neurons.
fn drawn(of: &RankingDamage, share: usize) -> Option<String> {
    match of.unscored.get(share) {
        None | Some(0) => None,
        Some(1) => Some("1 of them has no score and was drawn".into()),
        Some(unscored) => Some(format!("{unscored} of them have no score and were drawn")),
    }
}

/// The metric by the share of neurons that are held at their average, a line for each ranking.
fn figure(name: &str, found: &RankingComparison) -> Figure {
    let shares = shares(found);
    let mut plots = Vec::new();
    for (number, of) in found.rankings.iter().enumerate() {
        let points: Vec<(f64, f64)> = shares.iter().copied().zip(of.scores.iter().copied()).collect();
        let line = LinePlot::new().with_data(points).with_color(COLOURS[number % COLOURS.len()]);
        // Beyond the colours that people tell apart lines differ by their stroke.
        let line = if number < COLOURS.len() { line } else { line.with_dotted() };
        plots.push(Plot::Line(line.with_stroke_width(2.0).with_legend(plain(&of.ranking))));
    }
    let mean: Vec<(f64, f64)> = shares.iter().copied().zip(found.random.iter().map(|of| of.mean)).collect();
    let bound = |side: usize| found.random.iter().map(|of| of.interval[side]).collect::<Vec<f64>>();
    let line = LinePlot::new().with_data(mean).with_color(MUTED).with_dashed().with_stroke_width(2.0);
    let legend = format!("random neurons, {}", draws(found));
    plots.push(Plot::Line(line.with_band(bound(0), bound(1)).with_legend(plain(&legend))));
    let layout = layout(&plots)
        .with_x_label("neurons of each layer held at their average (%)")
        .with_y_label(format!("{} on test", found.metric))
        .with_x_axis_min(0.0)
        .with_reference_line(ReferenceLine::horizontal(found.unperturbed).with_color(INK));
    let caption = format!(
        "Each line holds the best neurons of one ranking at their average; the lower it falls, the more the model's answers need \
         them. The horizontal line is the model as it is, with {:.3} on {} texts.",
        found.unperturbed, found.rows
    );
    Figure::new(name, "What the best neurons of each ranking do", caption, table(found), (plots, layout))
}

fn table(found: &RankingComparison) -> Table {
    let mut table = Table::new(["ranking", "share", "metric", "score", "low", "high"]);
    let mut push = |ranking: &str, share: &String, score: f64, [low, high]: [f64; 2]| {
        table.push([
            json!(ranking),
            json!(share.parse::<f64>().ok()),
            json!(found.metric),
            json!(score),
            json!(low),
            json!(high),
        ]);
    };
    for of in &found.rankings {
        let scores = of.scores.iter().zip(&of.intervals);
        found.shares.iter().zip(scores).for_each(|(share, (&score, &interval))| {
            push(&of.ranking, share, score, interval);
        });
    }
    for (share, of) in found.shares.iter().zip(&found.random) {
        push("random neurons", share, of.mean, of.interval);
    }
    table
}

/// What follows from the numbers: which ranking does most at the largest share, and whether chance does less.
fn verdict(found: &RankingComparison) -> Option<String> {
    let last = found.shares.len().checked_sub(1)?;
    let least = found.rankings.iter().min_by(|a, b| a.scores[last].total_cmp(&b.scores[last]))?;
    let (score, chance) = (least.scores[last], found.random.get(last)?);
    let share = percent(&found.shares[last]);
    let low = chance.draws.iter().copied().fold(f64::INFINITY, f64::min);
    Some(if score < low {
        format!(
            "With {share} of each layer held, the neurons of {} do most: {} is {} then, less than with {} of random neurons ({} on \
             average).",
            least.ranking,
            found.metric,
            three(score),
            if found.draws == 1 { "the one draw".into() } else { format!("any of the {}", draws(found)) },
            three(chance.mean)
        )
    } else {
        format!(
            "With {share} of each layer held, no ranking does more than random neurons may: {} is {} with those of {}, {} with the \
             worst draw of random neurons.",
            found.metric,
            three(score),
            least.ranking,
            three(low)
        )
    })
}

/// The section of the page; nothing where rankings were not compared.
pub(crate) fn section(parts: &Parts, figures: &[Figure]) -> Markup {
    let tasks: Vec<(&Task, &RankingComparison)> =
        parts.tasks.iter().filter_map(|task| Some((task, task.rankings.as_ref()?))).collect();
    let others: Vec<&Task> = parts.tasks.iter().filter(|task| task.has_other_rankings).collect();
    html! {
        @if !tasks.is_empty() || !others.is_empty() {
            section id="rankings" {
                h2 { "Which ranking finds the neurons that matter?" }
                @for task in others {
                    p.warning { "Task " (task.name) ": the rankings that were compared are of other tuned parameters than the counts that are \
                        here, and are not shown: " code { "skn-probe --rank .. --compare .. --force" } " makes them anew." }
                }
                p { "Neurons can be ranked in several ways on the same activations of dev. A ranking is good if the model's answers on test \
                     get worse when its best neurons are silenced, and do not when as many random ones are." }
                @for (task, found) in tasks {
                    @if parts.tasks.len() > 1 { h3 { "Task " (task.name) } }
                    @for figure in figures.iter().filter(|figure| figure.name == name(task)) {
                        div.figures { figure id=(figure.name) {
                            (PreEscaped(figure.inline())) figcaption { (figure.caption) }
                        } }
                    }
                    @if let Some(verdict) = verdict(found) { p { (verdict) } }
                    (damage(found))
                    (agreement(found))
                }
            }
        }
    }
}

fn damage(found: &RankingComparison) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "ranking" } th { "looks at" }
                @for share in &found.shares { th.number { (percent(share)) " held" } th.number { "95 % interval" } }
            } }
            tbody {
                @for of in &found.rankings { tr {
                    th { (of.ranking) } td { (meaning(&of.ranking)) }
                    @for (share, (score, interval)) in of.scores.iter().zip(&of.intervals).enumerate() {
                        td.number {
                            (three(*score))
                            @if let Some(drawn) = drawn(of, share) { br; small { (drawn) } }
                        }
                        td.number { (range(interval)) }
                    }
                } }
                tr {
                    th { "random neurons" } td { "mean of " (draws(found)) (not_selected(found)) }
                    @for of in &found.random { td.number { (three(of.mean)) } td.number { (range(&of.interval)) } }
                }
            }
        } }
    }
}

fn agreement(found: &RankingComparison) -> Markup {
    html! {
        @if !found.agreement.is_empty() {
            details {
                summary { "How far the rankings agree" }
                p { "Spearman's correlation is over all neurons that are not dead. Overlap is the neurons that both select, of those that either \
                     selects." }
                div.scroll { table {
                    thead { tr {
                        th { "ranking" } th { "and" } th.number { "Spearman" }
                        @for share in &found.shares { th.number { "overlap at " (percent(share)) } }
                    } }
                    tbody { @for of in &found.agreement { tr {
                        th { (of.a) } td { (of.b) }
                        td.number { (of.spearman.map_or("–".into(), three)) }
                        @for overlap in &of.overlap { td.number { (three(*overlap)) } }
                    } } }
                } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use skn_artifact::ShareDamage;

    use super::*;

    fn of(scores: [f64; 2], draws: [f64; 2]) -> RankingComparison {
        let damage = |ranking: &str, score| RankingDamage {
            ranking: ranking.into(),
            scores: vec![score],
            intervals: vec![[score - 0.1, score + 0.1]],
            unscored: Vec::new(),
        };
        let random = ShareDamage { mean: 0.85, interval: [0.8, 0.9], draws: draws.to_vec() };
        RankingComparison {
            task: "t".into(),
            metric: "accuracy".into(),
            rows: 100,
            edit: "mean".into(),
            shares: vec!["0.05".into()],
            unperturbed: 0.9,
            rankings: vec![damage("auc", scores[0]), damage("cett", scores[1])],
            random: vec![random],
            draws: 2,
            excluded: None,
            tuning_sha256: None,
            agreement: Vec::new(),
        }
    }

    #[test]
    fn who_was_drawn_is_said() {
        let mut found = of([0.7, 0.6], [0.8, 0.9]);
        let page = damage(&found).into_string();
        assert!(page.contains("mean of 2 draws<") && !page.contains("no score"), "{page}");
        (found.draws, found.excluded) = (1, Some("auc".into()));
        (found.rankings[0].unscored, found.rankings[1].unscored) = (vec![0], vec![12]);
        let page = damage(&found).into_string();
        for part in [
            "mean of 1 draw, none of them selected by auc<",
            "0.600<br><small>12 of them have no score and were drawn</small>",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert_eq!(page.matches("no score").count(), 1, "{page}");
        found.rankings[1].unscored = vec![1];
        assert!(damage(&found).into_string().contains("1 of them has no score and was drawn"));
        let verdict = verdict(&found).unwrap();
        assert!(verdict.contains("less than with the one draw of random neurons"), "{verdict}");
    }

    #[test]
    fn what_is_said_follows_from_the_numbers() {
        let found = verdict(&of([0.7, 0.6], [0.8, 0.9])).unwrap();
        assert!(
            found.contains("5 %") && found.contains("of cett do most") && found.contains("0.600"),
            "{found}"
        );
        let found = verdict(&of([0.82, 0.9], [0.8, 0.9])).unwrap();
        assert!(
            found.contains("no ranking does more") && found.contains("0.820 with those of auc"),
            "{found}"
        );
        assert_eq!(verdict(&RankingComparison { rankings: Vec::new(), ..of([0.0; 2], [0.0; 2]) }), None);
    }
}
