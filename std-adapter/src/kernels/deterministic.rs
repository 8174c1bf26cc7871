//! Core's own products in vector code: the same order of summation, so the same bits.
//!
//! A sum over columns adds four terms, left to right, before it adds them to the running sum; a dot product runs over eight
//! accumulators. Both orders hold for each element of the result alone, so that tiles of elements can be held in registers:
//!
//! ```text
//! tile of 32 x 4:  sum_ij += ((c_0j x_i0 + c_1j x_i1) + c_2j x_i2) + c_3j x_i3     for every four columns of X
//! tile of 4 x 4:   eight sums for each pair of columns
//! ```
//!
//! The tile of dot products is not yet fast: about a fifth of the other's rate.
//! *Invariant*: no fused multiply-add and no other order: bit for bit [`Reference`]. *Cost*: a copy of X in panels of 32 rows.
//! *Failure*: none; sizes are those of the matrices.

use super::{activations, is_small, vectorised};
use ekfac::{
    Activation, Blend, Kernels, MatrixMut, MatrixRef, Reference, Scalar,
    kernels::{Elementwise, rescale},
};
use pulp::Arch;

/// Smaller products stay with core's loops.
const TILED: usize = 16 * 16 * 16;
const TALL: usize = 32;
const WIDE: usize = 4;
/// Accumulators of a dot product.
const LANES: usize = 8;
/// Columns of the left matrix that stay in cache while all columns of the right one pass.
const KEPT: usize = 64;

/// Core's bits in vector code.
///
/// ```
/// use ekfac::{Kernels, MatrixMut, MatrixRef, Reference};
/// use ekfac_std::DeterministicKernels;
/// let (left, right): (Vec<f32>, Vec<f32>) = (0..50 * 40).map(|i| ((i as f32).sin(), (i as f32).cos())).unzip();
/// let product = |kernels: &dyn Kernels<f32>| {
///     let mut out = vec![0.0; 50 * 50];
///     let (left, right) = (MatrixRef::new(&left, 50, 40)?, MatrixRef::new(&right, 50, 40)?);
///     kernels.product_right_transposed(MatrixMut::new(&mut out, 50, 50)?, left, right, 1.0, 0.0);
///     Ok::<_, ekfac::Error>(out)
/// };
/// assert_eq!(product(&DeterministicKernels)?, product(&Reference)?);
/// # Ok::<(), ekfac::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct DeterministicKernels;

/// Columns that a sum runs over, in panels of [`TALL`] rows, each panel column by column, filled up with zeros.
struct Panels<T> {
    words: Vec<T>,
    rows: usize,
    terms: usize,
}

impl<T: Scalar> Panels<T> {
    fn new(matrix: MatrixRef<'_, T>, map: impl Fn(T) -> T) -> Self {
        let (rows, terms) = (matrix.rows(), matrix.columns());
        let mut words = vec![T::ZERO; rows.next_multiple_of(TALL) * terms];
        for (term, column) in matrix.iter_columns().enumerate() {
            for (panel, values) in words.chunks_exact_mut(TALL * terms).zip(column.chunks(TALL)) {
                let into = &mut panel[term * TALL..][..TALL];
                into.iter_mut().zip(values).for_each(|(into, value)| *into = map(*value));
            }
        }
        Self { words, rows, terms }
    }

    /// into += sum over the terms of coefficient * term, for columns whose lengths are `rows` or less: `height` gives the rows that
    /// a group of [`WIDE`] columns needs.
    fn add_to(
        &self,
        columns: &mut [&mut [T]],
        coefficients: impl Fn(usize, usize) -> T,
        height: impl Fn(usize) -> usize,
    ) {
        let groups = columns.len().div_ceil(WIDE);
        let mut packed = vec![[T::ZERO; WIDE]; self.terms * groups];
        if self.terms == 0 {
            return;
        }
        for (group, packed) in packed.chunks_exact_mut(self.terms).enumerate() {
            for (term, values) in packed.iter_mut().enumerate() {
                let ends = columns.len() - group * WIDE;
                for (place, value) in values.iter_mut().enumerate().take(ends) {
                    *value = coefficients(term, group * WIDE + place);
                }
            }
        }
        for (index, panel) in self.words.chunks_exact(TALL * self.terms).enumerate() {
            let rows = index * TALL..((index + 1) * TALL).min(self.rows);
            for (group, coefficients) in packed.chunks_exact(self.terms).enumerate() {
                if rows.start >= height(group) {
                    continue;
                }
                let first = group * WIDE;
                let last = (first + WIDE).min(columns.len());
                let mut sums = [[T::ZERO; TALL]; WIDE];
                for (sums, column) in sums.iter_mut().zip(&columns[first..last]) {
                    let values = &column[rows.start.min(column.len())..rows.end.min(column.len())];
                    sums[..values.len()].copy_from_slice(values);
                }
                Arch::new().dispatch(|| accumulate(&mut sums, panel, coefficients));
                for (sums, column) in sums.iter().zip(&mut columns[first..last]) {
                    let length = column.len();
                    let values = &mut column[rows.start.min(length)..rows.end.min(length)];
                    let count = values.len();
                    values.copy_from_slice(&sums[..count]);
                }
            }
        }
    }
}

/// One tile over all terms.
#[inline(always)]
fn accumulate<T: Scalar>(sums: &mut [[T; TALL]; WIDE], panel: &[T], coefficients: &[[T; WIDE]]) {
    let mut own = *sums;
    let (columns, _) = panel.as_chunks::<TALL>();
    let (fours, rest) = columns.as_chunks::<4>();
    let (by_four, single) = coefficients.as_chunks::<4>();
    for ([x, y, z, w], [a, b, c, d]) in fours.iter().zip(by_four) {
        for (place, sums) in own.iter_mut().enumerate() {
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum += ((a[place] * x[row] + b[place] * y[row]) + c[place] * z[row]) + d[place] * w[row];
            }
        }
    }
    for (x, a) in rest.iter().zip(single) {
        for (place, sums) in own.iter_mut().enumerate() {
            for (row, sum) in sums.iter_mut().enumerate() {
                *sum += a[place] * x[row];
            }
        }
    }
    *sums = own;
}

/// The dot products of four columns with four others, in core's order.
#[inline(always)]
fn dots<T: Scalar>(lefts: [&[T]; WIDE], rights: [&[T]; WIDE]) -> [[T; WIDE]; WIDE] {
    let mut sums = [[[T::ZERO; LANES]; WIDE]; WIDE];
    let [(la, ra), (lb, rb), (lc, rc), (ld, rd)] = lefts.map(|left| left.as_chunks::<LANES>());
    let [(wa, sa), (wb, sb), (wc, sc), (wd, sd)] = rights.map(|right| right.as_chunks::<LANES>());
    let blocks = la.iter().zip(lb).zip(lc.iter().zip(ld)).zip(wa.iter().zip(wb).zip(wc.iter().zip(wd)));
    for (((la, lb), (lc, ld)), ((wa, wb), (wc, wd))) in blocks {
        for (sums, right) in sums.iter_mut().zip([wa, wb, wc, wd]) {
            for (sums, left) in sums.iter_mut().zip([la, lb, lc, ld]) {
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum += left[lane] * right[lane];
                }
            }
        }
    }
    for (sums, right) in sums.iter_mut().zip([sa, sb, sc, sd]) {
        for (sums, left) in sums.iter_mut().zip([ra, rb, rc, rd]) {
            sums.iter_mut().zip(left.iter().zip(right)).for_each(|(sum, (x, y))| *sum += *x * *y);
        }
    }
    sums.map(|sums| sums.map(|[a, b, c, d, e, f, g, h]| ((a + b) + (c + d)) + ((e + f) + (g + h))))
}

/// Four columns from `first` on, the last one repeated where there are fewer.
fn four<'a, T: Scalar>(matrix: MatrixRef<'a, T>, first: usize) -> [&'a [T]; WIDE] {
    let last = matrix.columns() - 1;
    [0, 1, 2, 3].map(|place| matrix.column((first + place).min(last)).unwrap_or_default())
}

impl<T: Scalar> Kernels<T> for DeterministicKernels {
    fn product(
        &self,
        mut out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        if right.columns() < WIDE || is_small(left.rows(), right.columns(), left.columns(), TILED) {
            return Reference.product(out, left, right, scale, keep);
        }
        let coefficients: Vec<&[T]> = right.iter_columns().collect();
        let mut columns: Vec<&mut [T]> = out.iter_columns_mut().collect();
        columns.iter_mut().for_each(|column| rescale(column, keep));
        let panels = Panels::new(left, |x| x);
        panels.add_to(&mut columns, |term, column| scale * coefficients[column][term], |_| left.rows());
    }

    fn product_left_transposed(
        &self,
        mut out: MatrixMut<'_, T>,
        left: MatrixRef<'_, T>,
        right: MatrixRef<'_, T>,
        scale: T,
        keep: T,
    ) {
        if right.columns() < WIDE || is_small(left.columns(), right.columns(), left.rows(), TILED) {
            return Reference.product_left_transposed(out, left, right, scale, keep);
        }
        let (rows, columns) = (out.rows(), out.columns());
        let values = out.as_mut_slice();
        rescale(values, keep);
        for block in (0..rows).step_by(KEPT) {
            let end = (block + KEPT).min(rows);
            for column in (0..columns).step_by(WIDE) {
                let rights = four(right, column);
                for row in (block..end).step_by(WIDE) {
                    let lefts = four(left, row);
                    let sums = Arch::new().dispatch(|| dots(lefts, rights));
                    for (column, sums) in (column..columns).zip(sums) {
                        let into = &mut values[column * rows..][row..end.min(row + WIDE)];
                        into.iter_mut().zip(sums).for_each(|(value, sum)| *value += scale * sum);
                    }
                }
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
        if right.rows() < WIDE || is_small(left.rows(), right.rows(), left.columns(), TILED) {
            return Reference.product_right_transposed(out, left, right, scale, keep);
        }
        let coefficients: Vec<&[T]> = right.iter_columns().collect();
        let mut columns: Vec<&mut [T]> = out.iter_columns_mut().collect();
        columns.iter_mut().for_each(|column| rescale(column, keep));
        let panels = Panels::new(left, |x| x);
        panels.add_to(&mut columns, |term, column| scale * coefficients[term][column], |_| left.rows());
    }

    fn symmetric_update(&self, packed: &mut [T], x: MatrixRef<'_, T>, blend: Blend<T>, scratch: &mut [T]) {
        let size = x.rows();
        if is_small(size, size, x.columns(), TILED) {
            return Reference.symmetric_update(packed, x, blend, scratch);
        }
        let share = T::ONE / T::from_usize(x.columns());
        let examples: Vec<&[T]> = x.iter_columns().collect();
        let mut means = vec![T::ZERO; packed.len()];
        let (mut columns, mut rest) = (Vec::with_capacity(size), &mut *means);
        for column in 0..size {
            let (own, tail) = rest.split_at_mut(column + 1);
            columns.push(own);
            rest = tail;
        }
        let panels = Panels::new(x, |x| x);
        panels.add_to(
            &mut columns,
            |term, column| share * examples[term][column],
            |group| (group * WIDE + WIDE).min(size),
        );
        blend.apply(packed, &means);
    }

    fn squared_product(
        &self,
        mut scalings: MatrixMut<'_, T>,
        g: MatrixRef<'_, T>,
        a: MatrixRef<'_, T>,
        blend: Blend<T>,
        scratch: &mut [T],
    ) {
        if is_small(g.rows(), a.rows(), a.columns(), TILED) {
            return Reference.squared_product(scalings, g, a, blend, scratch);
        }
        let share = T::ONE / T::from_usize(a.columns());
        let examples: Vec<&[T]> = a.iter_columns().collect();
        let rows = g.rows();
        let mut means = vec![T::ZERO; rows * a.rows()];
        let mut columns: Vec<&mut [T]> = means.chunks_exact_mut(rows).collect();
        let coefficient = |term: usize, column: usize| {
            let value: T = examples[term][column];
            share * (value * value)
        };
        Panels::new(g, |x| x * x).add_to(&mut columns, coefficient, |_| rows);
        blend.apply(scalings.as_mut_slice(), &means);
    }

    fn activate(&self, activation: Activation, z: &[T], h: &mut [T]) -> bool {
        activations::activate(activation, z, h)
    }

    fn through_activation(&self, activation: Activation, g: &mut [T], z: &[T], h: &[T]) {
        activations::through(activation, g, z, h);
    }

    fn elementwise(&self, work: Elementwise<'_, T>) {
        vectorised(work);
    }
}
