//! Seeds and tasks compared by what their probes found.

use serde_json::{Value, json};
use skn_report::{Chart, Drawn, Line, Look, Point, Section, Table};
use skn_stats::spearman;

use super::files;
use super::plan::{Marked, Plan, Planned, PlannedTask, of, percent};
use crate::error::Result;
use crate::session::Session;

/// A tuned prompt of each task and seed.
pub(super) fn all_seeds(plan: &Plan<'_>) -> Vec<Planned> {
    let each = |task| plan.seeds().flat_map(move |seed| of(task, seed, plan.tuned(task, seed)));
    plan.tasks.iter().flat_map(each).collect()
}

/// A tuned prompt of each task, of the first seed.
pub(super) fn first_seeds(plan: &Plan<'_>) -> Vec<Planned> {
    let seed = plan.first_seed();
    plan.tasks.iter().flat_map(|task| of(task, seed, plan.tuned(task, seed))).collect()
}

/// Spearman's rank correlation of the neurons' scores: over all, and of each layer.
struct Agreement {
    all: f64,
    layers: Vec<f64>,
}

impl Agreement {
    fn of(a: &[Vec<f64>], b: &[Vec<f64>]) -> Result<Self> {
        let layers = a.iter().zip(b).map(|(a, b)| Ok(spearman(a, b)?)).collect::<Result<_>>()?;
        Ok(Self { all: spearman(&a.concat(), &b.concat())?, layers })
    }

    /// A row for all neurons, and one for each layer.
    fn rows(&self, labels: &[Value]) -> Vec<Vec<Value>> {
        let of_layer = self.layers.iter().enumerate().map(|(layer, rho)| (json!(layer), rho));
        let all = std::iter::once((Value::Null, &self.all)).chain(of_layer);
        all.map(|(layer, rho)| [labels, &[layer, json!(rho)]].concat()).collect()
    }
}

/// All pairs of items, each once.
fn pairs<T>(items: &[T]) -> impl Iterator<Item = (&T, &T)> {
    items.iter().enumerate().flat_map(|(place, a)| items[place + 1..].iter().map(move |b| (a, b)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The least and the greatest.
fn ends(values: &[f64]) -> [f64; 2] {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    [low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
}

fn span(values: &[f64]) -> String {
    let [low, high] = ends(values);
    format!("{:.3} on average ({low:.3} to {high:.3})", mean(values))
}

/// The share of `chosen` neurons of each of `layers` layers, of `width` each, that are also among as many others, where these are drawn
/// at random: its mean, and between what it lies in 95 of 100 draws. Of each layer it is hypergeometric; the sum is taken for normal.
pub(super) fn by_chance(layers: usize, width: usize, chosen: usize) -> (f64, [f64; 2]) {
    let (layers, width, chosen) = (layers as f64, width as f64, chosen as f64);
    let share = chosen / width;
    let variance = chosen * share * (1.0 - share) * (width - chosen) / (width - 1.0).max(1.0);
    let reach = 1.96 * (variance / layers).sqrt() / chosen;
    (share, [(share - reach).max(0.0), (share + reach).min(1.0)])
}

/// A line of the mean over several agreements of each layer, between the least and the greatest of them.
fn by_layer(name: String, agreements: &[Agreement]) -> Line {
    let layers = agreements.first().map_or(0, |first| first.layers.len());
    let at = |layer: usize| agreements.iter().map(|of| of.layers[layer]).collect::<Vec<_>>();
    let point = |layer: usize| {
        let values = at(layer);
        let point = Point::at(layer as f64, mean(&values));
        if values.len() > 1 { point.between(ends(&values)) } else { point }
    };
    let points = (0..layers).map(point).collect();
    Line { name, points, look: Look::Solid }
}

pub(super) fn seeds(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    let seeds: Vec<u64> = plan.seeds().collect();
    if seeds.len() < 2 {
        let why = "There is one seed: nothing to compare.".into();
        return Ok(Section { paragraphs: vec![why], ..Section::default() });
    }
    let (mut lines, mut rows, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for task in &plan.tasks {
        let scores = seeds.iter().map(|&seed| Ok((seed, files::scores(plan, task, seed)?)));
        let scores = scores.collect::<Result<Vec<_>>>()?;
        let mut agreements = Vec::new();
        for ((a, of_a), (b, of_b)) in pairs(&scores) {
            let agreement = Agreement::of(of_a, of_b)?;
            rows.extend(agreement.rows(&[json!(task.name), json!(a), json!(b)]));
            agreements.push(agreement);
        }
        let all: Vec<f64> = agreements.iter().map(|of| of.all).collect();
        said.push(format!("{}: {}", task.name, span(&all)));
        lines.push(by_layer(task.name.clone(), &agreements));
    }
    let found = format!(
        "Spearman's rank correlation of the neurons' predictivity between two prompts tuned from different seeds, over all neurons: \
         {}. 1 is the same order, 0 none. Seeds differ in the first prompt, the order of the texts, dropout, and, where a task brings \
         no dev split, in which texts are dev.",
        said.join("; ")
    );
    let chart = Chart {
        name: "seeds-by-layer".into(),
        title: "Agreement of seeds by layer".into(),
        caption: match seeds.len() * (seeds.len() - 1) / 2 {
            1 => "Spearman's correlation of the predictivity of a layer's neurons between the two seeds."
                .into(),
            pairs => format!(
                "Spearman's correlation of the predictivity of a layer's neurons between two seeds: the mean over {pairs} pairs of them. \
                 Bands reach from the least to the greatest."
            ),
        },
        table: Table::from_rows(&["task", "seed_a", "seed_b", "layer", "spearman"], rows),
        drawn: Drawn::Lines { x_label: "layer".into(), y_label: "Spearman's correlation".into(), lines },
    };
    Ok(Section { paragraphs: vec![found], charts: vec![chart], ..Section::default() })
}

pub(super) fn tasks(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    if plan.tasks.len() < 2 {
        let why = "There is one task: nothing to compare.".into();
        return Ok(Section { paragraphs: vec![why], ..Section::default() });
    }
    let seed = plan.first_seed();
    let scores = plan.tasks.iter().map(|task| Ok((task, files::scores(plan, task, seed)?)));
    let scores: Vec<(&PlannedTask, Vec<Vec<f64>>)> = scores.collect::<Result<_>>()?;
    let (mut lines, mut rows, mut all) = (Vec::new(), Vec::new(), Vec::new());
    for ((a, of_a), (b, of_b)) in pairs(&scores) {
        let agreement = Agreement::of(of_a, of_b)?;
        rows.extend(agreement.rows(&[json!(a.name), json!(b.name)]));
        all.push((format!("{} and {}", a.name, b.name), agreement.all));
        lines.push(by_layer(format!("{} and {}", a.name, b.name), &[agreement]));
    }
    let values: Vec<f64> = all.iter().map(|(_, rho)| *rho).collect();
    let most = all.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let most = most.map(|(pair, rho)| format!(" Most alike are {pair}, with {rho:.3}."));
    let found = format!(
        "Spearman's rank correlation of the neurons' predictivity between the prompts of two tasks, over all neurons: {}.{}",
        span(&values),
        most.unwrap_or_default()
    );
    let columns = ["task_a", "task_b", "layer", "spearman"];
    let table = Table::from_rows(&columns, rows);
    let cells = scores
        .iter()
        .map(|(_, a)| scores.iter().map(|(_, b)| Ok(Agreement::of(a, b)?.all)).collect::<Result<Vec<f64>>>());
    let names: Vec<String> = plan.tasks.iter().map(|task| task.name.clone()).collect();
    let map = Chart {
        name: "tasks-map".into(),
        title: "Agreement of tasks".into(),
        caption: "Spearman's correlation of the predictivity of all neurons between two tasks.".into(),
        table: table.clone(),
        drawn: Drawn::Map {
            y_label: "task".into(),
            rows: names.clone(),
            x_label: "task".into(),
            columns: names,
            cells: cells.collect::<Result<_>>()?,
        },
    };
    let chart = Chart {
        name: "tasks-by-layer".into(),
        title: "Agreement of tasks by layer".into(),
        caption: "Spearman's correlation of the predictivity of a layer's neurons between two tasks.".into(),
        table,
        drawn: Drawn::Lines { x_label: "layer".into(), y_label: "Spearman's correlation".into(), lines },
    };
    Ok(Section { paragraphs: vec![found], charts: vec![map, chart], ..Section::default() })
}

pub(super) fn overlap(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    let (mut sets, mut shape) = (Vec::new(), (0, 0));
    for (place, task) in plan.tasks.iter().enumerate() {
        for seed in plan.seeds() {
            let mask = files::mask(&plan.mask_of(task, seed, Marked::Skill, plan.share))?;
            shape = (mask.neurons().len(), mask.width());
            sets.push((place, seed, files::skill(plan, task, seed)?));
        }
    }
    let names: Vec<String> = plan.tasks.iter().map(|task| task.name.clone()).collect();
    let count = names.len();
    let mut shared = vec![vec![Vec::new(); count]; count];
    let mut rows = Vec::new();
    for ((task_a, seed_a, a), (task_b, seed_b, b)) in pairs(&sets) {
        let both = a.intersection(b).count() as f64;
        let part = both / a.len().min(b.len()).max(1) as f64;
        let jaccard = skn_stats::jaccard(a, b);
        let labels = [json!(names[*task_a]), json!(seed_a), json!(names[*task_b]), json!(seed_b)];
        rows.push([&labels[..], &[json!(plan.share.to_string()), json!(part), json!(jaccard)]].concat());
        shared[*task_a][*task_b].push(part);
        if task_a != task_b {
            shared[*task_b][*task_a].push(part);
        }
    }
    let cells: Vec<Vec<f64>> =
        shared.iter().map(|row| row.iter().map(|parts| mean(parts)).collect()).collect();
    let of = |same: bool| -> Vec<f64> {
        let places = (0..count).flat_map(|a| (a..count).map(move |b| (a, b)));
        places.filter(|(a, b)| (a == b) == same).flat_map(|(a, b)| shared[a][b].clone()).collect()
    };
    let said = |what: &str, values: Vec<f64>| {
        if values.is_empty() { String::new() } else { format!(" {what}: {}.", span(&values)) }
    };
    let (chance, [low, high]) = by_chance(shape.0, shape.1, plan.share.count(shape.1));
    let found = format!(
        "The share of the skill neurons of one prompt, the best {} of each layer, that are also those of another. Two random choices \
         would share {chance:.3} of them on average, and {low:.3} to {high:.3} in 95 of 100 cases.{}{}",
        percent(plan.share),
        said("Of one task and two seeds", of(true)),
        said("Of two tasks", of(false)),
    );
    let columns = ["task_a", "seed_a", "task_b", "seed_b", "share", "overlap", "jaccard"];
    let known = cells.iter().flatten().all(|value| value.is_finite());
    let chart = Chart {
        name: "overlap-map".into(),
        title: "Shared skill neurons".into(),
        caption: if known {
            format!(
                "The share that both have: the mean over pairs of {} seeds, on the diagonal of two seeds of the task.",
                plan.options.seeds
            )
        } else {
            "The share that both have, of one seed a task: on the diagonal there is nothing to compare, and it is drawn as 1.".into()
        },
        table: Table::from_rows(&columns, rows),
        drawn: Drawn::Map {
            y_label: "task".into(),
            rows: names.clone(),
            x_label: "task".into(),
            columns: names,
            cells: cells
                .into_iter()
                .map(|row| row.into_iter().map(|x| if x.is_finite() { x } else { 1.0 }).collect())
                .collect(),
        },
    };
    Ok(Section { paragraphs: vec![found], charts: vec![chart], ..Section::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_by_hand() {
        let a = [vec![1.0, 2.0, 3.0], vec![3.0, 1.0, 2.0]];
        let b = [vec![3.0, 2.0, 1.0], vec![6.0, 2.0, 4.0]];
        let Agreement { layers, all } = Agreement::of(&a, &b).unwrap();
        assert_eq!(layers, [-1.0, 1.0]);
        assert!(all.abs() < 1.0);
        assert_eq!(pairs(&[1, 2, 3]).collect::<Vec<_>>(), [(&1, &2), (&1, &3), (&2, &3)]);
        // Of 4 neurons 2 are drawn, in one layer: 0, 1 or 2 of two are among them with 1, 4 and 1 of 6.
        let (mean, [low, high]) = by_chance(1, 4, 2);
        assert_eq!((mean, low, high), (0.5, 0.0, 1.0));
        let (_, [low, high]) = by_chance(100, 4, 2);
        let reach = 1.96 * (1.0f64 / 12.0 / 100.0).sqrt();
        assert!((high - low - 2.0 * reach).abs() < 1e-12, "the variance of a layer's share is 1/12");
        assert_eq!(span(&[0.5, 1.0]), "0.750 on average (0.500 to 1.000)");
    }
}
