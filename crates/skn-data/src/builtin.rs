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

/// All names, as a hint.
pub(crate) fn hint() -> String {
    let all: Vec<&str> = TASKS.iter().map(|(known, _)| *known).collect();
    format!("the tasks are {}, or give a task file", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted() {
        assert!(TASKS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
