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
    Error, LayerMut, Scalar, Shape,
    carve::{Carver, cut},
    refresh::InFlight,
    room::Room,
    single::built,
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

/// The memory of one layer. Its two parts are cut where they are used: a slot is moved often, and its size is stack.
pub(crate) struct Slot<'m, T> {
    pub(crate) dense: &'m Dense,
    /// The stored weights, and the state behind.
    words: &'m mut [T],
    pub(crate) workspace: Workspace<'m, T>,
}

/// The workspace of one layer, for N examples.
pub(crate) struct Workspace<'m, T> {
    shape: &'m Shape,
    words: &'m mut [T],
    capacity: usize,
    batch: usize,
}

/// A slot, a slice of the layer below where there is one, and the shared scratch.
type AndBelow<'m, T> = (Slot<'m, T>, Option<&'m mut [T]>, &'m mut [T]);

/// The slices of a layer's workspace, in their order.
#[derive(Clone, Copy)]
pub(crate) enum Slice {
    /// h, m x N.
    Outputs = 0,
    /// z, m x N.
    PreActivations = 1,
    /// g, m x N.
    Gradients = 2,
    /// g for the Fisher's targets, m x N.
    FisherGradients = 3,
    /// g~, m x N.
    ProjectedGradients = 4,
    /// g~ for the Fisher's targets, m x N.
    ProjectedFisher = 5,
    /// a~, n x N.
    ProjectedActivations = 6,
}

/// What of a workspace lies beyond the slices that were cut.
struct Rest<'m, T> {
    shape: &'m Shape,
    words: &'m mut [T],
    passed: usize,
}

impl<'m, T> Rest<'m, T> {
    #[inline(never)]
    fn advance(&mut self, slice: Slice, capacity: usize, batch: usize) -> &'m mut [T] {
        let (m, before) = (self.shape.rows(), slice as usize - self.passed);
        self.passed = slice as usize + 1;
        let side = if matches!(slice, Slice::ProjectedActivations) { self.shape.columns_held() } else { m };
        let words = core::mem::take(&mut self.words).get_mut(before * m * capacity..).unwrap_or_default();
        let (slice, rest) = words.split_at_mut_checked(side * capacity).unwrap_or_default();
        self.words = rest;
        slice.get_mut(..side * batch).unwrap_or_default()
    }
}

impl<'m, T: Scalar> Workspace<'m, T> {
    /// Slices of it, in ascending order.
    pub(crate) fn slices<const N: usize>(&mut self, wanted: [Slice; N]) -> [&mut [T]; N] {
        let mut rest = Rest { shape: self.shape, words: self.words, passed: 0 };
        wanted.map(|slice| rest.advance(slice, built(self.capacity), built(self.batch)))
    }
}

impl<'m, T: Scalar> Slot<'m, T> {
    /// The stored weights, the layer's state, and the workspace.
    pub(crate) fn split(&mut self) -> (&mut [T], &mut [T], &mut Workspace<'m, T>) {
        let (weights, state) =
            self.words.split_at_mut_checked(self.dense.shape().parameters_held()).unwrap_or_default();
        (weights, state, &mut self.workspace)
    }

    /// The stored weights and the layer's state, for as long as the memory is borrowed.
    pub(crate) fn into_words(self) -> (&'m mut [T], &'m mut [T]) {
        self.words.split_at_mut_checked(self.dense.shape().parameters_held()).unwrap_or_default()
    }

    /// A slice of m words an example, likewise.
    pub(crate) fn into_slice(self, slice: Slice) -> &'m mut [T] {
        let Workspace { shape, words, capacity, batch } = self.workspace;
        let start = slice as usize * shape.rows() * built(capacity);
        words.get_mut(start..start + shape.rows() * built(batch)).unwrap_or_default()
    }

    /// Everything that the corridor of a step asks for, given the inputs of the layer, the shared scratch, and how many
    /// examples have gradients of their own for the Fisher's targets.
    #[inline(never)]
    pub(crate) fn into_room(self, activations: &'m [T], scratch: &'m mut [T], fisher: usize) -> Room<'m, T> {
        let Self { workspace: Workspace { shape, words: mut rest, capacity, batch }, mut words, .. } = self;
        let (m, n, capacity, batch) = (shape.rows(), shape.columns_held(), built(capacity), built(batch));
        let weights = cut(&mut words, m * n).unwrap_or_default();
        let mut take = |side: usize, examples: usize| {
            cut(&mut rest, side * capacity).unwrap_or_default().get_mut(..side * examples).unwrap_or_default()
        };
        take(2 * m, 0);
        let gradients = take(m, batch);
        let fisher_gradients = take(m, fisher);
        let projected_gradients = take(m, batch);
        let projected_fisher = take(m, fisher);
        let projected_activations = take(n, batch);
        let mean_gradient = if batch > 1 { rest } else { &mut [] };
        Room {
            layer: LayerMut::over(*shape, words),
            in_flight: InFlight {
                weights,
                activations: projected_activations,
                gradients: projected_gradients,
                fisher_gradients: projected_fisher,
            },
            activations,
            gradients,
            fisher_gradients,
            mean_gradient,
            scratch,
        }
    }
}

impl<'a, T: Scalar> Memory<'a, T> {
    pub(crate) fn new(net: &Net<'a>, capacity: usize, buffer: &'a mut [T]) -> Result<Self, Error> {
        let (layers, capacity) = (net.layers(), built(capacity));
        let (state, workspace) = (state_words(layers), workspace_words(layers, capacity));
        let scratch = scratch_words(layers, capacity);
        let mut carver = Carver::new(buffer, "memory", state.saturating_add(workspace));
        let state = carver.take(state)?;
        let rooms = carver.take(workspace.saturating_sub(scratch))?;
        let scratch = carver.take(scratch)?;
        Ok(Self { layers, capacity, state, rooms, scratch })
    }

    pub(crate) fn layers(&self) -> &'a [Dense] {
        self.layers
    }

    pub(crate) fn capacity(&self) -> usize {
        built(self.capacity)
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

    /// The slots of all layers without a batch. A function of its own for what is no step, and has stack to spare.
    #[inline(never)]
    pub(crate) fn all(&mut self) -> Slots<'_, T> {
        self.slots(0).0
    }

    /// h of the last layer.
    #[inline(never)]
    pub(crate) fn outputs(&mut self, batch: usize) -> Option<&mut [T]> {
        Some(self.slots(batch).0.last()?.into_slice(Slice::Outputs))
    }

    /// One layer's slot, and the shared scratch.
    pub(crate) fn slot(&mut self, index: usize, batch: usize) -> Result<(Slot<'_, T>, &mut [T]), Error> {
        let (mut slots, scratch) = self.slots(batch);
        let slot = slots.nth(index).ok_or(Error::OutOfRange { argument: "layer", index })?;
        Ok((slot, scratch))
    }

    /// The same, with a slice of the layer below where there is one.
    #[inline(never)]
    pub(crate) fn slot_and_below(
        &mut self,
        index: usize,
        batch: usize,
        slice: Slice,
    ) -> Option<AndBelow<'_, T>> {
        let (mut slots, scratch) = self.slots(batch);
        let below = match index.checked_sub(1) {
            Some(below) => Some(slots.nth(below)?.into_slice(slice)),
            None => None,
        };
        Some((slots.next()?, below, scratch))
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

impl<'m, T> Iterator for Slots<'m, T> {
    type Item = Slot<'m, T>;

    #[inline(never)]
    fn next(&mut self) -> Option<Slot<'m, T>> {
        let (dense, rest) = self.layers.split_first()?;
        self.layers = rest;
        let shape = dense.shape();
        let parameters = shape.parameters_held();
        let words = cut(&mut self.state, parameters + shape.words_held())?;
        let capacity = built(self.capacity);
        let gradient = if capacity > 1 { parameters } else { 0 };
        let workspace = (6 * shape.rows() + shape.columns_held()) * capacity + gradient;
        let workspace = Workspace {
            shape,
            words: cut(&mut self.rooms, workspace)?,
            capacity: self.capacity,
            batch: self.batch,
        };
        Some(Slot { dense, words, workspace })
    }

    fn last(mut self) -> Option<Slot<'m, T>> {
        let before = self.layers.len().checked_sub(1)?;
        self.nth(before)
    }
}
