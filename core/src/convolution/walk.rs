//! The walk over patches: for one example, group and location the patch is read into one column of the caller's scratch.
//!
//! ```text
//! patch a_t (n)   x[c, row_t + dilation i, column_t + dilation j], zero outside, over channel c, kernel row i and column j; then
//!                 a 1 with a bias
//! ```
//!
//! *Invariant*: patches are never all there at once, and each column is written whole. *Cost*: n words a patch, about four
//! operations for each. *Failure*: none; what lies beyond a slice reads as zero and is not written.

use super::geometry::Axis;
use crate::Scalar;
use core::ops::Range;

/// One group of a convolution, worked out for walking.
pub(crate) struct Walk {
    pub(super) axes: [Axis; 2],
    /// Positions along a row.
    pub(super) width: usize,
    /// T.
    pub(super) locations: usize,
    /// The group's channels.
    pub(super) channels: Range<usize>,
    /// Words between channels, rows and columns of an image.
    pub(super) image: [usize; 3],
    /// The group's outputs.
    pub(super) outputs: Range<usize>,
    /// The same for a map of outputs.
    pub(super) map: [usize; 3],
    pub(super) bias: bool,
}

impl Walk {
    /// n.
    pub(super) fn columns(&self) -> usize {
        let [rows, columns] = &self.axes;
        self.channels.len() * rows.kernel() * columns.kernel() + usize::from(self.bias)
    }

    /// m.
    pub(super) fn rows(&self) -> usize {
        self.outputs.len()
    }

    /// T.
    pub(super) fn locations(&self) -> usize {
        self.locations
    }

    fn place(&self, location: usize) -> [usize; 2] {
        let width = self.width.max(1);
        [location / width, location % width]
    }

    /// Visits the elements of a patch in their order, each with its index in the image; `None` in the padding.
    pub(super) fn each_tap(&self, location: usize, mut visit: impl FnMut(Option<usize>)) {
        let ([rows, columns], [by_channel, by_row, by_column]) = (&self.axes, self.image);
        let [row, column] = self.place(location);
        for channel in self.channels.clone() {
            for i in 0..rows.kernel() {
                let row = rows.tap(row, i).map(|row| channel * by_channel + row * by_row);
                for j in 0..columns.kernel() {
                    let column = columns.tap(column, j).map(|column| column * by_column);
                    visit(row.zip(column).map(|(row, column)| row + column));
                }
            }
        }
    }

    /// Writes the patch at a location, n words.
    pub(super) fn read_patch<T: Scalar>(&self, image: &[T], location: usize, into: &mut [T]) {
        into.fill(if self.bias { T::ONE } else { T::ZERO });
        let mut words = into.iter_mut();
        self.each_tap(location, |index| {
            if let Some(word) = words.next() {
                *word = index.and_then(|index| image.get(index)).copied().unwrap_or(T::ZERO);
            }
        });
    }

    /// Adds the gradient of a patch to that of the image: the transpose of reading.
    pub(super) fn add_patch<T: Scalar>(&self, from: &[T], location: usize, image: &mut [T]) {
        let mut words = from.iter();
        self.each_tap(location, |index| {
            if let (Some(word), Some(into)) = (words.next(), index.and_then(|index| image.get_mut(index))) {
                *into += *word;
            }
        });
    }

    /// Writes the mean of an image's patches over all locations, n words.
    pub(super) fn read_mean_patch<T: Scalar>(&self, image: &[T], into: &mut [T]) {
        let share = T::ONE / T::from_usize(self.locations);
        into.fill(T::ZERO);
        for location in 0..self.locations {
            let mut words = into.iter_mut();
            self.each_tap(location, |index| {
                if let (Some(word), Some(index)) = (words.next(), index) {
                    *word += image.get(index).copied().unwrap_or(T::ZERO);
                }
            });
        }
        into.iter_mut().for_each(|word| *word *= share);
        if let (true, Some(last)) = (self.bias, into.last_mut()) {
            *last = T::ONE;
        }
    }

    /// Where the group's outputs lie in a map: the first of them, and the step to the next.
    fn outputs_at(&self, location: usize) -> (usize, usize) {
        let ([row, column], [by_channel, by_row, by_column]) = (self.place(location), self.map);
        (self.outputs.start * by_channel + row * by_row + column * by_column, by_channel)
    }

    /// Writes the group's outputs at a location, m words.
    pub(super) fn read_outputs<T: Scalar>(&self, map: &[T], location: usize, into: &mut [T]) {
        let (first, step) = self.outputs_at(location);
        let from = map.iter().skip(first).step_by(step.max(1));
        into.iter_mut().zip(from).for_each(|(into, value)| *into = *value);
    }

    /// Adds the group's outputs at all locations, m words.
    pub(super) fn read_summed_outputs<T: Scalar>(&self, map: &[T], into: &mut [T]) {
        into.fill(T::ZERO);
        for location in 0..self.locations {
            let (first, step) = self.outputs_at(location);
            let from = map.iter().skip(first).step_by(step.max(1));
            into.iter_mut().zip(from).for_each(|(into, value)| *into += *value);
        }
    }

    /// Writes the group's outputs of a location into a map.
    pub(super) fn write_outputs<T: Scalar>(&self, from: &[T], location: usize, map: &mut [T]) {
        let (first, step) = self.outputs_at(location);
        let into = map.iter_mut().skip(first).step_by(step.max(1));
        into.zip(from).for_each(|(into, value)| *into = *value);
    }
}

/// A range cut into pieces of at most so many, at least one.
pub(super) fn blocks(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    core::iter::from_fn(move || {
        let block = start..range.end.min(start.saturating_add(most.max(1)));
        start = block.end;
        (!block.is_empty()).then_some(block)
    })
}
