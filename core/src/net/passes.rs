//! The forward and the backward pass over a learner's memory, in either kind of [`coordinates`](crate::coordinates).
//!
//! Cost, operations a layer and example: in parameter coordinates 2 m inputs forward and as many for each backward pass; in
//! the eigenbasis 2 (n^2 + m n + m^2) forward, as many for a backward pass with a layer below, else 2 m^2. There the
//! projections a~ and g~ are left in the rooms.

use super::{
    loss::{Loss, Targets},
    memory::{Memory, Slice, Slot},
    random::Stream,
};
use crate::{Coordinates, Kernels, LayerMut, MatrixMut, MatrixRef, Scalar, kernels::Counted};
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

/// Gradients of one side, and what belongs to them, for a range of examples.
struct Parts<'s, T> {
    gradients: &'s mut [T],
    pre_activations: &'s [T],
    outputs: &'s [T],
}

impl<T: Scalar> Slot<'_, T> {
    fn parts(&mut self, side: Side, examples: &Range<usize>) -> Parts<'_, T> {
        let rows = self.dense.shape().rows();
        let gradients = match side {
            Side::Training => &mut *self.gradients,
            Side::Fisher => &mut *self.fisher_gradients,
        };
        let words = examples.start * rows..examples.end * rows;
        Parts {
            gradients: gradients.get_mut(..words.len()).unwrap_or_default(),
            pre_activations: self.pre_activations.get(words.clone()).unwrap_or_default(),
            outputs: self.outputs.get(words).unwrap_or_default(),
        }
    }

    /// Multiplies the gradients by the activation's derivative: from dL/dh to dL/dz.
    fn through_activation(&mut self, kernels: &dyn Kernels<T>, side: Side, examples: &Range<usize>) {
        let activation = self.dense.activation();
        let Parts { gradients, pre_activations, outputs, .. } = self.parts(side, examples);
        kernels.through_activation(activation, gradients, pre_activations, outputs);
    }

    /// z of this layer from the outputs of the layer below.
    fn pre_activate(&mut self, counted: &mut Counted<'_, T>, below: &[T], batch: usize) {
        let shape = *self.dense.shape();
        let (m, n) = (shape.rows(), shape.columns());
        let layer = LayerMut::over(shape, self.state);
        let weights = MatrixRef::over(self.weights, m, n);
        let below = MatrixRef::over(below, shape.inputs(), batch);
        let z = MatrixMut::over(self.pre_activations, m, batch);
        match layer.coordinates() {
            Coordinates::Eigenbasis => {
                layer.input_factor().project(counted, below, self.projected_activations);
                let projected = MatrixRef::over(self.projected_activations, n, batch);
                // The gradients' room is free until the backward pass.
                let turned = MatrixMut::over(self.projected_gradients, m, batch);
                counted.product(turned, weights, projected, T::ONE, T::ZERO);
                let turned = MatrixRef::over(self.projected_gradients, m, batch);
                counted.product(z, layer.output_factor().basis(), turned, T::ONE, T::ZERO);
            }
            Coordinates::Parameter => {
                counted.product(z, weights.left(shape.inputs()), below, T::ONE, T::ZERO);
                if let (true, Some(bias)) = (shape.bias(), weights.column(shape.inputs())) {
                    for column in self.pre_activations.chunks_exact_mut(m.max(1)) {
                        column.iter_mut().zip(bias).for_each(|(z, b)| *z += *b);
                    }
                }
            }
        }
    }

    /// Takes the gradients of this layer down: to g~ in the eigenbasis, and where there is a layer below, to its dL/dh.
    fn take_down(
        &mut self,
        counted: &mut Counted<'_, T>,
        side: Side,
        examples: &Range<usize>,
        below: Option<&mut [T]>,
        scratch: &mut [T],
    ) {
        let (shape, count) = (*self.dense.shape(), examples.len());
        let (m, n) = (shape.rows(), shape.columns());
        let layer = LayerMut::over(shape, self.state);
        let weights = MatrixRef::over(self.weights, m, n);
        let (gradients, projected) = match side {
            Side::Training => (&*self.gradients, &mut *self.projected_gradients),
            Side::Fisher => (&*self.fisher_gradients, &mut *self.projected_fisher),
        };
        let gradients = MatrixRef::over(gradients.get(..m * count).unwrap_or_default(), m, count);
        let projected = projected.get_mut(..m * count).unwrap_or_default();
        let below = below.map(|below| MatrixMut::over(below, shape.inputs(), count));
        match layer.coordinates() {
            Coordinates::Eigenbasis => {
                layer.output_factor().project(counted, gradients, projected);
                let (Some(below), Some(turned)) = (below, scratch.get_mut(..n * count)) else { return };
                let projected = MatrixRef::over(projected, m, count);
                counted.product_left_transposed(
                    MatrixMut::over(turned, n, count),
                    weights,
                    projected,
                    T::ONE,
                    T::ZERO,
                );
                let basis = layer.input_factor().basis().top(shape.inputs());
                counted.product(below, basis, MatrixRef::over(turned, n, count), T::ONE, T::ZERO);
            }
            Coordinates::Parameter => {
                let Some(below) = below else { return };
                let matrix = weights.left(shape.inputs());
                counted.product_left_transposed(below, matrix, gradients, T::ONE, T::ZERO);
            }
        }
    }
}

/// Fills z and h of every layer for `batch` examples; false if a pre-activation is not finite.
pub(crate) fn forward<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    inputs: &[T],
    batch: usize,
) -> bool {
    let (mut slots, _) = memory.slots(batch);
    let (mut below, mut finite): (&[T], bool) = (inputs, true);
    // By reference, here and below: a slot is large, and a move would take its size of the stack again.
    while let Some(slot) = &mut slots.next() {
        slot.pre_activate(counted, below, batch);
        finite &= counted.kernels().activate(slot.dense.activation(), slot.pre_activations, slot.outputs);
        let outputs: &mut [T] = core::mem::take(&mut slot.outputs);
        below = outputs;
    }
    finite
}

/// The summed loss of the examples whose outputs the last forward pass left.
pub(crate) fn loss<T: Scalar>(
    memory: &mut Memory<'_, T>,
    loss: Loss,
    targets: Targets<'_, T>,
    batch: usize,
) -> (T, Option<usize>) {
    let width = memory.layers().last().map_or(0, |last| last.shape().outputs());
    memory.outputs(batch).map_or((T::ZERO, None), |outputs| loss.sum(outputs, targets, width))
}

/// Fills the gradients of one side in every layer, from the output to the input, for a range of the batch's examples.
pub(crate) fn backward<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    loss: Loss,
    source: Source<'_, T>,
    side: Side,
    examples: &Range<usize>,
    batch: usize,
) {
    at_outputs(memory, loss, source, side, examples, batch);
    for index in (0..memory.layers().len()).rev() {
        through_activation(memory, counted.kernels(), index, side, examples, batch);
        take_down(memory, counted, index, side, examples, batch);
    }
}

/// dL/dh at the output of the net.
#[inline(never)]
fn at_outputs<T: Scalar>(
    memory: &mut Memory<'_, T>,
    loss: Loss,
    mut source: Source<'_, T>,
    side: Side,
    examples: &Range<usize>,
    batch: usize,
) {
    let Some(last) = &mut memory.slots(batch).0.last() else { return };
    let width = last.dense.shape().outputs();
    let Parts { gradients, outputs, .. } = last.parts(side, examples);
    loss.gradients(&mut source, outputs, examples, width, gradients);
}

/// From dL/dh of a layer to its dL/dz.
#[inline(never)]
fn through_activation<T: Scalar>(
    memory: &mut Memory<'_, T>,
    kernels: &dyn Kernels<T>,
    index: usize,
    side: Side,
    examples: &Range<usize>,
    batch: usize,
) {
    if let Some(slot) = &mut memory.slots(batch).0.nth(index) {
        slot.through_activation(kernels, side, examples);
    }
}

/// From dL/dz of a layer to g~, and to dL/dh of the layer below.
#[inline(never)]
fn take_down<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    index: usize,
    side: Side,
    examples: &Range<usize>,
    batch: usize,
) {
    let (mut slots, scratch) = memory.slots(batch);
    let below = if index > 0 {
        let slice = if side == Side::Training { Slice::Gradients } else { Slice::FisherGradients };
        slots.pick(index - 1, slice)
    } else {
        None
    };
    if let Some(slot) = &mut slots.next() {
        let inputs = slot.dense.shape().inputs();
        let below = below.and_then(|below| below.get_mut(..examples.len() * inputs));
        slot.take_down(counted, side, examples, below, scratch);
    }
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
    for slot in memory.slots(batch).0 {
        let shape = *slot.dense.shape();
        let Some((out, tail)) = core::mem::take(&mut rest).split_at_mut_checked(shape.parameters()) else {
            return;
        };
        rest = tail;
        let Some((matrix, bias)) = out.split_at_mut_checked(shape.rows() * shape.inputs()) else { return };
        let gradients = MatrixRef::over(slot.gradients, shape.rows(), batch);
        let activations = MatrixRef::over(below, shape.inputs(), batch);
        let into = MatrixMut::over(matrix, shape.rows(), shape.inputs());
        counted.product_right_transposed(into, gradients, activations, share, T::ZERO);
        bias.fill(T::ZERO);
        for column in gradients.iter_columns() {
            bias.iter_mut().zip(column).for_each(|(sum, g)| *sum += share * *g);
        }
        below = slot.outputs;
    }
}
