//! From the caller's series to what can be drawn: runs of points with a place on both axes.
//!
//! ```text
//! run = longest stretch of consecutive drawable points;   left out = points − Σ |run|
//! ```
//!
//! *Invariant.* Every value of a [`Prepared`] lies within its ranges. A band whose low end is not
//! positive on a logarithmic axis reaches to the bottom of the panel instead.
//!
//! *Cost.* Linear in the points.
//!
//! *How it fails.* [`Prepared::new`] returns nothing when no point is drawable.

use super::labels::Key;
use super::scale::{Range, drawable};
use super::{Panel, Scale, Series};
use std::ops::Add;

/// How many points have no place, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LeftOut {
    pub(super) not_finite: usize,
    pub(super) not_positive: usize,
}

impl Add for LeftOut {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            not_finite: self.not_finite + other.not_finite,
            not_positive: self.not_positive + other.not_positive,
        }
    }
}

impl LeftOut {
    fn count(&mut self, values: &[f64]) {
        if values.iter().all(|value| value.abs() <= 1e150) {
            self.not_positive += 1;
        } else {
            self.not_finite += 1;
        }
    }

    /// The note under the title, if there is anything to say.
    pub(super) fn note(self) -> Option<String> {
        let reason = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let finite = reason(self.not_finite, "not finite");
        let positive = reason(self.not_positive, "not positive on a logarithmic axis");
        let reasons: Vec<String> = finite.into_iter().chain(positive).collect();
        (!reasons.is_empty()).then(|| format!("Points left out: {}", reasons.join(", ")))
    }
}

/// One series, reduced to what can be drawn.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) colour: usize,
    pub(super) runs: Vec<Vec<(f64, f64)>>,
    pub(super) band: Vec<(f64, f64, f64)>,
}

impl Line {
    /// The last point of the line.
    pub(super) fn end(&self) -> Option<(f64, f64)> {
        self.runs.last().and_then(|run| run.last()).copied()
    }
}

/// A panel's drawable content and ranges.
pub(super) struct Prepared {
    pub(super) lines: Vec<Line>,
    pub(super) x: Range,
    pub(super) y: Range,
    pub(super) left_out: LeftOut,
}

impl Prepared {
    /// The drawable part of a panel; none when no point is drawable.
    pub(super) fn new(panel: &Panel, key: &Key) -> Option<Self> {
        let mut left_out = LeftOut::default();
        let (across, up) = (panel.x.scale, panel.y.scale);
        let lines = panel.series.iter().map(|series| Line {
            label: series.label.clone(),
            colour: key.index(&series.label),
            runs: runs(series, across, up, &mut left_out),
            band: band(series, across, up, &mut left_out),
        });
        let lines: Vec<Line> = lines.collect();
        let points = || lines.iter().flat_map(|line| line.runs.iter().flatten());
        let _at_least_one_point = points().next()?;
        let band = || lines.iter().flat_map(|line| &line.band);
        let ends = band().flat_map(|&(_, low, high)| [low, high]).filter(|&end| drawable(up, end));
        let x = Range::covering(across, points().map(|p| p.0).chain(band().map(|b| b.0)))?;
        let y = Range::covering(up, points().map(|p| p.1).chain(ends))?.padded(0.05);
        Some(Self { lines, x, y, left_out })
    }
}

fn runs(series: &Series, across: Scale, up: Scale, left_out: &mut LeftOut) -> Vec<Vec<(f64, f64)>> {
    let mut runs = vec![Vec::new()];
    for &(x, y) in &series.points {
        if !drawable(across, x) || !drawable(up, y) {
            left_out.count(&[x, y]);
            runs.push(Vec::new());
        } else if let Some(run) = runs.last_mut() {
            run.push((x, y));
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn band(series: &Series, across: Scale, up: Scale, left_out: &mut LeftOut) -> Vec<(f64, f64, f64)> {
    let mut kept = Vec::new();
    for &(x, low, high) in series.band.iter().flatten() {
        if drawable(across, x) && low.abs() <= 1e150 && drawable(up, high) && low <= high {
            kept.push((x, low, high));
        } else {
            left_out.count(&[x, low, high]);
        }
    }
    kept
}
