//! Adam with decoupled weight decay.
//!
//! ```text
//! M ← β₁ M + (1 − β₁) G              V ← β₂ V + (1 − β₂) G∘G
//! M̂ = M / (1 − β₁ᵗ)                  V̂ = V / (1 − β₂ᵗ)
//! W ← W − η ( M̂ / (√V̂ + ε) + λ W )
//! ```
//!
//! Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1; Loshchilov & Hutter 2019 (arXiv 1711.05101),
//! algorithm 2, line 12, whose schedule multiplier times `λ` is `η λ` here.
//!
//! *Invariant.* `V ≥ 0`, and without decay an entry's first step is `η g / (|g| + ε)`.
//!
//! *Cost.* 14 operations per entry, 15 with decay; two words of state per entry.
//!
//! *How it fails.* A gradient entry below about `1e-19` has a square that underflows, and its step
//! is then at most `η |g| / ε`.

use super::{Baseline, BaselineError, checks};

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
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
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// The two moments of one matrix, in whatever basis the caller works.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

/// Decays and the reciprocals of the bias corrections at one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct MomentRule {
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    first_correction: f32,
    second_correction: f32,
}

impl MomentRule {
    /// The rule of the update number `step`, counted from one.
    pub(super) fn new(beta1: f32, beta2: f32, epsilon: f32, step: u64) -> Self {
        let correction = |beta: f32| {
            let power = f64::from(beta).powf(step as f64);
            (1.0 / (1.0 - power)) as f32
        };
        let (first_correction, second_correction) = (correction(beta1), correction(beta2));
        Self { beta1, beta2, epsilon, first_correction, second_correction }
    }
}

/// Operations per entry of [`Moments::update`].
pub(super) const OPERATIONS_PER_ENTRY: u64 = 12;

impl Moments {
    pub(super) fn new(entries: usize) -> Self {
        Self { first: vec![0.0; entries], second: vec![0.0; entries] }
    }

    /// Takes in a gradient and hands each entry's index and `M̂ / (√V̂ + ε)` to `apply`.
    pub(super) fn update(&mut self, gradient: &[f32], rule: MomentRule, mut apply: impl FnMut(usize, f32)) {
        let moments = self.first.iter_mut().zip(&mut self.second);
        for (index, (&g, (m, v))) in gradient.iter().zip(moments).enumerate() {
            *m = rule.beta1 * *m + (1.0 - rule.beta1) * g;
            *v = rule.beta2 * *v + (1.0 - rule.beta2) * g * g;
            let denominator = (*v * rule.second_correction).sqrt() + rule.epsilon;
            apply(index, *m * rule.first_correction / denominator);
        }
    }
}

/// Adam with decoupled weight decay; see the [module](self).
#[derive(Clone, Debug)]
pub struct AdamW {
    settings: AdamWSettings,
    entries: Vec<usize>,
    moments: Vec<Moments>,
    steps: u64,
    operations: u64,
}

impl AdamW {
    /// An optimiser with zero moments for matrices of the given `(rows, columns)`.
    ///
    /// # Errors
    ///
    /// [`BaselineError::Setting`] or [`BaselineError::Shape`].
    pub fn new(shapes: &[(usize, usize)], settings: AdamWSettings) -> Result<Self, BaselineError> {
        checks::non_negative("learning_rate", settings.learning_rate)?;
        checks::decay("beta1", settings.beta1)?;
        checks::decay("beta2", settings.beta2)?;
        checks::positive("epsilon", settings.epsilon)?;
        checks::non_negative("weight_decay", settings.weight_decay)?;
        let entries = checks::entry_counts(shapes)?;
        let moments = entries.iter().map(|&count| Moments::new(count)).collect();
        Ok(Self { settings, entries, moments, steps: 0, operations: 0 })
    }
}

impl Baseline for AdamW {
    fn name(&self) -> &'static str {
        "AdamW"
    }

    fn step(&mut self, weights: &mut [&mut [f32]], gradients: &[&[f32]]) -> Result<(), BaselineError> {
        checks::step_arguments(&self.entries, weights, gradients)?;
        self.steps += 1;
        let AdamWSettings { learning_rate, beta1, beta2, epsilon, weight_decay } = self.settings;
        let rule = MomentRule::new(beta1, beta2, epsilon, self.steps);
        let shrink = 1.0 - learning_rate * weight_decay;
        let per_entry = OPERATIONS_PER_ENTRY + if weight_decay == 0.0 { 2 } else { 3 };
        for ((weight, gradient), moments) in weights.iter_mut().zip(gradients).zip(&mut self.moments) {
            moments.update(gradient, rule, |index, direction| {
                weight[index] = shrink * weight[index] - learning_rate * direction;
            });
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
        2 * self.entries.iter().sum::<usize>()
    }
}
