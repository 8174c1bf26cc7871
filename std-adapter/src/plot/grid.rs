//! Many small panels under one key, for one picture of several tasks.
//!
//! *Invariant.* Panels stand in rows from the left in the order given; a label has one colour in all of them.
//!
//! *Cost.* Linear in the points; the chart grows by 250 in height with each row of three.
//!
//! *How it fails.* As [`two_panels`](super::two_panels): every panel must have a point.

use super::labels::{self, Key};
use super::panel::{self, Frame};
use super::prepare::{LeftOut, Prepared};
use super::{MARGIN, Panel, PlotError, canvas, heading, nothing};

const COLUMNS: usize = 3;
const WIDTH: f64 = 1000.0;
const ROW: f64 = 250.0;
const GAP: f64 = 14.0;

/// Panels three to a row with one key above them, 1000 wide; the label of a vertical axis serves as a panel's title.
///
/// # Errors
///
/// [`PlotError::NothingToDraw`] when there is no panel, or one without a point that has a place on its axes.
pub fn panel_grid(title: &str, panels: &[Panel]) -> Result<String, PlotError> {
    let key = Key::of(panels);
    let prepare = |panel| Prepared::new(panel, &key).ok_or_else(|| nothing(title, [panel]));
    let prepared = panels.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
    if panels.is_empty() {
        return Err(nothing(title, []));
    }
    let columns = panels.len().min(COLUMNS);
    let height = 100.0 + ROW * panels.len().div_ceil(columns) as f64 + MARGIN;
    canvas::document(WIDTH, height, |canvas| {
        let left_out = prepared.iter().fold(LeftOut::default(), |sum, panel| sum + panel.left_out);
        let top = heading(canvas, title, left_out)?;
        let top = labels::above(canvas, &key, (MARGIN, top), WIDTH - MARGIN)?;
        let width = (WIDTH - 2.0 * MARGIN + GAP) / columns as f64;
        for (index, (panel, content)) in panels.iter().zip(&prepared).enumerate() {
            let left = MARGIN + width * (index % columns) as f64;
            let top = top + ROW * (index / columns) as f64;
            let (from, to) = ((left, top), (left + width - GAP, top + ROW - GAP));
            panel::draw(canvas, panel, content, Frame::within(from, to, panel, content))?;
        }
        Ok(())
    })
}
