//! The most operations that one step can take: the hard bound on its time, in the unit of
//! [`Progress::operations`](crate::Progress::operations) (multiplications, additions, divisions; activations and comparisons apart).
//!
//! With i inputs (n = i + bias), m outputs, N examples, M of them measured, P passes for the Fisher's gradients, and L = 0 for
//! the lowest layer, else 1, a layer takes
//!
//! ```text
//! parameter     2 m i (N + L (N + M P)) + 2 (i n + m^2) N + 2 m^2 M P + 2 m n (m + n)
//! eigenbasis    2 (i n + m n + m^2) N + 2 (m^2 + L n (m + i)) (N + M P) + 2 m n
//! both          (M + 1) [n (n+1) + P m (m+1)] + P (2 M + 3) m n + 2 m n N + 19 m n + the refresh's bound
//! ```
//!
//! and where B is [diagonal](Loss::has_diagonal_fisher), none of the terms with m^2 in the first two lines, and 2 m n^2 in the place of
//! 2 m n (m + n).
//!
//! *Invariant*: no step exceeds it, and one that spends its whole budget of rotations and checks reaches it.

use super::{Learner, Loss};
use crate::{
    Config, Coordinates, Error, Estimator, Fisher, Scalar,
    config::expect,
    refresh::{self, Effort, Flight},
    step,
};

impl<T: Scalar> Learner<'_, T> {
    /// The most operations that a step on a batch of this size can take with the present settings, a Levenberg-Marquardt
    /// measurement included; divide a measured step's time by its operations, and this is a bound on the time of all.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a batch of none or beyond the capacity.
    pub fn most_operations(&mut self, batch: usize) -> Result<u64, Error> {
        let config = *self.config();
        expect((1..=self.memory.capacity()).contains(&batch), "batch")?;
        let measured = config.measured_at_most(batch);
        let passes = Loss::passes(config.fisher, self.net().outputs());
        let mut sum = 0_u64;
        for index in 0..self.net().layers().len() {
            let layer = self.layer(index)?;
            let (shape, coordinates) = (*layer.shape(), layer.coordinates());
            let load = Load {
                m: shape.rows() as u64,
                n: shape.columns() as u64,
                i: shape.inputs() as u64,
                bias: shape.bias(),
                coordinates,
                diagonal: config.fisher != Fisher::Empirical && layer.output_is_diagonal(),
                lowest: index == 0,
                examples: batch as u64,
                measured: measured as u64,
                passes: passes as u64,
            };
            let fisher = if config.fisher == Fisher::Empirical { 0 } else { measured };
            let flight = Flight { examples: batch, fisher };
            let effort = Effort::due(&config, 0, measured);
            let refresh =
                effort.map_or(0, |effort| refresh::most(&shape, coordinates, flight, effort, load.diagonal));
            // A solve without a cap on its sweeps has no bound that a number holds.
            sum = sum.saturating_add(load.operations(&config, effort)).saturating_add(refresh);
        }
        Ok(sum)
    }
}

/// How often the statistics go over the Fisher's gradients: where these are enumerated, once more for S in a new basis.
fn walks<T: Scalar>(config: &Config<T>, effort: Option<Effort<T>>) -> u64 {
    let again = config.fisher == Fisher::Exact && config.estimator.is_per_example() && effort.is_some();
    if again { 2 } else { 1 }
}

/// Examples of the backward passes for the Fisher's gradients of so many measured examples.
pub(crate) fn fisher_runs<T: Scalar>(
    config: &Config<T>,
    effort: Option<Effort<T>>,
    measured: u64,
    passes: u64,
) -> u64 {
    match config.fisher {
        Fisher::Empirical => 0,
        Fisher::Sampled => measured,
        // For the gate, and for each walk.
        Fisher::Exact => measured * passes * (1 + walks(config, effort)),
    }
}

/// What one layer's share of a step depends on.
struct Load {
    m: u64,
    n: u64,
    i: u64,
    bias: bool,
    coordinates: Coordinates,
    /// Whether B is diagonal, and no product with U_B is formed.
    diagonal: bool,
    lowest: bool,
    examples: u64,
    measured: u64,
    passes: u64,
}

impl Load {
    fn operations<T: Scalar>(&self, config: &Config<T>, effort: Option<Effort<T>>) -> u64 {
        let Self { m, n, i, examples, measured, passes, .. } = *self;
        let walks = walks(config, effort);
        let projected = if config.fisher == Fisher::Empirical { 0 } else { measured * passes };
        let backward = fisher_runs(config, effort, measured, passes);
        let below = if self.lowest { 0 } else { 1 };
        // Rows that a product with U_B has.
        let turned = if self.diagonal { 0 } else { m };
        let own = match self.coordinates {
            Coordinates::Parameter => {
                2 * m * i * (examples + below * (examples + backward))
                    + 2 * (i * n + m * turned) * examples
                    + 2 * m * turned * projected * walks
                    + 2 * m * n * (turned + n)
            }
            Coordinates::Eigenbasis => {
                2 * (i * n + m * n + m * turned) * examples
                    + 2 * (m * turned + below * n * (m + i)) * (examples + backward)
                    + 2 * m * n
            }
        };
        let factors = (measured + 1) * (n * (n + 1) + passes * m * (m + 1));
        let scalings = match config.estimator {
            Estimator::PerExampleFresh | Estimator::PerExampleRunning => passes * (2 * measured + 3) * m * n,
            Estimator::MeanGradientRunning => 5 * m * n,
            Estimator::Kronecker => 0,
        };
        let gradient = if examples > 1 { 2 * m * n * examples } else { 0 };
        let decay = match self.coordinates {
            _ if config.weight_decay == T::ZERO => 0,
            Coordinates::Eigenbasis if self.bias => 6 * m * n,
            _ => m * n,
        };
        let again = config.adaptation.map_or(0, |_| {
            step::SURVEY as u64 * m * n
                + match self.coordinates {
                    Coordinates::Parameter => 2 * m * i * examples,
                    Coordinates::Eigenbasis => 2 * (i * n + m * n + m * turned) * examples,
                }
        });
        own + factors + scalings + gradient + 19 * m * n + decay + again
    }
}
