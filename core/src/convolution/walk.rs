//! The walk over an image: what the locations of one group read and write, a window at a time.
//!
//! ```text
//! patch a_t (n)     x[c, row_t + dilation i, column_t + dilation j], zero outside, over channel c, kernel row i and column j; then
//!                   a 1 with a bias
//! outputs z_t (m)   the same of a map, under a kernel of one value
//! ```
//!
//! Samples are the locations of one example after another, e T + t. Those of a block lie in one row of locations or in several, and in
//! a row one element of the kernel sees a window of the image, channels by locations: the longer of the two is walked within the other.
//! *Invariant*: each column of a block is written whole; what is added to one value of an image comes in the order of the
//! locations, wherever blocks end. *Cost*: n words a patch, a load and a store for each; a few divisions a window. *Failure*: none; what
//! lies beyond a slice reads as zero and is not written.

use super::{Convolution, Layout, axis::Axis};
use crate::{MatrixMut, MatrixRef, Scalar};
use core::ops::Range;

/// One group of a convolution. What a walk needs is worked out where it begins: this is copied often, and its size is stack.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'c> {
    pub(super) convolution: &'c Convolution,
    pub(super) group: usize,
}

/// An image, or a map, and the kernel under which its values are read.
pub(super) struct Grid<'c> {
    pub(super) axes: &'c [Axis; 2],
    /// The group's channels.
    pub(super) channels: Range<usize>,
    /// Words between channels, rows and columns.
    pub(super) strides: [usize; 3],
}

/// The locations of a map, row after row.
#[derive(Clone, Copy)]
pub(super) struct Locations {
    /// Positions along a row.
    width: usize,
    /// T.
    pub(super) count: usize,
}

impl Locations {
    /// Row and column.
    pub(super) fn place(&self, location: usize) -> [usize; 2] {
        let width = self.width.max(1);
        [location / width, location % width]
    }
}

/// Images or maps, so many words apart: a matrix without the sizes, which the geometry has.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a, T> {
    values: &'a [T],
    stride: usize,
}

impl<'a, T: Scalar> Columns<'a, T> {
    pub(super) fn of(matrix: MatrixRef<'a, T>) -> Self {
        Self { values: matrix.as_slice(), stride: matrix.stride() }
    }

    /// How many there are, of columns that follow one another.
    pub(super) fn count(&self) -> usize {
        self.values.len().checked_div(self.stride).unwrap_or(0)
    }

    /// Those from an example on.
    pub(super) fn skip(self, examples: usize) -> Self {
        Self { values: self.values.get(examples * self.stride..).unwrap_or_default(), ..self }
    }

    /// One of so many words.
    pub(super) fn column(&self, example: usize, words: usize) -> &'a [T] {
        let from = self.values.get(example * self.stride..).unwrap_or_default();
        from.get(..words).unwrap_or(from)
    }
}

/// What of a layer is read.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Patches,
    Outputs,
}

/// Samples that lie in one row of one example.
struct Segment {
    example: usize,
    row: usize,
    positions: Range<usize>,
    /// The first of them among the samples of its block.
    first: usize,
}

/// One element of the patches of a segment: its values in the image, and where they go among the columns of a block.
struct Window {
    image: usize,
    column: usize,
    /// The longer of channels and locations, which is walked within the other.
    outer: Steps,
    inner: Steps,
}

/// So many values, and the words from one to the next.
#[derive(Clone, Copy)]
struct Steps {
    count: usize,
    image: usize,
    column: usize,
}

/// Which way the words of a block go.
enum Transfer<'t, 'v, T> {
    /// Out of images, in whose place nothing changes.
    Out { from: &'t Columns<'v, T>, into: &'t mut [T] },
    /// Back into them.
    Back { from: &'t [T], into: &'t mut MatrixMut<'v, T> },
}

impl<T: Scalar> Transfer<'_, '_, T> {
    /// Takes one window of an example, whose image has so many words.
    #[inline(always)]
    fn take(&mut self, window: &Window, example: usize, words: usize, add: bool) {
        match self {
            Self::Out { from, into } => {
                let from = from.column(example, words);
                if add {
                    window.transfer::<T, false, true>(from, into);
                } else {
                    window.transfer::<T, false, false>(from, into);
                }
            }
            Self::Back { from, into } => {
                let into = into.column_mut(example).unwrap_or_default();
                if add {
                    window.transfer::<T, true, true>(from, into);
                } else {
                    window.transfer::<T, true, false>(from, into);
                }
            }
        }
    }
}

impl Window {
    /// From the image into the block, or back; in the place of what is there, or added to it. A function of its own, so that its
    /// frame is gone when the next window is worked out.
    #[inline(never)]
    fn transfer<T: Scalar, const BACK: bool, const ADD: bool>(&self, from: &[T], into: &mut [T]) {
        let Steps { count, image: apart, column: words } = self.inner;
        let put = |into: &mut T, value: T| *into = if ADD { *into + value } else { value };
        let (mut place, mut column) = (self.image, self.column);
        for _ in 0..self.outer.count {
            let (run, mut word) = (place..place + count, column);
            if apart != 1 {
                for index in 0..count {
                    let (place, word) = (place + index * apart, column + index * words);
                    let (source, target) = if BACK { (word, place) } else { (place, word) };
                    if let (Some(value), Some(into)) = (from.get(source), into.get_mut(target)) {
                        put(into, *value);
                    }
                }
            } else if BACK {
                for into in into.get_mut(run).unwrap_or_default() {
                    put(into, from.get(word).copied().unwrap_or(T::ZERO));
                    word += words;
                }
            } else {
                for value in from.get(run).unwrap_or_default() {
                    if let Some(into) = into.get_mut(word) {
                        put(into, *value);
                    }
                    word += words;
                }
            }
            place += self.outer.image;
            column += self.outer.column;
        }
    }
}

/// A kernel of one value, wherever it lies.
pub(super) const ONE_VALUE: &[Axis; 2] = &[Axis::new(usize::MAX, 1); 2];

impl Grid<'_> {
    /// Where the first of the group's channels lies at a place of a map.
    pub(super) fn at(&self, [row, column]: [usize; 2]) -> usize {
        let [by_channel, by_row, by_column] = self.strides;
        self.channels.start * by_channel + row * by_row + column * by_column
    }

    pub(super) fn taps(&self) -> usize {
        let [rows, columns] = self.axes;
        rows.kernel() * columns.kernel()
    }

    /// Visits the values under the kernel at one place in their order, each with its index in the image; `None` in the padding.
    pub(super) fn each_tap(&self, [row, column]: [usize; 2], mut visit: impl FnMut(Option<usize>)) {
        let ([rows, columns], [by_channel, by_row, by_column]) = (self.axes, self.strides);
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

    /// The window of one element; none where its row lies in the padding. A function of its own, so that a walk holds little beside it.
    #[inline(never)]
    fn window(&self, segment: &Segment, [i, j]: [usize; 2], stride: usize) -> Option<Window> {
        let ([rows, columns], [by_channel, by_row, by_column]) = (self.axes, self.strides);
        let row = rows.tap(segment.row, i)?;
        let inside = columns.inside(&segment.positions, j);
        let column = columns.tap(inside.start, j).unwrap_or(0);
        let sample = segment.first + inside.start.saturating_sub(segment.positions.start);
        let channels = Steps { count: length(&self.channels), image: by_channel, column: self.taps() };
        let locations = Steps { count: length(&inside), image: columns.step() * by_column, column: stride };
        let long = locations.count >= channels.count;
        Some(Window {
            image: self.channels.start * by_channel + row * by_row + column * by_column,
            column: sample * stride + i * columns.kernel() + j,
            outer: if long { channels } else { locations },
            inner: if long { locations } else { channels },
        })
    }
}

impl Walk<'_> {
    /// n.
    pub(super) fn columns(&self) -> usize {
        self.convolution.patch_shape().columns()
    }

    /// m.
    pub(super) fn rows(&self) -> usize {
        self.convolution.patch_shape().rows()
    }

    /// Its locations.
    pub(super) fn locations(&self) -> Locations {
        let [rows, columns] = &self.convolution.axes;
        let width = columns.positions();
        Locations { width, count: rows.positions().saturating_mul(width) }
    }

    /// The image, under the kernel.
    #[inline(always)]
    pub(super) fn patches(&self) -> Grid<'_> {
        let (axes, channels) = (&self.convolution.axes, self.convolution.channels);
        let [rows, columns] = axes;
        self.grid(axes, channels, [rows.length(), columns.length()])
    }

    /// The map, value by value.
    #[inline(always)]
    pub(super) fn outputs(&self) -> Grid<'_> {
        let [rows, columns] = &self.convolution.axes;
        self.grid(ONE_VALUE, self.convolution.outputs, [rows.positions(), columns.positions()])
    }

    /// The words of an image, or of a map.
    pub(super) fn words(&self, side: Side) -> usize {
        match side {
            Side::Patches => self.convolution.input_words(),
            Side::Outputs => self.convolution.output_words(),
        }
    }

    #[inline(always)]
    fn grid<'g>(&self, axes: &'g [Axis; 2], channels: usize, [height, width]: [usize; 2]) -> Grid<'g> {
        let each = channels.checked_div(self.convolution.groups).unwrap_or(0);
        let start = self.group.saturating_mul(each);
        let strides = match self.convolution.layout {
            Layout::ChannelsFirst => [height.saturating_mul(width), width, 1],
            Layout::ChannelsLast => [1, width.saturating_mul(channels), channels],
        };
        Grid { axes, channels: start..start.saturating_add(each), strides }
    }

    /// Samples as segments, in their order.
    fn segments(&self, samples: Range<usize>) -> impl Iterator<Item = Segment> {
        let (start, end, locations) = (samples.start, samples.end, self.locations());
        let mut next = start;
        core::iter::from_fn(move || {
            let (sample, count) = (next, locations.count.max(1));
            let [row, column] = locations.place(sample % count);
            let length = (end - sample).min(locations.width.max(1) - column);
            next = sample + length;
            let (example, positions) = (sample / count, column..column + length);
            (length > 0).then_some(Segment { example, row, positions, first: sample - start })
        })
    }

    /// Writes the patches of some samples, n words each.
    pub(super) fn read_patches<T: Scalar>(
        &self,
        images: &Columns<'_, T>,
        samples: Range<usize>,
        into: &mut [T],
    ) {
        self.transfer(Side::Patches, samples, &mut Transfer::Out { from: images, into }, false);
    }

    /// Writes the group's outputs of some samples, m words each.
    pub(super) fn read_outputs<T: Scalar>(
        &self,
        maps: &Columns<'_, T>,
        samples: Range<usize>,
        into: &mut [T],
    ) {
        self.transfer(Side::Outputs, samples, &mut Transfer::Out { from: maps, into }, false);
    }

    /// Adds the gradients of the patches of some samples, without a bias, to those of their images: the transpose of reading.
    pub(super) fn add_patches<T: Scalar>(
        &self,
        from: &[T],
        samples: Range<usize>,
        images: &mut MatrixMut<'_, T>,
    ) {
        self.transfer(Side::Patches, samples, &mut Transfer::Back { from, into: images }, true);
    }

    /// Writes the group's outputs of some samples into their maps.
    pub(super) fn write_outputs<T: Scalar>(
        &self,
        from: &[T],
        samples: Range<usize>,
        maps: &mut MatrixMut<'_, T>,
    ) {
        self.transfer(Side::Outputs, samples, &mut Transfer::Back { from, into: maps }, false);
    }

    /// Writes the mean of an image's patches over all locations, n words.
    pub(super) fn read_mean_patch<T: Scalar>(&self, image: &[T], into: &mut [T]) {
        let share = T::ONE / T::from_usize(self.locations().count);
        self.read_sum(Side::Patches, image, into);
        into.iter_mut().for_each(|word| *word *= share);
        if self.convolution.bias {
            set_last(self.columns(), into);
        }
    }

    /// Writes the sum of the group's outputs over all locations, m words.
    pub(super) fn read_summed_outputs<T: Scalar>(&self, map: &[T], into: &mut [T]) {
        self.read_sum(Side::Outputs, map, into);
    }

    fn read_sum<T: Scalar>(&self, side: Side, image: &[T], into: &mut [T]) {
        let (from, samples) = (&Columns { values: image, stride: 0 }, 0..self.locations().count);
        self.transfer(side, samples, &mut Transfer::Out { from, into }, true);
    }

    /// Takes the windows of some samples between their images, or maps, and the columns of a block: what is added out of them goes into
    /// one column. Kernel columns
    /// come from the last to the first, so that one value of the image is met by its locations in their order. A column that is longer
    /// than what lies under the kernel ends with a 1.
    #[inline(never)]
    fn transfer<T: Scalar>(
        &self,
        side: Side,
        samples: Range<usize>,
        work: &mut Transfer<'_, '_, T>,
        add: bool,
    ) {
        let grid = match side {
            Side::Patches => self.patches(),
            Side::Outputs => self.outputs(),
        };
        let (words, under) = (self.words(side), length(&grid.channels) * grid.taps());
        let bias = usize::from(self.convolution.bias && matches!(side, Side::Patches));
        let stride = match work {
            Transfer::Out { into, .. } => {
                into.fill(T::ZERO);
                if add { 0 } else { under + bias }
            }
            Transfer::Back { .. } => under,
        };
        let [rows, columns] = grid.axes;
        for segment in self.segments(samples) {
            for i in 0..rows.kernel() {
                for j in (0..columns.kernel()).rev() {
                    if let Some(window) = grid.window(&segment, [i, j], stride) {
                        work.take(&window, segment.example, words, add);
                    }
                }
            }
        }
        match work {
            Transfer::Out { into, .. } if stride > under => set_last(stride, into),
            _ => {}
        }
    }

    /// Writes the group's channels at some pixels, c words each, times the root of the share of the kernel's points that meet a pixel
    /// at a location; samples are the pixels of one image after another.
    pub(super) fn read_pixels<T: Scalar>(
        &self,
        images: &Columns<'_, T>,
        samples: Range<usize>,
        into: &mut [T],
    ) {
        let grid = self.patches();
        let ([rows, columns], [by_channel, ..]) = (grid.axes, grid.strides);
        let (pixels, width) = (self.convolution.pixels().max(1), columns.length().max(1));
        let (channels, taps) = (&grid.channels, T::from_usize(grid.taps()));
        for (sample, into) in samples.zip(into.chunks_exact_mut(length(channels).max(1))) {
            let image = images.column(sample / pixels, self.convolution.input_words());
            let (row, column) = (sample % pixels / width, sample % width);
            let share = (T::from_usize(rows.meetings(row) * columns.meetings(column)) / taps).sqrt();
            let values = image.get(grid.at([row, column])..).unwrap_or_default();
            for (into, value) in into.iter_mut().zip(values.iter().step_by(by_channel.max(1))) {
                *into = share * *value;
            }
        }
    }

    /// Writes the mean of the group's channels under one kernel point after another, c words each, over all locations; samples are
    /// the points of one image after another.
    pub(super) fn read_mean_points<T: Scalar>(
        &self,
        images: &Columns<'_, T>,
        samples: Range<usize>,
        into: &mut [T],
    ) {
        let (grid, locations) = (self.patches(), self.locations());
        let ([rows, columns], [by_channel, ..]) = (grid.axes, grid.strides);
        let (taps, kernel, channels) = (grid.taps().max(1), columns.kernel().max(1), &grid.channels);
        let each = T::ONE / T::from_usize(locations.count.max(1));
        for (sample, into) in samples.zip(into.chunks_exact_mut(length(channels).max(1))) {
            let image = images.column(sample / taps, self.convolution.input_words());
            let (i, j) = (sample % taps / kernel, sample % kernel);
            into.fill(T::ZERO);
            for location in 0..locations.count {
                let [row, column] = locations.place(location);
                let Some((row, column)) = rows.tap(row, i).zip(columns.tap(column, j)) else { continue };
                let values = image.get(grid.at([row, column])..).unwrap_or_default();
                let values = values.iter().step_by(by_channel.max(1));
                into.iter_mut().zip(values).for_each(|(into, value)| *into += *value);
            }
            into.iter_mut().for_each(|value| *value *= each);
        }
    }
}

/// A 1 at the end of every column.
fn set_last<T: Scalar>(stride: usize, columns: &mut [T]) {
    let columns = columns.chunks_exact_mut(stride.max(1));
    columns.filter_map(<[T]>::last_mut).for_each(|last| *last = T::ONE);
}

/// The length of a range, where `len` has an assertion that not every build can prove.
fn length(range: &Range<usize>) -> usize {
    range.end.saturating_sub(range.start)
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
