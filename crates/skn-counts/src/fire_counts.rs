// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

use crate::performance::Performance;

/// What fire bits must come to: the counts of all texts, and how many of these have no bits.
#[derive(Clone, Debug)]
pub(crate) struct FireCounts {
    /// Texts of the class for which a neuron fires: `[C, L, P, F]`, or `[L, P, F]` of the one rule of two classes.
    hits: Vec<i64>,
    /// Texts of the rest for which it does.
    alarms: Vec<i64>,
    rules: Vec<Rule>,
}

/// A rule, and the texts of its class and of the rest that have no bits: none, unless the bits are of a sample.
#[derive(Clone, Copy, Debug)]
struct Rule {
    class: usize,
    left_out: i64,
    rest_left_out: i64,
}

/// The texts of each class that were counted, `[C]`; nothing of older counts, which do not say.
pub(crate) fn texts_by_class(counts: &Performance) -> Option<Vec<i64>> {
    Some(match counts.by_class()?.positives[..] {
        [of_class_1] => vec![counts.total() - of_class_1, of_class_1],
        ref each => each.to_vec(),
    })
}

impl FireCounts {
    /// Of counts by class, and the texts of each class that have bits, `[C]`: at most as many as were counted.
    pub(crate) fn new(counts: &Performance, with_bits: &[i64]) -> Option<Self> {
        let (by_class, texts) = (counts.by_class()?, texts_by_class(counts)?);
        let each = counts.correct().len() / by_class.positives.len().max(1);
        let alarm = |(place, (correct, hits)): (usize, (&i64, &i64))| {
            let of_class = by_class.positives.get(place / each.max(1)).copied().unwrap_or(0);
            // Of the rest it is right where the neuron is silent.
            (counts.total() - of_class) - (correct - hits)
        };
        let left_out: Vec<i64> = texts.iter().zip(with_bits).map(|(all, kept)| all - kept).collect();
        let all_left_out: i64 = left_out.iter().sum();
        let rule = |(class, &left_out): (usize, &i64)| Rule {
            class,
            left_out,
            rest_left_out: all_left_out - left_out,
        };
        let mut rules: Vec<Rule> = left_out.iter().enumerate().map(rule).collect();
        if by_class.positives.len() == 1 {
            rules.retain(|rule| rule.class == 1);
        }
        let alarms = counts.correct().iter().zip(&by_class.true_positive).enumerate().map(alarm).collect();
        Some(Self { hits: by_class.true_positive.clone(), alarms, rules })
    }

    /// What is wrong with a neuron's bits at a place of `[L, P, F]`, as expected and found; `of_class` says for how many texts
    /// of a class it fires by its bits, `fires` for how many of all.
    pub(crate) fn mismatch(
        &self,
        place: usize,
        fires: i64,
        of_class: impl Fn(usize) -> i64,
    ) -> Option<(String, i64)> {
        let size = self.hits.len() / self.rules.len().max(1);
        for (number, Rule { class, left_out, rest_left_out }) in self.rules.iter().enumerate() {
            let at = number * size + place;
            let (Some(&hits), Some(&alarms)) = (self.hits.get(at), self.alarms.get(at)) else { continue };
            let found = of_class(*class);
            let of_rest = format!("other classes than {class}");
            let checks = [
                (found, hits, left_out, format!("class {class}")),
                (fires - found, alarms, rest_left_out, of_rest),
            ];
            for (found, most, left_out, texts) in checks {
                // What was left out may be all that the neuron fires for.
                let least = (most - left_out).max(0);
                if !(least..=most).contains(&found) {
                    let range = if least == most { most.to_string() } else { format!("{least} to {most}") };
                    return Some((format!("{range} texts of {texts}, as were counted"), found));
                }
            }
        }
        None
    }
}
