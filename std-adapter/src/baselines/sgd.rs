//! Stochastic gradient descent with heavy-ball momentum.
//!
//! ```text
//! G ← G + λ W        v ← μ v + G        W ← W − η v
//! ```
//!
//! Polyak 1964, eq. 9, in the form of Sutskever et al. 2013, eqs. 1–2, with the learning rate
//! outside the velocity; the weight decay `λ` is the gradient of `λ/2 ‖W‖²`, so the momentum sees
//! it too.
//!
//! *Invariant.* After `t` steps `v` is the sum of the gradients weighted by `μ^(t−s)`; it is not
//! an average, so the steady step is `η / (1 − μ)` times the gradient.
//!
//! *Cost.* 4 operations per entry, 6 with decay; one word of state per entry.
//!
//! *How it fails.* It diverges when `η` exceeds `2 (1 + μ)` over the largest curvature.

use super::{Baseline, BaselineError, checks};

/// Settings of [`SgdMomentum`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdMomentumSettings {
    /// Step length `η`.
    pub learning_rate: f32,
    /// Share `μ` of the velocity that is kept.
    pub momentum: f32,
    /// Coefficient `λ` of the quadratic penalty.
    pub weight_decay: f32,
}

impl Default for SgdMomentumSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-2, momentum: 0.9, weight_decay: 0.0 }
    }
}

/// Gradient descent with heavy-ball momentum; see the [module](self).
#[derive(Clone, Debug)]
pub struct SgdMomentum {
    settings: SgdMomentumSettings,
    entries: Vec<usize>,
    velocities: Vec<Vec<f32>>,
    operations: u64,
}

impl SgdMomentum {
    /// An optimiser at rest for matrices of the given `(rows, columns)`.
    ///
    /// # Errors
    ///
    /// [`BaselineError::Setting`] or [`BaselineError::Shape`].
    pub fn new(shapes: &[(usize, usize)], settings: SgdMomentumSettings) -> Result<Self, BaselineError> {
        checks::non_negative("learning_rate", settings.learning_rate)?;
        checks::decay("momentum", settings.momentum)?;
        checks::non_negative("weight_decay", settings.weight_decay)?;
        let entries = checks::entry_counts(shapes)?;
        let velocities = entries.iter().map(|&count| vec![0.0; count]).collect();
        Ok(Self { settings, entries, velocities, operations: 0 })
    }
}

impl Baseline for SgdMomentum {
    fn name(&self) -> &'static str {
        "SGD with momentum"
    }

    fn step(&mut self, weights: &mut [&mut [f32]], gradients: &[&[f32]]) -> Result<(), BaselineError> {
        checks::step_arguments(&self.entries, weights, gradients)?;
        let SgdMomentumSettings { learning_rate, momentum, weight_decay } = self.settings;
        let per_entry = if weight_decay == 0.0 { 4 } else { 6 };
        for ((weight, gradient), velocity) in weights.iter_mut().zip(gradients).zip(&mut self.velocities) {
            for ((w, &g), v) in weight.iter_mut().zip(*gradient).zip(velocity.iter_mut()) {
                *v = momentum * *v + (g + weight_decay * *w);
                *w -= learning_rate * *v;
            }
            self.operations = self.operations.saturating_add(per_entry * gradient.len() as u64);
        }
        Ok(())
    }

    fn learning_rate(&self) -> f32 {
        self.settings.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f32) -> Result<(), BaselineError> {
        checks::non_negative("learning_rate", learning_rate)?;
        self.settings.learning_rate = learning_rate;
        Ok(())
    }

    fn operations(&self) -> u64 {
        self.operations
    }

    fn state_words(&self) -> usize {
        self.entries.iter().sum()
    }
}
