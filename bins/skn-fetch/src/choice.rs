//! Which files of a repository are needed.

use anyhow::Result;
use skn_artifact::names::file;
use skn_hub::{Kind, Repository};
use skn_program::Failure;

/// The one file of weights, or the list of its shards.
pub(crate) const WEIGHTS: &str = file::WEIGHTS;
/// Which shard has which tensor.
pub(crate) const INDEX: &str = file::WEIGHTS_INDEX;

/// What rows of data come in, and `save_to_disk`'s descriptions of them.
const OF_DATA: [&str; 8] = [".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".arrow", ".toml"];

/// The files to fetch, of those that a repository has: those that `patterns` name, if any, else what the programs
/// read. Shards of weights are not among them: the index, which is, says which there are.
///
/// # Errors
/// If something is missing without which the rest is of no use.
pub(crate) fn choose<'a>(
    repository: &Repository,
    names: impl Iterator<Item = &'a str> + Clone,
    patterns: &[String],
) -> Result<Vec<&'a str>> {
    let lacks = |expected: &str, hint: &str| {
        let mut found: Vec<&str> = names.clone().take(FEW + 1).collect();
        if found.len() > FEW {
            found[FEW] = "..";
        }
        let found = if found.is_empty() { "no file".into() } else { found.join(", ") };
        let Repository { name, revision, .. } = repository;
        Failure::input(format!("{name}, revision {revision}: expected {expected}, found {found}; {hint}"))
    };
    if !patterns.is_empty() {
        let wanted = |name: &&str| patterns.iter().any(|pattern| matches(pattern, name));
        let chosen: Vec<&str> = names.clone().filter(wanted).collect();
        return match chosen.is_empty() {
            true => Err(lacks(&format!("files like {}", patterns.join(", ")), "say others with --include")),
            false => Ok(chosen),
        };
    }
    if repository.kind == Kind::Dataset {
        let wanted = |name: &&str| OF_DATA.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        let chosen: Vec<&str> = names.clone().filter(wanted).collect();
        return match chosen.is_empty() {
            true => Err(lacks(
                "Parquet, JSONL, JSON, CSV, TSV or Arrow files",
                "the Hub converts many data sets to Parquet: --revision refs/convert/parquet",
            )),
            false => Ok(chosen),
        };
    }
    let has = |wanted: &str| names.clone().any(|name| name == wanted);
    let is_tuned = names.clone().any(is_of_tuning);
    let is_model = has(file::CONFIG) || !is_tuned;
    let weights = if has(WEIGHTS) { WEIGHTS } else { INDEX };
    if is_model && !has(file::CONFIG) {
        return Err(lacks(
            file::CONFIG,
            "every model in Hugging Face form has one; is it a data set? --dataset",
        ));
    }
    if is_model && !has(weights) {
        let id = &repository.name;
        let pickled = names.clone().any(|name| name.ends_with(".bin") || name.ends_with(".pt"));
        let hint = if pickled {
            format!(
                "a .bin is a pickle, which may run code and is not read; convert it in Python: \
                 AutoModelForMaskedLM.from_pretrained({id:?}).save_pretrained(DIR, safe_serialization=True) and \
                 AutoTokenizer.from_pretrained({id:?}).save_pretrained(DIR), then --model DIR; or look among the \
                 repository's pull requests for one that adds safetensors: --revision refs/pr/N"
            )
        } else {
            "say which files to fetch with --include".into()
        };
        return Err(lacks(&format!("{WEIGHTS} or {INDEX}"), &hint));
    }
    let is_ours = has(file::SKILL_CONFIG);
    let wanted = |name: &&str| match *name {
        WEIGHTS | INDEX => is_model && *name == weights,
        // A temperature that was fitted for these parameters.
        file::SKILL_CONFIG | file::CALIBRATION => is_ours,
        _ => file::MODEL.contains(name) || is_of_tuning(name) || is_task_file(name),
    };
    Ok(names.filter(wanted).collect())
}

/// Whether tuned parameters have a file of this name: beside a model, or in a folder of their own, as in a run's `best`.
fn is_of_tuning(name: &str) -> bool {
    file::tuned_in_best().any(|of_tuning| of_tuning == name)
}

/// Names in a message, at most.
const FEW: usize = 12;

fn is_task_file(name: &str) -> bool {
    !name.contains('/') && name.ends_with(".toml")
}

/// Whether a name is like a pattern, in which `*` stands for any characters and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // Where the last `*` is, and how much of the name it stands for: one more each time that the rest does not fit.
    let (mut at, mut place, mut star) = (0, 0, None);
    while place < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(c) if *c == '?' || *c == name[place] => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                at = star_at + 1;
                place = from + 1;
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(kind: Kind, names: &[&str], patterns: &[&str]) -> Result<Vec<String>> {
        let repository = Repository::parse(kind, "owner/name").unwrap();
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let found = choose(&repository, names.iter().copied(), &patterns)?;
        Ok(found.into_iter().map(Into::into).collect())
    }

    #[test]
    fn a_model_is_what_the_programs_read() {
        let names =
            ["README.md", "config.json", "flax.msgpack", WEIGHTS, INDEX, "tokenizer.json", "x/a.toml"];
        let found = chosen(Kind::Model, &names, &[]).unwrap();
        assert_eq!(found, ["config.json", WEIGHTS, "tokenizer.json"]);
        let found = chosen(Kind::Model, &["config.json", INDEX, "model-00001-of-00002.safetensors"], &[]);
        assert_eq!(found.unwrap(), ["config.json", INDEX]);
        let prompt = ["adapter_config.json", "adapter_model.safetensors"];
        assert_eq!(chosen(Kind::Model, &prompt, &[]).unwrap(), prompt);
    }

    #[test]
    fn tuned_parameters_come_with_their_model_and_without() {
        let of_best = [
            "calibration.json",
            "config.json",
            WEIGHTS,
            "skn.json",
            "tokenizer.json",
            "tuned/adapter_config.json",
            "tuned/adapter_model.safetensors",
        ];
        let with_others = [&of_best[..], &["tuned/notes.json", "other/adapter_config.json"]].concat();
        assert_eq!(chosen(Kind::Model, &with_others, &[]).unwrap(), of_best);
        for alone in ["bitfit.safetensors", "prompt.safetensors"] {
            let names = ["README.md", alone, "skn.json"];
            assert_eq!(chosen(Kind::Model, &names, &[]).unwrap(), names[1..]);
        }
        let named_alike = ["calibration.json", "config.json", WEIGHTS];
        assert_eq!(chosen(Kind::Model, &named_alike, &[]).unwrap(), named_alike[1..]);
    }

    #[test]
    fn what_lacks_weights_is_refused() {
        let error = chosen(Kind::Model, &["config.json", "pytorch_model.bin"], &[]).unwrap_err().to_string();
        assert!(error.contains("safe_serialization=True") && error.contains("pytorch_model.bin"), "{error}");
        let error = chosen(Kind::Model, &["config.json"], &[]).unwrap_err().to_string();
        assert!(error.contains(INDEX) && !error.contains("pickle"), "{error}");
        let error = chosen(Kind::Model, &["a.parquet"], &[]).unwrap_err().to_string();
        assert!(error.contains("--dataset"), "{error}");
        let error = chosen(Kind::Dataset, &["glue.py"], &[]).unwrap_err().to_string();
        assert!(error.contains("refs/convert/parquet"), "{error}");
    }

    #[test]
    fn data_are_what_the_readers_know() {
        let names = [
            ".gitattributes",
            "README.md",
            "data/test.tsv",
            "data/train.csv",
            "data/x.jsonl",
            "load.py",
            "t/train-0.PARQUET",
        ];
        assert_eq!(chosen(Kind::Dataset, &names, &[]).unwrap(), [names[2], names[3], names[4], names[6]]);
    }

    #[test]
    fn patterns_replace_the_choice() {
        let names = ["sst2/train-0.parquet", "sst2/test-0.parquet", "cola/train-0.parquet"];
        assert_eq!(chosen(Kind::Dataset, &names, &["sst2/*"]).unwrap(), &names[..2]);
        assert!(chosen(Kind::Dataset, &names, &["*.csv"]).unwrap_err().to_string().contains("*.csv"));
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name) in [("*", ""), ("a*c", "abbc"), ("*b*", "abc"), ("a?c", "abc"), ("*ab", "aab")] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("a?", "a"), ("a*c", "abd"), ("*ab", "aba"), ("b", "ab")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
