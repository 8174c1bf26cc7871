//! The products of an EKFAC step, behind one trait: the hook for SIMD, threads and offload engines.
//!
//! [`Reference`] is core's own implementation. Its order of summation is part of its contract, so its bits are the same
//! on every target: a sum over columns adds four terms, left to right, before it adds them to the running sum; a dot
//! product runs over eight accumulators, element i into accumulator i mod 8, added up pairwise at the end. An engine
//! may sum in another order and must document the difference.
//!
//! The averages are blended as `value += share * (mean - value)`: equal samples then leave the average exactly where it
//! is, which `(1 - share) * value + share * mean` does not.
//!
//! Cost: 2 r c k operations for a product of r x k by k x c, N n (n + 1) for a symmetric update, 2 N m n for a squared
//! one; no memory but the caller's scratch. Sizes are checked by the callers; a kernel given wrong ones computes on the
//! common part and cannot panic.

pub(crate) use crate::counted::Chosen;
pub use crate::counted::Counted;
#[cfg(feature = "large")]
pub use crate::elementwise::Elementwise;
use crate::{Activation, MatrixMut, MatrixRef, Scalar, carve::cut, single};

/// How the mean of a batch enters a running average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blend<T> {
    /// value += share * (mean - value).
    Move(T),
    /// value += share * mean: a further term of a mean whose first one was moved in.
    Add(T),
}

impl<T: Scalar> Blend<T> {
    /// Blends one column of means into one column of values.
    pub fn apply(self, values: &mut [T], means: &[T]) {
        match self {
            Blend::Move(share) => {
                let values = self.over(values);
                values.iter_mut().zip(means).for_each(|(value, mean)| *value += share * (*mean - *value));
            }
            Blend::Add(share) => {
                values.iter_mut().zip(means).for_each(|(value, mean)| *value += share * *mean);
            }
        }
    }

    /// The values to blend into: a share of 1 forgets them whatever their size, so they must not pass through a difference.
    pub(crate) fn over(self, values: &mut [T]) -> &mut [T] {
        if self == Blend::Move(T::ONE) {
            values.fill(T::ZERO);
        }
        values
    }

    /// Blends one mean into one value of those.
    pub(crate) fn move_one(self, value: &mut T, mean: T) {
        *value += match self {
            Blend::Move(share) => share * (mean - *value),
            Blend::Add(share) => share * mean,
        };
    }
}

/// The products that an EKFAC step is made of, and its activations. `out` comes first, sizes are those of the matrices.
pub trait Kernels<T: Scalar>: Sync {
    /// out = scale * left * right + keep * out.
    fn product(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    );

    /// out = scale * left^T * right + keep * out.
    fn product_left_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    );

    /// out = scale * left * right^T + keep * out.
    fn product_right_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    );

    /// Blends (1/N) X X^T into a packed symmetric matrix; X is n x N. `scratch` has at least n words.
    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]);

    /// Blends (1/N) (G G) (A A)^T, squares element by element, into S; G is m x N, A is n x N. `scratch` has at least m words.
    fn squared_product(
        &self,
        scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    );

    /// h = activation(z), element by element; whether every z is finite.
    fn activate(&self, activation: Activation, z: &[T], h: &mut [T]) -> bool {
        let mut finite = true;
        for (h, z) in h.iter_mut().zip(z) {
            finite &= z.is_finite();
            *h = activation.value(*z);
        }
        finite
    }

    /// g <- g dh/dz, element by element: from dL/dh to dL/dz.
    fn through_activation(&self, activation: Activation, g: &mut [T], z: &[T], h: &[T]) {
        if activation == Activation::Identity {
            return;
        }
        for ((g, z), h) in g.iter_mut().zip(z).zip(h) {
            *g *= activation.derivative(*z, *h);
        }
    }

    /// What is no product: see [`Elementwise`]. Whatever carries it out, the bits are the same. It must not fail: a turn that is
    /// taken for a half would leave a basis that is not that of its factor.
    #[cfg(feature = "large")]
    fn elementwise(&self, work: Elementwise<'_, T>) {
        work.run();
    }
}

/// Core's own kernels: a fixed order of summation, the same bits on every target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

impl<T: Scalar> Kernels<T> for Reference {
    fn product(
        &self,
        mut out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        for (into, coefficients) in out.iter_columns_mut().zip(right.iter_columns()) {
            rescale(into, keep);
            add_columns(into, left, Spaced { rest: coefficients, stride: 1 }, scale);
        }
    }

    fn product_left_transposed(
        &self,
        mut out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        for (into, column) in out.iter_columns_mut().zip(right.iter_columns()) {
            rescale(into, keep);
            let (mut rest, stride) = (left.as_slice(), left.stride());
            for value in into {
                *value += scale * dot(rest.get(..column.len()).unwrap_or(rest), column);
                rest = beyond(rest, stride);
            }
        }
    }

    fn product_right_transposed(
        &self,
        mut out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        for (row, into) in out.iter_columns_mut().enumerate() {
            rescale(into, keep);
            add_columns(into, left, Spaced::row(right, row), scale);
        }
    }

    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]) {
        if x.columns() == 1 {
            return single::symmetric_update(packed, x.column(0).unwrap_or_default(), blend);
        }
        let share = T::ONE / T::from_usize(x.columns().max(1));
        let mut rest = packed;
        for index in 0..x.rows() {
            let (Some(into), Some(mean)) = (cut(&mut rest, index + 1), scratch.get_mut(..=index)) else {
                return;
            };
            mean.fill(T::ZERO);
            add_columns(mean, x.top(index + 1), Spaced::row(x, index), share);
            blend.apply(into, mean);
        }
    }

    fn squared_product(
        &self,
        mut scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        if a.columns() == 1 {
            let [g, a] = [g, a].map(|side| side.column(0).unwrap_or_default());
            return single::squared_product(scalings, g, a, blend);
        }
        let share = T::ONE / T::from_usize(a.columns().max(1));
        let Some(mean) = scratch.get_mut(..g.rows()) else { return };
        for (row, into) in scalings.iter_columns_mut().enumerate() {
            mean.fill(T::ZERO);
            add_squared_columns(mean, g, Spaced::row(a, row), share);
            blend.apply(into, mean);
        }
    }
}

/// The dot product over eight accumulators: pair i into accumulator i mod 8, added up pairwise at the end.
#[inline(never)]
pub fn dot<T: Scalar>(left: &[T], right: &[T]) -> T {
    dot_inlined(left, right)
}

/// [`dot`], inlined into a caller that may have wider vectors, or by a call where code is to be small.
#[inline(always)]
pub(crate) fn dot_as<const INLINED: bool, T: Scalar>(left: &[T], right: &[T]) -> T {
    if INLINED { dot_inlined(left, right) } else { dot(left, right) }
}

#[inline(always)]
fn dot_inlined<T: Scalar>(left: &[T], right: &[T]) -> T {
    let mut sums = [T::ZERO; 8];
    let ((lefts, left), (rights, right)) = (left.as_chunks::<8>(), right.as_chunks::<8>());
    for (x, y) in lefts.iter().zip(rights) {
        // Written out: not every build unrolls a loop of eight.
        let [a, b, c, d, e, f, g, h] = &mut sums;
        let ([xa, xb, xc, xd, xe, xf, xg, xh], [ya, yb, yc, yd, ye, yf, yg, yh]) = (*x, *y);
        *a += xa * ya;
        *b += xb * yb;
        *c += xc * yc;
        *d += xd * yd;
        *e += xe * ye;
        *f += xf * yf;
        *g += xg * yg;
        *h += xh * yh;
    }
    // Written out as well, so that no accumulator leaves its register.
    let count = left.len().min(right.len());
    let (left, right) = (left.get(..count).unwrap_or_default(), right.get(..count).unwrap_or_default());
    let add = |sum: &mut T, index: usize| {
        if let (Some(x), Some(y)) = (left.get(index), right.get(index)) {
            *sum += *x * *y;
        }
    };
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, h] = sums;
    add(&mut a, 0);
    add(&mut b, 1);
    add(&mut c, 2);
    add(&mut d, 3);
    add(&mut e, 4);
    add(&mut f, 5);
    add(&mut g, 6);
    pairwise([a, b, c, d, e, f, g, h])
}

/// The sum of eight accumulators.
#[inline(always)]
pub(crate) fn pairwise<T: Scalar>([a, b, c, d, e, f, g, h]: [T; 8]) -> T {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// More values than this are added up over eight accumulators.
pub(crate) const LONG_SUM: usize = 1 << 14;

/// The sum: from left to right, or of more than 16,384 values over eight accumulators, as in [`dot`].
pub(crate) fn sum<T: Scalar>(values: &[T]) -> T {
    if values.len() <= LONG_SUM {
        return values.iter().fold(T::ZERO, |sum, value| sum + *value);
    }
    let mut sums = [T::ZERO; 8];
    for block in values.chunks(8) {
        sums.iter_mut().zip(block).for_each(|(sum, value)| *sum += *value);
    }
    pairwise(sums)
}

/// |value| or what is larger than it, NaN passed over.
#[inline(always)]
fn larger<T: Scalar>(value: T, than: T) -> T {
    let size = value.abs();
    if size > than { size } else { than }
}

/// The largest magnitude, NaN passed over.
#[inline(never)]
fn largest<T: Scalar>(values: &[T]) -> T {
    largest_inlined(values)
}

/// The largest magnitude, as in [`dot_as`].
#[inline(always)]
pub(crate) fn largest_as<const INLINED: bool, T: Scalar>(values: &[T]) -> T {
    if INLINED { largest_inlined(values) } else { largest(values) }
}

#[inline(always)]
fn largest_inlined<T: Scalar>(values: &[T]) -> T {
    if !cfg!(feature = "large") {
        return values.iter().fold(T::ZERO, |largest, value| larger(*value, largest));
    }
    let mut lanes = [T::ZERO; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = larger(*value, *lane);
        }
    }
    lanes.iter().chain(rest).fold(T::ZERO, |largest, value| larger(*value, largest))
}

/// values *= keep; a keep of 0 clears them, whatever they hold.
pub fn rescale<T: Scalar>(values: &mut [T], keep: T) {
    if keep == T::ZERO {
        values.fill(T::ZERO);
    } else if keep != T::ONE {
        values.iter_mut().for_each(|value| *value *= keep);
    }
}

/// Values so many words apart; zeros where they end.
#[derive(Clone, Copy)]
struct Spaced<'a, T> {
    rest: &'a [T],
    stride: usize,
}

impl<'a, T: Scalar> Spaced<'a, T> {
    fn row(matrix: MatrixRef<'a, T>, row: usize) -> Self {
        Self { rest: beyond(matrix.as_slice(), row), stride: matrix.stride() }
    }

    fn next(&mut self) -> T {
        let value = self.rest.first().copied().unwrap_or(T::ZERO);
        self.rest = beyond(self.rest, self.stride);
        value
    }
}

/// into += sum over the columns of scale * coefficient * column.
#[inline(never)]
fn add_columns<T: Scalar>(into: &mut [T], matrix: MatrixRef<'_, T>, coefficients: Spaced<'_, T>, scale: T) {
    add_mapped_columns(into, matrix, coefficients, scale, |x| x);
}

/// into += matrix x.
pub(crate) fn add_multiples<T: Scalar>(into: &mut [T], matrix: MatrixRef<'_, T>, x: &[T]) {
    add_mapped_columns(into, matrix, Spaced { rest: x, stride: 1 }, T::ONE, |x| x);
}

/// into += sum over the columns of scale * coefficient^2 * column^2, element by element.
#[inline(never)]
fn add_squared_columns<T: Scalar>(
    into: &mut [T],
    matrix: MatrixRef<'_, T>,
    coefficients: Spaced<'_, T>,
    scale: T,
) {
    add_mapped_columns(into, matrix, coefficients, scale, |x| x * x);
}

/// into += sum over the columns of scale * map(coefficient) * map(column), four columns at a time.
#[inline(always)]
fn add_mapped_columns<T: Scalar>(
    into: &mut [T],
    matrix: MatrixRef<'_, T>,
    mut coefficients: Spaced<'_, T>,
    scale: T,
    map: impl Fn(T) -> T,
) {
    let Some(into) = into.get_mut(..matrix.rows()) else { return };
    let mut coefficient = || scale * map(coefficients.next());
    let (mut rest, stride) = (matrix.as_slice(), matrix.stride());
    for _ in 0..matrix.columns() / 4 {
        let [a, b, c, d] = [coefficient(), coefficient(), coefficient(), coefficient()];
        let second = beyond(rest, stride);
        let third = beyond(second, stride);
        let fourth = beyond(third, stride);
        for (value, ((x, y), (z, w))) in
            into.iter_mut().zip(rest.iter().zip(second).zip(third.iter().zip(fourth)))
        {
            *value += ((a * map(*x) + b * map(*y)) + c * map(*z)) + d * map(*w);
        }
        rest = beyond(fourth, stride);
    }
    for _ in 0..matrix.columns() % 4 {
        let a = coefficient();
        into.iter_mut().zip(rest).for_each(|(value, x)| *value += a * map(*x));
        rest = beyond(rest, stride);
    }
}

/// What lies beyond so many words.
fn beyond<T>(values: &[T], words: usize) -> &[T] {
    values.get(words..).unwrap_or_default()
}
