//! The texts that excite the best neurons most.

use maud::{Markup, html};
use skn_artifact::names::top;
use skn_counts::{NeuronPlace, Pool, Predictor, TopTexts};

use crate::blocks::missing;
use crate::number::{grouped, three};
use crate::parts::Parts;
use crate::probe::Probe;
use crate::task::Task;

/// What a page says of them.
pub(crate) fn section(parts: &Parts, task: &Task, probe: &Probe) -> Markup {
    html! {
        h3 { "Texts that excite the best neurons most" }
        @match &task.top {
            None => (missing(&format!("They ({}) are", top::file(probe.pool.name(), "dev")), "skn-probe --probe_type top")),
            Some(found) if found.neurons().iter().all(|of| rank(probe, of).is_none()) => p.warning {
                "They are of neurons that are not the best of the counts that are here: " code { "skn-probe --probe_type top --force" }
                " finds them anew."
            },
            Some(found) => {
                p { "Of all texts of dev, those for which a neuron's activation is largest, the largest first; a long text is cut. The rule \
                    only asks whether the activation is above its mean over train, so a neuron can predict well though these few texts have \
                    nothing else in common." }
                @for (number, neuron) in found.neurons().iter().enumerate() {
                    @if let Some((rank, predictor)) = rank(probe, neuron) { (texts(parts, task, found, (number, rank, predictor))) }
                }
            }
        }
    }
}

/// The place of a neuron among the best, from 1, if its rule reads it there.
fn rank<'p>(probe: &'p Probe, neuron: &NeuronPlace) -> Option<(usize, &'p Predictor)> {
    let is = |of: &Predictor| {
        NeuronPlace { layer: of.rule.layer, index: of.rule.index, position: of.rule.position } == *neuron
    };
    (1..).zip(&probe.ranked).find(|(_, of)| is(of))
}

/// The texts of a neuron, folded.
fn texts(
    parts: &Parts,
    task: &Task,
    found: &TopTexts,
    (number, rank, predictor): (usize, usize, &Predictor),
) -> Markup {
    let (rule, texts) = (&predictor.rule, found.texts(number));
    let class = |class| parts.class(&task.name, class);
    let fires = if rule.silent { "is silent" } else { "fires" };
    let ruled = rule.class.unwrap_or(1);
    let of_class = texts.iter().filter(|text| text.class == ruled).count();
    html! {
        details.texts {
            summary {
                (rank) ". Layer " (rule.layer) ", index " (rule.index)
                @if found.pool() == Pool::Position { ", position " (rule.position) }
                ": class " (class(ruled)) " if it " (fires) "; of these texts " (of_class) " of " (texts.len()) " are of that class"
            }
            div.scroll { table {
                thead { tr { th.number { "activation" } th { "class" } th { "text" } th.number { "row" } } }
                tbody {
                    @for text in texts {
                        tr {
                            td.number { (three(f64::from(text.activation))) } td { (class(text.class)) }
                            td.text { @if text.excerpt.is_empty() { "–" } @else { (text.excerpt) } }
                            td.number { (grouped(text.row)) }
                        }
                    }
                }
            } }
        }
    }
}
