//! Jacobi's method on a packed symmetric matrix, one rotation at a time.
//!
//! The rotation in the plane (p, q) annihilates c_pq (Rutishauser's form: x - s (y + tau x), y + s (x - tau y), which
//! keeps the drift from orthogonality small):
//!
//! ```text
//! theta = (c_qq - c_pp) / (2 c_pq),  t = sign(theta) / (|theta| + sqrt(theta^2 + 1)),
//! c = 1 / sqrt(t^2 + 1),  s = t c,  tau = s / (1 + c)
//! ```
//!
//! *Invariant*: after every rotation U C U^T is what it was, and everything else that lives in the eigenbasis (scalings,
//! velocity) has turned along as a [`Companion`]. So a solve may stop after any rotation and the state is valid.
//! Eigenvalues are never sorted in place: a sorted basis with unmoved scalings is the recurring bug of the field.
//!
//! *Stop*: a pair is skipped when |c_pq| <= threshold sqrt(c_pp c_qq), the product, which gives every eigenvalue of a
//! graded matrix its own relative accuracy (Demmel and Veselic 1992). A sweep without a rotation ends the solve.
//! *Scaling*: a matrix whose largest entry lies beyond 2^(+-50) (`f32`) or 2^(+-400) (`f64`) is first scaled by a power of two.
//! *Cost*: a sweep checks n (n-1)/2 pairs; a rotation costs 6 operations a word it touches: n of C, n of U, and the
//! companions' lines. No memory, no allocation. *Failure*: [`Report::converged`] is false when the cap on sweeps
//! (30 for `f32`, 40 for `f64`) ends it; C and U are valid all the same.

use crate::{Error, MatrixRef, Scalar, error::expect_length, guard, shape::packed_words};

/// When a solve ends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Limits<T> {
    /// Most sweeps over all pairs.
    pub sweeps: u32,
    /// Skip the pair (p, q) when |c_pq| <= threshold * sqrt(c_pp c_qq).
    pub threshold: T,
}

impl<T: Scalar> Default for Limits<T> {
    /// To convergence: the type's epsilon, capped at [`Scalar::SWEEP_LIMIT`].
    fn default() -> Self {
        Self { sweeps: T::SWEEP_LIMIT, threshold: T::EPSILON }
    }
}

/// What a solve did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report<T> {
    /// Sweeps walked, the last, idle one included.
    pub sweeps: u32,
    /// Rotations done.
    pub rotations: u32,
    /// |C - diag C| / |C| (Frobenius) afterwards: 0 for a diagonal matrix.
    pub off_diagonal: T,
    /// False when the cap on sweeps ended the solve.
    pub converged: bool,
}

/// One plane rotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotation<T> {
    tangent: T,
    sine: T,
    ratio: T,
}

impl<T: Scalar> Rotation<T> {
    /// The rotation by at most 45 degrees that annihilates c_pq.
    pub fn annihilating(c_pp: T, c_qq: T, c_pq: T) -> Self {
        let theta = T::HALF * ((c_qq - c_pp) / c_pq);
        let size = theta.abs();
        // Beyond 1/eps the square root is |theta| to the last bit, and theta^2 could overflow.
        let tangent = if size * T::EPSILON > T::ONE {
            T::HALF / size
        } else {
            T::ONE / (size + (size * size + T::ONE).sqrt())
        };
        let tangent = if theta < T::ZERO { -tangent } else { tangent };
        let cosine = T::ONE / (tangent * tangent + T::ONE).sqrt();
        let sine = tangent * cosine;
        Self { tangent, sine, ratio: sine / (T::ONE + cosine) }
    }

    /// The pair (x, y) turned.
    fn turned(&self, x: T, y: T) -> (T, T) {
        (x - self.sine * (y + self.ratio * x), y + self.sine * (x - self.ratio * y))
    }

    /// The pair of second moments (x, y) turned: the diagonal of the rotated diagonal. Keeps the sum and the sign.
    fn turned_moments(&self, x: T, y: T) -> (T, T) {
        let moved = self.sine * self.sine * (x - y);
        (x - moved, y + moved)
    }
}

/// How the values of a companion change under a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Like a vector: the basis, a gradient, a velocity.
    Linear,
    /// Like second moments: the scalings.
    Moments,
}

/// A matrix that turns along with a basis: line p and line q change with every rotation in the plane (p, q).
#[derive(Debug)]
pub struct Companion<'a, T> {
    data: &'a mut [T],
    stride: usize,
    by_columns: bool,
    turn: Turn,
}

impl<'a, T: Scalar> Companion<'a, T> {
    /// A matrix of `rows` rows whose columns are the lines.
    pub fn columns(data: &'a mut [T], rows: usize, turn: Turn) -> Self {
        Self { data, stride: rows, by_columns: true, turn }
    }

    /// A matrix of `rows` rows whose rows are the lines.
    pub fn rows(data: &'a mut [T], rows: usize, turn: Turn) -> Self {
        Self { data, stride: rows, by_columns: false, turn }
    }

    fn rotate(&mut self, p: usize, q: usize, rotation: &Rotation<T>) {
        match (self.by_columns, self.turn) {
            (true, Turn::Linear) => self.rotate_columns(p, q, |x, y| rotation.turned(x, y)),
            (true, Turn::Moments) => self.rotate_columns(p, q, |x, y| rotation.turned_moments(x, y)),
            (false, Turn::Linear) => self.rotate_rows(p, q, |x, y| rotation.turned(x, y)),
            (false, Turn::Moments) => self.rotate_rows(p, q, |x, y| rotation.turned_moments(x, y)),
        }
    }

    fn rotate_columns(&mut self, p: usize, q: usize, turned: impl Fn(T, T) -> (T, T)) {
        let Some((head, tail)) = self.data.split_at_mut_checked(q.saturating_mul(self.stride)) else {
            return;
        };
        let start = p * self.stride;
        let (Some(xs), Some(ys)) = (head.get_mut(start..start + self.stride), tail.get_mut(..self.stride))
        else {
            return;
        };
        xs.iter_mut().zip(ys).for_each(|(x, y)| (*x, *y) = turned(*x, *y));
    }

    fn rotate_rows(&mut self, p: usize, q: usize, turned: impl Fn(T, T) -> (T, T)) {
        for column in self.data.chunks_exact_mut(self.stride.max(1)) {
            if let Ok([x, y]) = column.get_disjoint_mut([p, q]) {
                (*x, *y) = turned(*x, *y);
            }
        }
    }
}

/// Index of c_ij, i <= j, in the packed upper triangle: columns one after another.
pub fn packed_index(i: usize, j: usize) -> usize {
    packed_words(j).saturating_add(i)
}

/// The diagonal entry c_ii of a packed matrix; 0 outside.
pub fn diagonal<T: Scalar>(packed: &[T], i: usize) -> T {
    packed.get(packed_index(i, i)).copied().unwrap_or(T::ZERO)
}

/// |C - diag C| / |C| in the Frobenius norm, 0 for a zero matrix.
pub fn off_diagonal<T: Scalar>(packed: &[T], size: usize) -> T {
    let exponent = largest(packed).exponent();
    // Near 1 the squares neither overflow nor lose anything that counts.
    let scaled = exponent.abs() > T::SAFE_EXPONENT / 2;
    let (mut off, mut all) = (T::ZERO, T::ZERO);
    for j in 0..within(size, packed) {
        for (i, value) in packed.iter().skip(packed_words(j)).take(j + 1).enumerate() {
            let value = if scaled { value.times_power_of_two(-exponent) } else { *value };
            if i == j {
                all += value * value;
            } else {
                off += (value * value) * T::from_f64(2.0);
            }
        }
    }
    if off + all > T::ZERO { (off / (off + all)).sqrt() } else { T::ZERO }
}

/// Rotates a packed symmetric matrix towards diagonal form and turns the companions along.
///
/// `packed` holds the upper triangle, columns one after another ([`packed_index`]). Values must be finite; the owners
/// see to that before ([`eigen`] for a matrix from outside).
pub fn diagonalise<T: Scalar>(
    packed: &mut [T],
    size: usize,
    companions: &mut [Companion<'_, T>],
    limits: Limits<T>,
) -> Report<T> {
    let size = within(size, packed);
    let exponent = largest(packed).exponent();
    let scaled = exponent.abs() > T::SAFE_EXPONENT;
    if scaled {
        packed.iter_mut().for_each(|value| *value = value.times_power_of_two(-exponent));
    }
    let mut report = Report { sweeps: 0, rotations: 0, off_diagonal: T::ZERO, converged: false };
    while report.sweeps < limits.sweeps && !report.converged {
        let rotations = sweep(packed, size, companions, limits.threshold);
        report.sweeps += 1;
        report.rotations += rotations;
        report.converged = rotations == 0;
    }
    report.off_diagonal = off_diagonal(packed, size);
    if scaled {
        packed.iter_mut().for_each(|value| *value = value.times_power_of_two(exponent));
    }
    report
}

/// Eigenvalues and eigenvectors of a symmetric matrix: `matrix` = U diag(values) U^T.
///
/// Only the upper triangle of `matrix` (n x n) is read. `packed` (n (n+1)/2 words) receives the rotated matrix, whose
/// [`diagonal`] holds the eigenvalues in no particular order; `basis` (n x n) receives the eigenvectors in its columns.
///
/// # Errors
/// [`Error::Length`] for wrong sizes, [`Error::NonFinite`] for a NaN or an infinity anywhere in the upper triangle:
/// both before any write.
///
/// ```
/// use ekfac::{MatrixRef, jacobi};
/// let matrix = nalgebra::matrix![2.0_f64, 1.0; 1.0, 2.0];
/// let (mut packed, mut basis) = ([0.0; 3], [0.0; 4]);
/// let report = jacobi::eigen(MatrixRef::from(&matrix), &mut packed, &mut basis, Default::default())?;
/// assert!(report.converged);
/// assert!((jacobi::diagonal(&packed, 0) - 1.0).abs() < 1e-15 && (jacobi::diagonal(&packed, 1) - 3.0).abs() < 1e-15);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub fn eigen<T: Scalar>(
    matrix: MatrixRef<'_, T>,
    packed: &mut [T],
    basis: &mut [T],
    limits: Limits<T>,
) -> Result<Report<T>, Error> {
    let size = matrix.rows();
    expect_length("matrix columns", size, matrix.columns())?;
    expect_length("packed", packed_words(size), packed.len())?;
    expect_length("basis", size.saturating_mul(size), basis.len())?;
    for (j, column) in matrix.iter_columns().enumerate() {
        let upper = column.get(..=j).unwrap_or_default();
        if let Some(i) = guard::first_non_finite(upper) {
            return Err(Error::NonFinite { argument: "matrix", index: j * matrix.stride() + i });
        }
    }
    for (j, column) in matrix.iter_columns().enumerate() {
        packed
            .iter_mut()
            .skip(packed_words(j))
            .zip(column.iter().take(j + 1))
            .for_each(|(into, from)| *into = *from);
    }
    set_identity(basis, size);
    Ok(diagonalise(packed, size, &mut [Companion::columns(basis, size, Turn::Linear)], limits))
}

/// Writes the identity into an n x n matrix.
pub(crate) fn set_identity<T: Scalar>(matrix: &mut [T], size: usize) {
    matrix.fill(T::ZERO);
    matrix.iter_mut().step_by(size + 1).for_each(|value| *value = T::ONE);
}

/// A size that no loop can outlive: a packed matrix has at least as many words as rows.
fn within<T>(size: usize, packed: &[T]) -> usize {
    size.min(packed.len())
}

fn largest<T: Scalar>(values: &[T]) -> T {
    values.iter().fold(T::ZERO, |largest, value| largest.maximum(value.abs()))
}

/// One cyclic sweep by rows; the number of rotations done.
fn sweep<T: Scalar>(packed: &mut [T], size: usize, companions: &mut [Companion<'_, T>], threshold: T) -> u32 {
    let mut rotations = 0;
    for p in 0..size {
        for q in p + 1..size {
            let (c_pp, c_qq) = (diagonal(packed, p), diagonal(packed, q));
            let c_pq = packed.get(packed_index(p, q)).copied().unwrap_or(T::ZERO);
            // Two roots, since the product of two small diagonals would underflow.
            let negligible = threshold * c_pp.abs().sqrt() * c_qq.abs().sqrt();
            // Below the normal range a rotation rounds to what it was, and the sweeps would never end.
            if c_pq.abs() < T::MIN_POSITIVE || c_pq.abs() <= negligible {
                continue;
            }
            let rotation = Rotation::annihilating(c_pp, c_qq, c_pq);
            rotate_packed(packed, size, p, q, c_pq, &rotation);
            companions.iter_mut().for_each(|companion| companion.rotate(p, q, &rotation));
            rotations += 1;
        }
    }
    rotations
}

/// Turns rows and columns p < q of the packed matrix.
fn rotate_packed<T: Scalar>(
    packed: &mut [T],
    size: usize,
    p: usize,
    q: usize,
    c_pq: T,
    rotation: &Rotation<T>,
) {
    let shift = rotation.tangent * c_pq;
    let Some((head, tail)) = packed.split_at_mut_checked(packed_words(q)) else { return };
    if let Some(xs) = head.get_mut(packed_words(p)..) {
        // Above the diagonal of column p, both columns are contiguous; then c_pp and c_pq themselves.
        let mut ys = tail.iter_mut();
        for (x, y) in xs.iter_mut().zip(ys.by_ref().take(p)) {
            (*x, *y) = rotation.turned(*x, *y);
        }
        if let (Some(x), Some(y)) = (xs.get_mut(p), ys.next()) {
            *x -= shift;
            *y = T::ZERO;
        }
        // Between p and q, row p runs across the columns, each one longer than the last.
        let mut index = p + p + 1;
        for (k, y) in (p + 1..q).zip(ys.by_ref()) {
            if let Some(x) = xs.get_mut(index) {
                (*x, *y) = rotation.turned(*x, *y);
            }
            index += k + 1;
        }
        if let Some(y) = ys.next() {
            *y += shift;
        }
    }
    // Beyond q, both rows run across the columns.
    let mut start = q + 1;
    for k in q + 1..size {
        if let Ok([x, y]) = tail.get_disjoint_mut([start + p, start + q]) {
            (*x, *y) = rotation.turned(*x, *y);
        }
        start += k + 1;
    }
}
