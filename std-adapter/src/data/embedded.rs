//! Five small data sets that are part of the program, so that examples and tests need no download.
//!
//! Origin and licences are in `data/README.md` of this crate. The files go through the same CSV reader as a
//! user's; each call parses anew (digits: 117,000 cells, some milliseconds). An error means that the program was
//! built from a damaged copy of the files.

use super::csv::{self, Column, CsvOptions};
use super::source::Source;
use super::{DataError, Dataset, TargetKind, Targets};

const DIGITS: &[u8] = include_bytes!("../../data/digits.csv.gz");
const BREAST_CANCER: &[u8] = include_bytes!("../../data/breast_cancer.csv");
const WINE: &[u8] = include_bytes!("../../data/wine_data.csv");
const DIABETES: &[u8] = include_bytes!("../../data/diabetes_data_raw.csv.gz");
const DIABETES_TARGETS: &[u8] = include_bytes!("../../data/diabetes_target.csv.gz");
const SMARTWATCH: &[u8] = include_bytes!("../../data/smartwatch.csv.gz");

/// 1,797 handwritten digits of 8 x 8 pixels, scaled from 0 ..= 16 to 0 ..= 1, in 10 classes.
///
/// # Errors
/// See the [module](super); only with damaged embedded files.
pub fn digits() -> Result<Dataset, DataError> {
    let mut data = classes("digits", DIGITS, None)?;
    data.divide_inputs(16.0);
    Ok(data)
}

/// 569 breast tumours with 30 raw features in the classes malignant (0) and benign (1).
///
/// # Errors
/// See the [module](super); only with damaged embedded files.
pub fn breast_cancer() -> Result<Dataset, DataError> {
    classes("breast_cancer", without_first_line(BREAST_CANCER), Some(&["malignant", "benign"]))
}

/// 178 wines with 13 raw features from 3 cultivators.
///
/// # Errors
/// See the [module](super); only with damaged embedded files.
pub fn wine() -> Result<Dataset, DataError> {
    classes("wine", without_first_line(WINE), Some(&["class_0", "class_1", "class_2"]))
}

/// 442 patients with 10 raw features; the target is one value, the progression of diabetes after a year.
///
/// # Errors
/// See the [module](super); only with damaged embedded files.
pub fn diabetes() -> Result<Dataset, DataError> {
    let options =
        CsvOptions { delimiter: Some(b' '), header: Some(false), targets: vec![], kind: TargetKind::Values };
    let mut data = csv::parse(Source::from_bytes("diabetes", DIABETES)?, &options)?.data;
    let values = csv::parse(Source::from_bytes("diabetes", DIABETES_TARGETS)?, &options)?.data;
    data.targets = Targets::Values { values: values.inputs, width: 1 };
    Ok(data)
}

/// 1,465 windows of 3.2 s from a smartwatch during seven shoulder exercises, with 36 raw features: mean, standard
/// deviation, minimum, maximum, mean size of a step and share of crossings of the mean, for three axes of acceleration
/// and three of rotation.
///
/// Ordered by subject: the last 314 windows are subjects 9 and 10 of ten. Neighbouring windows are much alike, so only
/// examples of other subjects show how well a network generalises.
///
/// # Errors
/// See the [module](super); only with damaged embedded files.
pub fn smartwatch() -> Result<Dataset, DataError> {
    let (header, kind) = (Some(true), TargetKind::Classes);
    let options = CsvOptions { delimiter: Some(b','), header, targets: vec![Column::Last], kind };
    let mut data = csv::parse(Source::from_bytes("smartwatch", SMARTWATCH)?, &options)?.data;
    // The first column is the number of the subject, which is no feature.
    data.inputs = data.inputs.chunks(data.input_width).flat_map(|row| row.iter().skip(1)).copied().collect();
    data.input_width -= 1;
    Ok(data)
}

/// A file with the class in the last column, by number; `names` replaces the numbers.
fn classes(name: &str, bytes: &'static [u8], names: Option<&[&str]>) -> Result<Dataset, DataError> {
    let (header, kind) = (Some(false), TargetKind::Classes);
    let options = CsvOptions { delimiter: Some(b','), header, targets: vec![Column::Last], kind };
    let mut data = csv::parse(Source::from_bytes(name, bytes)?, &options)?.data;
    if let (Targets::Classes { names: numbers, .. }, Some(names)) = (&mut data.targets, names) {
        *numbers = names.iter().map(|&name| name.to_owned()).collect();
    }
    Ok(data)
}

/// scikit-learn puts the number of rows and columns and the names of the classes there.
fn without_first_line(bytes: &'static [u8]) -> &'static [u8] {
    bytes.iter().position(|&byte| byte == b'\n').and_then(|end| bytes.get(end + 1..)).unwrap_or_default()
}
