//! Checkpoints: a network in one file, written atomically, resumed bit for bit.
//!
//! The file is in the safetensors format, which any tool can open: `layers.<i>.weight` (m x inputs) and `layers.<i>.bias`
//! (m), row-major as everywhere in that world, `layers.<i>.ekfac` with the layer's state words, and `ekfac.crc32`. The weights of
//! a convolution are (outputs x channels of a group x the kernel's sides), one side along a line; a layer without weights has no
//! tensors. The metadata hold one entry, `ekfac`: version, layers, loss, settings, progress and whatever the caller adds, as JSON;
//! of a network with convolutions also its sharing and columns.
//!
//! *Invariant*: the same network gives the same bytes (one entry, since the format leaves the order of several open); the
//! CRC-32 covers the metadata and all words, so no flipped bit goes unnoticed; the two newest generations are kept, and an
//! interrupted write leaves the old ones ([`atomic`]). *Failure*: a truncated or damaged file is an error that
//! says what and where; the generation before it is read instead, and that is reported.

mod contents;
mod saved;
mod tensors;

pub use saved::Saved;

use crate::{
    any_network::AnyNetwork,
    atomic::{self, AtomicError, Newest},
    convolution_network::ConvolutionNetwork,
    kernels::Element,
    network::Network,
    snapshot::SnapshotError,
};
use safetensors::Dtype;
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, path::Path};
use tensors::Tensors;

/// Version of the format for a network of dense layers.
pub const VERSION: u32 = 4;

/// The same for one with convolutions.
pub const CONVOLUTION_VERSION: u32 = 5;

// The same without mean cosine and annealing, which a run then starts afresh.
const OLDER_VERSION: u32 = 2;
const OLDER_CONVOLUTION_VERSION: u32 = 3;

/// Texts that a caller keeps with a network, such as the state of its training loop.
pub type Extra = BTreeMap<String, String>;

/// What a checkpoint holds.
pub struct Checkpoint<N> {
    /// The network, ready to go on.
    pub network: N,
    /// What the caller kept with it.
    pub extra: Extra,
}

/// What can go wrong besides the file system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be written, or neither generation could be read.
    #[error(transparent)]
    File(#[from] AtomicError),
    /// The file is not a safetensors file, or was cut short.
    #[error("not a complete safetensors file: {0}")]
    Container(#[from] safetensors::SafeTensorError),
    /// A part is missing or does not fit.
    #[error("`{part}`: {problem}")]
    Part {
        /// Which part.
        part: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The contents were refused by core.
    #[error("the network in the checkpoint is refused: {0}")]
    Network(#[from] ekfac::Error),
    /// There is a network with convolutions where one without is asked for.
    #[error("the checkpoint is one of a network with convolutions, and only dense layers can serve here")]
    Convolutions,
    /// The contents could not become a device's snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

fn part(part: impl Into<String>, problem: impl ToString) -> CheckpointError {
    CheckpointError::Part { part: part.into(), problem: problem.to_string() }
}

/// A scalar that a file can hold.
pub trait Stored: Element + Serialize + DeserializeOwned {
    /// Its safetensors type.
    const DTYPE: Dtype;
    /// Appends the little-endian bytes.
    fn append_to(self, bytes: &mut Vec<u8>);
    /// From exactly as many little-endian bytes as it has.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! stored {
    ($type:ty, $dtype:expr) => {
        impl Stored for $type {
            const DTYPE: Dtype = $dtype;
            fn append_to(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(bytes.try_into().ok()?))
            }
        }
    };
}
stored!(f32, Dtype::F32);
stored!(f64, Dtype::F64);

/// Writes a checkpoint; the one before stays beside it as `<path>.previous`.
///
/// # Errors
/// [`CheckpointError::File`] naming file and operation, a full disk included; the old files are then untouched.
pub fn save<T: Stored>(network: &impl Saved<T>, path: &Path) -> Result<(), CheckpointError> {
    save_with(network, &Extra::new(), path)
}

/// The same with texts of the caller's.
///
/// # Errors
/// Those of [`save`].
pub fn save_with<T: Stored>(
    network: &impl Saved<T>,
    extra: &Extra,
    path: &Path,
) -> Result<(), CheckpointError> {
    atomic::write_atomically(path, &network.checkpoint_bytes(extra)?)?;
    Ok(())
}

/// Reads the newest intact generation, and says which. `capacity` is the largest batch from now on.
///
/// # Errors
/// [`CheckpointError::File`] when neither generation is intact, with the reason for each.
pub fn load<T: Stored>(path: &Path, capacity: usize) -> Result<Newest<Network<T>>, CheckpointError> {
    let Newest { value, generation, passed_over } = load_with(path, capacity)?;
    Ok(Newest { value: value.network, generation, passed_over })
}

/// The same with the texts that [`save_with`] kept.
///
/// # Errors
/// Those of [`load`].
pub fn load_with<T: Stored>(
    path: &Path,
    capacity: usize,
) -> Result<Newest<Checkpoint<Network<T>>>, CheckpointError> {
    // Convolutions are no damage, for which the generation before would be read.
    let read = |bytes: &[u8]| match from_bytes(bytes, capacity) {
        Err(CheckpointError::Convolutions) => Ok(None),
        other => other.map(Some),
    };
    let Newest { value, generation, passed_over } = atomic::read_newest(path, &read)?;
    Ok(Newest { value: value.ok_or(CheckpointError::Convolutions)?, generation, passed_over })
}

/// The same for a network of either kind.
///
/// # Errors
/// Those of [`load`].
pub fn load_any<T: Stored>(
    path: &Path,
    capacity: usize,
) -> Result<Newest<Checkpoint<AnyNetwork<T>>>, CheckpointError> {
    Ok(atomic::read_newest(path, &|bytes| any_from_bytes(bytes, capacity))?)
}

/// Writes the weights alone, for other programs: `layers.<i>.weight`, `layers.<i>.bias`, and named vectors of the caller's,
/// such as the means that inputs are to be shifted by, in 64 bits.
///
/// # Errors
/// [`CheckpointError::File`].
pub fn export_weights<T: Stored>(
    network: &mut impl Saved<T>,
    vectors: &[(&str, &[f64])],
    path: &Path,
) -> Result<(), CheckpointError> {
    let mut tensors = Tensors::default();
    network.push_weights(&mut tensors)?;
    for (name, values) in vectors {
        tensors.push((*name).to_string(), &[values.len()], values.iter().copied());
    }
    atomic::write_atomically(path, &tensors.serialize(None)?)?;
    Ok(())
}

/// The bytes of a checkpoint: the same for the same network.
///
/// # Errors
/// Those of [`Saved::checkpoint_bytes`].
pub fn to_bytes<T: Stored>(network: &impl Saved<T>, extra: &Extra) -> Result<Vec<u8>, CheckpointError> {
    network.checkpoint_bytes(extra)
}

/// What the bytes of a checkpoint of dense layers hold.
///
/// # Errors
/// What is missing, damaged or refused.
pub fn from_bytes<T: Stored>(
    bytes: &[u8],
    capacity: usize,
) -> Result<Checkpoint<Network<T>>, CheckpointError> {
    match contents::version(bytes)? {
        VERSION | OLDER_VERSION => contents::from_bytes(bytes, capacity),
        CONVOLUTION_VERSION | OLDER_CONVOLUTION_VERSION => Err(CheckpointError::Convolutions),
        version => Err(contents::unknown_version(version)),
    }
}

/// What the bytes of a checkpoint hold, of either kind of network. The workspace of one with convolutions is as large as the images
/// that its description speaks of ([`ConvolutionNetwork::memory`]).
///
/// # Errors
/// What is missing, damaged or refused.
pub fn any_from_bytes<T: Stored>(
    bytes: &[u8],
    capacity: usize,
) -> Result<Checkpoint<AnyNetwork<T>>, CheckpointError> {
    match contents::version(bytes)? {
        VERSION | OLDER_VERSION => Ok(contents::from_bytes::<T, Network<T>>(bytes, capacity)?.into_any()),
        CONVOLUTION_VERSION | OLDER_CONVOLUTION_VERSION => {
            Ok(contents::from_bytes::<T, ConvolutionNetwork<T>>(bytes, capacity)?.into_any())
        }
        version => Err(contents::unknown_version(version)),
    }
}

impl<N> Checkpoint<N> {
    fn into_any<T>(self) -> Checkpoint<AnyNetwork<T>>
    where
        AnyNetwork<T>: From<N>,
    {
        Checkpoint { network: self.network.into(), extra: self.extra }
    }
}

/// The scalar of the checkpoint in these bytes, to know what to read it as.
///
/// # Errors
/// Those of a file that is no checkpoint.
pub fn dtype(bytes: &[u8]) -> Result<Dtype, CheckpointError> {
    contents::dtype(bytes)
}
