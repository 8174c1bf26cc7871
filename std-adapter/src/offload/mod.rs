//! Offload: a layer's state, or a whole network, on a device.
#[cfg(feature = "cuda")]
pub mod cuda;
mod desk;
pub mod engine;
mod layer;
mod net;
mod owner;
mod single;

pub use engine::{Engine, Fault};
pub use layer::{CARE, DeviceRoom};
pub use net::{DeviceNet, OUTPUTS_ON_HOST};
pub use owner::{FallBack, Offloaded, Patience};
pub use single::DevicePreconditioner;
#[cfg(feature = "wgpu")]
pub mod vulkan;
