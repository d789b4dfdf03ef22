//! What the model answers to the texts of each class, as it is and with neurons perturbed.

use kuva::prelude::*;
use maud::{Markup, html};
use serde_json::json;
use skn_artifact::{ByClass, PerturbationResult};

use crate::axis::{names_at_places, task_name, with_names};
use crate::figure::{Figure, INK, layout, plain};
use crate::maps::Labelled;
use crate::number::{grouped, percent, points, three};
use crate::parts::Parts;
use crate::perturbed::groups;
use crate::sweep::Sweep;
use crate::table::Table;
use crate::task::Task;

/// The name of a task's figure of answers.
pub(crate) const CONFUSION: &str = "confusion";
/// The figures of damage by class.
pub(crate) const DAMAGE: [&str; 2] = ["accuracy-by-class", "damage-by-class"];

/// The answers of the tuned model by true class: each row in shares of it.
pub(crate) fn confusion(parts: &Parts, task: &Task) -> Option<Figure> {
    let counts = task.performance.as_ref()?.confusion.as_ref()?;
    let names: Vec<String> = (0..counts.len()).map(|class| parts.class(&task.name, class)).collect();
    let of_row = |row: &Vec<u64>| {
        let rows = row.iter().sum::<u64>().max(1) as f64;
        row.iter().map(|&count| count as f64 / rows).collect()
    };
    let cells: Vec<Vec<f64>> = counts.iter().map(of_row).collect();
    let mut table = Table::new(["class", "answer", "texts"]);
    for (class, row) in counts.iter().enumerate() {
        row.iter()
            .enumerate()
            .for_each(|(answer, texts)| table.push([json!(class), json!(answer), json!(texts)]));
    }
    let right: u64 = counts.iter().enumerate().map(|(class, row)| row[class]).sum();
    let all: u64 = counts.iter().flatten().sum();
    let caption = format!(
        "Colour is the share of a class's texts of test that gets the answer. {} of {} texts are on the diagonal, where the \
         answer is right.{}",
        grouped(right),
        grouped(all),
        most_frequent_error(counts, &names).unwrap_or_default()
    );
    let map = Labelled {
        y_label: "true class".into(),
        rows: names.iter().map(|name| plain(name)).collect(),
        x_label: "answer".into(),
        columns: names.iter().map(|name| plain(name)).collect(),
        cells,
    };
    map.figure(&task_name(task, CONFUSION), "The model's answers by true class", caption, table)
}

fn most_frequent_error(counts: &[Vec<u64>], names: &[String]) -> Option<String> {
    let cells = counts.iter().enumerate().flat_map(|(class, row)| {
        row.iter().enumerate().filter(move |(answer, _)| *answer != class).map(move |cell| (class, cell))
    });
    let (class, (answer, texts)) = cells.max_by_key(|(_, (_, texts))| **texts)?;
    let (class, answer) = (names.get(class)?, names.get(answer)?);
    (*texts > 0).then(|| {
        format!(" The most frequent error: {} texts of class {class} get {answer}.", grouped(*texts))
    })
}

/// The same as a table.
pub(crate) fn confusion_table(parts: &Parts, task: &Task) -> Option<Markup> {
    let counts = task.performance.as_ref()?.confusion.as_ref()?;
    let name = |class| parts.class(&task.name, class);
    Some(html! {
        div.scroll { table class="confusion" {
            thead { tr {
                th { "class / answer" }
                @for answer in 0..counts.len() { th.number { (name(answer)) } }
                th.number { "right" }
            } }
            tbody {
                @for (class, row) in counts.iter().enumerate() {
                    tr {
                        th { (name(class)) }
                        @for texts in row { td.number { (grouped(*texts)) } }
                        td.number { (three(row[class] as f64 / row.iter().sum::<u64>().max(1) as f64)) }
                    }
                }
            }
        } }
    })
}

/// The figures of what perturbing does to each class.
pub(crate) fn figures(parts: &Parts, sweep: &Sweep) -> Vec<Figure> {
    let figures = [accuracy(parts, sweep), damage(parts, sweep)];
    figures.into_iter().flatten().map(|figure| sweep.say(figure)).collect()
}

/// The results that the page tells of: those of the share of the summary, or else of the last mask.
fn told<'s>(
    parts: &Parts,
    sweep: &'s Sweep,
) -> Vec<(&'static str, &'static str, &'s PerturbationResult, &'s ByClass)> {
    let share = parts.summary.as_ref().map(|summary| summary.perturbation.share.as_str());
    let of_summary = sweep.skill.iter().find(|result| Some(result.mask.as_str()) == share);
    let share = of_summary.or_else(|| sweep.skill.last()).map(|result| result.mask.as_str()).or(share);
    let of_share = |results: &[PerturbationResult]| {
        results.iter().position(|result| Some(result.mask.as_str()) == share)
    };
    let found = groups(sweep).into_iter().filter_map(|(who, colour, results)| {
        let result = &results[of_share(results)?];
        Some((who, colour, result, result.by_class.as_ref()?))
    });
    found.collect()
}

/// A class's accuracy: as it is, with skill neurons perturbed, with random ones.
fn accuracy(parts: &Parts, sweep: &Sweep) -> Option<Figure> {
    let told = told(parts, sweep);
    let &(_, _, first, by_class) = told.first()?;
    let classes = by_class.rows.len();
    let mut table = Table::new(["class", "neurons", "accuracy", "texts"]);
    let mut plots = Vec::new();
    let mut series = vec![("unperturbed", INK, by_class, 0)];
    series.extend(told.iter().map(|&(who, colour, _, by_class)| (who, colour, by_class, 1)));
    let count = series.len() as f64;
    for (number, (who, colour, of, which)) in series.iter().enumerate() {
        let mut dots = Vec::new();
        for class in 0..classes {
            let value = of.accuracy(class).map(|both| both[*which]);
            table.push([json!(class), json!(who), json!(value), json!(of.rows.get(class))]);
            // Beside one another, so that equal ones are seen.
            let place = class as f64 + 1.0 + (number as f64 - (count - 1.0) / 2.0) * 0.12;
            dots.extend(value.map(|value| (place, value)));
        }
        let dots = ScatterPlot::new().with_data(dots).with_color(*colour).with_size(5.0);
        plots.push(Plot::Scatter(dots.with_legend(match *which {
            0 => "unperturbed".to_owned(),
            _ => format!("{who} neurons perturbed"),
        })));
    }
    let names: Vec<String> = (0..classes).map(|class| plain(&parts.class(&first.task, class))).collect();
    let layout = with_names(layout(&plots), &names)
        .with_x_label("true class")
        .with_y_label("share answered right on test")
        .with_x_axis_min(0.5)
        .with_x_axis_max(classes as f64 + 0.5)
        .with_x_tick_step(1.0)
        .with_x_tick_format(names_at_places(names))
        .with_y_axis_min(0.0)
        .with_y_axis_max(1.05);
    let skill = told.iter().find(|(who, ..)| *who == "skill").map(|(_, _, _, by_class)| by_class);
    let changes = (0..classes).filter_map(|class| {
        let [before, after] = skill?.accuracy(class)?;
        Some((class, after - before))
    });
    let worst = changes.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(class, change)| {
        let name = parts.class(&first.task, class);
        if change < 0.0 {
            format!(" Skill neurons cost most on the texts of class {name}: {} points.", points(change))
        } else {
            " Skill neurons cost nothing on the texts of any class.".into()
        }
    });
    let caption = format!(
        "The best {} of each layer's neurons, and as many random ones (means over draws).{}",
        percent(&first.mask),
        worst.unwrap_or_default()
    );
    let title = "What perturbing does to each class";
    Some(Figure::new(&sweep.figure(DAMAGE[0]), title, caption, table, (plots, layout)))
}

/// The neurons of a class against the texts of a class: points of accuracy lost.
fn damage(parts: &Parts, sweep: &Sweep) -> Option<Figure> {
    let first = sweep.classes.first()?;
    let mut table = Table::new(["neurons_of_class", "texts_of_class", "unperturbed", "perturbed", "share"]);
    let (mut rows, mut cells, mut own_is_worst) = (Vec::new(), Vec::new(), 0);
    for result in &sweep.classes {
        let (class, by_class) = (result.class?, result.by_class.as_ref()?);
        let mut row = Vec::new();
        for texts in 0..by_class.rows.len() {
            let found = by_class.accuracy(texts);
            row.push(found.map_or(f64::NAN, |[before, after]| (after - before) * 100.0));
            let [before, after] = [0, 1].map(|place| json!(found.map(|both| both[place])));
            table.push([json!(class), json!(texts), before, after, json!(result.mask)]);
        }
        own_is_worst += usize::from(suffers_most(&row, class));
        rows.push(plain(&parts.class(&result.task, class)));
        cells.push(row);
    }
    let columns = (0..cells.first()?.len()).map(|class| plain(&parts.class(&first.task, class))).collect();
    let caption = format!(
        "Colour is the change of the accuracy on a class's texts of test, in points, with the best {} of each layer's neurons \
         for a class perturbed. For {own_is_worst} of {} classes their own texts suffer most.{}",
        percent(&first.mask),
        sweep.classes.len(),
        if cells.iter().flatten().all(|change| change.is_finite()) {
            ""
        } else {
            " A class without texts on test has no colour."
        }
    );
    let map = Labelled {
        y_label: "neurons of class".into(),
        rows,
        x_label: "texts of class".into(),
        columns,
        cells,
    };
    map.figure(&sweep.figure(DAMAGE[1]), "Do the neurons of a class matter for that class?", caption, table)
}

/// Whether a class's texts lose, and more than those of each other class. `changes` are those of all classes, NaN of a class without
/// texts.
pub fn suffers_most(changes: &[f64], class: usize) -> bool {
    let others = changes.iter().enumerate().filter(|(other, change)| *other != class && !change.is_nan());
    changes
        .get(class)
        .is_some_and(|&own| own < 0.0 && others.map(|(_, other)| *other).all(|other| own < other))
}

/// Accuracy by class under every result, as a table.
pub(crate) fn by_class_table(parts: &Parts, sweep: &Sweep) -> Option<Markup> {
    let groups = groups(sweep);
    let all = groups
        .iter()
        .flat_map(|(who, _, results)| results.iter().map(move |result| ((*who).to_owned(), result)));
    let of_class = sweep.classes.iter().map(|result| {
        let class = result.class.map_or_else(String::new, |class| parts.class(&result.task, class));
        (format!("of class {class}"), result)
    });
    let rows: Vec<(String, &PerturbationResult, &ByClass)> = all
        .chain(of_class)
        .filter_map(|(who, result)| Some((who, result, result.by_class.as_ref()?)))
        .collect();
    let (_, first, by_class) = rows.first()?;
    let classes = by_class.rows.len();
    Some(html! {
        h3 { "Accuracy by class" }
        div.scroll { table class="by-class" {
            thead { tr {
                th { "neurons" } th.number { "share" }
                @for class in 0..classes { th.number { (parts.class(&first.task, class)) } }
            } }
            tbody {
                tr {
                    th { "unperturbed" } td.number { "–" }
                    @for class in 0..classes { td.number { (by_class.accuracy(class).map_or("–".into(), |both| three(both[0]))) } }
                }
                @for (who, result, by_class) in &rows {
                    tr {
                        th { (who) } td.number { (percent(&result.mask)) }
                        @for class in 0..classes {
                            td.number { (by_class.accuracy(class).map_or("–".into(), |both| three(both[1]))) }
                        }
                    }
                }
            }
        } }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_suffers_most_if_it_loses_more_than_all_others() {
        assert!(suffers_most(&[-1.0, -2.0, 0.5], 1));
        for (changes, class) in
            [([0.0, 0.0, 0.0], 0), ([-1.0, -1.0, 0.0], 0), ([0.1, 0.4, 0.3], 0), ([-1.0, -2.0, 0.0], 0)]
        {
            assert!(!suffers_most(&changes, class), "{changes:?}");
        }
        let without = [-1.0, f64::NAN, 0.5];
        assert_eq!([0, 1, 2].map(|class| suffers_most(&without, class)), [true, false, false]);
    }
}
