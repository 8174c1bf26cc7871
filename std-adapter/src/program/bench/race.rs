//! Both optimisers and the bare products by turns, each step timed; where threads share the work, both on one thread as well.

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

/// The times of both optimisers.
#[derive(Debug, Default)]
pub(super) struct Pair {
    /// Steps of gradient descent.
    pub(super) descent: Times,
    /// Steps of EKFAC.
    pub(super) natural: Times,
}

/// What a race has found.
#[derive(Debug, Default)]
pub(super) struct Timed {
    /// On the threads that were asked for.
    pub(super) shared: Pair,
    /// On one thread; no steps where that is what was asked for.
    pub(super) alone: Pair,
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

/// So many steps of a kind follow one another, as in training: the first finds threads asleep and caches full of what the kind before left
/// there, and the median passes over it.
const TURN: usize = 8;

/// Walks over the data, batch after batch.
#[derive(Clone, Copy)]
struct Batches<'a> {
    task: &'a Task,
    place: usize,
}

impl<'a> Iterator for Batches<'a> {
    type Item = (&'a [f32], Targets<'a, f32>);

    fn next(&mut self) -> Option<Self::Item> {
        let Task { training, batch, .. } = self.task;
        let start = (self.place % (training.examples / batch)) * batch;
        self.place += 1;
        let inputs = train::rows(&training.inputs, training.input_width, start, start + batch);
        Some((inputs, train::targets_of(training, start, start + batch)))
    }
}

/// The two optimisers at work.
struct Entrants {
    natural: Network<f32>,
    descent: Descent,
}

impl Entrants {
    /// Both from the same start, on the threads of a pool or on the caller's own.
    fn new(task: &Task, seed: u64, pool: Option<&Arc<ThreadPool>>) -> Result<Self, ProgramError> {
        let layers = task.dense_layers()?;
        let network = || {
            let network = Network::new(layers.to_vec(), task.loss, Config::default(), seed, task.batch)?;
            Ok::<_, Error>(match pool {
                Some(pool) => network.with_pool(pool.clone()),
                None => network,
            })
        };
        Ok(Self { natural: network()?, descent: Descent::new(network()?)? })
    }

    /// A turn of each.
    fn take_turns(
        &mut self,
        times: &mut Pair,
        batches: Batches<'_>,
        steps: usize,
    ) -> Result<(), ProgramError> {
        for (inputs, targets) in batches.take(steps) {
            times.descent.time(|| self.descent.step(inputs, targets))?;
        }
        for (inputs, targets) in batches.take(steps) {
            expect_applied(&times.natural.time(|| self.natural.step(inputs, targets))?)?;
        }
        Ok(())
    }
}

/// The two optimisers, where there are threads a second time without, and the bare products.
pub(super) struct Race<'a> {
    batches: Batches<'a>,
    shared: Entrants,
    alone: Option<Entrants>,
    arithmetic: Arithmetic,
    times: Timed,
}

impl<'a> Race<'a> {
    /// All from the same start.
    pub(super) fn new(
        task: &'a Task,
        seed: u64,
        pool: Option<&Arc<ThreadPool>>,
    ) -> Result<Self, ProgramError> {
        Ok(Self {
            batches: Batches { task, place: 0 },
            shared: Entrants::new(task, seed, pool)?,
            alone: pool.map(|_| Entrants::new(task, seed, None)).transpose()?,
            arithmetic: Arithmetic::new(task.dense_layers()?, task.batch),
            times: Timed::default(),
        })
    }

    /// So many steps of each, by turns; `note` is told how many more are done.
    pub(super) fn run(&mut self, steps: usize, note: &dyn Fn(usize)) -> Result<(), ProgramError> {
        let mut left = steps;
        while left > 0 {
            let turn = left.min(TURN);
            self.shared.take_turns(&mut self.times.shared, self.batches, turn)?;
            if let Some(alone) = &mut self.alone {
                alone.take_turns(&mut self.times.alone, self.batches, turn)?;
            }
            for _ in 0..turn {
                self.times.arithmetic.time(|| self.arithmetic.run());
            }
            self.batches.place += turn;
            left -= turn;
            note(turn);
        }
        Ok(())
    }

    /// Forgets the times so far, which were the warm-up's.
    pub(super) fn forget(&mut self) {
        self.times = Timed::default();
    }

    /// The times, and EKFAC's network on the threads that were asked for.
    pub(super) fn finish(self) -> (Timed, Network<f32>) {
        (Timed { operations: self.arithmetic.operations(), ..self.times }, self.shared.natural)
    }
}

/// Further steps of EKFAC under a clock; `note` after each.
pub(super) fn profile(
    task: &Task,
    network: Network<f32>,
    kernels: Box<dyn Kernels<f32> + Send>,
    steps: usize,
    note: &dyn Fn(usize),
) -> Result<StageTimes, ProgramError> {
    let (mut network, profile) = Profile::attach(network, kernels)?;
    for (inputs, targets) in (Batches { task, place: 0 }).take(steps) {
        expect_applied(&profile.step(&mut network, inputs, targets)?)?;
        note(1);
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
