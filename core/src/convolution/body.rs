//! The passes of a network of convolutions over its learner's memory, and its layers as the corridor sees them: the body of
//! [`remote::step`](crate::net::remote::step), which draws, counts and decides.
//!
//! *Invariant*: a layer's groups stand one after another among the corridor's layers. *Cost*: 2 T m n operations a group, example and
//! pass; what only one layer's part of a pass holds on the stack is gone for the next. *Failure*: none of its own.

use super::{
    ConvolutionLayer, ConvolutionNet, Sharing,
    net::{Kind, Memory, Slot, of_examples},
    preconditioner::state_of,
    room::SharedRoom,
    samples::Samples,
    walk::Columns,
};
use crate::{
    Error, Fisher, Loss, MatrixMut, MatrixRef, Scalar, Targets,
    carve::cut,
    kernels::Counted,
    net::remote::{Body, Source, Stream},
    step::Rooms,
};
use core::{mem::take, ops::Range};

/// A learner's memory at work on one batch.
pub(super) struct Network<'r, 'a, T> {
    pub(super) memory: &'r mut Memory<'a, T>,
    pub(super) net: &'r ConvolutionNet<'a>,
    pub(super) counted: Counted<'r, T>,
    pub(super) fisher: Fisher,
    pub(super) sharing: Sharing,
    /// One example a column.
    pub(super) inputs: &'r [T],
    pub(super) batch: usize,
    pub(super) measured: Range<usize>,
    /// Whether every pre-activation of the last pass forward was finite.
    pub(super) finite: bool,
}

impl<T: Scalar> Slot<'_, T> {
    fn words(&self) -> usize {
        self.layer.convolution().output_words()
    }

    /// The gradients of one side, so many columns.
    fn side(&mut self, fisher: bool, columns: usize) -> &mut [T] {
        let words = self.words() * columns;
        let gradients = if fisher { &mut *self.fisher_gradients } else { &mut *self.gradients };
        gradients.get_mut(..words).unwrap_or_default()
    }
}

impl<T: Scalar> Network<'_, '_, T> {
    /// The outputs of the last pass.
    pub(super) fn outputs(&mut self, batch: usize) -> &[T] {
        self.memory.slots(batch).0.last().map_or(&[], |last| last.outputs)
    }

    /// The mean gradients of all layers, one after another, from what the passes left.
    pub(super) fn mean_gradients(&mut self, out: &mut [T]) {
        let (batch, mut rest, mut below) = (self.batch, out, self.inputs);
        let (slots, scratch) = self.memory.slots(batch);
        for slot in slots {
            let convolution = slot.layer.convolution();
            let Some(out) = cut(&mut rest, slot.layer.parameters()) else { return };
            let images = MatrixRef::over(below, convolution.input_words(), batch);
            let gradients = MatrixRef::over(slot.gradients, convolution.output_words(), batch);
            convolution.mean_gradient_counted(&mut self.counted, images, gradients, out, scratch);
            below = slot.outputs;
        }
    }

    /// Fills the gradients of one side in all layers, from the output down.
    #[inline(never)]
    fn take_down(&mut self, source: Source<'_, T>, fisher: bool, examples: &Range<usize>) {
        self.at_outputs(source, fisher, examples);
        for index in (0..self.net.layers().len()).rev() {
            self.through_activation(index, fisher, examples);
            if index > 0 {
                self.hand_back(index, fisher, examples);
                self.add_branches(index - 1, fisher, examples.len());
            }
        }
    }

    /// dL/dh of the last layer.
    #[inline(never)]
    fn at_outputs(&mut self, mut source: Source<'_, T>, fisher: bool, examples: &Range<usize>) {
        let Some(mut last) = self.memory.slots(self.batch).0.last() else { return };
        let words = last.words();
        let outputs = take(&mut last.outputs);
        let outputs = outputs.get(of_examples(words, examples)).unwrap_or_default();
        let gradients = last.side(fisher, examples.len());
        self.net.loss().gradients(&mut source, outputs, examples, words, gradients);
    }

    /// From dL/dh of a layer to its dL/dz.
    #[inline(never)]
    fn through_activation(&mut self, index: usize, fisher: bool, examples: &Range<usize>) {
        let Some(mut slot) = self.memory.slots(self.batch).0.nth(index) else { return };
        let range = of_examples(slot.words(), examples);
        let (z, h) = (take(&mut slot.pre_activations), take(&mut slot.outputs));
        let (z, h) = (z.get(range.clone()).unwrap_or_default(), h.get(range).unwrap_or_default());
        let (activation, gradients) = (slot.layer.activation(), slot.side(fisher, examples.len()));
        self.counted.kernels().get().through_activation(activation, gradients, z, h);
    }

    /// From dL/dz of a layer to dL/dh of the one below. Inlined, since a step's deepest calls go through it.
    #[inline(always)]
    fn hand_back(&mut self, index: usize, fisher: bool, examples: &Range<usize>) {
        let Some(way) = self.memory.downward(index, self.batch, fisher, examples) else { return };
        let (convolution, count) = (way.layer.convolution(), examples.len());
        let out = MatrixMut::over(way.handed, convolution.input_words(), count);
        let gradients = MatrixRef::over(way.gradients, convolution.output_words(), count);
        match way.layer.kind() {
            Kind::Weights => {
                convolution.backward_counted(&mut self.counted, way.weights, gradients, out, way.scratch);
            }
            Kind::Pooling(pooling) => {
                let images = MatrixRef::over(way.images, convolution.input_words(), count);
                pooling.backward(convolution, images, gradients, out);
            }
            Kind::Addition(_) => copy(way.gradients, way.handed),
        }
    }

    /// Adds to dL/dh of a layer what the additions from it hand back: all layers above are done, and have it still.
    #[inline(never)]
    fn add_branches(&mut self, index: usize, fisher: bool, count: usize) {
        let mut slots = self.memory.slots(self.batch).0;
        let Some(mut slot) = slots.nth(index) else { return };
        for mut above in slots.filter(|above| above.layer.addition() == Some(index)) {
            add(&mut self.counted, above.side(fisher, count), slot.side(fisher, count));
        }
    }

    /// z and h of one layer; whether all of z is finite.
    #[inline(never)]
    fn activate(&mut self, index: usize, batch: usize) -> bool {
        let Some(way) = self.memory.upward(index, batch, self.inputs) else { return true };
        let convolution = way.layer.convolution();
        let images = MatrixRef::over(way.below, convolution.input_words(), batch);
        match way.layer.kind() {
            Kind::Weights => {
                let z = MatrixMut::over(way.pre_activations, convolution.output_words(), batch);
                convolution.forward_counted(&mut self.counted, way.weights, images, z, way.scratch);
            }
            Kind::Pooling(pooling) => {
                let z = MatrixMut::over(way.pre_activations, convolution.output_words(), batch);
                pooling.forward(convolution, images, z);
            }
            Kind::Addition(_) => {
                copy(way.below, way.pre_activations);
                add(&mut self.counted, way.added, way.pre_activations);
            }
        }
        self.counted.kernels().get().activate(way.layer.activation(), way.pre_activations, way.outputs)
    }
}

impl<T: Scalar> Body<T> for Network<'_, '_, T> {
    fn forward(&mut self, batch: usize) {
        self.finite = true;
        for index in 0..self.net.layers().len() {
            self.finite &= self.activate(index, batch);
        }
    }

    fn loss(&mut self, targets: Targets<'_, T>, batch: usize) -> T {
        let (loss, width) = (self.net.loss(), self.net.outputs());
        let sum = loss.sum(self.outputs(batch), targets, width);
        // No number at all, whatever the loss has made of what is not finite.
        if self.finite { sum } else { T::from_f64(f64::NAN) }
    }

    fn backward(&mut self, targets: Targets<'_, T>, batch: usize) {
        self.take_down(Source::Targets(targets), false, &(0..batch));
    }

    fn measure(&mut self, measured: &Range<usize>, stream: Option<Stream>) {
        self.measured = measured.clone();
        if let Some(stream) = stream {
            self.take_down(Source::Sampled(stream), true, measured);
        }
    }

    fn operations(&mut self) -> u64 {
        let done = self.counted.operations();
        self.counted = Counted::by(self.counted.kernels());
        done
    }
}

impl<T: Scalar> Rooms<T> for Network<'_, '_, T> {
    type Room<'r>
        = SharedRoom<'r, T>
    where
        Self: 'r;

    fn layers(&self) -> usize {
        self.net.layers().iter().map(ConvolutionLayer::groups).sum()
    }

    fn room(&mut self, index: usize) -> Result<SharedRoom<'_, T>, Error> {
        let missing = Error::OutOfRange { argument: "layer", index };
        let (batch, columns, fisher) = (self.batch, self.measured.len(), self.fisher);
        let (mut group, mut images, sharing) = (index, self.inputs, self.sharing);
        let (mut slots, scratch) = self.memory.slots(batch);
        let mut slot = loop {
            let slot = slots.next().ok_or(missing)?;
            let groups = slot.layer.groups();
            if group < groups {
                break slot;
            }
            group -= groups;
            images = slot.outputs;
        };
        let convolution = slot.layer.convolution();
        let (parameters, words) = (convolution.shape().parameters(), convolution.output_words());
        let part = |values| of_group(values, group, parameters);
        let (weights, mean_gradient) = (take(&mut slot.weights), take(&mut slot.mean_gradient));
        let fisher_gradients = take(&mut slot.fisher_gradients).get(..words * columns).unwrap_or_default();
        Ok(SharedRoom {
            state: state_of(convolution, slot.state, group)?,
            weights: part(weights).ok_or(missing)?,
            mean_gradient: part(mean_gradient).ok_or(missing)?,
            scratch,
            samples: Samples {
                walk: convolution.walk(group),
                images: Columns::of(MatrixRef::over(images, convolution.input_words(), batch)),
                gradients: Columns::of(MatrixRef::over(slot.gradients, words, batch)),
                examples: batch,
            },
            fisher_gradients: (fisher != Fisher::Empirical)
                .then(|| Columns::of(MatrixRef::over(fisher_gradients, words, columns))),
            sharing,
        })
    }

    fn passes(&self) -> usize {
        Loss::passes(self.fisher, self.net.outputs())
    }

    fn load(&mut self, pass: usize) -> Result<(), Error> {
        if self.fisher == Fisher::Exact {
            let measured = self.measured.clone();
            self.take_down(Source::Exact(pass), true, &measured);
        }
        Ok(())
    }
}

fn copy<T: Scalar>(from: &[T], into: &mut [T]) {
    into.iter_mut().zip(from).for_each(|(into, value)| *into = *value);
}

fn add<T: Scalar>(counted: &mut Counted<'_, T>, from: &[T], into: &mut [T]) {
    into.iter_mut().zip(from).for_each(|(into, value)| *into += *value);
    counted.add(into.len());
}

/// The words of one group.
fn of_group<T>(values: &mut [T], group: usize, each: usize) -> Option<&mut [T]> {
    values.get_mut(group * each..(group + 1) * each)
}
