//! What is whole in itself, but of another model or of other data than what it is used with.

use std::fs;

use crate::places::{self, Place, run_in};
use crate::support::{Desk, Said, write};

fn done(said: Said) {
    assert_eq!(said.code, 0, "{}", said.stderr);
}

fn refused(said: &Said, parts: &[&str]) {
    assert_eq!(said.code, 3, "{}", said.stderr);
    for part in parts {
        assert!(said.stderr.contains(part), "expected `{part}` in {}", said.stderr);
    }
}

#[test]
fn counts_of_another_model_are_not_ranked_with_these() {
    let desk = Desk::new();
    places::data(&desk);
    let place = Place::new(&desk, "case");
    let run = |line: &str| run_in(&desk, &place.0, line);
    for (name, bytes) in skn_demo::model_files() {
        let mut bytes = bytes.to_vec();
        if name.ends_with(".safetensors") {
            // The last bit of the last number, which is finite with either.
            let last = bytes.len() - 4;
            bytes[last] ^= 1;
        }
        write(&place.0.join("other-model").join(name), bytes);
    }
    for (model, out) in [("demo", "one"), ("other-model", "two")] {
        done(run(&format!(
            "skn-probe --model {model} --task-file ../mine.toml --data ../rows --prompt_size 3 --save_to {out}"
        )));
    }
    let both = "skn-select -a one/mine/dev_perf,two/mine/dev_perf --save_to out --shares 0.1";
    refused(
        &run(both),
        &["two/mine/dev_perf.safetensors", "skn.model_sha256", "one/mine/dev_perf.safetensors"],
    );
    done(run("skn-select -a one/mine/dev_perf,one/mine/test_perf --save_to out --shares 0.1"));
}

#[test]
fn binarized_data_that_were_made_anew_are_noticed() {
    let desk = Desk::new();
    let place = Place::new(&desk, "case");
    let run = |line: &str| run_in(&desk, &place.0, line);
    let inference = skn_demo::task_files("inference").unwrap();
    for (split, content) in inference.splits {
        let lines: Vec<&str> = std::str::from_utf8(content).unwrap().lines().take(60).collect();
        write(&place.0.join(format!("three/{split}.jsonl")), lines.join("\n"));
    }
    let words = inference
        .description
        .replace("\"yes\", \"maybe\", \"no\"", "\"negative\", \"neutral\", \"positive\"");
    write(&place.0.join("three.toml"), words.replace("\"inference\"", "\"three\""));
    let two = words.replace("\"negative\", \"neutral\", \"positive\"", "\"negative\", \"positive\"");
    write(&place.0.join("two.toml"), two.replace("\"inference\"", "\"two\""));
    let binarize = "skn-binarize --task-file three.toml --data three --out made";
    done(run(binarize));
    done(run(
        "skn-train --model demo --task-file two.toml --data made/three-pn --max-steps 2 --prompt_size 3 --save_to run",
    ));
    let probe = "skn-probe -p --resume_from run --splits train --save_to";
    done(run(&format!("{probe} out")));
    // Other rows are chosen.
    done(run(&format!("{binarize} --force --seed 1")));
    refused(&run(&format!("{probe} again")), &["data_sha256", "made/three-pn"]);
    assert!(!place.0.join("again/two").exists());
    done(run(&format!("{binarize} --force")));
    done(run(&format!("{probe} again")));
    let counts = |out: &str| fs::read(place.0.join(out).join("two/train_avg.safetensors")).unwrap();
    assert!(counts("out") == counts("again"));
}
