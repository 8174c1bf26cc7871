//! Snapshots: a run as bytes that any machine can take up, and with the feature `embedded-storage` a
//! store for them in flash that a power cut cannot break.
//!
//! All numbers are little-endian, all of them aligned to their size from the start of the snapshot; W is the number of bytes of
//! a word, L that of layers.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | `EKFS` |
//! | 4 | 2 | version of the format, 1 |
//! | 6 | 1 | W: 4 for `f32`, 8 for `f64` |
//! | 7 | 1 | L |
//! | 8 | 4 | length of the whole snapshot in bytes |
//! | 12 | 1 | loss: 0 squared error, 1 softmax cross-entropy, 2 binary cross-entropy, 3 Huber |
//! | 13 | 3 | 0 |
//! | 16 | 8 | Huber's width, an `f64`; 0 for the other losses |
//! | 24 | 7 x 8 | [`Progress`]: seed, steps, examples, skipped, degraded, rotations, operations |
//! | 80 | 4 W | damping multiplier, mean loss, mean length, weight of the means |
//! | 80 + 4 W | 16 L | for each layer: inputs (4), outputs (4), 1 for a bias (1), activation (1), 0 (6) |
//! | then | W each | for each layer its weights (m n, as they are stored), then its state ([`Shape::words`]) |
//! | last | 4 | CRC-32 (IEEE 802.3, that of zip and PNG) of everything before |
//!
//! Activations count from 0 in the order of [`Activation`]. Settings are not part of it: they are the program's, which may
//! change them from one version to the next. The two together are all that a run is, so the one that goes on takes the same
//! steps, bit for bit, as the one that was never interrupted.
//!
//! *Invariant*: an accepted snapshot, saved again, gives the same bytes; whatever is refused has changed nothing. Every
//! change of at most 32 neighbouring bits is detected, every other with probability 1 - 2^-32. *Cost*: no memory but a chunk
//! of 64 bytes and the caller's; two passes over the bytes to restore (check, then take over), one and a look at the state to save; a
//! table of 1 KiB in flash. *Failure*: a [`Refusal`] that says what is wrong; for bytes from outside it never panics.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(feature = "embedded-storage")]
mod flash;
mod refusal;
mod view;

#[cfg(feature = "embedded-storage")]
pub use flash::FlashStore;
pub(crate) use refusal::refusal;
pub use refusal::{Refusal, SnapshotError};
pub use view::Snapshot;

use crate::{Activation, Dense, Loss, Net, Progress, Scalar, Shape, layer};
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

/// The version that is written.
pub const VERSION: u16 = 1;

/// Bytes that a medium is handed at a time.
pub const CHUNK: usize = 64;

/// What a snapshot begins with.
pub const MAGIC: [u8; 4] = *b"EKFS";
/// Bytes before the scalars of the progress.
const HEAD: usize = 80;
pub(crate) const LOSS_RECORD: usize = 12;
pub(crate) const LAYER_RECORD: usize = 16;
pub(crate) const CHECKSUM: usize = 4;
/// Counters stay below this for centuries, so that going on cannot overflow one.
const COUNTER_LIMIT: u64 = 1 << 62;

static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

pub(crate) type Checksum = Digest<'static, u32, Table<1>>;

pub(crate) fn checksum() -> Checksum {
    CRC.digest()
}

/// Bytes of a snapshot of this network, `usize::MAX` where they overflow.
///
/// ```
/// use ekfac::{Dense, Loss, Net, snapshot};
/// const LAYERS: [Dense; 2] = ekfac::layers![8 => 4 Tanh => 2 Identity];
/// const NET: Net<'static> = Net::new(&LAYERS, Loss::SquaredError);
/// const BYTES: usize = snapshot::length::<f32>(&NET);
/// assert_eq!(BYTES, 80 + 4 * 4 + 16 * 2 + 4 * NET.state_words() + 4);
/// ```
pub const fn length<T: Scalar>(net: &Net<'_>) -> usize {
    length_of(T::WIDTH, net.layers().len(), net.state_words())
}

pub(crate) const fn length_of(width: usize, layers: usize, words: usize) -> usize {
    words
        .saturating_add(4)
        .saturating_mul(width)
        .saturating_add(layers.saturating_mul(LAYER_RECORD))
        .saturating_add(HEAD + CHECKSUM)
}

/// The counters in the order of the format.
fn counters<T>(progress: &Progress<T>) -> [(&'static str, u64); 6] {
    [
        ("steps", progress.steps),
        ("examples", progress.examples),
        ("skipped", progress.skipped),
        ("degraded", progress.degraded),
        ("rotations", progress.rotations),
        ("operations", progress.operations),
    ]
}

/// Refuses counters and means that no run has.
pub(crate) fn check_progress<T: Scalar>(progress: &Progress<T>) -> Result<(), Refusal> {
    for (name, count) in counters(progress) {
        expect(count < COUNTER_LIMIT, name)?;
    }
    // A step takes in an example at least.
    expect(progress.steps <= progress.examples, "examples")?;
    expect(progress.degraded <= progress.steps, "degraded")?;
    let Progress { damping_multiplier: multiplier, mean_loss, mean_length, mean_loss_weight: weight, .. } =
        *progress;
    expect(multiplier > T::ZERO && multiplier.is_finite(), "damping_multiplier")?;
    expect(mean_loss.is_finite(), "mean_loss")?;
    expect(mean_length >= T::ZERO && mean_length.is_finite(), "mean_length")?;
    expect(weight >= T::ZERO && weight <= T::ONE, "mean_loss_weight")
}

fn expect(holds: bool, name: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Progress { name }) }
}

/// Walks the state words of a network, and refuses those that no run has.
pub(crate) fn each_word<T: Scalar, E>(
    net: &Net<'_>,
    mut next: impl FnMut(usize) -> Result<T, SnapshotError<E>>,
) -> Result<(), SnapshotError<E>> {
    let mut index = 0;
    for dense in net.layers() {
        let weights = dense.shape().parameters();
        for place in 0..weights.saturating_add(dense.shape().words()) {
            let word = next(index)?;
            if !word.is_finite() {
                return Err(SnapshotError::Refused(Refusal::NonFinite { index }));
            }
            if place.checked_sub(weights).is_some_and(|place| !layer::is_sound(place, word)) {
                return Err(SnapshotError::Refused(Refusal::Mark { index }));
            }
            index += 1;
        }
    }
    Ok(())
}

/// One layer as bytes; `None` for sizes beyond 32 bits.
pub(crate) fn layer_record(dense: &Dense) -> Option<[u8; LAYER_RECORD]> {
    let [a, b, c, d] = u32::try_from(dense.shape().inputs()).ok()?.to_le_bytes();
    let [e, f, g, h] = u32::try_from(dense.shape().outputs()).ok()?.to_le_bytes();
    let activation = match dense.activation() {
        Activation::Identity => 0,
        Activation::Relu => 1,
        Activation::LeakyRelu => 2,
        Activation::Tanh => 3,
        Activation::Sigmoid => 4,
        #[cfg(feature = "functions")]
        Activation::Gelu => 5,
    };
    Some([a, b, c, d, e, f, g, h, u8::from(dense.shape().bias()), activation, 0, 0, 0, 0, 0, 0])
}

/// The layer that these bytes stand for.
pub(crate) fn layer_of(record: [u8; LAYER_RECORD]) -> Option<Dense> {
    let [a, b, c, d, e, f, g, h, bias, activation, ..] = record;
    let shape = Shape::new(
        usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?,
        usize::try_from(u32::from_le_bytes([e, f, g, h])).ok()?,
    );
    let activation = match activation {
        0 => Activation::Identity,
        1 => Activation::Relu,
        2 => Activation::LeakyRelu,
        3 => Activation::Tanh,
        4 => Activation::Sigmoid,
        #[cfg(feature = "functions")]
        5 => Activation::Gelu,
        _ => return None,
    };
    let dense = Dense::with_shape(if bias == 1 { shape } else { shape.without_bias() }, activation);
    (layer_record(&dense) == Some(record)).then_some(dense)
}

/// The loss as bytes.
pub(crate) fn loss_record(loss: Loss) -> [u8; LOSS_RECORD] {
    let (kind, width): (_, f64) = match loss {
        Loss::SquaredError => (0, 0.0),
        Loss::SoftmaxCrossEntropy => (1, 0.0),
        #[cfg(feature = "functions")]
        Loss::BinaryCrossEntropy => (2, 0.0),
        #[cfg(feature = "functions")]
        Loss::Huber(width) => (3, width),
    };
    let [a, b, c, d, e, f, g, h] = width.to_le_bytes();
    [kind, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// The loss that these bytes stand for.
pub(crate) fn loss_of(record: [u8; LOSS_RECORD]) -> Option<Loss> {
    let [kind, ..] = record;
    let loss = match kind {
        0 => Loss::SquaredError,
        1 => Loss::SoftmaxCrossEntropy,
        #[cfg(feature = "functions")]
        2 => Loss::BinaryCrossEntropy,
        #[cfg(feature = "functions")]
        3 => {
            let [_, _, _, _, width @ ..] = record;
            Loss::Huber(f64::from_le_bytes(width))
        }
        _ => return None,
    };
    (loss_record(loss) == record && loss.check().is_ok()).then_some(loss)
}
