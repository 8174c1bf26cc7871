//! The geometry of a convolution: plain data, and the only place where its lengths are computed.
//!
//! ```text
//! T          the product of the positions along both axes ([`Axis`]): locations, at each of which the same weights are used
//! block      n = channels / groups * kernel rows * kernel columns (+ 1 with a bias),  m = outputs / groups
//! ```
//!
//! *Invariant*: a patch runs over channel, kernel row, kernel column, the bias's 1 last; what lies in the padding is zero.
//! *Cost*: none at run time that a constant could not take. *Failure*: sizes that overflow saturate, and
//! [`Convolution::check`] refuses them.

use super::{
    axis::Axis,
    block::{Block, Form, MOST_TOKENS},
    walk::Walk,
};
use crate::{Error, Shape};

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
    #[cfg_attr(feature = "serde", serde(default))]
    pub(super) form: Form,
}

impl Convolution {
    /// A convolution along one axis.
    pub const fn new_1d(channels: usize, axis: Axis, outputs: usize) -> Self {
        Self::new_2d(channels, [Axis::new(1, 1), axis], outputs)
    }

    /// A convolution over rows and columns.
    pub const fn new_2d(channels: usize, [rows, columns]: [Axis; 2], outputs: usize) -> Self {
        let (groups, bias, layout) = (1, true, Layout::ChannelsFirst);
        Self { channels, outputs, axes: [rows, columns], groups, bias, layout, form: Form::Full }
    }

    /// A dense layer along a sequence of `length` vectors, which lie one after another: inputs x T in, outputs x T out.
    pub const fn sequence(inputs: usize, length: usize, outputs: usize) -> Self {
        Self::new_1d(inputs, Axis::new(length, 1), outputs).layout(Layout::ChannelsLast)
    }

    /// One filter for each channel, over rows and columns.
    pub const fn depthwise(channels: usize, axes: [Axis; 2]) -> Self {
        Self::new_2d(channels, axes, channels).groups(channels)
    }

    /// A vector of `outputs` values for each of so many tokens ([`Block::DiagonalInput`]): z_t = w of token x_t, without a bias. An
    /// example is a sequence of `length` tokens, whole numbers from 0 to `vocabulary` - 1 held as values; its outputs lie one vector
    /// after another, and no gradient is handed below, so that an embedding is the lowest layer of a net. At most 2^24 tokens, which
    /// `f32` tells apart. Its weights are m x vocabulary, a column for each token.
    ///
    /// ```
    /// use ekfac::{MatrixMut, MatrixRef, Reference, convolution::Convolution};
    /// // Two values for each of three tokens; examples of two tokens.
    /// const LAYER: Convolution = Convolution::embedding(3, 2, 2);
    /// assert_eq!((LAYER.input_words(), LAYER.output_words(), LAYER.parameters()), (2, 4, 6));
    /// let (tokens, mut out) = (nalgebra::matrix![2.0; 0.0], nalgebra::SMatrix::<f64, 4, 1>::zeros());
    /// let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    /// LAYER.forward(&Reference, &weights, MatrixRef::from(&tokens), MatrixMut::from(&mut out), &mut [])?;
    /// assert_eq!(out, nalgebra::matrix![5.0; 6.0; 1.0; 2.0]);
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    pub const fn embedding(vocabulary: usize, length: usize, outputs: usize) -> Self {
        let plain = Self::sequence(1, length, outputs).without_bias();
        Self { form: Form::Embedding(vocabulary), ..plain }
    }

    /// A scale and a shift for each channel ([`Block::Diagonal`]): z = scale x + shift at every location, for images of so many rows
    /// and columns; a normalisation's learned part, where there is no batch to normalise over. Its weights are all scales, then
    /// all shifts; [`without_bias`](Self::without_bias), scales alone. Over an image of ones it is the diagonal block of any
    /// parameters whose gradient of each example is known ([`ConvolutionPreconditioner`](super::ConvolutionPreconditioner)).
    ///
    /// ```
    /// use ekfac::{MatrixMut, MatrixRef, Reference, convolution::Convolution};
    /// const LAYER: Convolution = Convolution::affine(2, [1, 2]);
    /// let (image, mut out) = (nalgebra::matrix![1.0; 2.0; 3.0; 4.0], nalgebra::SMatrix::<f64, 4, 1>::zeros());
    /// let weights = [10.0, 100.0, 0.5, 0.25];
    /// LAYER.forward(&Reference, &weights, MatrixRef::from(&image), MatrixMut::from(&mut out), &mut [])?;
    /// assert_eq!(out, nalgebra::matrix![10.5; 20.5; 300.25; 400.25]);
    /// # Ok::<(), ekfac::Error>(())
    /// ```
    pub const fn affine(channels: usize, [rows, columns]: [usize; 2]) -> Self {
        let plain = Self::new_2d(channels, [Axis::new(rows, 1), Axis::new(columns, 1)], channels);
        Self { form: Form::Affine, ..plain }
    }

    /// The same convolution with a factor of its channels alone ([`Block::Uncorrelated`]): c^2 words and work instead of (k c)^2
    /// for a kernel of k points. Another kind of layer, and a kernel of one point, stay what they are.
    ///
    /// ```
    /// use ekfac::convolution::{Axis, Block, Convolution};
    /// const FULL: Convolution = Convolution::new_2d(16, [Axis::new(8, 3).padding(1); 2], 16);
    /// const LAYER: Convolution = FULL.uncorrelated();
    /// assert_eq!((FULL.block(), LAYER.block()), (Block::Full, Block::Uncorrelated));
    /// assert_eq!((FULL.shape().lines(), LAYER.shape().lines(), LAYER.shape().points()), (145, 16, 9));
    /// assert_eq!((FULL.state_words(), LAYER.state_words()), (36_657, 5_440));
    /// ```
    #[must_use]
    pub const fn uncorrelated(self) -> Self {
        match self.form {
            Form::Full => Self { form: Form::Uncorrelated, ..self },
            _ => self,
        }
    }

    /// The block of the Fisher that this layer's weights have.
    pub const fn block(&self) -> Block {
        match self.form {
            Form::Full => Block::Full,
            Form::Uncorrelated if self.kernel_points() == 1 => Block::Full,
            Form::Uncorrelated => Block::Uncorrelated,
            Form::Embedding(_) => Block::DiagonalInput,
            Form::Affine => Block::Diagonal,
        }
    }

    /// Values of one channel of an image.
    pub(super) const fn pixels(&self) -> usize {
        let [rows, columns] = self.axes;
        rows.length.saturating_mul(columns.length)
    }

    /// How many tokens an embedding has; none of another kind.
    pub(super) const fn vocabulary(&self) -> Option<usize> {
        if let Form::Embedding(tokens) = self.form { Some(tokens) } else { None }
    }

    /// Scales of an affine layer.
    pub(super) const fn channels(&self) -> usize {
        self.channels
    }

    /// k.
    pub(super) const fn kernel_points(&self) -> usize {
        let [rows, columns] = self.axes;
        rows.kernel.saturating_mul(columns.kernel)
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

    /// Whether something is added at every location: a bias, the shifts of an affine layer.
    pub const fn has_bias(&self) -> bool {
        self.bias
    }

    /// How images, and its outputs, lie in memory.
    pub const fn order(&self) -> Layout {
        self.layout
    }

    pub(super) const fn is_depthwise(&self) -> bool {
        self.groups == self.channels && self.groups == self.outputs && matches!(self.form, Form::Full)
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

    /// The block of one group: m outputs over the elements of a patch, or over the tokens of an embedding; all parameters of an affine
    /// layer in one row.
    pub const fn shape(&self) -> Shape {
        let patches = self.patch_shape();
        match (self.form, self.kernel_points()) {
            (Form::Full, _) | (Form::Uncorrelated, 1) => patches,
            (Form::Uncorrelated, points) => patches.shared_by(points),
            (Form::Embedding(vocabulary), _) => {
                Shape::new(vocabulary, self.outputs).without_bias().diagonal()
            }
            (Form::Affine, _) => {
                Shape::new(self.channels.saturating_mul(1 + self.bias as usize), 1).without_bias().diagonal()
            }
        }
    }

    /// The same, of an affine layer with its channels as rows, as a step sees it.
    pub(super) const fn seen_shape(&self) -> Shape {
        match (self.form, self.bias) {
            (Form::Affine, true) => Shape::new(1, self.channels),
            (Form::Affine, false) => Shape::new(1, self.channels).without_bias(),
            _ => self.shape(),
        }
    }

    pub(super) const fn patch_shape(&self) -> Shape {
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
    /// [`mean_gradient`](Self::mean_gradient)) with so many locations at a time, at least one: (m + n) each, and none for an embedding
    /// or an affine layer.
    pub const fn scratch_words(&self, columns: usize) -> usize {
        let shape = self.shape();
        if shape.points() == 0 {
            return 0;
        }
        columns.saturating_mul(shape.rows().saturating_add(shape.columns()))
    }

    /// Refuses zero sizes, a kernel that does not fit, groups that do not divide or that a kind does not have, and sizes that overflow.
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
        match self.form {
            Form::Embedding(_) | Form::Affine if self.groups > 1 => {
                return Err(Error::OutOfRange { argument: "groups", index: 0 });
            }
            Form::Embedding(0) => return Err(Error::Empty { argument: "vocabulary" }),
            Form::Embedding(tokens) if tokens > MOST_TOKENS => {
                return Err(Error::SizeOverflow { argument: "vocabulary" });
            }
            _ => {}
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
    pub(super) fn walk(&self, group: usize) -> Walk<'_> {
        Walk { convolution: self, group }
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
