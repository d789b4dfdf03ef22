//! What things are called on disk: files and folders of a run, metadata keys and kinds of tensor files, entries of
//! `run.json`. Every name stands here and nowhere else.

/// Keys of the metadata of tensor files.
pub mod key {
    /// What the file is, one of [`kind`](super::kind).
    pub const KIND: &str = "skn.kind";
    /// The task's name.
    pub const TASK: &str = "skn.task";
    /// The split that it was made of.
    pub const SPLIT: &str = "skn.split";
    /// The seed of everything random.
    pub const SEED: &str = "skn.seed";
    /// Hash of the model's tensors.
    pub const MODEL: &str = "skn.model_sha256";
    /// Hash of the tuned parameters.
    pub const TUNING: &str = "skn.tuning_sha256";
    /// Hash of the task's template, where it has one.
    pub const TEMPLATE: &str = "skn.template_sha256";
    /// Which number of a neuron was read where the FFN is gated: product, gate or up.
    pub const SITE: &str = "skn.site";
    /// Hash of the rows.
    pub const DATA: &str = "skn.data_sha256";
    /// What products were made in, where it was not f32.
    pub const DTYPE: &str = "skn.dtype";
    /// Neurons of each layer, with commas between, where layers differ: arrays are as wide as the widest.
    pub const WIDTHS: &str = "skn.widths";
    /// Which part of the split, as `2/8`.
    pub const SHARD: &str = "skn.shard";
    /// What [`WIDTHS`] says of layers that have so many neurons each; nothing of layers that are all alike.
    pub fn widths(widths: &[usize]) -> Option<String> {
        let differ = widths.first().is_some_and(|first| widths.iter().any(|width| width != first));
        differ.then(|| widths_text(widths))
    }

    /// The same of any layers.
    pub fn widths_text(widths: &[usize]) -> String {
        widths.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Where activations were read that are not those of a prompt: `last`, at the last token of each text.
    pub const POOL: &str = "skn.pool";
    /// How many texts of how many were kept, drawn by the seed, where not all were: `10000 of 67349`.
    pub const SAMPLE: &str = "skn.sample";
    /// What neurons are ranked by: accuracy or balanced.
    pub const SCORE: &str = "skn.score";
    /// The class, from 0, that a mask of one class alone was selected for.
    pub const CLASS: &str = "skn.class";
    /// The share of each layer's neurons that a mask selects.
    pub const SHARE: &str = "skn.share";
    /// The rate of false discoveries up to which a mask selects.
    pub const FDR: &str = "skn.fdr";
    /// The version of the file's form, one of [`schema`](super::schema).
    pub const SCHEMA: &str = "skn.schema";
    /// The version of the program that wrote the file.
    pub const VERSION: &str = "skn.version";
    /// Said of a mask, with the value [`SOME`], whose ranking says nothing of some neurons: their ranks are those of their indices.
    pub const UNRANKED: &str = "skn.unranked";
    /// See [`UNRANKED`].
    pub const SOME: &str = "some";
    /// Said of a mask, with the value [`LOWEST`], that marks the worst neurons of each layer instead of the best.
    pub const ORDER: &str = "skn.order";
    /// See [`ORDER`].
    pub const LOWEST: &str = "lowest";
    /// Where a training stands, of a checkpoint.
    pub const STATE: &str = "skn.state";
    /// Hash of a checkpoint's content.
    pub const CONTENT: &str = "skn.content_sha256";
}

/// Versions of the forms of tensor files. A form that gets another tensor gets a number of its own.
pub mod schema {
    /// That of most files.
    pub const FIRST: u32 = 1;
    /// That of counts of two classes which hold `true_positive` and `positives` besides.
    pub const COUNTS_BY_CLASS: u32 = 2;
    /// That of counts which hold `dead` besides, and `true_positive` and `positives` of two classes too.
    pub const COUNTS_WITH_DEAD: u32 = 3;
    /// That of averages which hold `minimum`, `maximum` and `dead` besides.
    pub const AVERAGES_WITH_RANGE: u32 = 4;
    /// That of activations of a neuron which hold `row` besides.
    pub const POSITIONS_WITH_ROWS: u32 = 5;
    /// The newest that this version knows.
    pub const NEWEST: u32 = POSITIONS_WITH_ROWS;
}

/// What a tensor file says it is.
pub mod kind {
    /// Counts of prompt positions.
    pub const PERFORMANCE: &str = "perf";
    /// Counts of a text's mean.
    pub const MEAN_PERFORMANCE: &str = "mean_perf";
    /// Counts of a text's maximum.
    pub const MAX_PERFORMANCE: &str = "max_perf";
    /// Counts of a text's last row.
    pub const LAST_PERFORMANCE: &str = "last_perf";
    /// Averages of prompt positions, which is the file's name too.
    pub const AVERAGE: &str = "train_avg";
    /// Averages of a text's mean.
    pub const MEAN_AVERAGE: &str = "train_mean_avg";
    /// Averages of a text's maximum.
    pub const MAX_AVERAGE: &str = "train_max_avg";
    /// Averages of a text's last row.
    pub const LAST_AVERAGE: &str = "train_last_avg";
    /// One neuron's activations.
    pub const POSITIONS: &str = "pos";
    /// Activations of an empty text, which is the file's name too.
    pub const PROMPT_ACTIVATION: &str = "prompt_activation";
    /// Selected neurons.
    pub const MASK: &str = "mask";
    /// Where a training stands.
    pub const CHECKPOINT: &str = "checkpoint";
}

/// Files and folders of a run.
pub mod file {
    /// How everything came about.
    pub const RUN: &str = "run.json";
    /// Which rows are train, dev and test.
    pub const SPLIT: &str = "split.json";
    /// A line for each evaluation while training.
    pub const METRICS: &str = "metrics.jsonl";
    /// The test set with selected neurons perturbed ..
    pub const SKILL: &str = "mask_perf.json";
    /// .. with as many random ones ..
    pub const RANDOM: &str = "cmp_perf.json";
    /// .. with as many random ones of matched variance ..
    pub const MATCHED: &str = "matched_perf.json";
    /// .. and with the neurons of one class at a time.
    pub const CLASSES: &str = "class_perf.json";
    /// The folder of results of perturbing that have a name, each in a folder of its name.
    pub const SWEEPS: &str = "sweeps";
    /// What the whole chain found.
    pub const SUMMARY: &str = "summary.json";
    /// The temperature that makes the probabilities of its answers true.
    pub const CALIBRATION: &str = "calibration.json";
    /// What experiments over several runs found.
    pub const EXPERIMENTS: &str = "experiments.json";
    /// Its tables, a file each.
    pub const CSV: &str = "csv";
    /// The same as a page.
    pub const REPORT: &str = "report.html";
    /// The folder of the best tuned parameters.
    pub const BEST: &str = "best";
    /// In it: what the tuned parameters are.
    pub const SKILL_CONFIG: &str = "skn.json";
    /// The folder of checkpoints.
    pub const LAST: &str = "last";
    /// In it: the checkpoint.
    pub const CHECKPOINT: &str = "checkpoint.safetensors";
    /// .. and the one before it.
    pub const PREVIOUS_CHECKPOINT: &str = "checkpoint.previous.safetensors";
    /// The lock of a run that is written.
    pub const LOCK: &str = ".lock";
    /// The folder of masks.
    pub const INFO: &str = "info";
    /// The table of a task's neurons, in the folder of its masks.
    pub const NEURONS: &str = "neurons.csv";
    /// The folder of a probe's parts.
    pub const SHARDS: &str = "shards";
    /// The run of the untuned model, in that of a whole chain.
    pub const UNTUNED: &str = "untuned";
    /// The run of the pruned model, in that of a whole chain.
    pub const PRUNED: &str = "prune";
    /// The run of the pruned model that was tuned further, in that of a whole chain.
    pub const PRUNED_TUNED: &str = "prune-tuned";
    /// In a task's folder: the test set as the model answers it ..
    pub const INFERENCE_PERFORMANCE: &str = "inference_perf.json";
    /// .. and how long that took.
    pub const INFERENCE_TIME: &str = "inference_time.json";
    /// The extension of tensor files.
    pub const TENSORS: &str = ".safetensors";
    /// A model's configuration.
    pub const CONFIG: &str = "config.json";
    /// A model's weights.
    pub const WEIGHTS: &str = "model.safetensors";
    /// Which shard of a model's weights has which tensor.
    pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
    /// Tuned parameters as PEFT writes them: the prompt ..
    pub const PEFT_TENSORS: &str = "adapter_model.safetensors";
    /// A soft prompt behind the text, which PEFT has no form for.
    pub const PROMPT_TENSORS: &str = "prompt.safetensors";
    /// .. as AdapterHub does ..
    pub const ADAPTER_TENSORS: &str = "adapter.safetensors";
    /// .. and tuned biases, as this workspace does.
    pub const BIAS_TENSORS: &str = "bitfit.safetensors";
    /// What PEFT's and AdapterHub's parameters are.
    pub const ADAPTER_CONFIG: &str = "adapter_config.json";

    /// The folders and files of a run, whose names no task may have: its files would lie between theirs, or nowhere.
    const TAKEN: [&str; 18] = [
        BEST,
        LAST,
        INFO,
        SHARDS,
        UNTUNED,
        PRUNED,
        PRUNED_TUNED,
        RUN,
        SPLIT,
        METRICS,
        SKILL,
        RANDOM,
        MATCHED,
        CLASSES,
        SWEEPS,
        SUMMARY,
        REPORT,
        CALIBRATION,
    ];
    /// A task's name has at most so many bytes: it names a folder, and parts of it are names of files with more behind them.
    pub const LONGEST_TASK: usize = 100;

    /// Whether a task of this name would have the place of something else in a run. File systems that take `Best` for `best`
    /// count too.
    pub fn is_taken(task: &str) -> bool {
        TAKEN.iter().any(|name| name.eq_ignore_ascii_case(task))
    }

    /// The files of a model folder that a pruned run keeps beside its tuned parameters.
    pub const MODEL: [&str; 9] = [
        CONFIG,
        WEIGHTS,
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "vocab.txt",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ];
    /// Files of tuned parameters, by the tools that write them: PEFT, AdapterHub, and this workspace for biases.
    pub const TUNED: [&str; 4] = [PEFT_TENSORS, ADAPTER_TENSORS, BIAS_TENSORS, PROMPT_TENSORS];

    /// How a model answers a part of the data, by its path in the task's folder: `test_evaluation.json`.
    pub fn evaluation(part: &str) -> String {
        format!("{part}_evaluation.json")
    }

    /// The folder within `best` that has the tuned parameters of a model that transformers loads: beside a model it takes an
    /// `adapter_config.json` for an adapter that belongs into it, where PEFT is installed.
    pub const TUNED_FOLDER: &str = "tuned";

    /// Every file of tuned parameters by its name in `best`: beside the model, or in a folder of their own.
    pub fn tuned_in_best() -> impl Iterator<Item = String> {
        let beside = [ADAPTER_CONFIG].into_iter().chain(TUNED);
        beside.flat_map(|name| [name.to_owned(), in_tuned_folder(name)])
    }

    /// A file of tuned parameters by its name in `best`, where they have a folder of their own.
    pub fn in_tuned_folder(name: &str) -> String {
        format!("{TUNED_FOLDER}/{name}")
    }

    /// Whether results of perturbing may have this name, which names a folder.
    pub fn is_sweep(name: &str) -> bool {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(allowed)
    }

    /// A result of perturbing that has a name: `sweeps/zero/mask_perf.json`.
    pub fn in_sweep(sweep: &str, name: &str) -> String {
        format!("{SWEEPS}/{sweep}/{name}")
    }

    /// The texts whose activations are kept of a split, a JSON object a line, in the order of the files beside it.
    pub fn position_texts(split: &str) -> String {
        format!("{}/texts.jsonl", positions_folder(split))
    }

    /// A tensor file's name: `dev_perf` is `dev_perf.safetensors`.
    pub fn tensors(stem: &str) -> String {
        format!("{stem}{TENSORS}")
    }

    /// A tensor file's name without its extension.
    pub fn stem(name: &str) -> &str {
        name.strip_suffix(TENSORS).unwrap_or(name)
    }

    /// Whether this is the name of a tensor file.
    pub fn is_tensors(name: &str) -> bool {
        name.ends_with(TENSORS)
    }

    /// The folder of neurons' activations on a split, by its path in the task's folder: `pos_dev`.
    pub fn positions_folder(split: &str) -> String {
        format!("pos_{split}")
    }

    /// A task's mask of a share, by its path in the run: `info/sst2/0.05.safetensors`.
    pub fn mask(task: &str, share: &str) -> String {
        tensors(&format!("{INFO}/{task}/{share}"))
    }

    /// A task's mask of a rate of false discoveries, by its path in the run: `info/sst2/fdr-0.05.safetensors`.
    pub fn discoveries(task: &str, rate: &str) -> String {
        tensors(&format!("{INFO}/{task}/fdr-{rate}"))
    }

    /// The table of a task's neurons, by its path in the run: `info/sst2/neurons.csv`.
    pub fn neurons(task: &str) -> String {
        format!("{INFO}/{task}/{NEURONS}")
    }

    /// What speaks for a task's neurons and against chance, by its path in the run: `info/sst2/evidence.json`.
    pub fn evidence(task: &str) -> String {
        format!("{INFO}/{task}/evidence.json")
    }

    /// One neuron's activations on a split, by their path in the task's folder: `pos_dev/9,1893.safetensors`.
    pub fn positions(split: &str, layer: usize, index: usize) -> String {
        tensors(&format!("{}/{layer},{index}", positions_folder(split)))
    }

    /// The folder of one of a probe's parts, by its path in the run: `shards/2-of-8`.
    pub fn shard(index: usize, count: usize) -> String {
        format!("{SHARDS}/{}", shard_name(index, count))
    }

    fn shard_name(index: usize, count: usize) -> String {
        format!("{index}-of-{count}")
    }

    /// Which part a folder of [`SHARDS`] is, index and count; nothing if it is none.
    pub fn parse_shard(name: &str) -> Option<(usize, usize)> {
        let (index, count) = name.split_once("-of-")?;
        let (index, count) = (index.parse().ok()?, count.parse().ok()?);
        (shard_name(index, count) == name && 1 <= index && index <= count).then_some((index, count))
    }
}

/// Files of fire bits: for each neuron, position and text whether the neuron fires.
pub mod fire {
    /// What such a file says it is, by what was taken of a text's activations (empty, `mean`, `max`, `last`): `fire`, `last_fire`.
    pub fn kind(pool: &str) -> String {
        if pool.is_empty() { "fire".into() } else { format!("{pool}_fire") }
    }

    /// Its name on a split, without extension: `dev_fire`, `dev_last_fire`.
    pub fn file(pool: &str, split: &str) -> String {
        format!("{split}_{}", kind(pool))
    }
}

/// Files of the texts that excite the best neurons most.
pub mod top {
    /// What the names of all such files end in, before the extension.
    pub const END: &str = "_top";

    /// What such a file says it is, by what was taken of a text's activations (empty, `mean`, `max`, `last`): `top`, `last_top`.
    pub fn kind(pool: &str) -> String {
        if pool.is_empty() { "top".into() } else { format!("{pool}_top") }
    }

    /// Its name on a split, without extension: `dev_top`, `dev_last_top`.
    pub fn file(pool: &str, split: &str) -> String {
        format!("{split}_{}", kind(pool))
    }
}

/// Files of rankings: a score for each neuron.
pub mod rank {
    /// What such a file says it is.
    pub const KIND: &str = "rank";
    /// The metadata key of which ranking it is.
    pub const RANKING: &str = "skn.rank";
    /// The metadata key of what was taken of a text's activations: position, mean, max or last.
    pub const POOL: &str = "skn.pool";
    /// The metadata key of the column whose numbers activations were correlated with, instead of with classes.
    pub const COLUMN: &str = "skn.metric_column";
    /// The metadata key of the hash of that column's numbers, of all rows of the split: those of all shards.
    pub const METRIC: &str = "skn.metric_sha256";
    /// The metadata key of whether a shard's ranking is to be scored as published, and what it says then.
    pub const COMPAT: &str = "skn.compat";
    /// See [`COMPAT`].
    pub const PAPER: &str = "paper";
    /// The folder of a task's rankings, in the task's folder.
    pub const FOLDER: &str = "rank";

    /// What comparing them gave, by its path in the task's folder.
    pub const COMPARISON: &str = "rank/comparison.json";

    /// The ranking by areas under ROC curves.
    pub const AUC: &str = "auc";

    /// The areas under ROC curves of a split, by their path in the task's folder, without extension: `rank/auc` of dev, which is the ranking
    /// itself, `rank/auc_test` of test.
    pub fn areas(split: &str) -> String {
        if split == "dev" { file(AUC) } else { format!("{}_{split}", file(AUC)) }
    }

    /// What a pool is called in such a file, by its name in names of files.
    pub fn pool_name(pool: &str) -> &str {
        if pool.is_empty() { "position" } else { pool }
    }

    /// A ranking's file by its path in the task's folder, without extension: `rank/auc`.
    pub fn file(ranking: &str) -> String {
        format!("{FOLDER}/{ranking}")
    }
}

/// Among what an entry of `run.json` read.
pub mod input {
    /// How the name begins of a model, with its id behind.
    pub const MODEL: &str = "model ";
}

/// Settings in an entry of `run.json` that others read.
pub mod setting {
    /// Whether the model has a masked-LM head: [`NO_HEAD`] where it has none, else not noted.
    pub const HEAD: &str = "masked_lm_head";
    /// The value of [`HEAD`] of an encoder alone.
    pub const NO_HEAD: &str = "none";
    /// Longest text in tokens, where it was less than the model takes.
    pub const MAX_LENGTH: &str = "max_length";
    /// Whose ways were followed where they differ.
    pub const COMPAT: &str = "compat";
    /// What stands around texts, where the task has a template.
    pub const TEMPLATE: &str = "template";
    /// Which texts of dev and of test stand in train too.
    pub const IN_TRAIN: [&str; 2] = ["dev_in_train", "test_in_train"];
}

/// Entries of `run.json`. What a stage does several times for one run has an entry for each.
pub mod stage {
    /// Tuning.
    pub const TRAIN: &str = "train";
    /// Probing; an entry says more.
    pub const PROBE: &str = "probe";
    /// Selecting; an entry says more.
    pub const SELECT: &str = "select";
    /// Perturbing.
    pub const MASK: &str = "mask";
    /// Pruning.
    pub const PRUNE: &str = "prune";
    /// Putting shards together; an entry says more.
    pub const MERGE: &str = "merge";
    /// Experiments over several runs.
    pub const EXPERIMENT: &str = "experiment";
    /// The whole chain.
    pub const RUN: &str = "run";
    /// The report.
    pub const REPORT: &str = "report";
    /// Evaluating; an entry says more.
    pub const EVALUATE: &str = "evaluate";
    /// Fitting a temperature.
    pub const CALIBRATE: &str = "calibrate";

    /// The entry of evaluating a part of the data.
    pub fn evaluate(part: &str) -> String {
        format!("{EVALUATE} {part}")
    }

    /// The entry of a set of probes, by their names, on some splits or on all: `probe acc,pos on dev,test`. The order of
    /// probes makes no other entry.
    pub fn probe(probes: &[&str], splits: &[&str]) -> String {
        let mut probes = probes.to_vec();
        probes.sort_unstable();
        probes.dedup();
        let splits = if splits.is_empty() { String::new() } else { format!(" on {}", splits.join(",")) };
        format!("{PROBE} {}{splits}", probes.join(","))
    }

    /// The entry of a result of perturbing, by its name if it has one.
    pub fn mask(sweep: Option<&str>) -> String {
        sweep.map_or_else(|| MASK.to_owned(), |sweep| format!("{MASK} {sweep}"))
    }

    /// The entry of a task's masks.
    pub fn select(task: &str) -> String {
        format!("{SELECT} {task}")
    }

    /// The entry of the files that were put together.
    pub fn merge(files: &[String]) -> String {
        format!("{MERGE} {}", files.join(","))
    }

    /// Whether an entry is one of this stage.
    pub fn is(entry: &str, stage: &str) -> bool {
        entry.split(' ').next() == Some(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_run_are_those_that_it_has_always_had() {
        assert_eq!(file::mask("sst2", "0.05"), "info/sst2/0.05.safetensors");
        assert_eq!(file::positions("dev", 9, 1893), "pos_dev/9,1893.safetensors");
        assert_eq!(file::discoveries("sst2", "0.05"), "info/sst2/fdr-0.05.safetensors");
        assert_eq!(file::neurons("sst2"), "info/sst2/neurons.csv");
        assert_eq!(file::evidence("sst2"), "info/sst2/evidence.json");
        assert_eq!(file::positions_folder("dev"), "pos_dev");
        assert_eq!(file::shard(2, 8), "shards/2-of-8");
        assert_eq!(
            (file::tensors("dev_perf"), file::stem("dev_perf.safetensors")),
            ("dev_perf.safetensors".into(), "dev_perf")
        );
        assert_eq!(file::stem("run.json"), "run.json");
        assert_eq!(["a.safetensors", "a.json"].map(file::is_tensors), [true, false]);
        assert_eq!(["", "last"].map(fire::kind), ["fire", "last_fire"]);
        assert_eq!(["", "mean"].map(|pool| fire::file(pool, "dev")), ["dev_fire", "dev_mean_fire"]);
        assert_eq!(rank::file("auc"), "rank/auc");
        assert_eq!(stage::select("sst2"), "select sst2");
        assert_eq!(stage::merge(&["a".into(), "b".into()]), "merge a,b");
        assert_eq!(stage::probe(&["pos", "acc", "pos"], &["dev", "test"]), "probe acc,pos on dev,test");
        assert_eq!(stage::probe(&["speed"], &[]), "probe speed");
        assert!(stage::is("probe acc", stage::PROBE) && !stage::is("train", stage::PROBE));
    }

    #[test]
    fn a_task_has_no_name_of_a_run_s_own_files() {
        let taken = ["best", "Best", "RUN.JSON", "prune-tuned", "sst2", "best2", ""].map(file::is_taken);
        assert_eq!(taken, [true, true, true, true, false, false, false]);
    }

    #[test]
    fn widths_are_told_where_layers_differ() {
        assert_eq!(key::widths(&[4, 3, 4]), Some("4,3,4".into()));
        assert_eq!([&[4, 4][..], &[]].map(key::widths), [None, None]);
        assert_eq!(key::widths_text(&[4, 4]), "4,4");
    }

    #[test]
    fn a_shard_lies_within_its_count() {
        assert_eq!(
            ["2-of-8", "1-of-8", "8-of-8"].map(file::parse_shard),
            [Some((2, 8)), Some((1, 8)), Some((8, 8))]
        );
        for wrong in ["0-of-8", "9-of-8", "2", "a-of-b", "2-of-", "02-of-8", "+2-of-8"] {
            assert_eq!(file::parse_shard(wrong), None, "{wrong}");
        }
    }
}
