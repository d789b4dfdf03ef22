//! What speaks for a task's neurons and against chance: columns, sentences, and the figure of shuffled labels.

use std::path::Path;

use kuva::prelude::*;
use maud::{Markup, html};
use serde_json::{Value, json};
use skn_artifact::names::file;
use skn_artifact::{ChanceRecord, Evidence, NeuronRecord, RunRecord, TensorFile};
use skn_counts::{Performance, Rule, ScoreRule};

use crate::error::Result;
use crate::figure::{COLOURS, Figure, layout};
use crate::neurons::quantile;
use crate::number::{grouped, percent, range, scientific_short, three};
use crate::scoring::{Scoring, Weighing, with_areas};
use crate::table::Table;

/// About how many bars the figure has.
const BARS: f64 = 24.0;

/// The evidence of a task, and whether it is of the counts that are there now, and by the score that they are told by.
#[derive(Clone, Debug)]
pub(crate) struct Weighed {
    record: Evidence,
    current: bool,
}

impl Weighed {
    /// What a run has of a task; nothing if it has none.
    pub(crate) fn read(run: &Path, task: &str) -> Result<Option<Self>> {
        let Some(Weighing { record, mut current }) = Weighing::read(run, task)? else { return Ok(None) };
        if current {
            let counts = TensorFile::read(&run.join(task).join(file::tensors(&record.counts)))?;
            let scoring = Scoring::read(run, task, &RunRecord::read(run)?)?;
            let read = with_areas(Performance::read(&counts)?, &counts, "dev")?;
            current = scoring.of(&read).name() == record.score;
        }
        Ok(Some(Self { record, current }))
    }

    /// What is known of a rule of a file of counts, by its name without extension.
    pub(crate) fn of(&self, counts: &str, rule: &Rule) -> Option<&NeuronRecord> {
        if !self.current || self.record.counts != counts {
            return None;
        }
        self.record.best.iter().find(|found| {
            let place = (found.layer, found.index, found.position.unwrap_or(0), found.class);
            place == (rule.layer, rule.index, rule.position, rule.class)
        })
    }

    fn chance(&self) -> Option<&ChanceRecord> {
        self.record.chance.as_ref().filter(|chance| self.current && !chance.best.is_empty())
    }
}

/// A chance: ones that three decimals would make 0 by their power of ten.
pub(crate) fn chance(p: f64) -> Markup {
    if p > 0.0 && p < 0.000_5 {
        scientific_short(p)
    } else {
        html! { (three(p)) }
    }
}

/// The heads of a neuron's columns.
pub(crate) fn heads() -> Markup {
    html! { th.number { "p" } th.number { "q" } th.number { "p" sub { "max" } } }
}

/// A neuron's columns; a dash is what is not known.
pub(crate) fn cells(known: Option<&NeuronRecord>) -> Markup {
    let of = |value: fn(&NeuronRecord) -> Option<f64>| known.and_then(value).map(chance);
    html! {
        @for cell in [of(|known| known.p), of(|known| known.q), of(|known| known.p_max)] {
            td.number { @match cell { Some(cell) => (cell), None => "–" } }
        }
    }
}

/// What the columns mean.
pub(crate) fn explained(score: ScoreRule) -> Markup {
    html! {
        @if score == ScoreRule::Auc {
            p { "p: the chance that activations that have nothing to do with the label order the texts so well or so badly, at the neuron's \
                best position (rank-sum test on dev, with ties). q: the same, with regard to how many were tried: of pairs of neuron \
                and position with a q of at most 0.05, 5 % at most are expected to be there by chance. There is no p" sub { "max" }
                ": labels are shuffled against fire bits, which say nothing of areas." }
        } @else { p { "p: the chance that a neuron that has nothing to do with the label fires so unevenly for the classes, at its best \
            position (Fisher's exact test on dev). q: the same, with regard to how many were tried: of pairs of neuron and position \
            with a q of at most 0.05, 5 % at most are expected to be there by chance. p" sub { "max" } ": the chance that the best of \
            all neurons does as well where labels are shuffled." } }
    }
}

/// Whether it could be chance, in sentences.
pub(crate) fn section(weighed: Option<&Weighed>) -> Markup {
    html! {
        h3 { "Is it chance?" }
        @match weighed {
            None => p.missing { "What speaks against chance (evidence.json) is not here; made by " code { "skn-select" } "." },
            Some(weighed) if !weighed.current => p.warning {
                "The evidence is of other counts or fire bits than those that are here, or by another score: " code { "skn-select --force" } " makes it anew."
            },
            Some(weighed) => ul.findings { (sentences(weighed)) },
        }
    }
}

fn sentences(weighed: &Weighed) -> Markup {
    let record = &weighed.record;
    html! {
        @if let Some(class) = record.class {
            li { "All this is of class " (class) " against the rest: neurons were ranked for it alone." }
        }
        @match weighed.chance() {
            Some(chance) => li { (against_shuffles(chance)) },
            None if record.class.is_some() => li { "How well the best neuron does where labels are shuffled is known of all classes \
                together alone: " code { "skn-select" } " without " code { "--class" } " shuffles." },
            None if record.score == ScoreRule::Auc.name() => li { "Neurons are scored by the area under the ROC curve (auc). How well \
                the best one does where labels are shuffled is known of accuracy alone, so there is no p" sub { "max" } "." },
            None => li.missing { "How well the best neuron does where labels are shuffled is not known: " code { "skn-probe --fire-bits" }
                " keeps what is needed, " code { "skn-select" } " shuffles." },
        }
        @if record.rules > 0 {
            li { (grouped(record.rules)) " rules of " (grouped(record.neurons)) " neurons were tested one by one; "
                b { (grouped(record.discoveries)) } " neurons have a q of at most 0.05. Among pairs of neuron and position chosen \
                so, 5 % at most are expected to have nothing to do with the label." }
        }
        @if let Some(best) = record.best.first() {
            @if let (Some(test), Some(low), Some(high)) = (best.test, best.test_low, best.test_high) {
                li { "On test, which had no say in the choice of the neuron, its position or its direction, the best one has "
                    b { (three(test)) } " (95 % interval " (range(&[low, high])) ")." }
            }
        }
        @if let Some(first) = record.stability.first() {
            li { "Other texts select other neurons. Texts of dev were drawn anew " (grouped(first.draws)) " times; of all neurons that \
                dev or the draw selects, so many are in both on average (Jaccard index; in brackets 95 % of draws): "
                @for (place, found) in record.stability.iter().enumerate() {
                    @if place > 0 { ", " } "best " (percent(&found.share)) " " b { (three(found.mean)) } " (" (range(&found.interval)) ")"
                } "." }
        }
        @if !record.votes.is_empty() {
            li { "By majority of the best neurons: "
                @for (place, vote) in record.votes.iter().enumerate() {
                    @if place > 0 { ", " } (vote.neurons) @if vote.neurons == 1 { " neuron " } @else { " neurons " } (three(vote.dev))
                }
                // Votes were counted on the texts that have fire bits. How many these are is known where labels were shuffled.
                @match weighed.chance() {
                    Some(chance) if chance.sample => " on these texts, by which among others they were chosen.",
                    Some(_) => " on dev, where they were chosen.",
                    None => " on texts of dev, where they were chosen.",
                }
            }
        }
        @if let Some(found) = &record.correlation {
            li { "Selected neurons (" (percent(&found.share)) " of each layer) fire for the same texts as one another: phi of a pair \
                is " (three(found.among_selected)) " on average; with a neuron that was not selected it is "
                (three(found.with_others)) ", at most " (three(found.most_with_others)) "." }
        }
        li { "All this is of the tuned prompt: dev chose it too, test did not." }
    }
}

/// How many shuffles do as well as the true labels on the same texts. A neuron's own chance can be of another: of a sample the
/// best neuron need not be the best of all texts.
fn reached(found: &ChanceRecord) -> usize {
    found.best.iter().filter(|&&best| best >= found.measured).count()
}

fn against_shuffles(found: &ChanceRecord) -> Markup {
    let mut sorted = found.best.clone();
    sorted.sort_by(f64::total_cmp);
    let (median, most) = (quantile(&sorted, 0.5), quantile(&sorted, 1.0));
    html! {
        "The best of many neurons does well by chance too. Labels were shuffled " (grouped(found.draws)) " times"
        @if found.sample { " on " (grouped(found.texts)) " texts drawn from dev" }
        ", and each time the best of all neurons was taken: in half of them it has " (three(median)) " or less, "
        "in 95 % of them " (three(quantile(&sorted, 0.95))) " or less, " (three(most)) " at most. With the true labels the best neuron has "
        b { (three(found.measured)) }
        @match reached(found) {
            0 => ", which no shuffle reaches.",
            1 => ", which one shuffle reaches.",
            count => { ", which " (grouped(count as u64)) " of the shuffles reach." },
        }
    }
}

/// How well the best neuron does where labels are shuffled, and where they are not.
pub(crate) fn figure(name: &str, weighed: &Weighed) -> Option<Figure> {
    let found = weighed.chance()?;
    let mut sorted = found.best.clone();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (*sorted.first()?, *sorted.last()?);
    // Scores of few texts are few: bars between them would be a comb.
    let step = 1.0 / found.texts.max(1) as f64;
    let width = step * ((high - low) / step / BARS).ceil().max(1.0);
    let start = low - step / 2.0;
    let bars = (((high - start) / width).floor() as usize + 1).max(1);
    let mut counts = vec![0.0; bars];
    for value in &sorted {
        counts[(((value - start) / width).floor() as usize).min(bars - 1)] += 1.0;
    }
    let tallest = counts.iter().copied().fold(1.0, f64::max);
    let edges: Vec<f64> = (0..=bars).map(|edge| start + edge as f64 * width).collect();
    let end = edges[bars].max(found.measured);
    let mark = LinePlot::new().with_data(vec![(found.measured, 0.0), (found.measured, tallest)]);
    let plots = vec![
        Plot::Histogram(
            Histogram::from_bins(edges, counts)
                .with_color(COLOURS[2])
                .with_legend("best neuron, labels shuffled"),
        ),
        Plot::Line(
            mark.with_color(COLOURS[1]).with_stroke_width(3.0).with_legend("best neuron, true labels"),
        ),
    ];
    let margin = (end - start) * 0.05;
    let layout = layout(&plots)
        .with_x_label("predictivity of the best neuron on dev")
        .with_y_label("shuffles")
        .with_x_axis_min(((start - margin) * 20.0).floor() / 20.0)
        .with_x_axis_max(((end + margin) * 20.0).ceil() / 20.0)
        .with_y_axis_min(0.0)
        .with_y_axis_max(tallest * 1.08);
    let beyond = reached(found);
    let caption = match beyond {
        0 => format!(
            "Each of {} shuffles of the labels has a best neuron; bars count how well it does. None does as well as the best \
             neuron does with the true labels, {:.3}.",
            grouped(found.draws),
            found.measured
        ),
        _ => format!(
            "Each of {} shuffles of the labels has a best neuron; bars count how well it does. {} at least as well as the best \
             neuron does with the true labels, {:.3}.",
            grouped(found.draws),
            if beyond == 1 { "One does".into() } else { format!("{} do", grouped(beyond as u64)) },
            found.measured
        ),
    };
    // The true labels are no draw: their row has no number.
    let draws =
        found.best.iter().enumerate().map(|(draw, best)| [json!("shuffled"), json!(draw), json!(best)]);
    let measured = [json!("true"), Value::Null, json!(found.measured)];
    let table = Table::of(["labels", "draw", "best_predictivity"], std::iter::once(measured).chain(draws));
    Some(Figure::new(name, "What the best neuron has by chance", caption, table, (plots, layout)))
}
