//! One group of a convolution as the corridor of a step sees it: [`Stages`] in parameter coordinates.
//!
//! *Invariant*: nothing of the batch is held projected between two stages, so a refresh has nothing in flight to turn; samples are
//! read again in whatever basis there is. What knows nothing of locations is the dense [`Room`]'s. *Cost*: that of
//! [`samples`](super::samples). *Failure*: as in the dense room.

use super::{Convolution, Sharing, samples::Samples};
use crate::{
    Blend, LayerMut, MatrixRef, Reason, Scalar, Shape,
    damping::LayerDamping,
    guard,
    kernels::Counted,
    marks::Marks,
    precondition::{Plan, Survey},
    refresh::{Effect, Effort, InFlight},
    room::{self, Room},
    step::Stages,
};
use core::ops::Range;

/// All that one group brings to a step with N examples.
pub(super) struct SharedRoom<'a, T> {
    /// The layer, its weights, its K (m x n, whatever N) and the scratch, of [`scratch_words`]; nothing of the batch.
    pub(super) dense: Room<'a, T>,
    pub(super) convolution: &'a Convolution,
    pub(super) group: usize,
    pub(super) sharing: Sharing,
    /// One image a column.
    pub(super) images: MatrixRef<'a, T>,
    /// One map of pre-activation gradients a column, for the training targets.
    pub(super) gradients: MatrixRef<'a, T>,
    /// The same for the Fisher's targets, of the measured examples; none where these are the training targets.
    pub(super) fisher_gradients: Option<MatrixRef<'a, T>>,
}

/// Words of scratch for one group with blocks of so many columns: 2 m n + 2 (m + n) columns.
pub(super) const fn scratch_words(shape: &Shape, columns: usize) -> usize {
    let lines = shape.rows().saturating_add(shape.columns());
    shape.parameters().saturating_add(lines.saturating_mul(columns)).saturating_mul(2)
}

/// A dense room that holds no part of a batch.
pub(super) fn bare<'a, T>(
    layer: LayerMut<'a, T>,
    weights: &'a mut [T],
    mean_gradient: &'a mut [T],
    scratch: &'a mut [T],
) -> Room<'a, T> {
    Room {
        layer,
        in_flight: InFlight { weights, activations: &mut [], gradients: &mut [], fisher_gradients: &mut [] },
        activations: &[],
        gradients: &[],
        fisher_gradients: &[],
        mean_gradient,
        scratch,
    }
}

impl<'a, T: Scalar> SharedRoom<'a, T> {
    /// The measured examples with their Fisher gradients.
    fn measured(&self, measured: &Range<usize>) -> Samples<'a, T> {
        let part = |matrix: MatrixRef<'a, T>| {
            matrix.block(0..matrix.rows(), measured.clone()).unwrap_or(matrix.left(0))
        };
        let walk = self.convolution.walk(self.group);
        let gradients = self.fisher_gradients.unwrap_or_else(|| part(self.gradients));
        Samples { walk, images: part(self.images), gradients }
    }

    fn root_of_locations(&self) -> T {
        T::from_usize(self.convolution.locations()).sqrt()
    }
}

impl<T: Scalar> Stages<T> for SharedRoom<'_, T> {
    fn shape(&self) -> Shape {
        self.dense.shape()
    }

    fn marks(&mut self) -> Marks<'_, T> {
        self.dense.marks()
    }

    /// A sum over T locations is at most T times as large, its square T^2 times: the limit is that of a dense layer over sqrt(T).
    #[inline(never)]
    fn check(&mut self, layer: usize, batch: usize) -> Result<(), Reason> {
        // All groups have one shape, and the first looks at their images together.
        if self.group > 0 {
            return Ok(());
        }
        let limit = guard::limit::<T>(&self.shape(), batch) / self.root_of_locations();
        let fisher = self.fisher_gradients.unwrap_or(self.gradients.left(0));
        let arguments =
            [("images", self.images), ("gradients", self.gradients), ("Fisher gradients", fisher)];
        for (argument, matrix) in arguments {
            for (column, values) in matrix.iter_columns().enumerate() {
                room::gate(layer, argument, column * matrix.rows(), values, limit)?;
            }
        }
        Ok(())
    }

    fn project(&mut self, _counted: &mut Counted<'_, T>, _batch: usize) {}

    fn project_fisher(&mut self, _counted: &mut Counted<'_, T>) {}

    #[inline(never)]
    fn measure_input(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let samples = self.measured(measured);
        let factor = &mut self.dense.layer.input_factor_mut();
        samples.measure_input(counted, factor, self.sharing, blend, self.dense.scratch);
    }

    #[inline(never)]
    fn measure_output(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let samples = self.measured(measured);
        let factor = &mut self.dense.layer.output_factor_mut();
        samples.measure_output(counted, factor, self.sharing, blend, self.dense.scratch);
    }

    #[inline(never)]
    fn measure_scalings(&mut self, counted: &mut Counted<'_, T>, measured: &Range<usize>, blend: Blend<T>) {
        let samples = self.measured(measured);
        samples.measure_scalings(counted, &mut self.dense.layer, blend, self.dense.scratch);
    }

    fn measure_mean_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize, blend: Blend<T>) {
        self.dense.measure_mean_gradient(counted, batch, blend);
    }

    fn set_kronecker(&mut self) {
        self.dense.set_kronecker();
    }

    #[inline(never)]
    fn form_gradient(&mut self, counted: &mut Counted<'_, T>, batch: usize) {
        let walk = self.convolution.walk(self.group);
        let samples = Samples { walk, images: self.images, gradients: self.gradients };
        let Room { layer, mean_gradient, scratch, .. } = &mut self.dense;
        let scale = T::ONE / T::from_usize(batch);
        samples.gradient_in_basis(counted, layer, samples.of(0..batch), scale, mean_gradient, scratch);
    }

    fn refresh(&mut self, counted: &Counted<'_, T>, effort: &Effort<T>) -> Effect {
        self.dense.refresh(counted, effort)
    }

    fn mean_scaling(&mut self) -> T {
        self.dense.mean_scaling()
    }

    fn traces(&mut self) -> (T, T) {
        self.dense.traces()
    }

    fn survey(&mut self, counted: &Counted<'_, T>, damping: LayerDamping<T>) -> Survey<T> {
        let mut survey = self.dense.survey(counted, damping);
        if self.sharing == Sharing::Expand {
            // A is a sum over locations, and a pre-activation belongs to one of them.
            survey.reach /= self.root_of_locations();
        }
        survey
    }

    fn advance(&mut self, counted: &mut Counted<'_, T>, damping: LayerDamping<T>, plan: &Plan<T>) {
        self.dense.advance(counted, damping, plan);
    }
}
