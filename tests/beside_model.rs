//! Tuned parameters beside a model that transformers loads lie in a folder of their own.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::fs;

use support::Desk;

/// Prunes a demo that was tuned by a method, in the form that `flag` asks for.
fn pruned(method: &str, flag: &str) -> Desk {
    let desk = Desk::new();
    desk.ok(&format!(
        "skn-train --model demo --task sentiment --model_type {method} --max-steps 2 --bz 4 --out run"
    ));
    desk.ok("skn-probe --resume_from run --splits train --out run");
    desk.ok("skn-probe --resume_from run --splits dev --out run");
    desk.ok("skn-select -a run/sentiment/dev_perf --shares 0.1 --out run");
    desk.ok(&format!(
        "skn-prune --resume_from run --info_path run/info/sentiment/0.1 --ths_path run/sentiment/train_avg {flag} --out pruned"
    ));
    support::write(&desk.path("texts"), "the food was good .\n");
    desk
}

#[test]
fn they_are_found_there() {
    for (method, flag, tensors) in [
        ("RobertaPrompt", "--dense", "adapter_model.safetensors"),
        ("RobertaAdapter", "--uniform", "adapter.safetensors"),
        ("RobertaBias", "--dense", "bitfit.safetensors"),
    ] {
        let desk = pruned(method, flag);
        // transformers looks for this file beside a model, and takes what it says for its own where PEFT is installed.
        assert!(!desk.path("pruned/best/adapter_config.json").exists());
        assert!(desk.path("pruned/best/tuned").join(tensors).is_file());
        let answer = |from: &str| desk.ok(&format!("skn-predict --resume_from {from} --input texts"));
        let expected = answer("pruned");
        // The parameters alone would be taken for the whole demo's.
        assert_eq!(answer("pruned/best"), expected);
        assert_eq!(answer("pruned/best/tuned"), expected);
        let said = desk.run("skn-predict --model pruned/best --task sentiment --input texts");
        assert!(said.stderr.contains(tensors) && said.stderr.contains("--resume_from"), "{}", said.stderr);
        desk.ok("skn-verify pruned");
        // What is tuned further stays where it was, in another run and in place.
        let train = "skn-train --resume_from pruned --max-steps 2 --bz 4";
        desk.ok(&format!("{train} --out tuned"));
        assert!(!desk.path("tuned/best/adapter_config.json").exists());
        assert!(desk.path("tuned/best/tuned").join(tensors).is_file());
        desk.ok("skn-verify tuned");
        desk.ok("skn-probe --resume_from tuned --probe_type speed --out tuned");
        desk.ok(&format!("{train} --out pruned"));
        desk.ok("skn-verify pruned");
        let [there, here] =
            ["tuned", "pruned"].map(|run| fs::read(desk.path(run).join("best/tuned").join(tensors)).unwrap());
        assert!(there == here, "{method}: in place as elsewhere");
        let changed = [&here[..here.len() - 1], &[here[here.len() - 1] ^ 1]].concat();
        fs::write(desk.path("pruned/best/tuned").join(tensors), changed).unwrap();
        desk.fails("skn-predict --resume_from pruned --input texts", 3, &[tensors, "expected SHA-256"]);
    }
}

/// Earlier programs put all into one folder.
#[test]
fn one_folder_for_both_is_read_too() {
    let desk = pruned("RobertaPrompt", "--dense");
    let expected = desk.ok("skn-predict --resume_from pruned --input texts");
    let mut skn = desk.json("pruned/best/skn.json");
    let files = skn["files"].as_object_mut().unwrap();
    fs::create_dir(desk.path("old")).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let hash = files.remove(&format!("tuned/{name}")).unwrap();
        files.insert(name.into(), hash);
        fs::rename(desk.path("pruned/best/tuned").join(name), desk.path("pruned/best").join(name)).unwrap();
    }
    support::copy(&desk.path("pruned/best"), &desk.path("old"));
    support::write(&desk.path("old/skn.json"), skn.to_string());
    assert_eq!(desk.ok("skn-predict --resume_from old --input texts"), expected);
    desk.ok("skn-train --resume_from old --max-steps 1 --bz 4 --out again");
    assert!(desk.path("again/best/adapter_model.safetensors").is_file(), "it stays what it was");
}
