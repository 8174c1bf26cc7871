//! A thin layer over plotters' SVG backend with sub-pixel coordinates.
//!
//! ```text
//! written coordinate = round(4 · layout coordinate)
//! ```
//!
//! The backend writes whole pixels, so the drawing is made four times too large and the `viewBox`
//! brings it back to its size (SVG 1.1, §7.7).
//!
//! *Invariant.* The text is a function of the calls alone: no clock, no random name, no font file.
//!
//! *Cost.* One element per call; a path takes about 12 bytes a point.
//!
//! *How it fails.* Text widths are estimates, since no font is read; labels get some room to spare.

use super::PlotError;
use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, RGBColor, ShapeStyle, TextStyle};
use std::fmt::Display;

const RESOLUTION: f64 = 4.0;
const FONTS: &str = "Helvetica, Arial, DejaVu Sans, sans-serif";

/// Dark grey of titles and labels.
pub(super) const INK: RGBColor = RGBColor(0x26, 0x2b, 0x33);
/// Grey of ticks and notes.
pub(super) const SOFT_INK: RGBColor = RGBColor(0x59, 0x61, 0x6b);
/// Grey of the frame.
pub(super) const FRAME: RGBColor = RGBColor(0xa8, 0xae, 0xb6);
/// Grey of the grid.
pub(super) const GRID: RGBColor = RGBColor(0xe4, 0xe7, 0xea);
const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// The palette of Okabe & Ito 2008, told apart by colour-blind readers; yellow comes last because
/// it is faint on white.
const PALETTE: [RGBColor; 8] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x3c, 0x3c, 0x3c),
    RGBColor(0xd9, 0xc7, 0x1e),
];

/// The colour of the series at `index`; after eight the colours come again.
pub(super) fn series_colour(index: usize) -> RGBColor {
    PALETTE[index % PALETTE.len()]
}

/// A darker shade for text on white.
pub(super) fn text_colour(colour: RGBColor) -> RGBColor {
    let shade = |channel: u8| (u16::from(channel) * 3 / 4) as u8;
    RGBColor(shade(colour.0), shade(colour.1), shade(colour.2))
}

/// How a text is set.
#[derive(Clone, Copy)]
pub(super) struct Lettering {
    pub(super) size: f64,
    pub(super) colour: RGBColor,
    pub(super) bold: bool,
    pub(super) horizontal: HPos,
}

impl Lettering {
    /// Plain text that starts at its position.
    pub(super) fn new(size: f64, colour: RGBColor) -> Self {
        Self { size, colour, bold: false, horizontal: HPos::Left }
    }

    pub(super) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub(super) fn centred(self) -> Self {
        Self { horizontal: HPos::Center, ..self }
    }

    pub(super) fn ending(self) -> Self {
        Self { horizontal: HPos::Right, ..self }
    }
}

/// Estimated width of a text, for a wide font; bold text takes about a tenth more.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let width = |letter: char| match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | '\'' | '|' | 'I' => 0.32,
        ' ' | 'f' | 't' | 'r' | '(' | ')' | '-' => 0.40,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.92,
        'A'..='Z' => 0.70,
        _ => 0.62,
    };
    text.chars().map(width).sum::<f64>() * size
}

/// Cuts a text that is wider than `limit`, marking the cut with an ellipsis.
pub(super) fn shorten(text: &str, size: f64, limit: f64) -> String {
    if text_width(text, size) <= limit {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        kept.push(letter);
        if text_width(&kept, size) + size > limit {
            break;
        }
    }
    kept.push('…');
    kept
}

/// Control characters are not allowed in XML; they become spaces.
fn printable(text: &str) -> String {
    let forbidden = |letter: char| letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}');
    text.chars().map(|letter| if forbidden(letter) { ' ' } else { letter }).collect()
}

/// A drawing under way.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

type Point = (f64, f64);

fn written((x, y): Point) -> (i32, i32) {
    ((x * RESOLUTION).round() as i32, (y * RESOLUTION).round() as i32)
}

fn stroke(colour: RGBColor, width: f64) -> ShapeStyle {
    let stroke_width = (width * RESOLUTION).round() as u32;
    ShapeStyle { color: colour.to_rgba(), filled: false, stroke_width }
}

impl Canvas<'_> {
    pub(super) fn line(&mut self, from: Point, to: Point, colour: RGBColor, width: f64) -> Drawn {
        drawn(self.backend.draw_line(written(from), written(to), &stroke(colour, width)))
    }

    pub(super) fn path(&mut self, points: &[Point], colour: RGBColor, width: f64) -> Drawn {
        drawn(self.backend.draw_path(points.iter().map(|&p| written(p)), &stroke(colour, width)))
    }

    pub(super) fn area(&mut self, points: &[Point], colour: RGBColor, opacity: f64) -> Drawn {
        drawn(self.backend.fill_polygon(points.iter().map(|&p| written(p)), &colour.mix(opacity)))
    }

    pub(super) fn rectangle(&mut self, from: Point, to: Point, colour: RGBColor) -> Drawn {
        drawn(self.backend.draw_rect(written(from), written(to), &colour, true))
    }

    pub(super) fn dot(&mut self, centre: Point, radius: f64, colour: RGBColor) -> Drawn {
        let radius = (radius * RESOLUTION).round() as u32;
        drawn(self.backend.draw_circle(written(centre), radius, &colour, true))
    }

    /// Text whose middle height is at `at`.
    pub(super) fn text(&mut self, text: &str, at: Point, lettering: Lettering) -> Drawn {
        let weight = if lettering.bold { FontStyle::Bold } else { FontStyle::Normal };
        // The backend divides by 1.24, its ratio of line height to font size.
        let size = lettering.size * RESOLUTION * 1.24;
        let style = TextStyle::from((FONTS, size, weight))
            .color(&lettering.colour)
            .pos(Pos::new(lettering.horizontal, VPos::Center));
        drawn(self.backend.draw_text(&printable(text), &style, written(at)))
    }
}

/// The outcome of a drawing call.
pub(super) type Drawn = Result<(), PlotError>;

/// The backend's error as ours.
fn drawn(outcome: Result<(), impl Display>) -> Drawn {
    outcome.map_err(|error| PlotError::Backend(error.to_string()))
}

/// Draws on white paper of the given size and returns the SVG document.
pub(super) fn document(
    width: f64,
    height: f64,
    draw: impl FnOnce(&mut Canvas<'_>) -> Drawn,
) -> Result<String, PlotError> {
    let (wide, high) = ((width * RESOLUTION).round() as u32, (height * RESOLUTION).round() as u32);
    let mut text = String::new();
    let mut canvas = Canvas { backend: SVGBackend::with_string(&mut text, (wide, high)) };
    canvas.rectangle((0.0, 0.0), (width, height), PAPER)?;
    draw(&mut canvas)?;
    drawn(canvas.backend.present())?;
    drop(canvas);
    let large = format!("<svg width=\"{wide}\" height=\"{high}\"");
    let small = format!(
        "<svg width=\"{width:.0}\" height=\"{height:.0}\" stroke-linejoin=\"round\" stroke-linecap=\"round\""
    );
    Ok(text.replacen(&large, &small, 1))
}
