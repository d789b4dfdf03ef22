//! The demo's chain on a device and on the CPU, as a user starts it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use skn_artifact::Summary;

use crate::Result;
use crate::table::Table;

/// Runs `skn-run` of the folder `programs` both ways and compares what they find.
pub(crate) fn check(table: &mut Table, device: &str, programs: &Path) {
    match both(device, programs) {
        Err(error) => table.fail("skn-run on the demo", error),
        Ok((found, cpu)) => compare(table, device, &found, &cpu),
    }
}

fn both(device: &str, programs: &Path) -> Result<(Found, Found)> {
    let folder = tempfile::tempdir()?;
    let found = run(programs, device, &folder.path().join("device"))?;
    Ok((found, run(programs, "cpu", &folder.path().join("cpu"))?))
}

/// What a run came to, and how long it took.
struct Found {
    summary: Summary,
    seconds: f64,
}

fn run(programs: &Path, device: &str, out: &Path) -> Result<Found> {
    let begun = Instant::now();
    let output = Command::new(programs.join("skn-run"))
        .args(["--device", device, "--quiet", "--out"])
        .arg(out)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", programs.join("skn-run").display()))?;
    let seconds = begun.elapsed().as_secs_f64();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("--device {device}: {}: {}", output.status, said.trim_end()).into());
    }
    Ok(Found { summary: serde_json::from_slice(&std::fs::read(out.join("summary.json"))?)?, seconds })
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
