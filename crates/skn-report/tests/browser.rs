//! The pages in headless Chromium, where this machine has it: nothing is wider than a phone, no text of a figure is cut off or lies on
//! another, and all can be read, in light and dark.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

use crate::chromium;
use crate::sample;

use std::path::{Path, PathBuf};

use chromium::{check, wrong};
use skn_report::{Comparison, Report};

fn sample_run(run: &Path) {
    sample::full(run, "sst2");
    sample::compared(run, "sst2");
}

#[test]
fn a_report_fits_a_phone_and_a_desktop() {
    let folder = tempfile::tempdir().unwrap();
    sample_run(folder.path());
    check(&Report::read(folder.path()).unwrap().html());
    sample::perturbation_by_share(folder.path(), "sst2");
    for name in ["noise-0.1", "a-name-that-is-long-and-that-somebody-has-given-to-one-of-many-sweeps"] {
        sample::sweep(folder.path(), "sst2", name);
    }
    check(&Report::read(folder.path()).unwrap().html());
}

#[test]
fn so_do_runs_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let runs = ["first", "second", "the-third-of-them"].map(|name| folder.path().join(name));
    runs.iter().for_each(|run| sample_run(run));
    for (run, name) in [
        (0, "zero"),
        (1, "zero"),
        (2, "a-name-that-is-long-and-that-somebody-has-given-to-one-of-many-sweeps"),
    ] {
        sample::sweep(&runs[run], "sst2", name);
    }
    let runs: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    check(&Comparison::read(&runs).unwrap().html);
}

/// The check itself finds what it is for.
#[test]
fn what_is_cut_off_is_found() {
    let page = "<!DOCTYPE html><body style=\"margin:0\"><svg width=\"100\" height=\"40\" viewBox=\"0 0 100 40\" aria-label=\"figure\">\
                <text x=\"80\" y=\"20\">far too long for it</text><text x=\"0\" y=\"20\" fill=\"#ccc\">pale</text>\
                <text x=\"40\" y=\"38\">on</text><text x=\"44\" y=\"38\">it</text></svg>\
                <div style=\"width:800px;color:#ccc\">wide</div></body>";
    if let Some([said]) = wrong(page, [390], false) {
        let expected = [
            "light",
            "the page is 800 wide",
            "figure: \"far too long for it\" is cut off",
            "\"figure: pale\": a contrast of 1.61",
            "figure: \"on\" lies on \"it\"",
            "\"wide\": a contrast of 1.61",
        ];
        assert_eq!(said, expected.join("\n"));
    }
}
