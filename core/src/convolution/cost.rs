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
//! That is a full block. Another one ([`block`](super::block)) has for n^2, where it is U_A, the k c^2 of its kernel points, for a
//! factor's samples its pixels of c, or what its own module says; and 3 m n for the reach.
//!
//! *Invariant*: no step exceeds it. An addition takes a word for each of its values and passes. *Cost*: a few dozen operations a layer.
//! *Failure*: a batch that the learner could not take.

use super::{
    Block, Convolution, ConvolutionLayer, ConvolutionLearner, Sharing,
    embedding::comparisons,
    moments::Way,
    room::reach_operations,
    samples::{are_projected, inputs_in_basis},
};
use crate::{
    Config, Coordinates, Error, Estimator, Loss, Scalar, Shape,
    config::expect,
    net::cost::fisher_runs,
    refresh::{self, Effort, Flight, most_of_side, one_rotation},
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
        let convolution = layer.convolution();
        let (shape, locations) = (convolution.shape(), convolution.locations() as u64);
        let (m, n) = (shape.rows() as u64, shape.columns() as u64);
        let output = self.passes * self.factor(m, locations);
        let own = match convolution.block() {
            Block::Full => self.factor(n, locations),
            Block::Uncorrelated => self.channels(convolution),
            Block::DiagonalInput | Block::Diagonal => 0,
        };
        let own = own
            + match convolution.block() {
                Block::Full | Block::Uncorrelated => output + self.patches(convolution, lowest),
                Block::DiagonalInput => output + self.tokens(convolution),
                Block::Diagonal => self.scales(convolution, lowest),
            };
        let decay = if self.config.weight_decay == T::ZERO { 0 } else { m * n };
        let again = if self.config.adaptation.is_some() { step::SURVEY as u64 * m * n } else { 0 };
        let mean = if self.config.estimator == Estimator::MeanGradientRunning { 5 * m * n } else { 0 };
        let reach = reach_operations(convolution, self.examples as usize) as u64;
        // A solve without a cap on its sweeps has no bound that a number holds.
        (own + 19 * m * n + mean + decay + again + reach).saturating_add(self.refresh(&shape))
    }

    /// The passes, the gradients, S and the way back of a layer that reads patches.
    fn patches(&self, convolution: &Convolution, lowest: bool) -> u64 {
        let (shape, locations) = (convolution.shape(), convolution.locations() as u64);
        let (m, n, i) = (shape.rows() as u64, shape.columns() as u64, shape.inputs() as u64);
        let (backward, forward) = self.runs();
        let below = if lowest { 0 } else { 2 * m * i * locations * backward };
        let back = 2 * m * (m * n + inputs_in_basis(&shape) as u64);
        2 * m * n * locations * forward
            + below
            + self.for_scalings(gradient(locations, &shape) + 3 * m * n)
            + gradient(locations * self.examples, &shape)
            + back
    }

    /// Those of an embedding, and its A.
    fn tokens(&self, convolution: &Convolution) -> u64 {
        let (shape, locations) = (convolution.shape(), convolution.locations() as u64);
        let (m, n) = (shape.rows() as u64, shape.columns() as u64);
        let (samples, pairs) = (locations * self.examples, comparisons(locations));
        let fading = if self.for_scalings(1) > 0 { self.passes * m * n } else { 0 };
        self.measured * pairs
            + self.for_scalings(pairs + locations * (2 * m * m + 4 * m))
            + fading
            + 2 * m * samples
            + 2 * m * m * samples.min(n)
            + 2 * m * m * n
    }

    /// Those of an affine layer, and its diag F.
    fn scales(&self, convolution: &Convolution, lowest: bool) -> u64 {
        let (values, p) = (convolution.input_words() as u64, convolution.parameters() as u64);
        let (backward, forward) = self.runs();
        let each = 3 * (values + p);
        let below = if lowest { 0 } else { values * backward };
        2 * values * forward
            + below
            + self.passes * self.measured * each
            + self.for_scalings(each)
            + 3 * values * self.examples
            + 2 * p
    }

    /// So much for each example that enters S by itself.
    fn for_scalings(&self, each: u64) -> u64 {
        if self.config.estimator.is_per_example() { self.passes * self.measured * each } else { 0 }
    }

    fn refresh(&self, shape: &Shape) -> u64 {
        let Some(effort) = self.effort else { return 0 };
        if shape.is_full() {
            return refresh::most(
                shape,
                Coordinates::Parameter,
                Flight { examples: 0, fisher: 0 },
                effort,
                false,
            );
        }
        let (m, n, lines) = (shape.rows(), shape.columns(), shape.lines());
        let input = one_rotation(lines, m * shape.points(), 1, 0);
        most_of_side(lines, input, effort).saturating_add(most_of_side(m, one_rotation(m, n, 1, 0), effort))
    }

    /// One side's moment.
    fn factor(&self, size: u64, locations: u64) -> u64 {
        let (samples, summed) = match self.sharing {
            Sharing::Expand => (self.measured * locations, 0),
            Sharing::Reduce => (self.measured, self.measured * locations * size),
        };
        Way::of(samples as usize, size as usize, self.words).operations(samples, size) + summed
    }

    /// The moment of the channels that kernel points share.
    fn channels(&self, convolution: &Convolution) -> u64 {
        let (shape, locations) = (convolution.shape(), convolution.locations() as u64);
        let (lines, points) = (shape.lines() as u64, shape.points() as u64);
        let (samples, read) = match self.sharing {
            Sharing::Expand => {
                let samples = self.measured * convolution.pixels() as u64;
                (samples, samples)
            }
            Sharing::Reduce => (self.measured * points, self.measured * points * locations),
        };
        Way::of(samples as usize, lines as usize, self.words).operations(samples, lines) + read * lines
    }
}

/// A gradient of so many samples in the eigenbasis.
fn gradient(samples: u64, shape: &Shape) -> u64 {
    let (m, n, inputs) = (shape.rows() as u64, shape.columns() as u64, inputs_in_basis(shape) as u64);
    let projected = are_projected(samples as usize, shape);
    let turning = if projected { samples * (m * m + inputs) } else { m * (m * n + inputs) };
    2 * m * n * samples + 2 * turning
}
