//! The bytes of a checkpoint, for either kind of network.
//!
//! *Invariant*: the same network gives the same bytes; what comes back is what went in, or an error. *Failure*: what is missing,
//! damaged or refused, by its name in the file.

use super::{
    Checkpoint, CheckpointError, Extra, Stored, part,
    saved::{Block, Kind},
    tensors::{self, Tensors},
};
use ekfac::{Config, Coordinates, Loss, Progress, Scalar};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

const METADATA: &str = "ekfac";
const CHECKSUM: &str = "ekfac.crc32";

/// Everything about a network but its words.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Scalar + Deserialize<'de>, L: Deserialize<'de>"))]
struct Description<T, L> {
    version: u32,
    layers: L,
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

/// The bytes of a checkpoint.
pub(super) fn to_bytes<T: Stored, N: Kind<T>>(
    network: &N,
    extra: &Extra,
) -> Result<Vec<u8>, CheckpointError> {
    let description = Description {
        version: N::VERSION,
        layers: network.layers(),
        loss: network.loss(),
        config: *network.config(),
        progress: *network.progress(),
        extra: extra.clone(),
    };
    let text = serde_json::to_string(&description).map_err(|error| part(METADATA, error))?;
    // JSON turns NaN and infinities into null without a word.
    if serde_json::from_str::<Description<T, N::Layers>>(&text).ok().as_ref() != Some(&description) {
        let problem = "a setting or counter is NaN or infinite, which JSON cannot hold: nothing was written";
        return Err(part(METADATA, problem));
    }
    let mut tensors = Tensors::default();
    each_block(network, |index, block, weights, state| {
        match N::coordinates(state) {
            Coordinates::Parameter => tensors.push_weights(index, block, weights),
            Coordinates::Eigenbasis => tensors.push_weights_in_eigenbasis(index, block, weights),
        }
        if !state.is_empty() {
            tensors.push(state_name(index), &[state.len()], state.iter().copied());
        }
    })?;
    tensors.push_checksum(CHECKSUM, checksum(&text, network.state()));
    tensors.serialize(Some((METADATA, text)))
}

/// The network and the texts in the bytes of a checkpoint of its kind.
pub(super) fn from_bytes<T: Stored, N: Kind<T>>(
    bytes: &[u8],
    capacity: usize,
) -> Result<Checkpoint<N>, CheckpointError> {
    let tensors = SafeTensors::deserialize(bytes)?;
    let text = metadata(bytes)?;
    let description: Result<Description<T, N::Layers>, _> = serde_json::from_str(&text);
    let description =
        description.map_err(|error| part(METADATA, format!("is no version {}: {error}", N::VERSION)))?;
    let Description { layers, loss, config, progress, extra, .. } = description;
    let mut state = Vec::new();
    for (index, block) in N::blocks(&layers, loss)?.iter().enumerate() {
        if block.groups == 0 {
            continue;
        }
        let words = tensors::read::<T>(&tensors, &state_name(index), &[block.state])?;
        tensors::read_weights(&tensors, index, block, N::coordinates(&words), &mut state)?;
        state.extend(words);
    }
    let (stored, found) = (tensors::read_checksum(&tensors, CHECKSUM)?, checksum(&text, &state));
    // A fuzzer would never find the checksum of what it made up.
    if stored != found && !cfg!(fuzzing) {
        let problem = format!("is {stored:08x}, but the contents give {found:08x}: the file is damaged");
        return Err(part(CHECKSUM, problem));
    }
    let network = N::resume(layers, loss, config, progress, capacity, &state)?;
    Ok(Checkpoint { network, extra })
}

/// The version that the metadata name.
pub(super) fn version(bytes: &[u8]) -> Result<u32, CheckpointError> {
    let version = serde_json::from_str(&metadata(bytes)?);
    version.map(|Version { version }| version).map_err(|error| part(METADATA, error))
}

/// A version that no kind of network has.
pub(super) fn unknown_version(found: u32) -> CheckpointError {
    let problem = format!(
        "is version {found}, but this program reads {} to {}: use the program that wrote it",
        super::OLDER_VERSION,
        super::CONVOLUTION_VERSION
    );
    part(METADATA, problem)
}

/// The scalar of the first layer that has a state.
pub(super) fn dtype(bytes: &[u8]) -> Result<Dtype, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let state = header.offset_keys().into_iter().find(|name| name.ends_with(".ekfac"));
    let info = state.and_then(|name| header.info(&name).map(|info| info.dtype));
    info.ok_or_else(|| part(state_name(0), "missing: not a checkpoint of ekfac"))
}

/// Walks the state words: `visit(index, block, weights, layer state)`, without the layers that have none.
pub(super) fn each_block<T: Stored, N: Kind<T>>(
    network: &N,
    mut visit: impl FnMut(usize, &Block, &[T], &[T]),
) -> Result<(), CheckpointError> {
    let mut rest = network.state();
    for (index, block) in N::blocks(&network.layers(), network.loss())?.iter().enumerate() {
        if block.groups == 0 {
            continue;
        }
        let (weights, tail) = rest.split_at(block.parameters());
        let (state, tail) = tail.split_at(block.state);
        visit(index, block, weights, state);
        rest = tail;
    }
    Ok(())
}

fn state_name(index: usize) -> String {
    format!("layers.{index}.ekfac")
}

fn metadata(bytes: &[u8]) -> Result<String, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA));
    text.cloned().ok_or_else(|| part(METADATA, "missing: not a checkpoint of ekfac"))
}

fn checksum<T: Stored>(text: &str, words: &[T]) -> u32 {
    let mut bytes = Vec::with_capacity(text.len() + size_of_val(words));
    bytes.extend(text.as_bytes());
    words.iter().for_each(|word| word.append_to(&mut bytes));
    crc32fast::hash(&bytes)
}
