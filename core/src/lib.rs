//! EKFAC: natural-gradient descent in a Kronecker-factored eigenbasis, without an allocator, an operating system or a panic.
//!
//! One layer has weights W (m x n), n = inputs + bias (the last column), m = outputs. An example brings its input
//! activation a (n) and g (m), the gradient of its own loss with respect to the pre-activation.
//!
//! ```text
//! factors                  A = E[a a^T] = U_A C_A U_A^T        B = E[g g^T] = U_B C_B U_B^T
//! projections              a~ = U_A^T a                        g~ = U_B^T g
//! scalings                 S = E[(g~ a~^T)^2]                  second moments in the eigenbasis
//! preconditioned gradient  D = U_B [ (U_B^T G U_A) / (S + lambda) ] U_A^T
//! ```
//!
//! That is the algorithm of George, Laurent, Bouthillier, Ballas and Vincent (NeurIPS 2018). What is ours: a factor is held
//! *in its own basis* from the first day. A and B are never stored; each example is projected once, C_A and C_B average
//! the projections, and one Jacobi rotation at a time turns C, U, S, the velocity and, where they live there
//! ([`coordinates`]), the weights together. The state is valid after every rotation, needs no scratch square, and never has to
//! start again; a step does a bounded number of rotations ([`Refresh::Rotations`]) and costs about four times one of gradient
//! descent at any batch size.
//!
//! # Where to begin
//!
//! * A network to train on a device or a desktop: [`Learner`] over a [`Net`] ([example](net)); with convolutions,
//!   [`ConvolutionLearner`](convolution::ConvolutionLearner).
//! * A training loop of your own: [`Preconditioner`], a layer at a time; [`ConvolutionPreconditioner`] for
//!   [shared weights](convolution).
//! * A run to keep through a power cut: [`snapshot`].
//! * Factors of your own on a small device: [`jacobi::diagonalise`] and [`precondition()`], 8 KB of flash.
//! * Only the eigensolver: [`jacobi::eigen`].
//! * Settings: [`Config`], whose default needs no tuning to begin with; [`Config::paper`], [`Config::paper_running`] and
//!   [`Config::kfac`] reproduce the published methods.
//!
//! # Promises, and how each is checked
//!
//! | promise | check |
//! | --- | --- |
//! | no allocation | builds without `alloc`; a counting allocator sees none in 10,000 steps (`tests/tests/allocation.rs`) |
//! | no unsafe, no panic | `forbid(unsafe_code)`; lints deny indexing, `unwrap` and `panic!`; firmware with every public entry point links only if none can panic (`tests/firmware`) |
//! | bounded time | [`Learner::most_operations`], which no step exceeds and a test reaches (`tests/tests/running.rs`) |
//! | orthogonal bases | max abs(U^T U - I) <= 16 n eps over a million steps in `f32` (`tests/tests/running.rs`) |
//! | the same bits everywhere | only + - * / sqrt, comparison and libm's software functions, in a documented order ([`kernels`]); a digest on x86-64, Cortex-M and RISC-V (`tests/firmware`) |
//! | bad data change nothing | one gate before all averages ([`guard`]); `tests/tests/bad_input.rs` |
//! | the mathematics | golden vectors and dense oracles (`tests/tests/golden.rs`, `tests/tests/oracles.rs`, `tests/tests/convolution.rs`) |
//!
//! # Conventions
//!
//! Matrices are column-major, as in nalgebra, and a batch holds one example a column ([`MatrixRef`]). Wrong calls return
//! [`Error`]; what data do to a correct call is an [`Outcome`].
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `batches` | on | batches of more than one example, weights in parameter coordinates, [`convolution`], [`Kernels`] of one's own for a learner. Without it, a capacity or a batch beyond one example, and a state in parameter coordinates, are [`Error::NotBuilt`] |
//! | `functions` | on | [`Activation`]'s GELU, and [`Loss`]'s binary cross-entropy and Huber: without it, these do not exist |
//! | `published` | on | what the default setting does without: periodic solves, the other estimators, factored damping, the exact Fisher, annealing, Levenberg-Marquardt adaptation. Without it, factored damping and [`Config::kfac`] do not exist, and a setting that asks for the rest is [`Error::NotBuilt`] |
//! | `serde` | off | `Serialize` and `Deserialize` for settings, shapes, layers and [`Progress`] |
//! | `defmt` | off | `defmt::Format` for the same, errors, outcomes and events |
//! | `large` | off | with `batches`: turns of factors of 128 lines and more wait and are taken together, and these and the passes over a layer's state go through [`Kernels`], which may have threads and wide vectors: the same bits sooner, for some KB of code more |
//! | `embedded-storage` | off | a two-slot [store](snapshot) for snapshots in NOR flash |
//!
//! A firmware that learns one example at a time with the default setting saves a third of its flash with `default-features = false`
//! (`tests/firmware/README.md` has the figures).
#![no_std]

mod allowed;
mod annealing;
mod carve;
mod companion;
pub mod config;
#[cfg(feature = "batches")]
pub mod convolution;
pub mod coordinates;
mod counted;
pub mod damping;
#[cfg(feature = "large")]
mod elementwise;
mod error;
pub mod factor;
pub mod guard;
pub mod jacobi;
pub mod kernels;
pub mod layer;
pub mod marks;
pub mod net;
mod plan;
mod precondition;
mod preconditioner;
mod progress;
mod refresh;
mod room;
#[cfg(any(test, all(target_arch = "arm", target_abi = "eabihf")))]
mod root;
mod rotation;
#[cfg(feature = "large")]
mod row_walk;
mod scalar;
mod scalings;
#[cfg(feature = "large")]
mod scan;
pub mod shape;
mod single;
pub mod snapshot;
pub mod step;
mod survey;
#[cfg(feature = "large")]
mod turns;
mod view;

pub use annealing::Annealing;
pub use config::{Averaging, Carry, Clip, Config, Estimator, Fisher, Refresh};
#[cfg(feature = "batches")]
pub use convolution::{Convolution, ConvolutionPreconditioner, Sharing};
pub use coordinates::Coordinates;
pub use damping::{Adaptation, Damping};
pub use error::Error;
pub use factor::FactorRef;
pub use kernels::{Blend, Kernels, Reference};
pub use layer::{LayerMut, StaticLayer};
pub use net::{Activation, Dense, Evaluation, Initialization, LayerList, Learner, Loss, Net, Step, Targets};
pub use precondition::{Bases, precondition};
pub use preconditioner::Preconditioner;
pub use progress::{Event, EventLog, Outcome, Progress, Reason};
pub use scalar::Scalar;
pub use shape::Shape;
pub use view::{MatrixMut, MatrixRef};
