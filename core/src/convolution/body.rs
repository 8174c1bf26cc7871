//! The passes of a network of convolutions over its learner's memory, and its layers as the corridor sees them: the body of
//! [`remote::step`](crate::net::remote::step), which draws, counts and decides.
//!
//! *Invariant*: a layer's groups stand one after another among the corridor's layers. *Cost*: 2 T m n operations a group, example and
//! pass. *Failure*: none of its own.

use super::{
    ConvolutionLayer, ConvolutionNet, Sharing,
    net::{Kind, Memory, Slot},
    preconditioner::state_of,
    room::SharedRoom,
};
use crate::{
    Error, Fisher, Kernels, Loss, MatrixMut, MatrixRef, Scalar, Targets,
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
    pub(super) kernels: &'r dyn Kernels<T>,
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
    fn take_down(&mut self, mut source: Source<'_, T>, fisher: bool, examples: Range<usize>) {
        let (batch, count) = (self.batch, examples.len());
        if let Some(mut last) = self.memory.slots(batch).0.last() {
            let words = last.words();
            let outputs = take(&mut last.outputs);
            let outputs = outputs.get(examples.start * words..examples.end * words).unwrap_or_default();
            let gradients = last.side(fisher, count);
            self.net.loss().gradients(&mut source, outputs, &examples, words, gradients);
        }
        for index in (0..self.net.layers().len()).rev() {
            let (mut slots, scratch) = self.memory.slots(batch);
            let mut below = if index > 0 { slots.nth(index - 1) } else { None };
            let Some(mut slot) = slots.next() else { return };
            let (words, convolution) = (slot.words(), slot.layer.convolution());
            let range = examples.start * words..examples.end * words;
            let (z, h, weights) =
                (take(&mut slot.pre_activations), take(&mut slot.outputs), take(&mut slot.weights));
            let (activation, kind) = (slot.layer.activation(), slot.layer.kind());
            let (z, h) = (z.get(range.clone()).unwrap_or_default(), h.get(range).unwrap_or_default());
            let gradients = slot.side(fisher, count);
            self.kernels.through_activation(activation, gradients, z, h);
            if let Some(below) = &mut below {
                let width = convolution.input_words();
                let images = take(&mut below.outputs);
                let images = images.get(examples.start * width..examples.end * width).unwrap_or_default();
                let images = MatrixRef::over(images, width, count);
                let handed = below.side(fisher, count);
                let out = MatrixMut::over(handed, width, count);
                let gradients = MatrixRef::over(gradients, words, count);
                match kind {
                    Kind::Weights => {
                        convolution.backward_counted(&mut self.counted, weights, gradients, out, scratch);
                    }
                    Kind::Pooling(pooling) => pooling.backward(convolution, images, gradients, out),
                    Kind::Addition(_) => copy(gradients.as_slice(), handed),
                }
                // All layers above are done, and those that added the outputs below still have what they hand back.
                for mut above in slots.filter(|above| above.layer.addition() == Some(index - 1)) {
                    add(&mut self.counted, above.side(fisher, count), handed);
                }
            }
        }
    }
}

impl<T: Scalar> Body<T> for Network<'_, '_, T> {
    fn forward(&mut self, batch: usize) {
        self.finite = true;
        for (index, layer) in self.net.layers().iter().enumerate() {
            let (mut slots, scratch) = self.memory.slots(batch);
            let (mut below, mut added): (&[T], &[T]) = (self.inputs, &[]);
            for (place, slot) in slots.by_ref().take(index).enumerate() {
                below = slot.outputs;
                added = if layer.addition() == Some(place) { below } else { added };
            }
            let Some(slot) = slots.next() else { return };
            let convolution = layer.convolution();
            let images = MatrixRef::over(below, convolution.input_words(), batch);
            let z = MatrixMut::over(slot.pre_activations, convolution.output_words(), batch);
            match layer.kind() {
                Kind::Weights => {
                    convolution.forward_counted(&mut self.counted, slot.weights, images, z, scratch);
                }
                Kind::Pooling(pooling) => pooling.forward(convolution, images, z),
                Kind::Addition(_) => {
                    copy(below, slot.pre_activations);
                    add(&mut self.counted, added, slot.pre_activations);
                }
            }
            self.finite &= self.kernels.activate(layer.activation(), slot.pre_activations, slot.outputs);
        }
    }

    fn loss(&mut self, targets: Targets<'_, T>, batch: usize) -> T {
        let (loss, width) = (self.net.loss(), self.net.outputs());
        let sum = loss.sum(self.outputs(batch), targets, width);
        // No number at all, whatever the loss has made of what is not finite.
        if self.finite { sum } else { T::from_f64(f64::NAN) }
    }

    fn backward(&mut self, targets: Targets<'_, T>, batch: usize) {
        self.take_down(Source::Targets(targets), false, 0..batch);
    }

    fn measure(&mut self, measured: &Range<usize>, stream: Option<Stream>) {
        self.measured = measured.clone();
        if let Some(stream) = stream {
            self.take_down(Source::Sampled(stream), true, measured.clone());
        }
    }

    fn operations(&mut self) -> u64 {
        let done = self.counted.operations();
        self.counted = Counted::new(self.kernels);
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
            convolution,
            group,
            sharing,
            images: MatrixRef::over(images, convolution.input_words(), batch),
            gradients: MatrixRef::over(slot.gradients, words, batch),
            fisher_gradients: (fisher != Fisher::Empirical).then_some(MatrixRef::over(
                fisher_gradients,
                words,
                columns,
            )),
        })
    }

    fn passes(&self) -> usize {
        Loss::passes(self.fisher, self.net.outputs())
    }

    fn load(&mut self, pass: usize) -> Result<(), Error> {
        if self.fisher == Fisher::Exact {
            self.take_down(Source::Exact(pass), true, self.measured.clone());
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
