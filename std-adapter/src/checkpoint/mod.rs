//! Checkpoints: a network in one file, written atomically, resumed bit for bit.
//!
//! The file is in the safetensors format, which any tool can open: `layers.<i>.weight` [m, inputs] and `layers.<i>.bias`
//! [m], row-major as everywhere in that world, and `layers.<i>.ekfac` with the layer's state words. The metadata hold the format's version,
//! layers, loss, settings and progress as JSON, and a CRC-32 over all words. *Invariant*: the two newest generations are
//! kept; an interrupted write leaves the old ones ([`atomic`](crate::atomic)). *Failure*: a truncated or damaged file is an
//! error that says what and where; the generation before it is read instead, and that is reported.

use crate::{
    atomic::{self, AtomicError, Newest},
    kernels::Element,
    network::Network,
};
use ekfac::{Config, Dense, Loss, Net, Progress};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::HashMap, path::Path};

/// Version of the format.
pub const VERSION: &str = "1";

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
pub fn save<T: Stored>(network: &Network<T>, path: &Path) -> Result<(), CheckpointError> {
    atomic::write_atomically(path, &to_bytes(network)?)?;
    Ok(())
}

/// Reads the newest intact generation, and says which. `capacity` is the largest batch from now on.
///
/// # Errors
/// [`CheckpointError::File`] when neither generation is intact, with the reason for each.
pub fn load<T: Stored>(path: &Path, capacity: usize) -> Result<Newest<Network<T>>, CheckpointError> {
    Ok(atomic::read_newest(path, &|bytes| from_bytes(bytes, capacity))?)
}

/// Writes the weights alone, for other programs: `layers.<i>.weight` and `layers.<i>.bias`.
///
/// # Errors
/// [`CheckpointError::File`].
pub fn export_weights<T: Stored>(network: &Network<T>, path: &Path) -> Result<(), CheckpointError> {
    let mut tensors = Tensors::new();
    each_layer(network, |index, dense, weights, _| tensors.push_weights(index, dense, weights));
    atomic::write_atomically(path, &tensors.serialize(HashMap::new())?)?;
    Ok(())
}

/// The bytes of a checkpoint.
///
/// # Errors
/// [`CheckpointError::Container`] if the format cannot hold it.
pub fn to_bytes<T: Stored>(network: &Network<T>) -> Result<Vec<u8>, CheckpointError> {
    let mut tensors = Tensors::new();
    each_layer(network, |index, dense, weights, state| {
        tensors.push_weights(index, dense, weights);
        tensors.push(format!("layers.{index}.ekfac"), vec![state.len()], state.iter().copied());
    });
    let net = network.net();
    let mut metadata = HashMap::from([("ekfac.version".to_string(), VERSION.to_string())]);
    insert(&mut metadata, "ekfac.layers", &net.layers())?;
    insert(&mut metadata, "ekfac.loss", &net.loss())?;
    insert(&mut metadata, "ekfac.config", network.config())?;
    insert(&mut metadata, "ekfac.progress", network.progress())?;
    metadata.insert("ekfac.crc32".into(), format!("{:08x}", crc(network.state())));
    tensors.serialize(metadata)
}

/// A network from the bytes of a checkpoint.
///
/// # Errors
/// What is missing, damaged or refused.
pub fn from_bytes<T: Stored>(bytes: &[u8], capacity: usize) -> Result<Network<T>, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let metadata =
        header.metadata().as_ref().ok_or_else(|| part("metadata", "missing: not a checkpoint of ekfac"))?;
    let version: &str = text(metadata, "ekfac.version")?;
    if version != VERSION {
        return Err(part("ekfac.version", format!("is {version}, but this program reads {VERSION}")));
    }
    let layers: Vec<Dense> = parse(metadata, "ekfac.layers")?;
    let loss: Loss = parse(metadata, "ekfac.loss")?;
    let config: Config<T> = parse(metadata, "ekfac.config")?;
    let progress: Progress<T> = parse(metadata, "ekfac.progress")?;
    Net::new(&layers, loss).check()?;
    let mut state = Vec::new();
    for (index, dense) in layers.iter().enumerate() {
        read_weights(&tensors, index, dense, &mut state)?;
        let words = dense.shape().words();
        state.extend(read::<T>(&tensors, &format!("layers.{index}.ekfac"), &[words])?);
    }
    let (stored, found) = (text(metadata, "ekfac.crc32")?, format!("{:08x}", crc(&state)));
    if stored != found {
        return Err(part(
            "ekfac.crc32",
            format!("is {stored}, but the words give {found}: the file is damaged"),
        ));
    }
    Ok(Network::resume(layers, loss, config, progress, capacity, &state)?)
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

fn crc<T: Stored>(words: &[T]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut bytes = Vec::with_capacity(size_of_val(words));
    words.iter().for_each(|word| word.append_to(&mut bytes));
    hasher.update(&bytes);
    hasher.finalize()
}

fn insert(
    metadata: &mut HashMap<String, String>,
    key: &str,
    value: &impl Serialize,
) -> Result<(), CheckpointError> {
    let json = serde_json::to_string(value).map_err(|error| part(key, error))?;
    metadata.insert(key.to_string(), json);
    Ok(())
}

fn text<'m>(metadata: &'m HashMap<String, String>, key: &str) -> Result<&'m str, CheckpointError> {
    metadata.get(key).map(String::as_str).ok_or_else(|| part(key, "missing from the metadata"))
}

fn parse<V: DeserializeOwned>(metadata: &HashMap<String, String>, key: &str) -> Result<V, CheckpointError> {
    serde_json::from_str(text(metadata, key)?).map_err(|error| part(key, error))
}

/// Tensors on their way into a file.
struct Tensors(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn push<T: Stored>(&mut self, name: String, shape: Vec<usize>, values: impl Iterator<Item = T>) {
        let mut bytes = Vec::new();
        values.for_each(|value| value.append_to(&mut bytes));
        self.0.push((name, T::DTYPE, shape, bytes));
    }

    /// Row-major, while ours are column-major.
    fn push_weights<T: Stored>(&mut self, index: usize, dense: &Dense, weights: &[T]) {
        let (rows, inputs) = (dense.shape().rows(), dense.shape().inputs());
        let by_rows = (0..rows).flat_map(|i| (0..inputs).map(move |j| weights[j * rows + i]));
        self.push(format!("layers.{index}.weight"), vec![rows, inputs], by_rows);
        if dense.shape().bias() {
            self.push(format!("layers.{index}.bias"), vec![rows], weights[inputs * rows..].iter().copied());
        }
    }

    fn serialize(self, metadata: HashMap<String, String>) -> Result<Vec<u8>, CheckpointError> {
        let views = self
            .0
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        Ok(safetensors::serialize(views, Some(metadata))?)
    }
}

fn read<T: Stored>(
    tensors: &SafeTensors<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<T>, CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|error| part(name, error))?;
    if tensor.dtype() != T::DTYPE || tensor.shape() != shape {
        let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
        return Err(part(name, format!("is {found}, but the layers ask for {:?} {shape:?}", T::DTYPE)));
    }
    let values: Option<Vec<T>> = tensor.data().chunks_exact(size_of::<T>()).map(T::from_bytes).collect();
    values.ok_or_else(|| part(name, "is cut short"))
}

fn read_weights<T: Stored>(
    tensors: &SafeTensors<'_>,
    index: usize,
    dense: &Dense,
    state: &mut Vec<T>,
) -> Result<(), CheckpointError> {
    let (rows, inputs) = (dense.shape().rows(), dense.shape().inputs());
    let weights = read::<T>(tensors, &format!("layers.{index}.weight"), &[rows, inputs])?;
    state.extend(
        (0..inputs).flat_map(|j| (0..rows).map(move |i| (i, j))).map(|(i, j)| weights[i * inputs + j]),
    );
    if dense.shape().bias() {
        state.extend(read::<T>(tensors, &format!("layers.{index}.bias"), &[rows])?);
    }
    Ok(())
}
