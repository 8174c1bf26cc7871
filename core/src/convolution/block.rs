//! Which block of the Fisher a layer's weights have: what is known of the kind decides, and a kind of which nothing is known has a
//! diagonal one.
//!
//! ```text
//! full             A x B                             n^2 + m^2        a convolution, a dense layer
//! uncorrelated     (I_k x Sigma, bias apart) x B     c^2 + m^2        a convolution of k kernel points and c channels
//! diagonal input   diag A x B                        n + m^2          an embedding: a one-hot a has no other A
//! diagonal         diag F                            p                a scale and a shift, any p parameters
//! ```
//!
//! S is exact for each example in the basis of every one of them. *Uncorrelated* (SUA: Grosse and Martens 2016): with
//! Sigma for all kernel points and nothing between two of them, U_A is I_k x U_c. Here Sigma is the mean of the k blocks that the
//! full A has on its diagonal,
//!
//! ```text
//! Sigma = (1/k) sum_p A_pp = mean_i sum_x (meetings(x) / k) x_i x_i^T
//! ```
//!
//! over the pixels x of an image and the number of pairs (location, kernel point) that read it: the A of this form that is
//! closest to the full one in Frobenius norm, with its trace, at one sample a pixel. In the middle of an image with a stride of 1
//! all k points read a pixel. The bias is a line of its own, u = e_n, its moment T.
//!
//! *Diagonal input*: A_jj is how often token j comes in an example, U_A = I. *Diagonal*: no factor; diag F stands in the place of
//! A and 1 in that of B, so that S is exact whatever the estimator, the mean gradient's own excepted.
//!
//! *Invariant*: none is left out of a step in silence. *Cost* of a refresh and of a moment: by the words above, k^2 times less where
//! points are uncorrelated. *Failure*: none of its own.

/// The block of the Fisher that the weights of a layer have ([module](self)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Block {
    /// A factor for a whole patch and one for the outputs.
    Full,
    /// A factor of the channels that all kernel points share, and one for the outputs
    /// ([`Convolution::uncorrelated`](super::Convolution::uncorrelated)).
    Uncorrelated,
    /// A diagonal for the inputs, a factor for the outputs ([`Convolution::embedding`](super::Convolution::embedding)).
    DiagonalInput,
    /// A diagonal, in the coordinates of the parameters ([`Convolution::affine`](super::Convolution::affine)).
    Diagonal,
}

/// What kind of layer a geometry belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) enum Form {
    #[default]
    Full,
    Uncorrelated,
    /// Of so many tokens.
    Embedding(usize),
    Affine,
}

/// Whole numbers that an `f32` tells apart.
pub(super) const MOST_TOKENS: usize = 1 << 24;
