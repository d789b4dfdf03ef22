//! The recipes of the page on many machines that need none: the Jobs of Kubernetes, pod by pod with the variables that it sets,
//! and the lines for one machine. What they make must be what one process makes. `scripts/slurm-one-node.sh` runs those of Slurm.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::page::Page;
use crate::support::{Desk, Said, copy, write};

const PAGE: &str = "docs/how-to/cluster.md";

/// The text of a file that the page shows.
fn shown(page: &Page, name: &str) -> String {
    let block = page.blocks.iter().find(|block| block.file() == Some(name));
    block.unwrap_or_else(|| panic!("{PAGE} shows no {name}")).text.clone()
}

/// A tuned run in `RUN`, and in `WHOLE` the same, probed by one process.
fn desk() -> Desk {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --max-steps 5 --out RUN");
    copy(&desk.path("RUN"), &desk.path("WHOLE"));
    desk.ok("skn-probe --resume_from WHOLE --out WHOLE");
    desk
}

fn check(desk: &Desk) {
    let mut found = desk.contents("RUN");
    found.retain(|name, _| !name.starts_with("shards/"));
    let whole = desk.contents("WHOLE");
    assert!(
        ["train_avg", "dev_perf", "test_perf"]
            .iter()
            .all(|name| whole.contains_key(&format!("sentiment/{name}.safetensors")))
    );
    assert_eq!(found.keys().collect::<Vec<_>>(), whole.keys().collect::<Vec<_>>());
    let differing: Vec<&String> =
        whole.iter().filter(|(name, bytes)| found[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(differing.is_empty(), "{differing:?}");
}

/// What stands behind `name: ` in a manifest; its lists are JSON.
fn said<'a>(manifest: &'a str, name: &str) -> Option<&'a str> {
    manifest
        .lines()
        .find_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(name)?.strip_prefix(": "))
}

/// Runs a script of the page, with the programs and `bin/` of the desk in PATH.
fn script(desk: &Desk, page: &Page, name: &str) {
    write(&desk.path(name), shown(page, name));
    let programs = Path::new(env!("CARGO_BIN_EXE_skn-probe")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = [desk.path("bin"), programs.to_path_buf()].into_iter().chain(std::env::split_paths(&path));
    let mut command = Command::new("bash");
    command.arg(name).current_dir(desk.path("")).env("PATH", std::env::join_paths(places).unwrap());
    let said: Said = command.output().unwrap().into();
    assert_eq!(said.code, 0, "{name}\n{}{}", said.stdout, said.stderr);
}

#[test]
fn jobs_of_kubernetes_make_the_whole() {
    use std::os::unix::fs::PermissionsExt;
    let (page, desk) = (Page::read(PAGE.into()), desk());
    for name in ["shards.yaml", "merge.yaml"] {
        write(&desk.path(name), shown(&page, name));
    }
    // In place of a cluster: it keeps what it is given, in order.
    let kubectl = desk.path("bin/kubectl");
    write(&kubectl, "#!/bin/sh\nif [ \"$1\" = apply ]; then cat >\"given-$(ls | grep -c given-)\"; fi\n");
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    script(&desk, &page, "jobs.sh");
    for job in 0..4 {
        let manifest = fs::read_to_string(desk.path(&format!("given-{job}"))).unwrap();
        let words: Vec<String> = serde_json::from_str(said(&manifest, "command").unwrap()).unwrap();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (pods, shards) = match said(&manifest, "completions") {
            None => (1, None),
            Some(completions) => {
                assert_eq!(said(&manifest, "completionMode"), Some("Indexed"));
                let variables = said(&manifest, "env").unwrap();
                assert_eq!(variables, format!("[{{name: SKN_SHARDS, value: \"{completions}\"}}]"));
                (completions.parse().unwrap(), Some(completions))
            }
        };
        for pod in 0..pods {
            let mut command = desk.command(words[0], &words[1..]);
            if let Some(shards) = shards {
                command.env("JOB_COMPLETION_INDEX", format!("{pod}")).env("SKN_SHARDS", shards);
            }
            let said: Said = command.output().unwrap().into();
            assert_eq!(said.code, 0, "job {job}, pod {pod}\n{}", said.stderr);
        }
    }
    check(&desk);
}

#[test]
fn one_machine_makes_the_whole() {
    let (page, desk) = (Page::read(PAGE.into()), desk());
    script(&desk, &page, "machine.sh");
    check(&desk);
}
