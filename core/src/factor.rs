//! One side of a layer: a Kronecker factor held in its own eigenbasis.
//!
//! ```text
//! A = U_A C_A U_A^T,   C_A <- C_A + share (mean(a~ a~^T) - C_A),   a~ = U_A^T a
//! ```
//!
//! A itself is never stored. *Invariant*: U is orthogonal to rounding and C symmetric by construction (the upper
//! triangle is packed); C is diagonal just after a full refresh and nearly so between two. Rotations round, and after
//! enough of them U would drift from orthogonality: so every rotation pays for one pair (j, k) of columns, the next in a
//! cycle through all of them,
//!
//! ```text
//! u_k <- u_k - (u_j . u_k) u_j  for j < k,     u_k <- u_k - u_k (|u_k|^2 - 1) / 2  for j = k
//! ```
//!
//! which keeps max |U^T U - I| <= 16 n eps for as long as it runs: between two visits of a pair its columns turn about n
//! times, and each turn adds a few eps at most. *Cost*: 4 + n (n+1)/2 + n^2 words; an update costs N n (n+1)
//! operations, a projection 2 N n^2, the care 4 n a rotation. *Failure*: none; values are gated before
//! ([`guard`](crate::guard)), and a refresh that hits its cap leaves a valid basis.

use crate::{
    Blend, Error, MatrixMut, MatrixRef, Scalar,
    carve::cut,
    error::expect_length,
    jacobi::{self, Budget, Companion, Cursor, Limits, Negligible, Report, Turn, Walked},
    kernels::{Counted, dot, dot_as},
    rotation::Rotation,
    shape::{CURSORS, packed_words, packed_words_held},
    single::BATCHES,
};

/// A factor, read-only: its views live as long as the layer is borrowed.
#[derive(Clone, Copy, Debug)]
pub struct FactorRef<'a, T> {
    size: usize,
    words: &'a [T],
}

/// A factor over caller-owned memory.
#[derive(Debug)]
pub(crate) struct FactorMut<'a, T> {
    size: usize,
    /// Cursors, C and U in one slice, which is cut where it is used: a view is moved often, and its size is stack.
    words: &'a mut [T],
}

/// Rows of a strip of the bias: four lines of a cache.
#[cfg(feature = "large")]
const STRIP: usize = 64;

/// The parts of a factor's words.
struct Parts<'m, T> {
    cursors: &'m mut [T],
    covariance: &'m mut [T],
    basis: &'m mut [T],
}

/// Positions of the cursors among their words.
#[derive(Clone, Copy)]
enum Place {
    Walk = 0,
    Orthogonality = 2,
}

impl<'a, T: Scalar> FactorRef<'a, T> {
    /// A factor over [`factor_words`](crate::shape::factor_words) words.
    pub(crate) fn over(size: usize, words: &'a [T]) -> Self {
        Self { size, words }
    }

    /// n, the side of the factor.
    pub fn size(self) -> usize {
        self.size
    }

    /// U, n x n, eigenvectors in columns.
    pub fn basis(self) -> MatrixRef<'a, T> {
        let basis = self.words.get(CURSORS + packed_words_held(self.size)..).unwrap_or_default();
        MatrixRef::over(basis, self.size, self.size)
    }

    /// C, the factor seen in its basis: the packed upper triangle ([`jacobi::packed_index`]).
    #[inline(never)]
    pub fn covariance(self) -> &'a [T] {
        self.words.get(CURSORS..CURSORS + packed_words_held(self.size)).unwrap_or_default()
    }

    /// The eigenvalue estimates diag C, in the order of the basis; rounding may leave the smallest just below zero.
    pub fn values(self) -> impl Iterator<Item = T> + use<'a, T> {
        (0..self.size).map(move |i| self.value(i))
    }

    /// c_ii. A function of its own, since the values are walked in many places.
    #[inline(never)]
    fn value(self, i: usize) -> T {
        jacobi::diagonal(self.covariance(), i)
    }

    /// The sum of the eigenvalues.
    #[inline(never)]
    pub fn trace(self) -> T {
        // Each step asks for it, so without a call for each value.
        let covariance = self.covariance();
        (0..self.size).fold(T::ZERO, |sum, i| sum + jacobi::diagonal_held(covariance, i))
    }

    /// The largest eigenvalue over the smallest; infinite for a singular factor.
    pub fn condition(self) -> T {
        let (mut low, mut high) = (T::MAX, T::ZERO);
        for value in self.values() {
            low = low.minimum(value.maximum(T::ZERO));
            high = high.maximum(value);
        }
        high / low
    }

    /// |C - diag C| / |C|, the health of the basis: 0 when it is exact.
    pub fn off_diagonal(self) -> T {
        jacobi::off_diagonal(self.covariance(), self.size)
    }

    /// max |U^T U - I|.
    pub fn orthogonality(self) -> T {
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
    pub fn reconstruct(self, mut out: MatrixMut<'_, T>) -> Result<(), Error> {
        expect_length("factor rows", self.size, out.rows())?;
        expect_length("factor columns", self.size, out.columns())?;
        out.as_mut_slice().fill(T::ZERO);
        for (k, right) in self.basis().iter_columns().enumerate() {
            for (l, left) in self.basis().iter_columns().enumerate() {
                let value = self.covariance().get(jacobi::packed_index(k.min(l), k.max(l))).copied();
                let value = value.unwrap_or(T::ZERO);
                for (column, y) in out.iter_columns_mut().zip(right) {
                    let coefficient = value * *y;
                    column.iter_mut().zip(left).for_each(|(into, x)| *into += coefficient * *x);
                }
            }
        }
        Ok(())
    }

    /// Whether C holds numbers alone: only an engine that returns something else can have spoilt it, since the gate lets
    /// nothing else in.
    #[cfg(not(feature = "large"))]
    pub(crate) fn is_sound(self) -> bool {
        crate::guard::first_non_finite(self.covariance()).is_none()
    }

    /// What a walk skips. In a null space the entries are rounding of the larger ones, and rotating them would waste the budget.
    #[inline(always)]
    pub(crate) fn negligible(self, threshold: T) -> Negligible<T> {
        Negligible { threshold, floor: T::EPSILON * self.trace() }
    }

    /// out = U^T x for a batch; with one row less in x than U has, x has a virtual 1 in the last place (the bias). Inlined, so
    /// that no frame of it lies below the product.
    #[inline(always)]
    pub(crate) fn project(
        self,
        counted: &mut Counted<'_, T>,
        x: &[T],
        inputs: usize,
        batch: usize,
        out: &mut [T],
    ) {
        counted.multiply(out, self.basis().top(inputs), x, batch, true);
        self.add_bias(inputs, out);
    }

    #[inline(never)]
    fn add_bias(self, inputs: usize, out: &mut [T]) {
        if inputs < self.size {
            #[cfg(feature = "large")]
            if out.len() > self.size {
                return self.add_bias_to_many(inputs, out);
            }
            let row = self.basis().as_slice().get(inputs..).unwrap_or_default().iter().step_by(self.size);
            let add =
                |column: &mut [T]| column.iter_mut().zip(row.clone()).for_each(|(value, u)| *value += *u);
            if BATCHES {
                out.chunks_exact_mut(self.size).for_each(add);
            } else {
                add(out);
            }
        }
    }
}

#[cfg(feature = "large")]
impl<T: Scalar> FactorRef<'_, T> {
    /// The same a strip of rows after another, whose words of U are brought together first.
    fn add_bias_to_many(self, inputs: usize, out: &mut [T]) {
        let mut row = self.basis().as_slice().get(inputs..).unwrap_or_default().iter().step_by(self.size);
        for start in (0..self.size).step_by(STRIP) {
            let mut strip = [T::ZERO; STRIP];
            strip.iter_mut().zip(&mut row).for_each(|(word, u)| *word = *u);
            for column in out.chunks_exact_mut(self.size) {
                let rows = column.get_mut(start..).unwrap_or_default();
                rows.iter_mut().zip(&strip).for_each(|(value, u)| *value += *u);
            }
        }
    }
}

impl<'a, T: Scalar> FactorMut<'a, T> {
    /// A factor over [`factor_words`](crate::shape::factor_words) words.
    pub(crate) fn over(size: usize, words: &'a mut [T]) -> Self {
        Self { size, words }
    }

    /// The same, read-only.
    pub(crate) fn as_ref(&self) -> FactorRef<'_, T> {
        FactorRef { size: self.size, words: self.words }
    }

    /// n, the side of the factor.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    #[cfg(feature = "batches")]
    pub(crate) fn covariance_mut(&mut self) -> &mut [T] {
        self.parts().covariance
    }

    #[inline(never)]
    fn parts(&mut self) -> Parts<'_, T> {
        let mut rest = &mut *self.words;
        let cursors = cut(&mut rest, CURSORS).unwrap_or_default();
        let covariance = cut(&mut rest, packed_words_held(self.size)).unwrap_or_default();
        Parts { cursors, covariance, basis: rest }
    }

    /// Overwrites basis and covariance, as [`LayerMut::load_input_factor`](crate::LayerMut::load_input_factor) has it.
    pub(crate) fn load(&mut self, basis: MatrixRef<'_, T>, covariance: &[T]) -> Result<(), Error> {
        expect_length("basis rows", self.size, basis.rows())?;
        expect_length("basis columns", self.size, basis.columns())?;
        expect_length("covariance", packed_words(self.size), covariance.len())?;
        let basis = basis.whole("basis stride")?;
        for (argument, values) in [("basis", basis), ("covariance", covariance)] {
            if let Some(index) = crate::guard::first_non_finite(values) {
                return Err(Error::NonFinite { argument, index });
            }
        }
        let parts = self.parts();
        parts.basis.iter_mut().zip(basis).for_each(|(into, from)| *into = *from);
        parts.covariance.iter_mut().zip(covariance).for_each(|(into, from)| *into = *from);
        Ok(())
    }

    pub(crate) fn set_identity(&mut self) {
        let size = self.size;
        jacobi::set_identity(self.parts().basis, size);
    }

    /// Blends the second moment of projected examples, n x N, into C.
    pub(crate) fn observe(
        &mut self,
        counted: &mut Counted<'_, T>,
        projected: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        counted.symmetric_update(self.parts().covariance, projected, blend, scratch);
    }

    /// Rotates C until it is diagonal or the limits end it; the basis and the companions turn along.
    #[inline(never)]
    pub(crate) fn solve(&mut self, companions: &mut [Companion<'_, T>], limits: Limits<T>) -> Report<T> {
        let size = self.size;
        let mut care = self.cursor(Place::Orthogonality);
        let Parts { covariance, basis, .. } = self.parts();
        let mut columns = Companion::columns(basis, size, Turn::Linear);
        let report = jacobi::diagonalise_turning(covariance, size, limits, &mut |p, q, rotation| {
            columns.turn(p, q, rotation);
            companions.iter_mut().for_each(|companion| companion.turn(p, q, rotation));
        });
        for _ in 0..report.rotations.min(jacobi::pairs(size + 1)) {
            restore(basis, size, &mut care);
        }
        self.set_cursor(Place::Orthogonality, care.normal(size + 1));
        report
    }

    /// Rotates pairs beyond the threshold from the stored cursor on, within the budget.
    #[inline(never)]
    pub(crate) fn rotate(
        &mut self,
        companions: &mut [Companion<'_, T>],
        threshold: T,
        budget: Budget,
    ) -> Walked {
        let size = self.size;
        self.rotate_by(threshold, budget, |covariance, basis, care, pair| {
            turn_all(covariance, basis, size, companions, pair);
            restore(basis, size, care);
        })
    }

    /// The walk: `turn` annihilates a pair and turns all that is held in the basis along.
    #[inline(always)]
    fn rotate_by(
        &mut self,
        threshold: T,
        budget: Budget,
        mut turn: impl FnMut(&mut [T], &mut [T], &mut Cursor, (usize, usize)),
    ) -> Walked {
        let negligible = self.as_ref().negligible(threshold);
        let (mut walk, mut care) = (self.cursor(Place::Walk), self.cursor(Place::Orthogonality));
        let size = self.size;
        let Parts { covariance, basis, .. } = self.parts();
        let mut walked = Walked { rotations: 0, checks: 0 };
        while let Some(pair) = jacobi::seek(covariance, size, &mut walk, negligible, budget, &mut walked) {
            turn(covariance, basis, &mut care, pair);
        }
        self.set_cursor(Place::Walk, walk.normal(size));
        self.set_cursor(Place::Orthogonality, care.normal(size + 1));
        walked
    }

    #[inline(always)]
    fn cursor(&self, place: Place) -> Cursor {
        Cursor::stored(self.words.get(place as usize..).unwrap_or_default())
    }

    #[inline(always)]
    fn set_cursor(&mut self, place: Place, cursor: Cursor) {
        let words = self.parts().cursors.get_mut(place as usize..).unwrap_or_default();
        cursor.store(words.get_mut(..2).unwrap_or_default());
    }

    /// What a walk over the pairs reads and writes: the words of its cursor, and C.
    #[cfg(feature = "large")]
    pub(crate) fn walked_over(&mut self) -> (&mut [T], &mut [T]) {
        let Parts { cursors, covariance, .. } = self.parts();
        (cursors.get_mut(Place::Walk as usize..).unwrap_or_default(), covariance)
    }

    /// Work on the basis, with the place of the care for it.
    #[cfg(feature = "large")]
    pub(crate) fn with_basis(&mut self, work: impl FnOnce(Basis<'_, T>)) {
        let (size, mut care) = (self.size, self.cursor(Place::Orthogonality));
        work(Basis { words: self.parts().basis, size, care: &mut care });
        self.set_cursor(Place::Orthogonality, care.normal(size + 1));
    }
}

impl Cursor {
    /// From two words of a state; any word is a place, since a saturating cast takes NaN to 0.
    #[inline(never)]
    pub(crate) fn stored<T: Scalar>(words: &[T]) -> Self {
        let word = |index: usize| words.get(index).map_or(0, |word| word.to_usize());
        Self { row: word(0), column: word(1) }
    }

    /// Into two words of a state.
    #[inline(never)]
    pub(crate) fn store<T: Scalar>(self, words: &mut [T]) {
        for (word, index) in words.iter_mut().zip([self.row, self.column]) {
            *word = T::from_usize(index);
        }
    }
}

/// U, with the place of the care for its orthogonality.
#[cfg(feature = "large")]
#[derive(Debug)]
pub(crate) struct Basis<'b, T> {
    words: &'b mut [T],
    size: usize,
    care: &'b mut Cursor,
}

#[cfg(feature = "large")]
impl<T: Scalar> Basis<'_, T> {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Turns columns p < q, and pays for one pair's care.
    #[inline(always)]
    pub(crate) fn turn_as<const INLINED: bool>(&mut self, p: usize, q: usize, rotation: &Rotation<T>) {
        Companion::columns(self.words, self.size, Turn::Linear).turn_as::<INLINED>(p, q, rotation);
        restore_as::<INLINED, T>(self.words, self.size, self.care);
    }
}

/// Annihilates c_pq in C alone.
#[inline(always)]
fn annihilate<T: Scalar>(covariance: &mut [T], size: usize, (p, q): (usize, usize)) -> Rotation<T> {
    let rotation = jacobi::annihilating(covariance, p, q);
    jacobi::turn_packed(covariance, size, p, q, Some(&rotation));
    rotation
}

/// Annihilates c_pq, and turns all that is held in the basis along. A function of its own, so that its frame is gone when the
/// next pair is sought.
#[inline(never)]
fn turn_all<T: Scalar>(
    covariance: &mut [T],
    basis: &mut [T],
    size: usize,
    companions: &mut [Companion<'_, T>],
    pair: (usize, usize),
) {
    let rotation = annihilate(covariance, size, pair);
    let (p, q) = pair;
    Companion::columns(basis, size, Turn::Linear).rotate(p, q, &rotation);
    companions.iter_mut().for_each(|companion| companion.rotate(p, q, &rotation));
}

/// Restores the orthogonality of the pair at the cursor, and moves on: pairs p < q of n + 1 lines stand for j = p <= k = q - 1.
#[inline(never)]
fn restore<T: Scalar>(basis: &mut [T], size: usize, cursor: &mut Cursor) {
    restore_as::<false, T>(basis, size, cursor);
}

/// Restores the orthogonality of the pair at the cursor, and moves on: pairs p < q of n + 1 lines stand for j = p <= k = q - 1.
#[inline(always)]
fn restore_as<const INLINED: bool, T: Scalar>(basis: &mut [T], size: usize, cursor: &mut Cursor) {
    let Cursor { row: j, column: next } = cursor.normal(size + 1);
    *cursor = Cursor { row: j, column: next + 1 };
    let k = next - 1;
    let Some((head, tail)) = basis.split_at_mut_checked(k * size) else { return };
    let Some(column) = tail.get_mut(..size) else { return };
    if j == k {
        let excess = T::HALF * (dot_as::<INLINED, T>(column, column) - T::ONE);
        for x in column {
            *x -= excess * *x;
        }
    } else if let Some(other) = head.get(j * size..(j + 1) * size) {
        let overlap = dot_as::<INLINED, T>(other, column);
        for (x, y) in column.iter_mut().zip(other) {
            *x -= overlap * *y;
        }
    }
}
