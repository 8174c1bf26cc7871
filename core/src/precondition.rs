//! The preconditioned gradient, and the step made of it.
//!
//! ```text
//! K = U_B^T G U_A,   D = K / (S + lambda),   preconditioned gradient = U_B D U_A^T
//! velocity <- mu velocity + nu D,   W <- W - lr U_B velocity U_A^T
//! ```
//!
//! No square root: this is natural gradient (George et al. 2018, Algorithm 1). *Invariant*: K . D > 0 for every K != 0, so
//! the step descends, and |D| <= |K| / lambda. *Cost*: 2 m n (m + n) operations for each of the two products with the bases;
//! O(m) scratch for one example, m n for a batch. *Failure*: a step that would overflow is refused before any write
//! ([`survey`](crate::survey)).

#[cfg(feature = "large")]
use crate::kernels::Elementwise;
use crate::{
    Error, Kernels, MatrixMut, MatrixRef, Scalar,
    carve::cut,
    damping::{Denominators, LayerDamping},
    error::expect_length,
    guard,
    kernels::Counted,
    layer::LayerMut,
    survey::Survey,
};

/// The eigenbases of a layer's two factors, eigenvectors in columns.
#[derive(Clone, Copy, Debug)]
pub struct Bases<'a, T> {
    /// U_A, n x n.
    pub input: MatrixRef<'a, T>,
    /// U_B, m x m.
    pub output: MatrixRef<'a, T>,
}

/// Writes U_B [ (U_B^T G U_A) / (S + lambda) ] U_A^T for a gradient G in parameter coordinates, m x n, with bases and scalings
/// of the caller's own: what [`Preconditioner`](crate::Preconditioner) does with those of its layer, and all that a firmware links
/// that keeps its factors by itself.
///
/// `damped(j, column)` fills column j of S + lambda, m words, all of them positive. `scratch` has at least m (n + 1) words. The
/// products take 4 m n (m + n) operations.
///
/// # Errors
/// [`Error::Length`], and [`Error::NonFinite`] for the gradient: before any write.
///
/// ```
/// use ekfac::{Bases, MatrixMut, MatrixRef, Reference};
/// // Bases that turn nothing, so that the gradient is divided and no more.
/// let (input, output) = (nalgebra::SMatrix::<f32, 3, 3>::identity(), nalgebra::SMatrix::<f32, 2, 2>::identity());
/// let bases = Bases { input: MatrixRef::from(&input), output: MatrixRef::from(&output) };
/// let gradient = nalgebra::matrix![1.0, 2.0, 3.0; 4.0, 5.0, 6.0];
/// let mut natural = nalgebra::SMatrix::<f32, 2, 3>::zeros();
/// let damped = |_, column: &mut [f32]| column.fill(0.5);
/// let into = MatrixMut::from(&mut natural);
/// ekfac::precondition(&Reference, bases, MatrixRef::from(&gradient), damped, into, &mut [0.0; 8])?;
/// assert_eq!(natural, gradient * 2.0);
/// # Ok::<(), ekfac::Error>(())
/// ```
pub fn precondition<T: Scalar>(
    kernels: &(impl Kernels<T> + ?Sized),
    bases: Bases<'_, T>,
    gradient: MatrixRef<'_, T>,
    mut damped: impl FnMut(usize, &mut [T]),
    mut out: MatrixMut<'_, T>,
    scratch: &mut [T],
) -> Result<(), Error> {
    let (m, n) = (bases.output.columns(), bases.input.columns());
    expect_length("input basis", n, bases.input.rows())?;
    expect_length("output basis", m, bases.output.rows())?;
    expect_length("gradient", m, gradient.rows())?;
    expect_length("gradient", n, gradient.columns())?;
    expect_length("out", m, out.rows())?;
    expect_length("out", n, out.columns())?;
    let found = scratch.len();
    let parts = scratch.split_at_mut_checked(m);
    // Exactly m n words: kernels may take a slice for the whole of its matrix.
    let parts = parts.and_then(|(denominators, rest)| Some((denominators, rest.get_mut(..m * n)?)));
    let Some((denominators, turned)) = parts else {
        return Err(Error::Length { argument: "scratch", expected: m * (n + 1), found });
    };
    if let Some(index) = guard::first_non_finite(gradient.as_slice()) {
        return Err(Error::NonFinite { argument: "gradient", index });
    }
    kernels.product_left_transposed(MatrixMut::over(turned, m, n), bases.output, gradient, T::ONE, T::ZERO);
    kernels.product(out.reborrow(), MatrixRef::over(turned, m, n), bases.input, T::ONE, T::ZERO);
    for (index, column) in out.iter_columns_mut().enumerate() {
        damped(index, denominators);
        column.iter_mut().zip(&*denominators).for_each(|(k, s)| *k /= *s);
    }
    kernels.product(MatrixMut::over(turned, m, n), bases.output, out.as_ref(), T::ONE, T::ZERO);
    kernels.product_right_transposed(out, MatrixRef::over(turned, m, n), bases.input, T::ONE, T::ZERO);
    Ok(())
}

/// A gradient in the eigenbasis, m x n.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gradient<'a, T> {
    /// Formed, as that of a batch is.
    #[cfg(feature = "batches")]
    Matrix(MatrixRef<'a, T>),
    /// That of one example, g~ a~^T, never formed.
    Outer { gradient: &'a [T], activation: &'a [T] },
}

impl<T: Scalar> Gradient<'_, T> {
    /// Column j: its own, or formed in `out`.
    #[inline(never)]
    pub(crate) fn column<'c>(&'c self, index: usize, out: &'c mut [T]) -> &'c [T] {
        self.column_as::<true>(index, out)
    }

    /// The same, inlined or by a call.
    #[inline(always)]
    pub(crate) fn column_as<'c, const INLINED: bool>(&'c self, index: usize, out: &'c mut [T]) -> &'c [T] {
        if !INLINED {
            return self.column(index, out);
        }
        match *self {
            #[cfg(feature = "batches")]
            Gradient::Matrix(matrix) => matrix.column(index).unwrap_or_default(),
            Gradient::Outer { gradient, activation } => {
                let a = activation.get(index).copied().unwrap_or(T::ZERO);
                for (into, g) in out.iter_mut().zip(gradient) {
                    *into = *g * a;
                }
                out
            }
        }
    }
}

/// The numbers of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan<T> {
    /// lr.
    pub learning_rate: T,
    /// mu, after the restart.
    pub momentum: T,
    /// Decoupled weight decay.
    pub weight_decay: T,
    /// nu, by which the clip shortens the step.
    pub shrink: T,
}

impl<T: Scalar> Plan<T> {
    /// What decay leaves of a weight, 1 - lr decay.
    pub(crate) fn keep(&self) -> T {
        T::ONE - self.learning_rate * self.weight_decay
    }

    /// The same with this layer's step shortened further, so that a typical one changes its pre-activations by at most `limit`.
    pub(crate) fn within_reach(self, typical: T, limit: T) -> Self {
        let reach = self.learning_rate * self.shrink * typical;
        if reach > limit { Self { shrink: self.shrink * (limit / reach), ..self } } else { self }
    }

    /// The change of the loss by the model K . d + d (S + lambda) d / 2 for d = -lr (mu velocity + nu D), from the survey's
    /// sums alone: (S + lambda) D is K.
    pub(crate) fn predicted(&self, survey: &Survey<T>) -> T {
        let Survey { length, agreement, velocity_length, .. } = *survey;
        let (mu, nu, lr) = (self.momentum, self.shrink, self.learning_rate);
        let slope = lr * (mu * agreement + nu * length);
        let cross = mu * nu * agreement;
        let curvature = lr * lr * (mu * mu * velocity_length + (cross + cross) + nu * nu * length);
        T::HALF * curvature - slope
    }
}

/// One column of scratch after another.
pub(crate) fn column_of<'x, T: Scalar>(scratch: &mut &'x mut [T], rows: usize) -> &'x mut [T] {
    cut(scratch, rows).unwrap_or_default()
}

/// So many words of the velocity are still in the nearest cache when the weights follow.
const NEAR: usize = 4096;

/// The velocity and, where they live in the eigenbasis, the weights on their way, as elementwise work.
#[derive(Debug)]
pub(crate) struct Advance<'w, T> {
    denominators: Denominators<'w, T>,
    gradient: Gradient<'w, T>,
    plan: Plan<T>,
    /// The column that `velocity` and `weights` begin with.
    first: usize,
    velocity: &'w mut [T],
    /// Empty where they do not live in the eigenbasis.
    weights: &'w mut [T],
    rows: usize,
    /// Two columns.
    scratch: &'w mut [T],
}

impl<T: Scalar> Advance<'_, T> {
    #[cfg(feature = "large")]
    pub(crate) fn words(&self) -> usize {
        self.velocity.len()
    }

    #[inline(always)]
    pub(crate) fn go<const INLINED: bool>(self) {
        let (rows, plan) = (self.rows.max(1), self.plan);
        let mut scratch = self.scratch;
        let (d, formed) = (column_of(&mut scratch, self.rows), column_of(&mut scratch, self.rows));
        // A device without the feature has no such cache.
        let near = if cfg!(feature = "large") { (NEAR / rows).max(1) * rows } else { usize::MAX };
        let mut column = self.first;
        let mut weights = self.weights.chunks_mut(near.max(1));
        for velocities in self.velocity.chunks_mut(near.max(1)) {
            for velocity in velocities.chunks_exact_mut(rows) {
                self.denominators.fill_as::<INLINED>(column, d);
                let k = self.gradient.column_as::<INLINED>(column, formed);
                for ((v, k), s) in velocity.iter_mut().zip(k).zip(&*d) {
                    *v = plan.momentum * *v + plan.shrink * (*k / *s);
                }
                column += 1;
            }
            for (weight, v) in weights.next().unwrap_or_default().iter_mut().zip(&*velocities) {
                *weight -= plan.learning_rate * *v;
            }
        }
    }

    /// The columns in two halves; one alone where the scratch is too short.
    #[cfg(feature = "large")]
    pub(crate) fn halves(self) -> (Self, Option<Self>) {
        let columns = self.velocity.len() / self.rows.max(1) / 2;
        let words = columns * self.rows;
        if columns == 0 || self.scratch.len() < 4 * self.rows {
            return (self, None);
        }
        let (velocity, others) = self.velocity.split_at_mut(words);
        let (weights, other_weights) = self.weights.split_at_mut(words.min(self.weights.len()));
        let (scratch, other_scratch) = self.scratch.split_at_mut(2 * self.rows);
        let (denominators, gradient, plan, rows) = (self.denominators, self.gradient, self.plan, self.rows);
        let half = |first, velocity, weights, scratch| Self {
            denominators,
            gradient,
            plan,
            first,
            velocity,
            weights,
            rows,
            scratch,
        };
        (
            half(self.first, velocity, weights, scratch),
            Some(half(self.first + columns, others, other_weights, other_scratch)),
        )
    }
}

/// velocity <- mu velocity + nu D, then W <- (1 - lr decay) W - lr U_B velocity U_A^T, the bias not decayed. In the eigenbasis that
/// is one pass; in parameter coordinates two products more with m n words of scratch, or with 2 m words column by column, with as
/// many operations.
#[inline(never)]
pub(crate) fn advance<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    gradient: Gradient<'_, T>,
    damping: LayerDamping<T>,
    plan: &Plan<T>,
    weights: &mut [T],
    scratch: &mut [T],
) {
    let keep = plan.keep();
    if keep < T::ONE {
        decay(layer, counted, keep, weights, scratch);
    }
    if !accelerate(layer, counted, gradient, damping, plan, weights, scratch) {
        turn_back(layer, counted, -plan.learning_rate, weights, scratch);
    }
}

/// Its velocity, and the weights as well where they live in the eigenbasis; whether they do, so that there is no way back.
#[inline(always)]
pub(crate) fn accelerate<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    gradient: Gradient<'_, T>,
    damping: LayerDamping<T>,
    plan: &Plan<T>,
    weights: &mut [T],
    scratch: &mut [T],
) -> bool {
    let shape = *layer.shape();
    let turning = layer.turns_weights();
    let (words, velocity) = layer.apart();
    let way = Advance {
        denominators: damping.over(&shape, words),
        gradient,
        plan: *plan,
        first: 0,
        velocity,
        weights: if turning { &mut *weights } else { &mut [] },
        rows: shape.rows(),
        scratch: &mut *scratch,
    };
    #[cfg(feature = "large")]
    counted.kernels().get().elementwise(Elementwise::advance(way));
    #[cfg(not(feature = "large"))]
    way.go::<false>();
    if turning {
        counted.add(2 * shape.parameters_held());
    }
    turning
}

/// W += scale U_B velocity U_A^T.
#[inline(never)]
fn turn_back<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    scale: T,
    weights: &mut [T],
    scratch: &mut [T],
) {
    let (rows, columns) = (layer.shape().rows(), layer.shape().columns_held());
    let direction = MatrixRef::over(layer.velocity(), rows, columns);
    let Some(turned) = scratch.get_mut(..rows * columns) else {
        return turn_back_by_columns(layer, counted, direction, scale, weights, scratch);
    };
    let input = layer.input_basis();
    let out = MatrixMut::over(weights, rows, columns);
    layer.turn_outputs(counted, turned, layer.velocity(), false);
    counted.product_right_transposed(out, MatrixRef::over(turned, rows, columns), input, scale, T::ONE);
}

/// W <- keep W but for the bias. That is a column of W, and in the eigenbasis the projection on u, the bias's row of U_A:
/// W~ <- keep W~ + (1 - keep) (W~ u) u^T.
#[inline(never)]
pub(crate) fn decay<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    keep: T,
    weights: &mut [T],
    scratch: &mut [T],
) {
    let shape = layer.shape();
    counted.add(shape.parameters_held());
    if !layer.turns_weights() || !shape.bias() {
        let decayed = shape.rows() * shape.inputs();
        return weights.iter_mut().take(decayed).for_each(|weight| *weight *= keep);
    }
    let (mut rest, columns) = (scratch, shape.columns_held());
    let (bias, u) = (column_of(&mut rest, shape.rows()), column_of(&mut rest, columns));
    let row = layer.input_basis().as_slice().get(shape.inputs()..).unwrap_or_default();
    u.iter_mut().zip(row.iter().step_by(columns.max(1))).for_each(|(into, from)| *into = *from);
    counted.multiply(bias, MatrixRef::over(weights, shape.rows(), columns), u, 1, false);
    counted.add(3 * shape.parameters_held());
    for (column, u) in weights.chunks_exact_mut(shape.rows().max(1)).zip(&*u) {
        let share = (T::ONE - keep) * *u;
        column.iter_mut().zip(&*bias).for_each(|(weight, b)| *weight = keep * *weight + share * *b);
    }
}

/// out += scale U_B X U_A^T, one column of the result after another, with m words of scratch.
pub(crate) fn turn_back_by_columns<T: Scalar>(
    layer: &LayerMut<'_, T>,
    counted: &mut Counted<'_, T>,
    direction: MatrixRef<'_, T>,
    scale: T,
    out: &mut [T],
    scratch: &mut [T],
) {
    let rows = layer.shape().rows();
    let Some(turned) = scratch.get_mut(..rows) else { return };
    for (index, out) in out.chunks_exact_mut(rows.max(1)).enumerate() {
        let row = layer.input_basis().row(index);
        counted.product_right_transposed(MatrixMut::over(turned, rows, 1), direction, row, T::ONE, T::ZERO);
        let column = MatrixRef::over(turned, rows, 1);
        counted.product(MatrixMut::over(out, rows, 1), layer.output_basis(), column, scale, T::ONE);
    }
}
