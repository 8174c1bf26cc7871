//! What the desktop and the emulated devices run alike, so that their bits can be compared.
#![no_std]
#![forbid(unsafe_code)]

mod convolution;
pub mod convolution_learner;
mod digest;
pub mod learner;
mod random;
mod recordings;
pub mod resume;

pub use digest::{CASES, CONVOLUTION_CASES, Case, Digest, SMALL_CASES, STEPS};
pub use random::Draws;
pub use recordings::{Report, Run};
