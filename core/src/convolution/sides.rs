//! What the input side of a block asks for that is no single factor of all columns ([`block`](super::block)).
//!
//! A patch runs over channels, then kernel points, so that W without the bias's column is, word for word, an (m k) x c matrix whose
//! columns are the channels, and a patch one of k x c. *Invariant*: U_A = I_k x U_c is then one product with U_c from the right, and
//! its rotation one of these columns; with k = 1 and c = n that is the dense layer's own. What lies beyond c k columns, all of them
//! where A is diagonal, stands outside the basis. *Cost*: 2 m k c^2 operations a product, and the dense layer's on the output side.
//! *Failure*: none of its own.

use super::Block;
use crate::{
    LayerMut, MatrixMut, MatrixRef, Scalar,
    carve::cut,
    damping::{Denominators, LayerDamping},
    factor::FactorMut,
    jacobi::{Companion, Turn},
    kernels::{Counted, dot, rescale},
    layer::{Parts, Values},
    refresh::{Ahead, Effect, Effort, Later, Side, both_sides, one_rotation, rotate_side},
};

/// out = X U_A, for so many rows of n columns each.
#[inline(never)]
pub(super) fn turn_inputs<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    rows: usize,
    x: &[T],
    out: &mut [T],
) {
    let rows = rows * layer.shape().points();
    let Some((x, out)) = in_basis(layer, rows, x, out, [T::ONE, T::ZERO]) else { return };
    let (lines, basis) = (layer.shape().lines(), layer.input_basis());
    counted.product_inlined(
        MatrixMut::over(out, rows, lines),
        MatrixRef::over(x, rows, lines),
        basis,
        T::ONE,
        T::ZERO,
    );
}

/// out = scale X U_A^T + keep out, likewise.
#[inline(never)]
pub(super) fn turn_inputs_back<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    rows: usize,
    x: &[T],
    share: [T; 2],
    out: &mut [T],
) {
    let rows = rows * layer.shape().points();
    let Some((x, out)) = in_basis(layer, rows, x, out, share) else { return };
    counted.outer_inlined(out, x, layer.input_basis().as_slice(), layer.shape().lines(), share);
}

/// What of so many rows lies in the basis; what stands outside it is blended here.
#[inline(never)]
fn in_basis<'x, T: Scalar>(
    layer: &LayerMut<'_, T>,
    rows: usize,
    x: &'x [T],
    out: &'x mut [T],
    [scale, keep]: [T; 2],
) -> Option<(&'x [T], &'x mut [T])> {
    let (x, untouched) = x.split_at_checked(rows * layer.shape().lines())?;
    let (out, rest) = out.split_at_mut_checked(x.len())?;
    rescale(rest, keep);
    rest.iter_mut().zip(untouched).for_each(|(into, value)| *into += scale * *value);
    Some((x, out))
}

/// [`refresh`](crate::refresh::refresh) in parameter coordinates, of a block of any kind: S and the velocity turn along, and nothing
/// else is held in the bases.
#[inline(never)]
pub(super) fn refresh<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    later: Later<'_, T>,
    effort: &Effort<T>,
) -> Effect {
    both_sides(layer, later, effort, |layer, side, ahead, effect| {
        one_side(layer, side, ahead, effort, effect);
    })
}

/// A factor, S and the velocity, and the operations of a rotation.
struct Turning<'x, T> {
    factor: FactorMut<'x, T>,
    companions: [Companion<'x, T>; 2],
    each: u64,
}

#[inline(never)]
fn turning<'x, T: Scalar>(layer: &'x mut LayerMut<'_, T>, side: Side) -> Turning<'x, T> {
    let (m, n, points) = (layer.shape().rows(), layer.shape().columns_held(), layer.shape().points());
    let Parts { input_factor, output_factor, scalings, velocity } = layer.parts_mut();
    // The words beyond the last line have no partner, and no rotation reaches them.
    let (factor, stride, input) = match side {
        Side::Input => (input_factor, m * points, true),
        Side::Output => (output_factor, m, false),
    };
    let each = one_rotation(factor.size(), if input { stride } else { n }, 1, 0);
    let line = |data, turn| Companion::new(data, stride, input, turn);
    Turning { factor, companions: [line(scalings, Turn::Moments), line(velocity, Turn::Linear)], each }
}

#[inline(never)]
fn one_side<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    side: Side,
    ahead: Ahead<'_, T>,
    effort: &Effort<T>,
    effect: &mut Effect,
) {
    let Turning { factor, companions, each } = &mut turning(layer, side);
    rotate_side(factor, companions, *each, ahead, effort, effect);
}

/// sqrt(sum a_j D_ij^2 / m) with a = diag A in its basis. `scratch`: m words.
#[inline(never)]
pub(super) fn reach<T: Scalar>(
    layer: &LayerMut<'_, T>,
    gradient: &[T],
    damping: LayerDamping<T>,
    scratch: &mut [T],
) -> T {
    let (shape, rows) = (layer.shape(), layer.shape().rows());
    let (denominators, values) = (damping.over(shape, layer.words()), Values::over(shape, layer.words()));
    let Some(d) = scratch.get_mut(..rows) else { return T::ZERO };
    let mut spread = T::ZERO;
    for (column, k) in gradient.chunks_exact(rows.max(1)).enumerate() {
        divide(&denominators, column, k, d);
        spread += values.of_column(column).maximum(T::ZERO) * dot(d, d);
    }
    (spread / T::from_usize(rows)).sqrt()
}

/// Fills a column of D = K / (S + lambda).
pub(super) fn divide<T: Scalar>(denominators: &Denominators<'_, T>, column: usize, k: &[T], d: &mut [T]) {
    denominators.fill(column, d);
    d.iter_mut().zip(k).for_each(|(d, k)| *d = *k / *d);
}

/// W += scale U_B velocity U_A^T.
#[inline(always)]
pub(super) fn turn_back<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    block: Block,
    scale: T,
    weights: &mut [T],
    scratch: &mut [T],
) {
    let (m, n) = (layer.shape().rows(), layer.shape().columns_held());
    if block == Block::Diagonal {
        counted.add(2 * n);
        weights.iter_mut().zip(layer.velocity()).for_each(|(weight, v)| *weight += scale * *v);
        return;
    }
    if block == Block::DiagonalInput {
        return turn_back_outputs(layer, counted, scale, weights);
    }
    let Some(turned) = scratch.get_mut(..m * n) else { return };
    turn_outputs(layer, counted, n, turned);
    turn_inputs_back(layer, counted, m, turned, [scale, T::ONE], weights);
}

/// out = U_B velocity.
#[inline(never)]
fn turn_outputs<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    columns: usize,
    out: &mut [T],
) {
    counted.multiply_inlined(out, layer.output_basis(), layer.velocity(), columns, false);
}

/// The same where A is diagonal.
#[inline(never)]
fn turn_back_outputs<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    scale: T,
    weights: &mut [T],
) {
    let (m, n) = (layer.shape().rows(), layer.shape().columns_held());
    let (out, direction) = (MatrixMut::over(weights, m, n), MatrixRef::over(layer.velocity(), m, n));
    counted.product_inlined(out, layer.output_basis(), direction, scale, T::ONE);
}

/// [`precondition`](crate::precondition()) for such a block. `scratch`: m (n + 1) words, m + 1 where A is diagonal.
pub(super) fn precondition<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    block: Block,
    damping: LayerDamping<T>,
    gradient: &[T],
    out: &mut [T],
    scratch: &mut [T],
) {
    let (m, n) = (layer.shape().rows(), layer.shape().columns_held());
    let denominators = damping.over(layer.shape(), layer.words());
    let mut rest = scratch;
    let Some(column) = cut(&mut rest, m) else { return };
    let divided = |out: &mut [T], column: &mut [T]| {
        for (index, k) in out.chunks_exact_mut(m.max(1)).enumerate() {
            divide(&denominators, index, k, column);
            k.iter_mut().zip(&*column).for_each(|(k, d)| *k = *d);
        }
    };
    counted.add(2 * m * n);
    match block {
        Block::Diagonal => {
            out.iter_mut().zip(gradient).for_each(|(into, value)| *into = *value);
            divided(out, column);
        }
        Block::DiagonalInput => {
            counted.multiply(out, layer.output_basis(), gradient, n, true);
            divided(out, column);
            for out in out.chunks_exact_mut(m.max(1)) {
                column.iter_mut().zip(&*out).for_each(|(into, value)| *into = *value);
                counted.multiply(out, layer.output_basis(), column, 1, false);
            }
        }
        Block::Full | Block::Uncorrelated => {
            let Some(turned) = rest.get_mut(..m * n) else { return };
            counted.multiply(turned, layer.output_basis(), gradient, n, true);
            turn_inputs(layer, counted, m, turned, out);
            divided(out, column);
            counted.multiply(turned, layer.output_basis(), out, n, false);
            turn_inputs_back(layer, counted, m, turned, [T::ONE, T::ZERO], out);
        }
    }
}
