//! The refresh of a layer: its factors are rotated, and all that is held in the eigenbasis turns along.
//!
//! *Invariant*: after every rotation the layer predicts what it predicted before and S has kept its sum; so a running
//! refresh may be cut anywhere. *Cost*: for a rotation on a side of n, the other side m and N examples in flight
//! 8 (2 n + 2 m + N) + 5 m + 4 n operations, and 4 for each pair looked at. *Failure*: a periodic solve that hits its
//! cap is reported; the basis is valid all the same. Factors that are not finite, which only [`Kernels`](crate::Kernels) can
//! have made, turn nothing, and the next batch starts them anew.

use crate::{
    Config, Coordinates, LayerMut, Refresh, Scalar, Shape,
    config::PUBLISHED,
    factor::FactorMut,
    jacobi::{self, Budget, Companion, Limits, Turn, Walked},
    kernels::Chosen,
    progress::is_due,
};
#[cfg(feature = "large")]
use crate::{Kernels, elementwise::Elementwise, scan, turns::Waiting};
#[cfg(not(feature = "large"))]
use core::marker::PhantomData;

/// What of the present step turns along, besides the layer's own state. Empty slices are left out.
pub(crate) struct InFlight<'x, T> {
    /// Stored weights, m x n; they turn where they live in the eigenbasis.
    pub(crate) weights: &'x mut [T],
    /// a~, n x N.
    pub(crate) activations: &'x mut [T],
    /// g~, m x N.
    pub(crate) gradients: &'x mut [T],
    /// g~ for the Fisher's targets.
    pub(crate) fisher_gradients: &'x mut [T],
}

/// `per_line` counts no more lines than this for each example, or one example alone would pay for the rotations of a batch.
const LINES_PER_EXAMPLE: usize = 20;

/// How far a refresh goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effort<T> {
    /// To the limits of a solve.
    Solve(Limits<T>),
    /// So many rotations of pairs beyond the threshold, and n pairs looked at for each of so many examples, at most one sweep.
    Rotate {
        /// Most rotations of a factor.
        rotations: u32,
        /// The same for each of its lines, where that is more.
        per_line: T,
        /// Examples in the statistics of the step.
        examples: usize,
        /// The threshold of [`Refresh::Rotations`].
        threshold: T,
    },
}

impl<T: Scalar> Effort<T> {
    /// What refresh is due at a step with so many examples in the statistics.
    pub fn due(config: &Config<T>, steps: u64, examples: usize) -> Option<Self> {
        match config.refresh {
            Refresh::Periodic { period, limits, .. } if PUBLISHED => {
                is_due(steps, period).then_some(Effort::Solve(limits))
            }
            Refresh::Periodic { .. } => None,
            Refresh::Rotations { per_step: rotations, per_line, threshold } => {
                (examples > 0).then_some(Effort::Rotate { rotations, per_line, examples, threshold })
            }
        }
    }

    /// The same for one factor of so many lines, where `per_line` is settled.
    #[must_use]
    pub fn for_lines(self, lines: usize) -> Self {
        let Effort::Rotate { rotations, per_line, examples, threshold } = self else { return self };
        let lines = lines.min(LINES_PER_EXAMPLE.saturating_mul(examples));
        let allowed = u32::try_from((per_line * T::from_usize(lines)).to_usize()).unwrap_or(u32::MAX);
        if allowed <= rotations {
            return Effort::Rotate { rotations, per_line: T::ZERO, examples, threshold };
        }
        let excess = T::from_usize(allowed as usize) / T::from_usize(rotations.max(1) as usize);
        let threshold = threshold * excess.sqrt().sqrt();
        Effort::Rotate { rotations: allowed, per_line: T::ZERO, examples, threshold }
    }

    /// The threshold and the budget of the walk over one factor of so many lines, unless it is solved.
    #[inline(always)]
    fn walk(self, size: usize) -> Option<(T, Budget)> {
        match self.for_lines(size) {
            Effort::Rotate { rotations, examples, threshold, .. } => {
                Some((threshold, Budget { rotations, checks: checks(size, examples) }))
            }
            Effort::Solve(_) => None,
        }
    }
}

/// What a refresh did, both sides together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Rotations done.
    pub rotations: u64,
    /// Operations done.
    pub operations: u64,
    /// A solve to the end hit its cap, or the factors are not finite.
    pub failed: bool,
}

/// Columns of a step in flight that turn along.
#[derive(Clone, Copy)]
pub(crate) struct Flight {
    /// Examples.
    pub(crate) examples: usize,
    /// Columns of gradients for the Fisher's targets.
    pub(crate) fisher: usize,
}

/// Operations of one rotation: on the input side, and on the output side.
fn rotation_operations(shape: &Shape, coordinates: Coordinates, flight: Flight) -> [u64; 2] {
    let (m, n) = (shape.rows(), shape.columns_held());
    // The velocity, and the weights where they live in the eigenbasis.
    let turning = if coordinates == Coordinates::Eigenbasis { 2 } else { 1 };
    [
        one_rotation(n, m, turning, flight.examples),
        one_rotation(m, n, turning, flight.examples + flight.fisher),
    ]
}

/// Operations of one rotation of a factor of this size, where S, and so many matrices that turn like it, have so many words a line.
pub(crate) fn one_rotation(size: usize, words: usize, turning: usize, in_flight: usize) -> u64 {
    // C and U, what is in flight, S, the care for orthogonality, and about 12 for the angle.
    (8 * (2 * size + turning * words + in_flight) + 5 * words + 4 * size + 12) as u64
}

/// The most operations that a refresh of this effort can take; nothing turns on the side of a diagonal B.
pub(crate) fn most<T: Scalar>(
    shape: &Shape,
    coordinates: Coordinates,
    flight: Flight,
    effort: Effort<T>,
    diagonal: bool,
) -> u64 {
    let each = rotation_operations(shape, coordinates, flight);
    let sides = [shape.columns_held(), if diagonal { 0 } else { shape.rows() }].into_iter().zip(each);
    sides.fold(0_u64, |sum, (size, each)| sum.saturating_add(most_of_side(size, each, effort)))
}

/// The same of one side of so many lines.
pub(crate) fn most_of_side<T: Scalar>(size: usize, each: u64, effort: Effort<T>) -> u64 {
    let (rotations, checks) = match effort.for_lines(size) {
        Effort::Solve(limits) => {
            let checks = u64::from(limits.sweeps).saturating_mul(jacobi::pairs(size).into());
            (checks, checks)
        }
        Effort::Rotate { rotations, examples, .. } => {
            let checks = checks(size, examples);
            (rotations.min(checks).into(), checks.into())
        }
    };
    rotations.saturating_mul(each).saturating_add(checks.saturating_mul(4))
}

/// The pairs looked at for so many examples: n for each, at most one sweep.
fn checks(size: usize, examples: usize) -> u32 {
    u32::try_from(size.saturating_mul(examples)).unwrap_or(u32::MAX).min(jacobi::pairs(size))
}

/// Refreshes both sides of a layer.
#[inline(always)]
pub(crate) fn refresh<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    in_flight: &mut InFlight<'_, T>,
    later: Later<'_, T>,
    effort: &Effort<T>,
) -> Effect {
    both_sides(layer, later, effort, |layer, side, ahead, effect| {
        one_side(layer, in_flight, ahead, side, effort, effect);
    })
}

/// Both sides by `turn`, the input's first; none where the factors are not sound, which then start anew.
#[inline(always)]
pub(crate) fn both_sides<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    later: Later<'_, T>,
    effort: &Effort<T>,
    mut turn: impl FnMut(&mut LayerMut<'_, T>, Side, Ahead<'_, T>, &mut Effect),
) -> Effect {
    let mut effect = Effect { rotations: 0, operations: 0, failed: false };
    if later.are_sound(layer) {
        let [input, output] = later.walk_ahead(layer, effort);
        turn(layer, Side::Input, input, &mut effect);
        // Nor would a solve put its lines in another order.
        if !layer.output_is_diagonal() {
            turn(layer, Side::Output, output, &mut effect);
        }
    } else {
        layer.marks().forget_factors();
        effect.failed = true;
    }
    effect
}

/// Operations of one rotation on this side.
#[inline(never)]
fn each_rotation<T: Scalar>(layer: &LayerMut<'_, T>, in_flight: &InFlight<'_, T>, side: Side) -> u64 {
    let (m, n) = (layer.shape().rows().max(1), layer.shape().columns_held().max(1));
    let (examples, fisher) = (in_flight.activations.len() / n, in_flight.fisher_gradients.len() / m);
    let turning = layer.turns_weights() && !in_flight.weights.is_empty();
    let coordinates = if turning { Coordinates::Eigenbasis } else { Coordinates::Parameter };
    let [input, output] = rotation_operations(layer.shape(), coordinates, Flight { examples, fisher });
    if side == Side::Input { input } else { output }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Input,
    Output,
}

/// A factor, and all that turns along with it.
struct Turning<'x, T> {
    factor: FactorMut<'x, T>,
    companions: [Companion<'x, T>; 5],
}

#[inline(never)]
fn turning<'x, T: Scalar>(
    layer: &'x mut LayerMut<'_, T>,
    in_flight: &'x mut InFlight<'_, T>,
    side: Side,
) -> Turning<'x, T> {
    let m = layer.shape().rows();
    let turning = layer.turns_weights();
    let parts = layer.parts_mut();
    let input = side == Side::Input;
    let (factor, one, other): (_, &mut [T], &mut [T]) = if input {
        (parts.input_factor, in_flight.activations, &mut [])
    } else {
        (parts.output_factor, in_flight.gradients, in_flight.fisher_gradients)
    };
    let size = factor.size();
    // The lines of an m x n matrix that turn: columns with the inputs, rows with the outputs.
    let line = |data, turn| Companion::new(data, m, input, turn);
    let companions = [
        line(parts.scalings, Turn::Moments),
        line(parts.velocity, Turn::Linear),
        line(if turning { in_flight.weights } else { &mut [] }, Turn::Linear),
        Companion::rows(one, size, Turn::Linear),
        Companion::rows(other, size, Turn::Linear),
    ];
    Turning { factor, companions }
}

/// One side, and what it adds to the effect.
#[inline(never)]
fn one_side<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    in_flight: &mut InFlight<'_, T>,
    ahead: Ahead<'_, T>,
    side: Side,
    effort: &Effort<T>,
    effect: &mut Effect,
) {
    let each = each_rotation(layer, in_flight, side);
    // By reference: it is large, and a move would take its size of the stack again.
    let Turning { factor, companions } = &mut turning(layer, in_flight, side);
    rotate_side(factor, companions, each, ahead, effort, effect);
}

/// The same of a factor and its companions, at so many operations a rotation.
#[inline(always)]
pub(crate) fn rotate_side<T: Scalar>(
    factor: &mut FactorMut<'_, T>,
    companions: &mut [Companion<'_, T>],
    each: u64,
    ahead: Ahead<'_, T>,
    effort: &Effort<T>,
    effect: &mut Effect,
) {
    let size = factor.size();
    let (rotations, checks) = if let Some((threshold, budget)) = effort.walk(size) {
        let walked = ahead.walk(factor, companions, threshold, budget);
        (walked.rotations, walked.checks.into())
    } else if let (Effort::Solve(limits), true) = (*effort, PUBLISHED) {
        let report = factor.solve(companions, limits);
        // A lower cap is a budget, not a failure; so is a loose threshold, under which the last pairs converge slowly.
        let complete = limits.sweeps >= T::SWEEP_LIMIT && limits.threshold <= T::EPSILON;
        effect.failed |= complete && !report.converged;
        (report.rotations, u64::from(report.sweeps) * u64::from(jacobi::pairs(size)))
    } else {
        // No effort is one where periodic solves are not built.
        (0, 0)
    };
    effect.rotations += u64::from(rotations);
    effect.operations += u64::from(rotations) * each + 4 * checks;
}

/// By whom and where the turns of large factors are listed; empty where the feature `large` is off.
pub(crate) struct Later<'x, T> {
    #[cfg(feature = "large")]
    kernels: &'x dyn Kernels<T>,
    #[cfg(feature = "large")]
    scratch: &'x mut [T],
    #[cfg(not(feature = "large"))]
    nothing: PhantomData<&'x mut T>,
}

/// The walk of one side, as far as its turns are listed; empty where the feature `large` is off.
pub(crate) struct Ahead<'x, T> {
    #[cfg(feature = "large")]
    kernels: &'x dyn Kernels<T>,
    #[cfg(feature = "large")]
    waiting: Option<Waiting<'x, T>>,
    #[cfg(not(feature = "large"))]
    nothing: PhantomData<&'x mut T>,
}

#[cfg(feature = "large")]
impl<'x, T: Scalar> Later<'x, T> {
    /// By these kernels, in any number of words that nothing else needs now.
    pub(crate) fn new(kernels: Chosen<'x, T>, scratch: &'x mut [T]) -> Self {
        Self { kernels: kernels.get(), scratch }
    }

    /// Whether both factors hold numbers alone.
    fn are_sound(&self, layer: &LayerMut<'_, T>) -> bool {
        let factors =
            [layer.input_factor(), layer.output_factor()].map(|factor| (factor.covariance(), T::MAX));
        let [input, output] = factors;
        scan::are_within_by(self.kernels, [input, output, (&[], T::ZERO), (&[], T::ZERO)])
    }

    /// Walks over both factors, which read nothing of each other; what turns along waits.
    fn walk_ahead(self, layer: &mut LayerMut<'_, T>, effort: &Effort<T>) -> [Ahead<'x, T>; 2] {
        let Self { kernels, scratch } = self;
        let turns_output = !layer.output_is_diagonal();
        let parts = layer.parts_mut();
        let (n, m) = (parts.input_factor.size(), parts.output_factor.size());
        let lines = if turns_output { n + m } else { n };
        let for_input = scratch.len() / lines.max(1) * n;
        let (one, other) = scratch.split_at_mut_checked(for_input).unwrap_or_default();
        let mut sides = [(parts.input_factor, one), (parts.output_factor, other)].map(|(factor, words)| {
            let walk = effort.walk(factor.size());
            let waiting =
                walk.and_then(|(threshold, budget)| Waiting::new(words, factor.as_ref(), threshold, budget));
            (factor, waiting)
        });
        let walks =
            sides.each_mut().map(|(factor, waiting)| waiting.as_mut().map(|waiting| waiting.list(factor)));
        kernels.elementwise(Elementwise::walks(walks));
        sides.map(|(_, waiting)| Ahead { kernels, waiting })
    }
}

#[cfg(not(feature = "large"))]
impl<'x, T: Scalar> Later<'x, T> {
    #[inline(always)]
    pub(crate) fn new(_kernels: Chosen<'x, T>, _scratch: &'x mut [T]) -> Self {
        Self { nothing: PhantomData }
    }

    #[inline(always)]
    fn are_sound(&self, layer: &LayerMut<'_, T>) -> bool {
        layer.factors_are_sound()
    }

    #[inline(always)]
    fn walk_ahead(self, _layer: &mut LayerMut<'_, T>, _effort: &Effort<T>) -> [Ahead<'x, T>; 2] {
        [Ahead { nothing: PhantomData }, Ahead { nothing: PhantomData }]
    }
}

impl<T: Scalar> Ahead<'_, T> {
    /// The walk over the pairs of a factor, by which all turns.
    #[inline(always)]
    fn walk(
        self,
        factor: &mut FactorMut<'_, T>,
        companions: &mut [Companion<'_, T>],
        threshold: T,
        budget: Budget,
    ) -> Walked {
        #[cfg(feature = "large")]
        if let Some(waiting) = self.waiting {
            return waiting.finish(self.kernels, factor, companions);
        }
        factor.rotate(companions, threshold, budget)
    }
}
