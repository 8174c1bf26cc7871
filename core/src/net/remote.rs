//! The training step of a network whose passes run elsewhere, on a device for one: what is drawn, counted and decided stays
//! here, and so does the order.
//!
//! ```text
//! forward -> loss -> backward -> what is measured, and its backward -> the corridor of [`step`](crate::step)
//! ```
//!
//! *Invariant*: the same draws, counters and running means as [`Learner::step`](super::Learner::step), so that a run can go over from one
//! to the other between two steps. *Cost*: none of its own. *Failure*: as the learner's; a body that fails notes it, and
//! its owner discards the step ([`Stages`](crate::step::Stages)).

#[cfg(feature = "large")]
use super::loss::Target;
use super::{Loss, Net, Step, Targets, random};
pub use super::{passes::Source, random::Stream};
use crate::{
    Config, Error, Fisher, Kernels, Outcome, Progress, Reason, Reference, Scalar,
    config::PUBLISHED,
    error::expect_length,
    guard,
    kernels::Counted,
    progress::{count, is_due},
    single::{BATCHES, expect_built},
    step::{self, Rooms, Run, Stop, Taken},
};
use core::ops::Range;

/// The passes of a network over a batch that it holds already.
pub trait Body<T: Scalar>: Rooms<T> {
    /// Fills z and h of every layer; the examples, one a column, are there.
    fn forward(&mut self, batch: usize);
    /// The summed loss of the examples whose outputs the last forward pass left; NaN where an output is not finite.
    fn loss(&mut self, targets: Targets<'_, T>, batch: usize) -> T;
    /// Fills the training gradients of every layer.
    fn backward(&mut self, targets: Targets<'_, T>, batch: usize);
    /// Says which examples enter the statistics of this step, and where their gradients come from: the training
    /// gradients, sampled targets, whose gradients this fills, or passes over an exact Fisher, which [`Rooms::load`] fills.
    fn measure(&mut self, measured: &Range<usize>, stream: Option<Stream>);
    /// Multiplications and additions of the passes since this was last asked.
    fn operations(&mut self) -> u64;
}

/// How many examples a batch has.
///
/// # Errors
/// [`Error::Empty`], [`Error::Length`], [`Error::OutOfRange`] for a network that is none, and for inputs and targets that do not fit it.
pub fn examples<T: Scalar>(net: &Net<'_>, inputs: &[T], targets: &Targets<'_, T>) -> Result<usize, Error> {
    net.check()?;
    // No net that passed its check has an input of no width; `max` says so to the compiler.
    let width = net.inputs().max(1);
    let batch = inputs.len() / width;
    if inputs.is_empty() {
        return Err(Error::Empty { argument: "inputs" });
    }
    expect_length("inputs", batch.max(1) * width, inputs.len())?;
    expect_built(batch == 1, "inputs")?;
    targets.check(&net.loss, net.outputs(), batch)?;
    Ok(batch)
}

/// One step of a network on a batch, as [`Learner::step`](super::Learner::step) takes it.
///
/// # Errors
/// Those of [`examples`], and [`Error::OutOfRange`] for a bad setting, before any write; [`Error::RefreshFailed`].
pub fn step<T: Scalar, B: Body<T>>(
    body: &mut B,
    net: &Net<'_>,
    config: &Config<T>,
    progress: &mut Progress<T>,
    inputs: &[T],
    targets: Targets<'_, T>,
) -> Result<Step<T>, Error> {
    config.check()?;
    let batch = examples(net, inputs, &targets)?;
    // What is left to the host of a step elsewhere is small.
    step_checked(body, &Reference, config, progress, inputs, targets, batch)
}

/// The same on a batch of N that has been checked, whatever kind of network it is for, by these kernels.
pub(crate) fn step_checked<T: Scalar, B: Body<T>>(
    body: &mut B,
    kernels: &dyn Kernels<T>,
    config: &Config<T>,
    progress: &mut Progress<T>,
    inputs: &[T],
    targets: Targets<'_, T>,
    batch: usize,
) -> Result<Step<T>, Error> {
    body.forward(batch);
    let loss = mean_loss(body, &targets, batch);
    if !loss.is_finite() {
        return Ok(skip(progress, inputs, batch, loss, body.operations()));
    }
    backward(body, &targets, batch);
    let (measured, measured_weight) = measure(body, config, progress, batch);
    let Progress { mean_loss, mean_loss_weight, .. } = *progress;
    progress.note_loss(loss, config.scalings.decay(batch));
    let mut run = Run { config, counted: Counted::new(kernels), progress, batch, measured, measured_weight };
    let taken = step::step(body, &mut run);
    let mut operations = run.counted.operations().saturating_add(body.operations());
    if let Err(Stop::Refused(_)) = taken {
        progress.mean_loss = mean_loss;
        progress.mean_loss_weight = mean_loss_weight;
    }
    let reduction_ratio = match &taken {
        Ok(taken) => adapt(body, config, progress, &mut operations, &targets, batch, [loss, taken.predicted]),
        Err(_) => None,
    };
    settle(progress, &taken, batch, operations, loss, reduction_ratio)
}

#[inline(never)]
fn mean_loss<T: Scalar, B: Body<T>>(body: &mut B, targets: &Targets<'_, T>, batch: usize) -> T {
    body.loss(*targets, batch) / T::from_usize(batch)
}

#[inline(never)]
fn backward<T: Scalar, B: Body<T>>(body: &mut B, targets: &Targets<'_, T>, batch: usize) {
    body.backward(*targets, batch);
}

/// The end of a step whose forward pass was not finite.
#[cold]
#[inline(never)]
fn skip<T: Scalar>(
    progress: &mut Progress<T>,
    inputs: &[T],
    batch: usize,
    loss: T,
    operations: u64,
) -> Step<T> {
    let reason = match guard::first_non_finite(inputs) {
        Some(index) => Reason::NonFinite { layer: 0, argument: "activations", index },
        None => Reason::LossNotFinite,
    };
    let outcome = Outcome::Skipped(reason);
    progress.finish(outcome, batch, operations);
    Step { outcome, loss, shrink: T::ONE, held: 0, reduction_ratio: None }
}

/// Which examples enter the statistics, and their weight; their gradients for sampled targets.
#[inline(never)]
fn measure<T: Scalar, B: Body<T>>(
    body: &mut B,
    config: &Config<T>,
    progress: &Progress<T>,
    batch: usize,
) -> (Range<usize>, usize) {
    let mut stream = Stream::new(progress.seed, progress.steps);
    let (measured, weight) = random::measured(config, progress, &mut stream, batch);
    let sampled = config.fisher == Fisher::Sampled && !measured.is_empty();
    body.measure(&measured, sampled.then_some(stream));
    (measured, weight)
}

/// Levenberg-Marquardt: the loss of the same batch again, on the steps that are due.
#[inline(never)]
fn adapt<T: Scalar, B: Body<T>>(
    body: &mut B,
    config: &Config<T>,
    progress: &mut Progress<T>,
    operations: &mut u64,
    targets: &Targets<'_, T>,
    batch: usize,
    [loss, predicted]: [T; 2],
) -> Option<T> {
    let adaptation = config.built_adaptation()?;
    if !is_due(progress.steps.saturating_add(1), adaptation.interval) {
        return None;
    }
    body.forward(batch);
    let change = mean_loss(body, targets, batch) - loss;
    count(operations, body.operations());
    progress.damping_multiplier = adaptation.next(progress.damping_multiplier, change, predicted);
    Some(change / predicted)
}

/// Counts a step that is done, and tells what it did.
#[inline(never)]
fn settle<T: Scalar>(
    progress: &mut Progress<T>,
    taken: &Result<Taken<T>, Stop>,
    batch: usize,
    operations: u64,
    loss: T,
    reduction_ratio: Option<T>,
) -> Result<Step<T>, Error> {
    conclude(taken, loss, reduction_ratio, |outcome| progress.finish(outcome, batch, operations))
}

/// What a step did, once `finish` has counted how it ended.
#[inline(always)]
pub(super) fn conclude<T: Scalar>(
    taken: &Result<Taken<T>, Stop>,
    loss: T,
    reduction_ratio: Option<T>,
    finish: impl FnOnce(Outcome),
) -> Result<Step<T>, Error> {
    let (outcome, shrink, held) = match *taken {
        Ok(Taken { outcome, shrink, held, .. }) => (outcome, shrink, held),
        Err(Stop::Refused(reason)) => (Outcome::Skipped(reason), T::ONE, 0),
        // A batch whose refresh failed once too often has entered the statistics all the same.
        Err(Stop::Failed(Error::RefreshFailed { layer })) => {
            (Outcome::Degraded(Reason::NotConverged { layer }), T::ONE, 0)
        }
        Err(Stop::Failed(error)) => return Err(error),
    };
    finish(outcome);
    match *taken {
        Err(Stop::Failed(error)) => Err(error),
        _ => Ok(Step { outcome, loss, shrink, held, reduction_ratio }),
    }
}

impl Loss {
    /// The summed loss of a batch from its outputs, one column an example.
    pub fn sum<T: Scalar>(&self, outputs: &[T], targets: Targets<'_, T>, width: usize) -> T {
        if !BATCHES {
            return T::ZERO + self.value(outputs, targets.example(0, width));
        }
        #[cfg(feature = "large")]
        if let (Targets::Values(targets), true) = (targets, self.has_diagonal_fisher()) {
            return self.sum_side_by_side(outputs, targets, width.max(1));
        }
        let examples = outputs.chunks_exact(width.max(1)).enumerate();
        examples
            .fold(T::ZERO, |sum, (index, outputs)| sum + self.value(outputs, targets.example(index, width)))
    }

    /// The same for losses that add over outputs, four examples at a time: each sum waits for its own last term.
    #[cfg(feature = "large")]
    fn sum_side_by_side<T: Scalar>(&self, outputs: &[T], targets: &[T], width: usize) -> T {
        const EXAMPLES: usize = 4;
        let mut sum = T::ZERO;
        for (outputs, targets) in outputs.chunks(EXAMPLES * width).zip(targets.chunks(EXAMPLES * width)) {
            let mut sums = [T::ZERO; EXAMPLES];
            if outputs.len() == EXAMPLES * width && targets.len() == outputs.len() {
                for index in 0..width {
                    for (example, sum) in sums.iter_mut().enumerate() {
                        let at = example * width + index;
                        if let (Some(h), Some(t)) = (outputs.get(at), targets.get(at)) {
                            *sum += self.term(*h, *t);
                        }
                    }
                }
            } else {
                let examples = outputs.chunks_exact(width).zip(targets.chunks_exact(width));
                for (sum, (outputs, targets)) in sums.iter_mut().zip(examples) {
                    *sum = self.value(outputs, Target::Values(targets));
                }
            }
            sum = sums.iter().fold(sum, |sum, value| sum + *value);
        }
        sum
    }

    /// How many of these are classified correctly; `None` for losses without classes.
    pub fn correct<T: Scalar>(&self, outputs: &[T], targets: Targets<'_, T>, width: usize) -> Option<usize> {
        let mut examples = outputs.chunks_exact(width.max(1)).enumerate();
        examples.try_fold(0, |correct, (index, outputs)| {
            self.is_correct(outputs, targets.example(index, width)).map(|right| correct + usize::from(right))
        })
    }

    /// The gradients at the outputs of a range of a batch's examples: `outputs` and `out` have one column for each of these.
    pub fn gradients<T: Scalar>(
        &self,
        source: &mut Source<'_, T>,
        outputs: &[T],
        examples: &Range<usize>,
        width: usize,
        out: &mut [T],
    ) {
        if !BATCHES {
            return self.gradients_of_one(source, outputs, 0, width, out);
        }
        let width = width.max(1);
        let columns = out.chunks_exact_mut(width).zip(outputs.chunks_exact(width));
        for ((out, h), index) in columns.zip(examples.clone()) {
            self.gradients_of_one(source, h, index, width, out);
        }
    }

    #[inline(always)]
    fn gradients_of_one<T: Scalar>(
        &self,
        source: &mut Source<'_, T>,
        h: &[T],
        index: usize,
        width: usize,
        out: &mut [T],
    ) {
        match source {
            Source::Targets(targets) => self.gradient(h, targets.example(index, width), out),
            Source::Sampled(stream) => self.sampled_gradient(h, stream, out),
            Source::Exact(pass) if PUBLISHED => self.exact_gradient(h, *pass, out),
            // No corridor asks for it where the exact Fisher is not built.
            Source::Exact(_) => out.fill(T::ZERO),
        }
    }
}
