//! What a comparison found, and the table of the worst of them.

use nalgebra::DMatrix;
use std::{collections::BTreeMap, fmt};

/// One comparison: holds when `error <= tolerance`, which NaN never is.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// What was compared.
    pub what: String,
    /// How far apart the two are.
    pub error: f64,
    /// How far apart they may be.
    pub tolerance: f64,
}

impl Measure {
    /// A comparison by an error that is already worked out.
    pub fn new(what: &str, error: f64, tolerance: f64) -> Self {
        Self { what: what.to_owned(), error, tolerance }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// |found - expected| / max(|expected|, floor), Frobenius. Infinite for different sizes; NaN anywhere gives NaN. The
/// smallest normal number as a floor makes zero against zero 0 and anything else against zero large.
pub fn distance(found: &DMatrix<f64>, expected: &DMatrix<f64>, floor: f64) -> f64 {
    if found.shape() != expected.shape() {
        return f64::INFINITY;
    }
    let size = expected.norm();
    // `f64::max` would drop a NaN.
    let scale = if size < floor.max(f64::MIN_POSITIVE) { floor.max(f64::MIN_POSITIVE) } else { size };
    (found - expected).norm() / scale
}

/// The same for two numbers.
pub fn difference(found: f64, expected: f64, floor: f64) -> f64 {
    distance(&DMatrix::from_element(1, 1, found), &DMatrix::from_element(1, 1, expected), floor)
}

/// The worst error of every quantity, and every comparison that failed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    kinds: BTreeMap<String, Kind>,
    failures: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Kind {
    files: Vec<String>,
    rows: BTreeMap<String, Row>,
}

#[derive(Clone, Debug)]
struct Row {
    count: usize,
    worst: Measure,
    file: String,
}

impl Report {
    /// Adds a file of a kind and what was compared in it.
    pub fn add(&mut self, kind: &str, file: &str, measures: Vec<Measure>) {
        let entry = self.kinds.entry(kind.to_owned()).or_default();
        entry.files.push(file.to_owned());
        for measure in measures {
            if !measure.holds() {
                let Measure { what, error, tolerance } = &measure;
                self.failures.push(format!("{file}: {what} is off by {error:.2e}, allowed {tolerance:.2e}"));
            }
            let fresh = Row { count: 0, worst: measure.clone(), file: file.to_owned() };
            let row = entry.rows.entry(measure.what.clone()).or_insert(fresh);
            row.count += 1;
            if measure.error / measure.tolerance > row.worst.error / row.worst.tolerance {
                (row.worst, row.file) = (measure, file.to_owned());
            }
        }
    }

    /// Every comparison that failed, one line each.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// How many files of a kind there were.
    pub fn count(&self, kind: &str) -> usize {
        self.kinds.get(kind).map_or(0, |kind| kind.files.len())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, kind) in &self.kinds {
            writeln!(formatter, "{name}: {} files", kind.files.len())?;
            if kind.rows.is_empty() {
                writeln!(formatter, "    {}", kind.files.join(", "))?;
            }
            for (what, row) in &kind.rows {
                let Measure { error, tolerance, .. } = row.worst;
                let Row { count, file, .. } = row;
                let allowed =
                    if tolerance < f64::MAX { format!("{tolerance:.1e}") } else { "any".to_owned() };
                writeln!(
                    formatter,
                    "    {what:<48} {count:>4} x   worst {error:>8.1e}   allowed {allowed:>7}   {file}"
                )?;
            }
        }
        Ok(())
    }
}
