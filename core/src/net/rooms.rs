//! A learner's memory as the corridor of a step sees it.
//!
//! *Cost*: a room is cut anew each time it is entered, some dozens of instructions. *Failure*: a layer that does not exist.

use super::{
    Loss, Net,
    memory::{Memory, Slice},
    passes::{self, Side, Source},
};
use crate::{
    Error, Fisher, Scalar,
    kernels::Counted,
    room::Room,
    single::{BATCHES, built},
    step::Rooms,
};
use core::ops::Range;

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
        let columns = if self.fisher == Fisher::Empirical { 0 } else { self.measured.len() };
        let (slot, below, scratch) = self
            .memory
            .slot_and_below(index, built(self.batch), Slice::Outputs)
            .ok_or(Error::OutOfRange { argument: "layer", index })?;
        Ok(slot.into_room(below.map_or(self.inputs, |below| &*below), scratch, columns))
    }

    fn passes_suffice(&self) -> bool {
        !BATCHES
    }

    fn passes(&self) -> usize {
        Loss::passes(self.fisher, self.net.outputs())
    }

    #[inline(always)]
    fn load(&mut self, pass: usize) -> Result<(), Error> {
        if self.fisher.is_exact() {
            let loss = &self.net.loss;
            passes::backward(
                self.memory,
                &mut self.counted,
                loss,
                &mut Source::Exact(pass),
                Side::Fisher,
                &self.measured,
                self.batch,
            );
        }
        Ok(())
    }
}
