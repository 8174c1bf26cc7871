//! Core's kernels with a fault in them: the seam through which a solver failure or a broken engine is injected.

use ekfac::{Blend, Kernels, MatrixMut, MatrixRef, Reference, Scalar};

/// [`Reference`], but for what is done to a factor after its update, and to S.
pub struct Tampered<F> {
    /// Called with C, packed, after each update.
    pub factor: F,
    /// Whether S is measured.
    pub scalings: bool,
}

impl<T: Scalar, F: Fn(&mut [T]) + Sync> Kernels<T> for Tampered<F> {
    fn product(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        Reference.product(out, left, right, scale, keep);
    }

    fn product_left_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        Reference.product_left_transposed(out, left, right, scale, keep);
    }

    fn product_right_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        Reference.product_right_transposed(out, left, right, scale, keep);
    }

    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]) {
        Reference.symmetric_update(packed, x, blend, scratch);
        (self.factor)(packed);
    }

    fn squared_product(
        &self,
        scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        if self.scalings {
            Reference.squared_product(scalings, g, a, blend, scratch);
        }
    }
}
