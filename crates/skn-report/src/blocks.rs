//! What sections of a page are made of.

use maud::{Markup, PreEscaped, html};

use crate::figure::Figure;
use crate::neurons::Share;
use crate::number::{range, three};

/// What is not there, and what makes it.
pub(crate) fn missing(what: &str, program: &str) -> Markup {
    html! { p.missing { (what) " not here; made by " code { (program) } "." } }
}

/// The figures of these names that there are, side by side where the screen is wide, and `beside` after them.
pub(crate) fn show(figures: &[Figure], names: &[String], beside: Option<Markup>) -> Markup {
    let found: Vec<&Figure> =
        names.iter().filter_map(|name| figures.iter().find(|figure| &figure.name == name)).collect();
    html! {
        @if !found.is_empty() || beside.is_some() {
            div.figures {
                @for figure in found {
                    figure id=(figure.name) { (PreEscaped(figure.inline())) figcaption { (figure.caption) } }
                }
                @if let Some(beside) = beside { div { (beside) } }
            }
        }
    }
}

pub(crate) fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.into()).collect()
}

/// Nothing is known of a class that the split has no text of.
pub(crate) fn share_cells(share: Option<Share>) -> Markup {
    match share {
        Some(Share { value, interval }) => {
            html! { td.number { (three(value)) } td.number { (range(&interval)) } }
        }
        None => html! { td.number { "–" } td.number { "–" } },
    }
}
