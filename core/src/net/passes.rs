//! The forward and the backward pass over a learner's memory.
//!
//! Cost: 2 N m inputs operations a layer forward, as much again for each backward pass.

use super::{
    loss::{Loss, Targets},
    memory::{Memory, Slot},
    random::Stream,
};
use crate::{MatrixMut, MatrixRef, Scalar, kernels::Counted};

/// Which gradients a backward pass fills.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those of the training targets.
    Training,
    /// Those of the Fisher's targets.
    Fisher,
}

/// Where the gradients at the output come from.
pub(crate) enum Source<'t, T> {
    Targets(Targets<'t, T>),
    Sampled(Stream),
    Exact(usize),
}

impl<T: Scalar> Slot<'_, T> {
    /// Gradients of a side beside the outputs and pre-activations they belong to.
    fn parts(&mut self, side: Side) -> (&mut [T], &[T], &[T]) {
        let gradients = match side {
            Side::Training => &mut *self.gradients,
            Side::Fisher => &mut *self.fisher_gradients,
        };
        (gradients, self.pre_activations, self.outputs)
    }

    /// Multiplies the gradients by the activation's derivative: from dL/dh to dL/dz.
    fn through_activation(&mut self, side: Side) {
        let activation = self.dense.activation();
        let (gradients, pre_activations, outputs) = self.parts(side);
        for ((g, z), h) in gradients.iter_mut().zip(pre_activations).zip(outputs) {
            *g *= activation.derivative(*z, *h);
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
    let (slots, _) = memory.slots(batch);
    let (mut below, mut finite): (&[T], bool) = (inputs, true);
    for slot in slots {
        let shape = *slot.dense.shape();
        let out = MatrixMut::over(slot.pre_activations, shape.rows(), batch);
        let weights = MatrixRef::over(slot.weights, shape.rows(), shape.columns());
        let matrix = weights.left(shape.inputs());
        counted.product(out, matrix, MatrixRef::over(below, shape.inputs(), batch), T::ONE, T::ZERO);
        if let (true, Some(bias)) = (shape.bias(), weights.column(shape.inputs())) {
            for column in slot.pre_activations.chunks_exact_mut(shape.rows()) {
                column.iter_mut().zip(bias).for_each(|(z, b)| *z += *b);
            }
        }
        for (h, z) in slot.outputs.iter_mut().zip(&*slot.pre_activations) {
            finite &= z.is_finite();
            *h = slot.dense.activation().value(*z);
        }
        below = slot.outputs;
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
    let Some(last) = memory.slots(batch).0.last() else { return (T::ZERO, None) };
    let width = last.dense.shape().outputs();
    let (mut sum, mut correct) = (T::ZERO, None);
    for (index, outputs) in last.outputs.chunks_exact(width).enumerate() {
        let target = targets.example(index, width);
        sum += loss.value(outputs, target);
        if let Some(right) = loss.is_correct(outputs, target) {
            correct = Some(correct.unwrap_or(0) + usize::from(right));
        }
    }
    (sum, correct)
}

/// Fills the gradients of one side in every layer, from the output to the input.
pub(crate) fn backward<T: Scalar>(
    memory: &mut Memory<'_, T>,
    counted: &mut Counted<'_, T>,
    loss: Loss,
    mut source: Source<'_, T>,
    side: Side,
    batch: usize,
) {
    let Some(mut last) = memory.slots(batch).0.last() else { return };
    let width = last.dense.shape().outputs();
    let (gradients, _, outputs) = last.parts(side);
    for (index, (out, h)) in gradients.chunks_exact_mut(width).zip(outputs.chunks_exact(width)).enumerate() {
        match &mut source {
            Source::Targets(targets) => loss.gradient(h, targets.example(index, width), out),
            Source::Sampled(stream) => loss.sampled_gradient(h, stream, out),
            Source::Exact(pass) => loss.exact_gradient(h, *pass, out),
        }
    }
    last.through_activation(side);
    for above in (1..memory.layers().len()).rev() {
        let mut slots = memory.slots(batch).0.skip(above - 1);
        let (Some(mut below), Some(slot)) = (slots.next(), slots.next()) else { return };
        let shape = *slot.dense.shape();
        let gradients = match side {
            Side::Training => &*slot.gradients,
            Side::Fisher => &*slot.fisher_gradients,
        };
        let gradients = MatrixRef::over(gradients, shape.rows(), batch);
        let matrix = MatrixRef::over(slot.weights, shape.rows(), shape.columns()).left(shape.inputs());
        let out = MatrixMut::over(below.parts(side).0, shape.inputs(), batch);
        counted.product_left_transposed(out, matrix, gradients, T::ONE, T::ZERO);
        below.through_activation(side);
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
