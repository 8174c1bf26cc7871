//! The offload seam: every engine is put through the same operations, golden vectors and trajectories.
//!
//! Mutants that these tests catch: a transpose or a stride taken wrongly, a rotation with the wrong sign, S turned like a
//! vector, a sum that passes over NaN.

use ekfac_tests::{offload, plain::Plain};

const ALL: [&str; 4] = ["K-FAC", "EKFAC", "periodic", "running"];

#[test]
fn plain_vectors_pass() {
    offload::operations(&mut Plain);
    offload::golden(|| Plain);
    offload::trajectories(|| Plain, &ALL);
}

/// Rounds of disjoint pairs end where core's walk ends: measured 0.998 over eight seeds of a spread of 0.016.
#[test]
fn the_running_basis_of_a_device_learns_as_fast_as_cores() {
    let ratio = offload::running_ratio(|| Plain, 4);
    assert!((ratio - 1.0).abs() < 0.025, "{ratio}");
}

#[test]
fn a_third_engine_takes_less_than_two_hundred_lines() {
    let lines = include_str!("../src/plain.rs").lines().count();
    assert!(lines < 200, "{lines} lines");
}

#[cfg(feature = "cuda")]
mod cuda {
    use ekfac_std::offload::{Fault, cuda::Cuda};
    use ekfac_tests::offload;

    /// The device, or why there is none.
    fn device() -> Option<Cuda> {
        match Cuda::new(0) {
            Ok(device) => Some(device),
            Err(Fault::Missing(what)) => {
                println!("SKIPPED: no CUDA device ({what})");
                None
            }
            Err(fault) => panic!("{fault}"),
        }
    }

    #[test]
    fn cuda_operations() {
        if let Some(mut device) = device() {
            offload::operations(&mut device);
        }
    }

    #[test]
    fn cuda_golden_vectors() {
        if device().is_some() {
            offload::golden(|| device().expect("a device"));
        }
    }

    #[test]
    fn cuda_trajectories() {
        if device().is_some() {
            offload::trajectories(|| device().expect("a device"), &super::ALL);
        }
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use ekfac_std::offload::{Fault, vulkan::Vulkan};
    use ekfac_tests::offload;

    /// The device, or why there is none. Where `EKFAC_VULKAN` is set, there must be one.
    fn device() -> Option<Vulkan> {
        match Vulkan::new(0) {
            Ok(device) => Some(device),
            Err(Fault::Missing(what)) if !offload::vulkan_is_due() => {
                println!("SKIPPED: no Vulkan device ({what})");
                None
            }
            Err(fault) => panic!("{fault}"),
        }
    }

    #[test]
    fn wgpu_operations() {
        if let Some(mut device) = device() {
            offload::operations(&mut device);
        }
    }

    #[test]
    fn wgpu_golden_vectors() {
        if device().is_some() {
            offload::golden(|| device().expect("a device"));
        }
    }

    // Of the four, one that is held to every step and the default: a processor that plays a GPU is slow.
    #[test]
    fn wgpu_trajectories() {
        if device().is_some() {
            offload::trajectories(|| device().expect("a device"), &["EKFAC", "running"]);
        }
    }
}
