//! The geometry of a convolution: plain data, and the only place where its lengths are computed.
//!
//! ```text
//! span       dilation (kernel - 1) + 1                            along each axis
//! positions  floor((length + 2 padding - span) / stride) + 1
//! T          the product of the positions: locations, at each of which the same weights are used
//! block      n = channels / groups * kernel rows * kernel columns (+ 1 with a bias),  m = outputs / groups
//! ```
//!
//! *Invariant*: a patch runs over channel, kernel row, kernel column, the bias's 1 last; what lies in the padding is zero.
//! *Cost*: none at run time that a constant could not take. *Failure*: sizes that overflow saturate, and
//! [`Convolution::check`] refuses them.

use super::walk::{Grid, Walk};
use crate::{Error, Shape};
use core::ops::Range;

/// One axis of an image, and of the kernel that slides along it.
///
/// ```
/// use ekfac::convolution::Axis;
/// const AXIS: Axis = Axis::new(28, 3).stride(2).padding(1);
/// assert_eq!((AXIS.span(), AXIS.positions()), (3, 14));
/// assert_eq!(AXIS.dilation(4).positions(), 11);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Axis {
    pub(super) length: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    pub(super) dilation: usize,
}

impl Axis {
    /// A kernel of this size on an axis of this length: stride 1, no padding, dilation 1.
    pub const fn new(length: usize, kernel: usize) -> Self {
        Self { length, kernel, stride: 1, padding: 0, dilation: 1 }
    }

    /// The same with a step between two positions of the kernel.
    #[must_use]
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// The same with so many zeros on both ends.
    #[must_use]
    pub const fn padding(self, padding: usize) -> Self {
        Self { padding, ..self }
    }

    /// The same with a step between two elements of the kernel.
    #[must_use]
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// The length of the image along this axis.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The size of the kernel along this axis.
    pub const fn kernel(&self) -> usize {
        self.kernel
    }

    /// How far the kernel reaches, dilation (kernel - 1) + 1.
    pub const fn span(&self) -> usize {
        self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1)
    }

    /// Positions of the kernel; 0 where it does not fit.
    pub const fn positions(&self) -> usize {
        match (self.padded().checked_sub(self.span()), self.stride) {
            (Some(room), 1..) => room / self.stride + 1,
            _ => 0,
        }
    }

    const fn padded(&self) -> usize {
        self.length.saturating_add(self.padding.saturating_mul(2))
    }

    const fn check(&self) -> Result<(), Error> {
        if self.length == 0 {
            return Err(Error::Empty { argument: "length" });
        }
        if self.kernel == 0 {
            return Err(Error::Empty { argument: "kernel" });
        }
        if self.stride == 0 {
            return Err(Error::Empty { argument: "stride" });
        }
        if self.dilation == 0 {
            return Err(Error::Empty { argument: "dilation" });
        }
        if self.padded() == usize::MAX || self.span() == usize::MAX {
            return Err(Error::SizeOverflow { argument: "axis" });
        }
        if self.positions() == 0 { Err(Error::OutOfRange { argument: "kernel", index: 0 }) } else { Ok(()) }
    }

    /// The positions among these at which an element of the kernel lies in the image.
    pub(super) fn inside(&self, positions: &Range<usize>, element: usize) -> Range<usize> {
        let (before, stride) = (element * self.dilation, self.stride.max(1));
        let first = |place: usize| {
            // Not `clamp`, which can panic.
            place.saturating_sub(before).div_ceil(stride).max(positions.start).min(positions.end)
        };
        first(self.padding)..first(self.padding + self.length)
    }

    /// The step between two positions of the kernel.
    pub(super) fn step(&self) -> usize {
        self.stride
    }

    /// Where in the image an element of the kernel lies at one position; `None` in the padding.
    pub(super) fn tap(&self, position: usize, element: usize) -> Option<usize> {
        let place = position * self.stride + element * self.dilation;
        place.checked_sub(self.padding).filter(|place| *place < self.length)
    }
}

/// How the values of an image lie in memory, one example a column of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Layout {
    /// Channel after channel, each of them row by row (NCHW).
    ChannelsFirst,
    /// Location after location, all channels of each (NHWC): the columns of a sequence.
    ChannelsLast,
}

/// A convolution in one or two dimensions, and, with a kernel of 1, a dense layer along a sequence. The defaults: one group, a
/// bias, [`Layout::ChannelsFirst`].
///
/// Its weights are one block for each group, one after another: m x n, column-major, a patch's order along the columns and the
/// bias in the last. Its state is that of as many layers ([`Shape::words`]).
///
/// ```
/// use ekfac::convolution::{Axis, Convolution};
/// const SIDE: Axis = Axis::new(28, 3).stride(2).padding(1);
/// const LAYER: Convolution = Convolution::new_2d(4, [SIDE, SIDE], 8).groups(2);
/// static STATE: [f32; LAYER.state_words()] = [0.0; LAYER.state_words()];
/// assert_eq!((LAYER.locations(), LAYER.input_words(), LAYER.output_words()), (14 * 14, 4 * 784, 8 * 196));
/// assert_eq!((LAYER.shape().rows(), LAYER.shape().columns(), LAYER.parameters()), (4, 2 * 9 + 1, 2 * 4 * 19));
/// // A sensor of 6 channels, 128 samples long, a filter of its own for each channel.
/// const DEPTHWISE: Convolution = Convolution::new_1d(6, Axis::new(128, 5), 6).groups(6);
/// assert_eq!((DEPTHWISE.locations(), DEPTHWISE.parameters()), (124, 6 * 6));
/// assert_eq!(STATE.len(), 2 * LAYER.shape().words());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Convolution {
    pub(super) channels: usize,
    pub(super) outputs: usize,
    pub(super) axes: [Axis; 2],
    pub(super) groups: usize,
    pub(super) bias: bool,
    pub(super) layout: Layout,
}

impl Convolution {
    /// A convolution along one axis.
    pub const fn new_1d(channels: usize, axis: Axis, outputs: usize) -> Self {
        Self::new_2d(channels, [Axis::new(1, 1), axis], outputs)
    }

    /// A convolution over rows and columns.
    pub const fn new_2d(channels: usize, [rows, columns]: [Axis; 2], outputs: usize) -> Self {
        let (groups, bias, layout) = (1, true, Layout::ChannelsFirst);
        Self { channels, outputs, axes: [rows, columns], groups, bias, layout }
    }

    /// A dense layer along a sequence of `length` vectors, which lie one after another: inputs x T in, outputs x T out.
    pub const fn sequence(inputs: usize, length: usize, outputs: usize) -> Self {
        Self::new_1d(inputs, Axis::new(length, 1), outputs).layout(Layout::ChannelsLast)
    }

    /// One filter for each channel, over rows and columns.
    pub const fn depthwise(channels: usize, axes: [Axis; 2]) -> Self {
        Self::new_2d(channels, axes, channels).groups(channels)
    }

    /// The same in groups: inputs and outputs are split alike, and the outputs of a group see its inputs only. As many groups as
    /// channels make it depthwise.
    #[must_use]
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The same without a bias.
    #[must_use]
    pub const fn without_bias(self) -> Self {
        Self { bias: false, ..self }
    }

    /// The same for images, and gradients, that lie otherwise in memory.
    #[must_use]
    pub const fn layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// Rows and columns.
    pub const fn axes(&self) -> [Axis; 2] {
        self.axes
    }

    pub(super) const fn is_depthwise(&self) -> bool {
        self.groups == self.channels && self.groups == self.outputs
    }

    /// The number of groups, each with weights and a state of its own.
    pub const fn group_count(&self) -> usize {
        self.groups
    }

    /// T, the locations at which the weights are used.
    pub const fn locations(&self) -> usize {
        let [rows, columns] = self.axes;
        rows.positions().saturating_mul(columns.positions())
    }

    /// Values of one image.
    pub const fn input_words(&self) -> usize {
        let [rows, columns] = self.axes;
        self.channels.saturating_mul(rows.length).saturating_mul(columns.length)
    }

    /// Values of one image's pre-activations: outputs times T.
    pub const fn output_words(&self) -> usize {
        self.outputs.saturating_mul(self.locations())
    }

    /// The block of one group: m outputs over the elements of a patch.
    pub const fn shape(&self) -> Shape {
        let [rows, columns] = self.axes;
        let patch =
            per_group(self.channels, self.groups).saturating_mul(rows.kernel).saturating_mul(columns.kernel);
        let shape = Shape::new(patch, per_group(self.outputs, self.groups));
        if self.bias { shape } else { shape.without_bias() }
    }

    /// The number of weights, all groups together.
    pub const fn parameters(&self) -> usize {
        self.groups.saturating_mul(self.shape().parameters())
    }

    /// Words of the state, all groups together.
    pub const fn state_words(&self) -> usize {
        self.groups.saturating_mul(self.shape().words())
    }

    /// Words of scratch for the passes ([`forward`](Self::forward), [`backward`](Self::backward),
    /// [`mean_gradient`](Self::mean_gradient)) with so many locations at a time, at least one: (m + n) each.
    pub const fn scratch_words(&self, columns: usize) -> usize {
        let shape = self.shape();
        columns.saturating_mul(shape.rows().saturating_add(shape.columns()))
    }

    /// Refuses zero sizes, a kernel that does not fit, groups that do not divide, and sizes that overflow.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::OutOfRange`], [`Error::SizeOverflow`].
    pub const fn check(&self) -> Result<(), Error> {
        let [rows, columns] = self.axes;
        if let Err(error) = rows.check() {
            return Err(error);
        }
        if let Err(error) = columns.check() {
            return Err(error);
        }
        if self.channels == 0 {
            return Err(Error::Empty { argument: "channels" });
        }
        if self.outputs == 0 {
            return Err(Error::Empty { argument: "outputs" });
        }
        if self.groups == 0 {
            return Err(Error::Empty { argument: "groups" });
        }
        if !(divides(self.groups, self.channels) && divides(self.groups, self.outputs)) {
            return Err(Error::OutOfRange { argument: "groups", index: 0 });
        }
        if let Err(error) = self.shape().check() {
            return Err(error);
        }
        let most = self.state_words() == usize::MAX
            || self.input_words() == usize::MAX
            || self.output_words() == usize::MAX;
        if most { Err(Error::SizeOverflow { argument: "convolution" }) } else { Ok(()) }
    }

    /// The walk over one group's patches.
    pub(super) fn walk(&self, group: usize) -> Walk {
        let [rows, columns] = self.axes;
        let (height, width) = (rows.positions(), columns.positions());
        let m = per_group(self.outputs, self.groups);
        let channels = per_group(self.channels, self.groups);
        Walk {
            patches: Grid {
                axes: self.axes,
                channels: self.part(group, channels),
                strides: self.strides(self.channels, [rows.length, columns.length]),
            },
            outputs: Grid {
                axes: [Axis::new(height, 1), Axis::new(width, 1)],
                channels: self.part(group, m),
                strides: self.strides(self.outputs, [height, width]),
            },
            width,
            locations: height.saturating_mul(width),
            bias: self.bias,
        }
    }

    fn part(&self, group: usize, each: usize) -> Range<usize> {
        let start = group.saturating_mul(each);
        start..start.saturating_add(each)
    }

    /// Words from one channel to the next, from row to row, from column to column.
    const fn strides(&self, channels: usize, [height, width]: [usize; 2]) -> [usize; 3] {
        match self.layout {
            Layout::ChannelsFirst => [height.saturating_mul(width), width, 1],
            Layout::ChannelsLast => [1, width.saturating_mul(channels), channels],
        }
    }
}

const fn per_group(whole: usize, groups: usize) -> usize {
    match whole.checked_div(groups) {
        Some(part) => part,
        None => 0,
    }
}

const fn divides(groups: usize, whole: usize) -> bool {
    per_group(whole, groups).saturating_mul(groups) == whole
}
