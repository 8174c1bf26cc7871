//! The refresh of a layer: its factors are rotated, and all that is held in the eigenbasis turns along.
//!
//! *Invariant*: after every rotation the layer predicts what it predicted before and S has kept its sum; so a running
//! refresh may be cut anywhere. *Cost*: for a rotation on a side of n, the other side m and N examples in flight
//! 8 (2 n + 2 m + N) + 5 m + 4 n operations, and 4 for each pair looked at. *Failure*: a periodic solve that hits its
//! cap is reported; the basis is valid all the same.

use crate::{
    Coordinates, LayerMut, Scalar,
    factor::FactorMut,
    jacobi::{self, Budget, Companion, Limits, Turn},
};

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

/// How far a refresh goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effort<T> {
    /// To the limits of a solve.
    Solve(Limits<T>),
    /// So many rotations of pairs beyond the threshold, and n pairs looked at for each of so many examples.
    Rotate { rotations: u32, examples: usize, threshold: T },
}

/// What a refresh did, both sides together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) rotations: u64,
    pub(crate) operations: u64,
    pub(crate) converged: bool,
}

/// Refreshes both sides of a layer.
pub(crate) fn refresh<T: Scalar>(
    layer: &mut LayerMut<'_, T>,
    in_flight: InFlight<'_, T>,
    effort: Effort<T>,
) -> Effect {
    let (m, n) = (layer.shape().rows(), layer.shape().columns());
    let turning = layer.coordinates() == Coordinates::Eigenbasis;
    let weights = if turning { in_flight.weights } else { &mut [] };
    let columns_turning = if turning { 2 * m } else { m };
    let rows_turning = if turning { 2 * n } else { n };
    let parts = layer.parts_mut();
    let examples = in_flight.activations.len() / n;
    let input = one_side(
        parts.input_factor,
        [
            Companion::columns(parts.scalings, m, Turn::Moments),
            Companion::columns(parts.velocity, m, Turn::Linear),
            Companion::columns(weights, m, Turn::Linear),
            Companion::rows(in_flight.activations, n, Turn::Linear),
            Companion::rows(&mut [], n, Turn::Linear),
        ],
        effort,
        8 * (columns_turning + examples) + 5 * m,
    );
    let examples = (in_flight.gradients.len() + in_flight.fisher_gradients.len()) / m;
    let output = one_side(
        parts.output_factor,
        [
            Companion::rows(parts.scalings, m, Turn::Moments),
            Companion::rows(parts.velocity, m, Turn::Linear),
            Companion::rows(weights, m, Turn::Linear),
            Companion::rows(in_flight.gradients, m, Turn::Linear),
            Companion::rows(in_flight.fisher_gradients, m, Turn::Linear),
        ],
        effort,
        8 * (rows_turning + examples) + 5 * n,
    );
    Effect {
        rotations: input.rotations + output.rotations,
        operations: input.operations + output.operations,
        converged: input.converged && output.converged,
    }
}

/// One side; a rotation costs `along` operations besides those in the factor itself.
fn one_side<T: Scalar>(
    factor: &mut FactorMut<'_, T>,
    companions: [Companion<'_, T>; crate::factor::COMPANIONS],
    effort: Effort<T>,
    along: usize,
) -> Effect {
    let size = factor.size();
    let (rotations, checks, converged) = match effort {
        Effort::Solve(limits) => {
            let report = factor.solve(companions, limits);
            let checks = u64::from(report.sweeps) * u64::from(jacobi::pairs(size));
            (report.rotations, checks, report.converged)
        }
        Effort::Rotate { rotations, examples, threshold } => {
            let checks = u32::try_from(size.saturating_mul(examples)).unwrap_or(u32::MAX);
            let budget = Budget { rotations, checks: checks.min(jacobi::pairs(size)) };
            let walked = factor.rotate(companions, threshold, budget);
            (walked.rotations, u64::from(walked.checks), true)
        }
    };
    // C and U, the care for orthogonality, and about 12 for the angle.
    let each = (8 * 2 * size + 4 * size + 12 + along) as u64;
    Effect { rotations: rotations.into(), operations: u64::from(rotations) * each + 4 * checks, converged }
}
