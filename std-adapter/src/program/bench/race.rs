//! Both optimisers and the bare products by turns, each step timed.

use super::{arithmetic::Arithmetic, descent::Descent};
use crate::{
    Network,
    kernels::ThreadPool,
    profile::{Profile, StageTimes},
    program::{ProgramError, compare::presets::Task, train},
};
use ekfac::{Config, Kernels, Outcome, Step, Targets};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The times of the steps, in their order.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Those of gradient descent.
    pub(super) descent: Vec<Duration>,
    /// Those of EKFAC.
    pub(super) natural: Vec<Duration>,
    /// Those of the products of gradient descent alone, on one thread.
    pub(super) arithmetic: Vec<Duration>,
    /// Multiplications and additions in these.
    pub(super) operations: usize,
}

/// Walks over the data, batch after batch.
struct Batches<'a> {
    task: &'a Task,
    place: usize,
}

impl<'a> Batches<'a> {
    fn next(&mut self) -> (&'a [f32], Targets<'a, f32>) {
        let Task { training, batch, .. } = self.task;
        let start = (self.place % (training.examples / batch)) * batch;
        self.place += 1;
        let inputs = train::rows(&training.inputs, training.input_width, start, start + batch);
        (inputs, train::targets_of(training, start, start + batch))
    }
}

/// The two optimisers at work.
pub(super) struct Race<'a> {
    batches: Batches<'a>,
    natural: Network<f32>,
    descent: Descent,
    arithmetic: Arithmetic,
    times: Times,
}

impl<'a> Race<'a> {
    /// `natural` against gradient descent from the same start.
    pub(super) fn new(
        task: &'a Task,
        natural: Network<f32>,
        pool: Option<Arc<ThreadPool>>,
    ) -> Result<Self, ProgramError> {
        let seed = natural.progress().seed;
        let mut other = Network::new(task.layers.clone(), task.loss, Config::default(), seed, task.batch)?;
        if let Some(pool) = pool {
            other = other.with_pool(pool);
        }
        Ok(Self {
            batches: Batches { task, place: 0 },
            natural,
            descent: Descent::new(other)?,
            arithmetic: Arithmetic::new(&task.layers, task.batch),
            times: Times::default(),
        })
    }

    /// A step of each on the next batch.
    pub(super) fn round(&mut self) -> Result<(), ProgramError> {
        let (inputs, targets) = self.batches.next();
        let (loss, time) = timed(|| self.descent.step(inputs, targets));
        loss?;
        self.times.descent.push(time);
        let (step, time) = timed(|| self.natural.step(inputs, targets));
        expect_applied(&step?)?;
        self.times.natural.push(time);
        self.times.arithmetic.push(timed(|| self.arithmetic.run()).1);
        Ok(())
    }

    /// Forgets the times so far, which were the warm-up's.
    pub(super) fn forget(&mut self) {
        self.times = Times::default();
    }

    /// The times, and EKFAC's network.
    pub(super) fn finish(self) -> (Times, Network<f32>) {
        (Times { operations: self.arithmetic.operations(), ..self.times }, self.natural)
    }
}

/// Further steps of EKFAC under a clock; `note` after each.
pub(super) fn profile(
    task: &Task,
    network: Network<f32>,
    kernels: Box<dyn Kernels<f32> + Send>,
    steps: usize,
    note: &dyn Fn(),
) -> Result<StageTimes, ProgramError> {
    let (mut network, profile) = Profile::attach(network, kernels)?;
    let mut batches = Batches { task, place: 0 };
    for _ in 0..steps {
        let (inputs, targets) = batches.next();
        expect_applied(&profile.step(&mut network, inputs, targets)?)?;
        note();
    }
    Ok(profile.times())
}

/// A step that was skipped has done less work, so its time would be a lie.
fn expect_applied(step: &Step<f32>) -> Result<(), ProgramError> {
    match step.outcome {
        Outcome::Skipped(reason) => {
            Err(format!("a step was refused: {reason:?}; look at the data, or report this").into())
        }
        Outcome::Applied | Outcome::Degraded(_) => Ok(()),
    }
}

fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
