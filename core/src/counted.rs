//! Kernels that count: what a step is asked to do, by those that a run was given.
//!
//! *Invariant*: every product of a step is counted here, once. *Cost*: an addition a product. *Failure*: none; a count that is full
//! stays so.

#[cfg(not(feature = "batches"))]
use crate::Reference;
use crate::{
    Blend, Kernels, MatrixMut, MatrixRef, Scalar,
    single::{self, BATCHES},
};
#[cfg(not(feature = "batches"))]
use core::marker::PhantomData;

/// The kernels of a run: those that it was given, or core's own where no others are built.
#[derive(Clone, Copy)]
pub(crate) struct Chosen<'a, T> {
    #[cfg(feature = "batches")]
    kernels: &'a dyn Kernels<T>,
    #[cfg(not(feature = "batches"))]
    kernels: PhantomData<&'a T>,
}

impl<'a, T: Scalar> Chosen<'a, T> {
    #[cfg(feature = "batches")]
    pub(crate) fn new(kernels: &'a dyn Kernels<T>) -> Self {
        Self { kernels }
    }

    #[cfg(feature = "batches")]
    pub(crate) fn get(self) -> &'a dyn Kernels<T> {
        self.kernels
    }

    #[cfg(not(feature = "batches"))]
    #[inline(always)]
    pub(crate) fn new(_kernels: &'a dyn Kernels<T>) -> Self {
        Self { kernels: PhantomData }
    }

    #[cfg(not(feature = "batches"))]
    pub(crate) fn get(self) -> &'a Reference {
        &Reference
    }
}

/// Kernels that count what they are asked to do: multiplications and additions, the products' shares only.
pub struct Counted<'a, T> {
    kernels: Chosen<'a, T>,
    operations: u64,
}

impl<'a, T: Scalar> Counted<'a, T> {
    /// A count that starts at zero. Without the feature `batches` the kernels are core's own.
    #[inline(always)]
    pub fn new(kernels: &'a dyn Kernels<T>) -> Self {
        Self::by(Chosen::new(kernels))
    }

    pub(crate) fn by(kernels: Chosen<'a, T>) -> Self {
        Self { kernels, operations: 0 }
    }

    /// The operations so far.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Adds work done outside the products.
    #[inline(never)]
    pub fn add(&mut self, operations: usize) {
        self.operations = self.operations.saturating_add(operations as u64);
    }

    #[inline(never)]
    pub(crate) fn product(
        &mut self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        self.product_inlined(out, left, right, scale, keep);
    }

    /// The same, inlined into a caller that has nothing else to do, as its matrices then lie on the stack once.
    #[inline(always)]
    pub(crate) fn product_inlined(
        &mut self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        self.add(2 * left.rows() * left.columns() * right.columns());
        self.kernels.get().product(out, left, right, scale, keep);
    }

    /// out = left x, or left^T x, for so many columns: from slices, so that the callers hold no matrices on the stack.
    #[inline(never)]
    pub(crate) fn multiply(
        &mut self,
        out: &mut [T],
        left: MatrixRef<'_, T>,
        x: &[T],
        columns: usize,
        transposed: bool,
    ) {
        self.multiply_inlined(out, left, x, columns, transposed);
    }

    /// The same, inlined likewise.
    #[inline(always)]
    pub(crate) fn multiply_inlined(
        &mut self,
        out: &mut [T],
        left: MatrixRef<'_, T>,
        x: &[T],
        columns: usize,
        transposed: bool,
    ) {
        let (rows, terms) =
            if transposed { (left.columns(), left.rows()) } else { (left.rows(), left.columns()) };
        self.add(2 * rows * terms * columns);
        if !BATCHES {
            return single::multiply(out, left, x, transposed);
        }
        let (out, x) = (MatrixMut::over(out, rows, columns), MatrixRef::over(x, terms, columns));
        if transposed {
            self.kernels.get().product_left_transposed(out, left, x, T::ONE, T::ZERO);
        } else {
            self.kernels.get().product(out, left, x, T::ONE, T::ZERO);
        }
    }

    #[inline(never)]
    pub(crate) fn product_right_transposed(
        &mut self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        self.add(2 * left.rows() * left.columns() * right.rows());
        self.kernels.get().product_right_transposed(out, left, right, scale, keep);
    }

    /// out = scale left right^T + keep out, both with so many columns: from slices, likewise.
    #[cfg(feature = "batches")]
    #[inline(never)]
    pub(crate) fn outer(&mut self, out: &mut [T], left: &[T], right: &[T], columns: usize, share: [T; 2]) {
        self.outer_inlined(out, left, right, columns, share);
    }

    /// The same, inlined likewise.
    #[cfg(feature = "batches")]
    #[inline(always)]
    pub(crate) fn outer_inlined(
        &mut self,
        out: &mut [T],
        left: &[T],
        right: &[T],
        columns: usize,
        [scale, keep]: [T; 2],
    ) {
        let (rows, terms) = (left.len() / columns.max(1), right.len() / columns.max(1));
        let (left, right) = (MatrixRef::over(left, rows, columns), MatrixRef::over(right, terms, columns));
        self.add(2 * rows * columns * terms);
        let out = MatrixMut::over(out, rows, terms);
        self.kernels.get().product_right_transposed(out, left, right, scale, keep);
    }

    pub(crate) fn kernels(&self) -> Chosen<'a, T> {
        self.kernels
    }

    #[inline(never)]
    pub(crate) fn symmetric_update(
        &mut self,
        packed: &mut [T],
        x: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        self.add((x.columns() + 1) * x.rows() * (x.rows() + 1));
        if !BATCHES {
            return single::symmetric_update(packed, x.as_slice(), blend);
        }
        self.kernels.get().symmetric_update(packed, x, blend, scratch);
    }

    #[inline(never)]
    pub(crate) fn squared_product(
        &mut self,
        scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        self.add((2 * a.columns() + 3) * g.rows() * a.rows());
        if !BATCHES {
            return single::squared_product(scalings, g.as_slice(), a.as_slice(), blend);
        }
        self.kernels.get().squared_product(scalings, g, a, blend, scratch);
    }
}
