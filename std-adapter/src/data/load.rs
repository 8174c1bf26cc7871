//! [`Dataset::load`]: from a path to a data set, with the reader chosen by what the file holds.
//!
//! The (decompressed) contents decide: the magic numbers of NPY and IDX are recognised whatever the name. A name
//! that ends in `.npy`, `.idx` or `-ubyte` (before `.gz`) goes to that reader all the same, so that a damaged file
//! is reported as such. Everything else is read as CSV unless it holds a NUL byte, which no text does.

use std::path::{Path, PathBuf};

use super::csv::{self, CsvOptions};
use super::source::Source;
use super::targets::whole;
use super::{DataError, Dataset, TargetKind, idx, npy};

/// How data are to be loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The file of labels or target values that belongs to an IDX or NPY file of inputs. Its first dimension counts
    /// the examples. A CSV file holds its own targets.
    pub labels: Option<PathBuf>,
    /// Columns and targets of a CSV file. [`CsvOptions::kind`] goes for the file of labels too.
    pub csv: CsvOptions,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Idx,
    Npy,
    Csv,
}

impl Dataset {
    /// Loads a data set from an IDX, NPY or CSV file, raw or gzip.
    ///
    /// # Errors
    /// What the reader of the format reports; [`DataError::Unusable`] for a file of no known format, or for labels
    /// next to or in a CSV file; [`DataError::Mismatch`] where inputs and labels differ in number.
    ///
    /// ```no_run
    /// use ekfac_std::data::{Dataset, LoadOptions};
    ///
    /// let labels = Some("train-labels-idx1-ubyte.gz".into());
    /// let mut mnist = Dataset::load("train-images-idx3-ubyte.gz", &LoadOptions { labels, ..Default::default() })?;
    /// mnist.scale_by_max();
    /// # Ok::<(), ekfac_std::data::DataError>(())
    /// ```
    pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self, DataError> {
        let path = path.as_ref();
        let source = Source::open(path)?;
        let inputs = match Format::of(&source)? {
            Format::Csv if options.labels.is_some() => {
                let problem = "a CSV file cannot be combined with a file of labels";
                return Err(DataError::unusable(path, problem, "choose its target columns instead"));
            }
            Format::Csv => return Ok(csv::parse(source, &options.csv)?.data),
            Format::Idx => idx::parse(source)?,
            Format::Npy => npy::parse(source)?,
        };
        let (labels, kind) = match &options.labels {
            None => (None, options.csv.kind),
            Some(labels) => {
                let source = Source::open(labels)?;
                let format = Format::of(&source)?;
                let array = match format {
                    Format::Idx => idx::parse(source)?,
                    Format::Npy => npy::parse(source)?,
                    Format::Csv => {
                        let problem = "labels must be an IDX or NPY file";
                        return Err(DataError::unusable(
                            labels,
                            problem,
                            "convert them, or use one CSV for both",
                        ));
                    }
                };
                // The rule of `TargetKind::Auto`: IDX files of labels are how classes are published.
                let idx_labels = format == Format::Idx && array.shape.len() == 1;
                let classes = idx_labels && array.values.iter().all(|&value| whole(value).is_some());
                let auto = options.csv.kind == TargetKind::Auto;
                (Some(array), if auto && classes { TargetKind::Classes } else { options.csv.kind })
            }
        };
        Self::from_arrays(&Self::name_of(path), inputs, labels, kind)
    }
}

impl Format {
    fn of(source: &Source) -> Result<Self, DataError> {
        let name = source.path.to_string_lossy().to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let head = source.head();
        if npy::recognises(head) {
            Ok(Self::Npy)
        } else if idx::recognises(head) {
            Ok(Self::Idx)
        } else if name.ends_with(".npy") {
            Ok(Self::Npy)
        } else if name.ends_with(".idx") || name.ends_with("-ubyte") {
            Ok(Self::Idx)
        } else if head.contains(&0) {
            let problem = "the contents are neither IDX nor NPY nor text";
            Err(DataError::unusable(&source.path, problem, "convert the file to one of IDX, NPY or CSV"))
        } else {
            Ok(Self::Csv)
        }
    }
}
