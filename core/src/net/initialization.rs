//! Seeded initial weights; biases are zero.

use super::random::Stream;
use crate::{Scalar, Shape};

/// The distribution of the initial weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialization {
    /// Uniform within +- sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010): for tanh, sigmoid and linear layers.
    GlorotUniform,
    /// Normal with variance 2 / inputs (He et al. 2015): for ReLU and its kin.
    HeNormal,
}

impl Initialization {
    /// Fills W, m x n, column by column, biases with zero.
    pub(crate) fn fill<T: Scalar>(self, shape: &Shape, stream: &mut Stream, weights: &mut [T]) {
        let (inputs, outputs) = (T::from_usize(shape.inputs()), T::from_usize(shape.outputs()));
        let random = shape.rows() * shape.inputs();
        for (index, weight) in weights.iter_mut().enumerate() {
            *weight = match self {
                _ if index >= random => T::ZERO,
                Initialization::GlorotUniform => {
                    let bound = (T::from_f64(6.0) / (inputs + outputs)).sqrt();
                    bound * (stream.uniform::<T>() * T::from_f64(2.0) - T::ONE)
                }
                Initialization::HeNormal => (T::from_f64(2.0) / inputs).sqrt() * stream.normal::<T>(),
            };
        }
    }
}
