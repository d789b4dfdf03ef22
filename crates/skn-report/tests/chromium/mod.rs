//! A page in headless Chromium, where this machine has it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]
#![allow(clippy::print_stderr, reason = "who reads a test's output wants to know what it skipped")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

/// Chromium, by one of its names.
fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let named = |folder: PathBuf| {
        ["chromium", "chromium-browser", "google-chrome"].into_iter().map(move |name| folder.join(name))
    };
    std::env::split_paths(&path).flat_map(named).find(|file| file.is_file())
}

/// What is wrong with a page that is shown at each of some widths, a line each; nothing where there is no browser. A page that is too wide, a text
/// of a figure that is cut off, two that lie on one another, and any text that is hardly to be told from what is behind it: with a
/// contrast below 4.5, or 3 where it is large (WCAG 2.2, 1.4.3).
///
/// The page stands in a frame of a page that has a script: it has none itself.
pub(crate) fn wrong<const N: usize>(page: &str, widths: [usize; N], dark: bool) -> Option<[String; N]> {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no chromium on PATH");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
    let frames = widths.map(|width| {
        format!(
            "<pre>nothing</pre><iframe width=\"{width}\" height=\"900\" style=\"border:0\" srcdoc=\"{escaped}\"></iframe>"
        )
    });
    let outer = format!("<!DOCTYPE html><body>{}<script>{SCRIPT}</script></body>", frames.concat());
    let file = folder.path().join("outer.html");
    fs::write(&file, outer).unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("--blink-settings=preferredColorScheme={}", if dark { 0 } else { 1 }))
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .arg(format!("file://{}", file.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut said = dom.split("<pre>").skip(1).filter_map(|rest| rest.split_once("</pre>"));
    Some(widths.map(|width| {
        let (said, _) = said
            .next()
            .unwrap_or_else(|| panic!("no page of {width}: {}", String::from_utf8_lossy(&output.stderr)));
        assert_ne!(said, "nothing", "the script has not run");
        said.trim().to_owned()
    }))
}

const SCRIPT: &str = r#"
for (const frame of document.querySelectorAll("iframe")) frame.addEventListener("load", event => {
    const inner = event.target.contentDocument, said = [inner.defaultView.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"];
    const root = inner.documentElement, style = element => inner.defaultView.getComputedStyle(element);
    if (root.scrollWidth > root.clientWidth) said.push(`the page is ${root.scrollWidth} wide`);
    const parts = colour => (colour.match(/[\d.]+/g) || []).map(Number);
    const luminance = colour => {
        const [red, green, blue] = parts(colour).map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const contrast = (a, b) => {
        const [low, high] = [luminance(a), luminance(b)].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const paper = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = style(at).backgroundColor;
            if (parts(colour).length && parts(colour)[3] !== 0) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    const seen = (text, colour, behind, size) => {
        const found = contrast(colour, behind);
        if (found < (size >= 24 ? 3 : 4.5)) said.push(`"${text.trim()}": a contrast of ${found.toFixed(2)}`);
    };
    const inside = (box, x, y) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
    for (const svg of inner.querySelectorAll("svg")) {
        const box = svg.getBoundingClientRect(), label = svg.getAttribute("aria-label"), level = [];
        const cells = [...svg.querySelectorAll("rect, path")].filter(shape => parts(style(shape).fill).length);
        for (const text of svg.querySelectorAll("text")) {
            const own = text.getBoundingClientRect();
            if (own.width === 0) continue;
            const out = own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1;
            if (out) said.push(`${label}: "${text.textContent}" is cut off`);
            const [x, y] = [(own.left + own.right) / 2, (own.top + own.bottom) / 2];
            // What is drawn last is on top.
            const behind = cells.filter(shape => shape.tagName === "rect" && inside(shape.getBoundingClientRect(), x, y)
                && shape.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING).pop();
            seen(`${label}: ${text.textContent}`, style(text).fill, behind ? style(behind).fill : paper(svg), parseFloat(style(text).fontSize));
            if (!(text.getAttribute("transform") || "").includes("rotate")) level.push([text.textContent, own]);
        }
        level.forEach(([text, a], place) => level.slice(place + 1).forEach(([other, b]) => {
            const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
            const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
            // A text's box is higher than its letters.
            if (across > 1 && down > 0.4 * Math.min(a.height, b.height)) said.push(`${label}: "${text}" lies on "${other}"`);
        }));
    }
    for (const element of inner.body.querySelectorAll("*:not(svg *)")) {
        const own = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
        if (own.length) seen(own[0].textContent, style(element).color, paper(element), parseFloat(style(element).fontSize));
    }
    event.target.previousElementSibling.textContent = said.join("\n");
});
"#;

/// Fails where something is wrong with a page, on a phone or a desktop, in light or dark.
pub(crate) fn check(page: &str) {
    const WIDTHS: [usize; 2] = [390, 1280];
    thread::scope(|scope| {
        for (dark, expected) in [(false, "light"), (true, "dark")] {
            scope.spawn(move || {
                if let Some(said) = wrong(page, WIDTHS, dark) {
                    assert_eq!(said, [expected; 2], "at {WIDTHS:?} pixels");
                }
            });
        }
    });
}
