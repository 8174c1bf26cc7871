//! Damping: what is added to the scalings before the division, in one place and once.
//!
//! ```text
//! absolute   D = K / (S + lambda)
//! relative   D = K / (S + f mean(S))
//! shrunk     D = K / (S + lambda + alpha mean(S)),   alpha = (2 d / (2 d + examples))^2,   d = max(m, n)
//! factored   D_ij = K_ij / ((b_i + sqrt(lambda)/pi) (a_j + sqrt(lambda) pi)),  pi^2 = (tr A / n) / (tr B / m)
//! ```
//!
//! Factored damping is K-FAC's (Martens and Grosse 2015, section 6.3), a = diag C_A, b = diag C_B. The damping is never
//! stored in S, so it cannot be added twice. Its floor is [`Damping::MINIMUM`],
//! so nothing is divided by zero; above that an absolute damping means what it says, whatever the scale of S.
//!
//! Levenberg-Marquardt adaptation (ibid., section 6.5) compares the change of the loss with the quadratic model
//! M = K . d + d (S + lambda) d / 2 of the step d in the eigenbasis, where it costs m n operations and no product.

#[cfg(feature = "published")]
use crate::layer::Values;
use crate::{
    Error, MatrixRef, Scalar, Shape,
    config::expect,
    layer::{LayerMut, factors},
};

/// How the scalings are damped.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Damping<T> {
    /// S + lambda.
    Absolute(T),
    /// S + share * mean(S), layer by layer.
    RelativeToMean(T),
    /// S + lambda + alpha mean(S), alpha = (2 d / (2 d + examples))^2 with d = max(m, n) and the examples that the factors'
    /// memory spans. While fewer examples than directions have been seen, S is zero in most of them, and K / lambda there is no
    /// step to trust: S is drawn towards its mean, which few examples suffice to know, and let go as they come in. So no
    /// warm-up is needed.
    Shrunk(T),
    /// K-FAC's factored damping with pi, for [`Estimator::Kronecker`](crate::Estimator::Kronecker) only.
    #[cfg(feature = "published")]
    Factored(T),
}

impl<T: Scalar> Damping<T> {
    /// The smallest damping ever used: 1e-20.
    pub const MINIMUM: f64 = 1e-20;

    /// lambda, or the share.
    pub(crate) fn strength(&self) -> T {
        match *self {
            Damping::Absolute(value) | Damping::RelativeToMean(value) | Damping::Shrunk(value) => value,
            #[cfg(feature = "published")]
            Damping::Factored(value) => value,
        }
    }

    /// Whether the mean of S has a part in it.
    pub(crate) fn uses_mean(&self) -> bool {
        matches!(self, Damping::RelativeToMean(_) | Damping::Shrunk(_))
    }

    /// The damping of one layer with this mean of S, its strength multiplied by `multiplier`, and so many examples behind its
    /// factors.
    #[cfg_attr(not(feature = "published"), allow(unused_variables))]
    pub(crate) fn of_layer(
        &self,
        shape: &Shape,
        mean: T,
        multiplier: T,
        examples: T,
        pi: impl FnOnce() -> T,
    ) -> LayerDamping<T> {
        let floored = |value: T| value.maximum(T::from_f64(Self::MINIMUM));
        match *self {
            Damping::Absolute(lambda) => LayerDamping::Sum(floored(lambda * multiplier)),
            Damping::RelativeToMean(share) => LayerDamping::Sum(floored(share * multiplier * mean)),
            Damping::Shrunk(lambda) => {
                let unknown = T::from_usize(shape.longest_side()) * T::from_f64(2.0);
                let share = unknown / (unknown + examples);
                LayerDamping::Sum(floored((lambda + share * share * mean) * multiplier))
            }
            #[cfg(feature = "published")]
            Damping::Factored(lambda) => {
                let root = floored(lambda * multiplier).sqrt();
                let pi = pi();
                LayerDamping::Factored { a: root * pi, b: root / pi }
            }
        }
    }
}

/// K-FAC's pi = sqrt((tr A / n) / (tr B / m)); 1 when either factor is zero.
pub fn pi<T: Scalar>(layer: &LayerMut<'_, T>) -> T {
    pi_of_traces(layer.shape(), layer.input_trace(), layer.output_factor().trace())
}

/// The same from the traces of A and B.
pub(crate) fn pi_of_traces<T: Scalar>(shape: &Shape, trace_a: T, trace_b: T) -> T {
    let mean_a = trace_a / T::from_usize(shape.columns());
    let mean_b = trace_b / T::from_usize(shape.rows());
    // Each root on its own: the quotient of a large and a small mean could overflow.
    if mean_a > T::ZERO && mean_b > T::ZERO { mean_a.sqrt() / mean_b.sqrt() } else { T::ONE }
}

/// The damping of one layer, worked out for one step ([`Config::damping_of`](crate::Config::damping_of)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LayerDamping<T> {
    /// S + this.
    Sum(T),
    /// (diag C_B + b) (diag C_A + a)^T in the place of S.
    #[cfg(feature = "published")]
    Factored {
        /// Added to the eigenvalues of A.
        a: T,
        /// Added to the eigenvalues of B.
        b: T,
    },
}

impl<T: Scalar> LayerDamping<T> {
    /// The damped scalings of a layer of this shape, over its state; the velocity at the end need not be there.
    #[inline(never)]
    pub(crate) fn over<'d>(self, shape: &Shape, words: &'d [T]) -> Denominators<'d, T> {
        let (m, n) = (shape.rows(), shape.columns_held());
        match self {
            LayerDamping::Sum(lambda) => {
                let [_, output] = factors(shape);
                let scalings = words.get(output.end..output.end + m * n).unwrap_or_default();
                Denominators::Sum { scalings: MatrixRef::over(scalings, m, n), lambda }
            }
            #[cfg(feature = "published")]
            LayerDamping::Factored { a, b } => {
                Denominators::Factored { values: Values::over(shape, words), a, b }
            }
        }
    }
}

/// The damped scalings of a layer, worked out column by column.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Denominators<'d, T> {
    /// S + lambda.
    Sum { scalings: MatrixRef<'d, T>, lambda: T },
    /// The eigenvalues of both factors, and what is added to them.
    #[cfg(feature = "published")]
    Factored { values: Values<'d, T>, a: T, b: T },
}

impl<T: Scalar> Denominators<'_, T> {
    /// Fills `out` with those of column j.
    #[inline(never)]
    pub(crate) fn fill(&self, column: usize, out: &mut [T]) {
        self.fill_as::<true>(column, out);
    }

    /// The same, inlined or by a call.
    #[inline(always)]
    pub(crate) fn fill_as<const INLINED: bool>(&self, column: usize, out: &mut [T]) {
        if !INLINED {
            return self.fill(column, out);
        }
        match *self {
            Denominators::Sum { scalings, lambda } => {
                for (into, s) in out.iter_mut().zip(scalings.column(column).unwrap_or_default()) {
                    *into = *s + lambda;
                }
            }
            #[cfg(feature = "published")]
            Denominators::Factored { values, a, b } => {
                let side = values.of_column(column).maximum(T::ZERO) + a;
                for (row, into) in out.iter_mut().enumerate() {
                    *into = side * (values.of_row(row).maximum(T::ZERO) + b);
                }
            }
        }
    }
}

/// base^exponent by repeated squaring: at most 64 products, whatever the exponent.
fn power<T: Scalar>(mut base: T, mut exponent: u32) -> T {
    let mut power = T::ONE;
    while exponent > 0 {
        if exponent & 1 == 1 {
            power *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    power
}

/// Levenberg-Marquardt adaptation: every `interval` steps the loss of the same batch is taken again after the step, and
/// rho = (change of the loss) / (change that the quadratic model predicts) decides.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Adaptation<T> {
    /// Steps from one adaptation to the next; each costs one forward pass.
    pub interval: u32,
    /// The damping is multiplied by factor^interval below `low`, and divided by it above `high`; greater than 1.
    pub factor: T,
    /// Trust the model less below this ratio.
    pub low: T,
    /// Trust it more above this one.
    pub high: T,
    /// Bounds of the multiplier on the damping.
    pub bounds: (T, T),
}

impl<T: Scalar> Default for Adaptation<T> {
    /// Every 5 steps, factor 20/19, thresholds 1/4 and 3/4 (Martens and Grosse 2015, section 6.5), bounds 1e-4 to 1e4.
    fn default() -> Self {
        Self {
            interval: 5,
            factor: T::from_f64(20.0 / 19.0),
            low: T::from_f64(0.25),
            high: T::from_f64(0.75),
            bounds: (T::from_f64(1e-4), T::from_f64(1e4)),
        }
    }
}

impl<T: Scalar> Adaptation<T> {
    pub(crate) fn check(&self) -> Result<(), Error> {
        expect(self.interval > 0, "adaptation.interval")?;
        expect(self.factor > T::ONE && self.factor.is_finite(), "adaptation.factor")?;
        expect(self.low < self.high && self.low.is_finite(), "adaptation.low")?;
        expect(self.high.is_finite(), "adaptation.high")?;
        let (lowest, highest) = self.bounds;
        expect(
            lowest > T::ZERO && lowest <= T::ONE && highest >= T::ONE && highest.is_finite(),
            "adaptation.bounds",
        )
    }

    /// The next multiplier on the damping after a step that changed the loss by `change` where `predicted` was foretold.
    /// A change that is NaN, or a prediction that is not a decrease, counts as distrust.
    pub fn next(&self, multiplier: T, change: T, predicted: T) -> T {
        let ratio = change / predicted;
        if !(predicted < T::ZERO && ratio >= self.low) {
            self.raised(multiplier)
        } else if ratio > self.high {
            self.bounded(multiplier / power(self.factor, self.interval))
        } else {
            self.bounded(multiplier)
        }
    }

    /// The next multiplier after a step that is not to be trusted.
    pub(crate) fn raised(&self, multiplier: T) -> T {
        self.bounded(multiplier * power(self.factor, self.interval))
    }

    fn bounded(&self, multiplier: T) -> T {
        multiplier.maximum(self.bounds.0).minimum(self.bounds.1)
    }
}
