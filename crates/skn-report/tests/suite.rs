//! The report. One program, since each is linked anew.

mod browser;
mod evidence;
mod report;

// What they share.
mod chromium;
mod sample;
