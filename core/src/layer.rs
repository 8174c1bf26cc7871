//! The state of one layer: one contiguous, caller-owned buffer of [`Shape::words`] words, split once into views.
//!
//! *Invariant*: an all-zero buffer is a fresh layer (its bases become the identity at the first view), so a `static`
//! costs no flash; copying the words copies the layer, bit for bit. *Cost*: a view is a dozen pointers. *Failure*: a
//! buffer of the wrong length is refused.
//!
//! ```text
//! header | cursors | C_A packed | U_A | cursors | C_B packed | U_B | S | velocity
//! ```

#[cfg(feature = "large")]
use crate::Kernels;
use crate::{
    Coordinates, Error, MatrixMut, MatrixRef, Scalar, Shape,
    carve::cut,
    error::expect_length,
    factor::{FactorMut, FactorRef},
    jacobi::{diagonal, packed_index},
    kernels::{Counted, sum},
    marks::{DIAGONAL, Mark, Marks, STARTED},
    precondition::Bases,
    shape::{HEADER, factor_words_held},
    single::{BATCHES, built},
};
use core::ops::Range;

/// A view of one layer's state.
#[derive(Debug)]
pub struct LayerMut<'a, T> {
    shape: Shape,
    /// All words in one slice, which is cut where it is used: a view is moved often, and its size is stack.
    words: &'a mut [T],
}

/// The parts of a layer that change each by itself.
pub(crate) struct Parts<'m, T> {
    pub(crate) input_factor: FactorMut<'m, T>,
    pub(crate) output_factor: FactorMut<'m, T>,
    pub(crate) scalings: &'m mut [T],
    pub(crate) velocity: &'m mut [T],
}

impl<'a, T: Scalar> LayerMut<'a, T> {
    /// Views a buffer as a layer; an all-zero buffer becomes a fresh one.
    ///
    /// # Errors
    /// A bad shape, or [`Error::Length`] when the buffer has not exactly [`Shape::words`] words.
    ///
    /// ```
    /// use ekfac::{LayerMut, Shape};
    /// const SHAPE: Shape = Shape::new(3, 2);
    /// let mut buffer = [0.0_f32; SHAPE.words()];
    /// let layer = LayerMut::new(SHAPE, &mut buffer)?;
    /// assert_eq!(layer.input_factor().basis().get(1, 1), Some(1.0));
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    pub fn new(shape: Shape, buffer: &'a mut [T]) -> Result<Self, Error> {
        shape.check()?;
        expect_length("layer buffer", shape.words(), buffer.len())?;
        let mut layer = Self::over(shape, buffer);
        if layer.mark(Mark::Started) == T::ZERO {
            layer.start();
        }
        Ok(layer)
    }

    /// Views a buffer of the right length that has been a layer before.
    pub(crate) fn over(shape: Shape, words: &'a mut [T]) -> Self {
        Self { shape, words }
    }

    #[cold]
    fn start(&mut self) {
        self.input_factor_mut().set_identity();
        self.output_factor_mut().set_identity();
        self.set_mark(Mark::Started, T::from_f64(STARTED));
    }

    /// The same view for a shorter time.
    pub(crate) fn reborrow(&mut self) -> LayerMut<'_, T> {
        LayerMut { shape: self.shape, words: self.words }
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The factor A of the input activations, n x n; that of the channels where points share it, and empty where A is diagonal
    /// ([`Shape::lines`]).
    #[inline(never)]
    pub fn input_factor(&self) -> FactorRef<'_, T> {
        let [words, _] = factors(&self.shape);
        FactorRef::over(self.shape.lines(), self.words.get(words).unwrap_or_default())
    }

    /// The factor B of the pre-activation gradients, m x m.
    #[inline(never)]
    pub fn output_factor(&self) -> FactorRef<'_, T> {
        let [_, words] = factors(&self.shape);
        FactorRef::over(self.shape.rows(), self.words.get(words).unwrap_or_default())
    }

    /// diag A where no factor has it: the bias's moment where points share a factor, all n values where A is diagonal; otherwise empty.
    pub fn input_moments(&self) -> &[T] {
        let [input, output] = factors(&self.shape);
        self.words.get(input.end..output.start).unwrap_or_default()
    }

    /// The same, to write.
    #[cfg(feature = "batches")]
    pub(crate) fn input_moments_mut(&mut self) -> &mut [T] {
        let [input, output] = factors(&self.shape);
        self.words.get_mut(input.end..output.start).unwrap_or_default()
    }

    /// The trace of A.
    pub(crate) fn input_trace(&self) -> T {
        T::from_usize(self.shape.points()) * self.input_factor().trace() + sum(self.input_moments())
    }

    /// U_A. In one call, since a step asks for it in many places.
    #[inline(never)]
    pub(crate) fn input_basis(&self) -> MatrixRef<'_, T> {
        let [words, _] = factors(&self.shape);
        FactorRef::over(self.shape.lines(), self.words.get(words).unwrap_or_default()).basis()
    }

    /// U_B, likewise.
    #[inline(never)]
    pub(crate) fn output_basis(&self) -> MatrixRef<'_, T> {
        let [_, words] = factors(&self.shape);
        FactorRef::over(self.shape.rows(), self.words.get(words).unwrap_or_default()).basis()
    }

    /// out = U_B x, or U_B^T x, for as many columns as `out` has: a copy where U_B is I, the same to the bit but for the sign of a zero.
    #[inline(never)]
    pub(crate) fn turn_outputs(
        &self,
        counted: &mut Counted<'_, T>,
        out: &mut [T],
        x: &[T],
        transposed: bool,
    ) {
        if self.output_is_diagonal() {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = *x);
        } else {
            let columns = built(out.len() / self.shape.rows().max(1));
            counted.multiply(out, self.output_basis(), x, columns, transposed);
        }
    }

    /// Where S begins; the velocity, which is as long, ends the words.
    fn squares(&self) -> usize {
        self.words.len().saturating_sub(2 * self.shape.rows() * self.shape.columns_held())
    }

    pub(crate) fn bases(&self) -> Bases<'_, T> {
        Bases { input: self.input_basis(), output: self.output_basis() }
    }

    pub(crate) fn input_factor_mut(&mut self) -> FactorMut<'_, T> {
        let [words, _] = factors(&self.shape);
        FactorMut::over(self.shape.lines(), self.words.get_mut(words).unwrap_or_default())
    }

    pub(crate) fn output_factor_mut(&mut self) -> FactorMut<'_, T> {
        let [_, words] = factors(&self.shape);
        FactorMut::over(self.shape.rows(), self.words.get_mut(words).unwrap_or_default())
    }

    /// Overwrites U_A (n x n) and C_A (packed, [`jacobi::packed_index`](crate::jacobi::packed_index)) with values from outside. The factors of a layer share
    /// one stored weight, and from now on they count as full averages: load both.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NonFinite`]: before any write.
    pub fn load_input_factor(&mut self, basis: MatrixRef<'_, T>, covariance: &[T]) -> Result<(), Error> {
        self.input_factor_mut().load(basis, covariance)?;
        self.set_mark(Mark::FactorWeight, T::ONE);
        Ok(())
    }

    /// Overwrites U_B (m x m) and C_B likewise.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::NonFinite`]: before any write.
    pub fn load_output_factor(&mut self, basis: MatrixRef<'_, T>, covariance: &[T]) -> Result<(), Error> {
        self.output_factor_mut().load(basis, covariance)?;
        self.marks().set_output_diagonal(false);
        self.set_mark(Mark::FactorWeight, T::ONE);
        Ok(())
    }

    /// S, m x n: rows in the order of U_B, columns in the order of U_A.
    pub fn scalings(&self) -> MatrixRef<'_, T> {
        let words = self.shape.parameters_held();
        let scalings = self.words.get(self.squares()..).and_then(|rest| rest.get(..words));
        MatrixRef::over(scalings.unwrap_or_default(), self.shape.rows(), self.shape.columns_held())
    }

    /// The mean of S.
    pub fn mean_scaling(&self) -> T {
        sum(self.scalings().as_slice()) / T::from_usize(self.shape.parameters_held())
    }

    /// The same by these kernels.
    #[cfg(feature = "large")]
    pub(crate) fn mean_scaling_by(&self, kernels: &dyn Kernels<T>) -> T {
        crate::scan::sum_by(kernels, self.scalings().as_slice()) / T::from_usize(self.shape.parameters_held())
    }

    /// The velocity in the eigenbasis, m x n, column-major.
    pub fn velocity(&self) -> &[T] {
        self.words.get(self.squares() + self.shape.parameters_held()..).unwrap_or_default()
    }

    /// Sets the velocity to zero.
    pub fn clear_velocity(&mut self) {
        self.velocity_mut().fill(T::ZERO);
    }

    /// Overwrites S with values from outside, which count as a full average.
    ///
    /// # Errors
    /// [`Error::Length`], [`Error::OutOfRange`] for a value that is negative or not finite: before any write.
    pub fn load_scalings(&mut self, scalings: MatrixRef<'_, T>) -> Result<(), Error> {
        expect_length("scalings rows", self.shape.rows(), scalings.rows())?;
        expect_length("scalings columns", self.shape.columns_held(), scalings.columns())?;
        let bad = |s: &T| !(*s >= T::ZERO && s.is_finite());
        let values = scalings.whole("scalings stride")?;
        if let Some(index) = values.iter().position(bad) {
            return Err(Error::OutOfRange { argument: "scalings", index });
        }
        let into = self.scalings_mut().into_mut_slice();
        into.iter_mut().zip(values).for_each(|(into, from)| *into = *from);
        self.set_mark(Mark::ScalingWeight, T::ONE);
        let mean = self.mean_scaling();
        self.marks().note_mean_scaling(mean);
        Ok(())
    }

    /// The coordinates in which the owner of this state keeps the weights that belong to it.
    pub fn coordinates(&self) -> Coordinates {
        Coordinates::of(self.words)
    }

    /// Whether weights that belong to it, if any, live in the eigenbasis.
    pub(crate) fn turns_weights(&self) -> bool {
        !BATCHES || self.coordinates() == Coordinates::Eigenbasis
    }

    /// Whether B is taken for diagonal, as it has been ever since the layer started: U_B is I, and no product with it is formed.
    #[inline(never)]
    pub fn output_is_diagonal(&self) -> bool {
        self.mark(Mark::Started) == T::from_f64(DIAGONAL)
    }

    /// The layer's scalars.
    pub(crate) fn marks(&mut self) -> Marks<'_, T> {
        Marks::over(self.words)
    }

    /// The typical reach of the preconditioned gradient: the running mean of the root mean square by which it changes a
    /// pre-activation, sqrt(sum D_ij^2 a_j / m) with a = diag C_A.
    pub fn typical_reach(&self) -> T {
        self.mark(Mark::Reach)
    }

    /// How many refreshes in a row did not converge.
    pub fn failed_refreshes(&self) -> u32 {
        u32::try_from(self.mark(Mark::FailedRefreshes).to_usize()).unwrap_or(u32::MAX)
    }

    /// Whether both factors hold numbers alone.
    #[cfg(not(feature = "large"))]
    #[inline(never)]
    pub(crate) fn factors_are_sound(&self) -> bool {
        self.input_factor().is_sound() && self.output_factor().is_sound()
    }

    /// The stored weight of the factors.
    pub(crate) fn factor_weight(&self) -> T {
        self.mark(Mark::FactorWeight)
    }

    /// All words but the velocity's, and the velocity's.
    pub(crate) fn apart(&mut self) -> (&mut [T], &mut [T]) {
        let words = self.words.len().saturating_sub(self.shape.parameters_held());
        self.words.split_at_mut_checked(words).unwrap_or_default()
    }

    /// All words.
    pub(crate) fn words(&self) -> &[T] {
        self.words
    }

    /// The layer's parts, all at once.
    pub(crate) fn parts_mut(&mut self) -> Parts<'_, T> {
        let (m, n, lines) = (self.shape.rows(), self.shape.columns_held(), self.shape.lines());
        let mut rest = &mut *self.words;
        let mut take = |words| cut(&mut rest, words).unwrap_or_default();
        take(HEADER);
        let input_factor = FactorMut::over(lines, take(factor_words_held(lines)));
        take(self.shape.moments());
        Parts {
            input_factor,
            output_factor: FactorMut::over(m, take(factor_words_held(m))),
            scalings: take(m * n),
            velocity: take(m * n),
        }
    }

    pub(crate) fn scalings_mut(&mut self) -> MatrixMut<'_, T> {
        let (rows, columns) = (self.shape.rows(), self.shape.columns_held());
        MatrixMut::over(self.scaling_words(), rows, columns)
    }

    /// The words of S.
    pub(crate) fn scaling_words(&mut self) -> &mut [T] {
        let words = self.squares()..self.squares() + self.shape.parameters_held();
        self.words.get_mut(words).unwrap_or_default()
    }

    /// S, and the words before it.
    pub(crate) fn scalings_and_factors(&mut self) -> (MatrixMut<'_, T>, &[T]) {
        let (rows, columns, at) = (self.shape.rows(), self.shape.columns_held(), self.squares());
        let (factors, rest) = self.words.split_at_mut_checked(at).unwrap_or_default();
        (MatrixMut::over(rest.get_mut(..rows * columns).unwrap_or_default(), rows, columns), factors)
    }

    fn velocity_mut(&mut self) -> &mut [T] {
        self.words.get_mut(self.squares() + self.shape.parameters_held()..).unwrap_or_default()
    }

    fn mark(&self, mark: Mark) -> T {
        self.words.get(mark as usize).copied().unwrap_or(T::ZERO)
    }

    fn set_mark(&mut self, mark: Mark, value: T) {
        self.marks().set(mark, value);
    }
}

/// Where the words of A and of B lie in a layer's state; those of S follow.
pub(crate) fn factors(shape: &Shape) -> [Range<usize>; 2] {
    let middle = HEADER + factor_words_held(shape.lines());
    let output = middle + shape.moments();
    [HEADER..middle, output..output + factor_words_held(shape.rows())]
}

/// The eigenvalues of A and of B, line by line, over a layer's words: diag C_A for each of the n columns, diag C_B.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'w, T> {
    points: usize,
    input: &'w [T],
    moments: &'w [T],
    output: &'w [T],
}

impl<'w, T: Scalar> Values<'w, T> {
    pub(crate) fn over(shape: &Shape, words: &'w [T]) -> Self {
        let [input, output] = factors(shape);
        let moments = words.get(input.end..output.start).unwrap_or_default();
        let covariance =
            |size, at: Range<usize>| FactorRef::over(size, words.get(at).unwrap_or_default()).covariance();
        let (input, output) = (covariance(shape.lines(), input), covariance(shape.rows(), output));
        Self { points: shape.points(), input, moments, output }
    }

    /// That of A at column j.
    pub(crate) fn of_column(&self, column: usize) -> T {
        let line = column.checked_div(self.points).unwrap_or(0);
        let index = packed_index(line, line);
        let shared = self.input.get(index).or_else(|| self.moments.first());
        let found = if self.points == 0 { self.moments.get(column) } else { shared };
        found.copied().unwrap_or(T::ZERO)
    }

    /// That of B at row i.
    pub(crate) fn of_row(&self, row: usize) -> T {
        diagonal(self.output, row)
    }
}

/// Whether a stored word can stand at this place of a layer's state: every word is finite, and the marks of the header are
/// what a step leaves there.
pub(crate) fn is_sound<T: Scalar>(place: usize, word: T) -> bool {
    let within = |limit: f64| word >= T::ZERO && word <= T::from_f64(limit);
    let is_mark = |mark: Mark| place == mark as usize;
    if is_mark(Mark::Started) {
        word == T::from_f64(STARTED) || word == T::from_f64(DIAGONAL)
    } else if is_mark(Mark::Coordinates) {
        // A learner without batches has no parameter coordinates.
        word == T::ONE || BATCHES && word == T::ZERO
    } else if is_mark(Mark::FactorWeight) || is_mark(Mark::ScalingWeight) {
        within(1.0)
    } else if is_mark(Mark::FailedRefreshes) {
        within(MOST_FAILED)
    } else {
        word.is_finite()
    }
}

/// More failed refreshes in a row than any run counts, and no more than an `f32` holds exactly.
const MOST_FAILED: f64 = 16_777_216.0;

/// A layer that owns its buffer and can live in a `static`. `WORDS` must be the shape's [`words`](Shape::words); another
/// number is an error at the first view.
///
/// ```
/// use ekfac::{Shape, StaticLayer};
/// const SHAPE: Shape = Shape::new(16, 8);
/// let mut layer: StaticLayer<f32, { SHAPE.words() }> = StaticLayer::new(SHAPE);
/// assert_eq!(layer.view()?.shape().parameters(), 136);
/// # Ok::<(), ekfac::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StaticLayer<T, const WORDS: usize> {
    shape: Shape,
    words: [T; WORDS],
}

impl<T: Scalar, const WORDS: usize> StaticLayer<T, WORDS> {
    /// A fresh layer.
    pub const fn new(shape: Shape) -> Self {
        Self { shape, words: [T::ZERO; WORDS] }
    }

    /// The view that does the work.
    ///
    /// # Errors
    /// Those of [`LayerMut::new`].
    pub fn view(&mut self) -> Result<LayerMut<'_, T>, Error> {
        LayerMut::new(self.shape, &mut self.words)
    }

    /// The words, to save and to restore.
    pub fn words_mut(&mut self) -> &mut [T] {
        &mut self.words
    }
}
