//! Charts as SVG text: lines with bands, spectra, and bars.
//!
//! ```text
//! (x, y) ↦ (left + w · u(x), bottom − h · u(y)),   u linear or logarithmic onto [0, 1]
//! ```
//!
//! The layout follows Tufte 2001 (few rules, labels at the lines) with the colours of Okabe & Ito
//! 2008, which colour-blind readers can tell apart. A series takes its colour from the place where
//! its label first occurs, so a label has one colour in all panels of a chart.
//!
//! *Invariant.* The same arguments give the same bytes. A point that has no place on its axis (not
//! finite, not positive on a logarithmic axis, or beyond `1e150`) is left out, breaks its line, and
//! is counted in a note under the title.
//!
//! *Cost.* Linear in the points; a line keeps at most four points per pixel column, so the text
//! stays below about 150 kB a line.
//!
//! *How it fails.* [`PlotError::NothingToDraw`] when no point is left. More than eight labels use
//! the colours twice; then only the labels at the lines tell them apart.

mod bars;
mod canvas;
mod grid;
mod labels;
mod panel;
mod prepare;
mod scale;

pub use bars::bar_chart;
pub use grid::panel_grid;

use canvas::{Canvas, Drawn, INK, Lettering, SOFT_INK};
use labels::Key;
use panel::Frame;
use prepare::{LeftOut, Prepared};

/// One line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The name that the reader sees.
    pub label: String,
    /// Points `(x, y)` in the order in which the line visits them.
    pub points: Vec<(f64, f64)>,
    /// A band `(x, low, high)` around the line, for example over seeds.
    pub band: Option<Vec<(f64, f64, f64)>>,
}

impl Series {
    /// A line without a band.
    pub fn new(label: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { label: label.into(), points, band: None }
    }
}

/// How an axis spaces its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps for equal differences.
    #[default]
    Linear,
    /// Equal steps for equal ratios; only positive values have a place.
    Logarithmic,
}

/// The label and the scale of an axis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axis {
    /// What the axis shows, with its unit.
    pub label: String,
    /// Its spacing.
    pub scale: Scale,
}

impl Axis {
    /// An axis with equal steps for equal differences.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear }
    }

    /// An axis with equal steps for equal ratios.
    pub fn logarithmic(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Logarithmic }
    }
}

/// Two axes and the lines between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panel {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// Why a chart was not drawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// No point has a place on the axes.
    #[error(
        "chart `{title}` has no point to draw ({left_out} left out): give at least one finite point, \
         positive where the axis is logarithmic"
    )]
    NothingToDraw {
        /// The chart's title.
        title: String,
        /// Points that have no place on the axes.
        left_out: usize,
    },
    /// The SVG backend failed.
    #[error("the SVG backend failed: {0}")]
    Backend(String),
}

const MARGIN: f64 = 18.0;
const TITLE_SIZE: f64 = 20.0;
const NOTE_SIZE: f64 = 13.0;

/// One panel with a label at the end of every line, 900 wide.
///
/// # Errors
///
/// [`PlotError::NothingToDraw`] when no point has a place on the axes.
pub fn line_chart(title: &str, panel: &Panel) -> Result<String, PlotError> {
    let key = Key::of([panel]);
    let prepared = Prepared::new(panel, &key).ok_or_else(|| nothing(title, [panel]))?;
    let (width, height) = (900.0, 520.0);
    canvas::document(width, height, |canvas| {
        let top = heading(canvas, title, prepared.left_out)?;
        let room = labels::margin(&prepared);
        let frame = Frame::within((MARGIN, top), (width - room, height - MARGIN), panel, &prepared);
        panel::draw(canvas, panel, &prepared, frame)?;
        labels::beside(canvas, &prepared, frame)
    })
}

/// Two panels side by side with one key above them, 1000 wide: for example the loss against
/// epochs and against seconds.
///
/// # Errors
///
/// [`PlotError::NothingToDraw`] when a panel has no point with a place on its axes.
pub fn two_panels(title: &str, left: &Panel, right: &Panel) -> Result<String, PlotError> {
    let key = Key::of([left, right]);
    let prepare = |panel| Prepared::new(panel, &key).ok_or_else(|| nothing(title, [panel]));
    let (first, second) = (prepare(left)?, prepare(right)?);
    let (width, height) = (1000.0, 480.0);
    canvas::document(width, height, |canvas| {
        let top = heading(canvas, title, first.left_out + second.left_out)?;
        let top = labels::above(canvas, &key, (MARGIN, top), width - MARGIN)?;
        let (bottom, middle) = (height - MARGIN, width / 2.0);
        let frame = Frame::within((MARGIN, top), (middle - 12.0, bottom), left, &first);
        panel::draw(canvas, left, &first, frame)?;
        let frame = Frame::within((middle + 12.0, top), (width - MARGIN - 6.0, bottom), right, &second);
        panel::draw(canvas, right, &second, frame)
    })
}

/// The values of each `(label, values)` in descending order against their rank, on a logarithmic
/// axis; values that are not positive are left out and counted.
///
/// # Errors
///
/// [`PlotError::NothingToDraw`] when no value is positive and finite.
pub fn spectrum_chart(
    title: &str,
    value_label: &str,
    spectra: &[(String, Vec<f64>)],
) -> Result<String, PlotError> {
    let series = spectra.iter().map(|(label, values)| Series::new(label.as_str(), ranked(values)));
    let (x, y) = (Axis::linear("rank"), Axis::logarithmic(value_label));
    line_chart(title, &Panel { x, y, series: series.collect() })
}

/// Descending values against their rank from one; NaN comes last.
fn ranked(values: &[f64]) -> Vec<(f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(a)));
    sorted.into_iter().enumerate().map(|(index, value)| ((index + 1) as f64, value)).collect()
}

fn nothing<'a>(title: &str, panels: impl IntoIterator<Item = &'a Panel>) -> PlotError {
    let series = panels.into_iter().flat_map(|panel| &panel.series);
    PlotError::NothingToDraw { title: title.to_owned(), left_out: series.map(|s| s.points.len()).sum() }
}

/// Title and note; returns the height at which the rest begins.
fn heading(canvas: &mut Canvas<'_>, title: &str, left_out: LeftOut) -> Result<f64, PlotError> {
    canvas.text(title, (MARGIN, 28.0), Lettering::new(TITLE_SIZE, INK).bold())?;
    let Some(note) = left_out.note() else {
        return Ok(50.0);
    };
    let drawn: Drawn = canvas.text(&note, (MARGIN, 51.0), Lettering::new(NOTE_SIZE, SOFT_INK));
    drawn.map(|()| 70.0)
}
