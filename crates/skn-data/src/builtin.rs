/// The tasks that are built in, as (name, task file), sorted by name.
pub(crate) const TASKS: &[(&str, &str)] = &[
    ("ag_news", include_str!("../tasks/ag_news.toml")),
    ("ag_news_s", include_str!("../tasks/ag_news_s.toml")),
    ("cola", include_str!("../tasks/cola.toml")),
    ("dbpedia", include_str!("../tasks/dbpedia.toml")),
    ("dbpedia_s", include_str!("../tasks/dbpedia_s.toml")),
    ("deontology", include_str!("../tasks/deontology.toml")),
    ("empty", include_str!("../tasks/empty.toml")),
    ("ethos", include_str!("../tasks/ethos.toml")),
    ("hate", include_str!("../tasks/hate.toml")),
    ("hate-neu", include_str!("../tasks/hate-neu.toml")),
    ("hate-pn", include_str!("../tasks/hate-pn.toml")),
    ("imdb", include_str!("../tasks/imdb.toml")),
    ("justice", include_str!("../tasks/justice.toml")),
    ("mnli", include_str!("../tasks/mnli.toml")),
    ("mnli-neu", include_str!("../tasks/mnli-neu.toml")),
    ("mnli-pn", include_str!("../tasks/mnli-pn.toml")),
    ("qnli", include_str!("../tasks/qnli.toml")),
    ("qqp", include_str!("../tasks/qqp.toml")),
    ("sst2", include_str!("../tasks/sst2.toml")),
    ("tweet_eval", include_str!("../tasks/tweet_eval.toml")),
    ("tweet_eval-neu", include_str!("../tasks/tweet_eval-neu.toml")),
    ("tweet_eval-pn", include_str!("../tasks/tweet_eval-pn.toml")),
    ("tweets_hate", include_str!("../tasks/tweets_hate.toml")),
    ("virtue", include_str!("../tasks/virtue.toml")),
];

/// The text of a built-in task file.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    TASKS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The names nearest to `name`, as a hint; all names if none is near.
pub(crate) fn hint(name: &str) -> String {
    let wanted = name.to_lowercase().replace('-', "_");
    let mut near: Vec<(usize, &str)> =
        TASKS.iter().map(|(known, _)| (distance(&wanted, &known.replace('-', "_")), *known)).collect();
    near.sort_unstable();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.retain(|(distance, known)| *distance == best && *distance <= 1 + known.len() / 4);
    if near.is_empty() {
        let all: Vec<&str> = TASKS.iter().map(|(known, _)| *known).collect();
        return format!("the tasks are {}, or give a task file", all.join(", "));
    }
    let near: Vec<&str> = near.into_iter().map(|(_, known)| known).collect();
    format!("did you mean {}", near.join(" or "))
}

/// Levenshtein's distance in characters; of a `wanted` that is longer than any name only the beginning counts.
fn distance(wanted: &str, known: &str) -> usize {
    let known: Vec<char> = known.chars().collect();
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (line, letter) in wanted.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in known.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        assert_eq!(distance("sst2", "sst2"), 0);
        assert_eq!(distance("sst-2", "sst2"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn hints_name_what_was_meant() {
        assert_eq!(hint("sst-2"), "did you mean sst2");
        assert_eq!(hint("MNLI"), "did you mean mnli");
        assert_eq!(hint("tweet_eval_pn"), "did you mean tweet_eval-pn");
        assert_eq!(hint("hnli"), "did you mean mnli or qnli");
        assert!(hint("something else entirely").contains("ag_news, ag_news_s, cola"));
    }

    #[test]
    fn names_are_sorted() {
        assert!(TASKS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
