//! A layer on the host: core's own implementation of [`Stages`], over the slices that the learner or the caller lends.
//!
//! *Invariant*: nothing here knows the order of a step; [`step`](crate::step) does. *Cost* and *failure*: those of the kernels, and
//! of [`refresh`](crate::refresh) and [`precondition`](crate::precondition).

#[cfg(feature = "large")]
use crate::scan::are_within_by;
use crate::{
    Blend, Coordinates, LayerMut, MatrixMut, MatrixRef, Reason, Scalar, Shape,
    damping::LayerDamping,
    guard,
    kernels::Counted,
    marks::Marks,
    precondition::{self, Gradient, Plan},
    refresh::{self, Effect, Effort, InFlight, Later},
    scalings,
    single::BATCHES,
    step::Stages,
    survey::{Survey, survey},
};
use core::ops::Range;

/// All that one layer brings to a step with N examples: one column an example.
pub(crate) struct Room<'a, T> {
    pub(crate) layer: LayerMut<'a, T>,
    /// The stored weights, empty when only statistics are taken, and the projections: they are given where the layer lives in
    /// the eigenbasis.
    pub(crate) in_flight: InFlight<'a, T>,
    /// inputs x N.
    pub(crate) activations: &'a [T],
    /// m x N, for the training targets.
    pub(crate) gradients: &'a [T],
    /// m x M, for the Fisher's targets; empty where these are the training targets.
    pub(crate) fisher_gradients: &'a [T],
    /// K, m x n, or empty for one example.
    pub(crate) mean_gradient: &'a mut [T],
    /// At least 2 max(m, n) words; m n as well for a batch.
    pub(crate) scratch: &'a mut [T],
}

impl<'a, T: Scalar> Room<'a, T> {
    pub(crate) fn reborrow(&mut self) -> Room<'_, T> {
        Room {
            layer: self.layer.reborrow(),
            in_flight: self.in_flight.reborrow(),
            activations: self.activations,
            gradients: self.gradients,
            fisher_gradients: self.fisher_gradients,
            mean_gradient: self.mean_gradient,
            scratch: self.scratch,
        }
    }

    /// The layer, its K (a matrix, or the outer product of one example), its weights and its scratch, side by side.
    fn parts(&mut self) -> (&mut LayerMut<'a, T>, Gradient<'_, T>, &mut [T], &mut [T]) {
        let InFlight { weights, activations, gradients, .. } = &mut self.in_flight;
        let gradient = Gradient::Outer { gradient: gradients, activation: activations };
        #[cfg(feature = "batches")]
        let gradient = if self.mean_gradient.is_empty() {
            gradient
        } else {
            let shape = self.layer.shape();
            Gradient::Matrix(MatrixRef::over(self.mean_gradient, shape.rows(), shape.columns_held()))
        };
        (&mut self.layer, gradient, weights, self.scratch)
    }
}

impl<T: Scalar> Stages<T> for Room<'_, T> {
    fn shape(&self) -> Shape {
        *self.layer.shape()
    }

    fn marks(&mut self) -> Marks<'_, T> {
        self.layer.marks()
    }

    #[inline(never)]
    #[cfg_attr(not(feature = "large"), allow(unused_variables))]
    fn check(&mut self, counted: &Counted<'_, T>, layer: usize, batch: usize) -> Result<(), Reason> {
        let limit = guard::limit(self.layer.shape(), batch);
        let turning = self.layer.turns_weights();
        let weights = if turning { &*self.in_flight.weights } else { &[] };
        let arguments = [
            ("activations", self.activations, limit),
            ("gradients", self.gradients, limit),
            ("Fisher gradients", self.fisher_gradients, limit),
            ("weights", weights, guard::turning_limit(self.layer.shape())),
        ];
        #[cfg(feature = "large")]
        if are_within_by(counted.kernels().get(), arguments.map(|(_, values, limit)| (values, limit))) {
            return Ok(());
        }
        for (argument, values, limit) in arguments {
            gate(layer, argument, 0, values, limit)?;
        }
        Ok(())
    }

    fn project(&mut self, counted: &mut Counted<'_, T>, batch: usize) {
        if self.layer.coordinates() == Coordinates::Parameter {
            let inputs = self.layer.shape().inputs();
            let InFlight { activations, gradients, .. } = &mut self.in_flight;
            self.layer.input_factor().project(counted, self.activations, inputs, batch, activations);
            self.layer.turn_outputs(counted, gradients, self.gradients, true);
        }
    }

    fn project_fisher(&mut self, counted: &mut Counted<'_, T>) {
        if self.layer.coordinates() == Coordinates::Parameter && !self.fisher_gradients.is_empty() {
            self.layer.turn_outputs(counted, self.in_flight.fisher_gradients, self.fisher_gradients, true);
        }
    }

    fn measure_input(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let n = self.layer.shape().columns_held();
        let projected = part(self.in_flight.activations, n, measured);
        self.layer.input_factor_mut().observe(counted, projected, blend, self.scratch);
    }

    fn measure_output(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let Self { layer, in_flight, scratch, .. } = self;
        let projected = in_flight.fisher(layer.shape().rows(), measured);
        if in_flight.fisher_gradients.is_empty() {
            // Training targets correlate.
            layer.marks().set_output_diagonal(false);
        }
        layer.output_factor_mut().observe(counted, projected, blend, scratch);
    }

    fn measure_scalings(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let Self { layer, in_flight, scratch, .. } = self;
        let gradients = in_flight.fisher(layer.shape().rows(), measured);
        let activations = part(in_flight.activations, layer.shape().columns_held(), measured);
        scalings::blend_examples(layer, counted, gradients, activations, blend, scratch);
    }

    fn form_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize) {
        if BATCHES && batch > 1 {
            let (m, n) = (self.layer.shape().rows(), self.layer.shape().columns_held());
            counted.product_right_transposed(
                MatrixMut::over(self.mean_gradient, m, n),
                MatrixRef::over(self.in_flight.gradients, m, batch),
                MatrixRef::over(self.in_flight.activations, n, batch),
                T::ONE / T::from_usize(batch),
                T::ZERO,
            );
        }
    }

    fn measure_mean_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize, blend: Blend<T>) {
        let (layer, k, _, scratch) = self.parts();
        scalings::blend_mean_gradient(layer, counted, k, batch, blend, scratch);
    }

    fn set_kronecker(&mut self) {
        scalings::set_kronecker(&mut self.layer);
    }

    fn refresh(&mut self, counted: &Counted<'_, T>, effort: &Effort<T>) -> Effect {
        let later = Later::new(counted.kernels(), self.scratch);
        refresh::refresh(&mut self.layer, &mut self.in_flight, later, effort)
    }

    #[cfg_attr(not(feature = "large"), allow(unused_variables))]
    fn mean_scaling(&mut self, counted: &Counted<'_, T>) -> T {
        #[cfg(feature = "large")]
        return self.layer.mean_scaling_by(counted.kernels().get());
        #[cfg(not(feature = "large"))]
        self.layer.mean_scaling()
    }

    fn traces(&mut self) -> (T, T) {
        (self.layer.input_trace(), self.layer.output_factor().trace())
    }

    #[inline(never)]
    fn survey(&mut self, counted: &Counted<'_, T>, damping: LayerDamping<T>) -> Survey<T> {
        let (layer, k, weights, scratch) = self.parts();
        survey(layer, counted, k, damping, weights, scratch)
    }

    fn advance(&mut self, counted: &mut Counted<'_, T>, damping: LayerDamping<T>, plan: &Plan<T>) {
        let (layer, k, weights, scratch) = self.parts();
        precondition::advance(layer, counted, k, damping, plan, weights, scratch);
    }
}

/// Refuses values beyond a limit; the first of them has this index among all of the argument's.
pub(crate) fn gate<T: Scalar>(
    layer: usize,
    argument: &'static str,
    start: usize,
    values: &[T],
    limit: T,
) -> Result<(), Reason> {
    let Some(place) = guard::first_beyond(values, limit) else { return Ok(()) };
    let (index, finite) = (start + place, values.get(place).is_some_and(|value| value.is_finite()));
    Err(if finite {
        Reason::TooLarge { layer, argument, index }
    } else {
        Reason::NonFinite { layer, argument, index }
    })
}

/// Columns of a matrix, by their range.
fn part<'x, T: Scalar>(values: &'x [T], rows: usize, range: &Range<usize>) -> MatrixRef<'x, T> {
    if !BATCHES {
        return MatrixRef::over(values, rows, 1);
    }
    let values = values.get(range.start * rows..range.end * rows).unwrap_or_default();
    MatrixRef::over(values, rows, range.len())
}

impl<T: Scalar> InFlight<'_, T> {
    fn reborrow(&mut self) -> InFlight<'_, T> {
        InFlight {
            weights: self.weights,
            activations: self.activations,
            gradients: self.gradients,
            fisher_gradients: self.fisher_gradients,
        }
    }

    /// g~ for the Fisher's targets: its own, or those of the training targets.
    fn fisher(&self, rows: usize, measured: &Range<usize>) -> MatrixRef<'_, T> {
        if self.fisher_gradients.is_empty() {
            part(self.gradients, rows, measured)
        } else {
            part(self.fisher_gradients, rows, &(0..measured.len()))
        }
    }
}
