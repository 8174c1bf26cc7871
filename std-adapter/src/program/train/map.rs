//! What lies between two layers of a described network, and what a kernel does to it.

use ekfac::convolution::{Axis, Convolution, Layout};
use serde::Deserialize;
use std::fmt;

/// Channels over rows and columns, or over a line of samples.
#[derive(Clone, Copy)]
pub(super) struct Map {
    pub(super) channels: usize,
    pub(super) sides: [usize; 2],
    pub(super) is_line: bool,
    pub(super) layout: Layout,
}

impl fmt::Display for Map {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channels, sides: [rows, columns], is_line, .. } = *self;
        match (rows, columns) {
            (1, 1) => write!(formatter, "{channels}"),
            _ if is_line => write!(formatter, "{channels} x {columns}"),
            _ => write!(formatter, "{channels} x {rows} x {columns}"),
        }
    }
}

/// One number for both sides, or one for each.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a whole number from 0, or [rows, columns]")]
pub(super) enum Sides {
    Both(usize),
    Each([usize; 2]),
}

/// A window as the user wrote it.
pub(super) struct Window {
    pub(super) kernel: Sides,
    pub(super) stride: Option<Sides>,
    pub(super) padding: Option<Sides>,
    pub(super) dilation: Option<Sides>,
}

impl Map {
    pub(super) fn words(&self) -> usize {
        self.sides.iter().fold(self.channels, |words, side| words.saturating_mul(*side))
    }

    /// A window over the whole of it.
    pub(super) fn whole(&self) -> [Axis; 2] {
        self.sides.map(|side| Axis::new(side, side))
    }

    /// A window along its sides.
    pub(super) fn axes(&self, window: &Window) -> Result<[Axis; 2], String> {
        let kernel = self.sides_of("kernel", Some(window.kernel), 1, 1)?;
        let stride = self.sides_of("stride", window.stride, 1, 1)?;
        let padding = self.sides_of("padding", window.padding, 0, 0)?;
        let dilation = self.sides_of("dilation", window.dilation, 1, 1)?;
        let axis = |at: usize| {
            let axis = Axis::new(self.sides[at], kernel[at]).stride(stride[at]).padding(padding[at]);
            fitting(axis.dilation(dilation[at]), padding[at])
        };
        Ok([axis(0)?, axis(1)?])
    }

    /// A line has no rows: there the window is one place high, whatever the number.
    fn sides_of(
        &self,
        name: &str,
        given: Option<Sides>,
        default: usize,
        least: usize,
    ) -> Result<[usize; 2], String> {
        let sides = match given {
            None => [default; 2],
            Some(Sides::Both(side)) if self.is_line => [default, side],
            Some(Sides::Both(side)) => [side; 2],
            Some(Sides::Each([rows, columns])) if self.is_line => {
                return Err(format!(
                    "{name} = [{rows}, {columns}] is for rows and columns, but here is a line: write {name} = {columns}"
                ));
            }
            Some(Sides::Each(sides)) => sides,
        };
        match sides.iter().find(|side| **side < least) {
            Some(side) => Err(format!("{name} {side}: write {least} or more")),
            None => Ok(sides),
        }
    }

    /// What a convolution makes of it.
    pub(super) fn after(&self, convolution: &Convolution) -> Map {
        let sides = convolution.axes().map(|axis| axis.positions());
        let channels = convolution.output_words() / convolution.locations().max(1);
        Map { channels, sides, layout: convolution.order(), ..*self }
    }
}

/// The axis, if its kernel has a position.
fn fitting(axis: Axis, padding: usize) -> Result<Axis, String> {
    if axis.positions() > 0 {
        return Ok(axis);
    }
    let (kernel, span, side) = (axis.kernel(), axis.span(), axis.length());
    let spread = if span > kernel { format!(", spread over {span},") } else { String::new() };
    let padded = if padding > 0 { format!(" with padding {padding}") } else { String::new() };
    let enough = span.saturating_sub(side).div_ceil(2);
    Err(format!(
        "kernel {kernel}{spread} does not fit a side of {side}{padded}: choose a smaller kernel, or padding {enough}"
    ))
}
