//! A learner's weights: drawn, read, written, and moved from one kind of coordinates to the other.
//!
//! *Invariant*: whatever the coordinates, the predictions are the same to rounding. *Cost*: 2 m n (m + n) operations to cross
//! from one kind to the other, none within. *Failure*: wrong lengths and values that are not finite are errors before any
//! write.

use super::{Initialization, Learner, random::Stream};
use crate::{
    Coordinates, Error, LayerMut, MatrixMut, MatrixRef, Scalar, Shape, coordinates, error::expect_length,
    guard, kernels::Counted, single::expect_built,
};

impl<T: Scalar> Learner<'_, T> {
    /// Draws all weights anew from the seed.
    pub fn initialize(&mut self, initialization: Initialization) {
        self.draw_weights(initialization);
        // In a fresh basis W~ is W, to the bit.
        if self.progress.steps == 0 {
            return;
        }
        let mut counted = Counted::by(self.kernels);
        let (slots, scratch) = self.memory.slots(0);
        for slot in slots {
            let shape = *slot.dense.shape();
            let (weights, state) = slot.into_words();
            let Ok(layer) = LayerMut::new(shape, state) else { return };
            if layer.coordinates() == Coordinates::Eigenbasis {
                coordinates::turn(&layer, &mut counted, weights, Coordinates::Eigenbasis, scratch);
            }
        }
    }

    /// Draws W of every layer, in parameter coordinates.
    pub(super) fn draw_weights(&mut self, initialization: Initialization) {
        for (index, slot) in self.memory.all().enumerate() {
            // The complement keeps these streams apart from those of the steps.
            let mut stream = Stream::new(!self.progress.seed, index as u64);
            initialization.fill(slot.dense.shape(), &mut stream, slot.into_words().0);
        }
    }

    /// Writes W of one layer, m x n, bias last, in parameter coordinates wherever it lives: 2 m n (m + n) operations from
    /// the eigenbasis.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist, [`Error::Length`] when `out` is not m x n.
    pub fn weights(&mut self, layer: usize, out: MatrixMut<'_, T>) -> Result<(), Error> {
        let mut counted = Counted::by(self.kernels);
        let (slot, scratch) = self.memory.slot(layer, 0)?;
        let shape = *slot.dense.shape();
        expect_length("out rows", shape.rows(), out.rows())?;
        expect_length("out columns", shape.columns(), out.columns())?;
        let (weights, state) = slot.into_words();
        let view = LayerMut::new(shape, state)?;
        coordinates::fold(&view, &mut counted, weights, out, scratch);
        Ok(())
    }

    /// Overwrites W of one layer, m x n, bias last, given in parameter coordinates.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist or a weight beyond
    /// [`turning_limit`](crate::guard::turning_limit), [`Error::Length`], [`Error::NonFinite`]: before any write.
    pub fn set_weights(&mut self, layer: usize, weights: MatrixRef<'_, T>) -> Result<(), Error> {
        let mut counted = Counted::by(self.kernels);
        let (slot, scratch) = self.memory.slot(layer, 0)?;
        let shape = *slot.dense.shape();
        expect_length("weights rows", shape.rows(), weights.rows())?;
        expect_length("weights columns", shape.columns(), weights.columns())?;
        if let Some(index) = guard::first_non_finite(weights.as_slice()) {
            return Err(Error::NonFinite { argument: "weights", index });
        }
        expect_turnable(&shape, weights.as_slice())?;
        let (stored, state) = slot.into_words();
        let view = LayerMut::new(shape, state)?;
        for (into, from) in stored.chunks_exact_mut(shape.rows().max(1)).zip(weights.iter_columns()) {
            into.iter_mut().zip(from).for_each(|(x, y)| *x = *y);
        }
        if view.coordinates() == Coordinates::Eigenbasis {
            coordinates::turn(&view, &mut counted, stored, Coordinates::Eigenbasis, scratch);
        }
        Ok(())
    }

    /// The weights of one layer as they are stored: W, or W~ where the layer's
    /// [`coordinates`](LayerMut::coordinates) are those of the eigenbasis.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist.
    pub fn stored_weights(&mut self, layer: usize) -> Result<MatrixMut<'_, T>, Error> {
        let (slot, _) = self.memory.slot(layer, 0)?;
        let (rows, columns) = (slot.dense.shape().rows(), slot.dense.shape().columns());
        Ok(MatrixMut::over(slot.into_words().0, rows, columns))
    }

    /// The stored weights of all layers at once, input to output.
    pub fn iter_stored_weights(&mut self) -> impl Iterator<Item = MatrixMut<'_, T>> {
        self.memory.all().map(|slot| {
            let (rows, columns) = (slot.dense.shape().rows(), slot.dense.shape().columns());
            MatrixMut::over(slot.into_words().0, rows, columns)
        })
    }

    /// Moves the weights of one layer into these coordinates: 2 m n (m + n) operations where they live in the others. A
    /// fresh learner has the cheaper ones ([`Coordinates::cheaper`]) for its capacity, and the eigenbasis for one example at a time.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] for a layer that does not exist, or a stored weight that is NaN or beyond
    /// [`turning_limit`](crate::guard::turning_limit); [`Error::NotBuilt`] for parameter coordinates where the feature `batches` is off.
    pub fn set_coordinates(&mut self, layer: usize, coordinates: Coordinates) -> Result<(), Error> {
        expect_built(coordinates == Coordinates::Eigenbasis, "coordinates")?;
        let mut counted = Counted::by(self.kernels);
        let (slot, scratch) = self.memory.slot(layer, 0)?;
        let shape = *slot.dense.shape();
        let (weights, state) = slot.into_words();
        let mut view = LayerMut::new(shape, state)?;
        if view.coordinates() != coordinates {
            expect_turnable(&shape, weights)?;
            coordinates::turn(&view, &mut counted, weights, coordinates, scratch);
            view.marks().set_coordinates(coordinates);
        }
        Ok(())
    }
}

/// Refuses weights that a turn of the basis could drive beyond the range.
pub(super) fn expect_turnable<T: Scalar>(shape: &Shape, weights: &[T]) -> Result<(), Error> {
    match guard::first_beyond(weights, guard::turning_limit(shape)) {
        Some(index) => Err(Error::OutOfRange { argument: "weights", index }),
        None => Ok(()),
    }
}
