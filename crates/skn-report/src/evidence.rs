//! What speaks for a task's neurons and against chance: columns and sentences.

use std::path::Path;

use maud::{Markup, html};
use skn_artifact::names::file;
use skn_artifact::{ChanceRecord, Evidence, NeuronRecord, RunRecord, TensorFile};
use skn_counts::{Performance, Pool, Rule, ScoreRule};

use crate::error::Result;
use crate::neurons::quantile;
use crate::number::{grouped, percent, range, scientific_short, three};
use crate::scoring::{Scoring, Weighing, with_areas};

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

    /// What was taken of texts for the counts that it is of.
    pub(crate) fn pool(&self) -> Option<Pool> {
        Pool::ALL.into_iter().find(|pool| pool.performance_file("dev") == self.record.counts)
    }

    /// The shuffles, where they are of the counts that are there now.
    pub(crate) fn chance(&self) -> Option<&ChanceRecord> {
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
pub(crate) fn explained(score: ScoreRule, of_prompt: bool) -> Markup {
    html! {
        @if score == ScoreRule::Auc {
            p { "p: the chance that activations that have nothing to do with the label order the texts so well or so badly"
                @if of_prompt { ", at the neuron's best position" } " (rank-sum test on dev, with ties). q: the same, with regard to how \
                many were tried: of pairs of neuron and position with a q of at most 0.05, 5 % at most are expected to be there by \
                chance. There is no p" sub { "max" } ": labels are shuffled against fire bits, which say nothing of areas." }
        } @else { p { "p: the chance that a neuron that has nothing to do with the label fires so unevenly for the classes"
            @if of_prompt { ", at its best position" } " (Fisher's exact test on dev). q: the same, with regard to how many were tried: of pairs of neuron and position \
            with a q of at most 0.05, 5 % at most are expected to be there by chance. p" sub { "max" } ": the chance that the best of \
            all neurons does as well where labels are shuffled." } }
    }
}

/// Whether it could be chance, in sentences; of a tuned prompt, or of a model as it is.
pub(crate) fn section(weighed: Option<&Weighed>, of_prompt: bool) -> Markup {
    html! {
        h3 { "Is it chance?" }
        @match weighed {
            None => p.missing { "What speaks against chance (evidence.json) is not here; made by " code { "skn-select" } "." },
            Some(weighed) if !weighed.current => p.warning {
                "The evidence is of other counts or fire bits than those that are here, or by another score: " code { "skn-select --force" } " makes it anew."
            },
            Some(weighed) => ul.findings { (sentences(weighed, of_prompt)) },
        }
    }
}

fn sentences(weighed: &Weighed, of_prompt: bool) -> Markup {
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
            // Fire bits are not kept of what a text's tokens come to.
            None if !weighed.pool().is_some_and(has_fire_bits) => {},
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
                @for (place, found) in few(&record.stability).into_iter().enumerate() {
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
            li { "Selected neurons (" (percent(&found.share)) " of each layer) fire for the same texts as one another: phi of a pair (0 if they have nothing to do with each other, 1 if they always fire together, \
                or never) \
                is " (three(found.among_selected)) " on average; with a neuron that was not selected it is "
                (three(found.with_others)) ", at most " (three(found.most_with_others)) "." }
        }
        @if of_prompt { li { "All this is of the tuned prompt. Of its states while training the one with the best score on dev was kept, so dev had a say in it too; test had none." } }
    }
}

/// At most six of many shares, the last one among them.
fn few<T>(all: &[T]) -> Vec<&T> {
    let step = all.len().div_ceil(6).max(1);
    all.iter().rev().step_by(step).collect::<Vec<_>>().into_iter().rev().collect()
}

/// Whether `skn-probe` keeps fire bits of what is taken of a text's activations.
fn has_fire_bits(pool: Pool) -> bool {
    matches!(pool, Pool::Position | Pool::Last)
}

/// How many shuffles do as well as the true labels on the same texts. A neuron's own chance can be of another: of a sample the
/// best neuron need not be the best of all texts.
pub(crate) fn reached(found: &ChanceRecord) -> usize {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_of_many_are_told() {
        assert_eq!(few(&[1, 2, 3]), [&1, &2, &3]);
        let twenty: Vec<u32> = (1..=20).collect();
        assert_eq!(few(&twenty), [&4, &8, &12, &16, &20]);
        assert!(few::<u32>(&[]).is_empty());
    }
}
