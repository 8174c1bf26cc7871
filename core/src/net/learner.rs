//! The learner: a network, its memory, and the corridor, for batches and for one example at a time.
//!
//! *Invariant*: state changes only in [`Learner::step`], and only for a batch that passed the gate. *Cost*: see
//! [`step`](crate::step) and [`passes`](super::passes); memory [`Net::words`]. *Failure*: wrong lengths and classes are errors
//! before any write; bad numbers are [`Outcome::Skipped`].

use super::{
    Net, Targets,
    memory::Memory,
    passes::{self, Side, Source},
    random::{self, Stream},
    remote,
    rooms::LearnerRooms,
    weights::expect_turnable,
};
#[cfg(feature = "batches")]
use crate::Kernels;
use crate::{
    Config, Coordinates, Error, Event, EventLog, Fisher, LayerMut, Outcome, Progress, Reason, Reference,
    Refresh, Scalar, Shape,
    error::expect_length,
    kernels::{Chosen, Counted},
    progress::{count, is_due},
    refresh::{self, Effort, InFlight, Later},
    single::{BATCHES, built, expect_built},
    step::{self, Run, Stop, Taken},
};
use core::ops::Range;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Step<T> {
    /// How it ended.
    pub outcome: Outcome,
    /// Mean loss of the batch before the step.
    pub loss: T,
    /// nu, by which the clip shortened the step; 1 when it did not.
    pub shrink: T,
    /// How many layers were held back further, lest their pre-activations change too much ([`Config::reach`]).
    pub held: usize,
    /// Levenberg-Marquardt's ratio of the true to the predicted change of the loss, on the steps that measure it.
    pub reduction_ratio: Option<T>,
}

/// What an evaluation found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Evaluation<T> {
    /// Mean loss an example.
    pub loss: T,
    /// Examples classified correctly; `None` for losses without classes.
    pub correct: Option<usize>,
    /// Examples seen.
    pub examples: usize,
}

/// Trains a dense network by EKFAC on caller-owned memory.
pub struct Learner<'a, T> {
    pub(super) net: Net<'a>,
    pub(super) config: Config<T>,
    pub(super) kernels: Chosen<'a, T>,
    pub(super) progress: Progress<T>,
    pub(super) events: EventLog,
    pub(super) memory: Memory<'a, T>,
}

impl<'a, T: Scalar> Learner<'a, T> {
    /// A fresh learner: Glorot-uniform weights from `seed`, zero biases. `memory` has at least
    /// [`net.words(capacity)`](Net::words) words; batches may have up to `capacity` examples.
    ///
    /// # Errors
    /// A bad network or setting, [`Error::Length`] for too little memory, or [`Error::NotBuilt`] for a capacity beyond one example
    /// where the feature `batches` is off.
    pub fn new(
        net: Net<'a>,
        config: Config<T>,
        seed: u64,
        capacity: usize,
        memory: &'a mut [T],
    ) -> Result<Self, Error> {
        let mut learner = Self::over(net, config, Progress::new(seed), capacity, memory)?;
        learner.clear_state();
        Ok(learner)
    }

    /// A learner that goes on from state words and [`Progress`] that were saved: bit for bit the run that was not interrupted.
    ///
    /// # Errors
    /// Those of [`Learner::new`]; [`Error::NotBuilt`] for weights in parameter coordinates, likewise.
    pub fn resume(
        net: Net<'a>,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        memory: &'a mut [T],
    ) -> Result<Self, Error> {
        let mut learner = Self::over(net, config, progress, capacity, memory)?;
        // The first view of a fresh layer writes its bases: done here, so that no later call but a step changes a state, and
        // that later views need no check.
        learner.memory.all().try_for_each(|slot| open(*slot.dense.shape(), slot.into_words().1))?;
        Ok(learner)
    }

    /// A learner over a state that has not been viewed yet.
    fn over(
        net: Net<'a>,
        config: Config<T>,
        progress: Progress<T>,
        capacity: usize,
        memory: &'a mut [T],
    ) -> Result<Self, Error> {
        net.check()?;
        config.check()?;
        if capacity == 0 {
            return Err(Error::Empty { argument: "capacity" });
        }
        expect_built(capacity == 1, "capacity")?;
        let memory = Memory::new(&net, capacity, memory)?;
        let kernels = Chosen::new(&Reference);
        Ok(Self { net, config, kernels, progress, events: EventLog::default(), memory })
    }

    /// The same with other kernels.
    #[cfg(feature = "batches")]
    #[must_use]
    pub fn with_kernels(self, kernels: &'a dyn Kernels<T>) -> Self {
        Self { kernels: Chosen::new(kernels), ..self }
    }

    /// The network.
    pub fn net(&self) -> &Net<'a> {
        &self.net
    }

    /// The settings.
    pub fn config(&self) -> &Config<T> {
        &self.config
    }

    /// Other settings from the next step on.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; the old settings stay.
    pub fn set_config(&mut self, config: Config<T>) -> Result<(), Error> {
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// Counters so far; with [`state`](Self::state) all that a checkpoint needs.
    pub fn progress(&self) -> &Progress<T> {
        &self.progress
    }

    /// The last events.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Weights and layer states, [`Net::state_words`] words.
    pub fn state(&self) -> &[T] {
        self.memory.state()
    }

    /// Spends idle time: at most so many rotations of each factor towards its eigenbasis, from the stored cursor on; returns how
    /// many were done, fewer where a whole sweep finds no pair beyond the threshold. Two calls for half as many give the same
    /// bits. A device can call it between two examples for as long as it has nothing else to do. Settings with a periodic
    /// refresh rotate here to the threshold of their limits.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a weight in the eigenbasis that is NaN or beyond
    /// [`turning_limit`](crate::guard::turning_limit): before any write.
    pub fn rotate(&mut self, rotations: u32) -> Result<u64, Error> {
        for slot in self.memory.slots(0).0 {
            let shape = slot.dense.shape();
            let (weights, state) = slot.into_words();
            if LayerMut::over(*shape, state).turns_weights() {
                expect_turnable(shape, weights)?;
            }
        }
        let threshold = match self.config.refresh {
            Refresh::Rotations { threshold, .. } => threshold,
            Refresh::Periodic { limits, .. } => limits.threshold,
        };
        let mut done = 0;
        // Round by round, so that it makes no difference where a call ends and the next begins.
        for _ in 0..rotations {
            let in_round = self.rotate_once(threshold)?;
            if in_round == 0 {
                break;
            }
            done += in_round;
        }
        count(&mut self.progress.rotations, done);
        Ok(done)
    }

    /// The next rotation of every factor that has one.
    fn rotate_once(&mut self, threshold: T) -> Result<u64, Error> {
        let mut done = 0;
        for slot in self.memory.slots(0).0 {
            let shape = *slot.dense.shape();
            let (weights, state) = slot.into_words();
            let mut layer = LayerMut::over(shape, state);
            let mut in_flight =
                InFlight { weights, activations: &mut [], gradients: &mut [], fisher_gradients: &mut [] };
            // A whole sweep may be looked at.
            let effort = Effort::Rotate { rotations: 1, per_line: T::ZERO, examples: usize::MAX, threshold };
            let later = Later::new(self.kernels, &mut []);
            let effect = refresh::refresh(&mut layer, &mut in_flight, later, &effort);
            done += effect.rotations;
            count(&mut self.progress.operations, effect.operations);
        }
        Ok(done)
    }

    /// The EKFAC state of one layer.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist.
    pub fn layer(&mut self, layer: usize) -> Result<LayerMut<'_, T>, Error> {
        let (slot, _) = self.memory.slot(layer, 0)?;
        LayerMut::new(*slot.dense.shape(), slot.into_words().1)
    }

    /// One step on a batch: `inputs` is inputs x N, one column an example, N from 1 to the capacity.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`], [`Error::OutOfRange`] for inputs and targets that do not fit, before any
    /// write; [`Error::RefreshFailed`].
    pub fn step(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Step<T>, Error> {
        let batch = self.check_batch(inputs, &targets)?;
        let mut counted = Counted::by(self.kernels);
        let finite = passes::forward(&mut self.memory, &mut counted, inputs, batch);
        let loss = self.loss_of(&targets, batch);
        if !(finite && loss.is_finite()) {
            return Ok(self.skip(inputs, batch, loss, counted.operations()));
        }
        self.training_gradients(&mut counted, &targets, batch);
        let (measured, measured_weight) = self.fisher_gradients(&mut counted, batch);
        // A refused batch leaves no trace; it is refused before anything else here changes.
        let Progress { mean_loss, mean_loss_weight, .. } = self.progress;
        self.progress.note_loss(loss, self.config.scalings.decay(batch));
        let mut rooms = LearnerRooms {
            memory: &mut self.memory,
            net: &self.net,
            fisher: self.config.fisher,
            counted: Counted::by(self.kernels),
            inputs,
            batch,
            measured: measured.clone(),
        };
        let progress = &mut self.progress;
        let mut run = Run { config: &self.config, counted, progress, batch, measured, measured_weight };
        let taken = step::step(&mut rooms, &mut run);
        let mut operations = run.counted.operations().saturating_add(rooms.counted.operations());
        if let Err(Stop::Refused(_)) = taken {
            self.progress.mean_loss = mean_loss;
            self.progress.mean_loss_weight = mean_loss_weight;
        }
        let reduction_ratio = match &taken {
            Ok(taken) => self.adapt(&mut operations, inputs, &targets, batch, loss, taken.predicted),
            Err(_) => None,
        };
        self.settle(&taken, batch, operations, loss, reduction_ratio)
    }

    /// The outputs for one example.
    ///
    /// # Errors
    /// [`Error::Length`] for a wrong width.
    pub fn predict(&mut self, input: &[T]) -> Result<&[T], Error> {
        expect_length("input", self.net.inputs(), input.len())?;
        passes::forward(&mut self.memory, &mut Counted::by(self.kernels), input, 1);
        self.memory.outputs(1).map(|outputs| &*outputs).ok_or(Error::Empty { argument: "layers" })
    }

    /// Loss and accuracy over any number of examples. No state changes.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`], [`Error::OutOfRange`] for data that do not fit.
    pub fn evaluate(&mut self, inputs: &[T], targets: Targets<'_, T>) -> Result<Evaluation<T>, Error> {
        self.measure(&mut Counted::by(self.kernels), inputs, targets)
    }

    pub(super) fn measure(
        &mut self,
        counted: &mut Counted<'_, T>,
        inputs: &[T],
        targets: Targets<'_, T>,
    ) -> Result<Evaluation<T>, Error> {
        let examples = self.check_examples(inputs, &targets)?;
        let (width, outputs, capacity) =
            (self.net.inputs().max(1), self.net.outputs(), self.memory.capacity());
        let mut evaluation = Evaluation { loss: T::ZERO, correct: None, examples };
        for (index, inputs) in inputs.chunks((width * capacity).max(1)).enumerate() {
            let batch = inputs.len() / width;
            let targets = targets.slice(index * capacity, batch, outputs);
            passes::forward(&mut self.memory, counted, inputs, batch);
            evaluation.loss += passes::loss(&mut self.memory, &self.net.loss, &targets, batch);
            if let Some(correct) = passes::correct(&mut self.memory, &self.net.loss, &targets, batch) {
                evaluation.correct = Some(evaluation.correct.unwrap_or(0) + correct);
            }
        }
        evaluation.loss /= T::from_usize(examples);
        Ok(evaluation)
    }

    /// The mean gradient of a batch in parameter coordinates, all layers one after another in the layout of their
    /// weights, into `out` ([`Net::parameters`] words); returns the mean loss. For other optimisers and for tests; no state
    /// changes.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::Empty`], [`Error::OutOfRange`] for data that do not fit.
    pub fn mean_gradient(
        &mut self,
        inputs: &[T],
        targets: Targets<'_, T>,
        out: &mut [T],
    ) -> Result<T, Error> {
        let batch = self.check_batch(inputs, &targets)?;
        expect_length("out", self.net.parameters(), out.len())?;
        let mut counted = Counted::by(self.kernels);
        passes::forward(&mut self.memory, &mut counted, inputs, batch);
        let sum = passes::loss(&mut self.memory, &self.net.loss, &targets, batch);
        let loss = &self.net.loss;
        passes::backward(
            &mut self.memory,
            &mut counted,
            loss,
            &mut Source::Targets(targets),
            Side::Training,
            &(0..batch),
            batch,
        );
        passes::mean_gradients(&mut self.memory, &mut counted, inputs, batch, out);
        count(&mut self.progress.operations, counted.operations());
        Ok(sum / T::from_usize(batch))
    }

    fn check_examples(&self, inputs: &[T], targets: &Targets<'_, T>) -> Result<usize, Error> {
        // No net that passed its check has an input of no width; `max` says so to the compiler.
        let width = self.net.inputs().max(1);
        let examples = inputs.len() / width;
        if inputs.is_empty() {
            return Err(Error::Empty { argument: "inputs" });
        }
        expect_length("inputs", examples.max(1) * width, inputs.len())?;
        targets.check(&self.net.loss, self.net.outputs(), examples)?;
        Ok(examples)
    }

    fn check_batch(&self, inputs: &[T], targets: &Targets<'_, T>) -> Result<usize, Error> {
        let batch = self.check_examples(inputs, targets)?;
        if batch > self.memory.capacity() {
            let expected = self.memory.capacity() * self.net.inputs();
            return Err(Error::Length { argument: "inputs", expected, found: inputs.len() });
        }
        Ok(built(batch))
    }

    /// The training gradients.
    #[inline(never)]
    fn training_gradients(&mut self, counted: &mut Counted<'_, T>, targets: &Targets<'_, T>, batch: usize) {
        let (loss, source) = (&self.net.loss, &mut Source::Targets(*targets));
        passes::backward(&mut self.memory, counted, loss, source, Side::Training, &(0..batch), batch);
    }

    /// Which examples enter the statistics, and their weight; their gradients for sampled targets.
    #[inline(never)]
    fn fisher_gradients(&mut self, counted: &mut Counted<'_, T>, batch: usize) -> (Range<usize>, usize) {
        let mut stream = Stream::new(self.progress.seed, self.progress.steps);
        let (measured, weight) = random::measured(&self.config, &self.progress, &mut stream, batch);
        if self.config.fisher == Fisher::Sampled && !measured.is_empty() {
            let (loss, source) = (&self.net.loss, &mut Source::Sampled(stream));
            passes::backward(&mut self.memory, counted, loss, source, Side::Fisher, &measured, batch);
        }
        (measured, weight)
    }

    /// The mean loss of the batch whose outputs the last forward pass left.
    #[inline(never)]
    fn loss_of(&mut self, targets: &Targets<'_, T>, batch: usize) -> T {
        passes::loss(&mut self.memory, &self.net.loss, targets, batch) / T::from_usize(batch)
    }

    /// Why a forward pass was not finite: inputs, weights, or what they make together.
    #[cold]
    fn blame(&mut self, inputs: &[T]) -> Reason {
        if let Some(index) = crate::guard::first_non_finite(inputs) {
            return Reason::NonFinite { layer: 0, argument: "activations", index };
        }
        for (layer, slot) in self.memory.all().enumerate() {
            if let Some(index) = crate::guard::first_non_finite(slot.into_words().0) {
                return Reason::NonFinite { layer, argument: "weights", index };
            }
        }
        Reason::LossNotFinite
    }

    /// Levenberg-Marquardt: the loss of the same batch again, on the steps that are due.
    #[inline(never)]
    fn adapt(
        &mut self,
        operations: &mut u64,
        inputs: &[T],
        targets: &Targets<'_, T>,
        batch: usize,
        loss: T,
        predicted: T,
    ) -> Option<T> {
        let adaptation = self.config.built_adaptation()?;
        if !is_due(self.progress.steps.saturating_add(1), adaptation.interval) {
            return None;
        }
        let mut counted = Counted::by(self.kernels);
        passes::forward(&mut self.memory, &mut counted, inputs, batch);
        let change = self.loss_of(targets, batch) - loss;
        count(operations, counted.operations());
        self.progress.damping_multiplier =
            adaptation.next(self.progress.damping_multiplier, change, predicted);
        Some(change / predicted)
    }

    /// Counts a step that is done, and tells what it did.
    #[inline(never)]
    fn settle(
        &mut self,
        taken: &Result<Taken<T>, Stop>,
        batch: usize,
        operations: u64,
        loss: T,
        reduction_ratio: Option<T>,
    ) -> Result<Step<T>, Error> {
        remote::conclude(taken, loss, reduction_ratio, |outcome| self.finish(outcome, batch, operations))
    }

    /// The end of a step whose forward pass was not finite.
    #[cold]
    #[inline(never)]
    fn skip(&mut self, inputs: &[T], batch: usize, loss: T, operations: u64) -> Step<T> {
        let outcome = Outcome::Skipped(self.blame(inputs));
        self.finish(outcome, batch, operations);
        Step { outcome, loss, shrink: T::ONE, held: 0, reduction_ratio: None }
    }

    pub(super) fn finish(&mut self, outcome: Outcome, batch: usize, operations: u64) {
        if let Outcome::Skipped(reason) | Outcome::Degraded(reason) = outcome {
            let skipped = matches!(outcome, Outcome::Skipped(_));
            self.events.write(Event { step: self.progress.steps, skipped, reason });
        }
        self.progress.finish(outcome, batch, operations);
    }
}

/// Views the state of a layer for the first time. Without batches its weights live in the eigenbasis, where they are W itself as
/// long as it is fresh.
fn open<T: Scalar>(shape: Shape, state: &mut [T]) -> Result<(), Error> {
    let fresh = state.iter().take(1).all(|mark| *mark == T::ZERO);
    let mut layer = LayerMut::new(shape, state)?;
    if !BATCHES && fresh {
        layer.marks().set_coordinates(Coordinates::Eigenbasis);
    }
    expect_built(layer.coordinates() == Coordinates::Eigenbasis, "coordinates")
}
