//! What the desktop and the emulated devices run alike, so that their bits can be compared.
#![no_std]
#![forbid(unsafe_code)]

mod digest;
pub mod learner;
mod random;
pub mod resume;

pub use digest::{CASES, Case, Digest, SMALL_CASES, STEPS};
pub use random::Draws;
