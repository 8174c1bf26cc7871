//! SOAP: Adam in the eigenbasis of Shampoo's factors.
//!
//! ```text
//! G' = Q_Lᵀ G Q_R                          M', V ← Adam's moments of G'
//! W ← W − η ( Q_L [ M̂' / (√V̂ + ε) ] Q_Rᵀ + λ W )
//! L ← β L + (1 − β) G Gᵀ                   R ← β R + (1 − β) Gᵀ G
//! every f steps: Q_L, Q_R ← one power step and QR;  M' ← M' in the new bases, V permuted
//! ```
//!
//! Vyas et al. 2024 (arXiv 2409.11321), algorithms 3 and 4. Three points follow the authors'
//! published code where the paper is silent: the first step only starts `L`, `R` and their
//! eigenvectors and changes no weight; the averages start from zero, so the first gradient weighs
//! `1 − β` as every other; the factors take in a gradient after the step that used it. The
//! denominator is Adam's `√V̂ + ε` of the bias-corrected second moment.
//!
//! *Invariant.* `Q_L` and `Q_R` are orthogonal to rounding. With both bases the identity (sides
//! beyond `max_dimension`) the updates are those of [`AdamW`](super::AdamW), one step later.
//!
//! *Cost.* For `m × n`: `6 m n (m + n) + 2 (m² + n²) + 14 m n` operations a step; every `f` steps
//! `4 m n (m + n) + 14/3 (m³ + n³) + 2 (m² + n²)` more; once, `9 (m³ + n³)`. State:
//! `2 m n + 2 m² + 2 n²` words.
//!
//! *How it fails.* Between refreshes the bases lag behind the factors, which a large `f` or a
//! loss whose curvature turns quickly makes worse. A side not preconditioned keeps its axes.

mod layer;

use super::adamw::MomentRule;
use super::dense;
use super::eigenbasis::Eigenbasis;
use super::{Baseline, BaselineError, checks};
use layer::{Buffers, Layer};

/// Settings of [`Soap`]; the defaults are those of the authors' code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoapSettings {
    /// Step length `η`.
    pub learning_rate: f32,
    /// Decay `β₁` of the first moment.
    pub beta1: f32,
    /// Decay `β₂` of the second moment.
    pub beta2: f32,
    /// Floor `ε` of the denominator.
    pub epsilon: f32,
    /// Decoupled weight decay `λ`.
    pub weight_decay: f32,
    /// Decay `β` of the factors `L` and `R`.
    pub shampoo_beta: f32,
    /// Steps `f` from one change of basis to the next.
    pub precondition_frequency: u64,
    /// A side longer than this keeps the identity as its basis.
    pub max_dimension: usize,
}

impl Default for SoapSettings {
    fn default() -> Self {
        Self {
            learning_rate: 3e-3,
            beta1: 0.95,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            shampoo_beta: 0.95,
            precondition_frequency: 10,
            max_dimension: 10_000,
        }
    }
}

impl SoapSettings {
    fn check(&self) -> Result<(), BaselineError> {
        checks::non_negative("learning_rate", self.learning_rate)?;
        checks::decay("beta1", self.beta1)?;
        checks::decay("beta2", self.beta2)?;
        checks::positive("epsilon", self.epsilon)?;
        checks::non_negative("weight_decay", self.weight_decay)?;
        checks::decay("shampoo_beta", self.shampoo_beta)?;
        let frequency = self.precondition_frequency;
        checks::setting(frequency > 0, "precondition_frequency", frequency as f64, "at least 1")
    }
}

/// Adam in the eigenbasis of Shampoo's factors; see the [module](self).
pub struct Soap {
    settings: SoapSettings,
    entries: Vec<usize>,
    layers: Vec<Layer>,
    buffers: Buffers,
    started: bool,
    steps: u64,
    operations: u64,
}

impl Soap {
    /// An optimiser for matrices of the given `(rows, columns)`, whose first step starts the bases.
    ///
    /// # Errors
    ///
    /// [`BaselineError::Setting`] or [`BaselineError::Shape`].
    pub fn new(shapes: &[(usize, usize)], settings: SoapSettings) -> Result<Self, BaselineError> {
        settings.check()?;
        let entries = checks::entry_counts(shapes)?;
        let layers: Vec<Layer> =
            shapes.iter().map(|&shape| Layer::new(shape, settings.max_dimension)).collect();
        let orders = layers.iter().flat_map(|layer| layer.sides().map(|(side, _)| side.order));
        let largest = orders.max().unwrap_or(1);
        let widest = entries.iter().copied().max().unwrap_or(0);
        let buffers = Buffers::new(largest, widest);
        Ok(Self { settings, entries, layers, buffers, started: false, steps: 0, operations: 0 })
    }

    /// The largest entry of `|QᵀQ − I|` over all bases, a measure of lost orthogonality.
    pub fn orthogonality_defect(&self) -> f32 {
        let bases = self.layers.iter().flat_map(|layer| layer.sides().map(|(side, _)| side));
        bases.map(defect).fold(0.0, worse)
    }

    /// The first step: factors and bases, no weight.
    fn start(&mut self, gradients: &[&[f32]]) -> Result<(), BaselineError> {
        let decay = self.settings.shampoo_beta;
        for (index, (layer, gradient)) in self.layers.iter_mut().zip(gradients).enumerate() {
            let started = layer.start(gradient, decay, &mut self.buffers);
            started.map_err(|side| BaselineError::Eigendecomposition { layer: index, side })?;
        }
        let spent: u64 = self.layers.iter().map(Layer::start_operations).sum();
        self.operations = self.operations.saturating_add(spent);
        self.started = true;
        Ok(())
    }
}

/// The largest entry of `|QᵀQ − I|`.
fn defect(side: &Eigenbasis) -> f32 {
    let mut gram = vec![0.0; side.order * side.order];
    let target = dense::view_mut(&mut gram, side.order, side.order);
    dense::multiply(target, side.view().transpose(), side.view());
    gram.iter_mut().step_by(side.order + 1).for_each(|value| *value -= 1.0);
    gram.iter().map(|value| value.abs()).fold(0.0, worse)
}

/// The larger of two values, NaN counting as the largest.
fn worse(worst: f32, value: f32) -> f32 {
    if worst.is_nan() || value <= worst { worst } else { value }
}

impl Baseline for Soap {
    fn name(&self) -> &'static str {
        "SOAP"
    }

    fn step(&mut self, weights: &mut [&mut [f32]], gradients: &[&[f32]]) -> Result<(), BaselineError> {
        checks::step_arguments(&self.entries, weights, gradients)?;
        if !self.started {
            return self.start(gradients);
        }
        self.steps += 1;
        let settings = self.settings;
        let rule = MomentRule::new(settings.beta1, settings.beta2, settings.epsilon, self.steps);
        let refreshes = self.steps.is_multiple_of(settings.precondition_frequency);
        let rates = (settings.learning_rate, settings.weight_decay);
        for ((layer, weight), gradient) in self.layers.iter_mut().zip(weights).zip(gradients) {
            layer.descend(weight, gradient, rule, rates, &mut self.buffers);
            layer.average(gradient, settings.shampoo_beta);
            let mut spent = layer.step_operations(settings.weight_decay != 0.0);
            if refreshes {
                layer.refresh(&mut self.buffers);
                spent += layer.refresh_operations();
            }
            self.operations = self.operations.saturating_add(spent);
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
        let bases: usize =
            self.layers.iter().flat_map(Layer::sides).map(|(side, _)| 2 * side.order * side.order).sum();
        bases + 2 * self.entries.iter().sum::<usize>()
    }
}
