//! What an engine must be able to do: some ten operations over buffers of its own, in `f32`.
//!
//! A matrix is a [`View`] of a buffer, column-major as everywhere. Operations may be queued: only [`Engine::read`],
//! [`Engine::measure`] and [`Engine::survey`] wait. `keep` = 0 means that the old values are not read, so NaN does not survive it.
//! *Failure*: a [`Fault`], after which the caller asks nothing more of the engine.

use ekfac::{Activation, Error};
use std::fmt;

/// Why an engine cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// No such device, or its library is not installed.
    Missing(String),
    /// The device or its driver failed.
    Lost(String),
    /// No room for so many words.
    OutOfMemory(usize),
    /// It returned a number that is NaN or infinite where the data were finite.
    NotFinite,
    /// It did not answer in time.
    Late,
    /// The thread that drives it ended, or its answer belonged to another question.
    Gone,
    /// The call itself was wrong, and nothing has been done.
    Call(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing(what) => write!(formatter, "missing: {what}"),
            Fault::Lost(what) => write!(formatter, "device lost: {what}"),
            Fault::OutOfMemory(words) => write!(formatter, "out of memory for {words} words"),
            Fault::NotFinite => write!(formatter, "the device returned NaN or infinity"),
            Fault::Late => write!(formatter, "the device did not answer in time"),
            Fault::Gone => write!(formatter, "the device's thread is gone"),
            Fault::Call(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Element (i, j) of a matrix lies at `offset + i + j * stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Of the first element.
    pub offset: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// From one column to the next.
    pub stride: usize,
}

impl View {
    /// A whole buffer as a matrix.
    #[must_use]
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { offset: 0, rows, columns, stride: rows }
    }

    /// Columns from `start` on.
    #[must_use]
    pub fn columns(self, start: usize, count: usize) -> Self {
        Self { offset: self.offset + start * self.stride, columns: count, ..self }
    }

    /// The first rows.
    #[must_use]
    pub fn top(self, rows: usize) -> Self {
        Self { rows, ..self }
    }

    /// One row, as a matrix of one row.
    #[must_use]
    pub fn row(self, index: usize) -> Self {
        Self { offset: self.offset + index, rows: 1, ..self }
    }

    /// The diagonal of a square matrix, as a matrix of one row.
    #[must_use]
    pub fn diagonal(self) -> Self {
        Self { rows: 1, stride: self.stride + 1, ..self }
    }

    /// Words from the first element to the last.
    #[must_use]
    pub fn end(self) -> usize {
        if self.rows == 0 || self.columns == 0 {
            return self.offset;
        }
        self.offset + (self.columns - 1) * self.stride + self.rows
    }
}

/// A matrix that an operation reads.
#[derive(Debug)]
pub struct Operand<'b, B> {
    /// Where it lies.
    pub buffer: &'b B,
    /// Which part.
    pub view: View,
}

impl<B> Clone for Operand<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B> Copy for Operand<'_, B> {}

/// A part of a buffer to read.
pub fn from<B>(buffer: &B, view: View) -> Operand<'_, B> {
    Operand { buffer, view }
}

/// A matrix that an operation writes.
pub struct Target<'b, B> {
    /// Where it lies.
    pub buffer: &'b mut B,
    /// Which part.
    pub view: View,
}

/// A part of a buffer to write.
pub fn into<B>(buffer: &mut B, view: View) -> Target<'_, B> {
    Target { buffer, view }
}

/// An operation element by element; x and y are the inputs, out the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Map {
    /// out = keep out + scale x.
    Sum {
        /// Of x.
        scale: f32,
        /// Of out.
        keep: f32,
    },
    /// out = keep out + scale x^2.
    Square {
        /// Of x^2.
        scale: f32,
        /// Of out.
        keep: f32,
    },
    /// out = keep out + scale x / (y + add).
    Quotient {
        /// Of the quotient.
        scale: f32,
        /// Of out.
        keep: f32,
        /// To y.
        add: f32,
    },
    /// out_ij = (max(x_i, 0) + rows) (max(y_j, 0) + columns), x and y of one row each.
    Outer {
        /// Added to x.
        rows: f32,
        /// Added to y.
        columns: f32,
    },
    /// out = activation(x).
    Activate(Activation),
    /// out = out * derivative of the activation at z = x, h = y.
    Derive(Activation),
    /// out = 1 or -1, by a hash of the seed and the element's index i + j * rows ([`sign`]).
    Signs(u32),
}

/// What a matrix holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// The sum.
    pub sum: f64,
    /// The sum of the squares.
    pub squares: f64,
    /// The largest magnitude; infinite or NaN if any element is not finite.
    pub largest: f32,
}

/// What a step would do to a layer ([`ekfac::step::Survey`]), K and D = K / (S + lambda) being m x n.
#[derive(Debug)]
pub struct Question<'b, B> {
    /// K.
    pub gradient: Operand<'b, B>,
    /// S.
    pub scalings: Operand<'b, B>,
    /// lambda.
    pub damping: f32,
    /// The velocity.
    pub velocity: Operand<'b, B>,
    /// The weights.
    pub weights: Operand<'b, B>,
    /// diag C_A, one row.
    pub spectrum: Operand<'b, B>,
}

/// Its answer, whose sums are NaN or infinite if any element is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Answer {
    /// K . D.
    pub length: f64,
    /// K . velocity.
    pub agreement: f64,
    /// sum (S + lambda) velocity^2.
    pub velocity_length: f64,
    /// sum max(a_j, 0) D_ij^2.
    pub spread: f64,
    /// max |D|.
    pub largest_direction: f32,
    /// max |velocity|.
    pub largest_velocity: f32,
    /// max |W|.
    pub largest_weight: f32,
}

/// Which lines of a matrix a set of rotations turns, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// n, the lines that take part.
    pub size: usize,
    /// The first round of the tournament ([`pair`]).
    pub round: usize,
    /// How many rounds, one after another.
    pub count: usize,
    /// Where in the buffer of rotations the first round begins; the next follows after ceil(n / 2) rotations.
    pub offset: usize,
    /// Columns, or rows.
    pub columns: bool,
    /// Second moments, or vectors.
    pub moments: bool,
}

impl Turn {
    /// Its rounds, each by itself.
    pub fn each(self) -> impl Iterator<Item = Self> {
        (0..self.count).map(move |index| Self {
            round: (self.round + index) % rounds(self.size),
            count: 1,
            offset: self.offset + index * self.size.div_ceil(2) * ROTATION,
            ..self
        })
    }
}

/// Words of a rotation: sine, sine / (1 + cosine), and 1 for one that turns or 0 for one that does not.
pub const ROTATION: usize = 3;

/// The pair number `index` of a round of a tournament of n lines, each against each other once in as many rounds as
/// [`rounds`]; `None` for a line without a partner. There are ceil(n / 2) numbers.
#[must_use]
pub fn pair(size: usize, round: usize, index: usize) -> Option<(usize, usize)> {
    let circle = rounds(size);
    let (x, y) = if index == 0 {
        (circle, round % circle)
    } else {
        ((round + index) % circle, (round % circle + circle - index) % circle)
    };
    let (p, q) = (x.min(y), x.max(y));
    (q < size).then_some((p, q))
}

/// The rounds of a tournament: n - 1 for an even n, n for an odd one.
#[must_use]
pub fn rounds(size: usize) -> usize {
    (size + size % 2).max(2) - 1
}

/// The random sign of an element.
#[must_use]
pub fn sign(seed: u32, index: u32) -> f32 {
    let mut x = (index ^ seed).wrapping_mul(0x9E37_79B1).wrapping_add(seed);
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^= x >> 16;
    if x & 1 == 0 { 1.0 } else { -1.0 }
}

/// A device that a network can live on. Sizes are checked by the caller.
pub trait Engine {
    /// Memory on the device.
    type Buffer;

    /// What it is, for people.
    fn name(&self) -> String;

    /// So many words of zeros.
    ///
    /// # Errors
    /// [`Fault::OutOfMemory`], [`Fault::Lost`].
    fn allocate(&mut self, words: usize) -> Result<Self::Buffer, Fault>;

    /// Copies words to the device, from `offset` on.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn write(&mut self, into: &mut Self::Buffer, offset: usize, words: &[f32]) -> Result<(), Fault>;

    /// Waits, and copies words from the device.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn read(&mut self, from: &Self::Buffer, offset: usize, words: &mut [f32]) -> Result<(), Fault>;

    /// out = scale left right + keep out, left or right transposed where the flags say so.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn product(
        &mut self,
        out: Target<'_, Self::Buffer>,
        left: Operand<'_, Self::Buffer>,
        right: Operand<'_, Self::Buffer>,
        transposed: (bool, bool),
        factors: (f32, f32),
    ) -> Result<(), Fault>;

    /// out = scale x x^T + keep out for a symmetric out; an engine may be faster at it than at a product.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn symmetric(
        &mut self,
        out: Target<'_, Self::Buffer>,
        x: Operand<'_, Self::Buffer>,
        factors: (f32, f32),
    ) -> Result<(), Fault> {
        self.product(out, x, x, (false, true), factors)
    }

    /// An operation element by element. Inputs that it does not read are those of out's size, whatever they are.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn map(
        &mut self,
        map: Map,
        out: Target<'_, Self::Buffer>,
        x: Operand<'_, Self::Buffer>,
        y: Operand<'_, Self::Buffer>,
    ) -> Result<(), Fault>;

    /// Waits, and looks at matrices, at most [`MOST_MEASURED`].
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn measure(&mut self, matrices: &[Operand<'_, Self::Buffer>]) -> Result<Vec<Measure>, Fault>;

    /// Waits, and surveys a step.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn survey(&mut self, question: &Question<'_, Self::Buffer>) -> Result<Answer, Fault>;

    /// Works out the rotations of the first round that annihilate the entries c_pq of a symmetric matrix, but for those with
    /// |c_pq| <= threshold sqrt(c_pp c_qq) or |c_pq| <= floor, into `rotations` ([`ROTATION`] words for each [`pair`], from `offset` on).
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn rotations(
        &mut self,
        rotations: &mut Self::Buffer,
        matrix: &Self::Buffer,
        turn: Turn,
        negligible: (f32, f32),
    ) -> Result<(), Fault>;

    /// Turns lines of a matrix by the rotations of every round.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn turn(
        &mut self,
        matrix: Target<'_, Self::Buffer>,
        rotations: &Self::Buffer,
        turn: Turn,
    ) -> Result<(), Fault>;

    /// The rounds of a symmetric matrix, n x n: rotations, and the matrix turned by them from both sides, one round after
    /// another. An engine may do it in one go.
    ///
    /// # Errors
    /// [`Fault::Lost`].
    fn rotate(
        &mut self,
        rotations: &mut Self::Buffer,
        matrix: &mut Self::Buffer,
        turn: Turn,
        negligible: (f32, f32),
    ) -> Result<(), Fault> {
        rotate_by_rounds(self, rotations, matrix, turn, negligible)
    }
}

/// [`Engine::rotate`] by [`Engine::rotations`] and [`Engine::turn`].
///
/// # Errors
/// Theirs.
pub fn rotate_by_rounds<E: Engine + ?Sized>(
    engine: &mut E,
    rotations: &mut E::Buffer,
    matrix: &mut E::Buffer,
    turn: Turn,
    negligible: (f32, f32),
) -> Result<(), Fault> {
    let square = View::new(turn.size, turn.size);
    for round in turn.each() {
        engine.rotations(rotations, matrix, round, negligible)?;
        engine.turn(into(matrix, square), rotations, Turn { columns: true, ..round })?;
        engine.turn(into(matrix, square), rotations, Turn { columns: false, ..round })?;
    }
    Ok(())
}

/// Most matrices in one call of [`Engine::measure`].
pub const MOST_MEASURED: usize = 8;
