//! Where the weights of a layer live: in parameter coordinates, or in the eigenbasis.
//!
//! ```text
//! parameter     W               z = W [h; 1]                  step: W  <- W  - lr U_B velocity U_A^T
//! eigenbasis    W~ = U_B^T W U_A    z = U_B (W~ (U_A^T [h; 1]))   step: W~ <- W~ - lr velocity
//!                               g~ = U_B^T g,  gradient to the layer below = U_A (W~^T g~)
//! ```
//!
//! In the eigenbasis W~ turns along with every rotation, which changes no prediction, and the two products of the step
//! with the bases, 2 m n (m + n) operations whatever the batch, are gone; the passes pay for it with the projections. Both
//! follow the same trajectory up to rounding. *Cost model*, operations of a step for N examples and P backward passes
//! (2 with a sampled Fisher) that one of the two needs and the other does not:
//!
//! ```text
//! parameter     2 m n (m + n)
//! eigenbasis    N [2 m^2 + 2 n^2 P]     the n^2 only where there is a layer below
//! ```
//!
//! One example at a time and without an exact Fisher the eigenbasis wins always but for a layer of one output, and there a learner
//! takes it all the same: it is all that a build without the feature `batches` has. On square layers it wins up to about N = 2 n / 3.

use crate::{MatrixMut, MatrixRef, Scalar, Shape, factor::FactorRef, kernels::Counted, layer::LayerMut};

/// Where in the header of a layer's words the mark stands: 0 for parameter coordinates.
pub(crate) const HEADER_MARK: usize = 4;

/// Where the weights of a layer live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Coordinates {
    /// W itself.
    Parameter,
    /// W~ = U_B^T W U_A.
    Eigenbasis,
}

impl Coordinates {
    /// The coordinates of the weights that belong to a layer with these state words
    /// ([`LayerMut`]).
    pub fn of<T: Scalar>(words: &[T]) -> Self {
        match words.get(HEADER_MARK) {
            Some(mark) if *mark != T::ZERO => Coordinates::Eigenbasis,
            _ => Coordinates::Parameter,
        }
    }

    /// The cheaper ones by the cost model of the [module](self), for batches of N examples and so many backward passes;
    /// `lowest` for a layer on the inputs themselves, which passes no gradient on.
    ///
    /// ```
    /// use ekfac::{Coordinates, Shape};
    /// let shape = Shape::new(64, 48);
    /// assert_eq!(Coordinates::cheaper(&shape, 1, 2, false), Coordinates::Eigenbasis);
    /// assert_eq!(Coordinates::cheaper(&shape, 100, 2, false), Coordinates::Parameter);
    /// ```
    pub fn cheaper(shape: &Shape, batch: usize, passes: usize, lowest: bool) -> Self {
        let (m, n) = (shape.rows(), shape.columns());
        let square = |side: usize| side.saturating_mul(side);
        let below = if lowest { 0 } else { square(n).saturating_mul(passes) };
        let eigenbasis = batch.saturating_mul(square(m).saturating_add(below));
        let parameter = m.saturating_mul(n).saturating_mul(m.saturating_add(n));
        if eigenbasis < parameter { Coordinates::Eigenbasis } else { Coordinates::Parameter }
    }
}

/// Writes the weights in parameter coordinates, whatever they are stored in. `scratch`: m words.
pub(crate) fn fold<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    stored: &[T],
    mut out: MatrixMut<'_, T>,
    scratch: &mut [T],
) {
    match layer.coordinates() {
        Coordinates::Parameter => {
            out.as_mut_slice().iter_mut().zip(stored).for_each(|(into, weight)| *into = *weight);
        }
        Coordinates::Eigenbasis => {
            let stored = MatrixRef::over(stored, layer.shape().rows(), layer.shape().columns());
            out.as_mut_slice().fill(T::ZERO);
            crate::precondition::turn_back_by_columns(
                layer,
                counted,
                stored,
                T::ONE,
                out.as_mut_slice(),
                scratch,
            );
        }
    }
}

/// Turns a square or oblong matrix in place, from W to W~ or back: first its rows, then its columns. `scratch`:
/// 2 max(m, n) words.
pub(crate) fn turn<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    matrix: &mut [T],
    into: Coordinates,
    scratch: &mut [T],
) {
    let (m, n) = (layer.shape().rows(), layer.shape().columns());
    for row in 0..m {
        let Some((line, turned)) = halves(scratch, n) else { return };
        line.iter_mut().zip(matrix.iter().skip(row).step_by(m)).for_each(|(x, y)| *x = *y);
        turn_line(layer.input_factor(), counted, line, into, turned);
        matrix.iter_mut().skip(row).step_by(m).zip(&*turned).for_each(|(x, y)| *x = *y);
    }
    for column in matrix.chunks_exact_mut(m.max(1)) {
        let Some((turned, _)) = halves(scratch, m) else { return };
        turn_line(layer.output_factor(), counted, column, into, turned);
        column.iter_mut().zip(&*turned).for_each(|(x, y)| *x = *y);
    }
}

fn halves<T>(scratch: &mut [T], size: usize) -> Option<(&mut [T], &mut [T])> {
    let (head, tail) = scratch.split_at_mut_checked(size)?;
    // A column needs no second half.
    Some((head, tail.get_mut(..size).unwrap_or_default()))
}

/// out = U^T x into the eigenbasis, U x back.
fn turn_line<T: Scalar>(
    factor: FactorRef<'_, T>,
    counted: &mut Counted<'_, T>,
    x: &[T],
    into: Coordinates,
    out: &mut [T],
) {
    counted.multiply(out, factor.basis(), x, 1, into == Coordinates::Eigenbasis);
}
