//! Offload: a layer's state, or a whole network, on a device, in `f32` and for dense layers.
//!
//! Weights, factors and scalings stay there; inputs, targets and a few sums cross. [`Offloaded`] takes a network over and falls back
//! to the processor on any [`Fault`]; [`DeviceNet`] is the same without a net under it, and [`DevicePreconditioner`] a single
//! layer for a training loop of the user's own. What is there is listed by [`devices`](mod@devices), or `ekfac devices`.
//!
//! ```
//! use ekfac::{Activation::{Identity, Tanh}, Config, Dense, Loss, Targets};
//! use ekfac_std::{Network, offload::{Patience, devices::{self, Kind}}};
//!
//! # fn main() -> Result<(), ekfac::Error> {
//! let layers = vec![Dense::new(64, 32, Tanh), Dense::new(32, 10, Identity)];
//! let mut network = Network::<f32>::new(layers, Loss::SoftmaxCrossEntropy, Config::default(), 1, 32)?;
//! let (inputs, classes) = (vec![0.5; 64 * 32], vec![3; 32]);
//! match devices::offload(Kind::Wgpu, &network, 32, Patience::default()) {
//!     Ok(Some(mut device)) => {
//!         let step = device.step(&inputs, Targets::Classes(&classes))?;
//!         println!("{}: loss {}", device.name(), step.loss);
//!         // Weights and state are back on the processor.
//!         network = Network::resume(
//!             network.net().layers().to_vec(),
//!             network.net().loss(),
//!             *network.config(),
//!             *device.progress(),
//!             32,
//!             device.network()?.state(),
//!         )?;
//!     }
//!     Ok(None) => {}
//!     // Which feature, library or device is missing, and what to do.
//!     Err(absent) => println!("{absent}"),
//! }
//! assert!(network.evaluate(&inputs, Targets::Classes(&classes))?.loss.is_finite());
//! # Ok(())
//! # }
//! ```
//!
//! *A third engine* implements [`Engine`]: memory, products, operations element by element, sums, and rotations, nine operations that
//! have no default. `tests/src/plain.rs` is one, on plain vectors, in less than two hundred lines; `tests/src/offload.rs` puts any
//! engine through its operations, golden vectors and trajectories, and `tests/src/faulty.rs` makes any engine fail.
//! The order of a step is core's ([`remote`](ekfac::net::remote)) and not an engine's concern.

#[cfg(feature = "cuda")]
pub mod cuda;
mod desk;
pub mod devices;
pub mod engine;
mod layer;
mod net;
mod owner;
mod room;
mod single;
mod turning;

pub use engine::{Engine, Fault};
pub use net::{DeviceNet, OUTPUTS_ON_HOST};
pub use owner::{FallBack, Offloaded, Patience};
pub use room::DeviceRoom;
pub use single::DevicePreconditioner;
pub use turning::CARE;
#[cfg(feature = "wgpu")]
pub mod vulkan;
