//! Command lines that can't be right, whatever the files are.

use super::Reader;
use crate::support::{Desk, write};

#[test]
fn flags_and_values() {
    let about = "Wrong flags and wrong values: nothing is read, nothing is written.";
    let mut user = Reader::new(Desk::original(), "flags", about);
    let train = "skn-train --data data/raw/sst2 --out run";
    user.told("No folder to write to", "skn-train --data data/raw/sst2", 2);
    user.told("A flag that is none", &format!("{train} --epocs 3"), 2);
    user.told("A flag of another program", &format!("{train} --shares 0.1"), 2);
    user.told("A number that is none", &format!("{train} --epoch many"), 2);
    user.told("No epoch", &format!("{train} --epoch 0"), 2);
    user.told("No text at once", &format!("{train} --batch 0"), 2);
    user.told("No learning rate", &format!("{train} --lr nan"), 2);
    user.told("A learning rate below 0", &format!("{train} --lr -1"), 2);
    user.told("No thread", &format!("{train} --threads 0"), 2);
    user.told("More threads than any machine has", &format!("{train} --threads 99999"), 2);
    user.told("A size that is none", &format!("{train} --max-data much"), 2);
    user.told("A method that is none", &format!("{train} --model_type RobertaMagic"), 2);
    user.told("A device that is none", &format!("{train} --device tpu"), 2);
    user.told("A task that is none", &format!("{train} --task sst3"), 2);
    user.told("Words for other classes", &format!("{train} --verb good"), 2);
    user.told("The same word twice", &format!("{train} --verb negative,negative"), 2);
    user.told("A prompt longer than the model", &format!("{train} --prompt_size 500"), 2);
    user.told("A prompt that leaves no room", &format!("{train} --prompt_size 126"), 2);
    user.told("Texts of no word", &format!("{train} --max-length 2"), 2);
    user.told("Tuned parameters from nowhere", &format!("{train} -p"), 2);
    user.told("No data", "skn-train --out run", 2);
    user.told("Two things that exclude each other", "skn-run --out run --force --resume", 2);
    user.told("A share above the half", "skn-run --out run --shares 0.6", 2);
    user.told("A layer that the model has not", "skn-run --out run --prune-layer 4", 2);
    user.told("A strength without its noise", "skn-run --out run --alpha 0.1", 2);
    let probe = "skn-probe --data data/raw/sst2 --out run --probe_type";
    user.told("A probe that is none", &format!("{probe} acc,magic"), 2);
    user.told("A neuron's activations, of no neuron", &format!("{probe} pos"), 2);
    user.told("A neuron in three numbers", &format!("{probe} pos --pos 1,2,3"), 2);
    user.told("A neuron in a layer that is none", &format!("{probe} pos --pos 4,0"), 2);
    user.told("A neuron beyond its layer", &format!("{probe} pos --pos 1,160"), 2);
    user.told("Factors of neurons that are no products", &format!("{probe} acc --site gate"), 2);
    user.told("A number of a neuron that is none", &format!("{probe} acc --site down"), 2);
    user.told("An encoder's prompt behind the text", &format!("{train} --prompt_place after"), 2);
    user.told("A place that is none", &format!("{train} --prompt_place middle"), 2);
    user.told("Tuning nothing, for an epoch", "skn-run --out run --untuned --epoch 1", 2);
    user.told("The time of a split", &format!("{probe} speed --splits dev"), 2);
    user.told("The third of two parts", &format!("{probe} acc --shard 3/2"), 2);
    user.told("No files of counts", "skn-select --out run", 2);
    user.told("Shares that are none", "skn-select -a counts --out run --shares a,b", 2);
    user.told("A mean of what", "skn-select -a counts --out run --type max", 2);
    user.told("No mask", "skn-mask --model demo --out run", 2);
    user.told("An edit that is none", "skn-mask --model demo --out run --info_path m --type magic", 2);
    user.told("The mean of no file", "skn-mask --model demo --out run --info_path m --type mean", 2);
    user.told("Nothing to prune by", "skn-prune --resume_from run --out run --info_path m", 2);
    let prune = "skn-prune --resume_from run --out run --info_path m --ths_path a";
    user.told("One width, and the full one", &format!("{prune} --uniform --dense"), 2);
    user.told("An argument that nobody takes", "skn-tasks sst2", 2);
    user.told("A report of no run", "skn-report", 2);
    user.told("A shape of three numbers", "skn-pretrain --out run --shape 96,4,384", 2);
    user.told("No document a step", "skn-pretrain --out run --batch 0", 2);
    assert!(!user.desk.path("run").exists(), "nothing is left behind");
    user.finish(49);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_was_not_built_in() {
    let mut user = Reader::new(Desk::original(), "device", "Devices and precisions that can not be had.");
    user.told("A GPU", "skn-train --data data/raw/sst2 --out run --device cuda:0", 5);
    user.told("A precision of GPUs", "skn-train --data data/raw/sst2 --out run --device cpu --dtype tf32", 2);
    let graphs = "skn-predict --model demo --task sentiment --input texts --cuda-graphs";
    user.told("Graphs of GPUs", graphs, 5);
    user.finish(3);
}

#[test]
fn task_files() {
    let mut user = Reader::new(Desk::original(), "task-files", "Descriptions of tasks that are wrong.");
    let line = "skn-train --data data/raw/sst2 --out run --task-file task.toml";
    let whole =
        "name = \"mine\"\ntext = [\"sentence\"]\nlabels = [\"bad\", \"good\"]\nsplits.train = \"train\"\n";
    let long = "a".repeat(300);
    let changed = |from: &str, to: &str| {
        assert!(whole.contains(from));
        whole.replace(from, to)
    };
    let template = |said: &str| changed("text = [\"sentence\"]", &format!("template = {said:?}"));
    let cases: [(&str, Vec<u8>); 19] = [
        ("A line that breaks off", changed("\"mine\"", "\"mine").into()),
        ("A key that nobody knows", format!("{whole}[split]\ntrain = \"train\"\n").into()),
        ("No words", changed("labels = [\"bad\", \"good\"]\n", "").into()),
        ("One word", changed("\"bad\", ", "").into()),
        ("The name of a file of a run", changed("mine", "run.json").into()),
        ("The name of a folder of a run", changed("mine", "Best").into()),
        ("A name of 300 characters", changed("mine", &long).into()),
        ("A name that leads elsewhere", changed("mine", "../mine").into()),
        ("A class that there is not", format!("{whole}label_map = {{ a = 0, b = 2 }}\n").into()),
        ("A name of two classes", format!("names = [\"a\", [\"b\", \"a\"]]\n{whole}").into()),
        ("A text that is the label", changed("\"sentence\"", "\"label\"").into()),
        ("No text", changed("text = [\"sentence\"]\n", "").into()),
        ("A template with a brace that never closes", template("Review: {sentence").into()),
        ("A template with a brace that closes nothing", template("{sentence} :}").into()),
        ("A template of no column", template("Review:").into()),
        ("A template that says the answer", template("{sentence} {label}").into()),
        ("A template beside another text", format!("template = \"{{title}}\"\n{whole}").into()),
        ("A template of a column that is not there", template("{sentence} {stars}").into()),
        (
            "Bytes of UTF-16",
            whole.encode_utf16().fold(vec![0xff, 0xfe], |mut bytes, unit| {
                bytes.extend(unit.to_le_bytes());
                bytes
            }),
        ),
    ];
    for (what, text) in cases {
        write(&user.desk.path("task.toml"), text);
        user.told(what, line, 3);
    }
    user.told(
        "A file that is not there",
        "skn-train --data data/raw/sst2 --out run --task-file mine.toml",
        3,
    );
    write(&user.desk.path("task.toml"), template(&format!("{} {{sentence}}", "so good".repeat(60))));
    user.told("A template longer than the model takes", line, 2);
    assert!(!user.desk.path("run").exists(), "nothing is left behind");
    user.finish(21);
}
