//! What the session crate says of options, in the words of the programs: flags and exit codes.

use skn_artifact::ArtifactError;
use skn_data::DataError;
use skn_program::{Failure, exit_code};
use skn_session::SessionError;

/// The flag of each option that a message of the session crate names.
const FLAGS: &[(&str, &str)] = &[
    ("aggregate", "--type"),
    ("alpha", "--alpha"),
    ("batch", "--batch"),
    ("calibrate", "--calibrate"),
    ("calibrated", "--calibrated"),
    ("class", "--class"),
    ("class_masks", "--class_path"),
    ("columns", "--column"),
    ("compare", "--compare"),
    ("controls", "--draws"),
    ("counts", "-a"),
    ("csv", "--csv"),
    ("cuda_graphs", "--cuda-graphs"),
    ("data", "--data"),
    ("delimiter", "--delimiter"),
    ("dense", "--dense"),
    ("device", "--device"),
    ("edit", "--type"),
    ("fdr", "--fdr"),
    ("figures", "--figures"),
    ("fire_bits", "--fire-bits"),
    ("fold", "--fold"),
    ("high_layer", "--high_layer"),
    ("input_format", "--input-format"),
    ("learning_rate", "--lr"),
    ("load", "-p"),
    ("low_layer", "--low_layer"),
    ("lowest", "--lowest"),
    ("masks", "--info_path"),
    ("matched", "--matched"),
    ("matched_masks", "--matched_path"),
    ("max_data", "--max-data"),
    ("max_length", "--max-length"),
    ("method", "--model_type"),
    ("metric_column", "--metric-column"),
    ("model", "--model"),
    ("name", "--name"),
    ("neurons", "--neuron"),
    ("out", "--out"),
    ("overwrite", "--force"),
    ("paper", "--compat"),
    ("permutations", "--permutations"),
    ("pos", "--pos"),
    ("prepend_mask", "--prepend-mask"),
    ("precision", "--dtype"),
    ("probe_type", "--probe_type"),
    ("prompt_place", "--prompt_place"),
    ("prompt_size", "--prompt_size"),
    ("prompt_text", "--prompt_text"),
    ("prompt_texts", "--prompt_text"),
    ("prune_layer", "--prune-layer"),
    ("rank", "--rank"),
    ("ranking", "--ranking"),
    ("report_every", "--report-every"),
    ("resume", "--resume"),
    ("resume_from", "--resume_from"),
    ("round_width", "--round-width"),
    ("runs", "RUN"),
    ("score", "--score"),
    ("shard", "--shard"),
    ("share", "--share"),
    ("shares", "--shares"),
    ("site", "--site"),
    ("splits", "--splits"),
    ("task", "--task"),
    ("task_file", "--task-file"),
    ("tasks", "--tasks"),
    ("text_averages", "--text_ths_path"),
    ("threshold", "--threshold"),
    ("uniform", "--uniform"),
    ("variance", "--variance"),
    ("verbalizer", "--verbalizer"),
    ("with_texts", "--with-texts"),
    ("words", "--verb"),
];

/// The exit code of an error: that of the innermost cause which has one, else 1.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    let known = |cause: &(dyn std::error::Error + 'static)| {
        let failure = cause.downcast_ref::<Failure>().map(Failure::exit_code);
        let session = || cause.downcast_ref().map(|error: &SessionError| exit_code(error.kind()));
        let data = || cause.downcast_ref().map(|error: &DataError| exit_code(error.kind()));
        let artifact = || cause.downcast_ref().map(|error: &ArtifactError| exit_code(error.kind()));
        failure.or_else(session).or_else(data).or_else(artifact)
    };
    error.chain().find_map(known).unwrap_or(1)
}

/// The same error with flags where it names options, and with the command line that goes on, `resumed`, where it was stopped.
pub(crate) fn in_flags(error: anyhow::Error, resumed: impl FnOnce() -> String) -> anyhow::Error {
    let code = code(&error);
    if let Some(SessionError::Stopped { step }) = error.downcast_ref() {
        let said = format!("a checkpoint of step {step} is written; this goes on: {}", resumed());
        return Failure::coded(code, said);
    }
    reworded(error, code)
}

fn reworded(error: anyhow::Error, code: u8) -> anyhow::Error {
    let mut said = error.chain().map(|cause| flags_for_options(&cause.to_string())).collect::<Vec<_>>();
    let innermost = said.pop().unwrap_or_default();
    said.into_iter().rev().fold(Failure::coded(code, innermost), anyhow::Error::context)
}

/// A message with flags where it names options: option `out` is `--out`.
pub(crate) fn flags_for_options(message: &str) -> String {
    let mut parts = message.split("option `");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let known = part.split_once('`').and_then(|(option, rest)| Some((flag(option)?, rest)));
        match known {
            Some((flag, rest)) => text = text + flag + rest,
            None => text = text + "option `" + part,
        }
    }
    text
}

fn flag(option: &str) -> Option<&'static str> {
    FLAGS.iter().find(|(name, _)| *name == option).map(|(_, flag)| *flag)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn options_become_flags() {
        let message = "option `shard` 1/2: split dev; option `nobody` knows, tensor `mask` neither";
        let expected = "--shard 1/2: split dev; option `nobody` knows, tensor `mask` neither";
        assert_eq!(flags_for_options(message), expected);
        let error = SessionError::Input("run: exists; option `overwrite` replaces it".into());
        let error = reworded(anyhow::Error::from(error).context("while reading"), 3);
        assert_eq!((error.to_string().as_str(), code(&error)), ("while reading", 3));
        assert_eq!(error.root_cause().to_string(), "run: exists; --force replaces it");
    }

    #[test]
    fn every_option_that_a_library_names_has_a_flag() {
        let mut names = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates"), &mut names);
        assert!(names.len() > 20, "{names:?}");
        let unknown: Vec<&String> = names.iter().filter(|name| flag(name).is_none()).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    /// The names behind the word option in code, comments left out.
    fn collect(folder: &Path, names: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, names);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
                for part in code.flat_map(|line| line.split("option `").skip(1)) {
                    let name = part.split_once('`').map(|(name, _)| name.to_owned());
                    names.extend(name.filter(|name| !name.starts_with('{')));
                }
            }
        }
    }
}
