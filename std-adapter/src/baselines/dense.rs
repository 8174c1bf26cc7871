//! Dense kernels on column-major slices: products, eigenvectors and orthonormalisation.
//!
//! ```text
//! C ← A B,  Aᵀ B,  A Bᵀ          F ← β F + (1 − β) A Aᵀ
//! F = U diag(d) Uᵀ, d descending          P = Q R, the columns of Q orthonormal
//! ```
//!
//! Golub & Van Loan 2013, §8.3 (symmetric QR algorithm) and §5.2 (Householder QR); both
//! factorisations and the products are faer's, on one thread, so results are deterministic.
//!
//! *Invariant.* A matrix is scaled by the power of two that brings its largest entry into `[1, 2)`
//! before its eigenvectors are taken. The scaling is exact and changes no eigenvector; without it
//! faer's eigenvectors of small-scaled matrices of order 128 and more are wrong. Its Householder QR
//! scales norms itself.
//!
//! *Cost.* A product of `m × k` by `k × n` takes `2 m k n` operations, eigenvectors about `9 n³`,
//! `P = Q R` with `Q` formed `8/3 n³`. Scratch memory is kept between calls.
//!
//! *How it fails.* Shapes are the caller's; slices are cut from buffers of the right length. The
//! eigendecomposition may report that it did not converge.

use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj,
};
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::{Accum, Conj, Mat, MatMut, MatRef, Par, Spec, diag::DiagMut};

/// A column-major matrix that is read.
pub(super) fn view(values: &[f32], rows: usize, columns: usize) -> MatRef<'_, f32> {
    MatRef::from_column_major_slice(values, rows, columns)
}

/// A column-major matrix that is written.
pub(super) fn view_mut(values: &mut [f32], rows: usize, columns: usize) -> MatMut<'_, f32> {
    MatMut::from_column_major_slice_mut(values, rows, columns)
}

/// `target ← left · right`.
pub(super) fn multiply(target: MatMut<'_, f32>, left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    matmul(target, Accum::Replace, left, right, 1.0, Par::Seq);
}

/// `factor ← decay · factor + (1 − decay) · matrix · matrixᵀ`.
pub(super) fn average_gram(factor: &mut [f32], decay: f32, matrix: MatRef<'_, f32>) {
    factor.iter_mut().for_each(|value| *value *= decay);
    let order = matrix.nrows();
    let target = view_mut(factor, order, order);
    matmul(target, Accum::Add, matrix, matrix.transpose(), 1.0 - decay, Par::Seq);
}

/// Scales by the power of two that brings the largest magnitude into `[1, 2)`; a zero matrix stays.
fn scale_to_unit(values: &mut [f32]) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    if largest > 0.0 {
        let exponent = f64::from(largest).log2().floor();
        values.iter_mut().for_each(|value| *value = (f64::from(*value) * (-exponent).exp2()) as f32);
    }
}

/// Buffers of the factorisations, for orders up to the one given to [`Factoriser::new`].
pub(super) struct Factoriser {
    reflectors: Vec<f32>,
    coefficients: Mat<f32>,
    eigenvalues: Vec<f32>,
    stack: MemBuffer,
}

impl Factoriser {
    /// Buffers for matrices of order `largest`.
    pub(super) fn new(largest: usize) -> Self {
        let block = recommended_block_size::<f32>(largest, largest);
        let requirement = StackReq::any_of(&[
            self_adjoint_evd_scratch::<f32>(largest, ComputeEigenvectors::Yes, Par::Seq, Spec::default()),
            qr_in_place_scratch::<f32>(largest, largest, block, Par::Seq, Spec::default()),
            apply_block_householder_sequence_on_the_left_in_place_scratch::<f32>(largest, block, largest),
        ]);
        Self {
            reflectors: vec![0.0; largest * largest],
            coefficients: Mat::zeros(block, largest),
            eigenvalues: vec![0.0; largest],
            stack: MemBuffer::new(requirement),
        }
    }

    /// Writes the eigenvectors of a symmetric `factor`, largest eigenvalue first, into `basis`;
    /// false when the iteration did not converge.
    pub(super) fn eigenvectors(&mut self, factor: &[f32], order: usize, basis: &mut [f32]) -> bool {
        let scaled = &mut self.reflectors[..order * order];
        scaled.copy_from_slice(factor);
        scale_to_unit(scaled);
        let values = DiagMut::from_slice_mut(&mut self.eigenvalues[..order]);
        let vectors = Some(view_mut(basis, order, order));
        let matrix = view(scaled, order, order);
        let stack = MemStack::new(&mut self.stack);
        let outcome = self_adjoint_evd(matrix, values, vectors, Par::Seq, stack, Spec::default());
        reverse_columns(basis, order);
        outcome.is_ok() && basis.iter().all(|value| value.is_finite())
    }

    /// Replaces `basis = Q R` by its orthonormal factor `Q`.
    pub(super) fn orthonormalise(&mut self, basis: &mut [f32], order: usize) {
        let reflectors = &mut self.reflectors[..order * order];
        reflectors.copy_from_slice(basis);
        let block = recommended_block_size::<f32>(order, order).min(self.coefficients.nrows());
        let mut coefficients = self.coefficients.as_mut().submatrix_mut(0, 0, block, order);
        let stack = MemStack::new(&mut self.stack);
        let target = view_mut(reflectors, order, order);
        let _rank_is_not_needed =
            qr_in_place(target, coefficients.as_mut(), Par::Seq, stack, Spec::default());
        identity(basis, order);
        apply_block_householder_sequence_on_the_left_in_place_with_conj(
            view(reflectors, order, order),
            coefficients.as_ref(),
            Conj::No,
            view_mut(basis, order, order),
            Par::Seq,
            stack,
        );
    }
}

/// Writes the identity matrix.
pub(super) fn identity(target: &mut [f32], order: usize) {
    target.fill(0.0);
    target.iter_mut().step_by(order + 1).for_each(|value| *value = 1.0);
}

fn reverse_columns(matrix: &mut [f32], order: usize) {
    for column in 0..order / 2 {
        let (left, right) = matrix.split_at_mut((order - 1 - column) * order);
        left[column * order..(column + 1) * order].swap_with_slice(&mut right[..order]);
    }
}
