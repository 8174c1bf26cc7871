//! Activations, element by element, and their derivatives from the pre-activation z and the output h.
//!
//! | activation | h | dh/dz |
//! | --- | --- | --- |
//! | identity | z | 1 |
//! | ReLU | max(z, 0) | 1 for z > 0, else 0 |
//! | leaky ReLU | z for z > 0, else z / 100 | 1 for z > 0, else 1/100 |
//! | tanh | tanh z | 1 - h^2 |
//! | sigmoid | 1 / (1 + e^-z) | h (1 - h) |
//! | GELU | z Phi(z), Phi the normal distribution | Phi(z) + z phi(z) |
//!
//! *Invariant*: NaN in gives NaN out, so the gate behind sees it.

use crate::Scalar;

/// An elementwise activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Activation {
    /// h = z.
    Identity,
    /// h = max(z, 0).
    Relu,
    /// h = z for z > 0, else z / 100.
    LeakyRelu,
    /// h = tanh z.
    Tanh,
    /// h = 1 / (1 + e^-z).
    Sigmoid,
    #[cfg(feature = "functions")]
    /// h = z Phi(z), exactly, by the error function (Hendrycks and Gimpel 2016).
    Gelu,
}

const LEAK: f64 = 0.01;

impl Activation {
    /// h for one z.
    #[inline(always)]
    pub fn value<T: Scalar>(self, z: T) -> T {
        match self {
            Activation::Identity => z,
            // Written so that NaN stays NaN.
            Activation::Relu => {
                if z <= T::ZERO {
                    T::ZERO
                } else {
                    z
                }
            }
            Activation::LeakyRelu => {
                if z <= T::ZERO {
                    T::from_f64(LEAK) * z
                } else {
                    z
                }
            }
            Activation::Tanh => z.tanh(),
            Activation::Sigmoid => sigmoid(z),
            #[cfg(feature = "functions")]
            Activation::Gelu => z * normal_distribution(z),
        }
    }

    /// dh/dz for one z and its h.
    // Inlined, so that a caller who names the activation has its formula alone, and vectors of it.
    #[inline(always)]
    pub fn derivative<T: Scalar>(self, z: T, h: T) -> T {
        match self {
            Activation::Identity => T::ONE,
            Activation::Relu => {
                if z > T::ZERO {
                    T::ONE
                } else {
                    T::ZERO
                }
            }
            Activation::LeakyRelu => {
                if z > T::ZERO {
                    T::ONE
                } else {
                    T::from_f64(LEAK)
                }
            }
            Activation::Tanh => T::ONE - h * h,
            Activation::Sigmoid => h * (T::ONE - h),
            #[cfg(feature = "functions")]
            Activation::Gelu => {
                let density = T::from_f64(0.398_942_280_401_432_7) * (-(z * z) * T::HALF).exp();
                normal_distribution(z) + z * density
            }
        }
    }
}

/// 1 / (1 + e^-z) without overflow.
pub(crate) fn sigmoid<T: Scalar>(z: T) -> T {
    if z < T::ZERO {
        let e = z.exp();
        e / (T::ONE + e)
    } else {
        T::ONE / (T::ONE + (-z).exp())
    }
}

#[cfg(feature = "functions")]
fn normal_distribution<T: Scalar>(z: T) -> T {
    T::HALF * (T::ONE + (z * T::from_f64(core::f64::consts::FRAC_1_SQRT_2)).erf())
}
