//! What every program says of itself.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::path::Path;

use support::Desk;

fn programs() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    std::fs::read_dir(folder).unwrap().map(|entry| name(&entry.unwrap().path())).collect()
}

#[test]
fn the_version_says_more_where_it_is_asked_to() {
    let desk = Desk::new();
    let programs = programs();
    assert!(programs.len() > 10, "{programs:?}");
    for program in programs {
        let short = desk.ok(&format!("{program} --version"));
        assert_eq!(short, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
        for line in ["--version -v", "-V --verbose", "-vV", "-v --version"] {
            let long = desk.ok(&format!("{program} {line}"));
            assert!(long.starts_with(&short), "{program} {line}: {long}");
            let names: Vec<&str> =
                long.lines().skip(1).map(|line| line.split_once(": ").unwrap().0).collect();
            let expected =
                ["commit", "target", "build", "compiler", "processors", "instructions", "kernels", "devices"];
            assert_eq!(names, expected, "{program} {line}");
        }
        let long = desk.ok(&format!("{program} --version -v"));
        let of = |name: &str| long.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
        assert!(of("target").starts_with(std::env::consts::ARCH), "{long}");
        assert!(of("compiler").starts_with("rustc 1."), "{long}");
        assert!(of("build").contains("opt-level"), "{long}");
        assert!(of("kernels").starts_with(std::env::consts::ARCH), "{long}");
        assert_eq!(of("instructions").contains("avx512f"), of("kernels").contains("avx512"), "{long}");
    }
}

#[test]
fn options_of_a_prompt_are_told_of_where_what_is_loaded_leaves_no_place_for_them() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --model_type RobertaBias --max-steps 1 --out run");
    let said = desk.run("skn-evaluate --resume_from run --prompt_size 5 --prompt_place front");
    assert_eq!(said.code, 0, "{}", said.stderr);
    for flag in ["--prompt_size", "--prompt_place"] {
        let warned = format!("{flag}: RobertaBias, as it was loaded, has no prompt");
        assert_eq!(said.stderr.matches(&warned).count(), 1, "{}", said.stderr);
    }
    let written = desk.run("skn-train --resume_from run --prompt_text good --max-steps 1 --out other");
    assert_eq!(written.code, 2, "{}", written.stderr);
    let expected = "--resume_from takes a tuned prompt; expected one of them";
    assert!(written.stderr.contains(expected), "{}", written.stderr);
}
