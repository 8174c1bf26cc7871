//! The matrix products of a step of gradient descent alone, by faer itself: what no step can be faster than.
//!
//! ```text
//! z = W a      dL/da = W^T g, but for the lowest layer      G = g a^T
//! ```

use ekfac::Dense;
use faer::{Accum, Mat, MatMut, MatRef, Par, linalg::matmul::matmul};

/// The operands of all layers, each at a place of its own, as in a network.
pub(super) struct Arithmetic(Vec<Layer>);

struct Layer {
    weights: Mat<f32>,
    activations: Mat<f32>,
    gradients: Mat<f32>,
    outputs: Mat<f32>,
    /// dL/da, for layers that have one below.
    below: Option<Mat<f32>>,
    slope: Mat<f32>,
}

impl Arithmetic {
    /// Operands for batches of this size.
    pub(super) fn new(layers: &[Dense], batch: usize) -> Self {
        // Any numbers of ordinary size do: the time of a product does not depend on them.
        let filled = |rows: usize, columns: usize| {
            Mat::from_fn(rows, columns, |row, column| ((row * 7 + column * 3) % 11) as f32 / 11.0)
        };
        let layer = |(index, dense): (usize, &Dense)| {
            let (inputs, outputs) = (dense.shape().inputs(), dense.shape().outputs());
            Layer {
                weights: filled(outputs, inputs),
                activations: filled(inputs, batch),
                gradients: filled(outputs, batch),
                outputs: Mat::zeros(outputs, batch),
                below: (index > 0).then(|| Mat::zeros(inputs, batch)),
                slope: Mat::zeros(outputs, inputs),
            }
        };
        Self(layers.iter().enumerate().map(layer).collect())
    }

    /// All products of one step, on the caller's thread.
    pub(super) fn run(&mut self) {
        self.0.iter_mut().for_each(Layer::forward);
        self.0.iter_mut().rev().for_each(Layer::backward);
    }

    /// Multiplications and additions of one step.
    pub(super) fn operations(&self) -> usize {
        let products = |layer: &Layer| 2 + usize::from(layer.below.is_some());
        let each = |layer: &Layer| layer.slope.nrows() * layer.slope.ncols() * layer.activations.ncols();
        self.0.iter().map(|layer| 2 * products(layer) * each(layer)).sum()
    }
}

impl Layer {
    fn forward(&mut self) {
        multiply(self.outputs.as_mut(), self.weights.as_ref(), self.activations.as_ref());
    }

    fn backward(&mut self) {
        if let Some(below) = &mut self.below {
            multiply(below.as_mut(), self.weights.transpose(), self.gradients.as_ref());
        }
        multiply(self.slope.as_mut(), self.gradients.as_ref(), self.activations.transpose());
    }
}

fn multiply(out: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
}

#[cfg(test)]
mod tests {
    use super::Arithmetic;

    // Mutant: a gradient passed on below the lowest layer, which nothing needs.
    #[test]
    fn the_products_are_those_of_a_step() {
        let layers = ekfac::layers![3 => 5 Tanh => 2 Identity];
        let mut arithmetic = Arithmetic::new(&layers, 7);
        assert_eq!(arithmetic.operations(), 2 * 7 * (2 * 15 + 3 * 10));
        arithmetic.run();
        let [first, second] = arithmetic.0.as_slice() else { panic!("two layers") };
        let sum = |row: usize, column: usize| {
            (0..7).map(|i| first.gradients[(row, i)] * first.activations[(column, i)]).sum::<f32>()
        };
        assert!((first.slope[(4, 2)] - sum(4, 2)).abs() < 1e-5 && first.below.is_none());
        let below = second.below.as_ref().unwrap();
        let back = (0..2).map(|i| second.weights[(i, 1)] * second.gradients[(i, 6)]).sum::<f32>();
        assert!((below[(1, 6)] - back).abs() < 1e-5);
    }
}
