//! One side's Shampoo factor and the eigenbasis that follows it.
//!
//! ```text
//! F ← β F + (1 − β) A Aᵀ,     A = G on the left, A = Gᵀ on the right
//! P = F Q,  dᵢ = qᵢᵀ pᵢ,  π sorts d in descending order,  Q ← QR(P π)
//! ```
//!
//! Vyas et al. 2024 (arXiv 2409.11321), algorithm 3 for the average and algorithm 4 for the step of
//! power iteration; the sort and the permutation of the second moment are those of the authors'
//! published code.
//!
//! *Invariant.* `QᵀQ = I` to rounding, since `Q` comes from Householder reflections every time.
//! The permutation is a bijection, so the second moment is reordered and never mixed.
//!
//! *Cost.* For order `n` and a gradient with `k` columns: `2 n² k + 2 n²` operations for the
//! average; `2 n³ + 2 n² + 8/3 n³` for the power step; `9 n³` once for the first eigenvectors.
//! `2 n²` words of state.
//!
//! *How it fails.* Only the first eigendecomposition can, by not converging.

use super::dense::{self, Factoriser};
use faer::MatRef;

/// Factor and basis of one side of a matrix.
pub(super) struct Eigenbasis {
    pub(super) order: usize,
    factor: Vec<f32>,
    pub(super) basis: Vec<f32>,
}

impl Eigenbasis {
    /// A zero factor with the identity as its basis.
    pub(super) fn new(order: usize) -> Self {
        let mut basis = vec![0.0; order * order];
        dense::identity(&mut basis, order);
        Self { order, factor: vec![0.0; order * order], basis }
    }

    /// The basis as a matrix.
    pub(super) fn view(&self) -> MatRef<'_, f32> {
        dense::view(&self.basis, self.order, self.order)
    }

    /// Starts the average from one gradient and takes its eigenvectors; false when they did not
    /// converge, and then the factor is zero again.
    pub(super) fn start(&mut self, decay: f32, gradient: MatRef<'_, f32>, buffers: &mut Factoriser) -> bool {
        self.factor.fill(0.0);
        self.average(decay, gradient);
        buffers.eigenvectors(&self.factor, self.order, &mut self.basis)
    }

    /// Takes one gradient into the average.
    pub(super) fn average(&mut self, decay: f32, gradient: MatRef<'_, f32>) {
        dense::average_gram(&mut self.factor, decay, gradient);
    }

    /// One step of power iteration. `product` is scratch of `order²` entries; `permutation` gives,
    /// for each new column, the old column whose place it takes.
    pub(super) fn refresh(
        &mut self,
        buffers: &mut Factoriser,
        product: &mut [f32],
        estimates: &mut Vec<f32>,
        permutation: &mut Vec<usize>,
    ) {
        let order = self.order;
        let product = &mut product[..order * order];
        let target = dense::view_mut(product, order, order);
        dense::multiply(target, dense::view(&self.factor, order, order), self.view());
        sort_by_estimate(&self.basis, product, order, estimates, permutation);
        gather_columns(product, &mut self.basis, order, permutation);
        buffers.orthonormalise(&mut self.basis, order);
    }

    /// Operations of [`Eigenbasis::average`] for a gradient with `columns` columns.
    pub(super) fn average_operations(&self, columns: usize) -> u64 {
        let (order, columns) = (self.order as u64, columns as u64);
        2 * order * order * (columns + 1)
    }

    /// Operations of the first eigendecomposition.
    pub(super) fn start_operations(&self) -> u64 {
        9 * (self.order as u64).pow(3)
    }

    /// Operations of [`Eigenbasis::refresh`].
    pub(super) fn refresh_operations(&self) -> u64 {
        let order = self.order as u64;
        (14 * order.pow(3)).div_ceil(3) + 2 * order * order
    }
}

/// Fills `permutation` with the columns in descending order of `qᵢᵀ pᵢ`; equal estimates keep
/// their order.
fn sort_by_estimate(
    basis: &[f32],
    product: &[f32],
    order: usize,
    estimates: &mut Vec<f32>,
    permutation: &mut Vec<usize>,
) {
    let columns = basis.chunks_exact(order).zip(product.chunks_exact(order));
    estimates.clear();
    estimates.extend(columns.map(|(q, p)| q.iter().zip(p).map(|(a, b)| a * b).sum::<f32>()));
    permutation.clear();
    permutation.extend(0..order);
    permutation.sort_by(|&left, &right| estimates[right].total_cmp(&estimates[left]));
}

/// Column `i` of `target` becomes column `permutation[i]` of `source`; columns have `height` rows.
pub(super) fn gather_columns(source: &[f32], target: &mut [f32], height: usize, permutation: &[usize]) {
    for (column, &from) in target.chunks_exact_mut(height).zip(permutation) {
        column.copy_from_slice(&source[from * height..(from + 1) * height]);
    }
}

/// Row `i` of `target` becomes row `permutation[i]` of `source`.
pub(super) fn gather_rows(source: &[f32], target: &mut [f32], permutation: &[usize]) {
    let height = permutation.len();
    for (target, source) in target.chunks_exact_mut(height).zip(source.chunks_exact(height)) {
        for (entry, &from) in target.iter_mut().zip(permutation) {
            *entry = source[from];
        }
    }
}
