//! Offload: a layer's state, or a whole network, on a device.
#[cfg(feature = "cuda")]
pub mod cuda;
mod desk;
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
