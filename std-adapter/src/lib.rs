//! The std adapter of [`ekfac`]: owned networks, fast products, data, checkpoints and baselines.
//!
//! Nothing of EKFAC itself is computed here: the mathematics is written once, in core.

mod any_network;
pub mod atomic;
pub mod baselines;
pub mod checkpoint;
mod convolution_network;
pub mod data;
pub mod eigen;
pub mod kernels;
mod memory;
mod network;
pub mod offload;
mod owner;
#[cfg(feature = "program")]
pub mod plot;
pub mod profile;
#[cfg(feature = "program")]
pub mod program;
mod snapshot;

pub use any_network::AnyNetwork;
pub use convolution_network::ConvolutionNetwork;
pub use eigen::{Eigen, Eigensolver, Origin};
pub use kernels::{DeterministicKernels, FaerKernels, Mode};
pub use memory::{LayerMemory, NetworkMemory};
pub use network::{MOST_EVENTS, Network, OwnedLayer};
pub use snapshot::SnapshotError;
