//! The programs of skn. Each is a [`Stage`]: its flags, and what it does with the library crates; [`program()`] does the
//! rest around it.
//!
//! ```no_run
//! use skn::stage::train::Train;
//!
//! fn main() -> std::process::ExitCode {
//!     skn::program::<Train>()
//! }
//! ```

// Doc comments of flags are help texts: `<mask>` and `owner/name[@revision]` stand for themselves.
#![allow(rustdoc::invalid_html_tags, rustdoc::broken_intra_doc_links)]

pub mod cli;
mod console;
mod exit;
mod fence;
mod program;
mod run;
mod score;
mod setup;
mod source;
pub mod stage;

pub use crate::console::Console;
pub use crate::program::{Call, Stage, program, program_of, run_stage};
