//! What the programs of skn share, whatever they compute: flags, exit codes, progress and signals. It depends on no tensors, so `skn-fetch` builds without any.

mod about;
mod cli;
mod console;
mod exit;
mod words;

pub use crate::about::refuse_or_tell;
pub use crate::cli::{Common, ProgressKind, parse, refuse};
pub use crate::console::{Console, Spelling, print, print_json, print_lines};
pub use crate::exit::{Failure, conclude, conclude_silently, exit_code, report};
pub use crate::words::typed_again;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
