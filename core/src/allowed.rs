//! What the settings may be: a table, since code for each of them is larger.
//!
//! *Invariant*: NaN is never allowed. *Cost*: some instructions a setting. *Failure*: none.

use crate::Scalar;

/// What a setting may be.
#[derive(Clone, Copy)]
pub(crate) enum Allowed {
    /// In (0, infinity).
    Positive,
    /// In [0, infinity).
    NotNegative,
    /// In [0, 1).
    Fraction,
    /// In (0, 1].
    Share,
}

impl Allowed {
    pub(crate) fn holds<T: Scalar>(self, value: T) -> bool {
        let zero = matches!(self, Allowed::NotNegative | Allowed::Fraction);
        let (most, closed) = match self {
            Allowed::Positive | Allowed::NotNegative => (T::MAX, true),
            Allowed::Fraction => (T::ONE, false),
            Allowed::Share => (T::ONE, true),
        };
        (value > T::ZERO || zero && value == T::ZERO) && (value < most || closed && value == most)
    }
}

/// The settings in the order in which [`Config::check`](crate::Config::check) looks at them.
pub(crate) const SETTINGS: [(Allowed, &str); 21] = [
    (Allowed::Positive, "learning_rate"),
    (Allowed::Fraction, "momentum"),
    (Allowed::NotNegative, "weight_decay"),
    (Allowed::Fraction, "weight_decay"),
    (Allowed::Positive, "clip"),
    (Allowed::Positive, "annealing"),
    (Allowed::Positive, "reach"),
    (Allowed::Positive, "damping"),
    (Allowed::Positive, "damping"),
    (Allowed::Share, "statistics_share"),
    (Allowed::Positive, "statistics_period"),
    (Allowed::Fraction, "factors"),
    (Allowed::Positive, "factors"),
    (Allowed::Positive, "factors"),
    (Allowed::Fraction, "scalings"),
    (Allowed::Positive, "scalings"),
    (Allowed::Positive, "scalings"),
    (Allowed::NotNegative, "refresh.per_line"),
    (Allowed::Positive, "refresh.period"),
    (Allowed::Positive, "refresh.limits.sweeps"),
    (Allowed::NotNegative, "refresh.threshold"),
];
