//! Any kernels on the threads of a pool: large products are cut by columns or rows of the result, elementwise work by its matrices
//! or their columns.
//!
//! *Invariant*: no sum is cut, so where the kernels inside give each element bits that do not depend on its neighbours
//! ([`Reference`](ekfac::Reference), [`DeterministicKernels`](super::DeterministicKernels)), any number of threads gives the same.
//! *Cost*: pieces of about equal operations, one a thread; below [`SPLIT`] multiply-adds, on the caller's thread. The hand-over is
//! rayon's alone: there is no lock, queue or atomic of our own between threads. *Failure*: a panic in a worker is raised again in the
//! caller once the others are done; averages are blended only where their terms were summed.

use super::is_small;
use ekfac::{Activation, Blend, Kernels, MatrixMut, MatrixRef, Scalar, kernels::Elementwise};
use rayon::{ThreadPool, prelude::*};
use std::{ops::Range, sync::Arc};

/// Work of fewer multiply-adds stays on the caller's thread.
pub const SPLIT: usize = 1 << 19;
/// So many elements of an activation are worth a thread.
const ELEMENTS: usize = 1 << 13;
/// The same for elementwise work, each word of which takes less.
const WORDS: usize = 1 << 15;
/// A piece has at least so many columns, or else rows are split.
const LEAST: usize = 4;

/// Kernels on the threads of a pool.
///
/// ```
/// use ekfac_std::kernels::{DeterministicKernels, ThreadPoolBuilder, Threaded};
/// let pool = std::sync::Arc::new(ThreadPoolBuilder::new().num_threads(2).build()?);
/// let kernels = Threaded::new(DeterministicKernels, pool);
/// assert_eq!(kernels.threads(), 2);
/// # Ok::<(), ekfac_std::kernels::ThreadPoolBuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Threaded<K> {
    kernels: K,
    pool: Arc<ThreadPool>,
    /// Whether the kernels share products among the threads of the pool themselves.
    leaves_products: bool,
}

impl<K> Threaded<K> {
    /// These kernels on this pool.
    #[must_use]
    pub fn new(kernels: K, pool: Arc<ThreadPool>) -> Self {
        Self { kernels, pool, leaves_products: false }
    }

    /// The same where the kernels share products among the threads of the pool that they are called in.
    pub(super) fn leaving_products(self) -> Self {
        Self { leaves_products: true, ..self }
    }

    /// Threads of the pool.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn is_serial(&self, rows: usize, columns: usize, inner: usize) -> bool {
        self.threads() < 2 || is_small(rows, columns, inner, SPLIT)
    }

    /// How many of so many elements each thread takes: no piece, the last one included, has fewer than [`ELEMENTS`], from where on kernels
    /// may have a faster way.
    fn elements_each(&self, elements: usize) -> usize {
        let pieces = (elements / (ELEMENTS + self.threads())).clamp(1, self.threads());
        elements.div_ceil(pieces)
    }

    /// Elementwise work on so many threads.
    fn spread<T: Scalar>(&self, work: Elementwise<'_, T>, threads: usize)
    where
        K: Kernels<T>,
    {
        if threads < 2 || work.words() < 2 * WORDS {
            return self.kernels.elementwise(work);
        }
        let (one, other) = work.halves();
        match other {
            Some(other) => {
                let (fewer, more) = (threads / 2, threads - threads / 2);
                rayon::join(|| self.spread(one, more), || self.spread(other, fewer));
            }
            None => self.kernels.elementwise(one),
        }
    }

    /// Fills `out` piece by piece: `work` gets the rows and columns of a piece, and the piece.
    fn split<T: Scalar>(
        &self,
        mut out: MatrixMut<'_, T>,
        keep: T,
        work: impl Fn(Range<usize>, Range<usize>, MatrixMut<'_, T>) + Sync,
    ) {
        let (rows, columns) = (out.rows(), out.columns());
        if columns >= LEAST * self.threads() || columns >= rows {
            let width = columns.div_ceil(self.threads()).next_multiple_of(LEAST);
            let pieces = out.as_mut_slice().par_chunks_mut(rows * width).with_max_len(1).enumerate();
            return self.pool.install(|| {
                pieces.for_each(|(index, piece)| {
                    let first = index * width;
                    let columns = first..(first + width).min(columns);
                    if let Ok(piece) = MatrixMut::new(piece, rows, columns.len()) {
                        work(0..rows, columns, piece);
                    }
                });
            });
        }
        let height = rows.div_ceil(self.threads()).next_multiple_of(LEAST);
        let bands: Vec<usize> = (0..rows).step_by(height).collect();
        let old = out.as_ref();
        let compute = |first: usize| {
            let band = first..(first + height).min(rows);
            let mut piece = vec![T::ZERO; band.len() * columns];
            if keep != T::ZERO {
                for (into, from) in piece.chunks_exact_mut(band.len()).zip(old.iter_columns()) {
                    into.copy_from_slice(&from[band.clone()]);
                }
            }
            if let Ok(piece) = MatrixMut::new(&mut piece, band.len(), columns) {
                work(band, 0..columns, piece);
            }
            piece
        };
        let pieces: Vec<Vec<T>> =
            self.pool.install(|| bands.par_iter().with_max_len(1).map(|first| compute(*first)).collect());
        for (first, piece) in bands.into_iter().zip(pieces) {
            let band = first..(first + height).min(rows);
            for (into, from) in out.iter_columns_mut().zip(piece.chunks_exact(band.len())) {
                into[band.clone()].copy_from_slice(from);
            }
        }
    }
}

/// Bands of columns of a packed triangle, of about equal area: four for each thread, as each computes a little of the lower triangle
/// as well.
pub(super) fn bands<T>(size: usize, threads: usize, packed: &mut [T]) -> Vec<(Range<usize>, &mut [T])> {
    let count = 4 * threads;
    let mut ends: Vec<usize> = (1..=count)
        .map(|band| (size as f64 * (band as f64 / count as f64).sqrt()).ceil() as usize)
        .map(|end| end.next_multiple_of(LEAST).min(size))
        .collect();
    ends.dedup();
    let (mut bands, mut rest, mut start) = (Vec::new(), packed, 0);
    for end in ends {
        let (own, tail) = rest.split_at_mut((start + end + 1) * (end - start) / 2);
        bands.push((start..end, own));
        (rest, start) = (tail, end);
    }
    bands
}

/// A part of a matrix that is known to lie within it.
fn part<T: Scalar>(matrix: MatrixRef<'_, T>, rows: Range<usize>, columns: Range<usize>) -> MatrixRef<'_, T> {
    matrix.block(rows, columns).unwrap_or(matrix)
}

impl<T: Scalar, K: Kernels<T>> Kernels<T> for Threaded<K> {
    fn product(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        let inner = left.columns();
        if self.is_serial(left.rows(), right.columns(), inner) {
            return self.kernels.product(out, left, right, scale, keep);
        }
        if self.leaves_products {
            return self.pool.install(|| self.kernels.product(out, left, right, scale, keep));
        }
        self.split(out, keep, |rows, columns, piece| {
            let (left, right) = (part(left, rows, 0..inner), part(right, 0..right.rows(), columns));
            self.kernels.product(piece, left, right, scale, keep);
        });
    }

    fn product_left_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        let inner = left.rows();
        if self.is_serial(left.columns(), right.columns(), inner) {
            return self.kernels.product_left_transposed(out, left, right, scale, keep);
        }
        if self.leaves_products {
            return self.pool.install(|| self.kernels.product_left_transposed(out, left, right, scale, keep));
        }
        self.split(out, keep, |rows, columns, piece| {
            let (left, right) = (part(left, 0..inner, rows), part(right, 0..right.rows(), columns));
            self.kernels.product_left_transposed(piece, left, right, scale, keep);
        });
    }

    fn product_right_transposed(
        &self,
        out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        let inner = left.columns();
        if self.is_serial(left.rows(), right.rows(), inner) {
            return self.kernels.product_right_transposed(out, left, right, scale, keep);
        }
        if self.leaves_products {
            return self
                .pool
                .install(|| self.kernels.product_right_transposed(out, left, right, scale, keep));
        }
        self.split(out, keep, |rows, columns, piece| {
            let (left, right) = (part(left, rows, 0..inner), part(right, columns, 0..right.columns()));
            self.kernels.product_right_transposed(piece, left, right, scale, keep);
        });
    }

    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]) {
        let (size, examples) = (x.rows(), x.columns());
        if self.is_serial(size, size, examples) {
            return self.kernels.symmetric_update(packed, x, blend, scratch);
        }
        if self.leaves_products {
            return self.pool.install(|| self.kernels.symmetric_update(packed, x, blend, scratch));
        }
        let share = T::ONE / T::from_usize(examples);
        self.pool.install(|| {
            bands(size, self.threads(), packed).into_par_iter().with_max_len(1).for_each(|(band, packed)| {
                let mut means = vec![T::ZERO; band.end * band.len()];
                if let Ok(out) = MatrixMut::new(&mut means, band.end, band.len()) {
                    let (left, right) =
                        (part(x, 0..band.end, 0..examples), part(x, band.clone(), 0..examples));
                    self.kernels.product_right_transposed(out, left, right, share, T::ZERO);
                }
                let mut rest = packed;
                for (column, mean) in band.clone().zip(means.chunks_exact(band.end)) {
                    let (into, tail) = rest.split_at_mut(column + 1);
                    blend.apply(into, &mean[..=column]);
                    rest = tail;
                }
            });
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
        let (rows, columns, examples) = (g.rows(), a.rows(), a.columns());
        if self.is_serial(rows, columns, examples) {
            return self.kernels.squared_product(scalings, g, a, blend, scratch);
        }
        let width = columns.div_ceil(self.threads()).next_multiple_of(LEAST);
        self.pool.install(|| {
            let pieces = scalings.as_mut_slice().par_chunks_mut(rows * width).with_max_len(1).enumerate();
            pieces.for_each(|(index, piece)| {
                let (first, count) = (index * width, piece.len() / rows);
                let a = part(a, first..first + count, 0..examples);
                if let Ok(piece) = MatrixMut::new(piece, rows, count) {
                    self.kernels.squared_product(piece, g, a, blend, &mut vec![T::ZERO; rows]);
                }
            });
        });
    }

    fn activate(&self, activation: Activation, z: &[T], h: &mut [T]) -> bool {
        let each = self.elements_each(z.len());
        if each >= z.len() || activation == Activation::Identity {
            return self.kernels.activate(activation, z, h);
        }
        self.pool.install(|| {
            let pieces = z.par_chunks(each).zip(h.par_chunks_mut(each)).with_max_len(1);
            pieces
                .map(|(z, h)| self.kernels.activate(activation, z, h))
                .reduce(|| true, |one, other| one & other)
        })
    }

    fn through_activation(&self, activation: Activation, g: &mut [T], z: &[T], h: &[T]) {
        let each = self.elements_each(g.len());
        if each >= g.len() || activation == Activation::Identity {
            return self.kernels.through_activation(activation, g, z, h);
        }
        self.pool.install(|| {
            let pieces =
                g.par_chunks_mut(each).zip(z.par_chunks(each)).zip(h.par_chunks(each)).with_max_len(1);
            pieces.for_each(|((g, z), h)| self.kernels.through_activation(activation, g, z, h));
        });
    }

    fn elementwise(&self, work: Elementwise<'_, T>) {
        if self.threads() < 2 {
            return self.kernels.elementwise(work);
        }
        self.pool.install(|| self.spread(work, self.threads()));
    }
}
