//! Which line is which: labels at the ends of the lines, or a key.
//!
//! ```text
//! yᵢ ← max(yᵢ, yᵢ₋₁ + gap) downwards, then yᵢ ← min(yᵢ, yᵢ₊₁ − gap) upwards from the bottom
//! ```
//!
//! *Invariant.* Labels keep the order of their lines' ends and are at least a gap apart, unless
//! there are more than fit into the height. A label has one colour in all panels of a chart.
//!
//! *Cost.* Quadratic in the number of labels, a handful.
//!
//! *How it fails.* A label longer than the margin is cut, with an ellipsis.

use super::canvas::{Canvas, Drawn, FRAME, INK, Lettering, series_colour, shorten, text_colour, text_width};
use super::panel::Frame;
use super::prepare::{Line, Prepared};
use super::{Panel, PlotError};

const LABEL_SIZE: f64 = 15.0;
const WIDEST: f64 = 230.0;
const GAP: f64 = 19.0;
/// Bold text over plain text.
const BOLD: f64 = 1.1;
/// From the start of a key's stroke to its label.
const STROKE_ROOM: f64 = 27.0;
/// From the frame to a label.
const OFFSET: f64 = 18.0;

/// The labels of a chart in the order in which they first occur.
pub(super) struct Key(Vec<String>);

impl Key {
    pub(super) fn of<'a>(panels: impl IntoIterator<Item = &'a Panel>) -> Self {
        let mut labels: Vec<String> = Vec::new();
        for series in panels.into_iter().flat_map(|panel| &panel.series) {
            if !labels.contains(&series.label) {
                labels.push(series.label.clone());
            }
        }
        Self(labels)
    }

    /// The index of a label, which is that of its colour.
    pub(super) fn index(&self, label: &str) -> usize {
        self.0.iter().position(|known| known == label).unwrap_or(0)
    }
}

/// Whether every line ends at the right edge, so that the labels can stand at the ends.
fn end_at_edge(content: &Prepared) -> bool {
    content.lines.iter().filter_map(Line::end).all(|(x, _)| content.x.place(x) >= 0.97)
}

/// Room to the right of the frame for the labels.
pub(super) fn margin(content: &Prepared) -> f64 {
    let widths = content.lines.iter().map(|line| text_width(&line.label, LABEL_SIZE));
    let widest = widths.fold(0.0, f64::max).min(WIDEST);
    OFFSET + 14.0 + if end_at_edge(content) { widest * BOLD } else { STROKE_ROOM + widest }
}

/// Labels to the right of the frame: at the lines' ends when all lines end there, else as a key.
pub(super) fn beside(canvas: &mut Canvas<'_>, content: &Prepared, frame: Frame) -> Drawn {
    let height = |(_, y): (f64, f64)| frame.at((1.0, content.y.place(y))).1;
    let ends = content.lines.iter().filter_map(|line| line.end().map(|end| (line, height(end))));
    let mut ends: Vec<(&Line, f64)> = ends.collect();
    if end_at_edge(content) {
        ends.sort_by(|a, b| a.1.total_cmp(&b.1));
        return at_ends(canvas, &ends, frame);
    }
    for (row, (line, _)) in ends.iter().enumerate() {
        let at = (frame.right + OFFSET - 4.0, frame.top + 10.0 + 22.0 * row as f64);
        entry(canvas, &line.label, line.colour, at)?;
    }
    Ok(())
}

fn at_ends(canvas: &mut Canvas<'_>, ends: &[(&Line, f64)], frame: Frame) -> Drawn {
    let mut heights: Vec<f64> = ends.iter().map(|end| end.1).collect();
    spread(&mut heights, frame.bottom);
    for ((line, end), height) in ends.iter().zip(heights) {
        let label = shorten(&line.label, LABEL_SIZE, WIDEST);
        if (height - end).abs() > 3.0 {
            let from = (frame.right + 5.0, *end);
            canvas.line(from, (frame.right + OFFSET - 4.0, height), FRAME, 0.75)?;
        }
        let colour = text_colour(series_colour(line.colour));
        canvas.text(&label, (frame.right + OFFSET, height), Lettering::new(LABEL_SIZE, colour).bold())?;
    }
    Ok(())
}

/// Moves sorted heights at least a gap apart, the last one not below `bottom`.
fn spread(heights: &mut [f64], bottom: f64) {
    for index in 1..heights.len() {
        heights[index] = heights[index].max(heights[index - 1] + GAP);
    }
    let mut limit = bottom;
    for height in heights.iter_mut().rev() {
        *height = height.min(limit);
        limit = *height - GAP;
    }
}

/// A stroke of the line's colour and its label; returns the width taken.
fn entry(canvas: &mut Canvas<'_>, label: &str, colour: usize, (x, y): (f64, f64)) -> Result<f64, PlotError> {
    let label = shorten(label, LABEL_SIZE, WIDEST);
    canvas.line((x, y), (x + 20.0, y), series_colour(colour), 3.5)?;
    canvas.text(&label, (x + STROKE_ROOM, y), Lettering::new(LABEL_SIZE, INK))?;
    Ok(STROKE_ROOM + text_width(&label, LABEL_SIZE))
}

/// A key in rows from the left; returns the height at which the rest begins.
pub(super) fn above(
    canvas: &mut Canvas<'_>,
    key: &Key,
    (left, top): (f64, f64),
    right: f64,
) -> Result<f64, PlotError> {
    let (mut x, mut y) = (left, top + 8.0);
    for (index, label) in key.0.iter().enumerate() {
        let width = STROKE_ROOM + text_width(label, LABEL_SIZE).min(WIDEST);
        if x > left && x + width > right {
            (x, y) = (left, y + 22.0);
        }
        x += entry(canvas, label, index, (x, y))? + 24.0;
    }
    Ok(y + 18.0)
}
