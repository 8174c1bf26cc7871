//! Reader of CSV files, raw or gzip: one example in each row, one feature or target in each column.
//!
//! The delimiter is detected among `,`, `;` and tab. The first row is taken as a header where it has a word in a
//! column that holds a number in the next row; a first row with numbers as well, which could be a header or an
//! example with a faulty cell, is an error until [`CsvOptions::header`] decides. Cells may be quoted; white space
//! around them and blank lines are ignored. Lines and columns count from 1, in messages as in [`Column::Number`].
//!
//! Cost: one pass, 4 bytes for each input and the text of each target. Fails with the line and column of the
//! first cell that is empty, not a number, or NaN or infinite, and with the line of the first ragged row.

use std::path::Path;

use super::csv_rows::{Row, Rows};
use super::source::Source;
use super::targets::{classes_from_text, look_like_classes};
use super::{DataError, Dataset, TargetKind, Targets};

/// How a CSV file is to be read; the default detects what can be detected and takes the last column as target.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    /// The delimiter; `None` detects it.
    pub delimiter: Option<u8>,
    /// Whether the first row is a header; `None` detects it.
    pub header: Option<bool>,
    /// The target columns; empty for a file of inputs only. All other columns are inputs.
    pub targets: Vec<Column>,
    /// Whether the targets are classes or values.
    pub kind: TargetKind,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: None, header: None, targets: vec![Column::Last], kind: TargetKind::Auto }
    }
}

/// A column of a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// The last one.
    Last,
    /// By position from 1, as in messages.
    Number(usize),
    /// By its name in the header.
    Name(String),
}

/// The contents of a CSV file.
#[derive(Debug, Clone, PartialEq)]
pub struct Csv {
    /// Inputs and targets.
    pub data: Dataset,
    /// The name of each input column, `column 3` for the third column of a file without a header.
    pub input_names: Vec<String>,
    /// The name of each target column, likewise.
    pub target_names: Vec<String>,
}

/// Reads a CSV file. The classes of a text column are numbered in sorted order of their names.
///
/// # Errors
/// Every variant of [`DataError`] but `Format` and `Mismatch`.
///
/// ```
/// use ekfac_std::data::{CsvOptions, Targets, csv};
///
/// let path = std::env::temp_dir().join(format!("ekfac-csv-{}", std::process::id()));
/// std::fs::write(&path, "length,width,kind\n1.5,2,tulip\n3,4,rose\n")?;
/// let csv = csv::read(&path, &CsvOptions::default())?;
/// assert_eq!(csv.input_names, ["length", "width"]);
/// assert_eq!(csv.data.inputs, [1.5, 2.0, 3.0, 4.0]);
/// let names = vec!["rose".to_owned(), "tulip".to_owned()];
/// assert_eq!(csv.data.targets, Targets::Classes { labels: vec![1, 0], names });
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read(path: impl AsRef<Path>, options: &CsvOptions) -> Result<Csv, DataError> {
    parse(Source::open(path.as_ref())?, options)
}

pub(super) fn parse(source: Source, options: &CsvOptions) -> Result<Csv, DataError> {
    let name = Dataset::name_of(&source.path);
    let path = source.path.clone();
    let mut rows = Rows::new(source, options.delimiter);
    let (mut row, mut ahead) = (Row::default(), Row::default());
    if !rows.next(&mut row)? {
        return Err(DataError::unusable(&path, "the file has no rows", "check that it is the right file"));
    }
    let mut more = rows.next(&mut ahead)?;
    let header = match options.header {
        Some(forced) => forced,
        None => more && is_header(&path, &row, &ahead)?,
    };
    let mut table = Table::new(&path, &row, header, options)?;
    if !header {
        table.add(&row)?;
    }
    while more {
        table.add(&ahead)?;
        more = rows.next(&mut ahead)?;
    }
    table.finish(name)
}

/// Whether `first` names columns, judged by the row after it.
fn is_header(path: &Path, first: &Row, second: &Row) -> Result<bool, DataError> {
    // An empty cell is a missing value rather than a name.
    let is_word = |i| first.number(i).is_none() && first.text(i).is_none_or(|text| !text.is_empty());
    let word = (0..first.len()).find(|&i| is_word(i) && second.number(i).is_some());
    let number = (0..first.len()).find(|&i| first.number(i).is_some());
    match (word, number) {
        (None, _) => Ok(false),
        (Some(_), None) => Ok(true),
        (Some(word), Some(number)) => Err(DataError::unusable(
            path,
            format!(
                "line {} may be a header or an example: column {} holds {:?} and column {} holds {:?}",
                first.line,
                word + 1,
                first.shown(word),
                number + 1,
                first.shown(number)
            ),
            "say whether the first row is a header (option `header`)",
        )),
    }
}

/// The columns of a file and the cells read so far.
struct Table<'a> {
    path: &'a Path,
    header: Option<Vec<String>>,
    width: usize,
    targets: Vec<usize>,
    kind: TargetKind,
    /// Whether the targets are text, which for [`TargetKind::Auto`] the first example decides.
    text: Option<bool>,
    examples: usize,
    inputs: Vec<f32>,
    values: Vec<f32>,
    labels: Vec<String>,
}

impl<'a> Table<'a> {
    fn new(path: &'a Path, first: &Row, header: bool, options: &CsvOptions) -> Result<Self, DataError> {
        let width = first.len();
        let header = header.then(|| (0..width).map(|i| first.shown(i)).collect::<Vec<_>>());
        let resolve = |column: &Column| {
            resolve(column, width, header.as_deref())
                .ok_or_else(|| missing(path, column, width, header.as_deref()))
        };
        let targets = options.targets.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        if (0..width).all(|i| targets.contains(&i)) {
            let problem = format!("all {width} columns are targets");
            return Err(DataError::unusable(path, problem, "leave at least one column as input"));
        }
        if options.kind == TargetKind::Classes && targets.len() != 1 {
            let problem = format!("classes were asked for with {} target columns", targets.len());
            return Err(DataError::unusable(path, problem, "choose one target column"));
        }
        let text = match options.kind {
            TargetKind::Classes => Some(true),
            TargetKind::Values => Some(false),
            TargetKind::Auto if targets.len() == 1 => None,
            TargetKind::Auto => Some(false),
        };
        Ok(Self {
            path,
            header,
            width,
            targets,
            kind: options.kind,
            text,
            examples: 0,
            inputs: Vec::new(),
            values: Vec::new(),
            labels: Vec::new(),
        })
    }

    fn add(&mut self, row: &Row) -> Result<(), DataError> {
        if row.len() != self.width {
            let (path, line) = (self.path.to_owned(), row.line);
            return Err(DataError::Row { path, line, expected: self.width, found: row.len() });
        }
        for i in (0..self.width).filter(|i| !self.targets.contains(i)) {
            let value = self.number(row, i, "correct the cell or leave the row out")?;
            self.inputs.push(value);
        }
        for &i in &self.targets {
            let text = *self.text.get_or_insert(row.number(i).is_none());
            if text {
                self.labels.push(self.label(row, i)?);
            } else {
                let next = "correct the cell, or ask for classes if these are names of classes";
                self.values.push(self.number(row, i, next)?);
            }
        }
        self.examples += 1;
        Ok(())
    }

    fn number(&self, row: &Row, i: usize, next: &'static str) -> Result<f32, DataError> {
        let value = row.number(i).filter(|value| value.is_finite());
        value.ok_or_else(|| self.bad_cell(row, i, "a finite number", next))
    }

    fn label(&self, row: &Row, i: usize) -> Result<String, DataError> {
        let missing = row.number(i).is_some_and(|value| !value.is_finite());
        let label = row.text(i).filter(|label| !label.is_empty() && !missing);
        let next = "correct the cell or leave the row out";
        label.map(str::to_owned).ok_or_else(|| self.bad_cell(row, i, "the name of a class", next))
    }

    fn bad_cell(&self, row: &Row, i: usize, expected: &'static str, next: &'static str) -> DataError {
        DataError::Cell {
            path: self.path.to_owned(),
            line: row.line,
            column: i + 1,
            name: self.header.as_ref().and_then(|names| names.get(i).cloned()),
            expected,
            found: row.shown(i),
            next,
        }
    }

    fn finish(self, name: String) -> Result<Csv, DataError> {
        if self.examples == 0 {
            return Err(DataError::unusable(self.path, "there is a header but no example", "add rows"));
        }
        let target_names = self.targets.iter().map(|&i| column_name(i, self.header.as_deref())).collect();
        let inputs = (0..self.width).filter(|i| !self.targets.contains(i));
        let input_names: Vec<String> = inputs.map(|i| column_name(i, self.header.as_deref())).collect();
        let width = self.targets.len();
        let targets = if width == 0 {
            Targets::None
        } else if self.text == Some(true) {
            classes_from_text(&self.labels)
        } else if self.kind == TargetKind::Auto && width == 1 && look_like_classes(&self.values) {
            classes_from_text(&self.values.iter().map(f32::to_string).collect::<Vec<_>>())
        } else {
            Targets::Values { values: self.values, width }
        };
        let input_width = input_names.len();
        let data = Dataset { name, inputs: self.inputs, input_width, targets, examples: self.examples };
        Ok(Csv { data, input_names, target_names })
    }
}

fn resolve(column: &Column, width: usize, header: Option<&[String]>) -> Option<usize> {
    match column {
        Column::Last => width.checked_sub(1),
        Column::Number(number) => number.checked_sub(1).filter(|&i| i < width),
        Column::Name(name) => header?.iter().position(|n| n == name),
    }
}

fn missing(path: &Path, column: &Column, width: usize, header: Option<&[String]>) -> DataError {
    let wanted = match column {
        Column::Last => "last".to_owned(),
        Column::Number(number) => number.to_string(),
        Column::Name(name) => format!("{name:?}"),
    };
    let available = match header {
        Some(names) => {
            names.iter().zip(1..).map(|(name, i)| format!("{i} {name:?}")).collect::<Vec<_>>().join(", ")
        }
        None => format!("1 to {width} (there is no header, so columns have no names)"),
    };
    DataError::MissingColumn { path: path.to_owned(), wanted, available }
}

fn column_name(i: usize, header: Option<&[String]>) -> String {
    header.and_then(|names| names.get(i).cloned()).unwrap_or_else(|| format!("column {}", i + 1))
}
