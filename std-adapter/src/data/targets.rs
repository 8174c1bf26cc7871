//! [`Targets`]: what a network is to predict, as classes or as values, and how one is told from the other.

use super::{Array, DataError};

/// The targets of a [`Dataset`](super::Dataset), one entry or row for each example in the same order.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// One class for each example.
    Classes {
        /// The class of each example, from 0 to below the number of names.
        labels: Vec<u32>,
        /// The names of the classes; entry 0 names class 0.
        names: Vec<String>,
    },
    /// `width` values for each example.
    Values {
        /// The values, one example after another.
        values: Vec<f32>,
        /// Values for each example.
        width: usize,
    },
    /// The data have inputs only.
    None,
}

/// How targets are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetKind {
    /// Text is classes. Numbers are classes where there is one for each example, they are exactly the whole
    /// numbers 0 ..= k-1 with k at least 2, and there are at least 2k examples; otherwise they are values.
    /// A one-dimensional IDX file of whole numbers from 0 is always classes.
    #[default]
    Auto,
    /// Classes, also where numbers could be values.
    Classes,
    /// Values; text is an error.
    Values,
}

impl Targets {
    /// The outputs that a network for these targets has: the number of classes, or of values for each example.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Classes { names, .. } => names.len(),
            Self::Values { width, .. } => *width,
            Self::None => 0,
        }
    }

    /// The targets of the examples at `indices`, in that order.
    pub(super) fn select(&self, indices: &[usize]) -> Self {
        match self {
            Self::Classes { labels, names } => Self::Classes {
                labels: indices.iter().filter_map(|&i| labels.get(i).copied()).collect(),
                names: names.clone(),
            },
            Self::Values { values, width } => {
                Self::Values { values: rows(values, *width, indices), width: *width }
            }
            Self::None => Self::None,
        }
    }

    /// The number of examples these targets belong to; `None` where they do not say.
    pub(super) fn examples(&self) -> Option<usize> {
        match self {
            Self::Classes { labels, .. } => Some(labels.len()),
            Self::Values { values, width } => values.len().checked_div(*width),
            Self::None => None,
        }
    }

    /// Targets from an array whose first dimension counts the examples. A number is its own class here, with or
    /// without examples of the classes below it, so that two files of the same data agree.
    pub(super) fn from_array(name: &str, array: Array, kind: TargetKind) -> Result<Self, DataError> {
        let examples = array.shape.first().copied().unwrap_or(1);
        let width = array.shape.iter().skip(1).product();
        let classes = match kind {
            TargetKind::Auto => width == 1 && look_like_classes(&array.values),
            TargetKind::Classes => true,
            TargetKind::Values => false,
        };
        if !classes {
            return Ok(Self::Values { values: array.values, width });
        }
        let labels = array.values.iter().map(|&value| whole(value)).collect::<Option<Vec<u32>>>();
        let Some(labels) = labels.filter(|labels| width == 1 && labels.len() == examples) else {
            return Err(DataError::mismatch(
                name,
                format!(
                    "labels of shape {:?} are not one whole number from 0 to 65535 for each example",
                    array.shape
                ),
                "number the classes from 0, or read the targets as values",
            ));
        };
        let classes = labels.iter().max().map_or(0, |&largest| largest + 1);
        Ok(Self::Classes { labels, names: (0..classes).map(|class| class.to_string()).collect() })
    }
}

/// The rows at `indices` of row-major `values`, in that order.
pub(super) fn rows(values: &[f32], width: usize, indices: &[usize]) -> Vec<f32> {
    let mut chosen = Vec::with_capacity(indices.len() * width);
    for &i in indices {
        chosen.extend_from_slice(values.get(i * width..(i + 1) * width).unwrap_or_default());
    }
    chosen
}

/// Whether a value can be a class number. The bound keeps a stray large number from creating as many classes.
pub(super) fn whole(value: f32) -> Option<u32> {
    (value.fract() == 0.0 && (0.0..=65_535.0).contains(&value)).then_some(value as u32)
}

/// The rule of [`TargetKind::Auto`] for numbers.
pub(super) fn look_like_classes(values: &[f32]) -> bool {
    let Some(mut labels) = values.iter().map(|&value| whole(value)).collect::<Option<Vec<u32>>>() else {
        return false;
    };
    labels.sort_unstable();
    labels.dedup();
    let classes = labels.len();
    classes >= 2
        && labels.last().is_some_and(|&last| last as usize + 1 == classes)
        && values.len() >= 2 * classes
}

/// Classes from the text of one target column. The names are sorted, as numbers where all of them are numbers and
/// by code point otherwise, so that the numbering does not depend on the order of the rows.
pub(super) fn classes_from_text(cells: &[String]) -> Targets {
    let number = |cell: &str| cell.parse::<f64>().ok();
    let mut names: Vec<&str> = cells.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    if names.iter().all(|name| number(name).is_some()) {
        let value = |name: &str| number(name).unwrap_or(f64::NAN);
        names.sort_by(|a, b| value(a).total_cmp(&value(b)));
        // `1` and `1.0` are the same class.
        names.dedup_by(|a, b| value(a) == value(b));
        let position = |cell: &str| names.partition_point(|name| value(name) < value(cell));
        return numbered(cells, &names, position);
    }
    numbered(cells, &names, |cell| names.partition_point(|name| *name < cell))
}

fn numbered(cells: &[String], names: &[&str], position: impl Fn(&str) -> usize) -> Targets {
    let labels = cells.iter().map(|cell| position(cell) as u32).collect();
    Targets::Classes { labels, names: names.iter().map(|&name| name.to_owned()).collect() }
}
