//! One side of a layer: a Kronecker factor held in its own eigenbasis.
//!
//! ```text
//! A = U_A C_A U_A^T,   C_A <- C_A + share (mean(a~ a~^T) - C_A),   a~ = U_A^T a
//! ```
//!
//! A itself is never stored. *Invariant*: U is orthogonal to rounding and C symmetric by construction (the upper
//! triangle is packed); C is diagonal just after a full refresh and nearly so between two. *Cost*: n (n+1)/2 + n^2 words;
//! an update costs N n (n+1) operations, a projection 2 N n^2. *Failure*: none; values are gated before
//! ([`guard`](crate::guard)), and a refresh that hits its cap leaves a valid basis.

use crate::{
    Blend, Error, MatrixMut, MatrixRef, Scalar,
    error::expect_length,
    jacobi::{self, Companion, Limits, Report, Turn},
    kernels::{Counted, dot},
    shape::packed_words,
};

/// A factor over caller-owned memory.
#[derive(Debug)]
pub struct FactorMut<'a, T> {
    size: usize,
    covariance: &'a mut [T],
    basis: &'a mut [T],
}

impl<'a, T: Scalar> FactorMut<'a, T> {
    pub(crate) fn over(size: usize, covariance: &'a mut [T], basis: &'a mut [T]) -> Self {
        Self { size, covariance, basis }
    }

    pub(crate) fn reborrow(&mut self) -> FactorMut<'_, T> {
        FactorMut { size: self.size, covariance: self.covariance, basis: self.basis }
    }

    /// n, the side of the factor.
    pub fn size(&self) -> usize {
        self.size
    }

    /// U, n x n, eigenvectors in columns.
    pub fn basis(&self) -> MatrixRef<'_, T> {
        MatrixRef::over(self.basis, self.size, self.size)
    }

    /// C, the factor seen in its basis: the packed upper triangle ([`jacobi::packed_index`]).
    pub fn covariance(&self) -> &[T] {
        self.covariance
    }

    /// The eigenvalue estimates diag C, in the order of the basis; rounding may leave the smallest just below zero.
    pub fn values(&self) -> impl Iterator<Item = T> + '_ {
        (0..self.size).map(|i| jacobi::diagonal(self.covariance, i))
    }

    /// The sum of the eigenvalues.
    pub fn trace(&self) -> T {
        self.values().fold(T::ZERO, |sum, value| sum + value)
    }

    /// The largest eigenvalue over the smallest; infinite for a singular factor.
    pub fn condition(&self) -> T {
        let (mut low, mut high) = (T::MAX, T::ZERO);
        for value in self.values() {
            low = low.minimum(value.maximum(T::ZERO));
            high = high.maximum(value);
        }
        high / low
    }

    /// |C - diag C| / |C|, the health of the basis: 0 when it is exact.
    pub fn off_diagonal(&self) -> T {
        jacobi::off_diagonal(self.covariance, self.size)
    }

    /// max |U^T U - I|.
    pub fn orthogonality(&self) -> T {
        let mut worst = T::ZERO;
        for (j, right) in self.basis().iter_columns().enumerate() {
            for (i, left) in self.basis().iter_columns().take(j + 1).enumerate() {
                let target = if i == j { T::ONE } else { T::ZERO };
                worst = worst.maximum((dot(left, right) - target).abs());
            }
        }
        worst
    }

    /// The factor in parameter coordinates, U C U^T, n x n, for inspection and export: 2 n^3 operations, no scratch.
    ///
    /// # Errors
    /// [`Error::Length`] when `out` is not n x n.
    pub fn reconstruct(&self, mut out: MatrixMut<'_, T>) -> Result<(), Error> {
        expect_length("factor rows", self.size, out.rows())?;
        expect_length("factor columns", self.size, out.columns())?;
        out.as_mut_slice().fill(T::ZERO);
        for (k, right) in self.basis().iter_columns().enumerate() {
            for (l, left) in self.basis().iter_columns().enumerate() {
                let value = self.covariance.get(jacobi::packed_index(k.min(l), k.max(l))).copied();
                let value = value.unwrap_or(T::ZERO);
                for (column, y) in out.iter_columns_mut().zip(right) {
                    let coefficient = value * *y;
                    column.iter_mut().zip(left).for_each(|(into, x)| *into += coefficient * *x);
                }
            }
        }
        Ok(())
    }

    /// Overwrites basis and covariance, as after loading: the covariance is packed.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NonFinite`]: before any write.
    pub fn load(&mut self, basis: MatrixRef<'_, T>, covariance: &[T]) -> Result<(), Error> {
        expect_length("basis rows", self.size, basis.rows())?;
        expect_length("basis columns", self.size, basis.columns())?;
        expect_length("covariance", packed_words(self.size), covariance.len())?;
        for (argument, values) in [("basis", basis.as_slice()), ("covariance", covariance)] {
            if let Some(index) = crate::guard::first_non_finite(values) {
                return Err(Error::NonFinite { argument, index });
            }
        }
        self.basis.copy_from_slice(basis.as_slice());
        self.covariance.copy_from_slice(covariance);
        Ok(())
    }

    pub(crate) fn set_identity(&mut self) {
        jacobi::set_identity(self.basis, self.size);
    }

    /// out = U^T x; with one row less in x than U has, x has a virtual 1 in the last place (the bias).
    pub(crate) fn project(&self, counted: &mut Counted<'_, T>, x: MatrixRef<'_, T>, out: &mut [T]) {
        let (inputs, batch) = (x.rows(), x.columns());
        let into = MatrixMut::over(out, self.size, batch);
        counted.product_left_transposed(into, self.basis().top(inputs), x, T::ONE, T::ZERO);
        if inputs < self.size {
            for column in out.chunks_exact_mut(self.size) {
                for (value, vector) in column.iter_mut().zip(self.basis().iter_columns()) {
                    *value += vector.get(inputs).copied().unwrap_or(T::ZERO);
                }
            }
        }
    }

    /// Blends the second moment of projected examples, n x N, into C.
    pub(crate) fn observe(
        &mut self,
        counted: &mut Counted<'_, T>,
        projected: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        counted.symmetric_update(self.covariance, projected, blend, scratch);
    }

    /// Rotates C towards diagonal form; the basis and the companions turn along.
    pub(crate) fn refresh(&mut self, companions: [Companion<'_, T>; 3], limits: Limits<T>) -> Report<T> {
        let [first, second, third] = companions;
        let basis = Companion::columns(self.basis, self.size, Turn::Linear);
        jacobi::diagonalise(self.covariance, self.size, &mut [basis, first, second, third], limits)
    }
}
