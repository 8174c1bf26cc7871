//! Convolutions, and every layer that uses the same weights at several locations: KFC (Grosse and Martens 2016) in the running
//! eigenbasis.
//!
//! One example has T locations. At location t the layer reads a patch a_t (n) and its pre-activation has the gradient g_t (m),
//! so that the example's own gradient is a sum of outer products. With a group of channels as one block:
//!
//! ```text
//! gradient    G_i = sum_t g_it a_it^T              G = mean_i G_i
//! expand      A = mean_i sum_t a_it a_it^T         B = mean_i mean_t g_it g_it^T
//! reduce      A = mean_i a_i a_i^T, a_i = mean_t a_it     B = mean_i g_i g_i^T, g_i = sum_t g_it
//! K-FAC       F ~ A x B, and S = diag(C_B) diag(C_A)^T
//! EKFAC       S = mean_i (U_B^T G_i U_A)^2         exact for each example, whatever the factors
//! ```
//!
//! *Where T stands*: KFC's block is T times the product of two means over examples and locations. Here A carries that T (it is
//! KFC's Omega, the mean patch moment times T), so that a layer's two factors are its K-FAC block as they are, and damping, pi and
//! the Kronecker scalings know nothing of locations. [`Sharing::Reduce`] (Eschenhagen et al. 2023) needs no T.
//!
//! *Blocks*: that is a full one. [`Convolution::uncorrelated`] shares a factor of the channels among the kernel's points (SUA), with
//! k^2 times fewer words; an [`embedding`](Convolution::embedding) has a diagonal A, a scale and a shift for each channel
//! ([`affine`](Convolution::affine)) a diagonal block, as any parameters would of which no more is known. [`ConvolutionLayer::block`]
//! says which one a layer has, and [`block`] what each of them is.
//!
//! *Invariant*: with S exact for each example |F - F_EKFAC| <= |F - F_KFAC| in the basis of either kind of factors. With T = 1 all
//! is as in a dense layer. *Cost*, N examples of which M are measured: factors M T (3 n^2 + 3 m^2) or, where the scratch
//! has 2 n^2 words, a third of it and 4 n^3 + 4 m^3; S M (2 T m n + 2 m n (m + n)),
//! or with few locations M T (2 m^2 + 2 n^2 + 2 m n); the passes 2 N T m n each. Patches are read a block at a time
//! (two words of scratch for each line of it), never the whole batch. *Failure*: as in a dense layer.
//!
//! * A network to train on a device or a desktop: [`ConvolutionLearner`] over a [`ConvolutionNet`].
//! * A training loop of your own: [`ConvolutionPreconditioner`], [`Convolution::forward`] and
//!   [`Convolution::backward`].
//! * A dense layer along a sequence is [`Convolution::sequence`]; between convolutions, [`Pooling`]; below all, tokens
//!   ([`Convolution::embedding`]).

mod affine;
mod axis;
pub mod block;
mod body;
mod cost;
mod embedding;
mod geometry;
mod learner;
mod moments;
mod net;
mod passes;
mod pooling;
mod preconditioner;
mod record;
mod room;
mod samples;
mod saved;
mod sides;
mod walk;

pub use axis::Axis;
pub use block::Block;
pub use geometry::{Convolution, Layout};
pub use learner::ConvolutionLearner;
pub(crate) use net::check_layers;
pub use net::{ConvolutionLayer, ConvolutionNet};
pub use pooling::Pooling;
pub use preconditioner::ConvolutionPreconditioner;

/// How the locations of an example enter the factors. The scalings are exact for each example either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Sharing {
    /// Every location is a sample of its own: KFC, for layers whose locations speak for themselves.
    #[default]
    Expand,
    /// Activations are averaged and gradients summed over the locations first: exact where an average over locations follows, and
    /// the factors T times cheaper.
    Reduce,
}
