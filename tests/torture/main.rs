//! What a user does to the programs when things go wrong: they are killed, their disk is full, their files are damaged. Each
//! module is a row of RELIABILITY.md; a case is decided by its number, and one that fails is printed as the command that repeats it.
//!
//! `cargo test --test torture` runs every 23rd of CI's numbers, `SKN_ATTACKS=all cargo test --test torture` all, `SKN_FROM=1000 SKN_CASES=500 cargo test --test torture -- statistics` a campaign of
//! one row.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows it in tests, but not in their helpers"
)]

#[path = "../support/cases.rs"]
mod cases;
mod changed;
mod checkpoints;
mod configs;
#[cfg(target_os = "linux")]
mod contents;
#[path = "../support/damage.rs"]
mod damage;
#[cfg(target_os = "linux")]
mod disks;
mod escapes;
#[cfg(target_os = "linux")]
mod faults;
mod foreign;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod locks;
mod merge_files;
mod merges;
mod nan;
mod other;
mod places;
#[cfg(target_os = "linux")]
mod power;
mod resume;
mod same;
#[cfg(target_os = "linux")]
mod shop;
#[path = "../support/small.rs"]
mod small;
#[cfg(target_os = "linux")]
mod stages;
#[path = "../support/mod.rs"]
mod support;
#[cfg(target_os = "linux")]
mod torn;
#[cfg(target_os = "linux")]
mod tracing;
