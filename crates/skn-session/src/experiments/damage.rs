//! What perturbing does: which neurons, how many, how much noise; and to models that were tuned otherwise.

use std::path::PathBuf;

use serde_json::{Value, json};
use skn_artifact::PerturbationResult;
use skn_artifact::names::file;
use skn_perturb::EditKind;
use skn_report::{Chart, Drawn, Line, Look, Point, Section, Table, points};
use skn_select::Share;

use super::plan::{Marked, Plan, Planned, PlannedTask, of, percent};
use super::{agreement, files};
use crate::error::Result;
use crate::options::{EditChoice, Stage, Tuned, TunedMethod};
use crate::session::Session;

/// What is done to the neurons in one call: the edit at every share, or noise of one size at one share.
struct Sweep {
    /// Its folder in the task's run.
    name: String,
    edit: EditChoice,
    alpha: Option<f64>,
    shares: Vec<Share>,
}

fn sweeps(plan: &Plan<'_>, task: &PlannedTask) -> Vec<Sweep> {
    let shares = plan.options.shares.clone();
    let mut sweeps = vec![Sweep { name: "shares".into(), edit: plan.edit_of(task), alpha: None, shares }];
    for &alpha in &plan.options.alphas {
        let (edit, shares) = (plan.noise(alpha), vec![plan.share]);
        sweeps.push(Sweep { name: format!("noise-{alpha}"), edit, alpha: Some(alpha), shares });
    }
    sweeps
}

/// The folder of a sweep: of the skill neurons with random ones, and of all others.
fn folder(plan: &Plan<'_>, task: &PlannedTask, sweep: &Sweep, others: bool) -> PathBuf {
    let name = if others { format!("{}-others", sweep.name) } else { sweep.name.clone() };
    plan.run(task, plan.first_seed()).join("curves").join(name)
}

/// Another task, whose skill neurons are tried on this one.
fn other<'p>(plan: &'p Plan<'_>, task: &PlannedTask) -> Option<&'p PlannedTask> {
    let place = plan.tasks.iter().position(|of| of.name == task.name)?;
    let next = &plan.tasks[(place + 1) % plan.tasks.len()];
    (next.name != task.name).then_some(next)
}

pub(super) fn curve_stages(plan: &Plan<'_>) -> Vec<Planned> {
    let mut planned = agreement::first_seeds(plan);
    let seed = plan.first_seed();
    for task in &plan.tasks {
        let tuned = || Tuned::of(plan.run(task, seed));
        let mut stages: Vec<Stage> = vec![plan.select_lowest(task).into()];
        for sweep in sweeps(plan, task) {
            let masks = |of: &PlannedTask, marked| {
                sweep.shares.iter().map(|&share| plan.mask(of, marked, share)).collect::<Vec<_>>()
            };
            let out = folder(plan, task, &sweep, false);
            let mut skill = plan.perturb(task, tuned(), masks(task, Marked::Skill), sweep.edit.clone(), out);
            skill.controls = plan.options.draws.get();
            let mut others = masks(task, Marked::Lowest);
            others.extend(other(plan, task).into_iter().flat_map(|of| masks(of, Marked::Skill)));
            let out = folder(plan, task, &sweep, true);
            stages
                .extend([skill.into(), plan.perturb(task, tuned(), others, sweep.edit.clone(), out).into()]);
        }
        planned.extend(of(task, seed, stages));
    }
    planned
}

/// Results of a sweep by whose neurons they are of, each in the order of the shares.
fn results(
    plan: &Plan<'_>,
    task: &PlannedTask,
    sweep: &Sweep,
) -> Result<Vec<(String, Vec<PerturbationResult>)>> {
    let own = folder(plan, task, sweep, false);
    let mut others = files::perturbed(&folder(plan, task, sweep, true), file::SKILL)?;
    let of_other = others.split_off(sweep.shares.len().min(others.len()));
    let mut found = vec![
        ("skill".to_owned(), files::perturbed(&own, file::SKILL)?),
        ("random".to_owned(), files::perturbed(&own, file::RANDOM)?),
        ("lowest-ranked".to_owned(), others),
    ];
    found.extend(other(plan, task).map(|of| (format!("skill of {}", of.name), of_other)));
    Ok(found)
}

pub(super) fn curves(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    let (mut charts, mut said) = (Vec::new(), Vec::new());
    for task in &plan.tasks {
        let (mut rows, mut by_noise): (Vec<Vec<Value>>, Vec<Line>) = (Vec::new(), Vec::new());
        let mut by_share: Vec<Line> = Vec::new();
        let (mut texts, mut unperturbed, mut metric) = (0, f64::NAN, String::new());
        for sweep in sweeps(plan, task) {
            for (who, results) in results(plan, task, &sweep)? {
                let look = if who == "skill" { Look::Solid } else { Look::Dashed };
                let mut dots = Vec::new();
                for (share, result) in sweep.shares.iter().zip(&results) {
                    let share: f64 = share.to_string().parse().unwrap_or(f64::NAN);
                    rows.push(row(task, &who, share, result));
                    let x = sweep.alpha.unwrap_or(100.0 * share);
                    dots.push(Point::at(x, result.mean).between(result.interval));
                    (texts, unperturbed) = (result.rows, result.unperturbed);
                    metric.clone_from(&result.metric);
                    if sweep.alpha.is_none()
                        && Some(result.mask.as_str()) == Some(plan.share.to_string().as_str())
                    {
                        let change = result.mean - result.unperturbed;
                        said.push((task.name.clone(), who.clone(), change));
                    }
                }
                let lines = if sweep.alpha.is_some() { &mut by_noise } else { &mut by_share };
                match lines.iter_mut().find(|line| line.name == who) {
                    Some(line) => line.points.extend(dots),
                    None => lines.push(Line { name: who, points: dots, look }),
                }
            }
        }
        let table = Table::from_rows(&COLUMNS, rows);
        let chart = |name: &str, title: &str, caption: String, x_label: &str, lines| Chart {
            name: format!("curves-{}-{name}", task.name),
            title: format!("{title}: {}", task.name),
            caption,
            table: table.clone(),
            drawn: Drawn::Lines { x_label: x_label.into(), y_label: format!("{metric} on test"), lines },
        };
        for lines in [&mut by_share, &mut by_noise] {
            lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.x.total_cmp(&b.x)));
            lines.extend(as_it_is(lines, unperturbed));
        }
        let of = format!(
            "Bands are 95 % intervals over the {texts} texts of test; that of random neurons is over {}, whose mean the line is.",
            draws(plan)
        );
        let edit = done(plan.edit_of(task).kind());
        let caption = format!("{edit} {of}");
        charts.push(chart(
            "shares",
            "The metric by share",
            caption,
            "neurons perturbed in each layer (%)",
            by_share,
        ));
        if !by_noise.is_empty() {
            let caption =
                format!("Gaussian noise is added to {} of each layer's neurons. {of}", percent(plan.share));
            charts.push(chart(
                "noise",
                "The metric by noise",
                caption,
                "standard deviation of the noise",
                by_noise,
            ));
        }
    }
    let of_task = |task: &PlannedTask| {
        let own = said.iter().filter(|(of, ..)| *of == task.name);
        let changes = own.map(|(_, who, change)| format!("{who} {}", points(*change))).collect::<Vec<_>>();
        format!("{}: {}", task.name, changes.join(", "))
    };
    let found = format!(
        "By how many points the metric on test changes where {} of each layer's neurons are perturbed. {}. Lowest-ranked are the \
         neurons whose predictivity is nearest to a guess: they may do other work, so that they need not be idle.",
        percent(plan.share),
        plan.tasks.iter().map(of_task).collect::<Vec<_>>().join("; ")
    );
    Ok(Section { paragraphs: vec![found], charts, ..Section::default() })
}

const COLUMNS: [&str; 12] = [
    "task",
    "neurons",
    "share",
    "edit",
    "alpha",
    "metric",
    "unperturbed",
    "mean",
    "low",
    "high",
    "texts",
    "draws",
];

fn row(task: &PlannedTask, who: &str, share: f64, result: &PerturbationResult) -> Vec<Value> {
    let [low, high] = result.interval;
    let labels = [json!(task.name), json!(who), json!(share), json!(result.edit), json!(result.alpha)];
    let numbers =
        [json!(result.metric), json!(result.unperturbed), json!(result.mean), json!(low), json!(high)];
    [&labels[..], &numbers, &[json!(result.rows), json!(result.draws.len())]].concat()
}

/// The model as it is, for as far as other lines go; nothing where there are none.
fn as_it_is(lines: &[Line], unperturbed: f64) -> Option<Line> {
    let at = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.x));
    let last = at().reduce(f64::max)?;
    let points = vec![Point::at(0.0, unperturbed), Point::at(last, unperturbed)];
    Some(Line { name: "unperturbed".into(), points, look: Look::Level })
}

/// What is done to neurons, in a sentence.
fn done(edit: EditKind) -> &'static str {
    match edit {
        EditKind::Gaussian => "Gaussian noise is added to the neurons.",
        EditKind::Zero => "The neurons are set to zero.",
        EditKind::Mean => "The neurons are held at their means over train.",
    }
}

/// How many draws of random neurons there are, in words.
fn draws(plan: &Plan<'_>) -> String {
    match plan.options.draws.get() {
        1 => "1 draw".into(),
        many => format!("{many} draws"),
    }
}

/// Other ways of tuning, with the names of their runs.
const METHODS: [(TunedMethod, &str); 2] = [(TunedMethod::Bias, "bitfit"), (TunedMethod::Adapter, "adapter")];

/// The run of a task that is tuned by another method.
fn run_by(plan: &Plan<'_>, task: &PlannedTask, name: &str) -> PathBuf {
    plan.out.join(format!("{}-{name}", task.name))
}

pub(super) fn method_stages(plan: &Plan<'_>) -> Vec<Planned> {
    let mut planned = agreement::first_seeds(plan);
    let seed = plan.first_seed();
    for task in &plan.tasks {
        for (method, name) in METHODS {
            let run = run_by(plan, task, name);
            let train = plan.train(plan.subject(task, seed), method, run.clone());
            let masks = vec![plan.mask(task, Marked::Skill, plan.share)];
            let tuned = Tuned::of(run.clone()).by(method);
            let average = plan.average(plan.subject(task, seed), run.clone(), method);
            let edit = plan.edit_in(task, &run);
            let mut perturb = plan.perturb(task, tuned, masks, edit, run);
            perturb.controls = plan.options.draws.get();
            planned.extend(of(task, seed, [train.into(), average.into(), perturb.into()]));
        }
    }
    planned
}

pub(super) fn methods(_: &Session, plan: &Plan<'_>) -> Result<Section> {
    let (mut rows, mut texts) = (Vec::new(), Vec::new());
    let mut groups: Vec<(String, Vec<Point>)> = Vec::new();
    let (mut worse, mut sure, mut all) = (0, 0, 0);
    for (_, name) in METHODS {
        let mut dots = [Vec::new(), Vec::new(), Vec::new()];
        for (place, task) in plan.tasks.iter().enumerate() {
            let run = run_by(plan, task, name);
            let skill = files::perturbed(&run, file::SKILL)?;
            let random = files::perturbed(&run, file::RANDOM)?;
            let (Some(skill), Some(random)) = (skill.first(), random.first()) else { continue };
            let evidence = random.evidence.as_ref();
            rows.push(vec![
                json!(task.name),
                json!(name),
                json!(skill.unperturbed),
                json!(skill.mean),
                json!(random.mean),
                json!(evidence.map(|found| found.difference)),
                json!(evidence.map(|found| found.sign_flip_p)),
                json!(skill.rows),
                json!(random.draws.len()),
            ]);
            texts.push(format!("{} {}", task.name, skill.rows));
            all += 1;
            worse += usize::from(skill.mean < random.mean);
            sure +=
                usize::from(evidence.is_some_and(|found| found.difference < 0.0 && found.sign_flip_p < 0.05));
            let at = |height| Point::at(place as f64, height);
            let found = [skill, random].map(|of| at(of.mean).between(of.interval));
            let drawn = [at(skill.unperturbed), found[0], found[1]];
            dots.iter_mut().zip(drawn).for_each(|(dots, dot)| dots.push(dot));
        }
        let said = ["as it is", "skill perturbed", "random perturbed"];
        groups.extend(said.into_iter().zip(dots).map(|(what, dots)| (format!("{name}, {what}"), dots)));
    }
    let columns = ["task", "method", "unperturbed", "skill", "random", "difference", "p", "texts", "draws"];
    let found = format!(
        "The skill neurons that a prompt found, perturbed in models that were tuned without one. In {worse} of {all} cases they cost more \
         than as many random ones; in {sure} that is a difference that other texts would hardly undo (sign flips, p < 0.05). Where they do, it is \
         not the prompt that made them matter."
    );
    let table = Table::from_rows(&columns, rows);
    let names = plan.tasks.iter().map(|task| task.name.clone()).collect();
    let chart = Chart {
        name: "methods".into(),
        title: "A prompt's skill neurons under BitFit and adapters".into(),
        caption: format!(
            "{} of each layer's neurons are perturbed. {}{} Whiskers are 95 % intervals: of skill neurons over texts, of random ones \
             over {}. Texts of test: {}.",
            percent(plan.share),
            done(plan.edit),
            if plan.edit == EditKind::Mean { " Means are of each model's own activations." } else { "" },
            draws(plan),
            texts[..texts.len().min(plan.tasks.len())].join(", ")
        ),
        table: table.clone(),
        drawn: Drawn::Dots { x_label: "task".into(), y_label: "metric on test".into(), names, groups },
    };
    Ok(Section {
        paragraphs: vec![found],
        charts: vec![chart],
        tables: vec![("The numbers".into(), table)],
        ..Section::default()
    })
}
