//! What the desktop and the emulated devices run alike, so that their bits can be compared.
#![no_std]
#![forbid(unsafe_code)]

mod convolution;
mod digest;
pub mod learner;
mod random;
pub mod resume;

pub use digest::{CASES, CONVOLUTION_CASES, Case, Digest, SMALL_CASES, STEPS};
pub use random::Draws;
