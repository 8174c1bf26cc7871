//! One run: a setting, a seed, so many epochs; and all runs over threads.
//!
//! *Invariant*: the start and the batches depend on the seed alone, so all optimisers see the same, and results, seconds
//! apart, do not depend on the number of threads. A run that diverges ends with losses that are not finite.

use super::{
    batch::Batch,
    entrants::{Method, Setting},
    presets::Task,
    stepper::{self, Stepper},
};
use crate::{offload::devices::Kind, program::ProgramError};
use ekfac::{Annealing, Config, Evaluation};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{Rng, SeedableRng},
};
use serde::Serialize;
use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// One line of the results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// The optimiser's name.
    pub(super) optimizer: String,
    /// The seed.
    pub(super) seed: u64,
    /// Epochs done; 0 is the start.
    pub(super) epoch: usize,
    /// Loss over the whole training set; `null` in JSON once it is not finite.
    pub(super) loss: f32,
    /// Seconds of training so far, evaluation excluded.
    pub(super) seconds: f64,
    /// Mean rotations a step, all factors together.
    pub(super) rotations: f64,
    /// Multiplications and additions counted so far.
    pub(super) operations: u64,
    /// Loss over the held-out examples, where the preset holds some out; `null` once it is not finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) held_out_loss: Option<f32>,
    /// The share of held-out examples classified correctly, for classifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) accuracy: Option<f32>,
}

/// A run to be done.
pub(super) struct Job<'a> {
    /// What is trained, and for how long.
    pub(super) task: &'a Task,
    /// The optimiser's name.
    pub(super) optimizer: String,
    /// Its setting.
    pub(super) setting: &'a Setting,
    /// The seed.
    pub(super) seed: u64,
}

/// Runs all jobs on so many threads, in the order of the list, core's corridor on a device of this kind; `notify(job, row)`
/// after every epoch.
///
/// # Errors
/// The first error of a run.
pub(super) fn run_all(
    jobs: &[Job<'_>],
    threads: usize,
    device: Kind,
    notify: &(dyn Fn(&Job<'_>, &Row) + Sync),
) -> Result<Vec<Vec<Row>>, ProgramError> {
    let empty: Vec<Result<Vec<Row>, String>> = jobs.iter().map(|_| Ok(Vec::new())).collect();
    let (next, results) = (Mutex::new(0..jobs.len()), Mutex::new(empty));
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some(index) = take(&next) {
                    let rows = run(&jobs[index], device, notify).map_err(|error| error.to_string());
                    results.lock().unwrap_or_else(PoisonError::into_inner)[index] = rows;
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().collect::<Result<_, String>>().map_err(Into::into)
}

fn take(next: &Mutex<std::ops::Range<usize>>) -> Option<usize> {
    next.lock().unwrap_or_else(PoisonError::into_inner).next()
}

fn run(
    job: &Job<'_>,
    device: Kind,
    notify: &(dyn Fn(&Job<'_>, &Row) + Sync),
) -> Result<Vec<Row>, ProgramError> {
    let Job { task, .. } = *job;
    let config = match &job.setting.method {
        Method::Natural(config) => *config,
        Method::Default(config) => {
            Config { annealing: Annealing::Epochs(task.training.examples as u32), ..*config }
        }
        _ => Config::default(),
    };
    let mut network = stepper::network(task, config, job.seed)?;
    let mut stepper = Stepper::new(job, &network, device)?;
    let (training, held_out) = (Batch::whole(&task.training), task.held_out.as_ref().map(Batch::whole));
    let (mut batch, mut seconds, mut alive) = (Batch::default(), Duration::ZERO, true);
    let mut rows = Vec::with_capacity(task.epochs + 1);
    for epoch in 0..=task.epochs {
        if epoch > 0 && alive {
            let start = Instant::now();
            for indices in shuffled(task.training.examples, job.seed, epoch).chunks_exact(task.batch) {
                batch.gather(&task.training, indices);
                alive = alive && stepper.step(&mut network, &batch)?;
            }
            seconds += start.elapsed();
        }
        let loss = if alive { stepper.evaluate(&mut network, &training)?.loss } else { f32::NAN };
        let held_out = held_out.as_ref().map(|batch| stepper.evaluate(&mut network, batch)).transpose()?;
        let progress = stepper.progress(&network);
        let row = Row {
            optimizer: job.optimizer.clone(),
            seed: job.seed,
            epoch,
            loss,
            seconds: seconds.as_secs_f64(),
            rotations: progress.rotations as f64 / progress.steps.max(1) as f64,
            operations: progress.operations + stepper.operations(),
            held_out_loss: held_out.map(|held_out| if alive { held_out.loss } else { f32::NAN }),
            accuracy: held_out.and_then(accuracy),
        };
        notify(job, &row);
        rows.push(row);
    }
    Ok(rows)
}

fn accuracy(evaluation: Evaluation<f32>) -> Option<f32> {
    evaluation.correct.map(|correct| correct as f32 / evaluation.examples as f32)
}

/// The order of the examples in one epoch, from the seed and the epoch alone (Fisher and Yates).
fn shuffled(examples: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut random =
        Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(epoch as u64));
    let mut order: Vec<usize> = (0..examples).collect();
    for last in (1..examples).rev() {
        // The high bits of a product: no bias that a shuffle of thousands could show.
        let index = ((u128::from(random.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        order.swap(last, index);
    }
    order
}
