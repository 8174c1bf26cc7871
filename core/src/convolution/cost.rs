//! The most operations that one step of a [`ConvolutionLearner`] can take: the hard bound on its time, in the unit of
//! [`Progress::operations`](crate::Progress::operations).
//!
//! With T locations, N examples, M of them measured, P passes for the Fisher's gradients, s = N T, L = 0 for the lowest layer, else 1,
//! and i inputs (n = i + bias), a group takes
//!
//! ```text
//! passes     2 m n s + 2 m i L (s + T M P)
//! factors    M T samples of n, P times M T of m, by the cheaper way there is room for ([`convolution`](super))
//! gradients  P M (gradient of T samples + 3 m n) + gradient of s samples + 19 m n + 2 m n (m + n) + the refresh's bound
//! gradient   2 m n k + 2 min(k (m^2 + n^2), m n (m + n)) for k samples
//! ```
//!
//! *Invariant*: no step exceeds it. An addition takes a word for each of its values and passes. *Cost*: a few dozen operations a layer.
//! *Failure*: a batch that the learner could not take.

use super::{ConvolutionLayer, ConvolutionLearner, Sharing, moments::Way, samples::are_projected};
use crate::{
    Config, Coordinates, Error, Estimator, Loss, Scalar,
    config::expect,
    net::cost::fisher_runs,
    refresh::{self, Effort, Flight},
    step,
};

impl<T: Scalar> ConvolutionLearner<'_, T> {
    /// The most operations that a step on a batch of this size can take with the present settings, a Levenberg-Marquardt
    /// measurement included; divide a measured step's time by its operations, and this is a bound on the time of all.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a batch of none or beyond the capacity.
    pub fn most_operations(&mut self, batch: usize) -> Result<u64, Error> {
        let (capacity, words) = self.room();
        expect((1..=capacity).contains(&batch), "batch")?;
        let (config, sharing) = (*self.config(), self.sharing());
        let measured = config.measured_at_most(batch);
        let passes = Loss::passes(config.fisher, self.net().outputs());
        let load = Load {
            examples: batch as u64,
            measured: measured as u64,
            passes: passes as u64,
            effort: Effort::due(&config, 0, measured),
            sharing,
            words,
            config,
        };
        let layers = self.net().layers().iter().enumerate();
        Ok(layers.fold(0_u64, |sum, (index, layer)| sum.saturating_add(load.of_layer(layer, index == 0))))
    }
}

/// What all layers' shares of a step depend on.
struct Load<T> {
    examples: u64,
    measured: u64,
    passes: u64,
    effort: Option<Effort<T>>,
    sharing: Sharing,
    /// Of scratch.
    words: usize,
    config: Config<T>,
}

impl<T: Scalar> Load<T> {
    /// Examples of all backward passes, and of all forward passes.
    fn runs(&self) -> (u64, u64) {
        let Self { examples, effort, measured, passes, config, .. } = self;
        let forward = if config.adaptation.is_some() { 2 * examples } else { *examples };
        (examples + fisher_runs(config, *effort, *measured, *passes), forward)
    }

    fn of_layer(&self, layer: &ConvolutionLayer, lowest: bool) -> u64 {
        let (backward, forward) = self.runs();
        if layer.addition().is_some() {
            return layer.convolution().output_words() as u64 * (backward + forward);
        }
        let groups = layer.groups() as u64;
        if groups == 0 { 0 } else { groups.saturating_mul(self.of_group(layer, lowest)) }
    }

    fn of_group(&self, layer: &ConvolutionLayer, lowest: bool) -> u64 {
        let (shape, locations) = (layer.convolution().shape(), layer.convolution().locations() as u64);
        let (m, n, i) = (shape.rows() as u64, shape.columns() as u64, shape.inputs() as u64);
        let (backward, forward) = self.runs();
        let below = if lowest { 0 } else { 2 * m * i * locations * backward };
        let scalings = match self.config.estimator {
            estimator if estimator.is_per_example() => {
                self.passes * self.measured * (gradient(locations, m, n) + 3 * m * n)
            }
            Estimator::MeanGradientRunning => 5 * m * n,
            _ => 0,
        };
        let decay = if self.config.weight_decay == T::ZERO { 0 } else { m * n };
        let again = if self.config.adaptation.is_some() { step::SURVEY as u64 * m * n } else { 0 };
        let flight = Flight { examples: 0, fisher: 0 };
        let refresh =
            self.effort.map_or(0, |effort| refresh::most(&shape, Coordinates::Parameter, flight, effort));
        let own = 2 * m * n * locations * forward
            + below
            + self.factor(n, locations)
            + self.passes * self.factor(m, locations)
            + scalings
            + gradient(locations * self.examples, m, n)
            + 19 * m * n
            + 2 * m * n * (m + n)
            + decay
            + again;
        // A solve without a cap on its sweeps has no bound that a number holds.
        own.saturating_add(refresh)
    }

    /// One side's moment.
    fn factor(&self, size: u64, locations: u64) -> u64 {
        let (samples, summed) = match self.sharing {
            Sharing::Expand => (self.measured * locations, 0),
            Sharing::Reduce => (self.measured, self.measured * locations * size),
        };
        Way::of(samples as usize, size as usize, self.words).operations(samples, size) + summed
    }
}

/// A gradient of so many samples in the eigenbasis.
fn gradient(samples: u64, m: u64, n: u64) -> u64 {
    let turning = if are_projected(samples as usize, m as usize, n as usize) {
        samples * (m * m + n * n)
    } else {
        m * n * (m + n)
    };
    2 * m * n * samples + 2 * turning
}
