//! What devices there are, and for an engine without one, why and what to do.
//!
//! Looking opens libraries and drivers but takes no memory on a device. *Failure*: [`Absent`]; nothing panics.

use super::{FallBack, Offloaded, Patience, engine::Fault};
use crate::Network;
use ekfac::Error;
use std::{fmt, thread};

/// What a network can run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "program", derive(clap::ValueEnum))]
pub enum Kind {
    /// The processor, by core's own learner.
    #[default]
    Cpu,
    /// Any GPU with a Vulkan driver (feature `wgpu`).
    Wgpu,
    /// An NVIDIA GPU (feature `cuda`).
    Cuda,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Wgpu, Self::Cuda];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A device that an engine finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number for the engine, from 0.
    pub number: usize,
    /// What its maker calls it.
    pub name: String,
    /// The driver and its version, where they are known.
    pub driver: String,
    /// Bytes of memory, where they are known.
    pub memory: Option<u64>,
}

/// Why an engine has no device, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Absent {
    /// This build is without the engine.
    #[error(
        "not compiled in; build with `cargo build --release -p ekfac-std --features program,{feature}`, or run `cargo run --release -p ekfac-std --features program,{feature} -- ...`"
    )]
    NotCompiled {
        /// The feature of `ekfac-std` that brings it.
        feature: &'static str,
    },
    /// Libraries that are looked for when the engine starts are not installed.
    #[error("not found: {libraries}; {remedy}")]
    NoLibrary {
        /// Which.
        libraries: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The libraries are there and list no device.
    #[error("no device: {what}; {remedy}")]
    NoDevice {
        /// What was found instead.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The device is there and does not work.
    #[error("{0}; try `--device cpu`, or look at the driver")]
    Fails(Fault),
    /// The network does not fit core's learner.
    #[error(transparent)]
    Network(#[from] Error),
}

/// The devices of one kind, in the order of their numbers: at least one.
///
/// # Errors
/// [`Absent`], which says why there is none.
pub fn devices(kind: Kind) -> Result<Vec<Device>, Absent> {
    match kind {
        Kind::Cpu => Ok(vec![processor()]),
        #[cfg(feature = "wgpu")]
        Kind::Wgpu => super::vulkan::devices(),
        #[cfg(not(feature = "wgpu"))]
        Kind::Wgpu => Err(Absent::NotCompiled { feature: "wgpu" }),
        #[cfg(feature = "cuda")]
        Kind::Cuda => super::cuda::devices(),
        #[cfg(not(feature = "cuda"))]
        Kind::Cuda => Err(Absent::NotCompiled { feature: "cuda" }),
    }
}

/// Takes a network to the first device of a kind, for batches of up to `capacity` examples; `None` for the processor, where
/// the network itself is the engine.
///
/// # Errors
/// [`Absent`], where [`Offloaded::new`] would go on with the processor.
pub fn offload(
    kind: Kind,
    network: &Network<f32>,
    capacity: usize,
    patience: Patience,
) -> Result<Option<Offloaded>, Absent> {
    if kind == Kind::Cpu {
        return Ok(None);
    }
    let offloaded = start(kind, network, capacity, patience)?;
    match offloaded.fall_back() {
        None => Ok(Some(offloaded)),
        // The list says more than a device that cannot be opened.
        Some(FallBack { fault, .. }) => Err(devices(kind).err().unwrap_or(Absent::Fails(fault.clone()))),
    }
}

fn start(
    kind: Kind,
    network: &Network<f32>,
    capacity: usize,
    patience: Patience,
) -> Result<Offloaded, Absent> {
    match kind {
        #[cfg(feature = "wgpu")]
        Kind::Wgpu => Ok(Offloaded::new(network, capacity, patience, || super::vulkan::Vulkan::new(0))?),
        #[cfg(feature = "cuda")]
        Kind::Cuda => Ok(Offloaded::new(network, capacity, patience, || super::cuda::Cuda::new(0))?),
        without => {
            // What only an engine would take.
            let _ = (network, capacity, patience);
            Err(devices(without).err().unwrap_or(Absent::Fails(Fault::Gone)))
        }
    }
}

fn processor() -> Device {
    let threads = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory =
        field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    Device {
        number: 0,
        name: model,
        driver: format!("{threads} hardware threads"),
        memory: memory.map(|kibibytes| 1024 * kibibytes),
    }
}

/// What Linux says of the machine; `None` elsewhere.
fn field(path: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
