//! What an EKFAC step costs on a GPU beside a step of gradient descent on the same engine: three layers of 4,096 units (or the
//! width that is given), batch 1,024. `cargo bench -p ekfac-std --features cuda --bench offload -- 4096 1024`.

#[cfg(feature = "cuda")]
#[path = "offload/cuda.rs"]
mod cuda;

fn main() {
    #[cfg(feature = "cuda")]
    cuda::run();
    #[cfg(not(feature = "cuda"))]
    println!("built without the feature `cuda`: nothing to measure");
}
