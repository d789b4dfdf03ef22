//! Maps of all neurons: a row for each layer, a column for some neighbouring neurons.

use std::sync::Arc;

use kuva::prelude::*;
use serde_json::json;

use crate::axis::{names_at_places, task_name, with_names};
use crate::figure::{Figure, layout};
use crate::number::{grouped, percent};
use crate::probe::Probe;
use crate::table::Table;
use crate::task::{Selected, Task};

/// What a task's maps are called.
pub(crate) const NAMES: [&str; 2] = ["predictivity-map", "selected-map"];
/// The most columns of a map: more would be narrower than a screen's points.
const COLUMNS: usize = 96;

/// The maps of what was probed and selected.
pub(crate) fn figures(task: &Task, probe: &Probe) -> Vec<Figure> {
    let bins = Bins::of(probe);
    let of_mask = |selected| selected_map(&task_name(task, NAMES[1]), probe, &bins, selected);
    let figures = [
        predictivity_map(&task_name(task, NAMES[0]), probe, &bins),
        task.selected.as_ref().and_then(of_mask),
    ];
    figures.into_iter().flatten().collect()
}

/// How neighbouring neurons share a column.
struct Bins {
    /// Neurons of a column.
    of: usize,
    columns: usize,
}

impl Bins {
    fn of(probe: &Probe) -> Self {
        let width = probe.dev.neurons();
        let of = width.div_ceil(COLUMNS).max(1);
        Self { of, columns: width.div_ceil(of) }
    }

    /// What a column holds, in words.
    fn said(&self) -> String {
        if self.of == 1 {
            "A column is a neuron".into()
        } else {
            format!("A column is {} neighbouring neurons", self.of)
        }
    }
}

/// The best predictivity of each layer's neighbouring neurons.
fn predictivity_map(name: &str, probe: &Probe, bins: &Bins) -> Option<Figure> {
    // Where a narrower layer has no neurons, the least that is known.
    let least = probe.ranked.last()?.predictivity;
    let mut cells = vec![vec![least; bins.columns]; probe.dev.layers()];
    for neuron in probe.ranked.iter().rev() {
        cells[neuron.rule.layer][neuron.rule.index / bins.of] = neuron.predictivity;
    }
    let best = probe.best();
    let caption = format!(
        "{}, a row a layer; colour is the predictivity on dev of the best among them, {least:.3} to {:.3}. The brightest holds \
         neuron {} of layer {}. Neighbours have nothing else in common.",
        bins.said(),
        best.predictivity,
        best.rule.index,
        best.rule.layer
    );
    let columns = ["layer", "index", "position", "predictivity"];
    let table = Table::of(
        columns,
        probe.ranked.iter().map(|neuron| {
            let rule = &neuron.rule;
            [json!(rule.layer), json!(rule.index), json!(rule.position), json!(neuron.predictivity)]
        }),
    );
    map(name, "Predictivity of all neurons", caption, table, cells, bins)
}

/// The share of each layer's neighbouring neurons that is selected.
fn selected_map(name: &str, probe: &Probe, bins: &Bins, selected: &Selected) -> Option<Figure> {
    let (layers, width) = (probe.dev.layers(), probe.dev.neurons());
    let mut cells = vec![vec![0.0; bins.columns]; layers];
    let mut table = Table::new(["layer", "index"]);
    for place in (0..layers * width).filter(|&place| selected.neurons[place]) {
        let (layer, index) = (place / width, place % width);
        let column = index / bins.of;
        cells[layer][column] += 1.0 / bins.of.min(width - column * bins.of) as f64;
        table.push([json!(layer), json!(index)]);
    }
    let caption = format!(
        "{}, a row a layer; colour is the share of them that is selected, of {} skill neurons ({} of each layer).",
        bins.said(),
        grouped(table.data.len() as u64),
        percent(&selected.mask)
    );
    map(name, "Where the skill neurons are", caption, table, cells, bins)
}

/// A map of a row for each layer; nothing where all cells are alike.
fn map(
    name: &str,
    title: &str,
    caption: String,
    table: Table,
    cells: Vec<Vec<f64>>,
    bins: &Bins,
) -> Option<Figure> {
    let all = || cells.iter().flatten().copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    // A colour scale needs two ends.
    if high - low < 1e-9 {
        return None;
    }
    let layers = cells.len() as f64;
    let end = (bins.columns * bins.of) as f64;
    let map = Heatmap::new().with_data(cells).with_color_map(ColorMap::Viridis).with_cell_size(1.0);
    let map = map.with_x_range(0.0, end).with_y_range(-0.5, layers - 0.5);
    let plots = vec![Plot::Heatmap(map)];
    let layout = layout(&plots)
        .with_x_label("index of the neuron in its layer")
        .with_y_label("layer")
        .with_x_axis_min(0.0)
        .with_x_axis_max(end)
        .with_y_axis_min(-0.5)
        .with_y_axis_max(layers - 0.5)
        .with_y_tick_step((layers / 16.0).ceil().max(1.0))
        .with_x_tick_format(TickFormat::Integer)
        .with_y_tick_format(TickFormat::Integer)
        .with_colorbar_tick_format(TickFormat::Fixed(2))
        .with_show_grid(false);
    Some(Figure::new(name, title, caption, table, (plots, layout)))
}

/// Viridis, and no colour where nothing is known.
fn of_known() -> ColorMap {
    let colour = |value: f64| if value.is_nan() { "none".to_owned() } else { ColorMap::Viridis.map(value) };
    ColorMap::Custom(Arc::new(colour))
}

/// A map with a name for each row and column, the first row at the top.
pub(crate) struct Labelled {
    /// What rows are.
    pub(crate) y_label: String,
    pub(crate) rows: Vec<String>,
    /// What columns are.
    pub(crate) x_label: String,
    pub(crate) columns: Vec<String>,
    /// `[rows][columns]`; NaN is not known, and has no colour.
    pub(crate) cells: Vec<Vec<f64>>,
}

impl Labelled {
    /// The figure; nothing where all cells that are known are alike.
    pub(crate) fn figure(self, name: &str, title: &str, caption: String, table: Table) -> Option<Figure> {
        let Self { y_label, mut rows, x_label, columns, mut cells } = self;
        let all = || cells.iter().flatten().copied();
        // Both leave out what is not known.
        let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        if all().any(f64::is_infinite) || high - low < 1e-9 {
            return None;
        }
        // kuva puts the first row at the bottom.
        rows.reverse();
        cells.reverse();
        let (height, width) = (rows.len() as f64, columns.len() as f64);
        let map = Heatmap::new().with_data(cells).with_color_map(of_known()).with_cell_size(1.0);
        let map = map.with_x_range(0.5, width + 0.5).with_y_range(0.5, height + 0.5);
        // Of more the numbers would be too small to read on a phone.
        let map = if columns.len() <= 6 { map.with_values() } else { map };
        let plots = vec![Plot::Heatmap(map)];
        let layout = with_names(layout(&plots).with_height(180.0 + 34.0 * height), &columns)
            .with_x_label(x_label)
            .with_y_label(y_label)
            .with_x_axis_min(0.5)
            .with_x_axis_max(width + 0.5)
            .with_y_axis_min(0.5)
            .with_y_axis_max(height + 0.5)
            .with_x_tick_step(1.0)
            .with_y_tick_step(1.0)
            .with_x_tick_format(names_at_places(columns))
            .with_y_tick_format(names_at_places(rows))
            .with_colorbar_tick_format(TickFormat::Fixed(2))
            .with_show_grid(false);
        Some(Figure::new(name, title, caption, table, (plots, layout)))
    }
}
