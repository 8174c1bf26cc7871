//! What the suites share: golden vectors, dense oracles, seeded random data.

pub mod flash;
pub mod golden;
pub mod oracle;
pub mod random;

/// The README's examples, which run with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
