//! The offload seam: every engine is put through the same operations, golden vectors and trajectories.
//!
//! Mutants that these tests catch: a transpose or a stride taken wrongly, a rotation with the wrong sign, S turned like a
//! vector, a sum that passes over NaN.

use ekfac_tests::{offload, plain::Plain};

#[test]
fn plain_vectors_pass() {
    offload::operations(&mut Plain::default());
    offload::golden(Plain::default);
    offload::trajectories(Plain::default);
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
                println!("skipped: no CUDA device ({what})");
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
            offload::trajectories(|| device().expect("a device"));
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
            Err(Fault::Missing(what)) if std::env::var_os("EKFAC_VULKAN").is_none() => {
                println!("skipped: no Vulkan device ({what})");
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

    #[test]
    fn wgpu_trajectories() {
        if device().is_some() {
            offload::trajectories(|| device().expect("a device"));
        }
    }
}
