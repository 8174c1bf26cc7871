//! The refresh of a layer on its device.
//!
//! *Refresh*: core's walk takes one pair after another; a device takes n/2 disjoint pairs at once, the rounds of a tournament
//! ([`pair`](super::engine::pair)), in chunks of rounds that could spend twice the budget of rotations, until that is spent, within
//! a chunk, or four times as many pairs have been looked at. Angles and skipped pairs are by core's rule; S, the velocity, the weights in the eigenbasis and what is in flight turn along. A solve goes on until a whole
//! tournament turns nothing beyond eps times the mean eigenvalue, or, after
//! a few sweeps, eps times the trace. Orthogonality is restored by U <- U (3 I - U^T U) / 2, products only, after
//! every [`CARE`] rounds. *Cost*: products as in core; a round touches C twice and every companion once. *Failure*: noted on the
//! desk; nothing panics.

use super::{
    engine::{Engine, Map, ROTATION, Turn, View, from, into, rounds},
    room::DeviceRoom,
};
use ekfac::{
    Scalar,
    step::{Effect, Effort},
};

/// Rounds from one care for orthogonality to the next.
pub const CARE: usize = 256;

/// Pairs that are looked at for each rotation, where one round has not as many.
const LOOKED_AT: usize = 4;

/// Rotations of a round for each of core's, which goes row by row and gathers a common direction in its first line sooner: with as
/// many, the loss after 200 steps on the digits stays 2 % higher, in five seeds of five; with twice as many it is level.
const ROUNDS_FOR_ROWS: usize = 2;

/// Sweeps of a solve that go to the finer of its two floors.
const FINE_SWEEPS: u32 = 8;

/// Rounds whose rotations are kept, to be counted together.
pub(super) const KEPT: usize = 32;

impl<E: Engine> DeviceRoom<'_, E> {
    /// Rounds of one side: angles, C from both sides, U, and all that turns along.
    fn turn_side(&mut self, on_input: bool, count: usize, negligible: (f32, f32)) {
        let (m, n) = (self.layer.shape.rows(), self.layer.shape.columns());
        let turning = self.layer.in_eigenbasis();
        let DeviceRoom { desk, layer, scratch, batch, fisher, .. } = self;
        let side = if on_input { &mut layer.input } else { &mut layer.output };
        let turn =
            Turn { size: side.size, round: side.round, count, offset: 0, columns: true, moments: false };
        let square = side.view();
        desk.rotate(&mut scratch.rotations, &mut side.covariance, turn, negligible);
        desk.turn(into(&mut side.basis, square), &scratch.rotations, turn);
        side.round = (side.round + count) % rounds(side.size);
        side.turned += count;
        let (matrix, lines) = (View::new(m, n), Turn { columns: on_input, ..turn });
        desk.turn(into(&mut layer.scalings, matrix), &scratch.rotations, Turn { moments: true, ..lines });
        desk.turn(into(&mut layer.velocity, matrix), &scratch.rotations, lines);
        if turning {
            desk.turn(into(&mut layer.weights, matrix), &scratch.rotations, lines);
        }
        let rows = Turn { columns: false, ..turn };
        if on_input {
            desk.turn(into(&mut layer.projected_activations, View::new(n, *batch)), &scratch.rotations, rows);
        } else {
            desk.turn(into(&mut layer.projected_gradients, View::new(m, *batch)), &scratch.rotations, rows);
            if *fisher > 0 {
                desk.turn(into(&mut layer.projected_fisher, View::new(m, *fisher)), &scratch.rotations, rows);
            }
        }
    }

    /// So many rounds; returns the rotations done.
    fn rounds(&mut self, on_input: bool, count: usize, negligible: (f32, f32)) -> u64 {
        let side = if on_input { &self.layer.input } else { &self.layer.output };
        let (pairs, mut done) = (side.size.div_ceil(2), 0.0);
        let mut left = count;
        while left > 0 && self.desk.fault.is_none() {
            let now = left.min(KEPT);
            self.turn_side(on_input, now, negligible);
            let flags = View { offset: ROTATION - 1, rows: 1, columns: pairs * now, stride: ROTATION };
            let [turned] = self.desk.measure([from(&self.scratch.rotations, flags)]);
            done += turned.sum;
            left -= now;
        }
        done as u64
    }

    /// U <- U (3 I - U^T U) / 2, where it is due.
    fn care(&mut self, on_input: bool) {
        let DeviceRoom { desk, layer, scratch, .. } = self;
        let side = if on_input { &mut layer.input } else { &mut layer.output };
        if side.turned < CARE {
            return;
        }
        side.turned = 0;
        let square = side.view();
        let basis = from(&side.basis, square);
        desk.product(into(&mut scratch.first, square), basis, basis, (true, false), (1.0, 0.0));
        desk.product(
            into(&mut scratch.second, square),
            basis,
            from(&scratch.first, square),
            (false, false),
            (1.0, 0.0),
        );
        let drift = from(&scratch.second, square);
        desk.map(Map::Sum { scale: -0.5, keep: 1.5 }, into(&mut side.basis, square), drift, drift);
    }

    /// One side of a refresh: rotations, operations, and whether a solve failed.
    pub(super) fn refresh_side(&mut self, on_input: bool, effort: Effort<f32>, trace: f64) -> Effect {
        let side = if on_input { &self.layer.input } else { &self.layer.output };
        let (size, all) = (side.size, rounds(side.size));
        let floor = f32::EPSILON * trace.abs() as f32;
        let (mut rotations, mut walked, mut failed) = (0, 0, false);
        match effort.for_lines(size) {
            _ if size < 2 => {}
            Effort::Rotate { rotations: most, threshold, .. } => {
                let (pairs, most) = (size.div_ceil(2), ROUNDS_FOR_ROWS.saturating_mul(most as usize));
                let chunk = most.div_ceil(pairs).min(all);
                // Rounds cost the same however few of their pairs turn: so a few budgets of pairs are looked at, not a sweep.
                let end = (LOOKED_AT.saturating_mul(most) / pairs).clamp(chunk, all);
                while rotations < most as u64 && walked < end && self.desk.fault.is_none() {
                    let now = chunk.min(end - walked);
                    rotations += self.rounds(on_input, now, (threshold, floor));
                    walked += now;
                }
            }
            Effort::Solve(limits) => {
                let mut converged = false;
                for sweep in 0..limits.sweeps.min(f32::SWEEP_LIMIT) {
                    // First to the rounding of a mean eigenvalue; what a few sweeps leave above is rounding of the largest.
                    let fine = if sweep < FINE_SWEEPS { size as f32 } else { 1.0 };
                    let turned = self.rounds(on_input, all, (limits.threshold, floor / fine));
                    (rotations, walked) = (rotations + turned, walked + all);
                    self.care(on_input);
                    converged = turned == 0;
                    if converged {
                        break;
                    }
                }
                failed = !converged && limits.sweeps >= f32::SWEEP_LIMIT && limits.threshold <= f32::EPSILON;
            }
        }
        self.care(on_input);
        let (m, n) = (self.layer.shape.rows(), self.layer.shape.columns());
        let other = if on_input { m } else { n };
        let each = (8 * (3 * size + 2 * other + self.batch) + 5 * other) as u64;
        // A pair that does not turn is only looked at.
        let operations = each * rotations + 4 * (walked * size.div_ceil(2)) as u64;
        Effect { rotations, operations, failed }
    }
}
