//! Reports of made-up run folders: what stands on the page, and what is said of a folder that is not whole.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers here")]

use crate::sample;

use std::fs;
use std::path::Path;

use sample::{BEST, DEV, LAYERS, POSITIONS, TEST, WIDTH};
use serde_json::json;
use skn_artifact::{
    Array, Evidence, InferenceTime, Overwrite, PerturbationResult, RunRecord, SkillConfig, StageRecord,
    Summary, TensorBundle, TensorFile, hash_file, read_json, write_file, write_json,
};
use skn_counts::{NeuronPlace, Pool, TopTexts};
use skn_report::{Comparison, Report, ReportError};

const TASK: &str = "sst2";

/// The report of the whole sample run after a change.
fn report(change: impl FnOnce(&Path)) -> skn_report::Result<Report> {
    let folder = tempfile::tempdir().unwrap();
    sample::full(folder.path(), TASK);
    evidence(folder.path());
    change(folder.path());
    Report::read(folder.path())
}

/// The least that a selection leaves to say of its neurons.
fn evidence(run: &Path) {
    let evidence = Evidence {
        score: "accuracy".into(),
        counts: "dev_perf".into(),
        counts_sha256: hash_file(&run.join(TASK).join("dev_perf.safetensors")).unwrap(),
        rules: (LAYERS * POSITIONS * WIDTH) as u64,
        discoveries: 12,
        neurons: (LAYERS * WIDTH) as u64,
        best: Vec::new(),
        chance: None,
        stability: Vec::new(),
        votes: Vec::new(),
        correlation: None,
        ..Evidence::default()
    };
    write_json(&run.join("info").join(TASK).join("evidence.json"), Overwrite::Refuse, &evidence).unwrap();
}

/// The page's text, each tag a `|`: the cells of a row stand in one string.
fn text(page: &str) -> String {
    let mut text = String::new();
    for piece in page.split('<') {
        let words = piece.split_once('>').map_or(piece, |(_, words)| words);
        text.push_str(words);
        if !text.ends_with('|') {
            text.push('|');
        }
    }
    text
}

/// After a change the page says this, each once or more, and nothing of that.
fn check(change: impl FnOnce(&Path), said: &[&str], unsaid: &[&str]) {
    let page = text(&report(change).unwrap().html());
    let lost: Vec<_> = said.iter().filter(|words| !page.contains(*words)).collect();
    let kept: Vec<_> = unsaid.iter().filter(|words| page.contains(*words)).collect();
    assert!(lost.is_empty() && kept.is_empty(), "not said: {lost:?}, said: {kept:?}\n{page}");
}

/// After a change there is no report, for input of the wrong form; the error names these.
fn check_error(change: impl FnOnce(&Path), named: &[&str]) {
    let error = report(change).unwrap_err();
    let said = error.to_string();
    assert!(named.iter().all(|words| said.contains(words)), "expected {named:?}, found {said}");
}

fn text_file(path: &Path, text: &str) {
    write_file(path, Overwrite::Replace, text.as_bytes()).unwrap();
}

fn change_json<T: serde::Serialize + serde::de::DeserializeOwned>(path: &Path, change: impl FnOnce(&mut T)) {
    let mut value = read_json(path).unwrap();
    change(&mut value);
    write_json(path, Overwrite::Replace, &value).unwrap();
}

#[test]
fn the_page_has_the_numbers_of_the_run() {
    let summary = [
        "|Tuning takes accuracy on test from 0.512 to |0.905|",
        "|One neuron – layer 2, index 87, prompt position 3 – has predictivity |0.883| on test",
        "(0.920 on dev, where it was chosen)",
        "With Gaussian noise of standard deviation 0.1 added to the best 10 % of each layer's neurons, accuracy changes by |−26.4 points|",
        "with the same done to as many random ones, by −2.2 (mean of 10 draws)",
        "|Pruned to 66.6 % of its parameters, the model is 1.34 times as fast and has 0.837 (−6.8 points); tuned again, \
         |0.889| (−1.6).|",
        "|untuned|0.512|0.479 to 0.545|",
        "|tuned|0.905|0.884 to 0.923|",
        "|skill neurons perturbed|0.641|0.609 to 0.672|",
        "|random neurons perturbed|0.883|0.860 to 0.902|",
        "|pruned|0.837|0.811 to 0.860|",
        "|pruned and retuned|0.889|0.866 to 0.908|",
        "|parameters|124\u{202f}697\u{202f}433|83\u{202f}049\u{202f}561|66.6 %|",
        "|ms per text, median|2.550|1.900|74.5 %|",
    ];
    let parts = [
        "Its rule: the label is 1 (positive) if it fires.",
        "Model demo; tuned: a prompt of 6 rows before the text (RobertaPrompt); answers: negative, positive.",
        "|24 evaluations in 6\u{202f}000 steps; the last at epoch 4, with learning rate 0.000",
        // Right for 32 of 400 the one way is right for 368 the other; 770 of 872, and Wilson's interval of that.
        "|1|2|87|3|is silent|0.920|0.883|0.860 to 0.903|",
        "The parameters kept are those of step 5\u{202f}000, with 0.929.",
        "|640 neurons, each at the best of its 6 positions.",
        "|1. Layer 2, index 87, position 3: class 1 (positive) if it is silent; of these texts 4 of 10 are of that class|",
        "|0.500|1 (positive)|long long",
        "long…|0|",
        "|0.484|0 (negative)|&lt;b&gt;bold&lt;/b&gt; &amp;  [31mred|1|",
        "|0.359|1 (positive)|the text of row 9 | its pair|9|",
        "|class 0 (negative), 200 texts|",
        "|prompt position|2|87|0.920|0.883|0.860 to 0.903|",
        "|skill|gaussian 0.1, per-text|10 %|0 to 3|64|0.905|10|0.643|",
        "|random|gaussian 0.1, per-text|10 %|0 to 3|64|0.905|10|0.884|",
        "|accuracy on test|0.905 on 872 texts, loss 0.270|",
        "2.512 × 10|12| for all texts",
        "|tokens per second|28\u{202f}346|",
        "|train|2025-01-01 00:00|412.7|0.1.0|1|--task sst2 --model demo --out run|",
        "|Together 548.5 seconds.",
        "|written|train.out ab|",
    ];
    check(|_| (), &[summary.as_slice(), &parts].concat(), &["not here", "NaN", "inf|", "by-share"]);
}

#[test]
fn the_page_needs_nothing_else() {
    let page = report(|_| ()).unwrap().html();
    assert!(!page.contains("<script") && !page.contains("@import") && !page.contains("src="));
    let addresses = page.matches("//").count();
    assert_eq!(
        addresses,
        page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count(),
        "only names, no addresses"
    );
    assert_eq!(page.matches("url(").count(), page.matches("url(#skn-").count());
}

/// Each file taken away, one thing is missing, and its program is named.
#[test]
fn a_part_that_is_absent_is_named_with_its_program() {
    let probe = ["sst2/dev_mean_perf.safetensors", "sst2/dev_max_perf.safetensors"];
    let parts: [(&[&str], &str); 10] = [
        (&["summary.json"], "skn-run"),
        (&["metrics.jsonl"], "skn-train"),
        (&["mask_perf.json"], "skn-mask"),
        (&["cmp_perf.json"], "skn-mask --cmp"),
        (&["sst2/dev_perf.safetensors"], "skn-probe --probe_type acc"),
        (&["sst2/test_perf.safetensors"], "skn-probe --probe_type acc"),
        (&["sst2/pos_dev/2,87.safetensors"], "skn-probe --probe_type pos --pos 2,87"),
        (&["sst2/dev_top.safetensors"], "skn-probe --probe_type top"),
        (&probe, "skn-probe --probe_type acc_mean,acc_max"),
        (&["sst2/inference_perf.json", "sst2/inference_time.json"], "skn-probe --probe_type speed"),
    ];
    for (files, program) in parts {
        let remove = |run: &Path| files.iter().for_each(|file| fs::remove_file(run.join(file)).unwrap());
        let page = text(&report(remove).unwrap().html());
        assert_eq!(page.matches("not here").count(), 1, "{files:?}");
        assert!(page.contains(&format!("not here; made by |{program}|.|")), "{files:?}: {page}");
    }
    let no_record = |run: &Path| fs::remove_file(run.join("run.json")).unwrap();
    check(no_record, &["There is no record (run.json)"], &["Together"]);
    let only_record = |run: &Path| {
        fs::remove_dir_all(run).unwrap();
        fs::create_dir(run).unwrap();
        sample::stages(run);
    };
    check(
        only_record,
        &["made by |skn-run|", "made by |skn-train|", "The run does not say its model."],
        &["<svg"],
    );
}

#[test]
fn one_pass_has_no_spread() {
    let one = |run: &Path| {
        change_json(&run.join("sst2/inference_time.json"), |time: &mut InferenceTime| {
            time.seconds.truncate(1)
        });
    };
    check(|_| (), &["Between the fastest pass and the slowest lie"], &["One pass does not say"]);
    check(one, &["One pass does not say how much times vary."], &["Between the fastest"]);
}

#[test]
fn texts_of_other_neurons_or_parameters_are_not_shown() {
    let of = |neurons: &[(usize, usize, usize)]| {
        let neurons = neurons.iter().map(|&(layer, index, position)| NeuronPlace { layer, index, position });
        TopTexts::new(Pool::Position, neurons.collect())
    };
    // The position of its best rule is another one.
    let other = (BEST.0, BEST.1, BEST.2 - 1);
    let warning = "They are of neurons that are not the best";
    let shown = |neurons: &[(usize, usize, usize)]| {
        let top = of(neurons);
        text(&report(|run| sample::top_texts(run, TASK, "dev_top", &top)).unwrap().html())
    };
    let page = shown(&[other]);
    assert!(page.contains(warning) && !page.contains("the text of row"), "{page}");
    let page = shown(&[other, BEST]);
    assert!(!page.contains(warning) && page.matches("the text of row 9").count() == 1, "{page}");
    let damaged = |run: &Path| {
        let path = run.join("sst2/dev_top.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() = 0xff;
        write_file(&path, Overwrite::Replace, &bytes).unwrap();
    };
    check_error(damaged, &["dev_top.safetensors"]);
}

/// A run of an encoder alone: only a text's mean and maximum were probed, and the stage noted that there is no head.
#[test]
fn an_encoder_without_a_head_has_figures_and_is_asked_for_nothing_impossible() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    sample::pooled(run, TASK);
    let stage = |settings: &[(&str, &str)]| StageRecord {
        settings: settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        inputs: [("model encoder".into(), "ab".into())].into(),
        ..Default::default()
    };
    RunRecord::update(run, "probe acc_max,acc_mean", stage(&[("masked_lm_head", "none")]), &[]).unwrap();
    let report = Report::read(run).unwrap();
    let names: Vec<String> = report.figures().into_iter().map(|(name, _)| name).collect();
    let expected =
        ["predictivity", "predictivity-by-layer", "dev-against-test", "predictivity-map", "pooling"];
    assert_eq!(names, expected.map(|name| format!("{TASK}-{name}")));
    let page = report.html();
    for name in &names {
        assert!(page.contains(&format!("<figure id=\"{name}\">")), "{name}");
    }
    let page = text(&page);
    let best = page.split_once("|One neuron – layer ").unwrap().1.split_once('.').unwrap().0;
    assert!(best.contains(", mean over text – has predictivity"), "{best}");
    for said in [
        "|Model encoder; nothing tuned.|",
        "no head that names words",
        "640 neurons, by mean over text.",
        "|Nothing was tuned.|",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
    for unsaid in [
        "skn-run",
        "skn-train",
        "skn-mask",
        "acc|",
        "type acc",
        "type speed",
        "--fire-bits",
        "tuned prompt",
        "position|",
    ] {
        assert!(!page.contains(unsaid), "{unsaid}: {page}");
    }
    // A model that has a head could be tuned: then the page says by what.
    RunRecord::update(run, "probe acc_max,acc_mean", stage(&[]), &[]).unwrap();
    let page = text(&Report::read(run).unwrap().html());
    for said in ["|Model encoder.|", "made by |skn-train|", "made by |skn-probe --probe_type acc|"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    // Two models are none.
    let other = StageRecord { inputs: [("model other".into(), "cd".into())].into(), ..Default::default() };
    RunRecord::update(run, "probe acc", other, &[]).unwrap();
    assert!(text(&Report::read(run).unwrap().html()).contains("|The run does not say its model.|"));
}

#[test]
fn the_same_folder_gives_the_same_bytes() {
    let [first, second] = [report(|_| ()).unwrap(), report(|_| ()).unwrap()];
    assert_eq!(first.html(), second.html());
    assert_eq!(first.figures(), second.figures());
}

#[test]
fn figures_stand_alone() {
    let report = report(|run| sample::perturbation_by_share(run, TASK)).unwrap();
    let figures = report.figures();
    let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
    let of_task = ["predictivity", "predictivity-by-layer", "predictivity-by-position", "dev-against-test"];
    let mut expected: Vec<String> = ["summary", "training-loss", "training-score"].map(String::from).to_vec();
    expected.extend(
        of_task
            .into_iter()
            .chain(["activations", "predictivity-map", "pooling"])
            .map(|name| format!("{TASK}-{name}")),
    );
    expected.extend(["perturbation", "perturbation-by-share", "sst2-speed"].map(String::from));
    assert_eq!(names, expected);
    let page = report.html();
    for (name, svg) in figures {
        well_formed(&svg);
        assert!(
            svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && svg.contains("--skn-ink:"),
            "{name}"
        );
        assert!(page.contains(&format!("<figure id=\"{name}\">")), "{name} is on the page");
    }
}

/// Tags close in the order they open, and no text has a character that would start one.
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let (tag, after) = piece.split_once('>').unwrap_or_else(|| panic!("<{piece} does not end"));
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed by </{tag}>");
        } else if !tag.ends_with('/') && !tag.starts_with('!') {
            open.push(name);
        }
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&apos;", "&#"];
        let escaped = |text: &str| {
            text.match_indices('&').all(|(at, _)| entities.iter().any(|e| text[at..].starts_with(e)))
        };
        assert!(escaped(tag) && escaped(after), "<{piece}");
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

#[test]
fn text_of_files_is_never_markup() {
    let hostile = "<b onclick='x'>&\"$\\";
    let change = |run: &Path| {
        change_json(&run.join("best/skn.json"), |config: &mut SkillConfig| {
            config.verbalizer.words[0] = hostile.into();
            config.metric = hostile.into();
        });
        change_json(&run.join("summary.json"), |summary: &mut Summary| {
            summary.task = hostile.into();
            summary.model = hostile.into();
            summary.perturbation.edit = hostile.into();
        });
        change_json(&run.join("mask_perf.json"), |result: &mut PerturbationResult| {
            result.mask = hostile.into();
            result.edit = hostile.into();
            result.metric = hostile.into();
        });
        change_json(&run.join("sst2/inference_time.json"), |time: &mut InferenceTime| {
            time.device = hostile.into();
        });
        change_json(&run.join("run.json"), |record: &mut serde_json::Value| {
            record.as_object_mut().unwrap().remove("sha256");
            let train = &mut record["stages"]["train"];
            train["arguments"].as_array_mut().unwrap().push(hostile.into());
            train["settings"].as_object_mut().unwrap().insert(hostile.into(), hostile.into());
        });
        // A folder may have any name.
        fs::rename(run.join(TASK), run.join("<i>&")).unwrap();
    };
    let report = report(change).unwrap();
    let page = report.html();
    assert!(!page.contains("<b ") && !page.contains("<i>") && page.contains("&lt;b onclick"));
    report.figures().iter().for_each(|(_, svg)| well_formed(svg));
    let svgs: Vec<&str> =
        page.split("<svg").skip(1).map(|rest| rest.split_once("</svg>").unwrap().0).collect();
    svgs.iter().for_each(|svg| well_formed(&format!("<svg{svg}</svg>")));
}

#[test]
fn results_by_share_are_a_curve_and_a_row_each() {
    let rows = ["|skill|gaussian 0.1, per-text|1 %|0 to 3|", "|random|gaussian 0.1, per-text|20 %|0 to 3|"];
    check(|run| sample::perturbation_by_share(run, TASK), &rows, &[]);
}

/// Results of masks of the worst neurons, or of a ranking that was made elsewhere, are told apart, and lie on no curve of others.
#[test]
fn neurons_that_are_not_the_best_are_not_shown_as_such() {
    let change = |run: &Path| {
        sample::perturbation_by_share(run, TASK);
        change_json(&run.join("mask_perf.json"), |results: &mut Vec<PerturbationResult>| {
            results[0].lowest = true;
            results[1].lowest = true;
            results[2].ranking = Some("random".into());
        });
    };
    let said = [
        "Beside its share stands how they were chosen, where they are not the best by predictivity: ",
        "|skill|gaussian 0.1, per-text|1 %, worst|0 to 3|",
        "|skill|gaussian 0.1, per-text|5 %, by random|0 to 3|",
        "|skill|gaussian 0.1, per-text|20 %|0 to 3|",
    ];
    check(change, &said, &["|skill|gaussian 0.1, per-text|1 %|"]);
    let page = report(change).unwrap().html();
    for curve in [
        "skill neurons, gaussian 0.1, worst",
        "skill neurons, gaussian 0.1, by random",
        "skill neurons, gaussian 0.1<",
    ] {
        assert!(page.contains(curve), "{curve}");
    }
    check(|run| sample::perturbation_by_share(run, TASK), &[], &["Beside its share stands", ", worst"]);
}

/// The words of the classes are those of the task that the run was tuned for.
#[test]
fn another_task_has_its_own_section() {
    let another = |run: &Path| {
        sample::counts(run, "imdb");
        sample::activations(run, "imdb");
    };
    check(
        another,
        &["|Task sst2|", "|class 0 (negative), 200 texts|", "|Task imdb|", "|class 0, 200 texts|"],
        &[],
    );
    let figures = report(another).unwrap().figures();
    let place = |name| figures.iter().position(|figure| figure.0 == name).unwrap();
    assert!(place("imdb-activations") < place("sst2-predictivity"), "in the order of names");
}

/// The SVG of a figure after a change.
fn figure(name: &str, change: impl FnOnce(&Path)) -> String {
    let figures = report(change).unwrap().figures();
    figures.into_iter().find(|figure| figure.0 == name).unwrap().1
}

#[test]
fn activations_are_those_of_the_best_neuron_at_its_position() {
    let name = "sst2-activations";
    let as_it_is = figure(name, |_| ());
    let elsewhere = |run: &Path| {
        let path = run.join("sst2/pos_dev/2,87.safetensors");
        let file = TensorFile::read(&path).unwrap();
        let (shape, mut values) = file.f32("activation", None).unwrap();
        let (_, labels) = file.i64("label", None).unwrap();
        for (place, value) in values.iter_mut().enumerate() {
            if place % POSITIONS != BEST.2 {
                *value = 9.0;
            }
        }
        let activation = ("activation", Array::f32(shape.to_vec(), values).unwrap());
        sample::tensors(&path, "pos", vec![activation, ("label", Array::i64(vec![DEV], labels).unwrap())]);
    };
    assert_eq!(figure(name, elsewhere), as_it_is, "other positions have no say");
    let averages = |best: f32, others: f32| {
        move |run: &Path| {
            let mut averages = vec![others; LAYERS * POSITIONS * WIDTH];
            averages[(BEST.0 * POSITIONS + BEST.2) * WIDTH + BEST.1] = best;
            let average = Array::f32(vec![LAYERS, POSITIONS, WIDTH], averages).unwrap();
            sample::tensors(
                &run.join("sst2/train_avg.safetensors"),
                "train_avg",
                vec![("train_avg", average)],
            );
        }
    };
    assert_eq!(figure(name, averages(sample::THRESHOLD, 0.2)), as_it_is, "nor have other neurons' means");
    assert_ne!(figure(name, averages(0.2, 0.2)), as_it_is, "the threshold is drawn");
}

#[test]
fn rows_of_the_perturbation_are_called_by_their_name() {
    // kuva writes an axis from its foot, and the dots in the same order.
    let svg = figure("perturbation", |_| ());
    let place = |words: &str| svg.find(words).unwrap();
    assert!(place("random, 10 %, gaussian 0.1") < place("skill, 10 %, gaussian 0.1"));
    assert!(svg.rfind("--skn-3, ").unwrap() < svg.rfind("--skn-2, ").unwrap());
}

#[test]
fn of_more_classes_the_best_neuron_is_read_for_its_class() {
    let three = |run: &Path| {
        let shape = vec![3, LAYERS, POSITIONS, WIDTH];
        let (of_class, size) = ([200i64, 120, 80], LAYERS * POSITIONS * WIDTH);
        let best = 2 * size + (BEST.0 * POSITIONS + BEST.2) * WIDTH + BEST.1;
        // No neuron ever fires, but one: for 60 of the 80 texts of class 2, and for 16 of the 320 others.
        let mut hits = vec![0; 3 * size];
        let mut correct: Vec<i64> = (0..3 * size).map(|place| 400 - of_class[place / size]).collect();
        (hits[best], correct[best]) = (60, 60 + 304);
        // The 16 are of class 0: of the 76 texts for which it fires 60 are not, and none is of class 1.
        (hits[best - 2 * size], correct[best - 2 * size]) = (16, 16 + 140);
        correct[best - size] = 204;
        let arrays = vec![
            ("correct", Array::i64(shape.clone(), correct).unwrap()),
            ("true_positive", Array::i64(shape, hits).unwrap()),
            ("positives", Array::i64(vec![3], of_class.to_vec()).unwrap()),
            ("total", Array::i64(vec![1], vec![DEV as i64]).unwrap()),
        ];
        for split in ["dev", "test"] {
            sample::tensors(&run.join(format!("sst2/{split}_perf.safetensors")), "perf", arrays.clone());
        }
    };
    // (60/80 + 304/320) / 2 = 0.85
    let said = [
        "There are 3 classes",
        "|the class if it|",
        "|1|2|87|3|2|fires|0.850|0.850|",
        "|2|0|0|0|0 (negative)|fires|0.500|",
    ];
    check(three, &said, &["label 1 if it"]);
    check(three, &["|the other classes, 400 texts|", "|class 2, 0 texts|"], &["class 0 (negative), "]);
}

/// Of a pruned model's narrower layers the tensors have room for neurons that are not there.
#[test]
fn neurons_that_were_pruned_away_are_left_out() {
    // The best neuron of all is the last that its layer has room for.
    let pruned = |run: &Path| {
        for split in ["dev", "test"] {
            let path = run.join(format!("sst2/{split}_perf.safetensors"));
            let file = TensorFile::read(&path).unwrap();
            let (shape, correct) = file.i64("correct", None).unwrap();
            let (_, total) = file.i64("total", None).unwrap();
            let mut widths = [WIDTH; LAYERS];
            widths[BEST.0] = BEST.1;
            let mut bundle = TensorBundle::new();
            bundle.describe("skn.kind", "perf");
            bundle.describe("skn.widths", widths.map(|width| width.to_string()).join(","));
            bundle.insert("correct", Array::i64(shape, correct).unwrap());
            bundle.insert("total", Array::i64(vec![1], total).unwrap());
            write_file(&path, Overwrite::Replace, &bundle.to_bytes().unwrap()).unwrap();
        }
    };
    check(pruned, &["|1|3|109|5|is silent|0.682|", "|567 neurons,", "--pos 3,109"], &["|2|87|3|is silent|"]);
}

#[test]
fn an_evaluation_being_written_is_left_out() {
    let cut = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        text_file(&run.join("metrics.jsonl"), &text[..text.len() - 10]);
    };
    check(cut, &["|23 evaluations in 5\u{202f}750 steps"], &[]);
}

#[test]
fn a_damaged_file_is_named_with_the_place() {
    let perf = |name: &'static str, correct: Vec<i64>, total: usize| {
        move |run: &Path| {
            let shape = vec![LAYERS, POSITIONS, correct.len() / (LAYERS * POSITIONS)];
            sample::perf(&run.join(name), "perf", shape, correct, total);
        }
    };
    let size = LAYERS * POSITIONS * WIDTH;
    let dev = "sst2/dev_perf.safetensors";
    check_error(|run| fs::remove_dir_all(run).unwrap(), &["found no folder"]);
    check_error(
        perf(dev, vec![401; size], 400),
        &["dev_perf.safetensors", "`correct`", "0 to 400, the total", "found 401"],
    );
    check_error(perf(dev, vec![-1; size], 400), &["dev_perf.safetensors", "`correct`", "-1"]);
    check_error(perf(dev, vec![0; size], 0), &["dev_perf.safetensors", "`total`", "expected 1 to"]);
    check_error(perf(dev, Vec::new(), 400), &["dev_perf.safetensors", "`correct`", "none 0", "[4, 6, 0]"]);
    check_error(
        perf("sst2/test_perf.safetensors", vec![1; size / 2], TEST),
        &["test_perf", "[4, 6, 160]", "[4, 6, 80]"],
    );
    let reshaped = |run: &Path| {
        let shape = vec![LAYERS, POSITIONS / 2, WIDTH * 2];
        sample::perf(&run.join("sst2/test_perf.safetensors"), "perf", shape, vec![1; size], TEST);
    };
    check_error(reshaped, &["test_perf", "[4, 6, 160]", "[4, 3, 320]"]);
    let flat =
        |run: &Path| sample::perf(&run.join(dev), "perf", vec![LAYERS, WIDTH], vec![1; LAYERS * WIDTH], 2);
    check_error(flat, &["dev_perf.safetensors", "`correct`", "[layers, positions, neurons]", "[4, 160]"]);
    let rest = |hits: i64, positives: i64| {
        move |run: &Path| {
            let count = |shape: &[usize], value| {
                Array::i64(shape.to_vec(), vec![value; shape.iter().product()]).unwrap()
            };
            let arrays = vec![
                ("correct", count(&[3, 1, 1, 1], 5)),
                ("true_positive", count(&[3, 1, 1, 1], hits)),
                ("positives", count(&[3], positives)),
                ("total", count(&[1], 10)),
            ];
            sample::tensors(&run.join(dev), "perf", arrays);
        }
    };
    check_error(rest(4, 3), &["sum of 10, the total", "found 9"]);
    check_error(rest(0, 5), &["sum of 10, the total", "found 15"]);
    check_error(rest(0, 11), &["`positives`", "0 to 10, the total", "11"]);
    let activations = |value: f32, label: i64| {
        move |run: &Path| {
            let arrays = vec![
                ("activation", Array::f32(vec![2, POSITIONS], vec![value; 2 * POSITIONS]).unwrap()),
                ("label", Array::i64(vec![2], vec![0, label]).unwrap()),
            ];
            sample::tensors(&run.join("sst2/pos_dev/2,87.safetensors"), "pos", arrays);
        }
    };
    check_error(activations(f32::NAN, 1), &["2,87.safetensors", "`activation`", "finite", "NaN"]);
    check_error(activations(0.0, 2), &["2,87.safetensors", "`label`", "0 to 1", "found 2"]);
    let cut = |run: &Path| fs::write(run.join(dev), &fs::read(run.join(dev)).unwrap()[..1000]).unwrap();
    check_error(cut, &["dev_perf.safetensors"]);
    check_error(|run| text_file(&run.join("summary.json"), "{}"), &["summary.json", "task"]);
    let untuned = r#"{"task": "sst2", "model": "demo", "test_rows": 4, "metric": "accuracy", "interval": [0, 1], "majority": 0.5,
        "best_neuron": {"layer": 0, "index": 0, "dev": 1, "test": 1, "interval": [0, 1]}, "parameters": 9, "ms_per_text": 1}"#;
    check_error(
        |run| text_file(&run.join("summary.json"), untuned),
        &["summary.json", "`accuracy` missing or null"],
    );
    check_error(|run| text_file(&run.join("run.json"), "["), &["run.json"]);
    check_error(
        |run| text_file(&run.join("mask_perf.json"), "[{}]"),
        &["mask_perf.json", "result 0", "task"],
    );
    let second_line = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        text_file(&run.join("metrics.jsonl"), &text.replacen("\n", "\n{\"step\":1}\n", 1));
    };
    check_error(second_line, &["metrics.jsonl", "line 2", "epoch"]);
}

#[test]
fn a_folder_without_a_run_is_an_error() {
    let empty = |run: &Path| {
        fs::remove_dir_all(run).unwrap();
        fs::create_dir(run).unwrap();
    };
    check_error(empty, &["found none of them", "summary.json", "dev_perf"]);
}

/// One layer, position and neuron, one text, one evaluation, one draw: no range has a width.
#[test]
fn the_smallest_run_has_a_report() {
    let smallest = |run: &Path| {
        let first_line = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        text_file(&run.join("metrics.jsonl"), &first_line[..=first_line.find('\n').unwrap()]);
        fs::remove_dir_all(run.join(TASK)).unwrap();
        for (split, kind) in [("dev", ""), ("test", ""), ("dev", "mean_"), ("test", "max_"), ("dev", "max_")]
        {
            let shape = if kind.is_empty() { vec![1; 3] } else { vec![1; 2] };
            sample::perf(
                &run.join(format!("{TASK}/{split}_{kind}perf.safetensors")),
                &format!("{kind}perf"),
                shape,
                vec![1],
                1,
            );
        }
        let arrays = vec![
            ("activation", Array::f32(vec![1, 1], vec![0.5]).unwrap()),
            ("label", Array::i64(vec![1], vec![1]).unwrap()),
        ];
        sample::tensors(&run.join("sst2/pos_dev/0,0.safetensors"), "pos", arrays);
        sample::speed(run, TASK);
        change_json(&run.join("sst2/inference_time.json"), |time: &mut InferenceTime| {
            (time.seconds, time.median_seconds, time.ms_per_text) = (vec![0.0], 0.0, 0.0);
        });
        for file in ["mask_perf.json", "cmp_perf.json"] {
            change_json(&run.join(file), |result: &mut PerturbationResult| {
                (result.draws, result.mean, result.interval) = (vec![0.905], 0.905, [0.905; 2]);
            });
        }
        change_json(&run.join("summary.json"), |summary: &mut Summary| {
            (summary.perturbation.edit, summary.perturbation.alpha) = ("mean".into(), None);
            (summary.parameters.full, summary.ms_per_text.pruned) = (0, 0.0);
        });
    };
    let said = [
        "|1 evaluation in 250 steps",
        "All layers and positions have the same best predictivity",
        "With the best 10 % of each layer's neurons held at their means over train, accuracy changes by |−26.4 points|; with the same done",
        "|The best neuron|",
        "|1|0|0|0|fires|1.000|1.000|0.207 to 1.000|",
        "|mean over text|0|0|1.000|–|–|",
        "|Pruned, the model has 0.837 (",
        "|ms per text, median|2.550|0.000|–|",
    ];
    check(smallest, &said, &["NaN", "inf|", "Time of inference"]);
    report(smallest).unwrap().figures().iter().for_each(|(_, svg)| {
        well_formed(svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf\""), "{svg}");
    });
}

#[test]
fn tests_controls_and_classes_are_told() {
    let said = [
        "On the same texts skill neurons leave 24.1 points fewer right answers than random ones (95 % interval −27.2 to −21.2), a \
         difference that other texts would hardly undo (sign flips: p below 0.0001). Of the random choices, none of 10 does \
         as much damage, so that these draws alone do not show that the choice of neurons matters (rank p 0.091).",
        "|random|10 %|−0.241|−0.272 to −0.212|below 0.0001|0.091|10 of 10|below 0.0001|–|",
        "|matched|10 %|0.010|−0.272 to −0.212|0.31|0.091|10 of 10|below 0.0001|0.87 times|",
        "|class / answer|0 (negative)|1 (positive)|right|",
        "|0 (negative)|390|46|0.894|",
        "789 of 872 texts are on the diagonal, where the answer is right. The most frequent error: 46 texts of class 0 (negative) get 1 \
         (positive).",
        "|unperturbed|–|0.894|0.915|",
        "|skill|10 %|0.390|0.890|",
        "|of class 0 (negative)|10 %|0.459|0.906|",
        "Skill neurons cost most on the texts of class 0 (negative): −50.5 points.",
        "For 2 of 2 classes their own texts suffer most.",
    ];
    check(|run| sample::compared(run, TASK), &said, &["NaN"]);
    let figures = report(|run| sample::compared(run, TASK)).unwrap().figures();
    let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["sst2-confusion", "accuracy-by-class", "damage-by-class"] {
        assert!(names.contains(&name), "{names:?}");
    }
    figures.iter().for_each(|(_, svg)| well_formed(svg));
    let plain = report(|_| ()).unwrap().html();
    assert!(!plain.contains("Is it the choice of neurons?") && !plain.contains("Accuracy by class"));
}

#[test]
fn each_named_sweep_has_a_section_of_its_own() {
    let names = ["noise-0.1", "zero"];
    let report = report(|run| names.iter().for_each(|name| sample::sweep(run, TASK, name))).unwrap();
    let page = report.html();
    let of = |name: &str| if name == "zero" { 41 } else { 51 };
    for name in names {
        let mean = format!("{:.3}", sample::perturbed(TASK, of(name), "0.3", 0.57).mean);
        assert!(page.contains(&format!("<section id=\"sweep-{name}\">")), "{name}");
        let section = page.split(&format!("<section id=\"sweep-{name}\">")).nth(1).unwrap();
        let section = section.split("</section>").next().unwrap();
        for figure in ["perturbation", "perturbation-by-share", "accuracy-by-class", "damage-by-class"] {
            assert!(section.contains(&format!("<figure id=\"sweep-{name}-{figure}\">")), "{name}: {figure}");
        }
        assert!(section.contains(&mean), "{name}: {mean} in {}", text(section));
        assert!(section.contains("Is it the choice of neurons?"), "{name}");
        assert!(section.contains(&format!("<figcaption>Sweep {name}. Small dots")), "{name}");
    }
    let text = text(&page);
    let said = "A sweep by itself: noise of standard deviation 0.1 is added to the neurons. Its results lie in the run's folder \
                |sweeps/noise-0.1|, where |skn-mask --name noise-0.1| has put them.";
    assert!(
        text.contains(said) && text.contains("A sweep by itself: the neurons are set to zero."),
        "{text}"
    );
    assert_eq!(text.matches("Sign flips ask how often").count(), 1, "it is told once what tests ask");
    let files = report.files();
    assert!(
        names
            .iter()
            .all(|name| files.iter().any(|file| file.ends_with(format!("sweeps/{name}/cmp_perf.json"))))
    );
    let tables = report.tables();
    let evidence = &tables["sweep-zero-perturbation-evidence"];
    assert_eq!(evidence.data[0][..3], [json!("random"), json!(0.1), json!("zero")]);
    assert_eq!(evidence.data.len(), 2, "of each mask");
    let draws = &tables["sweep-noise-0.1-perturbation"].data;
    assert!(draws.iter().any(|row| row[3] == json!(0.1)), "its own alpha: {draws:?}");
    assert_ne!(tables["sweep-zero-perturbation"], tables["perturbation"]);
    report.figures().iter().for_each(|(_, svg)| well_formed(svg));
}

#[test]
fn a_run_may_have_named_sweeps_alone() {
    let folder = tempfile::tempdir().unwrap();
    sample::sweep(folder.path(), TASK, "zero");
    let page = Report::read(folder.path()).unwrap().html();
    assert!(page.contains("<section id=\"sweep-zero\">") && !page.contains("<section id=\"perturbation\">"));
    assert!(page.contains("Sign flips ask how often"), "where evidence is met first");
    // What is no sweep's folder is not read.
    let other = tempfile::tempdir().unwrap();
    sample::sweep(other.path(), TASK, "two words");
    let error = Report::read(other.path()).unwrap_err();
    assert!(matches!(error, ReportError::Empty { .. }), "{error}");
}

#[test]
fn a_sweep_without_random_neurons_says_what_makes_them() {
    let without = |run: &Path| {
        sample::sweep(run, TASK, "zero");
        std::fs::remove_file(run.join("sweeps/zero/cmp_perf.json")).unwrap();
    };
    let said = "Perturbed random neurons (sweeps/zero/cmp_perf.json) are not here; made by |skn-mask --cmp --name zero|.";
    check(without, &[said], &[]);
    check_error(
        |run| {
            sample::sweep(run, TASK, "zero");
            text_file(&run.join("sweeps/zero/class_perf.json"), "[{}]");
        },
        &["sweeps/zero/class_perf.json", "result 0"],
    );
}

#[test]
fn a_class_without_texts_leaves_the_others_their_figure() {
    let without = |run: &Path| {
        sample::compared(run, TASK);
        change_json(&run.join("class_perf.json"), |results: &mut Vec<PerturbationResult>| {
            results.iter_mut().for_each(|result| result.by_class.as_mut().unwrap().rows[0] = 0);
        });
    };
    let said = "For 1 of 2 classes their own texts suffer most. A class without texts on test has no colour.";
    check(without, &[said], &["NaN"]);
    let figures = report(without).unwrap().figures();
    let (_, svg) = figures.iter().find(|(name, _)| name == "damage-by-class").unwrap();
    well_formed(svg);
    assert!(!svg.contains("NaN"), "{svg}");
}

#[test]
fn areas_are_among_the_files_that_were_read() {
    let with_areas = |run: &Path| {
        for name in ["auc", "auc_test"] {
            let path = run.join(format!("sst2/rank/{name}.safetensors"));
            sample::tensors(&path, "rank", vec![("total", Array::i64(vec![1], vec![1]).unwrap())]);
        }
    };
    let report = report(with_areas).unwrap();
    let read = |end: &str| report.files().iter().any(|path| path.ends_with(end));
    assert!(read("sst2/rank/auc.safetensors") && read("sst2/rank/auc_test.safetensors"));
}

#[test]
fn captions_follow_from_the_numbers() {
    let caption = |change: &dyn Fn(&Path)| text(&report(|run| change(run)).unwrap().html());
    let falls = caption(&|_| ());
    assert!(
        falls.contains("below the line. Choosing the best of many flatters them on dev, where"),
        "{falls}"
    );
    // Where test is as dev, none lies below.
    let same = caption(&|run| {
        let (dev, test) = (run.join("sst2/dev_perf.safetensors"), run.join("sst2/test_perf.safetensors"));
        fs::copy(dev, test).unwrap();
    });
    assert!(
        same.contains("none lies below the line. Choosing the best of many flatters them on dev; here"),
        "{same}"
    );
    let one_pass = caption(&|run| {
        change_json(&run.join("sst2/inference_time.json"), |time: &mut InferenceTime| {
            (time.warm_up, time.threads) = (1, 1);
        });
    });
    assert!(one_pass.contains("after 1 pass to warm up, on 1 thread, device cpu"), "{one_pass}");
}

/// Every figure has its numbers, in rows of as many cells as there are columns.
#[test]
fn figures_have_their_tables() {
    let report = report(|run| sample::compared(run, TASK)).unwrap();
    let tables = report.tables();
    let names: Vec<String> = report.figures().into_iter().map(|(name, _)| name).collect();
    // What tests say of perturbed neurons stands in no figure.
    assert_eq!(tables.len(), names.len() + 1);
    for name in names.into_iter().chain(["perturbation-evidence".to_owned()]) {
        let table = &tables[&name];
        assert!(!table.data.is_empty(), "{name} has no rows");
        assert!(table.data.iter().all(|row| row.len() == table.columns.len()), "{name}");
        let csv = table.csv();
        assert_eq!(csv.lines().count(), table.data.len() + 1, "{name}");
    }
    let csv = tables["summary"].csv();
    assert!(csv.starts_with("model,value,low,high\nuntuned,0.512,0.479,0.545\n"), "{csv}");
    assert_eq!(tables["sst2-predictivity-map"].data.len(), LAYERS * WIDTH, "a row for each neuron");
}

#[test]
fn a_neuron_that_is_asked_for_is_drawn_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    sample::full(run, TASK);
    let report = Report::with_neurons(run, &[(BEST.0, BEST.1), (0, 3)]).unwrap();
    assert_eq!(report.without_activations(), [(0, 3)]);
    let names: Vec<String> = report.figures().into_iter().map(|(name, _)| name).collect();
    assert!(names.contains(&format!("sst2-activations-{}-{}", BEST.0, BEST.1)), "{names:?}");
    let page = text(&report.html());
    assert!(
        page.contains(
            "Activations of neuron 0,3 (pos_dev) are not here; made by |skn-probe --probe_type pos --pos 0,3|"
        ),
        "{page}"
    );
    let error = Report::with_neurons(run, &[(LAYERS, 0)]).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("option `neurons` {LAYERS},0: expected a layer and index of ")),
        "{error}"
    );
}

#[test]
fn runs_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    sample::full(&a, TASK);
    sample::full(&b, TASK);
    let comparison = Comparison::read(&[&a, &b]).unwrap();
    let page = text(&comparison.html);
    assert!(
        page.contains("|a|demo|sst2|accuracy|0.512|0.905|0.641|0.883|–|0.837|0.889|0.920|0.883|"),
        "{page}"
    );
    // The same neurons in both: their order is the same, and a map of it has one colour.
    let pairs = &comparison.tables["agreement"];
    assert!(pairs.data.iter().all(|row| row[2].as_f64().is_some_and(|rho| rho > 0.999)), "{pairs:?}");
    assert_eq!(comparison.figures.keys().collect::<Vec<_>>(), ["runs", "runs-perturbation"]);
    assert!(Comparison::read(&[&a, &folder.path().join("none")]).is_err());
}

#[test]
fn sweeps_of_runs_stand_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    sample::full(&a, TASK);
    sample::full(&b, TASK);
    sample::sweep(&a, TASK, "zero");
    sample::sweep(&b, TASK, "zero");
    sample::sweep(&b, TASK, "noise-0.1");
    let comparison = Comparison::read(&[&a, &b]).unwrap();
    let page = text(&comparison.html);
    let names: Vec<&str> = comparison.figures.keys().map(String::as_str).collect();
    assert_eq!(names, ["runs", "runs-perturbation", "runs-sweep-noise-0.1", "runs-sweep-zero"]);
    let captions = [
        "|The best 10 % of each layer's neurons. Noise of standard deviation 0.1 is added to the neurons. Dots",
        "|Sweep zero: the best 10 % of each layer's neurons. The neurons are set to zero. Dots are means",
        "|Sweep noise-0.1: the best 10 % of each layer's neurons. Noise of standard deviation 0.1 is added to the neurons. Dots",
        "Each run has 872 texts of test.",
        "Sign flips ask how often",
    ];
    for said in captions {
        assert!(page.contains(said), "{said}: {page}");
    }
    let found = sample::perturbed(TASK, 41, "0.3", 0.57);
    let rows = &comparison.tables["perturbation"].data;
    let of_zero = |row: &&Vec<serde_json::Value>| row[..3] == [json!("a"), json!("zero"), json!("skill")];
    let row = rows.iter().filter(of_zero).find(|row| row[3] == json!(0.3)).unwrap();
    let numbers = [json!(872), json!(10), json!(found.unperturbed), json!(found.mean)];
    assert_eq!((&row[6..10], &row[10]), (&numbers[..], &json!(found.interval[0])), "{row:?}");
    // What lies in the runs themselves has no name.
    assert!(rows.iter().any(|row| row[..3] == [json!("b"), json!(null), json!("random")]), "{rows:?}");
    let tested = &comparison.tables["perturbation-evidence"];
    assert_eq!(tested.columns[..4], ["run", "sweep", "against", "share"]);
    let of_noise = tested.data.iter().filter(|row| row[..2] == [json!("b"), json!("noise-0.1")]).count();
    assert_eq!(of_noise, 2, "of each mask: {tested:?}");
    assert!(tested.data.iter().all(|row| row.len() == tested.columns.len()));
    let read = |end: &str| comparison.files.iter().any(|path| path.ends_with(end));
    assert!(read("a/sweeps/zero/cmp_perf.json") && read("b/sweeps/noise-0.1/mask_perf.json"));
    comparison.figures.values().for_each(|svg| well_formed(svg));
}

/// What is done may differ from run to run, and masks too.
#[test]
fn sweeps_of_one_name_may_differ() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    for run in [&a, &b] {
        sample::sweep(run, TASK, "mine");
    }
    let changed = b.join("sweeps/mine/mask_perf.json");
    change_json(&changed, |results: &mut Vec<PerturbationResult>| {
        results.iter_mut().for_each(|of| (of.edit, of.rows) = ("mean".into(), 9));
        results.pop();
    });
    let comparison = Comparison::read(&[&a, &b]).unwrap();
    let page = text(&comparison.html);
    let said = "|Sweep mine: the best 10 % of each layer's neurons. In a, the neurons are set to zero; in b, the neurons are held at \
                their means. Dots";
    assert!(page.contains(said) && page.contains("Texts of test: 872 in a, 9 in b."), "{page}");
    // Without a mask in common there is a table and no figure, and the page says why.
    change_json(&changed, |results: &mut Vec<PerturbationResult>| results[0].mask = "own.csv".into());
    let comparison = Comparison::read(&[&a, &b]).unwrap();
    assert!(!comparison.figures.contains_key("runs-sweep-mine"));
    let page = text(&comparison.html);
    let said =
        "|Of sweep mine there is no figure: no two runs have results of skill neurons of the same mask.|";
    assert!(page.contains(said), "{page}");
    let rows = &comparison.tables["perturbation"].data;
    assert!(rows.iter().any(|row| row[0] == json!("b") && row[3] == json!("own.csv")), "{rows:?}");
}

/// One run without the mask costs the others neither their figure nor a word.
#[test]
fn a_run_without_the_mask_leaves_the_others_their_figure() {
    let folder = tempfile::tempdir().unwrap();
    let all = ["a", "b", "c", "d"].map(|name| folder.path().join(name));
    let [a, b, c, d] = &all;
    for run in &all {
        sample::full(run, TASK);
        sample::sweep(run, TASK, "mine");
    }
    // The first run has another share, and the third only results of classes.
    change_json(&a.join("sweeps/mine/mask_perf.json"), |results: &mut Vec<PerturbationResult>| {
        results.truncate(1);
        results[0].mask = "0.2".into();
    });
    ["mask_perf.json", "cmp_perf.json"]
        .iter()
        .for_each(|name| fs::remove_file(c.join("sweeps/mine").join(name)).unwrap());
    let read = || Comparison::read(&[a, b, c, d]).unwrap();
    let comparison = read();
    let page = text(&comparison.html);
    assert!(comparison.figures.contains_key("runs-sweep-mine"), "{:?}", comparison.figures.keys());
    let said = [
        // Two runs have both 0.1 and 0.3: it is that of the summary.
        "|Sweep mine: the best 10 % of each layer's neurons. The neurons are set to zero. Dots",
        "Not drawn, for they have no results of skill neurons of this mask here: a, c.|",
    ];
    for said in said {
        assert!(page.contains(said), "{said}: {page}");
    }
    // What all runs have names none of them.
    assert_eq!(page.matches("Not drawn").count(), 1, "{page}");
    let rows = &comparison.tables["perturbation"].data;
    for (run, share) in [("a", 0.2), ("b", 0.3), ("c", 0.1)] {
        let found =
            |row: &Vec<serde_json::Value>| row[..2] == [json!(run), json!("mine")] && row[3] == json!(share);
        assert!(rows.iter().any(found), "{run}: {rows:?}");
    }
    // Most runs are more than the summary's.
    change_json(&b.join("sweeps/mine/mask_perf.json"), |results: &mut Vec<PerturbationResult>| {
        drop(results.remove(0));
    });
    let page = text(&read().html);
    assert!(page.contains("|Sweep mine: the best 30 % of each layer's neurons."), "{page}");
    // A sweep of classes alone is of no skill neurons.
    [a, b, d].iter().for_each(|run| fs::remove_dir_all(run.join("sweeps/mine")).unwrap());
    let comparison = read();
    assert!(!comparison.figures.contains_key("runs-sweep-mine"));
    let page = text(&comparison.html);
    assert!(
        page.contains("|Of sweep mine there is no figure: it has no results of skill neurons.|"),
        "{page}"
    );
}
