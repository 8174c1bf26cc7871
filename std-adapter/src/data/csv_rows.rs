//! The rows of a CSV file with the lines on which they start, and the choice of the delimiter.
//!
//! The crate `csv` does the parsing. Its line numbers are not used as they come: `csv` 1.4.0 reports the line
//! after the previous row, which is wrong behind an empty line and, with `\r\n`, off by one in every row. Here
//! rows end at `\n`, cells are trimmed (which removes the `\r`), and an end marker makes sure that every row has
//! a `\n`, so that the start follows from the line on which the row ended and the newlines inside its quotes.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use ::csv::{ByteRecord, Reader, ReaderBuilder, Terminator};

use super::DataError;
use super::source::Source;

/// Put behind the last row. A NUL has no place in a text file; a row that contains the marker as part of a cell
/// swallowed the rest of the file, which only an open quote does.
const END: &[u8] = b"\n\0\n";

pub(super) struct Rows {
    path: PathBuf,
    reader: Reader<Box<dyn Read>>,
}

/// One row; `line` is where it starts, from 1.
#[derive(Default)]
pub(super) struct Row {
    pub(super) line: u64,
    cells: ByteRecord,
}

impl Row {
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The cell at `index` (from 0) without surrounding white space; `None` where it is not UTF-8.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        std::str::from_utf8(self.cells.get(index).unwrap_or_default().trim_ascii()).ok()
    }

    /// The cell at `index` for a message.
    pub(super) fn shown(&self, index: usize) -> String {
        String::from_utf8_lossy(self.cells.get(index).unwrap_or_default().trim_ascii()).into_owned()
    }

    /// The number in the cell at `index`, finite or not; `None` where it holds anything else.
    pub(super) fn number(&self, index: usize) -> Option<f32> {
        self.text(index)?.parse().ok()
    }

    fn is_blank(&self) -> bool {
        self.len() <= 1 && self.cells.iter().all(|cell| cell.trim_ascii().is_empty())
    }
}

impl Rows {
    pub(super) fn new(source: Source, delimiter: Option<u8>) -> Self {
        let delimiter = delimiter.unwrap_or_else(|| detect_delimiter(source.head()));
        let path = source.path.clone();
        let text: Box<dyn Read> = Box::new(source.chain(Cursor::new(END)));
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(text);
        Self { path, reader }
    }

    /// Replaces `row` by the next row that is not blank; false at the end.
    pub(super) fn next(&mut self, row: &mut Row) -> Result<bool, DataError> {
        loop {
            let more =
                self.reader.read_byte_record(&mut row.cells).map_err(|e| read_failure(&self.path, e))?;
            if !more || row.cells.get(0) == Some(b"\0") {
                return Ok(false);
            }
            let inside = row.cells.iter().flatten().filter(|&&byte| byte == b'\n').count() as u64;
            let end = self.reader.position().line();
            if row.cells.iter().next_back().is_some_and(|cell| cell.ends_with(END)) {
                let problem = format!("the quote opened in line {} is never closed", end - inside);
                return Err(DataError::unusable(&self.path, problem, "close the quote or remove it"));
            }
            row.line = end.saturating_sub(inside + 1);
            if !row.is_blank() {
                return Ok(true);
            }
        }
    }
}

fn read_failure(path: &Path, error: ::csv::Error) -> DataError {
    let cause = match error.into_kind() {
        ::csv::ErrorKind::Io(cause) => cause,
        other => io::Error::other(format!("{other:?}")),
    };
    DataError::Io {
        path: path.to_owned(),
        action: "read or decompress",
        cause,
        next: "the file may be damaged or cut short: fetch or write it again",
    }
}

/// The delimiter among `,`, `;` and tab that occurs equally often in the first two lines, the most frequent one
/// where several do; failing that the most frequent one of the first line; failing that the comma.
fn detect_delimiter(head: &[u8]) -> u8 {
    let mut lines = head.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let first = lines.next().unwrap_or_default();
    let second = lines.next();
    // `max_by_key` takes the last of equals, which is to be the comma.
    let candidates = [b'\t', b';', b','].map(|delimiter| {
        let count = unquoted(first, delimiter);
        let agrees = count > 0 && second.is_none_or(|line| unquoted(line, delimiter) == count);
        (agrees, count, delimiter)
    });
    candidates.into_iter().max_by_key(|&(agrees, count, _)| (agrees, count)).map_or(b',', |(.., d)| d)
}

fn unquoted(line: &[u8], delimiter: u8) -> usize {
    let outside = |(i, part): (usize, &[u8])| {
        if i % 2 == 0 { part.iter().filter(|&&byte| byte == delimiter).count() } else { 0 }
    };
    line.split(|&byte| byte == b'"').enumerate().map(outside).sum()
}
