//! The pages in headless Chromium, where this machine has it: nothing is wider than a phone, and no text of a figure is cut off.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]
#![allow(clippy::print_stderr, reason = "who reads a test's output wants to know what it skipped")]

mod sample;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use skn_report::{Comparison, Report};

/// Chromium, by one of its names.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let named = |folder: PathBuf| {
        ["chromium", "chromium-browser", "google-chrome"].into_iter().map(move |name| folder.join(name))
    };
    std::env::split_paths(&path).flat_map(named).find(|file| file.is_file())
}

/// What is wrong with a page that is shown at a width, a line each; nothing where there is no browser.
///
/// The page stands in a frame of a page that has a script: it has none itself.
fn wrong(page: &str, width: usize) -> Option<String> {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no chromium on PATH");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
    let outer = format!(
        "<!DOCTYPE html><body><pre id=\"said\">nothing</pre>\
         <iframe id=\"page\" width=\"{width}\" height=\"900\" style=\"border:0\" srcdoc=\"{escaped}\"></iframe>\
         <script>{SCRIPT}</script></body>"
    );
    let file = folder.path().join("outer.html");
    fs::write(&file, outer).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = dom.split_once("<pre id=\"said\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let said = said.unwrap_or_else(|| panic!("no page: {}", String::from_utf8_lossy(&output.stderr))).0;
    assert_ne!(said, "nothing", "the script has not run");
    Some(said.trim().to_owned())
}

const SCRIPT: &str = r#"
document.getElementById("page").addEventListener("load", event => {
    const inner = event.target.contentDocument, said = ["seen"];
    const root = inner.documentElement;
    if (root.scrollWidth > root.clientWidth) said.push(`the page is ${root.scrollWidth} wide`);
    for (const svg of inner.querySelectorAll("svg")) {
        const box = svg.getBoundingClientRect();
        for (const text of svg.querySelectorAll("text")) {
            const own = text.getBoundingClientRect();
            const out = own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
            if (own.width > 0 && out) said.push(`${svg.getAttribute("aria-label")}: "${text.textContent}" is cut off`);
        }
    }
    document.getElementById("said").textContent = said.join("\n");
});
"#;

fn check(page: &str) {
    for width in [390, 1280] {
        if let Some(said) = wrong(page, width) {
            assert_eq!(said, "seen", "at {width} pixels");
        }
    }
}

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
    let runs: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    check(&Comparison::read(&runs).unwrap().html);
}

/// The check itself finds what it is for.
#[test]
fn what_is_cut_off_is_found() {
    let page = "<!DOCTYPE html><body style=\"margin:0\"><svg width=\"100\" height=\"40\" viewBox=\"0 0 100 40\" aria-label=\"figure\">\
                <text x=\"80\" y=\"20\">far too long for it</text></svg><div style=\"width:800px\">wide</div></body>";
    if let Some(said) = wrong(page, 390) {
        assert_eq!(said, "seen\nthe page is 800 wide\nfigure: \"far too long for it\" is cut off");
    }
}
