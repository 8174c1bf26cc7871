//! Eigendecomposition of a symmetric matrix on a desktop: faer where it is right, and never a wrong answer.
//!
//! faer 0.24.4 returns `Ok` with orthogonal but wrong vectors when a matrix of 128 rows or more is far from unit size (31% wrong at
//! 1e-8, n = 256), NaN for NaN, and no answer at all for some subnormal matrices. So:
//!
//! ```text
//! finite check -> scale by a power of two to max|a| in [1, 2) -> floor: |a_ij| < eps^2 becomes 0
//! -> the first engine whose answer passes:  |A V - V L| / (|A| n u) <= 30  and  |V^T V - I| / (n u) <= 30
//! -> else the last good basis; more than three times in a row an error
//! ```
//!
//! The engines are faer, core's Jacobi, and that in `f64`. *Invariant*: what comes back from an engine has passed the check,
//! whatever the engine says of itself. *Cost*: that of the engine, two products of n^3 for the check, 2 n^2 words and faer's
//! workspace. *Failure*: [`EigenError`]; the last good decomposition stays in every case.

use crate::kernels::Element;
use ekfac::{Error, MatrixRef, Scalar, guard, jacobi};
use faer::{
    Accum, MatMut, MatRef, Par,
    diag::DiagMut,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch},
        matmul::matmul,
    },
};

/// The largest ratio of the residual and of the loss of orthogonality to n u. LAPACK's own limit is 60.
pub const RATIO: f64 = 30.0;

/// So many times in a row the last good basis may stand in.
pub const MAX_STAND_INS: u32 = 3;

/// Matrices smaller than this go to core's Jacobi first: it is as fast there, and its small eigenvalues are more accurate.
pub const CROSSOVER: usize = 32;

/// A = V diag(values) V^T.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen<T> {
    /// The eigenvalues, in the order of the vectors; no other order is promised.
    pub values: Vec<T>,
    /// V, n x n, column-major, an eigenvector in each column.
    pub vectors: Vec<T>,
}

impl<T> Eigen<T> {
    /// n.
    #[must_use]
    pub fn size(&self) -> usize {
        self.values.len()
    }
}

/// Where a decomposition comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the engine of this name.
    Engine(&'static str),
    /// No engine passed: it is that of an earlier matrix.
    LastGood,
}

/// Why there is no decomposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EigenError {
    /// The matrix is not square, or holds a NaN or an infinity.
    #[error(transparent)]
    Argument(#[from] Error),
    /// No engine passed the check, and no earlier basis of this size may stand in (any longer).
    #[error("no eigensolver gave an answer that passes the check")]
    Failed,
}

/// An eigensolver: fills values and vectors for a square matrix with entries near 1, both triangles given, and says whether it believes in
/// them.
pub type Engine<T> = fn(MatrixRef<'_, T>, &mut [T], &mut [T]) -> bool;

/// Solves one matrix after another, and keeps the last good decomposition.
///
/// ```
/// use ekfac::MatrixRef;
/// use ekfac_std::{Eigensolver, Origin};
/// let mut solver = Eigensolver::new();
/// let (eigen, origin) = solver.solve(MatrixRef::new(&[2e-9_f32, 1e-9, 1e-9, 2e-9], 2, 2)?)?;
/// assert_eq!(origin, Origin::Engine("jacobi"));
/// assert!(eigen.values.iter().any(|value| (value - 3e-9).abs() < 1e-15));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Eigensolver<T> {
    engines: Vec<(&'static str, Engine<T>)>,
    last: Option<Eigen<T>>,
    stand_ins: u32,
}

impl<T: Element> Default for Eigensolver<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Element> Eigensolver<T> {
    /// With faer, core's Jacobi, and that in `f64`.
    #[must_use]
    pub fn new() -> Self {
        Self::with_engines(vec![
            ("faer", faer_engine),
            ("jacobi", jacobi_engine),
            ("jacobi in f64", wide_engine),
        ])
    }

    /// With other engines, tried in this order.
    #[must_use]
    pub fn with_engines(engines: Vec<(&'static str, Engine<T>)>) -> Self {
        Self { engines, last: None, stand_ins: 0 }
    }

    /// The last decomposition that passed the check.
    #[must_use]
    pub fn last(&self) -> Option<&Eigen<T>> {
        self.last.as_ref()
    }

    /// Decomposes a symmetric matrix; both triangles are read.
    ///
    /// # Errors
    /// [`EigenError::Argument`] for a matrix that is not square or not finite; [`EigenError::Failed`] when no engine passes the check
    /// and no basis may stand in. [`last`](Self::last) stays what it was.
    pub fn solve(&mut self, matrix: MatrixRef<'_, T>) -> Result<(&Eigen<T>, Origin), EigenError> {
        let size = matrix.rows();
        if matrix.columns() != size {
            let (argument, expected, found) = ("matrix columns", size, matrix.columns());
            return Err(Error::Length { argument, expected, found }.into());
        }
        for (column, values) in matrix.iter_columns().enumerate() {
            if let Some(row) = guard::first_non_finite(values) {
                let (argument, index) = ("matrix", column * matrix.stride() + row);
                return Err(Error::NonFinite { argument, index }.into());
            }
        }
        let (scaled, exponent) = scaled(matrix);
        let scaled = MatrixRef::new(&scaled, size, size)?;
        let mut eigen = Eigen { values: vec![T::ZERO; size], vectors: vec![T::ZERO; size * size] };
        for (name, engine) in self.order(size) {
            if engine(scaled, &mut eigen.values, &mut eigen.vectors) && passes(scaled, &eigen) {
                eigen.values.iter_mut().for_each(|value| *value = value.times_power_of_two(exponent));
                self.stand_ins = 0;
                return Ok((self.last.insert(eigen), Origin::Engine(name)));
            }
        }
        self.stand_ins = self.stand_ins.saturating_add(1);
        match &self.last {
            Some(last) if last.size() == size && self.stand_ins <= MAX_STAND_INS => {
                Ok((last, Origin::LastGood))
            }
            _ => Err(EigenError::Failed),
        }
    }

    /// The engines, the first one last for small matrices.
    fn order(&self, size: usize) -> Vec<(&'static str, Engine<T>)> {
        let mut engines = self.engines.clone();
        if size < CROSSOVER && !engines.is_empty() {
            engines.rotate_left(1);
        }
        engines
    }
}

/// The matrix divided by a power of two, column-major, without what is too small to count; and the power.
fn scaled<T: Scalar>(matrix: MatrixRef<'_, T>) -> (Vec<T>, i32) {
    let largest =
        matrix.iter_columns().flatten().fold(T::ZERO, |largest, value| largest.maximum(value.abs()));
    let exponent = largest.exponent();
    let floor = T::EPSILON * T::EPSILON;
    let scale = |value: &T| {
        let value = value.times_power_of_two(-exponent);
        if value.abs() < floor { T::ZERO } else { value }
    };
    (matrix.iter_columns().flatten().map(scale).collect(), exponent)
}

/// Residual and orthogonality within the ratio; NaN never is.
fn passes<T: Element>(matrix: MatrixRef<'_, T>, eigen: &Eigen<T>) -> bool {
    let size = eigen.size();
    let square = |values| MatRef::from_column_major_slice(values, size, size);
    let vectors = square(&eigen.vectors);
    let mut product = vec![T::ZERO; size * size];
    let multiply = |left: MatRef<'_, T>, product: &mut [T]| {
        let out = MatMut::from_column_major_slice_mut(product, size, size);
        matmul(out, Accum::Replace, left, vectors, T::ONE, Par::Seq);
    };
    let limit = RATIO * size as f64 * T::EPSILON.to_f64();
    let norm = |values: &[T]| values.iter().map(|value| value.to_f64() * value.to_f64()).sum::<f64>().sqrt();

    let given: Vec<T> = matrix.iter_columns().flatten().copied().collect();
    multiply(square(&given), &mut product);
    let columns = product.chunks_exact_mut(size.max(1)).zip(eigen.vectors.chunks_exact(size.max(1)));
    for ((column, vector), value) in columns.zip(&eigen.values) {
        column.iter_mut().zip(vector).for_each(|(x, v)| *x -= *value * *v);
    }
    let residual = norm(&product);
    multiply(vectors.transpose(), &mut product);
    product.iter_mut().step_by(size + 1).for_each(|x| *x -= T::ONE);
    residual <= limit * norm(&given) && norm(&product) <= limit
}

fn faer_engine<T: Element>(matrix: MatrixRef<'_, T>, values: &mut [T], vectors: &mut [T]) -> bool {
    let size = matrix.rows();
    let given: Vec<T> = matrix.iter_columns().flatten().copied().collect();
    let given = MatRef::from_column_major_slice(&given, size, size);
    let scratch = self_adjoint_evd_scratch::<T>(size, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    let Ok(mut buffer) = MemBuffer::try_new(scratch) else { return false };
    let values = DiagMut::from_slice_mut(values);
    let vectors = MatMut::from_column_major_slice_mut(vectors, size, size);
    let stack = MemStack::new(&mut buffer);
    self_adjoint_evd(given, values, Some(vectors), Par::Seq, stack, Default::default()).is_ok()
}

fn jacobi_engine<T: Element>(matrix: MatrixRef<'_, T>, values: &mut [T], vectors: &mut [T]) -> bool {
    let size = matrix.rows();
    let mut packed = vec![T::ZERO; size * (size + 1) / 2];
    let report = jacobi::eigen(matrix, &mut packed, vectors, Default::default());
    for (index, value) in values.iter_mut().enumerate() {
        *value = jacobi::diagonal(&packed, index);
    }
    report.is_ok_and(|report| report.converged)
}

fn wide_engine<T: Element>(matrix: MatrixRef<'_, T>, values: &mut [T], vectors: &mut [T]) -> bool {
    let size = matrix.rows();
    let wide: Vec<f64> = matrix.iter_columns().flatten().map(|value| value.to_f64()).collect();
    let (mut wide_values, mut wide_vectors) = (vec![0.0; size], vec![0.0; size * size]);
    let Ok(wide) = MatrixRef::new(&wide, size, size) else { return false };
    let converged = jacobi_engine(wide, &mut wide_values, &mut wide_vectors);
    values.iter_mut().zip(wide_values).for_each(|(into, value)| *into = T::from_f64(value));
    vectors.iter_mut().zip(wide_vectors).for_each(|(into, value)| *into = T::from_f64(value));
    converged
}
