//! Activations of single neurons (`skn-probe --probe_type pos`): several at once, with their rows and texts, with a prompt or without.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use skn_artifact::TensorFile;
use support::{Desk, write};

/// A row's texts, and the class that its file says.
fn lines(desk: &Desk, name: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(desk.path(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn file(desk: &Desk, name: &str) -> TensorFile {
    TensorFile::read(&desk.path(&format!("{name}.safetensors"))).unwrap()
}

#[test]
fn several_neurons_are_kept_with_their_rows_and_texts() {
    let desk = Desk::new();
    desk.ok("skn-train --model demo --task sentiment --prompt_size 3 --max-steps 2 --bz 4 --out run");
    let probe = "skn-probe --resume_from run --probe_type pos --splits dev,test --out";
    desk.ok(&format!("{probe} run --pos 1,7 --pos 3,20 --pos 1,7 --with-texts"));
    desk.ok(&format!("{probe} alone --pos 3,20"));
    for split in ["dev", "test"] {
        let part = desk.json("run/split.json")[split]["rows"].as_array().unwrap().len();
        let texts = lines(&desk, &format!("run/sentiment/pos_{split}/texts.jsonl"));
        assert_eq!(texts.len(), part);
        for neuron in ["1,7", "3,20"] {
            let file = file(&desk, &format!("run/sentiment/pos_{split}/{neuron}"));
            let (shape, _) = file.f32("activation", None).unwrap();
            assert_eq!(shape, [part, 3]);
            let (_, rows) = file.i64("row", Some(&[part])).unwrap();
            let (_, labels) = file.i64("label", Some(&[part])).unwrap();
            for ((line, row), label) in texts.iter().zip(&rows).zip(&labels) {
                assert_eq!((&line["row"], &line["label"]), (&(*row).into(), &(*label).into()));
            }
        }
        // Beside another it is as it is alone.
        let [beside, alone] = ["run", "alone"].map(|run| {
            let name = format!("{run}/sentiment/pos_{split}/3,20.safetensors");
            std::fs::read(desk.path(&name)).unwrap()
        });
        assert!(beside == alone);
    }
    let first = &lines(&desk, "run/sentiment/pos_test/texts.jsonl")[0];
    assert!(first["texts"]["text"].as_str().unwrap().split(' ').count() > 2, "{first}");
    desk.ok("skn-verify run");
    let shard = "skn-probe --resume_from run --probe_type pos --pos 1,7 --splits dev --out parts --shard";
    for part in ["1/2", "2/2"] {
        desk.ok(&format!("{shard} {part}"));
    }
    desk.ok("skn-merge --out parts");
    let whole =
        |run: &str| std::fs::read(desk.path(&format!("{run}/sentiment/pos_dev/1,7.safetensors"))).unwrap();
    assert!(whole("parts") == whole("run"), "rows are merged too");
    desk.fails(&format!("{shard} 1/2 --with-texts --force"), 2, &["--shard 1/2", "--with-texts"]);
    desk.fails(
        "skn-probe --resume_from run --with-texts --out x",
        2,
        &["--with-texts: goes with --probe_type pos"],
    );
}

/// A model that has no words to answer with is read at the last token.
#[test]
fn a_model_without_a_head_has_positions_too() {
    let desk = Desk::new();
    write(
        &desk.path("reviews.toml"),
        "name = \"reviews\"\ntext = [\"text\"]\nnames = [\"negative\", \"positive\"]\n",
    );
    for (split, rows) in [("train", 24), ("test", 6)] {
        let line = |row: usize| {
            let word = ["awful", "good"][row % 2];
            format!("{{\"text\": \"the soup was {word} , no {row}\", \"label\": {}}}\n", row % 2)
        };
        write(&desk.path(&format!("rows/{split}.jsonl")), (0..rows).map(line).collect::<String>());
    }
    for (name, bytes) in skn_demo::model_files() {
        write(&desk.path(&format!("model/{name}")), bytes);
    }
    let path = desk.path("model/model.safetensors");
    let model = TensorFile::read(&path).unwrap();
    let mut headless = skn_artifact::TensorBundle::new();
    for name in model.names().filter(|name| !name.starts_with("lm_head")) {
        let (shape, values) = model.f32(name, None).unwrap();
        headless.insert(name, skn_artifact::Array::f32(shape, values).unwrap());
    }
    write(&path, headless.to_bytes().unwrap());
    let probe = "skn-probe --model ./model --task-file reviews.toml --data rows --out run";
    desk.ok(&format!("{probe} --probe_type acc_last"));
    desk.ok(&format!("{probe} --probe_type pos --pos best --pos 2,5 --splits test --with-texts"));
    let kept = file(&desk, "run/reviews/pos_test/2,5");
    assert_eq!(kept.metadata()["skn.pool"], "last");
    let (shape, values) = kept.f32("activation", None).unwrap();
    assert!(shape == [6, 1] && values.iter().any(|value| *value != values[0]), "{values:?}");
    assert_eq!(std::fs::read_dir(desk.path("run/reviews/pos_test")).unwrap().count(), 3, "best is another");
    desk.ok("skn-verify run");
}
