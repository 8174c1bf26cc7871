//! Second moments of many samples, blended into a factor a block at a time.
//!
//! ```text
//! projected   C += weight sum (U^T x)(U^T x)^T        3 n^2 operations a sample
//! turned      C += weight U^T (sum x x^T) U           n^2 a sample, and 4 n^3 once
//! ```
//!
//! *Invariant*: both give the same to rounding; the second is taken for more than 2 n samples, where the scratch has its two squares.
//! *Cost*: as above; scratch of n + 2 n words a column, or of n + 2 n^2 + n words a column. *Failure*: none after the gate.

use super::walk::blocks;
use crate::{
    Blend, MatrixMut, MatrixRef, Scalar, carve::cut, factor::FactorMut, jacobi::packed_index,
    kernels::Counted, shape::packed_words,
};
use core::ops::Range;

/// Fewer columns than this at a time are not worth a product of their own.
const LEAST_COLUMNS: usize = 8;

/// How so many samples come to the moment of a factor of this size, and how many columns at a time.
pub(super) struct Way {
    turned: bool,
    columns: usize,
}

impl Way {
    /// With so many words of scratch.
    pub(super) fn of(samples: usize, size: usize, words: usize) -> Self {
        let rest = words.saturating_sub(size);
        let squares = size.saturating_mul(size).saturating_mul(2);
        let turned = samples > 2 * size && rest >= squares.saturating_add(size.saturating_mul(LEAST_COLUMNS));
        let columns = if turned {
            rest.saturating_sub(squares) / size.max(1)
        } else {
            rest / size.saturating_mul(2).max(1)
        };
        Self { turned, columns: columns.max(1) }
    }

    /// The operations that [`measure`] counts on this way.
    pub(super) fn operations(&self, samples: u64, size: u64) -> u64 {
        let blocks = samples.div_ceil(self.columns as u64);
        let moments = (samples + blocks) * size * (size + 1);
        let bases = if self.turned { 4 * size * size * size } else { 2 * size * size * samples };
        moments + bases
    }
}

/// Blends x x^T of all samples into the factor with so much weight for each; `read` writes the samples of a block.
pub(super) fn measure<T: Scalar>(
    factor: &mut FactorMut<'_, T>,
    counted: &mut Counted<'_, T>,
    samples: usize,
    each: T,
    blend: Blend<T>,
    read: impl Fn(Range<usize>, &mut [T]),
    scratch: &mut [T],
) {
    let size = factor.size();
    let weight = each * open(blend, factor.covariance_mut());
    let way = Way::of(samples, size, scratch.len());
    let Some((update, rest)) = scratch.split_at_mut_checked(size) else { return };
    if way.turned {
        return turned(factor, counted, blocks(0..samples, way.columns), weight, read, update, rest);
    }
    for block in blocks(0..samples, way.columns) {
        let count = block.len();
        let Some((columns, projected)) = rest.split_at_mut_checked(size * count) else { return };
        let Some(projected) = projected.get_mut(..size * count) else { return };
        read(block, columns);
        factor.as_ref().project(counted, columns, size, count, projected);
        let part = Blend::Add(weight * T::from_usize(count));
        factor.observe(counted, MatrixRef::over(projected, size, count), part, update);
    }
}

/// The same by way of the moment in parameter coordinates.
fn turned<T: Scalar>(
    factor: &mut FactorMut<'_, T>,
    counted: &mut Counted<'_, T>,
    blocks: impl Iterator<Item = Range<usize>>,
    weight: T,
    read: impl Fn(Range<usize>, &mut [T]),
    update: &mut [T],
    mut rest: &mut [T],
) {
    let size = factor.size();
    let (Some(square), Some(other)) = (cut(&mut rest, size * size), cut(&mut rest, size * size)) else {
        return;
    };
    let Some(packed) = other.get_mut(..packed_words(size)) else { return };
    packed.fill(T::ZERO);
    for block in blocks {
        let count = block.len();
        let Some(columns) = rest.get_mut(..size * count) else { return };
        read(block, columns);
        let part = Blend::Add(weight * T::from_usize(count));
        counted.symmetric_update(packed, MatrixRef::over(columns, size, count), part, update);
    }
    for (j, column) in square.chunks_exact_mut(size.max(1)).enumerate() {
        for (i, value) in column.iter_mut().enumerate() {
            *value = packed.get(packed_index(i.min(j), i.max(j))).copied().unwrap_or(T::ZERO);
        }
    }
    let moment = MatrixRef::over(square, size, size);
    counted.product(MatrixMut::over(other, size, size), moment, factor.as_ref().basis(), T::ONE, T::ZERO);
    counted.multiply(square, factor.as_ref().basis(), other, size, true);
    let mut covariance = factor.covariance_mut();
    for (j, column) in square.chunks_exact(size.max(1)).enumerate() {
        let Some(into) = cut(&mut covariance, j + 1) else { return };
        into.iter_mut().zip(column).for_each(|(into, value)| *into += *value);
    }
}

/// Lets an average fade for a mean that comes in parts; returns the share that all of them have together.
pub(super) fn open<T: Scalar>(blend: Blend<T>, values: &mut [T]) -> T {
    match blend {
        // As in [`Blend::apply`]: a share of 1 forgets the old value whatever it is.
        Blend::Move(share) if share == T::ONE => {
            values.fill(T::ZERO);
            share
        }
        Blend::Move(share) => {
            values.iter_mut().for_each(|value| *value -= share * *value);
            share
        }
        Blend::Add(share) => share,
    }
}
