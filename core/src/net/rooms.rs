//! A learner's memory as the corridor of a step sees it.
//!
//! *Cost*: a room is cut anew each time it is entered, some dozens of instructions. *Failure*: a layer that does not exist.

use super::{
    Loss, Net,
    memory::{Memory, Slice},
    passes::{self, Side, Source},
};
use crate::{Error, Fisher, LayerMut, Scalar, kernels::Counted, room::Room, step::Rooms};
use core::{mem::take, ops::Range};

/// The learner's layers, as the corridor sees them.
pub(super) struct LearnerRooms<'r, 'a, T> {
    pub(super) memory: &'r mut Memory<'a, T>,
    pub(super) net: &'r Net<'a>,
    pub(super) fisher: Fisher,
    pub(super) counted: Counted<'r, T>,
    pub(super) inputs: &'r [T],
    pub(super) batch: usize,
    pub(super) measured: Range<usize>,
}

impl<T: Scalar> Rooms<T> for LearnerRooms<'_, '_, T> {
    type Room<'r>
        = Room<'r, T>
    where
        Self: 'r;

    fn layers(&self) -> usize {
        self.net.layers().len()
    }

    #[inline(never)]
    fn room(&mut self, index: usize) -> Result<Room<'_, T>, Error> {
        let inputs = self.inputs;
        let (mut slots, scratch) = self.memory.slots(self.batch);
        let below = if index > 0 { slots.pick(index - 1, Slice::Outputs) } else { None };
        let Some(slot) = &mut slots.next() else {
            return Err(Error::OutOfRange { argument: "layer", index });
        };
        let columns = if self.fisher == Fisher::Empirical { 0 } else { self.measured.len() };
        let words = columns * slot.dense.shape().rows();
        Ok(Room {
            layer: LayerMut::over(*slot.dense.shape(), take(&mut slot.state)),
            weights: take(&mut slot.weights),
            activations: below.map_or(inputs, |below| &*below),
            gradients: take::<&mut [T]>(&mut slot.gradients),
            fisher_gradients: take(&mut slot.fisher_gradients).get(..words).unwrap_or_default(),
            projected_activations: take(&mut slot.projected_activations),
            projected_gradients: take(&mut slot.projected_gradients),
            projected_fisher: take(&mut slot.projected_fisher).get_mut(..words).unwrap_or_default(),
            mean_gradient: take(&mut slot.mean_gradient),
            scratch,
        })
    }

    fn passes(&self) -> usize {
        Loss::passes(self.fisher, self.net.outputs())
    }

    fn load(&mut self, pass: usize) -> Result<(), Error> {
        if self.fisher == Fisher::Exact {
            let loss = self.net.loss();
            passes::backward(
                self.memory,
                &mut self.counted,
                loss,
                Source::Exact(pass),
                Side::Fisher,
                &self.measured,
                self.batch,
            );
        }
        Ok(())
    }
}
