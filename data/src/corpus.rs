//! The text that the demo model is pre-trained on.

use skn_random::{Key, Purpose, Rng};

use crate::grammar::{Level, inference, judgement};
use crate::words::{INFERENCE, REMARKS, RIGHT, SENTIMENT, TOPICS, WRONG};

/// A document of the corpus: an opening line, often with a word that the text below bears out or belies, and one
/// text or two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The line before the text; empty in some.
    pub opening: String,
    /// The text.
    pub text: String,
    /// A second text.
    pub second: Option<String>,
    /// What the opening line says of its first word, if that is a label word.
    pub claim: Claim,
    /// The task whose label word the opening line begins with.
    pub task: Option<&'static str>,
}

/// What an opening line says of its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// That it fits the text; and it does.
    Right,
    /// That it does not; and it does not.
    Wrong,
    /// Nothing; and it may be any of the task's words.
    Open,
}

/// How far the curriculum is at a step: the hardest level of texts, and whether opening lines may be wrong or open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// The hardest level.
    pub level: Level,
    /// Out of 100 opening lines, how many are wrong, and how many open.
    pub wrong_and_open: [usize; 2],
}

impl Stage {
    /// The stage at `step` of `total`: a fifth of direct clauses, then facts, negation and contrast join in.
    pub fn at(step: u64, total: u64) -> Self {
        let share = step as f64 / total.max(1) as f64;
        let level = match share {
            ..0.12 => Level::Direct,
            ..0.2 => Level::Facts,
            ..0.3 => Level::Negation,
            _ => Level::Contrast,
        };
        let wrong_and_open = match share {
            ..0.16 => [0, 20],
            ..0.25 => [15, 25],
            _ => [30, 30],
        };
        Self { level, wrong_and_open }
    }

    /// What the corpus comes to.
    pub fn last() -> Self {
        Self::at(1, 1)
    }
}

/// Document `sample` of `step`.
pub fn document(seed: u64, step: u64, sample: u64, stage: Stage) -> Document {
    let mut rng = Key::new(seed, Purpose::Corpus).step(step).sample(sample).rng();
    let rng = &mut rng;
    // Easier texts keep coming, or what they taught is lost.
    let level = if rng.below(4) == 0 { Level::Direct } else { stage.level };
    if rng.below(4) == 0 {
        let pair = inference(rng, level);
        let (opening, claim) = opening(rng, &INFERENCE, pair.class, stage);
        return Document { opening, text: pair.premise, second: Some(pair.hypothesis), claim, task: Some("inference") };
    }
    let judged = judgement(rng, level);
    let (task, words, class) = match rng.below(3) {
        0 => ("topic", TOPICS.each_ref().map(|topic| topic.name).to_vec(), judged.topic),
        _ => ("sentiment", SENTIMENT.to_vec(), judged.sentiment),
    };
    let (opening, claim) = opening(rng, &words, class, stage);
    let task = (!opening.is_empty()).then_some(task);
    Document { opening, text: judged.text, second: None, claim, task }
}

/// A line like "positive ? right . said anna ." over a text of `class`.
fn opening(rng: &mut Rng, words: &[&str], class: usize, stage: Stage) -> (String, Claim) {
    let [wrong, open] = stage.wrong_and_open;
    let claim = match rng.below(100) {
        n if n < wrong => Claim::Wrong,
        n if n < wrong + open => Claim::Open,
        _ => Claim::Right,
    };
    let mut remarks: Vec<&str> = (0..rng.below(4)).map(|_| REMARKS[rng.below(REMARKS.len())]).collect();
    let other = (class + 1 + rng.below(words.len() - 1)) % words.len();
    let (word, verdict) = match claim {
        Claim::Right => (words[class], Some(RIGHT[rng.below(RIGHT.len())])),
        Claim::Wrong => (words[other], Some(WRONG[rng.below(WRONG.len())])),
        Claim::Open => (words[rng.below(words.len())], None),
    };
    if let Some(verdict) = verdict {
        let place = rng.below(remarks.len() + 1);
        remarks.insert(place, verdict);
    }
    let mark = ["?", ":", "."][rng.below(3)];
    let line = remarks.iter().fold(format!("{word}{mark}"), |line, remark| format!("{line} {remark} ."));
    (line, claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_line_alone_says_nothing_of_the_text() {
        let mut right = [0, 0];
        for sample in 0..6000 {
            let document = document(1, 0, sample, Stage::last());
            if document.task == Some("sentiment") && document.claim != Claim::Open {
                right[usize::from(document.claim == Claim::Right)] += 1;
            }
        }
        let share = right[1] as f64 / (right[0] + right[1]) as f64;
        assert!((0.5..0.65).contains(&share), "{share}");
    }

    #[test]
    fn the_same_document_comes_again_and_others_differ() {
        let of = |step, sample| document(1, step, sample, Stage::at(step, 100));
        assert_eq!(of(3, 4), of(3, 4));
        assert_ne!(of(3, 4).text, of(3, 5).text);
        assert_eq!(Stage::at(0, 100).level, Level::Direct);
    }
}
