//! The training loop.
//!
//! *Invariant*: what an epoch does depends on the network, the position in it and the seed alone: the order of its examples
//! is derived from seed and epoch. So a run that is interrupted between any two batches goes on bit for bit.

use super::{
    folder::{Folder, Log},
    interrupt,
    measure::measure,
    prepare::{Prepared, rows, targets_of},
    state::{Record, Settings, State},
};
use crate::{AnyNetwork, program::ProgramError};
use ekfac::{Outcome, Reason};
use std::time::Instant;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All epochs are done.
    Done,
    /// No better loss for as long as the user's patience.
    Stale,
    /// Ctrl-C.
    Interrupted,
}

/// How long to train.
pub(super) struct Limits {
    pub(super) epochs: u64,
    pub(super) patience: Option<u64>,
    pub(super) save_every: u64,
}

/// A run under way.
pub(super) struct Run<'p> {
    pub(super) prepared: &'p Prepared,
    pub(super) folder: &'p Folder,
    pub(super) settings: &'p Settings,
    pub(super) network: AnyNetwork<f32>,
    pub(super) state: State,
    pub(super) log: Log,
    pub(super) batch: usize,
    pub(super) seed: u64,
    /// Why the last refused batch was.
    pub(super) refusal: Option<Reason>,
}

impl Run<'_> {
    /// Trains until one of the limits; `note` hears of every batch.
    pub(super) fn train(
        &mut self,
        limits: &Limits,
        note: &dyn Fn(&State, usize),
    ) -> Result<End, ProgramError> {
        let (start, before) = (Instant::now(), self.log.seconds());
        let mut saved = self.state.clone();
        let end = loop {
            if self.state.epoch >= limits.epochs {
                break End::Done;
            } else if limits.patience.is_some_and(|patience| self.state.stale_epochs() >= patience) {
                break End::Stale;
            } else if !self.batches(note)? {
                break End::Interrupted;
            }
            let record = self.record()?;
            let is_best = self.state.finish_epoch(record.clone());
            let seconds = before + start.elapsed().as_secs_f64();
            self.log.add(&record, seconds, self.network.progress().rotations)?;
            if is_best {
                self.folder.export(&mut self.network, self.prepared)?;
            }
            if self.state.epoch.is_multiple_of(limits.save_every) {
                self.folder.save(&self.network, &self.state, self.settings)?;
                saved = self.state.clone();
            }
        };
        if saved != self.state {
            self.folder.save(&self.network, &self.state, self.settings)?;
        }
        Ok(end)
    }

    /// The batches of an epoch that are still to be done; whether all of them were.
    fn batches(&mut self, note: &dyn Fn(&State, usize)) -> Result<bool, ProgramError> {
        let (data, _) = self.prepared.training.split(0.0, order_seed(self.seed, self.state.epoch))?;
        let count = data.examples.div_ceil(self.batch);
        for index in self.state.batch..count {
            if interrupt::is_requested() {
                interrupt::clear();
                return Ok(false);
            }
            let (start, end) = (index * self.batch, ((index + 1) * self.batch).min(data.examples));
            let inputs = rows(&data.inputs, data.input_width, start, end);
            let step = self
                .network
                .step(inputs, targets_of(&data, start, end))
                .map_err(|error| self.blame(&error))?;
            if let Outcome::Skipped(reason) = step.outcome {
                self.refusal = Some(reason);
            } else {
                self.state.loss_sum += f64::from(step.loss) * (end - start) as f64;
                self.state.examples += end - start;
            }
            self.state.batch = index + 1;
            note(&self.state, count);
        }
        Ok(true)
    }

    /// The results of the epoch whose batches are done.
    fn record(&mut self) -> Result<Record, ProgramError> {
        if self.state.examples == 0 {
            let reason = self.refusal.map(|reason| reason.to_string()).unwrap_or_default();
            return Err(self.blame(&format!("every batch was refused: {reason}")));
        }
        let (_, judged) = self.prepared.judged();
        let measure = measure(&mut self.network, self.prepared, judged)?;
        if !measure.loss.is_finite() {
            return Err(self.blame(&"the loss is NaN or infinite"));
        }
        let loss = self.state.loss_sum / self.state.examples as f64;
        Ok(Record { epoch: self.state.epoch + 1, loss, measure })
    }

    fn blame(&self, problem: &dyn std::fmt::Display) -> ProgramError {
        format!(
            "epoch {}: {problem}; check the data, or try a smaller --learning-rate or a larger --damping",
            self.state.epoch + 1
        )
        .into()
    }
}

/// The seed of an epoch's order: multiples of 2^64 over the golden ratio keep neighbours apart, and apart from the split's.
fn order_seed(seed: u64, epoch: u64) -> u64 {
    seed ^ (epoch + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
