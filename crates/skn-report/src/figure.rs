//! One figure: kuva draws it, this module gives it its look and makes it fit for a page.

use kuva::prelude::*;
use kuva::render::color::Color;
use kuva::render::render::{Primitive, Scene, collect_legend_entries, render_multiple};

use crate::table::Table;

/// Text and axes.
pub(crate) const INK: &str = "var(--skn-ink, #1f2328)";
/// What is not to be read first: reference lines, points of the crowd.
pub(crate) const MUTED: &str = "var(--skn-muted, #66707b)";
const GRID: &str = "var(--skn-grid, #e3e7eb)";
const PAPER: &str = "var(--skn-paper, #ffffff)";

/// Colours that people with any kind of colour vision tell apart (Okabe and Ito 2008), darker on white than on black.
pub(crate) const COLOURS: [&str; 6] = [
    "var(--skn-1, #0072b2)",
    "var(--skn-2, #d55e00)",
    "var(--skn-3, #009e73)",
    "var(--skn-4, #aa4499)",
    "var(--skn-5, #b07d00)",
    "var(--skn-6, #3a9bd1)",
];

/// The colours of what is done to the model, the same in all figures.
pub(crate) const TUNED: &str = COLOURS[0];
pub(crate) const SKILL: &str = COLOURS[1];
pub(crate) const RANDOM: &str = COLOURS[2];
pub(crate) const PRUNED: &str = COLOURS[3];

/// The colours as CSS: of the page, and of each figure that stands alone. Paper is white, whatever the screen is.
pub(crate) const PALETTE: &str = ":root{--skn-ink:#1f2328;--skn-muted:#66707b;--skn-grid:#e3e7eb;--skn-paper:#ffffff;\
--skn-panel:#f6f8fa;--skn-1:#0072b2;--skn-2:#d55e00;--skn-3:#009e73;--skn-4:#aa4499;--skn-5:#b07d00;--skn-6:#3a9bd1}\
@media screen and (prefers-color-scheme:dark){:root{--skn-ink:#e6edf3;--skn-muted:#9aa4af;--skn-grid:#30363d;\
--skn-paper:#0d1117;--skn-panel:#161b22;--skn-1:#56b4e9;--skn-2:#f0883e;--skn-3:#2fc79a;--skn-4:#e08fcb;--skn-5:#e6b800;\
--skn-6:#a5d6ff}}";

/// The width of a figure in pixels.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 340.0;

/// A figure of the report.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// Its name, fit for a file: lower-case letters, digits, hyphens; a task's name is kept as it is.
    pub(crate) name: String,
    /// What is to be read beside it.
    pub(crate) caption: String,
    /// What it shows.
    pub(crate) table: Table,
    size: (f64, f64),
    /// What is seen, for who does not see it.
    pub(crate) label: String,
    content: String,
}

impl Figure {
    /// Draws plots. `title` says what is seen, `table` has the numbers behind it.
    pub(crate) fn new(
        name: &str,
        title: &str,
        caption: String,
        table: Table,
        (plots, layout): (Vec<Plot>, Layout),
    ) -> Self {
        let has_values = plots.iter().any(|plot| matches!(plot, Plot::Heatmap(map) if map.show_values));
        let mut scene = render_multiple(plots, layout.with_title(plain(title)));
        scene.background_color = None;
        if has_values {
            make_legible(&mut scene);
        }
        rename_clip(&mut scene, &format!("skn-{}", identifier(name)));
        let size = (scene.width, scene.height);
        let svg = SvgBackend::new().render_scene(&scene);
        // The opening tag is ours: kuva's has no view box, so the figure would not shrink with the page.
        let content = svg.split_once('>').map_or(svg.as_str(), |(_, content)| content).to_owned();
        Self { name: name.into(), caption, table, size, label: title.into(), content }
    }

    /// The figure inside a page that has [`PALETTE`].
    pub(crate) fn inline(&self) -> String {
        self.with_style("")
    }

    /// The figure as a file of its own.
    pub(crate) fn standalone(&self) -> String {
        self.with_style(&format!("<style>{PALETTE}svg{{background:var(--skn-paper)}}</style>"))
    }

    fn with_style(&self, style: &str) -> String {
        let (width, height) = self.size;
        let label = escape(&self.label);
        let content = &self.content;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\" fill=\"{INK}\" \
             font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, sans-serif\">{style}{content}"
        )
    }
}

/// The look of all figures, with the ranges of these plots.
pub(crate) fn layout(plots: &[Plot]) -> Layout {
    let theme = Theme {
        background: PAPER.into(),
        axis_color: MUTED.into(),
        grid_color: GRID.into(),
        tick_color: MUTED.into(),
        text_color: INK.into(),
        legend_bg: PAPER.into(),
        legend_border: GRID.into(),
        pie_leader: MUTED.into(),
        box_median: PAPER.into(),
        violin_border: INK.into(),
        colorbar_border: MUTED.into(),
        font_family: None,
        show_grid: true,
    };
    let legend = collect_legend_entries(plots);
    // Two lines of legend leave the axes their height; each one more needs its own.
    let height = HEIGHT + 17.0 * legend.len().saturating_sub(2) as f64;
    let layout = Layout::auto_from_plots(plots)
        .with_theme(theme)
        .with_width(WIDTH)
        .with_height(height)
        .with_title_size(15)
        .with_label_size(14)
        .with_tick_size(13)
        .with_body_size(13)
        .with_legend_box(false)
        .with_legend_position(LegendPosition::OutsideBottomColumns);
    // kuva counts a plot's legend as one line unless it is given the entries.
    if legend.is_empty() { layout } else { layout.with_legend_entries(legend) }
}

/// Text that kuva draws as it is: it takes `$..$` for a formula.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\\', "\u{2216}").replace('$', "\\$")
}

/// A map's numbers are black on light cells and white on dark ones, whatever the page is; a cell that has no colour has none.
fn make_legible(scene: &mut Scene) {
    let is_map = |element: &Primitive| matches!(element, Primitive::RectBatch { .. });
    let Some(at) = scene.elements.iter().position(is_map) else { return };
    let (cells, texts) = scene.elements.split_at_mut(at + 1);
    let Some(Primitive::RectBatch { fills, .. }) = cells.last() else { return };
    for (fill, text) in fills.iter().zip(texts) {
        // kuva leaves out numbers of cells that are too small for them.
        let Primitive::Text { content, color, .. } = text else { return };
        *content = content.replace('-', "\u{2212}");
        match fill {
            Color::Rgb(red, green, blue) => *color = Some(on([*red, *green, *blue])),
            _ => content.clear(),
        }
    }
}

/// Black or white, whichever has more contrast with a colour (WCAG 2.2, relative luminance).
fn on(colour: [u8; 3]) -> Color {
    let linear = colour.map(|part| {
        let part = f64::from(part) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    });
    let luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    if luminance > 0.179 { Color::Rgb(0, 0, 0) } else { Color::Rgb(255, 255, 255) }
}

/// kuva numbers clips by a counter of the process; a page needs different ones, and the same in every run.
fn rename_clip(scene: &mut Scene, name: &str) {
    for element in &mut scene.elements {
        let Primitive::ClipStart { id, .. } = element else { continue };
        for definition in &mut scene.defs {
            *definition = definition.replace(&format!("\"{id}\""), &format!("\"{name}\""));
        }
        *id = name.into();
    }
}

/// A name as an XML identifier: other characters become their number, so that different names stay different.
fn identifier(name: &str) -> String {
    let mut identifier = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '-' {
            identifier.push(c);
        } else {
            identifier.push_str(&format!("_{:x}_", u32::from(c)));
        }
    }
    identifier
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
