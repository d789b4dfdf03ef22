//! What the words of the page mean, for who meets them for the first time.

use maud::{Markup, html};

/// Words with their meaning, in the order that they build on one another.
const WORDS: [(&str, &str); 11] = [
    (
        "neuron",
        "one of the numbers inside the model's feed-forward networks, between their two matrices. Layers and indices count from 0.",
    ),
    ("activation", "the value that a neuron has for a text."),
    (
        "prompt and its positions",
        "rows that are put beside each text, and tuned so that the model solves the task while the rest of it stays as it is. \
      A neuron has an activation at each of their positions; position 0 is the <mask> row of an encoder, where the answer is read.",
    ),
    (
        "train, dev, test",
        "three parts of the data. The prompt is tuned on train; neurons are chosen on dev; test had no say in either, so \
      that it tells how good they are on new texts.",
    ),
    (
        "fires, is silent",
        "a neuron fires for a text if its activation is above its mean over train, else it is silent.",
    ),
    (
        "predictivity",
        "how often the class is right if one looks at nothing but whether this one neuron fires, from 0.5 (no better than \
      a guess between two classes of one size) to 1.",
    ),
    ("skill neurons", "of each layer those with the highest predictivity, so many as a share says."),
    (
        "random neurons",
        "as many others, drawn by chance: what these do too has nothing to do with the choice.",
    ),
    ("point", "a hundredth: from 0.90 to 0.88 is \u{2212}2.0 points."),
    (
        "perturbing, pruning",
        "to perturb is to hold neurons at their mean, at 0, or to add noise to them; to prune is to take all others \
      than the selected ones out of the model.",
    ),
    (
        "95 % interval, p",
        "an interval made so contains the value for endless texts (or draws) 95 times of 100. p is how likely at least as \
      much would come about by chance alone.",
    ),
];

/// The list, folded.
pub(crate) fn section() -> Markup {
    html! {
        details.glossary {
            summary { "What the words on this page mean" }
            dl { @for (word, meaning) in WORDS { dt { (word) } dd { (meaning) } } }
        }
    }
}
