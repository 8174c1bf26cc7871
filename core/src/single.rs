//! One example at a time: products and averages of a single column, and what a build without the feature `batches` knows because it
//! has no others.
//!
//! *Invariant*: the same bits as by the sums of [`Reference`](crate::Reference) over a batch, for a batch of one. *Cost*: theirs,
//! without a column of means on the way. *Failure*: none; what is not built is refused before ([`expect_built`]).

use crate::{
    Blend, Error, MatrixMut, MatrixRef, Scalar,
    carve::cut,
    kernels::{add_multiples, dot},
};

/// Whether the feature `batches` is on. Without it every batch is one example and the learner's weights live in the eigenbasis, so
/// that the code for the rest is never reached and is left out of the program.
pub(crate) const BATCHES: bool = cfg!(feature = "batches");

/// N, said to the compiler where it is known.
pub(crate) const fn built(batch: usize) -> usize {
    if BATCHES { batch } else { 1 }
}

/// Refuses what only the feature `batches` brings.
pub(crate) fn expect_built(built: bool, argument: &'static str) -> Result<(), Error> {
    if BATCHES || built { Ok(()) } else { Err(Error::NotBuilt { argument, feature: "batches" }) }
}

/// out = left x, or left^T x.
pub(crate) fn multiply<T: Scalar>(out: &mut [T], left: MatrixRef<'_, T>, x: &[T], transposed: bool) {
    if transposed {
        out.iter_mut().zip(left.iter_columns()).for_each(|(value, column)| *value = dot(column, x));
    } else {
        out.fill(T::ZERO);
        add_multiples(out, left, x);
    }
}

/// Blends x x^T into a packed symmetric matrix.
pub(crate) fn symmetric_update<T: Scalar>(packed: &mut [T], x: &[T], blend: Blend<T>) {
    let mut rest = blend.over(packed);
    for (index, a) in x.iter().enumerate() {
        let into = cut(&mut rest, index + 1).unwrap_or_default();
        // The sum of one term: a product of -0 is 0 in it.
        into.iter_mut().zip(x).for_each(|(value, b)| blend.move_one(value, T::ZERO + *a * *b));
    }
}

/// Blends (g g) (a a)^T, squares element by element, into S.
pub(crate) fn squared_product<T: Scalar>(mut scalings: MatrixMut<'_, T>, g: &[T], a: &[T], blend: Blend<T>) {
    blend.over(scalings.as_mut_slice());
    for (into, a) in scalings.iter_columns_mut().zip(a) {
        let a = *a * *a;
        into.iter_mut().zip(g).for_each(|(value, g)| blend.move_one(value, a * (*g * *g)));
    }
}
