//! Is a skill neuron one that stands for a word? The words whose embeddings are nearest to what it adds to the hidden state, and
//! how far skill neurons are those of the label words.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use skn_model::output_weights;
use skn_report::{Chart, Drawn, Point, Section, Table};

use super::agreement::by_chance;
use super::files;
use super::plan::{Plan, PlannedTask, percent};
use crate::base::Base;
use crate::error::Result;
use crate::options::Tuned;
use crate::session::Session;

/// How many of a task's best neurons are shown.
const NEURONS: usize = 3;
/// How many words with the highest cosine, and with the lowest.
const WORDS: usize = 10;

/// Word embeddings, or what neurons add: rows of one length.
struct Rows {
    values: Vec<f32>,
    width: usize,
}

impl Rows {
    fn row(&self, place: usize) -> &[f32] {
        &self.values[place * self.width..][..self.width]
    }

    fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }
}

/// The cosine of two vectors; 0 where one is nought.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = (product(a, a) * product(b, b)).sqrt();
    if norms > 0.0 { product(a, b) / norms } else { 0.0 }
}

/// The places of the `count` highest values, the highest first; of equals the lower.
fn highest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(count);
    order
}

pub(super) fn words(session: &Session, plan: &Plan<'_>) -> Result<Section> {
    let (mut nearest, mut shared, mut said) = (Vec::new(), Vec::new(), Vec::new());
    let mut expected = String::new();
    let mut groups = [("skill neurons", Vec::new()), ("expected by chance", Vec::new())];
    for (place, task) in plan.tasks.iter().enumerate() {
        let subject = plan.subject(task, plan.first_seed());
        let base = Base::load(session, &subject, &Tuned::default())?;
        let width = base.model.config.hidden_size;
        let words = Rows { values: base.model.weights.word_embeddings()?, width };
        nearest.extend(nearest_words(plan, task, &base, &words)?);
        let part = label_neurons(plan, task, &base, &words)?;
        let (layers, width) = (base.model.config.layers(), base.model.config.widest());
        let (chance, [low, high]) = by_chance(layers, width, plan.share.count(width));
        expected = format!("{chance:.3} on average, and {low:.3} to {high:.3} in 95 of 100 cases");
        groups[0].1.push(Point::at(place as f64, part));
        groups[1].1.push(Point::at(place as f64, chance).between([low, high]));
        said.push(format!("{}: {part:.3}", task.name));
        let labels = [json!(task.name), json!(plan.share.to_string())];
        shared.push([&labels[..], &[json!(part), json!(chance), json!(low), json!(high)]].concat());
    }
    let found = format!(
        "The label words' neurons are the {} of each layer whose output weights have the highest cosine, in size, with the embedding of \
         any label word. The share of skill neurons that are among them is, by task, {}; of neurons chosen at random it would be \
         {expected}. The words below are tokens: a word, a part of one, or a byte, which by itself may be no character (\u{fffd}).",
        percent(plan.share),
        said.join("; ")
    );
    let columns = ["task", "layer", "index", "end", "rank", "word", "cosine"];
    let in_rows = side_by_side(&nearest);
    let words_table = Table::from_rows(&columns, nearest);
    let chart = Chart {
        name: "label-neurons".into(),
        title: "Skill neurons among the label words' neurons".into(),
        caption: "The share of skill neurons that are also among the neurons nearest to a label word. Whiskers are where the share of as many \
                  neurons chosen at random lies in 95 of 100 cases."
            .into(),
        table: Table::from_rows(&["task", "share", "overlap", "expected", "expected_low", "expected_high"], shared),
        drawn: Drawn::Dots {
            x_label: "task".into(),
            y_label: "share of the skill neurons".into(),
            names: plan.tasks.iter().map(|task| task.name.clone()).collect(),
            groups: groups.into_iter().map(|(name, dots)| (name.to_owned(), dots)).collect(),
        },
    };
    let heading =
        "Words with the highest and the lowest cosine with the output weights of the best neurons".into();
    Ok(Section {
        paragraphs: vec![found],
        charts: vec![chart],
        tables: vec![(heading, in_rows)],
        data: vec![("words".into(), words_table)],
        ..Section::default()
    })
}

/// The words of each neuron and end in one cell.
fn side_by_side(rows: &[Vec<Value>]) -> Table {
    let mut joined: Vec<Vec<Value>> = Vec::new();
    for row in rows {
        let word = row[5].as_str().unwrap_or_default();
        match joined.last_mut().filter(|last| last[..4] == row[..4]) {
            Some(last) => last[4] = json!(format!("{}, {word}", last[4].as_str().unwrap_or_default())),
            None => joined.push([&row[..4], &[json!(word)]].concat()),
        }
    }
    Table::from_rows(&["task", "layer", "index", "end", "words"], joined)
}

/// Rows of the table of words, for each of a task's best neurons.
fn nearest_words(
    plan: &Plan<'_>,
    task: &PlannedTask,
    base: &Base<'_>,
    words: &Rows,
) -> Result<Vec<Vec<Value>>> {
    let ranked = files::ranked(plan, &plan.run(task, plan.first_seed()), &task.name)?;
    let mut rows = Vec::new();
    for neuron in ranked.iter().take(NEURONS) {
        let (layer, index) = (neuron.rule.layer, neuron.rule.index);
        let outputs = outputs(base, layer)?;
        let cosines: Vec<f64> =
            (0..words.len()).map(|word| cosine(outputs.row(index), words.row(word))).collect();
        let negated: Vec<f64> = cosines.iter().map(|cosine| -cosine).collect();
        for (end, order) in [("highest", highest(&cosines, WORDS)), ("lowest", highest(&negated, WORDS))] {
            for (rank, word) in order.into_iter().enumerate() {
                let text = base.encoder.token_text(word as u32).unwrap_or_else(|| format!("token {word}"));
                let labels = [json!(task.name), json!(layer), json!(index), json!(end), json!(rank + 1)];
                rows.push([&labels[..], &[json!(text), json!(cosines[word])]].concat());
            }
        }
    }
    Ok(rows)
}

/// The share of a task's skill neurons that are among those nearest to a label word.
fn label_neurons(plan: &Plan<'_>, task: &PlannedTask, base: &Base<'_>, words: &Rows) -> Result<f64> {
    let skill = files::skill(plan, task, plan.first_seed())?;
    let mut near = BTreeSet::new();
    for layer in 0..base.model.config.layers() {
        let outputs = outputs(base, layer)?;
        let of_neuron = |neuron: usize| {
            let cosines = base
                .verbalizer
                .ids
                .iter()
                .map(|&id| cosine(outputs.row(neuron), words.row(id as usize)).abs());
            cosines.fold(0.0, f64::max)
        };
        let values: Vec<f64> = (0..outputs.len()).map(of_neuron).collect();
        let nearest = highest(&values, plan.share.count(values.len()));
        near.extend(nearest.into_iter().map(|neuron| (layer, neuron as u32)));
    }
    Ok(skill.intersection(&near).count() as f64 / skill.len().max(1) as f64)
}

fn outputs(base: &Base<'_>, layer: usize) -> Result<Rows> {
    let values = output_weights(&base.model.config, &base.model.weights, layer)?;
    Ok(Rows { values, width: base.model.config.hidden_size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_by_hand() {
        assert_eq!([cosine(&[1.0, 0.0], &[2.0, 0.0]), cosine(&[1.0, 0.0], &[0.0, 3.0])], [1.0, 0.0]);
        assert!((cosine(&[1.0, 1.0], &[-1.0, -1.0]) + 1.0).abs() < 1e-12);
        assert_eq!(cosine(&[0.0], &[1.0]), 0.0);
        assert_eq!(highest(&[0.5, 0.9, 0.5, 0.1], 3), [1, 0, 2]);
        let row = |end: &str, word: &str| {
            vec![json!("t"), json!(0), json!(1), json!(end), json!(1), json!(word), json!(0.5)]
        };
        let joined = side_by_side(&[row("highest", "a"), row("highest", "b"), row("lowest", "c")]);
        assert_eq!((&joined.data[0][4], joined.data.len()), (&json!("a, b"), 2));
    }
}
