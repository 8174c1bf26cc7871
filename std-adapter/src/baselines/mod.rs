//! First-order and Shampoo-family optimisers that EKFAC is measured against.
//!
//! All of them minimise a loss `h(W_1, …, W_ℓ)` over a list of weight matrices from the gradients
//! `G_i = ∂h/∂W_i` alone:
//!
//! * [`SgdMomentum`]: heavy ball, `v ← μ v + G`, `W ← W − η v` (Polyak 1964, eq. 9);
//! * [`AdamW`]: Kingma & Ba 2015, algorithm 1, with the decay of Loshchilov & Hutter 2019,
//!   algorithm 2;
//! * [`Soap`]: Adam in the eigenbasis of Shampoo's factors (Vyas et al. 2024, arXiv 2409.11321,
//!   algorithm 3).
//!
//! *Layout.* A matrix is a column-major slice: entry `(i, j)` of an `m × n` matrix lies at
//! `i + m j`, as in nalgebra.
//!
//! *Invariant.* A step that returns an error has written neither a weight nor a state: lengths,
//! finiteness and magnitude of every weight and gradient are checked before the first write.
//!
//! *Cost.* The check reads each weight and gradient once. [`Baseline::operations`] counts the
//! floating-point operations of the optimiser itself (a multiply-add is two, a square root or a
//! division one), without the network's passes and without the checks.
//!
//! *How it fails.* [`BaselineError`] names the argument, the layer and the entry. A learning rate
//! that is too large makes the weights overflow; the step after that one refuses them.

pub mod adamw;
mod checks;
mod dense;
mod descent;
mod eigenbasis;
pub mod sgd;
pub mod soap;

pub use adamw::{AdamW, AdamWSettings};
pub use descent::{Descends, Descent};
pub use sgd::{SgdMomentum, SgdMomentumSettings};
pub use soap::{Soap, SoapSettings};

/// An optimiser over a list of column-major weight matrices.
pub trait Baseline: Send {
    /// The name that tables and plots show.
    fn name(&self) -> &'static str;

    /// One update of every weight matrix from its gradient.
    ///
    /// # Errors
    ///
    /// [`BaselineError`] when a list or a matrix has the wrong length, or holds an entry that is
    /// not finite, or a gradient's squared norm is beyond `f32`; then nothing was written.
    fn step(&mut self, weights: &mut [&mut [f32]], gradients: &[&[f32]]) -> Result<(), BaselineError>;

    /// The learning rate of the next step.
    fn learning_rate(&self) -> f32;

    /// Sets the learning rate of the next steps, for schedules.
    ///
    /// # Errors
    ///
    /// [`BaselineError::Setting`] when `learning_rate` is negative or not finite.
    fn set_learning_rate(&mut self, learning_rate: f32) -> Result<(), BaselineError>;

    /// Floating-point operations of the optimiser's own work so far; saturates at `u64::MAX`.
    fn operations(&self) -> u64;

    /// Number of `f32` that the optimiser keeps from one step to the next.
    fn state_words(&self) -> usize;
}

/// Why a baseline refused its arguments.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BaselineError {
    /// A setting is outside its range.
    #[error("setting `{name}` is {value}, but must be {requirement}")]
    Setting {
        /// The setting's field.
        name: &'static str,
        /// The value given.
        value: f64,
        /// The range it must lie in.
        requirement: &'static str,
    },
    /// A layer's shape has a zero side, or too many entries to index.
    #[error("`shapes[{layer}]` is {rows} x {columns}: both sides must be at least 1 and their product fit")]
    Shape {
        /// Index in the list of shapes.
        layer: usize,
        /// Rows given.
        rows: usize,
        /// Columns given.
        columns: usize,
    },
    /// A list holds the wrong number of matrices.
    #[error("`{argument}` holds {got} matrices, but the optimiser was made for {expected}")]
    ListLength {
        /// The argument.
        argument: &'static str,
        /// Number of layers.
        expected: usize,
        /// Number of matrices given.
        got: usize,
    },
    /// A matrix has the wrong number of entries.
    #[error("`{argument}[{layer}]` holds {got} entries, but its shape has {expected}")]
    LayerLength {
        /// The argument.
        argument: &'static str,
        /// Index in the list.
        layer: usize,
        /// Rows times columns.
        expected: usize,
        /// Entries given.
        got: usize,
    },
    /// An entry is NaN or infinite.
    #[error("`{argument}[{layer}]` is not finite at entry {index}")]
    NotFinite {
        /// The argument.
        argument: &'static str,
        /// Index in the list.
        layer: usize,
        /// Index of the first such entry.
        index: usize,
    },
    /// The sum of a matrix's squared entries would overflow `f32`.
    #[error("`{argument}[{layer}]` has squared norm {squared_norm:e}, beyond what f32 can hold")]
    TooLarge {
        /// The argument.
        argument: &'static str,
        /// Index in the list.
        layer: usize,
        /// The sum of squares.
        squared_norm: f64,
    },
    /// The eigendecomposition of a factor did not converge.
    #[error("the eigendecomposition of the {side} factor of `gradients[{layer}]` did not converge")]
    Eigendecomposition {
        /// Index in the list.
        layer: usize,
        /// `left` (rows) or `right` (columns).
        side: &'static str,
    },
}
