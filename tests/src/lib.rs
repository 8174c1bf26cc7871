//! What the suites share: golden vectors, dense oracles, seeded random data, symmetric matrices of every kind.

pub mod faulty;
pub mod flash;
pub mod golden;
pub mod offload;
pub mod oracle;
pub mod place;
pub mod plain;
pub mod random;
pub mod renewed;
pub mod solved;
pub mod symmetric;
pub mod tampered;
pub mod wide;

/// The README's examples, which run with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
