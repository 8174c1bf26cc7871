//! A layer at work on its device: the device's implementation of core's [`Stages`], over any [`Engine`].
//!
//! *Cost*: products as in core. *Failure*: noted on the desk; nothing panics.

use super::{
    desk::Desk,
    engine::{Engine, Map, Operand, Question, View, from, into},
    layer::{DeviceLayer, Scratch},
};
use ekfac::{
    Blend, Reason, Scalar, Shape,
    damping::LayerDamping,
    guard,
    marks::Marks,
    step::{Counted, Effect, Effort, Plan, Stages, Survey},
};
use std::ops::Range;

/// A layer at work on its device.
pub struct DeviceRoom<'r, E: Engine> {
    pub(super) desk: &'r mut Desk<E>,
    pub(super) layer: &'r mut DeviceLayer<E::Buffer>,
    pub(super) scratch: &'r mut Scratch<E::Buffer>,
    /// N.
    pub(super) batch: usize,
    /// Columns of gradients for the Fisher's targets; 0 where these are the training targets.
    pub(super) fisher: usize,
}

/// Scale and keep of a product that blends a mean over `count` columns.
fn blend_factors(blend: Blend<f32>, count: usize) -> (f32, f32) {
    let count = f32::from_usize(count.max(1));
    match blend {
        Blend::Move(share) => (share / count, 1.0 - share),
        Blend::Add(share) => (share / count, 1.0),
    }
}

impl<E: Engine> DeviceRoom<'_, E> {
    /// g~ of what enters the statistics.
    fn measured_gradients(&self, measured: &Range<usize>) -> Operand<'_, E::Buffer> {
        let columns = measured.len();
        if self.fisher == 0 {
            let view = self.layer.outputs(self.batch).columns(measured.start, columns);
            from(&self.layer.projected_gradients, view)
        } else {
            from(&self.layer.projected_fisher, self.layer.outputs(columns))
        }
    }

    /// The index of the first offender, found on the host.
    fn locate(&mut self, argument: usize, limit: f32) -> usize {
        let (m, n) = (self.layer.shape.rows(), self.layer.shape.columns());
        let (buffer, words) = match argument {
            0 => (&self.layer.activations, n * self.batch),
            1 => (&self.layer.gradients, m * self.batch),
            2 => (&self.layer.fisher_gradients, m * self.fisher),
            _ => (&self.layer.weights, m * n),
        };
        let mut values = vec![0.0; words];
        self.desk.read(buffer, 0, &mut values);
        let index = guard::first_beyond(&values, limit).unwrap_or(0);
        // The ones of the bias do not count.
        if argument == 0 { index / n * self.layer.shape.inputs() + index % n } else { index }
    }
    /// The denominators of a damping, and what is added to them.
    fn denominators(&mut self, damping: LayerDamping<f32>) -> Option<f32> {
        match damping {
            LayerDamping::Sum(lambda) => Some(lambda),
            LayerDamping::Factored { a, b } => {
                let DeviceRoom { desk, layer, scratch, .. } = self;
                let rows = from(&layer.output.covariance, layer.output.view().diagonal());
                let columns = from(&layer.input.covariance, layer.input.view().diagonal());
                let out = into(&mut scratch.second, View::new(layer.shape.rows(), layer.shape.columns()));
                desk.map(Map::Outer { rows: b, columns: a }, out, rows, columns);
                None
            }
        }
    }

    /// Turns m x n coordinates in the eigenbasis back: out = scale U_B X U_A^T + keep out.
    pub(super) fn turn_back(&mut self, factors: (f32, f32)) {
        let plain = self.layer.output_is_diagonal();
        let DeviceRoom { desk, layer, scratch, .. } = self;
        let matrix = layer.view();
        let velocity = from(&layer.velocity, matrix);
        if !plain {
            let basis = from(&layer.output.basis, layer.output.view());
            desk.product(into(&mut scratch.first, matrix), basis, velocity, (false, false), (1.0, 0.0));
        }
        let turned = if plain { velocity } else { from(&scratch.first, matrix) };
        let basis = from(&layer.input.basis, layer.input.view());
        desk.product(into(&mut layer.weights, matrix), turned, basis, (false, true), factors);
    }

    /// W <- keep W but for the bias, as in core.
    fn decay(&mut self, keep: f32) {
        let DeviceRoom { desk, layer, scratch, .. } = self;
        let (shape, matrix) = (layer.shape, layer.view());
        if !(layer.in_eigenbasis() && shape.bias()) {
            let decayed = matrix.columns(0, shape.inputs());
            let idle = from(&layer.velocity, decayed);
            desk.map(Map::Sum { scale: 0.0, keep }, into(&mut layer.weights, decayed), idle, idle);
            return;
        }
        let row = from(&layer.input.basis, layer.input.view().row(shape.inputs()));
        let bias = View::new(shape.rows(), 1);
        let weights = from(&layer.weights, matrix);
        desk.product(into(&mut scratch.first, bias), weights, row, (false, true), (1.0, 0.0));
        let bias = from(&scratch.first, bias);
        desk.product(into(&mut layer.weights, matrix), bias, row, (false, false), (1.0 - keep, keep));
    }

    /// G, m x n, in the weights' place of the mean gradient, to D in parameter coordinates, in the first scratch.
    pub(super) fn precondition(&mut self, damping: LayerDamping<f32>) {
        let add = self.denominators(damping);
        let DeviceRoom { desk, layer, scratch, .. } = self;
        let matrix = layer.view();
        let (a, b) =
            (from(&layer.input.basis, layer.input.view()), from(&layer.output.basis, layer.output.view()));
        // The caller's gradient waits in the room of K, and the quotient takes its place.
        desk.product(
            into(&mut scratch.first, matrix),
            b,
            from(&layer.mean_gradient, matrix),
            (true, false),
            (1.0, 0.0),
        );
        desk.product(
            into(&mut layer.mean_gradient, matrix),
            from(&scratch.first, matrix),
            a,
            (false, false),
            (1.0, 0.0),
        );
        let quotient = Map::Quotient { scale: 1.0, keep: 0.0, add: add.unwrap_or(0.0) };
        let below = if add.is_some() { &layer.scalings } else { &scratch.second };
        let k = from(&layer.mean_gradient, matrix);
        desk.map(quotient, into(&mut scratch.first, matrix), k, from(below, matrix));
        desk.product(
            into(&mut layer.mean_gradient, matrix),
            b,
            from(&scratch.first, matrix),
            (false, false),
            (1.0, 0.0),
        );
        desk.product(
            into(&mut scratch.first, matrix),
            from(&layer.mean_gradient, matrix),
            a,
            (false, true),
            (1.0, 0.0),
        );
    }
}

impl<E: Engine> Stages<f32> for DeviceRoom<'_, E> {
    fn shape(&self) -> Shape {
        self.layer.shape
    }

    fn marks(&mut self) -> Marks<'_, f32> {
        Marks::over(&mut self.layer.header)
    }

    fn check(&mut self, _counted: &Counted<'_, f32>, layer: usize, batch: usize) -> Result<(), Reason> {
        let shape = self.layer.shape;
        let limit = guard::limit(&shape, batch);
        let limits = [limit, limit, limit, guard::turning_limit(&shape)];
        let room = &*self.layer;
        let measures = self.desk.measure([
            from(&room.activations, room.inputs(batch).top(shape.inputs())),
            from(&room.gradients, room.outputs(batch)),
            from(&room.fisher_gradients, room.outputs(self.fisher)),
            from(&room.weights, room.view()),
        ]);
        let names = ["activations", "gradients", "Fisher gradients", "weights"];
        for (index, (measure, limit)) in measures.into_iter().zip(limits).enumerate() {
            let idle = index == 3 && !self.layer.in_eigenbasis() || index == 2 && self.fisher == 0;
            if idle || measure.largest <= limit {
                continue;
            }
            let (argument, at) = (names[index], self.locate(index, limit));
            return Err(if measure.largest.is_finite() {
                Reason::TooLarge { layer, argument, index: at }
            } else {
                Reason::NonFinite { layer, argument, index: at }
            });
        }
        Ok(())
    }

    fn project(&mut self, counted: &mut Counted<'_, f32>, batch: usize) {
        let DeviceRoom { desk, layer, .. } = self;
        if layer.in_eigenbasis() {
            return;
        }
        let (n, inputs) = (layer.shape.columns(), layer.inputs(batch));
        counted.add(2 * batch * n * n);
        let a = from(&layer.input.basis, layer.input.view());
        desk.product(
            into(&mut layer.projected_activations, inputs),
            a,
            from(&layer.activations, inputs),
            (true, false),
            (1.0, 0.0),
        );
        counted.add(layer.project_gradients(desk, false, batch));
    }

    fn project_fisher(&mut self, counted: &mut Counted<'_, f32>) {
        let DeviceRoom { desk, layer, fisher, .. } = self;
        if layer.in_eigenbasis() || *fisher == 0 {
            return;
        }
        counted.add(layer.project_gradients(desk, true, *fisher));
    }

    fn measure_input(&mut self, counted: &mut Counted<'_, f32>, measured: &Range<usize>, blend: Blend<f32>) {
        let DeviceRoom { desk, layer, batch, .. } = self;
        let x = layer.inputs(*batch).columns(measured.start, measured.len());
        let square = layer.input.view();
        let factors = blend_factors(blend, measured.len());
        desk.symmetric(
            into(&mut layer.input.covariance, square),
            from(&layer.projected_activations, x),
            factors,
        );
        counted.add((measured.len() + 1) * square.rows * (square.rows + 1));
    }

    fn measure_output(&mut self, counted: &mut Counted<'_, f32>, measured: &Range<usize>, blend: Blend<f32>) {
        if self.fisher == 0 {
            // Training targets correlate.
            self.marks().set_output_diagonal(false);
        }
        let view = self.measured_gradients(measured).view;
        let DeviceRoom { desk, layer, fisher, .. } = self;
        let gradients = if *fisher == 0 { &layer.projected_gradients } else { &layer.projected_fisher };
        let square = layer.output.view();
        let factors = blend_factors(blend, measured.len());
        desk.symmetric(into(&mut layer.output.covariance, square), from(gradients, view), factors);
        counted.add((measured.len() + 1) * square.rows * (square.rows + 1));
    }

    fn measure_scalings(
        &mut self,
        counted: &mut Counted<'_, f32>,
        measured: &Range<usize>,
        blend: Blend<f32>,
    ) {
        let view = self.measured_gradients(measured).view;
        let DeviceRoom { desk, layer, scratch, batch, fisher } = self;
        let gradients = if *fisher == 0 { &layer.projected_gradients } else { &layer.projected_fisher };
        let activations = layer.inputs(*batch).columns(measured.start, measured.len());
        let (g, a) = (layer.outputs(measured.len()), layer.inputs(measured.len()));
        let square = Map::Square { scale: 1.0, keep: 0.0 };
        let (x, y) = (from(gradients, view), from(&layer.projected_activations, activations));
        desk.map(square, into(&mut scratch.first, g), x, x);
        desk.map(square, into(&mut scratch.second, a), y, y);
        let (matrix, factors) = (layer.view(), blend_factors(blend, measured.len()));
        let (x, y) = (from(&scratch.first, g), from(&scratch.second, a));
        desk.product(into(&mut layer.scalings, matrix), x, y, (false, true), factors);
        counted.add((2 * measured.len() + 3) * layer.shape.parameters());
    }

    fn measure_mean_gradient(&mut self, counted: &mut Counted<'_, f32>, batch: usize, blend: Blend<f32>) {
        let DeviceRoom { desk, layer, .. } = self;
        let (scale, keep) = blend_factors(blend, 1);
        let (matrix, count) = (layer.view(), f32::from_usize(batch));
        let k = from(&layer.mean_gradient, matrix);
        desk.map(Map::Square { scale: scale * count, keep }, into(&mut layer.scalings, matrix), k, k);
        counted.add(5 * layer.shape.parameters());
    }

    fn set_kronecker(&mut self) {
        let DeviceRoom { desk, layer, .. } = self;
        let rows = from(&layer.output.covariance, layer.output.view().diagonal());
        let columns = from(&layer.input.covariance, layer.input.view().diagonal());
        let out = into(&mut layer.scalings, View::new(layer.shape.rows(), layer.shape.columns()));
        desk.map(Map::Outer { rows: 0.0, columns: 0.0 }, out, rows, columns);
    }

    fn form_gradient(&mut self, counted: &mut Counted<'_, f32>, batch: usize) {
        let DeviceRoom { desk, layer, .. } = self;
        let (g, a) = (layer.outputs(batch), layer.inputs(batch));
        let (g, a) = (from(&layer.projected_gradients, g), from(&layer.projected_activations, a));
        let out = into(&mut layer.mean_gradient, View::new(layer.shape.rows(), layer.shape.columns()));
        desk.product(out, g, a, (false, true), (1.0 / f32::from_usize(batch), 0.0));
        counted.add(2 * batch * layer.shape.parameters());
    }

    fn refresh(&mut self, _counted: &Counted<'_, f32>, effort: &Effort<f32>) -> Effect {
        let layer = &*self.layer;
        let (a, b) = (layer.input.view(), layer.output.view());
        let [on_a, on_b, all_a, all_b] = self.desk.measure([
            from(&layer.input.covariance, a.diagonal()),
            from(&layer.output.covariance, b.diagonal()),
            from(&layer.input.covariance, a),
            from(&layer.output.covariance, b),
        ]);
        if !(all_a.largest.is_finite() && all_b.largest.is_finite()) {
            self.marks().forget_factors();
            return Effect { rotations: 0, operations: 0, failed: true };
        }
        let input = self.refresh_side(true, *effort, on_a.sum);
        let output = if self.layer.output_is_diagonal() {
            Effect { rotations: 0, operations: 0, failed: false }
        } else {
            self.refresh_side(false, *effort, on_b.sum)
        };
        Effect {
            rotations: input.rotations + output.rotations,
            operations: input.operations + output.operations,
            failed: input.failed || output.failed,
        }
    }

    fn mean_scaling(&mut self, _counted: &Counted<'_, f32>) -> f32 {
        let [found] = self.desk.measure([from(&self.layer.scalings, self.layer.view())]);
        (found.sum / self.layer.shape.parameters() as f64) as f32
    }

    fn traces(&mut self) -> (f32, f32) {
        let layer = &*self.layer;
        let [a, b] = self.desk.measure([
            from(&layer.input.covariance, layer.input.view().diagonal()),
            from(&layer.output.covariance, layer.output.view().diagonal()),
        ]);
        (a.sum as f32, b.sum as f32)
    }

    fn survey(&mut self, _counted: &Counted<'_, f32>, damping: LayerDamping<f32>) -> Survey<f32> {
        let add = self.denominators(damping);
        let (layer, matrix) = (&*self.layer, self.layer.view());
        let question = Question {
            gradient: from(&layer.mean_gradient, matrix),
            scalings: from(if add.is_some() { &layer.scalings } else { &self.scratch.second }, matrix),
            damping: add.unwrap_or(0.0),
            velocity: from(&layer.velocity, matrix),
            weights: from(&layer.weights, matrix),
            spectrum: from(&layer.input.covariance, layer.input.view().diagonal()),
        };
        let found = self.desk.survey(&question);
        // Without an answer the length is NaN, and no step is taken.
        let number = |value: fn(&super::engine::Answer) -> f64| found.as_ref().map_or(f64::NAN, value) as f32;
        let largest = |value: fn(&super::engine::Answer) -> f32| found.as_ref().map_or(f32::INFINITY, value);
        Survey {
            length: number(|found| found.length),
            agreement: number(|found| found.agreement),
            velocity_length: number(|found| found.velocity_length),
            reach: (number(|found| found.spread) / f32::from_usize(layer.shape.rows())).sqrt(),
            largest_direction: largest(|found| found.largest_direction),
            largest_velocity: largest(|found| found.largest_velocity),
            largest_weight: largest(|found| found.largest_weight),
        }
    }

    fn advance(&mut self, counted: &mut Counted<'_, f32>, damping: LayerDamping<f32>, plan: &Plan<f32>) {
        let add = self.denominators(damping);
        let matrix = self.layer.view();
        {
            let DeviceRoom { desk, layer, scratch, .. } = self;
            let quotient = Map::Quotient { scale: plan.shrink, keep: plan.momentum, add: add.unwrap_or(0.0) };
            let k = from(&layer.mean_gradient, matrix);
            let below = from(if add.is_some() { &layer.scalings } else { &scratch.second }, matrix);
            desk.map(quotient, into(&mut layer.velocity, matrix), k, below);
        }
        let keep = 1.0 - plan.learning_rate * plan.weight_decay;
        if keep < 1.0 {
            self.decay(keep);
        }
        let (m, n) = (self.layer.shape.rows(), self.layer.shape.columns());
        if self.layer.in_eigenbasis() {
            let DeviceRoom { desk, layer, .. } = self;
            let step = Map::Sum { scale: -plan.learning_rate, keep: 1.0 };
            let velocity = from(&layer.velocity, matrix);
            desk.map(step, into(&mut layer.weights, matrix), velocity, velocity);
            counted.add(2 * m * n);
        } else {
            self.turn_back((-plan.learning_rate, 1.0));
            let turned = if self.layer.output_is_diagonal() { n } else { m + n };
            counted.add(2 * m * n * turned);
        }
    }
}
