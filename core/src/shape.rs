//! The shape of a layer: the only place where lengths are computed.
//!
//! A layer with `inputs` inputs and `outputs` outputs has a weight matrix W of m x n, m = outputs, n = inputs + 1 with
//! a bias (the last column). Its state, one contiguous buffer, is
//!
//! ```text
//! words = 7 + [4 + n (n+1)/2 + n^2] + [4 + m (m+1)/2 + m^2] + m n + m n
//!         |    |   C_A         U_A         C_B         U_B     S     velocity
//!         |    cursors of a factor's walk and of the care for its orthogonality
//!         header: marks and the stored weights of the moving averages
//! ```
//!
//! That is a full block. The input side of a layer with shared weights may be smaller
//! ([`Convolution::block`](crate::Convolution::block)); its words are then
//!
//! ```text
//! shared by k points   4 + c (c+1)/2 + c^2 | 1 with a bias     one factor of c = inputs / k lines, A = I_k x C_A | the bias's moment
//! diagonal             4 | n                                   no basis: U_A = I | diag A
//! ```
//!
//! All lengths are `const fn`, so `static BUFFER: [f32; SHAPE.words()]` compiles. Sizes that overflow saturate at
//! `usize::MAX`, which no buffer has; [`Shape::check`] turns them into an error.

use crate::{Error, single::BATCHES};

/// Words in front of a layer's state: marks and the stored weights of the moving averages.
pub const HEADER: usize = 7;

/// Words of a factor's two cursors.
pub const CURSORS: usize = 4;

/// Inputs, outputs and options of one layer.
///
/// ```
/// use ekfac::Shape;
/// const SHAPE: Shape = Shape::new(16, 8);
/// static BUFFER: [f32; SHAPE.words()] = [0.0; SHAPE.words()];
/// assert_eq!((SHAPE.rows(), SHAPE.columns(), SHAPE.parameters()), (8, 17, 136));
/// assert_eq!(BUFFER.len(), 7 + (4 + 153 + 289) + (4 + 36 + 64) + 136 + 136);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize), serde(from = "Plain"))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Shape {
    inputs: usize,
    outputs: usize,
    columns: usize,
    /// Of the input side's factor, and words of diag A that it does not have.
    lines: usize,
    moments: usize,
}

impl Shape {
    /// A layer with a bias.
    pub const fn new(inputs: usize, outputs: usize) -> Self {
        let columns = inputs.saturating_add(1);
        Self { inputs, outputs, columns, lines: columns, moments: 0 }
    }

    /// The same without a bias.
    #[must_use]
    pub const fn without_bias(mut self) -> Self {
        (self.columns, self.lines) = (self.inputs, self.inputs);
        self
    }

    /// The same with inputs that are channels of `points` points each, which share one factor of as many lines as there are channels.
    #[must_use]
    #[cfg(feature = "batches")]
    pub(crate) const fn shared_by(mut self, points: usize) -> Self {
        if let Some(channels) = self.inputs.checked_div(points) {
            self.lines = channels;
            self.moments = self.columns - self.inputs;
        }
        self
    }

    /// The same with a diagonal A, whose basis is the identity and takes no words.
    #[must_use]
    #[cfg(feature = "batches")]
    pub(crate) const fn diagonal(mut self) -> Self {
        self.lines = 0;
        self.moments = self.columns;
        self
    }

    /// Inputs, the bias not counted.
    pub const fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs.
    pub const fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether the last column of W is a bias.
    pub const fn bias(&self) -> bool {
        self.columns > self.inputs
    }

    /// m, the rows of W: outputs.
    pub const fn rows(&self) -> usize {
        self.outputs
    }

    /// n, the columns of W: inputs, plus 1 with a bias.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Lines of the input side's factor: n in a full block, the channels where points share it, 0 where A is diagonal.
    pub const fn lines(&self) -> usize {
        self.lines
    }

    /// k, the points that share one factor of the inputs: 1 in a full block, 0 where A is diagonal.
    pub const fn points(&self) -> usize {
        match self.inputs.checked_div(self.lines) {
            // A bias makes a full block one line longer.
            Some(points) if points > 0 => points,
            Some(_) => 1,
            None => 0,
        }
    }

    /// Words of diag A that no factor has: none in a full block, the bias's where points share one, all n where A is diagonal.
    pub(crate) const fn moments(&self) -> usize {
        self.moments
    }

    /// Whether the input side is one factor of all columns.
    pub(crate) const fn is_full(&self) -> bool {
        self.lines == self.columns
    }

    /// m n, the number of weights.
    pub const fn parameters(&self) -> usize {
        self.rows().saturating_mul(self.columns())
    }

    /// The larger side.
    pub const fn longest_side(&self) -> usize {
        if self.rows() > self.columns() { self.rows() } else { self.columns() }
    }

    /// Words of a layer's state; the formula stands in the [module](self) documentation.
    pub const fn words(&self) -> usize {
        HEADER
            .saturating_add(factor_words(self.lines()))
            .saturating_add(self.moments())
            .saturating_add(factor_words(self.rows()))
            .saturating_add(self.parameters())
            .saturating_add(self.parameters())
    }

    /// [`columns`](Self::columns) of a layer that lies in memory, whose sizes therefore do not overflow: a step asks for them at
    /// every turn.
    pub(crate) const fn columns_held(&self) -> usize {
        self.columns
    }

    /// [`parameters`](Self::parameters), likewise.
    pub(crate) const fn parameters_held(&self) -> usize {
        self.rows() * self.columns_held()
    }

    /// [`words`](Self::words), likewise.
    pub(crate) const fn words_held(&self) -> usize {
        let m = self.rows();
        HEADER
            + factor_words_held(self.lines)
            + self.moments
            + factor_words_held(m)
            + 2 * self.parameters_held()
    }

    /// Refuses the shape of a convolution whose block is not a full one: what is dense would read it wrongly.
    ///
    /// # Errors
    /// [`Error::OutOfRange`].
    ///
    /// ```
    /// use ekfac::{Convolution, Shape};
    /// assert!(Shape::new(3, 2).expect_full().is_ok());
    /// assert!(Convolution::embedding(3, 4, 2).shape().expect_full().is_err());
    /// ```
    pub const fn expect_full(&self) -> Result<(), Error> {
        // Without convolutions there is no other.
        if BATCHES && !self.is_full() {
            Err(Error::OutOfRange { argument: "shape", index: 0 })
        } else {
            Ok(())
        }
    }

    /// Refuses zero sizes and sizes that overflow.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::SizeOverflow`].
    pub const fn check(&self) -> Result<(), Error> {
        if self.inputs == 0 {
            return Err(Error::Empty { argument: "inputs" });
        }
        if self.outputs == 0 {
            return Err(Error::Empty { argument: "outputs" });
        }
        if self.words() == usize::MAX { Err(Error::SizeOverflow { argument: "shape" }) } else { Ok(()) }
    }
}

/// What is written of a full block. The shape of another one follows from its convolution, which is what to keep.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename = "Shape")]
struct Plain {
    inputs: usize,
    outputs: usize,
    bias: bool,
}

#[cfg(feature = "serde")]
impl From<Plain> for Shape {
    fn from(Plain { inputs, outputs, bias }: Plain) -> Self {
        let shape = Self::new(inputs, outputs);
        if bias { shape } else { shape.without_bias() }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Shape {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_full() {
            return Err(serde::ser::Error::custom("only the shape of a full block is written by itself"));
        }
        let (inputs, outputs, bias) = (self.inputs, self.outputs, self.bias());
        Plain { inputs, outputs, bias }.serialize(serializer)
    }
}

/// Words of a packed symmetric matrix: n (n+1) / 2.
pub const fn packed_words(size: usize) -> usize {
    // Beyond this no memory holds the matrix, and the product could overflow.
    const MOST: usize = usize::MAX >> (usize::BITS / 2);
    if size > MOST { usize::MAX } else { size * (size + 1) / 2 }
}

/// [`factor_words`] of a factor that lies in memory.
pub(crate) const fn factor_words_held(size: usize) -> usize {
    CURSORS + packed_words_held(size) + size * size
}

/// [`packed_words`] of a matrix that lies in memory.
pub(crate) const fn packed_words_held(size: usize) -> usize {
    size * (size + 1) / 2
}

/// Words of one factor: its cursors, its covariance, packed, and its basis.
pub const fn factor_words(size: usize) -> usize {
    CURSORS.saturating_add(packed_words(size)).saturating_add(size.saturating_mul(size))
}
