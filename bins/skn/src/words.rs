//! A stage as the command line that does it.

use std::fmt::Display;
use std::path::Path;

use skn_artifact::names::stage;
use skn_session::Precision;
use skn_session::options::{
    Compute, DeviceChoice, DrawReport, EditChoice, Evaluate, Fold, LayerRange, Made, Merge, NeuronNoise,
    Perturb, Probe, Prune, Select, Stage, Subject, TaskChoice, Train, Training, Tuned, TunedMethod, Untuned,
};

use crate::stage::{mask, probe, prune, select, train};

/// The program that does a stage, and its arguments. What is as it would be without a flag is mostly left out.
pub(crate) fn command_line(stage: &Stage, compute: Compute) -> (&'static str, Vec<String>) {
    let mut words = Words(Vec::new());
    let program = match stage {
        Stage::Train(options) => words.train(options),
        Stage::Probe(options) => words.probe(options),
        Stage::Merge(options) => words.merge(options),
        Stage::Select(options) => words.select(options),
        Stage::Perturb(options) => words.perturb(options),
        Stage::Prune(options) => words.prune(options),
        Stage::Evaluate(options) => words.evaluate(options),
        Stage::Report(options) => words.report(options),
        // Chains and experiments are asked by who types them.
        Stage::Experiment(_) => "skn-experiment",
        _ => "skn-run",
    };
    if !["skn-select", "skn-merge", "skn-report", "skn-run", "skn-experiment"].contains(&program) {
        words.compute(compute);
    }
    words.flag("--force", stage.overwrites());
    (program, words.0)
}

/// The arguments of `skn-run` that read a model as it is.
pub(crate) fn untuned(options: &Untuned, compute: Compute) -> Vec<String> {
    let mut words = Words(Vec::new());
    words.flag("--untuned", true);
    words.subject(&options.subject);
    words.optional("--out", options.out.as_ref().map(|out| out.display()));
    words.compute(compute);
    words.flag("--force", options.overwrite);
    words.0
}

/// The way back: how a stage was done that has this entry in `run.json`, by the arguments of its program. For records that
/// have no options yet.
pub(crate) fn made_by(entry: &str, arguments: &[String]) -> Option<Made> {
    let made = |program: &str| -> Option<(Stage, Compute)> {
        let line = || std::iter::once(program.to_owned()).chain(arguments.iter().cloned());
        Some(match program {
            "skn-train" => {
                let train: train::Train = skn_program::parse(line()).ok()?;
                (train.options().into(), train.compute.options())
            }
            "skn-probe" => {
                let probe: probe::Probe = skn_program::parse(line()).ok()?;
                (probe.options().ok()?.into(), probe.compute.options())
            }
            "skn-select" => {
                let select: select::Select = skn_program::parse(line()).ok()?;
                (select.options().into(), Compute::default())
            }
            "skn-mask" => {
                let mask: mask::Mask = skn_program::parse(line()).ok()?;
                (mask.options().ok()?.into(), mask.compute.options())
            }
            _ => {
                let prune: prune::Prune = skn_program::parse(line()).ok()?;
                (prune.options().into(), prune.compute.options())
            }
        })
    };
    let programs = [
        (stage::TRAIN, "skn-train"),
        (stage::PROBE, "skn-probe"),
        (stage::SELECT, "skn-select"),
        (stage::MASK, "skn-mask"),
        (stage::PRUNE, "skn-prune"),
    ];
    let (_, program) = programs.into_iter().find(|(name, _)| stage::is(entry, name))?;
    made(program).map(|(stage, compute)| Made::new(stage, compute))
}

/// The words of a command line behind the program's name.
struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, name: &str, set: bool) {
        self.0.extend(set.then(|| name.to_owned()));
    }

    fn value(&mut self, name: &str, value: impl Display) {
        self.0.extend([name.to_owned(), value.to_string()]);
    }

    fn optional(&mut self, name: &str, value: Option<impl Display>) {
        value.into_iter().for_each(|value| self.value(name, value));
    }

    /// Unless it is what it would be without the flag.
    fn unless<T: Display + PartialEq>(&mut self, name: &str, value: T, default: T) {
        if value != default {
            self.value(name, value);
        }
    }

    fn list(&mut self, name: &str, values: impl IntoIterator<Item = impl Display>) {
        let texts: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
        if !texts.is_empty() {
            self.value(name, texts.join(","));
        }
    }

    fn path(&mut self, name: &str, path: &Path) {
        self.value(name, path.display());
    }

    fn subject(&mut self, subject: &Subject) {
        self.optional("--model", subject.model.as_ref());
        match &subject.task {
            Some(TaskChoice::Named(name)) => self.value("--task", name),
            Some(TaskChoice::File(file)) => self.path("--task-file", file),
            _ => {}
        }
        self.optional("--data", subject.data.as_ref().map(|data| data.display()));
        self.optional("--max-data", subject.max_data);
        self.list("--verb", subject.words.iter().flatten());
        self.optional("--max-length", subject.max_length);
        self.optional("--compat", subject.paper.then_some("paper"));
        self.unless("--seed", subject.seed, 0);
    }

    fn tuned(&mut self, tuned: &Tuned) {
        // What is resumed from is loaded.
        self.flag("-p", tuned.load && tuned.resume_from.is_none());
        self.optional("--resume_from", tuned.resume_from.as_ref().map(|run| run.display()));
        self.optional("--model_type", tuned.method.map(TunedMethod::name));
        self.optional("--prompt_size", tuned.prompt_size);
        self.optional("--prompt_text", tuned.prompt_text.as_ref());
        self.optional("--prompt_place", tuned.prompt_place);
        self.flag("--prepend-mask", tuned.prepend_mask);
        self.flag("--verbalizer", tuned.verbalizer);
    }

    fn layers(&mut self, layers: LayerRange) {
        self.optional("--low_layer", layers.low_layer);
        self.optional("--high_layer", layers.high_layer);
    }

    fn compute(&mut self, compute: Compute) {
        self.optional("--threads", compute.threads);
        self.unless("--dtype", compute.precision.name(), Precision::F32.name());
        self.unless("--device", compute.device, DeviceChoice::Auto);
    }

    fn train(&mut self, options: &Train) -> &'static str {
        self.subject(&options.subject);
        self.tuned(&options.tuned);
        self.path("--out", &options.out);
        let (how, usual) = (&options.training, Training::default());
        self.optional("--epoch", how.epochs);
        self.optional("--batch", how.batch);
        self.optional("--learning_rate", how.learning_rate);
        self.optional("--eval_every_step", how.eval_every);
        self.flag("--early_stop", how.early_stop);
        self.optional("--max-steps", how.max_steps);
        self.unless("--accumulate", how.accumulate, usual.accumulate);
        self.unless("--warmup", how.warmup, usual.warmup);
        self.unless("--weight-decay", how.weight_decay, usual.weight_decay);
        self.optional("--dropout", how.dropout);
        self.unless("--checkpoint-every", how.checkpoint_every, usual.checkpoint_every);
        self.flag("--resume", options.resume);
        "skn-train"
    }

    fn probe(&mut self, options: &Probe) -> &'static str {
        self.subject(&options.subject);
        self.tuned(&options.tuned);
        self.list("--probe_type", &options.probe_type);
        self.unless("--site", options.site, Probe::default().site);
        options.pos.iter().for_each(|neuron| self.value("--pos", neuron));
        self.flag("--with-texts", options.with_texts);
        self.list("--splits", options.splits.iter().map(|split| split.name()));
        self.flag("--fire-bits", options.fire_bits);
        self.flag("--variance", options.variance);
        self.list("--rank", &options.rank);
        self.optional("--metric-column", options.metric_column.as_ref());
        self.list("--compare", &options.compare);
        self.optional("--shard", options.shard);
        self.unless("--repeats", options.repeats, Probe::default().repeats);
        self.optional("--batch", options.batch);
        self.path("--out", &options.out);
        "skn-probe"
    }

    fn merge(&mut self, options: &Merge) -> &'static str {
        self.path("--out", &options.out);
        "skn-merge"
    }

    fn select(&mut self, options: &Select) -> &'static str {
        for (number, files) in options.counts.iter().enumerate() {
            let name = if number == 0 { "-a" } else { "--acc_aux_path" };
            self.list(name, files.iter().map(|file| file.display()));
        }
        self.optional("--ranking", options.ranking.as_ref().map(|file| file.display()));
        self.unless("--type", options.aggregate, Select::default().aggregate);
        self.optional("--score", options.score);
        self.optional("--compat", options.paper.then_some("paper"));
        self.optional("--class", options.class);
        self.flag("--lowest", options.lowest);
        if options.shares != Select::default().shares {
            self.list("--shares", &options.shares);
        }
        self.optional("--permutations", options.permutations);
        self.optional("--fdr", options.fdr);
        self.unless("--seed", options.seed, 0);
        self.optional("--task", options.task.as_ref());
        self.path("--out", &options.out);
        "skn-select"
    }

    fn perturb(&mut self, options: &Perturb) -> &'static str {
        self.subject(&options.subject);
        self.tuned(&options.tuned);
        self.path("--out", &options.out);
        self.list("--info_path", options.masks.iter().map(|mask| mask.display()));
        self.value("--type", options.edit.kind());
        if options.controls > 0 {
            self.flag("--cmp", true);
            self.value("--draws", options.controls);
        }
        self.optional("--matched", options.matched.as_ref().map(|file| file.display()));
        self.list("--matched_path", options.matched_masks.iter().map(|mask| mask.display()));
        self.list("--class_path", options.class_masks.iter().map(|mask| mask.display()));
        match &options.edit {
            EditChoice::Gaussian { alpha, noise, repeats } => {
                self.value("--alpha", alpha);
                self.unless("--noise", noise.name(), NeuronNoise::default().name());
                self.unless("--repeats", repeats.get(), 1);
            }
            EditChoice::Mean { averages } => self.path("--ths_path", averages),
            _ => {}
        }
        self.layers(options.layers);
        self.optional("--batch", options.batch);
        self.optional("--name", options.name.as_ref());
        "skn-mask"
    }

    fn prune(&mut self, options: &Prune) -> &'static str {
        self.subject(&options.subject);
        self.path("--resume_from", &options.resume_from);
        self.path("--info_path", &options.mask);
        self.path("--ths_path", &options.averages);
        self.path("--out", &options.out);
        self.optional("--fold", (options.fold == Fold::PerPositionGroup).then_some("per-position-group"));
        self.optional("--text_ths_path", options.text_averages.as_ref().map(|file| file.display()));
        self.layers(options.layers);
        self.unless("--round-width", options.round_width.get(), 1);
        self.flag("--dense", options.dense);
        self.flag("--uniform", options.uniform);
        self.flag("--prepend-mask", options.prepend_mask);
        self.flag("--verbalizer", options.verbalizer);
        "skn-prune"
    }

    fn evaluate(&mut self, options: &Evaluate) -> &'static str {
        self.subject(&options.subject);
        self.tuned(&options.tuned);
        self.unless("--split", options.split.name(), Evaluate::default().split.name());
        self.flag("--calibrate", options.calibrate);
        self.flag("--calibrated", options.calibrated);
        self.optional("--batch", options.batch);
        self.optional("--out", options.out.as_ref().map(|out| out.display()));
        "skn-evaluate"
    }

    fn report(&mut self, options: &DrawReport) -> &'static str {
        self.0.push(options.run.display().to_string());
        self.optional("--figures", options.figures.as_ref().map(|folder| folder.display()));
        self.optional("--csv", options.csv.as_ref().map(|folder| folder.display()));
        for (layer, index) in &options.neurons {
            self.value("--neuron", format!("{layer},{index}"));
        }
        "skn-report"
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use skn_session::options::{NeuronChoice, Shard, Split};
    use skn_session::{NeuronSite, ProbeType, PromptPlace, Ranking};

    use super::*;
    use crate::stage::{evaluate, merge, report};

    /// A stage's command line is read as the same stage.
    fn check(stage: Stage) {
        let (program, words) = command_line(&stage, Compute::default());
        let line = || std::iter::once(program.to_owned()).chain(words.clone());
        let read: Stage = match program {
            "skn-train" => skn_program::parse::<train::Train>(line()).unwrap().options().into(),
            "skn-probe" => skn_program::parse::<probe::Probe>(line()).unwrap().options().unwrap().into(),
            "skn-merge" => skn_program::parse::<merge::Merge>(line()).unwrap().options().into(),
            "skn-select" => skn_program::parse::<select::Select>(line()).unwrap().options().into(),
            "skn-mask" => skn_program::parse::<mask::Mask>(line()).unwrap().options().unwrap().into(),
            "skn-prune" => skn_program::parse::<prune::Prune>(line()).unwrap().options().into(),
            "skn-evaluate" => skn_program::parse::<evaluate::Evaluate>(line()).unwrap().options().into(),
            "skn-report" => skn_program::parse::<report::Report>(line()).unwrap().options().into(),
            other => panic!("no program {other}"),
        };
        assert_eq!(read, stage, "{program} {words:?}");
    }

    fn some(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    fn subject() -> Subject {
        let mut subject = Subject::demo("topic");
        (subject.data, subject.max_data) = (Some("rows".into()), Some("3M".parse().unwrap()));
        (subject.words, subject.max_length) = (Some(vec!["a".into(), " b".into()]), Some(some(9)));
        (subject.paper, subject.seed) = (true, 7);
        subject
    }

    fn tuned() -> Tuned {
        let mut tuned = Tuned::of("run").by(TunedMethod::PrunePrompt);
        (tuned.prompt_size, tuned.prepend_mask) = (Some(some(5)), true);
        (tuned.verbalizer, tuned.prompt_place) = (true, Some(PromptPlace::Front));
        tuned.prompt_text = Some("it was a -good- text:".into());
        tuned
    }

    #[test]
    fn stages_as_they_are_by_default() {
        check(Train::new(Subject::default(), "run").into());
        check(Probe::of("run", &[ProbeType::Acc]).into());
        check(Merge::new("run").into());
        check(Select::new("run/x/dev_perf", "run").into());
        check(Perturb::of("run", vec!["0.1".into()], EditChoice::default()).into());
        check(Prune::of("run", "0.1", "train_avg", "pruned").into());
        check(Evaluate::of("run").into());
        check(DrawReport::new("run").into());
    }

    #[test]
    fn every_option_has_a_flag() {
        let mut train = Train::new(subject(), "out");
        (train.tuned, train.resume, train.overwrite) = (tuned(), true, true);
        let how = &mut train.training;
        (how.epochs, how.batch, how.learning_rate) = (Some(2), Some(some(3)), Some(0.25));
        how.early_stop = true;
        (how.eval_every, how.max_steps, how.accumulate) = (Some(4), Some(5), some(6));
        (how.warmup, how.weight_decay, how.dropout, how.checkpoint_every) = (0.5, 0.125, Some(0.25), 8);
        check(train.into());

        let mut probe = Probe::of("run", &[ProbeType::AccMax, ProbeType::Pos, ProbeType::Speed]);
        (probe.subject, probe.tuned, probe.out) = (subject(), tuned(), "out".into());
        probe.site = NeuronSite::Gate;
        (probe.pos, probe.with_texts) = (vec![NeuronChoice::At(1, 2), NeuronChoice::Best], true);
        probe.splits = vec![Split::Dev, Split::Test];
        (probe.shard, probe.batch) = (Some(Shard { index: 2, count: 3 }), Some(some(4)));
        (probe.repeats, probe.overwrite) = (some(2), true);
        (probe.fire_bits, probe.variance) = (true, true);
        probe.metric_column = Some("length".into());
        (probe.rank, probe.compare) = (Ranking::ALL.to_vec(), vec!["0.05".parse().unwrap()]);
        check(probe.into());

        let mut select = Select::new("a", "out");
        select.counts = vec![vec!["a".into(), "b".into()], vec!["c".into()], vec!["d".into(), "e".into()]];
        (select.aggregate, select.class) = (skn_session::Aggregate::Min, Some(1));
        (select.shares, select.task) = (vec!["0.05".parse().unwrap()], Some("t".into()));
        (select.lowest, select.overwrite) = (true, true);
        check(select.into());

        let edits = [
            EditChoice::Gaussian { alpha: 0.5, noise: NeuronNoise::PerToken, repeats: some(3) },
            EditChoice::Zero,
            EditChoice::Mean { averages: "train_avg".into() },
        ];
        for edit in edits {
            let mut perturb = Perturb::of("run", vec!["0.1".into(), "0.2".into()], edit);
            (perturb.subject, perturb.tuned, perturb.controls) = (subject(), tuned(), 4);
            perturb.layers = LayerRange { low_layer: Some(1), high_layer: Some(2) };
            (perturb.matched, perturb.class_masks) = (Some("v".into()), vec!["c".into(), "d".into()]);
            perturb.matched_masks = vec!["0.2".into()];
            (perturb.batch, perturb.overwrite) = (Some(some(2)), true);
            perturb.name = Some("zeros".into());
            check(perturb.into());
        }

        let mut prune = Prune::of("run", "0.1", "train_avg", "pruned");
        (prune.subject, prune.fold, prune.dense) = (subject(), Fold::PerPositionGroup, true);
        (prune.text_averages, prune.round_width) = (Some("text".into()), some(64));
        prune.layers = LayerRange { low_layer: Some(1), high_layer: Some(2) };
        (prune.prepend_mask, prune.verbalizer, prune.overwrite) = (true, true, true);
        check(prune.clone().into());
        (prune.dense, prune.uniform, prune.layers) = (false, true, LayerRange::default());
        check(prune.into());

        let mut evaluate = Evaluate::of("run");
        (evaluate.subject, evaluate.tuned, evaluate.split) = (subject(), tuned(), Split::Dev);
        (evaluate.calibrate, evaluate.batch) = (true, Some(some(2)));
        (evaluate.out, evaluate.overwrite) = (Some("out".into()), true);
        check(evaluate.clone().into());
        (evaluate.calibrate, evaluate.calibrated) = (false, true);
        check(evaluate.into());

        let mut report = DrawReport::new("run");
        (report.figures, report.overwrite) = (Some("figures".into()), true);
        (report.csv, report.neurons) = (Some("csv".into()), vec![(9, 1893), (0, 2)]);
        check(report.into());
    }
}
