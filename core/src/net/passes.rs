//! The forward and the backward pass over a learner's memory, in either kind of [`coordinates`](crate::coordinates).
//!
//! Cost, operations a layer and example: in parameter coordinates 2 m inputs forward and as many for each backward pass; in
//! the eigenbasis 2 (n^2 + m n + m^2) forward, as many for a backward pass with a layer below, else 2 m^2, and no m^2 where B is diagonal. There the
//! projections a~ and g~ are left in the rooms.

use super::{
    loss::{Loss, Targets},
    memory::{Memory, Slice, Slot},
    random::Stream,
};
use crate::{
    Kernels, LayerMut, MatrixMut, MatrixRef, Scalar,
    kernels::{Chosen, Counted},
    single::BATCHES,
};
use core::ops::Range;

/// Which gradients a backward pass fills.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those of the training targets.
    Training,
    /// Those of the Fisher's targets: one column for each example of the range.
    Fisher,
}

/// Where the gradients at the output come from.
pub enum Source<'t, T> {
    /// The training targets.
    Targets(Targets<'t, T>),
    /// Targets drawn from the model's own output.
    Sampled(Stream),
    /// One of the passes whose squares add up to the Fisher.
    Exact(usize),
}

impl Side {
    /// g, and g~.
    fn slices(self) -> [Slice; 2] {
        match self {
            Side::Training => [Slice::Gradients, Slice::ProjectedGradients],
            Side::Fisher => [Slice::FisherGradients, Slice::ProjectedFisher],
        }
    }
}

impl<T: Scalar> Slot<'_, T> {
    /// z of this layer from the outputs of the layer below.
    #[inline(never)]
    fn pre_activate(&mut self, counted: &mut Counted<'_, T>, below: &[T], batch: usize) {
        let shape = *self.dense.shape();
        let (weights, state, workspace) = self.split();
        let weights = MatrixRef::over(weights, shape.rows(), shape.columns_held());
        let layer = LayerMut::over(shape, state);
        if layer.turns_weights() {
            // The gradients' room is free until the backward pass.
            let [z, turned, projected] = workspace.slices([
                Slice::PreActivations,
                Slice::ProjectedGradients,
                Slice::ProjectedActivations,
            ]);
            layer.input_factor().project(counted, below, shape.inputs(), batch, projected);
            if layer.output_is_diagonal() {
                return counted.multiply(z, weights, projected, batch, false);
            }
            counted.multiply(turned, weights, projected, batch, false);
            counted.multiply(z, layer.output_basis(), turned, batch, false);
        } else {
            let [z] = workspace.slices([Slice::PreActivations]);
            counted.multiply(z, weights.left(shape.inputs()), below, batch, false);
            if let (true, Some(bias)) = (shape.bias(), weights.column(shape.inputs())) {
                for column in z.chunks_exact_mut(shape.rows().max(1)) {
                    column.iter_mut().zip(bias).for_each(|(z, b)| *z += *b);
                }
            }
        }
    }

    /// h from z; whether all of z is finite.
    #[inline(never)]
    fn activate(&mut self, kernels: Chosen<'_, T>) -> bool {
        let activation = self.dense.activation();
        let [outputs, pre_activations] = self.workspace.slices([Slice::Outputs, Slice::PreActivations]);
        Kernels::activate(kernels.get(), activation, pre_activations, outputs)
    }

    /// Multiplies the gradients by the activation's derivative: from dL/dh to dL/dz.
    #[inline(never)]
    fn through_activation(&mut self, kernels: Chosen<'_, T>, side: Side, examples: &Range<usize>) {
        let (activation, rows) = (self.dense.activation(), self.dense.shape().rows());
        let [gradients, _] = side.slices();
        let words = if BATCHES { examples.start * rows..examples.end * rows } else { 0..rows };
        let [outputs, pre_activations, gradients] =
            self.workspace.slices([Slice::Outputs, Slice::PreActivations, gradients]);
        Kernels::through_activation(
            kernels.get(),
            activation,
            gradients.get_mut(..words.len()).unwrap_or_default(),
            pre_activations.get(words.clone()).unwrap_or_default(),
            outputs.get(words).unwrap_or_default(),
        );
    }

    /// Takes the gradients of this layer down: to g~ in the eigenbasis, and where there is a layer below, to its dL/dh.
    #[inline(always)]
    fn take_down(
        &mut self,
        counted: &mut Counted<'_, T>,
        side: Side,
        count: usize,
        below: Option<&mut [T]>,
        scratch: &mut [T],
    ) {
        let shape = *self.dense.shape();
        let (m, n) = (shape.rows(), shape.columns_held());
        let (weights, state, workspace) = self.split();
        let weights = MatrixRef::over(weights, m, n);
        let layer = LayerMut::over(shape, state);
        let [gradients, projected] = workspace.slices(side.slices());
        let below = below.and_then(|below| below.get_mut(..shape.inputs() * count));
        if layer.turns_weights() {
            let projected = projected.get_mut(..m * count).unwrap_or_default();
            layer.turn_outputs(counted, projected, gradients, true);
            let (Some(below), Some(turned)) = (below, scratch.get_mut(..n * count)) else { return };
            counted.multiply(turned, weights, projected, count, true);
            counted.multiply(below, layer.input_basis().top(shape.inputs()), turned, count, false);
        } else if let Some(below) = below {
            counted.multiply(below, weights.left(shape.inputs()), gradients, count, true);
        }
    }
}

/// Fills z and h of every layer for `batch` examples; false if a pre-activation is not finite.
#[inline(never)]
pub(crate) fn forward<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    inputs: &[T],
    batch: usize,
) -> bool {
    let (mut below, mut finite): (&[T], bool) = (inputs, true);
    for mut slot in memory.slots(batch).0 {
        slot.pre_activate(counted, below, batch);
        finite &= slot.activate(counted.kernels());
        below = slot.into_slice(Slice::Outputs);
    }
    finite
}

/// The summed loss of the examples whose outputs the last forward pass left.
pub(crate) fn loss<T: Scalar>(
    memory: &mut Memory<'_, T>,
    loss: &Loss,
    targets: &Targets<'_, T>,
    batch: usize,
) -> T {
    let sum = |outputs: &mut [T]| loss.sum(outputs, *targets, outputs.len() / batch.max(1));
    memory.outputs(batch).map_or(T::ZERO, sum)
}

/// How many of these are classified correctly, where there are classes.
pub(crate) fn correct<T: Scalar>(
    memory: &mut Memory<'_, T>,
    loss: &Loss,
    targets: &Targets<'_, T>,
    batch: usize,
) -> Option<usize> {
    let outputs = memory.outputs(batch)?;
    loss.correct(outputs, *targets, outputs.len() / batch.max(1))
}

/// Fills the gradients of one side in every layer, from the output to the input, for a range of the batch's examples.
#[inline(never)]
pub(crate) fn backward<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    loss: &Loss,
    source: &mut Source<'_, T>,
    side: Side,
    examples: &Range<usize>,
    batch: usize,
) {
    at_outputs(memory, loss, source, side, examples, batch);
    down(memory, counted, side, examples, batch);
}

/// From dL/dh at the output to the gradients of every layer. A function of its own, as [`at_outputs`] is, so that neither has the
/// other's stack under it.
#[inline(never)]
fn down<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    side: Side,
    examples: &Range<usize>,
    batch: usize,
) {
    let [gradients, _] = side.slices();
    for index in (0..memory.layers().len()).rev() {
        let Some((mut slot, below, scratch)) = memory.slot_and_below(index, batch, gradients) else { return };
        slot.through_activation(counted.kernels(), side, examples);
        slot.take_down(counted, side, examples.len(), below, scratch);
    }
}

/// dL/dh at the output of the net.
#[inline(never)]
fn at_outputs<T: Scalar>(
    memory: &mut Memory<'_, T>,
    loss: &Loss,
    source: &mut Source<'_, T>,
    side: Side,
    examples: &Range<usize>,
    batch: usize,
) {
    let Some(mut last) = memory.slots(batch).0.last() else { return };
    let width = last.dense.shape().outputs();
    let [gradients, _] = side.slices();
    let [outputs, gradients] = last.workspace.slices([Slice::Outputs, gradients]);
    if !BATCHES {
        return loss.gradients(source, outputs, examples, width, gradients);
    }
    let words = examples.start * width..examples.end * width;
    let gradients = gradients.get_mut(..words.len()).unwrap_or_default();
    loss.gradients(source, outputs.get(words).unwrap_or_default(), examples, width, gradients);
}

/// The mean gradient in parameter coordinates, (1/N) sum g [a; 1]^T, layer after layer.
pub(crate) fn mean_gradients<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    inputs: &[T],
    batch: usize,
    out: &mut [T],
) {
    let (mut below, mut rest): (&[T], &mut [T]) = (inputs, out);
    let share = T::ONE / T::from_usize(batch);
    for mut slot in memory.slots(batch).0 {
        let shape = *slot.dense.shape();
        let Some((out, tail)) = core::mem::take(&mut rest).split_at_mut_checked(shape.parameters_held())
        else {
            return;
        };
        rest = tail;
        let Some((matrix, bias)) = out.split_at_mut_checked(shape.rows() * shape.inputs()) else { return };
        let [g] = slot.workspace.slices([Slice::Gradients]);
        let gradients = MatrixRef::over(g, shape.rows(), batch);
        let activations = MatrixRef::over(below, shape.inputs(), batch);
        let into = MatrixMut::over(matrix, shape.rows(), shape.inputs());
        counted.product_right_transposed(into, gradients, activations, share, T::ZERO);
        bias.fill(T::ZERO);
        for column in gradients.iter_columns() {
            bias.iter_mut().zip(column).for_each(|(sum, g)| *sum += share * *g);
        }
        below = slot.into_slice(Slice::Outputs);
    }
}
