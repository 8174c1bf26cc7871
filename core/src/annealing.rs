//! Annealing: the trust region shrinks where only the noise of the batches is left to move by.
//!
//! ```text
//! cos = K . V / (|K| |V|) in the metric of the step, V the velocity before it
//! m <- m + max(8 / (8 + t), N / 100000) (cos - m)
//! u = lr nu alpha / (1 - mu), q = sqrt((1 - mu) / (1 + mu))
//! o = -m - 3 N / (4 q n), without the last where examples do not come again
//! alpha <- alpha (1 - 0.3 min(o - u q / 3, 2 u - o)), in [1/1000, 1]
//! ```
//!
//! t counts the steps, mu is the momentum, nu the clip's own share, alpha what the step is shortened by besides, n the number of
//! examples there are. Every batch moves the weights by its own noise, and the gradients after it want to go back. On a quadratic
//! loss whose curvature is the metric, at its floor, the mean cosine is -u q / 2: where it is two thirds of that or further down,
//! steps are too long, and where there is way to go K agrees with V, and alpha grows back.
//!
//! From n examples drawn once an epoch, a batch lacks what the one before it had, so that the noise of two has the correlation
//! -N / (n - N), whatever the steps: over the memory of the velocity a cosine of -N / (q (n - N)), a quarter less since an epoch
//! begins with no such past. This noise cancels within the epoch and asks for nothing. What goes beyond 2 u no step of this length
//! can have done; it is left alone. Two thirds, a quarter, 2 u, the rate and the window are measured, not derived
//! (`std-adapter/results/convolutions.md`).
//!
//! Inner products of gradients of p weights scatter by 1/sqrt(p) only, which is why so faint a sign can be read.
//!
//! *Invariant*: alpha in [1/1000, 1], m in [-1, 1], whatever the gradients. *Cost*: a root; two words of [`Progress`].
//! *Failure*: none; a cosine that is no number counts as 0.

use crate::{Config, Progress, Scalar, config::PUBLISHED};

/// Whether steps become shorter where only the noise of the batches is left to move by, and longer again where there is way to
/// go. No schedule, and no knowledge of how long the run is; but how much noise there is depends on how examples are drawn.
///
/// It reads the cosine between gradient and velocity, as adaptive gains do (Almeida et al. 1998); in the Fisher metric this
/// tells signal from noise. On a net that can learn its examples by heart the noise ends with the loss, and little happens.
///
/// ```
/// use ekfac::{Annealing, Config};
/// // 60,000 images, each of which comes once an epoch.
/// let config = Config::<f32> { annealing: Annealing::Epochs(60_000), ..Config::default() };
/// assert!(config.check().is_ok());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Annealing {
    /// The clip alone decides.
    #[default]
    Off,
    /// Examples that do not come again, such as a sensor's.
    Stream,
    /// So many examples, each drawn once an epoch.
    Epochs(u32),
}

/// The least that is left of a step.
const LEAST: f64 = 1e-3;
/// Examples over which the mean cosine is taken, in the long run.
const MEMORY: f64 = 1e5;
/// Before, an eighth of the run.
const PART_OF_RUN: f64 = 8.0;
/// By which alpha follows, for each step and unit of the cosine.
const RATE: f64 = 0.3;

/// What a step is shortened by, the clip apart. `cosine` is that of the gradient and the velocity, `shrink` the clip's share.
pub(crate) fn anneal<T: Scalar>(
    progress: &mut Progress<T>,
    config: &Config<T>,
    batch: usize,
    cosine: T,
    shrink: T,
) -> T {
    let number = T::from_f64;
    let examples = T::from_usize(batch);
    let share_of_epoch = match config.annealing {
        Annealing::Epochs(all) if PUBLISHED => examples / T::from_usize(all as usize),
        Annealing::Stream if PUBLISHED => T::ZERO,
        _ => return T::ONE,
    };
    let q = ((T::ONE - config.momentum) / (T::ONE + config.momentum)).sqrt();
    let cosine = if cosine.is_finite() { cosine.maximum(-T::ONE).minimum(T::ONE) } else { T::ZERO };
    let steps = T::from_usize(progress.steps.min(u64::from(u32::MAX)) as usize);
    let share = (number(PART_OF_RUN) / (number(PART_OF_RUN) + steps)).maximum(examples / number(MEMORY));
    progress.mean_cosine += share.minimum(T::ONE) * (cosine - progress.mean_cosine);
    let length = config.learning_rate * shrink * progress.annealing / (T::ONE - config.momentum);
    let opposed = -progress.mean_cosine - number(0.75) * share_of_epoch / q;
    let excess = (opposed - length * q / number(3.0)).minimum(length + length - opposed);
    let moved = progress.annealing * (T::ONE - number(RATE) * excess);
    progress.annealing = moved.maximum(number(LEAST)).minimum(T::ONE);
    progress.annealing
}
