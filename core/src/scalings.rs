//! The scalings S, m x n: second moments of the gradient in the eigenbasis, in four estimators.
//!
//! | estimator | update with a batch of N examples |
//! | --- | --- |
//! | per example, fresh | S = (1/N) sum_i (g~_i a~_i^T)^2 = (1/N) (G~^2)^T (A~^2) |
//! | per example, running | the same as a moving average with a stored weight |
//! | mean gradient, running | S <- average of N K^2, K = U_B^T G U_A |
//! | Kronecker | S = diag(C_B) diag(C_A)^T |
//!
//! For a fixed basis the per-example S is the diagonal closest to the Fisher block in Frobenius norm, so
//! |F - F_EKFAC| <= |F - F_KFAC| (George et al. 2018, Theorems 2 and 3). *Invariant*: S >= 0. *Cost*: 2 N m n operations
//! per example estimator, 3 m n otherwise, and two columns of scratch. *Failure*: none after the gate.

use crate::{
    Blend, MatrixRef, Scalar,
    carve::cut,
    kernels::Counted,
    layer::{LayerMut, Values},
    precondition::Gradient,
};

/// Blends the per-example second moments of projected gradients (m x N) and activations (n x N) into S.
pub(crate) fn blend_examples<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    gradients: MatrixRef<'_, T>,
    activations: MatrixRef<'_, T>,
    blend: Blend<T>,
    scratch: &mut [T],
) {
    counted.squared_product(layer.scalings_mut(), gradients, activations, blend, scratch);
}

/// Blends N K^2 into S.
#[inline(never)]
pub(crate) fn blend_mean_gradient<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    gradient: Gradient<'_, T>,
    batch: usize,
    blend: Blend<T>,
    scratch: &mut [T],
) {
    let count = T::from_usize(batch);
    let (mut rest, rows) = (scratch, layer.shape().rows());
    let (Some(column), Some(formed)) = (cut(&mut rest, rows), cut(&mut rest, rows)) else { return };
    for (index, into) in layer.scalings_mut().iter_columns_mut().enumerate() {
        gradient
            .column(index, formed)
            .iter()
            .zip(&mut *column)
            .for_each(|(k, into)| *into = count * (*k * *k));
        blend.apply(into, column);
    }
    counted.add(5 * layer.shape().parameters_held());
}

/// S = diag(C_B) diag(C_A)^T, eigenvalues below zero by rounding taken as zero.
#[inline(never)]
pub(crate) fn set_kronecker<T: Scalar>(layer: &mut LayerMut<'_, T>) {
    let shape = *layer.shape();
    let (mut scalings, factors) = layer.scalings_and_factors();
    let values = Values::over(&shape, factors);
    for (index, column) in scalings.iter_columns_mut().enumerate() {
        let a = values.of_column(index).maximum(T::ZERO);
        for (row, s) in column.iter_mut().enumerate() {
            *s = a * values.of_row(row).maximum(T::ZERO);
        }
    }
}
