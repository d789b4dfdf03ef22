//! What was run, by `run.json`.

use std::collections::BTreeMap;

use maud::{Markup, html};
use skn_artifact::{RunRecord, StageRecord};

use crate::number::utc;

pub(crate) fn section(record: &RunRecord) -> Markup {
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
