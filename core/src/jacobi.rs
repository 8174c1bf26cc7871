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
//!
//! *Stop*: a pair is skipped when |c_pq| <= threshold sqrt(c_pp c_qq), the product, which gives every eigenvalue of a
//! graded matrix its own relative accuracy (Demmel and Veselic 1992); and when |c_pq| <= 2 eps d, with d the smallest
//! positive entry on the diagonal at the start, or |C| where one is negative. The first d takes nothing from that accuracy, since
//! d <= sqrt(c_ii c_jj) for all pairs; the second nothing from that of an indefinite matrix, which is no better than eps |C|.
//! Without it a solve goes on into the rounding below. A sweep without a rotation ends the solve.
//! *Order*: before row p of a sweep, the line with the largest c_ii to come is exchanged into its place (de Rijk 1989), a
//! positive one counting double, so that clusters of opposite sign do not mingle. Without this and the floor above, a graded
//! spectrum takes twice the sweeps. All companions are exchanged along: a sorted basis with unmoved scalings is the recurring
//! bug of the field. A [`walk`] exchanges nothing.
//! *Scaling*: a matrix whose largest entry lies beyond 2^(+-50) (`f32`) or 2^(+-400) (`f64`) is first scaled by a power of two.
//! *Cost*: a sweep checks n (n-1)/2 pairs at 4 operations (an exchange is none); a rotation costs 8 operations a pair of words
//! it touches: n of C, n of U, and the companions' lines. No memory, no allocation. *Failure*: [`Report::converged`] is false when the cap
//! on sweeps (30 for `f32`, 40 for `f64`) ends it; C and U are valid all the same. A [`walk`] does a part of a sweep, from a
//! stored [`Cursor`] on, and cannot fail.

use crate::companion::turn_two;
use crate::{Error, MatrixRef, Scalar, error::expect_length, guard, shape::packed_words};
pub use crate::{
    companion::{Companion, Turn},
    rotation::Rotation,
};

/// When a solve ends.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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

/// How far a [`walk`] may go: both are hard bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Most rotations.
    pub rotations: u32,
    /// Most pairs looked at.
    pub checks: u32,
}

/// What a [`walk`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Rotations done.
    pub rotations: u32,
    /// Pairs looked at.
    pub checks: u32,
}

/// Which pairs a [`walk`] skips.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Negligible<T> {
    /// Those with |c_pq| <= threshold sqrt(c_pp c_qq).
    pub threshold: T,
    /// Those with |c_pq| <= floor.
    pub floor: T,
}

/// Where a cyclic walk over all pairs p < q goes on, row by row. Any two numbers are a place: those beyond the matrix
/// start the next row, or the next round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// p.
    pub row: usize,
    /// q.
    pub column: usize,
}

impl Cursor {
    /// The same place in its plainest form: a pair p < q of a matrix of at least two rows.
    #[inline(never)]
    pub(crate) fn normal(self, size: usize) -> Self {
        let (row, column) = self.pair(size);
        Self { row, column }
    }

    /// The pair at this place in a matrix of at least two rows.
    fn pair(self, size: usize) -> (usize, usize) {
        if self.row < size && self.column > self.row && self.column < size {
            return (self.row, self.column);
        }
        let row = if self.column >= size { self.row.saturating_add(1) } else { self.row };
        if row.saturating_add(1) < size { (row, row + 1) } else { (0, 1) }
    }
}

/// n (n-1) / 2, the pairs of a sweep.
pub fn pairs(size: usize) -> u32 {
    u32::try_from(packed_words(size.saturating_sub(1))).unwrap_or(u32::MAX)
}

/// Index of c_ij, i <= j, in the packed upper triangle: columns one after another.
pub fn packed_index(i: usize, j: usize) -> usize {
    packed_words(j).saturating_add(i)
}

/// The diagonal entry c_ii of a packed matrix; 0 outside.
pub fn diagonal<T: Scalar>(packed: &[T], i: usize) -> T {
    packed.get(packed_index(i, i)).copied().unwrap_or(T::ZERO)
}

/// [`packed_index`] of a pair in a matrix that lies in memory, whose indices therefore do not overflow.
pub(crate) fn index_held(i: usize, j: usize) -> usize {
    first_held(j).wrapping_add(i)
}

/// Where column j begins in a matrix that lies in memory.
pub(crate) fn first_held(j: usize) -> usize {
    j.wrapping_mul(j.wrapping_add(1)) / 2
}

/// c_ii of a line of the matrix; 0 outside.
pub(crate) fn diagonal_held<T: Scalar>(packed: &[T], i: usize) -> T {
    packed.get(index_held(i, i)).copied().unwrap_or(T::ZERO)
}

/// |C - diag C| / |C| in the Frobenius norm, 0 for a zero matrix.
pub fn off_diagonal<T: Scalar>(packed: &[T], size: usize) -> T {
    let exponent = largest(packed).exponent();
    // Near 1 the squares neither overflow nor lose anything that counts.
    let scaled = exponent.abs() > T::SAFE_EXPONENT / 2;
    let (diagonal, off) = squares(packed, size, if scaled { exponent } else { 0 });
    if off + diagonal > T::ZERO { (off / (off + diagonal)).sqrt() } else { T::ZERO }
}

/// The sums of the squares on and off the diagonal, of a matrix that is first divided by 2^exponent.
fn squares<T: Scalar>(packed: &[T], size: usize, exponent: i32) -> (T, T) {
    let (mut diagonal, mut off) = (T::ZERO, T::ZERO);
    for j in 0..within(size, packed) {
        for (i, value) in packed.iter().skip(packed_words(j)).take(j + 1).enumerate() {
            let value = if exponent == 0 { *value } else { value.times_power_of_two(-exponent) };
            if i == j {
                diagonal += value * value;
            } else {
                off += (value * value) * T::from_f64(2.0);
            }
        }
    }
    (diagonal, off)
}

/// Below this an entry of C is rounding: twice eps times the smallest positive c_ii, or times |C| where one is negative.
fn noise<T: Scalar>(packed: &[T], size: usize) -> T {
    let (mut least, mut definite) = (T::MAX, true);
    for i in 0..size {
        let value = diagonal(packed, i);
        definite &= value >= T::ZERO;
        least = if value > T::ZERO { least.minimum(value) } else { least };
    }
    if !definite {
        let (on, off) = squares(packed, size, 0);
        least = (on + off).sqrt();
    }
    // Without a positive entry there is nothing to measure by.
    if least < T::MAX { (T::EPSILON + T::EPSILON) * least } else { T::ZERO }
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
    diagonalise_turning(packed, size, limits, &mut |p, q, rotation| {
        companions.iter_mut().for_each(|companion| companion.turn(p, q, rotation));
    })
}

/// Turns lines p < q of all that is held in a basis, or exchanges them where there is no rotation.
type Turning<'t, T> = dyn FnMut(usize, usize, Option<&Rotation<T>>) + 't;

/// [`diagonalise`], with `turn` in the place of the companions.
pub(crate) fn diagonalise_turning<T: Scalar>(
    packed: &mut [T],
    size: usize,
    limits: Limits<T>,
    turn: &mut Turning<'_, T>,
) -> Report<T> {
    let size = within(size, packed);
    let exponent = largest(packed).exponent();
    let scaled = exponent.abs() > T::SAFE_EXPONENT;
    if scaled {
        scale(packed, -exponent);
    }
    let mut report = Report { sweeps: 0, rotations: 0, off_diagonal: T::ZERO, converged: false };
    let negligible = Negligible { threshold: limits.threshold, floor: noise(packed, size) };
    while report.sweeps < limits.sweeps && !report.converged {
        let rotations = sweep(packed, size, negligible, turn);
        report.sweeps += 1;
        report.rotations += rotations;
        report.converged = rotations == 0;
    }
    report.off_diagonal = off_diagonal(packed, size);
    if scaled {
        scale(packed, exponent);
    }
    report
}

/// Every value times 2^exponent.
#[cold]
#[inline(never)]
fn scale<T: Scalar>(values: &mut [T], exponent: i32) {
    values.iter_mut().for_each(|value| *value = value.times_power_of_two(exponent));
}

/// Every pair once, row by row; returns the number of rotations.
fn sweep<T: Scalar>(
    packed: &mut [T],
    size: usize,
    negligible: Negligible<T>,
    turn: &mut Turning<'_, T>,
) -> u32 {
    let mut rotations = 0;
    for row in 0..size.saturating_sub(1) {
        let largest = foremost(packed, row, size);
        if largest != row {
            turn_packed(packed, size, row, largest, None);
            turn(row, largest, None);
        }
        let checks = u32::try_from(size - 1 - row).unwrap_or(u32::MAX);
        let (budget, mut cursor) = (Budget { rotations: checks, checks }, Cursor { row, column: row + 1 });
        let walked = walk(packed, size, &mut cursor, negligible, budget, &mut |p, q, rotation| {
            turn(p, q, Some(rotation));
        });
        rotations += walked.rotations;
    }
    rotations
}

/// Which line from `row` on has the largest c_ii, a positive one counting double.
fn foremost<T: Scalar>(packed: &[T], row: usize, size: usize) -> usize {
    let weight = |i| {
        let value = diagonal(packed, i);
        if value > T::ZERO { value + value } else { -value }
    };
    let (mut found, mut largest) = (row, weight(row));
    for i in row + 1..size {
        let weight = weight(i);
        if weight > largest {
            (found, largest) = (i, weight);
        }
    }
    found
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
/// let (one, other) = (jacobi::diagonal(&packed, 0), jacobi::diagonal(&packed, 1));
/// assert!((one.min(other) - 1.0).abs() < 1e-15 && (one.max(other) - 3.0).abs() < 1e-15);
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
    let mut rest = matrix;
    while let Some((value, behind)) = rest.split_first_mut() {
        *value = T::ONE;
        rest = behind.get_mut(size..).unwrap_or_default();
    }
}

/// A size that no loop can outlive: a packed matrix has at least as many words as rows.
fn within<T>(size: usize, packed: &[T]) -> usize {
    size.min(packed.len())
}

fn largest<T: Scalar>(values: &[T]) -> T {
    values.iter().fold(T::ZERO, |largest, value| largest.maximum(value.abs()))
}

/// Rotates pairs beyond the threshold, from the cursor on, until the budget is spent: the running eigenbasis.
///
/// `turn(p, q, rotation)` turns everything else that is held in the basis ([`Companion::rotate`]). Walking twice with two
/// halves of a budget gives the same bits as walking once with all of it. Values must be finite, as for [`diagonalise`];
/// nothing is scaled here, so keep away from the ends of the range.
pub fn walk<T: Scalar>(
    packed: &mut [T],
    size: usize,
    cursor: &mut Cursor,
    negligible: Negligible<T>,
    budget: Budget,
    turn: &mut dyn FnMut(usize, usize, &Rotation<T>),
) -> Walked {
    let mut walked = Walked { rotations: 0, checks: 0 };
    while let Some((p, q)) = seek(packed, size, cursor, negligible, budget, &mut walked) {
        let rotation = annihilating(packed, p, q);
        turn_packed(packed, size, p, q, Some(&rotation));
        turn(p, q, &rotation);
    }
    walked
}

/// The rotation in the plane p < q that makes c_pq zero.
#[inline(never)]
pub(crate) fn annihilating<T: Scalar>(packed: &[T], p: usize, q: usize) -> Rotation<T> {
    let c_pq = packed.get(index_held(p, q)).copied().unwrap_or(T::ZERO);
    Rotation::annihilating(diagonal_held(packed, p), diagonal_held(packed, q), c_pq)
}

/// The next pair to rotate in a [`walk`], counted as rotated: from the cursor on the first whose c_pq is not negligible, or
/// `None` when the budget is spent. A function of its own, as those that rotate are, so that its frame is gone when they are called.
#[inline(never)]
pub(crate) fn seek<T: Scalar>(
    packed: &[T],
    size: usize,
    cursor: &mut Cursor,
    negligible: Negligible<T>,
    budget: Budget,
    walked: &mut Walked,
) -> Option<(usize, usize)> {
    let size = within(size, packed);
    if size < 2 || walked.rotations >= budget.rotations {
        return None;
    }
    while walked.checks < budget.checks {
        let (p, first) = cursor.pair(size);
        let c_pp = diagonal_held(packed, p);
        let mut index = index_held(p, first);
        let mut on_diagonal = index_held(first, first);
        for q in first..size {
            if walked.checks == budget.checks {
                *cursor = Cursor { row: p, column: q };
                return None;
            }
            walked.checks += 1;
            let c_pq = packed.get(index).copied().unwrap_or(T::ZERO);
            let c_qq = packed.get(on_diagonal).copied().unwrap_or(T::ZERO);
            index += q + 1;
            on_diagonal += q + 2;
            if !negligible.holds(c_pq, c_pp, c_qq) {
                *cursor = Cursor { row: p, column: q + 1 };
                walked.rotations += 1;
                return Some((p, q));
            }
        }
        *cursor = Cursor { row: p + 1, column: 0 };
    }
    None
}

impl<T: Scalar> Negligible<T> {
    /// By squares where these keep their digits: a device has no fast root.
    #[inline]
    pub(crate) fn holds(&self, c_pq: T, c_pp: T, c_qq: T) -> bool {
        let size = c_pq.abs();
        // Below the normal range a rotation rounds to what it was, and the sweeps would never end.
        if size < T::MIN_POSITIVE || size <= self.floor {
            return true;
        }
        let keeps_digits = |square: T| square >= T::MIN_POSITIVE && square <= T::MAX;
        let (square, limit) = (size * size, self.threshold * self.threshold * (c_pp * c_qq).abs());
        if keeps_digits(square) && keeps_digits(limit) {
            square <= limit
        } else {
            self.holds_by_roots(size, c_pp, c_qq)
        }
    }

    #[inline(always)]
    fn holds_by_roots(&self, size: T, c_pp: T, c_qq: T) -> bool {
        size <= self.threshold * c_pp.abs().sqrt() * c_qq.abs().sqrt()
    }
}

/// Turns rows and columns p < q of the packed matrix by the rotation that annihilates c_pq, or exchanges them where there is
/// none.
#[inline(never)]
pub(crate) fn turn_packed<T: Scalar>(
    packed: &mut [T],
    size: usize,
    p: usize,
    q: usize,
    rotation: Option<&Rotation<T>>,
) {
    let size = within(size, packed);
    if let Some(rotation) = rotation {
        let c_pq = packed.get_mut(index_held(p, q)).map_or(T::ZERO, core::mem::take);
        let shift = rotation.tangent() * c_pq;
        if let Some(c_pp) = packed.get_mut(index_held(p, p)) {
            *c_pp -= shift;
        }
        if let Some(c_qq) = packed.get_mut(index_held(q, q)) {
            *c_qq += shift;
        }
    } else {
        turn_two(packed, index_held(p, p), index_held(q, q), |x, y| (y, x));
    }
    // The rest is all that lies not where the lines cross.
    let turned = |x, y| rotation.map_or((y, x), |rotation| rotation.turned(x, y));
    let Some((head, tail)) = packed.split_at_mut_checked(first_held(q)) else { return };
    let Some(xs) = head.get_mut(first_held(p)..) else { return };
    // Above the diagonal of column p, both columns are contiguous.
    xs.iter_mut().zip(tail.iter_mut().take(p)).for_each(|(x, y)| (*x, *y) = turned(*x, *y));
    // Between p and q, row p runs across the columns, each one longer than the last.
    let mut index = p + p + 1;
    for k in p + 1..q {
        if let (Some(x), Some(y)) = (xs.get_mut(index), tail.get_mut(k)) {
            (*x, *y) = turned(*x, *y);
        }
        index += k + 1;
    }
    // Beyond q, both rows run across the columns.
    let mut start = q + 1;
    for k in q + 1..size {
        turn_two(tail, start + p, start + q, turned);
        start += k + 1;
    }
}
