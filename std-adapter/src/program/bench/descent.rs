//! Gradient descent with momentum, as lean as it gets: without the checks of [`SgdMomentum`](crate::baselines::SgdMomentum), which
//! would flatter EKFAC.

use crate::Network;
use ekfac::{Coordinates, Error, Targets};

/// So low that the weights, and so the work, stay what they are.
const RATE: f32 = 1e-6;
const MOMENTUM: f32 = 0.9;

/// A network and the velocity of its weights.
pub(super) struct Descent {
    network: Network<f32>,
    gradient: Vec<f32>,
    velocity: Vec<f32>,
}

impl Descent {
    /// Moves the weights into parameter coordinates, where a gradient takes them.
    pub(super) fn new(mut network: Network<f32>) -> Result<Self, Error> {
        let layers = network.net().layers().len();
        network.with(|learner| {
            (0..layers).try_for_each(|layer| learner.set_coordinates(layer, Coordinates::Parameter))
        })?;
        let words = network.net().parameters();
        Ok(Self { network, gradient: vec![0.0; words], velocity: vec![0.0; words] })
    }

    /// One step; the loss before it.
    pub(super) fn step(&mut self, inputs: &[f32], targets: Targets<'_, f32>) -> Result<f32, Error> {
        let Self { network, gradient, velocity } = self;
        network.with(|learner| {
            let loss = learner.mean_gradient(inputs, targets, gradient)?;
            let (mut slopes, mut velocities) = (&**gradient, &mut **velocity);
            for mut weights in learner.iter_stored_weights() {
                let weights = weights.as_mut_slice();
                let (slope, rest) = slopes.split_at(weights.len());
                let (own, others) = std::mem::take(&mut velocities).split_at_mut(weights.len());
                descend(weights, own, slope);
                (slopes, velocities) = (rest, others);
            }
            Ok(loss)
        })
    }
}

fn descend(weights: &mut [f32], velocity: &mut [f32], slope: &[f32]) {
    for ((weight, velocity), slope) in weights.iter_mut().zip(velocity).zip(slope) {
        *velocity = MOMENTUM * *velocity + *slope;
        *weight -= RATE * *velocity;
    }
}
