//! Both optimisers and the bare products by turns, each step timed.

use super::{arithmetic::Arithmetic, descent::Descent, machine::processor_time};
use crate::{
    Network,
    kernels::ThreadPool,
    profile::{Profile, StageTimes},
    program::{ProgramError, compare::presets::Task, train},
};
use ekfac::{Config, Error, Kernels, Outcome, Step, Targets};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The times of one kind of step.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Each step's, in their order.
    pub(super) wall: Vec<Duration>,
    /// What all of them have had of a processor on this thread; `None` where the system does not say.
    pub(super) busy: Option<Duration>,
}

/// What a race has found.
#[derive(Debug, Default)]
pub(super) struct Timed {
    /// Steps of gradient descent.
    pub(super) descent: Times,
    /// Steps of EKFAC.
    pub(super) natural: Times,
    /// The products of gradient descent alone, on one thread.
    pub(super) arithmetic: Times,
    /// Multiplications and additions in these.
    pub(super) operations: usize,
}

impl Times {
    fn time<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let before = processor_time();
        let start = Instant::now();
        let result = work();
        self.wall.push(start.elapsed());
        let busy = processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
        // The first step of all finds no sum yet.
        self.busy = busy.map(|busy| busy + self.busy.unwrap_or_default());
        result
    }
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
    times: Timed,
}

impl<'a> Race<'a> {
    /// Both from the same start, on the threads of a pool or on the caller's own.
    pub(super) fn new(
        task: &'a Task,
        seed: u64,
        pool: Option<&Arc<ThreadPool>>,
    ) -> Result<Self, ProgramError> {
        let layers = task.dense_layers()?;
        let network = || {
            let network = Network::new(layers.to_vec(), task.loss, Config::default(), seed, task.batch)?;
            Ok::<_, Error>(match pool {
                Some(pool) => network.with_pool(pool.clone()),
                None => network,
            })
        };
        Ok(Self {
            batches: Batches { task, place: 0 },
            natural: network()?,
            descent: Descent::new(network()?)?,
            arithmetic: Arithmetic::new(layers, task.batch),
            times: Timed::default(),
        })
    }

    /// So many rounds; `note` after each.
    pub(super) fn run(&mut self, rounds: usize, note: &dyn Fn()) -> Result<(), ProgramError> {
        for _ in 0..rounds {
            self.round()?;
            note();
        }
        Ok(())
    }

    /// A step of each on the next batch.
    fn round(&mut self) -> Result<(), ProgramError> {
        let (inputs, targets) = self.batches.next();
        self.times.descent.time(|| self.descent.step(inputs, targets))?;
        expect_applied(&self.times.natural.time(|| self.natural.step(inputs, targets))?)?;
        self.times.arithmetic.time(|| self.arithmetic.run());
        Ok(())
    }

    /// Forgets the times so far, which were the warm-up's.
    pub(super) fn forget(&mut self) {
        self.times = Timed::default();
    }

    /// The times, and EKFAC's network.
    pub(super) fn finish(self) -> (Timed, Network<f32>) {
        (Timed { operations: self.arithmetic.operations(), ..self.times }, self.natural)
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
