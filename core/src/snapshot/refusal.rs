//! Why a snapshot was refused.

use core::{convert::Infallible, fmt};

/// Why a snapshot was not saved or not restored. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes do not begin as a snapshot does.
    Magic,
    /// A version of the format that this library does not read.
    Version {
        /// The version that was found.
        found: u16,
    },
    /// A snapshot of a network of convolutions for one of dense layers, or the other way round.
    Kind,
    /// Words of the other precision.
    Scalar {
        /// Bytes of the learner's words.
        expected: usize,
        /// Bytes of the snapshot's words.
        found: usize,
    },
    /// The snapshot is cut short or too long.
    Length {
        /// The length that the snapshot's header or the network asks for.
        expected: usize,
        /// The length that was found.
        found: usize,
    },
    /// The contents are damaged.
    Checksum {
        /// The CRC-32 at the end of the snapshot.
        stored: u32,
        /// That of the contents.
        computed: u32,
    },
    /// The snapshot's network has another number of layers, or too many for the format.
    Layers {
        /// Layers of the learner's network.
        expected: usize,
        /// Layers of the snapshot's network.
        found: usize,
    },
    /// This layer is another one, or none that can be.
    Layer {
        /// The layer, counted from the input.
        layer: usize,
    },
    /// Another loss, or none that can be.
    Loss,
    /// A counter or mean of the progress that no run has.
    Progress {
        /// The field of [`Progress`](crate::Progress).
        name: &'static str,
    },
    /// A NaN or an infinity.
    NonFinite {
        /// Where among the state words.
        index: usize,
    },
    /// A mark of a layer's state with a value that it never has.
    Mark {
        /// Where among the state words.
        index: usize,
    },
    /// Too little room for the snapshot.
    Room {
        /// Bytes of the snapshot, with those of the medium's own.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Refusal::Magic => write!(formatter, "not a snapshot of ekfac"),
            Refusal::Version { found } => {
                let (first, last) = (super::VERSIONS.start(), super::VERSIONS.end());
                write!(formatter, "a snapshot of version {found}, but this library reads {first} to {last}")
            }
            Refusal::Kind => write!(formatter, "a snapshot of the other kind of network"),
            Refusal::Scalar { expected, found } => {
                write!(formatter, "a snapshot in words of {found} bytes, but the learner's have {expected}")
            }
            Refusal::Length { expected, found } => {
                write!(formatter, "a snapshot of {found} bytes that should have {expected}")
            }
            Refusal::Checksum { stored, computed } => write!(
                formatter,
                "the snapshot is damaged: its checksum is {stored:08x}, but the contents give {computed:08x}"
            ),
            Refusal::Layers { expected, found } => {
                write!(formatter, "a snapshot of {found} layers, but the network has {expected}")
            }
            Refusal::Layer { layer } => write!(formatter, "layer {layer} of the snapshot does not fit"),
            Refusal::Loss => write!(formatter, "the loss of the snapshot does not fit"),
            Refusal::Progress { name } => write!(formatter, "`{name}` has a value that no run has"),
            Refusal::NonFinite { index } => write!(formatter, "state word {index} is NaN or infinite"),
            Refusal::Mark { index } => write!(formatter, "state word {index} has a value that no run has"),
            Refusal::Room { needed, available } => {
                write!(formatter, "the snapshot needs {needed} bytes, but there are {available}")
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// A refusal, or a failure of the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SnapshotError<E> {
    /// The snapshot was refused.
    Refused(Refusal),
    /// The medium failed.
    Medium(E),
}

impl<E> From<Refusal> for SnapshotError<E> {
    fn from(refusal: Refusal) -> Self {
        SnapshotError::Refused(refusal)
    }
}

impl<E: fmt::Debug> fmt::Display for SnapshotError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Refused(refusal) => refusal.fmt(formatter),
            SnapshotError::Medium(error) => write!(formatter, "the medium of the snapshot failed: {error:?}"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for SnapshotError<E> {}

/// The refusal of a medium that cannot fail.
pub(crate) fn refusal(error: SnapshotError<Infallible>) -> Refusal {
    match error {
        SnapshotError::Refused(refusal) => refusal,
        SnapshotError::Medium(never) => match never {},
    }
}
