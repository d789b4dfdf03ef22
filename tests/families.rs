//! Families of models: token ids, activations, logits and gradients against Hugging Face transformers. The cases, and the
//! script that made them, are in `families/`.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::{Value, json};
use skn_artifact::{Array, TensorBundle, TensorFile};
use skn_data::{Batch, Encoded, Example, Join, TextEncoder, bert_tokenizer, pack_in_order};
use skn_model::{
    Config, Gradients, LanguageModel, LayerCut, ModelFolder, NoHook, Output, Pass, PrunedForm, ReadAs, Rows,
    Scored, Sequences, Site, Tuning, Weights, prune,
};
use skn_tune::cross_entropy;
use support::{Desk, copy, write};

const FAMILIES: [&str; 3] = ["bert", "xlm-roberta", "camembert"];

/// float32 against float64.
const TOLERANCE: f32 = 2e-5;

fn folder_of(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/families").join(family)
}

/// A model and what transformers says of it.
struct Case {
    folder: PathBuf,
    config: Config,
    weights: Weights,
    encoder: TextEncoder,
    expected: TensorFile,
    said: Value,
}

impl Case {
    fn load(family: &str) -> Self {
        Self::at(&folder_of(family))
    }

    fn at(folder: &Path) -> Self {
        let model = ModelFolder::open(folder).unwrap();
        let config = model.config().unwrap();
        Self {
            weights: Weights::read(&model, &config, &Device::Cpu).unwrap(),
            config,
            encoder: TextEncoder::from_json(
                &model.file("tokenizer.json").unwrap().unwrap(),
                "tokenizer.json",
            )
            .unwrap(),
            expected: TensorFile::read(&folder.join("expected.safetensors")).unwrap(),
            said: serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap(),
            folder: folder.into(),
        }
    }

    fn examples(&self) -> Vec<Example> {
        let text = |text: &Value| {
            let part = |place: usize| text.get(place).and_then(Value::as_str);
            Example {
                text: part(0).unwrap().into(),
                pair: part(1).map(Into::into),
                more: Box::default(),
                label: 0,
            }
        };
        self.said["texts"].as_array().unwrap().iter().map(text).collect()
    }

    fn words(&self) -> Vec<String> {
        serde_json::from_value(self.said["words"].clone()).unwrap()
    }

    fn encoded(&self, encoder: &TextEncoder) -> Vec<Encoded> {
        let most = self.said["max_tokens"].as_u64().unwrap() as usize;
        encoder.encode_all(self.examples(), most, Join::Separated).unwrap()
    }

    /// All texts in one batch.
    fn batch(&self) -> Batch {
        let texts = self.encoded(&self.encoder);
        let order: Vec<u32> = (0..texts.len() as u32).collect();
        pack_in_order(&texts, &order, 0, usize::MAX).unwrap().remove(0)
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        self.expected.f32(name, None).unwrap().1
    }

    /// Rows of whole numbers, without their padding of -1.
    fn rows(&self, name: &str) -> Vec<Vec<u32>> {
        let (shape, values) = self.expected.i64(name, None).unwrap();
        let row = |row: &[i64]| row.iter().filter(|&&id| id >= 0).map(|&id| id as u32).collect();
        values.chunks(*shape.last().unwrap()).map(row).collect()
    }

    fn prompt(&self) -> Tuning {
        let (shape, values) = self.expected.f32("prompt", None).unwrap();
        Tuning::prompt(Tensor::from_vec(values, shape, &Device::Cpu).unwrap(), true).unwrap()
    }

    fn model(&self, tuning: &Tuning, gradients: Gradients) -> LanguageModel {
        LanguageModel::new(&self.config, &self.weights, tuning, self.encoder.mask_id(), gradients).unwrap()
    }

    /// Logits of the words, `[texts * words]`.
    fn logits(&self, model: &LanguageModel) -> Vec<f32> {
        values(&self.scores(model))
    }

    fn scores(&self, model: &LanguageModel) -> Tensor {
        let ids = self.encoder.verbalizer(&self.words()).unwrap().ids;
        let answers = model.forward(sequences(&self.batch()), &Pass::default(), &mut NoHook).unwrap();
        model.logits(&answers, Scored::Tokens(&ids)).unwrap()
    }

    /// Activations of all neurons at all rows, `[L * rows * F]`.
    fn activations(&self, model: &LanguageModel) -> Vec<f32> {
        let mut seen = Vec::new();
        let mut watch = |site: Site, _: &Rows<'_>, x: Tensor| {
            if let Site::FfnAct { .. } = site {
                seen.extend(values(&x));
            }
            Ok(x)
        };
        model
            .forward(sequences(&self.batch()), &Pass { output: Output::Nothing, dropout: None }, &mut watch)
            .unwrap();
        seen
    }

    fn check_tokens(&self) {
        let name = self.folder.display();
        let (ids, types) = (self.rows("ids"), self.rows("types"));
        for ((text, ids), types) in self.encoded(&self.encoder).iter().zip(ids).zip(types) {
            assert_eq!(text.ids[..], ids, "{name}: text {}", text.row);
            let second = if self.config.segments() { text.second } else { text.ids.len() };
            let found: Vec<u32> = (0..text.ids.len()).map(|place| u32::from(place >= second)).collect();
            assert_eq!(found, types, "{name}: token types of text {}", text.row);
        }
        let verbalizer = self.encoder.verbalizer(&self.words()).unwrap();
        assert_eq!(verbalizer.ids, self.rows("word_ids")[0], "{name}");
        assert_eq!(verbalizer.cut_words().count(), 0, "{name}: each word has a token");
        assert_eq!(verbalizer.tokens, self.words(), "{name}");
    }

    /// The largest difference of the activations, of how many.
    fn activation_difference(&self) -> (f32, usize) {
        let found = self.activations(&self.model(&self.prompt(), Gradients::Nothing));
        (difference(&found, &self.f32("prompt.activations")), found.len())
    }
}

fn sequences(batch: &Batch) -> Sequences<'_> {
    Sequences { ids: &batch.ids, starts: &batch.starts, samples: &batch.rows, seconds: &batch.seconds }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The largest difference; NaN counts as infinite.
#[track_caller]
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let each = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    each.fold(0.0, |most, next| {
        if next <= most {
            most
        } else if next.is_nan() {
            f32::INFINITY
        } else {
            next
        }
    })
}

#[test]
fn texts_become_the_same_tokens() {
    FAMILIES.iter().for_each(|family| Case::load(family).check_tokens());
}

#[test]
fn neurons_and_logits_are_transformers() {
    for family in FAMILIES {
        let case = Case::load(family);
        let (most, count) = case.activation_difference();
        assert!(most < TOLERANCE && count > 10_000, "{family}: activations differ by {most}");
        for (layout, tuning) in [("prompt", case.prompt()), ("mask", Tuning::none())] {
            let found = case.logits(&case.model(&tuning, Gradients::Nothing));
            let most = difference(&found, &case.f32(&format!("{layout}.logits")));
            assert!(most < TOLERANCE, "{family}, {layout}: logits differ by {most}");
        }
        // A masked word in a text, all of the vocabulary.
        let ids = case.rows("masked.ids").remove(0);
        let place = ids.iter().position(|&id| Some(id) == case.encoder.mask_id()).unwrap();
        let model = case.model(&Tuning::plain_text(), Gradients::Nothing);
        let batch = Sequences { ids: &ids, starts: &[0, ids.len()], samples: &[0], seconds: &[] };
        let output = Output::Rows([place as u32].as_slice().into());
        let hidden = model.forward(batch, &Pass { output, dropout: None }, &mut NoHook).unwrap();
        let most =
            difference(&values(&model.logits(&hidden, Scored::All).unwrap()), &case.f32("masked.logits"));
        assert!(most < TOLERANCE, "{family}: logits of a masked word differ by {most}");
    }
}

#[test]
fn other_activations_are_transformers_too() {
    for family in FAMILIES {
        let mut case = Case::load(family);
        let text = std::fs::read_to_string(case.folder.join("config.json")).unwrap();
        for activation in ["relu", "gelu_new"] {
            let text = text.replace("\"hidden_act\": \"gelu\"", &format!("\"hidden_act\": \"{activation}\""));
            case.config = Config::from_json(text.as_bytes(), Path::new("config.json")).unwrap();
            let found = case.logits(&case.model(&case.prompt(), Gradients::Nothing));
            let most = difference(&found, &case.f32(&format!("{activation}.logits")));
            assert!(most < TOLERANCE, "{family}, {activation}: logits differ by {most}");
        }
    }
}

#[test]
fn a_text_has_the_same_bits_alone_and_beside_pairs() {
    let case = Case::load("bert");
    let model = case.model(&case.prompt(), Gradients::Nothing);
    let together = case.logits(&model);
    let ids = case.encoder.verbalizer(&case.words()).unwrap().ids;
    for (text, expected) in case.encoded(&case.encoder).iter().zip(together.chunks(ids.len())) {
        let alone = pack_in_order(std::slice::from_ref(text), &[0], 0, usize::MAX).unwrap().remove(0);
        let answers = model.forward(sequences(&alone), &Pass::default(), &mut NoHook).unwrap();
        let found = values(&model.logits(&answers, Scored::Tokens(&ids)).unwrap());
        assert_eq!(bits(&found), bits(expected), "text {}", text.row);
    }
    let second_outside = Sequences { ids: &[2, 9, 3], starts: &[0, 3], samples: &[0], seconds: &[4] };
    let error = model.forward(second_outside, &Pass::default(), &mut NoHook).unwrap_err().to_string();
    assert!(error.contains("second texts") && error.contains("seconds [4]"), "{error}");
}

/// The weights under other names.
fn renamed(case: &Case, rename: impl Fn(&str) -> Option<String>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&case.folder, folder.path());
    let mut bundle = TensorBundle::new();
    for (name, tensor) in case.weights.to_tensors().unwrap() {
        if let Some(name) = rename(&name) {
            bundle.insert(name, Array::f32(tensor.dims().to_vec(), values(&tensor)).unwrap());
        }
    }
    write(&folder.path().join("model.safetensors"), bundle.to_bytes().unwrap());
    folder
}

#[test]
fn weights_have_their_prefix_or_none_and_old_names() {
    for family in FAMILIES {
        let case = Case::load(family);
        let expected = case.logits(&case.model(&case.prompt(), Gradients::Nothing));
        let bare = |name: &str| name.replace("roberta.", "").replace("bert.", "");
        let old = |name: &str| match name.contains("orm.") {
            true => name.replace(".weight", ".gamma").replace(".bias", ".beta"),
            false => name.to_string(),
        };
        for (without_prefix, with_old_names) in [(true, false), (false, true), (true, true)] {
            let folder = renamed(&case, |name| {
                let name = if without_prefix { bare(name) } else { name.to_string() };
                Some(if with_old_names { old(&name) } else { name })
            });
            let again = Case::at(folder.path());
            let found = again.logits(&again.model(&case.prompt(), Gradients::Nothing));
            assert_eq!(bits(&found), bits(&expected), "{family}");
        }
    }
}

#[test]
fn berts_older_vocabulary_file_gives_the_same_ids() {
    let case = Case::load("bert");
    let vocabulary = std::fs::read(case.folder.join("vocab.txt")).unwrap();
    let made = |vocabulary: &[u8], settings: Option<&[u8]>| {
        TextEncoder::from_json(&bert_tokenizer(vocabulary, settings, "bert")?, "bert/vocab.txt")
    };
    let read = |settings: Option<&[u8]>| made(&vocabulary, settings).unwrap();
    let ids = |encoder: &TextEncoder| {
        case.encoded(encoder).into_iter().map(|text| text.ids.to_vec()).collect::<Vec<_>>()
    };
    let older = read(None);
    assert_eq!(ids(&older), case.rows("ids"));
    assert_eq!((older.mask_id(), older.vocabulary_size()), (case.encoder.mask_id(), 330));
    let masked = "so [MASK] that it is[SEP]";
    assert_eq!(older.ids_of_text(masked).unwrap(), case.encoder.ids_of_text(masked).unwrap());
    let cased = read(Some(br#"{"do_lower_case": false}"#));
    assert_eq!(ids(&cased), case.rows("cased.ids"));
    assert_ne!(ids(&cased), ids(&older));

    let refused =
        |vocabulary: &[u8], settings: Option<&[u8]>| made(vocabulary, settings).unwrap_err().to_string();
    assert_eq!(refused(b"[PAD]\n\xff\n", None), "bert/vocab.txt: line 2: not UTF-8");
    assert!(refused(b"[UNK]\n[CLS]\n[SEP]\n", None).ends_with("expected a token \"[MASK]\", found none"));
    assert!(refused(&vocabulary, Some(b"[")).starts_with("bert/tokenizer_config.json: "));
    assert_eq!(
        refused(&vocabulary, Some(br#"{"do_lower_case": 3}"#)),
        "bert/tokenizer_config.json: do_lower_case: expected true, false or null, found 3"
    );
}

#[test]
fn label_words_of_each_vocabulary() {
    for (family, token) in FAMILIES.into_iter().zip(["negative", "▁negative", "▁negative"]) {
        let case = Case::load(family);
        let find = |words: &[&str]| {
            case.encoder.verbalizer(&words.iter().map(|word| (*word).to_string()).collect::<Vec<_>>())
        };
        let file: Value =
            serde_json::from_slice(&std::fs::read(case.folder.join("tokenizer.json")).unwrap()).unwrap();
        let vocabulary = &file["model"]["vocab"];
        let id = match vocabulary.as_array() {
            Some(pairs) => pairs.iter().position(|pair| pair[0] == token).unwrap() as u64,
            None => vocabulary[token].as_u64().unwrap(),
        };
        // With the space that a task file for RoBERTa may have, and without.
        for words in [["negative", "positive"], [" negative", " positive"]] {
            let found = find(&words).unwrap();
            assert_eq!(u64::from(found.ids[0]), id, "{family}: {words:?}");
            assert_eq!((found.lengths, found.tokens[0].as_str()), (vec![1, 1], "negative"), "{family}");
        }
        // Of a word without a token of its own, the first part that tells something of it.
        let found = find(&["negative", "xylophone"]).unwrap();
        assert_eq!(found.tokens[1], "x", "{family}");
        assert_eq!(found.cut_words().count(), 1, "{family}");
        let error = find(&["negative", "☃"]).unwrap_err().to_string();
        assert_eq!(error, "verbalizer word \"☃\" of class 1 has no token", "{family}");
    }
}

#[test]
fn gradients_of_a_bert_are_slopes() {
    let case = Case::load("bert");
    let texts = case.batch();
    let labels: Vec<u32> = (0..texts.len() as u32).map(|row| row % 3).collect();
    let loss =
        |model: &LanguageModel| cross_entropy(&case.scores(model), &labels).unwrap().mean_all().unwrap();
    let precise = |model: &LanguageModel| {
        let logits: Vec<f64> = case.logits(model).into_iter().map(f64::from).collect();
        let of_row = |(row, &label): (&[f64], &u32)| {
            row.iter().map(|logit| (logit - row[label as usize]).exp()).sum::<f64>().ln()
        };
        logits.chunks(3).zip(&labels).map(of_row).sum::<f64>() / labels.len() as f64
    };
    // The table of token types among all parameters, which only pairs reach in part.
    for (tuning, gradients) in [
        (case.prompt(), Gradients::Tuned),
        (Tuning::new_bias(), Gradients::Tuned),
        (Tuning::none(), Gradients::All),
    ] {
        let model = case.model(&tuning, gradients);
        let store = loss(&model).backward().unwrap();
        let all = || model.parameters().iter().chain(model.backbone());
        for (name, var) in all().filter(|(name, _)| !name.contains("key.bias")) {
            let gradient = values(store.get(var).unwrap_or_else(|| panic!("{name} has no gradient")));
            let length = gradient.iter().map(|value| value * value).sum::<f32>().sqrt();
            assert!(length > 0.0, "{name}");
            let before = var.as_tensor().copy().unwrap();
            let direction = Tensor::from_vec(gradient, var.shape(), &Device::Cpu).unwrap();
            let at = |steps: f64| {
                let step = (&direction * (steps * 0.02 / f64::from(length))).unwrap();
                var.set(&(&before + step).unwrap()).unwrap();
                precise(&model)
            };
            let slope = (8.0 * (at(1.0) - at(-1.0)) - (at(2.0) - at(-2.0))) / (12.0 * 0.02);
            var.set(&before).unwrap();
            let error = (slope - f64::from(length)).abs();
            assert!(error < 0.01 * f64::from(length) + 5e-5, "{name}: slope {slope}, gradient {length}");
        }
    }
}

#[test]
fn a_pruned_bert_is_saved_and_read_again() {
    let case = Case::load("bert");
    let means = vec![0.2; 32];
    let cut = |kept: Vec<u32>| Some(LayerCut::hold_others(kept, &means).unwrap());
    let cuts = [None, cut(vec![0, 3, 30]), cut(vec![])];
    let mut found = Vec::new();
    for form in [PrunedForm::Narrow, PrunedForm::Dense] {
        let (config, weights) = prune(&case.config, &case.weights, &cuts, form).unwrap();
        let folder = tempfile::tempdir().unwrap();
        copy(&case.folder, folder.path());
        write(&folder.path().join("config.json"), config.to_json());
        write(&folder.path().join("model.safetensors"), weights.to_bytes().unwrap());
        let again = Case::at(folder.path());
        assert_eq!(again.config, config);
        let logits = again.logits(&again.model(&case.prompt(), Gradients::Nothing));
        let pruned =
            LanguageModel::new(&config, &weights, &case.prompt(), case.encoder.mask_id(), Gradients::Nothing);
        assert_eq!(bits(&logits), bits(&case.logits(&pruned.unwrap())));
        let theirs = TensorFile::read(&case.folder.join("model.safetensors")).unwrap();
        let ours = TensorFile::read(&folder.path().join("model.safetensors")).unwrap();
        assert!(ours.names().eq(theirs.names()), "transformers' names");
        found.push(logits);
    }
    assert!(difference(&found[0], &found[1]) < 1e-5, "both forms are one function");
    // The same as holding these neurons at their means in the whole model.
    let mut hold = |site: Site, _: &Rows<'_>, x: Tensor| {
        let Site::FfnAct { layer: layer @ 1.. } = site else { return Ok(x) };
        let kept: &[usize] = if layer == 1 { &[0, 3, 30] } else { &[] };
        let mut rows = x.to_vec2::<f32>()?;
        for row in &mut rows {
            row.iter_mut().enumerate().filter(|(index, _)| !kept.contains(index)).for_each(|(_, x)| *x = 0.2);
        }
        Ok(Tensor::new(rows, x.device())?)
    };
    let whole = case.model(&case.prompt(), Gradients::Nothing);
    let answers = whole.forward(sequences(&case.batch()), &Pass::default(), &mut hold).unwrap();
    let ids = case.encoder.verbalizer(&case.words()).unwrap().ids;
    let held = values(&whole.logits(&answers, Scored::Tokens(&ids)).unwrap());
    assert!(difference(&found[0], &held) < 1e-5);
}

#[test]
fn adapters_and_biases_of_a_bert_carry_its_names() {
    let case = Case::load("bert");
    let adapters = Tuning::new_adapter(&case.config, 4, 1).unwrap();
    let mask = case.weights.mask_embedding(case.encoder.mask_id()).unwrap();
    let files: BTreeMap<String, Vec<u8>> =
        adapters.files(&case.config, "bert", &mask).unwrap().into_iter().collect();
    let config: Value = serde_json::from_slice(&files["adapter_config.json"]).unwrap();
    assert_eq!((&config["model_type"], &config["model_class"]), (&json!("bert"), &json!("BertForMaskedLM")));
    assert!(adapters.tensors().keys().all(|name| name.starts_with("bert.encoder.layer.")));
    let biases = case.model(&Tuning::new_bias(), Gradients::Tuned);
    assert!(biases.parameters().contains_key("cls.predictions.bias"));
    assert_eq!(biases.parameters().len(), 3 * 8 + 1 + 3);
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| write(&folder.path().join(name), bytes));
    let read =
        Tuning::read(folder.path(), &case.config, &case.weights, case.encoder.mask_id(), ReadAs::default())
            .unwrap();
    let logits = |tuning: &Tuning| bits(&case.logits(&case.model(tuning, Gradients::Nothing)));
    assert_eq!(logits(&read.tuning), logits(&adapters));
}

/// A desk with a family's model folder as `model`.
fn desk(family: &str) -> Desk {
    let desk = Desk::new();
    copy(&folder_of(family), &desk.path("model"));
    desk
}

#[test]
fn a_bert_goes_through_the_chain() {
    let desk = desk("bert");
    // Its older tokenizer files alone, which the pruned model must take along.
    std::fs::remove_file(desk.path("model/tokenizer.json")).unwrap();
    write(&desk.path("model/added_tokens.json"), r#"{"[MASK]": 4}"#);
    desk.ok("skn-train --model ./model --task sentiment --epoch 1 --bz 64 --prompt_size 6 --save_to run");
    desk.ok(
        "skn-probe -p --resume_from run --save_to run --probe_type acc,acc_mean,acc_max,prompt_act,speed",
    );
    desk.ok("skn-select --save_to run -a run/sentiment/dev_perf");
    desk.ok("skn-mask -p --resume_from run --save_to run --info_path run/info/sentiment/0.1 --cmp");
    desk.ok(
        "skn-prune --resume_from run --info_path run/info/sentiment/0.2 --ths_path run/sentiment/train_avg \
         --save_to run/prune",
    );
    for file in ["vocab.txt", "added_tokens.json"] {
        assert!(desk.path(&format!("run/prune/best/{file}")).is_file(), "{file}");
    }
    desk.ok("skn-train -p --resume_from run/prune --save_to run/again --epoch 1 --bz 64");
    write(&desk.path("texts"), "the band was superb .\nthe band was awful .\n");
    assert_eq!(desk.ok("skn-predict --resume_from run/again --input texts").lines().count(), 2);
    desk.ok("skn-verify run");
    // Pairs, whose second texts have another token type.
    desk.ok("skn-train --model ./model --task inference --epoch 1 --bz 64 --model_type RobertaBias --save_to pairs");
    desk.ok(
        "skn-probe -p --model_type RobertaBias --resume_from pairs --save_to pairs --probe_type acc,acc_mean",
    );
}

#[test]
fn an_encoder_alone_is_probed_and_not_tuned() {
    let case = Case::load("bert");
    let folder = renamed(&case, |name| name.strip_prefix("bert.").map(Into::into));
    let desk = Desk::new();
    copy(folder.path(), &desk.path("model"));
    // Nothing answers, so two classes may have one word.
    let said = desk.ok(
        "skn-probe --model ./model --task sentiment --verb good,good --save_to run --probe_type acc_mean,acc_max",
    );
    assert!(said.contains("probed 3 layers x 32 neurons"), "{said}");
    for name in ["train_mean_avg", "dev_mean_perf", "test_max_perf"] {
        assert!(desk.path(&format!("run/sentiment/{name}.safetensors")).is_file(), "{name}");
    }
    desk.ok("skn-select --save_to run -a run/sentiment/dev_mean_perf");
    // Its report asks for nothing that such a model can't give.
    let said = desk.ok("skn-report run");
    assert!(said.contains("5 figures in"), "{said}");
    let page = std::fs::read_to_string(desk.path("run/report.html")).unwrap();
    for words in [
        "no head that names words",
        "nothing tuned",
        "id=\"sentiment-predictivity\"",
        "id=\"sentiment-pooling\"",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for words in [
        "<code>skn-train",
        "<code>skn-mask",
        "<code>skn-probe --probe_type acc",
        "skn-probe --fire-bits",
        "does not say",
    ] {
        assert!(!page.contains(words), "{words}");
    }
    let missing = [
        "model.safetensors",
        "cls.predictions.transform.dense.weight",
        "no masked-LM head",
        "AutoModelForMaskedLM",
    ];
    desk.fails("skn-train --model ./model --task sentiment --save_to tuned", 3, &missing);
    desk.fails("skn-probe --model ./model --task sentiment --save_to tuned --probe_type acc", 3, &missing);
    assert!(!desk.path("tuned").exists());
}

/// `skn-run` says what it can't do, and the line that it names does what can be done.
#[test]
fn an_encoder_alone_is_read_as_it_is() {
    let case = Case::load("bert");
    let folder = renamed(&case, |name| name.strip_prefix("bert.").map(Into::into));
    let desk = Desk::new();
    copy(folder.path(), &desk.path("model"));
    let said =
        desk.run("skn-run --model ./model --task sentiment --verb good,bad --out run --epoch 1 --threads 2");
    let next = "this reads the neurons of the same model: `skn-run --untuned --model ./model --task sentiment --verb good,bad --out run --threads 2`";
    assert!(said.code == 3 && said.stderr.contains(next), "{}", said.stderr);
    for told in
        ["no masked-LM head", "AutoModelForMaskedLM.from_pretrained(MODEL)", "--model_type RobertaBias"]
    {
        assert!(said.stderr.contains(told), "{told}: {}", said.stderr);
    }
    assert!(!desk.path("run").exists());
    let line = said.stderr.split("of the same model: `").nth(1).unwrap().split('`').next().unwrap();
    let told = desk.ok(line);
    assert!(told.contains("no answers: the model has no head"), "{told}");
    assert!(!told.contains("ms a text"), "nothing answers: {told}");
    let summary = desk.json("run/summary.json");
    let fields: Vec<&str> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["best_neuron", "majority", "model", "task", "test_rows"]);
    let found = &summary["best_neuron"];
    let best = format!("best neuron at the last token: layer {}, index {}", found["layer"], found["index"]);
    assert!(told.contains(&best), "{best}: {told}");
    // Every way of reading a text is there, its neurons are ranked, and the report shows them.
    for name in [
        "sentiment/test_last_perf",
        "sentiment/dev_mean_perf",
        "sentiment/dev_max_perf",
        "info/sentiment/0.1",
    ] {
        assert!(desk.path(&format!("run/{name}.safetensors")).is_file(), "{name}");
    }
    assert!(!desk.path("run/sentiment/inference_perf.json").exists());
    let page = std::fs::read_to_string(desk.path("run/report.html")).unwrap();
    for words in [
        "no head that names words",
        "always guessing",
        "read at the last token of the text",
        "id=\"sentiment-pooling\"",
    ] {
        assert!(page.to_lowercase().contains(&words.to_lowercase()), "{words}");
    }
    assert!(!page.contains("Nothing was tuned. The model's own words"));
    let again = desk.run(&format!("{line} --resume"));
    assert!(again.code == 0 && again.stderr.contains("skn-probe: done before"), "{}", again.stderr);
    desk.ok("skn-report run run --out both.html --csv tables");
    let runs = std::fs::read_to_string(desk.path("tables/results.csv")).unwrap();
    assert!(runs.lines().nth(1).unwrap().contains(",sentiment,"), "{runs}");
    desk.ok("skn-verify run");
}

#[test]
fn models_and_tokenizers_of_other_kinds() {
    let desk = desk("xlm-roberta");
    let line = "skn-train --model ./model --task sentiment --save_to run";
    let text = std::fs::read_to_string(desk.path("model/config.json")).unwrap();
    write(&desk.path("model/config.json"), text.replace("xlm-roberta", "distilbert"));
    desk.fails(
        line,
        3,
        &["config.json", "model_type", "roberta, xlm-roberta, camembert, bert", "\"distilbert\""],
    );
    write(&desk.path("model/config.json"), text);
    std::fs::remove_file(desk.path("model/tokenizer.json")).unwrap();
    desk.fails(line, 3, &["no tokenizer.json", "vocab.txt"]);
    write(&desk.path("model/sentencepiece.bpe.model"), "\n");
    desk.fails(
        line,
        3,
        &["sentencepiece.bpe.model", "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"],
    );
}

/// Of a model that is too large to lie here: a folder that `families/make.py --model` made.
#[test]
#[ignore = "needs a model; see CONTRIBUTING.md"]
fn a_real_model_is_transformers() {
    let folder = std::env::var("SKN_FAMILY_CASE").expect("SKN_FAMILY_CASE names a case");
    let case = Case::at(Path::new(&folder));
    // The words need not be tokens of a real vocabulary.
    let ids: Vec<Vec<u32>> = case.encoded(&case.encoder).into_iter().map(|text| text.ids.to_vec()).collect();
    assert_eq!(ids, case.rows("ids"));
    let (most, count) = case.activation_difference();
    println!("{folder}: {count} activations differ by at most {most:e}");
    assert!(most < 1e-4);
    if case.said["head"] == true {
        let found = case.logits(&case.model(&case.prompt(), Gradients::Nothing));
        let most = difference(&found, &case.f32("prompt.logits"));
        println!("{folder}: logits differ by at most {most:e}");
        assert!(most < 1e-4);
    }
}
