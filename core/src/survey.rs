//! A look at what a step would do to one layer, before a word of it is written.
//!
//! ```text
//! D = K / (S + lambda)      sums K . D, K . velocity, velocity^2 . (S + lambda), sum D_ij^2 a_j       largest |D|, |velocity|, |W|
//! ```
//!
//! *Invariant*: no state is written. *Cost*: 10 operations a weight and 2 m words of scratch. *Failure*: none; what is not finite is
//! in the numbers, and no step is taken by them.

#[cfg(feature = "large")]
use crate::kernels::Elementwise;
use crate::{
    Scalar, Shape,
    damping::{Denominators, LayerDamping},
    guard, jacobi,
    kernels::{Counted, dot_as, largest_as},
    layer::LayerMut,
    precondition::{Gradient, Plan, column_of},
};

/// What a step would do to one layer, before it is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Survey<T> {
    /// K . D, the squared length of the preconditioned gradient in the Fisher metric.
    pub length: T,
    /// K . velocity.
    pub agreement: T,
    /// The squared length of the velocity in the same metric.
    pub velocity_length: T,
    /// The reach of D: the root mean square by which it changes a pre-activation, sqrt(sum D_ij^2 a_j / m), a = diag C_A.
    pub reach: T,
    /// max |D|.
    pub largest_direction: T,
    /// max |velocity|.
    pub largest_velocity: T,
    /// max |W|, as stored.
    pub largest_weight: T,
}

impl<T: Scalar> Survey<T> {
    /// Whether the step keeps velocity and weights finite, whichever way the basis turns.
    pub(crate) fn is_safe(&self, plan: &Plan<T>, shape: &Shape) -> bool {
        let limit = guard::turning_limit(shape);
        let velocity = plan.momentum * self.largest_velocity + plan.shrink * self.largest_direction;
        let weight = self.largest_weight + plan.learning_rate * velocity;
        self.length.is_finite() && velocity < limit && weight < limit
    }
}

/// What a survey looks at, as elementwise work.
#[derive(Debug)]
pub(crate) struct Sight<'w, T> {
    denominators: Denominators<'w, T>,
    gradient: Gradient<'w, T>,
    input_factor: &'w [T],
    velocity: &'w [T],
    weights: &'w [T],
    rows: usize,
    /// Two columns.
    scratch: &'w mut [T],
    survey: &'w mut Survey<T>,
}

impl<T: Scalar> Sight<'_, T> {
    #[cfg(feature = "large")]
    pub(crate) fn words(&self) -> usize {
        self.velocity.len()
    }

    #[inline(always)]
    pub(crate) fn look<const INLINED: bool>(self) {
        let Self { denominators, gradient, velocity, survey, .. } = self;
        let mut scratch = self.scratch;
        let (d, formed) = (column_of(&mut scratch, self.rows), column_of(&mut scratch, self.rows));
        let mut spread = T::ZERO;
        for (column, velocity) in velocity.chunks_exact(self.rows.max(1)).enumerate() {
            denominators.fill_as::<INLINED>(column, d);
            for (square, v) in formed.iter_mut().zip(velocity) {
                *square = *v * *v;
            }
            survey.velocity_length += dot_as::<INLINED, T>(formed, d);
            let k = gradient.column_as::<INLINED>(column, formed);
            survey.agreement += dot_as::<INLINED, T>(k, velocity);
            for (d, k) in d.iter_mut().zip(k) {
                *d = *k / *d;
            }
            survey.length += dot_as::<INLINED, T>(k, d);
            survey.largest_direction = survey.largest_direction.maximum(largest_as::<INLINED, T>(d));
            spread += jacobi::diagonal_held(self.input_factor, column).maximum(T::ZERO)
                * dot_as::<INLINED, T>(d, d);
        }
        survey.largest_velocity = largest_as::<INLINED, T>(velocity);
        survey.largest_weight = largest_as::<INLINED, T>(self.weights);
        survey.reach = (spread / T::from_usize(self.rows)).sqrt();
    }
}

/// Looks at K and D without writing any state. `scratch`: 2 m words. Inlined, since a room calls it on the deepest path of a step.
#[inline(always)]
pub(crate) fn survey<T: Scalar>(
    layer: &LayerMut<'_, T>,
    #[cfg_attr(not(feature = "large"), allow(unused_variables))] counted: &Counted<'_, T>,
    gradient: Gradient<'_, T>,
    damping: LayerDamping<T>,
    weights: &[T],
    scratch: &mut [T],
) -> Survey<T> {
    let mut survey = Survey {
        length: T::ZERO,
        agreement: T::ZERO,
        velocity_length: T::ZERO,
        reach: T::ZERO,
        largest_direction: T::ZERO,
        largest_velocity: T::ZERO,
        largest_weight: T::ZERO,
    };
    let sight = Sight {
        denominators: damping.over(layer.shape(), layer.words()),
        gradient,
        input_factor: layer.input_factor().covariance(),
        velocity: layer.velocity(),
        weights,
        rows: layer.shape().rows(),
        scratch,
        survey: &mut survey,
    };
    #[cfg(feature = "large")]
    counted.kernels().get().elementwise(Elementwise::survey(sight));
    #[cfg(not(feature = "large"))]
    sight.look::<false>();
    survey
}
