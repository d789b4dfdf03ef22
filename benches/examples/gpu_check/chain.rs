//! The demo's chain on a device and on the CPU, as a user starts it.

use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use skn_artifact::Summary;

use crate::Result;
use crate::table::Table;

/// Runs `skn-run` of the folder `programs` both ways and compares what they find.
pub(crate) fn check(table: &mut Table, device: &str, programs: &Path) {
    match both(device, programs, Instant::now() + table.left()) {
        Err(error) => table.fail("skn-run on the demo", error),
        Ok(None) => table.tell("skn-run on the demo", "left out", "no time is left"),
        Ok(Some((found, cpu))) => compare(table, device, &found, &cpu),
    }
}

fn both(device: &str, programs: &Path, end: Instant) -> Result<Option<(Found, Found)>> {
    let folder = tempfile::tempdir()?;
    let Some(cpu) = run(programs, "cpu", &folder.path().join("cpu"), end)? else { return Ok(None) };
    let found = run(programs, device, &folder.path().join("device"), end)?;
    Ok(found.map(|found| (found, cpu)))
}

/// What a run came to, and how long it took.
struct Found {
    summary: Summary,
    seconds: f64,
}

/// None if it was not done in time.
fn run(programs: &Path, device: &str, out: &Path, end: Instant) -> Result<Option<Found>> {
    let begun = Instant::now();
    let mut said = tempfile::tempfile()?;
    let mut child = Command::new(programs.join("skn-run"))
        .args(["--device", device, "--quiet", "--out"])
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone()?)
        .spawn()
        .map_err(|error| format!("{}: {error}", programs.join("skn-run").display()))?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() >= end => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    if !status.success() {
        let mut text = String::new();
        said.rewind()?;
        said.read_to_string(&mut text)?;
        return Err(format!("--device {device}: {status}: {}", text.trim_end()).into());
    }
    let summary = serde_json::from_slice(&std::fs::read(out.join("summary.json"))?)?;
    Ok(Some(Found { summary, seconds }))
}

/// A training follows other bits to another model, as good a one: each number must lie in the other's 95 % interval.
fn compare(table: &mut Table, device: &str, found: &Found, cpu: &Found) {
    let (a, b) = (&found.summary, &cpu.summary);
    let (of, to, within) = (&a.accuracy, &b.accuracy, &b.interval);
    for (what, found, expected, interval) in [
        ("untuned", of.untuned, to.untuned, within.untuned),
        ("tuned", of.tuned, to.tuned, within.tuned),
        ("skill neurons perturbed", of.skill_perturbed, to.skill_perturbed, within.skill_perturbed),
        ("random neurons perturbed", of.random_perturbed, to.random_perturbed, within.random_perturbed),
        ("pruned", of.pruned, to.pruned, within.pruned),
        ("pruned and tuned", of.pruned_tuned, to.pruned_tuned, within.pruned_tuned),
    ] {
        table.check(
            format!("skn-run on the demo, {what}"),
            format!("{found:.4}"),
            format!("cpu {expected:.4}, {:.4} to {:.4}", interval[0], interval[1]),
            (interval[0]..=interval[1]).contains(&found),
        );
    }
    let neuron = |summary: &Summary| {
        let best = &summary.best_neuron;
        format!("layer {}, {}: {:.4} on test", best.layer, best.index, best.test)
    };
    table.tell("skn-run on the demo, best neuron", neuron(a), format!("cpu {}", neuron(b)));
    let seconds = |found: &Found| format!("{:.1} s", found.seconds);
    table.tell(format!("skn-run on the demo, {device}"), seconds(found), format!("cpu {}", seconds(cpu)));
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn programs(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("skn-run");
        std::fs::write(&file, script).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    #[test]
    fn what_the_program_says_is_told_and_what_takes_too_long_is_left_out() {
        let later = || Instant::now() + Duration::from_secs(60);
        let out = tempfile::tempdir().unwrap();
        let found =
            run(programs("#!/bin/sh\necho no card >&2\nexit 5\n").path(), "cuda", out.path(), later());
        let error = found.err().unwrap().to_string();
        assert!(
            error.contains("--device cuda") && error.contains('5') && error.ends_with("no card"),
            "{error}"
        );
        let slow = programs("#!/bin/sh\nexec sleep 60\n");
        let begun = Instant::now();
        assert!(run(slow.path(), "cpu", out.path(), begun).unwrap().is_none());
        assert!(begun.elapsed() < Duration::from_secs(30));
        let missing = run(out.path(), "cpu", out.path(), later()).err().unwrap().to_string();
        assert!(missing.contains("skn-run"), "{missing}");
    }
}
