//! How long `skn-fetch` waits for a server that is silent, or sends a byte now and then.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::fetching;
use crate::hub;

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fetching::{Desk, Said, model, said, weights};
use hub::{Dribble, Hub};

/// With the patience of a second.
fn hurried(desk: &Desk, hub: &Hub, line: &str) -> (Said, Duration) {
    let began = Instant::now();
    let mut command = desk.command(hub, line);
    let said = said(command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1").env("HF_HUB_ETAG_TIMEOUT", "1"));
    (said, began.elapsed())
}

/// Does it with each at the same time: what waits needs no processor.
fn at_once<T: Send>(all: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for one in all {
            scope.spawn(|| check(one));
        }
    });
}

/// Long enough for a loaded machine, and far from what such a server takes: at 20 bytes a second hours.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_content_that_dribbles_ends_and_goes_on_where_it_stopped() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| hub.dribbles = Some(Dribble::Contents));
    let (said, took) = hurried(&desk, &hub, "owner/name --include model.safetensors");
    assert_eq!(said.code, 4, "{}", said.stderr);
    assert!(took < SOON, "{took:?}");
    for part in [
        "model.safetensors: ",
        " of 1200000 bytes are here; the same command goes on from there",
        " bytes came in ",
        " a second; expected 1024 a second at least (--least-rate)",
    ] {
        assert!(said.stderr.contains(part), "expected {part:?} in:\n{}", said.stderr);
    }
    assert!(!desk.snapshot().exists());
    let part = desk.blob(&format!("{}.incomplete", hub.stored("model.safetensors").hash()));
    let here = fs::metadata(part).unwrap().len();
    assert!(here > 1, "two connections brought some: {here}");
    hub.now(|hub| hub.dribbles = None);
    hub.asked();
    desk.ok(&hub, "owner/name");
    let range = hub.asked().into_iter().find_map(|asked| asked.headers.get("range").cloned());
    assert_eq!(range, Some(format!("bytes={here}-")));
    assert_eq!(fs::read(desk.snapshot().join("model.safetensors")).unwrap(), weights());
}

#[test]
fn a_rate_may_be_as_low_as_the_user_says() {
    at_once([("5", false), ("0", false), ("0", true)], |(rate, is_silent)| {
        let hub = Hub::new(fetching::MODEL, &[("config.json", &[b' '; 60])]);
        match is_silent {
            false => hub.now(|hub| hub.dribbles = Some(Dribble::Contents)),
            true => hub.now(|hub| (hub.cut, hub.stalls) = (Some(0), true)),
        }
        let line = format!("owner/name --include *.json --least-rate {rate}");
        let (said, took) = hurried(&Desk::new(), &hub, &line);
        if is_silent {
            // Silence ends all the same.
            assert!(said.code == 4 && took < SOON, "{took:?} {}", said.stderr);
            assert!(said.stderr.contains("nothing came for "), "{}", said.stderr);
        } else {
            assert_eq!(said.code, 0, "{line}: {}", said.stderr);
            assert!(took > Duration::from_secs(2), "{line}: longer than both patiences: {took:?}");
        }
    });
}

#[test]
fn a_list_and_headers_that_dribble_end_too() {
    let all: [(Dribble, bool, &[&str]); 3] = [
        (
            Dribble::List,
            true,
            &["the list of files broke off: ", " a second; expected 1024 a second at least"],
        ),
        (Dribble::Heads, true, &["config.json: 0 of 2 bytes are here", "no answer: nothing came for "]),
        // A mirror's list without hashes: headers are asked for before anything comes.
        (Dribble::Heads, false, &["no answer: nothing came for "]),
    ];
    at_once(all, |(dribbles, lists_hashes, parts)| {
        let hub = model();
        hub.now(|hub| (hub.dribbles, hub.lists_hashes) = (Some(dribbles), lists_hashes));
        let (said, took) = hurried(&Desk::new(), &hub, "owner/name");
        assert_eq!(said.code, 4, "{dribbles:?}: {}", said.stderr);
        assert!(took < SOON, "{dribbles:?}: {took:?}");
        for part in parts {
            assert!(said.stderr.contains(part), "{dribbles:?}: expected {part:?} in:\n{}", said.stderr);
        }
    });
}

#[test]
fn all_of_it_may_have_a_deadline() {
    at_once([Dribble::List, Dribble::Heads, Dribble::Contents], |dribbles| {
        let (hub, desk) = (model(), Desk::new());
        hub.now(|hub| hub.dribbles = Some(dribbles));
        let began = Instant::now();
        let parts = ["not here after 1 s (--timeout)", "the same command goes on from there"];
        desk.fails(&hub, "owner/name --timeout 1", 4, &parts);
        assert!(began.elapsed() < SOON, "{dribbles:?}");
        assert!(!desk.snapshot().exists());
        hub.now(|hub| hub.dribbles = None);
        desk.ok(&hub, "owner/name --timeout 600");
    });
    Desk::new().fails(&model(), "owner/name --timeout 0", 2, &["--timeout"]);
}

#[test]
fn a_time_that_is_none_is_named() {
    let (hub, desk) = (model(), Desk::new());
    let mut command = desk.command(&hub, "owner/name");
    let said = said(command.env("HF_HUB_DOWNLOAD_TIMEOUT", "soon"));
    assert_eq!(said.code, 2);
    let part = "HF_HUB_DOWNLOAD_TIMEOUT: expected a whole number of seconds, found \"soon\"";
    assert!(said.stderr.contains(part), "{}", said.stderr);
    assert_eq!(hub.connections(), 0);
}

/// Wherever it waits.
#[cfg(unix)]
#[test]
fn a_signal_ends_it_while_it_waits() {
    at_once([Dribble::List, Dribble::Heads, Dribble::Contents], |dribbles| {
        let (hub, desk) = (model(), Desk::new());
        hub.now(|hub| hub.dribbles = Some(dribbles));
        let mut child = desk.command(&hub, "owner/name").stderr(Stdio::piped()).spawn().unwrap();
        let asked = if dribbles == Dribble::List { 1 } else { 2 };
        while hub.connections() < asked {
            assert!(child.try_wait().unwrap().is_none(), "{dribbles:?}: it waits");
            std::thread::sleep(Duration::from_millis(5));
        }
        let began = Instant::now();
        Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(143), "{dribbles:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{dribbles:?}: {:?}", began.elapsed());
    });
}
