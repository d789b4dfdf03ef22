//! Texts with a meaning that is known, because it was there before the words.

use skn_random::Rng;

use crate::words::{BAD, BAD_VERBS, DEGREES, DENIALS, GOOD, GOOD_VERBS, PEOPLE, TIMES, TOPICS, Topic};

/// How hard texts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// One clause that says what it means.
    Direct,
    /// Sentences that judge nothing beside it.
    Facts,
    /// Clauses that are denied.
    Negation,
    /// Two clauses of which one outweighs the other.
    Contrast,
}

/// A text, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The text.
    pub text: String,
    /// Class of task `sentiment`: 0 negative, 1 positive.
    pub sentiment: usize,
    /// Class of task `topic`: food, music, sports, travel.
    pub topic: usize,
}

/// A premise and a hypothesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inference {
    /// What is known.
    pub premise: String,
    /// What is asked.
    pub hypothesis: String,
    /// Class of task `inference`: 0 it follows, 1 it may be, 2 it is contradicted.
    pub class: usize,
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len())]
}

fn one_in(rng: &mut Rng, n: usize) -> bool {
    rng.below(n) == 0
}

/// A clause about `thing` that is meant as `good`, denied or not.
fn clause(rng: &mut Rng, topic: &Topic, thing: &str, good: bool, denied: bool) -> String {
    // A denied clause says the opposite of its words.
    let words_good = good != denied;
    let adjective = {
        let (own, shared) = if words_good { (topic.good, &GOOD) } else { (topic.bad, &BAD) };
        if one_in(rng, 2) { pick(rng, own) } else { pick(rng, shared) }
    };
    let verb = if words_good { pick(rng, &GOOD_VERBS) } else { pick(rng, &BAD_VERBS) };
    let degree = if one_in(rng, 2) { format!("{} ", pick(rng, &DEGREES)) } else { String::new() };
    let person = pick(rng, &PEOPLE);
    match (denied, rng.below(4)) {
        (true, 0) => format!("nobody {verb} the {thing}"),
        (true, 1) => format!("{person} never {verb} the {thing}"),
        (true, _) => format!("the {thing} was {} {adjective}", pick(rng, &DENIALS)),
        (false, 0) => format!("{person} {degree}{verb} the {thing}"),
        (false, 1) => format!("it was a {degree}{adjective} {thing}"),
        (false, _) => format!("the {thing} was {degree}{adjective}"),
    }
}

/// A sentence about `thing` that is meant as `good`, no harder than `level`.
fn sentence(rng: &mut Rng, topic: &Topic, thing: &str, good: bool, level: Level) -> String {
    let denied = level >= Level::Negation && one_in(rng, 3);
    if level < Level::Contrast || !one_in(rng, 3) {
        return clause(rng, topic, thing, good, denied);
    }
    let other = pick(rng, topic.things);
    let main = clause(rng, topic, thing, good, denied);
    let side_denied = one_in(rng, 6);
    let side = clause(rng, topic, other, !good, side_denied);
    match rng.below(4) {
        0 => format!("although {side}, {main}"),
        1 => format!("{main}, even though {side}"),
        2 => format!("{side}, but on the whole {main}"),
        _ => format!("{side}, but {main}"),
    }
}

/// A text about one topic with one judgement.
pub fn judgement(rng: &mut Rng, level: Level) -> Judgement {
    let (sentiment, topic) = (rng.below(2), rng.below(TOPICS.len()));
    let about = &TOPICS[topic];
    let thing = pick(rng, about.things);
    let mut sentences = vec![sentence(rng, about, thing, sentiment == 1, level)];
    if level >= Level::Facts {
        if one_in(rng, 4) {
            // The same judgement again, in other words.
            let other = pick(rng, about.things);
            sentences.push(clause(rng, about, other, sentiment == 1, false));
        }
        for _ in 0..rng.below(3) {
            let fact = pick(rng, about.facts);
            if sentences.iter().any(|sentence| sentence.ends_with(fact)) {
                continue;
            }
            let fact = if one_in(rng, 3) { format!("{} {fact}", pick(rng, &TIMES)) } else { fact.to_owned() };
            let place = rng.below(sentences.len() + 1);
            sentences.insert(place, fact);
        }
    }
    Judgement { text: sentences.join(" . ") + " .", sentiment, topic }
}

/// A premise, and a hypothesis that follows from it, contradicts it or speaks of something else.
pub fn inference(rng: &mut Rng, level: Level) -> Inference {
    let (class, good) = (rng.below(3), rng.below(2) == 1);
    let topic = pick_topic(rng);
    let thing = rng.below(topic.things.len());
    let other = (thing + 1 + rng.below(topic.things.len() - 1)) % topic.things.len();
    let denied = level >= Level::Negation && one_in(rng, 4);
    let mut premise = clause(rng, topic, topic.things[thing], good, denied);
    if level >= Level::Facts && one_in(rng, 2) {
        premise = format!("{} . {premise}", pick(rng, topic.facts));
    }
    let (asked, says_good) = match class {
        0 => (thing, good),
        1 => (other, one_in(rng, 2)),
        _ => (thing, !good),
    };
    let words: &[&str] = if says_good { &GOOD } else { &BAD };
    let hypothesis = format!("the {} was {} .", topic.things[asked], pick(rng, words));
    Inference { premise: premise + " .", hypothesis, class }
}

fn pick_topic(rng: &mut Rng) -> &'static Topic {
    &TOPICS[rng.below(TOPICS.len())]
}

#[cfg(test)]
mod tests {
    use skn_random::{Key, Purpose};

    use super::*;

    fn texts(level: Level, n: u64) -> Vec<Judgement> {
        (0..n)
            .map(|sample| judgement(&mut Key::new(5, Purpose::Corpus).sample(sample).rng(), level))
            .collect()
    }

    fn says(text: &str, words: &[&str]) -> bool {
        text.split([' ', ',']).any(|word| words.contains(&word))
    }

    fn all(
        words: fn(&Topic) -> &'static [&'static str],
        shared: &[&'static str],
        verbs: &[&'static str],
    ) -> Vec<&'static str> {
        TOPICS.iter().flat_map(words).chain(shared).chain(verbs).copied().collect()
    }

    #[test]
    fn direct_texts_say_what_they_mean() {
        let (good, bad) =
            (all(|topic| topic.good, &GOOD, &GOOD_VERBS), all(|topic| topic.bad, &BAD, &BAD_VERBS));
        for text in texts(Level::Direct, 500) {
            assert_eq!(
                (says(&text.text, &good), says(&text.text, &bad)),
                (text.sentiment == 1, text.sentiment == 0),
                "{text:?}"
            );
            assert!(says(&text.text, TOPICS[text.topic].things), "{text:?}");
        }
    }

    #[test]
    fn words_alone_do_not_give_the_judgement_away() {
        let (good, bad) =
            (all(|topic| topic.good, &GOOD, &GOOD_VERBS), all(|topic| topic.bad, &BAD, &BAD_VERBS));
        let texts = texts(Level::Contrast, 4000);
        let count = |text: &Judgement, words: &[&str]| {
            text.text.split([' ', ',']).filter(|word| words.contains(word)).count()
        };
        let right = texts.iter().filter(|text| {
            let (good, bad) = (count(text, &good), count(text, &bad));
            if good == bad {
                text.text.len() % 2 == text.sentiment
            } else {
                (good > bad) == (text.sentiment == 1)
            }
        });
        let share = right.count() as f64 / texts.len() as f64;
        assert!((0.5..0.75).contains(&share), "counting words is right for {share}");
    }

    #[test]
    fn classes_are_balanced() {
        let texts = texts(Level::Contrast, 4000);
        let positive = texts.iter().filter(|text| text.sentiment == 1).count();
        assert!((1800..2200).contains(&positive), "{positive}");
        let pairs =
            (0..3000).map(|n| inference(&mut Key::new(6, Purpose::Corpus).sample(n).rng(), Level::Contrast));
        let follows = pairs.filter(|pair| pair.class == 0).count();
        assert!((850..1150).contains(&follows), "{follows}");
    }
}
