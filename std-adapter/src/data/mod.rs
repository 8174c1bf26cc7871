//! Data: readers of IDX, NPY and CSV files, raw or gzip, five small data sets that are part of the
//! program, a generated one, and MNIST and its relatives where their files are at hand.
//!
//! [`Dataset::load`] chooses the reader by the contents; [`idx::read`], [`npy::read`] and [`csv::read`] are the
//! readers themselves. Examples lie one after another, which is row-major `examples x features` and equally
//! column-major `features x examples`, so a batch is a matrix without being copied.
//!
//! Cost: one pass over the file, 4 bytes of memory for each value. All failures are a [`DataError`] whose message
//! names the file, the place and what to do; no header is believed before the bytes that it promises are there.
//!
//! ```
//! let digits = ekfac_std::data::digits()?;
//! assert_eq!((digits.examples, digits.input_width, digits.targets.width()), (1797, 64, 10));
//! let (mut training, mut validation) = digits.split(0.2, 1)?;
//! let scaling = training.standardise();
//! scaling.apply(&mut validation)?;
//! # Ok::<(), ekfac_std::data::DataError>(())
//! ```

pub mod csv;
pub mod idx;
pub mod npy;

mod array;
mod csv_rows;
mod dataset;
mod embedded;
mod error;
mod generated;
mod images;
mod load;
mod source;
mod targets;

pub use array::Array;
pub use csv::{Column, Csv, CsvOptions};
pub use dataset::{Dataset, Standardisation};
pub use embedded::{breast_cancer, diabetes, digits, smartwatch, wine};
pub use error::DataError;
pub use generated::ill_conditioned;
pub use images::{fashion_mnist, mnist};
pub use load::LoadOptions;
pub use targets::{TargetKind, Targets};
