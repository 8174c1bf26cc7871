//! Horizontal bars with their values written at the ends.
//!
//! ```text
//! length = |value| · width / (max(0, values) − min(0, values))
//! ```
//!
//! *Invariant.* All bars start from the same zero, so lengths compare as the values do. A value
//! that is not finite keeps its row and says so instead of a bar.
//!
//! *Cost.* Linear in the bars; the chart grows by 34 in height with each.
//!
//! *How it fails.* With no finite value there is nothing to draw.

use super::canvas::{
    Canvas, Drawn, FRAME, INK, Lettering, SOFT_INK, document, series_colour, shorten, text_width,
};
use super::prepare::LeftOut;
use super::scale::{drawable, short_number};
use super::{MARGIN, PlotError, Scale, heading};

const LABEL_SIZE: f64 = 15.0;
const ROW: f64 = 34.0;
const WIDTH: f64 = 900.0;
const WIDEST_LABEL: f64 = 260.0;
/// Room for a value beyond the end of its bar.
const VALUE_ROOM: f64 = 96.0;

/// Bars of `(label, value)` from top to bottom, 900 wide; `value_label` says what they measure.
///
/// # Errors
///
/// [`PlotError::NothingToDraw`] when no value is finite.
pub fn bar_chart(title: &str, value_label: &str, bars: &[(String, f64)]) -> Result<String, PlotError> {
    let kept = || bars.iter().map(|bar| bar.1).filter(|&value| drawable(Scale::Linear, value));
    let left_out = LeftOut { not_finite: bars.len() - kept().count(), not_positive: 0 };
    if left_out.not_finite == bars.len() {
        return Err(PlotError::NothingToDraw { title: title.to_owned(), left_out: bars.len() });
    }
    let (low, high) = kept().fold((0.0_f64, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let note = if left_out.not_finite > 0 { 20.0 } else { 0.0 };
    let height = 50.0 + note + 26.0 + ROW * bars.len() as f64 + MARGIN;
    document(WIDTH, height, |canvas| {
        let top = heading(canvas, title, left_out)? + 26.0;
        let scale = Lengths::new(bars, low, high);
        canvas.text(value_label, (scale.left, top - 14.0), Lettering::new(LABEL_SIZE, INK))?;
        for (row, (label, value)) in bars.iter().enumerate() {
            bar(canvas, &scale, row, label, *value, top + ROW * (row as f64 + 0.5))?;
        }
        let bottom = top + ROW * bars.len() as f64;
        canvas.line((scale.zero, top), (scale.zero, bottom), FRAME, 1.25)
    })
}

/// Where bars begin and how long they are.
struct Lengths {
    left: f64,
    zero: f64,
    per_unit: f64,
}

impl Lengths {
    fn new(bars: &[(String, f64)], low: f64, high: f64) -> Self {
        let widths = bars.iter().map(|bar| text_width(&bar.0, LABEL_SIZE));
        let left = MARGIN + widths.fold(0.0, f64::max).min(WIDEST_LABEL) + 12.0;
        let before_zero = if low < 0.0 { VALUE_ROOM } else { 0.0 };
        let room = WIDTH - MARGIN - VALUE_ROOM - left - before_zero;
        let span = high - low;
        let per_unit = if span > 1e-300 { room / span } else { 0.0 };
        Self { left, zero: left + before_zero - low * per_unit, per_unit }
    }
}

fn bar(canvas: &mut Canvas<'_>, scale: &Lengths, row: usize, label: &str, value: f64, y: f64) -> Drawn {
    let label = shorten(label, LABEL_SIZE, WIDEST_LABEL);
    canvas.text(&label, (scale.left - 10.0, y), Lettering::new(LABEL_SIZE, INK).ending())?;
    let soft = Lettering::new(LABEL_SIZE, SOFT_INK);
    if !drawable(Scale::Linear, value) {
        return canvas.text("not finite", (scale.zero + 8.0, y), soft);
    }
    let end = scale.zero + value * scale.per_unit;
    let (from, to) = (scale.zero.min(end), scale.zero.max(end));
    canvas.rectangle((from, y - ROW * 0.34), (to, y + ROW * 0.34), series_colour(row))?;
    let text = short_number(value);
    if value < 0.0 {
        canvas.text(&text, (end - 8.0, y), soft.ending())
    } else {
        canvas.text(&text, (end + 8.0, y), soft)
    }
}
