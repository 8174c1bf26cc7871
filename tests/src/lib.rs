//! Oracles.

pub mod golden;
