//! Drawing of one panel: grid, axes, bands and lines.
//!
//! ```text
//! (x, y) ↦ (left + (right − left) u(x), bottom − (bottom − top) u(y))
//! ```
//!
//! *Invariant.* Everything is drawn within the frame, except tick and axis labels.
//!
//! *Cost.* Linear in the points; a line is thinned to the first, lowest, highest and last point of
//! each half pixel column, which leaves its picture unchanged.
//!
//! *How it fails.* Only with the backend.

use super::Panel;
use super::canvas::{Canvas, Drawn, FRAME, GRID, INK, Lettering, SOFT_INK, series_colour, text_width};
use super::prepare::{Line, Prepared};
use super::scale::Tick;

/// Size of tick labels.
pub(super) const TICK_SIZE: f64 = 14.0;
const AXIS_SIZE: f64 = 15.0;

/// The rectangle between the axes.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Frame {
    /// The frame inside an outer rectangle, with room for the labels of the axes.
    pub(super) fn within(from: (f64, f64), to: (f64, f64), panel: &Panel, content: &Prepared) -> Self {
        let top = from.1 + if panel.y.label.is_empty() { 8.0 } else { 26.0 };
        let bottom = to.1 - if panel.x.label.is_empty() { 22.0 } else { 46.0 };
        let ticks = content.y.ticks(vertical_ticks(bottom - top));
        let widest = ticks.iter().map(|tick| text_width(&tick.label, TICK_SIZE)).fold(0.0, f64::max);
        Self { left: from.0 + widest + 8.0, top, right: to.0, bottom }
    }

    /// The position of a pair of axis places.
    pub(super) fn at(self, (across, up): (f64, f64)) -> (f64, f64) {
        let across = across.clamp(0.0, 1.0);
        let up = up.clamp(0.0, 1.0);
        (self.left + across * (self.right - self.left), self.bottom - up * (self.bottom - self.top))
    }
}

fn vertical_ticks(height: f64) -> usize {
    (height / 52.0) as usize
}

/// Draws a whole panel, without the labels of its lines.
pub(super) fn draw(canvas: &mut Canvas<'_>, panel: &Panel, content: &Prepared, frame: Frame) -> Drawn {
    rows(canvas, content, frame)?;
    columns(canvas, content, frame)?;
    canvas.line((frame.left, frame.bottom), (frame.right, frame.bottom), FRAME, 1.25)?;
    let axis = Lettering::new(AXIS_SIZE, INK);
    canvas.text(&panel.y.label, (frame.left, frame.top - 14.0), axis)?;
    let middle = (frame.left + frame.right) / 2.0;
    canvas.text(&panel.x.label, (middle, frame.bottom + 42.0), axis.centred())?;
    let place = |(x, y): (f64, f64)| frame.at((content.x.place(x), content.y.place(y)));
    for line in &content.lines {
        band(canvas, line, place)?;
    }
    content.lines.iter().try_for_each(|line| curve(canvas, line, place))
}

/// Horizontal grid lines and the labels of the vertical axis.
fn rows(canvas: &mut Canvas<'_>, content: &Prepared, frame: Frame) -> Drawn {
    for value in content.y.minor_ticks() {
        let (_, y) = frame.at((0.0, content.y.place(value)));
        canvas.line((frame.left, y), (frame.right, y), GRID, 0.5)?;
    }
    for Tick { value, label } in content.y.ticks(vertical_ticks(frame.bottom - frame.top)) {
        let (_, y) = frame.at((0.0, content.y.place(value)));
        canvas.line((frame.left, y), (frame.right, y), GRID, 1.25)?;
        canvas.text(&label, (frame.left - 8.0, y), Lettering::new(TICK_SIZE, SOFT_INK).ending())?;
    }
    Ok(())
}

/// Vertical grid lines and the labels of the horizontal axis.
fn columns(canvas: &mut Canvas<'_>, content: &Prepared, frame: Frame) -> Drawn {
    let wanted = ((frame.right - frame.left) / 85.0) as usize;
    for Tick { value, label } in content.x.ticks(wanted) {
        let (x, _) = frame.at((content.x.place(value), 0.0));
        canvas.line((x, frame.top), (x, frame.bottom), GRID, 0.75)?;
        canvas.line((x, frame.bottom), (x, frame.bottom + 5.0), FRAME, 1.25)?;
        canvas.text(&label, (x, frame.bottom + 18.0), Lettering::new(TICK_SIZE, SOFT_INK).centred())?;
    }
    Ok(())
}

fn band(canvas: &mut Canvas<'_>, line: &Line, place: impl Fn((f64, f64)) -> (f64, f64)) -> Drawn {
    let upper = line.band.iter().map(|&(x, _, high)| place((x, high)));
    let lower = line.band.iter().rev().map(|&(x, low, _)| place((x, low)));
    let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
    if outline.len() < 4 {
        return Ok(());
    }
    canvas.area(&outline, series_colour(line.colour), 0.16)
}

fn curve(canvas: &mut Canvas<'_>, line: &Line, place: impl Fn((f64, f64)) -> (f64, f64)) -> Drawn {
    let colour = series_colour(line.colour);
    let count: usize = line.runs.iter().map(Vec::len).sum();
    for run in &line.runs {
        let points = thinned(run.iter().map(|&point| place(point)));
        if points.len() > 1 {
            canvas.path(&points, colour, 2.5)?;
        }
        if count <= 25 || run.len() == 1 {
            points.iter().try_for_each(|&point| canvas.dot(point, 3.5, colour))?;
        }
    }
    Ok(())
}

/// Keeps the first, the extreme and the last points of every stretch within half a pixel column.
fn thinned(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let all: Vec<(f64, f64)> = points.collect();
    let column = |point: &(f64, f64)| (point.0 * 2.0).floor() as i64;
    let stretches = all.chunk_by(|a, b| column(a) == column(b));
    stretches.flat_map(extremes).collect()
}

fn extremes(stretch: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if stretch.len() <= 4 {
        return stretch.to_vec();
    }
    let height = |index: &usize| stretch[*index].1;
    let last = stretch.len() - 1;
    let low = (0..=last).min_by(|a, b| height(a).total_cmp(&height(b))).unwrap_or(0);
    let high = (0..=last).max_by(|a, b| height(a).total_cmp(&height(b))).unwrap_or(last);
    let mut kept = [0, low, high, last];
    kept.sort_unstable();
    kept.map(|index| stretch[index]).to_vec()
}
