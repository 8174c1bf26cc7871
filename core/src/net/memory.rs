//! The learner's memory: one caller-owned buffer, the state of all layers first, the workspace after it.
//!
//! ```text
//! state      for each layer: W (m n) | layer state (Shape::words)
//! workspace  for each layer: h, z, g, g_Fisher, g~, g~_Fisher (m N each) | a~ (n N) | K (m n, for N > 1)
//!            then scratch shared by all: 2 max(m, n), and for N > 1 at least max(m n, n N)
//! ```
//!
//! So one example at a time needs 6 m + n words a layer beyond the state, and 2 max(m, n) once. The state words and the
//! [`Progress`](crate::Progress) are all that a checkpoint needs.

use super::{Dense, Net};
use crate::{
    Error, Scalar,
    carve::{Carver, cut},
};

/// Words of all layers' weights and state.
pub(crate) const fn state_words(layers: &[Dense]) -> usize {
    let (mut words, mut rest) = (0_usize, layers);
    while let [first, tail @ ..] = rest {
        let shape = first.shape();
        words = words.saturating_add(shape.parameters()).saturating_add(shape.words());
        rest = tail;
    }
    words
}

/// Words of workspace for batches of up to `capacity` examples.
pub(crate) const fn workspace_words(layers: &[Dense], capacity: usize) -> usize {
    let (mut words, mut rest) = (scratch_words(layers, capacity), layers);
    while let [first, tail @ ..] = rest {
        words = words.saturating_add(room_words(first, capacity));
        rest = tail;
    }
    words
}

const fn room_words(layer: &Dense, capacity: usize) -> usize {
    let shape = layer.shape();
    let columns = shape.rows().saturating_mul(6).saturating_add(shape.columns());
    columns.saturating_mul(capacity).saturating_add(gradient_words(layer, capacity))
}

const fn gradient_words(layer: &Dense, capacity: usize) -> usize {
    if capacity > 1 { layer.shape().parameters() } else { 0 }
}

const fn scratch_words(layers: &[Dense], capacity: usize) -> usize {
    let (mut words, mut rest) = (0, layers);
    while let [first, tail @ ..] = rest {
        let columns = first.shape().longest_side().saturating_mul(2);
        let batch = if capacity > 1 { first.shape().columns().saturating_mul(capacity) } else { 0 };
        let matrix = gradient_words(first, capacity);
        let larger = if batch > matrix { batch } else { matrix };
        let needed = if columns > larger { columns } else { larger };
        words = if needed > words { needed } else { words };
        rest = tail;
    }
    words
}

/// The buffer of a learner.
#[derive(Debug)]
pub(crate) struct Memory<'a, T> {
    layers: &'a [Dense],
    capacity: usize,
    state: &'a mut [T],
    rooms: &'a mut [T],
    scratch: &'a mut [T],
}

/// The slices of one layer; those of the workspace cover N examples.
pub(crate) struct Slot<'m, T> {
    pub(crate) dense: Dense,
    pub(crate) weights: &'m mut [T],
    pub(crate) state: &'m mut [T],
    /// h, m x N.
    pub(crate) outputs: &'m mut [T],
    /// z, m x N.
    pub(crate) pre_activations: &'m mut [T],
    /// g, m x N.
    pub(crate) gradients: &'m mut [T],
    /// g for the Fisher's targets, m x N.
    pub(crate) fisher_gradients: &'m mut [T],
    /// g~, m x N.
    pub(crate) projected_gradients: &'m mut [T],
    /// g~ for the Fisher's targets, m x N.
    pub(crate) projected_fisher: &'m mut [T],
    /// a~, n x N.
    pub(crate) projected_activations: &'m mut [T],
    /// K, m x n; empty for one example.
    pub(crate) mean_gradient: &'m mut [T],
}

/// The slices that are picked alone, by their place in a layer's workspace.
#[derive(Clone, Copy)]
pub(crate) enum Slice {
    /// h.
    Outputs = 0,
    /// g.
    Gradients = 2,
    /// g for the Fisher's targets.
    FisherGradients = 3,
}

impl<'a, T: Scalar> Memory<'a, T> {
    pub(crate) fn new(net: &Net<'a>, capacity: usize, buffer: &'a mut [T]) -> Result<Self, Error> {
        let layers = net.layers();
        let mut carver = Carver::new(buffer, "memory", net.words(capacity));
        let state = carver.take(state_words(layers))?;
        let scratch_words = scratch_words(layers, capacity);
        let rooms = carver.take(workspace_words(layers, capacity).saturating_sub(scratch_words))?;
        let scratch = carver.take(scratch_words)?;
        Ok(Self { layers, capacity, state, rooms, scratch })
    }

    pub(crate) fn layers(&self) -> &'a [Dense] {
        self.layers
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn state(&self) -> &[T] {
        self.state
    }

    pub(crate) fn state_mut(&mut self) -> &mut [T] {
        self.state
    }

    /// The slots of all layers for N examples, input to output, all borrowed at once, and the shared scratch.
    pub(crate) fn slots(&mut self, batch: usize) -> (Slots<'_, T>, &mut [T]) {
        let slots = Slots {
            layers: self.layers,
            capacity: self.capacity,
            batch,
            state: self.state,
            rooms: self.rooms,
        };
        (slots, self.scratch)
    }

    /// h of the last layer.
    pub(crate) fn outputs(&mut self, batch: usize) -> Option<&mut [T]> {
        let before = self.layers.len().checked_sub(1)?;
        self.slots(batch).0.pick(before, Slice::Outputs)
    }

    /// One layer's slot, and the shared scratch.
    pub(crate) fn slot(&mut self, index: usize, batch: usize) -> Result<(Slot<'_, T>, &mut [T]), Error> {
        let (mut slots, scratch) = self.slots(batch);
        let slot = slots.nth(index).ok_or(Error::OutOfRange { argument: "layer", index })?;
        Ok((slot, scratch))
    }
}

/// Walks the slots. Ends early only on a buffer that is too short, which [`Memory::new`] has ruled out.
pub(crate) struct Slots<'m, T> {
    layers: &'m [Dense],
    capacity: usize,
    batch: usize,
    state: &'m mut [T],
    rooms: &'m mut [T],
}

impl<'m, T> Slots<'m, T> {
    /// One slice of `side` words an example: room for the capacity, cut to the batch.
    fn examples(&mut self, side: usize) -> Option<&'m mut [T]> {
        cut(&mut self.rooms, side * self.capacity)?.get_mut(..side * self.batch)
    }

    /// Passes over the next layer, and returns all of its workspace.
    fn pass(&mut self) -> Option<(&'m Dense, &'m mut [T])> {
        let (dense, rest) = self.layers.split_first()?;
        self.layers = rest;
        cut(&mut self.state, dense.shape().parameters() + dense.shape().words())?;
        Some((dense, cut(&mut self.rooms, room_words(dense, self.capacity))?))
    }

    /// One slice of the layer so many further on, without a slot, which is large; the layer after it is the next.
    #[inline(never)]
    pub(crate) fn pick(&mut self, further: usize, slice: Slice) -> Option<&'m mut [T]> {
        for _ in 0..further {
            self.pass()?;
        }
        let (dense, mut room) = self.pass()?;
        let side = dense.shape().rows();
        cut(&mut room, slice as usize * side * self.capacity)?;
        cut(&mut room, side * self.batch)
    }
}

impl<'m, T> Iterator for Slots<'m, T> {
    type Item = Slot<'m, T>;

    fn next(&mut self) -> Option<Slot<'m, T>> {
        let (dense, rest) = self.layers.split_first()?;
        self.layers = rest;
        let (m, n) = (dense.shape().rows(), dense.shape().columns());
        let weights = cut(&mut self.state, m * n)?;
        let state = cut(&mut self.state, dense.shape().words())?;
        let (outputs, pre_activations) = (self.examples(m)?, self.examples(m)?);
        let (gradients, fisher_gradients) = (self.examples(m)?, self.examples(m)?);
        let (projected_gradients, projected_fisher) = (self.examples(m)?, self.examples(m)?);
        let projected_activations = self.examples(n)?;
        let mean_gradient = cut(&mut self.rooms, gradient_words(dense, self.capacity))?;
        let mean_gradient = if self.batch > 1 { mean_gradient } else { &mut [] };
        Some(Slot {
            dense: *dense,
            weights,
            state,
            outputs,
            pre_activations,
            gradients,
            fisher_gradients,
            projected_gradients,
            projected_fisher,
            projected_activations,
            mean_gradient,
        })
    }

    fn nth(&mut self, count: usize) -> Option<Slot<'m, T>> {
        for _ in 0..count {
            self.pass()?;
        }
        self.next()
    }

    fn last(mut self) -> Option<Slot<'m, T>> {
        let before = self.layers.len().checked_sub(1)?;
        self.nth(before)
    }
}
