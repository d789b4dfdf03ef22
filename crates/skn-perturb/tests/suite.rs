//! Edits, and the golden case. One program, since each is linked anew.

mod edits;
mod golden;
