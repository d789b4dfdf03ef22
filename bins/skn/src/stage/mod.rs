//! The stages: one file for each program.

pub mod binarize;
pub mod evaluate;
pub mod experiment;
pub mod mask;
pub mod merge;
pub mod predict;
pub mod pretrain;
pub mod probe;
pub mod prune;
pub mod report;
pub mod run;
pub mod select;
pub mod tasks;
pub mod train;
pub mod verify;
