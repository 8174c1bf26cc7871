//! Losses of one example: value, gradient with respect to the output h, and the two ways to the true Fisher.
//!
//! | loss | value | gradient | Fisher, with respect to h |
//! | --- | --- | --- | --- |
//! | squared error | sum (h - t)^2 / 2 | h - t | I |
//! | softmax cross-entropy | ln sum e^h - h_t | p - e_t, p = softmax h | diag p - p p^T |
//! | binary cross-entropy | sum ln(1 + e^h) - t h | sigmoid h - t | diag p (1 - p) |
//! | Huber, width d | (h - t)^2 / 2 within d, else d |h - t| - d^2 / 2 | h - t, clamped to +- d | c I, see below |
//!
//! The Fisher is that of the likelihood exp(-loss): Gaussian, categorical, Bernoulli; and for Huber the density
//! proportional to exp(-huber(r)), whose score has the second moment c = k / (k + (2/d) e^(-d^2/2)), k = sqrt(2 pi) erf(d / sqrt 2).
//!
//! *Sampled*: a gradient whose second moment is the Fisher's: p - e_y for a class y drawn from p; for the others a random
//! sign times the square root of the diagonal Fisher, which has the expectation of a drawn target and less variance.
//! *The last layer*: for all but the softmax, Fisher gradients at different outputs are thus uncorrelated, and an activation takes
//! each by itself to dL/dz. So B of that layer is diagonal, its eigenbasis is I, and S is the exact mean of b_i a~_j^2: the core
//! keeps diag B alone, neither looks for rotations there nor forms a product with U_B. What a batch shows beside the diagonal
//! is the noise of the signs, and a basis that followed it would make S noisy as well.
//!
//! *Exact*: one pass an output, whose squares add up to the Fisher: sqrt(p_c) (p - e_c), or the root times e_c.

#[cfg(feature = "functions")]
use super::activation::sigmoid;
use super::random::Stream;
use crate::{Error, Fisher, Scalar, config::expect, error::expect_length};

/// The loss of one example.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Loss {
    /// Half the summed squared error.
    SquaredError,
    /// Cross-entropy of the softmax of the outputs, from logits.
    SoftmaxCrossEntropy,
    /// Summed binary cross-entropy of the sigmoids of the outputs, from logits.
    #[cfg(feature = "functions")]
    BinaryCrossEntropy,
    /// Huber's loss with this width.
    #[cfg(feature = "functions")]
    Huber(f64),
}

/// The targets of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a, T> {
    /// Values, outputs x N: one column an example. For softmax cross-entropy, probabilities that sum to 1.
    Values(&'a [T]),
    /// A class an example, for softmax cross-entropy.
    Classes(&'a [u32]),
}

/// The target of one example.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a, T> {
    Values(&'a [T]),
    Class(usize),
}

impl<'a, T: Scalar> Targets<'a, T> {
    /// Refuses wrong lengths, classes that do not exist, and classes for a loss that knows none.
    pub(crate) fn check(&self, loss: &Loss, outputs: usize, batch: usize) -> Result<(), Error> {
        match *self {
            Targets::Values(values) => expect_length("targets", outputs.saturating_mul(batch), values.len()),
            Targets::Classes(classes) => {
                expect(*loss == Loss::SoftmaxCrossEntropy, "targets")?;
                expect_length("targets", batch, classes.len())?;
                match classes.iter().position(|class| *class as usize >= outputs) {
                    Some(index) => Err(Error::OutOfRange { argument: "targets", index }),
                    None => Ok(()),
                }
            }
        }
    }

    /// The target of example `index`.
    pub(crate) fn example(&self, index: usize, outputs: usize) -> Target<'a, T> {
        match *self {
            Targets::Values(values) => {
                Target::Values(values.get(index * outputs..(index + 1) * outputs).unwrap_or_default())
            }
            Targets::Classes(classes) => Target::Class(classes.get(index).map_or(0, |class| *class as usize)),
        }
    }

    /// The targets of the examples from `start` on, `count` of them.
    pub(crate) fn slice(&self, start: usize, count: usize, outputs: usize) -> Self {
        match *self {
            Targets::Values(values) => {
                Targets::Values(values.get(start * outputs..(start + count) * outputs).unwrap_or_default())
            }
            Targets::Classes(classes) => {
                Targets::Classes(classes.get(start..start + count).unwrap_or_default())
            }
        }
    }
}

impl<T: Scalar> Target<'_, T> {
    /// The target's value for output `index`: an indicator for a class.
    fn value(&self, index: usize) -> T {
        match *self {
            Target::Values(values) => values.get(index).copied().unwrap_or(T::ZERO),
            Target::Class(class) => {
                if class == index {
                    T::ONE
                } else {
                    T::ZERO
                }
            }
        }
    }
}

impl Loss {
    pub(crate) fn check(&self) -> Result<(), Error> {
        match *self {
            #[cfg(feature = "functions")]
            Loss::Huber(width) => expect(width > 0.0 && width.is_finite(), "loss"),
            _ => Ok(()),
        }
    }

    /// The loss of one example.
    pub(crate) fn value<T: Scalar>(&self, outputs: &[T], target: Target<'_, T>) -> T {
        if *self == Loss::SoftmaxCrossEntropy {
            let highest = highest(outputs);
            let sum = outputs.iter().fold(T::ZERO, |sum, h| sum + (*h - highest).exp());
            let log_sum = highest + sum.ln();
            let terms = outputs.iter().enumerate();
            return terms.fold(T::ZERO, |loss, (index, h)| {
                let share = target.value(index);
                // A class without a share adds nothing, even where its logit is far away.
                if share == T::ZERO { loss } else { loss + share * (log_sum - *h) }
            });
        }
        outputs.iter().enumerate().fold(T::ZERO, |loss, (index, h)| loss + self.term(*h, target.value(index)))
    }

    /// The loss of one output, for losses that add over outputs.
    pub(super) fn term<T: Scalar>(&self, h: T, target: T) -> T {
        match *self {
            #[cfg(feature = "functions")]
            Loss::BinaryCrossEntropy => {
                // ln(1 + e^h) = max(h, 0) + ln(1 + e^-|h|)
                h.maximum(T::ZERO) + (-h.abs()).exp().ln_1p() - target * h
            }
            #[cfg(feature = "functions")]
            Loss::Huber(width) => {
                let (width, size) = (T::from_f64(width), (h - target).abs());
                if size > width { width * (size - T::HALF * width) } else { T::HALF * size * size }
            }
            Loss::SquaredError | Loss::SoftmaxCrossEntropy => T::HALF * (h - target) * (h - target),
        }
    }

    /// The gradient of one example with respect to its outputs.
    pub(crate) fn gradient<T: Scalar>(&self, outputs: &[T], target: Target<'_, T>, out: &mut [T]) {
        self.means(outputs, out);
        match target {
            Target::Values(values) => out.iter_mut().zip(values).for_each(|(value, t)| {
                *value -= *t;
                #[cfg(feature = "functions")]
                if let Loss::Huber(width) = *self {
                    let width = T::from_f64(width);
                    *value = value.maximum(-width).minimum(width);
                }
            }),
            Target::Class(class) => {
                if let Some(value) = out.get_mut(class) {
                    *value -= T::ONE;
                }
            }
        }
    }

    /// A gradient whose second moment is the Fisher's.
    pub(crate) fn sampled_gradient<T: Scalar>(&self, outputs: &[T], stream: &mut Stream, out: &mut [T]) {
        if *self == Loss::SoftmaxCrossEntropy {
            self.means(outputs, out);
            let mut left: T = stream.uniform();
            let mut drawn = None;
            for (index, p) in out.iter().enumerate() {
                left -= *p;
                // Rounding may leave a rest at the end: the last class takes it.
                if drawn.is_none() && (left < T::ZERO || index + 1 == outputs.len()) {
                    drawn = Some(index);
                }
            }
            if let Some(value) = drawn.and_then(|index| out.get_mut(index)) {
                *value -= T::ONE;
            }
        } else {
            out.iter_mut().zip(outputs).for_each(|(value, h)| *value = stream.sign::<T>() * self.root(*h));
        }
    }

    /// Pass `pass` of those whose squares add up to the Fisher.
    pub(crate) fn exact_gradient<T: Scalar>(&self, outputs: &[T], pass: usize, out: &mut [T]) {
        if *self == Loss::SoftmaxCrossEntropy {
            self.means(outputs, out);
            if let Some(value) = out.get_mut(pass) {
                let root = value.sqrt();
                *value -= T::ONE;
                out.iter_mut().for_each(|value| *value *= root);
            }
        } else {
            out.fill(T::ZERO);
            if let (Some(value), Some(h)) = (out.get_mut(pass), outputs.get(pass)) {
                *value = self.root(*h);
            }
        }
    }

    /// The number of passes that give the Fisher gradients.
    pub(crate) fn passes(fisher: Fisher, outputs: usize) -> usize {
        if fisher.is_exact() { outputs } else { 1 }
    }

    /// Whether Fisher gradients at different outputs are uncorrelated, as they are drawn with signs of their own, or one output at a time.
    pub fn has_diagonal_fisher(&self) -> bool {
        *self != Loss::SoftmaxCrossEntropy
    }

    /// The mean of the model's own distribution: h, softmax h, or sigmoid h.
    fn means<T: Scalar>(&self, outputs: &[T], out: &mut [T]) {
        match *self {
            #[cfg(feature = "functions")]
            Loss::BinaryCrossEntropy => out.iter_mut().zip(outputs).for_each(|(p, h)| *p = sigmoid(*h)),
            Loss::SoftmaxCrossEntropy => {
                let highest = highest(outputs);
                out.iter_mut().zip(outputs).for_each(|(p, h)| *p = (*h - highest).exp());
                let sum = out.iter().fold(T::ZERO, |sum, p| sum + *p);
                out.iter_mut().for_each(|p| *p /= sum);
            }
            _ => out.iter_mut().zip(outputs).for_each(|(p, h)| *p = *h),
        }
    }

    /// The square root of the Fisher of one output, for losses with a diagonal one.
    #[cfg_attr(not(feature = "functions"), allow(unused_variables))]
    fn root<T: Scalar>(&self, h: T) -> T {
        match *self {
            #[cfg(feature = "functions")]
            Loss::BinaryCrossEntropy => (sigmoid(h) * sigmoid(-h)).sqrt(),
            #[cfg(feature = "functions")]
            Loss::Huber(width) => {
                let width = T::from_f64(width);
                let core = T::from_f64(2.506_628_274_631_000_5)
                    * (width * T::from_f64(core::f64::consts::FRAC_1_SQRT_2)).erf();
                let tails = T::from_f64(2.0) / width * (-(T::HALF * width * width)).exp();
                (core / (core + tails)).sqrt()
            }
            Loss::SquaredError | Loss::SoftmaxCrossEntropy => T::ONE,
        }
    }

    /// Whether the largest output names the target's class; for one sigmoid, whether it lies on the right side.
    /// `None` for losses without classes.
    pub(crate) fn is_correct<T: Scalar>(&self, outputs: &[T], target: Target<'_, T>) -> Option<bool> {
        match *self {
            Loss::SoftmaxCrossEntropy => {
                let expected = match target {
                    Target::Class(class) => Some(class),
                    Target::Values(values) => position_of_largest(values),
                };
                Some(position_of_largest(outputs) == expected)
            }
            #[cfg(feature = "functions")]
            Loss::BinaryCrossEntropy => {
                let right = |(index, h): (usize, &T)| (*h > T::ZERO) == (target.value(index) > T::HALF);
                Some(outputs.iter().enumerate().all(right))
            }
            _ => None,
        }
    }
}

#[inline(never)]
fn highest<T: Scalar>(values: &[T]) -> T {
    values.iter().fold(-T::MAX, |highest, value| highest.maximum(*value))
}

fn position_of_largest<T: Scalar>(values: &[T]) -> Option<usize> {
    let largest = highest(values);
    values.iter().position(|value| *value == largest)
}
