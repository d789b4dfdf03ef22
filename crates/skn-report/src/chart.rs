//! Figures and pages of whoever has numbers to show: the look of a run's report, for what is no run.

use std::collections::BTreeMap;

use kuva::prelude::*;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use skn_artifact::visible;

use crate::axis::{names_at_places, with_names};
use crate::figure::{COLOURS, Figure, MUTED, PALETTE, PRUNED, RANDOM, SKILL, TUNED, layout, plain};
use crate::glossary;
use crate::maps::Labelled;
use crate::number::{p_value, three};
use crate::page::STYLE;
use crate::table::Table;

/// A figure to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Its name, fit for a file and an HTML id.
    pub name: String,
    /// What is seen.
    pub title: String,
    /// What the numbers say.
    pub caption: String,
    /// The numbers.
    pub table: Table,
    /// How they are drawn.
    pub drawn: Drawn,
}

/// How numbers are drawn. What is not finite is left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Drawn {
    /// Lines over a number.
    Lines {
        /// What the number is.
        x_label: String,
        /// What the height is.
        y_label: String,
        /// The lines.
        lines: Vec<Line>,
    },
    /// Dots above names, a colour for each group.
    Dots {
        /// What the names are.
        x_label: String,
        /// What the height is.
        y_label: String,
        /// The names.
        names: Vec<String>,
        /// The name of a group, and its dots, each at the place of a name, from 0.
        groups: Vec<(String, Vec<Point>)>,
    },
    /// A colour for each row and column; nothing is drawn where all are alike, or one is not known.
    Map {
        /// What rows are.
        y_label: String,
        /// Names of rows, from the top.
        rows: Vec<String>,
        /// What columns are.
        x_label: String,
        /// Names of columns.
        columns: Vec<String>,
        /// `[rows][columns]`; NaN is not known, and has no colour.
        cells: Vec<Vec<f64>>,
    },
}

/// A line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is of.
    pub name: String,
    /// Its points. Their intervals are a band, if each has one.
    pub points: Vec<Point>,
    /// How it is drawn.
    pub look: Look,
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// As what the chart is of.
    Solid,
    /// As what that is compared with.
    Dashed,
    /// As a level: dotted, without a dot at its points.
    Level,
}

/// A point of a chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The number that it stands above; of a dot the place of its name, from 0.
    pub x: f64,
    /// Its height.
    pub y: f64,
    /// The two ends of the interval of its height, if it is known.
    pub interval: Option<[f64; 2]>,
}

impl Point {
    /// A point without an interval.
    pub fn at(x: f64, y: f64) -> Self {
        Self { x, y, interval: None }
    }

    /// The same with the interval of its height.
    pub fn between(self, interval: [f64; 2]) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// What can be drawn of it: nothing of a height that is not finite, and of no interval that is not.
    fn drawn(self) -> Option<Self> {
        let interval = self.interval.filter(|ends| ends.iter().all(|end| end.is_finite()));
        (self.x.is_finite() && self.y.is_finite()).then_some(Self { interval, ..self })
    }

    /// How far the interval reaches below and above.
    fn whiskers(&self) -> (f64, f64) {
        self.interval.map_or((0.0, 0.0), |[low, high]| ((self.y - low).max(0.0), (high - self.y).max(0.0)))
    }
}

/// Where points are.
fn places(points: &[Point]) -> Vec<(f64, f64)> {
    points.iter().map(|point| (point.x, point.y)).collect()
}

/// A part of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its HTML id.
    pub id: String,
    /// Its heading.
    pub heading: String,
    /// What is to be said, a paragraph each.
    pub paragraphs: Vec<String>,
    /// Its figures.
    pub charts: Vec<Chart>,
    /// Tables shown as they are, each with its heading.
    pub tables: Vec<(String, Table)>,
    /// Tables that are too long to be shown, by name: they are for programs.
    pub data: Vec<(String, Table)>,
}

/// A page, with what is on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The page, complete.
    pub html: String,
    /// The figures by name, each an SVG document that stands alone.
    pub figures: BTreeMap<String, String>,
}

impl Page {
    /// Draws a page.
    pub fn new(title: &str, lead: &str, sections: &[Section]) -> Self {
        let mut figures = BTreeMap::new();
        let drawn: Vec<(&Section, Vec<Figure>)> = (sections.iter())
            .map(|section| (section, section.charts.iter().filter_map(Chart::figure).collect()))
            .collect();
        for figure in drawn.iter().flat_map(|(_, figures)| figures) {
            figures.insert(figure.name.clone(), figure.standalone());
        }
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(PALETTE)) (PreEscaped(STYLE)) }
                }
                body {
                    header { h1 { (title) } p.lead { (lead) } (glossary::section()) }
                    main { @for (section, figures) in &drawn { (part(section, figures)) } }
                }
            }
        };
        Self { html: visible(&page.into_string()).into_owned(), figures }
    }
}

fn part(section: &Section, figures: &[Figure]) -> Markup {
    html! {
        section id=(section.id) {
            h2 { (section.heading) }
            @for paragraph in &section.paragraphs { p { (paragraph) } }
            @if !figures.is_empty() {
                div.figures {
                    @for figure in figures {
                        figure id=(figure.name) { (PreEscaped(figure.inline())) figcaption { (figure.caption) } }
                    }
                }
            }
            @for (heading, table) in &section.tables { h3 { (heading) } (shown(table)) }
        }
    }
}

fn shown(table: &Table) -> Markup {
    html! {
        div.scroll { table class="numbers" {
            thead { tr {
                @for (place, column) in table.columns.iter().enumerate() {
                    th class=[is_number(table, place).then_some("number")] { (column.replace('_', " ")) }
                }
            } }
            tbody {
                @for row in &table.data {
                    tr { @for (place, value) in row.iter().enumerate() {
                        td class=[is_number(table, place).then_some("number")] { (cell(&table.columns[place], value)) }
                    } }
                }
            }
        } }
    }
}

/// Whether what is known of a column are numbers.
fn is_number(table: &Table, place: usize) -> bool {
    let mut known = table.data.iter().map(|row| &row[place]).filter(|value| !value.is_null()).peekable();
    known.peek().is_some() && known.all(Value::is_number)
}

fn cell(column: &str, value: &Value) -> String {
    match value {
        Value::Null => "–".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if column == "p" || column.ends_with("_p") { p_value(number) } else { decimal(number) }
        }
        other => other.to_string(),
    }
}

/// The colours of lines or dots by their names: of what is done to the model the same as in all figures, of the others the first that is
/// not taken.
fn colours<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'static str> {
    let own = |name: &str| match name {
        "untuned" | "unperturbed" => Some(MUTED),
        "tuned" => Some(TUNED),
        "skill" | "skill neurons perturbed" => Some(SKILL),
        "random" | "random neurons perturbed" => Some(RANDOM),
        "pruned" => Some(PRUNED),
        _ => None,
    };
    let taken: Vec<&str> = names.clone().filter_map(own).collect();
    let free: Vec<&'static str> = COLOURS.into_iter().filter(|colour| !taken.contains(colour)).collect();
    let mut others = if free.is_empty() { COLOURS.to_vec() } else { free }.into_iter().cycle();
    names.map(|name| own(name).or_else(|| others.next()).unwrap_or(MUTED)).collect()
}

/// A number to three decimals, a small one with two digits that say something.
fn decimal(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.0005 {
        format!("{value:.1e}").replace('-', "\u{2212}")
    } else {
        three(value)
    }
}

impl Chart {
    /// The figure; nothing where there is nothing to be seen.
    fn figure(&self) -> Option<Figure> {
        let (plots, layout) = match &self.drawn {
            Drawn::Lines { x_label, y_label, lines } => lines_of(x_label, y_label, lines)?,
            Drawn::Dots { x_label, y_label, names, groups } => dots_of(x_label, y_label, names, groups)?,
            Drawn::Map { y_label, rows, x_label, columns, cells } => {
                let names = |names: &[String]| names.iter().map(|name| plain(name)).collect();
                let map = Labelled {
                    y_label: y_label.clone(),
                    rows: names(rows),
                    x_label: x_label.clone(),
                    columns: names(columns),
                    cells: cells.clone(),
                };
                return map.figure(&self.name, &self.title, self.caption.clone(), self.table.clone());
            }
        };
        let (caption, table) = (self.caption.clone(), self.table.clone());
        Some(Figure::new(&self.name, &self.title, caption, table, (plots, layout)))
    }
}

fn lines_of(x_label: &str, y_label: &str, lines: &[Line]) -> Option<(Vec<Plot>, Layout)> {
    let mut plots = Vec::new();
    let colours = colours(lines.iter().map(|line| line.name.as_str()));
    for (Line { name, points, look }, colour) in lines.iter().zip(colours) {
        let points: Vec<Point> = points.iter().filter_map(|point| point.drawn()).collect();
        if points.is_empty() {
            continue;
        }
        let ends: Option<Vec<[f64; 2]>> = points.iter().map(|point| point.interval).collect();
        let mut dots = ScatterPlot::new().with_data(places(&points)).with_color(colour).with_size(3.0);
        let mut line = LinePlot::new().with_data(places(&points)).with_color(colour).with_stroke_width(2.0);
        match look {
            Look::Solid => {}
            Look::Dashed => line = line.with_dashed(),
            Look::Level => {
                plots.push(Plot::Line(line.with_stroke_width(1.5).with_dotted().with_legend(plain(name))));
                continue;
            }
        }
        match ends {
            // A band has a width.
            Some(ends) if points.len() > 1 => {
                let side = |side: usize| ends.iter().map(|of| of[side]).collect::<Vec<f64>>();
                line = line.with_band(side(0), side(1));
            }
            _ => dots = dots.with_y_err_asymmetric(points.iter().map(Point::whiskers).collect::<Vec<_>>()),
        }
        plots.extend([Plot::Line(line.with_legend(plain(name))), Plot::Scatter(dots)]);
    }
    if plots.is_empty() {
        return None;
    }
    let layout = layout(&plots).with_x_label(x_label).with_y_label(y_label);
    let at = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.x));
    let span = at().fold(f64::NEG_INFINITY, f64::max) - at().fold(f64::INFINITY, f64::min);
    // Layers have no halves.
    let whole = at().all(|x| x.fract() == 0.0) && span <= 16.0;
    let layout = match whole {
        true => layout.with_x_tick_step(1.0).with_x_tick_format(TickFormat::Integer),
        false => layout.with_x_tick_format(TickFormat::Auto),
    };
    Some((plots, layout))
}

fn dots_of(
    x_label: &str,
    y_label: &str,
    names: &[String],
    groups: &[(String, Vec<Point>)],
) -> Option<(Vec<Plot>, Layout)> {
    let mut plots = Vec::new();
    let beside = |number: usize| (number as f64 - (groups.len() as f64 - 1.0) / 2.0) * 0.12;
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    let colours = colours(groups.iter().map(|(name, _)| name.as_str()));
    for (number, ((name, dots), colour)) in groups.iter().zip(colours).enumerate() {
        let dots: Vec<Point> = (dots.iter().filter_map(|dot| dot.drawn()))
            .map(|dot| Point { x: dot.x + 1.0 + beside(number), ..dot })
            .collect();
        if dots.is_empty() {
            continue;
        }
        for dot in &dots {
            let (below, above) = dot.whiskers();
            (low, high) = (low.min(dot.y - below), high.max(dot.y + above));
        }
        let plot = ScatterPlot::new()
            .with_data(places(&dots))
            .with_y_err_asymmetric(dots.iter().map(Point::whiskers).collect::<Vec<_>>())
            .with_color(colour);
        plots.push(Plot::Scatter(plot.with_size(5.0).with_legend(plain(name))));
    }
    if plots.is_empty() {
        return None;
    }
    // Dots at the ends are whole.
    let room = ((high - low) * 0.08).max(0.01);
    let names = names.iter().map(|name| plain(name)).collect::<Vec<_>>();
    let layout = with_names(layout(&plots), &names)
        .with_y_axis_min(low - room)
        .with_y_axis_max(high + room)
        .with_x_label(x_label)
        .with_y_label(y_label)
        .with_x_axis_min(0.5)
        .with_x_axis_max(names.len() as f64 + 0.5)
        .with_x_tick_step(1.0)
        .with_x_tick_format(names_at_places(names));
    Some((plots, layout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_has_what_it_is_given() {
        let line = |name: &str, look| Line {
            name: name.into(),
            points: vec![Point::at(0.0, 1.0), Point::at(1.0, f64::NAN)],
            look,
        };
        let table = Table::from_rows(
            &["share", "a<b"],
            vec![vec![json!(0.5), json!("x & y")], vec![json!(2), json!(null)]],
        );
        let chart = |name: &str, drawn| Chart {
            name: name.into(),
            title: "Seen".into(),
            caption: "1 < 2".into(),
            table: table.clone(),
            drawn,
        };
        let map = |cells| Drawn::Map {
            y_label: "task".into(),
            rows: vec!["a".into(), "b".into()],
            x_label: "task".into(),
            columns: vec!["a".into(), "b".into()],
            cells,
        };
        let section = Section {
            id: "one".into(),
            heading: "One".into(),
            paragraphs: vec!["Said.".into()],
            charts: vec![
                chart(
                    "lines",
                    Drawn::Lines {
                        x_label: "x".into(),
                        y_label: "y".into(),
                        lines: vec![line("l", Look::Dashed), line("level", Look::Level)],
                    },
                ),
                chart("map", map(vec![vec![0.0, 1.0], vec![0.5, 0.25]])),
                chart("alike", map(vec![vec![1.0, 1.0], vec![1.0, 1.0]])),
                chart(
                    "dots",
                    Drawn::Dots {
                        x_label: "x".into(),
                        y_label: "y".into(),
                        names: vec!["n".into()],
                        groups: vec![("g".into(), vec![Point::at(0.0, 0.5).between([0.4, 0.7])])],
                    },
                ),
            ],
            tables: vec![("Numbers".into(), table.clone())],
            data: Vec::new(),
        };
        let page = Page::new("Title", "Lead.", &[section]);
        assert_eq!(page.figures.keys().collect::<Vec<_>>(), ["dots", "lines", "map"]);
        for said in [
            "<h2>One</h2>",
            "Said.",
            "1 &lt; 2",
            "<td>x &amp; y</td>",
            "0.500",
            "<th>a&lt;b</th>",
            "<td>–</td>",
        ] {
            assert!(page.html.contains(said), "{said}: {}", page.html);
        }
        assert!(!page.html.contains("NaN"));
        assert!(page.html.contains("What the words on this page mean"));
    }

    #[test]
    fn numbers_stand_right_below_their_heads() {
        let rows = vec![
            vec![json!("x"), json!(0.25), json!(1e-7), json!(0.000_02), json!(null)],
            vec![json!("y"), json!(3), json!(0.5), json!(0.5), json!(null)],
        ];
        let page = shown(&Table::from_rows(&["name", "a_b", "p", "small", "unknown"], rows)).into_string();
        let head = "<th>name</th><th class=\"number\">a b</th><th class=\"number\">p</th><th class=\"number\">small</th><th>unknown</th>";
        assert!(page.contains(head), "{page}");
        let row = "<td>x</td><td class=\"number\">0.250</td><td class=\"number\">below 0.0001</td>\
                   <td class=\"number\">2.0e\u{2212}5</td><td>–</td>";
        assert!(page.contains(row), "{page}");
    }

    #[test]
    fn what_is_done_to_the_model_has_its_colour() {
        let of = |names: &[&str]| colours(names.iter().copied());
        assert_eq!(of(&["skill", "random", "unperturbed"]), [SKILL, RANDOM, MUTED]);
        assert_eq!(of(&["a", "skill", "b"]), [COLOURS[0], SKILL, COLOURS[2]], "no two are alike");
        assert_eq!(of(&["a"; 7])[6], COLOURS[0]);
    }
}
