//! The command line that usually follows a stage, with the paths that it left: what one who types them one by one asks for next.

use std::path::Path;

use skn_artifact::is_folder;
use skn_artifact::names::file;

/// The counts that are ranked first, where a probe left several.
const COUNTS: [&str; 4] = ["dev_perf", "dev_last_perf", "dev_mean_perf", "dev_max_perf"];
/// The share of the mask that is named.
const SHARE: &str = "0.1";

fn words(program: &str, arguments: &[&str]) -> Vec<String> {
    std::iter::once(program).chain(arguments.iter().copied()).map(str::to_owned).collect()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// After a training: a probe of it, of the text's last row where the prompt's see nothing of the text; of one that went on from another
/// run, such as a pruned one, how good its answers are.
pub(crate) fn after_train(run: &Path, goes_on: bool, has_blind_prompt: bool) -> Vec<String> {
    let run = shown(run);
    match (goes_on, has_blind_prompt) {
        (true, _) => words("skn-evaluate", &["--resume_from", &run]),
        (false, false) => words("skn-probe", &["--resume_from", &run, "--out", &run]),
        (false, true) => {
            words("skn-probe", &["--resume_from", &run, "--probe_type", "acc_last", "--out", &run])
        }
    }
}

/// After a probe or a merge that wrote these files in a run: the ranking of their counts of dev, if there are any.
pub(crate) fn after_counts(run: &Path, files: &[String]) -> Option<Vec<String>> {
    let counts = |name: &str| {
        let file = files.iter().map(|file| file.strip_suffix(".safetensors").unwrap_or(file));
        file.filter(|file| Path::new(file).ends_with(name)).map(|file| shown(&run.join(file))).next()
    };
    let found = COUNTS.iter().find_map(|name| counts(name))?;
    Some(words("skn-select", &["-a", &found, "--out", &shown(run)]))
}

/// After masks of these shares: what perturbing one does, beside random neurons; without anything tuned, the report.
pub(crate) fn after_select<'s>(
    run: &Path,
    masks: &Path,
    mut shares: impl Iterator<Item = &'s String>,
) -> Option<Vec<String>> {
    let out = shown(run);
    match is_folder(&run.join(file::BEST)) {
        Ok(true) if shares.any(|share| share == SHARE) => {
            let mask = shown(&masks.join(SHARE));
            Some(words("skn-mask", &["--resume_from", &out, "--info_path", &mask, "--cmp", "--out", &out]))
        }
        Ok(false) => Some(words("skn-report", &[&out])),
        _ => None,
    }
}

/// After perturbing: the page of the run.
pub(crate) fn after_mask(run: &Path) -> Vec<String> {
    words("skn-report", &[&shown(run)])
}

/// After pruning: a training of what is left, beside it.
pub(crate) fn after_prune(run: &Path) -> Vec<String> {
    let run = shown(run);
    words("skn-train", &["--resume_from", &run, "--out", &format!("{run}-tuned")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_that_are_there_are_ranked() {
        let after = |files: &[&str]| {
            let files: Vec<String> = files.iter().map(|file| format!("mine/{file}.safetensors")).collect();
            after_counts(Path::new("a b"), &files).map(|words| words.join(" "))
        };
        assert_eq!(
            after(&["train_avg", "dev_mean_perf", "dev_perf"]).unwrap(),
            "skn-select -a a b/mine/dev_perf --out a b"
        );
        assert_eq!(
            after(&["test_mean_perf", "dev_max_perf", "dev_mean_perf"]).unwrap(),
            "skn-select -a a b/mine/dev_mean_perf --out a b"
        );
        assert_eq!(after(&["train_avg", "test_perf"]), None, "without dev nothing is chosen");
    }
}
