//! The products of a step through faer, for networks that are large enough.
//!
//! [`FaerKernels`] hands every product of more than [`CROSSOVER`] multiply-adds to faer's blocked, vectorised `matmul`, on
//! one thread, and the rest to core's own [`Reference`]. *Accuracy*: sums run in another order than core's, so results
//! differ in rounding, by at most k eps times the sum of magnitudes for k terms; the bits are the same from run to run on
//! one machine, not between machines. Choose [`Reference`] where they must be. *Cost*: one reused buffer of n^2 or
//! N (m + n) words; a left matrix too large for the second cache goes a band of rows at a time, since faer itself goes over all of
//! its rows again and again. Within a pool ([`Mode::Fast`](super::Mode::Fast) with one) a large product is cut by rows among the
//! threads. *Failure*: none; sizes come from the corridor.

use super::{
    Element, activations, clear_vectors, is_small as below,
    tanh::TANH_CROSSOVER,
    threaded::{SPLIT, bands},
    vectorised,
};
use ekfac::{Activation, Blend, Kernels, MatrixMut, MatrixRef, Reference, Scalar, kernels::Elementwise};
use faer::{
    Accum, MatMut, MatRef, Par,
    linalg::matmul::{matmul, triangular, triangular::BlockStructure},
};
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Products with fewer multiply-adds than this stay with core: below, faer's set-up costs more than it saves.
pub const CROSSOVER: usize = 16 * 16 * 16;

/// faer packs so many terms of all rows of the left matrix, and walks over them again for every four columns of the result.
const TERMS: usize = 512;
/// More packed bytes than this crowd the second cache, and every walk waits for the third: 1.2 to 1.9 times as long at 785 to 1,001
/// rows.
const PANEL: usize = 1 << 20;
/// So many rows at a time stay within it: whole tiles of faer's, which have 96 rows at most.
const BAND: usize = 192;

/// A thread has at least so many rows of a product, or else columns are cut.
const LEAST_ROWS: usize = 32;

/// Kernels through faer's products.
#[derive(Debug, Default)]
pub struct FaerKernels<T> {
    /// Threads of the pool within which these are called.
    threads: usize,
    /// As many as calls ran at once.
    buffers: Mutex<Vec<Vec<T>>>,
}

fn view<'a, T: Scalar>(matrix: MatrixRef<'a, T>) -> MatRef<'a, T> {
    MatRef::from_column_major_slice_with_stride(
        matrix.as_slice(),
        matrix.rows(),
        matrix.columns(),
        matrix.stride(),
    )
}

fn view_mut<'a, T: Scalar>(matrix: &'a mut MatrixMut<'_, T>) -> MatMut<'a, T> {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    MatMut::from_column_major_slice_mut(matrix.as_mut_slice(), rows, columns)
}

/// out = scale * left * right + keep * out, by so many threads of the pool that this is called in.
fn multiply<T: Element>(
    mut out: MatrixMut<'_, T>,
    left: MatRef<'_, T>,
    right: MatRef<'_, T>,
    scale: T,
    keep: T,
    threads: usize,
) {
    let mut accumulate = Accum::Add;
    if keep == T::ZERO {
        accumulate = Accum::Replace;
    } else if keep != T::ONE {
        out.as_mut_slice().iter_mut().for_each(|value| *value *= keep);
    }
    let large = !below(left.nrows(), right.ncols(), left.ncols(), SPLIT);
    share(view_mut(&mut out), accumulate, left, right, scale, if large { threads } else { 1 });
}

/// The product on so many threads. A thread packs what it has of the left matrix for itself, so that rows are cut rather than columns:
/// an eighth of the rows of 784 x 784 by 784 x 200 takes 1 / 7.3 of the time, an eighth of the columns 1 / 4.6.
fn share<T: Element>(
    out: MatMut<'_, T>,
    accumulate: Accum,
    left: MatRef<'_, T>,
    right: MatRef<'_, T>,
    scale: T,
    threads: usize,
) {
    let (rows, columns) = (out.nrows(), out.ncols());
    if threads < 2 {
        return in_bands(out, accumulate, left, right, scale);
    }
    let fewer = threads / 2;
    let part = |whole: usize| whole * fewer / threads;
    let both =
        |one: MatMut<'_, T>, other: MatMut<'_, T>, lefts: [MatRef<'_, T>; 2], rights: [MatRef<'_, T>; 2]| {
            rayon::join(
                || share(other, accumulate, lefts[1], rights[1], scale, threads - fewer),
                || share(one, accumulate, lefts[0], rights[0], scale, fewer),
            );
        };
    if rows >= columns.min(LEAST_ROWS * threads) {
        let ((above, below), (top, bottom)) =
            (out.split_at_row_mut(part(rows)), left.split_at_row(part(rows)));
        both(above, below, [top, bottom], [right, right]);
    } else {
        let ((before, behind), (first, last)) =
            (out.split_at_col_mut(part(columns)), right.split_at_col(part(columns)));
        both(before, behind, [left, left], [first, last]);
    }
}

/// The product, a crowded one a band of rows after another.
fn in_bands<T: Element>(
    mut out: MatMut<'_, T>,
    accumulate: Accum,
    mut left: MatRef<'_, T>,
    right: MatRef<'_, T>,
    scale: T,
) {
    if left.nrows() * left.ncols().min(TERMS) * size_of::<T>() > PANEL {
        while left.nrows() > BAND {
            let (band, below) = out.split_at_row_mut(BAND);
            let (top, bottom) = left.split_at_row(BAND);
            matmul(band, accumulate, top, right, scale, Par::Seq);
            (out, left) = (below, bottom);
        }
    }
    matmul(out, accumulate, left, right, scale, Par::Seq);
    clear_vectors();
}

/// A symmetric update on the threads of the pool that this is called in, a band of columns after another.
fn symmetric_bands<T: Element>(
    mut square: &mut [T],
    packed: &mut [T],
    x: MatRef<'_, T>,
    blend: Blend<T>,
    share: T,
    threads: usize,
) {
    let mut pieces = Vec::new();
    for (band, packed) in bands(x.nrows(), threads, packed) {
        let (means, rest) = square.split_at_mut(band.end * band.len());
        pieces.push((band, means, packed));
        square = rest;
    }
    pieces.into_par_iter().with_max_len(1).for_each(|(band, means, mut packed)| {
        let out = MatMut::from_column_major_slice_mut(means, band.end, band.len());
        let (left, right) = (x.subrows(0, band.end), x.subrows(band.start, band.len()).transpose());
        in_bands(out, Accum::Replace, left, right, share);
        for (column, mean) in band.clone().zip(means.chunks_exact(band.end)) {
            let (into, tail) = packed.split_at_mut(column + 1);
            blend.apply(into, &mean[..=column]);
            packed = tail;
        }
    });
}

impl<T: Element> FaerKernels<T> {
    /// Kernels without a buffer yet; one grows to what the largest layer needs.
    #[must_use]
    pub fn new() -> Self {
        Self::on_threads(1)
    }

    /// The same for calls within a pool of so many threads.
    pub(super) fn on_threads(threads: usize) -> Self {
        Self { threads, buffers: Mutex::new(Vec::new()) }
    }

    fn with_buffer(&self, words: usize, work: impl FnOnce(&mut [T])) {
        let kept = || self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = kept().pop().unwrap_or_default();
        if buffer.len() < words {
            buffer.resize(words, T::ZERO);
        }
        work(&mut buffer[..words]);
        kept().push(buffer);
    }
}

fn is_small(rows: usize, columns: usize, inner: usize) -> bool {
    below(rows, columns, inner, CROSSOVER)
}

impl<T: Element> Kernels<T> for FaerKernels<T> {
    fn product(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        if is_small(left.rows(), right.columns(), left.columns()) {
            return Reference.product(out, left, right, scale, keep);
        }
        multiply(out, view(left), view(right), scale, keep, self.threads);
    }

    fn product_left_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        if is_small(left.columns(), right.columns(), left.rows()) {
            return Reference.product_left_transposed(out, left, right, scale, keep);
        }
        multiply(out, view(left).transpose(), view(right), scale, keep, self.threads);
    }

    fn product_right_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        if is_small(left.rows(), right.rows(), left.columns()) {
            return Reference.product_right_transposed(out, left, right, scale, keep);
        }
        multiply(out, view(left), view(right).transpose(), scale, keep, self.threads);
    }

    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]) {
        let size = x.rows();
        if is_small(size, size, x.columns()) {
            return Reference.symmetric_update(packed, x, blend, scratch);
        }
        let share = T::ONE / T::from_usize(x.columns());
        if self.threads > 1 && !below(size, size, x.columns(), SPLIT) {
            return self.with_buffer(size * size, |square| {
                symmetric_bands(square, packed, view(x), blend, share, self.threads);
            });
        }
        self.with_buffer(size * size, |square| {
            let out = MatMut::from_column_major_slice_mut(square, size, size);
            let x = view(x);
            triangular::matmul(
                out,
                BlockStructure::TriangularUpper,
                Accum::Replace,
                x,
                BlockStructure::Rectangular,
                x.transpose(),
                BlockStructure::Rectangular,
                share,
                Par::Seq,
            );
            clear_vectors();
            let mut rest = packed;
            for (index, column) in square.chunks_exact(size).enumerate() {
                let (into, tail) = rest.split_at_mut(index + 1);
                blend.apply(into, &column[..=index]);
                rest = tail;
            }
        });
    }

    fn squared_product(
        &self,
        mut scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        let (rows, columns, batch) = (g.rows(), a.rows(), a.columns());
        if is_small(rows, columns, batch) {
            return Reference.squared_product(scalings, g, a, blend, scratch);
        }
        let share = T::ONE / T::from_usize(batch);
        self.with_buffer((rows + columns) * batch + rows * columns, |buffer| {
            let (g_squares, rest) = buffer.split_at_mut(rows * batch);
            let (a_squares, mean) = rest.split_at_mut(columns * batch);
            square(g_squares, g);
            square(a_squares, a);
            let left = MatRef::from_column_major_slice(g_squares, rows, batch);
            let right = MatRef::from_column_major_slice(a_squares, columns, batch);
            let out = MatMut::from_column_major_slice_mut(mean, rows, columns);
            in_bands(out, Accum::Replace, left, right.transpose(), share);
            blend.apply(scalings.as_mut_slice(), mean);
        });
    }
    fn activate(&self, activation: Activation, z: &[T], h: &mut [T]) -> bool {
        match activation {
            Activation::Tanh if z.len() >= TANH_CROSSOVER && T::fast_tanh(z, h) => {}
            _ => return activations::activate(activation, z, h),
        }
        activations::are_finite(z)
    }

    fn through_activation(&self, activation: Activation, g: &mut [T], z: &[T], h: &[T]) {
        activations::through(activation, g, z, h);
    }

    fn elementwise(&self, work: Elementwise<'_, T>) {
        vectorised(work);
    }
}

/// The squares of a matrix whose columns may lie apart.
fn square<T: Scalar>(into: &mut [T], from: MatrixRef<'_, T>) {
    for (into, from) in into.chunks_exact_mut(from.rows().max(1)).zip(from.iter_columns()) {
        into.iter_mut().zip(from).for_each(|(square, value)| *square = *value * *value);
    }
}
