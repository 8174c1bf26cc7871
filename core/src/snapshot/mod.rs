//! Snapshots: a run as bytes that any machine can take up, and with the feature `embedded-storage` a
//! store for them in flash that a power cut cannot break.
//!
//! All numbers are little-endian, all of them aligned to their size from the start of the snapshot; W is the number of bytes of
//! a word, L that of layers, R the bytes of a layer's record: 16, and 64 in a network of convolutions.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 4 | `EKFS` |
//! | 4 | 2 | version of the format: 3 for dense layers, 4 for convolutions; 1 and 2 are these without mean cosine and annealing |
//! | 6 | 1 | W: 4 for `f32`, 8 for `f64` |
//! | 7 | 1 | L |
//! | 8 | 4 | length of the whole snapshot in bytes |
//! | 12 | 1 | loss: 0 squared error, 1 softmax cross-entropy, 2 binary cross-entropy, 3 Huber |
//! | 13 | 3 | 0 |
//! | 16 | 8 | Huber's width, an `f64`; 0 for the other losses |
//! | 24 | 7 x 8 | [`Progress`]: seed, steps, examples, skipped, degraded, rotations, operations |
//! | 80 | 6 W | damping multiplier, mean loss, mean length, weight of the two, mean cosine, annealing |
//! | 80 + 6 W | R L | for each layer its record |
//! | then | W each | for each layer its weights (m n a group, as they are stored), then the state of each group ([`Shape::words`](crate::Shape::words)) |
//! | last | 4 | CRC-32 (IEEE 802.3, that of zip and PNG) of everything before |
//!
//! | record | |
//! | --- | --- |
//! | dense | inputs (4), outputs (4), 1 for a bias (1), activation (1), 0 (6) |
//! | convolution | channels (4), outputs (4), groups (4), the layer that an addition takes, or an embedding's tokens (4); for rows, then for columns, length, kernel, stride and padding (4 each); dilation of rows, of columns (4 each); 1 for a bias, 1 for channels last, kind, activation, form (1 each), 0 (3) |
//!
//! Kinds are 0 for weights, 1 for a maximum, 2 for a mean, 3 for an addition; forms 0 for a full block, 1 for uncorrelated points, 2 for an
//! embedding, 3 for a scale and a shift.
//! Activations count from 0 in the order of [`Activation`](crate::Activation). Settings are not part of it: they are the program's, which may
//! change them from one version to the next, and so are a learner's sharing and columns. All together are all that a run is, so the one that goes on takes the same
//! steps, bit for bit, as the one that was never interrupted.
//!
//! *Invariant*: an accepted snapshot of today's versions, saved again, gives the same bytes; whatever is refused has changed nothing. Every
//! change of at most 32 neighbouring bits is detected, every other with probability 1 - 2^-32. *Cost*: no memory but a chunk
//! of 64 bytes and the caller's; two passes over the bytes to restore (check, then take over), one and a look at the state to save; a
//! table of 1 KiB in flash. *Failure*: a [`Refusal`] that says what is wrong; for bytes from outside it never panics.

pub(crate) mod decode;
pub(crate) mod encode;
#[cfg(feature = "embedded-storage")]
mod flash;
pub(crate) mod record;
mod refusal;
pub(crate) mod run;
mod view;

#[cfg(feature = "embedded-storage")]
pub use flash::FlashStore;
pub(crate) use refusal::refusal;
pub use refusal::{Refusal, SnapshotError};
pub use run::Run;
pub use view::Snapshot;

#[cfg(feature = "batches")]
use crate::convolution::ConvolutionNet;
use crate::{Net, Progress, Scalar, layer};
use core::ops::RangeInclusive;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use run::{Extent, Layers};

/// The version of a network of dense layers.
pub const VERSION: u16 = 3;

/// The version of a network of convolutions.
pub const CONVOLUTION_VERSION: u16 = 4;

/// Those that are read. 1 and 2 are 3 and 4 without mean cosine and annealing, and start these afresh.
const VERSIONS: RangeInclusive<u16> = 1..=CONVOLUTION_VERSION;

/// Bytes that a medium is handed at a time.
pub const CHUNK: usize = 64;

/// What a snapshot begins with.
pub const MAGIC: [u8; 4] = *b"EKFS";
/// Bytes before the scalars of the progress.
const HEAD: usize = 80;
/// Scalars of the progress.
const MEANS: usize = 6;
pub(crate) const LOSS_RECORD: usize = 12;
pub(crate) const LAYER_RECORD: usize = 16;
/// Records of a layer of convolutions.
pub(crate) const CONVOLUTION_RECORDS: usize = 4;
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
/// assert_eq!(BYTES, 80 + 6 * 4 + 16 * 2 + 4 * NET.state_words() + 4);
/// ```
pub const fn length<T: Scalar>(net: &Net<'_>) -> usize {
    length_of(T::WIDTH, net.layers().len(), net.state_words())
}

/// The same of a network of convolutions.
///
/// ```
/// use ekfac::{Activation::Identity, Loss, snapshot};
/// use ekfac::convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionNet};
/// const FILTERS: Convolution = Convolution::new_1d(2, Axis::new(8, 3), 4);
/// const LAYERS: [ConvolutionLayer; 1] = [ConvolutionLayer::new(FILTERS, Identity)];
/// const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SquaredError);
/// const BYTES: usize = snapshot::length_of_convolutions::<f32>(&NET);
/// assert_eq!(BYTES, 80 + 6 * 4 + 64 + 4 * NET.state_words() + 4);
/// ```
#[cfg(feature = "batches")]
pub const fn length_of_convolutions<T: Scalar>(net: &ConvolutionNet<'_>) -> usize {
    length_of(T::WIDTH, net.layers().len().saturating_mul(CONVOLUTION_RECORDS), net.state_words())
}

/// Bytes that a snapshot of this version lacks.
const fn missing(version: u16, width: usize) -> usize {
    if version < VERSION { 2 * width } else { 0 }
}

/// Of so many records and state words.
pub(crate) const fn length_of(width: usize, records: usize, words: usize) -> usize {
    words
        .saturating_add(MEANS)
        .saturating_mul(width)
        .saturating_add(records.saturating_mul(LAYER_RECORD))
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

/// The scalars in the order of the format.
fn means<T: Scalar>(progress: &Progress<T>) -> [T; MEANS] {
    let Progress {
        damping_multiplier, mean_loss, mean_length, mean_loss_weight, mean_cosine, annealing, ..
    } = *progress;
    [damping_multiplier, mean_loss, mean_length, mean_loss_weight, mean_cosine, annealing]
}

/// Refuses counters and means that no run has.
pub(crate) fn check_progress<T: Scalar>(progress: &Progress<T>) -> Result<(), Refusal> {
    for (name, count) in counters(progress) {
        expect(count < COUNTER_LIMIT, name)?;
    }
    // A step takes in an example at least.
    expect(progress.steps <= progress.examples, "examples")?;
    expect(progress.degraded <= progress.steps, "degraded")?;
    let [multiplier, mean_loss, mean_length, weight, cosine, annealing] = means(progress);
    expect(multiplier > T::ZERO && multiplier.is_finite(), "damping_multiplier")?;
    expect(mean_loss.is_finite(), "mean_loss")?;
    expect(mean_length >= T::ZERO && mean_length.is_finite(), "mean_length")?;
    expect(weight >= T::ZERO && weight <= T::ONE, "mean_loss_weight")?;
    expect(cosine >= -T::ONE && cosine <= T::ONE, "mean_cosine")?;
    expect(annealing > T::ZERO && annealing <= T::ONE, "annealing")
}

fn expect(holds: bool, name: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Progress { name }) }
}

/// Walks the records of a network's layers, the parts of each in turn.
pub(crate) fn each_record<N: Layers, E>(
    net: &N,
    mut next: impl FnMut(usize, Option<[u8; LAYER_RECORD]>) -> Result<(), E>,
) -> Result<(), E> {
    for layer in 0..net.count() {
        for part in 0..N::RECORDS {
            next(layer, net.record(layer, part))?;
        }
    }
    Ok(())
}

/// Walks the state words of a network, and refuses those that no run has.
pub(crate) fn each_word<T: Scalar, E>(
    net: &impl Layers,
    mut next: impl FnMut(usize) -> Result<T, SnapshotError<E>>,
) -> Result<(), SnapshotError<E>> {
    let mut index = 0;
    for Extent { weights, groups, words } in (0..net.count()).map_while(|layer| net.extent(layer)) {
        // The weights, and after them the state of each group.
        for part in 0..=groups {
            for place in 0..if part == 0 { weights } else { words } {
                let word = next(index)?;
                if !word.is_finite() {
                    return Err(SnapshotError::Refused(Refusal::NonFinite { index }));
                }
                if part > 0 && !layer::is_sound(place, word) {
                    return Err(SnapshotError::Refused(Refusal::Mark { index }));
                }
                index += 1;
            }
        }
    }
    Ok(())
}
