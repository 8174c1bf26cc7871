//! A look at what a step would do to one layer, before a word of it is written.
//!
//! ```text
//! D = K / (S + lambda)      sums K . D, K . velocity, velocity^2 . (S + lambda), sum D_ij^2 a_j       largest |D|, |velocity|, |W|
//! ```
//!
//! *Invariant*: the sums of a column are added in the order of the columns, whoever has made them, so that a survey cut in pieces has
//! the bits of a whole one; no state is written. *Cost*: 10 operations a weight; 2 m words of scratch, and for one that can be cut
//! 2 m more and 7 a column. *Failure*: none; what is not finite is in the numbers ([`Survey::is_safe`]).

#[cfg(feature = "large")]
use crate::kernels::Elementwise;
use crate::{
    Scalar, Shape,
    damping::{Denominators, LayerDamping},
    guard, jacobi,
    kernels::{Counted, dot_as, largest_as},
    layer::LayerMut,
    precondition::{Gradient, Plan, column_of},
};

/// What a step would do to one layer, before it is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Survey<T> {
    /// K . D, the squared length of the preconditioned gradient in the Fisher metric.
    pub length: T,
    /// K . velocity.
    pub agreement: T,
    /// The squared length of the velocity in the same metric.
    pub velocity_length: T,
    /// The reach of D: the root mean square by which it changes a pre-activation, sqrt(sum D_ij^2 a_j / m), a = diag C_A.
    pub reach: T,
    /// max |D|.
    pub largest_direction: T,
    /// max |velocity|.
    pub largest_velocity: T,
    /// max |W|, as stored.
    pub largest_weight: T,
}

impl<T: Scalar> Survey<T> {
    /// Of no column; `reach` holds the sum of its squares until [`finish`](Self::finish).
    fn new() -> Self {
        Self {
            length: T::ZERO,
            agreement: T::ZERO,
            velocity_length: T::ZERO,
            reach: T::ZERO,
            largest_direction: T::ZERO,
            largest_velocity: T::ZERO,
            largest_weight: T::ZERO,
        }
    }

    #[inline(always)]
    fn add(&mut self, column: Column<T>) {
        self.velocity_length += column.velocity_length;
        self.agreement += column.agreement;
        self.length += column.length;
        self.largest_direction = self.largest_direction.maximum(column.largest_direction);
        self.reach += column.spread;
    }

    #[inline(always)]
    fn finish(&mut self, rows: usize) {
        self.reach = (self.reach / T::from_usize(rows)).sqrt();
    }

    /// Whether the step keeps velocity and weights finite, whichever way the basis turns.
    pub(crate) fn is_safe(&self, plan: &Plan<T>, shape: &Shape) -> bool {
        let limit = guard::turning_limit(shape);
        let velocity = plan.momentum * self.largest_velocity + plan.shrink * self.largest_direction;
        let weight = self.largest_weight + plan.learning_rate * velocity;
        self.length.is_finite() && velocity < limit && weight < limit
    }
}

/// What one column adds.
struct Column<T> {
    velocity_length: T,
    agreement: T,
    length: T,
    largest_direction: T,
    spread: T,
}

/// What a piece of a survey notes of a column: its sums, then the largest |velocity| and |W| of the piece, at its first column.
#[cfg(feature = "large")]
type Note<T> = [T; 7];

/// What a survey looks at, as elementwise work.
#[derive(Debug)]
pub(crate) struct Sight<'w, T> {
    denominators: Denominators<'w, T>,
    gradient: Gradient<'w, T>,
    input_factor: &'w [T],
    /// The column that `velocity` and `weights` begin with.
    #[cfg(feature = "large")]
    first: usize,
    velocity: &'w [T],
    weights: &'w [T],
    rows: usize,
    /// Two columns.
    scratch: &'w mut [T],
    into: Sums<'w, T>,
}

/// Where the sums of the columns go.
#[derive(Debug)]
enum Sums<'w, T> {
    Survey(&'w mut Survey<T>),
    /// One for each column, to be added up when all pieces are done.
    #[cfg(feature = "large")]
    Notes(&'w mut [Note<T>]),
}

impl<'w, T: Scalar> Sight<'w, T> {
    #[cfg(feature = "large")]
    pub(crate) fn words(&self) -> usize {
        self.velocity.len()
    }

    #[inline(always)]
    pub(crate) fn look<const INLINED: bool>(self) {
        #[cfg(feature = "large")]
        let first = self.first;
        #[cfg(not(feature = "large"))]
        let first = 0;
        let Self { denominators, gradient, input_factor, velocity, weights, rows, scratch, mut into, .. } =
            self;
        let mut rest = scratch;
        let (d, formed) = (column_of(&mut rest, rows), column_of(&mut rest, rows));
        for (index, velocity) in velocity.chunks_exact(rows.max(1)).enumerate() {
            let column = first + index;
            denominators.fill_as::<INLINED>(column, d);
            for (square, v) in formed.iter_mut().zip(velocity) {
                *square = *v * *v;
            }
            let velocity_length = dot_as::<INLINED, T>(formed, d);
            let k = gradient.column_as::<INLINED>(column, formed);
            let agreement = dot_as::<INLINED, T>(k, velocity);
            for (d, k) in d.iter_mut().zip(k) {
                *d = *k / *d;
            }
            let a = jacobi::diagonal_held(input_factor, column).maximum(T::ZERO);
            let sums = Column {
                velocity_length,
                agreement,
                length: dot_as::<INLINED, T>(k, d),
                largest_direction: largest_as::<INLINED, T>(d),
                spread: a * dot_as::<INLINED, T>(d, d),
            };
            match &mut into {
                Sums::Survey(survey) => survey.add(sums),
                #[cfg(feature = "large")]
                Sums::Notes(notes) => {
                    if let Some(note) = notes.get_mut(index) {
                        let Column { velocity_length, agreement, length, largest_direction, spread } = sums;
                        *note =
                            [velocity_length, agreement, length, largest_direction, spread, T::ZERO, T::ZERO];
                    }
                }
            }
        }
        let (largest_velocity, largest_weight) =
            (largest_as::<INLINED, T>(velocity), largest_as::<INLINED, T>(weights));
        match into {
            Sums::Survey(survey) => {
                survey.largest_velocity = largest_velocity;
                survey.largest_weight = largest_weight;
                survey.finish(rows);
            }
            #[cfg(feature = "large")]
            Sums::Notes(notes) => {
                if let Some([.., velocity, weight]) = notes.first_mut() {
                    (*velocity, *weight) = (largest_velocity, largest_weight);
                }
            }
        }
    }

    /// The columns in two halves; one alone where nothing is noted by columns, or the scratch is too short.
    #[cfg(feature = "large")]
    pub(crate) fn halves(self) -> (Self, Option<Self>) {
        let Self { denominators, gradient, input_factor, first, velocity, weights, rows, scratch, into } =
            self;
        let columns = velocity.len() / rows.max(1) / 2;
        let words = columns * rows;
        let half = |first, velocity, weights, scratch, into| Self {
            denominators,
            gradient,
            input_factor,
            first,
            velocity,
            weights,
            rows,
            scratch,
            into,
        };
        match into {
            Sums::Notes(notes) if columns > 0 && scratch.len() >= 4 * rows && notes.len() > columns => {
                let (velocity, other_velocity) = velocity.split_at(words);
                let (weights, other_weights) = weights.split_at(words.min(weights.len()));
                let (scratch, other_scratch) = scratch.split_at_mut(scratch.len() / 2);
                let (notes, other_notes) = notes.split_at_mut(columns);
                let others = Sums::Notes(other_notes);
                (
                    half(first, velocity, weights, scratch, Sums::Notes(notes)),
                    Some(half(first + columns, other_velocity, other_weights, other_scratch, others)),
                )
            }
            into => (half(first, velocity, weights, scratch, into), None),
        }
    }
}

/// Looks at K and D without writing any state. `scratch`: 2 m words. Inlined, since a room calls it on the deepest path of a step.
#[inline(always)]
pub(crate) fn survey<T: Scalar>(
    layer: &LayerMut<'_, T>,
    #[cfg_attr(not(feature = "large"), allow(unused_variables))] counted: &Counted<'_, T>,
    gradient: Gradient<'_, T>,
    damping: LayerDamping<T>,
    weights: &[T],
    scratch: &mut [T],
) -> Survey<T> {
    let mut survey = Survey::new();
    let rows = layer.shape().rows();
    #[cfg(feature = "large")]
    let (notes, scratch) = notes_in(scratch, rows, layer.shape().columns_held());
    let sight = Sight {
        denominators: damping.over(layer.shape(), layer.words()),
        gradient,
        input_factor: layer.input_factor().covariance(),
        #[cfg(feature = "large")]
        first: 0,
        velocity: layer.velocity(),
        weights,
        rows,
        scratch,
        #[cfg(feature = "large")]
        into: if notes.is_empty() { Sums::Survey(&mut survey) } else { Sums::Notes(&mut *notes) },
        #[cfg(not(feature = "large"))]
        into: Sums::Survey(&mut survey),
    };
    #[cfg(feature = "large")]
    {
        counted.kernels().get().elementwise(Elementwise::survey(sight));
        add_up(&mut survey, notes, rows);
    }
    #[cfg(not(feature = "large"))]
    sight.look::<false>();
    survey
}

/// A note for each column at the beginning of the scratch, and its rest; none where that would be too short for two pieces.
#[cfg(feature = "large")]
fn notes_in<T>(scratch: &mut [T], rows: usize, columns: usize) -> (&mut [Note<T>], &mut [T]) {
    let words = columns * size_of::<Note<T>>() / size_of::<T>();
    if scratch.len() < words + 4 * rows {
        return (&mut [], scratch);
    }
    let (notes, rest) = scratch.split_at_mut(words);
    (notes.as_chunks_mut().0, rest)
}

/// The survey that the notes of all columns make, if there are any.
#[cfg(feature = "large")]
fn add_up<T: Scalar>(survey: &mut Survey<T>, notes: &[Note<T>], rows: usize) {
    if notes.is_empty() {
        return;
    }
    for [velocity_length, agreement, length, largest_direction, spread, velocity, weight] in
        notes.iter().copied()
    {
        survey.add(Column { velocity_length, agreement, length, largest_direction, spread });
        survey.largest_velocity = survey.largest_velocity.maximum(velocity);
        survey.largest_weight = survey.largest_weight.maximum(weight);
    }
    survey.finish(rows);
}
