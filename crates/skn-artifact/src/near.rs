//! Names that were probably meant.

/// `did you mean a or b`, of the known names that are nearest to one that is not known; nothing where none is near. Case, and how
/// words are separated, count for nothing.
///
/// ```
/// let known = ["acc", "acc_mean", "acc_max", "speed"];
/// assert_eq!(skn_artifact::did_you_mean("acc-maen", known), Some("did you mean acc_mean".into()));
/// assert_eq!(skn_artifact::did_you_mean("perplexity", known), None);
/// ```
pub fn did_you_mean<'k>(wanted: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let plain = |name: &str| name.trim().to_lowercase().replace(['-', ' '], "_");
    let wanted = plain(wanted);
    let mut near: Vec<(usize, &str)> =
        known.into_iter().map(|known| (distance(&wanted, &plain(known)), known)).collect();
    near.sort_unstable();
    near.dedup();
    let best = near.first().map_or(0, |(distance, _)| *distance);
    near.retain(|(distance, known)| *distance == best && *distance <= 1 + known.chars().count() / 4);
    // A letter has nothing in common with another.
    near.retain(|(distance, known)| *distance < known.chars().count().max(1));
    let near: Vec<&str> = near.into_iter().map(|(_, known)| known).collect();
    (!near.is_empty()).then(|| format!("did you mean {}", near.join(" or ")))
}

/// Insertions, deletions, replacements and exchanges of neighbours that make one of the other; of long names the beginning counts.
fn distance(wanted: &str, known: &str) -> usize {
    let beginning = |name: &str| name.chars().take(64).collect::<String>();
    strsim::osa_distance(&beginning(wanted), &beginning(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_by_hand() {
        for (wanted, known, expected) in [
            ("sst2", "sst2", 0),
            ("sst-2", "sst2", 1),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("trian", "train", 1),
        ] {
            assert_eq!(distance(wanted, known), expected, "{wanted} {known}");
            assert_eq!(distance(known, wanted), expected, "{known} {wanted}");
        }
    }

    #[test]
    fn what_was_meant_is_named() {
        let tasks = ["mnli", "mnli-pn", "qnli", "sst2", "tweet_eval", "tweet_eval-pn"];
        let of = |wanted| did_you_mean(wanted, tasks);
        assert_eq!(of("sst-2").as_deref(), Some("did you mean sst2"));
        assert_eq!(of("MNLI").as_deref(), Some("did you mean mnli"));
        assert_eq!(of("tweet_eval_pn").as_deref(), Some("did you mean tweet_eval-pn"));
        assert_eq!(of("hnli").as_deref(), Some("did you mean mnli or qnli"));
        for far in ["something else entirely", "", "x"] {
            assert_eq!(of(far), None, "{far}");
        }
        assert_eq!(did_you_mean("x", ["a"]), None);
    }
}
