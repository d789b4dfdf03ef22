//! Figures and pages of whoever has numbers to show: the look of a run's report, for what is no run.

use std::collections::BTreeMap;

use kuva::prelude::*;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;
use skn_artifact::visible;

use crate::axis::{names_at_places, with_names};
use crate::figure::{COLOURS, Figure, PALETTE, layout, plain};
use crate::maps::Labelled;
use crate::number::three;
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
        /// The name of a group, and for each of its dots the place of a name, from 0, and the height.
        groups: Vec<(String, Vec<(usize, f64)>)>,
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
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// Whether it is dashed: what others are compared with.
    pub dashed: bool,
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
                    header { h1 { (title) } p.lead { (lead) } }
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
        div.scroll { table {
            thead { tr { @for column in &table.columns { th { (column.replace('_', " ")) } } } }
            tbody {
                @for row in &table.data {
                    tr { @for value in row {
                        @match value {
                            Value::Null => td { "–" },
                            Value::String(text) => td { (text) },
                            Value::Number(number) if number.is_f64() => {
                                td.number { (decimal(number.as_f64().unwrap_or(f64::NAN))) }
                            }
                            other => td.number { (other.to_string()) },
                        }
                    } }
                }
            }
        } }
    }
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
    for (number, Line { name, points, dashed }) in lines.iter().enumerate() {
        let points: Vec<(f64, f64)> =
            points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        if points.is_empty() {
            continue;
        }
        let colour = COLOURS[number % COLOURS.len()];
        let dots = ScatterPlot::new().with_data(points.clone()).with_color(colour).with_size(3.0);
        let line = LinePlot::new().with_data(points).with_color(colour).with_stroke_width(2.0);
        let line = if *dashed { line.with_dashed() } else { line };
        plots.extend([Plot::Line(line.with_legend(plain(name))), Plot::Scatter(dots)]);
    }
    if plots.is_empty() {
        return None;
    }
    let layout = layout(&plots).with_x_label(x_label).with_y_label(y_label);
    let places = || lines.iter().flat_map(|line| line.points.iter().map(|(x, _)| *x));
    let span = places().fold(f64::NEG_INFINITY, f64::max) - places().fold(f64::INFINITY, f64::min);
    // Layers have no halves.
    let whole = places().all(|x| x.fract() == 0.0) && span <= 16.0;
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
    groups: &[(String, Vec<(usize, f64)>)],
) -> Option<(Vec<Plot>, Layout)> {
    let mut plots = Vec::new();
    let beside = |number: usize| (number as f64 - (groups.len() as f64 - 1.0) / 2.0) * 0.12;
    for (number, (name, dots)) in groups.iter().enumerate() {
        let dots = dots.iter().filter(|(_, height)| height.is_finite());
        let dots: Vec<(f64, f64)> =
            dots.map(|&(place, height)| (place as f64 + 1.0 + beside(number), height)).collect();
        if !dots.is_empty() {
            let dots = ScatterPlot::new().with_data(dots).with_color(COLOURS[number % COLOURS.len()]);
            plots.push(Plot::Scatter(dots.with_size(5.0).with_legend(plain(name))));
        }
    }
    if plots.is_empty() {
        return None;
    }
    let heights = || {
        groups.iter().flat_map(|(_, dots)| dots.iter().map(|(_, height)| *height)).filter(|x| x.is_finite())
    };
    let (low, high) = (heights().fold(f64::INFINITY, f64::min), heights().fold(f64::NEG_INFINITY, f64::max));
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
        let line = |name: &str, dashed| Line {
            name: name.into(),
            points: vec![(0.0, 1.0), (1.0, f64::NAN)],
            dashed,
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
                    Drawn::Lines { x_label: "x".into(), y_label: "y".into(), lines: vec![line("l", true)] },
                ),
                chart("map", map(vec![vec![0.0, 1.0], vec![0.5, 0.25]])),
                chart("alike", map(vec![vec![1.0, 1.0], vec![1.0, 1.0]])),
                chart(
                    "dots",
                    Drawn::Dots {
                        x_label: "x".into(),
                        y_label: "y".into(),
                        names: vec!["n".into()],
                        groups: vec![("g".into(), vec![(0, 0.5)])],
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
    }
}
