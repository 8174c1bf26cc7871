//! What the suites share: golden vectors, dense oracles, seeded random data.

pub mod golden;
pub mod oracle;
pub mod random;
