//! The programs of skn. Each is a [`Stage`]: its flags, and the call of [`skn_session::Session`] that they ask for;
//! [`program()`] does the rest around it.
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
mod dry_run;
mod input;
mod next;
mod number;
mod program;
mod ranks;
mod shard;
pub mod stage;
mod wording;
mod words;
#[cfg(feature = "mpi")]
mod world;

pub use crate::console::Console;
pub use crate::program::{Call, Stage, program, program_of};
