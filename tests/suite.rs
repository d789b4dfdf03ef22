//! The programs as users run them, each subject a module: `cargo test --test suite chain` runs one. They are one program, since to
//! link each would take longer than most of them run.

mod asked;
mod beside_model;
mod chain;
#[path = "../crates/skn-report/tests/chromium/mod.rs"]
mod chromium;
mod cuda_scripts;
mod docs;
mod dry_run;
mod errors;
mod evaluate;
mod experiments;
mod families;
mod fence;
mod fetched;
mod gguf;
mod interruption;
mod messages;
mod models;
mod mutations;
mod original;
mod own_data;
mod places;
mod positions;
mod predict;
mod programs;
mod resources;
mod runs;
mod sameness;
mod shards;
mod templates;
mod told;
mod walks;

// What they share.
#[path = "support/cases.rs"]
mod cases;
#[path = "support/damage.rs"]
mod damage;
#[path = "support/hub.rs"]
mod hub;
#[path = "docs/page.rs"]
mod page;
#[path = "support/reviews.rs"]
mod reviews;
#[path = "support/small.rs"]
mod small;
mod support;
