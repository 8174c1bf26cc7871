//! Networks of convolutions, and the memory of one that learns.
//!
//! ```text
//! z_l = layer l of h_(l-1) at every location,   h_l = activation(z_l),   loss(h_L, target)
//! addition   z_l = h_(l-1) + h_from              dL/dh_l = J_(l+1)^T dL/dz_(l+1) + sum of dL/dz_k over the additions k from l
//! state      for each layer: W of all groups | their states ([`Convolution::state_words`])
//! workspace  for each layer: h, z, g, g_Fisher (m T N each, all groups) | K of all groups
//!            then scratch shared by all: the largest 2 m n + 2 (m + n) columns
//! ```
//!
//! A dense layer on a flattened map is [`ConvolutionLayer::dense`]: one location, whose image is the map as it lies. *Invariant*: a
//! net is plain data, and its words are known at compile time; an addition needs no map of its own but those of any layer, since
//! dL/dz_k, which is what it hands back, stays where it is. *Cost*: as above. *Failure*: [`ConvolutionNet::check`].

use super::{Axis, Block, Convolution, Pooling, room::scratch_words};
use crate::{
    Activation, Error, LayerMut, Loss, Scalar,
    carve::{Carver, cut},
    error::expect_length,
};
use core::{borrow::Borrow, ops::Range};

/// A convolution, a pooling or a residual addition, and its activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConvolutionLayer {
    convolution: Convolution,
    kind: Kind,
    activation: Activation,
}

/// What a layer does with the geometry that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum Kind {
    /// The convolution itself.
    Weights,
    /// Its windows are pooled.
    Pooling(Pooling),
    /// The outputs of this layer are added to the values below.
    Addition(usize),
}

impl ConvolutionLayer {
    /// A convolution with this activation.
    pub const fn new(convolution: Convolution, activation: Activation) -> Self {
        Self { convolution, kind: Kind::Weights, activation }
    }

    /// A dense layer with a bias.
    pub const fn dense(inputs: usize, outputs: usize, activation: Activation) -> Self {
        Self::new(Convolution::sequence(inputs, 1, outputs), activation)
    }

    /// Pooling under the windows of a depthwise geometry ([`Convolution::depthwise`]), whose bias and stride are as for a
    /// convolution: no bias is added, and a stride of the kernel's size makes windows that do not overlap.
    ///
    /// ```
    /// use ekfac::convolution::{Axis, Convolution, ConvolutionLayer, Pooling};
    /// const HALVED: Axis = Axis::new(8, 2).stride(2);
    /// const LAYER: ConvolutionLayer = ConvolutionLayer::pool(Pooling::Max, Convolution::depthwise(6, [HALVED; 2]));
    /// assert_eq!((LAYER.convolution().output_words(), LAYER.parameters()), (6 * 4 * 4, 0));
    /// ```
    pub const fn pool(pooling: Pooling, windows: Convolution) -> Self {
        Self { convolution: windows, kind: Kind::Pooling(pooling), activation: Activation::Identity }
    }

    /// A residual addition: h = activation(h below + h of layer `from`), both of so many words and in one layout. `from` counts the
    /// layers of the net from 0, and lies below the layer below; the net's own input is none of them, so that what is added has
    /// passed a layer. No weights.
    ///
    /// ```
    /// use ekfac::{Activation::{Identity, Relu}, Loss};
    /// use ekfac::convolution::{Axis, Convolution, ConvolutionLayer, ConvolutionNet};
    /// // Twelve samples of one sensor; a stem, and a block of two convolutions around which its output is led.
    /// const STEM: Convolution = Convolution::new_1d(1, Axis::new(12, 3).padding(1), 4);
    /// const BLOCK: Convolution = Convolution::new_1d(4, Axis::new(12, 3).padding(1), 4);
    /// const LAYERS: [ConvolutionLayer; 5] = [
    ///     ConvolutionLayer::new(STEM, Relu),
    ///     ConvolutionLayer::new(BLOCK, Relu),
    ///     ConvolutionLayer::new(BLOCK, Identity),
    ///     ConvolutionLayer::add(0, BLOCK.output_words(), Relu),
    ///     ConvolutionLayer::dense(BLOCK.output_words(), 2, Identity),
    /// ];
    /// const NET: ConvolutionNet<'static> = ConvolutionNet::new(&LAYERS, Loss::SoftmaxCrossEntropy);
    /// NET.check()?;
    /// assert_eq!((LAYERS[3].addition(), LAYERS[3].parameters()), (Some(0), 0));
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    pub const fn add(from: usize, words: usize, activation: Activation) -> Self {
        // As one channel, whatever they are: word by word.
        let convolution = Convolution::new_1d(1, Axis::new(words, 1), 1);
        Self { convolution, kind: Kind::Addition(from), activation }
    }

    /// Its convolution, the windows of its pooling, or the words of its addition as one channel.
    pub const fn convolution(&self) -> &Convolution {
        &self.convolution
    }

    /// Its activation.
    pub const fn activation(&self) -> Activation {
        self.activation
    }

    /// Its pooling, if it is one.
    pub const fn pooling(&self) -> Option<Pooling> {
        if let Kind::Pooling(pooling) = self.kind { Some(pooling) } else { None }
    }

    /// The layer whose outputs it adds, if it is an addition.
    pub const fn addition(&self) -> Option<usize> {
        if let Kind::Addition(from) = self.kind { Some(from) } else { None }
    }

    pub(super) const fn of_kind(convolution: Convolution, kind: Kind, activation: Activation) -> Self {
        Self { convolution, kind, activation }
    }

    /// The block of the Fisher that its weights have; none in a layer without weights.
    pub const fn block(&self) -> Option<Block> {
        if self.has_weights() { Some(self.convolution.block()) } else { None }
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    const fn has_weights(&self) -> bool {
        matches!(self.kind, Kind::Weights)
    }

    /// The number of its weights.
    pub const fn parameters(&self) -> usize {
        if self.has_weights() { self.convolution.parameters() } else { 0 }
    }

    /// Groups with weights and a state of their own: none in a layer without weights.
    pub const fn groups(&self) -> usize {
        if self.has_weights() { self.convolution.group_count() } else { 0 }
    }

    const fn group_words(&self) -> usize {
        if self.has_weights() { self.convolution.state_words() } else { 0 }
    }

    /// Words of its weights and states.
    pub const fn state_words(&self) -> usize {
        self.parameters().saturating_add(self.group_words())
    }

    const fn room_words(&self, capacity: usize) -> usize {
        let maps = self.convolution.output_words().saturating_mul(4).saturating_mul(capacity);
        maps.saturating_add(self.parameters())
    }
}

/// A network: layers that follow one another, and a loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvolutionNet<'a> {
    layers: &'a [ConvolutionLayer],
    loss: Loss,
}

impl<'a> ConvolutionNet<'a> {
    /// A network over layers, input first.
    pub const fn new(layers: &'a [ConvolutionLayer], loss: Loss) -> Self {
        Self { layers, loss }
    }

    /// The layers, input first.
    pub const fn layers(&self) -> &'a [ConvolutionLayer] {
        self.layers
    }

    /// The loss.
    pub const fn loss(&self) -> Loss {
        self.loss
    }

    /// Values of an input.
    pub const fn inputs(&self) -> usize {
        match self.layers {
            [first, ..] => first.convolution.input_words(),
            [] => 0,
        }
    }

    /// Values of an output.
    pub const fn outputs(&self) -> usize {
        match self.layers {
            [.., last] => last.convolution.output_words(),
            [] => 0,
        }
    }

    /// The number of weights.
    pub const fn parameters(&self) -> usize {
        let (mut words, mut rest) = (0_usize, self.layers);
        while let [first, tail @ ..] = rest {
            words = words.saturating_add(first.parameters());
            rest = tail;
        }
        words
    }

    /// Words of weights and layer states.
    pub const fn state_words(&self) -> usize {
        let (mut words, mut rest) = (0_usize, self.layers);
        while let [first, tail @ ..] = rest {
            words = words.saturating_add(first.state_words());
            rest = tail;
        }
        words
    }

    /// Words of everything a [`ConvolutionLearner`](super::ConvolutionLearner) needs for batches of up to `capacity` examples,
    /// with blocks of so many columns, at least one.
    pub const fn words(&self, capacity: usize, columns: usize) -> usize {
        let rooms = self.room_words(capacity);
        self.state_words().saturating_add(rooms).saturating_add(self.scratch_words(columns))
    }

    const fn room_words(&self, capacity: usize) -> usize {
        let (mut words, mut rest) = (0_usize, self.layers);
        while let [first, tail @ ..] = rest {
            words = words.saturating_add(first.room_words(capacity));
            rest = tail;
        }
        words
    }

    const fn scratch_words(&self, columns: usize) -> usize {
        let (mut words, mut rest) = (0_usize, self.layers);
        while let [first, tail @ ..] = rest {
            let own = if first.groups() > 0 { scratch_words(&first.convolution.shape(), columns) } else { 0 };
            words = if own > words { own } else { words };
            rest = tail;
        }
        words
    }

    /// Refuses a network without layers or weights, with a bad layer, with sizes that do not meet, with an addition from a layer that
    /// does not lie below the one below it (`from`; the index is the addition's), with an `embedding` that is not the lowest layer, or
    /// with a bad loss.
    ///
    /// # Errors
    /// Those of [`Convolution::check`], [`Error::Empty`], [`Error::Length`], [`Error::OutOfRange`].
    pub fn check(&self) -> Result<(), Error> {
        check_layers(self.layers.iter()).map_err(|(_, error)| error)?;
        self.loss.check()
    }
}

/// The checks of [`ConvolutionNet::check`] but the loss's; with the layer that fails.
pub(crate) fn check_layers(
    layers: impl Iterator<Item: Borrow<ConvolutionLayer>> + Clone,
) -> Result<(), (usize, Error)> {
    let (mut width, mut weights, mut count) = (None, 0, 0);
    for (index, layer) in layers.clone().enumerate() {
        let layer = layer.borrow();
        let words = layer.convolution.input_words();
        let meets = expect_length("layer inputs", width.unwrap_or(words), words);
        let checked = layer.convolution.check().and(meets);
        checked.and_then(|()| check_kind(layer, index, layers.clone())).map_err(|error| (index, error))?;
        width = Some(layer.convolution.output_words());
        weights += usize::from(layer.has_weights());
        count += 1;
    }
    let empty = |argument| Err((0, Error::Empty { argument }));
    match (count, weights) {
        (0, _) => empty("layers"),
        (_, 0) => empty("weights"),
        _ => Ok(()),
    }
}

fn check_kind(
    layer: &ConvolutionLayer,
    index: usize,
    mut layers: impl Iterator<Item: Borrow<ConvolutionLayer>>,
) -> Result<(), Error> {
    match layer.kind {
        Kind::Weights if index > 0 && layer.block() == Some(Block::DiagonalInput) => {
            Err(Error::OutOfRange { argument: "embedding", index })
        }
        Kind::Weights => Ok(()),
        Kind::Pooling(_) if layer.convolution.is_depthwise() => Ok(()),
        Kind::Pooling(_) => Err(Error::OutOfRange { argument: "groups", index: 0 }),
        Kind::Addition(from) => {
            // Below the layer below.
            let found = if from < index.saturating_sub(1) { layers.nth(from) } else { None };
            let found = found.ok_or(Error::OutOfRange { argument: "from", index })?;
            let words = found.borrow().convolution.output_words();
            expect_length("from", layer.convolution.input_words(), words)
        }
    }
}

/// The buffer of a learner.
pub(super) struct Memory<'a, T> {
    layers: &'a [ConvolutionLayer],
    capacity: usize,
    pub(super) state: &'a mut [T],
    rooms: &'a mut [T],
    scratch: &'a mut [T],
}

/// The slices of one layer, for N examples.
pub(super) struct Slot<'m, T> {
    pub(super) layer: &'m ConvolutionLayer,
    pub(super) weights: &'m mut [T],
    pub(super) state: &'m mut [T],
    pub(super) outputs: &'m mut [T],
    pub(super) pre_activations: &'m mut [T],
    pub(super) gradients: &'m mut [T],
    pub(super) fisher_gradients: &'m mut [T],
    pub(super) mean_gradient: &'m mut [T],
}

/// What one layer reads and writes on the way up.
pub(super) struct Upward<'m, T> {
    pub(super) layer: &'m ConvolutionLayer,
    pub(super) weights: &'m [T],
    pub(super) below: &'m [T],
    /// What an addition adds to that.
    pub(super) added: &'m [T],
    pub(super) pre_activations: &'m mut [T],
    pub(super) outputs: &'m mut [T],
    pub(super) scratch: &'m mut [T],
}

/// What one layer reads and writes on the way down.
pub(super) struct Downward<'m, T> {
    pub(super) layer: &'m ConvolutionLayer,
    pub(super) weights: &'m [T],
    /// Of its pre-activations.
    pub(super) gradients: &'m [T],
    /// The outputs below.
    pub(super) images: &'m [T],
    /// Their gradients.
    pub(super) handed: &'m mut [T],
    pub(super) scratch: &'m mut [T],
}

/// The words of some examples, so many each.
pub(super) fn of_examples(words: usize, examples: &Range<usize>) -> Range<usize> {
    examples.start * words..examples.end * words
}

impl<'a, T: Scalar> Memory<'a, T> {
    pub(super) fn new(
        net: &ConvolutionNet<'a>,
        capacity: usize,
        columns: usize,
        buffer: &'a mut [T],
    ) -> Result<Self, Error> {
        let mut carver = Carver::new(buffer, "memory", net.words(capacity, columns));
        let state = carver.take(net.state_words())?;
        let rooms = carver.take(net.room_words(capacity))?;
        let scratch = carver.take(net.scratch_words(columns))?;
        Ok(Self { layers: net.layers, capacity, state, rooms, scratch })
    }

    /// The first view of a fresh state writes its bases; later ones write nothing.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        for slot in self.slots(0).0 {
            let shape = slot.layer.convolution.shape();
            for words in slot.state.chunks_exact_mut(shape.words().max(1)) {
                LayerMut::new(shape, words)?;
            }
        }
        Ok(())
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// What a layer reads and writes on the way up.
    #[inline(never)]
    pub(super) fn upward<'m>(
        &'m mut self,
        index: usize,
        batch: usize,
        inputs: &'m [T],
    ) -> Option<Upward<'m, T>> {
        let addition = self.layers.get(index)?.addition();
        let (mut slots, scratch) = self.slots(batch);
        let (mut below, mut added): (&[T], &[T]) = (inputs, &[]);
        for (place, slot) in slots.by_ref().take(index).enumerate() {
            below = slot.outputs;
            added = if addition == Some(place) { below } else { added };
        }
        let Slot { layer, weights, outputs, pre_activations, .. } = slots.next()?;
        Some(Upward { layer, weights, below, added, pre_activations, outputs, scratch })
    }

    /// What a layer with another below reads and writes on the way down, for some of the examples.
    #[inline(never)]
    pub(super) fn downward(
        &mut self,
        index: usize,
        batch: usize,
        fisher: bool,
        examples: &Range<usize>,
    ) -> Option<Downward<'_, T>> {
        let (mut slots, scratch) = self.slots(batch);
        let below = slots.nth(index.checked_sub(1)?)?;
        let Slot { layer, weights, gradients, fisher_gradients, .. } = slots.next()?;
        let images = below.outputs.get(of_examples(layer.convolution.input_words(), examples))?;
        let sides =
            if fisher { (fisher_gradients, below.fisher_gradients) } else { (gradients, below.gradients) };
        let gradients = sides.0.get(..layer.convolution.output_words() * examples.len())?;
        let handed = sides.1.get_mut(..images.len())?;
        Some(Downward { layer, weights, gradients, images, handed, scratch })
    }

    /// The slots of all layers for N examples, input to output, all borrowed at once, and the shared scratch.
    pub(super) fn slots(&mut self, batch: usize) -> (Slots<'_, T>, &mut [T]) {
        let Self { layers, capacity, .. } = *self;
        (Slots { layers, capacity, batch, state: self.state, rooms: self.rooms }, self.scratch)
    }
}

/// Walks the slots. Ends early only on a buffer that is too short, which [`Memory::new`] has ruled out.
pub(super) struct Slots<'m, T> {
    layers: &'m [ConvolutionLayer],
    capacity: usize,
    batch: usize,
    state: &'m mut [T],
    rooms: &'m mut [T],
}

impl<'m, T> Iterator for Slots<'m, T> {
    type Item = Slot<'m, T>;

    fn next(&mut self) -> Option<Slot<'m, T>> {
        let (layer, rest) = self.layers.split_first()?;
        self.layers = rest;
        let (parameters, words) = (layer.parameters(), layer.convolution.output_words());
        let (capacity, batch) = (self.capacity, self.batch);
        let (weights, state) =
            (cut(&mut self.state, parameters)?, cut(&mut self.state, layer.group_words())?);
        let mut maps = || cut(&mut self.rooms, words * capacity)?.get_mut(..words * batch);
        let (outputs, pre_activations) = (maps()?, maps()?);
        let (gradients, fisher_gradients) = (maps()?, maps()?);
        let mean_gradient = cut(&mut self.rooms, parameters)?;
        Some(Slot {
            layer,
            weights,
            state,
            outputs,
            pre_activations,
            gradients,
            fisher_gradients,
            mean_gradient,
        })
    }
}
