//! [`DataError`]: everything that can go wrong between a file and a [`Dataset`](super::Dataset).
//!
//! A message is complete by itself: it names the file, the place in it (line and column for text, byte offset
//! for binary formats), what was expected, what was found and what to do next. The cause of an input/output
//! failure is part of the message, so there is no `source` chain to print as well; its
//! [`ErrorKind`](io::ErrorKind) stays available through [`DataError::kind`].

use std::io;
use std::path::{Path, PathBuf};

/// Why data could not be read, or could not be used as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system (or the gzip decoder) refused.
    #[error("{}: cannot {action}: {cause}; {next}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was attempted, such as `open`.
        action: &'static str,
        /// The failure reported by the operating system or the decoder.
        cause: io::Error,
        /// What to do about it.
        next: &'static str,
    },
    /// A binary file breaks the rules of its format.
    #[error("{}: invalid {format} at byte {offset}: expected {expected}, found {found}; {next}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// `IDX` or `NPY`.
        format: &'static str,
        /// Offset in the (decompressed) file, from 0.
        offset: u64,
        /// What the format asks for there.
        expected: String,
        /// What the file holds there.
        found: String,
        /// What to do about it.
        next: &'static str,
    },
    /// A CSV cell cannot be used.
    #[error(
        "{}, line {line}, column {column}{}: expected {expected}, found {found:?}; {next}",
        .path.display(),
        quoted(.name.as_deref())
    )]
    Cell {
        /// The file.
        path: PathBuf,
        /// Line in the (decompressed) file on which the row starts, from 1.
        line: u64,
        /// Column, from 1.
        column: usize,
        /// The name of the column, where the file has a header.
        name: Option<String>,
        /// What the cell should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
        /// What to do about it.
        next: &'static str,
    },
    /// A CSV row has more or fewer cells than the first row.
    #[error(
        "{}, line {line}: expected {expected} cells as in the first row, found {found}; complete or remove the \
         row, and check the delimiter and the quotes",
        .path.display()
    )]
    Row {
        /// The file.
        path: PathBuf,
        /// Line on which the row starts, from 1.
        line: u64,
        /// Cells in the first row.
        expected: usize,
        /// Cells in this row.
        found: usize,
    },
    /// A CSV column that was asked for does not exist.
    #[error("{}: there is no column {wanted}; choose one of: {available}", .path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column asked for.
        wanted: String,
        /// The columns there are, with their numbers and names.
        available: String,
    },
    /// The file was read, but cannot serve as asked.
    #[error("{}: {problem}; {next}", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What stands in the way.
        problem: String,
        /// What to do about it.
        next: &'static str,
    },
    /// Data in memory do not fit together.
    #[error("data set {name:?}: {problem}; {next}")]
    Mismatch {
        /// The name of the data set.
        name: String,
        /// What does not fit.
        problem: String,
        /// What to do about it.
        next: &'static str,
    },
}

impl DataError {
    /// The kind of the input/output failure: [`io::ErrorKind::InvalidData`] unless the operating system failed.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Io { cause, .. } => cause.kind(),
            _ => io::ErrorKind::InvalidData,
        }
    }

    pub(super) fn unusable(path: &Path, problem: impl Into<String>, next: &'static str) -> Self {
        Self::Unusable { path: path.to_owned(), problem: problem.into(), next }
    }

    pub(super) fn mismatch(name: &str, problem: String, next: &'static str) -> Self {
        Self::Mismatch { name: name.to_owned(), problem, next }
    }
}

fn quoted(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!(" ({name:?})"))
}
