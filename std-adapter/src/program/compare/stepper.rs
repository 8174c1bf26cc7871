//! What is trained in a run, and what its steps are made by: core, on the processor or on a device, or a baseline on core's
//! gradients.

use super::{
    batch::Batch,
    entrants::Method,
    presets::{Layers, Task},
    race::Job,
};
use crate::{
    AnyNetwork, ConvolutionNetwork, Network,
    baselines::{AdamW, Baseline, BaselineError, Descent, SgdMomentum, Soap},
    offload::{
        FallBack, Fault, Offloaded, Patience,
        devices::{self, Kind},
    },
    program::ProgramError,
};
use ekfac::{Config, Error, Evaluation, Progress, Step};

/// The network of a task.
pub(super) fn network(task: &Task, config: Config<f32>, seed: u64) -> Result<AnyNetwork<f32>, Error> {
    let Task { loss, batch, .. } = *task;
    Ok(match task.layers.clone() {
        Layers::Dense(layers) => Network::new(layers, loss, config, seed, batch)?.into(),
        Layers::Convolutions(layers) => ConvolutionNetwork::new(layers, loss, config, seed, batch)?.into(),
    })
}

/// A baseline for the weights of a network.
fn descent<B: Baseline + 'static>(
    network: &AnyNetwork<f32>,
    new: impl FnOnce(&[(usize, usize)]) -> Result<B, BaselineError>,
) -> Result<Descent, BaselineError> {
    match network {
        AnyNetwork::Dense(network) => Descent::new(&network.net(), new),
        AnyNetwork::Convolutions(network) => Descent::of_convolutions(&network.net(), new),
    }
}

/// A step of a baseline, as [`Descent::step`].
fn descend(
    network: &mut AnyNetwork<f32>,
    descent: &mut Descent,
    batch: &Batch,
) -> Result<Option<f32>, Error> {
    let (inputs, targets) = (&batch.inputs, batch.targets());
    match network {
        AnyNetwork::Dense(network) => network.with(|learner| descent.step(learner, inputs, targets)),
        AnyNetwork::Convolutions(network) => network.with(|learner| descent.step(learner, inputs, targets)),
    }
}

/// What the steps are made by.
pub(super) enum Stepper {
    Natural,
    Device(Box<Offloaded>),
    Baseline(Descent),
}

impl Stepper {
    pub(super) fn new(job: &Job<'_>, network: &AnyNetwork<f32>, device: Kind) -> Result<Self, ProgramError> {
        let descent = match &job.setting.method {
            Method::Default(_) | Method::Natural(_) => {
                // Convolutions on a device are refused before any run.
                let AnyNetwork::Dense(network) = network else { return Ok(Stepper::Natural) };
                let offloaded = devices::offload(device, network, job.task.batch, Patience::default());
                let offloaded = offloaded.map_err(|absent| format!("--device {device}: {absent}"))?;
                return Ok(offloaded.map_or(Stepper::Natural, |device| Stepper::Device(Box::new(device))));
            }
            Method::Soap(settings) => descent(network, |shapes| Soap::new(shapes, *settings)),
            Method::AdamW(settings) => descent(network, |shapes| AdamW::new(shapes, *settings)),
            Method::Sgd(settings) => descent(network, |shapes| SgdMomentum::new(shapes, *settings)),
        };
        Ok(Stepper::Baseline(descent?))
    }

    /// One step; false once the run has diverged.
    pub(super) fn step(
        &mut self,
        network: &mut AnyNetwork<f32>,
        batch: &Batch,
    ) -> Result<bool, ProgramError> {
        match self {
            Stepper::Natural => survived(network.step(&batch.inputs, batch.targets())),
            Stepper::Device(device) => {
                let step = device.step(&batch.inputs, batch.targets());
                Ok(still_there(device)? && survived(step)?)
            }
            Stepper::Baseline(descent) => Ok(descend(network, descent, batch)?.is_some()),
        }
    }

    /// Loss and accuracy; the loss is NaN once the run has diverged.
    pub(super) fn evaluate(
        &mut self,
        network: &mut AnyNetwork<f32>,
        batch: &Batch,
    ) -> Result<Evaluation<f32>, ProgramError> {
        let Stepper::Device(device) = self else {
            return Ok(network.evaluate(&batch.inputs, batch.targets())?);
        };
        let evaluation = device.evaluate(&batch.inputs, batch.targets())?;
        let loss = if still_there(device)? { evaluation.loss } else { f32::NAN };
        Ok(Evaluation { loss, ..evaluation })
    }

    pub(super) fn progress<'s>(&'s self, network: &'s AnyNetwork<f32>) -> &'s Progress<f32> {
        match self {
            Stepper::Device(device) => device.progress(),
            Stepper::Natural | Stepper::Baseline(_) => network.progress(),
        }
    }

    pub(super) fn operations(&self) -> u64 {
        match self {
            Stepper::Natural | Stepper::Device(_) => 0,
            Stepper::Baseline(descent) => descent.operations(),
        }
    }
}

/// Whether a step of core's left a run alive.
fn survived(step: Result<Step<f32>, Error>) -> Result<bool, ProgramError> {
    match step {
        Ok(step) => Ok(step.loss.is_finite()),
        // Too large a step can leave curvature behind that no solve settles.
        Err(Error::RefreshFailed { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a run is on its device still; false where its numbers diverged. A comparison that went on elsewhere would compare
/// something else, so any other fault is an error.
fn still_there(device: &Offloaded) -> Result<bool, ProgramError> {
    match device.fall_back() {
        None => Ok(true),
        Some(FallBack { fault: Fault::NotFinite, .. }) => Ok(false),
        Some(FallBack { step, fault, .. }) => {
            Err(format!("after {step} steps, {fault}; run again, or with `--device cpu`").into())
        }
    }
}
