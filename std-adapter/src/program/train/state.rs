//! Where a training stands: what goes into the checkpoint besides the network, so that `--resume` goes on bit for bit.

use super::measure::Measure;
use crate::{checkpoint::Extra, program::ProgramError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

const STATE: &str = "train.state";
const SETTINGS: &str = "train.settings";

/// What decides the bits of a run, by the name that the user knows it by.
pub(super) type Settings = BTreeMap<String, String>;

/// The results of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// From 1.
    pub(super) epoch: u64,
    /// Mean training loss over the epoch, each batch before its step.
    pub(super) loss: f64,
    /// After the epoch.
    pub(super) measure: Measure,
}

/// The position in the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Epochs done.
    pub(super) epoch: u64,
    /// Batches done in the epoch after them.
    pub(super) batch: usize,
    /// Summed loss of the examples in these batches.
    pub(super) loss_sum: f64,
    /// Their number, without refused batches.
    pub(super) examples: usize,
    pub(super) best: Option<Record>,
    pub(super) last: Option<Record>,
}

impl State {
    /// Takes the results of an epoch in; whether they are the best so far.
    pub(super) fn finish_epoch(&mut self, record: Record) -> bool {
        *self = Self { epoch: record.epoch, best: self.best.take(), ..Self::default() };
        let is_best = self.best.as_ref().is_none_or(|best| record.measure.loss < best.measure.loss);
        if is_best {
            self.best = Some(record.clone());
        }
        self.last = Some(record);
        is_best
    }

    /// Epochs since the best one.
    pub(super) fn stale_epochs(&self) -> u64 {
        self.best.as_ref().map_or(0, |best| self.epoch.saturating_sub(best.epoch))
    }

    /// The texts that go into the checkpoint.
    pub(super) fn to_extra(&self, settings: &Settings) -> Result<Extra, ProgramError> {
        let texts = [(STATE, serde_json::to_string(self)?), (SETTINGS, serde_json::to_string(settings)?)];
        Ok(texts.into_iter().map(|(key, text)| (key.to_string(), text)).collect())
    }

    /// From the texts of a checkpoint that was trained with the same settings.
    pub(super) fn from_extra(extra: &Extra, settings: &Settings) -> Result<Self, ProgramError> {
        let before: Settings = parse(extra, SETTINGS)?;
        for (name, value) in settings {
            let old = before.get(name).map_or("unknown", String::as_str);
            if old != value {
                return Err(format!(
                    "{name} is {value} now and was {old}: resume with the same arguments, or give another --out"
                )
                .into());
            }
        }
        parse(extra, STATE)
    }
}

fn parse<V: DeserializeOwned>(extra: &Extra, key: &str) -> Result<V, ProgramError> {
    let text = extra.get(key).ok_or("it was not written by `ekfac train`, which alone can resume it")?;
    serde_json::from_str(text).map_err(|error| format!("`{key}`: {error}").into())
}
