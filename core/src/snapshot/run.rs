//! What a run is for a snapshot: a network, the progress and the state words, whichever learner has them.
//!
//! *Invariant*: what stands here is written once for all learners; their own methods ([`Learner::save`](crate::Learner::save) and
//! those beside it) have the documentation.

use super::{LAYER_RECORD, Refusal, SnapshotError, decode, encode, length_of};
use crate::{Loss, Progress, Scalar};

/// A learner whose run a snapshot can hold: [`Learner`](crate::Learner) and
/// [`ConvolutionLearner`](crate::convolution::ConvolutionLearner), no others.
pub trait Run<T: Scalar>: sealed::Parts<T> {}

impl<T: Scalar, R: sealed::Parts<T>> Run<T> for R {}

/// One layer among the state words: its weights, then so many states of so many words each.
pub struct Extent {
    /// Words of its weights.
    pub(crate) weights: usize,
    /// States, of a group each.
    pub(crate) groups: usize,
    /// Words of one state.
    pub(crate) words: usize,
}

/// A network as a snapshot describes it.
pub trait Layers {
    /// Version of the format.
    const VERSION: u16;
    /// Records of a layer, of [`LAYER_RECORD`] bytes each.
    const RECORDS: usize;

    /// Layers.
    fn count(&self) -> usize;

    /// The loss.
    fn loss(&self) -> Loss;

    /// Words of weights and states.
    fn words(&self) -> usize;

    /// One record of a layer; `None` for sizes beyond 32 bits.
    fn record(&self, layer: usize, part: usize) -> Option<[u8; LAYER_RECORD]>;

    /// Where a layer's words end.
    fn extent(&self, layer: usize) -> Option<Extent>;

    /// Bytes of a snapshot.
    fn bytes(&self, width: usize) -> usize {
        length_of(width, self.count().saturating_mul(Self::RECORDS), self.words())
    }
}

pub(crate) mod sealed {
    use super::{Layers, Progress};

    /// The parts of a learner that are its run.
    pub trait Parts<T> {
        /// Its kind of network.
        type Net: Layers;

        /// The network.
        fn layers(&self) -> &Self::Net;

        /// The counters and means.
        fn counters(&self) -> &Progress<T>;

        /// The state words.
        fn words(&self) -> &[T];

        /// The network, and the state words to write.
        fn parts(&mut self) -> (&Self::Net, &mut [T]);

        /// Goes on with these counters, whose state words have been written.
        fn take_up(&mut self, progress: Progress<T>);

        /// The start of a run.
        fn start_afresh(&mut self, seed: u64);
    }
}

/// Refuses a run that could not be restored.
pub(crate) fn check<T: Scalar>(run: &impl Run<T>) -> Result<(), Refusal> {
    encode::check(run.layers(), run.counters(), run.words())
}

pub(crate) fn save<T: Scalar, E>(
    run: &impl Run<T>,
    write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), SnapshotError<E>> {
    check(run).map_err(SnapshotError::Refused)?;
    encode::encode(run.layers(), run.counters(), run.words(), write).map_err(SnapshotError::Medium)
}

pub(crate) fn save_into<T: Scalar>(run: &impl Run<T>, bytes: &mut [u8]) -> Result<usize, Refusal> {
    let (needed, available) = (run.layers().bytes(T::WIDTH), bytes.len());
    check(run)?;
    if available < needed {
        return Err(Refusal::Room { needed, available });
    }
    let mut rest = bytes;
    save(run, |piece| {
        let room = core::mem::take(&mut rest);
        let (head, tail) =
            room.split_at_mut_checked(piece.len()).ok_or(Refusal::Room { needed, available })?;
        head.copy_from_slice(piece);
        rest = tail;
        Ok(())
    })
    .map_err(|error| match error {
        SnapshotError::Refused(refusal) | SnapshotError::Medium(refusal) => refusal,
    })?;
    Ok(needed)
}

/// `read` is asked for offsets that are multiples of [`CHUNK`](super::CHUNK).
pub(crate) fn restore<T: Scalar, E>(
    run: &mut impl Run<T>,
    length: usize,
    mut read: impl FnMut(usize, &mut [u8]) -> Result<(), E>,
) -> Result<(), SnapshotError<E>> {
    let (net, state) = run.parts();
    let checked = decode::scan(net, length, &mut read, |_, _: T| {})?;
    let taken = decode::scan(net, length, &mut read, |index, word| {
        if let Some(place) = state.get_mut(index) {
            *place = word;
        }
    });
    match taken {
        Ok(progress) => {
            run.take_up(progress);
            Ok(())
        }
        Err(error) => {
            run.start_afresh(checked.seed);
            Err(error)
        }
    }
}
