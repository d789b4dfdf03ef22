//! What is read of a neuron, where a decoder's prompt stands, and models that nothing is tuned for, through the programs.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::reviews;
use crate::support;

use std::fs;

use reviews::{MODEL, desk, models};
use skn_artifact::TensorFile;
use support::{Desk, copy, write};

const TEXT: &str = "text = [\"text\"]";

fn file(desk: &Desk, name: &str) -> TensorFile {
    TensorFile::read(&desk.path(&format!("{name}.safetensors"))).unwrap()
}

fn site(desk: &Desk, name: &str) -> Option<String> {
    file(desk, name).metadata().get("skn.site").cloned()
}

#[test]
fn factors_are_read_where_neurons_are_products() {
    for family in ["llama", "modernbert"] {
        let desk = desk(family, TEXT);
        let probe = format!("skn-probe {MODEL} --prompt_size 2 --probe_type acc,acc_last,prompt_act");
        for site in ["product", "gate", "up"] {
            let said = desk.ok(&format!("{probe} --site {site} --save_to {site}"));
            assert_eq!(said.contains(&format!("(their {site})")), site != "product", "{said}");
            desk.ok(&format!("skn-report {site}"));
            let page = fs::read_to_string(desk.path(&format!("{site}/report.html"))).unwrap();
            assert_eq!(
                page.contains(&format!("is read at its <b>{site}</b>")),
                site != "product",
                "{family}: {site}"
            );
            for name in ["train_avg", "dev_perf", "test_last_perf", "prompt_activation"] {
                let found = self::site(&desk, &format!("{site}/reviews/{name}"));
                assert_eq!(found.as_deref(), Some(site), "{family}: {name}");
            }
        }
        desk.ok(&format!("{probe} --save_to usual"));
        let averages =
            |run: &str| file(&desk, &format!("{run}/reviews/train_avg")).f32("train_avg", None).unwrap().1;
        assert_eq!(averages("usual"), averages("product"), "{family}");
        assert!(averages("gate") != averages("product") && averages("gate") != averages("up"), "{family}");
        // Shards of one site, and not of two.
        for (shard, site) in [("1/2", "up"), ("2/2", "up")] {
            desk.ok(&format!("{probe} --site {site} --splits train --shard {shard} --save_to merged")
                .replace(",prompt_act", ""));
        }
        desk.ok("skn-merge --save_to merged");
        assert_eq!(averages("merged"), averages("up"), "{family}");
        let counts = format!("{probe} --splits dev --save_to merged").replace(",prompt_act", "");
        desk.fails(&counts, 3, &["train_avg.safetensors", "skn.site", "expected product", "found up"]);
        desk.ok(&counts.replace("skn-probe", "skn-probe --site up"));
        assert_eq!(site(&desk, "merged/reviews/dev_perf").as_deref(), Some("up"));
    }
}

#[test]
fn what_was_read_at_a_factor_is_not_edited() {
    let desk = desk("qwen3", TEXT);
    desk.ok(&format!("skn-train {MODEL} --epoch 1 --max-steps 1 --prompt_size 2 --save_to run"));
    for (site, run) in [("gate", "gate"), ("product", "run")] {
        desk.ok(&format!("skn-probe -p --resume_from run --site {site} --save_to {run}"));
        desk.ok(&format!("skn-select -a {run}/reviews/dev_perf --save_to {run} --shares 0.2"));
    }
    let expected =
        ["0.2.safetensors", "skn.site", "expected product, which alone can be edited or pruned, found gate"];
    let perturb = "skn-mask -p --resume_from run --save_to x --info_path";
    desk.fails(&format!("{perturb} gate/info/reviews/0.2"), 3, &expected);
    let prune = "skn-prune --resume_from run --save_to x --info_path";
    desk.fails(&format!("{prune} gate/info/reviews/0.2 --ths_path run/reviews/train_avg"), 3, &expected);
    let expected = ["gate/reviews/train_avg.safetensors", "skn.site", "found gate"];
    desk.fails(&format!("{prune} run/info/reviews/0.2 --ths_path gate/reviews/train_avg"), 3, &expected);
    desk.fails(
        &format!("{perturb} run/info/reviews/0.2 --type mean --ths_path gate/reviews/train_avg"),
        3,
        &expected,
    );
    desk.fails(
        "skn-select -a run/reviews/dev_perf,gate/reviews/dev_perf --save_to x",
        3,
        &["skn.site", "found gate"],
    );
}

#[test]
fn a_plain_ffn_has_no_factors() {
    let desk = desk("gpt2", TEXT);
    let probe = format!("skn-probe {MODEL} --probe_type acc_last");
    desk.fails(&format!("{probe} --site gate --save_to x"), 2, &["--site gate", "gpt2", "plain"]);
    desk.ok(&format!("{probe} --site product --save_to run"));
    assert_eq!(site(&desk, "run/reviews/dev_last_perf"), None);
}

const TRAIN: &str = "--epoch 1 --max-steps 6 --bz 8 --prompt_size 3 --eval_every_step 2 --checkpoint-every 2";

#[test]
fn a_prompt_in_front_goes_through_every_stage() {
    for family in ["llama", "gemma2", "gpt2"] {
        let desk = desk(family, TEXT);
        let train = format!("skn-train {MODEL} {TRAIN} --prompt_place front");
        let said = desk.run(&format!("{train} --save_to run"));
        let next = said.stderr.lines().find_map(|line| line.split_once("next: "));
        let (_, next) = next.unwrap_or_else(|| panic!("{}", said.stderr));
        assert!(next.ends_with("skn-probe --resume_from run --probe_type acc_last --out run"), "{next}");
        let config = desk.json("run/best/adapter_config.json");
        assert_eq!(
            (&config["task_type"], &config["num_virtual_tokens"]),
            (&"CAUSAL_LM".into(), &3.into()),
            "{family}"
        );
        assert_eq!(desk.json("run/best/skn.json")["prompt_place"], "front", "{family}");
        assert!(!desk.path("run/best/prompt.safetensors").exists(), "{family}");
        // Probed with acc_last; what a blind prompt can't tell is refused.
        let probe = "skn-probe -p --resume_from run --save_to run --probe_type";
        for blind in ["acc", "pos --pos 0,1", "acc_last,prompt_act"] {
            desk.fails(&format!("{probe} {blind}"), 2, &["--probe_type", "in front of the text", "acc_last"]);
        }
        desk.ok(&format!("{probe} acc_last,acc_mean,speed"));
        desk.ok("skn-select -a run/reviews/dev_last_perf --save_to run --shares 0.2");
        desk.ok("skn-mask -p --resume_from run --save_to run --info_path run/info/reviews/0.2");
        desk.ok("skn-prune --resume_from run --info_path run/info/reviews/0.2 --ths_path run/reviews/train_last_avg --save_to run/pruned");
        assert_eq!(desk.json("run/pruned/best/skn.json")["prompt_place"], "front", "{family}");
        desk.ok("skn-train -p --resume_from run/pruned --save_to run/again --epoch 1 --max-steps 2 --bz 8");
        write(&desk.path("texts"), "the band was superb .\nthe band was awful .\n");
        for from in ["run", "run/pruned", "run/again"] {
            assert_eq!(
                desk.ok(&format!("skn-predict --resume_from {from} --input texts")).lines().count(),
                2
            );
        }
        desk.ok("skn-verify run");
        desk.ok("skn-report run");
        // Another place than that of the loaded prompt.
        let loaded = format!("{probe} acc_last --overwrite").replace(" --overwrite", " --force");
        desk.ok(&format!("{loaded} --prompt_place front"));
        desk.fails(
            &format!("{loaded} --prompt_place after"),
            2,
            &["--prompt_place after", "in front of the text (front)"],
        );
        // Both places of one prompt are two tunings.
        let plain = train.replace("front", "after");
        desk.ok(&format!("{plain} --save_to after"));
        assert_eq!(desk.json("after/best/skn.json")["prompt_place"], "after", "{family}");
        desk.fails(
            &format!("{plain} --save_to run --resume"),
            3,
            &["checkpoint.safetensors", "prompt_place"],
        );
        desk.ok(&format!("{train} --save_to run --resume"));
    }
}

#[test]
fn a_training_in_front_that_was_stopped_goes_on_to_the_same_bytes() {
    let desk = desk("qwen2", TEXT);
    let train = format!("skn-train {MODEL} {TRAIN} --prompt_place front");
    let whole = format!("{train} --epoch 30 --max-steps 60 --save_to whole");
    desk.ok(&whole.replace("--epoch 1 --max-steps 6 ", ""));
    // Killed once it has a checkpoint, whatever it was doing then.
    let line = format!("{train} --epoch 30 --max-steps 60 --save_to part");
    let line = line.replace("--epoch 1 --max-steps 6 ", "");
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut child = desk.command(words[0], &words[1..]).spawn().unwrap();
    while !desk.path("part/last/checkpoint.safetensors").exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    desk.ok(&format!("{line} --resume"));
    let best = |run: &str| fs::read(desk.path(&format!("{run}/best/adapter_model.safetensors"))).unwrap();
    assert!(best("whole") == best("part"));
}

#[test]
fn a_folder_of_peft_is_a_prompt_in_front() {
    for family in ["llama", "gpt_neox"] {
        let desk = desk(family, TEXT);
        copy(&models().join("more").join(family).join("peft"), &desk.path("peft"));
        let probe = format!("skn-probe -p --resume_from peft {MODEL}");
        desk.ok(&format!("{probe} --probe_type acc_last --save_to run"));
        desk.fails(
            &format!("{probe} --probe_type acc --save_to x"),
            2,
            &["in front of the text", "acc_last"],
        );
        let after = format!("{probe} --probe_type acc_last --prompt_place after --save_to x");
        desk.fails(&after, 2, &["--prompt_place after", "in front of the text (front)"]);
        write(&desk.path("texts"), "the band was superb .\n");
        let model = "--model ./model --task-file reviews.toml";
        desk.ok(&format!("skn-predict --resume_from peft {model} --input texts"));
        // Trained further it is written as it came.
        desk.ok(&format!("skn-train -p --resume_from peft {MODEL} --epoch 1 --max-steps 1 --save_to again"));
        assert_eq!(desk.json("again/best/adapter_config.json")["task_type"], "CAUSAL_LM");
    }
}

#[test]
fn an_encoders_prompt_stands_in_front() {
    let desk = desk("modernbert", TEXT);
    let probe = format!("skn-probe {MODEL} --prompt_size 2 --probe_type acc");
    desk.ok(&format!("{probe} --prompt_place front --save_to run"));
    desk.ok(&format!("{probe} --save_to usual"));
    let bytes = |run: &str| fs::read(desk.path(&format!("{run}/reviews/train_avg.safetensors"))).unwrap();
    assert!(bytes("run") == bytes("usual"));
    desk.fails(
        &format!("{probe} --prompt_place after --save_to x"),
        2,
        &["--prompt_place after", "an encoder"],
    );
}

#[test]
fn a_text_without_a_token_is_nothing_to_read() {
    let desk = desk("llama", TEXT);
    let path = desk.path("data/train.jsonl");
    let rows = fs::read_to_string(&path).unwrap();
    write(&path, format!("{rows}\n{{\"text\": \"\", \"label\": 0}}"));
    let probe = format!("skn-probe {MODEL} --prompt_size 2");
    desk.ok(&format!("{probe} --probe_type acc --save_to run"));
    desk.fails(
        &format!("{probe} --probe_type acc,acc_last --save_to x"),
        3,
        &["row 48: expected at least one token"],
    );
}

#[test]
fn the_best_neuron_of_a_model_as_it_is() {
    for family in ["llama", "gpt2", "modernbert"] {
        let desk = desk(family, "template = \"{text} It was\"");
        let run = format!("skn-run {MODEL} --untuned");
        let said = desk.ok(&format!("{run} --out run"));
        let summary = desk.json("run/summary.json");
        // Counted again, from the counts alone.
        let [(dev, of_dev), (test, of_test)]: [(Vec<i64>, i64); 2] = ["dev", "test"].map(|part| {
            let file = file(&desk, &format!("run/reviews/{part}_last_perf"));
            let numbers = |name: &str| file.i64(name, None).unwrap().1;
            let (positives, dead) = (numbers("positives")[0], file.bool("dead", None).unwrap().1);
            let negatives = numbers("total")[0] - positives;
            // Twice the distance of balanced accuracy from 0.5, times both classes: dev has more of one.
            let margin = |((&correct, &hit), &dead): ((&i64, &i64), &bool)| {
                let alarm = negatives - (correct - hit);
                if dead { 0 } else { hit * negatives - alarm * positives }
            };
            let margins =
                numbers("correct").iter().zip(&numbers("true_positive")).zip(&dead).map(margin).collect();
            (margins, positives * negatives)
        });
        let most = dev.iter().map(|margin| margin.abs()).max().unwrap();
        let place = dev.iter().position(|margin| margin.abs() == most).unwrap();
        let held_out = test[place] * dev[place].signum();
        let best = &summary["best_neuron"];
        assert_eq!(
            (&best["layer"], &best["index"]),
            (&(place / 20).into(), &(place % 20).into()),
            "{family}: {best}"
        );
        let close = |found: &serde_json::Value, margin: i64, whole: i64| {
            (found.as_f64().unwrap() - 0.5 - margin as f64 / (2 * whole) as f64).abs() < 1e-12
        };
        assert!(
            close(&best["dev"], most, of_dev) && close(&best["test"], held_out, of_test),
            "{family}: {best}"
        );
        let frequent = {
            let rows = fs::read_to_string(desk.path("data/test.jsonl")).unwrap();
            let labels = rows
                .lines()
                .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap()["label"].clone());
            let ones = labels.filter(|label| *label == 1).count();
            ones.max(24 - ones) as f64 / 24.0
        };
        assert_eq!(summary["majority"], frequent, "{family}");
        // The program says it, its probe too, and so does the page.
        let told = format!("layer {}, index {}", place / 20, place % 20);
        assert!(said.matches(&told).count() >= 2, "{family}: {said}");
        let held_out = best["test"].as_f64().unwrap();
        assert!(said.contains(&format!("{held_out:.4}")), "{family}: {said}");
        let page = fs::read_to_string(desk.path("run/report.html")).unwrap();
        assert!(page.contains("Nothing was tuned") && page.contains(&told), "{family}");
        assert!(!desk.path("run/best").exists() && !desk.path("run/prune").exists(), "{family}");
        desk.ok("skn-verify run");
        // Answers are those of zero shots.
        let again = desk.ok(&format!("{run} --out run --resume"));
        assert!(again.contains(&told), "{again}");
        desk.fails(&format!("{run} --out run"), 3, &["run: a run is there", "--resume", "--force"]);
        desk.ok(&format!("{run} --out run --force"));
        assert_eq!(desk.json("run/summary.json")["best_neuron"], summary["best_neuron"], "{family}");
    }
}

#[test]
fn flags_of_tuning_are_none_of_an_untuned_run() {
    let desk = desk("llama", TEXT);
    for flag in ["--epoch 1", "--prompt_size 3", "--shares 0.1", "--draws 2", "--type zero", "--lr 0.1"] {
        desk.fails(
            &format!("skn-run {MODEL} --untuned {flag} --out run"),
            2,
            &["--untuned", "cannot be used with"],
        );
    }
}

#[test]
fn a_probe_tells_the_best_neuron_of_what_it_counted() {
    let desk = desk("llama", TEXT);
    let probe = format!("skn-probe {MODEL} --probe_type");
    let said = desk.ok(&format!("{probe} acc_last,acc_mean --save_to plain"));
    assert!(
        said.contains("best neuron: layer") && said.contains("by acc_last, balanced predictivity"),
        "{said}"
    );
    let said = desk.ok(&format!("{probe} acc,acc_last --prompt_size 2 --save_to random"));
    assert!(said.contains("at position") && said.contains("by acc_last, balanced predictivity"), "{said}");
    let said = desk.ok(&format!("{probe} acc_max --save_to max --json"));
    let found: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&found["best"]["probe"], found["best"].get("position")), (&"acc_max".into(), None), "{said}");
}
