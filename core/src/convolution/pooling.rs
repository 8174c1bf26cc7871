//! Pooling: the largest or the mean value of each channel under a sliding window.
//!
//! ```text
//! max        h = max of x under the window         dL/dx = dL/dh at the first place of the maximum
//! average    h = mean of x under the window        dL/dx = dL/dh over the number of values, at each of them
//! ```
//!
//! The window is a kernel of a depthwise convolution without weights; one as large as the image pools it whole. What lies in the
//! padding counts for nothing, and a window that sees only padding gives 0. *Invariant*: no state, no memory of the pass forward: the
//! maximum is looked for again. *Cost*: one comparison or addition for each value under each window. *Failure*: none.

use super::{
    Convolution,
    walk::{Grid, Walk},
};
use crate::{MatrixMut, MatrixRef, Scalar};

/// What is taken of the values under a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Pooling {
    /// The largest.
    Max,
    /// The mean.
    Average,
}

impl Pooling {
    /// The pooled values of every image, one a column; the geometry is depthwise.
    #[inline(never)]
    pub(super) fn forward<T: Scalar>(
        self,
        windows: &Convolution,
        images: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
    ) {
        for channel in 0..windows.group_count() {
            let walk = windows.walk(channel);
            let (window, outputs, locations) = (walk.patches(), walk.outputs(), walk.locations());
            for (image, map) in images.iter_columns().zip(out.iter_columns_mut()) {
                for location in 0..locations.count {
                    let pooled = match self {
                        Pooling::Max => largest(&window, image, locations.place(location))
                            .map_or(T::ZERO, |(_, value)| value),
                        Pooling::Average => {
                            let (sum, count) = sum(&window, image, locations.place(location));
                            sum / T::from_usize(count.max(1))
                        }
                    };
                    if let Some(into) = map.get_mut(outputs.at(locations.place(location))) {
                        *into = pooled;
                    }
                }
            }
        }
    }

    /// dL/dx of every image from dL/dh.
    #[inline(never)]
    pub(super) fn backward<T: Scalar>(
        self,
        windows: &Convolution,
        images: MatrixRef<'_, T>,
        gradients: MatrixRef<'_, T>,
        mut out: MatrixMut<'_, T>,
    ) {
        out.as_mut_slice().fill(T::ZERO);
        for channel in 0..windows.group_count() {
            for example in 0..images.columns() {
                let image = images.column(example).unwrap_or_default();
                let map = gradients.column(example).unwrap_or_default();
                let below = out.column_mut(example).unwrap_or_default();
                self.hand_back(&windows.walk(channel), image, map, below);
            }
        }
    }

    /// dL/dx of one channel of an image.
    #[inline(never)]
    fn hand_back<T: Scalar>(self, walk: &Walk<'_>, image: &[T], map: &[T], below: &mut [T]) {
        let (window, outputs, locations) = (walk.patches(), walk.outputs(), walk.locations());
        for location in 0..locations.count {
            let place = locations.place(location);
            let gradient = map.get(outputs.at(place)).copied().unwrap_or(T::ZERO);
            match self {
                Pooling::Max => {
                    let found = largest(&window, image, place);
                    if let Some(into) = found.and_then(|(index, _)| below.get_mut(index)) {
                        *into += gradient;
                    }
                }
                Pooling::Average => {
                    let share = gradient / T::from_usize(sum(&window, image, place).1.max(1));
                    spread(&window, place, share, below);
                }
            }
        }
    }
}

/// Adds a share to every value under a window.
#[inline(never)]
fn spread<T: Scalar>(window: &Grid<'_>, place: [usize; 2], share: T, values: &mut [T]) {
    window.each_tap(place, |index| {
        if let Some(into) = index.and_then(|index| values.get_mut(index)) {
            *into += share;
        }
    });
}

/// The first of the largest values under a window, and where it lies.
#[inline(never)]
fn largest<T: Scalar>(window: &Grid<'_>, image: &[T], place: [usize; 2]) -> Option<(usize, T)> {
    let mut found: Option<(usize, T)> = None;
    window.each_tap(place, |index| {
        if let Some((index, value)) = index.and_then(|index| Some((index, *image.get(index)?)))
            && found.is_none_or(|(_, most)| value > most)
        {
            found = Some((index, value));
        }
    });
    found
}

/// The sum of the values under a window, and how many there are.
#[inline(never)]
fn sum<T: Scalar>(window: &Grid<'_>, image: &[T], place: [usize; 2]) -> (T, usize) {
    let mut found = (T::ZERO, 0);
    window.each_tap(place, |index| {
        if let Some(value) = index.and_then(|index| image.get(index)) {
            found = (found.0 + *value, found.1 + 1);
        }
    });
    found
}
