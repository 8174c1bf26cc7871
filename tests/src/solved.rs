//! A symmetric matrix solved by core, widened to `f64`, and LAPACK's ratios for it.

use crate::oracle::{dense, narrowed, unit, unpacked};
use ekfac::{
    MatrixRef, Scalar,
    jacobi::{self, Limits, Report},
};
use nalgebra::DMatrix;

/// A solved matrix, widened.
pub struct Solved<T> {
    /// What was solved, after rounding to the type, scaled near 1.
    pub matrix: DMatrix<f64>,
    /// C as it was left.
    pub packed: Vec<T>,
    /// U.
    pub basis: DMatrix<f64>,
    /// What the solver says of its work.
    pub report: Report<T>,
    /// A power of two whose square brings the entries near 1, so that squares in the measures stay in range.
    pub unscale: f64,
}

/// Solves a matrix by [`jacobi::eigen`], in the given type.
pub fn solve<T: Scalar>(matrix: &DMatrix<f64>, limits: Limits<T>) -> Solved<T> {
    let size = matrix.ncols();
    let values: Vec<T> = narrowed(matrix);
    let given = MatrixRef::new(&values, size, size).expect("a square");
    let (mut packed, mut basis) = (vec![T::ZERO; size * (size + 1) / 2], vec![T::ZERO; size * size]);
    let report = jacobi::eigen(given, &mut packed, &mut basis, limits).expect("finite");
    let basis = dense(MatrixRef::new(&basis, size, size).expect("a square"));
    let (matrix, unscale) = near_one(&dense(given));
    Solved { matrix, packed, basis, report, unscale }
}

/// The matrix with entries near 1, and the power of two whose square brought them there.
pub fn near_one(matrix: &DMatrix<f64>) -> (DMatrix<f64>, f64) {
    let largest = matrix.amax();
    // Halved, since a power beyond 2^1023 is no number.
    let unscale = if largest > 0.0 { 2.0_f64.powi(-(largest.log2() as i32) / 2) } else { 1.0 };
    (matrix * unscale * unscale, unscale)
}

impl<T: Scalar> Solved<T> {
    /// n.
    pub fn size(&self) -> usize {
        self.matrix.ncols()
    }

    /// The eigenvalues in the order of the basis, scaled like the matrix.
    pub fn values(&self) -> Vec<f64> {
        self.inside().diagonal().iter().copied().collect()
    }

    /// C, scaled like the matrix.
    pub fn inside(&self) -> DMatrix<f64> {
        unpacked(&self.packed, self.size()) * self.unscale * self.unscale
    }

    /// n u, or u for the empty matrix.
    pub fn rounding(&self) -> f64 {
        self.size().max(1) as f64 * unit::<T>()
    }

    /// |A - U C U^T| / (|A| n u); with `diagonal` only the eigenvalues of C count.
    pub fn residual(&self, diagonal: bool) -> f64 {
        let mut inside = self.inside();
        if diagonal {
            inside = DMatrix::from_diagonal(&inside.diagonal());
        }
        residual(&self.matrix, &self.basis, &inside) / self.rounding()
    }

    /// |I - U^T U| / (n u).
    pub fn orthogonality(&self) -> f64 {
        orthogonality(&self.basis) / self.rounding()
    }
}

/// |A - U C U^T| / |A|, the absolute difference where A is zero.
pub fn residual(matrix: &DMatrix<f64>, basis: &DMatrix<f64>, inside: &DMatrix<f64>) -> f64 {
    let difference = (matrix - basis * inside * basis.transpose()).norm();
    let size = matrix.norm();
    if size == 0.0 { difference } else { difference / size }
}

/// |I - U^T U| in the Frobenius norm.
pub fn orthogonality(basis: &DMatrix<f64>) -> f64 {
    (basis.transpose() * basis - DMatrix::identity(basis.ncols(), basis.ncols())).norm()
}

/// The larger of two ratios, NaN when either is NaN.
pub fn worse(left: f64, right: f64) -> f64 {
    if left.is_nan() || right.is_nan() { f64::NAN } else { left.max(right) }
}
