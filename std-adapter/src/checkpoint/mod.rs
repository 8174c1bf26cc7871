//! Checkpoints: a network in one file, written atomically, resumed bit for bit.
//!
//! The file is in the safetensors format, which any tool can open: `layers.<i>.weight` (m x inputs) and `layers.<i>.bias`
//! (m), row-major as everywhere in that world, `layers.<i>.ekfac` with the layer's state words, and `ekfac.crc32`. The
//! metadata hold one entry, `ekfac`: version, layers, loss, settings, progress and whatever the caller adds, as JSON.
//!
//! *Invariant*: the same network gives the same bytes (one entry, since the format leaves the order of several open); the
//! CRC-32 covers the metadata and all words, so no flipped bit goes unnoticed; the two newest generations are kept, and an
//! interrupted write leaves the old ones ([`atomic`]). *Failure*: a truncated or damaged file is an error that
//! says what and where; the generation before it is read instead, and that is reported.

mod tensors;

use crate::{
    atomic::{self, AtomicError, Newest},
    kernels::Element,
    network::Network,
    snapshot::SnapshotError,
};
use ekfac::{Config, Coordinates, Dense, Loss, Net, Progress};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, path::Path};
use tensors::Tensors;

/// Version of the format.
pub const VERSION: u32 = 2;

const METADATA: &str = "ekfac";
const CHECKSUM: &str = "ekfac.crc32";

/// Texts that a caller keeps with a network, such as the state of its training loop.
pub type Extra = BTreeMap<String, String>;

/// What a checkpoint holds.
pub struct Checkpoint<T> {
    /// The network, ready to go on.
    pub network: Network<T>,
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

/// Everything about a network but its words.
#[derive(PartialEq, Serialize, Deserialize)]
struct Description<T> {
    version: u32,
    layers: Vec<Dense>,
    loss: Loss,
    config: Config<T>,
    progress: Progress<T>,
    extra: Extra,
}

/// The version alone, which later versions can be trusted to have too.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Writes a checkpoint; the one before stays beside it as `<path>.previous`.
///
/// # Errors
/// [`CheckpointError::File`] naming file and operation, a full disk included; the old files are then untouched.
pub fn save<T: Stored>(network: &Network<T>, path: &Path) -> Result<(), CheckpointError> {
    save_with(network, &Extra::new(), path)
}

/// The same with texts of the caller's.
///
/// # Errors
/// Those of [`save`].
pub fn save_with<T: Stored>(network: &Network<T>, extra: &Extra, path: &Path) -> Result<(), CheckpointError> {
    atomic::write_atomically(path, &to_bytes(network, extra)?)?;
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
pub fn load_with<T: Stored>(path: &Path, capacity: usize) -> Result<Newest<Checkpoint<T>>, CheckpointError> {
    Ok(atomic::read_newest(path, &|bytes| from_bytes(bytes, capacity))?)
}

/// Writes the weights alone, for other programs: `layers.<i>.weight`, `layers.<i>.bias`, and named vectors of the caller's,
/// such as the means that inputs are to be shifted by, in 64 bits.
///
/// # Errors
/// [`CheckpointError::File`].
pub fn export_weights<T: Stored>(
    network: &mut Network<T>,
    vectors: &[(&str, &[f64])],
    path: &Path,
) -> Result<(), CheckpointError> {
    let mut tensors = Tensors::default();
    for (index, dense) in network.net().layers().to_vec().iter().enumerate() {
        tensors.push_weights(index, dense, &network.weights(index)?);
    }
    for (name, values) in vectors {
        tensors.push((*name).to_string(), &[values.len()], values.iter().copied());
    }
    atomic::write_atomically(path, &tensors.serialize(None)?)?;
    Ok(())
}

/// The bytes of a checkpoint: the same for the same network.
///
/// # Errors
/// [`CheckpointError::Part`] for a setting that JSON cannot hold, such as an infinite threshold;
/// [`CheckpointError::Container`] for metadata beyond the format's 100 MB.
pub fn to_bytes<T: Stored>(network: &Network<T>, extra: &Extra) -> Result<Vec<u8>, CheckpointError> {
    let net = network.net();
    let description = Description {
        version: VERSION,
        layers: net.layers().to_vec(),
        loss: net.loss(),
        config: *network.config(),
        progress: *network.progress(),
        extra: extra.clone(),
    };
    let text = serde_json::to_string(&description).map_err(|error| part(METADATA, error))?;
    // JSON turns NaN and infinities into null without a word.
    if serde_json::from_str::<Description<T>>(&text).ok().as_ref() != Some(&description) {
        let problem = "a setting or counter is NaN or infinite, which JSON cannot hold: nothing was written";
        return Err(part(METADATA, problem));
    }
    let mut tensors = Tensors::default();
    each_layer(network, |index, dense, weights, state| {
        match Coordinates::of(state) {
            Coordinates::Parameter => tensors.push_weights(index, dense, weights),
            Coordinates::Eigenbasis => tensors.push_weights_in_eigenbasis(index, dense, weights),
        }
        tensors.push(format!("layers.{index}.ekfac"), &[state.len()], state.iter().copied());
    });
    tensors.push_checksum(CHECKSUM, checksum(&text, network.state()));
    tensors.serialize(Some((METADATA, text)))
}

/// What the bytes of a checkpoint hold.
///
/// # Errors
/// What is missing, damaged or refused.
pub fn from_bytes<T: Stored>(bytes: &[u8], capacity: usize) -> Result<Checkpoint<T>, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let metadata = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA));
    let text = metadata.ok_or_else(|| part(METADATA, "missing: not a checkpoint of ekfac"))?;
    let Version { version } = parse(text)?;
    if version != VERSION {
        let problem =
            format!("is version {version}, but this program reads {VERSION}: use the program that wrote it");
        return Err(part(METADATA, problem));
    }
    let description: Description<T> = parse(text)?;
    let Description { layers, loss, config, progress, extra, .. } = description;
    Net::new(&layers, loss).check()?;
    let mut state = Vec::new();
    for (index, dense) in layers.iter().enumerate() {
        let words = dense.shape().words();
        let layer = tensors::read::<T>(&tensors, &format!("layers.{index}.ekfac"), &[words])?;
        tensors::read_weights(&tensors, index, dense, Coordinates::of(&layer), &mut state)?;
        state.extend(layer);
    }
    let (stored, found) = (tensors::read_checksum(&tensors, CHECKSUM)?, checksum(text, &state));
    // A fuzzer would never find the checksum of what it made up.
    if stored != found && !cfg!(fuzzing) {
        let problem = format!("is {stored:08x}, but the contents give {found:08x}: the file is damaged");
        return Err(part(CHECKSUM, problem));
    }
    let network = Network::resume(layers, loss, config, progress, capacity, &state)?;
    Ok(Checkpoint { network, extra })
}

/// The scalar of the checkpoint in these bytes, to know what to read it as.
///
/// # Errors
/// Those of a file that is no checkpoint.
pub fn dtype(bytes: &[u8]) -> Result<Dtype, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let first = "layers.0.ekfac";
    header.info(first).map(|info| info.dtype).ok_or_else(|| part(first, "missing: not a checkpoint of ekfac"))
}

fn parse<V: DeserializeOwned>(text: &str) -> Result<V, CheckpointError> {
    serde_json::from_str(text).map_err(|error| part(METADATA, error))
}

/// Walks the state words: `visit(index, layer, weights, layer state)`.
fn each_layer<T: Stored>(network: &Network<T>, mut visit: impl FnMut(usize, &Dense, &[T], &[T])) {
    let mut rest = network.state();
    for (index, dense) in network.net().layers().iter().enumerate() {
        let (weights, tail) = rest.split_at(dense.shape().parameters());
        let (state, tail) = tail.split_at(dense.shape().words());
        visit(index, dense, weights, state);
        rest = tail;
    }
}

fn checksum<T: Stored>(text: &str, words: &[T]) -> u32 {
    let mut bytes = Vec::with_capacity(text.len() + size_of_val(words));
    bytes.extend(text.as_bytes());
    words.iter().for_each(|word| word.append_to(&mut bytes));
    crc32fast::hash(&bytes)
}
