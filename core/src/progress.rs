//! What a run has done so far, and what happened in it: small, `Copy`, and enough to go on bit for bit.

use crate::Scalar;
use core::fmt;

/// Counters and scalars of a run. Together with the state words it is all that a checkpoint needs: every random draw is
/// derived from `seed` and `steps`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(bound(deserialize = "T: Scalar + serde::Deserialize<'de>")))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Progress<T> {
    /// Seed of the initial weights and of every sampled target.
    pub seed: u64,
    /// Steps whose batch was taken in.
    pub steps: u64,
    /// Examples taken in.
    pub examples: u64,
    /// Steps whose batch was refused.
    pub skipped: u64,
    /// Steps that went less well than they should.
    pub degraded: u64,
    /// Rotations done, all factors together.
    pub rotations: u64,
    /// Multiplications and additions counted, everything together.
    pub operations: u64,
    /// What Levenberg-Marquardt adaptation multiplies the damping by.
    pub damping_multiplier: T,
    /// Debiased running mean of the loss per example.
    pub mean_loss: T,
    /// Debiased running mean of the length sqrt(K . D) of the preconditioned gradient.
    pub mean_length: T,
    /// Stored weight of these two means.
    pub mean_loss_weight: T,
    /// Running mean of the cosine between gradient and velocity ([`Config::annealing`](crate::Config::annealing)).
    #[cfg_attr(feature = "serde", serde(default = "nothing"))]
    pub mean_cosine: T,
    /// What annealing multiplies a step by, in (0, 1].
    #[cfg_attr(feature = "serde", serde(default = "whole"))]
    pub annealing: T,
}

/// What a run that was stored without a mean goes on with.
#[cfg(feature = "serde")]
fn nothing<T: Scalar>() -> T {
    T::ZERO
}

/// What one that was stored without annealing goes on with.
#[cfg(feature = "serde")]
fn whole<T: Scalar>() -> T {
    T::ONE
}

impl<T: Scalar> Progress<T> {
    /// The start of a run.
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: 0,
            examples: 0,
            skipped: 0,
            degraded: 0,
            rotations: 0,
            operations: 0,
            damping_multiplier: T::ONE,
            mean_loss: T::ZERO,
            mean_length: T::ZERO,
            mean_loss_weight: T::ZERO,
            mean_cosine: T::ZERO,
            annealing: T::ONE,
        }
    }

    /// Counts a step on so many examples and its work.
    pub(crate) fn finish(&mut self, outcome: Outcome, batch: usize, operations: u64) {
        count(&mut self.operations, operations);
        if matches!(outcome, Outcome::Skipped(_)) {
            count(&mut self.skipped, 1);
        } else {
            count(&mut self.steps, 1);
            count(&mut self.examples, batch as u64);
            count(&mut self.degraded, u64::from(matches!(outcome, Outcome::Degraded(_))));
        }
    }

    pub(crate) fn note_loss(&mut self, loss: T, decay: T) {
        let fresh = T::ONE - decay;
        self.mean_loss_weight = (decay * self.mean_loss_weight + fresh).minimum(T::ONE);
        let (share, old) = (fresh / self.mean_loss_weight, self.mean_loss);
        let moved = old + share * (loss - old);
        // Two losses of opposite sign at the ends of the range have no difference, yet a mean.
        self.mean_loss = if moved.is_finite() { moved } else { (T::ONE - share) * old + share * loss };
    }

    /// The share of this step in the running means, after [`note_loss`](Self::note_loss), whose weight they share.
    pub(crate) fn share(&self, decay: T) -> T {
        if self.mean_loss_weight > T::ZERO { (T::ONE - decay) / self.mean_loss_weight } else { T::ZERO }
    }

    /// A length that is not finite makes no step and no mark.
    pub(crate) fn note_length(&mut self, length: T, share: T) {
        if length.is_finite() {
            self.mean_length += share * (length - self.mean_length);
        }
    }
}

/// A resumed run may bring counters of any size. A function of its own: 64 bits are much code where words have 32.
#[inline(never)]
pub(crate) fn count(counter: &mut u64, more: u64) {
    *counter = counter.saturating_add(more);
}

/// Whether a counter is a multiple of a period, without the division of 64 bits, which a device has to bring along.
pub(crate) fn is_due(counter: u64, period: u32) -> bool {
    let period = period.max(1);
    let (high, low) = ((counter >> 32) as u32, counter as u32);
    if high == 0 {
        return low.is_multiple_of(period);
    }
    let mut rest = high % period;
    for place in (0..32).rev() {
        let carried = rest >> 31 == 1;
        rest = rest << 1 | (low >> place) & 1;
        if carried || rest >= period {
            rest = rest.wrapping_sub(period);
        }
    }
    rest == 0
}

/// Why a step was skipped or degraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Reason {
    /// A NaN or an infinity in the data of a layer.
    NonFinite {
        /// The layer, counted from the input.
        layer: usize,
        /// Which of its arguments.
        argument: &'static str,
        /// Where in it.
        index: usize,
    },
    /// A magnitude beyond [`guard::limit`](crate::guard::limit).
    TooLarge {
        /// The layer, counted from the input.
        layer: usize,
        /// Which of its arguments.
        argument: &'static str,
        /// Where in it.
        index: usize,
    },
    /// The loss of the batch is NaN or infinite.
    LossNotFinite,
    /// The step raised the loss of its own batch, and was taken back
    /// ([`Learner::step_or_undo`](crate::Learner::step_or_undo)).
    LossRose,
    /// The step would have overflowed a weight: statistics are kept, weights and velocity are untouched.
    StepTooLarge,
    /// A refresh hit its cap on sweeps, or the factors were not finite; the basis is valid, only less diagonal.
    NotConverged {
        /// The layer, counted from the input.
        layer: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Reason::NonFinite { layer, argument, index } => {
                write!(formatter, "NaN or infinity in the {argument} of layer {layer}, index {index}")
            }
            Reason::TooLarge { layer, argument, index } => {
                write!(formatter, "too large a value in the {argument} of layer {layer}, index {index}")
            }
            Reason::LossRose => write!(formatter, "the step raised the loss, and was taken back"),
            Reason::LossNotFinite => write!(formatter, "the loss is NaN or infinite"),
            Reason::StepTooLarge => write!(formatter, "the step would overflow the weights"),
            Reason::NotConverged { layer } => {
                write!(formatter, "the eigenbasis of layer {layer} did not converge")
            }
        }
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// All as it should be.
    Applied,
    /// The batch was refused: every byte of state is as before.
    Skipped(Reason),
    /// Taken in, but less well than it should.
    Degraded(Reason),
}

/// One entry of the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Event {
    /// Steps taken in before.
    pub step: u64,
    /// Whether the batch was refused.
    pub skipped: bool,
    /// What happened.
    pub reason: Reason,
}

/// The last eight events.
#[derive(Clone, Debug, Default)]
pub struct EventLog(heapless::Deque<Event, 8>);

impl EventLog {
    /// The events, the oldest first.
    pub fn oldest_ordered(&self) -> impl Iterator<Item = &Event> {
        self.0.iter()
    }

    /// The last event.
    pub fn recent(&self) -> Option<&Event> {
        self.0.back()
    }

    /// Appends an event, in the place of the oldest where there is no more room.
    pub(crate) fn write(&mut self, event: Event) {
        if self.0.is_full() {
            self.0.pop_front();
        }
        let _there_is_room = self.0.push_back(event);
    }
}
