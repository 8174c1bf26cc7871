//! The one error type: flat, `Copy`, without strings of its own. Every variant names the argument that is wrong.
//!
//! An `Err` means that the call was wrong and that nothing was written. What the *data* can do to a correct call
//! (a NaN in a batch, a solve that hits its cap) is not an error but an [`Outcome`](crate::Outcome).

use core::fmt;

/// Why a call was refused. Nothing has been written when one of these is returned, [`Error::RefreshFailed`] and
/// [`Error::KernelsFailed`] excepted: then the batch may have entered the statistics, and every state is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// A slice has the wrong length.
    Length {
        /// The argument.
        argument: &'static str,
        /// The length that the shapes ask for.
        expected: usize,
        /// The length that was given.
        found: usize,
    },
    /// An argument that must hold something is empty, or a size is zero.
    Empty {
        /// The argument.
        argument: &'static str,
    },
    /// A size does not fit into `usize`.
    SizeOverflow {
        /// The argument.
        argument: &'static str,
    },
    /// A value is NaN or infinite.
    NonFinite {
        /// The argument.
        argument: &'static str,
        /// Where in its slice.
        index: usize,
    },
    /// A value or setting lies outside its documented range.
    OutOfRange {
        /// The argument.
        argument: &'static str,
        /// Where in its slice; 0 for a single setting.
        index: usize,
    },
    /// A setting whose code is left out of this build: it needs a feature of the crate.
    NotBuilt {
        /// The setting.
        argument: &'static str,
        /// The feature that brings it.
        feature: &'static str,
    },
    /// More refreshes in a row than [`step::MAX_FAILED_REFRESHES`](crate::step::MAX_FAILED_REFRESHES) failed. The batch
    /// counts as a degraded step; its weights are untouched.
    RefreshFailed {
        /// The layer, counted from the input.
        layer: usize,
    },
    /// The kernels stopped in the middle of a step, as when a thread of theirs panicked. Every state is valid: those
    /// reached before have taken the batch in, the others have not, and weights have moved only if all statistics had.
    KernelsFailed,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Length { argument, expected, found } => {
                write!(formatter, "`{argument}` has {found} elements, but the shapes ask for {expected}")
            }
            Error::Empty { argument } => write!(formatter, "`{argument}` is empty or zero"),
            Error::SizeOverflow { argument } => write!(formatter, "the size of `{argument}` overflows usize"),
            Error::NonFinite { argument, index } => {
                write!(formatter, "`{argument}` is NaN or infinite at index {index}")
            }
            Error::OutOfRange { argument, index } => {
                write!(formatter, "`{argument}` is outside its documented range (index {index})")
            }
            Error::NotBuilt { argument, feature } => {
                write!(
                    formatter,
                    "`{argument}` needs ekfac's feature `{feature}`, which this build is without"
                )
            }
            Error::RefreshFailed { layer } => {
                write!(formatter, "the eigenbasis of layer {layer} failed to converge too often in a row")
            }
            Error::KernelsFailed => write!(formatter, "the kernels stopped in the middle of a step"),
        }
    }
}

impl core::error::Error for Error {}

/// Checks a length, naming the argument.
pub(crate) fn expect_length(argument: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { argument, expected, found }) }
}
