//! The gate before the averages: a value that is not finite, or so large that its fourth power could overflow a sum,
//! never reaches a moving average, where it would stay for good.
//!
//! The largest quantity a step forms is a sum over N examples of (g~_i a~_j)^2, and an orthogonal basis keeps norms:
//! |g~_i| <= sqrt(m) max|g|, |a~_j| <= sqrt(n) max|a|. So with
//!
//! ```text
//! limit = (MAX / (4 N))^(1/4) / sqrt(max(m, n))
//! ```
//!
//! on every activation and every gradient, no sum can exceed MAX / 4. In `f32` with n = 65 and N = 100 the limit is
//! 1.2e8. Weights that live in the eigenbasis turn with it, and a turn keeps only their norm, at most sqrt(m n) max|W|:
//! they are held below MAX / (4 sqrt(m n)). Cost: one comparison a value. It cannot fail; it reports the first offender.

use crate::{Scalar, Shape};

/// The largest magnitude allowed for the activations and gradients of a batch.
pub fn limit<T: Scalar>(shape: &Shape, batch: usize) -> T {
    let share = T::MAX / (T::from_f64(4.0) * T::from_usize(batch.max(1)));
    share.sqrt().sqrt() / T::from_usize(shape.longest_side()).sqrt()
}

/// The largest magnitude allowed for weights and velocities that turn with the eigenbasis.
#[inline(never)]
pub fn turning_limit<T: Scalar>(shape: &Shape) -> T {
    T::MAX / (T::from_f64(4.0) * T::from_usize(shape.parameters()).sqrt())
}

/// Index of the first value whose magnitude is not at most `limit`; NaN never is.
#[inline(never)]
pub fn first_beyond<T: Scalar>(values: &[T], limit: T) -> Option<usize> {
    if !cfg!(feature = "large") {
        return values.iter().position(|value| !is_within(*value, limit));
    }
    let passed = values.chunks(BLOCK).take_while(|block| are_within(block, limit)).count() * BLOCK;
    let rest = values.get(passed..)?;
    rest.iter().position(|value| !is_within(*value, limit)).map(|index| passed + index)
}

/// Index of the first value that is NaN or infinite.
pub fn first_non_finite<T: Scalar>(values: &[T]) -> Option<usize> {
    first_beyond(values, T::MAX)
}

const BLOCK: usize = 64;

/// Whether all of them are: without a branch in it, which the compiler turns into vector code.
#[inline(always)]
pub(crate) fn are_within<T: Scalar>(values: &[T], limit: T) -> bool {
    values.iter().fold(true, |sound, value| sound & is_within(*value, limit))
}

fn is_within<T: Scalar>(value: T, limit: T) -> bool {
    value.abs() <= limit
}
