//! The text that the demo model is pre-trained on.

use skn_random::{Key, Purpose, Rng};

use crate::grammar::{Level, inference, judgement};
use crate::words::{INFERENCE, REMARKS, RIGHT, SENTIMENT, TOPICS, WRONG};

/// A document of the corpus: lines that each begin with a label word, which the text below bears out or belies, and one
/// text or two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The lines before the text.
    pub opening: Vec<Line>,
    /// The text.
    pub text: String,
    /// A second text.
    pub second: Option<String>,
}

/// A line like "positive? right . said anna ."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The line.
    pub text: String,
    /// The task whose label word it begins with.
    pub task: &'static str,
    /// What it says of that word.
    pub claim: Claim,
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

/// Where the curriculum stands: the hardest level of texts, and what opening lines may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// The hardest level.
    pub level: Level,
    /// Out of 100 opening lines, how many are wrong, and how many open.
    pub wrong_and_open: [usize; 2],
    /// The most remarks in an opening line.
    pub remarks: usize,
}

impl Stage {
    /// The stage at `step` of `total`: direct clauses under lines that are right; then facts, lines that are wrong,
    /// negation and contrast join in one after another.
    pub fn at(step: u64, total: u64) -> Self {
        let share = step as f64 / total.max(1) as f64;
        let level = match share {
            ..0.15 => Level::Direct,
            ..0.35 => Level::Facts,
            ..0.5 => Level::Negation,
            _ => Level::Contrast,
        };
        let (wrong_and_open, remarks) = match share {
            ..0.15 => ([0, 0], 0),
            ..0.25 => ([0, 20], 2),
            _ => ([35, 30], 3),
        };
        Self { level, wrong_and_open, remarks }
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
        let opening = vec![line(rng, "inference", &INFERENCE, pair.class, stage)];
        return Document { opening, text: pair.premise, second: Some(pair.hypothesis) };
    }
    let judged = judgement(rng, level);
    let topics = TOPICS.each_ref().map(|topic| topic.name);
    let mut opening = vec![
        line(rng, "sentiment", &SENTIMENT, judged.sentiment, stage),
        line(rng, "topic", &topics, judged.topic, stage),
    ];
    match rng.below(4) {
        0 => opening.swap(0, 1),
        1 => opening.truncate(1),
        2 => drop(opening.remove(0)),
        _ => {}
    }
    Document { opening, text: judged.text, second: None }
}

/// A line over a text of `class`.
fn line(rng: &mut Rng, task: &'static str, words: &[&str], class: usize, stage: Stage) -> Line {
    let [wrong, open] = stage.wrong_and_open;
    let claim = match rng.below(100) {
        n if n < wrong => Claim::Wrong,
        n if n < wrong + open => Claim::Open,
        _ => Claim::Right,
    };
    let mut remarks: Vec<&str> =
        (0..rng.below(stage.remarks + 1)).map(|_| REMARKS[rng.below(REMARKS.len())]).collect();
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
    let text = remarks.iter().fold(format!("{word}{mark}"), |line, remark| format!("{line} {remark} ."));
    Line { text, task, claim }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_line_alone_says_nothing_of_the_text() {
        let mut claims = [0, 0, 0];
        for sample in 0..6000 {
            for line in document(1, 0, sample, Stage::last()).opening {
                claims[line.claim as usize] += 1;
            }
        }
        let share = |claim: Claim| f64::from(claims[claim as usize]) / f64::from(claims.iter().sum::<i32>());
        assert!(
            (share(Claim::Right) - 0.35).abs() < 0.03 && (share(Claim::Wrong) - 0.35).abs() < 0.03,
            "{claims:?}"
        );
    }

    #[test]
    fn lines_begin_with_the_words_of_their_task() {
        for sample in 0..500 {
            for line in document(1, 0, sample, Stage::last()).opening {
                let word = line.text.split(['?', ':', '.']).next().unwrap();
                let topics = TOPICS.each_ref().map(|topic| topic.name);
                let words: &[&str] = match line.task {
                    "sentiment" => &SENTIMENT,
                    "inference" => &INFERENCE,
                    _ => &topics,
                };
                assert!(words.contains(&word), "{line:?}");
            }
        }
    }

    #[test]
    fn the_same_document_comes_again_and_others_differ() {
        let of = |step, sample| document(1, step, sample, Stage::at(step, 100));
        assert_eq!(of(3, 4), of(3, 4));
        assert_ne!(of(3, 4).text, of(3, 5).text);
        assert_eq!(Stage::at(0, 100).level, Level::Direct);
    }
}
