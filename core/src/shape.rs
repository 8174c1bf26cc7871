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
//! All lengths are `const fn`, so `static BUFFER: [f32; SHAPE.words()]` compiles. Sizes that overflow saturate at
//! `usize::MAX`, which no buffer has; [`Shape::check`] turns them into an error.

use crate::Error;

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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Shape {
    inputs: usize,
    outputs: usize,
    bias: bool,
}

impl Shape {
    /// A layer with a bias.
    pub const fn new(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, bias: true }
    }

    /// The same without a bias.
    #[must_use]
    pub const fn without_bias(mut self) -> Self {
        self.bias = false;
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
        self.bias
    }

    /// m, the rows of W: outputs.
    pub const fn rows(&self) -> usize {
        self.outputs
    }

    /// n, the columns of W: inputs, plus 1 with a bias.
    pub const fn columns(&self) -> usize {
        self.inputs.saturating_add(self.bias as usize)
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
            .saturating_add(factor_words(self.columns()))
            .saturating_add(factor_words(self.rows()))
            .saturating_add(self.parameters())
            .saturating_add(self.parameters())
    }

    /// [`columns`](Self::columns) of a layer that lies in memory, whose sizes therefore do not overflow: a step asks for them at
    /// every turn.
    pub(crate) const fn columns_held(&self) -> usize {
        self.inputs + self.bias as usize
    }

    /// [`parameters`](Self::parameters), likewise.
    pub(crate) const fn parameters_held(&self) -> usize {
        self.rows() * self.columns_held()
    }

    /// [`words`](Self::words), likewise.
    pub(crate) const fn words_held(&self) -> usize {
        let (n, m) = (self.columns_held(), self.rows());
        HEADER + factor_words_held(n) + factor_words_held(m) + 2 * self.parameters_held()
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
